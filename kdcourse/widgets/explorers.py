"""Widgets that show what one formula does: a slider moves, a picture follows.

Chapter 00 (``hello_slider``) and chapter 01 (``TemperatureExplorer``).
"""

import math
from typing import Any

import ipywidgets
import torch
from torch import Tensor, nn

from ..data import load_mnist
from ..data.mnist import Split
from ..losses import soften
from ..plots import COLORS, INK, tidy
from ..training import predict_logits
from .canvas import Canvas, Shown
from .controls import HIGHEST, LOWEST, make_row, slider_layout, temperature_slider


def hello_slider() -> "HelloSlider":
    """Return a slider that picks a digit, and ten of MNIST's images of it: when they follow, widgets work."""
    return HelloSlider()


class HelloSlider(Shown):
    """A slider and a picture that this kernel draws when the slider moves.

    Attributes
    ----------
    digit : ipywidgets.IntSlider
        0 to 9.
    canvas : Canvas
    """

    about = "A slider that picks a digit, live when the notebook runs."

    def __init__(self) -> None:
        super().__init__()
        self._test = load_mnist().test
        self.digit = ipywidgets.IntSlider(value=3, min=0, max=9, description="digit", layout=slider_layout())
        self.canvas = Canvas(6.4, 0.75)
        axes = self.canvas.add_axes(0, 0, 1, 1)
        axes.set_axis_off()
        self._image = axes.imshow(torch.zeros(28, 280).numpy(), cmap="gray_r", vmin=0, vmax=1)
        self.canvas.moving(self._image)
        self.digit.observe(self._moved, "value")
        self.widget = ipywidgets.VBox([self.digit, self.canvas.widget, self.status])
        self._draw()

    def _moved(self, change: Any) -> None:
        with self._guard():
            self._draw()

    def _draw(self) -> None:
        digit = self.digit.value
        images = self._test.only(digit).images[:10]  # (10, 1, 28, 28)
        self._image.set_data(images[:, 0].permute(1, 0, 2).reshape(28, 280).numpy())
        self.canvas.draw(digit=digit)
        self.status.value = f"The slider says {digit}, and Python drew ten of MNIST's {digit}s. <b>Widgets work.</b>"


