"""The charts that every chapter uses, and the look they share: colours, lines, Axes, a picture with its description."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# One colour per meaning in all chapters. Any two differ by at least 20 (CIELAB) to a reader with full colour vision,
# protanopia, deuteranopia or tritanopia, and each stands at 3:1 or more against the white of the figure. The figure
# brings that white along: colours that are dark enough for a light page vanish on a transparent figure on a dark one.
COLORS = {
    "teacher": "#1a1a1a",
    "student": "#0c5bb9",
    "kd": "#913710",
    "ce": "#279d57",
    "no_teacher": "#8c8c8c",
    "label_smoothing": "#772a71",
    "fork": "#c68617",
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

DPI = 100
INK, GRID = "#333333", "#dddddd"


def new_axes(*, width: float = 6.0, height: float = 3.2) -> Axes:
    """Return Axes on a new figure of its own, in inches; no pyplot, so nothing stays open and nothing shows twice."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    tidy(ax)
    return ax


def tidy(ax: Axes) -> Axes:
    """Give Axes the course's look: two spines, a quiet grid, dark grey text."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(colors=INK, labelsize=9)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_color(INK)
    ax.grid(True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def curve(
    x: Iterable[float],
    y: Iterable[float],
    *,
    role: str | None = None,
    low: Iterable[float] | None = None,
    high: Iterable[float] | None = None,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw one curve, with a band around it if its ends are given.

    Parameters
    ----------
    x, y : numbers, or Tensor, shape (N,)
    role : str, optional
        A key of ``COLORS``: colour, line style and marker of that meaning.
    low, high : numbers, shape (N,), optional
        Ends of the band, such as a confidence interval.
    ax : Axes, optional
        Where to draw; by default on a new figure.
    **style
        Anything ``Axes.plot`` takes, such as ``label`` or ``color``.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If lengths differ, there is nothing to draw, only one end of the band is given, or the role is unknown.
    """
    x, y = _vector(x, "x"), _vector(y, "y")
    _same_length(x=x, y=y)
    ax = new_axes() if ax is None else ax
    style = {"markersize": 4, "linewidth": 1.8, **(_line(role) if role is not None else {}), **style}
    (line,) = ax.plot(x, y, **style)
    if (low is None) != (high is None):
        raise ValueError("a band needs both its ends: give low and high, or neither.")
    if low is not None and high is not None:
        low, high = _vector(low, "low"), _vector(high, "high")
        _same_length(x=x, low=low, high=high)
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    return _legend(ax)


def probability_bars(
    probabilities: Any, *, role: str = "teacher", label: int | None = None, ax: Axes | None = None, log: bool = False
) -> Axes:
    """Draw the probabilities of K classes as bars; several distributions stand side by side.

    Parameters
    ----------
    probabilities : Tensor, shape (K,); or dict from str to Tensor, shape (K,)
        Softened targets, say, or ``{"T = 1": …, "T = 4": …}``.
    role : str
        A key of ``COLORS``. Several distributions get lighter from first to last, and a hatch.
    label : int, optional
        The true class; its tick is set in bold.
    ax : Axes, optional
        Where to draw; by default on a new figure.
    log : bool
        Logarithmic probabilities: the dark knowledge of a sure teacher is too small for a linear axis.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If a distribution is not one-dimensional, holds a number outside [0, 1] or does not sum to 1, or if the
        lengths differ, the label is no class or the role is unknown.
    """
    several = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    rows = {name: _probabilities(values, name) for name, values in several.items()}
    _same_length(**rows)
    classes = len(next(iter(rows.values())))
    if label is not None and not 0 <= int(label) < classes:
        raise ValueError(f"label must be a class from 0 to {classes - 1}, got {label}.")
    ax = new_axes() if ax is None else ax
    width, color = 0.84 / len(rows), _line(role)["color"]
    for place, (name, row) in enumerate(rows.items()):
        left = np.arange(classes) - 0.42 + width * (place + 0.5)
        shade, hatch = 1 - 0.65 * place / max(1, len(rows)), ("", "///", "...", "xxx")[place % 4]
        ax.bar(left, row, width, label=name or None, color=color, alpha=shade, hatch=hatch, edgecolor="white", lw=0.4)
    ax.set(xticks=range(classes), xlabel="class", ylabel="probability")
    ax.set(**({"yscale": "log", "ylim": (1e-6, 1.4)} if log else {"ylim": (0, 1.02)}))
    ax.grid(False, axis="x")
    if label is not None:
        ax.get_xticklabels()[int(label)].set_fontweight("bold")
    return _legend(ax)


