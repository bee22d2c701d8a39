"""Which file is whose, and which key it belongs to.

The grader. Submissions lie as ``LEARNER/exNN_stem/exNN_stem.ipynb`` (nbgrader's ``submitted``), ``LEARNER/….ipynb`` or
``LEARNER_exNN….ipynb``. Keys lie in ``solutions/`` of a folder around them, or in the package.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .notebooks import LARGEST, grade_id, parse_notebook, read_notebook
from .sandbox import PACKAGE

_NUMBER = re.compile(r"(?:^|(?<=[^a-z0-9]))ex[ _-]?(\d\d)(?!\d)", re.IGNORECASE)


class Submission(NamedTuple):
    """A file that somebody handed in.

    Attributes
    ----------
    path : Path
    file : str
        The path inside the folder, for people.
    learner : str
    """

    path: Path
    file: str
    learner: str


def find_keys(near: Path, *, folder: Path | None = None) -> dict[str, Path]:
    """Return where the keys lie, by exercise.

    Parameters
    ----------
    near : Path
        A file or folder; ``solutions/`` is looked for beside it and above it, then around the current folder.
    folder : Path, optional
        Only here: a key, or a folder with ``NAME.ipynb`` or ``NAME/NAME.ipynb``, or one that holds ``solutions``.

    Raises
    ------
    ValueError
        If there is none in ``folder``.
    """
    if folder is not None:
        if folder.is_file():
            return {folder.stem: folder}
        found = _keys_in(folder) or _keys_in(folder / "solutions")
        if not found:
            raise ValueError(f"there is no key in {folder}: NAME.ipynb or NAME/NAME.ipynb is needed.")
        return found
    for start in (near.resolve(), Path.cwd()):
        for outer in (start, *start.parents):
            found = _keys_in(outer / "solutions")
            if found:
                return found
    return _keys_in(PACKAGE / "keys")


def _keys_in(folder: Path) -> dict[str, Path]:
    inner = [path for path in folder.glob("*/*.ipynb") if path.stem == path.parent.name]
    return {path.stem: path for path in sorted([*folder.glob("*.ipynb"), *inner])}


def exercise_of(path: Path, keys: Mapping[str, Path], notebook: Mapping[str, Any] | None = None) -> str:
    """Return the exercise that a file is a solution of: by its name, its folder's name, or its cells' names.

    Raises
    ------
    ValueError
        If that cannot be said.
    """
    if len(keys) == 1 and notebook is None:
        return next(iter(keys))
    for text in (path.stem, path.parent.name):
        if text in keys:
            return text
    for text in (path.stem, path.parent.name):
        for number in _NUMBER.findall(text):
            fitting = [name for name in keys if name.lower().startswith(f"ex{number}")]
            if len(fitting) == 1:
                return fitting[0]
    if notebook is not None:
        names = {
            name for cell in notebook["cells"] for name in (grade_id(cell), cell.get("id")) if isinstance(name, str)
        }
        shared = {exercise: len(names & _names_of(key)) for exercise, key in keys.items()}
        best = max(shared, key=lambda exercise: shared[exercise], default=None)
        if best is not None and shared[best] > 2:
            return best
    raise ValueError(
        f"{path.name} does not say which exercise it is: its name, or its folder's, must hold one of "
        f"{', '.join(sorted(keys))}."
    )


def identify(path: Path, data: bytes, keys: Mapping[str, Path]) -> str:
    """Return the exercise of a file, looking inside it only where its name does not tell."""
    try:
        return exercise_of(path, keys)
    except ValueError:
        if len(data) > LARGEST:
            raise
        return exercise_of(path, keys, parse_notebook(data, path.name))


def collect(folder: Path) -> list[Submission]:
    """Return every notebook of a folder with its learner, sorted.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = []
    for path in sorted(_notebooks(folder)):
        inside = path.relative_to(folder)
        found.append(Submission(path, str(inside), _learner(inside, folder.resolve().name)))
    if not found:
        raise ValueError(
            f"there is no notebook in {folder}: LEARNER/exNN_….ipynb or LEARNER_exNN_….ipynb is looked for."
        )
    return found


def _notebooks(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.ipynb"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (path.is_symlink() or not path.is_dir()):
            yield path


def _learner(inside: Path, outermost: str) -> str:
    """Return whose file it is, from where it lies."""
    folders, stem = list(inside.parts[:-1]), inside.stem
    if folders and _NUMBER.match(folders[-1]):  # …/LEARNER/exNN_stem/exNN_stem.ipynb
        folders.pop()
    if folders:
        name = folders[-1]
    else:
        before = _NUMBER.split(stem)[0].strip(" _-.")
        name = before or (outermost if len(inside.parts) > 1 or _NUMBER.match(stem) else stem)
    return unicodedata.normalize("NFC", name).encode("utf-8", "replace").decode("utf-8")


def _names_of(key: Path) -> set[str]:
    return {name for cell in read_notebook(key)["cells"] if (name := grade_id(cell))} - {
        "title",
        "course_setup",
        "setup",
    }


def read_bytes(path: Path) -> bytes:
    """Return a submission's bytes, one more than is read if it is too large.

    Raises
    ------
    ValueError
        If it is no ordinary file: a link may lead out of the folder, a pipe never ends.
    """
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name} is a link or no ordinary file; hand in the notebook itself.")
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}.") from None
