"""Wrong answers to exercise 01, task 2: accuracy and size."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...models import count_parameters, size_in_bytes
from . import Slip


def _accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int,
    mode: bool | None = False, of_batches: bool = False, drop_last: bool = False, divide_by_all: bool = False,
) -> Tensor:  # fmt: skip
    model.train(model.training if mode is None else mode)
    with torch.no_grad():
        pairs = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        right = [(model(some).argmax(dim=1) == their_labels).double() for some, their_labels in pairs]
    right = [batch for batch in right if len(batch) == batch_size or not drop_last]
    if divide_by_all:
        return torch.cat(right).sum() / len(labels)
    return torch.stack([batch.mean() for batch in right]).mean() if of_batches else torch.cat(right).mean()


def _with(transform: Callable = lambda share, labels, size: share, **changes: Any) -> Callable:
    return lambda model, images, labels, *, batch_size: transform(
        _accuracy(model, images, labels, batch_size=batch_size, **changes), labels, batch_size
    )


def _batches(labels: Tensor, size: int) -> int:
    return math.ceil(len(labels) / size)


IN_TRAINING_MODE = (
    "The model answers in training mode: dropout and batch statistics are on, so that this is not what it does in use "
    "(trap 11)."
)
ACCURACY = {
    "both": Slip(
        "The model answers in training mode, and the batches' means are averaged (traps 10 and 11).",
        _with(mode=True, of_batches=True),
        _with(mode=None, of_batches=True),
    ),
    "mean of batches": Slip(
        "This is the mean of the batches' means: the images of the small last batch count more than the others "
        "(trap 10).",
        _with(of_batches=True),
    ),
    "training mode": Slip(IN_TRAINING_MODE, _with(mode=True), _with(mode=None)),
    "no last batch": Slip(
        "The small last batch never runs, or is left out. Its images count as well.",
        _with(drop_last=True),
        _with(drop_last=True, divide_by_all=True),
        _with(drop_last=True, of_batches=True),
        _with(lambda share, labels, size: share * (len(labels) // size) / _batches(labels, size),
              drop_last=True, of_batches=True),
    ),
    "errors": Slip("This is the share of wrong answers, not of right ones.", _with(lambda share, *_: 1 - share)),
    "percent": Slip("This is in percent. A share between 0 and 1 is asked for.", _with(lambda share, *_: 100 * share)),
    "count": Slip(
        "This counts the right answers; their share of all images is asked for.",
        _with(lambda share, labels, size: share * len(labels)),
    ),
    "wrong divisor": Slip(
        "The count of right answers is divided by the number of batches, or by a full last batch, not by the number of "
        "images.",
        _with(lambda share, labels, size: share * len(labels) / _batches(labels, size)),
        _with(lambda share, labels, size: share * len(labels) / (_batches(labels, size) * size)),
        _with(lambda share, labels, size: share * len(labels) / size),
    ),
    "first batch": Slip(
        "Only the first batch counts: does a return stand inside the loop?",
        lambda model, images, labels, *, batch_size: _accuracy(
            model, images[:batch_size], labels[:batch_size], batch_size=batch_size
        ),
    ),
    "no first batch": Slip(
        "The first batch is left out. Its images count as well.",
        lambda model, images, labels, *, batch_size: _accuracy(
            model, images[batch_size:], labels[batch_size:], batch_size=batch_size
        ),
        lambda model, images, labels, *, batch_size: _accuracy(
            model, images[batch_size:], labels[batch_size:], batch_size=batch_size
        ) * (1 - batch_size / len(labels)),
    ),
    "last batch": Slip(
        "Only the last batch counts: were the others' results overwritten?",
        lambda model, images, labels, *, batch_size: _accuracy(
            model, images.split(batch_size)[-1], labels.split(batch_size)[-1], batch_size=batch_size
        ),
    ),
}  # fmt: skip


def _size(model: nn.Module) -> tuple[int, int]:
    return count_parameters(model), size_in_bytes(model)


def _numbers(tensors: Any) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _all(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


NO_BUFFERS = (
    "The bytes leave out the buffers: the running mean and variance of a batch normalisation are not learned, but "
    "stored."
)
FOUR_BYTES = "Every number is taken to have 4 bytes; in half precision it has 2, and the counter of batches has 8."
SIZE = {
    "frozen": Slip(
        "Only what is trained is counted: a frozen layer is as large as any other.",
        lambda model: (_numbers(_trained(model)), _size(model)[1]),
    ),
    "frozen, bytes too": Slip(
        "Only what is trained is counted, in bytes too: a frozen layer is as large as any other.",
        lambda model: 2 * (_numbers(_trained(model)),),
        lambda model: (_numbers(_trained(model)), _bytes([*_trained(model), *model.buffers()])),
        lambda model: (_numbers(_trained(model)), _bytes(_trained(model))),
        lambda model: (_size(model)[0], _bytes([*_trained(model), *model.buffers()])),
    ),
    "tensors": Slip(
        "These are numbers of tensors. A tensor holds many parameters.",
        lambda model: (len(list(model.parameters())), _size(model)[1]),
    ),
    "weights only": Slip(
        "The biases are left out: they are parameters too.",
        lambda model: (_numbers(p for p in model.parameters() if p.dim() > 1), _size(model)[1]),
        lambda model: (_numbers(p for n, p in model.named_parameters() if "bias" not in n), _size(model)[1]),
    ),
    "buffers counted": Slip(
        "Buffers are counted as parameters. They are stored, but nothing learns them.",
        lambda model: (_numbers(_all(model)), _size(model)[1]),
    ),
    "no buffers": Slip(NO_BUFFERS, lambda model: (count_parameters(model), _bytes(model.parameters()))),
    "buffers only": Slip(
        "The bytes are those of the buffers alone; the parameters are stored as well.",
        lambda model: (count_parameters(model), _bytes(model.buffers())),
    ),
    "four bytes": Slip(FOUR_BYTES, lambda model: (count_parameters(model), 4 * _numbers(_all(model)))),
    "four bytes, no buffers": Slip(
        f"{NO_BUFFERS} {FOUR_BYTES}", lambda model: (count_parameters(model), 4 * count_parameters(model))
    ),
    "numbers": Slip(
        "The second number counts numbers, not their bytes: each takes element_size() bytes.",
        lambda model: (count_parameters(model), _numbers(_all(model))),
        lambda model: (count_parameters(model), count_parameters(model)),
    ),
    "bits": Slip("The size is in bits; bytes are asked for.", lambda model: (_size(model)[0], 8 * _size(model)[1])),
    "kilobytes": Slip(
        "The size is in kilobytes or megabytes; bytes are asked for.",
        *(lambda model, unit=unit: (_size(model)[0], _size(model)[1] / unit) for unit in (1e3, 1024, 1e6, 1024**2)),
    ),
    "swapped": Slip(
        "The two numbers are swapped: parameters first, then bytes.", lambda model: _size(model)[::-1]
    ),
}  # fmt: skip
