"""Submissions that are odd, broken or come from another editor: honest work keeps its points."""

import contextlib
import copy
import gzip
import json
import os
import sys
import time
import tracemalloc

import pytest
from grading_fixture import EXERCISE, KEY, NAME, POINTS, RIGHT, as_bytes, cell_of, code, handed_in, points

from kdcourse.grading.grader import grade, make_worker
from kdcourse.grading.inside.cells import plain_python
from kdcourse.grading.notebooks import LARGEST, parse_notebook
from kdcourse.grading.overlay import answers_of, assigned, imports_of, lay_over
from kdcourse.grading.result_files import digest_of
from kdcourse.grading.sandbox import find_sandbox


def graded(worker, notebook):
    data = notebook if isinstance(notebook, bytes) else as_bytes(notebook)
    return grade(data, f"{NAME}.ipynb", KEY, worker=worker, timeout=20)


def all_points(result):
    assert points(result) == POINTS, [(cell.name, cell.error) for cell in result.cells if cell.error]
    assert (result.total, result.max, result.status) == (16, 16, "graded")
    return list(result.flags)


# What became of cells and metadata


def test_points_that_were_edited_change_nothing(sandboxed_worker):
    notebook = handed_in(task2=None)
    cell_of(notebook, "task2_check")["metadata"]["nbgrader"]["points"] = 100
    cell_of(notebook, "task1_check")["metadata"]["nbgrader"]["points"] = 1000
    result = graded(sandboxed_worker, notebook)
    assert (result.total, result.max) == (12, 16)
    assert "the points of task1_check were edited: the key's were used" in result.flags


def test_checks_that_were_edited_are_the_keys_again(sandboxed_worker):
    notebook = handed_in(task2=None)
    cell_of(notebook, "task2_check")["source"] = "pass"
    result = graded(sandboxed_worker, notebook)
    assert points(result) == {**POINTS, "task2": 0}
    assert result.flags == ("task2_check was edited: the key's was used",)


def test_checks_that_were_deleted_are_put_back(sandboxed_worker):
    notebook = handed_in()
    notebook["cells"] = [cell for cell in notebook["cells"] if "check" not in cell["metadata"]["nbgrader"]["grade_id"]]
    assert len(all_points(graded(sandboxed_worker, notebook))) == 4


def test_a_task_that_was_deleted_loses_its_points_only(sandboxed_worker):
    notebook = handed_in()
    gone = cell_of(notebook, "task2_double")
    notebook["cells"].remove(gone)
    result = graded(sandboxed_worker, notebook)
    assert points(result) == {**POINTS, "task2": 0}
    assert "task2_double was missing: put back from the key" in result.flags


@pytest.mark.parametrize("name", ["task1_kd_loss", "task1_check", "setup", "task3_answers", "task4_table"])
def test_a_cell_pasted_twice_changes_nothing(sandboxed_worker, name):
    notebook = handed_in()
    at = notebook["cells"].index(cell_of(notebook, name))
    notebook["cells"].insert(at, copy.deepcopy(notebook["cells"][at]))
    assert all_points(graded(sandboxed_worker, notebook)) == [f"{name} is there 2 times"]


def test_the_stub_pasted_below_the_answer_changes_nothing(sandboxed_worker):
    notebook = handed_in()
    notebook["cells"].append(copy.deepcopy(cell_of(EXERCISE, "task1_kd_loss")))
    assert all_points(graded(sandboxed_worker, notebook)) == ["task1_kd_loss is there 2 times"]


def test_a_solution_split_in_two_runs_as_one(sandboxed_worker):
    notebook = handed_in(task2="factor = 2\n")
    second = copy.deepcopy(cell_of(notebook, "task2_double"))
    second["source"] = "def double(number):\n    return factor * number\n"
    notebook["cells"].insert(notebook["cells"].index(cell_of(notebook, "task2_double")) + 1, second)
    all_points(graded(sandboxed_worker, notebook))


def no_metadata(cell):
    cell["metadata"] = {}


