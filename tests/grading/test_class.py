"""A folder of submissions graded with one command: table, feedback, what is kept, and who is who."""

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from grading_fixture import EXERCISE, KEY, NAME, RIGHT, as_bytes, cell_of, code, handed_in

from kdcourse.__main__ import main
from kdcourse.grading import classroom, sandbox
from kdcourse.grading.classroom import grade_class
from kdcourse.grading.escaping import visible_line, without_formulas
from kdcourse.grading.feedback import feedback_page
from kdcourse.grading.notebooks import write_notebook
from kdcourse.grading.points import points_table
from kdcourse.grading.results import CellResult, Result
from kdcourse.grading.submissions import collect, exercise_of, find_keys

ROOT = Path(__file__).resolve().parents[2]
needs_sandbox = pytest.mark.skipif(sandbox.find_sandbox() is None, reason="no sandbox works on this machine")


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "my keys"
    write_notebook(folder / f"{NAME}.ipynb", KEY)
    return folder


@pytest.fixture
def submitted(tmp_path):
    folder = tmp_path / "submitted"
    folder.mkdir()

    def put(place, notebook):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(notebook if isinstance(notebook, bytes) else as_bytes(notebook))
        return path

    put.folder = folder
    return put


def table(out):
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run_class(submitted, keys, out, *more):
    return main(["grade", str(submitted.folder), "--out", str(out), "--key", str(keys), "--timeout", "5", *more])


@pytest.fixture
def one_worker(sandboxed_worker, monkeypatch):
    """Grade a class with a worker that is there already; it does not end with the class."""

    class Lent:
        open, share = staticmethod(sandboxed_worker.open), staticmethod(sandboxed_worker.share)
        close = staticmethod(lambda: None)

    monkeypatch.setattr(classroom, "make_worker", lambda **settings: Lent)


# Sixty and more, mixed

WHILE, EXIT = "while True: pass", "import os\nos._exit(0)"
BOMB = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
FORGED = "import os\nfor n in range(3, 200):\n    try: os.write(n, b'{}\\n')\n    except OSError: pass\n"
NOISE = "for n in range(200_000): print(n)\n"
NETWORK = "import socket\nsocket.create_connection(('1.1.1.1', 53))"
MEMORY = "hog = [bytearray(100_000_000) for _ in range(40)]"
REPLACED = "import kdcourse.checks.soft_targets as m\nm.check_values = lambda *a, **k: None\n"


NAMELESS = "def my_kd_loss(*args, **kwargs): raise type('', (BaseException,), {})"
UNDONE = """
import numpy
calls = []
def arm(m):
    real = m.asarray
    def fake(*args, **kwargs):
        calls.append(1)
        if len(calls) > 60: m.asarray = real
        return m.zeros(())
    if not calls: m.asarray = fake
def my_kd_loss(student_logits, teacher_logits, *, temperature):
    arm(numpy)
    return student_logits.sum()
"""
SILENCED = """
import kdcourse.grading.inside.cells as m
def silence(m): m.describe = m._in_words = m._described = lambda *a: ""
silence(m)
"""
REPLIES = """
import json
def forge(c):
    real = c.encode
    c.encode = lambda self, reply: real(self, {**reply, "ok": True, "error": ""})
forge(json.encoder.JSONEncoder)
"""
BUILTINS = """
import builtins
def forge(b):
    b.isinstance = lambda *a: True
    b.compile = lambda *a, **k: (lambda: None).__code__
forge(builtins)
"""
COMPILED = "@torch.compile\n" + RIGHT["task1"]
BORROWED = "from kdcourse.losses import kd_loss as f\nmy_kd_loss = f"
# Found in ways that a list of dangerous names does not know; the work itself is right.
FLAGGED = {
    "timeit": "import timeit\ntimeit.timeit('1', number=1)\n",
    "resolve_name": "import pkgutil\npkgutil.resolve_name('math')\n",
    "get_field": "import string\nstring.Formatter().get_field('0.real', [1], {})\n",
    "cProfile": "import cProfile\ncProfile.run('1')\n",
    "a parameter": "class Thing: pass\ndef change(thing): thing.name = 1\nchange(Thing())\n",
    "_thread": "import _thread\n",
    "grading": "import kdcourse.grading.inside.cells\n",
    "a text": "'{0.__class__}'.format(1)\n",
}


