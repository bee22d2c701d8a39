"""From the key to what learners get: solutions become stubs, hidden tests go, cells are locked.

The exercises. The same bytes as ``nbgrader generate_assignment`` with the repository's ``nbgrader_config.py``, without
nbgrader or its database.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from .notebooks import (
    grade_id,
    is_graded,
    is_locked,
    is_solution,
    notebook_text,
    points_of,
    read_notebook,
    role_of,
    write_notebook,
)

STUB = "# YOUR CODE HERE"
SOLUTION, HIDDEN_TESTS = "SOLUTION", "HIDDEN TESTS"


def release(key: dict[str, Any], *, hidden_tests: bool = False) -> dict[str, Any]:
    """Return the notebook that learners get.

    Parameters
    ----------
    key : dict
        With solutions and hidden tests between ``### BEGIN …`` and ``### END …``.
    hidden_tests : bool
        Keep the hidden tests: the key as the package carries it, to grade where no solution should lie about.

    Raises
    ------
    ValueError
        If a marker has no partner, stands in a cell of the wrong kind, or a name is missing or used twice.
    """
    cells, names = [], set()
    for cell in key["cells"]:
        source, role, name = cell["source"], role_of(cell), grade_id(cell)
        if role and (not name or name in names):
            raise ValueError(f"every cell with a role needs a grade_id of its own; {name!r} is missing or used twice.")
        names.add(name)
        source, solved = without_region(source, SOLUTION, STUB)
        if solved and not is_solution(cell):
            raise ValueError(f"cell {name!r} holds a solution and is not marked as a solution cell.")
        if is_solution(cell) and not solved:
            source = STUB
        visible, tested = without_region(source, HIDDEN_TESTS)
        if tested and not is_graded(cell):
            raise ValueError(f"cell {name!r} holds hidden tests and is not graded.")
        fresh = {**cell, "source": source if hidden_tests else visible}
        if cell["cell_type"] == "code":
            kept = {name: value for name, value in cell["metadata"].items() if name not in ("collapsed", "scrolled")}
            fresh |= {"outputs": [], "execution_count": None, "metadata": kept}
        cells.append(fresh | {"metadata": _locked(fresh)})
    return {**key, "cells": cells}


def without_region(source: str, what: str, stub: str | None = None) -> tuple[str, bool]:
    """Return a text without what stands between ``BEGIN what`` and ``END what``, and whether there was any.

    Raises
    ------
    ValueError
        If a region begins twice or never ends.
    """
    kept, inside, found = [], False, False
    for line in source.split("\n"):
        if f"BEGIN {what}" in line:
            if inside:
                raise ValueError(f"BEGIN {what} stands inside a region that has begun already.")
            inside = found = True
            if stub is not None:
                kept.append(re.match(r"\s*", line)[0] + stub)  # type: ignore[index]
        elif f"END {what}" in line:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"BEGIN {what} has no END {what} after it.")
    return "\n".join(kept), found


def release_folder(root: Path, *, check: bool = False) -> list[str]:
    """Release every key in ``root/solutions`` to ``root/exercises``, and in a checkout to ``kdcourse/keys`` as well.

    Parameters
    ----------
    root : Path
        A checkout, or a teacher's folder with ``solutions/NAME/NAME.ipynb``.
    check : bool
        Write nothing.

    Returns
    -------
    list of str
        Released names; with ``check`` a sentence for each exercise that is not what its key gives.

    Raises
    ------
    ValueError
        If there is no key, or one is wrong.
    """
    keys = sorted(path for path in (root / "solutions").glob("*/*.ipynb") if path.stem == path.parent.name)
    if not keys:
        raise ValueError(f"there is no solutions/NAME/NAME.ipynb in {root}: run this where the keys are.")
    told = []
    for path in keys:
        try:
            released = _released(read_notebook(path), path.name, root)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
        for target, fresh in released.items():
            if not check:
                write_notebook(target, fresh)
            elif not target.exists() or target.read_text(encoding="utf-8") != notebook_text(fresh):
                told.append(f"{target.relative_to(root)} is not what its key gives: run kdcourse release")
        if not check:
            told.append(path.stem)
    return told


def _released(key: dict[str, Any], name: str, root: Path) -> dict[Path, dict[str, Any]]:
    """Return what is made from a key: the exercise, and where the package is, its own key."""
    released = {root / "exercises" / Path(name).stem / name: release(key)}
    if (root / "kdcourse" / "keys").is_dir():
        released[root / "kdcourse" / "keys" / name] = release(key, hidden_tests=True)
    return released


def _locked(cell: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata with nbgrader's locks and the checksum by which it knows an untouched cell."""
    if not (is_solution(cell) or is_locked(cell)):
        return cell["metadata"]
    metadata = {**cell["metadata"], "deletable": False}
    if is_locked(cell):
        metadata["editable"] = False
    role = {**role_of(cell), "cell_type": cell["cell_type"], "checksum": _checksum(cell)}
    return {**metadata, "nbgrader": role}


def _checksum(cell: dict[str, Any]) -> str:
    parts = [cell["source"], cell["cell_type"], is_graded(cell), is_solution(cell), is_locked(cell), grade_id(cell)]
    if is_graded(cell):
        parts.append(points_of(cell))
    return hashlib.md5("".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()
