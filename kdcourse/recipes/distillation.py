"""One teacher, one student: from the labels and the teacher's logits, or from the teacher's logits alone.

Chapters 01 and 02. The objectives that other recipes share are here too.
"""

import os
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from .._arguments import check_alpha, check_temperature
from ..losses import kd_loss
from ..training import History, Knobs, Objective, fit, predict_logits
from ..training.checkpoints import fingerprint

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
        return {"ce": F.cross_entropy(student(images), labels.long(), label_smoothing=label_smoothing)}

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
        ce = F.cross_entropy(logits, labels.long())
        return {"kd": knobs.alpha * kd, "ce": (1 - knobs.alpha) * ce}

    return objective


def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: tuple[Tensor, ...],
    *,
    temperature: float = 4.0,
    alpha: float = 0.7,
    make_objective: Callable[[Knobs], Objective] = make_soft_target_objective,
    learned_parts: Mapping[str, nn.Module] | None = None,
    epochs: int = 5,
    batch_size: int = 128,
    seed: int = 0,
    make_optimizer: MakeOptimizer = make_adam,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> History:
    """Distil a teacher into a student; the teacher's logits are computed once.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    teacher : nn.Module
        Not changed: neither its weights, nor its mode, nor its parameters' ``requires_grad``.
    data : tuple of (images, labels) or (images, labels, ...)
        Shapes (N, ...) and (N,), on the device of both models, such as ``load_mnist().train``; further tensors are
        aligned by sample and reach the objective after the teacher's logits.
    temperature, alpha : float
        T > 0; the share of the teacher's term, in [0, 1].
    make_objective : callable
        ``make_objective(knobs)`` returns ``objective(student, images, labels, teacher_logits, ...) -> dict[str,
        Tensor]``, the weighted terms of the loss. By default Hinton's; any other loss goes here.
    learned_parts : mapping from str to nn.Module, optional
        What the objective learns or remembers (a regressor, projections, a memory): the optimizer receives its
        parameters, a checkpoint its state.
    epochs, batch_size, seed, evaluate, checkpoint, progress
        As in ``kdcourse.training.fit``.
    make_optimizer : callable
        ``make_optimizer(parameters) -> Optimizer``.

    Returns
    -------
    History
        With one entry per term of the objective, already weighted: ``kd`` and ``ce`` by default.

    Raises
    ------
    ValueError
        If a knob is out of range, student and teacher share parameters, they disagree in the number of classes, or
        the checkpoint was begun with another teacher.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 2.
    """
    check_temperature(temperature)
    check_alpha(alpha)
    check_nothing_shared(student, teacher)
    images, labels, *more = data
    parts = dict(learned_parts or {})
    parameters = [p for module in (student, *parts.values()) for p in module.parameters()]
    # Once, and keyed by sample: nothing augments the images, so the teacher's logits never change.
    teacher_logits = predict_logits(teacher, images)  # (N, K)
    return fit(
        student,
        (images, labels, teacher_logits, *more),
        make_objective(Knobs(temperature, alpha)),
        make_optimizer(parameters),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        evaluate=evaluate,
        stateful=parts,
        checkpoint=checkpoint,
        settings={
            "temperature": temperature, "alpha": alpha, "teacher": fingerprint(teacher) if checkpoint else "",
        },
        progress=progress,
    )  # fmt: skip


def distill_unlabelled(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    *,
    labelled: tuple[Tensor, Tensor] | None = None,
    temperature: float = 4.0,
    alpha: float = 1.0,
    epochs: int = 5,
    batch_size: int = 128,
    seed: int = 0,
    make_optimizer: MakeOptimizer = make_adam,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> History:
    """Distil a teacher into a student on images that nobody has labelled.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    teacher : nn.Module
        Not changed. Its logits are the soft targets; its most likely class stands in for the missing label.
    images : Tensor, shape (M, ...)
        Unlabelled.
    labelled : tuple of (images, labels), optional
        Labelled samples to train on as well, with their own labels.
    temperature, alpha : float
        T > 0; the share of the soft targets, in [0, 1]. The rest goes to the labels: at the default 1 they are not
        used; at 0 the student learns from hard (pseudo-)labels only.
    epochs, batch_size, seed, make_optimizer, evaluate, checkpoint, progress
        As in ``distill``. An epoch passes over unlabelled and labelled samples together.

    Returns
    -------
    History
        With terms ``kd`` and ``ce``, already weighted.

    Raises
    ------
    ValueError
        As in ``distill``, or if the labelled images have another shape.
    """
    labels = predict_logits(teacher, images).argmax(dim=-1)  # (M,)
    if labelled is not None:
        if labelled[0].shape[1:] != images.shape[1:]:
            raise ValueError(
                f"labelled and unlabelled images must have the same shape, got {tuple(labelled[0].shape[1:])} and "
                f"{tuple(images.shape[1:])}: they are trained on in the same batches."
            )
        images, labels = torch.cat([images, labelled[0]]), torch.cat([labels, labelled[1]])  # (M + N, ...), (M + N,)
    return distill(
        student,
        teacher,
        (images, labels),
        temperature=temperature,
        alpha=alpha,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        make_optimizer=make_optimizer,
        evaluate=evaluate,
        checkpoint=checkpoint,
        progress=progress,
    )


def check_nothing_shared(student: nn.Module, other: nn.Module, what: str = "student and teacher") -> None:
    """Raise if two models share a parameter: then one would move as the other learns, and there is nothing to teach."""
    shared = {id(p) for p in student.parameters()} & {id(p) for p in other.parameters()}
    if student is other or shared:
        raise ValueError(
            f"{what} share {'one object' if student is other else f'{len(shared)} parameter(s)'}. A model cannot be "
            "its own teacher: the difference between the two would vanish or follow every step. Use "
            "copy.deepcopy(model) for the one that should stay."
        )
