"""The relation explorer as a learner meets it: JupyterLab in a real browser, sliders dragged, losses seen to move."""

import pytest
from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import drag, slider

pytestmark = needs_browser


@pytest.fixture
def explorer(tmp_path):
    with explorer_page("04_relation_distillation", tmp_path, "dark") as page:
        yield page


def test_turning_moves_no_loss_and_shifting_moves_two(explorer):
    page = explorer
    assert last_frame(page)["outlier"] == 1  # the chapter shows it after one move
    page.get_by_role("button", name="back to the teacher").click()
    first = wait(page, "frame.outlier === 0")
    drag(page, slider(page, "turn (°)").locator(".noUi-handle"), pixels=30)
    wait(page, "frame.rotation > 10")
    turned = at_rest(page)
    assert turned["frame"] > first["frame"]
    assert max(turned[name] for name in ("distance", "angle", "Gram", "similarity_preserving")) < 0.005
    status = page.locator(".widget-html", has_text="The student")
    assert "no loss moves" in status.inner_text()

    drag(page, slider(page, "shift").locator(".noUi-handle"), pixels=45)
    wait(page, "frame.shift > 0.3")
    shifted = at_rest(page)
    assert max(shifted["distance"], shifted["angle"]) < 0.005 < min(shifted["Gram"], shifted["similarity_preserving"])
    assert "distance and angle stay at 0" in status.inner_text()

    page.locator(".widget-dropdown", has_text="matrices").locator("select").select_option(
        label="Gram matrix ÷ its norm"
    )
    wait(page, f"frame.frame > {shifted['frame']}")
    status.scroll_into_view_if_needed()
