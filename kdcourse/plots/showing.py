"""A picture in the notebook, with a description in words for readers who do not see it."""

import base64
import difflib
import html
import io
import re
import tomllib
from functools import cache
from importlib import resources

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from .style import DPI, PAPER, figure_of

KEY = r"\d\d\.[a-z0-9-]+"


def show(picture: Axes | Figure, *, alt: str) -> None:
    """Display a picture in the notebook, with a description in words for those who do not see it.

    Parameters
    ----------
    picture : Axes or Figure
    alt : str
        What the picture shows: its kind, its axes, and what there is to see. In chapters it is a key such as
        ``"02.gradient-size"``: the descriptions stand in ``plots/descriptions/02.toml``.

    Raises
    ------
    ValueError
        If the description is missing, or there is none under the key.

    Notes
    -----
    The output is an ``<img>`` in HTML with the PNG inside it. JupyterLab and nbconvert draw an output of type
    ``image/png`` without a description, wherever that is stored. In HTML the ``alt`` arrives in the page, also where a
    notebook is not trusted. The description is the output's ``text/plain`` too, which front ends without pictures show.

    Examples
    --------
    >>> from kdcourse import plots
    >>> show(plots.curve([0, 1], [1, 0]), alt="A line that falls.")
    A line that falls.
    """
    from IPython.display import display

    if isinstance(alt, str) and re.fullmatch(KEY, alt):
        alt = find_description(alt)
    if not isinstance(alt, str) or len(alt.split()) < 3:
        raise ValueError(
            f"alt must say in a sentence what the picture shows, got {alt!r}. Some readers only have that."
        )
    display(DescribedPicture(to_png(picture), alt))


def find_description(key: str) -> str:
    """Return what a chapter's picture shows, in words.

    Parameters
    ----------
    key : str
        Chapter and name, such as ``"02.gradient-size"``.

    Raises
    ------
    ValueError
        If there is no such description; near matches are listed.
    """
    chapter, _, name = key.partition(".")
    descriptions = read_descriptions(chapter)
    if name not in descriptions:
        near = difflib.get_close_matches(name, descriptions, n=3, cutoff=0.3) or list(descriptions)[:3]
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Chapter {chapter!r} has none."
        raise ValueError(f"there is no description {key!r}. {hint}")
    return descriptions[name]


@cache
def read_descriptions(chapter: str) -> dict[str, str]:
    """Return the descriptions of a chapter's pictures by name; none if the chapter has none."""
    file = resources.files(__package__).joinpath("descriptions", f"{chapter}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


class DescribedPicture:
    """A PNG and its description, as an output that keeps both together.

    Parameters
    ----------
    png : bytes
    alt : str
    """

    def __init__(self, png: bytes, alt: str) -> None:
        self.png, self.alt = png, alt

    def __repr__(self) -> str:
        """Return the description."""
        return self.alt

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Return an image with its description, the PNG inside."""
        data, width = base64.b64encode(self.png).decode(), Image.open(io.BytesIO(self.png)).width
        # On a narrow page the picture shrinks and keeps its shape.
        return (
            f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}" width="{width}" '
            'style="max-width: 100%; height: auto">'
        )


def to_png(picture: Axes | Figure) -> bytes:
    """Return a picture as PNG at 100 dots per inch, on the course's paper.

    Parameters
    ----------
    picture : Axes or Figure

    Returns
    -------
    bytes

    Examples
    --------
    >>> from kdcourse import plots
    >>> to_png(plots.curve([0, 1], [1, 0]))[:4]
    b'\\x89PNG'
    """
    buffer = io.BytesIO()
    # As PNG, which knows its own size: inches times dots is not always the whole number that the canvas takes.
    figure_of(picture).savefig(buffer, format="png", dpi=DPI, facecolor=PAPER, pil_kwargs={"compress_level": 1})
    pixels = Image.open(buffer).convert("RGB")
    small = io.BytesIO()
    # 256 colours: a third of the bytes, and a notebook holds many pictures.
    pixels.quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True, dpi=(DPI, DPI))
    return small.getvalue()
