"""A reader without a kernel sees a widget's picture and what it shows; the widget's state is not kept."""

import base64
import html
import io
import json
import re

import nbformat
import numpy as np
from matplotlib import colormaps
from notebook_parts import LARGEST, clean, execute
from PIL import Image, ImageDraw
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


def stored(frame):
    """Return a frame as a notebook keeps it, and how far each pixel's colour is from the frame's at that size."""
    buffer = io.BytesIO()
    frame.save(buffer, "PNG")
    small = Image.open(io.BytesIO(_smaller(buffer.getvalue()))).convert("RGB")
    before = np.asarray(frame.resize(small.size, Image.Resampling.LANCZOS)).astype(int)
    return small, abs(np.asarray(small).astype(int) - before).sum(axis=2)  # (H, W)


def test_a_thin_line_beside_a_heat_map_keeps_the_colour_of_its_role():
    frame = Image.new("RGB", (900, 300), PAPER)
    frame.paste(Image.radial_gradient("L").resize((300, 300)).convert("RGB"), (600, 0))
    for place, role in enumerate(COLORS):
        ImageDraw.Draw(frame).line([(20, 20 + 30 * place), (580, 20 + 30 * place)], fill=COLORS[role], width=3)
    small, away = stored(frame)
    assert away[:, :400].max() < 24, "the lines"
    assert len(small.getcolors(10_000)) > 50, "the heat map has shades, too"


def test_a_heat_map_keeps_the_rare_end_of_its_scale():
    scale = (colormaps["cividis"](np.linspace(0, 1, 300))[:, :3] * 255).round().astype(np.uint8)  # dark blue to yellow
    frame = Image.new("RGB", (900, 300), PAPER)
    frame.paste(Image.fromarray(scale[None].repeat(290, axis=0)).crop((0, 0, 240, 290)), (600, 0))  # without its end
    frame.paste(Image.fromarray(scale[None].repeat(10, axis=0)), (600, 290))
    _, away = stored(frame)
    assert away[-5:, -40:].max() < 40
