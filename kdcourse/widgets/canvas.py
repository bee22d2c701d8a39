"""A picture that is redrawn in milliseconds, and the base class of every widget of the course.

All chapters with a widget. One ``Figure`` per picture; no pyplot, no ``Output``, no thread.
"""

import html
import io
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import ipywidgets
import traitlets
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..plots import COLORS, PAPER
from ..plots.style import INK_ON_PAPER

DPI = 144  # sharp on screens with more than one pixel per point; the page shows it at its size in inches


class NamedImage(ipywidgets.Image):
    """An image with a name for those who cannot see it: its tooltip, which becomes the ``title`` in the page.

    ipywidgets 8 writes the tooltip of a widget only if that widget has a description, and an image has none.
    """

    description = traitlets.Unicode("").tag(sync=True)
    tooltip = traitlets.Unicode(None, allow_none=True).tag(sync=True)


class Canvas:
    """A figure whose still parts are drawn once. Its moving parts are drawn on top of them at each frame.

    Parameters
    ----------
    width, height : float
        Size in inches of 96 CSS pixels.
    full_colour : bool
        Whether to keep every colour, as a heat map needs. Otherwise a frame has the course's colours and greys only,
        which takes a quarter of the time and half of the bytes.

    Attributes
    ----------
    figure : Figure
    widget : NamedImage
        The last frame, at most 60 kB of PNG.
    frames : int
        Count of frames drawn.
    """

    def __init__(self, width: float, height: float, *, full_colour: bool = False) -> None:
        self._full_colour = full_colour
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
        self._agg = FigureCanvasAgg(self.figure)
        self._moving: list[Artist] = []
        self._words: list[Text] = []
        self._changing: Axes | None = None
        self._rest: Any = None  # the still parts without those Axes
        self._still: Any = None
        self._settled: Any = None  # the still parts and the words that stand as they stood
        self._states: list[tuple] = []  # of the words, at the last frame
        self._settled_states: tuple | None = None
        self.frames = 0
        # The height follows the width: on a narrow page the picture shrinks and keeps its shape.
        layout = ipywidgets.Layout(
            width=f"{round(96 * width)}px", max_width="100%", height="auto", object_fit="contain"
        )
        self.widget = NamedImage(format="png", layout=layout)

    def add_axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Return new Axes at a place given in shares of the figure."""
        return self.figure.add_axes((left, bottom, width, height))

    def add_image(
        self, left: float, bottom: float, width: float, height: float, *, rows: int = 28, columns: int = 28
    ) -> AxesImage:
        """Return an empty image for digits, in Axes without a frame: 0 is paper, 1 is ink."""
        axes = self.add_axes(left, bottom, width, height)
        axes.set_axis_off()
        return axes.imshow([[0.0] * columns] * rows, cmap=INK_ON_PAPER, vmin=0, vmax=1, interpolation="nearest")

    def moving(self, *artists: Artist) -> None:
        """Draw these at every frame, in this order, above everything else."""
        for artist in artists:
            artist.set_animated(True)
            self._moving.append(artist)

    def words(self, *texts: Text) -> None:
        """Draw these below all that moves, and only anew where they have changed: words are the dearest to draw."""
        for text in texts:
            text.set_animated(True)
            self._words.append(text)

    def changing(self, axes: Axes) -> None:
        """Draw these Axes after all other still parts, so that they can be renewed alone: nothing may lie on them."""
        axes.set_animated(True)
        self._changing = axes
        self.renew()

    def renew(self, axes: Axes | None = None) -> None:
        """Draw the still parts again at the next frame; with the changing Axes only those, as after new limits."""
        self._still = self._settled = None
        if axes is None or axes is not self._changing:
            self._rest = None

    def still(self) -> Figure:
        """Return the figure as it stands, to be saved or printed; frames are not drawn any more.

        What moves is left out of a saved figure as long as it moves: whole Axes, and words beside them.
        """
        moving = [*self._words, *self._moving, *([] if self._changing is None else [self._changing])]
        for artist in moving:
            artist.set_animated(False)
        self._words, self._moving, self._changing = [], [], None
        self.renew()
        return self.figure

    def draw(self, **said: object) -> None:
        """Draw a frame and hand it to the widget.

        Parameters
        ----------
        **said
            What the frame shows, such as ``temperature=4.0``: written into the PNG as text, so that a reader of the
            picture (a test, a benchmark, a saved file) knows which knobs it belongs to.
        """
        renderer = self._agg.get_renderer()
        if self._still is None:
            self._draw_still(renderer)
        for artist in (*self._restore(renderer), *self._moving):
            artist.draw(renderer)
        self.frames += 1
        self.widget.value = self._encode(said)

    def _draw_still(self, renderer: Any) -> None:
        if self._rest is None:
            self._agg.draw()
            self._rest = self._agg.copy_from_bbox(self.figure.bbox)
        else:
            self._agg.restore_region(self._rest)
        if self._changing is not None:
            self._changing.draw(renderer)
        self._still = self._agg.copy_from_bbox(self.figure.bbox)

    def _restore(self, renderer: Any) -> list[Text]:
        """Put back what has not changed since the last frame; return the words that have."""
        states = [_state(text) for text in self._words]
        settled = [state if old == state else None for old, state in zip_longest(self._states, states)]
        self._states = states
        if self._settled is None or self._settled_states != tuple(settled):
            self._agg.restore_region(self._still)
            for text, state in zip(self._words, settled, strict=True):
                if state is not None:
                    text.draw(renderer)
            self._settled, self._settled_states = self._agg.copy_from_bbox(self.figure.bbox), tuple(settled)
        else:
            self._agg.restore_region(self._settled)
        return [text for text, state in zip(self._words, settled, strict=True) if state is None]

    def _encode(self, said: dict[str, object]) -> bytes:
        size = self._agg.get_width_height(physical=True)
        pixels = Image.frombuffer("RGBA", size, self._agg.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
        info = PngInfo()
        for name, value in {"frame": self.frames, **said}.items():
            info.add_text(name, str(value))
        buffer = io.BytesIO()
        if not self._full_colour:
            pixels = pixels.quantize(palette=PALETTE, dither=Image.Dither.NONE)
        pixels.save(buffer, "PNG", compress_level=1, pnginfo=info)
        return buffer.getvalue()


def _state(text: Text) -> tuple:
    """Return what of a text can change from frame to frame."""
    return text.get_text(), text.get_position(), text.get_color(), text.get_horizontalalignment(), text.get_visible()


class Shown:
    """A widget with a status line. An error in reaction to a control appears in that line.

    Attributes
    ----------
    widget : ipywidgets.DOMWidget
        The box of controls and picture. Show it once: a second view of it draws everything twice.
    status : ipywidgets.HTML
    errors : list of Exception
        Errors that a slider, a button or the clock met, where nobody can catch them.
    """

    about = "A widget, live when the notebook runs."

    def __init__(self) -> None:
        self.widget: ipywidgets.DOMWidget
        self.status = ipywidgets.HTML()
        self.errors: list[Exception] = []
        # Since ipykernel 7, JupyterLab may send the messages of widgets to another thread of the kernel (a subshell).
        # Then a slider moves while a cell runs.
        self.lock = threading.RLock()

    def close(self) -> None:
        """Raise if anything went wrong in reaction to a slider, a button or the clock.

        Raises
        ------
        RuntimeError
            From the first error: an executed notebook fails there instead of hiding it.
        """
        if self.errors:
            raise RuntimeError(f"the widget met an error: {self.errors[0]}") from self.errors[0]

    def follow(self, *controls: ipywidgets.DOMWidget, action: Callable[[], object]) -> None:
        """Call the action whenever one of the controls has moved."""

        def react(change: Any) -> None:
            with self.guard():
                action()

        for control in controls:
            control.observe(react, "value")

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Hold the lock. An error goes to the status line, because front ends do not show the errors of callbacks."""
        with self.lock:
            try:
                yield
            except Exception as error:
                self.fail(error)

    def fail(self, error: Exception) -> None:
        """Keep an error and show it in the status line."""
        self.errors.append(error)
        text = html.escape(f"{type(error).__name__}: {error}")
        border = "border-left: 4px solid #d1242f; padding-left: 0.8em"
        self.status.value = f'<div role="alert" style="{border}"><b>Stopped.</b> {text}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        for picture in _pictures_of(self.widget):
            picture.tooltip = f"{name_of(self.about)}. The text below says what it shows."
        # Written here, because ipywidgets 7 and 8 do it in different ways. Without a kernel the sentence is left.
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {"application/vnd.jupyter.widget-view+json": view, "text/plain": f"[{self.about}]"}


