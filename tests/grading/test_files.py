"""Names, folders and disks as they should not be: no file stops a class, none speaks for somebody else."""

import csv
import errno
import io
import json
import os
import subprocess
import sys

import pytest
from grading_fixture import EXERCISE, KEY, NAME, as_bytes, handed_in

from kdcourse.__main__ import main
from kdcourse.grading import classroom, result_files
from kdcourse.grading.classroom import grade_class
from kdcourse.grading.escaping import visible, visible_line
from kdcourse.grading.notebooks import LARGEST, write_notebook
from kdcourse.grading.results import Result
from kdcourse.grading.submissions import DEEPEST, collect, find_keys, identify

RIGHT_ONE = as_bytes(handed_in())
NOTHING_DONE = as_bytes(EXERCISE)


@pytest.fixture
def keys(tmp_path):
    write_notebook(tmp_path / "keys" / f"{NAME}.ipynb", KEY)
    return tmp_path / "keys"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "submitted").mkdir()
    return tmp_path / "submitted"


def put(folder, place, data=RIGHT_ONE):
    path = os.path.join(os.fsencode(folder), place if isinstance(place, bytes) else os.fsencode(place))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


@pytest.fixture
def graded_by_name(monkeypatch):
    """Whoever hands in right work gets all points, without a process: these tests are about files."""

    def grade_one(data, name, key, settings):
        return Result("graded", total=16.0 * (data == RIGHT_ONE), max=16.0)

    monkeypatch.setattr(classroom, "grade_one", grade_one)


def run_class(folder, keys, out):
    results = grade_class(folder, out, keys=keys, sandboxed=False, progress=False)
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results) == len(list((out / "feedback").glob("*.html")))
    return rows


def totals(rows):
    return {row["learner"]: row["total"] for row in rows}


# Names

ODD_NAMES = {
    "not UTF-8": (b"z\xff\xfe", "z\\xff\\xfe"),
    "a carriage return": (b"bob\rann,ex90_fixture,16", "bob⟨U+000D⟩ann,ex90_fixture,16"),
    "a line feed": (b"bob\nann", "bob⟨U+000A⟩ann"),
    "a tab": (b"\tbob", "⟨U+0009⟩bob"),
    "a terminal's command": (b"\x1b[2Jbob", "⟨U+001B⟩[2Jbob"),
    "a C1 control": ("\x9b2Jbob".encode(), "⟨U+009B⟩2Jbob"),
    "a mark of direction": ("bob\u200f\u061c".encode(), "bob⟨U+200F⟩⟨U+061C⟩"),
    "a separator of lines": ("bob\u2028ann".encode(), "bob⟨U+2028⟩ann"),
    "letters without width": ("b\u200bob\u2060".encode(), "b⟨U+200B⟩ob⟨U+2060⟩"),
    "tags that nobody sees": ("bob\U000e0041".encode(), "bob⟨U+E0041⟩"),
    "quotes and commas": (b'bob","16', 'bob","16'),
    "a formula": (b"=1+1", "'=1+1"),
    "a path": (b"b..ob", "b..ob"),
    "two hundred letters": (b"b" * 200, "b" * 200),
}  # fmt: skip
posix = pytest.mark.skipif(os.name != "posix", reason="file systems elsewhere do not take these names")


