"""The page that learners print: no line of code is cut at the edge of the paper, every picture keeps its alt text."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from PIL import Image

TEMPLATE = Path(__file__).resolve().parents[2] / "tools" / "print"
ALT = 'a line that "falls" & rises'
A4 = 718  # CSS pixels between margins of 1 cm
LONG = "result = " + " + ".join(f"value_{n}" for n in range(20))


def page(template=TEMPLATE):
    """A notebook with a long line of code, a long line of output and a picture, as HTML."""
    png = io.BytesIO()
    Image.new("RGB", (1200, 20)).save(png, "png")
    picture = nbformat.v4.new_output(
        "display_data",
        {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": ALT},
        metadata={"image/png": {"alt": ALT}},
    )
    text = nbformat.v4.new_output("stream", name="stdout", text="number " * 40 + "\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LONG, outputs=[text, picture])])
    return HTMLExporter(template_name=str(template)).from_notebook_node(notebook)[0]


def widths(html):
    """The widths that content needs, above those it has, on paper."""
    from lab_browser import browser_page

    with browser_page(width=A4) as (sheet, _):
        sheet.emulate_media(media="print")
        sheet.set_content(html, wait_until="domcontentloaded")
        return sheet.evaluate(
            """() => [...document.querySelectorAll('.jp-InputArea pre, .jp-OutputArea pre, .jp-RenderedImage img')]
                .map(part => Math.max(part.scrollWidth - part.clientWidth,
                                      part.getBoundingClientRect().right - document.documentElement.clientWidth))"""
        )


def test_a_picture_keeps_its_alt_text():
    class Pictures(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag == "img":
                alts.append(dict(attributes)["alt"])

    alts = []
    Pictures().feed(page())
    assert alts == [ALT]


@pytest.mark.browser
def test_nothing_is_cut_at_the_edge_of_the_paper():
    parts = widths(page())
    assert len(parts) == 3
    assert max(parts) <= 1


@pytest.mark.browser
def test_jupyters_own_page_would_be_cut():
    """Otherwise the test above could not fail."""
    assert max(widths(page("lab"))) > 100
