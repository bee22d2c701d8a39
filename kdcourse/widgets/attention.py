"""Where do teacher and student look? Their attention maps side by side over a digit, layer by layer.

Chapter 03.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.collections import LineCollection
from torch import Tensor, nn

from ..data.mnist import Split
from ..models import capture
from ..plots import INK
from ..plots.attention import enlarge, outline
from ..training import evaluating
from .canvas import Canvas, Shown
from .controls import make_row, slider_layout


class AttentionExplorer(Shown):
    """Move through layers and digits: the teacher's attention map, the student's, and how far they are apart.

    Parameters
    ----------
    teacher : nn.Module
        Not changed.
    students : nn.Module, or mapping from str to nn.Module
        One student, or several to choose from by name; all with the teacher's layer names. Not changed.
    data : Split
        Images and labels to pick from, on the models' device, such as ``mnist.held_out.take(500)``.
    layers : sequence of str
        Names of layers that give maps (B, C, H, W), from the input on.
    power : float
        At the start, the power p in the sum over channels of ``abs(F) ** p``; 2 is the paper's and ``attention_map``'s.
    examples : int
        Images of each digit to choose from.

    Attributes
    ----------
    layer, digit, example, power, student : ipywidgets.Widget
        The controls; set ``.value`` in a cell to move one without a hand.
    distance : float
        The mean squared difference of the two maps shown: for one image and one layer, at p = 2, what
        ``attention_transfer_loss`` gives.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there is no student or no layer, a layer is unknown or gives no maps, teacher and student maps differ in
        height or width, a digit is missing in the data, or the power is not on the slider.

    References
    ----------
    Zagoruyko and Komodakis (2017), Paying More Attention to Attention, arXiv:1612.03928, section 3.1.
    """

    about = "The attention explorer, live when the notebook runs."

    def __init__(
        self,
        teacher: nn.Module,
        students: nn.Module | Mapping[str, nn.Module],
        data: Split,
        *,
        layers: Sequence[str] = ("stage1", "stage2", "stage3"),
        power: float = 2.0,
        examples: int = 10,
    ) -> None:
        super().__init__()
        named = {"student": students} if isinstance(students, nn.Module) else dict(students)
        if not named or not layers:
            raise ValueError("the explorer needs at least one student and one layer, such as layers=('stage2',).")
        if not 0.5 <= power <= 8:
            raise ValueError(f"power must be from 0.5 to 8 on the slider, got {power}; the paper's is 2.")
        if examples < 1:
            raise ValueError(f"examples must be a positive number of images per digit, got {examples}.")
        images, labels = data
        self._order = _first_of_each(labels, examples)
        chosen = [index for indices in self._order.values() for index in indices]
        self._images = {index: images[index, 0].cpu() for index in chosen}
        self._teacher = _features_of(teacher, images, chosen, layers)
        self._students = {name: _features_of(model, images, chosen, layers) for name, model in named.items()}
        for name, features in self._students.items():
            _check_same_places(self._teacher, features, name)

        # A long word beside a slider is cut off: the options say what the description leaves out.
        self.layer = ipywidgets.SelectionSlider(
            options=list(layers), value=layers[-1], description="layer", layout=slider_layout()
        )
        self.power = ipywidgets.FloatSlider(
            value=power, min=0.5, max=8, step=0.5, description="power p", readout_format=".1f", layout=slider_layout()
        )
        narrow = ipywidgets.Layout(width="150px")
        self.digit = ipywidgets.Dropdown(options=list(range(10)), value=3, description="digit", layout=narrow)
        self.example = ipywidgets.IntSlider(
            0, 0, len(self._order[3]) - 1, description="example", layout=slider_layout()
        )
        self.student = ipywidgets.Dropdown(
            options=list(named), value=next(iter(named)), description="student", layout=ipywidgets.Layout(width="300px")
        )
        self._make_picture()
        for control in (self.layer, self.power, self.student):
            control.observe(self._moved, "value")
        for control in (self.digit, self.example):
            control.observe(self._picked, "value")
        which = [self.digit, self.example] + ([self.student] if len(named) > 1 else [])
        controls = [make_row(self.layer, self.power), make_row(*which)]
        self.widget = ipywidgets.VBox([*controls, self.canvas.widget, self.status])
        self._pick()

    def _make_picture(self) -> None:
        self.canvas = Canvas(7.8, 2.25, full_colour=True)
        blank = torch.zeros(28, 28).numpy()
        self._pictures, self._titles, self._outlines = [], [], []
        for place, (colours, lines) in enumerate([("gray_r", ""), ("cividis", "w"), ("cividis", "w"), ("PuOr", INK)]):
            ax = self.canvas.add_axes(0.006 + 0.25 * place, 0.01, 0.238, 0.83)
            ax.set_axis_off()
            self._pictures.append(ax.imshow(blank, cmap=colours, vmin=0, vmax=1, interpolation="nearest"))
            self._titles.append(ax.set_title("", fontsize=9.5, color=INK))
            if lines:
                shape = LineCollection([], colors=lines, linewidths=1.1)
                ax.add_collection(shape)
                self._outlines.append(shape)
        moving = zip(self._pictures, [None, *self._outlines], self._titles, strict=True)
        self.canvas.moving(*[artist for panel in moving for artist in panel if artist is not None])

    def _moved(self, change: Any) -> None:
        with self._guard():
            self._draw()

    def _picked(self, change: Any) -> None:
        with self._guard():
            self._pick()

    def _pick(self) -> None:
        """Change the digit and its outline."""
        order = self._order[self.digit.value]
        self.example.max = len(order) - 1
        self._sample = order[self.example.value]
        image = self._images[self._sample]
        self._pictures[0].set_data(image.numpy())
        self._titles[0].set_text(f"the digit, a {self.digit.value}")
        for shape in self._outlines:
            shape.set_segments(outline(image))
        self._draw()

    def _draw(self) -> None:
        layer, power, name = self.layer.value, self.power.value, self.student.value
        teacher = _power_map(self._teacher[layer][self._sample], power)  # (H, W)
        student = _power_map(self._students[name][layer][self._sample], power)  # (H, W)
        self.distance = float((student - teacher).square().mean())
        reach = max(float(teacher.max()), float(student.max()), 1e-9)  # one scale, so that brightness compares
        difference = 0.5 + (student - teacher) / (2 * reach)
        size = self._images[self._sample].shape
        for picture, values in zip(self._pictures[1:], (teacher / reach, student / reach, difference), strict=True):
            picture.set_data(enlarge(values.numpy(), *size))
        for title, text in zip(self._titles[1:], ("teacher", name, "student − teacher"), strict=True):
            title.set_text(text)
        self.canvas.draw(
            layer=layer, digit=self.digit.value, sample=self._sample, power=power, distance=f"{self.distance:.6g}"
        )
        self._tell(teacher, student)

    def _tell(self, teacher: Tensor, student: Tensor) -> None:
        rows, columns = teacher.shape
        cosine = float((teacher * student).sum())
        share = min(self.distance * rows * columns / 2, 1.0)
        verdict = "nearly where" if cosine > 0.95 else "roughly where" if cosine > 0.8 else "elsewhere than"
        ink = float(_share_on_ink(student, self._images[self._sample]))
        self.status.value = (
            f"<b>{self.layer.value}</b>, {rows}×{columns} positions: mean squared difference "
            f"<b>{self.distance:.2e}</b>, {share:.0%} of the largest possible; cosine {cosine:.2f}. "
            f"The student is active {verdict} the teacher is; {ink:.0%} of its map lies on ink. "
            "Purple: more than the teacher, orange: less."
        )


def _power_map(features: Tensor, power: float) -> Tensor:
    """Return the unit-norm attention map of one sample, (C, H, W) to (H, W)."""
    size = features.abs()
    # Scaled first, which a unit vector does not notice: a small activation to the power of 8 would be rounded to 0.
    energy = (size / size.max().clamp(min=1e-30)).pow(power).sum(dim=0)  # (H, W)
    return F.normalize(energy.flatten(), dim=0).view_as(energy)


def _share_on_ink(energy: Tensor, image: Tensor) -> Tensor:
    """Return which share of a map's sum lies on positions where there is ink."""
    ink = F.adaptive_max_pool2d(image[None], tuple(energy.shape))[0] > 0.5  # (H, W)
    return energy[ink].sum() / energy.sum().clamp(min=1e-30)


