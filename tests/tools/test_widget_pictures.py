"""A reader without a kernel sees a widget's picture and what it shows; the widget's state is not kept."""

import base64
import html
import io
import json
import re

import nbformat
from notebook_parts import LARGEST, clean, execute
from PIL import Image, ImageColor, ImageDraw
from widget_pictures import WIDGET_STATE, WIDGET_VIEW, _smaller

from kdcourse.plots import COLORS, PAPER

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


def test_a_thin_line_beside_a_heat_map_keeps_the_colour_of_its_role():
    frame = Image.new("RGB", (900, 300), PAPER)
    frame.paste(Image.radial_gradient("L").resize((300, 300)).convert("RGB"), (600, 0))
    for place, role in enumerate(COLORS):
        ImageDraw.Draw(frame).line([(20, 20 + 30 * place), (580, 20 + 30 * place)], fill=COLORS[role], width=3)
    buffer = io.BytesIO()
    frame.save(buffer, "PNG")
    small = Image.open(io.BytesIO(_smaller(buffer.getvalue()))).convert("RGB")
    shown = {colour for _, colour in small.getcolors(10_000)}
    for role, colour in COLORS.items():
        away = min(sum(abs(a - b) for a, b in zip(ImageColor.getrgb(colour), one, strict=True)) for one in shown)
        assert away < 12, role
    assert len(shown) > 50, "the heat map has shades, too"
