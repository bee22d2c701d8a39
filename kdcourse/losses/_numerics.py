"""What several losses need when only a part of a tensor counts: anchors that hold an object, tokens that are real.

Boxes keep their shape and get zeros, so that a GPU need not wait for a count; tokens are picked out, because padding
is often most of a batch and each token carries a whole vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._arguments import check_mask


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half precision to float32, as autocast does for losses; leave float32 and float64 alone."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def unit(vectors: Tensor, *, dim: int = 1) -> Tensor:
    """Scale to length 1 along a dimension. A vector of length 0 has no direction: it stays, and takes no gradient.

    ``F.normalize`` divides it by 1e-12 instead, and its gradient too: one dead sample behind a ReLU ends a training.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0, math.inf)


def keep(tensor: Tensor, mask: Tensor | None, fill: float = 0.0) -> Tensor:
    """Replace what the mask drops. Before the arithmetic, so that NaN there reaches neither the loss nor a gradient."""
    if mask is None:
        return tensor
    mask = mask.bool()
    if fill == 0 and tensor.device.type == "cpu" and tensor.dtype in _BITS and _fits(mask, tensor):
        return _KeepBits.apply(tensor, mask)
    return torch.where(mask, tensor, fill)


def mean_where(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of the values that the mask keeps (it may broadcast); 0, still part of the graph, when it keeps none."""
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

    Setting all bits to 0 is as blind to NaN as choosing, and unlike multiplying by 0.
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
    """Check a tokenizer's mask, shape (B, L), and give what takes (B, L, ...) to its real tokens, (tokens, ...).

    Work on padding is never done, which pays most for vocabulary logits; what stands there, NaN too, reaches neither
    the loss nor a gradient. The number of tokens is data: a GPU is waited for once, where the mask is read.
    """
    if attention_mask is None:
        return lambda tensor: tensor.flatten(0, len(shape) - 1)
    check_mask(attention_mask, shape, "attention_mask", MASK_REASON)
    real = attention_mask.flatten().nonzero().squeeze(1)  # (tokens,)
    return lambda tensor: tensor.flatten(0, 1).index_select(0, real)


def mean_of(values: Tensor) -> Tensor:
    """Mean; 0, still part of the graph, of no values."""
    return values.sum() / max(1, values.numel())


MASK_REASON = "It is the tokenizer's: one entry per token, 1 for a real token, 0 for padding."
