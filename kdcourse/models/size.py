"""How large a model is. Chapter 01."""

from collections.abc import Iterator

from torch import Tensor, nn


def count_parameters(model: nn.Module) -> int:
    """Return the number of weights and biases, those of quantised layers too.

    Examples
    --------
    >>> count_parameters(nn.Linear(10, 3))
    33
    """
    return sum(tensor.numel() for tensor in [*model.parameters(), *_quantised_weights(model)])


def size_in_bytes(model: nn.Module) -> int:
    """Return the bytes that parameters, buffers and quantised weights take as they are stored now.

    Examples
    --------
    >>> size_in_bytes(nn.Linear(10, 3)), size_in_bytes(nn.Linear(10, 3).half())
    (132, 66)
    """
    tensors = [*model.parameters(), *model.buffers(), *_quantised_weights(model)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _quantised_weights(model: nn.Module) -> Iterator[Tensor]:
    """Weights and biases that quantised layers keep packed, where ``parameters`` does not see them."""
    for module in model.modules():
        unpack_weight, unpack_bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if hasattr(module, "_packed_params") and callable(unpack_weight) and callable(unpack_bias):
            yield from (tensor for tensor in (unpack_weight(), unpack_bias()) if tensor is not None)
