"""A reader without a kernel sees a widget's picture and what it shows; the widget's state is not kept."""

import base64
import html
import io
import json
import re

import nbformat
from notebook_parts import LARGEST, clean, execute
from PIL import Image
from widget_pictures import WIDGET_STATE, WIDGET_VIEW

CELL = """
from kdcourse.widgets import hello_slider
hello = hello_slider()
hello
"""


def executed(*cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    execute(notebook, ".")
    return notebook


def test_a_widget_of_the_course_leaves_its_picture_with_its_own_words(tmp_path):
    notebook = executed(CELL)
    clean(notebook)
    note, picture = notebook.cells[0].outputs
    assert "A live widget appears here" in note.data["text/markdown"]
    alt = "A slider that picks a digit. Shown with digit 3."
    assert picture.data["text/plain"] == alt
    assert f'alt="{html.escape(alt)}"' in picture.data["text/html"]
    png = base64.b64decode(re.search('base64,([^"]+)"', picture.data["text/html"])[1])
    image = Image.open(io.BytesIO(png))
    assert image.width > 100
    assert len(image.convert("L").getcolors(10_000)) > 2, "something is drawn"
    assert len(png) < LARGEST / 10
    assert "widgets" not in notebook.metadata
    assert WIDGET_VIEW not in json.dumps(notebook)
    assert WIDGET_STATE not in json.dumps(notebook)


def test_a_widget_without_a_picture_leaves_the_note_alone():
    notebook = executed("import ipywidgets\nipywidgets.IntSlider()")
    clean(notebook)
    (note,) = notebook.cells[0].outputs
    assert "A live widget appears here" in note.data["text/markdown"]


def test_the_picture_is_that_of_the_widget_shown_and_of_no_other():
    notebook = executed(CELL, "import ipywidgets\nother = ipywidgets.Image(value=b'other')\nipywidgets.IntSlider()")
    clean(notebook)
    assert len(notebook.cells[0].outputs) == 2
    assert len(notebook.cells[1].outputs) == 1
