"""What opening the package costs over ``import torch``: fresh processes, in turn, medians.

Run ``python -m benchmarks.imports`` from the repository's root; recorded in ``benchmarks/results/imports.json``.
"""

import argparse
import subprocess
import sys

from benchmarks._timing import median, write_json

CORE = "kdcourse.losses, kdcourse.models, kdcourse.data, kdcourse.training, kdcourse.recipes, kdcourse.zoo"
WAYS = {
    "torch": "import torch",
    "kdcourse": "import kdcourse",
    "kdcourse_all_for_training": f"import {CORE}",
    "torch_then_kdcourse_all_for_training": f"import torch; start = clock(); import {CORE}",
}


def seconds_to_import(statement: str) -> float:
    """Seconds of an import in a process of its own; the start of Python is not counted."""
    code = f"from time import perf_counter as clock; start = clock(); {statement}; print(clock() - start)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(repeats + 1):
        for name, statement in WAYS.items():
            value = seconds_to_import(statement)
            if number > 0:  # the first round reads the files from the disk
                seconds[name].append(value)
    medians = {name: round(median(values), 4) for name, values in seconds.items()}
    record = {
        "median_seconds": medians,
        "fastest_seconds": {name: round(min(values), 4) for name, values in seconds.items()},
        "over_torch": {
            name: round(medians[name] / medians["torch"], 3) for name in ("kdcourse", "kdcourse_all_for_training")
        },
        "repeats": repeats,
    }
    path = write_json("imports", record)
    print(f"seconds: {medians}; over import torch: {record['over_torch']}\nrecorded in {path}")


if __name__ == "__main__":
    main()
