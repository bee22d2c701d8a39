"""The heat map: settings on a grid are tried one after the other, and the map fills while you watch.

Chapter 10. ``GridRace`` tries the settings, ``HeatMap`` draws and has the controls.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from types import SimpleNamespace
from typing import Any

import ipywidgets
import numpy as np

from ...plots import COLORS, GRID, INK
from ..canvas import Canvas
from ..controls import make_row, wide_layout
from .clock import Clocked
from .race import Race

Measure = Callable[[float, float], Mapping[str, float]]


class GridRace(Race):
    """Settings of a grid in an order that covers it early; each step tries one.

    Parameters
    ----------
    temperatures, alphas : sequence of float
        Rows and columns.
    measure : callable
        ``measure(temperature, alpha)`` returns numbers by name, such as ``{"held-out errors": 92.5}``.
    """

    def __init__(self, temperatures: Sequence[float], alphas: Sequence[float], measure: Measure) -> None:
        # What a clock reads of a race: here a step is a setting.
        self.track: Any = SimpleNamespace(batch_size=1)
        self._measure = measure
        self.order = _spread(list(product(range(len(temperatures)), range(len(alphas)))))
        self._knobs = (list(temperatures), list(alphas))
        self.total, self.at_rest, self.step = len(self.order), True, 0
        self.found: dict[tuple[int, int], dict[str, float]] = {}

    def reset(self) -> None:
        """Forget what was measured."""
        self.step, self.found = 0, {}

    def advance(self, *, seconds: float) -> None:
        """Try one setting; it takes as long as it takes."""
        self.run_to(self.step + 1, seconds=seconds)

    def run_to(self, step: int, *, seconds: float) -> bool:
        """Try settings up to a step, for at most ``seconds`` after the first; return whether it was reached."""
        step, end = min(step, self.total), time.perf_counter() + seconds
        while self.step < step:
            row, column = place = self.order[self.step]
            values = self._measure(self._knobs[0][row], self._knobs[1][column])
            self.found[place] = {name: float(value) for name, value in values.items()}
            self.step += 1
            if time.perf_counter() > end:
                break
        return self.step >= step


class HeatMap(Clocked):
    """Try every T and alpha of a grid, and watch a map of the errors fill. A ring marks the fewest so far.

    Press *play*, or call ``step``: each step tries one setting.

    Parameters
    ----------
    measure : callable
        ``measure(temperature, alpha)`` returns a dict of numbers, the same names each time. Smaller is better. The
        first is what is shown and ringed at the start.
    temperatures, alphas : sequence of float
        At least two of each, all different.
    baselines : mapping from str to number, optional
        What to compare with, in the unit of the first number: lines on the colour bar, and in the status line.

    Attributes
    ----------
    shown : ipywidgets.Dropdown
        Which number is drawn. A cell chooses by setting ``.value``; its names are there after the first step.
    play : ipywidgets.Play
    step_button, all_button, reset_button : ipywidgets.Button
    values : dict from (temperature, alpha) to dict
        What was measured so far.
    canvas : Canvas

    Raises
    ------
    ValueError
        If an axis has fewer than two values or one of them twice.

    Examples
    --------
    >>> heat_map = HeatMap(lambda t, a: {"held-out errors": 100 - t * a}, [1, 4], [0.5, 0.9])
    >>> heat_map.step(4)
    >>> heat_map.best()
    (4, 0.9)
    >>> heat_map.close()
    """

    about = "The heat map of T and α, which fills while the notebook runs."
    what = "heat map"

    def __init__(
        self,
        measure: Measure,
        temperatures: Sequence[float],
        alphas: Sequence[float],
        *,
        baselines: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        for name, axis in (("temperatures", temperatures), ("alphas", alphas)):
            if len(axis) < 2 or len(set(axis)) != len(axis):
                raise ValueError(f"{name} must be two different values or more, got {list(axis)}: a map has two axes.")
        self.temperatures, self.alphas = list(temperatures), list(alphas)
        self._baselines = dict(baselines or {})
        self.race: GridRace = GridRace(self.temperatures, self.alphas, measure)
        self._make_picture()
        self.step_button = self.make_action("next setting", "step-forward", lambda: self.step(1))
        self.all_button = self.make_action("fill the map", "fast-forward", lambda: self.step(self.race.total))
        self.shown = ipywidgets.Dropdown(options=[], description="show", layout=wide_layout(300))
        self.follow(self.shown, action=self.draw)
        # The test images are for what was chosen, at the end, outside of the map.
        self.controls = [self.play, self.step_button, self.all_button, self.reset_button, self.shown]
        buttons = make_row(*self.controls)
        self.image = self.canvas.widget
        self.widget = ipywidgets.VBox([buttons, self.image, self.status])
        self.draw()

    @property
    def values(self) -> dict[tuple[float, float], dict[str, float]]:
        """What was measured so far, by T and alpha."""
        return {
            (self.temperatures[row], self.alphas[column]): dict(values)
            for (row, column), values in self.race.found.items()
        }

    def best(self) -> tuple[float, float]:
        """Return the T and alpha with the smallest of the numbers that are shown.

        Raises
        ------
        ValueError
            If nothing was measured yet.
        """
        if not self.race.found:
            raise ValueError("nothing was measured yet: call step() first.")
        row, column = self._best_place()
        return self.temperatures[row], self.alphas[column]

    def _best_place(self) -> tuple[int, int]:
        found = self.race.found
        return min(found, key=lambda place: found[place][self._name()])

    def _name(self) -> str:
        names = list(next(iter(self.race.found.values()), {}))
        return self.shown.value if self.shown.value in names else names[0]

    def _make_picture(self) -> None:
        rows, columns = len(self.temperatures), len(self.alphas)
        self.canvas = Canvas(7.4, 3.6, full_colour=True)
        ax = self.canvas.add_axes(0.09, 0.17, 0.60, 0.72)
        ax.set_facecolor(GRID)
        self._map = ax.imshow(np.full((rows, columns), np.nan), cmap="cividis", aspect="auto")
        ax.set(xticks=range(columns), yticks=range(rows), xlabel="α, the teacher's share", ylabel="temperature T")
        ax.set_xticklabels([f"{alpha:g}" for alpha in self.alphas])
        ax.set_yticklabels([f"{temperature:g}" for temperature in self.temperatures])
        ax.tick_params(colors=INK, labelsize=9)
        self._title = ax.set_title("", fontsize=10, color=INK)
        self._numbers = {
            (row, column): ax.text(column, row, "", ha="center", va="center", fontsize=9)
            for row, column in product(range(rows), range(columns))
        }
        (self._ring,) = ax.plot([], [], "s", markerfacecolor="none", markeredgecolor=COLORS["fork"], markersize=34)
        self._ring.set_markeredgewidth(2.6)
        self._dots = self.canvas.add_axes(0.79, 0.17, 0.19, 0.72)
        self._dots.spines[["top", "right", "bottom"]].set_visible(False)
        self._dots.set(facecolor=self.canvas.figure.get_facecolor(), xticks=[], xlim=(0, 1))
        self._dots.tick_params(colors=INK, labelsize=9)

    def _draw_frame(self) -> None:
        found = self.race.found
        if found:
            name = self._name()
            if not self.shown.options:
                self.shown.options = list(next(iter(found.values())))
            self._draw_map(name)
        else:
            self._map.set_data(np.full(self._map.get_array().shape, np.nan))  # type: ignore[union-attr]
            self._title.set_text("nothing tried yet")
            self._ring.set_data([], [])
            for text in self._numbers.values():
                text.set_text("")
        self._draw_dots()
        self.canvas.renew()
        self.canvas.draw(step=self.race.step, total=self.race.total)

    def _draw_map(self, name: str) -> None:
        grid = np.full((len(self.temperatures), len(self.alphas)), np.nan)
        for place, values in self.race.found.items():
            grid[place] = values[name]
        low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
        self._map.set_data(grid)
        self._map.set_clim(low, high if high > low else low + 1)
        for place, text in self._numbers.items():
            value = grid[place]
            text.set_text("" if math.isnan(value) else f"{value:.4g}")
            text.set_color("white" if value < (low + high) / 2 else "black")
        row, column = self._best_place()
        self._ring.set_data([column], [row])
        self._title.set_text(f"{name}, {self.race.step} of {self.race.total} settings")

    def _draw_dots(self) -> None:
        """Draw every setting's number on one axis, beside the baselines."""
        ax = self._dots
        ax.clear()
        ax.set(xticks=[], xlim=(0, 1))
        found = self.race.found
        first = next(iter(next(iter(found.values()), {})), "")
        name = self._name() if found else ""
        values = [values[name] for values in found.values()]
        ax.plot([0.18] * len(values), values, "o", color=COLORS["student"], markersize=5, alpha=0.7)
        if name == first:
            for (label, value), style in zip(self._baselines.items(), ("--", "-."), strict=False):
                ax.axhline(value, color=INK, linestyle=style, linewidth=1.2)
                ax.annotate(label, (0.98, value), (0, 2), textcoords="offset points", ha="right", fontsize=8, color=INK)
        ax.set_title("all of them", fontsize=10, color=INK)

    def _describe(self) -> str:
        if not self.race.found:
            return "Nothing tried yet: press play."
        place, name = self._best_place(), self._name()
        value = self.race.found[place][name]
        temperature, alpha = self.best()
        known = ", ".join(f"{label} {number:.4g}" for label, number in self._baselines.items())
        text = f"{self.race.step} of {self.race.total} settings · fewest {name}: <b>T = {temperature:g}, α = {alpha:g}"
        return f"{text}, {value:.4g}</b>" + (f" ({known})" if known else "")

    def _count_test_errors(self) -> tuple[dict[str, int], int]:
        raise ValueError("the map chooses a setting; count test errors of the chosen one, with other seeds.")


def _spread(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the places in an order in which early ones lie far apart: corners and middle first.

    Examples
    --------
    >>> _spread([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])[:3]
    [(0, 0), (1, 2), (0, 1)]
    """
    order, left = [places[0]], list(places[1:])
    while left:
        far = max(left, key=lambda place: min(math.dist(place, other) for other in order))
        order.append(far)
        left.remove(far)
    return order
