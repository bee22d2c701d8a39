"""What every exercise has in common, read from source, key, released notebook and the package's key.

Nothing is run here but what ``kdcourse selftest`` runs, at the end: keys get all points, untouched exercises none.
"""

import ast
import re
import shutil
from pathlib import Path

import build_exercises
import pytest
from notebook_parts import project, setup_cell

from kdcourse.__main__ import main
from kdcourse.grading import selftest
from kdcourse.grading.grader import make_worker
from kdcourse.grading.inside.scan import suspicious
from kdcourse.grading.notebooks import grade_id, is_graded, is_locked, is_solution, points_of, read_notebook
from kdcourse.grading.release import STUB, release_folder
from kdcourse.grading.selftest import wrong_with

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "solutions").glob("ex*.py"))
MOST_MINUTES, LEAST_MINUTES, POINTS = 60, 30, range(10, 21)


@pytest.fixture(params=SOURCES, ids=[path.stem for path in SOURCES])
def source(request):
    return request.param


@pytest.fixture
def key(source):
    return read_notebook(ROOT / "solutions" / source.stem / f"{source.stem}.ipynb")


@pytest.fixture
def exercise(source):
    return read_notebook(ROOT / "exercises" / source.stem / f"{source.stem}.ipynb")


def tasks_of(notebook):
    """[(text cell, its cells)] of each task."""
    tasks = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and re.match(r"## Task \d", cell["source"]):
            tasks.append((cell, []))
        elif tasks:
            tasks[-1][1].append(cell)
    return tasks


def task_problems(number, text, cells):
    """What a task lacks, as sentences."""
    source, found = text["source"], []
    if grade_id(text) != f"task{number}_text" or not is_locked(text):
        found.append(f"task {number}: its text is not the locked cell task{number}_text")
    facts = re.search(
        r"^\*\*Minutes\*\* (\d+) · \*\*Difficulty\*\* ([1-5])/5 · \*\*Importance\*\* ([1-5])/5 · \*\*Points\*\* (\d+)$",
        source,
        re.MULTILINE,
    )
    if facts is None:
        return [*found, f"task {number}: no line with minutes, difficulty, importance and points"]
    checks = [cell for cell in cells if is_graded(cell)]
    if int(facts[4]) != sum(map(points_of, checks)):
        found.append(f"task {number}: its text says {facts[4]} points, its checks {sum(map(points_of, checks)):g}")
    for what in ("Objective", "Reference"):
        if not re.search(rf"^\*\*{what}\*\* \S.{{10,}}", source, re.MULTILINE):
            found.append(f"task {number}: no {what.lower()}")
    hints = re.findall(r"<details><summary>Hint \d</summary>\n\n.+?\n</details>", source, re.DOTALL)
    if len(hints) != 2:
        found.append(f"task {number}: {len(hints)} folded hints, not 2")
    if not checks or not any(is_solution(cell) for cell in cells):
        found.append(f"task {number}: no solution cell or no check")
    names = [grade_id(cell) for cell in cells if is_graded(cell) or is_solution(cell)]
    wrong = [name for name in names if not name.startswith(f"task{number}_")]
    return found + [f"task {number}: cell {name} has the name of another task" for name in wrong]


def minutes_of(notebook):
    return sum(int(re.search(r"\*\*Minutes\*\* (\d+)", text["source"])[1]) for text, _ in tasks_of(notebook))


def test_everything_is_what_its_source_gives(source):
    assert build_exercises.problems(source) == []


def test_nothing_is_there_without_a_source():
    assert build_exercises.orphans() == []


def test_three_to_five_tasks_with_all_that_a_task_has(key):
    tasks = tasks_of(key)
    assert 3 <= len(tasks) <= 5
    assert [problem for n, (text, cells) in enumerate(tasks, 1) for problem in task_problems(n, text, cells)] == []


def test_minutes_and_points_are_those_of_an_exercise(key):
    total = sum(map(points_of, key["cells"]))
    assert total in POINTS
    assert LEAST_MINUTES <= minutes_of(key) <= MOST_MINUTES
    opening = key["cells"][0]["source"]
    told = re.search(r"\*\*Time\*\* about (\d+) minutes, (\d+) points", opening)
    assert told, "the first cell says: **Time** about N minutes, N points"
    assert int(told[2]) == total
    assert 0 <= int(told[1]) - minutes_of(key) <= 10, "about the minutes of all tasks, and some to read"
    assert "kdcourse grade" in opening


def test_badge_and_first_cell_are_the_same_everywhere(source, exercise):
    _, version = project()
    first, setup = exercise["cells"][:2]
    assert f"/blob/v{version}/exercises/{source.stem}/{source.stem}.ipynb)" in first["source"]
    assert setup["source"] == setup_cell()
    assert is_locked(first)
    assert is_locked(setup)


