"""How large a model is. Chapter 01."""

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Return the number of weights and biases."""
    return sum(parameter.numel() for parameter in model.parameters())


def size_in_bytes(model: nn.Module) -> int:
    """Return the bytes that parameters and buffers take as they are stored now."""
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
