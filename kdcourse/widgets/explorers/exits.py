"""Widget of early exits: when may an image leave, and what does that cost?

Chapter 06. Letters: N samples.
"""

from typing import Any

import ipywidgets
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from ...data.mnist import Split
from ...models import ExitNet
from ...plots import COLORS, INK, PAPER, tidy
from ...training import evaluating
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout
from .samples import check_every_digit, digit_dropdown

SHOWN, MARGIN = 6, 34  # digits in a row; room for the exit's name before them
CELL_HEIGHT, CELL_WIDTH = 31, 29  # pixels of a digit with the gap to the next one


def count_exit_multiply_adds(network: ExitNet, images: Tensor) -> tuple[list[int], int]:
    """Count the multiply-adds that one image needs until it leaves at each exit.

    Parameters
    ----------
    network : ExitNet
        Network whose ``nn.Linear`` and ``nn.Conv2d`` layers are counted. Not changed.
    images : Tensor, shape (N, ...)
        Images of which the first one is sent through.

    Returns
    -------
    leaving : list of int
        Cost for each exit, shallow to deep: its stages and *every* classifier on the way, because each of them had to
        be asked.
    alone : int
        Cost of all stages and the deepest classifier only: what an image costs if none may leave early.

    Examples
    --------
    >>> from kdcourse.models import make_exit_cnn
    >>> leaving, alone = count_exit_multiply_adds(make_exit_cnn(2, 3), torch.rand(1, 1, 28, 28))
    >>> leaving[-1] > alone > leaving[0]  # at the last exit, the first classifier was asked in vain
    True
    """
    stages, heads, features = [], [], images[:1]
    with evaluating(network):
        for stage, head in zip(network.stages, network.heads, strict=True):
            cost, features = _count(stage, features)
            stages.append(cost)
            heads.append(_count(head, features)[0])
    leaving = [sum(stages[: exit + 1]) + sum(heads[: exit + 1]) for exit in range(len(stages))]
    return leaving, sum(stages) + heads[-1]


