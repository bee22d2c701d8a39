"""The heads explorer as a learner meets it: JupyterLab in a real browser, layer and head moved, a text typed."""

import pytest
from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import slider

pytestmark = needs_browser


@pytest.fixture(params=["light", "dark"])
def explorer(request, tmp_path):
    with explorer_page("09_language", tmp_path, request.param) as page:
        yield page


def test_another_head_another_layer_and_another_text_are_other_pictures(explorer):
    page, told = explorer, explorer.locator(".widget-html", has_text="A row of a map says where its token looks")
    first, words = last_frame(page), told.inner_text()

    slider(page, "head").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    wait(page, f"frame.head > {first['head']}")
    assert told.inner_text() != words  # the distance between the maps is another

    slider(page, "layer").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    wait(page, f"frame.layer < {first['layer']}")
    assert at_rest(page)["head"] == first["head"] + 1

    text = page.locator(".widget-text", has_text="definition").locator("input")
    text.fill("a kind act")
    text.press("Enter")
    wait(page, f"frame.tokens < {first['tokens']}")
    assert "teacher: act" in told.inner_text()
