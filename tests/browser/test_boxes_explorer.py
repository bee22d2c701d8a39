"""The boxes explorer as a learner meets it: JupyterLab in a real browser, threshold and scene moved, boxes gone."""

import pytest
from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import drag, slider

pytestmark = needs_browser


@pytest.fixture(params=["light", "dark"])
def explorer(request, tmp_path):
    with explorer_page("08_detection", tmp_path, request.param) as page:
        yield page


def test_a_higher_threshold_hides_boxes_and_another_scene_is_another_picture(explorer):
    page, told = explorer, explorer.locator(".widget-html", has_text="Boxes with a score")
    first = last_frame(page)
    assert "digits found" in told.inner_text()

    drag(page, slider(page, "score above").locator(".noUi-handle"), pixels=90)
    wait(page, f"frame.threshold > {first['threshold']} + 0.2")
    strict = at_rest(page)
    for name in ("teacher", "labels_only", "three_terms"):
        assert strict[f"{name}_found"] <= first[f"{name}_found"]
        assert strict[f"{name}_wrong"] <= first[f"{name}_wrong"]

    slider(page, "scene").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    wait(page, f"frame.scene > {first['scene']}")
    assert at_rest(page)["threshold"] == pytest.approx(strict["threshold"])
