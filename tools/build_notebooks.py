"""Build the notebooks that people open from the sources that people edit: one way, source → notebook.

``python tools/build_notebooks.py``            builds and executes every chapter
``python tools/build_notebooks.py 02``         only those whose name begins with 02
``python tools/build_notebooks.py --check``    builds nothing; fails if a notebook is not what its source would give,
                                               was not executed, holds an error, widget state, or is too large

A source is py:percent. The builder adds the title's badge and the first cell, the same everywhere, from the project's
address and version in ``pyproject.toml``; gives links such as ``[T](glossary:temperature)`` their address; executes;
and keeps of the outputs what a reader without a kernel needs.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks" / "source"
NOTEBOOKS = ROOT / "notebooks"
LARGEST = 500_000  # bytes of a built notebook
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "▶ *A live widget appears here when you run this cell.*"

SETUP = """\
# Run this cell first. Where the course is missing (on Colab) it is installed; where it is there, nothing changes.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kdcourse") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "kdcourse @ git+{repository}@v{version}"], check=True)

import kdcourse

kdcourse.check_env()"""


def project() -> tuple[str, str]:
    """Return the repository's address and the version, from the one place where they stand."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table["urls"]["Repository"].removesuffix("/"), table["version"]


def assemble(source: Path) -> NotebookNode:
    """Return the notebook of a source, not executed: badge, first cell, fixed cell ids, no other metadata."""
    repository, version = project()
    notebook = jupytext.read(source, fmt="py:percent")
    path = f"notebooks/{source.stem}.ipynb"
    colab = f"https://colab.research.google.com/github/{repository.split('github.com/')[1]}/blob/v{version}/{path}"
    badge = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        raise ValueError(f"{source.name}: the first cell must be markdown and begin with the title, '# …'.")
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}\n\n{badge}\n{rest}".rstrip()
    setup = SETUP.format(repository=repository, version=version)
    notebook.cells.insert(1, nbformat.v4.new_code_cell(setup))
    used: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("](glossary:", f"]({repository}/blob/v{version}/docs/glossary.md#")
        cell["metadata"] = {key: value for key, value in cell.metadata.items() if key in ("tags", "nbgrader")}
        cell["id"] = _cell_id(cell.source, used)
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _cell_id(source: str, used: set[str]) -> str:
    """Return an id that stays with the cell's text, wherever it moves."""
    for number in range(len(used) + 1):
        text = source if number == 0 else f"{source}\n#{number}"
        candidate = hashlib.sha256(text.encode()).hexdigest()[:12]
        if candidate not in used:
            break
    used.add(candidate)
    return candidate


def execute(notebook: NotebookNode, *, timeout: int = 300) -> float:
    """Run every cell in place, as a learner would from the notebooks' folder; return the seconds it took."""
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )  # fmt: skip
    start = time.perf_counter()
    client.execute()
    return time.perf_counter() - start


def clean(notebook: NotebookNode) -> None:
    """Keep what a reader without a kernel needs: no widget state, no progress bars, no timing."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                continue  # progress bars; a warning that matters belongs in the text
            if WIDGET_VIEW in output.get("data", {}):
                output = nbformat.v4.new_output(
                    "display_data", {"text/markdown": WIDGET_NOTE, "text/plain": WIDGET_NOTE.replace("*", "")}
                )
            kept.append(output)
        cell.outputs = kept


def build(source: Path) -> float:
    """Build one notebook, executed, written whole or not at all."""
    notebook = assemble(source)
    seconds = execute(notebook)
    clean(notebook)
    nbformat.validate(notebook)
    target = NOTEBOOKS / f"{source.stem}.ipynb"
    handle, temporary = tempfile.mkstemp(dir=NOTEBOOKS, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(nbformat.writes(notebook) + "\n")
    os.chmod(temporary, 0o644)
    os.replace(temporary, target)
    return seconds


def problems(source: Path) -> list[str]:
    """Return what is wrong with the built notebook of a source, as sentences."""
    target = NOTEBOOKS / f"{source.stem}.ipynb"
    if not target.exists():
        return [f"{target.name} is missing"]
    found = []
    built, fresh = nbformat.read(target, as_version=4), assemble(source)
    if [(c.id, c.cell_type, c.source, c.metadata) for c in built.cells] != [
        (c.id, c.cell_type, c.source, c.metadata) for c in fresh.cells
    ]:
        found.append(f"{target.name} is not what {source.name} gives: edit the source and build again")
    code = [cell for cell in built.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"{target.name} was not executed once from top to bottom (execution counts {counts})")
    outputs = [output for cell in code for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        found.append(f"{target.name} holds an error")
    if "widgets" in built.metadata or any(WIDGET_VIEW in output.get("data", {}) for output in outputs):
        found.append(f"{target.name} holds widget state")
    if any("execution" in cell.metadata for cell in built.cells):
        found.append(f"{target.name} holds timing metadata")
    if target.stat().st_size > LARGEST:
        found.append(f"{target.name} has {target.stat().st_size:,} bytes, more than {LARGEST:,}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Build or check; return 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of chapter names, such as 02; all by default")
    parser.add_argument("--check", action="store_true", help="build nothing, fail on drift")
    options = parser.parse_args(arguments)
    sources = [s for s in sorted(SOURCES.glob("*.py")) if not options.names or s.name.startswith(tuple(options.names))]
    if not sources:
        parser.error(f"no chapter begins with {options.names}")
    found = []
    for source in sources:
        if not options.check:
            print(f"{source.stem}: {build(source):.0f} s", flush=True)
        found += problems(source)
    orphans = {path.stem for path in NOTEBOOKS.glob("*.ipynb")} - {source.stem for source in SOURCES.glob("*.py")}
    found += [f"{stem}.ipynb has no source" for stem in sorted(orphans)]
    print("\n".join(found) if found else f"{len(sources)} notebooks are what their sources give")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