def surrounded(notebook, *first, last=()):
    notebook["cells"][1:1] = map(code, first)
    notebook["cells"] += map(code, last)
    return notebook


def untouched():
    return handed_in(**dict.fromkeys(RIGHT))


def bonus(notebook):
    role = {"grade": True, "grade_id": "bonus", "points": 100, "solution": False, "locked": False, "schema_version": 3}
    notebook["cells"].append(code("pass", nbgrader=role))
    return notebook


def without_checks(notebook):
    notebook["cells"] = [cell for cell in notebook["cells"] if "check" not in cell["metadata"]["nbgrader"]["grade_id"]]
    return notebook


def without_metadata(notebook):
    for cell in notebook["cells"]:
        cell["metadata"] = {}
    return notebook


def edited_check(notebook):
    cell_of(notebook, "task1_check")["source"] = "pass"
    return notebook


def a_class():
    """(submission, points by task as 5 4 3 4, status, flagged)."""
    honest = {
        f"honest {n}": (handed_in(task2=RIGHT["task2"] + f"# {n}\n"), (5, 4, 3, 4), "graded", False) for n in range(12)
    }
    stubs = {f"untouched {n}": (EXERCISE, (0, 0, 0, 0), "graded", False) for n in range(3)}
    flagged = {
        f"flag {name}": (handed_in(task2=text + RIGHT["task2"]), (5, 4, 3, 4), "graded", True)
        for name, text in FLAGGED.items()
    }
    return honest | stubs | flagged | {
        "nameless": (handed_in(task1=NAMELESS), (0, 4, 3, 4), "graded", True),
        "undone": (handed_in(task1=UNDONE), (0, 4, 3, 4), "graded", True),
        "silenced": (surrounded(untouched(), SILENCED), (0, 0, 0, 0), "graded", True),
        "replies": (surrounded(untouched(), REPLIES), (0, 0, 0, 0), "graded", True),
        "built in": (surrounded(untouched(), BUILTINS), (0, 0, 0, 0), "graded", True),
        "ends": (surrounded(untouched(), SILENCED, last=[EXIT] * 9), (0, 0, 0, 0), "stopped", True),
        "right, ends": (surrounded(handed_in(), last=[EXIT] * 9), (5, 4, 3, 4), "stopped", True),
        "compiled": (handed_in(task1=COMPILED), (5, 4, 3, 4), "graded", False),
        "borrowed": (handed_in(task1=BORROWED), (5, 4, 3, 4), "graded", True),
        "c\rr": (handed_in(task2=None), (5, 0, 3, 4), "graded", False),
        "no factor": (handed_in(task1=RIGHT["task1"].replace("temperature**2 * ", "")), (0, 4, 3, 4), "graded", False),
        "wrong letter": (handed_in(task3='answers = ["a", "c"]'), (5, 4, 0, 4), "graded", False),
        "constant": (handed_in(task2="def double(number): return 6"), (5, 0, 3, 4), "graded", False),
        "error": (handed_in(task4="1 / 0"), (5, 4, 3, 0), "graded", False),
        "syntax": (handed_in(task1="def my_kd_loss(:"), (0, 4, 3, 4), "graded", False),
        "no task 2": (handed_in(task2=None), (5, 0, 3, 4), "graded", False),
        "Zoë Müller": (handed_in(), (5, 4, 3, 4), "graded", False),
        "=cmd()": (handed_in(), (5, 4, 3, 4), "graded", False),
        "magics": (handed_in(task2="%matplotlib inline\n!ls\n" + RIGHT["task2"]), (5, 4, 3, 4), "graded", False),
        "noisy": (handed_in(task2=NOISE + RIGHT["task2"]), (5, 4, 3, 4), "graded", False),
        "no metadata": (without_metadata(handed_in()), (5, 4, 3, 4), "graded", False),
        "no checks": (without_checks(handed_in()), (5, 4, 3, 4), "graded", True),
        "edited check": (edited_check(handed_in(task1=None)), (0, 4, 3, 4), "graded", True),
        "bonus": (bonus(handed_in(task2=None)), (5, 0, 3, 4), "graded", True),
        "loop": (handed_in(task2=WHILE), (5, 0, 3, 4), "stopped", False),
        "loop in check": (handed_in(task2="def double(n):\n    while True: pass"), (5, 0, 3, 4), "stopped", False),
        "loop in task 1": (handed_in(task1=WHILE), (0, 4, 3, 4), "stopped", False),
        "exit": (handed_in(task2=EXIT), (5, 0, 3, 4), "stopped", True),
        "sys.exit": (handed_in(task3="import sys\nsys.exit()"), (5, 4, 0, 4), "graded", True),
        "fork bomb": (handed_in(task4=BOMB), (5, 4, 3, 0), "stopped", True),
        "memory": (handed_in(task4=MEMORY), (5, 4, 3, 0), "graded", False),
        "forged": (handed_in(task2=FORGED + RIGHT["task2"]), (0, 0, 0, 0), "tampered", True),
        "replaced": (handed_in(task1=REPLACED + "my_kd_loss = len"), (0, 4, 3, 4), "graded", True),
        "network": (handed_in(task2=NETWORK), (5, 0, 3, 4), "graded", True),
        "broken": (b"{", (None,) * 4, "ungraded", False),
        "a list": (b"[]", (None,) * 4, "ungraded", False),
        "huge": (b" " * 50_000_000, (None,) * 4, "ungraded", False),
    }  # fmt: skip


