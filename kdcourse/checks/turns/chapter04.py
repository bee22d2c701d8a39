# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 04: distances in units of their mean, the cosine at a corner, rows of a Gram matrix."""

import torch
import torch.nn.functional as F

from ..cases import Case, new_generator, random_sizes, random_tensor
from ..slips import Slip
from . import compared


def in_mean_distances(d):
    """Return distances in units of their mean."""
    return d / d[d > 0].mean()  # (B, B): the zeros of the diagonal do not count


def cosine_at(corner, left, right):
    """Return the cosine of the angle at each corner."""
    u = F.normalize(left - corner, dim=1)  # (N, D): from the corner to the left, length 1
    v = F.normalize(right - corner, dim=1)  # (N, D)
    return (u * v).sum(dim=1)  # (N,)


def similarity_rows(x):
    """Return the Gram matrix with rows of length 1."""
    return F.normalize(x @ x.T, dim=1)  # (B, B)


def _distances() -> list[Case]:
    generator = new_generator(None)
    points = [random_tensor(generator, size, 5, scale=scale) for size, scale in ((5, 3.0), (8, 0.2), (11, 1.0))]
    return [Case((torch.linalg.vector_norm(x[:, None] - x[None], dim=2),)) for x in points]


def _triplets() -> list[Case]:
    generator = new_generator(None)
    cases = []
    for _ in range(3):
        sizes = random_sizes(generator, (4, 9), (3, 8))
        cases.append(Case(tuple(random_tensor(generator, *sizes) + shift for shift in (1, 0, 0.5))))
    return cases


def _embeddings() -> list[Case]:
    generator = new_generator(None)
    sizes = [random_sizes(generator, (4, 9), (3, 12)) for _ in range(3)]
    return [Case((random_tensor(generator, *size, scale=2.0) + 0.5,)) for size in sizes]


def _between(d):
    return d[~torch.eye(len(d), dtype=torch.bool)]


DISTANCE_SLIPS = {
    "largest": Slip(
        "The distances are divided by the largest one: then a single stray image sets the scale of all.",
        lambda d: d / d.max(),
    ),
    "diagonal counted": Slip(
        "The mean counts the B zeros of the diagonal too. No image is compared with itself: leave them out.",
        lambda d: d / d.mean(),
    ),
    "sum": Slip(
        "The distances are divided by their sum: in a larger batch they would all be smaller.",
        lambda d: d / d.sum(),
    ),
    "row by row": Slip(
        "Each row is divided by its own mean. One number, the mean of all, sets the scale.",
        lambda d: d / d.mean(dim=1, keepdim=True),
        lambda d: d / (d.sum(dim=1, keepdim=True) / (len(d) - 1)),
    ),
    "median": Slip(
        "The distances are divided by their median; asked for is their mean.",
        lambda d: d / d.median(),
        lambda d: d / _between(d).median(),
    ),
    "deviation": Slip(
        "The distances are divided by their standard deviation; asked for is their mean.",
        lambda d: d / d.std(),
        lambda d: d / _between(d).std(),
    ),
    "no scale": Slip("These are the distances as they came: nothing is divided.", lambda d: d),
    "subtracted": Slip(
        "The mean is subtracted. Divide by it: a network with embeddings ten times as large must give the same.",
        lambda d: d - _between(d).mean(),
    ),
}

