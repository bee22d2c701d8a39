"""What is the same for everybody is run once: which cells those are, and that nobody changes them for others."""

import copy
import json
from pathlib import Path

import pytest
from grading_fixture import EXERCISE, KEY, NAME, POINTS, as_bytes, cell_of, code, handed_in, points

from kdcourse.grading import session
from kdcourse.grading.grader import grade
from kdcourse.grading.notebooks import read_notebook
from kdcourse.grading.overlay import shared_cells

ROOT = Path(__file__).resolve().parents[2]
KEYS = sorted((ROOT / "solutions").glob("*/*.ipynb"))


def key_of(*cells):
    """A key of cells, ``(kind, source)`` each."""
    role = {"locked": {"locked": True}, "answer": {"solution": True}, "check": {"grade": True, "locked": True}, "": {}}
    made = []
    for number, (kind, source) in enumerate(cells):
        nbgrader = {"grade_id": f"cell{number}", **role[kind]} if kind else {}
        made.append(code(source, **({"nbgrader": nbgrader} if nbgrader else {})))
    return {"cells": made}


def numbers_of(key):
    return [int(name.removeprefix("cell")) for name, _ in shared_cells(key)]


SETUP = ("locked", "import torch\nmnist = 1")
ANSWER = ("answer", "def answer(x): return x")


@pytest.mark.parametrize(
    ("cells", "shared"),
    [
        ([SETUP, ANSWER, ("locked", "data = mnist + 1")], [0, 2]),
        ([SETUP, ANSWER, ("locked", "result = answer(mnist)")], [0]),
        ([SETUP, ANSWER, ("locked", "def f(x): return answer(x)")], [0]),
        ([SETUP, ANSWER, ("locked", "result = answer(1)"), ("locked", "print(result)")], [0]),
        ([SETUP, ANSWER, ("locked", "result = [answer(i) for i in range(3)]"), ("locked", "i = 3")], [0, 3]),
        ([SETUP, ANSWER, ("locked", "answer = 5")], [0]),  # the learner's name, whoever sets it
        ([SETUP, ("", "free = 3"), ("locked", "print(free)")], [0]),
        ([SETUP, ("locked", "def f(): return mnist"), ("locked", "mnist = 2")], [0, 1]),  # f would see 2 at once
        ([SETUP, ("locked", "mnist = 2"), ("locked", "def f(): return mnist")], [0, 1, 2]),
        ([SETUP, ("check", "assert mnist"), ("locked", "class A:\n    x = mnist\n    def f(self): return A")], [0, 2]),
    ],
)
def test_a_locked_cell_is_shared_if_nothing_of_a_learner_can_reach_it(cells, shared):
    assert numbers_of(key_of(*cells)) == shared


@pytest.mark.parametrize("path", KEYS, ids=[path.stem for path in KEYS])
def test_what_is_shared_holds_no_solution_and_no_hidden_test(path):
    cells = shared_cells(read_notebook(path))
    assert [name for name, _ in cells][:2] == ["course_setup", "setup"]
    assert "### " not in "".join(source for _, source in cells)
    assert len(json.dumps(cells)) < session.MOST_MESSAGE / 10


def with_stamp(source):
    """The fixture's key with a locked cell of another text, and an exercise handed in that shows what it gives."""
    key = copy.deepcopy(KEY)
    cell_of(key, "task4_table")["source"] += "\n" + source
    return key


def told(worker, key, text):
    result = grade(as_bytes(handed_in(task4=text)), NAME, key, worker=worker, timeout=10)
    return next(cell.error for cell in result.cells if cell.name == "task4_rows")


def test_a_shared_cell_is_run_once_and_nobody_changes_it_for_others(sandboxed_worker):
    key = with_stamp("import time\nstamp, held = time.time_ns(), [1]")
    show = "held.append(2)\ntable.zero_()\nraise ValueError(stamp, held, table.sum().item())"
    seen = {told(sandboxed_worker, key, show) for _ in range(2)}
    assert len(seen) == 1
    assert "[1, 2], 0.0)" in seen.pop()
    other = {told(sandboxed_worker, with_stamp("stamp, held = 0, [1]"), show)}
    assert other == {"ValueError: (0, [1, 2], 0.0)\n  line 3: raise ValueError(stamp, held, table.sum().item())"}


def test_without_a_shared_process_each_submission_runs_all(plain_worker):
    seen = {
        told(plain_worker, with_stamp("import time\nstamp = time.time_ns()"), "raise ValueError(stamp)") for _ in "12"
    }
    assert len(seen) == 2


def test_a_shared_cell_that_fails_fails_in_every_submission(sandboxed_worker):
    key = with_stamp("1 / 0")
    for notebook in (handed_in(), EXERCISE):
        cells = grade(as_bytes(notebook), NAME, key, worker=sandboxed_worker, timeout=10).cells
        table = next(cell for cell in cells if cell.name == "task4_table")
        assert table.error.startswith("ZeroDivisionError")


def test_a_key_too_large_for_one_message_is_run_by_everybody(sandboxed_worker, monkeypatch):
    monkeypatch.setattr(session, "MOST_MESSAGE", 10)
    key = with_stamp("# another text")
    result = grade(as_bytes(handed_in()), NAME, key, worker=sandboxed_worker, timeout=10)
    assert points(result) == POINTS
    assert sandboxed_worker._shared == ""
