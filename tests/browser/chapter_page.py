"""A chapter's explorer in JupyterLab, in a real browser, with what every such test needs.

Waits are as long as the page's own patience: what is tested is what happens, not how fast the machine is.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("playwright")
from chapter_slices import slice_for
from lab_browser import browser_page, lab, open_notebook
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
ERRORS = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"  # of cells
AT_REST = """() => {
  const idle = document.querySelector(".jp-Notebook-ExecutionIndicator[data-status='idle']") !== null;
  looks.push(idle && frames_seen.length);
  return looks.length > 2 && looks.slice(-3).every(look => look && look === frames_seen.length);
}"""
# A trainer's slices, and the pause that makes the next move another one, are then the same on a busy machine.
CLOCK = "import time\ntime.perf_counter = time.process_time"
SHOWS_EXPLORER = "explorer"  # the last line of the cell that shows it

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (os.environ.get("KDCOURSE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")),
        reason="needs Chromium: apt-get install chromium, or name one in KDCOURSE_CHROMIUM",
    ),
]


def write_notebook(
    chapter: str, path: Path, *, trains: str | None = None, then: str = "", shows: str = SHOWS_EXPLORER
) -> None:
    """Write the chapter's cell that ends in ``shows``, and those it needs, without outputs: what is seen was made now.

    With ``trains``, all up to the cell that holds this text, then ``then``, then the explorer's: a long training
    between is left out, and ``then`` names what was trained in its place.
    """
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = next(i for i, cell in enumerate(cells) if cell.source.splitlines()[-1:] == [shows])
    if trains is None:
        kept = {0, *slice_for([shown], [cell.source for cell in cells])}
    else:
        kept = {*range(next(i for i, cell in enumerate(cells) if trains in cell.source) + 1), shown}
    chosen = [cells[number] for number in sorted(kept)]
    named = [nbformat.v4.new_code_cell(then)] if then else []
    notebook.cells = [nbformat.v4.new_code_cell(CLOCK), *chosen[:-1], *named, chosen[-1]]
    for cell in notebook.cells:
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


@contextmanager
def explorer_page(chapter: str, folder: Path, theme: str, **cells: str) -> Iterator[Page]:
    """Open a page on which the chapter's cells have been run, the explorer in view; the browser may not complain.

    The page begins in one theme; at the end it is seen in the other one too.
    """
    write_notebook(chapter, folder / "chapter.ipynb", **cells)
    picture = "_".join([chapter, *filter(None, [cells.get("shows")]), theme])
    ARTIFACTS.mkdir(exist_ok=True)
    with lab(folder, dark=theme == "dark") as address, browser_page() as (page, complaints):
        try:
            open_notebook(page, address, "chapter.ipynb")
            page.wait_for_selector(f".widget-image, {ERRORS}")
            assert page.locator(ERRORS).all_inner_texts() == []
            page.locator(".widget-image").first.scroll_into_view_if_needed()
            page.wait_for_function("frames_seen.length > 0")
            yield page
        finally:
            page.screenshot(path=ARTIFACTS / f"{picture}.png")
        _switch(page, "light" if theme == "dark" else "dark")
        assert page.locator(".widget-image").first.is_visible()
        page.screenshot(path=ARTIFACTS / f"{picture}_switched.png")
        assert complaints == []


def _switch(page: Page, theme: str) -> None:
    name = f"JupyterLab {theme.title()}"
    page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
    page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")
    page.wait_for_selector("#jupyterlab-splash", state="detached")  # it covers the page while the theme changes


def last_frame(page: Page) -> dict:
    """Return what the newest picture on the page says of itself."""
    return page.evaluate("frames_seen[frames_seen.length - 1]")


def wait(page: Page, condition: str) -> dict:
    """Wait until the newest frame says so of itself; return it."""
    page.wait_for_function(f"(frame => {condition})(frames_seen[frames_seen.length - 1])")
    return last_frame(page)


def at_rest(page: Page) -> dict:
    """Wait until the kernel is idle and the newest frame stays the newest for a while; return that frame."""
    page.evaluate("window.looks = []")
    page.wait_for_function(AT_REST, polling=300)
    return last_frame(page)
