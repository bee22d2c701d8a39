"""What several losses need when only a part of a tensor counts: anchors that hold an object, tokens that are real.

Static shapes throughout: indexing with a mask would make a GPU wait, and ``torch.func.vmap`` refuse.
"""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half precision to float32, as autocast does for losses; leave float32 and float64 alone."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def keep(tensor: Tensor, mask: Tensor | None, fill: float = 0.0) -> Tensor:
    """Replace what the mask drops. Before the arithmetic, so that NaN there reaches neither the loss nor a gradient."""
    return tensor if mask is None else torch.where(mask.bool(), tensor, fill)


def mean_where(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of the values that the mask keeps (it may broadcast); 0, still part of the graph, when it keeps none."""
    if mask is None:
        return values.sum() / max(1, values.numel())
    repeats = values.numel() // max(1, mask.numel())  # how often broadcasting reads each entry of the mask
    return keep(values, mask).sum() / (repeats * mask.bool().sum()).clamp(min=1)