def no_names(cell):
    cell["metadata"] = {}
    cell.pop("id", None)


def colabs(cell):
    cell["metadata"] = {"id": cell.pop("id", "")}


def rubbish(cell):
    cell["metadata"] = {"nbgrader": ["not", "a", "dict"], "tags": 5}
    cell["id"] = 7


@pytest.mark.parametrize("lose", [no_metadata, no_names, colabs, rubbish])
def test_work_without_its_metadata_is_graded_by_names_and_by_what_it_defines(sandboxed_worker, lose):
    notebook = handed_in()
    for cell in notebook["cells"]:
        lose(cell)
    all_points(graded(sandboxed_worker, notebook))
    untouched = copy.deepcopy(EXERCISE)
    for cell in untouched["cells"]:
        lose(cell)
    assert graded(sandboxed_worker, untouched).total == 0


def test_a_solution_in_a_markdown_cell_counts_and_is_told(sandboxed_worker):
    notebook = handed_in()
    cell_of(notebook, "task2_double")["cell_type"] = "markdown"
    assert all_points(graded(sandboxed_worker, notebook)) == ["task2_double was no code cell any more: run as code"]


def test_a_cell_that_the_learner_marked_as_graded_changes_nothing(sandboxed_worker):
    role = {"grade": True, "grade_id": "bonus", "points": 100, "solution": False, "locked": False, "schema_version": 3}
    notebook = handed_in(task2=None)
    notebook["cells"].append(code("print('I pass')", nbgrader=role))
    result = graded(sandboxed_worker, notebook)
    assert (result.total, result.max) == (12, 16)
    assert result.flags == ("a cell marked as graded that the key does not have (1)",)


def test_cells_of_ones_own_run_where_they_stand(sandboxed_worker):
    notebook = handed_in(task2="def double(number):\n    return helper(number)\n")
    notebook["cells"].insert(6, code("def helper(number):\n    return 2 * number\n"))
    notebook["cells"].insert(0, code("import math\nfirst = math.pi"))
    notebook["cells"].append(code("1 / 0"))
    assert all_points(graded(sandboxed_worker, notebook)) == []


def test_a_name_of_a_locked_cell_used_for_something_else_does_no_harm(sandboxed_worker):
    shadow = 'table = "my own"\ntorch = 5\ncheck_picture = 7\n'
    notebook = handed_in(task4=RIGHT["task4"] + shadow)
    all_points(graded(sandboxed_worker, notebook))


# Jupyter's own syntax, and what a plain Python process has not got


@pytest.mark.parametrize(
    "text",
    [
        "%matplotlib inline\n" + RIGHT["task2"],
        "!pip install torch\n" + RIGHT["task2"],
        "%%time\n" + RIGHT["task2"],
        "%%capture output\n%%time\n" + RIGHT["task2"],
        "def double(number):\n    %time x = 2 * number\n    return x\n",
        "files = !ls\nx = %time 2\n" + RIGHT["task2"],
        "double?\n" + RIGHT["task2"],
        "get_ipython().run_line_magic('matplotlib', 'inline')\ndisplay(5)\n" + RIGHT["task2"],
        "import asyncio\nawait asyncio.sleep(0)\n" + RIGHT["task2"],
        "import warnings, sys\nwarnings.warn('careful')\nprint('x', file=sys.stderr)\n" + RIGHT["task2"],
        "from IPython.display import display, HTML\ndisplay(HTML('<b>x</b>'))\n" + RIGHT["task2"],
        'text = """\n%not magic\n!neither\n"""\nassert "%not" in text and "!neither" in text\n' + RIGHT["task2"],
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n" + RIGHT["task2"],
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 2\n" + RIGHT["task2"],
        "import inspect, pickle\n" + RIGHT["task2"] + "inspect.getsource(double)\npickle.dumps(double)\n",
    ],
)  # fmt: skip
def test_what_jupyter_runs_is_run(sandboxed_worker, text):
    all_points(graded(sandboxed_worker, handed_in(task2=text)))


