"""The relation explorer as a learner meets it: JupyterLab in a real browser, sliders dragged, losses seen to move."""

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

CHAPTER = ROOT / "notebooks" / "04_relation_distillation.ipynb"
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
    """Write the chapter up to the explorer, without outputs: what is seen afterwards was made now."""
    notebook = nbformat.read(CHAPTER, as_version=4)
    lines = [cell.source.splitlines()[-1:] if cell.cell_type == "code" else [] for cell in notebook.cells]
    notebook.cells = notebook.cells[: lines.index([SHOWS_EXPLORER]) + 1]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


@pytest.fixture(params=["light", "dark"])
def explorer(request, tmp_path):
    """A page on which the chapter has been run, with the explorer in view."""
    write_notebook(tmp_path / "relations.ipynb")
    with lab(tmp_path, dark=request.param == "dark") as address, browser_page() as (page, complaints):
        try:
            open_notebook(page, address, "relations.ipynb")
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
            page.screenshot(path=ARTIFACTS / f"relation_explorer_{request.param}.png")
        assert complaints == []


def last_frame(page) -> dict:
    return page.evaluate("frames_seen[frames_seen.length - 1]")


def test_turning_moves_no_loss_and_shifting_moves_two(explorer):
    page = explorer
    first = last_frame(page)
    drag(page, slider(page, "turn (°)").locator(".noUi-handle"), pixels=30)
    page.wait_for_function("frames_seen[frames_seen.length - 1].rotation > 10", timeout=10_000)
    page.wait_for_timeout(300)
    turned = last_frame(page)
    assert turned["frame"] > first["frame"]
    assert max(turned[name] for name in ("distance", "angle", "Gram", "similarity_preserving")) < 0.005
    status = page.locator(".widget-html", has_text="The student")
    assert "no loss moves" in status.inner_text()

    drag(page, slider(page, "shift").locator(".noUi-handle"), pixels=45)
    page.wait_for_function("frames_seen[frames_seen.length - 1].shift > 0.3", timeout=10_000)
    page.wait_for_timeout(300)
    shifted = last_frame(page)
    assert max(shifted["distance"], shifted["angle"]) < 0.005 < min(shifted["Gram"], shifted["similarity_preserving"])
    assert "distance and angle stay at 0" in status.inner_text()

    page.locator(".widget-dropdown", has_text="matrices").locator("select").select_option(
        label="Gram matrix ÷ its norm"
    )
    page.wait_for_function(f"frames_seen[frames_seen.length - 1].frame > {shifted['frame']}", timeout=10_000)
    status.scroll_into_view_if_needed()
