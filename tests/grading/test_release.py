"""Releases: the same bytes as nbgrader's, and what it says where markers are wrong."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import build_exercises
import nbformat
import pytest
from grading_fixture import EXERCISE, KEY, NAME, SOURCE, as_bytes, cell_of

from kdcourse.__main__ import main
from kdcourse.grading.notebooks import is_solution, notebook_text, points_of, read_notebook
from kdcourse.grading.release import release, release_folder, without_region

ROOT = Path(__file__).resolve().parents[2]
KEYS = sorted((ROOT / "solutions").glob("*/*.ipynb"))


@pytest.fixture
def course(tmp_path):
    """A small course: the fixture's key, not executed, and nbgrader's settings."""
    key = tmp_path / "solutions" / NAME / f"{NAME}.ipynb"
    key.parent.mkdir(parents=True)
    key.write_text(nbformat.writes(build_exercises.assemble(SOURCE)) + "\n", encoding="utf-8")
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    return tmp_path


def nbgrader(folder, *arguments, by=("-m", "nbgrader")):
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, *by, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, env=variables, check=False)


# nbgrader itself

GENERATE_ALL = """
import sys
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config.loader import PyFileConfigLoader

config = PyFileConfigLoader("nbgrader_config.py").load_config()
api = NbGraderAPI(CourseDirectory(config=config), config=config)
for name in sys.argv[1:]:
    outcome = api.generate_assignment(name)
    if not outcome["success"]:
        sys.exit(f"{name}: {outcome['error']} {outcome['log']}")
