"""An exercise as a new learner does it: JupyterLab in a real browser, from stubs to full marks, then graded.

One exercise by default; all of them with KDCOURSE_ALL_EXERCISES=1, some minutes.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from chapter_page import ARTIFACTS, ERRORS, ROOT, needs_browser
from lab_browser import browser_page, lab, open_notebook

pytestmark = needs_browser
EVERY = sorted(path.stem for path in (ROOT / "solutions").glob("ex*.py"))
NAMES = EVERY if os.environ.get("KDCOURSE_ALL_EXERCISES") else ["ex02_soft_targets"]

ALL_RAN = """() => {  // cells were waiting or running, and none is any more
  const busy = [...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.innerText.includes('*'));
  window.was_busy ||= busy;
  return window.was_busy && !busy;
}"""


def solutions(name):
    """Return what a learner writes, by the name of the cell: the key's cells without their markers."""
    key = nbformat.read(ROOT / "solutions" / name / f"{name}.ipynb", as_version=4)
    marked = [cell for cell in key.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    return {
        cell.metadata.nbgrader.grade_id: "\n".join(line for line in cell.source.splitlines() if "###" not in line)
        for cell in marked
    }


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def write_into(page, at, text):
    """Replace what stands in a cell, as with select all and paste."""
    editor = page.locator(".jp-Notebook .jp-Cell").nth(at).locator(".cm-content")
    editor.scroll_into_view_if_needed()
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def errors_of(path):
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    return [output.ename for output in outputs if output.output_type == "error"]


def save(page):
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    page.wait_for_function("!document.title.startsWith('*')")
    page.wait_for_timeout(1000)


def grade(path):
    command = [sys.executable, "-m", "kdcourse", "grade", path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=path.parent)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_is_done_in_jupyterlab_from_stubs_to_full_marks(tmp_path, name):
    path = tmp_path / f"{name}.ipynb"
    shutil.copy(ROOT / "exercises" / name / path.name, path)
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"windowingMode": "none"}), encoding="utf-8")  # every cell can be clicked
    cells = nbformat.read(path, as_version=4).cells
    places = {cell.metadata.get("nbgrader", {}).get("grade_id"): at for at, cell in enumerate(cells)}
    before = grade(path)
    assert before["total"] == 0

    with lab(tmp_path) as address, browser_page() as (page, _):
        open_notebook(page, address, path.name)
        # The first stub names its task; the cells below it were not run.
        stub = re.compile(r"Task 1: \w+ is not written yet")
        page.locator(".jp-OutputArea-output", has_text=stub).first.wait_for()
        for cell, text in solutions(name).items():
            write_into(page, places[cell], text)
        run_all(page)
        last = page.locator(".jp-Notebook .jp-Cell").nth(len(cells) - 1)
        page.wait_for_function(ALL_RAN)
        assert page.locator(ERRORS).all_inner_texts() == []
        last.locator(".jp-OutputArea-output", has_text="Passed.").wait_for()
        last.scroll_into_view_if_needed()
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / "exercise_done.png")
        save(page)
    assert errors_of(path) == []
    after = grade(path)
    assert (after["total"], after["flags"]) == (before["max"], [])