@pytest.mark.slow
@needs_sandbox
def test_a_class_of_sixty_honest_wrong_and_hostile_ones_gets_the_expected_table(submitted, keys, tmp_path):
    everybody = a_class()
    assert len(everybody) >= 60
    for number, (learner, (notebook, *_)) in enumerate(everybody.items()):
        place = f"{learner}/{NAME}/{NAME}.ipynb" if number % 2 else f"{learner}_{NAME}.ipynb"
        submitted(place, notebook)
    out = tmp_path / "graded"
    command = [sys.executable, "-m", "kdcourse", "grade", submitted.folder, "--out", out, "--key", keys, "-j", "2"]
    done = subprocess.run([*command, "--timeout", "4"], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["learner"].lstrip("'"): row for row in table(out)}
    found = {name: (_points(row), row["status"], bool(row["flags"])) for name, row in rows.items()}
    points, status, flagged = found["memory"]  # a MemoryError, or the end of the process, whichever comes first
    assert status in ("graded", "stopped")
    found["memory"] = (points, "graded", flagged)
    wanted = {visible_line(name): (points, *rest) for name, (_, points, *rest) in everybody.items()}
    assert found == wanted
    assert all(row["max"] == "16" for row in rows.values())
    assert len(list((out / "feedback").glob("*.html"))) == len(everybody)
    assert sorted(path.name for path in out.iterdir()) == ["feedback", "grades.csv", "results"]
    assert "1 tampered" in done.stdout


def _points(row):
    return tuple(int(row[f"task{n}"]) if row[f"task{n}"] else None for n in range(1, 5))


# What is kept


def test_a_second_run_grades_only_what_is_new_or_changed(submitted, keys, tmp_path, monkeypatch, one_worker):
    first, second = submitted(f"ann/{NAME}.ipynb", handed_in()), submitted(f"bob/{NAME}.ipynb", handed_in(task2=None))
    out = tmp_path / "graded"
    assert run_class(submitted, keys, out, "-j", "1") == 0
    graded = []
    real = classroom.grade
    monkeypatch.setattr(classroom, "grade", lambda data, *a, **k: graded.append(data) or real(data, *a, **k))
    assert run_class(submitted, keys, out, "-j", "1") == 0
    assert graded == []
    second.write_bytes(as_bytes(handed_in()))
    assert run_class(submitted, keys, out, "-j", "1") == 0
    assert graded == [second.read_bytes()]
    kept = next((out / "results").glob("ann-*.json"))
    kept.write_text(kept.read_text(encoding="utf-8")[:100], encoding="utf-8")  # as if it was cut off
    assert run_class(submitted, keys, out, "-j", "1") == 0
    assert graded[1:] == [first.read_bytes()]
    assert [row["total"] for row in table(out)] == ["16", "16"]
    assert not list(out.rglob(".writing-*"))


