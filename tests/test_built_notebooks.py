"""What a reader of a built notebook gets who sees no pictures: nothing is run here."""

import copy
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
PICTURE = {
    "output_type": "display_data",
    "data": {
        "text/html": ['<img src="data:image/png;base64,iVBO" ', 'alt="A line that falls.">'],
        "text/plain": ["A line that ", "falls."],
    },
    "metadata": {},
}


class Descriptions(HTMLParser):
    """Notes what each picture in a piece of HTML is described by."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(dict(attributes).get("alt") or "")


def text_of(value):
    """Notebooks keep a text as one string or as a list of lines."""
    return "".join(value)


def descriptions_of(output):
    """Return the kind of each picture in an output, and its description."""
    parser = Descriptions()
    parser.feed(text_of(output.get("data", {}).get("text/html", "")))
    metadata = output.get("metadata", {})
    kinds = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
    return [("img", alt) for alt in parser.found] + [(kind, metadata.get(kind, {}).get("alt", "")) for kind in kinds]


def undescribed(notebook):
    """Return a sentence per picture that is not described in the page and where front ends without pictures look."""
    found = []
    for number, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            for kind, alt in descriptions_of(output):
                if len(alt.split()) < 3:
                    found.append(f"cell {number}: {kind} has no alt text")
                elif text_of(output["data"].get("text/plain", "")) != alt:
                    found.append(f"cell {number}: text/plain says something else than the alt text")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_every_picture_of_a_built_notebook_is_described_in_words(path):
    assert undescribed(json.loads(path.read_text(encoding="utf-8"))) == []


def test_a_described_picture_passes():
    assert undescribed({"cells": [{"outputs": [PICTURE]}, {"source": "no outputs"}]}) == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda output: output["data"].update({"text/html": '<img src="data:">'}), "img has no alt text"),
        (lambda output: output["data"].update({"text/html": '<img alt="picture">'}), "img has no alt text"),
        (lambda output: output["data"].update({"text/plain": "<Figure size 640x480>"}), "something else"),
        (lambda output: output["data"].update({"image/svg+xml": "<svg/>"}), "image/svg+xml has no alt text"),
    ],
)
def test_an_undescribed_picture_is_found(spoil, told):
    output = copy.deepcopy(PICTURE)
    spoil(output)
    (problem,) = undescribed({"cells": [{"outputs": [output]}]})
    assert told in problem