class TemperatureExplorer(Shown):
    """Pick a digit, move T: the softened teacher, its entropy, and the push it gives to a student.

    Parameters
    ----------
    teacher : nn.Module
        Not changed.
    data : Split
        Images and labels to pick from, on the teacher's device, such as ``mnist.held_out.take(2000)``.
    student : nn.Module, optional
        Whose prediction is compared. Without one it is a student that knows nothing: all classes equally likely.
    temperature : float
        At the start, from 0.5 to 20.
    examples : int
        Images of each digit to choose from: those that the teacher is least sure of come first.

    Attributes
    ----------
    temperature, digit, example : ipywidgets.Widget
        The controls; set ``.value`` in a cell to move one without a hand.
    canvas : Canvas

    Raises
    ------
    ValueError
        If a digit is missing in the data, the teacher's logits are not (N, 10), or a number is out of range.

    Notes
    -----
    The push on the student's logits is :math:`T (p - q)`, minus the gradient of ``kd_loss`` for one sample: p and q are
    the teacher's and the student's softened probabilities. The label alone pushes by :math:`y - q` at T = 1.
    """

    about = "The temperature explorer, live when the notebook runs."

    def __init__(
        self,
        teacher: nn.Module,
        data: Split,
        *,
        student: nn.Module | None = None,
        temperature: float = 1.0,
        examples: int = 20,
    ) -> None:
        super().__init__()
        if examples < 1:
            raise ValueError(f"examples must be a positive number of images per digit, got {examples}.")
        images, labels = data
        logits = predict_logits(teacher, images).cpu()  # (N, 10)
        if logits.dim() != 2 or logits.shape[1] != 10:
            raise ValueError(
                f"the explorer draws ten classes; the teacher gives logits of shape {tuple(logits.shape)}."
            )
        self._images, self._labels, self._logits = images.cpu(), labels.cpu(), logits
        self._student_logits = torch.zeros_like(logits) if student is None else predict_logits(student, images).cpu()
        self._order = _least_sure_first(logits, self._labels, examples)

        self.temperature = temperature_slider(temperature)
        layout = ipywidgets.Layout(width="150px")
        self.digit = ipywidgets.Dropdown(options=list(range(10)), value=3, description="digit", layout=layout)
        self.example = ipywidgets.IntSlider(
            0, 0, len(self._order[3]) - 1, description="example", layout=slider_layout()
        )
        self._make_picture("an untrained student" if student is None else "the student")
        self.temperature.observe(self._moved, "value")
        self.example.observe(self._picked, "value")
        self.digit.observe(self._picked, "value")
        controls = make_row(self.digit, self.example, self.temperature)
        self.widget = ipywidgets.VBox([controls, self.canvas.widget, self.status])
        self._pick()

    def _make_picture(self, who: str) -> None:
        self.canvas = Canvas(7.8, 2.7)
        paper = self.canvas.add_axes(0.01, 0.2, 0.2, 0.6)
        paper.set_axis_off()
        self._image = paper.imshow(torch.zeros(28, 28).numpy(), cmap="gray_r", vmin=0, vmax=1)
        self._caption = paper.set_title("", fontsize=9, color=INK)
        classes = range(10)
        left = tidy(self.canvas.add_axes(0.29, 0.19, 0.31, 0.66))
        left.set(ylim=(0, 1.03), xticks=classes, xlabel="class", ylabel="probability")
        self._bars = left.bar(classes, [0.0] * 10, color=COLORS["teacher"], width=0.8)
        self._title = left.set_title("", fontsize=10, color=INK)
        self._right = tidy(self.canvas.add_axes(0.68, 0.19, 0.31, 0.66))
        self._right.set(xticks=classes, xlabel="class", ylabel="change of the logit")
        self._right.set_title(f"push on {who}", fontsize=10, color=INK)
        self._right.axhline(0, color=INK, linewidth=0.8)
        self._push = self._right.bar(classes, [0.0] * 10, color=COLORS["kd"], width=0.8, label="soft target")
        (self._hard,) = self._right.plot(
            classes, [0.0] * 10, linestyle="", marker="_", markersize=11, markeredgewidth=1.6, color=COLORS["ce"],
            label="label alone",
        )  # fmt: skip
        self._right.legend(fontsize=7.5, frameon=False, loc="upper right", labelcolor=INK)
        for ax in (left, self._right):
            ax.grid(False, axis="x")
        self.canvas.moving(self._image, self._caption, *self._bars, self._title, *self._push, self._hard)

    def _moved(self, change: Any) -> None:
        with self._guard():
            self._draw()

    def _picked(self, change: Any) -> None:
        with self._guard():
            self._pick()

    def _pick(self) -> None:
        """Change the sample; the right axis takes the room that its push needs at any temperature."""
        order = self._order[self.digit.value]
        self.example.max = len(order) - 1
        self._sample = order[self.example.value]
        grid = [LOWEST * (HIGHEST / LOWEST) ** (i / 40) for i in range(41)]
        reach = max(float(self._compute_push(temperature).abs().max()) for temperature in grid)
        self._right.set_ylim(-1.15 * max(reach, 1), 1.35 * max(reach, 1))
        self.canvas.renew()
        self._image.set_data(self._images[self._sample, 0].numpy())
        self._caption.set_text(f"labelled {int(self._labels[self._sample])}")
        self._draw()

    def _compute_push(self, temperature: float) -> Tensor:
        target = soften(self._logits[self._sample], temperature=temperature)  # (10,)
        return temperature * (target - soften(self._student_logits[self._sample], temperature=temperature))

    def _draw(self) -> None:
        temperature = self.temperature.value
        target = soften(self._logits[self._sample], temperature=temperature)  # (10,)
        label = int(self._labels[self._sample])
        hard = -soften(self._student_logits[self._sample], temperature=1.0)  # (10,)
        hard[label] += 1
        for bars, heights in ((self._bars, target), (self._push, self._compute_push(temperature))):
            for bar, height in zip(bars, heights.tolist(), strict=True):
                bar.set_height(height)
        self._hard.set_ydata(hard.numpy())
        self._title.set_text(f"the teacher's soft target at T = {temperature:.3g}")
        self.canvas.draw(temperature=temperature, sample=self._sample)
        self._tell(target, label)

    def _tell(self, target: Tensor, label: int) -> None:
        nats = float(-torch.xlogy(target, target).sum())
        others = target.clone()
        others[label] = 0
        wrong = int(others.argmax())
        self.status.value = (
            f"Entropy <b>{nats:.3f} nats</b> = {nats / math.log(2):.3f} bits, of at most {math.log(10):.3f} nats: as "
            f"unsure as between {math.exp(nats):.1f} equally likely classes. The likeliest class beside {label} is "
            f"{wrong}, with probability {_share(float(others[wrong]))}."
        )


def _least_sure_first(logits: Tensor, labels: Tensor, examples: int) -> dict[int, list[int]]:
    """Return for each digit the indices of its images, by falling entropy of the teacher at T = 4."""
    probabilities = soften(logits, temperature=4.0)  # (N, 10)
    entropy = -torch.xlogy(probabilities, probabilities).sum(dim=1)  # (N,)
    order = entropy.argsort(descending=True)
    found = {digit: order[labels[order] == digit][:examples].tolist() for digit in range(10)}
    missing = [digit for digit, indices in found.items() if not indices]
    if missing:
        raise ValueError(f"the data have no image of {missing}: the explorer needs at least one of each digit.")
    return found


def _share(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"
