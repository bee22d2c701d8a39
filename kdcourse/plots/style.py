"""The look that all pictures share: one colour per meaning, lines that differ without colour, Axes on soft paper."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

DPI = 100

# A picture brings its own paper along: colours that are dark enough for a light page vanish on a dark one. The paper is
# a light grey, because white would glare on a dark page.
PAPER, INK, GRID = "#e9e8e4", "#333333", "#d0cfcb"

INK_ON_PAPER = LinearSegmentedColormap.from_list("ink on paper", [PAPER, "#000000"])  # for images of digits

# One colour per meaning in all chapters. Any two differ by at least 20 (CIELAB) to a reader with full colour vision,
# protanopia, deuteranopia or tritanopia, and each has a contrast of at least 3:1 on the paper.
COLORS = {
    "teacher": "#1a1a1a",
    "student": "#0c5bb9",
    "kd": "#913710",
    "ce": "#1f8a4b",
    "no_teacher": "#7f7f7f",
    "label_smoothing": "#772a71",
    "fork": "#ad7310",
}

# Line style and marker tell them apart in greyscale.
LINES: dict[str, dict[str, Any]] = {
    "teacher": {"color": COLORS["teacher"], "linestyle": ":", "marker": ""},
    "student": {"color": COLORS["student"], "linestyle": "-", "marker": "o"},
    "kd": {"color": COLORS["kd"], "linestyle": "-", "marker": "s"},
    "ce": {"color": COLORS["ce"], "linestyle": "--", "marker": "^"},
    "no_teacher": {"color": COLORS["no_teacher"], "linestyle": "--", "marker": "x"},
    "label_smoothing": {"color": COLORS["label_smoothing"], "linestyle": "-.", "marker": "D"},
    "fork": {"color": COLORS["fork"], "linestyle": (0, (6, 1, 1, 1, 1, 1)), "marker": "v"},
}


def new_axes(*, width: float = 6.0, height: float = 3.2) -> Axes:
    """Return Axes on a new figure, in the course's look.

    Parameters
    ----------
    width, height : float
        Size of the figure in inches.

    Returns
    -------
    Axes

    Notes
    -----
    The figure is not pyplot's, so nothing stays open and nothing is shown twice.

    Examples
    --------
    >>> ax = new_axes(width=4, height=2)
    >>> ax.get_figure().get_size_inches().tolist()
    [4.0, 2.0]
    """
    return tidy(new_figure(width=width, height=height).add_subplot())


def new_figure(*, width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches on the course's paper; it makes room for labels by itself."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(ax: Axes) -> Axes:
    """Give Axes the course's look: two spines, a quiet grid, dark grey text.

    Parameters
    ----------
    ax : Axes

    Returns
    -------
    Axes
        The same.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = tidy(Figure().add_subplot())
    >>> ax.spines["top"].get_visible()
    False
    """
    ax.set_facecolor(PAPER)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(colors=INK, labelsize=9)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_color(INK)
    ax.grid(True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def line_of(role: str) -> dict[str, Any]:
    """Return colour, line style and marker of a role, a key of ``COLORS``."""
    if role not in LINES:
        raise ValueError(f"there is no role {role!r}; the course draws {', '.join(LINES)}.")
    return LINES[role]


def renew_legend(ax: Axes) -> Axes:
    """Draw the legend again if anything has a label."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=9, labelcolor=INK)
    return ax


def figure_of(picture: Axes | Figure) -> Figure:
    """Return the figure that a picture is, or is on."""
    if isinstance(picture, Figure):
        return picture
    figure = picture.get_figure() if isinstance(picture, Axes) else None
    if not isinstance(figure, Figure):
        raise ValueError(f"a picture is Axes or a Figure, got {type(picture).__name__}.")
    return figure
