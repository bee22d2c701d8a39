"""Which relational loss notices what? An embedding is turned, scaled, moved and spoilt beside its teacher's.

Chapter 04. Letters: B samples, D embedding width.
"""

import math
from typing import Any

import ipywidgets
import torch
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from torch import Tensor

from ...losses import gram_loss, rkd_angle_loss, rkd_distance_loss, similarity_preserving_loss
from ...plots import COLORS, INK, tidy
from ..canvas import Canvas, Shown
from ..controls import make_button, make_row, wide_layout
from .labels import place_labels

LOSSES = {
    "distance": rkd_distance_loss,
    "angle": rkd_angle_loss,
    "Gram": gram_loss,
    "similarity-preserving": similarity_preserving_loss,
}
RELATIONS = {
    "distances ÷ their mean": "distances",
    "Gram matrix ÷ its norm": "gram",
    "Gram matrix, rows of norm 1": "rows",
    "cosine similarities": "cosine",
}
BATCHES = {
    "as it is": "as it is",
    "both in another order": "both",
    "only the student in another order": "student",
    "every sample twice": "twice",
}
REACH = 2.2  # half the width of the plane, in mean distances of the teacher
GAP = 0.3  # between the centres of two digits in the plane: at least the height of one
SEEN = 0.005  # share of a loss from which on it "moves": half a per cent of an unrelated student's
SHUFFLES = 50  # orders of the rows, whose mean loss is that of a student without any relation to the teacher


