"""The charts that every chapter uses: curves, probabilities, heat maps."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .arrays import as_array, as_probabilities, as_vector, check_same_length
from .style import COLORS, INK, PAPER, figure_of, line_of, new_axes, renew_legend


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
    """Draw one curve, with a band around it if the ends of the band are given.

    Parameters
    ----------
    x, y : sequence of N floats, or Tensor, shape (N,)
    role : str, optional
        Key of ``COLORS``: colour, line style and marker of that meaning.
    low, high : sequence of N floats, optional
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

    Examples
    --------
    >>> ax = curve([1, 2, 4], [3.0, 2.0, 1.5], role="student", label="errors")
    >>> ax.lines[0].get_color() == COLORS["student"]
    True
    """
    x, y = as_vector(x, "x"), as_vector(y, "y")
    check_same_length(x=x, y=y)
    ax = new_axes() if ax is None else ax
    style = {"markersize": 4, "linewidth": 1.8, **(line_of(role) if role is not None else {}), **style}
    (line,) = ax.plot(x, y, **style)
    if (low is None) != (high is None):
        raise ValueError("a band needs both its ends: give low and high, or neither.")
    if low is not None and high is not None:
        low, high = as_vector(low, "low"), as_vector(high, "high")
        check_same_length(x=x, low=low, high=high)
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    return renew_legend(ax)


def ticks_at(ax: Axes, values: Iterable[float]) -> Axes:
    """Give a curve over doubling values, such as temperatures, a logarithmic axis with a tick at each of them.

    Parameters
    ----------
    ax : Axes
    values : sequence of N floats
        All above 0.

    Returns
    -------
    Axes

    Examples
    --------
    >>> ax = ticks_at(curve([1, 4, 16], [3.0, 2.0, 1.5]), [1, 4, 16])
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['1', '4', '16']
    """
    values = as_vector(values, "values")
    if not (values > 0).all():
        raise ValueError(f"a logarithmic axis needs values above 0, got {values.min():g}.")
    ax.set_xscale("log")
    ax.set_xticks(values, labels=[f"{value:g}" for value in values])
    ax.minorticks_off()
    return ax


def probability_bars(
    probabilities: Any, *, role: str = "teacher", label: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the probabilities of K classes as bars; several distributions stand side by side.

    Parameters
    ----------
    probabilities : Tensor, shape (K,), or dict from str to Tensor, shape (K,)
        One distribution, or several with their names, such as ``{"T = 1": …, "T = 4": …}``.
    role : str
        Key of ``COLORS``. Several distributions get lighter from first to last, and a hatch.
    label : int, optional
        True class; its tick is set in bold.
    ax : Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If a distribution is not one-dimensional, holds a number outside [0, 1] or does not sum to 1, or if the
        lengths differ, the label is no class or the role is unknown.

    Examples
    --------
    >>> ax = probability_bars([0.7, 0.2, 0.1], label=0)
    >>> [float(bar.get_height()) for bar in ax.patches]
    [0.7, 0.2, 0.1]
    """
    several = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    rows = {name: as_probabilities(values, name) for name, values in several.items()}
    check_same_length(**rows)
    classes = len(next(iter(rows.values())))
    if label is not None and not 0 <= int(label) < classes:
        raise ValueError(f"label must be a class from 0 to {classes - 1}, got {label}.")
    ax = new_axes() if ax is None else ax
    width, color = 0.84 / len(rows), line_of(role)["color"]
    for place, (name, row) in enumerate(rows.items()):
        left = np.arange(classes) - 0.42 + width * (place + 0.5)
        shade, hatch = 1 - 0.65 * place / max(1, len(rows)), ("", "///", "...", "xxx")[place % 4]
        ax.bar(left, row, width, label=name or None, color=color, alpha=shade, hatch=hatch, edgecolor=PAPER, lw=0.4)
    ax.set(xticks=range(classes), xlabel="class", ylabel="probability", ylim=(0, 1.02))
    ax.grid(False, axis="x")
    if label is not None:
        ax.get_xticklabels()[int(label)].set_fontweight("bold")
    return renew_legend(ax)


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
        Steps and values of each quantity, N numbers each. A name that is a key of ``COLORS`` gets its colour and line
        style, and is written without underscores.
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
        If there are no curves, or a quantity does not have one value for each step.

    Examples
    --------
    >>> ax = training_curves({"student": ([0, 100], [90.0, 8.0])}, marks={50: "T = 8"})
    >>> ax.get_xlabel()
    'training step'
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
    return renew_legend(ax)


def matrix(
    values: Any, *, rows: Sequence[object] | None = None, columns: Sequence[object] | None = None,
    numbers: str | None = None, label: str = "", ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw a matrix as a heat map with a colour bar.

    Parameters
    ----------
    values : Tensor, shape (R, C)
    rows, columns : sequence of R or C, optional
        Names along the sides.
    numbers : str, optional
        Format of the number written into each cell, such as ``".2f"``.
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
        If the values are not a matrix, or there is not one name for each row and column.

    Examples
    --------
    >>> ax = matrix([[0.9, 0.1], [0.2, 0.8]], rows="ab", columns="ab", numbers=".1f")
    >>> [text.get_text() for text in ax.texts]
    ['0.9', '0.1', '0.2', '0.8']
    """
    grid = as_array(values, "values")
    if grid.ndim != 2 or grid.size == 0:
        raise ValueError(f"values must be a matrix (R, C), got shape {grid.shape}.")
    for side, names, size in (("rows", rows, grid.shape[0]), ("columns", columns, grid.shape[1])):
        if names is not None and len(names) != size:
            raise ValueError(f"{side} must name {size} lines of the matrix, got {len(names)} names.")
    ax = new_axes(width=4.6, height=3.8) if ax is None else ax
    image = ax.imshow(grid, aspect="equal" if grid.shape[0] == grid.shape[1] else "auto", cmap="cividis")
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
    bar = figure_of(ax).colorbar(image, ax=ax, shrink=0.9)
    bar.set_label(label, color=INK)
    bar.outline.set_visible(False)
    return ax
