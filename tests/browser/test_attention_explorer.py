"""The attention explorer as a learner meets it: JupyterLab in a real browser, controls moved, the picture seen."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

pytest.importorskip("playwright")
from lab_browser import browser_page, lab, open_notebook, slider  # noqa: E402

CHAPTER = ROOT / "notebooks" / "03_feature_distillation.ipynb"
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
    write_notebook(tmp_path / "attention.ipynb")
    with lab(tmp_path, dark=request.param == "dark") as address, browser_page() as (page, complaints):
        try:
            open_notebook(page, address, "attention.ipynb")
            page.wait_for_selector(".widget-image", timeout=120_000)
            page.wait_for_function("frames_seen.length > 0", timeout=30_000)
            page.locator(".widget-image").scroll_into_view_if_needed()
            yield page
        finally:
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"attention_explorer_{request.param}.png")
        assert complaints == []


def last_frame(page) -> dict:
    return page.evaluate("frames_seen[frames_seen.length - 1]")


def wait_for_frame_after(page, frame: dict) -> dict:
    page.wait_for_function(f"frames_seen[frames_seen.length - 1].frame > {frame['frame']}", timeout=20_000)
    return last_frame(page)


def test_layers_digits_and_students_change_the_picture_and_the_number_beside_it(explorer):
    page, told = explorer, explorer.locator(".widget-html", has_text="mean squared difference")
    start = last_frame(page)
    assert "stage3" in told.inner_text()

    page_slider = slider(page, "layer")
    page_slider.locator(".noUi-handle, .ui-slider-handle, [role=slider]").first.focus()
    page.keyboard.press("ArrowLeft")
    moved = wait_for_frame_after(page, start)
    assert moved["distance"] != start["distance"]
    page.wait_for_function("document.body.innerText.includes('stage2, 14×14 positions')", timeout=10_000)

    page.locator(".widget-dropdown select").first.select_option("8")
    picked = wait_for_frame_after(page, moved)
    assert picked["digit"] == 8
    assert picked["sample"] != moved["sample"]

    page.locator(".widget-dropdown select").nth(1).select_option(index=2)
    other = wait_for_frame_after(page, picked)
    assert other["distance"] != picked["distance"]
    assert f"{other['distance']:.2e}" in told.inner_text()