def digit_grid(
    images: Any, *, captions: Sequence[object] | None = None, columns: int = 10, ax: Axes | None = None
) -> Axes:
    """Draw images in a grid, row by row, each with a caption if there are any.

    Parameters
    ----------
    images : Tensor, shape (N, 1, H, W) or (N, H, W)
        Grey values; 0 is paper, the largest value is ink.
    captions : sequence of N, optional
        Written under the images.
    columns : int
        Images in a row.
    ax : Axes, optional
        Where to draw; by default on a new figure of a fitting size.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the shape is another one, there are no images, or the captions are not as many.
    """
    pixels = _array(images, "images")
    if pixels.ndim == 4 and pixels.shape[1] == 1:
        pixels = pixels[:, 0]  # (N, H, W)
    if pixels.ndim != 3 or len(pixels) == 0:
        raise ValueError(f"images must have shape (N, 1, H, W) or (N, H, W) with N > 0, got {pixels.shape}.")
    if captions is not None and len(captions) != len(pixels):
        raise ValueError(f"one caption per image is needed, got {len(captions)} for {len(pixels)} images.")
    if columns < 1:
        raise ValueError(f"columns must be a positive integer, got {columns}.")
    count, height, width = pixels.shape
    columns = min(columns, count)
    rows, gap, line = -(-count // columns), 2, 0 if captions is None else 10
    sheet = np.zeros((rows * (height + gap + line), columns * (width + gap)))
    if ax is None:
        ax = new_axes(width=0.62 * columns, height=max(0.62 * rows * (1 + (gap + line) / height), 0.7))
    for place, image in enumerate(pixels):
        top, left = (place // columns) * (height + gap + line), (place % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
        if captions is not None:
            x, y = left + width / 2, top + height + line / 2
            ax.text(x, y, str(captions[place]), ha="center", va="center", fontsize=8, color=INK)
    ax.imshow(sheet, cmap="gray_r", vmin=0, interpolation="nearest")
    ax.set_axis_off()
    return ax


def training_curves(
    curves: Mapping[str, tuple[Iterable[float], Iterable[float]]],
    *,
    marks: Mapping[float, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw quantities against training steps, with a mark where something was changed.

    Parameters
    ----------
    curves : dict from str to (steps, values)
        A name that is a key of ``COLORS`` gets its colour and line style (``no_teacher`` is written as "no teacher").
    marks : dict from step to str, optional
        What was changed at a step, such as ``{120: "T = 8"}``.
    ax : Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are no curves, or steps and values of one are not as many.
    """
    if not curves:
        raise ValueError("training_curves needs at least one curve, such as {'student': (steps, errors)}.")
    ax = new_axes() if ax is None else ax
    for name, (steps, values) in curves.items():
        role = name if name in COLORS else None
        # A marker now and then: at every step they would hide the line.
        curve(steps, values, role=role, label=name.replace("_", " "), markevery=0.13, ax=ax)
    for step, text in (marks or {}).items():
        ax.axvline(step, color=INK, linewidth=0.8, linestyle=":")
        ax.annotate(text, (step, 1), (2, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                    rotation=90, va="top", fontsize=8, color=INK)  # fmt: skip
    ax.set(xlabel="training step")
    return _legend(ax)


def intervals(
    table: Any, *, name: str = "arm", difference: str = "difference", low: str = "low", high: str = "high",
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw paired differences with their confidence intervals, a row each, beside the line of no difference.

    Parameters
    ----------
    table : DataFrame, or mapping from column to values
        Such as ``kdcourse.sweeps.compare`` gives: its column ``baseline``, if there, is written beside the name. An
        interval that holds 0 is drawn hollow and grey.
    name, difference, low, high : str
        The columns.
    ax : Axes, optional
        Where to draw; by default on a new figure of a fitting height.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If a column is missing, there are no rows, or an interval does not hold its difference.
    """
    missing = [column for column in (name, difference, low, high) if column not in table]
    if missing:
        raise ValueError(f"the table has no column {missing[0]!r}; it has {list(table)}.")
    names = [str(entry) for entry in table[name]]
    if "baseline" in table:
        names = [f"{arm} − {baseline}" for arm, baseline in zip(names, table["baseline"], strict=True)]
    middle, left, right = (_vector(table[column], column) for column in (difference, low, high))
    if not (np.all(left <= middle) and np.all(middle <= right)):
        raise ValueError("each interval must hold its difference: low <= difference <= high.")
    ax = new_axes(height=0.9 + 0.34 * len(names)) if ax is None else ax
    for row, (centre, start, end) in enumerate(zip(middle, left, right, strict=True)):
        open_question = start <= 0 <= end
        color = COLORS["no_teacher"] if open_question else COLORS["student"]
        ax.plot([start, end], [row, row], color=color, linewidth=2.2, solid_capstyle="butt")
        ax.plot(centre, row, "o", color=color, markersize=7, markerfacecolor="white" if open_question else color)
    ax.axvline(0, color=INK, linewidth=1, linestyle="--")
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=difference.replace("_", " "))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(False, axis="y")
    return ax


def matrix(
    values: Any, *, rows: Sequence[object] | None = None, columns: Sequence[object] | None = None,
    numbers: str | None = None, centre: float | None = None, label: str = "", ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw a matrix as a heat map with a colour bar.

    Parameters
    ----------
    values : Tensor, shape (R, C)
    rows, columns : sequence, optional
        Names along the sides.
    numbers : str, optional
        Format of the number written into each cell, such as ``".2f"``.
    centre : float, optional
        Draw values on both sides of it in two hues, as for differences; without it, in one.
    label : str
        What the values are, beside the colour bar.
    ax : Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the values are not a matrix, or the names are not as many as its sides.
    """
    grid = _array(values, "values")
    if grid.ndim != 2 or grid.size == 0:
        raise ValueError(f"values must be a matrix (R, C), got shape {grid.shape}.")
    for side, names, size in (("rows", rows, grid.shape[0]), ("columns", columns, grid.shape[1])):
        if names is not None and len(names) != size:
            raise ValueError(f"{side} must name {size} lines of the matrix, got {len(names)} names.")
    ax = new_axes(width=4.6, height=3.8) if ax is None else ax
    limits: dict[str, Any] = {"cmap": "cividis"}
    if centre is not None:
        reach = float(np.nanmax(np.abs(grid - centre))) or 1.0
        limits = {"cmap": "PuOr", "vmin": centre - reach, "vmax": centre + reach}
    image = ax.imshow(grid, aspect="equal" if grid.shape[0] == grid.shape[1] else "auto", **limits)
    if numbers is not None:
        for (row, column), value in np.ndenumerate(grid):
            red, green, blue, _ = image.cmap(image.norm(value))
            ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            ax.text(column, row, format(value, numbers), ha="center", va="center", fontsize=8, color=ink)
    if rows is not None:
        ax.set_yticks(range(len(rows)), [str(entry) for entry in rows])
    if columns is not None:
        ax.set_xticks(range(len(columns)), [str(entry) for entry in columns])
    ax.grid(False)
    bar = _figure_of(ax).colorbar(image, ax=ax, shrink=0.9)
    bar.set_label(label, color=INK)
    bar.outline.set_visible(False)
    return ax


def show(picture: Axes | Figure, *, alt: str) -> None:
    """Display a picture in the notebook, with a description in words for those who do not see it.

    Parameters
    ----------
    picture : Axes or Figure
    alt : str
        What the picture shows: its kind, its axes, and what there is to see.

    Raises
    ------
    ValueError
        If the description is missing.

    Notes
    -----
    The output is ``image/png`` and not an ``<img alt=…>`` in HTML: JupyterLab, VS Code, Colab, GitHub and nbconvert
    all draw it, with or without a kernel, while GitHub drops the source of an image inside HTML. The description is
    kept where tools look for it, the output's metadata (``"image/png": {"alt": …}``, the key that IPython writes), and
    once more as the output's ``text/plain``, which any front end without pictures shows.
    """
    from IPython.display import display

    if not isinstance(alt, str) or len(alt.split()) < 3:
        raise ValueError(
            f"alt must say in a sentence what the picture shows, got {alt!r}. Some readers only have that."
        )
    data = {"image/png": base64.b64encode(to_png(picture)).decode(), "text/plain": alt}
    display(data, metadata={"image/png": {"alt": alt}}, raw=True)


def to_png(picture: Axes | Figure) -> bytes:
    """Return a picture as PNG at 100 dots per inch, on white."""
    buffer = io.BytesIO()
    # As PNG, which knows its own size: inches times dots is not always the whole number that the canvas takes.
    _figure_of(picture).savefig(buffer, format="png", dpi=DPI, facecolor="white", pil_kwargs={"compress_level": 1})
    pixels = Image.open(buffer).convert("RGB")
    small = io.BytesIO()
    # 256 colours: a third of the bytes, and a notebook holds many pictures.
    pixels.quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True, dpi=(DPI, DPI))
    return small.getvalue()


def _figure_of(picture: Axes | Figure) -> Figure:
    if isinstance(picture, Figure):
        return picture
    figure = picture.get_figure() if isinstance(picture, Axes) else None
    if not isinstance(figure, Figure):
        raise ValueError(f"a picture is Axes or a Figure, got {type(picture).__name__}.")
    return figure


def _line(role: str) -> dict[str, Any]:
    if role not in LINES:
        raise ValueError(f"there is no role {role!r}; the course draws {', '.join(LINES)}.")
    return LINES[role]


def _legend(ax: Axes) -> Axes:
    """Renew the legend if anything has a label."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=9, labelcolor=INK)
    return ax


def _array(values: Any, name: str) -> np.ndarray:
    """Return a tensor of any device, or anything NumPy takes, as a float array."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    array = np.asarray(list(values) if isinstance(values, range | map | zip) else values)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers, got {type(values).__name__} of {array.dtype}.")
    return array.astype(float)


def _vector(values: Any, name: str) -> np.ndarray:
    array = _array(values, name)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty list of numbers, got shape {array.shape}.")
    return array


def _probabilities(values: Any, name: str) -> np.ndarray:
    row = _vector(values, name or "probabilities")
    if row.min() < -1e-6 or not math.isclose(row.sum(), 1, abs_tol=1e-3):
        raise ValueError(
            f"probabilities must not be negative and must sum to 1, got a smallest of {row.min():.3g} and a sum of "
            f"{row.sum():.3g}. Logits? Use soften(logits, temperature=1) first."
        )
    return row


def _same_length(**vectors: np.ndarray) -> None:
    if len({len(vector) for vector in vectors.values()}) > 1:
        found = ", ".join(f"{len(vector)} {name}" for name, vector in vectors.items())
        raise ValueError(f"each point needs one number of each kind, got {found}.")