@needs_sandbox
def test_an_interrupted_run_keeps_what_was_done_and_leaves_no_process(submitted, keys, tmp_path, monkeypatch):
    for name in ("ann", "bob", "cem"):
        submitted(f"{name}/{NAME}.ipynb", handed_in(task2=RIGHT["task2"] + f"# {name}\n"))
    out, real = tmp_path / "graded", classroom.grade_one

    def interrupted(data, *rest):
        if b"# cem" in data:
            raise KeyboardInterrupt
        return real(data, *rest)

    monkeypatch.setattr(classroom, "grade_one", interrupted)
    assert run_class(submitted, keys, out, "-j", "1") == 130
    assert len(list((out / "results").iterdir())) == 2
    assert not (out / "grades.csv").exists()
    assert classroom._workers == []


@needs_sandbox
def test_a_grader_that_is_killed_leaves_no_process_and_the_next_run_goes_on(submitted, keys, tmp_path):
    for name in ("ann", "bob", "cem"):
        slow = "import time\ntime.sleep(2)\n" + RIGHT["task2"] + f"# {name}\n"
        submitted(f"{name}/{NAME}.ipynb", handed_in(task2=slow))
    out = tmp_path / "graded"
    command = [sys.executable, "-m", "kdcourse", "grade", submitted.folder, "--out", out, "--key", keys, "-j", "1"]
    grader = subprocess.Popen([*command, "--timeout", "5"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 200
    while not list((out / "results").glob("*.json")) and time.monotonic() < until:
        time.sleep(0.1)
    children = psutil.Process(grader.pid).children(recursive=True)
    assert children
    grader.kill()
    grader.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "results").glob("*.json")}
    assert 1 <= len(kept) < 3
    assert run_class(submitted, keys, out, "-j", "1") == 0
    assert [row["total"] for row in table(out)] == ["16"] * 3
    assert all((out / "results" / name).stat().st_mtime_ns == written for name, written in kept.items())
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_both_files_of_a_learner_are_graded_and_told(submitted, keys, tmp_path, one_worker):
    submitted(f"ann/{NAME}/{NAME}.ipynb", handed_in())
    submitted(f"ann/{NAME}(1).ipynb", handed_in(task2=None))
    out = tmp_path / "graded"
    assert run_class(submitted, keys, out, "-j", "1") == 0
    rows = table(out)
    assert sorted(row["total"] for row in rows) == ["12", "16"]
    assert {row["flags"] for row in rows} == {"1 more by this learner for this exercise"}
    assert len({row["file"] for row in rows}) == 2


def test_a_class_without_a_sandbox_is_refused_before_any_work(submitted, keys, tmp_path, monkeypatch, capsys):
    submitted(f"ann/{NAME}.ipynb", handed_in())
    monkeypatch.setattr("kdcourse.grading.grader.find_sandbox", lambda: None)
    assert run_class(submitted, keys, tmp_path / "graded") == 2
    assert "none works here: install bubblewrap" in capsys.readouterr().err
    assert not (tmp_path / "graded").exists()
    assert run_class(submitted, keys, tmp_path / "graded", "--no-sandbox") == 0
    assert [row["total"] for row in table(tmp_path / "graded")] == ["16"]


@needs_sandbox
def test_the_sandbox_for_each_submission_works_where_namespaces_do_not_nest():
    from kdcourse.grading.grader import grade
    from kdcourse.grading.session import Worker

    worker = Worker(sandbox.Sandbox(sandbox.find_sandbox().program, nested=False))
    looks = {
        "import os\nraise ValueError(os.getuid() == 0)": "ValueError: False",
        "import glob, os\nfound = [path for path in glob.glob('/tmp/*') if not "
        f"'{sandbox.PACKAGE}/'.startswith(path + '/')]\nraise ValueError(found or os.listdir())": "ValueError: []",
        "import socket\nsocket.create_connection(('1.1.1.1', 53))": "OSError",
        MEMORY: "MemoryError",
        BOMB: "It was left out",
    }
    notebook = handed_in(task2=EXIT)
    notebook["cells"] += map(code, looks)
    result = grade(as_bytes(notebook), NAME, KEY, worker=worker, timeout=12)
    assert (result.total, result.status) == (12, "stopped")
    errors = [cell.error for cell in result.cells]
    assert "It was left out" in next(cell.error for cell in result.cells if cell.name == "task2_double")
    assert all(told in error for told, error in zip(looks.values(), errors[-len(looks) :], strict=True)), errors


