"""Points in words: a table for a learner, a row for a teacher's list.

The grader.
"""

import re
from typing import NamedTuple

from .escaping import visible, visible_line, without_formulas
from .results import Result

HELD_BACK = "A hidden test found a mistake: it passes the visible check and not the same check on other inputs."


class Task(NamedTuple):
    """What a task got."""

    name: str
    points: float
    max: float
    messages: list[str]
    sources: list[tuple[str, str, str]]  # name, source, error of the learner's cells


def tasks_of(result: Result, *, show_hidden: bool) -> list[Task]:
    """Return a result's tasks in order, each with the learner's cells before its checks."""
    tasks: dict[str, Task] = {}
    current = ""
    for cell in result.cells:
        numbered = re.match(r"task_?(\d+)", cell.name)
        current = f"task{numbered[1]}" if numbered else current
        if not numbered and cell.kind == "check":
            current = cell.name
        if not current or (cell.kind == "locked" and not cell.error):
            continue
        task = tasks.get(current, Task(current, 0.0, 0.0, [], []))
        if cell.kind == "check":
            task = task._replace(points=task.points + cell.points, max=task.max + cell.max)
            if cell.error:
                task.messages.append(HELD_BACK if cell.in_hidden_test and not show_hidden else cell.error)
        elif cell.kind == "learner":
            task.sources.append((cell.name, cell.source, cell.error))
        elif cell.error:
            task.messages.append(f"The exercise's own cell {cell.name} failed: {cell.error}")
        tasks[current] = task
    return [task for task in tasks.values() if task.max]


def number(points: float) -> str:
    """Return points without a needless decimal."""
    return f"{points:g}"


def points_table(result: Result, *, show_hidden: bool = True) -> str:
    """Return a learner's points as text, with what is wrong in each task."""
    tasks = tasks_of(result, show_hidden=show_hidden)
    lines = [result.exercise]
    for task in tasks:
        mark = "" if task.points == task.max else "  see below" if task.messages else ""
        lines.append(f"  {task.name:<8} {number(task.points):>4} of {number(task.max):>3}{mark}")
    lines.append(f"  {'total':<8} {number(result.total):>4} of {number(result.max):>3}")
    for task in tasks:
        for message in task.messages:
            lines += ["", message if message.startswith("Task ") else f"{task.name}: {message}"]
        for name, _, error in task.sources:
            if error and not error.startswith("Task "):
                lines += ["", f"{task.name}, cell {name}: {error}"]
    if result.status != "graded":
        lines += ["", f"{result.status}: {result.reason or 'a cell did not come to an end'}"]
    if result.flags:
        lines += ["", *(f"note: {flag}" for flag in result.flags)]
    return visible("\n".join(lines))


def row_of(result: Result) -> dict[str, str]:
    """Return a line of ``grades.csv``."""
    row = {
        "learner": result.learner, "exercise": result.exercise, "total": number(result.total),
        "max": number(result.max), "status": result.status, "flags": "; ".join(result.flags),
        "reason": result.reason, "file": result.file,
    }  # fmt: skip
    row = {key: without_formulas(visible_line(text)) for key, text in row.items()}
    return row | {task.name: number(task.points) for task in tasks_of(result, show_hidden=False)}
