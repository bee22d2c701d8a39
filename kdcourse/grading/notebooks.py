"""Notebooks as plain JSON: read with care for what a learner may hand in, written as nbformat writes them.

The exercises. Cells follow nbgrader's metadata: ``grade_id``, ``grade``, ``solution``, ``locked``, ``points``.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._files import write_atomically

ASKS = "kdcourse_asks"  # metadata of a solution cell: the package's own functions that would be the answer
MOST_CELLS = 400  # of a notebook, of which an exercise has below 40; what comes after one more is not looked at
LARGEST = 10_000_000  # bytes of a notebook that is read at all; an executed exercise has below 500,000


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook of format 4, every cell with ``cell_type``, ``source`` (one string) and ``metadata``.

    Raises
    ------
    ValueError
        If the file is too large, is not JSON, or is not a notebook; the message says which.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}.") from None
    return parse_notebook(data, path.name)


def parse_notebook(data: bytes, name: str) -> dict[str, Any]:
    """Return a notebook from its bytes; see `read_notebook`."""
    if len(data) > LARGEST:
        raise ValueError(too_large(name))
    try:
        # A number of a million digits takes minutes to read and no cell needs one.
        notebook = json.loads(data.decode("utf-8-sig"), parse_int=_small_int, parse_constant=_not_a_number)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{name} is not a notebook, its JSON is broken ({str(error)[:80]}). "
            "Was it renamed, or saved by an editor that is not Jupyter?"
        ) from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError(f"{name} is not a notebook of format 4: it has no list of cells.")
    own = (cell for cell in cells if isinstance(cell, dict))
    notebook["cells"] = [_tidy(cell) for cell in itertools.islice(own, MOST_CELLS + 1)]
    return notebook


def too_large(name: str) -> str:
    """Return what to say about a file that is not read, because it has more than ``LARGEST`` bytes."""
    return (
        f"{name} has more than {LARGEST // 1_000_000} MB. "
        "Clear its outputs (Edit, Clear Outputs of All Cells) and save again."
    )


def write_notebook(path: Path, notebook: dict[str, Any]) -> None:
    """Write a notebook atomically."""
    write_text(path, notebook_text(notebook))


def write_text(path: Path, text: str) -> None:
    """Write a file atomically.

    Raises
    ------
    OSError
        That names this file, whatever could not be done on the way.
    """
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def notebook_text(notebook: dict[str, Any]) -> str:
    """Return a notebook without outputs as nbformat writes it, byte for byte."""
    cells = [{**cell, "source": cell["source"].splitlines(True)} for cell in notebook["cells"]]
    whole = {**notebook, "cells": cells}
    return json.dumps(whole, ensure_ascii=False, indent=1, sort_keys=True, separators=(",", ": ")) + "\n"


def role_of(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell's nbgrader metadata, empty if it has none."""
    role = cell["metadata"].get("nbgrader")
    return role if isinstance(role, dict) else {}


def grade_id(cell: Mapping[str, Any]) -> str | None:
    """Return the name that a cell has in the key, or None."""
    name = role_of(cell).get("grade_id")
    return name if isinstance(name, str) else None


def is_graded(cell: Mapping[str, Any]) -> bool:
    """Whether the cell's outcome counts."""
    return bool(role_of(cell).get("grade"))


def is_solution(cell: Mapping[str, Any]) -> bool:
    """Whether the cell is the learner's to write."""
    return bool(role_of(cell).get("solution"))


def is_locked(cell: Mapping[str, Any]) -> bool:
    """Whether the cell is the key's, whatever the learner made of it."""
    return not is_solution(cell) and (is_graded(cell) or bool(role_of(cell).get("locked")))


def points_of(cell: Mapping[str, Any]) -> float:
    """Return the points of a graded cell."""
    points = role_of(cell).get("points", 0) if is_graded(cell) else 0
    return float(points) if type(points) in (int, float) else 0.0


def _tidy(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Give a cell the three fields that everything here relies on; keep what else it has."""
    source, kind, metadata = cell.get("source", ""), cell.get("cell_type"), cell.get("metadata")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    source = source if isinstance(source, str) else ""
    # Half of a surrogate pair is legal in JSON and in nothing else; it would break every write later on.
    source = source.encode("utf-8", "replace").decode("utf-8")
    return {
        **cell,
        "source": source,
        "cell_type": kind if isinstance(kind, str) else "raw",
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def _small_int(digits: str) -> int:
    return int(digits) if len(digits) < 20 else 0


def _not_a_number(name: str) -> None:
    """Read NaN as nothing: it is not JSON, and yet some libraries write it into outputs, which nobody grades."""
