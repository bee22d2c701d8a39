"""The command line: what it prints, what it refuses in one line, what it leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdcourse.__main__ import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "--temperature", "0"], "temperature must be positive and finite, got 0.0"),
        (["distill", "--alpha", "1.5"], r"alpha must be in [0, 1], got 1.5"),
        (["distill", "--teacher", "einstein"], "there is no teacher 'einstein'"),
        (["distill", "--device", "abacus"], "device 'abacus' is not on this machine"),
        (["distill", "--picture", "no/such/folder/picture.png"], "must be a .png in a folder that exists"),
        (["zoo", "train", "einstein"], "there is no teacher 'einstein'"),
        (["grade", "no/such.ipynb"], "there is no file no/such.ipynb: save the notebook"),
        (["grade", "pyproject.toml", "--out", "x"], "--out is for a folder; pyproject.toml is none."),
        (["grade", "notebooks"], "notebooks is a folder: say with --out where"),
        (["grade", "notebooks", "--out", "x", "--json"], "--json is for one file"),
        (["grade", "docs", "--out", "x"], "there is no notebook in docs"),
        (["grade", "docs", "--out", "x", "--key", "docs"], "there is no notebook in docs"),
        (["grade", "LICENSE"], "LICENSE is not a notebook"),
        (["grade", "notebooks/00_start_here.ipynb"], "00_start_here.ipynb does not say which exercise it is"),
        (["release", "--root", "docs"], "there is no solutions/NAME/NAME.ipynb in docs"),
        (["selftest", "ex99"], "there are no keys named ex99"),
    ],
)
def test_a_wrong_value_gets_one_clear_line_and_exit_code_2(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert message in written.err
    assert written.err.count("\n") == 1
    assert written.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "--epochs", "0"], "argument --epochs: must be a positive integer, got '0'"),
        (["distill", "--temperature", "warm"], "argument --temperature: invalid float value: 'warm'"),
        (["distill", "--student", "giant"], "argument --student: invalid choice: 'giant'"),
        (["grade", "x.ipynb", "--timeout", "0"], "argument --timeout: must be a positive number of seconds, got '0'"),
        (["grade", "x", "-j", "0"], "argument -j/--jobs: must be a positive integer, got '0'"),
        (["boil"], "invalid choice: 'boil'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_usage_gets_one_clear_line_and_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_doctor_names_device_threads_widgets_and_sandbox(capsys):
    assert main(["doctor"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"kdcourse", "device", "threads", "widgets", "sandbox", "problems"} <= lines.keys()
    assert lines["problems"] == "none found"


def test_the_zoo_lists_each_teacher_with_its_measured_errors(capsys):
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    teachers, settings = lines[::2], lines[1::2]
    assert [line.split()[0] for line in teachers] == ["hinton_teacher", "teacher_mlp", "teacher_cnn"]
    assert all("test errors of 10,000" in line for line in teachers)
    assert "by test errors" in settings[0]  # a score that its own test images have flattered says so
    assert all("settings: " in line for line in settings)


@pytest.mark.slow
def test_distill_prints_a_table_with_both_baselines_and_intervals_and_draws_a_picture(tmp_path):
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-m", "kdcourse", "distill", "--epochs", "1", "--seeds", "2", "--threads", "1"]
    done = subprocess.run([*command, "--picture", str(picture)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for row in ("teacher", "plain", "label smoothing", "distilled"):
        assert any(line.strip().startswith(row + " ") for line in done.stdout.splitlines()), row
    assert "distilled - plain: " in done.stdout
    assert "distilled - label smoothing: " in done.stdout
    assert done.stdout.count("95 % interval") == 2
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [picture]
    assert "100%" not in done.stdout  # the progress bar goes to stderr


def test_one_seed_claims_no_interval():
    import pandas as pd

    from kdcourse.commands.distill import differences

    runs = pd.DataFrame({"arm": ["plain", "label smoothing", "distilled"], "seed": [0, 0, 0], "test_errors": [3, 2, 1]})
    assert "no interval" in differences(runs)
