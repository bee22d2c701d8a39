"""``kdcourse distill`` without settings: when does a teacher help?"""

import pandas as pd
import pytest
import torch

from kdcourse.__main__ import main
from kdcourse.commands import distill, when_it_helps
from kdcourse.commands.when_it_helps import METHODS, Study, draw_study, study
from kdcourse.data import load_mnist
from kdcourse.models import make_mlp
from kdcourse.plots import to_png


def runs_of(errors, seeds=3):
    """Rows of students; errors by shape and number of images: (plain, smoothed, distilled)."""
    return pd.DataFrame(
        [
            {"student": student, "images": images, "arm": arm, "seed": seed, "steps": 9, "test_errors": mean + seed}
            for (student, images), means in errors.items()
            for arm, mean in zip(METHODS.values(), means, strict=True)
            for seed in range(seeds)
        ]
    )


ERRORS = {
    ("flat", 300): (900, 800, 700),
    ("flat", 2000): (400, 300, 350),
    ("deep", 300): (900, 800, 700),
    ("deep", 2000): (400, 300, 250),
}


@pytest.fixture
def made_up():
    runs = runs_of(ERRORS)
    scattered = (runs["student"] == "deep") & (runs["images"] == 300) & (runs["arm"] == "distilled")
    runs.loc[scattered, "test_errors"] += [0, 90, 190]
    return Study(runs, teacher_errors=61)


def test_a_teacher_helps_only_if_both_baselines_are_beaten(made_up):
    assert list(made_up.verdicts().values()) == ["better", "worse", "unclear", "better"]
    assert list(made_up.verdicts()) == list(ERRORS)


def test_the_text_has_every_mean_every_difference_and_the_answer(made_up):
    text = made_up.to_text()
    for errors in (901, 801, 701, 401, 301, 351, 251):
        assert f" {errors}" in text
    assert text.count("[") == 2 * len(ERRORS)
    assert "flat: the teacher helps against both baselines at 300 images; at 2,000 a baseline is better." in text
    assert "deep: the teacher helps against both baselines at 2,000 images; it is unclear at 300." in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("distilled", "word"), [(690, "better"), (790, "too small to matter"), (805, "too small to matter"), (850, "worse")]
)
def test_a_verdict_says_when_what_a_teacher_adds_is_too_small_to_matter(distilled, word):
    found = Study(runs_of({("flat", 300): (900, 800, distilled)}), teacher_errors=61)
    assert found.verdicts() == {("flat", 300): word}
    assert {"worse": "a baseline is better", "better": "the teacher helps"}.get(word, word) in found.to_text()


def test_a_shape_may_have_more_seeds_than_another(small):
    students = {"flat": lambda: make_mlp(4), "deep": lambda: make_mlp(4, 4)}
    found = study(**small, students=students, images=[64], seeds={"flat": range(3), "deep": range(2)})
    assert found.runs.groupby("student")["seed"].nunique().to_dict() == {"flat": 3, "deep": 2}
    assert found.comparison().groupby("student")["n"].first().to_dict() == {"flat": 3, "deep": 2}


def test_one_seed_claims_nothing():
    text = Study(runs_of(ERRORS, seeds=1), teacher_errors=61).to_text()
    assert "no interval" in text
    assert "better" not in text


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_picture_has_a_panel_for_each_shape_and_says_the_verdict_in_words(seeds):
    figure = draw_study(Study(runs_of(ERRORS, seeds), teacher_errors=61))
    assert [ax.get_title().partition(":")[0] for ax in figure.axes] == ["flat", "deep"]
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ([] if seeds == 1 else ["better", "worse"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*METHODS.values(), "the teacher"]
    assert to_png(figure).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def small():
    mnist = load_mnist()
    data = type(mnist)(train=mnist.train.take(200), held_out=mnist.held_out.take(10), test=mnist.test.take(300))
    torch.manual_seed(0)
    return {"teacher": make_mlp(8), "data": data, "steps": 6, "processes": False, "progress": False}


def test_every_shape_size_method_and_seed_is_trained_for_about_as_many_steps(small):
    students = {"flat": lambda: make_mlp(4), "deep": lambda: make_mlp(4, 4)}
    runs = study(**small, students=students, images=[64, 200], seeds=[0, 1]).runs
    assert len(runs) == 2 * 2 * 3 * 2
    assert not runs.duplicated(["student", "images", "arm", "seed"]).any()
    assert list(runs["student"].unique()) == ["flat", "deep"]
    assert set(runs["arm"]) == set(METHODS.values())
    assert set(runs.loc[runs["images"] == 64, "steps"]) == {6}
    assert set(runs.loc[runs["images"] == 200, "steps"]) == {8}  # whole passes of four batches


def test_two_processes_that_share_all_sizes_find_the_same_students(small, monkeypatch):
    monkeypatch.setenv("KDCOURSE_THREADS", "2")
    settings = {"students": {"flat": lambda: make_mlp(4), "deep": lambda: make_mlp(4, 4)}, "images": [64, 200, 100]}
    here = study(**small, **settings, seeds=[0, 1]).runs
    there = study(**small | {"processes": True}, **settings, seeds=[0, 1]).runs
    pd.testing.assert_frame_equal(there, here)


def test_one_shape_alone_is_compared_too(small):
    found = study(**small, students={"flat": lambda: make_mlp(4)}, images=[64], seeds=[0, 1])
    assert len(found.comparison()) == 2


def test_more_images_than_there_are_is_refused(small):
    with pytest.raises(ValueError, match="from 1 to 200, got"):
        study(**small, images=[64, 201])


def test_a_single_setting_asks_for_one_comparison_and_none_for_the_question(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(distill, "_compare_once", lambda options, settings, *_: asked.append(settings) or 0)
    monkeypatch.setattr(distill, "_ask_when", lambda *_: asked.append("when") or 0)
    common = ["distill", "--picture", str(tmp_path / "x.png"), "--device", "cpu", "--threads", "1"]
    for more in ([], ["--seeds", "5"], ["--images", "300", "900"], ["--steps", "40"]):
        assert main([*common, *more]) == 0
        assert asked.pop() == "when"
    for name, value in (("temperature", "8"), ("alpha", "0.5"), ("epochs", "2"), ("student", "cnn")):
        assert main([*common, f"--{name}", value]) == 0
        settings = asked.pop()
        assert str(settings.pop(name)).rstrip(".0") == value.rstrip(".0")
        assert settings.items() <= distill.SETTINGS.items()
        assert main([*common, f"--{name}", value, "--images", "300"]) == 2
        assert f"and --{name} to one comparison" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_the_answer_and_draws_the_picture(tmp_path, capsys):
    picture = tmp_path / "picture.png"
    common = ["distill", "--picture", str(picture), "--device", "cpu", "--threads", "1"]
    assert main([*common, "--images", "200", "--steps", "10", "--seeds", "2"]) == 0
    written = capsys.readouterr().out
    assert written.startswith("When does a teacher help?")
    assert "In this run:" in written
    assert all(f"- {shape}: " in written for shape in when_it_helps.STUDENTS)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [picture]
