"""A class of 150 graded in the sandbox, beside nbgrader's autograde on some of the same files.

Run ``python -m benchmarks.grading``. The files are the key of one exercise, each with a comment of its own, so that no
result is used twice. ``nbgrader`` grades ten of them, as its time for each does not depend on how many there are.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._record import write_json
from kdcourse.grading.course import grade_class
from kdcourse.grading.notebooks import is_solution, read_notebook, write_notebook
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


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(submitted: Path, out: Path, jobs: int) -> dict:
    """Seconds of one command for all, and what the exercise's own cells took of them."""
    start = time.perf_counter()
    results = grade_class(submitted, out, jobs=jobs, keys=ROOT / "solutions", timeout=600, progress=False)
    wall = time.perf_counter() - start
    if any(result["total"] != result["max"] or result["status"] != "graded" for result in results):
        wrong = [(result["learner"], result["total"], result["status"], result["reason"]) for result in results]
        raise RuntimeError(f"a key did not get all points, the times say nothing: {wrong[:3]}")
    own = [sum(cell["seconds"] for cell in result["cells"]) for result in results]
    return {
        "submissions": len(results),
        "jobs": jobs,
        "seconds": round(wall, 1),
        "seconds_per_submission": round(wall / len(results), 3),
        "of_that_the_exercises_own_cells": round(sum(own) / jobs / len(results), 3),
        "overhead_per_submission": round((wall * jobs - sum(own)) / len(results), 3),
    }


def nbgraders(key: Path, paths: list[Path], folder: Path) -> dict:
    """Seconds of ``nbgrader autograde`` for some of the files."""
    folder.mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    shutil.copytree(key.parent, folder / "solutions" / key.stem)
    for path in paths:
        target = folder / path.relative_to(path.parents[3])
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    variables = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(command: str) -> None:
        subprocess.run([sys.executable, "-m", "nbgrader", command, key.stem], cwd=folder, check=True, env=variables,
                       capture_output=True)  # fmt: skip

    run("generate_assignment")
    start, cpu = time.perf_counter(), children_cpu()
    run("autograde")
    wall = time.perf_counter() - start
    return {
        "submissions": len(paths),
        "seconds": round(wall, 1),
        "seconds_per_submission": round(wall / len(paths), 3),
        "cpu_seconds_per_submission": round((children_cpu() - cpu) / len(paths), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exercise", default="ex02_soft_targets")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--sample", type=int, default=10, help="files that nbgrader grades")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if find_sandbox() is None:
        raise SystemExit("no sandbox works on this machine: nothing to measure")
    key = ROOT / "solutions" / options.exercise / f"{options.exercise}.ipynb"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = hand_in(read_notebook(key), folder / options.exercise, options.count)
        record = {"exercise": options.exercise, "kdcourse": ours(folder / "submitted", folder / "graded", options.jobs)}
        print(record, flush=True)
        # Our figure is for several at once; nbgrader grades one after the other, so compare work, not waiting.
        record["nbgrader"] = nbgraders(key, paths[: options.sample], folder / "nbgrader")
    ratio = record["nbgrader"]["seconds_per_submission"] / record["kdcourse"]["seconds_per_submission"]
    record["nbgrader_takes_times"] = round(ratio, 2)
    print(record, flush=True)
    print(write_json("grading", record))


if __name__ == "__main__":
    main()
