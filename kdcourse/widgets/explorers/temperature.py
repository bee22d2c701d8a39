"""What a temperature does to a teacher's answer, and how it pushes a student.

Chapter 01.
"""

import math

import ipywidgets
import torch
from torch import Tensor, nn

from ...data.mnist import Split
from ...losses import soften
from ...plots import COLORS, INK, tidy
from ...training import predict_logits
from ..canvas import Canvas, Shown
from ..controls import HIGHEST, LOWEST, make_row, temperature_slider
from .samples import SamplePicker


class TemperatureExplorer(Shown):
    """Pick a digit and move T: see the softened teacher, its entropy, and how it pushes an untrained student.

    Parameters
    ----------
    teacher : nn.Module
        Not changed.
    data : Split
        Images and labels to pick from, on the teacher's device, such as ``mnist.held_out.take(2000)``.
    temperature : float
        Temperature at the start, from 0.5 to 20.

    Attributes
    ----------
    temperature, digit, example : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``. The first examples of a digit are those of which the
        teacher is least sure.
    sample : int
        Number of the image shown.
    target, push : Tensor, shape (10,)
        The teacher's softened probabilities, and the push on the student's logits.
    canvas : Canvas

    Raises
    ------
    ValueError
        If a digit is missing in the data, the teacher's logits are not (N, 10), or the temperature is out of range.

    Notes
    -----
    The push is :math:`T (p - q)`, minus the gradient of ``kd_loss`` for one sample. Here p are the teacher's softened
    probabilities, and q those of a student that knows nothing: all classes are equally likely. The label alone pushes
    by :math:`y - q` at T = 1.
    """

    about = "The temperature explorer, live when the notebook runs."

    def __init__(self, teacher: nn.Module, data: Split, *, temperature: float = 1.0) -> None:
        super().__init__()
        images, labels = data
        logits = predict_logits(teacher, images).cpu()  # (N, 10)
        if logits.dim() != 2 or logits.shape[1] != 10:
            raise ValueError(
                f"the explorer draws ten classes; the teacher gives logits of shape {tuple(logits.shape)}."
            )
        self._images, self._labels, self._logits = images.cpu(), labels.cpu(), logits
        self._picker = SamplePicker(self._labels, _least_sure_first(logits), digit=3)
        self.digit, self.example = self._picker.digit, self._picker.example
        self.temperature = temperature_slider(temperature)
        self._make_picture()
        self.follow(self.temperature, action=self._draw)
        self.follow(self.example, self.digit, action=self._pick)
        controls = make_row(self.digit, self.example, self.temperature)
        self.widget = ipywidgets.VBox([controls, self.canvas.widget, self.status])
        self._pick()

    def _make_picture(self) -> None:
        self.canvas = Canvas(7.8, 2.7)
        self._image = self.canvas.add_image(0.01, 0.2, 0.2, 0.6)
        self._caption = self._image.axes.set_title("", fontsize=9, color=INK)
        classes = range(10)
        left = tidy(self.canvas.add_axes(0.29, 0.19, 0.31, 0.66))
        left.set(ylim=(0, 1.03), xticks=classes, xlabel="class", ylabel="probability")
        self._bars = left.bar(classes, [0.0] * 10, color=COLORS["teacher"], width=0.8)
        self._title = left.set_title("", fontsize=10, color=INK)
        self._right = tidy(self.canvas.add_axes(0.68, 0.19, 0.31, 0.66))
        self._right.set(xticks=classes, xlabel="class", ylabel="push on the logit")
        self._right.set_title("push on an untrained student", fontsize=10, color=INK)
        self._right.axhline(0, color=INK, linewidth=0.8)
        self._pushes = self._right.bar(classes, [0.0] * 10, color=COLORS["kd"], width=0.8, label="soft target")
        (self._hard,) = self._right.plot(
            classes, [0.0] * 10, linestyle="", marker="_", markersize=11, markeredgewidth=1.6, color=COLORS["ce"],
            label="label alone",
        )  # fmt: skip
        self._right.legend(fontsize=7.5, frameon=False, loc="upper right", labelcolor=INK)
        for ax in (left, self._right):
            ax.grid(False, axis="x")
        self.canvas.moving(self._image, self._caption, *self._bars, self._title, *self._pushes, self._hard)

    def _pick(self) -> None:
        """Change the sample. The right axis takes the room that its push needs at any temperature."""
        self.sample = self._picker.sample
        grid = [LOWEST * (HIGHEST / LOWEST) ** (i / 40) for i in range(41)]
        reach = max(float(_push(self._soften(temperature), temperature).abs().max()) for temperature in grid)
        self._right.set_ylim(-1.15 * max(reach, 1), 1.35 * max(reach, 1))
        self.canvas.renew()
        self._image.set_data(self._images[self.sample, 0].numpy())
        self._caption.set_text(f"labelled {int(self._labels[self.sample])}")
        self._draw()

    def _soften(self, temperature: float) -> Tensor:
        return soften(self._logits[self.sample], temperature=temperature)  # (10,)

    def _draw(self) -> None:
        temperature = self.temperature.value
        label = int(self._labels[self.sample])
        self.target = self._soften(temperature)  # (10,)
        self.push = _push(self.target, temperature)  # (10,)
        hard = torch.full((10,), -0.1)
        hard[label] += 1
        for bars, heights in ((self._bars, self.target), (self._pushes, self.push)):
            for bar, height in zip(bars, heights.tolist(), strict=True):
                bar.set_height(height)
        self._hard.set_ydata(hard.numpy())
        self._title.set_text(f"the teacher's soft target at T = {temperature:.3g}")
        three = zip(*(row.tolist() for row in self.target.topk(3)), strict=True)
        largest = ", ".join(f"{share:.2f} of {digit}" for share, digit in three)
        self.canvas.draw(temperature=temperature, sample=self.sample, label=label, largest_probabilities=largest)
        self._tell(label)

    def _tell(self, label: int) -> None:
        nats = float(_entropy(self.target))
        others = self.target.clone()
        others[label] = 0
        wrong = int(others.argmax())
        share = float(others[wrong])
        self.status.value = (
            f"Entropy <b>{nats:.3f} nats</b> = {nats / math.log(2):.3f} bits, of at most {math.log(10):.3f} nats: as "
            f"unsure as between {math.exp(nats):.1f} equally likely classes. After {label} the likeliest class is "
            f"{wrong}, with probability {f'{share:.3f}' if share >= 0.001 else f'{share:.0e}'}."
        )


def _push(target: Tensor, temperature: float) -> Tensor:
    """Return T (p - q) for a student that gives every class a tenth, shape (10,)."""
    return temperature * (target - 0.1)


def _entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy in nats along the last axis, (…, K) to (…)."""
    return -torch.xlogy(probabilities, probabilities).sum(dim=-1)


def _least_sure_first(logits: Tensor) -> Tensor:
    """Return the samples by falling entropy of the teacher at T = 4, shape (N,)."""
    return _entropy(soften(logits, temperature=4.0)).argsort(descending=True)
