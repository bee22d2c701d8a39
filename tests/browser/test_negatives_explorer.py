"""The negatives explorer as a learner meets it: JupyterLab in a real browser, sliders moved, shares seen to change."""

import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

pytest.importorskip("playwright")
from lab_browser import browser_page, drag, lab, open_notebook, slider  # noqa: E402

CHAPTER = ROOT / "notebooks" / "05_contrastive_distillation.ipynb"
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
    write_notebook(tmp_path / "negatives.ipynb")
    with lab(tmp_path, dark=request.param == "dark") as address, browser_page() as (page, complaints):
        try:
            open_notebook(page, address, "negatives.ipynb")
            page.wait_for_selector(".widget-image", timeout=180_000)
            page.locator(".widget-image").scroll_into_view_if_needed()
            page.wait_for_function("frames_seen.length > 0", timeout=30_000)
            yield page
        finally:
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"negatives_explorer_{request.param}.png")
        assert complaints == []


def last_frame(page) -> dict:
    return page.evaluate("frames_seen[frames_seen.length - 1]")


def test_temperature_number_and_labels_change_shares_and_sentence(explorer):
    page, told = explorer, explorer.locator(".widget-html", has_text="guessing among")
    first = last_frame(page)
    assert first["negatives"] == 63
    assert first["false_share"] > 0.5

    drag(page, slider(page, "τ").locator(".noUi-handle"), pixels=90)
    page.wait_for_function("frames_seen[frames_seen.length - 1].temperature > 0.2", timeout=20_000)
    page.wait_for_timeout(400)
    hot = last_frame(page)
    assert hot["frame"] > first["frame"]
    assert hot["false_share"] < first["false_share"]
    said = re.search(r"τ = ([\d.]+) the push", told.inner_text())
    assert float(said[1]) == pytest.approx(hot["temperature"], abs=0.001)

    slider(page, "negatives").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("frames_seen[frames_seen.length - 1].negatives < 63", timeout=20_000)
    page.locator(".widget-checkbox input").check()
    page.wait_for_function("frames_seen[frames_seen.length - 1].false_negatives === 0", timeout=20_000)
    page.wait_for_function("document.body.innerText.includes('are left out')", timeout=10_000)