class RelationExplorer(Shown):
    """Move a student's embedding away from its teacher's, and watch relations and losses.

    Parameters
    ----------
    embeddings : Tensor, shape (B, D)
        The teacher's embeddings of 4 to 40 samples; D is at least 2. They are centred, seen from the direction in which
        they spread most, and divided by their mean distance. The student's are the same points until a slider moves.
    labels : Tensor, shape (B,)
        Classes, one digit in the plane for each. Samples stay in the order given: put those of one class beside each
        other.

    Attributes
    ----------
    rotation, scale, shift, outlier, batch, relation : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``. The rotation is in degrees and the scale a factor.
        The shift moves all points to the right and up, and the outlier moves the first sample away from the origin,
        both in mean distances of the teacher.
    losses : dict from str to float
        The four losses.
    shares : dict from str to float
        The losses, divided by those of an unrelated student: the teacher's points with their rows shuffled (mean of 50
        shuffles).
    teacher, student : Tensor, shape (B, 2), or (2B, 2) where every sample counts twice
        The points that the losses are computed from.
    canvas : Canvas
    plane, bars, key : Axes
        Parts of the picture: the points, the losses, and what the colours of the matrices mean.
    maps : list of AxesImage
        The matrices of teacher and student.

    Raises
    ------
    ValueError
        If the shapes do not fit, there are too few or too many samples, or all samples are equal.

    Notes
    -----
    Four losses have four units. To stand in one picture, each is divided by the loss of a student that has nothing to
    do with the teacher. Beside a bar stands this share, and below it, small, the loss itself. A dot is the place of a
    sample, and a thin line leads from the teacher's place of a sample to the student's. The digit of a class stands
    once per network, where there is room beside its dots.
    """

    about = "The relation explorer, live when the notebook runs."

    def __init__(self, embeddings: Tensor, labels: Tensor) -> None:
        super().__init__()
        self._points = _project(embeddings, labels)  # (B, 2)
        self._labels = [str(label) for label in labels.tolist()]
        self._names = list(dict.fromkeys(self._labels))  # C classes
        generator = torch.Generator().manual_seed(0)
        orders = [torch.randperm(len(labels), generator=generator) for _ in range(SHUFFLES)]
        self._order = orders[0]  # of the batch, where it is shuffled
        self._unrelated = {
            name: float(torch.stack([loss(self._points[order], self._points) for order in orders]).mean())
            for name, loss in LOSSES.items()
        }
        self._make_controls()
        self.canvas = Canvas(9.2, 3.2, full_colour=True)
        self._make_plane()
        self._make_maps()
        self._make_bars()
        controls = [make_row(self.rotation, self.scale), make_row(self.shift, self.outlier)]
        controls.append(make_row(self.batch, self.relation, self.reset))
        self.widget = ipywidgets.VBox([*controls, self.canvas.widget, self.status])
        self._draw()

    def _make_controls(self) -> None:
        self.rotation = _slider(0, -180, 180, 1, "turn (°)", ".0f")
        self.scale = ipywidgets.FloatLogSlider(
            value=1,
            base=2,
            min=-2,
            max=1,
            step=0.05,
            description="scale",
            readout_format=".2f",
            layout=wide_layout(350),
        )
        self.shift = _slider(0, -1.5, 1.5, 0.05, "shift", ".2f")
        self.outlier = _slider(0, 0, 2, 0.05, "outlier", ".2f")
        self.batch, self.relation = (
            ipywidgets.Dropdown(options=list(options), description=name, layout=wide_layout(350))
            for name, options in (("batch", BATCHES), ("matrices", RELATIONS))
        )
        self.reset = make_button("back to the teacher", "undo")
        self._start = {
            control: control.value for control in (self.rotation, self.scale, self.shift, self.outlier, self.batch)
        }
        self._holds = False  # while several controls move at once
        self.follow(*self._start, self.relation, action=self._draw)
        self.reset.on_click(self._go_back)

    def _make_plane(self) -> None:
        plane = self.plane = tidy(self.canvas.add_axes(0.012, 0.06, 0.29, 0.834))
        plane.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[])
        plane.axhline(0, color=INK, linewidth=0.5)
        plane.axvline(0, color=INK, linewidth=0.5)
        plane.set_title("grey: teacher  blue: student  line: same image", fontsize=8.5, color=INK)
        plane.plot(*self._points.T.numpy(), "o", color=COLORS["no_teacher"], markersize=2)
        self._rows = [[row for row, label in enumerate(self._labels) if label == name] for name in self._names]
        nothing = torch.zeros(0, 2)
        self._beside = place_labels(self._middles(self._points), fixed=nothing, avoid=self._points, gap=GAP)  # (C, 2)
        for (x, y), name in zip(self._beside.tolist(), self._names, strict=True):
            plane.text(x, y, name, color=INK, alpha=0.75, fontsize=9, ha="center", va="center")
        self._ways = LineCollection([], colors=COLORS["no_teacher"], linewidths=0.5)
        plane.add_collection(self._ways)
        (self._dots,) = plane.plot([], [], "o", color=COLORS["student"], markersize=3)
        self._digits = [
            plane.text(0, 0, name, color=COLORS["student"], fontsize=9.5, weight="bold", ha="center", va="center")
            for name in self._names
        ]
        (self._ring,) = plane.plot([], [], "o", markersize=7.5, markerfacecolor="none", color=COLORS["kd"])
        self.canvas.moving(self._ways, self._dots, *self._digits, self._ring)

    def _middles(self, points: Tensor) -> Tensor:
        """Return the middle of each class, (C, 2): the median, since one stray sample must not drag its digit along."""
        return torch.stack([points[rows].median(dim=0).values for rows in self._rows])

    def _make_maps(self) -> None:
        self._classes: list[Any] = []  # the labels along the maps, while the batch is as it is
        self.maps = [self._add_map(0.33, "teacher"), self._add_map(0.515, "student")]
        key = self.key = self.canvas.add_axes(0.385, 0.255, 0.235, 0.035)
        key.set(xticks=[], yticks=[])
        key.spines[:].set_visible(False)
        self._key = key.imshow([[step / 99 for step in range(100)]], aspect="auto", extent=(0, 1, 0, 1))
        self._ticks = [key.text(x, -0.5, "", fontsize=8, color=INK, ha="center", va="top") for x in (0.0, 0.5, 1.0)]
        self._kind = key.text(0.5, -3.2, "", fontsize=8.5, color=INK, ha="center", va="top")
        self.canvas.moving(*self.maps, *self._classes, self._key, *self._ticks, self._kind)

    def _add_map(self, left: float, name: str) -> AxesImage:
        axes = self.canvas.add_axes(left, 0.26, 0.158, 0.634)
        axes.set(xticks=[], yticks=[], aspect="equal", anchor="N")
        axes.spines[:].set_visible(False)
        axes.set_title(name, fontsize=10, color=INK)
        size = len(self._points)
        image = axes.imshow(torch.zeros(size, size).numpy(), interpolation="nearest", extent=(0, size, size, 0))
        starts = [row for row in range(size) if row == 0 or self._labels[row] != self._labels[row - 1]]
        for start, end in zip(starts, [*starts[1:], size], strict=True):
            middle, label = (start + end) / 2, self._labels[start]
            self._classes.append(axes.text(middle, 1.02 * size, label, fontsize=8, color=INK, ha="center", va="top"))
            self._classes.append(axes.text(-0.02 * size, middle, label, fontsize=8, color=INK, ha="right", va="center"))
        return image

    def _make_bars(self) -> None:
        bars = self.bars = tidy(self.canvas.add_axes(0.792, 0.18, 0.148, 0.714))
        bars.set(xlim=(0, 1), ylim=(3.6, -0.6), xticks=[0, 1], xticklabels=["0", "an unrelated\nstudent's"])
        bars.set_yticks(range(4), ["distance", "angle", "Gram", "similarity-\npreserving"])
        bars.set_title("the four losses", fontsize=10, color=INK)
        bars.grid(False)
        bars.axvline(1, color=INK, linewidth=1, linestyle="--", clip_on=False)
        self._bars = bars.barh(range(4), [0.0] * 4, color=COLORS["kd"], height=0.6)
        self._percent = [bars.text(1.06, row, "", va="bottom", fontsize=9, color=INK) for row in range(4)]
        self._numbers = [bars.text(1.06, row + 0.04, "", va="top", fontsize=7, color=INK) for row in range(4)]
        self.canvas.moving(*self._bars, *self._percent, *self._numbers)

    def _go_back(self, button: Any) -> None:
        with self.guard():
            self._holds = True
            try:
                for control, value in self._start.items():
                    control.value = value
            finally:
                self._holds = False
            self._draw()

    def _move(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return teacher and student as the losses get them, and the student's points as they are drawn."""
        angle = math.radians(self.rotation.value)
        turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])  # row vectors
        points = self._points.clone()
        points[0] += self.outlier.value * points[0] / points[0].norm().clamp(min=1e-6)
        moved = self.scale.value * points @ turn + self.shift.value * math.sqrt(0.5)  # (B, 2)
        batch = BATCHES[self.batch.value]
        teacher, student = self._points, moved
        if batch == "both":
            teacher, student = teacher[self._order], student[self._order]
        elif batch == "student":
            student = student[self._order]
        elif batch == "twice":
            teacher, student = torch.cat([teacher, teacher]), torch.cat([student, student])  # (2B, 2)
        return teacher, student, moved

    def _draw(self) -> None:
        if self._holds:
            return
        self.teacher, self.student, moved = self._move()
        self.losses = {name: float(loss(self.student, self.teacher)) for name, loss in LOSSES.items()}
        self.shares = {name: self.losses[name] / self._unrelated[name] for name in LOSSES}
        inside = moved.clamp(-0.97 * REACH, 0.97 * REACH)
        self._place_points(inside)
        self._colour_maps(RELATIONS[self.relation.value])
        self._stretch_bars()
        notes = {name.replace("-", "_"): round(share, 4) for name, share in self.shares.items()}
        self.canvas.draw(rotation=self.rotation.value, shift=self.shift.value, outlier=self.outlier.value, **notes)
        self._tell(outside=int((inside != moved).any(dim=1).sum()))

    def _place_points(self, points: Tensor) -> None:
        self._dots.set_data(*points.T.numpy())
        self._ways.set_segments(list(torch.stack([self._points, points], dim=1).numpy()))
        avoid, middles = torch.cat([points, self._points]), self._middles(points)  # (2B, 2), (C, 2)
        places = place_labels(middles, fixed=self._beside, avoid=avoid, gap=GAP).clamp(-0.97 * REACH, 0.97 * REACH)
        for text, place in zip(self._digits, places.tolist(), strict=True):
            text.set_position((place[0], place[1]))
        self._ring.set_data([points[0, :1].item()], [points[0, 1:].item()])
        self._ring.set_visible(self.outlier.value > 0)

    def _colour_maps(self, kind: str) -> None:
        for text in self._classes:
            text.set_visible(BATCHES[self.batch.value] == "as it is")
        matrices = [_relate(points, kind) for points in (self.teacher, self.student)]
        reach = 1.0 if kind == "cosine" else 2.5 if kind == "distances" else 1.3 * float(matrices[0].abs().max())
        lowest = 0.0 if kind == "distances" else -reach
        colours = colormaps["cividis" if kind == "distances" else "PuOr"]
        for image, matrix in zip(self.maps, matrices, strict=True):
            image.set_cmap(colours)
            image.set_norm(Normalize(lowest, reach))
            image.set_data(matrix.numpy())
        self._key.set_cmap(colours)
        ends = ("≤ ", "", "≥ ") if kind in ("gram", "rows") else ("", "", "≥ " if kind == "distances" else "")
        for text, sign, value in zip(self._ticks, ends, (lowest, (lowest + reach) / 2, reach), strict=True):
            text.set_text(f"{sign}{value:.3g}".replace("-", "−"))
        self._kind.set_text(self.relation.value)

    def _stretch_bars(self) -> None:
        for bar, percent, number, name in zip(self._bars, self._percent, self._numbers, LOSSES, strict=True):
            seen = self.shares[name] >= SEEN
            bar.set_width(min(self.shares[name], 1.0))
            more = "▸ " if self.shares[name] > 1 else ""  # longer than the full length
            percent.set_text(f"{more}{self.shares[name]:.0%}" if seen else "0%")
            number.set_text(f"{self.losses[name]:.3f}" if seen else "")

    def _tell(self, *, outside: int) -> None:
        changes = [
            f"turned by {self.rotation.value:.0f}°" if self.rotation.value else "",
            f"scaled by {self.scale.value:.2f}" if abs(self.scale.value - 1) > 1e-6 else "",
            f"shifted by {self.shift.value:.2f}" if self.shift.value else "",
            f"its first sample pulled away by {self.outlier.value:.2f}" if self.outlier.value else "",
            {"both": "both batches reordered", "student": "its rows reordered", "twice": "each sample twice"}.get(
                BATCHES[self.batch.value], ""
            ),
        ]
        moving = [f"<b>{name}</b> ({self.shares[name]:.0%})" for name in LOSSES if self.shares[name] >= SEEN]
        still = [name for name in LOSSES if self.shares[name] < SEEN]
        changed = ", ".join(change for change in changes if change)
        if not changed:
            text = "The student is the teacher: every loss is 0. Move a slider, and guess first which loss will move."
        elif not moving:
            text = f"The student, {changed}: <b>no loss moves</b>. To all four it is still the teacher."
        else:
            text = f"The student, {changed}: {_join(moving)} {'moves' if len(moving) == 1 else 'move'}"
            text += f"; {_join(still)} {'stays' if len(still) == 1 else 'stay'} at 0." if still else "."
        if outside:
            text += f" Points outside the picture, drawn at its edge: {outside}."
        self.status.value = text


