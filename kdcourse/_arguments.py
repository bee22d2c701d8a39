"""Checks of arguments, called where a user calls us: bad input raises a ValueError that teaches.

Each message says what came, what is needed, and why. A tensor's values are read on the CPU only: reading them on a GPU
makes the processor wait for the device, and under ``torch.func`` and ``torch.compile`` there are none yet.
"""

import math
import operator
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

SMALLEST_TEMPERATURE = 1e-20  # ordinary logits divided by less leave the range of float32


def can_look(tensor: Tensor) -> bool:
    """Whether reading a tensor's values is free: on the CPU, and not while torch transforms or compiles a function."""
    return (
        tensor.device.type == "cpu"
        and type(tensor) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


# Numbers


def check_number(value: float | Tensor, name: str) -> float | Tensor:
    """Return a hyperparameter as a float, or as a floating point tensor of one number; raise for anything else.

    A tensor may be learned, or an axis of ``torch.func.vmap``. Integers become floats, so that T² cannot overflow.
    """
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        if value.dim() != 0:
            raise ValueError(
                f"{name} must be one number, got a tensor of shape {tuple(value.shape)}. Of a tensor with "
                "one entry take x.squeeze(). For one number per sample, use torch.func.vmap over the samples."
            )
        if value.is_complex() or value.dtype == torch.bool:
            raise ValueError(f"{name} must be a real number, got a tensor of {value.dtype}.")
        return value if value.dtype in (torch.float32, torch.float64) else value.float()
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    raise ValueError(f"{name} must be a number, got {value!r:.80} ({type(value).__name__}).")


def known_value(number: float | Tensor) -> float | None:
    """Value of a checked hyperparameter; None for a tensor that must not be read."""
    if not isinstance(number, Tensor):
        return number
    return number.item() if can_look(number) else None


def check_temperature(temperature: float | Tensor) -> float | Tensor:
    """Return the temperature; raise unless it is one number, positive and finite."""
    number = check_number(temperature, "temperature")
    value = known_value(number)
    if value is None or SMALLEST_TEMPERATURE <= value < math.inf:
        return number
    if 0 < value < SMALLEST_TEMPERATURE:
        raise ValueError(
            f"temperature must be at least {SMALLEST_TEMPERATURE}, got {temperature}: logits / T would overflow."
        )
    raise ValueError(
        f"temperature must be positive and finite, got {temperature}. It divides the logits: "
        "T = 1 leaves the softmax unchanged, larger T flattens it."
    )


def check_alpha(alpha: float | Tensor, name: str = "alpha") -> float | Tensor:
    """Return alpha; raise unless it is one number in [0, 1]."""
    number = check_number(alpha, name)
    value = known_value(number)
    if value is None or 0 <= value <= 1:
        return number
    raise ValueError(
        f"{name} must be in [0, 1], got {alpha}. It is the share of the teacher's term in a weighted mean: "
        "0 means labels only, 1 means teacher only."
    )


def check_weight(weight: float | Tensor, name: str) -> float | Tensor:
    """Return a weight; raise unless it is one number, finite and not negative."""
    number = check_number(weight, name)
    value = known_value(number)
    if value is None or 0 <= value < math.inf:
        return number
    raise ValueError(f"{name} must be finite and not negative, got {weight}. A negative weight would reward errors.")


def check_count(count: Any, name: str, why: str) -> int:
    """Return a number of things; raise unless it is an integer of at least 1."""
    try:
        number = 0 if isinstance(count, bool | Tensor) else operator.index(count)
    except TypeError:
        number = 0
    if not 1 <= number < 2**63:
        came = f"a {type(count).__name__} of {len(count)}" if isinstance(count, list | tuple) else f"{count!r:.80}"
        raise ValueError(f"{name} must be a positive integer, got {came}. {why}")
    return number


# Tensors

_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_floating(tensor: Tensor, name: str) -> None:
    """Raise unless the tensor is floating point."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}.")
    if tensor.dtype in _PRECISIONS and tensor.layout == torch.strided:
        return
    if tensor.is_complex():
        raise ValueError(f"{name} must be real numbers, got {tensor.dtype}.")
    if not tensor.is_floating_point():
        raise ValueError(
            f"{name} must be floating point, got {tensor.dtype}. Class indices or counts cannot be matched by a loss."
        )
    raise ValueError(
        f"{name} must be dense and in half, single or double precision, got {tensor.dtype} ({tensor.layout}). "
        "Use x.to_dense() or x.float()."
    )


def check_same_shape(
    student: Tensor, teacher: Tensor, what: str = "logits", *, min_dim: int = 2, allow_empty: bool = False
) -> None:
    """Raise unless both are floating point, on one device, equal in shape, not empty, at least ``min_dim``-D."""
    check_floating(student, f"student {what}")
    check_floating(teacher, f"teacher {what}")
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher {what} must have the same shape, got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}. Broadcasting would silently compare the wrong pairs."
        )
    _check_same_device(student, teacher, what)
    if student.dim() < min_dim:
        raise ValueError(
            f"{what} need at least {min_dim} dimensions with the batch first, got shape {tuple(student.shape)}. "
            "For one sample, add the batch dimension: x.unsqueeze(0)."
        )
    if student.numel() == 0 and not allow_empty:
        raise ValueError(f"{what} must not be empty, got shape {tuple(student.shape)}: the mean of nothing is NaN.")


def check_same_batch(student: Tensor, teacher: Tensor, what: str = "features") -> None:
    """Raise unless both are floating point, on one device, with the same batch size above 0."""
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
    _check_same_device(student, teacher, what)
    if student.numel() == 0 or teacher.numel() == 0:
        raise ValueError(f"{what} must not be empty, got {tuple(student.shape)} and {tuple(teacher.shape)}.")


def _check_same_device(student: Tensor, teacher: Tensor, what: str) -> None:
    if student.device != teacher.device:
        raise ValueError(
            f"student and teacher {what} must be on one device, got {student.device} and {teacher.device}. "
            "Move one of them: teacher.to(student.device)."
        )


def check_logits(logits: Tensor, name: str = "logits") -> None:
    """Raise unless logits are floating point with two or more classes in the last dimension; warn of probabilities."""
    check_floating(logits, name)
    check_class_dimension(logits, name)
    check_two_classes(logits, SOFTMAX_OF_ONE)
    warn_of_probabilities(logits, name)


def check_logit_pair(student: Tensor, teacher: Tensor, *, min_dim: int = 2) -> None:
    """Raise unless student and teacher have logits of one shape, (B, K) or (B, L, K); see ``check_logits``."""
    check_same_shape(student, teacher, min_dim=min_dim)
    check_class_dimension(student, "logits", min_dim=min_dim)
    check_two_classes(student, SOFTMAX_OF_ONE)
    warn_of_probabilities(student, "student logits")
    warn_of_probabilities(teacher, "teacher logits")


SOFTMAX_OF_ONE = (
    "A softmax over one class is always 1. One logit z of a sigmoid model is two classes with the logits 0 and z: "
    "torch.cat([torch.zeros_like(z), z], dim=-1). Or take binary_kd_loss, and sigmoid_objective in a recipe."
)


def check_logit_list(all_logits: Sequence[Tensor], name: str, *, one: str, several: str) -> None:
    """Raise unless there are two or more (B, K) tensors of one shape, one per ``one`` ("exit", "student")."""
    if isinstance(all_logits, Tensor):
        raise ValueError(
            f"{name} must be a list with one (B, K) tensor per {one}, got one tensor of shape "
            f"{tuple(all_logits.shape)}. {several}"
        )
    if not isinstance(all_logits, Sequence):
        raise ValueError(f"{name} must be a list with one (B, K) tensor per {one}, got {type(all_logits).__name__}.")
    if len(all_logits) < 2:
        raise ValueError(
            f"{name} needs the logits of at least two {one}s, got {len(all_logits)}: one has none to learn from."
        )
    for logits in all_logits:
        check_floating(logits, f"{one} logits")
    for logits in all_logits:
        if logits.dim() != 2:
            raise ValueError(f"{one} logits must have shape (B, K), got {tuple(logits.shape)}.")
        if logits.shape != all_logits[-1].shape or logits.device != all_logits[-1].device:
            last = all_logits[-1]
            raise ValueError(
                f"all {one}s need logits of the same shape on one device, got {tuple(logits.shape)} on {logits.device} "
                f"and {tuple(last.shape)} on {last.device}."
            )


def check_class_dimension(logits: Tensor, name: str, *, min_dim: int = 1) -> None:
    """Raise for class maps, (B, K, H, W), and for fewer dimensions than ``min_dim``."""
    if logits.dim() > 3:
        raise ValueError(
            f"{name} have {logits.dim()} dimensions, got shape {tuple(logits.shape)}. Classes come last here: (B, K), "
            "or (B, L, K) for L tokens or positions. For class maps (B, K, H, W) take logits.flatten(2).mT, which is "
            "(B, H·W, K), and labels.flatten(1)."
        )
    if logits.dim() < min_dim:
        raise ValueError(
            f"{name} need at least {min_dim} dimensions with the classes last, got shape {tuple(logits.shape)}."
        )


def check_two_classes(logits: Tensor, why: str) -> None:
    """Raise unless the last dimension holds at least two classes."""
    if logits.dim() == 0 or logits.shape[-1] < 2:
        raise ValueError(f"logits need at least two classes in their last dimension, got {tuple(logits.shape)}. {why}")


def warn_of_probabilities(logits: Tensor, name: str) -> None:
    """Warn if every row is non-negative and sums to 1: somebody has applied the softmax already.

    Nearly all logits fail on the first row, or in a small batch on the smallest number, so that this costs little.
    """
    if not can_look(logits) or logits.numel() == 0:
        return
    logits = logits.detach()
    first = logits if logits.numel() <= 4096 else logits[(0,) * (logits.dim() - 1)]  # (K,) of a large batch
    if not first.amin().item() >= 0:
        return
    if bool((logits >= 0).all()) and bool(((logits.sum(dim=-1, dtype=torch.float32) - 1).abs() < 1e-3).all()):
        warnings.warn(
            f"{name} look like probabilities: every row is non-negative and sums to 1. Give the scores before the "
            "softmax, or probabilities.log(). A second softmax makes all classes nearly equally likely.",
            stacklevel=4,
        )


def check_labels(labels: Tensor, logits: Tensor, *, ignore_index: int | None = None) -> None:
    """Raise unless labels are integers of shape ``logits.shape[:-1]`` in [0, K)."""
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a torch.Tensor of class indices, got {type(labels).__name__}.")
    if labels.shape == logits.shape:
        raise ValueError(
            f"labels must be class indices of shape {tuple(logits.shape[:-1])}, got {tuple(labels.shape)}, the shape "
            "of the logits. One-hot labels: labels.argmax(dim=-1). Soft labels are a teacher: kd_loss(student_logits, "
            "soft_labels.log(), temperature=1). Multi-hot labels need a loss with a sigmoid for each class."
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be class indices (torch.long), got {labels.dtype}. Real-valued labels name no class; "
            "if yours are whole numbers, use labels.long()."
        )
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels must have shape {tuple(logits.shape[:-1])}, one per row of logits {tuple(logits.shape)}, "
            f"got {tuple(labels.shape)}."
        )
    if labels.device != logits.device:
        raise ValueError(f"labels must be on the device of the logits, {logits.device}, got {labels.device}.")
    if labels.numel() == 0 or not can_look(labels):
        return
    classes, labels = logits.shape[-1], labels.long()
    lowest, highest = labels.aminmax()
    if lowest.item() >= 0 and highest.item() < classes:
        return
    inside = (labels >= 0) & (labels < classes)
    if ignore_index is not None:
        inside |= labels == ignore_index
    if not bool(inside.all()):
        wrong = labels[~inside].flatten()[0].item()
        raise ValueError(f"labels must be in [0, {classes}), got {wrong}. The logits have {classes} classes.")


def check_mask(mask: Tensor, shape: Sequence[int], name: str, why: str) -> None:
    """Raise unless a mask is a tensor of this shape that holds only 0 and 1."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor of 0 and 1, got {type(mask).__name__}.")
    if tuple(mask.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(mask.shape)}. {why}")
    if mask.is_complex():
        raise ValueError(f"{name} must hold only 0 and 1, got {mask.dtype}. {why}")
    if mask.dtype == torch.bool or not can_look(mask):
        return
    if mask.dtype == torch.long and mask.numel():  # a tokenizer's: one pass that copies nothing
        lowest, highest = mask.aminmax()
        if lowest.item() >= 0 and highest.item() <= 1:
            return
    wrong = mask[(mask != 0) & (mask != 1)]
    if wrong.numel():
        raise ValueError(f"{name} must hold only 0 and 1, got {wrong[0].item():g}. {why}")


def check_paired_lists(student: Sequence, teacher: Sequence, what: str) -> None:
    """Raise unless two lists are non-empty and of equal length."""
    for side, items in (("student", student), ("teacher", teacher)):
        if not isinstance(items, Sequence):
            raise ValueError(f"{side} {what} must be a list of tensors, got {type(items).__name__}.")
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
