"""The attention explorer as a learner meets it: JupyterLab in a real browser, controls moved, the picture seen."""

import pytest
from chapter_page import explorer_page, last_frame, needs_browser
from lab_browser import slider

pytestmark = needs_browser


@pytest.fixture(params=["light", "dark"])
def explorer(request, tmp_path):
    with explorer_page("03_feature_distillation", tmp_path, request.param) as page:
        yield page


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
