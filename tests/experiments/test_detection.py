"""What of a detector is worth distilling: the rule of the verdict, one file a run, work that processes share."""

import fcntl
import json

import pytest
import torch

from experiments import detection
from kdcourse import zoo
from kdcourse.data.scenes import make_scenes
from kdcourse.models.detection import LEVELS, make_teacher_detector

pytest.importorskip("torchmetrics")


def rows(**words):
    return [{"arm": arm.replace("_", " "), "verdict": word} for arm, word in words.items()]


@pytest.mark.parametrize(
    ("gain", "others", "levels", "expected"),
    [
        ("better", ("worse", "worse"), ("worse", "worse", "worse"), ("holds", "holds")),
        ("better", ("worse", "better"), ("worse", "unclear", "worse"), ("does not hold here", "unclear")),
        ("better", ("worse", "unclear"), ("worse", "worse", "better"), ("unclear", "does not hold here")),
        ("worse", ("worse", "worse"), ("too small to matter",) * 3, ("does not hold here", "does not hold here")),
        ("unclear", ("worse", "worse"), ("unclear", "unclear", "unclear"), ("unclear", "unclear")),
    ],
)
def test_the_sentence_is_judged_by_the_rule_written_before_the_runs(gain, others, levels, expected):
    against_no_teacher = [{"arm": "class", "verdict": "worse"}, {"arm": "pyramid", "verdict": gain}]
    names = ("class", "box", *(f"level {level}" for level in LEVELS))
    against_pyramid = [{"arm": arm, "verdict": word} for arm, word in zip(names, (*others, *levels), strict=True)]
    assert tuple(detection.judge(against_no_teacher, against_pyramid).values()) == expected


def test_each_arm_listens_to_its_own_terms_only():
    weights = {"class_weight": 1.0, "box_weight": 2.0, "pyramid_weight": 3.0}
    assert detection.settings_of("no_teacher", weights) == {}
    assert detection.settings_of("box", weights) == {"box_weight": 2.0}
    assert detection.settings_of("all", weights) == weights
    assert detection.settings_of("level 16", weights) == {"pyramid_weight": 3.0, "levels": ("16",)}


def test_a_run_in_other_hands_is_left_alone_and_a_finished_one_is_read(tmp_path):
    run = pytest.fail
    with (tmp_path / "class-0.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert detection.once(tmp_path, "class-0", run) is None
    found = detection.once(tmp_path, "class-0", lambda: [{"mAP": 12.5}])
    assert found == detection.once(tmp_path, "class-0", run) == [{"mAP": 12.5}]


def test_a_run_that_fails_leaves_no_file_and_can_be_run_again(tmp_path):
    with pytest.raises(ZeroDivisionError):
        detection.once(tmp_path, "class-0", lambda: 1 / 0)
    assert detection.once(tmp_path, "class-0", lambda: [{"mAP": 1.0}]) == [{"mAP": 1.0}]


@pytest.fixture
def small(monkeypatch, tmp_path):
    torch.manual_seed(0)
    teacher = make_teacher_detector().eval()
    monkeypatch.setattr(zoo, "load", lambda name, folder=None: teacher)
    monkeypatch.setattr(zoo, "provenance", lambda name, folder=None: {"command": "none"})
    monkeypatch.setattr(detection, "SCENES", 32)
    monkeypatch.setattr(detection, "RATES", (2e-3,))
    monkeypatch.setattr(detection, "GRID", {name: (1.0,) for name in detection.GRID})
    monkeypatch.setattr(detection, "ARMS", ("no_teacher", "class", "box", "pyramid", "all", "level 8"))
    make = detection.make_scenes
    monkeypatch.setattr(detection, "make_scenes", lambda digits, count, **options: make(digits, 64, **options))
    init = detection.Bench.__init__
    monkeypatch.setattr(
        detection.Bench, "__init__", lambda self, *args, **options: init(self, *args, scenes=32, **options)
    )
    monkeypatch.setattr(
        detection, "measure", lambda student, scenes: dict.fromkeys(("mAP", "AP50", "small", "medium", "large"), 1.0)
    )
    return tmp_path


@pytest.mark.slow
def test_finished_runs_are_not_run_again_and_runs_of_a_seed_start_alike(small, monkeypatch):
    size = {"start": 1, "steps": 4, "seeds": range(2), "teachers": None, "test": 2}
    detection.work(small, **size)
    assert len(list(small.glob("*.json"))) == 4 + 6 * 2
    assert {path.stem for path in small.glob("*.safetensors")} == {
        *(f"{arm}-{seed}" for arm in ("no_teacher", "pyramid", "all") for seed in (0, 1)),
        *("start-0", "start-1", "start-100"),
    }
    marks = json.loads((small / "class-1.json").read_text(encoding="utf-8"))
    assert [(row["budget"], row["steps"]) for row in marks] == [("quarter", 1), ("half", 2), ("full", 4)]
    monkeypatch.setattr(detection.Bench, "run", pytest.fail)
    detection.work(small, **size)
    assert len(detection.read_runs(small, range(2))) == 3 * 6 * 2
    with pytest.raises(FileNotFoundError, match=r"no_teacher-2\.json is missing"):
        detection.read_runs(small, range(3))
    detection.pack_students(small, small / "students.safetensors", seeds=range(2))
    packed = detection.load_file(small / "students.safetensors")
    assert {name.split("/")[0] for name in packed} == {"no_teacher", "pyramid", "all"}


@pytest.mark.slow
def test_one_seed_gives_the_same_start_to_every_arm_and_another_seed_another(small):
    bench = detection.Bench(zoo.load("scenes_teacher"), small, start=2, test=2)
    first, second, other = (bench.start(seed).state_dict() for seed in (0, 0, 1))
    torch.testing.assert_close(first, second)
    assert not torch.equal(first["backbone.body.stem.0.weight"], other["backbone.body.stem.0.weight"])


def test_scenes_of_one_size_are_measured_in_points():
    scenes = make_scenes(detection.load_mnist().test, 3, seed=1)

    class Right(torch.nn.Module):
        def forward(self, images):
            return [{**target, "scores": torch.ones(len(target["labels"]))} for target in scenes.targets]

    found = detection.measure(Right(), scenes)
    assert found["mAP"] == found["AP50"] == 100.0
    assert set(found) <= {"mAP", "AP50", "small", "medium", "large"}
