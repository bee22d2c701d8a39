"""The live trainer as a learner meets it: JupyterLab in a real browser, play pressed, T dragged, the picture seen."""

import base64
import io
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

pytest.importorskip("playwright")
from lab_browser import browser_page, drag, lab, open_notebook, slider  # noqa: E402

# The chapter, up to the cell that shows the trainer; without the chapter, a notebook that does the same.
CHAPTER = Path(os.environ.get("KDCOURSE_BROWSER_NOTEBOOK", ROOT / "notebooks" / "02_soft_targets.ipynb"))
SHOWS_TRAINER = "live"  # the last line of that cell
ARTIFACTS = ROOT / "artifacts"
STAND_IN = """
import torch
from kdcourse import zoo
from kdcourse.data import load_mnist
from kdcourse.models import make_student_mlp
from kdcourse.widgets import LiveTrainer
mnist = load_mnist()
mnist = mnist._replace(train=mnist.train.take(5000))
torch.manual_seed(0)
live = LiveTrainer(make_student_mlp(), zoo.load("teacher_mlp"), mnist)
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (os.environ.get("KDCOURSE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")),
        reason="needs Chromium: apt-get install chromium, or name one in KDCOURSE_CHROMIUM",
    ),
]


def write_notebook(path: Path) -> None:
    """Write the notebook to run, without outputs: what is seen afterwards was made now."""
    if CHAPTER.exists():
        notebook = nbformat.read(CHAPTER, as_version=4)
        lines = [cell.source.splitlines()[-1:] if cell.cell_type == "code" else [] for cell in notebook.cells]
        notebook.cells = notebook.cells[: lines.index([SHOWS_TRAINER]) + 1]
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
    else:
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in (STAND_IN.strip(), SHOWS_TRAINER)]
    nbformat.write(notebook, path)


@pytest.fixture(params=["light", "dark"])
def trainer(request, tmp_path):
    """A page on which the notebook has been run, with the trainer in view."""
    write_notebook(tmp_path / "live.ipynb")
    with lab(tmp_path, dark=request.param == "dark") as address, browser_page() as (page, complaints):
        page.theme = request.param
        try:
            open_notebook(page, address, "live.ipynb")
            page.wait_for_selector(".widget-play", timeout=180_000)
            page.locator(".widget-play").scroll_into_view_if_needed()
            page.wait_for_function("frames_seen.length > 0", timeout=30_000)
            yield page
        finally:
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"live_trainer_{request.param}.png")
        assert complaints == []


def picture(page) -> Image.Image:
    """Return the picture that the page shows."""
    code = """async image => {
      const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
      return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
    }"""
    encoded = page.locator(".widget-image").first.evaluate(code)
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def count_marks(image: Image.Image) -> int:
    """Count the upright lines in the distilled student's colour that cross the axes of the curves."""
    rgb = image.convert("RGB")
    rows = range(int(0.2 * rgb.height), int(0.8 * rgb.height), 3)

    def is_blue(x):
        return sum(b > r + 40 for r, _, b in (rgb.getpixel((x, y)) for y in rows)) > 0.9 * len(rows)

    columns = [is_blue(x) for x in range(int(0.08 * rgb.width), int(0.6 * rgb.width))]
    return sum(now and not before for before, now in zip([False, *columns], columns, strict=False))


def last_frame(page) -> dict:
    return page.evaluate("frames_seen[frames_seen.length - 1]")


def test_play_trains_a_dragged_slider_changes_the_picture_and_leaves_a_mark(trainer):
    page = trainer
    assert count_marks(picture(page)) == 0

    page.locator(".widget-play button").first.click()
    page.wait_for_function("frames_seen[frames_seen.length - 1].step > 100", timeout=60_000)
    before = last_frame(page)
    handle = slider(page, "T").locator(".noUi-handle")
    drag(page, handle, pixels=45)
    shown = float(slider(page, "T").locator(".widget-readout").inner_text())
    assert shown > 1.5 * before["temperature"]
    arrived = f"Math.abs(frames_seen[frames_seen.length - 1].temperature / {shown} - 1) < 0.01"
    page.wait_for_function(arrived, timeout=10_000)
    page.wait_for_function(f"frames_seen[frames_seen.length - 1].step > {before['step']} + 150", timeout=60_000)
    assert last_frame(page)["marks"] == before["marks"] + 1
    assert count_marks(picture(page)) == 1  # one drag, one mark

    page.get_by_role("button", name="fork here").click()
    page.get_by_text("T of fork").wait_for(state="visible", timeout=20_000)
    drag(page, slider(page, "α of fork").locator(".noUi-handle"), pixels=-60)
    step = last_frame(page)["step"]
    page.wait_for_function(f"frames_seen[frames_seen.length - 1].step > {step} + 100", timeout=60_000)
    assert "fork" in page.locator(".widget-html", has_text="errors on held-out images").inner_text()

    page.locator(".widget-play button").first.click()  # pause
    page.wait_for_timeout(600)
    paused = last_frame(page)["step"]
    page.wait_for_timeout(600)
    assert last_frame(page)["step"] == paused
