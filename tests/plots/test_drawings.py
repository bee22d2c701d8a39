"""Drawings: SVG that parses, stays on its sheet, is described in words, and follows a dark page."""

import base64
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from kdcourse.guide import read_guide
from kdcourse.plots import drawings
from kdcourse.plots.drawings.svg import DARK, LIGHT, Drawing

NAMES = [name for name in drawings.__all__ if name.startswith("draw_")]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(params=NAMES)
def drawing(request):
    given = [read_guide()] if request.param == "draw_cheat_sheet" else []
    return getattr(drawings, request.param)(*given)


def test_a_drawing_is_an_svg_with_its_description(drawing):
    root = ElementTree.fromstring(drawing.to_svg())
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == drawing.alt == root.find(f"{SVG}title").text
    assert len(drawing.alt.split()) >= 15


def test_everything_stays_on_the_sheet(drawing):
    root = ElementTree.fromstring(drawing.to_svg())
    for shape in root.iter():
        corners = []
        if shape.tag == f"{SVG}rect":
            x, y, w, h = (float(shape.get(name, 0)) for name in ("x", "y", "width", "height"))
            corners = [(x, y), (x + w, y + h)]
        elif shape.tag == f"{SVG}text":
            size, x, y = (float(shape.get(name)) for name in ("font-size", "x", "y"))
            wide = 0.56 * size * len(shape.text or "")
            left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[shape.get("text-anchor")]
            corners = [(left, y - size), (left + wide, y)]
        elif shape.get("points"):
            corners = [tuple(map(float, point.split(","))) for point in shape.get("points").split()]
        for x, y in corners:
            assert -1 <= x <= drawing.width + 1, (shape.attrib, shape.text)
            assert -1 <= y <= drawing.height + 1, (shape.attrib, shape.text)


def test_text_is_legible_at_half_size(drawing):
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', drawing.to_svg())]
    if drawing.height > drawing.width:  # a page for print, 183 mm or 519 points wide
        assert min(sizes) * 519 / drawing.width >= 6.5
        assert drawing.height / drawing.width == pytest.approx(297 / 210, abs=0.001)
        return
    assert min(sizes) >= 15
    assert drawing.width <= 800


def test_the_columns_of_the_cheat_sheet_do_not_run_into_each_other():
    root = ElementTree.fromstring(drawings.draw_cheat_sheet(read_guide()).to_svg())
    rows = {}
    for text in root.iter(f"{SVG}text"):
        if float(text.get("x")) > 60:
            rows.setdefault(text.get("y"), []).append(text)
    lines = [texts for texts in rows.values() if len(texts) == 3 and float(texts[1].get("x")) == 540]
    assert len(lines) > 40
    for texts in lines:
        for one, other in pairwise(texts):
            wide = 0.56 * float(one.get("font-size")) * len(one.text or "")
            assert float(one.get("x")) + wide <= float(other.get("x")), one.text


def test_a_cheat_sheet_that_fits_no_page_is_refused():
    (line, *_), *_ = read_guide().values()
    with pytest.raises(ValueError, match="a page holds about 65 lines"):
        drawings.draw_cheat_sheet({"one topic": [line] * 90})


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "fill"])
def test_every_ink_has_contrast(colours, ground):
    for role in set(colours) - {"paper", "fill"}:
        light, dark = sorted((luminance(colours[role]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, role


def test_a_dark_page_repaints_what_is_on_the_sheet_and_nothing_else():
    sheet = Drawing(100, 50, alt="A box that says student.")
    sheet.box(10, 10, 80, 30, "student", role="student")
    style = re.search(r"<style>@media \(prefers-color-scheme: dark\)\{(.*)\}</style>", sheet.to_svg())[1]
    assert f'[data-fill="student"]{{fill:{DARK["student"]}}}' in style
    assert f'[data-fill="paper"]{{fill:{DARK["paper"]}}}' in style
    assert "teacher" not in style


def test_a_notebook_gets_an_image_with_its_description():
    sheet = Drawing(100, 50, alt='A "box".')
    bundle = sheet._repr_mimebundle_()
    assert 'alt="A &quot;box&quot;."' in bundle["text/html"]
    assert bundle["text/plain"] == sheet.alt
    data = re.search(r"base64,([^\"]+)", bundle["text/html"])[1]
    assert base64.b64decode(data).decode() == sheet.to_svg()


def test_words_are_escaped():
    sheet = Drawing(100, 50, alt='Less than: a < b & "c".')
    sheet.text(50, 25, "a < b")
    assert ElementTree.fromstring(sheet.to_svg()).find(f"{SVG}text").text == "a < b"


def test_a_drawing_without_words_is_refused():
    with pytest.raises(ValueError, match="description"):
        Drawing(100, 50, alt=" ")