@pytest.mark.parametrize(
    "text", ["%%writefile x.py\nprint(1)", "%%bash\nls", "input('name? ')", "await nothing", "x ="]
)
def test_what_cannot_run_costs_its_task(sandboxed_worker, text):
    assert points(graded(sandboxed_worker, handed_in(task2=text))) == {**POINTS, "task2": 0}


def test_plain_python_keeps_the_numbers_of_lines():
    assert plain_python("%%time\nx = 1").split("\n")[1] == "x = 1"
    assert plain_python("a = 1\n%cd x\n!ls\nb = 2").split("\n") == ["a = 1", "pass", "pass", "b = 2"]


def test_an_error_is_told_with_its_line(sandboxed_worker):
    result = graded(sandboxed_worker, handed_in(task2="x = 1\ndef double(number):\n    return number / 0\n\ndouble(1)"))
    error = next(cell for cell in result.cells if cell.name == "task2_double").error
    assert error == "ZeroDivisionError: division by zero\n  line 3: return number / 0"


# Notebooks that claim something


def claims_points(notebook):
    for cell in notebook["cells"]:
        cell["metadata"].setdefault("nbgrader", {}).update(points=1000, grade=True, checksum="0", score=1000)
        cell["metadata"]["kdcourse_asks"] = []
    notebook["metadata"].update(nbgrader={"total": 1000}, kdcourse={"total": 1000, "status": "graded", "seal": "0"})


def same_ids(notebook):
    for cell in notebook["cells"]:
        cell["id"] = "task1_kd_loss"


def same_names(notebook):
    for cell in notebook["cells"]:
        cell["metadata"].setdefault("nbgrader", {})["grade_id"] = "task1_check"


def checks_are_solutions(notebook):
    for cell in notebook["cells"]:
        cell["metadata"].setdefault("nbgrader", {}).update(solution=True, grade=False, locked=False)


def answers_are_checks(notebook):
    for name in ("task1_kd_loss", "task2_double"):
        cell_of(notebook, name)["metadata"]["nbgrader"]["grade_id"] = name.replace("kd_loss", "check").replace(
            "double", "check"
        )


def another_format(notebook):
    notebook.update(nbformat="four", nbformat_minor=[99], metadata={"kernelspec": {"language": "R"}})


def graded_before(notebook):
    """As `nbgrader autograde` leaves it, with outputs and scores."""
    for cell in notebook["cells"]:
        cell["metadata"].setdefault("nbgrader", {})["schema_version"] = 99
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "Passed. 5 of 5 points."}]


CLAIMS = (claims_points, same_ids, same_names, checks_are_solutions, answers_are_checks, another_format, graded_before)


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_a_notebook_says_of_itself_gives_nothing(sandboxed_worker, claim):
    untouched = copy.deepcopy(EXERCISE)
    claim(untouched)
    result = graded(sandboxed_worker, untouched)
    assert (result.total, result.max, result.status) == (0, 16, "graded")
    half = handed_in(task1=None, task3=None)
    claim(half)
    assert graded(sandboxed_worker, half).total <= 8


@pytest.mark.parametrize("claim", [claims_points, same_ids, checks_are_solutions, another_format, graded_before])
def test_right_work_that_says_odd_things_of_itself_keeps_its_points(sandboxed_worker, claim):
    notebook = handed_in()
    claim(notebook)
    all_points(graded(sandboxed_worker, notebook))


def test_names_of_two_answers_that_were_swapped_cost_nothing(sandboxed_worker):
    notebook = handed_in()
    one, other = cell_of(notebook, "task1_kd_loss"), cell_of(notebook, "task2_double")
    one["source"], other["source"] = other["source"], one["source"]
    flags = all_points(graded(sandboxed_worker, notebook))
    assert any("another name" in flag for flag in flags), flags


MAGICS = """
%run other.ipynb
%load_ext autoreload
%autoreload 2
%pip install kdcourse
!kdcourse grade . > points.txt
%store -r
%%timeit
"""


