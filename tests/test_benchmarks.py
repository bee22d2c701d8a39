"""What the benchmarks rest on: the step by hand is the step, units are kept, and no worker's death loses a unit."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch

from benchmarks import _floor, _timing, chapters, gpu, step
from kdcourse.models import make_student_mlp
from kdcourse.recipes import make_adam


@pytest.mark.parametrize("batch_size", [7, 128])
def test_the_step_by_hand_is_the_step_of_the_loop(batch_size):
    data = step.make_data(3 * batch_size)
    weights, terms = [], []
    for run in (step.by_hand, step.shortest, step.ours):
        torch.manual_seed(0)
        student = make_student_mlp()
        batches = list(zip(*(tensor.split(batch_size) for tensor in data), strict=True))
        terms.append(run(student, iter(batches), make_adam(list(student.parameters()))))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in student.parameters()]))
    for other in (1, 2):
        assert (weights[0] - weights[other]).abs().max() < 1e-4 < (weights[0] - start()).abs().max()
        torch.testing.assert_close(terms[0], terms[other], rtol=1e-4, atol=1e-6)


def start():
    torch.manual_seed(0)
    return torch.cat([parameter.detach().flatten() for parameter in make_student_mlp().parameters()])


@pytest.fixture
def measure(tmp_path):
    calls = []

    def unit(name, **found):
        return lambda: (calls.append(name), {"seconds": 1.0, **found})[1]

    def measure(names, **settings):
        calls.clear()
        units = {name: unit(name) for name in names}
        _timing.measure_units("trial", units, about="A trial.", folder=tmp_path, **settings)
        return list(calls), json.loads((tmp_path / "trial.json").read_text(encoding="utf-8"))

    measure.unit, measure.folder = unit, tmp_path
    return measure


def test_units_are_measured_once_and_a_stopped_run_goes_on(measure):
    assert measure(["a"])[0] == ["a"]
    calls, record = measure(["a", "b"])
    assert calls == ["b"]
    assert list(record["units"]) == ["a", "b"]
    assert record["command"] == "python -m benchmarks.trial"
    assert {"cpu", "cores", "torch", "date", "load_average_before"} <= record["units"]["b"]["environment"].keys()
    assert measure(["a", "b"], again=True)[0] == ["a", "b"]


def test_a_unit_of_another_machine_and_one_that_failed_are_measured_again(measure):
    measure(["a", "b"])
    path = measure.folder / "trial.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["units"]["a"]["environment"]["torch"] = "0.1"
    record["units"]["b"]["measured"] = {"failed": "RuntimeError: no memory"}
    path.write_text(json.dumps(record), encoding="utf-8")
    assert measure(["a", "b"])[0] == ["a", "b"]


def test_no_unit_begins_after_the_budget_and_what_is_stored_stays(measure):
    measure(["a"])
    calls, record = measure(["a", "b"], budget=-1.0)
    assert calls == []
    assert list(record["units"]) == ["a"]


def test_a_moves_time_ends_with_the_first_frame_that_shows_it_or_a_later_one():
    moves = [{"time": 0, "number": 1}, {"time": 8, "number": 2}, {"time": 50, "number": 3}]
    frames = [{"time": 40, "number": 2}, {"time": 45, "number": 2}]
    assert _floor.latencies_of(moves, frames) == [40, 32]


@pytest.mark.slow
def test_every_part_of_the_gpu_script_runs_at_a_small_size():
    found = {name: gpu.explained(part) for name, part in gpu.parts(torch.device("cpu"), tiny=True).items()}
    assert not [name for name, measured in found.items() if "failed" in measured], found
    assert found["25 students"]["students"] == 10
    assert found["one student, batch 128"]["times_faster_than_plain"].keys() == {
        "plain loop", "ours", "ours, recorded"
    }  # fmt: skip


def test_a_part_that_fails_says_how():
    assert gpu.explained(lambda: 1 / 0) == {"failed": "ZeroDivisionError: division by zero"}


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_loses_no_unit_and_doubles_none():
    pytest.importorskip("distributed")
    code = "if __name__ == '__main__':\n from benchmarks.scale_out import measure\n import json\n" + (
        " print(json.dumps(measure(units=24, workers=4, kill=True, samples=200, epochs=3)))\n"
    )
    command = [sys.executable, "-c", code]
    root = Path(__file__).resolve().parents[1]
    outcome = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    found = json.loads(outcome.stdout.splitlines()[-1])
    assert (found["workers_killed"], found["lost"], found["recorded_twice"]) == (1, 0, 0)
    assert found["processes_that_worked"] >= 4


def test_a_chapters_seconds_are_those_of_all_its_cells(tmp_path):
    report = tmp_path / "report.xml"
    cases = [("n.02_soft", "a cell", 1.5), ("n.02_soft", "another", 2.0), ("n.03_more", "one", 4)]
    lines = "".join(f'<testcase classname="{where}" name="{name}" time="{s}"/>' for where, name, s in cases)
    report.write_text(f"<testsuites><testsuite>{lines}</testsuite></testsuites>", encoding="utf-8")
    assert chapters.seconds_by_notebook(report, ["02_soft", "03_more"]) == {"02_soft": 3.5, "03_more": 4.0}


def test_a_chapters_size_counts_words_cells_and_turns(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# Two words 2"), nbformat.v4.new_code_cell('f = check("02.kl", f)')]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    assert chapters.size_of(tmp_path / "a.ipynb") == {"words": 2, "cells": 2, "your_turn": 1}
