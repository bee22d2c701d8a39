"""Heads beyond one class label for each sample: class maps, tokens, sigmoids; and what a label term takes. Chapter 13.

The losses take classes in the last dimension, and one row for each label. Here other shapes are brought into that form.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._arguments import check_alpha, check_same_shape, check_temperature
from .data.parts import IGNORED
from .losses import binary_kd_loss
from .models.outputs import Outputs, logits_of


def rows_of(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bring logits into rows, one for each label that counts.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        Shape (B, K), which stays as it is; tokens (B, L, K); or class maps (B, K, L), (B, K, H, W) and so on.
    labels : Tensor of int
        Shape (B,), (B, L) or (B, H, W). A token or pixel with the label -100 is left out on both sides. A sample is
        not: it has no label, and still a teacher.

    Returns
    -------
    tuple of Tensor
        Student and teacher, shape (rows, K), and labels, shape (rows,).

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> maps, labels = torch.rand(2, 5, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    >>> labels[0, 0] = -100  # four pixels
    >>> [tuple(rows.shape) for rows in rows_of(maps, maps, labels)]
    [(28, 5), (28, 5), (28,)]
    """
    if student_logits.dim() <= 2:
        return student_logits, teacher_logits, labels
    shape = tuple(student_logits.shape)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher logits must have the same shape, got {shape} and {tuple(teacher_logits.shape)}. If "
            "the maps differ in size, resize one: outputs=lambda output: F.interpolate(output['out'], size=(H, W))."
        )
    if labels.shape == shape[:-1]:
        student, teacher = student_logits.flatten(0, -2), teacher_logits.flatten(0, -2)  # tokens, (B·L, K)
    elif labels.shape == (shape[0], *shape[2:]):
        student, teacher = _flat(student_logits), _flat(teacher_logits)  # class maps, (B·H·W, K)
    else:
        raise ValueError(
            f"labels for logits of shape {shape} have shape {(shape[0], *shape[2:])} for class maps (B, K, H, W), or "
            f"{shape[:-1]} for tokens (B, L, K), got {tuple(labels.shape)}. For a label of each sample, take one "
            "position's logits: outputs=lambda output: output.logits[:, 0]."
        )
    counts = labels.flatten() != IGNORED
    return student[counts], teacher[counts], labels.flatten()[counts]


def label_term(logits: Tensor, labels: Tensor, label_loss: Callable[..., Tensor] | None = None) -> Tensor:
    """Return the labels' term: cross-entropy with class indices, or another loss for what it does not take.

    Parameters
    ----------
    logits : Tensor, shape (B, K)
    labels : Tensor
        Class indices, shape (B,); with ``label_loss`` whatever it takes.
    label_loss : callable, optional
        ``label_loss(logits, labels) -> Tensor ()``, such as ``nn.CrossEntropyLoss(weight=..., label_smoothing=0.1)``,
        or ``F.cross_entropy`` for soft labels.

    Raises
    ------
    ValueError
        If there is no ``label_loss`` and the labels are not integers.

    Examples
    --------
    >>> mixed = torch.tensor([[0.7, 0.3, 0.0]])  # of mixup
    >>> label_term(torch.zeros(1, 3), mixed, F.cross_entropy)
    tensor(1.0986)
    """
    if label_loss is not None:
        return label_loss(logits, labels)
    check_class_indices(labels)
    return F.cross_entropy(logits, labels.long())


def check_class_indices(labels: Tensor) -> None:
    """Raise unless labels are integers. Their values are not looked at: on a GPU that would wait at every step.

    Examples
    --------
    >>> check_class_indices(torch.tensor([3, 1]))
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be class indices (torch.long), got {labels.dtype} of shape {tuple(labels.shape)}. Soft or "
            "multi-hot labels need an objective of their own. Soft labels, such as mixup's: "
            "objective=partial(soft_target_objective, label_loss=F.cross_entropy). Several labels at once, or one "
            "logit with a sigmoid: objective=sigmoid_objective."
        )


def sigmoid_objective(
    student: Callable[..., Any],
    images: Any,
    labels: Tensor,
    teacher_logits: Tensor,
    *rest: Any,
    temperature: float | Tensor = 4.0,
    alpha: float | Tensor = 0.7,
    label_loss: Callable[..., Tensor] = F.binary_cross_entropy_with_logits,
    outputs: Outputs | None = None,
) -> dict[str, Tensor]:
    r"""Learn yes-or-no answers from a teacher and from labels: several labels at once, or one logit.

    .. math:: \alpha \cdot \mathrm{KD}_\sigma(z_s, z_t; T) + (1 - \alpha) \cdot \mathrm{BCE}(z_s, y)

    Parameters
    ----------
    student : nn.Module
    images : Tensor or mapping
        Inputs of the student.
    labels : Tensor, shape (B, K), (B, 1) or (B,)
        0 or 1 for each logit.
    teacher_logits : Tensor
        As many as the student's.
    *rest : Tensor
        Further parts of the batch; they are ignored.
    temperature, alpha : float
        As in :func:`kdcourse.objectives.soft_target_objective`.
    label_loss : callable
        ``label_loss(logits, labels)`` with labels in floating point, such as ``nn.BCEWithLogitsLoss(pos_weight=...)``.
    outputs : str, int or callable, optional
        As in :func:`kdcourse.models.logits_of`.

    Returns
    -------
    dict
        With the terms ``kd`` and ``ce``, already weighted.

    Raises
    ------
    ValueError
        If labels or teacher have another number of entries, or a knob is out of range.

    Examples
    --------
    >>> student, teacher_logits = torch.nn.Linear(3, 1), torch.randn(4, 1)
    >>> list(sigmoid_objective(student, torch.rand(4, 3), torch.tensor([0, 1, 1, 0]), teacher_logits))
    ['kd', 'ce']
    """
    check_temperature(temperature)
    check_alpha(alpha)
    logits = logits_of(student, images, outputs=outputs)  # (B, K)
    if labels.numel() != logits.numel() or len(labels) != len(logits):
        raise ValueError(
            f"a sigmoid needs a label of 0 or 1 for each logit, got labels {tuple(labels.shape)} for logits "
            f"{tuple(logits.shape)}. For class indices take soft_target_objective, or F.one_hot(labels, classes)."
        )
    if teacher_logits.numel() != logits.numel():
        raise ValueError(
            f"the teacher has logits of shape {tuple(teacher_logits.shape)}, the student {tuple(logits.shape)}. Two "
            "classes of a softmax are one logit of a sigmoid: as_teacher(lambda x: z[:, 1:] - z[:, :1] of the teacher)."
        )
    teacher_logits, labels = teacher_logits.view_as(logits), labels.view_as(logits).to(logits.dtype)
    check_same_shape(logits, teacher_logits, min_dim=1)
    kd = binary_kd_loss(logits, teacher_logits, temperature=temperature)
    return {"kd": alpha * kd, "ce": (1 - alpha) * label_loss(logits, labels)}


def _flat(maps: Tensor) -> Tensor:
    return maps.flatten(2).mT.flatten(0, 1)  # (B, K, ...) -> (B·H·W, K)
