"""Full precision inside a loss, whatever surrounds it. Used from chapter 03 on.

A loss subtracts numbers that grow more alike as training succeeds; bfloat16 has 8 bits to tell them apart.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

from ._numerics import at_least_float32

P = ParamSpec("P")


def full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a function of tensors outside autocast, its half-precision arguments raised to float32.

    float32 and float64 arguments pass unchanged, and so does everything that is not a tensor: lists of tensors are
    left to the functions that are called with their items.
    """

    @wraps(function)
    def raised(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next((arg.device.type for arg in args if isinstance(arg, Tensor)), "cpu")
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if autocast else nullcontext():
            return function(*map(_raise_half, args), **kwargs)  # type: ignore[arg-type]

    return raised


def _raise_half(argument: object) -> object:
    return at_least_float32(argument) if isinstance(argument, Tensor) else argument