@posix
@pytest.mark.parametrize(("name", "shown"), ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_an_odd_name_is_one_row_of_its_own(folder, keys, tmp_path, graded_by_name, name, shown):
    put(folder, name + b"/ex90_fixture.ipynb", NOTHING_DONE)
    put(folder, "ann/ex90_fixture.ipynb")
    assert totals(run_class(folder, keys, tmp_path / "out")) == {shown: "0", "ann": "16"}
    text = (tmp_path / "out" / "grades.csv").read_bytes().decode("utf-8")
    assert len(text.splitlines()) == 3  # by every end of a line that there is


@posix
def test_names_that_look_alike_have_files_of_their_own(folder, keys, tmp_path, graded_by_name):
    for name in (b"bob\xff", b"bob\\xff", "bob⟨U+202E⟩".encode(), "bob\u202e".encode()):
        put(folder, name + b"/ex90_fixture.ipynb")
    assert len(run_class(folder, keys, tmp_path / "out")) == 4


@posix
def test_an_odd_file_name_is_no_trouble_either(folder, keys, tmp_path, graded_by_name):
    put(folder, b"ann/\xff\r\x9b_ex90.ipynb")
    put(folder, b"bob_\xff_ex90.ipynb", b"{")
    rows = run_class(folder, keys, tmp_path / "out")
    assert totals(rows)["ann"] == "16"
    assert rows[0]["file"].endswith("\\xff⟨U+000D⟩\\x9b_ex90.ipynb")


def test_what_cannot_be_seen_is_written_out_for_terminal_and_page():
    assert visible("a\tb\n\x9b2J\u200e\u2066\ufeff\ud800") == "a\tb\n⟨U+009B⟩2J⟨U+200E⟩⟨U+2066⟩⟨U+FEFF⟩⟨U+D800⟩"
    assert visible_line("a\tb\n") == "a⟨U+0009⟩b⟨U+000A⟩"
    assert visible("Zoë Müller, 王, αβ, emoji 😀") == "Zoë Müller, 王, αβ, emoji 😀"


# Folders


def test_1500_nested_folders_are_one_row_and_stop_nobody(folder, keys, tmp_path, graded_by_name):
    put(folder, "ann/ex90_fixture.ipynb")
    (folder / "bob").mkdir()
    handle = os.open(folder / "bob", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    try:
        rows = run_class(folder, keys, tmp_path / "out")
    finally:
        subprocess.run(["rm", "-rf", folder / "bob"], check=True)  # shutil would need a call for each of them
    assert totals(rows) == {"ann": "16", "bob": "0"}
    assert rows[1]["status"] == "ungraded"
    assert f"nested deeper than {DEEPEST}" in rows[1]["reason"]


def test_many_deep_folders_of_one_learner_are_told_once(folder):
    for name in "abc":
        (folder / "bob" / "/".join("d" * DEEPEST) / name).mkdir(parents=True)
    assert [submission.learner for submission in collect(folder)] == ["bob"]


PLACES = {
    "a folder for somebody else": (["ann/ex90_fixture/x.ipynb", "bob/ann/ex90_fixture/x.ipynb"], ["ann", "bob"]),
    "a file for somebody else": (["ann/ex90.ipynb", "bob/ann_ex90.ipynb"], ["ann", "bob"]),
    "a folder of one's own": (["ann/v2/final/ex90.ipynb", "bob/ex90.ipynb"], ["ann", "bob"]),
    "alone, with a folder": (["bob/ann/ex90.ipynb"], ["bob"]),
    "a year around all": (["2026/ann/ex90.ipynb", "2026/bob/ex90.ipynb"], ["ann", "bob"]),
    "a group around all": (["group A/ann/ex90.ipynb", "group A/bob/ann/ex90.ipynb"], ["ann", "bob"]),
    "two groups": (["A/ann/ex90.ipynb", "B/bob/ex90.ipynb"], ["A", "B"]),
}


@pytest.mark.parametrize(("places", "learners"), PLACES.values(), ids=PLACES.keys())
def test_nobody_speaks_for_another_learner(folder, places, learners):
    for place in places:
        put(folder, place)
    assert [submission.learner for submission in collect(folder)] == learners


def test_both_files_of_somebody_who_speaks_for_another_are_flagged_as_theirs(folder, keys, tmp_path, graded_by_name):
    put(folder, "ann/ex90_fixture/ex90_fixture.ipynb", NOTHING_DONE)
    put(folder, "bob/ann/ex90_fixture/ex90_fixture.ipynb")
    put(folder, "bob/ex90_fixture/ex90_fixture.ipynb")
    rows = run_class(folder, keys, tmp_path / "out")
    assert [(row["learner"], row["total"]) for row in rows] == [("ann", "0"), ("bob", "16"), ("bob", "16")]
    assert ["more by this learner" in row["flags"] for row in rows] == [False, True, True]


# Which exercise


def test_with_one_key_not_every_file_is_taken_for_its_exercise(folder, keys, tmp_path, graded_by_name):
    other = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    put(folder, "ann/shopping.ipynb", as_bytes(other))
    put(folder, "bob/ex05_contrastive.ipynb", as_bytes(other))
    put(folder, "cem/mine.ipynb")
    rows = run_class(folder, keys, tmp_path / "out")
    assert [(row["learner"], row["exercise"], row["total"]) for row in rows] == [
        ("ann", "", "0"), ("bob", "", "0"), ("cem", NAME, "16"),
    ]  # fmt: skip
    assert all("does not say which exercise" in row["reason"] for row in rows[:2])


def test_work_without_name_and_metadata_is_known_by_its_cells(keys):
    notebook = handed_in()
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        cell.pop("id", None)
    path = keys / "whatever.ipynb"
    assert identify(path, as_bytes(notebook), find_keys(keys, folder=keys)) == NAME


def test_a_whole_notebook_that_is_too_large_is_said_to_be_that(folder, keys, tmp_path, graded_by_name, capsys):
    large = handed_in()
    large["cells"][3]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * LARGEST}]
    put(folder, f"ann/{NAME}.ipynb", as_bytes(large))
    put(folder, "bob/mine.ipynb", as_bytes(large))
    rows = run_class(folder, keys, tmp_path / "out")
    assert [(row["status"], row["max"]) for row in rows] == [("ungraded", "16"), ("ungraded", "0")]
    assert all("has more than 10 MB. Clear its outputs" in row["reason"] for row in rows)
    assert main(["grade", str(folder / "ann" / f"{NAME}.ipynb"), "--key", str(keys)]) == 2
    assert "has more than 10 MB. Clear its outputs" in capsys.readouterr().err