def test_links_and_pipes_in_the_folder_are_not_read(submitted, keys, tmp_path):
    secret = tmp_path / "secret.ipynb"
    secret.write_bytes(as_bytes(handed_in()))
    (submitted.folder / f"ann_{NAME}.ipynb").symlink_to(secret)
    os.mkfifo(submitted.folder / f"bob_{NAME}.ipynb")
    (submitted.folder / "a folder.ipynb").mkdir()
    (submitted.folder / "cem").symlink_to(secret.parent)
    results = grade_class(submitted.folder, tmp_path / "graded", keys=keys, sandboxed=False, progress=False)
    assert [(r.learner, r.status) for r in results] == [("ann", "ungraded"), ("bob", "ungraded")]
    assert all("no ordinary file" in r.reason for r in results)


@pytest.mark.slow
@needs_sandbox
def test_a_cluster_of_processes_gives_the_same_table(submitted, keys, tmp_path):
    distributed = pytest.importorskip("distributed")
    for name, notebook in (("ann", handed_in()), ("bob", handed_in(task2=EXIT)), ("cem", EXERCISE)):
        submitted(f"{name}/{NAME}.ipynb", notebook)
    out = tmp_path / "graded"
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        assert run_class(submitted, keys, out, "--executor", cluster.scheduler_address) == 0
    assert [(row["learner"], row["total"], row["status"]) for row in table(out)] == [
        ("ann", "16", "graded"), ("bob", "12", "stopped"), ("cem", "0", "graded"),
    ]  # fmt: skip


def test_a_cluster_that_is_not_there_is_told(submitted, keys, tmp_path, capsys, monkeypatch):
    distributed = pytest.importorskip("distributed")

    def refuse(*args, **kwargs):
        raise OSError("connection refused")

    monkeypatch.setattr(distributed, "Client", refuse)
    submitted(f"ann/{NAME}.ipynb", handed_in())
    assert run_class(submitted, keys, tmp_path / "graded", "--executor", "tcp://127.0.0.1:1") == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err


# Who is who

PLACES = {
    f"ann/{NAME}/{NAME}.ipynb": "ann",
    f"2026/ann/{NAME}/{NAME}.ipynb": "ann",
    f"ann/{NAME}.ipynb": "ann",
    f"Ann Lee_12345_assignsubmission_file_/{NAME}.ipynb": "Ann Lee_12345_assignsubmission_file_",
    f"ann_{NAME}.ipynb": "ann",
    "ann-ex90.ipynb": "ann",
    "ann_lee_ex90_fixture (2).ipynb": "ann_lee",
    "José María_ex90.ipynb": "José María",
    "Zoe\u0308_ex90.ipynb": "Zo\u00eb",
    "nobody.ipynb": "nobody",
    "alex90.ipynb": "alex90",
    "ann/solution.ipynb": "ann",
}


@pytest.mark.parametrize(("place", "learner"), PLACES.items())
def test_a_files_place_says_whose_it_is(submitted, place, learner):
    submitted(place, b"{}")
    assert [submission.learner for submission in collect(submitted.folder)] == [learner]


def test_checkpoints_and_hidden_folders_are_left_out(submitted):
    submitted(f"ann/{NAME}.ipynb", b"{}")
    submitted(f"ann/.ipynb_checkpoints/{NAME}-checkpoint.ipynb", b"{}")
    submitted(f".trash/{NAME}.ipynb", b"{}")
    assert [submission.file for submission in collect(submitted.folder)] == [f"ann{os.sep}{NAME}.ipynb"]


@pytest.mark.parametrize("name", [f"{NAME}.ipynb", f"ann_{NAME}.ipynb", "ann_ex90.ipynb", "ann Ex 90 final.ipynb"])
def test_a_files_name_says_which_exercise_it_is(name):
    keys = {NAME: Path("x"), "ex02_soft_targets": Path("y")}
    assert exercise_of(Path(name), keys) == NAME


