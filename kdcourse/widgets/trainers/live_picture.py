"""The live trainer's picture: errors against steps with marks, and one digit's soft target beside the prediction.

Chapter 02. Everything here draws; nothing here trains.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.text import Text
from torch import Tensor

from ...data.mnist import Split
from ...losses import soften
from ...plots import COLORS, INK, LINES, PAPER, tidy
from ...training import predict_logits
from ..canvas import Canvas
from .clock import Mark
from .error_chart import ErrorChart
from .race import Arm

ROLES = {"distilled": "student", "no teacher": "no_teacher", "fork": "fork"}
LOWEST_LEVEL = 0.3  # percent
HEIGHTS = (0.1, 0.2, 0.5, 1.0)  # of the axis for probabilities: at T = 20 all ten are small
PLACES = {"distilled": 0.0, "no teacher": -0.25, "fork": 0.25}  # on the bars of the soft target


class LivePicture:
    """Draws arms and marks in a few milliseconds.

    Parameters
    ----------
    teacher_logits : Tensor, shape (N, 10)
        Logits for the images that errors are counted on.
    measured : Split
        Those images with their labels.
    digit : int, optional
        Digit to show at first; by default the one with the least sure right answer, which has most to say.

    Raises
    ------
    ValueError
        If no image shows the digit.

    Attributes
    ----------
    canvas : Canvas
    chart : ErrorChart
    digits : list of int
        Digits that can be shown.
    digit : int
        Digit that is shown.
    """

    def __init__(self, teacher_logits: Tensor, measured: Split, *, digit: int | None = None) -> None:
        self.canvas = Canvas(7.8, 3.2)
        self._teacher_logits, self._measured = teacher_logits, measured
        probabilities = soften(teacher_logits, temperature=4.0)  # (N, 10)
        entropy = -torch.xlogy(probabilities, probabilities).sum(dim=1)  # (N,)
        self._interest = entropy * (teacher_logits.argmax(dim=1) == measured.labels)  # (N,), 0 where it errs
        self.digits: list[int] = measured.labels.unique().tolist()
        errors = 100 * float((teacher_logits.argmax(dim=1) != measured.labels).float().mean())
        # A teacher that has seen these images makes next to no errors on them: its line would say nothing.
        level = errors if errors >= LOWEST_LEVEL else None
        self.chart = ErrorChart(self.canvas, (0.075, 0.15, 0.52, 0.7), ROLES, level=level)
        if digit is not None and digit not in self.digits:
            raise ValueError(f"digit must be one of {self.digits}, got {digit!r}: no measured image shows it.")
        self.digit = int(measured.labels[self._interest.argmax()]) if digit is None else digit
        self._make_bars()
        self.choose_digit(self.digit)
        self.show_fork(False)

    def choose_digit(self, digit: int) -> None:
        """Show another digit: of its images, the one that the teacher gets right and is least sure of."""
        index = int(torch.where(self._measured.labels == digit, self._interest, -1.0).argmax())
        self._image = self._measured.images[index : index + 1]  # (1, 1, 28, 28)
        self.digit, self._target = digit, self._teacher_logits[index]
        self._corner.set_data(self._image[0, 0].cpu().numpy())
        self._title.set_text(self._words())
        self.canvas.renew()

    def _make_bars(self) -> None:
        ax = self._ax = tidy(self.canvas.add_axes(0.665, 0.15, 0.325, 0.66))
        self._room = HEIGHTS[-1]
        ax.set(xlim=(-0.6, 9.6), ylim=(0, 1.02 * self._room), xticks=range(10), xlabel="class")
        ax.grid(False, axis="x")
        self._title = ax.set_title(self._words(), fontsize=9, color=INK, loc="left")
        self._at = self._continue(self._title)
        # Thick lines in place of ten bars: one thing to draw.
        self._bars = ax.vlines(range(10), 0, [0.0] * 10, colors=COLORS["teacher"], linewidth=14, alpha=0.85)
        self._predictions = {}
        for name, role in ROLES.items():
            edge = PAPER if name == "distilled" else COLORS[role]
            (self._predictions[name],) = ax.plot(
                [k + PLACES[name] for k in range(10)], [math.nan] * 10, linestyle="", marker=LINES[role]["marker"],
                color=COLORS[role], markersize=6, markeredgewidth=1.6, markeredgecolor=edge,
            )  # fmt: skip
        self._corner = self.canvas.add_image(0.93, 0.835, 0.065, 0.16)
        self.canvas.words(self._at)
        self.canvas.moving(self._bars, *self._predictions.values())

    def _words(self) -> str:
        return f"soft target of this {self.digit} and the\nstudents' predictions,"

    def _continue(self, title: Text) -> Text:
        """Return an empty text that goes on where the last line of a title ends: only this is drawn at each move."""
        figure, words = self.canvas.figure, title.get_text()
        title.set_text(words.splitlines()[-1])
        box = title.get_window_extent().transformed(figure.transFigure.inverted())
        title.set_text(words)
        (_, baseline) = figure.transFigure.inverted().transform(title.get_transform().transform(title.get_position()))
        return figure.text(box.x1 + 0.015, baseline, "", fontsize=title.get_fontsize(), color=INK, va="baseline")

    def show_fork(self, forked: bool) -> None:
        """Add the fork to the legend, or take it away."""
        self.chart.legend({name: name for name in ROLES if name != "fork" or forked})

    def draw(self, arms: Mapping[str, Arm], marks: Sequence[Mark], step: int) -> None:
        """Draw one frame."""
        self.chart.draw({name: (arm.steps, arm.errors) for name, arm in arms.items()}, step=step, marks=marks)
        knobs = arms["distilled"].knobs
        assert knobs is not None  # the distilled student has knobs
        self._place_bars(arms, knobs.temperature)
        self.canvas.draw(step=step, temperature=knobs.temperature, alpha=knobs.alpha, marks=len(marks))

    def _place_bars(self, arms: Mapping[str, Arm], temperature: float) -> None:
        self._at.set_text(f"T = {temperature:.3g}")
        heights = soften(self._target, temperature=temperature).tolist()
        self._bars.set_segments([[(k, 0), (k, height)] for k, height in enumerate(heights)])
        highest = max(heights)
        for name, points in self._predictions.items():
            if name not in arms:
                points.set_ydata([math.nan] * 10)
                continue
            knobs = arms[name].knobs
            logits = predict_logits(arms[name].student, self._image)[0]  # (10,)
            own = temperature if knobs is None else knobs.temperature
            predicted = soften(logits, temperature=own).cpu().numpy()
            points.set_ydata(predicted)
            highest = max(highest, float(predicted.max()))
        self._make_room(highest)

    def _make_room(self, highest: float) -> None:
        """Let the axis end at a round number above: up to 1, ten probabilities of 0.1 are hardly seen.

        It shrinks late, so that a student near a round number does not make it jump to and fro.
        """
        room = self._room
        if highest > 0.97 * room:
            room = next((height for height in HEIGHTS if highest <= 0.97 * height), HEIGHTS[-1])
        else:
            room = min(room, next((height for height in HEIGHTS if highest <= 0.75 * height), HEIGHTS[-1]))
        if room != self._room:
            self._room = room
            self._ax.set_ylim(0, 1.02 * room)
            self.canvas.renew()
