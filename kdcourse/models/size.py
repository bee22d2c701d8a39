"""How large a model is, and how fast. Chapters 01, 12 and 13."""

import io
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .modes import evaluating
from .outputs import call
from .quantised import QuantisedLinear


def count_parameters(model: nn.Module) -> int:
    """Return the number of weights and biases, those of quantised layers too.

    Examples
    --------
    >>> count_parameters(nn.Linear(10, 3))
    33
    """
    packed = sum(module.parameter_count for module in model.modules() if isinstance(module, QuantisedLinear))
    return packed + sum(tensor.numel() for tensor in [*model.parameters(), *_quantised_weights(model)])


def size_in_bytes(model: nn.Module) -> int:
    """Return the bytes that parameters, buffers and quantised weights take as they are stored now.

    Examples
    --------
    >>> size_in_bytes(nn.Linear(10, 3)), size_in_bytes(nn.Linear(10, 3).half())
    (132, 66)
    """
    return sum(map(_bytes_of, [*model.parameters(), *model.buffers(), *_quantised_weights(model)]))


def saved_size_in_bytes(model: nn.Module) -> int:
    """Return the size of the file that ``torch.save(model.state_dict(), path)`` writes.

    It is a little more than :func:`size_in_bytes`, because the file also holds names, shapes and padding.

    Examples
    --------
    >>> model = nn.Linear(784, 100)
    >>> 0 < saved_size_in_bytes(model) - size_in_bytes(model) < 3000
    True
    """
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return len(file.getvalue())


class ModelCost(NamedTuple):
    """What a model costs.

    Attributes
    ----------
    parameters : int
        Weights and biases, those of quantised layers too.
    bytes : int
        What they and the buffers take as they are stored now.
    milliseconds : float
        Median time of a forward pass.
    spread : float
        Milliseconds between the first and the third quartile: a difference between two models that is not clearly
        larger says nothing.

    Examples
    --------
    >>> ModelCost(parameters=33, bytes=132, milliseconds=0.02, spread=0.001).bytes
    132
    """

    parameters: int
    bytes: int
    milliseconds: float
    spread: float


def measure_models(models: Mapping[str, nn.Module], inputs: Any, *, repeats: int = 30) -> dict[str, ModelCost]:
    """Measure the size and the latency of several models, such as teacher, student, and the student quantised.

    The models take turns, so that what else the machine does hits all of them alike.

    Parameters
    ----------
    models : mapping from str to nn.Module
        Asked in evaluation mode; their own modes are restored.
    inputs : Tensor or mapping
        One batch, on the device of the models. A batch of one measures what a user waits for.
    repeats : int
        Timed passes of each model, after three that are not timed.

    Returns
    -------
    dict from str to ModelCost

    Raises
    ------
    ValueError
        If there are no models, or ``repeats`` is below 2.

    Examples
    --------
    >>> costs = measure_models({"teacher": nn.Linear(10, 30), "student": nn.Linear(10, 3)}, torch.rand(1, 10))
    >>> costs["teacher"].parameters, costs["student"].bytes, costs["student"].milliseconds > 0
    (330, 132, True)
    """
    if not models or repeats < 2:
        raise ValueError(f"measure_models needs a model and two repeats or more, got {len(models)} and {repeats}.")
    times: dict[str, list[float]] = {name: [] for name in models}
    with evaluating(*models.values()):
        for repeat in range(repeats + 3):
            for name, model in models.items():
                milliseconds = _time(model, inputs)
                if repeat >= 3:
                    times[name].append(milliseconds)
    return {
        name: ModelCost(
            count_parameters(model), size_in_bytes(model), statistics.median(times[name]), _quartile_range(times[name])
        )
        for name, model in models.items()
    }


def _time(model: nn.Module, inputs: Any) -> float:
    first = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    wait = torch.cuda.synchronize if first.is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    call(model, inputs)
    wait()
    return 1000 * (time.perf_counter() - start)


def _quartile_range(times: list[float]) -> float:
    first, _, third = statistics.quantiles(times, n=4)
    return third - first


def _bytes_of(tensor: Tensor) -> int:
    """Bytes of a tensor, or of all tensors that a wrapping one such as torchao's holds."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return tensor.numel() * tensor.element_size()
    names, _ = flatten()
    return sum(_bytes_of(getattr(tensor, name)) for name in names)


def _quantised_weights(model: nn.Module) -> Iterator[Tensor]:
    """Weights and biases that quantised layers keep packed, where ``parameters`` does not see them."""
    for module in model.modules():
        unpack_weight, unpack_bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if hasattr(module, "_packed_params") and callable(unpack_weight) and callable(unpack_bias):
            yield from (tensor for tensor in (unpack_weight(), unpack_bias()) if tensor is not None)
