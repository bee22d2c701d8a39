"""Which file is whose, and which key it belongs to.

The grader. Submissions lie as ``LEARNER/exNN_stem/exNN_stem.ipynb`` (nbgrader's ``submitted``), ``LEARNER/….ipynb`` or
``LEARNER_exNN….ipynb``. Keys lie in ``solutions/`` of a folder around them, or in the package.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .escaping import visible_line
from .notebooks import LARGEST, grade_id, is_locked, is_solution, parse_notebook, read_notebook, too_large
from .overlay import assigned
from .sandbox import PACKAGE

DEEPEST = 12  # folders below the one that is graded; whoever nests more does it on purpose
_NUMBER = re.compile(r"(?:^|(?<=[^a-z0-9]))ex[ _-]?(\d\d)(?!\d)", re.IGNORECASE)


class Submission(NamedTuple):
    """A file that somebody handed in.

    Attributes
    ----------
    path : Path
    file : str
        The path inside the folder, for people: characters that cannot be shown are written out.
    learner : str
    stem : str
        Beginning of the names of files about it, which no other submission has and every file system takes.
    problem : str
        Why it cannot be read, if that is known already.
    """

    path: Path
    file: str
    learner: str
    stem: str
    problem: str = ""


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


def exercise_by_name(path: Path, keys: Mapping[str, Path]) -> str | None:
    """Return the exercise that a file's name, or its folder's name, says; None if they do not say one of the keys."""
    for text in (path.stem, path.parent.name):
        if text in keys:
            return text
    for text in (path.stem, path.parent.name):
        for number in _NUMBER.findall(text):
            fitting = [name for name in keys if name.lower().startswith(f"ex{number}")]
            if len(fitting) == 1:
                return fitting[0]
    return None


def exercise_of(path: Path, keys: Mapping[str, Path], notebook: Mapping[str, Any] | None = None) -> str:
    """Return the exercise that a file is a solution of: by its name, its folder's name, or its cells.

    Raises
    ------
    ValueError
        If that cannot be said.
    """
    named = exercise_by_name(path, keys)
    if named is not None:
        return named
    if notebook is not None:
        alike = {exercise: _alikeness(notebook, read_notebook(key)) for exercise, key in keys.items()}
        best = max(alike, key=lambda exercise: alike[exercise], default=None)
        if best is not None and alike[best] > 2:
            return best
    raise ValueError(
        f"{visible_line(path.name)} does not say which exercise it is: its name, or its folder's, must hold one of "
        f"{', '.join(sorted(keys))}."
    )


def _alikeness(notebook: Mapping[str, Any], key: Mapping[str, Any]) -> int:
    """Return how many cells a notebook has in common with a key: by their names, or by texts and what they define."""
    names, texts, answers = set(), set(), set()
    for cell in key["cells"]:
        if is_solution(cell):
            answers |= assigned(cell["source"])
        if grade_id(cell) not in (None, "title", "course_setup", "setup"):
            names.add(grade_id(cell))
            if is_locked(cell):
                texts.add(_words(cell["source"]))
    cells = notebook["cells"]
    theirs = {name for cell in cells for name in (grade_id(cell), cell.get("id")) if isinstance(name, str)}
    same_texts = texts & {_words(cell["source"]) for cell in cells}
    same_answers = answers & {name for cell in cells for name in assigned(cell["source"])}
    return max(len(names & theirs), len(same_texts) + len(same_answers))


def _words(source: str) -> str:
    return " ".join(source.split())


def identify(path: Path, data: bytes, keys: Mapping[str, Path]) -> str:
    """Return the exercise of a file, looking inside it only where its name does not tell."""
    return exercise_by_name(path, keys) or exercise_of(path, keys, parse_notebook(data, path.name))


def collect(folder: Path) -> list[Submission]:
    """Return every notebook of a folder with its learner, sorted.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = [(path, path.relative_to(folder), problem) for path, problem in _notebooks(folder)]
    if not found:
        raise ValueError(
            f"there is no notebook in {folder}: LEARNER/exNN_….ipynb or LEARNER_exNN_….ipynb is looked for."
        )
    outside = _folders_around_all([_learners_folders(inside) for _, inside, _ in found])
    submissions = []
    for path, inside, problem in sorted(found, key=lambda item: os.fsencode(item[1])):
        learner = _readable(_learner(inside, outside, folder.resolve().name))
        submissions.append(Submission(path, _readable(str(inside)), learner, _stem(learner, inside), problem))
    return _one_problem_each(submissions)