def test_magics_run_nothing_and_hide_nothing_from_the_flags(sandboxed_worker):
    flags = all_points(graded(sandboxed_worker, handed_in(task2=f"%%time\n%%capture\nimport os\n{RIGHT['task2']}")))
    assert flags == ["imports os"]
    notebook = handed_in(task2=MAGICS + RIGHT["task2"])
    notebook["cells"].append(code("%%writefile kdcourse.py\nimport os"))
    assert all_points(graded(sandboxed_worker, notebook)) == []


# Files


BOMBS = {
    "a gzip bomb": lambda: gzip.compress(bytes(2_000_000_000 // 400)),
    "a zip with a notebook in it": lambda: b"PK\x03\x04" + bytes(1000),
    "three million empty cells": lambda: b'{"cells":[' + b"{}," * 3_300_000 + b"{}]}",
    "a million deep": lambda: b'{"a":' * 1_000_000,
    "a number of nine million digits": lambda: b'{"cells": [0.' + b"1" * 9_000_000 + b"]}",
    "one key, a million times": lambda: b"{" + b'"cells":[],' * 800_000 + b'"cells":5}',
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_read_in_seconds_and_in_little_memory(make):
    data = make()
    start = time.process_time()
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            lay_over(parse_notebook(data, "x"), KEY)
        assert tracemalloc.get_traced_memory()[1] < 800_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "JSON is broken"),
        (b"{", "JSON is broken"),
        (b"[]", "no list of cells"),
        (b"{}", "no list of cells"),
        (b'{"cells": 5}', "no list of cells"),
        (b"5", "no list of cells"),
        (b"\xff\xfe\x00", "JSON is broken"),
        (b"[" * 200_000, "JSON is broken"),
        (b'{"worksheets": [{"cells": []}]}', "no list of cells"),
        (b'{"cells": [' + b'{"cell_type": "code", "source": "1"},' * 1000 + b"{}]}", "more than 400 cells"),
        (b'{"cells": [{"cell_type": "code", "source": "' + b"x" * 60_000 + b'"}]}', "of more than 50,000 characters"),
    ],
)
def test_what_is_no_notebook_gets_no_grade_and_a_reason(sandboxed_worker, data, told):
    result = graded(sandboxed_worker, data)
    assert (result.status, result.total, result.max) == ("ungraded", 0, 16)
    assert told in result.reason


@pytest.mark.parametrize(
    "cells",
    [
        b"[]",
        b"[5, null, []]",
        b'[{"cell_type": 5, "source": {"a": 1}, "metadata": []}]',
        b'[{"source": [1, "x", null]}]',
        b'[{"cell_type": "code", "source": ["a", "b"], "metadata": null, "outputs": NaN}]',
        b'[{"cell_type": "code", "source": "x", "metadata": {"nbgrader": {"grade_id": ["a"], "points": "many"}}}]',
        b'[{"cell_type": "code", "metadata": {"nbgrader": {"grade_id": "task1_check", "grade": 1, "points": 1e999}}}]',
        b'[{"cell_type": "code", "metadata": {"nbgrader": {"grade_id": "task1_check", "grade": 1, "points": [1]}}}]',
    ],
)  # fmt: skip
def test_a_notebook_of_rubbish_gets_no_points(sandboxed_worker, cells):
    result = graded(sandboxed_worker, b'{"cells": ' + cells + b"}")
    assert (result.status, result.total, result.max) == ("graded", 0, 16)


def test_numbers_that_json_should_not_hold_are_no_trouble(sandboxed_worker):
    text = as_bytes(handed_in()).decode()
    for number in ("NaN", "Infinity", "1" * 5_000, "-" + "9" * 100, "1e999"):
        changed = text.replace('"nbformat_minor": 5', f'"nbformat_minor": 5, "odd": {number}').encode()
        assert changed != text.encode()
        all_points(graded(sandboxed_worker, changed))


