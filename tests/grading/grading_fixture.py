"""The small exercise that the grader's tests hand in, right, wrong and hostile."""

import copy
import json
from pathlib import Path

import build_exercises

from kdcourse.grading.notebooks import notebook_text, parse_notebook
from kdcourse.grading.release import release

SOURCE = Path(__file__).parent / "ex90_fixture.py"
NAME = "ex90_fixture"
POINTS = {"task1": 5, "task2": 4, "task3": 3, "task4": 4}
CELLS = {"task1": "task1_kd_loss", "task2": "task2_double", "task3": "task3_answers", "task4": "task4_rows"}
RIGHT = {
    "task1": """\
def my_kd_loss(student_logits, teacher_logits, *, temperature):
    log_q = torch.log_softmax(student_logits / temperature, dim=-1)
    log_p = torch.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
""",
    "task2": "def double(number):\n    return number + number\n",
    "task3": 'answers = ["b", "c"]\n',
    "task4": "rows = table.sum(dim=1) / 4\n",
}


def make_key():
    """The key as `read_notebook` gives it; nothing is executed, as nothing here looks at outputs."""
    notebook = build_exercises.assemble(SOURCE)
    return parse_notebook(json.dumps(notebook).encode(), SOURCE.name)


KEY = make_key()
EXERCISE = release(KEY)


def handed_in(**tasks):
    """A submission: everything right, but for the tasks given; ``None`` leaves the stub."""
    notebook = copy.deepcopy(EXERCISE)
    written = {**RIGHT, **tasks}
    names = {CELLS[task]: text for task, text in written.items()}
    for cell in notebook["cells"]:
        text = names.get(cell["metadata"].get("nbgrader", {}).get("grade_id"))
        if text is not None:
            cell["source"] = text
    return notebook


def cell_of(notebook, name):
    return next(cell for cell in notebook["cells"] if cell["metadata"].get("nbgrader", {}).get("grade_id") == name)


def code(source, **metadata):
    empty = {"outputs": [], "execution_count": None}
    return {"cell_type": "code", "id": "x1", "metadata": metadata, "source": source, **empty}


def as_bytes(notebook):
    return notebook_text(notebook).encode()


def points(result):
    """Points by task; what is not mentioned has all."""
    got = dict.fromkeys(POINTS, 0.0)
    for cell in result.cells:
        if cell.kind == "check":
            got[cell.name[:5]] += cell.points
    return got
