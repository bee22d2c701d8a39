"""Numbers to draw: tensors of any device and plain lists become checked NumPy arrays."""

import math
from typing import Any

import numpy as np


def as_array(values: Any, name: str) -> np.ndarray:
    """Return a tensor of any device, or anything NumPy takes, as an array of floats."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    array = np.asarray(list(values) if isinstance(values, range | map | zip) else values)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers, got {type(values).__name__} of {array.dtype}.")
    return array.astype(float)


def as_vector(values: Any, name: str) -> np.ndarray:
    """Return numbers as an array (N,) with N > 0."""
    array = as_array(values, name)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty list of numbers, got shape {array.shape}.")
    return array


def as_probabilities(values: Any, name: str) -> np.ndarray:
    """Return the probabilities of K classes as an array (K,)."""
    row = as_vector(values, name or "probabilities")
    if row.min() < -1e-6 or not math.isclose(row.sum(), 1, abs_tol=1e-3):
        raise ValueError(
            f"probabilities must not be negative and must sum to 1, got a smallest of {row.min():.3g} and a sum of "
            f"{row.sum():.3g}. Logits? Use soften(logits, temperature=1) first."
        )
    return row


def check_same_length(**vectors: np.ndarray) -> None:
    """Raise unless all vectors are of one length."""
    if len({len(vector) for vector in vectors.values()}) > 1:
        counts = ", ".join(f"{len(vector)} {name}" for name, vector in vectors.items())
        raise ValueError(f"each point needs one number of each kind, got {counts}.")
