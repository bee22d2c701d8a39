"""What the benchmarks share: ways timed in turn, their median, and records that grow by one unit at a time."""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdcourse.records import environment, write_record

RESULTS = Path(__file__).parent / "results"
Unit = Callable[[], dict[str, Any]]


def interleave(ways: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each way, run in turn, so that a disturbance of the machine falls on all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median(values: list[float]) -> float:
    return statistics.median(values)


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median of the ratios of runs that followed one another."""
    return round(median([one / other for one, other in zip(slow, fast, strict=True)]), 3)


def write_json(name: str, record: Mapping[str, Any]) -> Path:
    """Write ``benchmarks/results/NAME.json``."""
    return write_record(RESULTS, name, record)


def measure_units(
    name: str,
    units: Mapping[str, Unit],
    *,
    about: str,
    again: bool = False,
    budget: float = math.inf,
    folder: Path = RESULTS,
) -> dict[str, Any]:
    """Measure units that the record does not have from this machine and torch, and write it after each.

    A run that was stopped goes on with the next unit; so does one that ended because no unit begins after ``budget``
    seconds. A unit that failed is measured again. Each has the description of the machine it was measured on.
    """
    end = time.monotonic() + budget
    path = folder / f"{name}.json"
    stored = json.loads(path.read_text(encoding="utf-8"))["units"] if path.exists() else {}
    here = environment()
    kept = {
        key: unit
        for key, unit in stored.items()
        if key in units
        and not again
        and "failed" not in unit["measured"]
        and _machine(unit["environment"]) == _machine(here)
    }
    for key, unit in units.items():
        if key in kept:
            print(f"{name}, {key}: measured on {kept[key]['environment']['date']}; --again measures anew", flush=True)
            continue
        if time.monotonic() > end:
            print(f"{name}, {key}: no time is left", flush=True)
            continue
        before = environment()["load_average"]
        measured = unit()
        kept[key] = {"measured": measured, "environment": environment() | {"load_average_before": before}}
        record = {"command": f"python -m benchmarks.{name}", "about": about}
        write_record(folder, name, record | {"units": {key: kept[key] for key in units if key in kept}})
        print(f"{name}, {key}: {measured}", flush=True)
    return kept


def _machine(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(environment[key] for key in ("cpu", "cores", "torch", "gpu"))
