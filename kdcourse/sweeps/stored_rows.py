"""Rows of a sweep on disk, one file for each group, under a key that changes with everything that decides them.

Chapters 02 to 07. A long sweep that was stopped goes on with the groups that are not there yet.
"""

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

from .._files import write_atomically


def read_rows(folder: str | os.PathLike, key: str) -> list[dict] | None:
    """Return the rows stored under a key, or None if there are none; a damaged or altered file is named in a warning.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_rows(folder, "key", [{"arm": "distilled", "test_errors": 125}])
    >>> read_rows(folder, "key"), read_rows(folder, "another key")
    ([{'arm': 'distilled', 'test_errors': 125}], None)
    """
    path = Path(folder) / f"{key}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        rows, checksum = stored["rows"], stored["sha256"]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):  # not UTF-8, not JSON, or not what write_rows writes
        rows, checksum = None, ""
    if checksum != _checksum(rows):
        warnings.warn(f"{path} is damaged or altered: its group of students is trained again.", stacklevel=2)
        return None
    return rows


def write_rows(folder: str | os.PathLike, key: str, rows: list[dict]) -> None:
    """Store rows under a key, with a checksum, atomically.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_rows(folder, "key", [{"arm": "distilled"}])
    >>> os.listdir(folder)
    ['key.json']
    """
    text = json.dumps({"sha256": _checksum(rows), "rows": rows}, indent=1, ensure_ascii=False) + "\n"
    write_atomically(Path(folder) / f"{key}.json", lambda path: path.write_text(text, encoding="utf-8"))


def _checksum(rows: Any) -> str:
    # What JSON gives back is what is compared: it keeps every digit of a number.
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