def test_no_line_of_a_solution_leaks(key, exercise):
    """Lines too short to give anything away, and lines that stand outside regions as well, are allowed."""
    secret, public = set(), set()
    for cell in key["cells"]:
        inside = False
        for line in cell["source"].split("\n"):
            if re.search(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS)", line):
                inside = "BEGIN" in line
            elif len(line.strip()) > 8:
                (secret if inside else public).add(line.strip())
    released = {line.strip() for cell in exercise["cells"] for line in cell["source"].split("\n")}
    assert (secret - public) & released == set()
    assert not any(re.search(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS)", line) for line in released)
    assert all(cell["outputs"] == [] for cell in exercise["cells"] if cell["cell_type"] == "code")


def test_stubs_run_and_say_what_is_to_be_written(exercise):
    for cell in filter(is_solution, exercise["cells"]):
        tree = ast.parse(cell["source"])
        assert STUB in cell["source"], grade_id(cell)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and STUB in (ast.get_source_segment(cell["source"], node) or ""):
                raised = [n for n in ast.walk(node) if isinstance(n, ast.Raise)]
                task = re.match(r"task(\d)", grade_id(cell))[1]
                assert raised, f"{node.name} has no NotImplementedError after its solution"
                assert f"NotImplementedError('Task {task}: " in ast.unparse(raised[-1])


def test_checks_call_the_packages_checks_and_are_short(key):
    for cell in filter(is_graded, key["cells"]):
        lines = [line for line in cell["source"].split("\n") if line.strip() and not line.startswith("###")]
        assert len(lines) <= 6, grade_id(cell)
        assert re.search(r"^check_\w+\(", cell["source"], re.MULTILINE), grade_id(cell)


def test_a_solution_needs_nothing_that_the_grader_would_flag(key):
    assert suspicious([cell["source"] for cell in filter(is_solution, key["cells"])]) == []


def test_the_packages_keys_hold_hidden_tests_and_no_solutions(source):
    text = (ROOT / "kdcourse" / "keys" / f"{source.stem}.ipynb").read_text(encoding="utf-8")
    assert "SOLUTION" not in text
    assert ("BEGIN HIDDEN TESTS" in text) == ("BEGIN HIDDEN TESTS" in source.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("**Points** 5", "**Points** 6", "says 6 points, its checks 5"),
        ("Hint 2", "Help", "1 folded hints"),
        ("**Objective**", "**Aim**", "no objective"),
        ("**Reference**", "See", "no reference"),
        ("**Minutes** 12", "Minutes 12", "no line with minutes"),
    ],
)
def test_a_task_that_lacks_something_is_found(old, new, told):
    text, cells = tasks_of(read_notebook(ROOT / "solutions" / "ex02_soft_targets" / "ex02_soft_targets.ipynb"))[0]
    assert old in text["source"]
    spoiled = {**text, "source": text["source"].replace(old, new)}
    assert any(told in problem for problem in task_problems(1, spoiled, cells))


@pytest.fixture(scope="module")
def worker():
    worker = make_worker()
    yield worker
    worker.close()


@pytest.mark.slow
def test_every_key_gets_all_points_and_every_untouched_exercise_none(source, worker):
    path = ROOT / "solutions" / source.stem / f"{source.stem}.ipynb"
    assert wrong_with(read_notebook(path), path.read_bytes(), worker) == []


def test_the_selftest_says_what_it_has_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(selftest, "wrong_with", lambda key, data, worker: [] if b"T^2" in data else ["all is wrong"])
    monkeypatch.chdir(ROOT)
    assert main(["selftest", "ex02", "ex04"]) == 1
    told = capsys.readouterr().out
    assert re.search(r"ex02_soft_targets +ok", told)
    assert re.search(r"ex04_relation_distillation +all is wrong", told)


def test_a_key_without_solutions_is_not_said_to_be_ok(tmp_path, monkeypatch, capsys):
    """The package's keys hold none, so from a wheel nothing can show that a right answer gets its points."""
    monkeypatch.chdir(tmp_path)  # away from the keys of the checkout
    assert main(["selftest", "ex02"]) == 1
    told = capsys.readouterr().out
    assert "ok" not in told.split()
    assert "holds no solutions" in told
    assert "unmodified exercise" not in told


@pytest.mark.parametrize("folder", ["exercises/ex02_soft_targets", "kdcourse/keys"])
def test_release_covers_exercises_and_the_packages_keys(tmp_path, folder):
    name = "ex02_soft_targets"
    for part in (f"solutions/{name}", f"exercises/{name}", "kdcourse/keys"):
        (tmp_path / part).mkdir(parents=True)
        shutil.copy(ROOT / part / f"{name}.ipynb", tmp_path / part)
    release_folder(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.ipynb")}
    assert release_folder(tmp_path, check=True) == []
    path = tmp_path / folder / f"{name}.ipynb"
    path.write_bytes(path.read_bytes().replace(b"check", b"test", 1))
    (problem,) = release_folder(tmp_path, check=True)
    assert f"{folder}/{name}.ipynb" in problem
    release_folder(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.ipynb")} == before


def test_a_teachers_folder_gets_exercises_alone(tmp_path):
    name = "ex02_soft_targets"
    (tmp_path / "solutions" / name).mkdir(parents=True)
    shutil.copy(ROOT / "solutions" / name / f"{name}.ipynb", tmp_path / "solutions" / name)
    assert release_folder(tmp_path) == [name]
    assert not (tmp_path / "kdcourse").exists()
