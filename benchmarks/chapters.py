"""How long each chapter is, and how long it runs: nbval runs all of them afresh, as ``make notebooks-test`` does.

``python -m benchmarks.chapters`` writes ``results/chapters.json``. Two processes of one thread each take a chapter at a
time, the last chapters first.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from benchmarks._timing import measure_units

ROOT = Path(__file__).resolve().parent.parent
CELL_TIMEOUT = 180


def size_of(path: Path) -> dict[str, int]:
    """Return the words of a notebook, its cells, and the cells in which the learner writes."""
    cells = nbformat.read(path, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    return {
        "words": sum(len(re.findall(r"[^\W\d_]{2,}", text)) for text in texts),
        "cells": len(cells),
        "your_turn": sum(bool(re.search(r"= check\(", cell.source)) for cell in cells if cell.cell_type == "code"),
    }


def run(paths: Sequence[Path], processes: int) -> dict[str, Any]:
    """Run notebooks with nbval; return the seconds of each one's cells, and those of the whole."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-n", str(processes), "--dist", "loadfile"),
            *("-p", "tools.cells_in_a_row", "--nbval-lax", "--nbval-current-env"),
            *(f"--nbval-cell-timeout={CELL_TIMEOUT}", "-p", "no:python", f"--junitxml={report}"),
            *(str(path.relative_to(ROOT)) for path in sorted(paths, reverse=True)),
        ]
        single = {"KDCOURSE_THREADS": "1", "OMP_NUM_THREADS": "1"}
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=os.environ | single, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            return {"failed": done.stdout[-2000:]}
        of_chapter = seconds_by_notebook(report, [path.stem for path in paths])
    chapters = {path.stem: {**size_of(path), "seconds": round(of_chapter[path.stem], 1)} for path in paths}
    return {"seconds": round(seconds, 1), "processes": processes, "chapters": chapters}


def seconds_by_notebook(report: Path, names: Sequence[str]) -> dict[str, float]:
    """Return the seconds of all cells of each notebook, from the report that pytest leaves."""
    seconds = dict.fromkeys(names, 0.0)
    for case in ET.parse(report).iter("testcase"):
        where = f"{case.get('classname')} {case.get('name')} {case.get('file')}"
        (name,) = [name for name in names if name in where]
        seconds[name] += float(case.get("time", 0))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="measure anew what the record has")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    units = {f"{options.processes} processes": lambda: run(paths, options.processes)}
    measure_units("chapters", units, about="All chapters, run by nbval.", again=options.again)


if __name__ == "__main__":
    main()