def _features_of(model: nn.Module, images: Tensor, chosen: list[int], layers: Sequence[str]) -> dict[str, dict]:
    """Return by layer and index the features (C, H, W) of some images."""
    with evaluating(model), capture(model, *layers) as features:
        model(images[chosen])
    for layer in layers:
        if features[layer].dim() != 4:
            raise ValueError(
                f"layer {layer!r} gives features of shape {tuple(features[layer].shape)}: an attention map needs "
                "positions, (B, C, H, W)."
            )
    return {layer: dict(zip(chosen, features[layer].cpu(), strict=True)) for layer in layers}


def _check_same_places(teacher: dict[str, dict], student: dict[str, dict], name: str) -> None:
    for layer, maps in teacher.items():
        first = next(iter(maps))
        here, there = tuple(maps[first].shape[1:]), tuple(student[layer][first].shape[1:])
        if here != there:
            raise ValueError(
                f"at {layer!r} the teacher's maps have {here} positions and those of {name!r} {there}. Channels may "
                "differ, height and width may not."
            )


def _first_of_each(labels: Tensor, examples: int) -> dict[int, list[int]]:
    """Return for each digit the indices of its first images."""
    found = {digit: (labels == digit).nonzero().flatten()[:examples].tolist() for digit in range(10)}
    missing = [digit for digit, indices in found.items() if not indices]
    if missing:
        raise ValueError(f"the data have no image of {missing}: the explorer needs at least one of each digit.")
    return found
