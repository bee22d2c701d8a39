"""What stands for a widget where no kernel runs, on GitHub or in print: a note, and the widget's own picture."""

import base64
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import nbformat
from nbformat import NotebookNode
from PIL import Image

from kdcourse.plots.showing import DescribedPicture
from kdcourse.widgets.canvas import PALETTE, name_of

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_NOTE = "▶ *A live widget appears here when you run this cell.*"
WIDGET_DPI, PAGE_DPI = 144, 96
COLOURS = 96  # that a picture chooses for itself, beside the course's: enough for the shades of a heat map


def without_kernel(output: NotebookNode, states: Mapping[str, Any]) -> list[NotebookNode]:
    """Return the outputs that stand for a widget.

    Parameters
    ----------
    output : NotebookNode
        Shows a widget. Its text describes the widget and becomes the picture's alt text.
    states : mapping
        What nbclient has recorded of each widget by the end of the notebook.

    Returns
    -------
    list of NotebookNode
        What the widget says itself without a kernel, as HTML; or a note, and the picture if the widget holds one.
    """
    if "text/html" in output.data:
        words = {kind: text for kind, text in output.data.items() if kind in ("text/html", "text/plain")}
        return [nbformat.v4.new_output("display_data", words)]
    note = {"text/markdown": WIDGET_NOTE, "text/plain": WIDGET_NOTE.replace("*", "")}
    outputs = [nbformat.v4.new_output("display_data", note)]
    picture = _picture_of(output.data[WIDGET_VIEW].get("model_id"), states)
    about = output.data.get("text/plain", "").strip("[]")
    if picture and about:
        alt = _alt_text(about, picture)
        page = {"text/html": DescribedPicture(_smaller(picture), alt).to_html(), "text/plain": alt}
        outputs.append(nbformat.v4.new_output("display_data", page))
    return outputs


def _alt_text(about: str, png: bytes) -> str:
    """Return what a widget says of itself, and the knobs that its frame carries as text."""
    knobs = {name: text for name, text in Image.open(io.BytesIO(png)).info.items() if name != "frame"}
    shown = ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in knobs.items() if isinstance(text, str))
    name = name_of(about)
    return f"{name}. Shown with {shown}." if shown else f"{name}."


def _picture_of(model: str | None, states: Mapping[str, Any]) -> bytes | None:
    """Return the largest picture inside a widget, or None."""
    waiting, seen, pictures = [model], set(), []
    while waiting:
        model = waiting.pop()
        if model in seen or model not in states:
            continue
        seen.add(model)
        recorded = states[model]
        waiting += re.findall(r"IPY_MODEL_(\w+)", json.dumps(recorded["state"]))
        pictures += [
            base64.b64decode(buffer["data"])
            for buffer in recorded.get("buffers", [])
            if recorded.get("model_name") == "ImageModel" and buffer["path"] == ["value"]
        ]
    return max(pictures, key=len, default=None)


def _smaller(png: bytes) -> bytes:
    """Return a frame at the resolution of a page instead of a fine screen's, in a palette.

    The course's colours have places of their own: in a palette of the commonest colours a thin line would turn grey.
    The others are chosen by an octree. A median cut looks at frequent colours only: a heat map would lose the rare ends
    of its scale.
    """
    frame = Image.open(io.BytesIO(png)).convert("RGB")
    size = [round(length * PAGE_DPI / WIDGET_DPI) for length in frame.size]
    small = frame.resize(size, Image.Resampling.LANCZOS)
    palette = Image.new("P", (1, 1))
    chosen = small.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.putpalette([*_channels(PALETTE), *_channels(chosen)])
    buffer = io.BytesIO()
    small.quantize(palette=palette, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _channels(image: Image.Image) -> list[int]:
    return image.getpalette() or []
