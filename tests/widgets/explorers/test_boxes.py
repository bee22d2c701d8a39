"""The boxes explorer without a front end: what counts as found, at which score, and in which scene."""

import pytest
import torch

from kdcourse.data import load_mnist
from kdcourse.data.scenes import make_scenes
from kdcourse.widgets import BoxesExplorer
from kdcourse.widgets.explorers.boxes import find_pairs


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(load_mnist().test, 4, objects=(2, 4), seed=7)


def seen(target, scores):
    return {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.tensor(scores)}


@pytest.fixture
def explorer(scenes):
    sure = [seen(target, [0.9] * len(target["labels"])) for target in scenes.targets]
    doubting = [seen(target, [0.8] + [0.3] * (len(target["labels"]) - 1)) for target in scenes.targets]
    return BoxesExplorer(scenes, {"teacher": sure, "student": doubting})


def test_a_higher_threshold_loses_the_boxes_below_it(explorer, scenes):
    digits = len(scenes.targets[0]["labels"])
    assert explorer.counts == {"teacher": (digits, 0, 0), "student": (1, digits - 1, 0)}
    explorer.threshold.value = 0.2
    assert explorer.counts["student"] == (digits, 0, 0)
    explorer.threshold.value = 0.85
    assert explorer.counts["student"] == (0, digits, 0)
    explorer.close()


def test_another_scene_is_drawn_and_counted(explorer, scenes):
    before = explorer.canvas.widget.value
    explorer.scene.value = 2
    assert explorer.canvas.widget.value != before
    assert sum(explorer.counts["teacher"][:2]) == len(scenes.targets[2]["labels"])
    assert f"of {len(scenes.targets[2]['labels'])} digits found" in explorer.status.value


def test_a_wrong_class_a_shifted_box_and_a_second_box_find_nothing():
    truth = {"boxes": torch.tensor([[0.0, 0.0, 10.0, 10.0]]), "labels": torch.tensor([7])}
    assert find_pairs(truth, truth) == [0]
    assert find_pairs({**truth, "labels": torch.tensor([1])}, truth) == [-1]
    assert find_pairs({**truth, "boxes": truth["boxes"] + 5}, truth) == [-1]
    assert find_pairs({**truth, "boxes": truth["boxes"] + torch.tensor([0.0, 0.0, 0.0, 9.0])}, truth) == [0]
    assert find_pairs({"boxes": truth["boxes"].repeat(2, 1), "labels": torch.tensor([7, 7])}, truth) == [0, -1]


def test_a_scene_without_a_digit_has_nothing_to_find():
    (scenes,) = [make_scenes(load_mnist().test, 1, objects=(0, 0))]
    nothing = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64), "scores": torch.empty(0)}
    assert BoxesExplorer(scenes, {"teacher": [nothing]}).counts == {"teacher": (0, 0, 0)}


def test_more_boxes_than_can_be_drawn_are_still_counted(scenes):
    many = {"boxes": torch.rand(40, 4).sort(dim=1).values * 90, "labels": torch.zeros(40, dtype=torch.int64)}
    rows = [{**many, "scores": torch.ones(40)}] * 4
    assert sum(BoxesExplorer(scenes, {"noisy": rows}).counts["noisy"][::2]) == 40


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"found": {}}, "one to three detectors, got 0"),
        ({"found": {"teacher": []}}, "'teacher' has results for 0 scenes, there are 4"),
        ({"scene": 4}, "scene must be from 0 to 3"),
        ({"threshold": 0.99}, "threshold from 0.05 to 0.95"),
    ],
)
def test_what_cannot_be_drawn_is_refused(scenes, change, told):
    found = {"teacher": [seen(target, [0.9] * len(target["labels"])) for target in scenes.targets]}
    with pytest.raises(ValueError, match=told):
        BoxesExplorer(**{"scenes": scenes, "found": found, **change})
