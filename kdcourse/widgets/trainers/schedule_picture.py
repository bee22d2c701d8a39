"""The schedule editor's picture: T and α over progress, as drawn and as trained with, and the errors of each run.

Chapter 07. Everything here draws; nothing here trains.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from ...plots import INK, LINES, PAPER, tidy
from ...training.schedules import Schedule
from ..canvas import Canvas
from ..controls import HIGHEST
from .error_chart import ErrorChart

if TYPE_CHECKING:
    from .schedule_race import ScheduleRun

ROLES = ("student", "fork", "label_smoothing", "ce", "kd")  # a colour and a marker per run
KEPT = len(ROLES)
SAMPLES = [place / 200 for place in range(201)]


class SchedulePicture:
    """Draws schedules and runs in a few milliseconds.

    Parameters
    ----------
    total : int
        Steps of one run.

    Attributes
    ----------
    canvas : Canvas
    axes : dict from str to Axes
        Axes of "temperature" and "alpha".
    chart : ErrorChart
    """

    def __init__(self, total: int) -> None:
        self.canvas = Canvas(8.0, 4.0)
        self._total = total
        self.axes = {"temperature": self._make_axes(0.545), "alpha": self._make_axes(0.105)}
        upper, lower = self.axes["temperature"], self.axes["alpha"]
        # Not logarithmic: between two sliders T changes in a straight line, and so it is drawn.
        upper.set(ylim=(-0.04 * HIGHEST, 1.04 * HIGHEST), yticks=[1, 5, 10, 15, 20], ylabel="T")
        upper.tick_params(labelbottom=False)
        lower.set(ylim=(-0.04, 1.04), ylabel="α")
        lower.set_xlabel("progress of the run", labelpad=1)
        self._runs = {
            knob: {role: ax.plot([], [], **{**LINES[role], "marker": ""}, linewidth=2.4)[0] for role in ROLES}
            for knob, ax in self.axes.items()
        }
        self._now = [ax.axvline(0, color=INK, linewidth=0.6, alpha=0.5) for ax in self.axes.values()]
        self._drawn = {knob: ax.plot([], [], color=INK, linewidth=1.0)[0] for knob, ax in self.axes.items()}
        handles: dict[str, Any] = {
            "marker": "o",
            "linestyle": "",
            "color": INK,
            "markersize": 6,
            "markerfacecolor": PAPER,
        }
        self._handles = {knob: ax.plot([], [], **handles, clip_on=False)[0] for knob, ax in self.axes.items()}
        for knob in self.axes:
            self.canvas.moving(*self._runs[knob].values(), self._drawn[knob], self._handles[knob])
        self.canvas.moving(*self._now)
        self.chart = ErrorChart(
            self.canvas, (0.475, 0.125, 0.515, 0.745), dict(zip(ROLES, ROLES, strict=True)),
            ends={role: "" for role in ROLES}, steps=math.ceil(1.1 * total),
        )  # fmt: skip
        self._named: dict[str, str] = {}
        self._sampled: dict[tuple[str, str], tuple[list[float], list[float]]] = {}

    def _make_axes(self, bottom: float) -> Axes:
        ax = tidy(self.canvas.add_axes(0.065, bottom, 0.32, 0.385))
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
        return ax

    def draw(
        self,
        runs: Mapping[str, "ScheduleRun"],
        drawn: Mapping[str, Schedule],
        *,
        staged: bool,
        values: Mapping[str, Sequence[float]],
        step: int,
        now: float | None,
    ) -> None:
        """Draw one frame.

        Parameters
        ----------
        runs : mapping from str to ScheduleRun
            Runs by their role in the picture.
        drawn : mapping from str to callable
            Schedules of "temperature" and "alpha" as they are drawn.
        staged : bool
            Whether the schedules have stages. Each handle then stands in the middle of its stage.
        values : mapping from str to five floats
            Heights of the handles.
        step : int
        now : float or None
            Progress of the run in training, if there is one.
        """
        self._name_runs(runs)
        handles = [0.1, 0.3, 0.5, 0.7, 0.9] if staged else [0, 0.25, 0.5, 0.75, 1]
        for knob, schedule in drawn.items():
            self._drawn[knob].set_data(SAMPLES, [schedule(progress) for progress in SAMPLES])
            self._handles[knob].set_data(handles, values[knob])
            for role, line in self._runs[knob].items():
                line.set_data(*self._sampled.get((knob, role), ([], [])))
        for line in self._now:
            line.set_visible(now is not None)
            line.set_xdata([now or 0.0] * 2)
        self.chart.draw({role: (run.steps, run.errors) for role, run in runs.items()}, step=step)
        ends = {f"last_{knob}": schedule(1.0) for knob, schedule in drawn.items()}
        self.canvas.draw(step=step, runs=len(runs), **ends)

    def _name_runs(self, runs: Mapping[str, "ScheduleRun"]) -> None:
        """Write the names of the runs and sample their schedules, if there are other runs than before."""
        names = {role: run.name for role, run in runs.items()}
        if names == self._named:
            return
        self._named = names
        self.chart.legend(names, bbox_to_anchor=(0.44, 1.01), ncols=3, columnspacing=1.0, handlelength=2.2)
        self.chart.rename({role: name.split()[0] for role, name in names.items()})
        self._sampled = {
            (knob, role): (SAMPLES, [getattr(run, knob)(progress) for progress in SAMPLES])
            for role, run in runs.items() for knob in self.axes
        }  # fmt: skip
