"""Collect what the site shows into one folder, laid out like the repository, so that its links work on the site too."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from notebook_parts import ROOT, project

LINK = re.compile(r"(?<!\\)(\]\()([^)\s]+)((?:\s+\"[^\"]*\")?\))")
BADGE = re.compile(r"^\[!\[Open in Colab\].*\n+", flags=re.MULTILINE)
CLAIMS, SETUP = "The assertions that hold this text to its numbers", "The first cell: it installs the course on Colab"
TIME = re.compile(r"\*\*Time\*\*\s+(?:about\s+)?(\w+)\s+minutes")
WORDS = {"five": "5", "ten": "10", "fifteen": "15", "twenty": "20"}
DOCUMENTS = ("CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md")


def chapters(root: Path = ROOT) -> list[Path]:
    """Return the built chapters in their order, whichever there are."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def exercises(root: Path = ROOT) -> list[Path]:
    """Return the exercises in their order."""
    return sorted((root / "exercises").glob("ex*/ex*.ipynb"))


def documents(root: Path = ROOT) -> list[Path]:
    """Return the documents that the site shows."""
    return sorted({path for pattern in DOCUMENTS for path in root.glob(pattern)})


def relink(text: str, page: Path, staged: set[Path], root: Path, repository: str) -> str:
    """Return markdown whose links to files that the site does not hold lead to the repository.

    Parameters
    ----------
    text : str
    page : Path
        Where the text stands in the checkout.
    staged : set of Path
        Files that the site holds.
    root : Path
    repository : str
        The address, ``https://github.com/OWNER/REPOSITORY``.
    """

    def lead(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = (page.parent / target).resolve()
        if path in staged or not path.is_relative_to(root) or not path.exists():
            return match[0]
        kind = "tree" if path.is_dir() else "blob"
        address = f"{repository}/{kind}/main/{path.relative_to(root).as_posix()}"
        return f"{match[1]}{address}{'#' + anchor if anchor else ''}{match[3]}"

    return LINK.sub(lead, text)


def without_jumps(text: str) -> str:
    """Return a document whose headings of the third level follow the first one, raised by a level.

    >>> without_jumps("# Glossary\\n### arm\\n")
    '# Glossary\\n## arm\\n'
    """
    if re.search(r"^## ", text, flags=re.MULTILINE):
        return text
    return re.sub(r"^##(#+ )", r"#\1", text, flags=re.MULTILINE)


def with_targets(text: str) -> str:
    """Return a document whose empty anchors are targets of links: the first word of what follows carries the name.

    >>> with_targets('| <a id="t-1"></a>At T = 1 |')
    '| [At]{#t-1} T = 1 |'
    """
    return re.sub(r'<a id="([\w-]+)"></a>([^\s|]+)', r"[\2]{#\1}", text)


def as_page(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook as the site shows it: no badge, what is plumbing folded, under a name that says what it is."""
    first = notebook.cells[0]
    first.source = BADGE.sub("", first.source, count=1)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
        if cell.cell_type == "code" and (hidden or {"claims", "plumbing"} & set(tags)):
            cell.metadata.tags = [*tags, "hide-input"]
            name = CLAIMS if "claims" in tags else SETUP if "ARCHIVE" in cell.source else "Plumbing"
            cell.metadata.mystnb = {"code_prompt_show": name, "code_prompt_hide": name}
    return notebook


def minutes(path: Path) -> str:
    """Return how many minutes a chapter says that it takes; empty if it does not say."""
    text = nbformat.read(path, as_version=4).cells[0].source
    found = TIME.search(text)
    if found:
        return WORDS.get(found[1], found[1])
    parts = re.findall(r"\| (\d+) \|$", text, flags=re.MULTILINE)  # a table of the chapter's parts
    return str(sum(map(int, parts))) if parts else ""


def titles(root: Path = ROOT) -> dict[str, str]:
    """Return the sentence that README's table gives each chapter, by the chapter's file name."""
    rows = re.findall(r"\]\(notebooks/(\S+?)\.ipynb\) \| ([^|]*?) \|", (root / "README.md").read_text(encoding="utf-8"))
    return dict(rows)


def stage(folder: Path, root: Path = ROOT, only: Iterable[str] | None = None) -> None:
    """Write chapters, exercises and documents into a folder, and the files that a visitor downloads.

    Parameters
    ----------
    folder : Path
        Emptied first; the files to download go into its subfolder ``_extra``.
    root : Path
    only : iterable of str, optional
        Beginnings of names of the notebooks wanted; by default all.
    """
    shutil.rmtree(folder, ignore_errors=True)
    repository, _ = project(root)
    notebooks = [*chapters(root), *exercises(root)]
    if only is not None:
        notebooks = [path for path in notebooks if path.name.startswith(tuple(only))]
    pictures = sorted(path for kind in ("png", "svg") for path in (root / "docs" / "images").glob(f"*.{kind}"))
    staged = {*notebooks, *documents(root), *pictures}
    for path in staged:
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            notebook = as_page(nbformat.read(path, as_version=4))
            for cell in notebook.cells:
                if cell.cell_type == "markdown":
                    cell.source = relink(cell.source, path, staged, root, repository)
            nbformat.write(notebook, target)
            copy = folder / "_extra" / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        elif path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            text = with_targets(without_jumps(relink(text, path, staged, root, repository)))
            target.write_text(text, encoding="utf-8")
        else:
            shutil.copy(path, target)
