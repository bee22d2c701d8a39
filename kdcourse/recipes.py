"""What a method does beyond one loss: who teaches whom, on which data, in which order.

Chapters 02 to 07. Every recipe runs the loop of ``kdcourse.training`` with an objective written in full view.
"""

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from .losses import kd_loss
from .losses._checks import check_alpha, check_temperature
from .training import History, Knobs, Objective, fit, predict_logits

MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]


def make_adam(parameters: list[nn.Parameter], *, lr: float = 1e-3) -> torch.optim.Adam:
    """Build the course's default optimizer: Adam, one fused update per step."""
    return torch.optim.Adam(parameters, lr=lr, fused=True)


def make_label_objective(*, label_smoothing: float = 0.0) -> Objective:
    """Build the no-teacher objective: cross-entropy with the labels, optionally smoothed.

    Parameters
    ----------
    label_smoothing : float
        Share of the target spread evenly over the classes, in [0, 1). It is the second baseline of every comparison:
        it softens targets too, but knows nothing of the sample.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}: at 1 the labels say nothing.")

    def objective(student: nn.Module, images: Tensor, labels: Tensor, *ignored: Tensor) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(student(images), labels, label_smoothing=label_smoothing)}

    return objective


def make_soft_target_objective(knobs: Knobs) -> Objective:
    """Build Hinton's objective on cached teacher logits; T and α are read from ``knobs`` at each step.

    Parameters
    ----------
    knobs : Knobs
        May be changed between two steps, by a slider or a schedule.
    """

    def objective(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor) -> dict[str, Tensor]:
        logits = student(images)  # (B, K)
        kd = kd_loss(logits, teacher_logits, temperature=knobs.temperature)
        ce = F.cross_entropy(logits, labels)
        return {"kd": knobs.alpha * kd, "ce": (1 - knobs.alpha) * ce}

    return objective


def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    temperature: float = 4.0,
    alpha: float = 0.7,
    epochs: int = 5,
    batch_size: int = 128,
    seed: int = 0,
    make_optimizer: MakeOptimizer = make_adam,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> History:
    """Distil a teacher into a student with soft targets; the teacher's logits are computed once.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    teacher : nn.Module
        Not changed: neither its weights, nor its mode, nor its parameters' ``requires_grad``.
    data : tuple of (images, labels)
        Shapes (N, ...) and (N,), on the device of both models, such as ``load_mnist().train``.
    temperature, alpha : float
        T > 0; the share of the teacher's term, in [0, 1].
    epochs, batch_size, seed, evaluate, checkpoint, progress
        As in ``kdcourse.training.fit``.
    make_optimizer : callable
        ``make_optimizer(parameters) -> Optimizer``.

    Returns
    -------
    History
        With terms ``kd`` and ``ce``, already weighted.

    Raises
    ------
    ValueError
        If a knob is out of range, or teacher and student disagree in the number of classes.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 2.
    """
    check_temperature(temperature)
    check_alpha(alpha)
    images, labels = data
    # Once, and keyed by sample: nothing augments the images, so the teacher's logits never change.
    teacher_logits = predict_logits(teacher, images)  # (N, K)
    return fit(
        student,
        (images, labels, teacher_logits),
        make_soft_target_objective(Knobs(temperature, alpha)),
        make_optimizer(list(student.parameters())),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        evaluate=evaluate,
        checkpoint=checkpoint,
        progress=progress,
    )
