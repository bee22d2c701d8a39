"""Whether the grader gives what it must: full points for every key, none for what nobody has worked on.

The exercises. ``kdcourse selftest``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .grader import grade, make_worker
from .notebooks import notebook_text, read_notebook
from .release import release
from .session import Worker
from .submissions import find_keys


def selftest(root: Path, *, names: tuple[str, ...] = (), keys: Path | None = None) -> Iterator[tuple[str, str]]:
    """Grade each key, and each unmodified exercise against the key and against itself.

    Parameters
    ----------
    root : Path
        Where keys are looked for; see `submissions.find_keys`.
    names : tuple of str
        Beginnings of names; all by default.
    keys : Path, optional
        Only here.

    Yields
    ------
    tuple of str
        An exercise, and what is wrong with it; empty if nothing is.
    """
    found = {name: path for name, path in find_keys(root, folder=keys).items() if name.startswith(names or "")}
    if not found:
        raise ValueError(f"there are no keys named {', '.join(names)}" if names else "there are no keys to test.")
    worker = make_worker()
    try:
        for name, path in found.items():
            yield name, "; ".join(wrong_with(read_notebook(path), path.read_bytes(), worker))
    finally:
        worker.close()


def wrong_with(key: dict[str, Any], data: bytes, worker: Worker) -> list[str]:
    """Return what is wrong with the grades that a key, and its unmodified exercise, get; nothing if all is well."""
    exercise = release(key)
    untouched = notebook_text(exercise).encode()
    cases = [("the unmodified exercise", key), ("the unmodified exercise against itself", exercise)]
    wrong = []
    if any("BEGIN SOLUTION" in cell["source"] for cell in key["cells"]):  # those in the package do not
        result = grade(data, "key.ipynb", key, worker=worker)
        if result.total != result.max or result.flags or result.status != "graded":
            reasons = [result.reason, *result.flags, *(cell.error for cell in result.cells)]
            wrong.append(f"the key gets {result.total:g} of {result.max:g} ({'; '.join(filter(None, reasons))})")
    else:
        wrong.append("it holds no solutions, so nothing shows that a right answer gets its points; see --key")
    for what, against in cases:
        result = grade(untouched, "exercise.ipynb", against, worker=worker)
        if result.total or result.status != "graded":
            passed = [cell.name for cell in result.cells if cell.points]
            wrong.append(f"{what} gets {result.total:g} points ({', '.join(passed) or result.reason})")
    return wrong
