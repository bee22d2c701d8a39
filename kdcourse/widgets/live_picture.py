"""The live trainer's picture: errors against steps with marks, and one digit's soft target beside the prediction.

Chapter 02. Everything here draws; nothing here trains.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.lines import Line2D
from torch import Tensor

from ..data.mnist import Split
from ..losses import soften
from ..plots import COLORS, INK, LINES, tidy
from ..training import predict_logits
from .canvas import Canvas
from .side_by_side import Arm

if TYPE_CHECKING:
    from .live import Mark

ROLES = {"distilled": "student", "no teacher": "no_teacher", "fork": "fork"}
PLACES = {"distilled": 0.0, "no teacher": -0.25, "fork": 0.25}  # on the bars of the soft target
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # percent
LABELS = 8  # marks that are written out, the newest first


class LivePicture:
    """Draws arms and marks in a few milliseconds.

    Parameters
    ----------
    teacher_logits : Tensor, shape (N, 10)
        Of the images that errors are counted on.
    measured : Split
        Those images.
    """

    def __init__(self, teacher_logits: Tensor, measured: Split) -> None:
        self.canvas = Canvas(7.8, 3.2)
        self._choose_digit(teacher_logits, measured)
        errors = 100 * float((teacher_logits.argmax(dim=1) != measured.labels).float().mean())
        self._make_curves(errors)
        self._make_bars()
        self.show_fork(False)

    def _choose_digit(self, teacher_logits: Tensor, measured: Split) -> None:
        """Take a digit that the teacher gets right and is least sure of: its soft target has most to say."""
        probabilities = soften(teacher_logits, temperature=4.0)  # (N, 10)
        entropy = -torch.xlogy(probabilities, probabilities).sum(dim=1)  # (N,)
        right = teacher_logits.argmax(dim=1) == measured.labels
        index = int((entropy * right).argmax())
        self._image = measured.images[index : index + 1]  # (1, 1, 28, 28)
        self._digit, self._target = int(measured.labels[index]), teacher_logits[index]

    def _make_curves(self, teacher_errors: float) -> None:
        ax = self._curves = tidy(self.canvas.add_axes(0.075, 0.15, 0.52, 0.7))
        self._steps_shown, self._lowest = 200, _floor(teacher_errors)
        self._teacher_errors = teacher_errors
        ax.set(xlabel="training step", xlim=(0, self._steps_shown), yscale="log", ylim=(self._lowest, 100))
        ax.set_ylabel("held-out errors (%)", labelpad=1)
        ax.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        ax.set_yticks([], minor=True)
        ax.set_ylim(self._lowest, 100)
        (self._teacher_level,) = ax.plot([0, 1], [max(teacher_errors, 0.1)] * 2, **LINES["teacher"], linewidth=1.6)
        self._teacher_level.set_transform(ax.get_yaxis_transform())
        self._lines = {
            name: ax.plot([], [], **{**LINES[role], "markersize": 4, "linewidth": 1.8}, markevery=0.13)[0]
            for name, role in ROLES.items()
        }
        # One line holds all marks of an arm, with gaps: cheaper than a line each.
        self._marks = {
            name: ax.plot([], [], color=COLORS[role], linewidth=0.9, transform=ax.get_xaxis_transform())[0]
            for name, role in ROLES.items()
        }
        self._texts = [
            ax.text(0, 0.98, "", transform=ax.get_xaxis_transform(), rotation=90, va="top", fontsize=8)
            for _ in range(LABELS)
        ]
        self._now = ax.axvline(0, color=INK, linewidth=0.6, alpha=0.4)
        self.canvas.moving(self._now, self._teacher_level, *self._marks.values(), *self._lines.values(), *self._texts)

    def _make_bars(self) -> None:
        ax = tidy(self.canvas.add_axes(0.665, 0.15, 0.325, 0.66))
        ax.set(xlim=(-0.6, 9.6), ylim=(0, 1.02), xticks=range(10), xlabel="class")
        ax.grid(False, axis="x")
        self._title = ax.set_title("", fontsize=9, color=INK, loc="left")
        # Thick lines in place of ten bars: one thing to draw.
        self._bars = ax.vlines(range(10), 0, [0.0] * 10, colors=COLORS["teacher"], linewidth=14, alpha=0.85)
        self._predictions = {}
        for name, role in ROLES.items():
            edge = "white" if name == "distilled" else COLORS[role]
            (self._predictions[name],) = ax.plot(
                [k + PLACES[name] for k in range(10)], [math.nan] * 10, linestyle="", marker=LINES[role]["marker"],
                color=COLORS[role], markersize=6, markeredgewidth=1.6, markeredgecolor=edge,
            )  # fmt: skip
        corner = self.canvas.add_axes(0.93, 0.835, 0.065, 0.16)
        corner.imshow(self._image[0, 0].cpu().numpy(), cmap="gray_r", vmin=0, vmax=1)
        corner.set_axis_off()
        self.canvas.moving(self._bars, *self._predictions.values(), self._title)

    def show_fork(self, forked: bool) -> None:
        """Add the fork to the legend, or take it away."""
        self._forked = forked
        self._legend()
        self.canvas.renew()

    def _legend(self) -> None:
        names = [name for name in ROLES if name != "fork" or self._forked]
        handles: list[Line2D] = [self._lines[name] for name in names]
        if self.canvas.figure.legends:
            self.canvas.figure.legends[0].remove()
        self.canvas.figure.legend(
            [self._teacher_level, *handles], ["teacher", *names], loc="upper left", bbox_to_anchor=(0.06, 1.0),
            ncols=4, fontsize=9, frameon=False, labelcolor=INK, handlelength=2.6, columnspacing=1.4,
        )  # fmt: skip

    def draw(self, arms: Mapping[str, Arm], marks: Sequence["Mark"], step: int) -> None:
        """Draw one frame."""
        self._widen(arms, step)
        for name, line in self._lines.items():
            arm = arms.get(name)
            line.set_data((arm.steps, arm.errors) if arm else ([], []))
        self._now.set_xdata([step, step])
        self._place_marks(marks)
        knobs = arms["distilled"].knobs
        assert knobs is not None  # the distilled student has knobs
        self._place_bars(arms, knobs.temperature)
        said = {"step": step, "temperature": knobs.temperature, "alpha": knobs.alpha, "marks": len(marks)}
        self.canvas.draw(**said)

    def _widen(self, arms: Mapping[str, Arm], step: int) -> None:
        """Make room for more steps or fewer errors, in big leaps: each costs a full redraw."""
        shown = 200
        while step > 0.97 * shown:
            shown = int(shown * 1.5)
        lowest = _floor(min([self._teacher_errors, *(error for arm in arms.values() for error in arm.errors)]))
        if (shown, lowest) != (self._steps_shown, self._lowest):
            self._steps_shown, self._lowest = shown, lowest
            self._curves.set(xlim=(0, shown), ylim=(lowest, 100))
            self.canvas.renew()

    def _place_marks(self, marks: Sequence["Mark"]) -> None:
        """Draw a line per moment, the newest first; of several that are too close to read only the newest."""
        notes: dict[tuple[str, int], list[str]] = {}
        for mark in marks:
            notes.setdefault((mark.arm, mark.step), []).append(_name(mark))
        drawn: dict[str, list[int]] = {name: [] for name in ROLES}
        free = list(self._texts)
        for (arm, step), names in reversed(notes.items()):
            if drawn[arm] and abs(step - drawn[arm][-1]) < 0.04 * self._steps_shown:
                continue
            drawn[arm].append(step)
            if free:
                # The fork's notes stand right of their line, the others' left: both can be read where they are close.
                side = "left" if arm == "fork" or step < 0.05 * self._steps_shown else "right"
                free.pop().set(text=", ".join(names), x=step, color=COLORS[ROLES[arm]], horizontalalignment=side)
        for text in free:
            text.set_text("")
        for name, line in self._marks.items():
            steps = drawn[name]
            line.set_data([x for s in steps for x in (s, s, math.nan)], [y for _ in steps for y in (0, 1, math.nan)])

    def _place_bars(self, arms: Mapping[str, Arm], temperature: float) -> None:
        self._title.set_text(f"soft target of this {self._digit} and the\nstudents' predictions, T = {temperature:.3g}")
        heights = soften(self._target, temperature=temperature).tolist()
        self._bars.set_segments([[(k, 0), (k, height)] for k, height in enumerate(heights)])
        for name, points in self._predictions.items():
            if name not in arms:
                points.set_ydata([math.nan] * 10)
                continue
            knobs = arms[name].knobs
            logits = predict_logits(arms[name].student, self._image)[0]  # (10,)
            own = temperature if knobs is None else knobs.temperature
            points.set_ydata(soften(logits, temperature=own).cpu().numpy())


def _floor(errors: float) -> float:
    """Return the tick below which nothing is drawn."""
    return max((tick for tick in (0.1, 0.2, 0.5, 1.0) if 1.1 * tick < errors), default=0.1)


def _name(mark: "Mark") -> str:
    if mark.knob == "fork":
        return "fork"
    return f"{'T' if mark.knob == 'temperature' else 'α'} = {mark.value:.3g}"