def test_a_notebook_too_large_to_read_says_how_to_make_it_smaller(tmp_path):
    from kdcourse.grading.notebooks import read_notebook

    path = tmp_path / "big.ipynb"
    with path.open("wb") as file:
        file.truncate(LARGEST * 5)
    with pytest.raises(ValueError, match=r"more than 10 MB\. Clear its outputs"):
        read_notebook(path)


def test_half_a_surrogate_pair_in_code_costs_its_task_and_breaks_nothing(sandboxed_worker):
    data = as_bytes(handed_in(task2='x = "@@"\n' + RIGHT["task2"])).replace(b"@@", b"\\ud800")
    result = graded(sandboxed_worker, data)
    json.dumps(result.as_json(), ensure_ascii=False).encode()
    raised = graded(sandboxed_worker, handed_in(task2="raise ValueError(chr(0xD800) + chr(0xDFFF))"))
    json.dumps(raised.as_json(), ensure_ascii=False).encode()
    assert points(raised) == {**POINTS, "task2": 0}


def test_windows_line_ends_and_a_byte_order_mark_are_fine(sandboxed_worker):
    all_points(graded(sandboxed_worker, b"\xef\xbb\xbf" + as_bytes(handed_in()).replace(b"\n", b"\r\n")))


# The plan


def test_the_plan_takes_locked_cells_and_checks_from_the_key_in_its_order():
    notebook = handed_in()
    notebook["cells"].reverse()
    names = [step.name for step in lay_over(notebook, KEY).steps]
    assert names == [step.name for step in lay_over(KEY, KEY).steps]


def test_a_check_is_sent_in_parts_so_that_hidden_tests_come_last():
    steps = {step.name: step for step in lay_over(handed_in(), KEY).steps}
    assert [hidden for _, hidden in steps["task2_check"].parts] == [False, True]
    assert "minus seven" not in steps["task2_check"].parts[0][0]


def test_names_are_read_off_without_parsing():
    text = (
        "a = 1\nb: int = 2\nc, d = 3, 4\ndef e(): pass\nclass F: x = 1\nasync def g(): pass\nh == 5\n  i = 1\nj.k = 1"
    )
    assert assigned(text) == {"a", "b", "c", "d", "e", "F", "g"}


def test_imports_and_answers_of_a_key():
    assert "from kdcourse.checks import check_kd_loss, check_picture" in imports_of(KEY)
    assert answers_of(KEY) == ["answers", "double", "my_kd_loss", "rows"]


def test_a_result_is_kept_under_all_that_it_depends_on():
    data = as_bytes(handed_in())
    same = digest_of(data, KEY, timeout=60)
    assert digest_of(data, KEY, timeout=60) == same
    other = copy.deepcopy(KEY)
    other["cells"][-1]["source"] += "\n"
    others = [(data + b" ", KEY, 60), (data, KEY, 6), (data, other, 60)]
    marks = {digest_of(changed, key, timeout=timeout) for changed, key, timeout in others}
    assert len(marks | {same}) == 4


def test_a_plain_process_gives_the_same_points_where_there_is_no_sandbox(plain_worker):
    assert graded(plain_worker, EXERCISE).total == 0
    stuck = grade(as_bytes(handed_in(task2="while True: pass")), NAME, KEY, worker=plain_worker, timeout=2.5)
    assert (points(stuck), stuck.status) == ({**POINTS, "task2": 0}, "stopped")


def test_a_single_file_needs_nothing_that_windows_and_macos_lack(monkeypatch):
    for name in ("fork", "getuid", "killpg", "setsid"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    find_sandbox.cache_clear()
    worker = make_worker()
    try:
        assert worker.sandbox is None
        assert graded(worker, handed_in()).total == 16
    finally:
        worker.close()
        find_sandbox.cache_clear()


def test_reading_a_notebook_is_forgiving():
    cell = parse_notebook(b'{"cells": [{"source": ["a\\n", "b"]}]}', "x")["cells"][0]
    assert cell == {"source": "a\nb", "cell_type": "raw", "metadata": {}}
