"""What the benchmarks share: ways timed in turn, their median, and where records go."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdcourse.records import write_record

RESULTS = Path(__file__).parent / "results"


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


def write_json(name: str, record: Mapping[str, Any]) -> Path:
    """Write ``benchmarks/results/NAME.json``."""
    return write_record(RESULTS, name, record)
