"""``kdcourse notebooks``: chapters and exercises for somebody who installed the package and has no checkout."""

import argparse
import shlex
from importlib import resources
from pathlib import Path

from .._files import write_atomically
from .console import say

PACKAGE = Path(str(resources.files("kdcourse")))


def run(options: argparse.Namespace) -> int:
    """Write them and say how to open them."""
    written = write_notebooks(options.folder)
    start = options.folder / "notebooks" / "00_start_here.ipynb"
    say(f"{written} notebook{'' if written == 1 else 's'} written. The course is in {options.folder}; open it with")
    say(shlex.join(["jupyter", "lab", f"--notebook-dir={options.folder}", str(start)]))
    return 0


def write_notebooks(folder: Path, course: Path | None = None) -> int:
    """Write all chapters and exercises into a folder, unless one there has been changed.

    Parameters
    ----------
    folder : Path
        Gets ``notebooks/`` and ``exercises/``, and is made if needed. Each notebook is written atomically, and one
        that is there already and is unchanged stays; so a second call goes on where a first one was stopped.
    course : Path, optional
        Folder to copy from; by default the one in the package, or the checkout that is installed.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ValueError
        If a notebook in the folder has been changed, or this installation has no notebooks; nothing is written.
    OSError
        If a file cannot be written.
    """
    course = course or find_course()
    notebooks = {path.relative_to(course): path.read_bytes() for path in _notebooks_of(course)}
    present = {name: (folder / name).read_bytes() for name in notebooks if (folder / name).exists()}
    changed = [str(name) for name in present if present[name] != notebooks[name]]
    if changed:
        raise ValueError(
            f"{folder} holds notebooks that differ from the course's: {', '.join(changed)}. Nothing was written, so "
            "that no work is lost. Give another folder, or move them away first."
        )
    missing = {name: text for name, text in notebooks.items() if name not in present}
    for name, text in missing.items():
        write_atomically(folder / name, lambda path, text=text: path.write_bytes(text))  # type: ignore[misc]
    return len(missing)


def find_course() -> Path:
    """Return the folder that holds ``notebooks/`` and ``exercises/``.

    Raises
    ------
    ValueError
        If this installation has none.
    """
    for folder in (PACKAGE / "course", PACKAGE.parent):
        if (folder / "exercises").is_dir() and _notebooks_of(folder):
            return folder
    raise ValueError("this installation has no notebooks: install the course from a wheel, or from a whole checkout.")


def _notebooks_of(course: Path) -> list[Path]:
    return sorted([*course.glob("notebooks/*.ipynb"), *course.glob("exercises/*/*.ipynb")])
