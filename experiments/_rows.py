"""Rows of an experiment, written as they are measured, so that a stopped run continues where it was."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

RUNS = Path(__file__).parent.parent / "runs"


def measured(
    name: str, jobs: Iterable[Mapping[str, Any]], run: Callable[..., Mapping[str, Any]], *, folder: Path = RUNS
) -> list[dict[str, Any]]:
    """Run each job that has no row yet, and return the rows of all, in the order of the jobs.

    Parameters
    ----------
    name : str
        Name of the file of rows, ``FOLDER/NAME.jsonl``.
    jobs : iterable of mapping
        Keywords of ``run``, which tell jobs apart.
    run : callable
        ``run(**job)`` returns what was measured. A row holds both.
    folder : Path
        Where the rows are kept.
    """
    jobs, path = [dict(job) for job in jobs], folder / f"{name}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    found = []
    for job in jobs:
        row = next((row for row in rows if {key: row.get(key) for key in job} == job), None)
        if row is None:
            row = {**job, **run(**job)}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name}: {', '.join(f'{key} {value}' for key, value in job.items())}", flush=True)
        found.append(row)
    return found
