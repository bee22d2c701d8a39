"""The cohort trainer's picture: everyone's errors, how far apart their predictions are, and what each tells whom.

Chapter 07. Everything here draws; nothing here trains.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.colors import LinearSegmentedColormap, to_rgb
from torch import Tensor

from ...plots import COLORS, INK, LINES, PAPER, tidy
from ..canvas import Canvas
from .clock import Mark
from .error_chart import ErrorChart

MOST = 6  # students
MARKERS = ("o", "^", "D", "v", "P", "*")
FEWEST, HIGHEST = 1e-3, 1.0  # nats: the ends of the colours
DISTANCES = (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # nats: ticks


class CohortPicture:
    """Draws a cohort in a few milliseconds.

    Parameters
    ----------
    count : int
        Count of students in the cohort, at most six.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.canvas = Canvas(9.2, 3.3)
        self._names = [f"student {number}" for number in range(count)]
        roles = {**dict.fromkeys(self._names, "student"), "alone": "no_teacher", "cohort": "kd"}
        styles = {name: {"color": shade(n, count), "marker": MARKERS[n]} for n, name in enumerate(self._names)}
        ends = {**{name: str(n) for n, name in enumerate(self._names)}, "alone": "alone", "cohort": "vote"}
        self.chart = ErrorChart(self.canvas, (0.056, 0.15, 0.405, 0.75), roles, styles=styles, ends=ends, room=0.9)
        short = {name: name if n == 0 else str(n) for n, name in enumerate(self._names)}
        self.chart.legend(
            {**short, "alone": "alone", "cohort": "vote"}, bbox_to_anchor=(0.035, 1.015), columnspacing=0.7,
            handlelength=1.2, handletextpad=0.5,
        )  # fmt: skip
        self._make_distances()
        self._make_matrix()

    def _make_distances(self) -> None:
        ax = self._distances = tidy(self.canvas.add_axes(0.54, 0.15, 0.18, 0.66))
        ax.set(xlabel="training step", yscale="log", ylim=(FEWEST, HIGHEST), xlim=self.chart.ax.get_xlim())
        ax.set_yticks(DISTANCES, [f"{tick:g}" for tick in DISTANCES])
        ax.set_yticks([], minor=True)
        self._limits = (FEWEST, HIGHEST)
        self.canvas.figure.text(0.5, 0.985, "how far apart: mean KL, nats", fontsize=9, color=INK, va="top")
        (self._within,) = ax.plot([], [], **{**LINES["student"], "marker": ""}, linewidth=2.2)
        (self._outside,) = ax.plot([], [], **{**LINES["no_teacher"], "marker": ""}, linewidth=1.8)
        ax.legend(
            [self._within, self._outside], ["two of the cohort", "one of them and alone"], loc="lower left",
            bbox_to_anchor=(-0.27, 0.98), fontsize=8.5, frameon=False, labelcolor=INK, handlelength=2.0,
            labelspacing=0.25,
        )  # fmt: skip
        self.canvas.moving(self._outside, self._within)

    def _make_matrix(self) -> None:
        size = self._count + 1
        ax = self.canvas.add_axes(0.785, 0.15, 0.21, 0.68)
        ax.set_anchor("SE")
        names = [*map(str, range(self._count)), "alone"]
        ax.set_xticks(range(size), names)
        ax.set_yticks(range(size), names)
        ax.tick_params(colors=INK, labelsize=8.5, length=0)
        ax.spines[:].set_visible(False)
        ax.set_title("now: KL(column ‖ row), nats,\nwhat a row is told by a column", fontsize=9, color=INK, loc="left")
        colours = LinearSegmentedColormap.from_list("divergence", [PAPER, COLORS["kd"]], N=17)
        blank = [[math.nan] * size for _ in range(size)]
        self._cells = ax.imshow(blank, cmap=colours, vmin=math.log(FEWEST), vmax=math.log(HIGHEST))
        # A line between the cohort and the student that has no peers.
        edge, frame = self._count - 0.5, [-0.5, size - 0.5]
        rules = [ax.plot(*ends, color=INK, linewidth=0.8)[0] for ends in ((frame, [edge] * 2), ([edge] * 2, frame))]
        ax.set(xlim=frame, ylim=frame[::-1])
        self._numbers = {
            (row, column): ax.text(column, row, "", ha="center", va="center", fontsize=9 if size <= 4 else 7.5)
            for row in range(size) for column in range(size) if row != column
        }  # fmt: skip
        self.canvas.moving(self._cells, *rules, *self._numbers.values())

    def draw(
        self,
        measured: Sequence[int],
        curves: Mapping[str, Sequence[float]],
        divergences: Sequence[Tensor],
        *,
        step: int,
        marks: Sequence[Mark],
        notes: Mapping[str, Any],
    ) -> None:
        """Draw one frame. The notes are written into it beside the step and the count of marks."""
        lines = {("cohort" if name == "vote" else name): (measured, errors) for name, errors in curves.items()}
        self.chart.draw(lines, step=step, marks=marks)
        self._place_distances(measured, divergences)
        self._fill_matrix(divergences[-1])
        self.canvas.draw(step=step, marks=len(marks), **notes)

    def _place_distances(self, measured: Sequence[int], divergences: Sequence[Tensor]) -> None:
        count = self._count
        within = [float(matrix[:-1, :-1].sum()) / (count * (count - 1)) for matrix in divergences]
        outside = [float(matrix[-1, :-1].mean() + matrix[:-1, -1].mean()) / 2 for matrix in divergences]
        self._within.set_data(measured, within)
        self._outside.set_data(measured, outside)
        low, high = min(within + outside), max(within + outside)
        limits = (
            max((tick for tick in DISTANCES if tick < low), default=DISTANCES[0]),
            min((tick for tick in DISTANCES if tick > high), default=DISTANCES[-1]),
        )
        if (self.chart.ax.get_xlim(), limits) != (self._distances.get_xlim(), self._limits):
            self._limits = limits
            self._distances.set(xlim=self.chart.ax.get_xlim(), ylim=limits)
            self.canvas.renew()

    def _fill_matrix(self, divergences: Tensor) -> None:
        values = divergences.clamp(min=FEWEST).log()
        values.fill_diagonal_(math.nan)
        self._cells.set_data(values.numpy())
        for (row, column), number in self._numbers.items():
            value = float(divergences[row, column])
            dark = math.log(max(value, FEWEST) / FEWEST) / math.log(HIGHEST / FEWEST) > 0.7
            number.set(text=_short(value), color=PAPER if dark else INK)


def shade(number: int, count: int) -> tuple[float, ...]:
    """Return the student's colour, with a little white in it from the second student on."""
    share = 1 - 0.35 * number / (count - 1)
    return tuple(1 - share * (1 - channel) for channel in to_rgb(COLORS["student"]))


def _short(value: float) -> str:
    """Return a small number with three decimal places and a large one with two, without the zero in front."""
    return f"{value:.3f}".lstrip("0") if value < 0.0995 else f"{value:.2f}".lstrip("0")
