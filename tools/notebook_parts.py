"""What chapters and exercises are built with alike: the badge, the first cell, cell ids, execution, clean outputs."""

import hashlib
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 500_000  # bytes of a built notebook
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "▶ *A live widget appears here when you run this cell.*"

SETUP = """\
# Run this cell first. Where the course is missing (on Colab) it is installed; where it is there, nothing changes.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kdcourse") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "kdcourse @ git+REPOSITORY@vVERSION"], check=True)

import kdcourse

kdcourse.check_env()"""


def project() -> tuple[str, str]:
    """Return the repository's address and the version, from the one place where they stand."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table["urls"]["Repository"].removesuffix("/"), table["version"]


def setup_cell() -> str:
    """Return the first cell's code, the same in every chapter and exercise."""
    repository, version = project()
    return SETUP.replace("REPOSITORY", repository).replace("VERSION", version)


def open_source(source: Path, path: str) -> NotebookNode:
    """Return the notebook of a py:percent source with the badge, the first cell and glossary links; metadata as read.

    Parameters
    ----------
    source : Path
        Its first cell is markdown and begins with the title.
    path : str
        Where the notebook lies in the repository; the badge opens it on Colab.
    """
    repository, version = project()
    notebook = jupytext.read(source, fmt="py:percent")
    colab = f"https://colab.research.google.com/github/{repository.split('github.com/')[1]}/blob/v{version}/{path}"
    badge = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        raise ValueError(f"{source.name}: the first cell must be markdown and begin with the title, '# …'.")
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}\n\n{badge}\n{rest}".rstrip()
    notebook.cells.insert(1, nbformat.v4.new_code_cell(setup_cell()))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("](glossary:", f"]({repository}/blob/v{version}/docs/glossary.md#")
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def cell_id(source: str, used: set[str]) -> str:
    """Return an id that stays with the cell's text, wherever it moves."""
    for number in range(len(used) + 1):
        text = source if number == 0 else f"{source}\n#{number}"
        candidate = hashlib.sha256(text.encode()).hexdigest()[:12]
        if candidate not in used:
            break
    used.add(candidate)
    return candidate


def execute(notebook: NotebookNode, folder: Path, *, timeout: int = 300) -> float:
    """Run every cell in place, as someone would from that folder; return the seconds it took."""
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    start = time.perf_counter()
    client.execute()
    return time.perf_counter() - start


def keep_outputs(fresh: NotebookNode, target: Path) -> bool:
    """Copy the outputs of a built notebook into a fresh one of the same code, so that nothing needs to be executed.

    Parameters
    ----------
    fresh : NotebookNode
        Assembled and not executed. Its second cell, the first of code, is the builder's own and may differ.
    target : Path
        What was built before.

    Returns
    -------
    bool
        False, and nothing copied, if there is no such notebook, its code differs, or it was not executed in order.
    """
    if not target.exists():
        return False
    before, after = _code_cells(nbformat.read(target, as_version=4)), _code_cells(fresh)
    if [cell.source for cell in before[1:]] != [cell.source for cell in after[1:]] or len(before) != len(after):
        return False
    if [cell.execution_count for cell in before] != list(range(1, len(before) + 1)):
        return False
    if any(output.output_type == "error" for cell in before for output in cell.outputs):
        return False
    for old, new in zip(before, after, strict=True):
        new["outputs"], new["execution_count"] = old.outputs, old.execution_count
    return True


def keep_or_execute(notebook: NotebookNode, target: Path, *, again: bool = False) -> str:
    """Give a fresh notebook its outputs: those built before if the code is the same, or else by executing it.

    Parameters
    ----------
    notebook : NotebookNode
        Assembled and not executed; changed in place.
    target : Path
        What was built before, and the place to execute in.
    again : bool
        Execute also if the code is the same: the package may have changed.

    Returns
    -------
    str
        What was done, in words.
    """
    if not again and keep_outputs(notebook, target):
        return "same code, outputs kept (--execute runs it again)"
    seconds = execute(notebook, target.parent)
    clean(notebook)
    return f"executed, {seconds:.0f} s"


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


def built_problems(target: Path, fresh: NotebookNode, source: Path) -> list[str]:
    """Return what is wrong with a built and executed notebook, beside what its source would give, as sentences."""
    if not target.exists():
        return [f"{target.name} is missing"]
    found = []
    built = nbformat.read(target, as_version=4)
    if _parts(built.cells) != _parts(fresh.cells):
        found.append(f"{target.name} is not what {source.name} gives: edit the source and build again")
    code = _code_cells(built)
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


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _parts(cells: Iterable[NotebookNode]) -> list[tuple]:
    return [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in cells]
