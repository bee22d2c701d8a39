"""Answers that were not written beside the checks: wrong ones are caught and mostly named, right ones are accepted.

Each file of this folder holds the answers to one exercise. A table has a function for every plausible mistake, and what
its message must say: nothing where it is enough that the mistake is caught. A list has functions that are right, and
written in other ways than the key. The figures over all exercises are printed by the last test.
"""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from kdcourse.checks import CheckFailed

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("ex*.py"))


def tasks_of(path):
    spec = importlib.util.spec_from_file_location(f"outside_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TASKS


TASKS = {(path.stem, task): parts for path in FILES for task, parts in tasks_of(path).items()}
TRAINING = {"born_again": [pytest.mark.slow]}  # each of these trains for seconds
WRONG = [
    pytest.param(check, function, told, id=f"{exercise}-{task}-{label}", marks=TRAINING.get(task, []))
    for (exercise, task), (check, wrong, _) in TASKS.items()
    for label, (function, told) in wrong.items()
]
RIGHT = [
    pytest.param(check, function, id=f"{exercise}-{task}-{function.__name__}-{number}")
    for (exercise, task), (check, _, right) in TASKS.items()
    for number, function in enumerate(right)
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("check", "function", "told"), WRONG)
def test_a_wrong_answer_is_caught(check, function, told):
    with pytest.raises(CheckFailed) as found:
        check(function, seed=7)
    assert told in str(found.value)
    assert "CheckFailed" not in str(found.value)  # no message of ours inside another


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("check", "function"), RIGHT)
def test_a_right_answer_is_accepted(check, function):
    for seed in (1, 2):
        check(function, seed=seed)


def test_every_task_has_been_tried_from_all_sides():
    few = {task: len(wrong) for task, (_, wrong, right) in TASKS.items() if len(wrong) < 12 or len(right) < 3}
    assert few == {}
    assert len(FILES) == 16


def test_most_mistakes_are_named(capsys):
    counts = Counter(bool(told) for parts in TASKS.values() for _, told in parts[1].values())
    right = sum(len(parts[2]) for parts in TASKS.values())
    with capsys.disabled():
        share = counts[True] / counts.total()
        print(f"\n{counts.total()} wrong outside answers, {share:.0%} of them named; {right} right ones.")
    assert share >= 0.7