class ExitsExplorer(Shown):
    """Move the confidence at which an image may leave, and watch accuracy, compute and the digits of each exit.

    Parameters
    ----------
    network : ExitNet
        Network with two to four exits. Not changed.
    data : Split
        Images and labels with every digit, such as ``mnist.test``, on the network's device.
    confidence : float
        Confidence at the start, in [0, 1].

    Attributes
    ----------
    confidence, digit : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``.
    shares : list of float
        Shares of the images that leave at each exit.
    accuracy : float
        Share of the images with a right answer.
    compute : float
        Mean cost of an image, as a share of the cost of the deepest exit alone. It may exceed 1, because the shallower
        classifiers cost something too.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there is one exit or more than four, a digit is missing, or the confidence is out of range.

    Notes
    -----
    All exits are computed once, at the start. A move only decides again which image leaves where, by the rule of
    ``predict_early``.
    """

    about = "The exits explorer, live when the notebook runs."

    def __init__(self, network: ExitNet, data: Split, *, confidence: float = 0.9) -> None:
        super().__init__()
        images, labels = data
        self._exits = len(network.stages)
        if not 2 <= self._exits <= 4:
            raise ValueError(f"the explorer draws two to four exits, got {self._exits}.")
        if not 0 <= confidence <= 1:
            raise ValueError(f"confidence must be in [0, 1], got {confidence}: it is compared with a probability.")
        check_every_digit(labels)
        with evaluating(network):
            parts = [torch.stack(network(part)).softmax(dim=-1).cpu() for part in images.split(2000)]
        self._certainty, self._answers = torch.cat(parts, dim=1).max(dim=-1)  # (exits, N) each
        self._images, self._labels = images.cpu(), labels.cpu()
        self._right = self._answers == self._labels
        leaving, alone = count_exit_multiply_adds(network, images)
        self._costs = torch.tensor(leaving) / alone  # (exits,)
        self.confidence = ipywidgets.FloatSlider(
            value=confidence, min=0, max=1, step=0.01, description="confidence", readout_format=".2f",
            layout=slider_layout(),
        )  # fmt: skip
        self.digit = digit_dropdown(4)
        self._make_picture()
        self.follow(self.confidence, self.digit, action=self._draw)
        self.widget = ipywidgets.VBox([make_row(self.confidence, self.digit), self.canvas.widget, self.status])
        self._draw()

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 3.1)
        self._make_curve(tidy(self.canvas.add_axes(0.065, 0.17, 0.29, 0.70)))
        self._make_shares(tidy(self.canvas.add_axes(0.435, 0.17, 0.20, 0.70)))
        self._make_sheet()
        texts = [text for row in self._wrong for text in row]
        self.canvas.moving(self._now, *self._bars, *self._numbers, self._sheet, *self._names, *texts)

    def _make_curve(self, ax: Axes) -> None:
        points = [self._measure(step / 100)[1:] for step in range(101)]  # (compute, accuracy) each
        ax.plot([100 * x for x, _ in points], [100 * y for _, y in points], color=COLORS["student"], linewidth=1.6)
        deepest = 100 * float(self._right[-1].float().mean())
        ax.axhline(deepest, color=COLORS["teacher"], linewidth=1, linestyle=":")
        ax.axvline(100, color=COLORS["teacher"], linewidth=1, linestyle=":")
        for number, (cost, right) in enumerate(zip(self._costs.tolist(), self._right, strict=True), start=1):
            place = (100 * cost, 100 * float(right.float().mean()))
            ax.plot(*place, "s", color=COLORS["kd"], markersize=5)
            offset = (6, 4) if number == 1 else (4, -11)  # below the first square runs the axis
            ax.annotate(str(number), place, offset, textcoords="offset points", color=COLORS["kd"], fontsize=9)
        ax.set(xlabel="multiply-adds, % of the deepest exit alone", ylabel="accuracy, %")
        square = Line2D([], [], linestyle="", marker="s", markersize=5, color=COLORS["kd"])
        ring = Line2D([], [], linestyle="", marker="o", markersize=7, markerfacecolor=PAPER, color=COLORS["student"])
        ax.legend(
            [square, ring], ["all leave at that exit", "now"], loc="lower center", bbox_to_anchor=(0.45, 0.99), ncols=2,
            frameon=False, fontsize=9, labelcolor=INK, handletextpad=0.1, columnspacing=0.9,
        )  # fmt: skip
        ax.set_xlim(0, max(108, 104 * float(self._costs[-1])))
        (self._now,) = ax.plot([], [], "o", color=COLORS["student"], markersize=11, markerfacecolor=PAPER)
        self._now.set_markeredgewidth(2.5)

    def _make_shares(self, ax: Axes) -> None:
        rows = ["all", "this digit"]
        ax.set(xlim=(0, 100), ylim=(1.6, -0.6), xlabel="% of the images", yticks=range(2), yticklabels=rows)
        ax.grid(False)
        ax.set_title("leave at exit", fontsize=9, color=INK)
        self._bars: list[Rectangle] = []
        self._numbers = []
        for exit in range(self._exits):
            for row in range(2):
                self._bars += ax.barh([row], [0.0], color=_shade(exit, self._exits), height=0.62)
                ink = PAPER if exit >= self._exits / 2 else INK
                self._numbers.append(ax.text(0, row, "", ha="center", va="center", fontsize=8.5, color=ink))

    def _make_sheet(self) -> None:
        height, width = CELL_HEIGHT * self._exits, CELL_WIDTH * SHOWN + MARGIN
        self._sheet = self.canvas.add_image(0.66, 0.02, 0.335, 0.90, rows=height, columns=width)
        paper = self._sheet.axes
        paper.set_title("of this digit: the surest at exit 1,\nthe least sure at later ones", fontsize=9, color=INK)
        tops = [CELL_HEIGHT * exit for exit in range(self._exits)]
        self._names = [
            paper.text(0, top + 14, f"exit {exit}", va="center", fontsize=9, color=INK)
            for exit, top in enumerate(tops, start=1)
        ]
        wrong: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 8, "color": COLORS["kd"], "weight": "bold"}
        self._wrong = [
            [paper.text(MARGIN + CELL_WIDTH * place + 27, top + 27, "", **wrong) for place in range(SHOWN)]
            for top in tops
        ]

    def _leave(self, confidence: float) -> Tensor:
        """Return the exit that each image takes, shape (N,)."""
        sure = self._certainty >= confidence  # (exits, N)
        sure[-1] = True
        return sure.int().argmax(dim=0)  # the first that is sure

    def _measure(self, confidence: float) -> tuple[Tensor, float, float]:
        """Return the exits taken, and compute and accuracy over all images."""
        exits = self._leave(confidence)
        right = self._right.gather(0, exits[None])[0]  # (N,)
        return exits, float(self._costs[exits].mean()), float(right.float().mean())

    def _draw(self) -> None:
        confidence, digit = self.confidence.value, self.digit.value
        exits, self.compute, self.accuracy = self._measure(confidence)
        self._now.set_data([100 * self.compute], [100 * self.accuracy])
        of_digit = self._labels == digit
        self.shares = _shares(exits, self._exits)
        self._stack_shares(0, self.shares)
        self._stack_shares(1, _shares(exits[of_digit], self._exits))
        self._draw_digits(exits, of_digit)
        notes = {f"exit{exit}": round(share, 4) for exit, share in enumerate(self.shares, start=1)}
        self.canvas.draw(confidence=confidence, digit=digit, accuracy=round(self.accuracy, 4), **notes)
        self._tell()

    def _stack_shares(self, row: int, shares: list[float]) -> None:
        left = 0.0
        for exit, share in enumerate(shares):
            bar, number = self._bars[2 * exit + row], self._numbers[2 * exit + row]
            bar.set_x(left)
            bar.set_width(100 * share)
            number.set_position((left + 50 * share, row))
            long, short = f"{exit + 1}: {100 * share:.0f}", str(exit + 1)
            number.set_text(long if share > 0.16 else short if share > 0.05 else "")
            left += 100 * share

    def _draw_digits(self, exits: Tensor, of_digit: Tensor) -> None:
        sheet = torch.zeros(CELL_HEIGHT * self._exits, CELL_WIDTH * SHOWN + MARGIN)
        for exit, texts in enumerate(self._wrong):
            candidates = torch.nonzero(of_digit & (exits == exit))[:, 0]  # (n,)
            # Exit 1 shows those that left surest, the others the least sure: at the last one, least sure at exit 1.
            certainty = self._certainty[0 if exit == self._exits - 1 else exit, candidates]
            order = certainty.argsort(descending=exit == 0)
            for text in texts:
                text.set_text("")
            for place, index in enumerate(candidates[order][:SHOWN].tolist()):
                top, left = CELL_HEIGHT * exit, MARGIN + CELL_WIDTH * place
                sheet[top : top + 28, left : left + 28] = self._images[index, 0]
                if not self._right[exit, index]:
                    texts[place].set_text(str(int(self._answers[exit, index])))
        self._sheet.set_data(sheet.numpy())

    def _tell(self) -> None:
        leave = ", ".join(f"{100 * share:.0f} % at exit {exit}" for exit, share in enumerate(self.shares, start=1))
        deepest = float(self._right[-1].float().mean())
        self.status.value = (
            f"An image leaves once a class has a probability of {self.confidence.value:.2f}: {leave}. "
            f"<b>{100 * self.accuracy:.1f} % right for {100 * self.compute:.0f} % of the multiply-adds</b>; the "
            f"deepest exit alone has {100 * deepest:.1f} %. A brown digit beside an image is a wrong answer."
        )


def _shares(exits: Tensor, count: int) -> list[float]:
    return (torch.bincount(exits, minlength=count) / len(exits)).tolist()


def _shade(exit: int, count: int) -> tuple[float, ...]:
    """Return a mixture of the student's colour with white: the deeper the exit, the darker."""
    share = 0.25 + 0.75 * exit / (count - 1)
    return tuple(1 - share * (1 - channel) for channel in to_rgb(COLORS["student"]))


def _count(part: nn.Module, features: Tensor) -> tuple[int, Tensor]:
    """Return the multiply-adds of one part for one image, and what leaves it."""
    counted: list[int] = []

    def hook(module: Any, inputs: Any, output: Tensor) -> None:
        counted.append(output.numel() * module.weight[0].numel())  # each number that leaves took a row of weights

    layers = [module for module in part.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        out = part(features)
    finally:
        for handle in handles:
            handle.remove()
    return sum(counted), out
