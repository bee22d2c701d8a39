"""Wrong answers to exercise 04, relation distillation."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses import similarity_preserving_loss
from . import Slip


def _distances(points: Tensor) -> Tensor:
    return (points[:, None] - points[None]).norm(dim=2)  # (B, B)


def _off_diagonal_mean(distances: Tensor) -> Tensor:
    return distances.sum() / (distances > 0).sum()


def _distance_with(
    *, scale: Callable[[Tensor], Tensor] = _off_diagonal_mean, common: str = "", prepare: Callable = lambda x: x,
    measure: Callable[[Tensor], Tensor] = _distances, compare: Callable = F.smooth_l1_loss, factor: Any = 1,
) -> Callable:  # fmt: skip
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        s, t = measure(prepare(student)), measure(prepare(teacher))
        share = factor(len(student)) if callable(factor) else factor
        by_student, by_teacher = scale(s), scale(t)
        if common:
            by_student = by_teacher = by_teacher if common == "teacher" else by_student
        return share * compare(s / by_student, t / by_teacher)

    return wrong


def _triangle(distances: Tensor) -> Tensor:
    rows, columns = torch.triu_indices(len(distances), len(distances), offset=1)
    return distances[rows, columns]


def _off_diagonal(distances: Tensor) -> Tensor:
    return distances[~torch.eye(len(distances), dtype=torch.bool)]


def _row_means(distances: Tensor) -> Tensor:
    return distances.sum(dim=1, keepdim=True) / (len(distances) - 1)


DISTANCE = {
    "largest": Slip(
        "The distances are divided by the largest one: a single stray sample then sets the scale of all (trap 31).",
        _distance_with(scale=torch.max),
    ),
    "median": Slip("The distances are divided by their median. Asked for is the mean of those that are not zero.",
                   _distance_with(scale=lambda d: _off_diagonal(d).median()), _distance_with(scale=torch.median)),
    "deviation": Slip("The distances are divided by their standard deviation. Asked for is their mean.",
                      _distance_with(scale=torch.std), _distance_with(scale=lambda d: _off_diagonal(d).std())),
    "diagonal counted": Slip(
        "The mean includes the B distances of samples to themselves. They are 0 and say nothing: leave them out.",
        _distance_with(scale=torch.mean),
    ),
    "row by row": Slip(
        "Each row of distances is divided by its own mean. One number, the mean of all, sets the scale of a side.",
        _distance_with(scale=_row_means),
        _distance_with(scale=lambda d: d.mean(dim=1, keepdim=True)),
    ),
    "no scale": Slip(
        "Nothing is divided by the mean distance: a student on another scale would be punished for its scale alone.",
        _distance_with(scale=torch.ones_like),
    ),
    "sum": Slip(
        "The distances are divided by their sum, so that a larger batch has smaller ones. Divide by their mean.",
        _distance_with(scale=torch.sum),
    ),
    "norm": Slip("The distances are divided by the length of the whole matrix. Divide by their mean.",
                 _distance_with(scale=torch.norm)),
    "one scale": Slip(
        "Both sides are divided by the teacher's mean, or both by the student's. Each side has a scale of its own.",
        _distance_with(common="teacher"),
        _distance_with(common="student"),
    ),
    "squared distances": Slip(
        "Squared distances are compared: a pair twice as far apart counts four times.",
        _distance_with(measure=lambda x: _distances(x).square()),
    ),
    "city blocks": Slip(
        "Absolute differences were added up (p = 1). Asked for is the Euclidean distance.",
        _distance_with(measure=lambda x: (x[:, None] - x[None]).abs().sum(dim=2)),
    ),
    "cosines": Slip(
        "Cosines or inner products are compared, no distances.",
        _distance_with(measure=lambda x: F.normalize(x, dim=1) @ F.normalize(x, dim=1).T, scale=torch.ones_like),
        _distance_with(measure=lambda x: 1 - F.normalize(x, dim=1) @ F.normalize(x, dim=1).T, scale=torch.ones_like),
        _distance_with(measure=lambda x: x @ x.T, scale=torch.ones_like),
    ),
    "squared errors": Slip(
        "Squared errors came; asked for is the Huber loss with threshold 1, which grows linearly for large ones.",
        _distance_with(compare=F.mse_loss),
    ),
    "half squared errors": Slip(
        "Half the squared error came; the Huber loss is this up to 1, and grows linearly beyond.",
        _distance_with(compare=F.mse_loss, factor=0.5),
    ),
    "threshold": Slip("The Huber loss has another threshold; 1 is asked for.", *(
        _distance_with(compare=lambda s, t, beta=beta: F.smooth_l1_loss(s, t, beta=beta)) for beta in (0.1, 0.5, 2.0))),
    "absolute errors": Slip("Absolute errors came; asked for is the Huber loss with threshold 1.",
                            _distance_with(compare=F.l1_loss)),
    "without diagonal": Slip(
        "The mean is over the B(B-1) pairs of different samples. Asked for is the mean over all B² entries.",
        _distance_with(factor=lambda count: count / (count - 1)),
        _distance_with(compare=lambda s, t: F.smooth_l1_loss(_triangle(s), _triangle(t))),
    ),
    "pairs once": Slip(
        "Each pair counts once, and the sum is divided by B²: half of what was asked for.",
        _distance_with(factor=0.5),
    ),
    "sum of pairs": Slip(
        "The loss is summed over the pairs: a batch twice as large would mean four times the step.",
        _distance_with(factor=lambda count: count**2),
        _distance_with(factor=lambda count: count**2 / 2),
    ),
    "sum of rows": Slip(
        "The loss is summed in each row, or over the rows: a batch twice as large would mean twice the step.",
        _distance_with(factor=lambda count: count),
    ),
    "normalised": Slip(
        "The embeddings were normalised first. That moves every sample onto a sphere and changes the distances.",
        _distance_with(prepare=lambda x: F.normalize(x, dim=1)),
    ),
}  # fmt: skip


def gram(points: Tensor) -> Tensor:
    """Return the inner products of all pairs."""
    return points @ points.T


def _similarity_with(
    *, prepare: Callable = lambda x: x, rows: Callable = lambda g: F.normalize(g, dim=1),
    compare: Callable = lambda s, t: (s - t).square().mean(),
) -> Callable:  # fmt: skip
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        grams = [(lambda x: x @ x.T)(prepare(x.flatten(1))) for x in (student, teacher)]
        return compare(*map(rows, grams))

    return wrong


SIMILARITY = {
    "cosines": Slip(
        "The samples were normalised before the product, and nothing after it: that is the cosine similarity, another "
        "loss. The rows of the product get length 1.",
        _similarity_with(prepare=lambda x: F.normalize(x, dim=1), rows=lambda g: g),
    ),
    "normalised twice": Slip(
        "The samples were normalised before the product as well. Only the rows of the product get length 1.",
        _similarity_with(prepare=lambda x: F.normalize(x, dim=1)),
    ),
    "whole matrix": Slip(
        "The matrix was normalised as a whole, not row by row. That is the comparison of Gram matrices.",
        _similarity_with(rows=lambda g: g / g.norm()),
    ),
    "not normalised": Slip(
        "The rows of the product are not normalised: features twice as large make inner products four times as large.",
        _similarity_with(rows=lambda g: g),
    ),
    "columns": Slip("The columns of the product are normalised; for a symmetric matrix that gives the transposed rows, "
                    "and then something was compared with rows.",
                    lambda s, t: (F.normalize(gram(s.flatten(1)), dim=1) - F.normalize(gram(t.flatten(1)), dim=0))
                    .square().mean()),
    "sum 1": Slip(
        "The rows sum to 1 (a softmax or a sum of absolute values); asked for is Euclidean length 1.",
        _similarity_with(rows=lambda g: F.normalize(g, p=1, dim=1)),
        _similarity_with(rows=lambda g: g.softmax(dim=1)),
    ),
    "largest 1": Slip("The rows are divided by their largest number, or the matrix by its own; asked for is length 1.",
                      _similarity_with(rows=lambda g: g / g.amax(dim=1, keepdim=True)),
                      _similarity_with(rows=lambda g: g / g.max())),
    "sum": Slip(
        "The squares are summed over all B² entries: divide by their number.",
        _similarity_with(compare=lambda s, t: (s - t).square().sum()),
    ),
    "sum of rows": Slip(
        "The squares are summed in each row and averaged over rows: B times too large.",
        _similarity_with(compare=lambda s, t: (s - t).square().sum(dim=1).mean()),
    ),
    "norm": Slip(
        "This is the norm of the difference, not its square.",
        _similarity_with(compare=lambda s, t: (s - t).norm() / len(s) ** 2),
        _similarity_with(compare=lambda s, t: (s - t).norm()),
        _similarity_with(compare=lambda s, t: (s - t).norm() / len(s)),
    ),
    "absolute": Slip("Absolute differences came; squared ones are asked for.", _similarity_with(compare=F.l1_loss)),
    "Huber": Slip("The Huber loss came; squared differences are asked for.",
                  _similarity_with(compare=F.smooth_l1_loss)),
    "without diagonal": Slip("The diagonal is left out. Asked for is the mean over all B² entries.",
                             _similarity_with(compare=lambda s, t: _off_diagonal(s - t).square().mean())),
    "positions averaged": Slip(
        "Positions were averaged away before the product. Each sample is one row with all of its numbers.",
        lambda s, t: similarity_preserving_loss(s.mean(dim=(2, 3)), t.mean(dim=(2, 3))),
    ),
    "channels averaged": Slip(
        "Channels were averaged away before the product. Each sample is one row with all of its numbers.",
        lambda s, t: similarity_preserving_loss(s.mean(dim=1), t.mean(dim=1)),
    ),
    "centred": Slip(
        "The mean over samples was subtracted first. Asked for are inner products of the samples as they are.",
        _similarity_with(prepare=lambda x: x - x.mean(dim=0)),
    ),
    "distances": Slip(
        "Distances are compared. Asked for are inner products.",
        lambda s, t: (F.normalize(_distances(s.flatten(1)), dim=1) - F.normalize(_distances(t.flatten(1)), dim=1))
        .square().mean(),
    ),
}  # fmt: skip
