"""Where teacher and student look: their attention maps side by side over a digit, layer by layer.

Chapter 03.
"""

from collections.abc import Mapping
from typing import Any

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.collections import LineCollection
from matplotlib.image import AxesImage
from torch import Tensor, nn

from ...data.mnist import Split
from ...models import capture
from ...plots import INK
from ...plots.attention import enlarge, outline
from ...training import evaluating
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout, wide_layout
from .samples import SamplePicker

LAYERS = ("stage1", "stage2", "stage3")  # of the course's convolutional networks, from the input on


class AttentionExplorer(Shown):
    """Move through layers and digits: the teacher's attention map, the student's, and how far apart they are.

    Parameters
    ----------
    teacher : nn.Module
        Convolutional network with the layers ``stage1``, ``stage2`` and ``stage3``. Not changed.
    students : nn.Module, or mapping from str to nn.Module
        One student with the same layers, or several to choose from by name. Not changed.
    data : Split
        Images and labels to pick from, on the models' device, such as ``mnist.held_out.take(500)``.

    Attributes
    ----------
    layer, digit, example, power, student : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``. The power is p in the sum over channels of
        ``abs(F) ** p``; 2 is the paper's and ``attention_map``'s.
    sample : int
        Number of the image shown.
    distance : float
        Mean squared difference of the two maps shown. For one image, one layer and p = 2 this is
        ``attention_transfer_loss``.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there is no student, a layer is missing, teacher and student maps differ in height or width, or a digit is
        missing in the data.

    References
    ----------
    Zagoruyko and Komodakis (2017), Paying More Attention to Attention, arXiv:1612.03928, section 3.1.
    """

    about = "The attention explorer, live when the notebook runs."

    def __init__(self, teacher: nn.Module, students: nn.Module | Mapping[str, nn.Module], data: Split) -> None:
        super().__init__()
        named = {"student": students} if isinstance(students, nn.Module) else dict(students)
        if not named:
            raise ValueError("the explorer needs at least one student to compare with the teacher, got none.")
        images, labels = data
        self._picker = SamplePicker(labels.cpu(), torch.arange(len(labels)), digit=3)
        samples = [sample for samples in self._picker.offered.values() for sample in samples]
        self._images = {sample: images[sample, 0].cpu() for sample in samples}
        self._teacher = _features_of(teacher, images, samples)
        self._students = {name: _features_of(model, images, samples) for name, model in named.items()}
        for name, features in self._students.items():
            _check_same_places(self._teacher, features, name)
        self._make_controls(list(named))
        self._make_picture()
        self.follow(self.layer, self.power, self.student, action=self._draw)
        self.follow(self.digit, self.example, action=self._pick)
        which = [self.digit, self.example, *([self.student] if len(named) > 1 else [])]
        controls = [make_row(self.layer, self.power), make_row(*which)]
        self.widget = ipywidgets.VBox([*controls, self.canvas.widget, self.status])
        self._pick()

    def _make_controls(self, names: list[str]) -> None:
        # A long word beside a slider is cut off: the options say what the description leaves out.
        self.layer = ipywidgets.SelectionSlider(
            options=LAYERS, value=LAYERS[-1], description="layer", layout=slider_layout()
        )
        self.power = ipywidgets.FloatSlider(
            value=2, min=0.5, max=8, step=0.5, description="power p", readout_format=".1f", layout=slider_layout()
        )
        self.digit, self.example = self._picker.digit, self._picker.example
        self.student = ipywidgets.Dropdown(
            options=names, value=names[0], description="student", layout=wide_layout(300)
        )

    def _make_picture(self) -> None:
        self.canvas = Canvas(7.8, 2.25, full_colour=True)
        panels: list[AxesImage] = []
        for place, colours in enumerate(["", "cividis", "cividis", "PuOr"]):
            panels.append(self.canvas.add_image(0.006 + 0.25 * place, 0.01, 0.238, 0.83))
            if colours:
                panels[-1].set_cmap(colours)
        self._digit, *self._maps = panels
        self._titles = [panel.axes.set_title("", fontsize=9.5, color=INK) for panel in panels]
        self._outlines = [LineCollection([], colors=colour, linewidths=1.1) for colour in ("w", "w", INK)]
        for panel, lines in zip(self._maps, self._outlines, strict=True):
            panel.axes.add_collection(lines)
        self.canvas.moving(*panels, *self._outlines, *self._titles)

    def _pick(self) -> None:
        """Change the digit and its outline."""
        self.sample = self._picker.sample
        image = self._images[self.sample]
        self._digit.set_data(image.numpy())
        for lines in self._outlines:
            lines.set_segments(outline(image))
        self._draw()

    def _draw(self) -> None:
        layer, power, name = self.layer.value, self.power.value, self.student.value
        teacher = _power_map(self._teacher[layer][self.sample], power)  # (H, W)
        student = _power_map(self._students[name][layer][self.sample], power)  # (H, W)
        self.distance = float((student - teacher).square().mean())
        reach = max(float(teacher.max()), float(student.max()), 1e-9)  # one scale, so that brightness compares
        difference = 0.5 + (student - teacher) / (2 * reach)
        size = self._images[self.sample].shape
        for panel, values in zip(self._maps, (teacher / reach, student / reach, difference), strict=True):
            panel.set_data(enlarge(values.numpy(), *size))
        texts = (f"the digit, a {self.digit.value}", "teacher", name, "student − teacher")
        for title, text in zip(self._titles, texts, strict=True):
            title.set_text(text)
        self.canvas.draw(
            layer=layer, digit=self.digit.value, sample=self.sample, power=power, distance=f"{self.distance:.6g}"
        )
        self._tell(teacher, student)

    def _tell(self, teacher: Tensor, student: Tensor) -> None:
        rows, columns = teacher.shape
        cosine = float((teacher * student).sum())
        share = min(self.distance * rows * columns / 2, 1.0)
        verdict = "nearly where" if cosine > 0.95 else "roughly where" if cosine > 0.8 else "elsewhere than"
        ink = float(_share_on_ink(student, self._images[self.sample]))
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
    """Return the share of a map's sum that lies on positions with ink."""
    ink = F.adaptive_max_pool2d(image[None], tuple(energy.shape))[0] > 0.5  # (H, W)
    return energy[ink].sum() / energy.sum().clamp(min=1e-30)


def _features_of(model: nn.Module, images: Tensor, samples: list[int]) -> dict[str, dict[int, Tensor]]:
    """Return by layer and sample the features (C, H, W)."""
    with evaluating(model), capture(model, *LAYERS) as features:
        model(images[samples])
    return {layer: dict(zip(samples, features[layer].cpu(), strict=True)) for layer in LAYERS}


def _check_same_places(teacher: dict[str, Any], student: dict[str, Any], name: str) -> None:
    for layer, maps in teacher.items():
        first = next(iter(maps))
        teacher_size, student_size = tuple(maps[first].shape[1:]), tuple(student[layer][first].shape[1:])
        if teacher_size != student_size:
            raise ValueError(
                f"at {layer!r} the teacher's maps have {teacher_size} positions and those of {name!r} {student_size}. "
                "Channels may differ, height and width may not."
            )
