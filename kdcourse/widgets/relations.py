"""A widget that turns, scales, moves and spoils an embedding beside its teacher's: which relational loss notices?

Chapter 04 (``RelationExplorer``). Letters: B samples, D embedding width.
"""

import math
from typing import Any

import ipywidgets
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from torch import Tensor

from ..losses import gram_loss, rkd_angle_loss, rkd_distance_loss, similarity_preserving_loss
from ..plots import COLORS, INK, tidy
from .canvas import Canvas, Shown
from .controls import make_button, make_row

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
REACH = 2.6  # of the map of points, in mean distances of the teacher, to each side of the origin
SEEN = 0.005  # of a loss is drawn and told as "moves": half a per cent of what an unrelated student has
SHUFFLES = 50  # of the rows, whose mean loss is that of a student without any relation to the teacher


class RelationExplorer(Shown):
    """Move a student's embedding away from its teacher's, and watch relations and losses.

    Parameters
    ----------
    embeddings : Tensor, shape (B, D)
        The teacher's, of 4 to 40 samples: D at least 2. They are centred, seen from the direction in which they spread
        most, and divided by their mean distance. The student's are the same points, until a slider moves.
    labels : Tensor, shape (B,)
        Written at the points. Samples stay in the order given: put those of one class beside each other.

    Attributes
    ----------
    rotation, scale, shift, outlier, batch, relation : ipywidgets.Widget
        The controls; set ``.value`` in a cell to move one without a hand. Degrees; a factor; mean distances of the
        teacher by which all points move to the right and up, and by which the first sample moves away from the origin.
    losses : dict from str to float
        The four losses as they are now.
    shares : dict from str to float
        The same, divided by the loss of an unrelated student: the teacher's points with their rows shuffled (a mean
        of 50 shuffles).
    teacher, student : Tensor, shape (B, 2)
        The points that the losses are computed from; twice as many where every sample counts twice.
    canvas : Canvas

    Raises
    ------
    ValueError
        If the shapes do not fit, there are too few or too many samples, or all samples are equal.

    Notes
    -----
    Four losses have four units. To stand in one picture each is divided by what it gives for a student that has
    nothing to do with the teacher; the number beside a bar is the loss itself.
    """

    about = "The relation explorer, live when the notebook runs."

    def __init__(self, embeddings: Tensor, labels: Tensor) -> None:
        super().__init__()
        self._points = _project(embeddings, labels)  # (B, 2)
        self._labels = [str(label) for label in labels.tolist()]
        generator = torch.Generator().manual_seed(0)
        orders = [torch.randperm(len(labels), generator=generator) for _ in range(SHUFFLES)]
        self._order = orders[0]  # of the batch, where it is shuffled
        self._unrelated = {
            name: float(torch.stack([loss(self._points[order], self._points) for order in orders]).mean())
            for name, loss in LOSSES.items()
        }
        self.rotation = _slider(0, -180, 180, 1, "turn (°)", ".0f")
        self.scale = ipywidgets.FloatLogSlider(
            value=1, base=2, min=-2, max=1, step=0.05, description="scale", readout_format=".2f", layout=_layout()
        )
        self.shift = _slider(0, -1.5, 1.5, 0.05, "shift", ".2f")
        self.outlier = _slider(0, 0, 2, 0.05, "outlier", ".2f")
        wide = ipywidgets.Layout(width="350px", max_width="100%")
        self.batch = ipywidgets.Dropdown(options=list(BATCHES), value="as it is", description="batch", layout=wide)
        self.relation = ipywidgets.Dropdown(options=list(RELATIONS), description="matrices", layout=wide)
        self.reset = make_button("back to the teacher", "undo")
        self._moves = (self.rotation, self.scale, self.shift, self.outlier, self.batch)
        self._holds = False
        self._make_picture()
        for control in (*self._moves, self.relation):
            control.observe(self._moved, "value")
        self.reset.on_click(self._go_back)
        controls = [make_row(self.rotation, self.scale), make_row(self.shift, self.outlier)]
        controls.append(make_row(self.batch, self.relation, self.reset))
        self.widget = ipywidgets.VBox([*controls, self.canvas.widget, self.status])
        self._draw()

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 3.0, full_colour=True)
        space = tidy(self.canvas.add_axes(0.012, 0.09, 0.29, 0.8))
        space.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[])
        space.axhline(0, color=INK, linewidth=0.5)
        space.axvline(0, color=INK, linewidth=0.5)
        space.set_title("grey: teacher   blue: student   cross: origin", fontsize=8.5, color=INK)
        for (x, y), label in zip(self._points.tolist(), self._labels, strict=True):
            space.text(x, y, label, color=COLORS["no_teacher"], fontsize=8, ha="center", va="center")
        self._digits = [
            space.text(0, 0, label, color=COLORS["student"], fontsize=9, weight="bold", ha="center", va="center")
            for label in self._labels
        ]
        (self._ring,) = space.plot([], [], "o", markersize=14, markerfacecolor="none", color=COLORS["kd"])
        self._classes: list[Any] = []  # the labels along the maps, while the batch is as it is
        self._maps = [self._add_map(0.335, "teacher"), self._add_map(0.523, "student")]
        self._bars_axes = bars = tidy(self.canvas.add_axes(0.792, 0.17, 0.198, 0.72))
        bars.set(xlim=(0, 1.5), ylim=(3.6, -0.6), xticks=[0, 1], xticklabels=["0", "an unrelated\nstudent's"])
        bars.set_yticks(range(4), ["distance", "angle", "Gram", "similarity-\npreserving"])
        bars.set_title("the four losses", fontsize=10, color=INK)
        bars.grid(False, axis="y")
        self._bars = bars.barh(range(4), [0.0] * 4, color=COLORS["kd"], height=0.6)
        self._numbers = [bars.text(0, row, "", va="center", fontsize=8.5, color=INK) for row in range(4)]
        self.canvas.moving(*self._digits, self._ring, *self._maps, *self._classes, *self._bars, *self._numbers)

    def _add_map(self, left: float, name: str) -> Any:
        axes: Axes = self.canvas.add_axes(left, 0.17, 0.158, 0.72)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.set_title(name, fontsize=10, color=INK)
        size = len(self._points)
        image = axes.imshow(torch.zeros(size, size).numpy(), interpolation="nearest", extent=(0, size, size, 0))
        starts = [row for row in range(size) if row == 0 or self._labels[row] != self._labels[row - 1]]
        for start, end in zip(starts, [*starts[1:], size], strict=True):
            middle, label = (start + end) / 2, self._labels[start]
            self._classes.append(axes.text(middle, 1.02 * size, label, fontsize=8, color=INK, ha="center", va="top"))
            self._classes.append(axes.text(-0.02 * size, middle, label, fontsize=8, color=INK, ha="right", va="center"))
        return image

    def _moved(self, change: Any) -> None:
        if self._holds:
            return
        with self._guard():
            self._draw()

    def _go_back(self, button: Any) -> None:
        with self._guard():
            self._holds = True
            try:
                for control, value in zip(self._moves, (0, 1, 0, 0, "as it is"), strict=True):
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
        chosen = BATCHES[self.batch.value]
        teacher, student = self._points, moved
        if chosen == "both":
            teacher, student = teacher[self._order], student[self._order]
        elif chosen == "student":
            student = student[self._order]
        elif chosen == "twice":
            teacher, student = torch.cat([teacher, teacher]), torch.cat([student, student])  # (2B, 2)
        return teacher, student, moved

    def _draw(self) -> None:
        self.teacher, self.student, moved = self._move()
        self.losses = {name: float(loss(self.student, self.teacher)) for name, loss in LOSSES.items()}
        self.shares = {name: self.losses[name] / self._unrelated[name] for name in LOSSES}
        inside = moved.clamp(-0.97 * REACH, 0.97 * REACH)
        for text, place in zip(self._digits, inside.tolist(), strict=True):
            text.set_position((place[0], place[1]))
        self._ring.set_data([inside[0, :1].item()], [inside[0, 1:].item()])
        self._ring.set_visible(self.outlier.value > 0)
        for text in self._classes:
            text.set_visible(BATCHES[self.batch.value] == "as it is")
        self._colour_maps(RELATIONS[self.relation.value])
        for bar, number, name in zip(self._bars, self._numbers, LOSSES, strict=True):
            share = min(self.shares[name], 1.06)
            bar.set_width(share)
            number.set_x(share + 0.03)
            more = "▸ " if self.shares[name] > 1.06 else ""
            number.set_text(more + (f"{self.losses[name]:.3f}" if self.shares[name] >= SEEN else "0"))
        told = {name.replace("-", "_"): round(share, 4) for name, share in self.shares.items()}
        self.canvas.draw(rotation=self.rotation.value, shift=self.shift.value, outlier=self.outlier.value, **told)
        self._tell(outside=int((inside != moved).any(dim=1).sum()))

    def _colour_maps(self, kind: str) -> None:
        matrices = [_relate(points, kind) for points in (self.teacher, self.student)]
        signed = kind != "distances"
        reach = 1.0 if kind == "cosine" else 2.5 if kind == "distances" else 1.3 * float(matrices[0].abs().max())
        for image, matrix in zip(self._maps, matrices, strict=True):
            image.set_cmap("PuOr" if signed else "cividis")
            image.set_norm(Normalize(-reach if signed else 0.0, reach))
            image.set_data(matrix.numpy())

    def _tell(self, *, outside: int) -> None:
        done = [
            f"turned by {self.rotation.value:.0f}°" if self.rotation.value else "",
            f"scaled by {self.scale.value:.2f}" if abs(self.scale.value - 1) > 1e-6 else "",
            f"shifted by {self.shift.value:.2f}" if self.shift.value else "",
            f"its first sample pulled away by {self.outlier.value:.2f}" if self.outlier.value else "",
            {"both": "both batches reordered", "student": "its rows reordered", "twice": "each sample twice"}.get(
                BATCHES[self.batch.value], ""
            ),
        ]
        moves = [f"<b>{name}</b> ({self.shares[name]:.0%})" for name in LOSSES if self.shares[name] >= SEEN]
        rest = [name for name in LOSSES if self.shares[name] < SEEN]
        said = ", ".join(part for part in done if part)
        if not said:
            text = "The student is the teacher: every loss is 0. Move a slider, and guess first which loss will move."
        elif not moves:
            text = f"The student, {said}: <b>no loss moves</b>. To all four it still is the teacher."
        else:
            text = f"The student, {said}: {_join(moves)} {'moves' if len(moves) == 1 else 'move'}"
            text += f"; {_join(rest)} {'stays' if len(rest) == 1 else 'stay'} at 0." if rest else "."
        if outside:
            text += f" Points outside the picture, drawn at its edge: {outside}."
        self.status.value = text


def _project(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return two coordinates per sample, centred, with a mean distance of 1."""
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
        value=value, min=low, max=high, step=step, description=name, readout_format=form, layout=_layout()
    )


def _layout() -> ipywidgets.Layout:
    return ipywidgets.Layout(width="350px", max_width="100%")
