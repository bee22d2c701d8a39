"""Build the notebooks that people open from the sources that people edit: one way, source → notebook.

``python tools/build_notebooks.py``            builds every chapter; one whose code is unchanged keeps its outputs
``python tools/build_notebooks.py 02``         only those whose name begins with 02
``python tools/build_notebooks.py --execute``  executes them all: outputs also depend on the package
``python tools/build_notebooks.py --check``    builds nothing; fails if a notebook is not what its source would give,
                                               was not executed, holds an error, widget state, or is too large

A source is py:percent. The builder adds the title's badge and the first cell, the same everywhere, from the project's
address and version in ``pyproject.toml``; gives links such as ``[T](glossary:temperature)`` their address; executes if
any code changed; and keeps of the outputs what a reader without a kernel needs.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from notebook_parts import ROOT, built_problems, cell_id, keep_or_execute, open_source

from kdcourse.grading.notebooks import write_text

NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"


def assemble(source: Path, root: Path = ROOT) -> NotebookNode:
    """Return the notebook of a source, not executed: badge, first cell, fixed cell ids, no other metadata."""
    notebook = open_source(source, f"notebooks/{source.stem}.ipynb", root)
    used: set[str] = set()
    for cell in notebook.cells:
        cell["metadata"] = {key: value for key, value in cell.metadata.items() if key == "tags"}
        cell["id"] = cell_id(cell.source, used)
    return notebook


def build(source: Path, root: Path = ROOT, *, execution: str = "changed") -> str:
    """Build one notebook, written atomically; return in words whether it was executed."""
    notebook, target = assemble(source, root), root / "notebooks" / f"{source.stem}.ipynb"
    done = keep_or_execute(notebook, target, execution=execution)
    nbformat.validate(notebook)
    write_text(target, nbformat.writes(notebook) + "\n")
    return done


def problems(source: Path, root: Path = ROOT) -> list[str]:
    """Return what is wrong with the built notebook of a source, as sentences."""
    return built_problems(root / "notebooks" / f"{source.stem}.ipynb", assemble(source, root), source)


def main(arguments: list[str] | None = None) -> int:
    """Build or check; return 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of chapter names, such as 02; all by default")
    parser.add_argument("--check", action="store_true", help="build nothing, fail on drift")
    parser.add_argument("--execute", action="store_true", help="execute also where the code is unchanged")
    options = parser.parse_args(arguments)
    sources = [s for s in sorted(SOURCES.glob("*.py")) if not options.names or s.name.startswith(tuple(options.names))]
    if not sources:
        parser.error(f"no chapter begins with {options.names}")
    found = []
    for source in sources:
        if not options.check:
            print(f"{source.stem}: {build(source, execution='always' if options.execute else 'changed')}", flush=True)
        found += problems(source)
    orphans = {path.stem for path in NOTEBOOKS.glob("*.ipynb")} - {source.stem for source in SOURCES.glob("*.py")}
    found += [f"{stem}.ipynb has no source" for stem in sorted(orphans)]
    print("\n".join(found) if found else f"{len(sources)} notebooks are what their sources give")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