# Results that are kept


def test_a_hard_link_is_a_file_like_any_other(folder, keys, tmp_path, graded_by_name):
    put(folder, "ann/ex90_fixture.ipynb")
    (folder / "bob").mkdir()
    os.link(folder / "ann" / "ex90_fixture.ipynb", folder / "bob" / "ex90_fixture.ipynb")
    assert totals(run_class(folder, keys, tmp_path / "out")) == {"ann": "16", "bob": "16"}


def raise_total(fields):
    fields["total"] = 16.0


def lower_total(fields):
    fields["total"] = 0.0


def take_anothers(fields):
    fields["learner"] = "ann"


def drop_flags(fields):
    fields["flags"] = []


def another_status(fields):
    fields["status"] = "graded"


def no_seal(fields):
    del fields["seal"]


def nested(fields):
    fields["cells"] = [{"kind": "check", "name": "task1_check", "points": 99.0}]


ALTERED = (raise_total, lower_total, take_anothers, drop_flags, another_status, no_seal, nested)


@pytest.mark.parametrize("alter", ALTERED)
def test_a_result_that_was_altered_is_made_again(folder, keys, tmp_path, monkeypatch, alter):
    counted = []

    def grade_one(data, name, key, settings):
        counted.append(data)
        return Result("stopped", total=8.0, max=16.0, flags=("imports os",))

    monkeypatch.setattr(classroom, "grade_one", grade_one)
    put(folder, "bob/ex90_fixture.ipynb")
    rows = run_class(folder, keys, tmp_path / "out")
    [path] = (tmp_path / "out" / "results").iterdir()
    whole = path.read_text(encoding="utf-8")
    fields = json.loads(whole)
    alter(fields)
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert run_class(folder, keys, tmp_path / "out") == rows
    assert path.read_text(encoding="utf-8") == whole
    assert len(counted) == 2
    assert run_class(folder, keys, tmp_path / "out") == rows
    assert len(counted) == 2  # what is whole is used again


def test_a_result_in_another_ones_place_is_not_used(folder, keys, tmp_path, graded_by_name):
    put(folder, "ann/ex90_fixture.ipynb")
    put(folder, "bob/ex90_fixture.ipynb", NOTHING_DONE)
    run_class(folder, keys, tmp_path / "out")
    ann, bob = sorted((tmp_path / "out" / "results").iterdir())
    bob.write_bytes(ann.read_bytes())
    assert totals(run_class(folder, keys, tmp_path / "out")) == {"ann": "16", "bob": "0"}


def test_graded_files_that_are_handed_in_again_give_nothing(folder, keys, tmp_path, graded_by_name):
    """A page of feedback, a table of grades or a result among the submissions is no submission."""
    put(folder, "bob/ex90_fixture.ipynb", NOTHING_DONE)
    for name in ("grades.csv", "results/bob-1.json", "feedback/bob-1.html", "ex90_fixture.ipynb.json"):
        put(folder, f"bob/{name}", b"bob,ex90_fixture,16")
    assert totals(run_class(folder, keys, tmp_path / "out")) == {"bob": "0"}


