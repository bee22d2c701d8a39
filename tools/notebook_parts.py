"""What chapters and exercises are built with alike: the badge, the first cell, cell ids, execution, clean outputs."""

import hashlib
import html
import re
import time
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import jupytext
import nbformat
from environment import KERNEL_NAME
from nbclient import NotebookClient
from nbformat import NotebookNode
from widget_pictures import WIDGET_STATE, WIDGET_VIEW, without_kernel

from kdcourse.guesses import find_guess
from kdcourse.guide import read_guide
from kdcourse.plots.drawings import draw_cheat_sheet
from kdcourse.plots.showing import KEY, find_description

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 500_000  # bytes of a built notebook
GUESS = re.compile(r'guess\("([^"]+)"\)')
DESCRIPTION = re.compile(rf'alt="({KEY})"')
SHEET = "draw_cheat_sheet(read_guide())"
TURN = re.compile(rf'check\("({KEY})"')

# Lines of at most 75 characters, which a printed page does not cut.
SETUP = """\
# Run this cell first. Where the course is missing, as on Colab, it is
# installed; where it is there, nothing changes.
import importlib.util
import subprocess
import sys
from pathlib import Path

ARCHIVE = "REPOSITORY/archive/refs/tags/vVERSION.zip"


class Stop(Exception):
    def _render_traceback_(self):  # the message says enough
        return [str(self)]


def is_missing():
    importlib.invalidate_caches()
    specs = map(importlib.util.find_spec, ["kdcourse", "torch"])
    return any(spec is None or spec.origin is None for spec in specs)


if is_missing():
    for folder in [Path.cwd(), *Path.cwd().parents]:
        if Path(folder, "kdcourse", "__init__.py").exists():
            raise Stop(
                f"The course is in {folder}, and this kernel, "
                f"{sys.executable}, cannot use it.\\n"
                "Choose .venv as the kernel and run this cell again.\\n"
                "No .venv in that folder? `make lab` there makes one; "
                "README says how without make."
            )
    print("The course is being installed. This takes a minute.")
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    course = f"kdcourse @ {ARCHIVE}"
    done = subprocess.run([*pip, course], capture_output=True, text=True)
    if is_missing():
        lines = done.stderr.splitlines() or ["Restart the kernel."]
        errors = [x for x in lines if x.lower().startswith("error")]
        raise Stop(
            f"The course could not be installed from {ARCHIVE}\\n"
            f"pip says: {(errors or lines)[-1][:400]}\\n"
            "Is this machine online? Does the address open in a browser "
            "in which nobody is signed in?"
        )

import kdcourse

kdcourse.check_env()"""


def project(root: Path = ROOT) -> tuple[str, str]:
    """Return the repository's address and the version, from the one place where they stand.

    Parameters
    ----------
    root : Path
        A checkout. A folder without ``pyproject.toml``, a teacher's for example, gets this checkout's.

    Raises
    ------
    ValueError
        If the address is not one of GitHub, from which alone Colab and Binder open a notebook.
    """
    path = root / "pyproject.toml"
    table = tomllib.loads((path if path.exists() else ROOT / path.name).read_text(encoding="utf-8"))["project"]
    return check_address(table["urls"]["Repository"]), table["version"]


def check_address(address: str) -> str:
    """Return a repository's address without a slash at its end, or raise a ValueError that says what it looks like."""
    address = address.strip().removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+", address):
        raise ValueError(
            f"the address must look like https://github.com/OWNER/REPOSITORY, got {address!r}: "
            "Colab opens notebooks from GitHub only."
        )
    return address


def setup_cell(root: Path = ROOT) -> str:
    """Return the first cell's code, the same in every chapter and exercise."""
    repository, version = project(root)
    return SETUP.replace("REPOSITORY", repository).replace("VERSION", version)


