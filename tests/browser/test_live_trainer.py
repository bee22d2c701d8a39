"""The live trainer as a learner meets it: JupyterLab in a real browser, play pressed, T dragged, the picture seen."""

import base64
import io

import pytest
from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import drag, slider
from PIL import Image

pytestmark = needs_browser


@pytest.fixture
def trainer(tmp_path):
    with explorer_page("02_soft_targets", tmp_path, "light", shows="live") as page:
        page.locator(".widget-play").scroll_into_view_if_needed()
        yield page


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


def test_play_trains_a_dragged_slider_changes_the_picture_and_leaves_a_mark(trainer):
    page = trainer
    assert count_marks(picture(page)) == 0

    page.locator(".widget-play button").first.click()
    before = wait(page, "frame.step > 100")
    handle = slider(page, "T").locator(".noUi-handle")
    drag(page, handle, pixels=45)
    shown = float(slider(page, "T").locator(".widget-readout").inner_text())
    assert shown > 1.5 * before["temperature"]
    wait(page, f"Math.abs(frame.temperature / {shown} - 1) < 0.01")
    wait(page, f"frame.step > {before['step']} + 150")
    assert last_frame(page)["marks"] == before["marks"] + 1
    assert count_marks(picture(page)) == 1  # one drag, one mark

    page.get_by_role("button", name="fork here").click()
    page.get_by_text("T of fork").wait_for(state="visible")
    drag(page, slider(page, "α of fork").locator(".noUi-handle"), pixels=-60)
    wait(page, f"frame.step > {last_frame(page)['step']} + 100")
    assert "fork" in page.locator(".widget-html", has_text="errors on held-out images").inner_text()

    page.locator(".widget-play button").first.click()  # pause
    paused = at_rest(page)["step"]
    page.wait_for_timeout(600)
    assert last_frame(page)["step"] == paused
