"""The negatives explorer as a learner meets it: JupyterLab in a real browser, sliders moved, shares seen to change."""

import re

import pytest
from chapter_page import at_rest, explorer_page, last_frame, needs_browser, wait
from lab_browser import drag, slider

pytestmark = needs_browser


@pytest.fixture
def explorer(tmp_path):
    with explorer_page("05_contrastive_distillation", tmp_path, "light") as page:
        yield page


def test_temperature_number_and_labels_change_shares_and_sentence(explorer):
    page, told = explorer, explorer.locator(".widget-html", has_text="guessing among")
    first = last_frame(page)
    assert first["negatives"] == 63
    assert first["temperature"] == 1
    assert first["false_share"] < 0.5

    drag(page, slider(page, "τ").locator(".noUi-handle"), pixels=-90)
    wait(page, "frame.temperature < 0.6")
    cold = at_rest(page)
    assert cold["frame"] > first["frame"]
    assert cold["false_share"] > first["false_share"]
    said = re.search(r"τ = ([\d.]+) the push", told.inner_text())
    assert float(said[1]) == pytest.approx(cold["temperature"], abs=0.001)

    slider(page, "negatives").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    wait(page, "frame.negatives < 63")
    page.locator(".widget-checkbox input").check()
    wait(page, "frame.false_negatives === 0")
    page.wait_for_function("document.body.innerText.includes('are left out')")
