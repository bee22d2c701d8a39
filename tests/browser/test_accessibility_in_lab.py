"""What a chapter puts into JupyterLab's page, its outputs and widgets, before axe-core, in a real browser.

JupyterLab's own chrome is left out. The stored outputs are looked at as a reader finds them, before any cell is run.
"""

import json

import nbformat
import pytest
from axe import fetch_checker
from chapter_page import ARTIFACTS, ERRORS, ROOT, needs_browser
from lab_browser import browser_page, lab, open_notebook

pytestmark = needs_browser
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
GRAVE = ("serious", "critical")
OURS = [".jp-OutputArea-output"]  # of every cell: texts, tables, pictures, widgets
NOT_OURS = [
    ".noUi-handle",  # ipywidgets gives the handle of a slider no name; the label stands beside it
    ".widget-play button",  # nor the buttons of a clock, which show a triangle and a square
    "[data-mime-type='application/vnd.jupyter.stdout'] pre",  # JupyterLab's boxes of printed text
    "[data-mime-type='application/vnd.jupyter.error']",  # colours of IPython's messages
]
RULES = {  # JupyterLab's own, or about whole pages
    "scrollable-region-focusable": "its boxes of output scroll, and cannot be reached by keys",
    "link-in-text-block": "its stylesheet takes the line away under links",
    "region": "outputs stand in no landmark",
}
LOOK = """async ([ours, notOurs, off]) => {
  document.querySelectorAll('.jp-OutputArea-output details').forEach(details => { details.open = true; });
  const rules = Object.fromEntries(off.map(name => [name, {enabled: false}]));
  const where = {include: ours, exclude: notOurs.map(part => [part])};
  const found = await axe.run(where, {rules, resultTypes: ['violations']});
  return found.violations.map(({id, impact, nodes}) => [id, impact, nodes.map(node => node.html.slice(0, 300))]);
}"""
WIDGETS = {
    "a guess": 'from kdcourse.widgets import guess\n\nquestion = guess("00.one-pass")\nquestion.choose(0)\nquestion',
    "a slider": "from kdcourse.widgets import hello_slider\n\nhello_slider()",
    "an explorer": "from kdcourse.widgets import ModesExplorer\n\nModesExplorer()",
    "a trainer": """from kdcourse.data import load_mnist
from kdcourse.models import make_mlp
from kdcourse.training import Knobs
from kdcourse.widgets import LiveTrainer

mnist = load_mnist()
LiveTrainer({"small": lambda: make_mlp(8)}, make_mlp(8), mnist, knobs=Knobs(4.0, 0.9), images=(500,))""",
}


@pytest.fixture(scope="module")
def checker(pytestconfig):
    return fetch_checker(pytestconfig.cache)


@pytest.fixture(scope="module", params=["light", "dark"])
def page_in_lab(request, checker, tmp_path_factory):
    """Open notebooks one after the other in one JupyterLab, whole: its page holds no more than is seen by default."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"windowingMode": "none"}), encoding="utf-8")
    with lab(folder, dark=request.param == "dark") as address, browser_page() as (page, _):
        page.route("**/*", lambda route: route.continue_() if address in route.request.url else route.fulfill())

        def findings():
            page.evaluate(checker)
            found = page.evaluate(LOOK, [OURS, NOT_OURS, list(RULES)])
            return [finding for finding in found if finding[1] in GRAVE or finding[0] == "image-alt"]

        yield page, address, folder, findings, request.param


def test_the_outputs_of_chapters_have_no_grave_finding(page_in_lab):
    """Every other chapter on a dark page."""
    page, address, folder, findings, theme = page_in_lab
    ARTIFACTS.mkdir(exist_ok=True)
    found = {}
    for path in CHAPTERS[theme == "dark" :: 2]:
        (folder / path.name).write_bytes(path.read_bytes())
        page.goto(f"{address}/lab/tree/{path.name}?reset", wait_until="domcontentloaded")
        cells = len(nbformat.read(path, as_version=4).cells)
        page.wait_for_function(f"document.querySelectorAll('.jp-NotebookPanel .jp-Cell').length >= {cells}")
        assert page.locator(".jp-OutputArea-output img").count() > 0
        found |= {path.stem: grave} if (grave := findings()) else {}
    assert found == {}


def test_live_widgets_have_no_grave_finding(page_in_lab):
    page, address, folder, findings, theme = page_in_lab
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in WIDGETS.values()])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "widgets.ipynb")
    open_notebook(page, address, "widgets.ipynb")
    page.wait_for_function(f"document.querySelectorAll('.widget-image').length === {len(WIDGETS) - 1}")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    assert page.locator(ERRORS).all_inner_texts() == []
    page.screenshot(path=ARTIFACTS / f"widgets_{theme}.png")
    names = page.locator(".widget-image").evaluate_all("images => images.map(image => image.title)")
    assert all("says what it shows" in name for name in names)
    assert findings() == []


def test_the_checker_finds_a_picture_without_a_name_in_an_output(page_in_lab):
    page, _, _, findings, _ = page_in_lab
    page.evaluate("document.querySelector('.jp-OutputArea-output').append(document.createElement('img'))")
    assert "image-alt" in [finding[0] for finding in findings()]
