"""Widgets of self-distillation: when may an image leave early, and what do generations of one network change?

Chapter 06 (``ExitsExplorer``, ``GenerationsExplorer``). Letters: N samples, K classes.
"""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import torch
from matplotlib.colors import to_rgb
from torch import Tensor, nn

from ..data.mnist import Split
from ..models import ExitNet
from ..plots import COLORS, INK, tidy
from ..sweeps import mean_interval
from ..training import evaluating, predict_logits
from .canvas import Canvas, Shown
from .controls import make_row, slider_layout

SHOWN, MARGIN = 6, 34  # digits in a row; room for the exit's name before them


def count_exit_multiply_adds(network: ExitNet, images: Tensor) -> tuple[list[int], int]:
    """Count the multiply-adds that one image needs until it leaves at each exit.

    Parameters
    ----------
    network : ExitNet
        Not changed. Its ``nn.Linear`` and ``nn.Conv2d`` layers are counted.
    images : Tensor, shape (N, ...)
        The first one is sent through.

    Returns
    -------
    leaving : list of int
        Per exit, shallow to deep: its stages and *every* classifier on the way, as each of them had to be asked.
    alone : int
        All stages and the deepest classifier only: what the network costs if nobody may leave early.
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
        With two to four exits; not changed.
    data : Split
        Images and labels with every digit, such as ``mnist.test``, on the network's device.
    confidence : float
        At the start, in [0, 1].

    Attributes
    ----------
    confidence, digit : ipywidgets.Widget
        The controls; set ``.value`` in a cell to move one without a hand.
    shares : list of float
        Share of all images that leave at each exit, as it is now.
    accuracy, compute : float
        Of all images. Compute is a share of what the deepest exit needs alone; it may exceed 1, as the shallower
        classifiers cost something too.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there is one exit or more than four, a digit is missing, or the confidence is out of range.

    Notes
    -----
    All exits are computed once, at the start; a move only decides again who leaves where, by the rule of
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
        _check_digits(labels)
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
        self.digit = _digit_dropdown(4)
        self._make_picture()
        for control in (self.confidence, self.digit):
            control.observe(self._moved, "value")
        self.widget = ipywidgets.VBox([make_row(self.confidence, self.digit), self.canvas.widget, self.status])
        self._draw()

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 3.1)
        curve = tidy(self.canvas.add_axes(0.065, 0.17, 0.29, 0.70))
        points = [self._measure(step / 100)[1:] for step in range(101)]  # (compute, accuracy) each
        curve.plot([100 * x for x, _ in points], [100 * y for _, y in points], color=COLORS["student"], linewidth=1.6)
        deepest = 100 * float(self._right[-1].float().mean())
        curve.axhline(deepest, color=COLORS["teacher"], linewidth=1, linestyle=":")
        curve.axvline(100, color=COLORS["teacher"], linewidth=1, linestyle=":")
        for number, (cost, right) in enumerate(zip(self._costs.tolist(), self._right, strict=True), start=1):
            place = (100 * cost, 100 * float(right.float().mean()))
            curve.plot(*place, "s", color=COLORS["kd"], markersize=5)
            curve.annotate(str(number), place, (4, -11), textcoords="offset points", color=COLORS["kd"], fontsize=9)
        curve.set(xlabel="multiply-adds, % of the deepest exit alone", ylabel="accuracy, %")
        curve.set_title("■ all leave at that exit   ○ now", fontsize=9, color=INK)
        curve.set_xlim(0, max(108, 104 * float(self._costs[-1])))
        (self._now,) = curve.plot([], [], "o", color=COLORS["student"], markersize=11, markerfacecolor="white")
        self._now.set_markeredgewidth(2.5)

        rows = ["all", "this digit"]
        self._stack = stack = tidy(self.canvas.add_axes(0.435, 0.17, 0.20, 0.70))
        stack.set(xlim=(0, 100), ylim=(1.6, -0.6), xlabel="% of the images", yticks=range(2), yticklabels=rows)
        stack.grid(False)
        stack.set_title("leave at exit", fontsize=9, color=INK)
        self._bars, self._numbers = [], []
        for exit in range(self._exits):
            for row in range(2):
                (bar,) = stack.barh([row], [0.0], color=_shade(exit, self._exits), height=0.62)
                ink = "white" if exit >= self._exits / 2 else INK
                text = stack.text(0, row, "", ha="center", va="center", fontsize=8.5, color=ink)
                self._bars.append(bar)
                self._numbers.append(text)

        paper = self.canvas.add_axes(0.66, 0.02, 0.335, 0.90)
        paper.set_axis_off()
        paper.set_title("of this digit: who left surest, who stayed longest", fontsize=9, color=INK)
        height, width = 31 * self._exits, 29 * SHOWN + MARGIN
        self._sheet = paper.imshow(torch.zeros(height, width).numpy(), cmap="gray_r", vmin=0, vmax=1)
        names = [
            paper.text(0, 31 * e + 14, f"exit {e + 1}", va="center", fontsize=9, color=INK) for e in range(self._exits)
        ]
        self._wrong = [
            [paper.text(MARGIN + 29 * k + 27, 31 * e + 27, "", ha="right", va="bottom", fontsize=8, color=COLORS["kd"],
                        weight="bold") for k in range(SHOWN)]
            for e in range(self._exits)
        ]  # fmt: skip
        texts = [text for row in self._wrong for text in row]
        self.canvas.moving(self._now, *self._bars, *self._numbers, self._sheet, *names, *texts)

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

    def _moved(self, change: Any) -> None:
        with self._guard():
            self._draw()

    def _draw(self) -> None:
        confidence, digit = self.confidence.value, self.digit.value
        exits, self.compute, self.accuracy = self._measure(confidence)
        self._now.set_data([100 * self.compute], [100 * self.accuracy])
        of_digit = self._labels == digit
        self.shares = _shares(exits, self._exits)
        lefts = [0.0, 0.0]
        for exit in range(self._exits):
            for row, share in enumerate((self.shares[exit], _shares(exits[of_digit], self._exits)[exit])):
                bar, number = self._bars[2 * exit + row], self._numbers[2 * exit + row]
                bar.set_x(lefts[row])
                bar.set_width(100 * share)
                number.set_position((lefts[row] + 50 * share, row))
                number.set_text(
                    f"{exit + 1}: {100 * share:.0f}" if share > 0.16 else str(exit + 1) if share > 0.05 else ""
                )
                lefts[row] += 100 * share
        self._draw_digits(exits, of_digit)
        told = {f"exit{exit + 1}": round(share, 4) for exit, share in enumerate(self.shares)}
        self.canvas.draw(confidence=confidence, digit=digit, accuracy=round(self.accuracy, 4), **told)
        self._tell()

    def _draw_digits(self, exits: Tensor, of_digit: Tensor) -> None:
        sheet = torch.zeros(31 * self._exits, 29 * SHOWN + MARGIN)
        for exit, texts in enumerate(self._wrong):
            there = torch.nonzero(of_digit & (exits == exit))[:, 0]  # (n,)
            # Who left first is surest at this exit; who stayed to the end was least sure at the first.
            first = exit == 0
            order = self._certainty[0 if exit == self._exits - 1 else exit, there].argsort(descending=first)
            chosen = there[order][:SHOWN]
            for text in texts:
                text.set_text("")
            for place, index in enumerate(chosen.tolist()):
                top, left = 31 * exit, MARGIN + 29 * place
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


class GenerationsExplorer(Shown):
    """Step through born-again generations: errors with their interval, one digit's probabilities, the ensemble.

    Parameters
    ----------
    lineages : sequence of sequence of nn.Module
        One list per seed, oldest generation first, all of one length: ``born_again(…).generations``. Not changed.
    data : Split
        Images and labels with every digit, such as ``mnist.test``, on the models' device.
    examples : int
        Images of each digit to choose from: those come first that generation 0 of the first lineage is least sure of.

    Attributes
    ----------
    generation, shown, digit, example : ipywidgets.Widget
        The controls; set ``.value`` in a cell to move one without a hand.
    generation_errors, ensemble_errors : Tensor of int, shape (lineages, generations)
        Of each generation; of the mean of all generations up to it.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there are fewer than two lineages or generations, their lengths differ, or a digit is missing.
    """

    about = "The generations explorer, live when the notebook runs."

    def __init__(self, lineages: Sequence[Sequence[nn.Module]], data: Split, *, examples: int = 20) -> None:
        super().__init__()
        images, labels = data
        lengths = {len(lineage) for lineage in lineages}
        if len(lineages) < 2 or len(lengths) != 1 or min(lengths) < 2:
            raise ValueError(
                f"the explorer needs at least two lineages of equal length, at least two generations, got lengths "
                f"{[len(lineage) for lineage in lineages]}. One lineage has no interval: its gain may be luck."
            )
        _check_digits(labels)
        self._images, self._labels = images.cpu(), labels.cpu()
        found = []
        for number, lineage in enumerate(lineages):
            probabilities = _running_means(lineage, images)  # (2, generations, N, K)
            found.append((probabilities.argmax(dim=-1) != self._labels).sum(dim=-1))
            if number == 0:
                self._probabilities = probabilities
        self.generation_errors, self.ensemble_errors = torch.stack(found, dim=1)  # (lineages, generations) each
        self._order = _least_sure_first(self._probabilities[0, 0], self._labels, examples)
        self.generation = ipywidgets.IntSlider(0, 0, min(lengths) - 1, description="generation", layout=slider_layout())
        wide = ipywidgets.Layout(width="330px", max_width="100%")
        options = [("this generation alone", 0), ("the mean of all up to it", 1)]
        self.shown = ipywidgets.Dropdown(options=options, value=0, description="show", layout=wide)
        self.digit = _digit_dropdown(4)
        self.example = ipywidgets.IntSlider(0, 0, examples - 1, description="example", layout=slider_layout())
        self._make_picture()
        for control in (self.generation, self.shown, self.digit, self.example):
            control.observe(self._moved, "value")
        rows = [make_row(self.generation, self.shown), make_row(self.example, self.digit)]
        self.widget = ipywidgets.VBox([*rows, self.canvas.widget, self.status])
        self._draw()

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 3.0)
        chart = tidy(self.canvas.add_axes(0.07, 0.17, 0.36, 0.72))
        count = self.generation_errors.shape[1]
        for place, (errors, role, name) in enumerate(
            [
                (self.generation_errors, "student", "a generation alone"),
                (self.ensemble_errors, "kd", "mean of all up to it"),
            ]
        ):
            mean, low, high = _bands(errors)
            x = [generation + 0.1 * place for generation in range(count)]
            chart.vlines(x, low, high, color=COLORS[role], linewidth=2)
            chart.plot(x, mean, "o" if place == 0 else "s", color=COLORS[role], markersize=5, label=name)
        chart.set(xticks=range(count), xlim=(-0.4, count - 0.5), xlabel="generation", ylabel="errors")
        chart.set_title(f"all {len(self._labels):,} images, 95 % interval", fontsize=9, color=INK)
        bottom, top = chart.get_ylim()
        chart.set_ylim(bottom, top + 0.35 * (top - bottom))
        chart.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left", ncols=2)
        (self._ring,) = chart.plot([], [], "o", color=COLORS["fork"], markersize=14, markerfacecolor="none")
        self._ring.set_markeredgewidth(2)
        paper = self.canvas.add_axes(0.45, 0.25, 0.14, 0.5)
        paper.set_axis_off()
        self._paper = paper.imshow(torch.zeros(28, 28).numpy(), cmap="gray_r", vmin=0, vmax=1)
        self._caption = paper.set_title("", fontsize=9, color=INK)
        right = tidy(self.canvas.add_axes(0.655, 0.17, 0.335, 0.72))
        right.set(ylim=(0, 1.03), xticks=range(10), xlabel="class", ylabel="probability")
        right.grid(False, axis="x")
        self._bars = right.bar(range(10), [0.0] * 10, color=COLORS["student"], width=0.8)
        (self._first,) = right.plot(
            range(10), [0.0] * 10, linestyle="", marker="_", markersize=13, markeredgewidth=2, color=COLORS["fork"],
            label="generation 0",
        )  # fmt: skip
        right.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper right")
        self._title = right.set_title("", fontsize=9, color=INK)
        self.canvas.moving(self._ring, self._paper, self._caption, *self._bars, self._first, self._title)

    def _moved(self, change: Any) -> None:
        with self._guard():
            self._draw()

    def _draw(self) -> None:
        generation, averaged = self.generation.value, self.shown.value
        order = self._order[self.digit.value]
        self.example.max = len(order) - 1
        sample = order[min(self.example.value, len(order) - 1)]
        first, row = self._probabilities[0, 0, sample], self._probabilities[averaged, generation, sample]  # (K,)
        mean, low, high = _bands(self.ensemble_errors if averaged else self.generation_errors)
        self._ring.set_data([generation + 0.1 * averaged], [mean[generation]])
        self._paper.set_data(self._images[sample, 0].numpy())
        self._caption.set_text(f"labelled {int(self._labels[sample])}")
        for bar, height in zip(self._bars, row.tolist(), strict=True):
            bar.set_height(height)
        self._first.set_ydata(first.numpy())
        who = f"mean of generations 0 to {generation}" if averaged and generation else f"generation {generation}"
        self._title.set_text(f"{who}, first lineage")
        self.canvas.draw(generation=generation, averaged=averaged, sample=sample, errors=round(mean[generation], 1))
        label, answer = int(self._labels[sample]), int(row.argmax())
        verdict = f"answers {answer}, which is {'right' if answer == label else 'wrong'}"
        self.status.value = (
            f"<b>{who[0].upper() + who[1:]}: {mean[generation]:.0f} errors</b> [{low[generation]:.0f}, "
            f"{high[generation]:.0f}] over {len(self.generation_errors)} lineages. To this {label} it gives "
            f"{row[label]:.2f} (generation 0: {first[label]:.2f}) and {verdict}."
        )


def _running_means(lineage: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Return probabilities of each generation alone and of the mean of all up to it, shape (2, generations, N, K)."""
    alone = torch.stack([predict_logits(model, images).softmax(dim=-1).cpu() for model in lineage])
    count = torch.arange(1, len(lineage) + 1).view(-1, 1, 1)
    return torch.stack([alone, alone.cumsum(dim=0) / count])


def _bands(errors: Tensor) -> tuple[list[float], list[float], list[float]]:
    """Return mean, low and high of each generation, from (lineages, generations)."""
    mean, low, high = zip(*(mean_interval(column) for column in errors.T.tolist()), strict=True)
    return list(mean), list(low), list(high)


def _least_sure_first(probabilities: Tensor, labels: Tensor, examples: int) -> dict[int, list[int]]:
    order = probabilities.amax(dim=-1).argsort()
    return {digit: order[labels[order] == digit][:examples].tolist() for digit in range(10)}


def _shares(exits: Tensor, count: int) -> list[float]:
    return (torch.bincount(exits, minlength=count) / len(exits)).tolist()


def _shade(exit: int, count: int) -> tuple[float, ...]:
    """Return the student's colour mixed with white: the deeper the exit, the darker."""
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


def _digit_dropdown(value: int) -> ipywidgets.Dropdown:
    layout = ipywidgets.Layout(width="150px")
    return ipywidgets.Dropdown(options=list(range(10)), value=value, description="digit", layout=layout)


def _check_digits(labels: Tensor) -> None:
    missing = sorted(set(range(10)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"the data have no image of {missing}: the explorer needs at least one of each digit.")
