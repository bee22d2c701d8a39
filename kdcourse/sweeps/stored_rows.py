"""Rows of a sweep on disk, one file for each group, under a key that changes with everything that decides them.

Chapters 02 to 07. A long sweep that was stopped goes on with the groups that are not there yet.
"""

import json
import os
from pathlib import Path

from .._files import write_atomically


def read_rows(folder: str | os.PathLike, key: str) -> list[dict] | None:
    """Return the rows stored under a key, or None if there are none or the file is damaged."""
    try:
        rows = json.loads((Path(folder) / f"{key}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return rows if isinstance(rows, list) else None


def write_rows(folder: str | os.PathLike, key: str, rows: list[dict]) -> None:
    """Store rows under a key, atomically."""
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    write_atomically(Path(folder) / f"{key}.json", lambda path: path.write_text(text, encoding="utf-8"))
