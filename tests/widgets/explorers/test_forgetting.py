"""The forgetting explorer without a front end: what it shows is what the histories say."""

import pytest
import torch

from kdcourse.recipes import TaskHistory
from kdcourse.widgets import ForgettingExplorer

TASKS = ((0, 1), (2, 3))
PERFECT = torch.stack([torch.diag(torch.tensor([10, 10, 10, 10]))] * 2)
FORGETS = torch.stack([torch.diag(torch.tensor([10, 10, 0, 0])), torch.diag(torch.tensor([0, 5, 10, 10]))])
FORGETS[1, 0, 2], FORGETS[1, 1, 3], FORGETS[0, 2:, 0] = 10, 5, 10


@pytest.fixture
def explorer():
    histories = {"keeps": TaskHistory(TASKS, PERFECT, PERFECT), "forgets": TaskHistory(TASKS, PERFECT, FORGETS)}
    return ForgettingExplorer(histories)


def test_a_move_shows_the_accuracies_of_that_method_after_that_task(explorer, frame_of):
    explorer.method.value, explorer.after.value = "forgets", 2
    assert explorer.accuracies == pytest.approx([0.25, 1.0])
    shown = frame_of(explorer).text
    assert (shown["method"], shown["after_task"], float(shown["accuracy"])) == ("forgets", "2", 0.625)
    assert "62.5 %" in explorer.status.value
    explorer.told.value = True
    assert explorer.accuracies == pytest.approx([1.0, 1.0])
    explorer.close()


def test_every_combination_can_be_shown(explorer):
    for method in ("keeps", "forgets"):
        for after in (1, 2):
            for told in (True, False):
                explorer.method.value, explorer.after.value, explorer.told.value = method, after, told
    assert len(explorer.accuracies) == 2
    explorer.close()


def test_histories_that_cannot_be_compared_are_refused():
    history = TaskHistory(TASKS, PERFECT, PERFECT)
    other = TaskHistory(((0, 2), (1, 3)), PERFECT, PERFECT)
    for wrong in ({}, {"a": history, "b": other}, {str(number): history for number in range(7)}):
        with pytest.raises(ValueError, match="on the same tasks"):
            ForgettingExplorer(wrong)
