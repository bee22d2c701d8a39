"""Widget of divergences: a student with one bump and a teacher with two. Chapter 11."""

import ipywidgets
import torch
from torch import Tensor

from ...losses import generalized_jsd_loss
from ...plots import COLORS, INK, tidy
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout

PLACES = torch.linspace(-6, 6, 241)  # the classes: places on a line
MEANS = torch.linspace(-4, 4, 81)
WIDTHS = torch.logspace(-0.7, 0.7, 41)  # 0.2 to 5
BUMP = 0.6  # width of each of the teacher's


class ModesExplorer(Shown):
    """Move β between forward and reverse KL; see which bump is the best for a student that has only one.

    The teacher's distribution has two bumps, a large and a small one. The student is a single bump, and for each β the
    best of 3,321 means and widths is drawn: nothing is trained, nothing is stuck.

    Parameters
    ----------
    beta : float
        At the start, in [0, 1].

    Attributes
    ----------
    beta, gap : ipywidgets.FloatSlider
        The controls: β of `generalized_jsd_loss`, and the distance between the teacher's bumps.
    mean, width : float
        Of the best student.
    between : float
        Share of the student's probability at places where the teacher has less than a tenth of its highest.
    covered : float
        Share of the teacher's probability at places where the student has at least a tenth of its own highest.
    canvas : Canvas

    Raises
    ------
    ValueError
        If beta is outside [0, 1].
    """

    about = "The modes explorer, live when the notebook runs."

    def __init__(self, *, beta: float = 0.0) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be in [0, 1], from forward to reverse KL, got {beta}.")
        self.beta = ipywidgets.FloatSlider(
            value=beta, min=0, max=1, step=0.01, description="β", readout_format=".2f", layout=slider_layout()
        )
        self.gap = ipywidgets.FloatSlider(
            value=4.0, min=0, max=6, step=0.1, description="gap", readout_format=".1f", layout=slider_layout()
        )
        self._make_picture()
        self.follow(self.beta, self.gap, action=self._draw)
        self.widget = ipywidgets.VBox([make_row(self.beta, self.gap), self.canvas.widget, self.status])
        self._draw()

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 3.4)
        left = tidy(self.canvas.add_axes(0.07, 0.17, 0.52, 0.74))
        left.set(xlim=(-6, 6), ylim=(0, 0.045), xlabel="place", ylabel="probability")
        (self._teacher,) = left.plot([], [], color=COLORS["teacher"], linestyle=":", linewidth=2.5, label="teacher")
        (self._student,) = left.plot([], [], color=COLORS["student"], linewidth=2, label="best student")
        left.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right")
        right = tidy(self.canvas.add_axes(0.68, 0.17, 0.30, 0.74))
        right.set(xlim=(-0.04, 1.04), ylim=(1e-3, 1), yscale="log", xlabel="β", ylabel="size of the gradient")
        betas, sizes = gradient_sizes()
        right.plot(betas[1:-1], sizes[1:-1], color=INK, linewidth=1.5)  # it jumps at both ends
        right.plot([0, 1], [sizes[0], sizes[-1]], "o", color=INK, markersize=5)
        (self._here,) = right.plot([], [], "D", color=COLORS["student"], markersize=8)
        self._sizes = dict(zip(betas, sizes, strict=True))
        self.canvas.moving(self._teacher, self._student, self._here)

    def _draw(self) -> None:
        beta = round(self.beta.value, 2)
        teacher = teacher_logits(self.gap.value)  # (places,)
        self.mean, self.width = best_student(teacher, beta)
        student = student_logits(torch.tensor([self.mean]), torch.tensor([self.width]))[0]  # (places,)
        p, q = teacher.softmax(dim=0), student.softmax(dim=0)
        self.between = float(q[p < 0.1 * p.max()].sum())
        self.covered = float(p[q >= 0.1 * q.max()].sum())
        self._teacher.set_data(PLACES, p)
        self._student.set_data(PLACES, q)
        self._here.set_data([beta], [self._sizes[beta]])
        self.canvas.draw(beta=beta, gap=round(self.gap.value, 1))
        name = {0: "forward KL", 1: "reverse KL"}.get(beta, "in between")
        self.status.value = (
            f"β = {beta:.2f}, {name}: the best student has its middle at {self.mean:.1f} and a width of "
            f"{self.width:.1f}. It reaches {self.covered:.0%} of what the teacher says, and puts {self.between:.0%} of "
            "its own probability where the teacher says next to nothing."
        )


def teacher_logits(gap: float) -> Tensor:
    """Log-probabilities of two bumps of equal width, the left one with two thirds of the probability: (places,)."""
    bumps = torch.stack([-((PLACES - place) ** 2) / (2 * BUMP**2) for place in (-gap / 2, gap / 2)])  # (2, places)
    return (bumps + torch.tensor([[2 / 3], [1 / 3]]).log()).logsumexp(dim=0)


def student_logits(means: Tensor, widths: Tensor) -> Tensor:
    """Logits of one bump for each mean and width: (S,), (S,) -> (S, places)."""
    return -((PLACES - means[:, None]) ** 2) / (2 * widths[:, None] ** 2)


def best_student(teacher: Tensor, beta: float) -> tuple[float, float]:
    """Mean and width of the bump with the smallest generalised JSD from the teacher, of all that are on the grid."""
    means, widths = (grid.flatten() for grid in torch.meshgrid(MEANS, WIDTHS, indexing="ij"))
    divergence = torch.func.vmap(lambda logits: generalized_jsd_loss(logits[None], teacher[None], beta=beta))
    best = int(divergence(student_logits(means, widths)).argmin())
    return round(float(means[best]), 4) + 0.0, float(widths[best])  # + 0.0: the middle reads 0.0, not -0.0


def gradient_sizes() -> tuple[list[float], list[float]]:
    """Norm of the gradient for the logits of a student of width 1 in the middle, for β from 0 to 1 in hundredths."""
    teacher = teacher_logits(4.0)[None]
    student = student_logits(torch.tensor([0.0]), torch.tensor([1.0])).requires_grad_()
    betas = [place / 100 for place in range(101)]
    sizes = []
    for beta in betas:
        (gradient,) = torch.autograd.grad(generalized_jsd_loss(student, teacher, beta=beta), student)
        sizes.append(float(gradient.norm()))
    return betas, sizes
