"""The negatives explorer as a learner meets it: JupyterLab in a real browser, sliders moved, shares seen to change."""

import re

import pytest
from chapter_page import explorer_page, last_frame, needs_browser
from lab_browser import drag, slider

pytestmark = needs_browser


@pytest.fixture(params=["light", "dark"])
def explorer(request, tmp_path):
    with explorer_page("05_contrastive_distillation", tmp_path, request.param) as page:
        yield page


def test_temperature_number_and_labels_change_shares_and_sentence(explorer):
    page, told = explorer, explorer.locator(".widget-html", has_text="guessing among")
    first = last_frame(page)
    assert first["negatives"] == 63
    assert first["false_share"] > 0.5

    drag(page, slider(page, "τ").locator(".noUi-handle"), pixels=90)
    page.wait_for_function("frames_seen[frames_seen.length - 1].temperature > 0.2", timeout=20_000)
    page.wait_for_timeout(400)
    hot = last_frame(page)
    assert hot["frame"] > first["frame"]
    assert hot["false_share"] < first["false_share"]
    said = re.search(r"τ = ([\d.]+) the push", told.inner_text())
    assert float(said[1]) == pytest.approx(hot["temperature"], abs=0.001)

    slider(page, "negatives").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("frames_seen[frames_seen.length - 1].negatives < 63", timeout=20_000)
    page.locator(".widget-checkbox input").check()
    page.wait_for_function("frames_seen[frames_seen.length - 1].false_negatives === 0", timeout=20_000)
    page.wait_for_function("document.body.innerText.includes('are left out')", timeout=10_000)
