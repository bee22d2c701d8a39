"""What a reader of a built notebook gets who sees no pictures: nothing is run here."""

import copy
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
PICTURE = {
    "output_type": "display_data",
    "data": {"image/png": "iVBO", "text/plain": ["A line that ", "falls."]},
    "metadata": {"image/png": {"alt": "A line that falls."}},
}


def text_of(value):
    """Notebooks keep a text as one string or as a list of lines."""
    return "".join(value)


def undescribed(notebook):
    """Return a sentence per picture that is not described where tools (metadata) and plain front ends look for it."""
    found = []
    for number, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            for kind in (kind for kind in output.get("data", {}) if kind.startswith("image/")):
                alt = output.get("metadata", {}).get(kind, {}).get("alt", "")
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
        (lambda output: output.update(metadata={}), "no alt text"),
        (lambda output: output["metadata"]["image/png"].update(alt="picture"), "no alt text"),
        (lambda output: output["data"].update({"text/plain": "<Figure size 640x480>"}), "something else"),
        (lambda output: output["data"].update({"image/svg+xml": "<svg/>"}), "image/svg+xml has no alt text"),
    ],
)
def test_an_undescribed_picture_is_found(spoil, told):
    output = copy.deepcopy(PICTURE)
    spoil(output)
    (problem,) = undescribed({"cells": [{"outputs": [output]}]})
    assert told in problem
