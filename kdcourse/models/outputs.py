"""What a model returns, as one tensor of logits, whatever object it comes in. Chapter 13."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Outputs = str | int | Callable[[Any], Tensor]
_KEYS = ("logits", "out")  # transformers; torchvision's segmentation


def logits_of(model: Callable[..., Any], inputs: Any, *, outputs: Outputs | None = None) -> Tensor:
    """Call a model and return its logits as a tensor.

    Parameters
    ----------
    model : callable
        A module or a function.
    inputs : Tensor or mapping
        A mapping is handed over as keyword arguments, as models of ``transformers`` take them.
    outputs : str, int or callable, optional
        Where the logits are: a key or attribute, a place in a tuple, or ``outputs(output) -> Tensor``. By default a
        tensor is taken as it is, and of other objects the key or attribute ``logits`` or ``out``.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If the logits are not there, or it cannot be known where they are.

    Examples
    --------
    >>> model = lambda images: {"out": images * 2, "aux": images}
    >>> logits_of(model, torch.ones(2)), logits_of(model, torch.ones(2), outputs="aux")
    (tensor([2., 2.]), tensor([1., 1.]))
    """
    return select_logits(call(model, inputs), outputs)


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """Call a model with the inputs of a batch: a mapping is handed over as keyword arguments.

    Examples
    --------
    >>> call(lambda x, y: x - y, {"y": 1, "x": 3})
    2
    """
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def select_logits(output: Any, outputs: Outputs | None = None) -> Tensor:
    """Take the logits out of what a model returned; see ``logits_of``.

    Examples
    --------
    >>> select_logits((torch.zeros(2), torch.ones(2)), 1)
    tensor([1., 1.])
    >>> select_logits((torch.zeros(2), torch.ones(2)))
    Traceback (most recent call last):
    ...
    ValueError: the model returns a tuple of 2, in which no logits are known. ... outputs=0 ...
    """
    logits: Any = None
    if type(output).__module__ == "numpy":
        output = torch.as_tensor(output)
    if outputs is None:
        found = [output] if isinstance(output, Tensor) else [_entry(output, key) for key in _KEYS]
        logits = next((one for one in found if one is not None), None)
    elif callable(outputs):
        logits = outputs(output)
    elif isinstance(outputs, int) and not isinstance(output, Mapping):
        logits = output[outputs] if not isinstance(output, Tensor) and len(output) > outputs else None
    else:
        logits = _entry(output, outputs)
    if not isinstance(logits, Tensor):
        what = "no logits are known" if outputs is None else f"{outputs!r} is no tensor"
        raise ValueError(
            f"the model returns {_describe(output)}, in which {what}. Say where they are: outputs='logits' for a key "
            "or attribute, outputs=0 for a place in a tuple, or outputs=lambda output: a tensor."
        )
    return logits


def _entry(output: Any, key: Any) -> Any:
    if isinstance(output, Mapping):
        return output.get(key)
    return getattr(output, key, None) if isinstance(key, str) and not isinstance(output, Tensor) else None


def _describe(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with the keys {list(output)}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"one {type(output).__name__}"
