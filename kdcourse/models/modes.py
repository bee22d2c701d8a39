"""Evaluation mode for a while: the mode that each module had before comes back. Chapter 01."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models in evaluation mode without gradients; afterwards every module has the mode it had before.

    Examples
    --------
    >>> model = nn.Dropout()
    >>> with evaluating(model):
    ...     print(model.training, torch.is_grad_enabled())
    False False
    >>> model.training
    True
    """
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