"""


@pytest.mark.slow
def test_released_notebooks_are_nbgraders_byte_for_byte(course):
    pytest.importorskip("nbgrader")
    for path in KEYS:
        (course / "solutions" / path.stem).mkdir()
        shutil.copy(path, course / "solutions" / path.stem)
    every = sorted((course / "solutions").glob("*/*.ipynb"))
    outcome = nbgrader(course, *(key.stem for key in every), by=("-c", GENERATE_ALL))
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    for key in every:
        theirs = course / "exercises" / key.stem / key.name
        ours = notebook_text(release(read_notebook(key)))
        assert theirs.read_bytes() == ours.encode(), key.stem


@pytest.mark.slow
def test_nbgraders_autograde_gives_the_right_work_all_points_and_the_stub_none(tmp_path):
    """On an exercise as it is released, experiment and all."""
    pytest.importorskip("nbgrader")
    from nbgrader.api import Gradebook

    path = next(path for path in KEYS if path.stem.startswith("ex04"))
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    shutil.copytree(path.parent, tmp_path / "solutions" / path.stem)
    assert nbgrader(tmp_path, "generate_assignment", path.stem).returncode == 0
    key = read_notebook(path)
    right = release(key)
    for cell, answer in zip(right["cells"], key["cells"], strict=True):
        if is_solution(cell):
            cell["source"] = answer["source"]
    released = (tmp_path / "exercises" / path.stem / path.name).read_bytes()
    for learner, data in (("right", as_bytes(right)), ("untouched", released)):
        submitted = tmp_path / "submitted" / learner / path.stem / path.name
        submitted.parent.mkdir(parents=True)
        submitted.write_bytes(data)
    outcome = nbgrader(tmp_path, "autograde", path.stem)
    assert outcome.returncode == 0, outcome.stderr
    most = sum(map(points_of, key["cells"]))
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        scores = {s.student.id: (s.score, s.max_score) for s in book.assignment_submissions(path.stem)}
    assert scores == {"right": (most, most), "untouched": (0, most)}


# Ours


def test_the_command_releases_a_folder_and_notices_drift(course, capsys, monkeypatch):
    monkeypatch.chdir(course)
    assert main(["release", "--check"]) == 1
    assert f"exercises/{NAME}/{NAME}.ipynb is not what its key gives" in capsys.readouterr().out
    assert main(["release"]) == 0
    assert main(["release", "--check"]) == 0
    assert read_notebook(course / "exercises" / NAME / f"{NAME}.ipynb") == EXERCISE
    assert sorted(path.name for path in (course / "exercises").rglob("*.ipynb")) == [f"{NAME}.ipynb"]


def test_a_folder_without_keys_is_told(tmp_path):
    with pytest.raises(ValueError, match="run this where the keys are"):
        release_folder(tmp_path)


def test_solutions_and_hidden_tests_are_gone_and_the_package_key_keeps_the_tests():
    text = json.dumps(EXERCISE)
    assert "log_q" not in text
    assert "271828" not in text
    assert "HIDDEN" not in text
    assert "minus seven" not in text
    kept = json.dumps(release(KEY, hidden_tests=True))
    assert "271828" in kept
    assert "log_q" not in kept


def test_a_stub_names_its_task_and_runs():
    source = cell_of(EXERCISE, "task2_double")["source"]
    names = {}
    exec(source, names)
    with pytest.raises(NotImplementedError, match="Task 2: double is not written yet"):
        names["double"](1)


def test_releasing_twice_changes_nothing():
    assert release(EXERCISE, hidden_tests=True)["cells"][0] == EXERCISE["cells"][0]
    assert notebook_text(release(KEY)) == notebook_text(release(copy.deepcopy(KEY)))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("### BEGIN SOLUTION\n1", "has no END SOLUTION"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", "inside a region that has begun"),
    ],
)
def test_markers_without_partner_are_told(source, told):
    with pytest.raises(ValueError, match=told):
        without_region(source, "SOLUTION", "stub")


def test_a_stub_stands_where_the_region_began():
    source = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n    raise"
    assert without_region(source, "SOLUTION", "# here") == ("def f():\n    # here\n    raise", True)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("task1_check", {"source": "### BEGIN SOLUTION\n### END SOLUTION"}, "not marked as a solution cell"),
        ("setup", {"source": "### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS"}, "is not graded"),
        ("task1_check", {"metadata": {"nbgrader": {"grade_id": "task2_check", "grade": True}}}, "used twice"),
        ("task1_check", {"metadata": {"nbgrader": {"grade": True}}}, "missing or used twice"),
    ],
)
def test_a_wrong_key_is_not_released(name, change, told):
    key = copy.deepcopy(KEY)
    cell_of(key, name).update(change)
    with pytest.raises(ValueError, match=told):
        release(key)


# The builder's own refusals


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('check="task2_check" points=4', 'check="task2_check"', "needs points="),
        ('check="task2_check" points=4', 'check="task1_check" points=4', "two cells have the name"),
        ('solution="task4_rows"', 'solution="task4_rows" locked="x"', "one of locked, solution and check"),
        ('# %% solution="task4_rows"', "# %%", "neither solution= nor check="),
        ("    ### BEGIN SOLUTION\n    return 2 * number\n    ### END SOLUTION\n", "", "needs ### BEGIN SOLUTION"),
        ("check_picture(answers)", "### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS", "needs a visible line"),
        ("# # Exercise 90", "# Exercise 90", "begin with the title"),
    ],
)
def test_the_builder_refuses_a_source_that_would_grade_wrongly(tmp_path, old, new, told):
    text = SOURCE.read_text(encoding="utf-8")
    assert old in text
    source = tmp_path / "ex90_fixture.py"
    source.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        build_exercises.assemble(source)


def test_cell_ids_are_grade_ids_and_free_cells_have_ids_too():
    cells = build_exercises.assemble(SOURCE).cells
    assert [cell.id for cell in cells[:4]] == ["title", "course_setup", "setup", "task1_text"]
    assert len({cell.id for cell in cells}) == len(cells)


@pytest.mark.slow
def test_building_makes_key_exercise_and_package_key(tmp_path):
    (tmp_path / "solutions").mkdir()
    shutil.copy(SOURCE, tmp_path / "solutions")
    source = tmp_path / "solutions" / SOURCE.name
    build_exercises.build(source, tmp_path)
    assert build_exercises.problems(source, tmp_path) == []
    assert build_exercises.orphans(tmp_path) == []
    assert read_notebook(tmp_path / "exercises" / NAME / f"{NAME}.ipynb") == EXERCISE
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.ipynb")}
    assert len(before) == 3
    build_exercises.build(source, tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.ipynb")}
    exercise = tmp_path / "exercises" / NAME / f"{NAME}.ipynb"
    exercise.write_bytes(exercise.read_bytes().replace(b"YOUR CODE", b"MY CODE"))
    assert len(build_exercises.problems(source, tmp_path)) == 1
