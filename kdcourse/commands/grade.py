"""``kdcourse grade``: points for one exercise, or a table and feedback for a class."""

import argparse
import dataclasses
import json
from collections import Counter

from .._files import check_writable
from ..grading.classroom import NotWritten, grade_class
from ..grading.grader import grade, make_worker
from ..grading.notebooks import read_notebook
from ..grading.points import points_table
from ..grading.submissions import find_keys, identify, read_bytes
from .console import say


def run(options: argparse.Namespace) -> int:
    """Grade a file, or a folder of them."""
    return _grade_folder(options) if options.path.is_dir() else _grade_file(options)


def _grade_file(options: argparse.Namespace) -> int:
    if not options.path.exists():
        raise ValueError(f"there is no file {options.path}: save the notebook, and give the path of its .ipynb file.")
    for name in ("out", "jobs", "executor", "show_hidden"):
        if getattr(options, name) not in (None, False):
            raise ValueError(f"--{name.replace('_', '-')} is for a folder; {options.path} is none.")
    data, keys = read_bytes(options.path.resolve()), find_keys(options.path.parent, folder=options.key)
    if not keys:
        raise ValueError(f"there is no key in or above {options.path.parent}, nor in the package: give one with --key.")
    exercise = identify(options.path.resolve(), data, keys)
    worker = make_worker(sandboxed=False if options.no_sandbox else None)
    try:
        key = read_notebook(keys[exercise])
        result = grade(data, options.path.name, key, worker=worker, timeout=options.timeout)
    finally:
        worker.close()
    if result.status == "ungraded":
        raise ValueError(result.reason)
    result = dataclasses.replace(result, exercise=exercise, file=str(options.path))
    if options.json:
        say(json.dumps(result.as_json(), indent=1))  # ASCII only, for every code page and terminal
    else:
        say(points_table(result))
    return 0


def _grade_folder(options: argparse.Namespace) -> int:
    if options.out is None:
        raise ValueError(f"{options.path} is a folder: say with --out where grades.csv and the feedback are written.")
    if options.json:
        raise ValueError("--json is for one file; a folder gets OUT/results/ with a JSON file for each.")
    check_writable(options.out / "grades.csv", size=2**16)
    try:
        results = grade_class(
            options.path, options.out, jobs=options.jobs, keys=options.key, timeout=options.timeout,
            sandboxed=not options.no_sandbox, show_hidden=options.show_hidden, executor=options.executor,
        )  # fmt: skip
    except NotWritten as error:
        say(error.table)  # hours of work: at least the terminal has it
        raise
    counts = Counter(result.status for result in results)
    statuses = [f"{counts[name]} {name}" for name in ("graded", "stopped", "tampered", "ungraded") if counts[name]]
    flagged = sum(bool(result.flags) for result in results)
    say(f"{', '.join(statuses)}; {flagged} flagged: {options.out / 'grades.csv'}")
    return 0
