"""Wrong answers to exercise 07, task 3: an order from easy to hard."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Slip


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _curriculum(
    teacher_logits: Tensor, labels: Tensor, *, share: float, difficulty: Callable[[Tensor, Tensor], Tensor] = _losses,
    rounding: Callable[[float], int] = math.ceil, descending: bool = False,
) -> Tensor:  # fmt: skip
    order = difficulty(teacher_logits, labels).argsort(descending=descending)
    return order[: rounding(share * len(labels))]


def _with(**changes: Any) -> Callable:
    return lambda z, y, *, share: _curriculum(z, y, share=share, **changes)


def _count(y: Tensor, share: float) -> int:
    return math.ceil(share * len(y))


def _mask(z: Tensor, y: Tensor, *, share: float) -> Tensor:
    chosen = torch.zeros(len(y))
    chosen[_curriculum(z, y, share=share)] = 1
    return chosen


def _threshold(z: Tensor, y: Tensor, *, share: float) -> Tensor:
    """Take what has at most this share of the largest loss."""
    losses = _losses(z, y)
    order = losses.argsort()
    return order[: int((losses <= share * losses.max()).sum())]


CURRICULUM = {
    "hardest first": Slip(
        "The hardest come first: an anti-curriculum. A large loss means hard.", _with(descending=True)
    ),
    "easiest last": Slip(
        "The right images, with the hardest of them first. The easiest must come first.",
        lambda z, y, *, share: _curriculum(z, y, share=share).flip(0),
    ),
    "hardest kept": Slip(
        "The order is right, but the hardest share was kept instead of the easiest.",
        lambda z, y, *, share: _losses(z, y).argsort()[-_count(y, share) :],
    ),
    "sureness": Slip(
        "The order is by how sure the teacher is, whatever it is sure of: an image on which it is wrong and sure "
        "counts as easy. The label must have a say.",
        _with(difficulty=lambda z, y: -z.softmax(dim=1).amax(dim=1)),
        _with(difficulty=lambda z, y: -z.amax(dim=1)),
        _with(difficulty=lambda z, y: -(z.topk(2).values[:, 0] - z.topk(2).values[:, 1])),
    ),
    "entropy": Slip(
        "The order is by the teacher's entropy, which knows no label: wrong and sure counts as easy.",
        _with(difficulty=lambda z, y: torch.special.entr(z.softmax(dim=1)).sum(dim=1)),
    ),
    "logit": Slip(
        "The order is by the label's logit. Without the other classes' logits it says little: the softmax compares.",
        _with(difficulty=lambda z, y: -z.gather(1, y[:, None])[:, 0]),
    ),
    "right or wrong": Slip(
        "Only right and wrong are told apart. How wrong the teacher is, its cross-entropy says.",
        lambda z, y, *, share: (z.argmax(dim=1) != y).int().argsort(stable=True)[: _count(y, share)],
    ),
    "softmax twice": Slip(
        "A softmax is taken twice: cross_entropy takes logits, and takes their softmax by itself.",
        _with(difficulty=lambda z, y: _losses(z.softmax(dim=1), y)),
    ),
    "rounded down": Slip("The share was rounded down. Asked for is up to whole images.", _with(rounding=int)),
    "rounded": Slip("The share was rounded to the nearest number. Asked for is up.", _with(rounding=round)),
    "one too many": Slip(
        "There is an image too many or too few: a 1 was added to the share's number, or taken away.",
        _with(rounding=lambda count: math.ceil(count) + 1),
        _with(rounding=lambda count: math.ceil(count) - 1),
        _with(rounding=lambda count: int(count) + 1),
    ),
    "loss as threshold": Slip(
        "The share was taken of the largest loss. Asked for is a share of the images.", _threshold
    ),
    "losses": Slip(
        "These are losses. Asked for are the positions of the images.",
        lambda z, y, *, share: _losses(z, y).sort().values[: _count(y, share)],
        lambda z, y, *, share: _losses(z, y)[: _count(y, share)],
    ),
    "ranks": Slip(
        "These are ranks: which place each image has. Asked for is which image has each place.",
        lambda z, y, *, share: _losses(z, y).argsort().argsort()[: _count(y, share)],
    ),
    "labels": Slip(
        "These are labels of the images. Asked for are their positions.",
        lambda z, y, *, share: y[_curriculum(z, y, share=share)],
    ),
    "data order": Slip(
        "The right images, but in the order of the data. The easiest must come first.",
        lambda z, y, *, share: _curriculum(z, y, share=share).sort().values,
    ),
    "mask": Slip("A mask came. Asked for are positions, the easiest first.", _mask),
    "all": Slip("All images came back, the share was not used.", lambda z, y, *, share: _curriculum(z, y, share=1.0)),
    "not sorted": Slip(
        "This is the data in its own order: nothing was sorted (trap 55).",
        lambda z, y, *, share: torch.arange(_count(y, share)),
    ),
    "share sorted": Slip(
        "The share was cut off before sorting: only the first images of the data could be chosen.",
        lambda z, y, *, share: _losses(z, y)[: _count(y, share)].argsort(),
    ),
}
