"""What a learner's function returned, as plain numbers. All exercises.

A learner's function may return anything, so results are converted first, by functions taken when this module was
loaded: an object that compares true with everything is not a number.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from .failures import fail

_Tensor, _detach, _tolist = torch.Tensor, torch.Tensor.detach, torch.Tensor.tolist
RTOL, ATOL = 1e-3, 1e-6


def as_number(value: Any, what: str) -> float:
    """Return a result as a plain float.

    Parameters
    ----------
    value : Tensor with one element, int, float or NumPy number
    what : str
        Its name in a message, such as ``"my_kd_loss"``.

    Raises
    ------
    CheckFailed
        If it is something else.
    """
    numbers = as_numbers(value, what)
    if numbers.size != 1:
        fail(f"{what} must be one number, got {numbers.size} of them, shape {numbers.shape}. Is a mean or sum missing?")
    return float(numbers.reshape(-1)[0])


def as_numbers(value: Any, what: str) -> np.ndarray:
    """Return a result as float64 numbers; a list, tuple or dict of results one after another.

    Raises
    ------
    CheckFailed
        If something in it is not a number or a tensor of numbers.
    """
    kind = type(value)
    if kind is _Tensor or kind is nn.Parameter:
        if value.layout is not torch.strided:
            fail(f"{what} must be an ordinary (dense) tensor.")
        if value.is_complex():
            fail(f"{what} must be made of real numbers, got complex ones.")
        return np.asarray(_tolist(_detach(value)), dtype=np.float64).reshape(tuple(value.shape))
    if kind in (bool, int, float) or (isinstance(value, np.number | np.bool_) and kind.__module__ == "numpy"):
        try:
            return np.asarray(float(value), dtype=np.float64)
        except (OverflowError, TypeError):  # an integer beyond 1e308 (Python refuses to print it), a complex number
            fail(f"{what} must be a real number of ordinary size, got {value if kind is not int else 'a huge int'}.")
    if kind is np.ndarray and value.dtype.kind in "biuf":
        return np.array(value, dtype=np.float64)
    if kind is dict:
        value, kind = [dict.__getitem__(value, key) for key in sorted(value, key=str)], list
    if kind in (list, tuple):
        parts = [as_numbers(part, what) for part in value]
        return np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0)
    fail(f"{what} must be a tensor or a number, got {'None' if value is None else kind.__name__}. Is a return missing?")


def is_close(found: np.ndarray, expected: np.ndarray, *, rtol: float = RTOL, atol: float = ATOL) -> bool:
    """Whether two results agree in shape and numbers; compared as plain floats."""
    if found.shape != expected.shape:
        return False
    pairs = zip(found.reshape(-1).tolist(), expected.reshape(-1).tolist(), strict=True)
    return all(math.isfinite(a) and math.isfinite(b) and abs(a - b) <= atol + rtol * abs(b) for a, b in pairs)


def is_whole(value: Any) -> bool:
    """Whether a result is made of whole numbers by its type, as an index must be: ``2``, but not ``2.0``."""
    kind = type(value)
    if kind in (list, tuple):
        return all(map(is_whole, value))
    if kind is _Tensor:
        return not value.is_floating_point() and not value.is_complex()
    if kind is np.ndarray or (isinstance(value, np.generic) and kind.__module__ == "numpy"):
        return value.dtype.kind in "biu"
    return kind in (int, bool)


def few(numbers: np.ndarray) -> str:
    """Return the first numbers as text."""
    flat = numbers.reshape(-1)
    text = ", ".join(f"{number:.5g}" for number in flat[:4])
    return text if flat.size == 1 else f"[{text}{', …' if flat.size > 4 else ''}]"
