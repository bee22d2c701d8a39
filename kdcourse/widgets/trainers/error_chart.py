"""Held-out errors against training steps, with a mark where a knob was moved: the left half of every live picture.

Chapters 02 and 07. Everything here draws; nothing here trains.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...plots import COLORS, INK, LINES, tidy
from ..canvas import Canvas
from .clock import Mark

# Percent, the roundest numbers first: what comes later is left out where there is no room for it.
TICKS = (
    0.1, 1, 10, 100, 0.2, 0.5, 2, 5, 20, 50, 0.3, 3, 30, 0.15, 1.5, 15, 0.7, 7, 70, 0.4, 4, 40, 6, 8, 12,
)  # fmt: skip
EARLY = 20  # steps in which errors fall too fast for a close look
ROOM = 0.062  # between two ticks, in heights of the axes
LABELS = 12  # marks that are drawn, the newest first
MARK_WIDTH = 0.045  # of a mark's words, in widths of the axes
GAP = 0.06  # between the names at two ends of lines, in heights of the axes
KNOBS = {"temperature": "T = ", "alpha": "α = ", "way": ""}

Curve = tuple[Sequence[float], Sequence[float]]  # steps, errors in percent


class ErrorChart:
    """Lines of errors on a logarithmic axis that makes room as training goes on.

    Parameters
    ----------
    canvas : Canvas
    place : tuple of four floats
        Left, bottom, width and height in shares of the figure.
    roles : mapping from str to str
        Names of the lines, and the key of ``COLORS`` and ``LINES`` of each.
    styles : mapping from str to dict, optional
        Colour, line style or marker of a line that differs from its role's.
    ends : mapping from str to str, optional
        Text at the end of a line, in its colour.
    level : float, optional
        Errors of the teacher in percent, a level line.
    steps : int
        Steps shown at first; the axis grows from there.
    room : float
        Share of the axis that lines may fill before it grows.

    Attributes
    ----------
    ax : Axes
    lines, marks : dict from str to Line2D
        Lines of the errors and upright lines of the marks, by name.
    shown : int
        Steps on the axis.
    """

    def __init__(
        self,
        canvas: Canvas,
        place: tuple[float, float, float, float],
        roles: Mapping[str, str],
        *,
        styles: Mapping[str, Mapping[str, Any]] | None = None,
        ends: Mapping[str, str] | None = None,
        level: float | None = None,
        steps: int = 200,
        room: float = 0.97,
    ) -> None:
        self.canvas, self.roles, self._level, self._room = canvas, dict(roles), level, room
        ax = self.ax = tidy(canvas.add_axes(*place))
        self._first_shown = self.shown = steps
        ax.set(xlabel="training step", xlim=(0, self.shown), yscale="log")
        ax.set_ylabel("held-out errors (%)", labelpad=1)
        ax.set_yticks([], minor=True)
        (self._teacher,) = ax.plot([0, 1], [max(level or 0.1, 0.1)] * 2, **LINES["teacher"], linewidth=1.6)
        self._teacher.set_transform(ax.get_yaxis_transform())
        self._teacher.set_visible(level is not None)
        self._below = ax.text(0.99, 0.02, "", transform=ax.transAxes, ha="right", fontsize=8.5, color=INK)
        self.set_limits(self._choose_limits({}))
        own, common = styles or {}, {"markersize": 4, "linewidth": 1.8, "markevery": 0.13}
        self.lines = {
            name: ax.plot([], [], **{**LINES[role], **common, **own.get(name, {})})[0]
            for name, role in self.roles.items()
        }
        # One line holds all marks of a name, with gaps: cheaper than a line each.
        self.marks = {
            name: ax.plot([], [], color=COLORS[role], linewidth=0.9, transform=ax.get_xaxis_transform())[0]
            for name, role in self.roles.items()
        }
        self._texts = [
            ax.text(0, 0.98, "", transform=ax.get_xaxis_transform(), rotation=90, va="top", fontsize=8)
            for _ in range(LABELS)
        ]
        self._ends = {
            name: ax.text(0, 0, text, color=self.lines[name].get_color(), fontsize=8.5, va="center", clip_on=False)
            for name, text in (ends or {}).items()
        }
        self._now = ax.axvline(0, color=INK, linewidth=0.6, alpha=0.4)
        canvas.changing(ax)
        canvas.words(self._below, *self._texts)
        canvas.moving(self._now, self._teacher, *self.marks.values(), *self.lines.values())
        canvas.moving(*self._ends.values())

    def draw(self, curves: Mapping[str, Curve], *, step: int, marks: Sequence[Mark] = ()) -> None:
        """Put curves, marks and the present step in their places.

        Parameters
        ----------
        curves : mapping from str to (steps, errors in percent)
            Curves by name. A name without a curve is not drawn.
        step : int
        marks : sequence of Mark
            Marks of arms that have a line.
        """
        self._widen(curves, step)
        for name, line in self.lines.items():
            line.set_data(*curves.get(name, ([], [])))
        self._place_ends(curves)
        self._now.set_xdata([step, step])
        self._place_marks(marks)

    def rename(self, ends: Mapping[str, str]) -> None:
        """Change what is written at the ends of lines."""
        for name, text in ends.items():
            self._ends[name].set_text(text)

    def legend(self, names: Mapping[str, str], **place: Any) -> None:
        """Write the names of the lines above the picture, and the teacher's if its level is drawn.

        Parameters
        ----------
        names : mapping from str to str
            Lines and their names in the legend.
        **place
            Place of the legend, as ``Figure.legend`` takes it.
        """
        figure = self.canvas.figure
        for legend in figure.legends:
            legend.remove()
        level = {"teacher": self._teacher} if self._level is not None else {}
        handles = [*level.values(), *(self.lines[name] for name in names)]
        style: dict[str, Any] = {
            "loc": "upper left", "bbox_to_anchor": (0.06, 1.0), "ncols": len(handles), "fontsize": 9,
            "frameon": False, "labelcolor": INK, "handlelength": 2.6, "columnspacing": 1.4,
        }  # fmt: skip
        figure.legend(handles, [*level, *names.values()], **{**style, **place})
        self.canvas.renew()

    def _widen(self, curves: Mapping[str, Curve], step: int) -> None:
        """Make room for more steps or fewer errors, in big leaps: each draws the axes anew."""
        shown = self._first_shown
        while step > self._room * shown:
            shown = int(shown * 1.5)
        limits = self._choose_limits(curves)
        if (shown, limits) != (self.shown, self._limits):
            self.shown = shown
            self.ax.set_xlim(0, shown)
            self.set_limits(limits)
            self.canvas.renew(self.ax)

    def set_limits(self, limits: tuple[float, float]) -> None:
        """Show errors between two limits, with as many ticks as there is room for."""
        self._limits = limits
        below = self._level is not None and self._level < limits[0]
        self._below.set_text(f"↓ teacher: {self._level:.2g} %" if below else "")
        ticks = choose_ticks(*limits)
        self.ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        self.ax.set_ylim(limits)

    def _choose_limits(self, curves: Mapping[str, Curve]) -> tuple[float, float]:
        """Return limits close to the curves, so that a small effect is seen; at first, limits that hold everything."""
        last = max((steps[-1] for steps, _ in curves.values() if steps), default=0)
        if last < EARLY:
            return max((tick for tick in TICKS if tick < min(1.01, self._level or 1.01)), default=0.1), 100
        # What was worse in the first tenth of the steps may leave at the top.
        late = [
            error for steps, errors in curves.values() for step, error in zip(steps, errors, strict=True)
            if step >= max(EARLY, 0.1 * last)
        ]  # fmt: skip
        lowest = min(late)
        if self._level is not None and self._level > lowest / 4:
            lowest = min(lowest, self._level)  # a teacher that is far better is written below instead
        return (
            max((tick for tick in TICKS if 1.03 * tick < lowest), default=0.1),
            min((tick for tick in TICKS if tick > 1.03 * max(late)), default=100),
        )

    def _place_ends(self, curves: Mapping[str, Curve]) -> None:
        """Write each name at the end of its line, with as much room between them as they need."""
        lowest, highest = (math.log(end) for end in self.ax.get_ylim())
        drawn = [name for name in self._ends if curves.get(name, ((), ()))[0]]
        heights = [(math.log(max(curves[name][1][-1], 1e-3)) - lowest) / (highest - lowest) for name in drawn]
        places = spread(heights, GAP, lowest=0.03)
        if max(places, default=0) > 0.97:  # from above, where they would leave the axes
            places = [-place for place in spread([-height for height in heights], GAP, lowest=-0.97)]
        placed = dict(zip(drawn, places, strict=True))
        for name, text in self._ends.items():
            # Before the first step there is no line yet, and all names would stand in one heap.
            text.set_visible(name in placed and len(curves[name][0]) > 1)
            if name in placed:
                x = curves[name][0][-1] + 0.015 * self.shown
                text.set_position((x, math.exp(lowest + placed[name] * (highest - lowest))))

    def _place_marks(self, marks: Sequence[Mark]) -> None:
        """Draw a line with its words for each move, the newest first. A mark without room for both is not drawn."""
        notes: dict[tuple[str, int], list[str]] = {}
        for mark in marks:
            notes.setdefault((mark.arm, mark.step), []).append(_name(mark))
        drawn: dict[str, list[int]] = {name: [] for name in self.lines}
        free = list(self._texts)
        taken: list[tuple[float, float]] = []  # first and last step of what is drawn
        for (arm, step), names in reversed(notes.items()):
            side = self._find_side(step, taken, first="left" if arm == "fork" else "right") if free else None
            if side is None:
                continue
            taken.append(self._column(step, side))
            drawn[arm].append(step)
            color = COLORS[self.roles[arm]]
            free.pop().set(text=", ".join(names), x=step, color=color, horizontalalignment=side)
        for text in free:
            text.set_text("")
        for name, line in self.marks.items():
            steps = drawn[name]
            line.set_data([x for s in steps for x in (s, s, math.nan)], [y for _ in steps for y in (0, 1, math.nan)])

    def _find_side(self, step: int, taken: Sequence[tuple[float, float]], *, first: str) -> str | None:
        """Return the edge of its words at which a mark stands, so that they cover no other mark; None if none is free.

        The fork's words stand right of their line and the others' left, where there is room.
        """
        for side in (first, "right" if first == "left" else "left"):
            low, high = self._column(step, side)
            inside = low >= 0 and high <= self.shown
            if inside and all(high <= start or end <= low for start, end in taken):
                return side
        return None

    def _column(self, step: int, side: str) -> tuple[float, float]:
        """Return the first and the last step that a mark's words take, its line at one of them."""
        width = MARK_WIDTH * self.shown
        return (step, step + width) if side == "left" else (step - width, step)