def _project(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return two coordinates for each sample, centred, with a mean distance of 1."""
    if embeddings.dim() != 2 or labels.dim() != 1 or len(embeddings) != len(labels) or embeddings.shape[1] < 2:
        raise ValueError(
            f"the explorer needs embeddings (B, D) with D at least 2 and one label each (B,), got "
            f"{tuple(embeddings.shape)} and {tuple(labels.shape)}. Feature maps? Flatten or average them first."
        )
    if not 4 <= len(embeddings) <= 40:
        raise ValueError(
            f"the explorer draws 4 to 40 samples, got {len(embeddings)}: fewer have hardly a relation, more cannot be "
            "told apart in the picture."
        )
    points = embeddings.detach().float().cpu()
    points = points - points.mean(dim=0)
    _, _, directions = torch.linalg.svd(points, full_matrices=False)
    flat = points @ directions[:2].T  # (B, 2)
    mean = torch.pdist(flat).mean()
    if not mean > 0:
        raise ValueError("all samples have the same embedding: there are no relations to look at.")
    return flat / mean


def _relate(points: Tensor, kind: str) -> Tensor:
    """Return the relation matrix (B, B) of a kind, normalised as the losses do it."""
    gram = points @ points.T  # (B, B)
    if kind == "gram":
        return gram / gram.norm().clamp(min=1e-12)
    if kind == "rows":
        return torch.nn.functional.normalize(gram, dim=1)
    if kind == "cosine":
        rows = torch.nn.functional.normalize(points, dim=1)
        return rows @ rows.T
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")  # (B, B)
    return distances / distances[distances > 0].mean()


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _slider(value: float, low: float, high: float, step: float, name: str, form: str) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=name, readout_format=form, layout=wide_layout(350)
    )
