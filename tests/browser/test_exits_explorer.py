"""The exits explorer as a learner meets it: JupyterLab in a real browser, the confidence dragged, shares that move."""

import pytest
from chapter_page import explorer_page, last_frame, needs_browser
from lab_browser import drag, slider

pytestmark = needs_browser
TRAINS = "fit(doubled, few, own_teacher"  # the chapter's first trained network


@pytest.fixture(params=["light", "dark"])
def explorer(request, tmp_path):
    with explorer_page("06_self_distillation", tmp_path, request.param, trains=TRAINS) as page:
        yield page


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
