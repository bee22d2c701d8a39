"""Chapters, and all that the course writes as HTML, before axe-core, a checker of accessibility, in a real browser.

The checker is fetched by npm and kept in pytest's cache; without npm, or without a network, these tests are skipped.
"""

import nbformat
import pytest
from axe import fetch_checker
from chapter_page import ROOT, needs_browser
from grading_fixture import KEY, NAME
from lab_browser import browser_page
from nbconvert import HTMLExporter

from kdcourse.checks.turns import OPEN, WRITTEN, WRONG, Reply
from kdcourse.grading.feedback import feedback_page
from kdcourse.grading.results import CellResult, Result
from kdcourse.guesses import find_guess
from kdcourse.widgets.guess_buttons import GuessButtons

pytestmark = needs_browser
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GRAVE = ("serious", "critical")
ALWAYS = ("heading-order", "image-alt", "link-name", "page-has-heading-one", "color-contrast")  # however grave
# Findings in what nbconvert's template writes, and not we.
TEMPLATES_RULES = {
    "link-in-text-block": "its stylesheet, JupyterLab's, takes the line away under links",
    "scrollable-region-focusable": "its boxes of output scroll, and cannot be reached by keys",
}
TEMPLATES_PARTS = {
    ".highlight": "code is coloured by a stylesheet of its own, comments a shade too light",
    ".jp-InputPrompt": "the numbers of cells are light grey",
    ".jp-OutputPrompt": "as those of input",
}
LOOK = """async ([left_out, off]) => {
  document.querySelectorAll('details').forEach(details => { details.open = true; });
  const rules = Object.fromEntries(off.map(name => [name, {enabled: false}]));
  const found = await axe.run({exclude: left_out.map(part => [part])}, {rules, resultTypes: ['violations']});
  return found.violations.map(({id, impact, nodes}) => [id, impact, nodes.map(node => node.html.slice(0, 200))]);
}"""


@pytest.fixture(scope="module")
def checker(pytestconfig):
    return fetch_checker(pytestconfig.cache)


@pytest.fixture(scope="module")
def look(checker):
    """Open a page in the browser, without any network, and return what is grave in it."""
    with browser_page() as (page, _):
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())

        def findings(path, dark=False):
            page.emulate_media(color_scheme="dark" if dark else "light")
            page.goto(path.as_uri(), wait_until="load")
            page.evaluate(checker)
            found = page.evaluate(LOOK, [list(TEMPLATES_PARTS), list(TEMPLATES_RULES)])
            return [finding for finding in found if finding[1] in GRAVE or finding[0] in ALWAYS]

        yield findings


def as_page(path, folder, theme):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:  # code is left out of the look, and hundreds of coloured words take long
        if cell.cell_type == "code":
            cell.source = ""
    text, _ = HTMLExporter(theme=theme).from_notebook_node(notebook)
    page = folder / f"{path.stem}.html"
    page.write_text(text, encoding="utf-8")
    return page


@pytest.mark.parametrize("number", range(len(CHAPTERS)), ids=[path.stem for path in CHAPTERS])
def test_a_chapter_as_a_page_has_no_grave_finding(look, tmp_path, number):
    """Every other one on a dark page."""
    theme = "dark" if number % 2 else "light"
    assert look(as_page(CHAPTERS[number], tmp_path, theme), dark=theme == "dark") == []


def pieces():
    yield Reply("Right.", "The sum over classes agrees.", WRITTEN)._repr_html_()
    yield Reply("Not yet.", "K times too small.", WRONG)._repr_html_()
    yield Reply("Not written yet.", "Replace the `...`.", OPEN)._repr_html_()
    yield find_guess("00.one-pass").to_html()
    for place in range(2):
        buttons = GuessButtons("00.one-pass")
        buttons.choose(place)
        yield buttons.widget.children[0].value + buttons.reply.value


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_the_course_writes_into_outputs_has_no_grave_finding(look, tmp_path, dark):
    colours = "color: #e8e8e8; background: #111" if dark else "color: #212121; background: #fff"
    head = f"<!doctype html><html lang='en'><head><title>x</title></head><body style='{colours}'><main><h1>x</h1>"
    path = tmp_path / "pieces.html"
    path.write_text(f"{head}{''.join(pieces())}</main></body></html>", encoding="utf-8")
    assert look(path, dark=dark) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_of_feedback_has_no_grave_finding(look, tmp_path, dark):
    cells = (
        CellResult("learner", "task1_kd_loss", source="def my_kd_loss(a):\n    return " + "a + " * 60 + "a"),
        CellResult("check", "task1_check", points=0.0, max=5.0, error="The T² is missing."),
        CellResult("check", "task2_check", points=4.0, max=4.0),
    )
    result = Result("stopped", total=4.0, max=9.0, cells=cells, learner="ann", exercise=NAME, file="x")
    path = tmp_path / "feedback.html"
    path.write_text(feedback_page(result, KEY), encoding="utf-8")
    assert look(path, dark=dark) == []


def test_the_checker_finds_what_is_wrong(look, tmp_path):
    path = tmp_path / "wrong.html"
    path.write_text(
        "<!doctype html><html><body><h1>x</h1><h3>y</h3><img src='a.png'><a href='b'></a>"
        "<p style='color: #aaa; background: #fff'>faint</p></body></html>",
        encoding="utf-8",
    )
    assert {"heading-order", "image-alt", "link-name", "color-contrast"} <= {finding[0] for finding in look(path)}