def choose_ticks(lowest: float, highest: float) -> list[float]:
    """Return round numbers between two errors in percent that do not overprint each other on a logarithmic axis.

    Examples
    --------
    >>> choose_ticks(1, 100)
    [1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]
    >>> choose_ticks(4, 8)
    [4, 5, 6, 7, 8]
    """
    height = math.log(highest / lowest)
    ticks: list[float] = []
    for tick in TICKS:
        if lowest <= tick <= highest and all(abs(math.log(tick / other)) >= ROOM * height for other in ticks):
            ticks.append(tick)
    return sorted(ticks)


def spread(heights: Sequence[float], gap: float, *, lowest: float = -math.inf) -> list[float]:
    """Move heights apart until each is a gap away from the next and none is too low; their order stays."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    groups: list[tuple[float, list[int]]] = []  # centre, members from low to high
    for place in order:
        groups.append((max(heights[place], lowest), [place]))
        while len(groups) > 1:
            (below, lower), (above, upper) = groups[-2:]
            if above - below >= gap * (len(lower) + len(upper)) / 2:
                break
            both = lower + upper
            centre = (below * len(lower) + above * len(upper)) / len(both)
            groups[-2:] = [(max(centre, lowest + gap * (len(both) - 1) / 2), both)]
    placed = [0.0] * len(heights)
    for centre, members in groups:
        for rank, place in enumerate(members):
            placed[place] = centre + gap * (rank - (len(members) - 1) / 2)
    return placed


def _name(mark: Mark) -> str:
    if mark.knob == "fork":
        return "fork"
    return f"{KNOBS[mark.knob]}{mark.value if isinstance(mark.value, str) else f'{mark.value:.3g}'}"
