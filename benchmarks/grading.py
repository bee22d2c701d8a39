"""A class of 150 of the heaviest exercise, graded in the sandbox, beside nbgrader on some of the same files.

Run ``python -m benchmarks.grading`` on a machine that has nothing else to do. Every key is graded once to find the
heaviest exercise. Each file is that key with a different comment, so that no result is used twice. nbgrader grades some
of the files, one after the other: its time per file does not depend on their number. Both write a page of feedback for
each learner.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._timing import write_json
from kdcourse.grading.classroom import grade_class
from kdcourse.grading.grader import grade, make_worker
from kdcourse.grading.notebooks import is_solution, read_notebook, write_notebook
from kdcourse.grading.overlay import imports_of, shared_cells
from kdcourse.grading.release import release
from kdcourse.grading.sandbox import find_sandbox

ROOT = Path(__file__).resolve().parent.parent


def hand_in(key: dict, folder: Path, count: int) -> list[Path]:
    """Write the solved notebook of ``count`` learners, without its outputs, in nbgrader's layout."""
    notebook = {**release(key), "cells": [{**cell} for cell in release(key)["cells"]]}
    solved = {cell["id"]: cell["source"] for cell in key["cells"]}
    name = folder.name
    paths = []
    for number in range(count):
        for cell in notebook["cells"]:
            if is_solution(cell):
                cell["source"] = f"{solved[cell['id']]}\n# learner {number}"
        path = folder.parent / "submitted" / f"learner{number:03}" / name / f"{name}.ipynb"
        write_notebook(path, notebook)
        paths.append(path)
    return paths


def heaviest() -> tuple[str, dict[str, float]]:
    """Return the exercise whose submissions take longest to grade, and the seconds of every exercise."""
    worker, seconds = make_worker(sandboxed=True), {}
    try:
        worker.open().end()  # it imports torch, once
        for path in sorted((ROOT / "solutions").glob("*/*.ipynb")):
            key = read_notebook(path)
            worker.share(imports_of(key), shared_cells(key))  # once for a class, so no part of a submission's time
            start = time.perf_counter()
            grade(path.read_bytes(), path.name, key, worker=worker, timeout=600)
            seconds[path.stem] = round(time.perf_counter() - start, 2)
    finally:
        worker.close()
    return max(seconds, key=lambda name: seconds[name]), seconds


def ours(submitted: Path, out: Path, jobs: int) -> dict:
    """Grade all files with one command; return its seconds, and those of the exercise's own cells."""
    start = time.perf_counter()
    results = grade_class(submitted, out, jobs=jobs, keys=ROOT / "solutions", timeout=600, progress=False)
    wall = time.perf_counter() - start
    if any(result.total != result.max or result.status != "graded" for result in results):
        wrong = [(result.learner, result.total, result.status, result.reason) for result in results]
        raise RuntimeError(f"a key did not get all points, the times say nothing: {wrong[:3]}")
    own = [sum(cell.seconds for cell in result.cells) for result in results]
    return {
        "submissions": len(results),
        "jobs": jobs,
        "seconds": round(wall, 1),
        "seconds_per_submission": round(wall / len(results), 3),
        "of_that_the_exercises_own_cells": round(sum(own) / jobs / len(results), 3),
        "overhead_per_submission": round((wall * jobs - sum(own)) / len(results), 3),
    }


def nbgraders(key: Path, paths: list[Path], folder: Path) -> dict:
    """Return the seconds of ``nbgrader autograde`` and ``generate_feedback`` for some of the files."""
    from nbgrader.api import Gradebook

    folder.mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    shutil.copytree(key.parent, folder / "solutions" / key.stem)
    for path in paths:
        target = folder / path.relative_to(path.parents[3])
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(command: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "nbgrader", command, key.stem], cwd=folder, check=True, env=variables,
                       capture_output=True)  # fmt: skip
        return (time.perf_counter() - start) / len(paths)

    run("generate_assignment")
    autograde, feedback = run("autograde"), run("generate_feedback")
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        scores = {(found.score, found.max_score) for found in book.assignment_submissions(key.stem)}
    if any(score != most for score, most in scores):
        raise RuntimeError(f"nbgrader did not give all points, its times say nothing: {scores}")
    return {
        "submissions": len(paths),
        "autograde_seconds_per_submission": round(autograde, 3),
        "feedback_seconds_per_submission": round(feedback, 3),
        "seconds_per_submission": round(autograde + feedback, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exercise", default=None, help="name of an exercise; the heaviest if absent")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--sample", type=int, default=8, help="number of files that nbgrader grades")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="limit; fewer files are graded if all would take longer"
    )
    parser.add_argument("--dry", action="store_true", help="write no record")
    options = parser.parse_args()
    if find_sandbox() is None:
        raise SystemExit("no sandbox works on this machine: nothing to measure")
    began = time.perf_counter()
    name, seconds = (options.exercise, {}) if options.exercise else heaviest()
    key = ROOT / "solutions" / name / f"{name}.ipynb"
    record = {"exercise": name, "seconds_of_every_key": seconds, "asked_for": options.count}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths = hand_in(read_notebook(key), folder / name, options.count)
        # nbgrader first: what it leaves of the time is for the class.
        record["nbgrader"] = nbgraders(key, paths[: options.sample], folder / "nbgrader")
        left = 60 * options.minutes - (time.perf_counter() - began)
        most = int(left / record["nbgrader"]["seconds_per_submission"] * options.jobs)
        for path in paths[max(options.jobs, most) :]:
            shutil.rmtree(path.parents[1])
        record["kdcourse"] = ours(folder / "submitted", folder / "graded", options.jobs)
    ratio = record["nbgrader"]["seconds_per_submission"] / record["kdcourse"]["seconds_per_submission"]
    record["times_faster"] = round(ratio, 2)
    print(json.dumps(record, indent=2))
    if not options.dry:
        print(write_json("grading", record))


if __name__ == "__main__":
    main()
