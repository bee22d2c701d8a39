"""A chapter run in JupyterLab as far as its explorer, in a real browser, with what every such test needs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("playwright")
from lab_browser import browser_page, lab, open_notebook

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
SHOWS_EXPLORER = "explorer"  # the last line of the cell that shows it

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (os.environ.get("KDCOURSE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")),
        reason="needs Chromium: apt-get install chromium, or name one in KDCOURSE_CHROMIUM",
    ),
]


def write_notebook(
    chapter: str, path: Path, *, trains: str | None = None, also: str | None = None, shows: str = SHOWS_EXPLORER
) -> None:
    """Write a chapter up to the cell that ends in ``shows``, without outputs: what is seen afterwards was made now.

    With ``trains``, up to the cell that holds this text, then the explorer's: a long comparison between is left out,
    but for the cell that holds the text ``also``, if there is one.
    """
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = next(i for i, cell in enumerate(cells) if cell.source.splitlines()[-1:] == [shows])
    last = shown - 1 if trains is None else next(i for i, cell in enumerate(cells) if trains in cell.source)
    between = [cell for cell in cells[last + 1 : shown] if also is not None and also in cell.source]
    notebook.cells = [*cells[: last + 1], *between, cells[shown]]
    for cell in notebook.cells:
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


@contextmanager
def explorer_page(chapter: str, folder: Path, theme: str, **cells: str | None) -> Iterator:
    """Open a page on which the chapter's cells have been run, the explorer in view; the browser may not complain."""
    write_notebook(chapter, folder / "chapter.ipynb", **cells)
    with lab(folder, dark=theme == "dark") as address, browser_page() as (page, complaints):
        try:
            open_notebook(page, address, "chapter.ipynb")
            page.wait_for_selector(".widget-image", timeout=180_000)
            page.locator(".widget-image").scroll_into_view_if_needed()
            page.wait_for_function("frames_seen.length > 0", timeout=30_000)
            yield page
        finally:
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"{'_'.join([chapter, *filter(None, [cells.get('shows')]), theme])}.png")
        assert complaints == []


def last_frame(page) -> dict:
    """Return what the newest picture on the page says of itself."""
    return page.evaluate("frames_seen[frames_seen.length - 1]")
