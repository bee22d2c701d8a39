"""The pages that lead to others: the landing page, and the lists of chapters, exercises and documents."""

import html
import json
import re
import shutil
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from notebook_parts import ROOT, project

from kdcourse import zoo

from .assets import BITS
from .collecting import documents, exercises, minutes, titles
from .pages import addresses

READING = {
    "Learn": ("glossary", "traps", "cheat-sheet", "learners", "source-text"),
    "See what was measured": ("results", "ledger", "benchmarks"),
    "Teach and use": ("teachers", "cli", "widgets"),
}


def title_of(notebook: Path) -> str:
    """Return a notebook's title."""
    return nbformat.read(notebook, as_version=4).cells[0].source.splitlines()[0].removeprefix("# ")


def toctree(names: Iterable[str], *options: str) -> str:
    """Return a table of contents."""
    return "\n".join(["```{toctree}", *options, "", *names, "```"])


def chapter_rows(pages: Path, root: Path = ROOT) -> str:
    """Return the path through the chapters as a list of links, each with what it is about and its minutes."""
    about, rows = titles(root), []
    for path in sorted((pages / "notebooks").glob("*.ipynb")):
        time = minutes(path)
        rows.append(
            f'<li><a href="notebooks/{path.stem}.html"><span class="number">{path.stem[:2]}</span>'
            f'<span class="name">{html.escape(title_of(path))}</span>'
            f'<span class="about">{html.escape(about.get(path.stem, ""))}</span>'
            f'<span class="minutes">{time + " min" if time else ""}</span></a></li>'
        )
    return '<ol class="path">' + "".join(rows) + "</ol>"


def reading(pages: Path, root: Path = ROOT) -> str:
    """Return the lists of documents, each under what it is for; one that nobody has sorted stands at the end."""
    present = {path.stem: path for path in documents(root) if path.parent.name == "docs"}
    parts, sorted_names = [], {name for names in READING.values() for name in names}
    for caption, names in READING.items():
        parts.append(toctree([f"/docs/{name}" for name in names if name in present], f":caption: {caption}"))
    rest = [f"/docs/{name}" for name in sorted(present) if name not in sorted_names]
    parts.append(toctree([*rest, "/CONTRIBUTING", "/CHANGELOG"], ":caption: Take part"))
    return "\n\n".join(parts)


def explorer(name: str, pages: Path, root: Path = ROOT) -> str:
    """Return the place of an explorer, with the still that stands there in print and without scripts."""
    about = tomllib.loads((root / "site" / "explorers.toml").read_text(encoding="utf-8"))[name]
    still = f"![{about['still']}](/_stills/{name}.png)"
    if not (pages / "_stills" / f"{name}.png").exists():
        still = "*This picture moves where scripts are allowed.*"
    return "\n".join([
        f'<div class="kd-explorer" data-explorer="{name}" data-title="{html.escape(about["title"])}">',
        '<div class="kd-still">', "", still, "", "</div>", "</div>",
    ])  # fmt: skip


def explorer_tree(root: Path = ROOT) -> str:
    """Return the table of contents of the explorers that have a page, in the order of ``site/explorers.toml``."""
    names = tomllib.loads((root / "site" / "explorers.toml").read_text(encoding="utf-8"))
    pages = root / "site" / "pages" / "explorers"
    return toctree([name for name in names if (pages / f"{name}.md").exists()], ":maxdepth: 1")


def facts(root: Path = ROOT) -> dict[str, Any]:
    """Return the numbers and addresses that pages name."""
    repository, version = project(root)
    links = addresses("notebooks/00_start_here", repository, version)
    values = {
        "REPOSITORY": repository, "NAME": repository.rpartition("/")[2],
        "COLAB": links["colab"], "BINDER": links["binder"],
        "TEACHER_ERRORS": zoo.provenance("hinton_teacher")["test_errors"],
        "TEACHER_BITS": BITS["teacher"], "STUDENT_BITS": BITS["student"],
    }  # fmt: skip
    path = root / "site" / "recorded" / "digit_student.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    values |= {
        "STUDENT_T": f"{record['temperature']:g}", "STUDENT_ALPHA": f"{record['alpha']:g}",
        "STUDENT_IMAGES": f"{record['training_images']:,}", "STUDENT_ERRORS": record["test_errors"],
    }  # fmt: skip
    return values


def write_overviews(pages: Path, root: Path = ROOT) -> None:
    """Write the pages of ``site/pages`` with their lists filled in."""
    staged = [path for path in exercises(root) if (pages / path.relative_to(root)).exists()]
    values = {
        "CHAPTERS": chapter_rows(pages, root),
        "CHAPTER_TREE": toctree(
            sorted(f"{p.stem[:2]} {title_of(p)} </notebooks/{p.stem}>" for p in (pages / "notebooks").glob("*.ipynb")),
            ":hidden:",
            ":maxdepth: 1",
        ),
        "EXERCISE_TREE": toctree([f"/exercises/{p.parent.name}/{p.stem}" for p in staged], ":maxdepth: 1"),
        "READING": reading(pages, root),
        "EXPLORER_LIST": explorer_tree(root),
        **facts(root),
    }
    stills = root / "site" / "recorded" / "stills"
    if stills.exists():
        shutil.copytree(stills, pages / "_stills")

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return (
            explorer(name[9:], pages, root)
            if name.startswith("EXPLORER_") and name not in values
            else str(values[name])
        )

    for source in sorted((root / "site" / "pages").rglob("*.md")):
        text = re.sub(r"\{\{ (\w+) \}\}", value, source.read_text(encoding="utf-8"))
        target = pages / source.relative_to(root / "site" / "pages")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
