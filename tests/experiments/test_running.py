"""Running studies: what is finished is stored at once, a run that was killed goes on, records hold what they must."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import __main__ as command
from experiments._record import RESULTS
from experiments.registry import Study, Unit, studies
from experiments.running import key_of, run_studies

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys, time
from pathlib import Path
from experiments.registry import Study, Unit
from experiments.running import run_studies

def work(number, folder):
    with open(Path(folder) / "begun", "a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.3)
    return [{"cell": "a", "arm": "kd", "seed": number, "test_errors": number}]

folder = Path(sys.argv[1])
study = Study("trial", "A trial.", lambda: [Unit(work, {"number": n, "folder": str(folder)}) for n in range(6)], 1)
run_studies([study], folder=folder / "units", results=folder)
"""


def double(number):
    return [{"cell": "a", "arm": "kd", "seed": seed, "test_errors": 2 * number} for seed in (0, 100)]


def make_study(count=2):
    return Study("trial", "A trial.", lambda: [Unit(double, {"number": n}) for n in range(count)], 1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("KDCOURSE_THREADS", "1")
    lines = []

    def run(study):
        lines.clear()
        paths = run_studies([study], folder=tmp_path / "units", results=tmp_path / "results", say=lines.append)
        return paths, list(lines)

    return run


def test_a_study_leaves_a_record_with_all_that_a_record_must_hold(run):
    (path,), _ = run(make_study())
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["command"] == "python -m experiments trial"
    assert (record["seeds"], record["seeds_that_choose"]) == ([0], [100])
    assert [run["test_errors"] for run in record["runs"]] == [0, 0, 2, 2]
    assert record["settings"] == [{"number": 0}, {"number": 1}]
    assert record.keys() >= {"about", "commit", "seconds", "cpu_seconds", "versions", "environment"}


def test_a_second_run_trains_nothing_and_a_further_unit_alone(run):
    run(make_study())
    assert "2 units are stored, 0 are left" in run(make_study())[1]
    _, lines = run(make_study(3))
    assert "2 units are stored, 1 are left" in lines
    assert any(line.startswith("trial: unit 3 of 3") for line in lines)


def test_another_setting_has_another_key():
    one, other = (Unit(double, {"number": number}) for number in (1, 2))
    assert key_of(one) == key_of(Unit(double, {"number": 1})) != key_of(other)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_loses_only_the_unit_in_progress(tmp_path):
    script = tmp_path / "trial_script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KDCOURSE_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment, stdout=subprocess.DEVNULL)
    stored = tmp_path / "units" / "trial"
    while process.poll() is None and len(list(stored.glob("*.json"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = (tmp_path / "begun").read_text(encoding="utf-8").split()
    finished = len(list(stored.glob("[!.]*.json")))
    assert 2 <= finished < 6
    assert not (tmp_path / "trial.json").exists()
    subprocess.run([sys.executable, str(script), str(tmp_path)], env=environment, check=True, stdout=subprocess.DEVNULL)
    again = (tmp_path / "begun").read_text(encoding="utf-8").split()[len(begun) :]
    assert len(again) == 6 - finished
    assert [run["seed"] for run in json.loads((tmp_path / "trial.json").read_text(encoding="utf-8"))["runs"]] == [
        *range(6)
    ]


def test_names_of_studies_and_of_rows_choose_and_others_are_refused():
    assert [study.name for study in command.choose(["T=1"])] == ["grid"]
    assert [study.name for study in command.choose(["shapes", "speed"])] == ["speed", "shapes"]
    assert "hinton" not in {study.name for study in command.choose([])}
    with pytest.raises(ValueError, match="no study and no row 'resnet'"):
        command.choose(["resnet"])


def test_the_list_names_each_row(capsys):
    assert command.main(["--list", "shapes"]) == 0
    assert "projections: FitNets needs a projection" in capsys.readouterr().out


RECORDS = [name for name, study in studies().items() if (RESULTS / f"{name}.json").exists()]


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_says_how_where_and_from_what_it_was_made(name):
    record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert {"command", "environment"} <= record.keys()
    if not studies()[name].writes_itself:
        assert record.keys() >= {"about", "commit", "seeds", "seconds", "settings", "versions", "runs"}
        assert record["settings"] == [dict(unit.settings) for unit in studies()[name].units()]


@pytest.mark.slow
@pytest.mark.skipif(not (RESULTS / f"{command.QUICK}.json").exists(), reason="its record was not made yet")
def test_the_quick_row_agrees_with_its_record(capsys):
    assert command.main(["--quick"]) == 0
    assert "smoother gradients: " in capsys.readouterr().out