def name_of(about: str) -> str:
    """Return what a widget says of itself, without the note that it is live.

    >>> name_of("The exits explorer, live when the notebook runs.")
    'The exits explorer'
    """
    return re.sub(r"[,:] live when the notebook runs\.?$", "", about).rstrip(".")


def _pictures_of(widget: ipywidgets.Widget) -> Iterator[NamedImage]:
    if isinstance(widget, NamedImage):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from _pictures_of(child)


def _make_palette() -> Image.Image:
    """Return 32 greys up to the paper, and the course's colours in 16 blends with the paper for the edges of lines."""
    # Not more greys: Pillow matches in cubes of 4, and would take a grey in the cube of the paper for the paper.
    black, paper = (0.0, 0.0, 0.0), to_rgb(PAPER)
    colours = [_blend(paper, black, level / 31) for level in range(32)]
    for colour in COLORS.values():
        colours += [_blend(to_rgb(colour), paper, level / 16) for level in range(1, 17)]
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in colours for channel in colour])
    return image


def _blend(one: Sequence[float], other: Sequence[float], share: float) -> tuple[int, ...]:
    """Return a mixture of two colours in bytes, a share of the one in the other."""
    return tuple(round(255 * (share * a + (1 - share) * b)) for a, b in zip(one, other, strict=True))


PALETTE = _make_palette()