def open_source(source: Path, path: str, root: Path = ROOT) -> NotebookNode:
    """Return the notebook of a py:percent source with the badge, the first cell and glossary links; metadata as read.

    Parameters
    ----------
    source : Path
        Its first cell is markdown and begins with the title.
    path : str
        Where the notebook lies in the repository; the badge opens it on Colab.
    root : Path
        The checkout whose address and version are stamped.
    """
    repository, version = project(root)
    owner_and_name = repository.removeprefix("https://github.com/")
    notebook = jupytext.read(source, fmt="py:percent")
    colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/v{version}/{path}"
    badge = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        raise ValueError(f"{source.name}: the first cell must be markdown and begin with the title, '# …'.")
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}\n\n{badge}\n{rest}".rstrip()
    notebook.cells.insert(1, nbformat.v4.new_code_cell(setup_cell(root)))
    up = "../" * path.count("/")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = link_words(cell.source, f"{up}docs/glossary.md", root)
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": KERNEL_NAME, "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def link_words(markdown: str, glossary: str, root: Path = ROOT) -> str:
    """Give links such as ``[T](glossary:temperature)`` the glossary's address, and what it says as hover text.

    Parameters
    ----------
    markdown : str
        Text of a cell.
    glossary : str
        Address of the glossary's page, seen from the notebook.
    root : Path
        The checkout, whose glossary is read.

    Raises
    ------
    ValueError
        If the glossary has no such word.
    """

    def link(match: re.Match[str]) -> str:
        word = match[1]
        if word not in read_glossary(root):
            raise ValueError(f"docs/glossary.md has no {word!r}.")
        return f']({glossary}#{word} "{read_glossary(root)[word]}")'

    return re.sub(r"\]\(glossary:([^)]*)\)", link, markdown)


@cache
def read_glossary(root: Path = ROOT) -> dict[str, str]:
    """Return the glossary's words by anchor, each with its first sentence as plain text."""
    text = (root / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = {}
    for entry in text.split("\n### ")[1:]:
        word, _, meaning = entry.partition("\n")
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(meaning.split("\n\n")[0].split()))
        first = re.split(r"(?<=[.:]) (?=[A-Zα-ω])", plain)[0].strip()
        entries[anchor_of(word)] = first.replace('"', "'").replace("`", "").replace("*", "")
    return entries


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def kept_metadata(cell: NotebookNode) -> dict[str, object]:
    """Return the metadata of a source's cell that readers get: tags, and whether the code is collapsed.

    A cell with the tag ``claims`` (assertions that guard the text) or ``plumbing`` (helpers) is collapsed.
    """
    tags = cell.metadata.get("tags", [])
    kept: dict[str, object] = {"tags": tags} if tags else {}
    if {"claims", "plumbing"} & set(tags):
        kept["jupyter"] = {"source_hidden": True}
    return kept


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
        asked = GUESS.fullmatch(new.source.strip())
        if asked:  # its words stand in the package, not in the code
            question = find_guess(asked[1])
            words = {"text/html": question.to_html(), "text/plain": question.to_text()}
            new["outputs"] = [nbformat.v4.new_output("display_data", words)]
        if new.source.strip() == SHEET:  # the ledger may have grown
            page = draw_cheat_sheet(read_guide())._repr_mimebundle_()
            new["outputs"] = [nbformat.v4.new_output("execute_result", page, execution_count=new.execution_count)]
        _describe(new)
    return True


def _describe(cell: NotebookNode) -> None:
    """Give the pictures of a cell the descriptions that the package holds now."""
    keys = DESCRIPTION.findall(cell.source)
    pictures = [output for output in cell.outputs if "<img " in "".join(output.get("data", {}).get("text/html", ""))]
    for key, output in zip(keys, pictures, strict=False):
        words = find_description(key)
        image = re.sub(r' alt="[^"]*"', lambda _, words=words: f' alt="{html.escape(words)}"', output.data["text/html"])
        output.data.update({"text/html": image, "text/plain": words})


def keep_or_execute(notebook: NotebookNode, target: Path, *, execution: str = "changed") -> str:
    """Give a fresh notebook its outputs: those built before if the code is the same, or else by executing it.

    Parameters
    ----------
    notebook : NotebookNode
        Assembled and not executed; changed in place.
    target : Path
        What was built before, and the place to execute in.
    execution : str
        ``"changed"`` executes if the code differs from what was built, ``"always"`` also if it does not, because the
        package may have changed, ``"never"`` raises instead.

    Returns
    -------
    str
        What was done, in words.

    Raises
    ------
    ValueError
        If nothing may be executed and the code differs.
    """
    if execution != "always" and keep_outputs(notebook, target):
        return "same code, outputs kept (--execute runs it again)"
    if execution == "never":
        raise ValueError(f"{target.name} is not what its source gives, and must be executed: build it first")
    seconds = execute(notebook, target.parent)
    clean(notebook)
    return f"executed, {seconds:.0f} s"


def clean(notebook: NotebookNode) -> None:
    """Keep what a reader without a kernel needs: a widget's picture and not its state, no progress bars, no timing."""
    states = notebook.metadata.pop("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
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
                kept += without_kernel(output, states)
            else:
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