COSINE_SLIPS = {
    "from the origin": Slip(
        "This is the angle as seen from the origin. Subtract the corner first: the directions lead from it to the two "
        "others.",
        lambda corner, left, right: F.cosine_similarity(left, right, dim=1),
    ),
    "not normalised": Slip(
        "The directions keep their lengths, so this is an inner product, not a cosine. Give both length 1.",
        lambda corner, left, right: ((left - corner) * (right - corner)).sum(dim=1),
    ),
    "one normalised": Slip(
        "Only one of the two directions has length 1.",
        lambda corner, left, right: (F.normalize(left - corner, dim=1) * (right - corner)).sum(dim=1),
        lambda corner, left, right: ((left - corner) * F.normalize(right - corner, dim=1)).sum(dim=1),
    ),
    "normalised first": Slip(
        "The points were normalised before the subtraction, which moves them. The directions get length 1.",
        lambda corner, left, right: cosine_at(*(F.normalize(x, dim=1) for x in (corner, left, right))),
        lambda corner, left, right: (
            (F.normalize(left, dim=1) - F.normalize(corner, dim=1))
            * (F.normalize(right, dim=1) - F.normalize(corner, dim=1))
        ).sum(dim=1),
    ),
    "another corner": Slip(
        "This is the angle at another corner: both directions start at `corner`.",
        lambda corner, left, right: cosine_at(left, corner, right),
        lambda corner, left, right: cosine_at(right, left, corner),
    ),
    "sign": Slip(
        "The sign is the other way round: one direction leads to the corner, the other away from it.",
        lambda corner, left, right: -cosine_at(corner, left, right),
    ),
    "angle itself": Slip(
        "This is the angle itself, or its sine. The loss compares cosines: `acos` has an infinite slope at 1.",
        lambda corner, left, right: cosine_at(corner, left, right).clamp(-1, 1).acos(),
        lambda corner, left, right: cosine_at(corner, left, right).clamp(-1, 1).acos().rad2deg(),
        lambda corner, left, right: cosine_at(corner, left, right).clamp(-1, 1).acos().sin(),
    ),
    "one number": Slip(
        "One number came for all triplets. Each has an angle of its own: sum over dim=1 only.",
        lambda corner, left, right: cosine_at(corner, left, right).sum(),
        lambda corner, left, right: cosine_at(corner, left, right).mean(),
    ),
    "over the batch": Slip(
        "The sum runs over the triplets. dim=1 is the axis of the D numbers.",
        lambda corner, left, right: (F.normalize(left - corner, dim=1) * F.normalize(right - corner, dim=1)).sum(dim=0),
        lambda corner, left, right: F.cosine_similarity(left - corner, right - corner, dim=0),
    ),
    "mean": Slip(
        "D times too small: an inner product is a sum over the D numbers, not their mean.",
        lambda corner, left, right: cosine_at(corner, left, right) / corner.shape[1],
    ),
    "every pair": Slip(
        "Each direction meets those of all other triplets, (N, N). Multiply number by number, then sum over dim=1.",
        lambda corner, left, right: F.normalize(left - corner, dim=1) @ F.normalize(right - corner, dim=1).T,
    ),
}

ROW_SLIPS = {
    "cosines": Slip(
        "Each image was normalised before the product: that is the cosine similarity, in which lengths are lost. "
        "Normalise the rows of the product.",
        lambda x: F.normalize(x, dim=1) @ F.normalize(x, dim=1).T,
    ),
    "normalised twice": Slip(
        "Each image was normalised before the product as well. Only the rows of the product get length 1.",
        lambda x: F.normalize(F.normalize(x, dim=1) @ F.normalize(x, dim=1).T, dim=1),
    ),
    "not normalised": Slip(
        "This is the Gram matrix itself: its rows do not have length 1 yet.",
        lambda x: x @ x.T,
    ),
    "whole matrix": Slip(
        "The matrix is divided by its whole norm, as in the Gram loss. Here each row has length 1.",
        lambda x: x @ x.T / (x @ x.T).norm(),
    ),
    "columns": Slip("The columns have length 1, not the rows: dim=1.", lambda x: F.normalize(x @ x.T, dim=0)),
    "sum 1": Slip(
        "The rows sum to 1 (a softmax or a sum of absolute values). Length 1 is Euclidean: the squares sum to 1.",
        lambda x: F.normalize(x @ x.T, p=1, dim=1),
        lambda x: (x @ x.T).softmax(dim=1),
    ),
    "largest 1": Slip(
        "The rows are divided by their largest number, or the matrix by its own; asked for is length 1.",
        lambda x: x @ x.T / (x @ x.T).amax(dim=1, keepdim=True),
        lambda x: x @ x.T / (x @ x.T).max(),
    ),
    "over the numbers": Slip(
        "This compares the D numbers with each other, (D, D). Images are rows: x @ x.T has one entry for each pair.",
        lambda x: F.normalize(x.T @ x, dim=1),
        lambda x: x.T @ x,
    ),
    "centred": Slip(
        "The mean of the batch was subtracted first. Asked for are the inner products as they are.",
        lambda x: similarity_rows(x - x.mean(dim=0)),
    ),
}

TURNS = {
    "04.distances": compared(
        in_mean_distances,
        _distances,
        slips=DISTANCE_SLIPS,
        verified="Three random matrices of distances, each on another scale, have mean 1 off the diagonal.",
        note="`d.mean()` would count the zeros of the diagonal too, and every scaled distance would be too large.",
    ),
    "04.cosine": compared(
        cosine_at,
        _triplets,
        slips=COSINE_SLIPS,
        verified="The cosines of three random batches of triplets agree.",
        note="Without `- corner` it is the angle as seen from the origin, which changes when all points move.",
    ),
    "04.rows": compared(
        similarity_rows,
        _embeddings,
        slips=ROW_SLIPS,
        verified="The rows of three random Gram matrices have length 1.",
        note="Normalised before the product instead of after it, it is the cosine similarity: another loss (trap 37).",
    ),
}
