"""The parts of a batch, whatever shape a loader gives it: inputs, labels, then the rest. Chapter 13.

Inputs are a tensor, or a dict from argument name to tensor, as language models take.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Unpack = Callable[[Any], Sequence[Any]]
LABEL_KEYS = ("labels", "label", "targets", "target")
IGNORED = -100  # the label of a token or pixel that does not count, as in torch and transformers


def unpack_batch(batch: Any) -> tuple[Any, ...]:
    """Turn a batch of a loader into a tuple: inputs, labels, then whatever else there is.

    Parameters
    ----------
    batch : Tensor, sequence, or mapping
        A tensor is inputs alone. A tuple or list stays as it is. Of a mapping, the entry ``labels``, ``label``,
        ``targets`` or ``target`` is the labels, and the others are the inputs: a dict of keyword arguments for the
        model, or the tensor itself if there is only one.

    Returns
    -------
    tuple

    Raises
    ------
    ValueError
        If a mapping has no labels under a known name or nothing else, or the batch is of another kind.

    Examples
    --------
    >>> batch = {"input_ids": torch.ones(2, 5), "attention_mask": torch.ones(2, 5), "labels": torch.tensor([0, 1])}
    >>> inputs, labels = unpack_batch(batch)
    >>> list(inputs), labels
    (['input_ids', 'attention_mask'], tensor([0, 1]))
    """
    if isinstance(batch, Tensor):
        return (batch,)
    if isinstance(batch, Mapping):
        present = [name for name in LABEL_KEYS if name in batch]
        inputs = {str(name): value for name, value in batch.items() if name not in present}
        if len(present) != 1 or not inputs:
            raise ValueError(
                f"a batch that is a dict needs inputs and one of {', '.join(LABEL_KEYS)}, got the keys {list(batch)}. "
                "Say which is which: unpack=lambda batch: (batch['image'], batch['class'])."
            )
        return (next(iter(inputs.values())) if len(inputs) == 1 else inputs), batch[present[0]]
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) > 0:
        return tuple(batch)
    raise ValueError(
        f"a batch is a tensor, a tuple (inputs, labels, ...) or a dict, got {type(batch).__name__}. For anything else "
        "say how it is read: unpack=lambda batch: (inputs, labels)."
    )


def to_device(part: Any, device: torch.device | str) -> Any:
    """Move tensors to a device, inside mappings, lists and tuples too; NumPy arrays become tensors.

    Examples
    --------
    >>> to_device({"pixels": torch.zeros(2), "name": "a"}, "cpu")
    {'pixels': tensor([0., 0.]), 'name': 'a'}
    """
    if isinstance(part, Mapping):
        return {name: to_device(value, device) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [to_device(value, device) for value in part]
    return as_tensor(part).to(device, non_blocking=True) if is_array(part) else part


def is_array(value: Any) -> bool:
    """Whether a value is a tensor or a NumPy array.

    Examples
    --------
    >>> is_array(torch.zeros(2)), is_array([0.0, 0.0])
    (True, False)
    """
    return isinstance(value, Tensor) or (type(value).__module__ == "numpy" and hasattr(value, "dtype"))


def as_tensor(array: Any) -> Tensor:
    """Return a tensor as it is, and a NumPy array as a tensor; double precision becomes torch's default.

    Examples
    --------
    >>> import numpy
    >>> as_tensor(numpy.array([0.5])), as_tensor(numpy.array([1]))
    (tensor([0.5000]), tensor([1]))
    """
    if isinstance(array, Tensor):
        return array
    tensor = torch.as_tensor(array)
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def length_of(batch: Any) -> int:
    """Count the samples of a batch, or of a part of it.

    Examples
    --------
    >>> length_of(({"input_ids": torch.ones(3, 5)}, torch.arange(3)))
    3
    """
    if isinstance(batch, tuple):
        return length_of(batch[0])
    if isinstance(batch, Mapping):
        return length_of(next(iter(batch.values())))
    return len(batch)


def split_batch(batch: Sequence[Any], pieces: int) -> list[tuple[tuple[Any, ...], Tensor | float]]:
    """Split a batch into pieces, each with its share of the whole.

    The share is that of the samples. With a label for each token or pixel, it is that of the labels that count: then
    the weighted mean of the pieces' means is the mean of the whole.

    Examples
    --------
    >>> batch = torch.rand(5, 3), torch.tensor([[0, 1], [2, -100], [0, -100], [1, 1], [2, 2]])
    >>> [(len(piece[0]), round(float(share), 3)) for piece, share in split_batch(batch, 2)]
    [(3, 0.5), (2, 0.5)]
    """
    size = length_of(tuple(batch))
    step = -(-size // pieces)
    parts = [tuple(_slice(part, start, start + step) for part in batch) for start in range(0, size, step)]
    counts = [_count(part) for part in parts]
    return [(part, count / sum(counts)) for part, count in zip(parts, counts, strict=True)]


def _slice(part: Any, start: int, stop: int) -> Any:
    if isinstance(part, Mapping):
        return {name: _slice(value, start, stop) for name, value in part.items()}
    return part[start:stop]


def _count(piece: tuple[Any, ...]) -> Any:
    labels = piece[1] if len(piece) > 1 else None
    if isinstance(labels, Tensor) and labels.dim() > 1 and labels.dtype == torch.long:
        return (labels != IGNORED).sum().clamp(min=1)
    return length_of(piece)
