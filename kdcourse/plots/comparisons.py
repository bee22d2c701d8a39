"""Paired differences with their confidence intervals: which are better, which worse, which unclear."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..results import verdict
from .arrays import as_vector
from .style import COLORS, GRID, INK, PAPER, figure_of, new_axes, new_figure, tidy

COLUMNS = ("arm", "difference", "low", "high")

LEFT, RIGHT = "<", ">"  # told apart by shape, too: a triangle points to the side on which its difference lies
VERDICTS: dict[str, dict[str, Any]] = {
    "better": {"color": COLORS["student"]},
    "unclear": {"color": COLORS["no_teacher"], "marker": "o", "markerfacecolor": PAPER},
    "too small to matter": {"color": COLORS["no_teacher"], "marker": "s"},
    "worse": {"color": COLORS["kd"]},
}


def intervals(
    table: Any, *, smallest_effect: float | None = None, unit: str = "errors", ax: Axes | None = None
) -> Axes:
    """Draw paired differences with their confidence intervals, a row each, beside the line of no difference.

    Parameters
    ----------
    table : DataFrame, or dict from column to R values
        Columns ``arm``, ``difference``, ``low`` and ``high``, as ``kdcourse.sweeps.compare`` gives. A column
        ``baseline`` is named below the axis; if there are several, beside each arm. Lower is better, as for errors,
        unless the table's ``attrs["lower_is_better"]`` says otherwise.
    smallest_effect : float, optional
        Smallest difference that would matter. Smaller ones lie in a band around 0.
    unit : str
        What is counted, in the plural, as it is written above the axis.
    ax : Axes, optional
        Where to draw; by default on a new figure of a fitting height.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If a column is missing, there are no rows, an interval does not hold its difference, or the smallest effect is
        not positive.

    Notes
    -----
    An interval on one side of 0 has a triangle that points there, blue if that is better and brown if it is worse. One
    that holds 0 is unclear (a hollow circle). One that lies within the band is too small to matter (a grey square).

    Examples
    --------
    >>> table = {"arm": ["kd", "hint"], "difference": [-9, 2], "low": [-14, -3], "high": [-4, 7]}
    >>> ax = intervals(table, smallest_effect=5)
    >>> [text.get_text() for text in ax.get_figure().legends[0].get_texts()]
    ['better', 'unclear', '± 5: smallest effect of interest']
    """
    names, ends, label = _checked(table, smallest_effect)
    if ax is None:
        width = min(max(6.0, 3.6 + 0.07 * max(map(len, names))), 9.0)  # long names leave room for the intervals
        ax = new_axes(width=width, height=1.2 + 0.34 * len(names))
    handles = _draw_rows(ax, names, ends, smallest_effect, _is_lower_better(table), unit)
    ax.set_xlabel(label)
    _explain(figure_of(ax), handles)
    return ax


def did_it_hold(
    tables: Mapping[str, Any],
    *,
    unit: str = "errors",
    images: Mapping[str, int] | None = None,
    smallest_effect: float | None = None,
) -> Figure:
    """Draw the same comparisons of several runs side by side, such as a small run and the one at full size.

    Parameters
    ----------
    tables : dict from str to table
        A table as in `intervals` for each run, by the title of its panel. All have the same rows, in any order.
    unit : str
        As in `intervals`.
    images : dict from str to int, optional
        The number of test images of each run. Then all panels show errors of 10,000 images, on one common axis. Without
        it each panel has an axis of its own, because errors of 2,000 images are not those of 10,000.
    smallest_effect : float, optional
        As in `intervals`: in errors of 10,000 if ``images`` are given, else in the unit of all tables.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no table, the tables have other rows, or a run's images are not a positive number; also what
        `intervals` refuses.

    Examples
    --------
    >>> small = {"arm": ["kd", "hint"], "difference": [-9, 2], "low": [-20, -3], "high": [2, 7]}
    >>> full = {"arm": ["hint", "kd"], "difference": [12, -40], "low": [8, -60], "high": [16, -20]}
    >>> left, right = did_it_hold({"small run": small, "full size": full}).axes
    >>> [text.get_text() for text in left.get_yticklabels()]
    ['kd', 'hint']
    """
    if not tables:
        raise ValueError("did_it_hold needs at least one table, by the title of its panel.")
    checked = {title: _checked(table, smallest_effect) for title, table in tables.items()}
    scales = dict.fromkeys(tables, 1.0)
    if images is not None:
        if set(images) != set(tables) or not all(count > 0 for count in images.values()):
            raise ValueError(f"images must give a positive number for each of {list(tables)}, got {dict(images)}.")
        scales = {title: 10_000 / count for title, count in images.items()}
    rows = next(iter(checked.values()))[0]
    for title, (names, _, _) in checked.items():
        if sorted(names) != sorted(rows):
            raise ValueError(f"{title!r} has other rows than the first table: {names}, not {rows}.")
    figure = new_figure(width=9.0, height=1.6 + 0.34 * len(rows))
    handles: dict[str, Any] = {}
    first: Axes | None = None
    for place, (title, (names, ends, label)) in enumerate(checked.items()):
        ax = tidy(figure.add_subplot(1, len(checked), place + 1, sharex=first if images is not None else None))
        first = first or ax
        order = [names.index(row) for row in rows]
        scaled = [end[order] * scales[title] for end in ends]
        handles |= _draw_rows(ax, rows, scaled, smallest_effect, _is_lower_better(tables[title]), unit)
        ax.set_xlabel(f"{label},\nin {unit} of 10,000" if images is not None else label)
        ax.set_title(title, color=INK, fontsize=10, pad=18)
        ax.tick_params(labelleft=place == 0)
    ordered = [word for word in VERDICTS if word in handles]
    _explain(figure, {word: handles[word] for word in [*ordered, *(set(handles) - set(ordered))]})
    return figure


def _is_lower_better(table: Any) -> bool:
    return getattr(table, "attrs", {}).get("lower_is_better", True)


def _checked(table: Any, smallest_effect: float | None) -> tuple[list[str], list[np.ndarray], str]:
    """Return the rows' names, differences with both ends, and the axis's label, of a table that can be drawn."""
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise ValueError(f"the table has no column {missing[0]!r}; it has {list(table)}.")
    if smallest_effect is not None and not smallest_effect > 0:
        raise ValueError(
            f"smallest_effect must be positive, got {smallest_effect}: it is a size, and the band reaches as far to "
            "both sides of 0."
        )
    names, label = [_words(entry) for entry in table["arm"]], "difference"
    if "baseline" in table:
        baselines = [_words(entry) for entry in table["baseline"]]
        if len(set(baselines)) == 1:
            label = f"difference from {baselines[0]}"
        else:
            names = [f"{arm} − {baseline}" for arm, baseline in zip(names, baselines, strict=True)]
    middle, left, right = ends = [as_vector(table[column], column) for column in COLUMNS[1:]]
    if not (np.all(left <= middle) and np.all(middle <= right)):
        raise ValueError("each interval must hold its difference: low <= difference <= high.")
    return names, ends, label


def _words(name: Any) -> str:
    return str(name).replace("_", " ")


def _draw_rows(
    ax: Axes, names: list[str], ends: list[np.ndarray], smallest_effect: float | None, lower_is_better: bool, unit: str
) -> dict[str, Any]:
    """Draw the rows into Axes and return what the legend explains."""
    middle, left, right = ends
    sides = ("better", "worse") if lower_is_better else ("worse", "better")  # left of 0, right of 0
    verdicts = [
        verdict(start, end, lower_is_better=lower_is_better, smallest_effect=smallest_effect or 0.0)
        for start, end in zip(left, right, strict=True)
    ]
    markers = {sides[0]: LEFT, sides[1]: RIGHT}
    looks: dict[str, dict[str, Any]] = {word: {"marker": markers.get(word)} | look for word, look in VERDICTS.items()}
    handles: dict[str, Any] = {}
    for row, word in enumerate(verdicts):
        look = looks[word]
        ax.plot([left[row], right[row]], [row, row], color=look["color"], linewidth=2.2, solid_capstyle="butt")
        ax.plot(middle[row], row, markersize=8, markeredgewidth=1.6, **look)
    for word in VERDICTS:
        if word in verdicts:
            handles[word] = Line2D([], [], linestyle="", markersize=7, markeredgewidth=1.6, **looks[word])
    if smallest_effect is not None:
        ax.axvspan(-smallest_effect, smallest_effect, color=GRID, linewidth=0, zorder=0)
        handles[f"± {smallest_effect:g}: smallest effect of interest"] = Patch(color=GRID)
    ax.axvline(0, color=INK, linewidth=1, linestyle="--")
    ax.set(yticks=range(len(names)), yticklabels=names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(False, axis="y")
    _name_sides(ax, sides, unit)
    return handles


def _explain(figure: Figure, handles: dict[str, Any]) -> None:
    """Write above a figure what each mark means."""
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper left", ncols=len(handles), frameon=False, fontsize=8.5,
        labelcolor=INK, handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip


def _name_sides(ax: Axes, verdicts: tuple[str, str], unit: str) -> None:
    """Say above the axis which side is which."""
    words = f"← fewer {unit}", f"more {unit} →"
    for x, text, side, word in zip((0, 1), words, ("left", "right"), verdicts, strict=True):
        ax.annotate(
            text, (x, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", ha=side, va="bottom",
            fontsize=8.5, color=VERDICTS[word]["color"],
        )  # fmt: skip
