"""Build the notebooks that people open from the sources that people edit: one way, source → notebook.

``python tools/build_notebooks.py``            builds every chapter; one whose code is unchanged keeps its outputs
``python tools/build_notebooks.py 02``         only those whose name begins with 02
``python tools/build_notebooks.py --execute``  executes them all: outputs also depend on the package
``python tools/build_notebooks.py --check``    builds nothing; fails if a notebook is not what its source would give,
                                               was not executed, holds an error, widget state, or is too large

A source is py:percent. The builder adds the title's badge and the first cell, the same everywhere, from the project's
address and version in ``pyproject.toml``; gives links such as ``[T](glossary:temperature)`` their address; prints the
solution of each your-turn cell below it, folded; fills in the guide's tables from the package's ledger; executes if any
code changed; and keeps of the outputs what a reader without a kernel needs.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from notebook_parts import ROOT, TURN, built_problems, cell_id, keep_or_execute, kept_metadata, open_source

from kdcourse.checks.turns import find_turn, solution_of
from kdcourse.grading.notebooks import write_text
from kdcourse.guide import counts_in_words, guide_table, read_guide

NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "source"


def assemble(source: Path, root: Path = ROOT) -> NotebookNode:
    """Return the notebook of a source, not executed: badge, first cell, fixed cell ids, no other metadata."""
    notebook = open_source(source, f"notebooks/{source.stem}.ipynb", root)
    notebook.cells = [part for cell in notebook.cells for part in (cell, *solutions(cell))]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_guide(cell.source)
    notebook.cells.append(nbformat.v4.new_markdown_cell(ways_on(source, root)))
    notebook.cells[1].metadata["tags"] = ["plumbing"]  # the first cell of code: installs and reports
    used: set[str] = set()
    for cell in notebook.cells:
        cell["metadata"] = kept_metadata(cell)
        cell["id"] = cell_id(cell.source, used)
    return notebook


def solutions(cell: NotebookNode) -> list[NotebookNode]:
    """Return a cell with the folded solution of what a learner writes in this one, from the package; or nothing."""
    keys = TURN.findall(cell.source) if cell.cell_type == "code" else []
    folded = "<details><summary><b>One way to write it</b></summary>\n\n```python\n{}\n```\n\n{}\n\n</details>"
    turns = [find_turn(key) for key in keys]
    return [nbformat.v4.new_markdown_cell(folded.format(solution_of(turn), turn.note)) for turn in turns]


def with_guide(markdown: str) -> str:
    """Return markdown in which ``{{ guide: Schedule }}`` is that topic's table, linked to the ledger.

    ``{{ ledger: counts }}`` is the sentence that counts the verdicts.

    Raises
    ------
    ValueError
        If the guide has no such topic.
    """

    def table(match: re.Match[str]) -> str:
        guide = read_guide()
        if match[1] not in guide:
            raise ValueError(f"the guide has no topic {match[1]!r}; it has {', '.join(guide)}.")
        return guide_table(guide[match[1]], ledger="../docs/ledger.md")

    return re.sub(r"\{\{ guide: (.*?) \}\}", table, markdown).replace("{{ ledger: counts }}", counts_in_words())


def exercises_of(source: Path, root: Path) -> list[Path]:
    """Return the exercises of a chapter: with a b behind the number where the source text has taken it already."""
    named = [sorted((root / "solutions").glob(f"ex{source.stem[:2]}{letter}_*.py")) for letter in ("b", "")]
    return named[0] or named[1]


def ways_on(source: Path, root: Path = ROOT) -> str:
    """Return the last cell: links to the chapters before and after, the exercise, the glossary and the traps."""
    chapters = sorted(source.parent.glob("*.py"))
    place = chapters.index(source)
    links = []
    if place > 0:
        links.append(f"← [{title_of(chapters[place - 1])}]({chapters[place - 1].stem}.ipynb)")
    links += [
        f"[{title_of(exercise)}](../exercises/{exercise.stem}/{exercise.stem}.ipynb)"
        for exercise in exercises_of(source, root)
    ]
    links += ["[Glossary](../docs/glossary.md)", "[Traps](../docs/traps.md)"]
    if place + 1 < len(chapters):
        links.append(f"[{title_of(chapters[place + 1])}]({chapters[place + 1].stem}.ipynb) →")
    return "---\n\n" + " · ".join(links)


def title_of(source: Path) -> str:
    """Return a source's title, a chapter's with its number: ``02 Soft targets``, ``Exercise 02: soft targets``."""
    lines = source.read_text(encoding="utf-8").splitlines()
    title = next(line for line in lines if line.startswith("# # ")).removeprefix("# # ")
    return f"{source.stem[:2]} {title}" if source.stem[:2].isdigit() else title


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
