"""Pictures in a notebook: small PNGs of any size, and descriptions that arrive in the page."""

import base64
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from kdcourse import plots
from kdcourse.plots import new_axes, show
from kdcourse.plots.showing import read_descriptions
from kdcourse.records import read_record


@pytest.fixture
def published(monkeypatch):
    """Return a list of the outputs that a notebook would get."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", publisher)
    yield publisher.outputs
    InteractiveShell.clear_instance()


def descriptions_in(page):
    """Return what each picture of a page is described by, None where nothing does."""
    found = []

    class Pictures(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag == "img":
                found.append(dict(attributes).get("alt"))

    Pictures().feed(page)
    return found


def as_notebook(outputs):
    cell = nbformat.v4.new_code_cell("show(ax, alt=…)")
    cell.outputs = [nbformat.v4.new_output("display_data", data=output["data"]) for output in outputs]
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize("size", [(0.62, 0.8857), (3.1, 2.0057), (6.0, 3.2), (5.58, 0.7), (4.349, 1.995)])
def test_a_picture_of_any_size_in_inches_becomes_png(size):
    width, height = size
    image = Image.open(io.BytesIO(plots.to_png(plots.new_axes(width=width, height=height))))
    assert abs(image.width - 100 * width) <= 1
    assert abs(image.height - 100 * height) <= 1


def test_a_figure_is_opaque_paper_so_that_a_dark_page_does_not_shine_through():
    image = Image.open(io.BytesIO(plots.to_png(plots.new_axes())))
    assert image.convert("RGBA").getextrema()[3] == (255, 255)
    assert image.convert("RGB").getpixel((0, 0)) == tuple(bytes.fromhex(plots.PAPER[1:]))


def test_show_keeps_a_small_png_and_its_description_together(published):
    plots.show(plots.curve([0, 1], [0, 1]), alt="A straight line that rises.")
    (output,) = published
    assert output["data"]["text/plain"] == "A straight line that rises."
    ((data, alt),) = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', output["data"]["text/html"])
    assert alt == "A straight line that rises."
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (600, 320)
    assert image.info["dpi"][0] <= 100.1
    assert 'width="600"' in output["data"]["text/html"]


def test_the_description_is_in_the_page_that_nbconvert_makes(published):
    exporter = pytest.importorskip("nbconvert").HTMLExporter()
    alt = 'Errors of "T < 4" & of T = 4: both fall.'
    plots.show(plots.curve([0, 1], [1, 0]), alt=alt)
    page, _ = exporter.from_notebook_node(as_notebook(published))
    assert descriptions_in(page) == [alt]
    assert "No description has been provided" not in page


def test_without_a_notebook_the_description_is_printed(capsys):
    plots.show(plots.curve([0, 1], [0, 1]), alt="A straight line that rises.")
    assert capsys.readouterr().out == "A straight line that rises.\n"


@pytest.mark.parametrize("width", [4.6, 5.8, 6.0, 5.67])
def test_a_vertical_line_stays_vertical_whatever_the_width_in_inches(width):
    ax = plots.new_axes(width=width, height=2)
    ax.set_axis_off()
    ax.axvline(0.5, color="black", linewidth=3)
    pixels = np.asarray(Image.open(io.BytesIO(plots.to_png(ax))).convert("L"))  # (H, W)
    inside = pixels[20:-20]
    assert len({int(row.argmin()) for row in inside}) == 1


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.show(plots.new_axes(), alt=" "), "alt must say in a sentence"),
        (lambda: plots.to_png("picture"), "a picture is Axes or a Figure, got str"),
    ],
)
def test_bad_input_is_told_what_is_needed(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_a_key_stands_for_a_description_of_the_package(capsys):
    (name, words), *_ = read_descriptions("02").items()
    show(new_axes(), alt=f"02.{name}")
    assert words in capsys.readouterr().out


def test_an_unknown_key_is_told_with_near_ones():
    with pytest.raises(ValueError, match=r"no description '02\.nothing-such'\. Did you mean"):
        show(new_axes(), alt="02.nothing-such")
    with pytest.raises(ValueError, match="Chapter '98' has none"):
        show(new_axes(), alt="98.nothing-such")


CHAPTERS = {path.stem[:2]: path for path in sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_description_is_of_a_picture_and_stands_in_the_built_page(chapter):
    cells = json.loads(CHAPTERS[chapter].read_text(encoding="utf-8"))["cells"]
    waiting = set() if read_record("ledger")["grid"] else {"recorded-grid"}  # a picture of each shape that was run
    for name, words in read_descriptions(chapter).items():
        if name in waiting:
            continue
        asks = [cell for cell in cells if f'alt="{chapter}.{name}"' in "".join(cell["source"])]
        assert len(asks) == 1, f"{len(asks)} cells show {chapter}.{name}"
        pages = "".join(
            "".join(output["data"].get("text/html", "")) for output in asks[0]["outputs"] if "data" in output
        )
        assert html.escape(words) in pages, f"{chapter}.{name}: build the chapter again"