def _notebooks(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield notebooks, and folders that cannot be looked into; a stack instead of calls, as folders may be nested."""
    waiting = [(folder, 0)]
    while waiting:
        place, depth = waiting.pop()
        try:
            entries = list(os.scandir(place))
        except OSError as error:
            yield place, f"the folder cannot be read: {error.strerror or error}."
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir(follow_symlinks=False):
                if entry.name.endswith(".ipynb"):
                    yield place / entry.name, ""
            elif depth < DEEPEST:
                waiting.append((place / entry.name, depth + 1))
            else:
                yield place / entry.name, f"folders are nested deeper than {DEEPEST}, and nothing in there is read."


def _one_problem_each(submissions: list[Submission]) -> list[Submission]:
    """Keep the first of a learner's folders that cannot be read: there may be thousands."""
    told: set[tuple[str, str]] = set()
    kept = []
    for submission in submissions:
        if submission.problem and (submission.learner, submission.problem) in told:
            continue
        told.add((submission.learner, submission.problem))
        kept.append(submission)
    return kept


def _learners_folders(inside: Path) -> list[str]:
    """Return the folders that a file lies in, without the exercise's own."""
    folders = list(inside.parts[:-1])
    if folders and _NUMBER.match(folders[-1]):  # …/LEARNER/exNN_stem/exNN_stem.ipynb
        folders.pop()
    return folders


def _folders_around_all(everybody: list[list[str]]) -> int:
    """Return how many outer folders hold the whole class, such as a year's or a group's.

    A folder that somebody has handed in holds all files too if nobody else has handed in anything. So an outer folder
    counts only if its name is a number, or if several people's folders lie in it.
    """
    depth = 0
    while all(len(folders) > depth + 1 for folders in everybody):
        outer, inner = {folders[depth] for folders in everybody}, {folders[depth + 1] for folders in everybody}
        if len(outer) > 1 or (len(inner) < 2 and any(letter.isalpha() for letter in "".join(outer))):
            break
        depth += 1
    return depth


def _learner(inside: Path, outside: int, outermost: str) -> str:
    """Return whose file it is: the outermost folder's that is one learner's, so that nobody speaks for another."""
    folders, stem = _learners_folders(inside), inside.stem
    if folders:
        return folders[outside]
    before = _NUMBER.split(stem)[0].strip(" _-.")
    return before or (outermost if len(inside.parts) > 1 or _NUMBER.match(stem) else stem)


def _readable(text: str) -> str:
    """Return a name that can be written to every file; bytes that are no text are written out as such."""
    decoded = os.fsencode(text).decode("utf-8", "backslashreplace")
    return visible_line(unicodedata.normalize("NFC", decoded))


def _stem(learner: str, inside: Path) -> str:
    tail = hashlib.sha256(os.fsencode(inside)).hexdigest()[:12]
    plain = re.sub(r"[^\w.-]+", "_", learner).strip("._")[:60]
    return f"{plain or 'learner'}-{tail}"


def read_bytes(path: Path) -> bytes:
    """Return a submission's bytes.

    Raises
    ------
    ValueError
        If it is no ordinary file (a link may lead out of the folder, a pipe never ends), or too large.
    """
    name = visible_line(path.name)
    try:
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{name} is a link or no ordinary file; hand in the notebook itself.")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}.") from None
    if len(data) > LARGEST:
        raise ValueError(too_large(name))
    return data
