"""The modes explorer as a learner meets it: JupyterLab in a real browser, β taken from forward to reverse KL."""

import pytest
from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import slider

pytestmark = needs_browser


@pytest.fixture(params=["light", "dark"])
def explorer(request, tmp_path):
    with explorer_page("11_modern_distillation", tmp_path, request.param) as page:
        yield page


def test_from_forward_to_reverse_kl_the_student_leaves_the_middle(explorer):
    page, told = explorer, explorer.locator(".widget-html", has_text="the best student has its middle at")
    assert last_frame(page)["beta"] == 0
    assert "forward KL" in told.inner_text()

    slider(page, "β").locator(".noUi-handle").focus()
    page.keyboard.press("End")
    wait(page, "frame.beta == 1")
    assert at_rest(page)["beta"] == 1
    assert "reverse KL: the best student has its middle at -2" in told.inner_text()
