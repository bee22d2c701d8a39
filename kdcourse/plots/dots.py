"""Named numbers from several sources, a row each: the paper's beside our own.

Chapter 02. Draws into Axes and returns them.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from .style import COLORS, INK, new_axes, tidy

# Hollow before filled: where two numbers coincide, both are seen.
LOOKS: tuple[dict[str, Any], ...] = (
    {"marker": "D", "markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.6, "color": COLORS["teacher"]},
    {"marker": "o", "markersize": 5.5, "color": COLORS["student"]},
)


def dots(sources: Mapping[str, Mapping[str, float | None]], *, xlabel: str, ax: Axes | None = None) -> Axes:
    """Draw numbers on a logarithmic axis: a row for each name, a dot for each source, the number beside it.

    Parameters
    ----------
    sources : dict from str to dict
        One or two sources, each with its numbers by name; None where a source has none. The rows are those of the
        first source, from top to bottom.
    xlabel : str
        What the numbers count.
    ax : Axes, optional
        Where to draw; by default on a new figure of a fitting height.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are no sources or too many, they have other names than the first, or a number is not above 0.

    Examples
    --------
    >>> paper, here = {"plain": 146, "distilled": 74}, {"plain": 143, "distilled": 80.3}
    >>> ax = dots({"paper": paper, "here": here}, xlabel="errors")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['plain', 'distilled']
    """
    if not 1 <= len(sources) <= len(LOOKS):
        raise ValueError(f"dots draws one or two sources, got {len(sources)}.")
    names = list(next(iter(sources.values())))
    if any(list(numbers) != names for numbers in sources.values()):
        raise ValueError("the sources must have the same names, in the same order; None stands for a missing number.")
    drawn = [(source, row, numbers[name]) for source, numbers in sources.items() for row, name in enumerate(names)]
    low = [number for _, _, number in drawn if number is not None and not number > 0]
    if low:
        raise ValueError(f"a logarithmic axis needs numbers above 0, got {low[0]}.")
    if ax is None:
        ax = new_axes(width=7.0, height=1.3 + 0.46 * len(names))
    tidy(ax)
    for look, (source, numbers) in zip(LOOKS, sources.items(), strict=False):
        present = [(number, row) for row, number in enumerate(numbers.values()) if number is not None]
        ax.plot(*zip(*present, strict=True), linestyle="", label=source, **look)
        above = look is LOOKS[0]
        for number, row in present:
            place = (0, 8 if above else -8)
            ax.annotate(f"{number:,.0f}", (number, row), place, textcoords="offset points", ha="center", color=INK,
                        va="bottom" if above else "top", fontsize=7.5)  # fmt: skip
    ax.set(xscale="log", xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
    ax.set_yticks(range(len(names)), names)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(frameon=False, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9)
    return ax
