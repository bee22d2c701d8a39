"""Precision of what goes into a loss and into a learned layer. Used from chapter 03 on.

A loss subtracts numbers that grow more alike as training succeeds; bfloat16 has 8 bits to tell them apart.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import ParamSpec, cast

import torch
from torch import Tensor, nn

from ._numerics import at_least_float32

P = ParamSpec("P")


def full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a function of tensors outside autocast, its half-precision arguments raised to float32.

    float32 and float64 arguments pass unchanged, and so does everything that is not a tensor.
    """

    @wraps(function)
    def raised(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next((arg.device.type for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor)), "cpu")
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if autocast else nullcontext():
            arguments = {name: _raise_half(value) for name, value in kwargs.items()}
            return function(*map(_raise_half, args), **arguments)  # type: ignore[arg-type]

    return raised


def fit_to_layer(tensor: Tensor, layer: nn.Module) -> Tensor:
    """Give a learned layer's input the precision of its weight; under autocast half precision stays as it is."""
    weight = cast(Tensor, layer.weight)
    if tensor.dtype == weight.dtype:
        return tensor
    device = tensor.device.type
    half = at_least_float32(tensor) is not tensor
    if half and torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return tensor
    return tensor.to(weight.dtype)


def _raise_half(argument: object) -> object:
    return at_least_float32(argument) if isinstance(argument, Tensor) else argument
