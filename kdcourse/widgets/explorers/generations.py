"""Widget of born-again generations: what do generations of one network change, alone and as a vote?

Chapter 06. Letters: N samples, K classes.
"""

from collections.abc import Sequence

import ipywidgets
import torch
from torch import Tensor, nn

from ...data.mnist import Split
from ...plots import COLORS, INK, tidy
from ...sweeps import mean_interval
from ...training import predict_logits
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout, wide_layout
from .samples import SamplePicker

# Role and marker of a generation alone, and of the vote of all up to it.
LOOKS = (("student", "o"), ("kd", "s"))


class GenerationsExplorer(Shown):
    """Step through born-again generations: errors with their interval, one digit's probabilities, the vote.

    Parameters
    ----------
    lineages : sequence of sequence of nn.Module
        Generations for each seed, oldest first, all lists of one length: ``born_again(…).generations``. Not changed.
    data : Split
        Images and labels with every digit, such as ``mnist.test``, on the models' device.

    Attributes
    ----------
    generation, shown, digit, example : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``. The first examples of a digit are those of which
        generation 0 of the first lineage is least sure.
    sample : int
        Number of the image shown.
    generation_errors : Tensor of int, shape (lineages, generations)
        Errors of each generation alone.
    ensemble_errors : Tensor of int, shape (lineages, generations)
        Errors of the vote of all generations up to each one: the class with the largest mean probability.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there are fewer than two lineages or generations, their lengths differ, or a digit is missing.
    """

    about = "The generations explorer, live when the notebook runs."

    def __init__(self, lineages: Sequence[Sequence[nn.Module]], data: Split) -> None:
        super().__init__()
        images, labels = data
        lengths = {len(lineage) for lineage in lineages}
        if len(lineages) < 2 or len(lengths) != 1 or min(lengths) < 2:
            raise ValueError(
                f"the explorer needs at least two lineages of equal length, at least two generations, got lengths "
                f"{[len(lineage) for lineage in lineages]}. One lineage has no interval: its gain may be luck."
            )
        self._images, self._labels = images.cpu(), labels.cpu()
        errors = []
        for number, lineage in enumerate(lineages):
            probabilities = _running_means(lineage, images)  # (2, generations, N, K)
            errors.append((probabilities.argmax(dim=-1) != self._labels).sum(dim=-1))
            if number == 0:
                self._probabilities = probabilities
        self.generation_errors, self.ensemble_errors = torch.stack(errors, dim=1)  # (lineages, generations) each
        least_sure_first = self._probabilities[0, 0].amax(dim=-1).argsort()  # (N,)
        self._picker = SamplePicker(self._labels, least_sure_first, digit=4)
        self.digit, self.example = self._picker.digit, self._picker.example
        self.generation = ipywidgets.IntSlider(0, 0, min(lengths) - 1, description="generation", layout=slider_layout())
        self.shown = ipywidgets.Dropdown(
            options=[("this generation alone", 0), ("the vote of generation 0 to this one", 1)], value=0,
            description="show",
            layout=wide_layout(330),
        )  # fmt: skip
        self.canvas = Canvas(9.2, 3.0)
        self._make_errors()
        self._make_probabilities()
        self.follow(self.generation, self.shown, self.digit, self.example, action=self._draw)
        rows = [make_row(self.generation, self.shown), make_row(self.example, self.digit)]
        self.widget = ipywidgets.VBox([*rows, self.canvas.widget, self.status])
        self._draw()

    def _make_errors(self) -> None:
        chart = tidy(self.canvas.add_axes(0.07, 0.17, 0.36, 0.72))
        count = self.generation_errors.shape[1]
        names = ("each generation alone", "vote of 0 to this one")
        for place, (errors, name) in enumerate(zip((self.generation_errors, self.ensemble_errors), names, strict=True)):
            role, marker = LOOKS[place]
            mean, low, high = (ends[place:] for ends in _bands(errors))  # generation 0 alone is no vote
            x = [generation + 0.1 * place for generation in range(place, count)]
            chart.vlines(x, low, high, color=COLORS[role], linewidth=2)
            chart.plot(x, mean, marker, color=COLORS[role], markersize=5, label=name)
        chart.set(xticks=range(count), xlim=(-0.4, count - 0.5), xlabel="generation", ylabel="errors")
        chart.set_title(f"all {len(self._labels):,} images, 95 % interval", fontsize=9, color=INK)
        bottom, top = chart.get_ylim()
        chart.set_ylim(bottom, top + 0.35 * (top - bottom))
        chart.legend(
            frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left", ncols=2, columnspacing=1.0,
            handletextpad=0.2,
        )  # fmt: skip
        (self._ring,) = chart.plot([], [], "o", color=COLORS["fork"], markersize=14, markerfacecolor="none")
        self._ring.set_markeredgewidth(2)
        self.canvas.moving(self._ring)

    def _make_probabilities(self) -> None:
        self._paper = self.canvas.add_image(0.45, 0.25, 0.14, 0.5)
        self._caption = self._paper.axes.set_title("", fontsize=9, color=INK)
        right = tidy(self.canvas.add_axes(0.655, 0.17, 0.335, 0.72))
        right.set(ylim=(0, 1.03), xticks=range(10), xlabel="class", ylabel="probability")
        right.grid(False, axis="x")
        self._bars = right.bar(range(10), [0.0] * 10, width=0.8)
        (self._first,) = right.plot(
            range(10), [0.0] * 10, linestyle="", marker="_", markersize=13, markeredgewidth=2, color=COLORS["fork"],
            label="generation 0 alone",
        )  # fmt: skip
        right.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper right")
        self._title = right.set_title("", fontsize=9, color=INK)
        self.canvas.moving(self._paper, self._caption, *self._bars, self._first, self._title)

    def _draw(self) -> None:
        generation = self.generation.value
        vote = self.shown.value if generation else 0  # one voter is no vote
        self.sample = self._picker.sample
        first = self._probabilities[0, 0, self.sample]  # (K,)
        row = self._probabilities[vote, generation, self.sample]  # (K,)
        mean, low, high = _bands(self.ensemble_errors if vote else self.generation_errors)
        self._ring.set_data([generation + 0.1 * vote], [mean[generation]])
        self._paper.set_data(self._images[self.sample, 0].numpy())
        self._caption.set_text(f"labelled {int(self._labels[self.sample])}")
        for bar, height in zip(self._bars, row.tolist(), strict=True):
            bar.set(height=height, color=COLORS[LOOKS[vote][0]])
        self._first.set_ydata(first.numpy())
        voters = f"generations 0 to {generation}"
        shown = f"vote of {voters}" if vote else f"generation {generation} alone"
        self._title.set_text(f"first lineage: {shown}")
        self.canvas.draw(generation=generation, vote=vote, sample=self.sample, errors=round(mean[generation], 1))
        self._tell(vote, voters, row, (mean[generation], low[generation], high[generation]))

    def _tell(self, vote: int, voters: str, row: Tensor, errors: tuple[float, float, float]) -> None:
        generation, mean, low, high = self.generation.value, *errors
        who = f"The vote of {voters}" if vote else f"Generation {generation} alone"
        label, answer = int(self._labels[self.sample]), int(row.argmax())
        first = self._probabilities[0, 0, self.sample, label]
        verdict = f"answers {answer}, which is {'right' if answer == label else 'wrong'}"
        alone = "" if generation else " A vote needs two: choose a later generation." * self.shown.value
        self.status.value = (
            f"<b>{who} makes {mean:.0f} errors</b> [{low:.0f}, {high:.0f}], the mean of {len(self.generation_errors)} "
            f"lineages. In the first lineage{' the mean of their probabilities' if vote else ' it'} gives this {label} "
            f"{row[label]:.2f} (generation 0 alone: {first:.2f}) and {verdict}.{alone}"
        )


def _running_means(lineage: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Return the probabilities of each generation alone, and the mean of all up to it, (2, generations, N, K)."""
    alone = torch.stack([predict_logits(model, images).softmax(dim=-1).cpu() for model in lineage])
    count = torch.arange(1, len(lineage) + 1).view(-1, 1, 1)
    return torch.stack([alone, alone.cumsum(dim=0) / count])


def _bands(errors: Tensor) -> tuple[list[float], list[float], list[float]]:
    """Return the mean of each generation and the ends of its interval, from (lineages, generations)."""
    mean, low, high = zip(*(mean_interval(column) for column in errors.T.tolist()), strict=True)
    return list(mean), list(low), list(high)