# Disks


def graded_files(folder, keys, tmp_path):
    put(folder, "ann/ex90_fixture.ipynb")
    put(folder, "bob/ex90_fixture.ipynb", NOTHING_DONE)
    return ["grade", str(folder), "--out", str(tmp_path / "out"), "--key", str(keys), "--no-sandbox", "-j", "1"]


def no_work(*arguments):
    raise AssertionError("this is found before the work")


@pytest.mark.parametrize("place", ["out", "out/results", "out/feedback", "out/grades.csv"])
def test_what_cannot_be_written_is_found_before_the_work(folder, keys, tmp_path, monkeypatch, capsys, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    if place.endswith(".csv"):
        path.mkdir()
    else:
        path.write_text("a file, where a folder is needed")
    monkeypatch.setattr(classroom, "grade_one", no_work)
    assert main(graded_files(folder, keys, tmp_path)) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert place.split("/")[-1] in errors[0]


def test_a_read_only_folder_is_found_before_the_work(folder, keys, tmp_path, monkeypatch, capsys):
    def refuse(path, *, size):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(classroom, "check_writable", refuse)
    monkeypatch.setattr(classroom, "grade_one", no_work)
    assert main(graded_files(folder, keys, tmp_path)) == 2
    assert "Read-only file system" in capsys.readouterr().err


def test_a_full_disk_loses_no_result(folder, keys, tmp_path, monkeypatch, capsys, graded_by_name):
    """Neither results nor pages nor the table find room: the table is printed, and the file named."""

    def write(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(classroom, "write_text", write)
    monkeypatch.setattr(result_files, "write_text", write)
    assert main(graded_files(folder, keys, tmp_path)) == 2
    told = capsys.readouterr()
    assert totals(csv.DictReader(io.StringIO(told.out))) == {"ann": "16", "bob": "0"}
    assert f"{tmp_path / 'out' / 'grades.csv'}: No space left on device" in told.err


def test_a_disk_that_is_full_for_results_still_gets_the_table(folder, keys, tmp_path, monkeypatch, graded_by_name):
    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(result_files, "write_text", full)
    assert main(graded_files(folder, keys, tmp_path)) == 0
    assert "ann" in (tmp_path / "out" / "grades.csv").read_text(encoding="utf-8")


def test_a_submission_at_which_the_grader_fails_costs_the_others_nothing(folder, keys, tmp_path, monkeypatch):
    def fail_once(data, name, key, settings):
        if data == NOTHING_DONE:
            raise RuntimeError("a worker was lost")
        return Result("graded", total=16.0, max=16.0)

    monkeypatch.setattr(classroom, "grade_one", fail_once)
    graded_files(folder, keys, tmp_path)
    rows = run_class(folder, keys, tmp_path / "out")
    assert totals(rows) == {"ann": "16", "bob": "0"}
    assert rows[1]["reason"] == "the grader failed: a worker was lost"
    assert len(list((tmp_path / "out" / "results").iterdir())) == 1


def test_a_wrong_address_of_a_cluster_is_told_before_the_bar(folder, keys, tmp_path, monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")
    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: real(address, timeout="1s"))
    monkeypatch.setattr(classroom, "grade_one", no_work)
    assert main([*graded_files(folder, keys, tmp_path), "--executor", "tcp://127.0.0.1:1"]) == 2
    told = capsys.readouterr().err
    assert "no Dask scheduler answers at" in told
    assert "grading:" not in told
    assert not (tmp_path / "out").exists()


# Terminals


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "utf-8"])
def test_no_code_page_loses_a_grade(folder, keys, encoding):
    put(folder, f"{NAME}.ipynb", as_bytes(handed_in(task2="raise ValueError('T² → ∞ \\x9b 😀')")))
    command = [sys.executable, "-m", "kdcourse", "grade", folder / f"{NAME}.ipynb", "--key", keys, "--no-sandbox"]
    variables = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, timeout=200, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    assert "12 of  16" in done.stdout.decode(encoding)
    assert "\x9b" not in done.stdout.decode(encoding)
