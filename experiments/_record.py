"""Where the records of experiments go."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcourse.records import write_record

RESULTS = Path(__file__).parent / "results"


def write_json(name: str, record: Mapping[str, Any]) -> Path:
    """Write ``experiments/results/NAME.json``."""
    return write_record(RESULTS, name, record)
