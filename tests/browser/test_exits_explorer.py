"""The exits explorer as a learner meets it: JupyterLab in a real browser, the confidence dragged, shares that move."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

pytest.importorskip("playwright")
from lab_browser import browser_page, drag, lab, open_notebook, slider  # noqa: E402

CHAPTER = ROOT / "notebooks" / "06_self_distillation.ipynb"
TRAINS = "fit(doubled, few, own_teacher"  # the chapter's first trained network; the long comparison is left out
SHOWS_EXPLORER = "explorer"  # the last line of that cell
ARTIFACTS = ROOT / "artifacts"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (os.environ.get("KDCOURSE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")),
        reason="needs Chromium: apt-get install chromium, or name one in KDCOURSE_CHROMIUM",
    ),
]


def write_notebook(path: Path) -> None:
    """Write the chapter up to its first trained network, then its explorer, without outputs."""
    notebook = nbformat.read(CHAPTER, as_version=4)
    trains = next(number for number, cell in enumerate(notebook.cells) if TRAINS in cell.source)
    shows = next(cell for cell in notebook.cells if cell.source.splitlines()[-1:] == [SHOWS_EXPLORER])
    notebook.cells = [*notebook.cells[: trains + 1], shows]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


@pytest.fixture(params=["light", "dark"])
def explorer(request, tmp_path):
    """A page on which the notebook has been run, with the explorer in view."""
    write_notebook(tmp_path / "exits.ipynb")
    with lab(tmp_path, dark=request.param == "dark") as address, browser_page() as (page, complaints):
        try:
            open_notebook(page, address, "exits.ipynb")
            # On a busy machine the cells are asked to run before the kernel is there, and JupyterLab asks which one.
            question = page.locator(".jp-Dialog", has_text="Select Kernel")
            page.locator(".widget-image").or_(question).first.wait_for(timeout=120_000)
            if question.is_visible():
                question.get_by_role("button", name="Select", exact=True).click()
            page.wait_for_selector(".widget-image", timeout=120_000)
            page.locator(".widget-image").scroll_into_view_if_needed()
            page.wait_for_function("frames_seen.length > 0", timeout=30_000)
            yield page
        finally:
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"exits_explorer_{request.param}.png")
        assert complaints == []


def last_frame(page) -> dict:
    return page.evaluate("frames_seen[frames_seen.length - 1]")


def test_less_confidence_lets_more_images_leave_at_the_first_exit(explorer):
    page = explorer
    first = last_frame(page)
    drag(page, slider(page, "confidence").locator(".noUi-handle"), pixels=-35)
    page.wait_for_function(
        f"frames_seen[frames_seen.length - 1].confidence < {first['confidence']} - 0.1", timeout=10_000
    )
    page.wait_for_timeout(300)
    moved = last_frame(page)
    assert moved["frame"] > first["frame"]
    assert moved["exit1"] > first["exit1"] + 0.05
    assert moved["exit3"] < first["exit3"]
    status = page.locator(".widget-html", has_text="An image leaves")
    assert f"a probability of {moved['confidence']:.2f}" in status.inner_text()

    page.locator(".widget-dropdown", has_text="digit").locator("select").select_option(label="7")
    page.wait_for_function("frames_seen[frames_seen.length - 1].digit == 7", timeout=10_000)
    status.scroll_into_view_if_needed()