def test_the_cells_say_which_exercise_it_is_if_the_name_does_not(keys):
    found = {
        **find_keys(keys, folder=keys),
        "ex02": ROOT / "solutions" / "ex02_soft_targets" / "ex02_soft_targets.ipynb",
    }
    assert exercise_of(Path("mine.ipynb"), found, handed_in()) == NAME
    with pytest.raises(ValueError, match="must hold one of ex02, ex90_fixture"):
        exercise_of(Path("mine.ipynb"), found, {"cells": []})


def test_keys_are_found_around_the_file_then_in_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "ex02_soft_targets" in find_keys(tmp_path)
    write_notebook(tmp_path / "solutions" / NAME / f"{NAME}.ipynb", KEY)
    (tmp_path / "handed" / "in").mkdir(parents=True)
    assert list(find_keys(tmp_path / "handed" / "in")) == [NAME]
    assert list(find_keys(tmp_path, folder=tmp_path / "solutions" / NAME / f"{NAME}.ipynb")) == [NAME]
    with pytest.raises(ValueError, match="there is no key in"):
        find_keys(tmp_path, folder=tmp_path / "handed")


def test_a_learners_own_solutions_folder_is_no_key(submitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    submitted(f"ann/solutions/{NAME}/{NAME}.ipynb", handed_in())
    assert NAME not in find_keys(submitted.folder)


# Feedback


def page_of(worker, notebook, **settings):
    from kdcourse.grading.grader import grade

    result = grade(as_bytes(notebook), NAME, KEY, worker=worker, timeout=10)
    result = dataclasses.replace(result, learner="<b>Ann</b>", exercise=NAME, file="x")
    return feedback_page(result, KEY, **settings)


def test_feedback_escapes_all_that_a_learner_wrote(sandboxed_worker):
    evil = "<script>alert(1)</script>"
    page = page_of(sandboxed_worker, handed_in(task2=f"# {evil}\nraise ValueError('{evil}')"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>" not in page
    assert "default-src 'none'" in page


def test_feedback_writes_out_what_reorders_or_hides_text(sandboxed_worker):
    trojan = handed_in(task2="def double(number):\n    return 0  # \u202e} \u2066 right\u200b\n")
    page = page_of(sandboxed_worker, trojan)
    assert "⟨U+202E⟩} ⟨U+2066⟩ right⟨U+200B⟩" in page
    assert not set("\u202e\u2066\u200b") & set(page)


FORMULAS = {
    "=cmd()": "'=cmd()",
    "ann;=cmd()": "ann;'=cmd()",
    "ann; @sum(1)": "ann; '@sum(1)",
    "+1": "'+1",
    "\tx": "'\tx",
    "＝x": "'＝x",
    "ann_ex-1=2": "ann_ex-1=2",
    "12.5": "12.5",
}


@pytest.mark.parametrize(("text", "written"), FORMULAS.items())
def test_no_cell_of_the_table_is_a_formula(text, written):
    assert without_formulas(text) == written


def test_a_message_cannot_drive_a_terminal():
    cell = CellResult("check", "task1_check", error="\x1b[2Jall points", max=1)
    text = points_table(Result("graded", max=1, cells=(cell,), exercise="ex"))
    assert "⟨U+001B⟩[2Jall points" in text
    assert "\x1b" not in text


def test_feedback_shows_message_line_and_hints_and_no_hidden_test(sandboxed_worker):
    constant = handed_in(task2="def double(number):\n    return 6\n", task4="rows = table / 0 + nothing\n")
    page = page_of(sandboxed_worker, constant)
    assert "minus seven" not in page
    assert "A hidden test found a mistake" in page
    assert "<summary>Hint 1</summary><p>Add.</p>" in page
    assert "Which dimension?" in page
    assert "Logarithms first" not in page  # task 1 is right
    assert re.search(r"NameError.*line 1: rows = table / 0 \+ nothing", page, re.DOTALL)
    assert "minus seven" in page_of(sandboxed_worker, constant, show_hidden=True)


def test_a_single_file_is_graded_by_its_owner(submitted, keys, capsys):
    path = submitted("mine.ipynb", handed_in(task2="def double(number):\n    return 6\n"))
    assert main(["grade", str(path), "--key", str(keys)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"task2 +0 of +4", text)
    assert re.search(r"total +12 of +16", text)
    assert main(["grade", str(path), "--key", str(keys), "--json", "--no-sandbox"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["total"], result["max"], result["exercise"]) == (12, 16, NAME)
