"""Wrong answers to exercise 04, task 3: what is called an angle and is none."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ...losses import rkd_angle_loss
from . import Slip
from .relations import gram


def _cosines(points: Tensor) -> Tensor:
    directions = F.normalize(points[None] - points[:, None], dim=2)  # (B, B, D): from i to j
    return directions @ directions.mT  # (B, B, B)


def _angle_with(
    *, measure: Callable = _cosines, prepare: Callable = lambda x: x, compare: Callable = F.smooth_l1_loss
) -> Callable:
    return lambda student, teacher: compare(measure(prepare(student)), measure(prepare(teacher)))


def _unit(points: Tensor) -> Tensor:
    return F.normalize(points, dim=1)


def _undirected(points: Tensor) -> Tensor:
    differences = points[None] - points[:, None]
    return differences @ differences.mT


def _divided_by_zero(points: Tensor) -> Tensor:
    differences = points[None] - points[:, None]
    directions = differences / differences.norm(dim=2, keepdim=True)
    return directions @ directions.mT


def _distinct_mean(student: Tensor, teacher: Tensor) -> Tensor:
    count = len(student)
    return rkd_angle_loss(student, teacher) * count**3 / (count * (count - 1) * (count - 2))


ANGLE = {
    "still Gram": Slip(
        "These are still inner products of two samples, a Gram matrix. An angle needs three: one is the vertex, and "
        "what counts are the directions from it to the other two (trap 34).",
        *(
            _angle_with(measure=measure, prepare=prepare, compare=compare)
            for measure in (gram, lambda x: gram(x) / gram(x).max(), lambda x: gram(x) / gram(x).norm())
            for prepare in (_unit, lambda x: x, lambda x: x - x.mean(dim=0), lambda x: _unit(x - x.mean(dim=0)))
            for compare in (F.mse_loss, F.smooth_l1_loss)
        ),
    ),
    "normalised": Slip(
        "The embeddings were normalised first. That moves every sample onto a sphere and changes the angles.",
        _angle_with(prepare=_unit),
    ),
    "squared errors": Slip("Squared errors came; asked for is the Huber loss with threshold 1.",
                           _angle_with(compare=F.mse_loss)),
    "half squared errors": Slip("Half the squared error came; the Huber loss grows linearly beyond 1.",
                                _angle_with(compare=lambda s, t: F.mse_loss(s, t) / 2)),
    "absolute errors": Slip("Absolute errors came; asked for is the Huber loss with threshold 1.",
                            _angle_with(compare=F.l1_loss)),
    "no unit directions": Slip(
        "The directions are not of length 1, so these are inner products of differences and grow with the distances.",
        _angle_with(measure=_undirected),
        _angle_with(measure=_undirected, compare=F.mse_loss),
    ),
    "wrong axis": Slip(
        "The directions are scaled along another axis than their own D numbers: dim=2 is the one.",
        _angle_with(measure=lambda x: (lambda d: d @ d.mT)(F.normalize(x[None] - x[:, None], dim=1))),
        _angle_with(measure=lambda x: (lambda d: d @ d.mT)(F.normalize(x[None] - x[:, None], dim=0))),
    ),
    "sum": Slip(
        "The loss is summed over the triplets: a batch twice as large would mean eight times the step.",
        _angle_with(compare=lambda s, t: F.smooth_l1_loss(s, t, reduction="sum")),
    ),
    "distinct": Slip(
        "Only triplets of three different samples were counted. Asked for is the mean over all B³ entries.",
        _distinct_mean,
    ),
    "radians": Slip(
        "Angles in radians were compared. Asked for are their cosines, whose slope stays finite at 0.",
        _angle_with(measure=lambda x: _cosines(x).clamp(-1, 1).acos()),
    ),
    "absolute cosines": Slip("The cosines lost their sign: angles of 60° and 120° are no longer told apart.",
                             _angle_with(measure=lambda x: _cosines(x).abs()),
                             _angle_with(measure=lambda x: _cosines(x).square())),
    "one vertex": Slip(
        "Only one sample serves as the vertex. Every sample is a vertex once.",
        _angle_with(measure=lambda x: _cosines(x)[0]),
        _angle_with(measure=lambda x: _cosines(x)[-1]),
    ),
    "from the centre": Slip(
        "The vertex of all angles is the mean of the samples. Every sample has to be the vertex.",
        _angle_with(measure=lambda x: gram(_unit(x - x.mean(dim=0)))),
    ),
    "not finite": Slip(
        "The loss is not finite: the direction of a sample to itself has length 0, and was divided by it.",
        _angle_with(measure=_divided_by_zero),
    ),
}  # fmt: skip
