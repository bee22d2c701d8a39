"""The exits explorer as a learner meets it: JupyterLab in a real browser, the confidence dragged, shares that move."""

import pytest
from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import drag, slider

pytestmark = needs_browser
TRAINS = "fit(network, few, taught"  # the chapter's first trained network, in place of the one of its long comparison


@pytest.fixture
def explorer(tmp_path):
    with explorer_page("06_self_distillation", tmp_path, "dark", trains=TRAINS, then="exit_network = network") as page:
        yield page


def test_less_confidence_lets_more_images_leave_at_the_first_exit(explorer):
    page = explorer
    first = last_frame(page)
    drag(page, slider(page, "confidence").locator(".noUi-handle"), pixels=-90)
    wait(page, f"frame.confidence < {first['confidence']} - 0.1")
    moved = at_rest(page)
    assert moved["frame"] > first["frame"]
    assert moved["exit1"] > first["exit1"] + 0.05
    assert moved["exit3"] < first["exit3"]
    status = page.locator(".widget-html", has_text="An image leaves")
    assert f"a probability of {moved['confidence']:.2f}" in status.inner_text()

    page.locator(".widget-dropdown", has_text="digit").locator("select").select_option(label="7")
    wait(page, "frame.digit == 7")
    status.scroll_into_view_if_needed()
