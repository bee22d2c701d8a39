"""Arithmetic that several losses share: precision, softened logits, unit vectors, and tensors of which a part counts.

Of boxes the dropped ones become zeros, so that a GPU need not wait for a count. Of tokens the real ones are picked out,
because padding is often most of a batch and each token carries a whole vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import can_look, check_mask

# Precision


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half precision to float32, as autocast does for losses; leave float32 and float64 alone."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def in_one_precision(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Give both sides the student's precision, at least float32, and detach the teacher."""
    student, teacher = at_least_float32(student), teacher.detach()
    return student, teacher if teacher.dtype == student.dtype else teacher.to(student.dtype)


def log_soften(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Log-probabilities at a temperature; half precision is raised to float32, as autocast would."""
    return F.log_softmax(at_least_float32(logits) / temperature, dim=-1)


# Directions


def in_range(sizes: Tensor, *, power: int = 1) -> bool:
    """Whether sizes raised to a power stay well inside their type's range; False where they must not be read."""
    if not can_look(sizes) or sizes.numel() == 0:
        return False
    limits = torch.finfo(sizes.dtype)
    lowest, highest = sizes.detach().aminmax()
    return (1e8 * limits.tiny) ** (1 / power) < lowest.item() and highest.item() < limits.max ** (1 / power)


def over_largest(tensor: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Bring the largest absolute value between 1 and 2, for losses that do not see the scale.

    The divisor is a constant for the gradient, and a power of two, so that no digit is lost.
    """
    largest = tensor.detach().abs().amax(dim=dim, keepdim=True)
    return tensor / largest.masked_fill(largest == 0, 1).log2().floor().exp2()


def unit(vectors: Tensor, *, dim: int = 1) -> Tensor:
    """Scale to length 1 along a dimension. A vector of length 0 has no direction: it stays, and takes no gradient.

    ``F.normalize`` divides it by 1e-12 instead, and its gradient too: one dead sample behind a ReLU ends a training.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    if not in_range(lengths, power=2):
        vectors = over_largest(vectors, dim)  # first: squares of very large or small numbers are no floats
        lengths = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0, math.inf)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine along the last dimension; 0, without a gradient, where one vector has length 0."""
    lengths = [torch.linalg.vector_norm(vectors, dim=-1) for vectors in (first, second)]
    if all(in_range(length, power=2) for length in lengths):
        return (first * second).sum(dim=-1) / (lengths[0] * lengths[1])
    return (unit(first, dim=-1) * unit(second, dim=-1)).sum(dim=-1)


# Parts that count


def keep(tensor: Tensor, mask: Tensor | None, fill: float = 0.0) -> Tensor:
    """Replace what the mask drops. Before the arithmetic, so that NaN there reaches neither the loss nor a gradient."""
    if mask is None:
        return tensor
    mask = mask.bool()
    if fill == 0 and tensor.device.type == "cpu" and tensor.dtype in _BITS and _fits(mask, tensor):
        return _KeepBits.apply(tensor, mask)
    return torch.where(mask, tensor, fill)


def mean_where(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of the values that the mask keeps (it may broadcast); 0, and part of the graph, when it keeps none."""
    return keep(values, mask).sum() / _count(values, mask)


def _count(values: Tensor, mask: Tensor | None) -> Tensor | int:
    if mask is None:
        return max(1, values.numel())
    repeats = values.numel() // max(1, mask.numel())  # how often broadcasting reads each entry of the mask
    return (repeats * mask.bool().sum()).clamp(min=1)


_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def _fits(mask: Tensor, tensor: Tensor) -> bool:
    """Whether broadcasting the mask gives the tensor's shape and no larger one."""
    return torch.broadcast_shapes(mask.shape, tensor.shape) == tensor.shape


class _KeepBits(torch.autograd.Function):
    """``torch.where(mask, tensor, 0)``, which takes one number after the other on a CPU; this takes five in that time.

    Clearing all bits removes NaN, as choosing does; multiplying by 0 would not.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, mask: Tensor) -> Tensor:
        bits = _BITS[tensor.dtype]
        return (tensor.view(bits) & -mask.to(bits)).view(tensor.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _KeepBits.apply(gradient, ctx.saved_tensors[0]), None


def select_real(attention_mask: Tensor | None, shape: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Check a tokenizer's mask, shape (B, L); return a function from (B, L, ...) to the real tokens, (tokens, ...).

    Nothing is computed for padding, which saves most for vocabulary logits. What padding holds, NaN too, reaches
    neither the loss nor a gradient. The number of tokens is data, so a GPU waits once, where the mask is read.
    """
    real = real_tokens(attention_mask, shape)
    if real is None:
        return lambda tensor: tensor.flatten(0, len(shape) - 1)
    return lambda tensor: tensor.flatten(0, 1).index_select(0, real)


def real_tokens(attention_mask: Tensor | None, shape: Sequence[int]) -> Tensor | None:
    """Check a tokenizer's mask, shape (B, L); return the places of the real tokens, (tokens,), or None if all are."""
    if attention_mask is None:
        return None
    check_mask(attention_mask, shape, "attention_mask", MASK_REASON)
    return attention_mask.flatten().nonzero().squeeze(1)  # (tokens,)


def mean_of(values: Tensor) -> Tensor:
    """Mean; 0, and part of the graph, of no values."""
    return values.sum() / max(1, values.numel())


MASK_REASON = "It is the tokenizer's: one entry per token, 1 for a real token, 0 for padding."
