"""Build keys, exercises and the package's keys from one source per exercise: one way, source → notebooks.

``python tools/build_exercises.py``            builds every exercise; a key whose code changed is executed
``python tools/build_exercises.py ex02``       only those whose name begins with ex02 (02 does as well)
``python tools/build_exercises.py --execute``  executes every key: outputs also depend on the package
``python tools/build_exercises.py --check``    builds nothing; fails if something is not what its source would give

``solutions/exNN_stem.py`` gives ``solutions/exNN_stem/exNN_stem.ipynb`` (the key, executed), ``exercises/…`` (what
learners get) and ``kdcourse/keys/exNN_stem.ipynb`` (hidden tests without solutions, for the grader of an installed
package). A cell of the source says what it is for: ``locked="name"``, ``solution="name"``, or ``check="name"
points=4``; a cell without any of them is free. ``asks="kd_loss soften"`` beside ``solution=`` names functions of the
package that would be the answer: the grader flags their use.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from notebook_parts import ROOT, built_problems, cell_id, keep_or_execute, open_source

from kdcourse.grading.notebooks import ASKS, notebook_text, read_notebook, write_text
from kdcourse.grading.release import HIDDEN_TESTS, SOLUTION, release, without_region

KINDS = {  # of a cell in the source: nbgrader's grade, solution, locked
    "locked": (False, False, True),
    "solution": (False, True, False),
    "check": (True, False, True),
}


def assemble(source: Path, root: Path = ROOT) -> NotebookNode:
    """Return the key of a source, not executed: nbgrader's metadata, and its grade ids as cell ids."""
    notebook = open_source(source, f"exercises/{source.stem}/{source.stem}.ipynb", root)
    notebook.cells[0].metadata["locked"] = "title"
    notebook.cells[1].metadata["locked"] = "course_setup"
    used: set[str] = set()
    for cell in notebook.cells:
        role = _role(cell, source.name)
        tags = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
        asks = {ASKS: cell.metadata["asks"].split()} if "asks" in cell.metadata else {}
        cell["metadata"] = NotebookNode(tags | asks | ({"nbgrader": role} if role else {}))
        if role and role["grade_id"] in used:
            raise ValueError(f"{source.name}: two cells have the name {role['grade_id']!r}.")
        if role:
            used.add(role["grade_id"])
        cell["id"] = role["grade_id"] if role else cell_id(cell.source, used)
    return notebook


def _role(cell: NotebookNode, name: str) -> dict | None:
    """Return the nbgrader metadata that a cell of the source asks for, or None for a free cell."""
    kinds = [kind for kind in KINDS if kind in cell.metadata]
    if not kinds:
        if f"BEGIN {SOLUTION}" in cell.source or f"BEGIN {HIDDEN_TESTS}" in cell.source:
            raise ValueError(f"{name}: a cell with {cell.source[:40]!r} has regions and neither solution= nor check=.")
        return None
    if len(kinds) > 1:
        raise ValueError(f"{name}: a cell is one of locked, solution and check, not {' and '.join(kinds)}.")
    kind = kinds[0]
    grade, solution, locked = KINDS[kind]
    role = {
        "grade": grade, "grade_id": cell.metadata[kind], "locked": locked, "schema_version": 3, "solution": solution,
        "task": False,
    }  # fmt: skip
    where = f"{name}, cell {role['grade_id']!r}"
    if kind != "locked" and cell.cell_type != "code":
        raise ValueError(f"{where}: only code can be a {kind} cell.")
    if solution and not without_region(cell.source, SOLUTION)[1]:
        raise ValueError(f"{where}: a solution cell needs ### BEGIN SOLUTION and ### END SOLUTION.")
    if grade:
        if not isinstance(cell.metadata.get("points"), int) or cell.metadata["points"] < 1:
            raise ValueError(f"{where}: a check needs points=…, a whole number from 1.")
        role["points"] = cell.metadata["points"]
        if not without_region(cell.source, HIDDEN_TESTS)[0].strip():
            raise ValueError(f"{where}: a check needs a visible line. Once released it would be empty, and pass.")
    return role


def build(source: Path, root: Path = ROOT, *, execution: str = "changed") -> str:
    """Build key, exercise and the package's key, each written atomically; return in words whether it was executed."""
    notebook = assemble(source, root)
    key = root / "solutions" / source.stem / f"{source.stem}.ipynb"
    key.parent.mkdir(parents=True, exist_ok=True)
    done = keep_or_execute(notebook, key, execution=execution)
    nbformat.validate(notebook)
    write_text(key, nbformat.writes(notebook) + "\n")
    for path, text in _derived(key, root).items():
        write_text(path, text)
    return done


def _derived(key: Path, root: Path) -> dict[Path, str]:
    notebook = read_notebook(key)
    return {
        root / "exercises" / key.stem / key.name: notebook_text(release(notebook)),
        root / "kdcourse" / "keys" / key.name: notebook_text(release(notebook, hidden_tests=True)),
    }


def problems(source: Path, root: Path = ROOT) -> list[str]:
    """Return what is wrong with what was built from a source, as sentences."""
    key = root / "solutions" / source.stem / f"{source.stem}.ipynb"
    fresh = assemble(source, root)
    found = built_problems(key, fresh, source)
    if not key.exists():
        return found
    for path, text in _derived(key, root).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(f"{path.relative_to(root)} is not what its key gives: build {source.stem} again")
    scored = [
        cell.id
        for cell in nbformat.read(key, as_version=4).cells
        if cell.metadata.get("nbgrader", {}).get("grade")
        and any(output.output_type == "execute_result" for output in cell.outputs)
    ]
    found += [f"{key.name}: check {name!r} ends with a value, which nbgrader takes for its score" for name in scored]
    return found


def orphans(root: Path = ROOT) -> list[str]:
    """Return what has no source any more."""
    sources = {path.stem for path in (root / "solutions").glob("ex*.py")}
    built = [
        *(root / "solutions").glob("*/*.ipynb"),
        *(root / "exercises").glob("*/*.ipynb"),
        *(root / "kdcourse" / "keys").glob("*.ipynb"),
    ]
    return [f"{path.relative_to(root)} has no source" for path in sorted(built) if path.stem not in sources]


def main(arguments: list[str] | None = None) -> int:
    """Build or check; return 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names, such as ex02 or 02; all by default")
    parser.add_argument("--check", action="store_true", help="build nothing, fail on drift")
    parser.add_argument("--execute", action="store_true", help="execute also where the code is unchanged")
    options = parser.parse_args(arguments)
    wanted = tuple(name if name.startswith("ex") else f"ex{name}" for name in options.names)
    every = sorted((ROOT / "solutions").glob("ex*.py"))
    sources = [source for source in every if not wanted or source.name.startswith(wanted)]
    if not sources:
        parser.error(f"no exercise begins with {options.names}")
    found = []
    for source in sources:
        if not options.check:
            print(f"{source.stem}: {build(source, execution='always' if options.execute else 'changed')}", flush=True)
        found += problems(source)
    found += orphans()
    print("\n".join(found) if found else f"{len(sources)} exercises are what their sources give")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
