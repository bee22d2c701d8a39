"""Where the records of experiments go."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcourse.records import write_record

RESULTS = Path(__file__).parent / "results"


def write_json(name: str, record: Mapping[str, Any], *, folder: Path | None = None) -> Path:
    """Write ``experiments/results/NAME.json``; runs that name their cell are written on one line each."""
    runs = record.get("runs") or [{}]
    return write_record(folder or RESULTS, name, record, lines=["runs"] if "cell" in runs[0] else [])
