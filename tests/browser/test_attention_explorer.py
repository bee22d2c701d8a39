"""The attention explorer as a learner meets it: JupyterLab in a real browser, controls moved, the picture seen."""

import pytest
from chapter_page import explorer_page, last_frame, needs_browser, wait
from lab_browser import slider

pytestmark = needs_browser


@pytest.fixture
def explorer(tmp_path):
    with explorer_page("03_feature_distillation", tmp_path, "light") as page:
        yield page


def test_layers_digits_and_students_change_the_picture_and_the_number_beside_it(explorer):
    page, told = explorer, explorer.locator(".widget-html", has_text="mean squared difference")
    start = last_frame(page)
    assert "stage3" in told.inner_text()

    page_slider = slider(page, "layer")
    page_slider.locator(".noUi-handle, .ui-slider-handle, [role=slider]").first.focus()
    page.keyboard.press("ArrowLeft")
    moved = wait(page, f"frame.frame > {start['frame']}")
    assert moved["distance"] != start["distance"]
    page.wait_for_function("document.body.innerText.includes('stage2, 14×14 positions')")

    page.locator(".widget-dropdown select").first.select_option("8")
    picked = wait(page, f"frame.frame > {moved['frame']}")
    assert picked["digit"] == 8
    assert picked["sample"] != moved["sample"]

    page.locator(".widget-dropdown select").nth(1).select_option(index=2)
    other = wait(page, f"frame.frame > {picked['frame']}")
    assert other["distance"] != picked["distance"]
    told.get_by_text(f"{other['distance']:.2e}").wait_for()
