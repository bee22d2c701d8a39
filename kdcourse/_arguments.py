"""Checks of arguments, called where a user calls us: bad input raises a ValueError that teaches.

Each message says what came, what is needed, and why. A tensor's values are read on the CPU only: reading them on a GPU
makes the processor wait for the device, and under ``torch.func`` transforms there are none yet.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def check_temperature(temperature: float | Tensor) -> None:
    """Raise unless temperature is positive and finite. A tensor passes: it may be an axis of ``torch.func.vmap``."""
    if isinstance(temperature, Tensor):
        return
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(
            f"temperature must be positive and finite, got {temperature}. It divides the logits: "
            "T = 1 leaves the softmax unchanged, larger T flattens it."
        )


def check_alpha(alpha: float | Tensor, name: str = "alpha") -> None:
    """Raise unless alpha is in [0, 1]. A tensor passes: it may be an axis of ``torch.func.vmap``."""
    if isinstance(alpha, Tensor):
        return
    if not 0 <= alpha <= 1:
        raise ValueError(
            f"{name} must be in [0, 1], got {alpha}. It is the share of the teacher's term in a weighted mean: "
            "0 means labels only, 1 means teacher only."
        )


def check_weight(weight: float | Tensor, name: str) -> None:
    """Raise unless a weight is finite and not negative."""
    if isinstance(weight, Tensor):
        return
    if not (weight >= 0 and math.isfinite(weight)):
        raise ValueError(
            f"{name} must be finite and not negative, got {weight}. A negative weight would reward errors."
        )


def check_floating(tensor: Tensor, name: str) -> None:
    """Raise unless the tensor is floating point."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}.")
    if not tensor.is_floating_point():
        raise ValueError(
            f"{name} must be floating point, got {tensor.dtype}. Class indices or counts cannot be matched by a loss."
        )


def check_same_shape(
    student: Tensor, teacher: Tensor, what: str = "logits", *, min_dim: int = 2, allow_empty: bool = False
) -> None:
    """Raise unless student and teacher are floating point, equal in shape, not empty, at least ``min_dim``-D."""
    check_floating(student, f"student {what}")
    check_floating(teacher, f"teacher {what}")
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher {what} must have the same shape, got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}. Broadcasting would silently compare the wrong pairs."
        )
    if student.dim() < min_dim:
        raise ValueError(
            f"{what} need at least {min_dim} dimensions with the batch first, got shape {tuple(student.shape)}. "
            "For one sample, add the batch dimension: x.unsqueeze(0)."
        )
    if student.numel() == 0 and not allow_empty:
        raise ValueError(f"{what} must not be empty, got shape {tuple(student.shape)}: the mean of nothing is NaN.")


def check_same_batch(student: Tensor, teacher: Tensor, what: str = "features") -> None:
    """Raise unless student and teacher are floating point with the same, non-zero batch size."""
    check_floating(student, f"student {what}")
    check_floating(teacher, f"teacher {what}")
    if student.dim() < 2 or teacher.dim() < 2:
        raise ValueError(
            f"{what} need a batch dimension and at least one more, got shapes {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}."
        )
    if student.shape[0] != teacher.shape[0]:
        raise ValueError(
            f"student and teacher {what} must come from the same batch, got {student.shape[0]} and "
            f"{teacher.shape[0]} samples. Row i of one is compared with row i of the other."
        )
    if student.numel() == 0 or teacher.numel() == 0:
        raise ValueError(f"{what} must not be empty, got {tuple(student.shape)} and {tuple(teacher.shape)}.")


def check_labels(labels: Tensor, logits: Tensor, *, ignore_index: int | None = None) -> None:
    """Raise unless labels are integers of shape ``logits.shape[:-1]`` in [0, K).

    Values are looked at only where that is free: on the CPU and outside ``torch.func`` transforms.
    """
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a torch.Tensor of class indices, got {type(labels).__name__}.")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be class indices (torch.long), got {labels.dtype}. One-hot? Use argmax(dim=-1).")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels must have shape {tuple(logits.shape[:-1])}, one per row of logits {tuple(logits.shape)}, "
            f"got {tuple(labels.shape)}."
        )
    if labels.device.type != "cpu" or torch._C._functorch.is_functorch_wrapped_tensor(labels):
        return
    classes = logits.shape[-1]
    if labels.numel() == 0:
        return
    lowest, highest = labels.aminmax()
    if lowest.item() >= 0 and highest.item() < classes:
        return
    inside = (labels >= 0) & (labels < classes)
    if ignore_index is not None:
        inside |= labels == ignore_index
    if not bool(inside.all()):
        wrong = labels[~inside].flatten()[0].item()
        raise ValueError(f"labels must be in [0, {classes}), got {wrong}. The logits have {classes} classes.")


def check_two_classes(logits: Tensor, why: str) -> None:
    """Raise unless the last dimension holds at least two classes."""
    if logits.dim() == 0 or logits.shape[-1] < 2:
        raise ValueError(f"logits need at least two classes in their last dimension, got {tuple(logits.shape)}. {why}")


def check_mask(mask: Tensor, shape: Sequence[int], name: str, why: str) -> None:
    """Raise unless a mask is a tensor of this shape that holds only 0 and 1 (values are seen on the CPU only)."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor of 0 and 1, got {type(mask).__name__}.")
    if tuple(mask.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(mask.shape)}. {why}")
    if mask.dtype == torch.bool or mask.device.type != "cpu" or torch._C._functorch.is_functorch_wrapped_tensor(mask):
        return
    if mask.dtype == torch.long and mask.numel():  # a tokenizer's: one pass that copies nothing
        lowest, highest = mask.aminmax()
        if lowest.item() >= 0 and highest.item() <= 1:
            return
    wrong = mask[(mask != 0) & (mask != 1)]
    if wrong.numel():
        raise ValueError(f"{name} must hold only 0 and 1, got {wrong[0].item():g}. {why}")


def check_paired_lists(student: Sequence[Tensor], teacher: Sequence[Tensor], what: str) -> None:
    """Raise unless two lists are non-empty and of equal length."""
    if len(student) != len(teacher):
        raise ValueError(
            f"student and teacher need equally many {what}, got {len(student)} and {len(teacher)}. "
            "zip would silently drop the rest."
        )
    if len(student) == 0:
        raise ValueError(f"got empty lists of {what}: there is nothing to match, and a mean over it divides by zero.")


def check_one_per_sample(values: Tensor, samples: int, name: str) -> None:
    """Raise unless there is one integer for each sample, shape (B,)."""
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor of integers, got {type(values).__name__}.")
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool or values.shape != (samples,):
        raise ValueError(
            f"{name} must hold one integer per sample, shape ({samples},), got {values.dtype} of shape "
            f"{tuple(values.shape)}."
        )
