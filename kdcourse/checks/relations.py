"""Checks of exercise 04, relation distillation: two losses, the angles repaired, a picture of invariances, verdicts."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from ._core import (
    Case,
    CheckFailed,
    Question,
    Slip,
    check_answers,
    check_gradient,
    check_no_gradient,
    check_values,
    fail,
    new_generator,
    passed,
    random_tensor,
)
from ._verdicts import check_verdicts

_distance_loss, _angle_loss, _similarity_loss = (
    losses.rkd_distance_loss,
    losses.rkd_angle_loss,
    losses.similarity_preserving_loss,
)
_Tensor, _isfinite, _grad = torch.Tensor, torch.isfinite, torch.autograd.grad


def check_distance_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_embeddings, teacher_embeddings)`` of exercise 04, task 1.

    Parameters
    ----------
    function : callable
        Takes embeddings (B, D) and (B, D'); returns ``kdcourse.losses.rkd_distance_loss`` of them.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = _embedding_cases(generator)
    check_values(function, _distance_loss, cases, slips=DISTANCE_SLIPS)
    _check_finite_gradient(function, cases[0])
    check_gradient(function, cases[0], message=NO_GRADIENT, expected=_distance_loss)
    check_no_gradient(function, cases[0], argument=1, message=TEACHER_GRADIENT)
    far = Case(tuple(random_tensor(generator, 40, width) + 1000.0 for width in (6, 9)))
    try:
        check_values(function, _distance_loss, [far])
    except CheckFailed:
        fail(
            "Right near the origin and wrong far from it: the distances come from |x|² + |y|² - 2xy, whose rounding "
            "shows there. torch.cdist takes this shortcut above 25 rows by itself (trap 32)."
        )
    passed("Huber loss of distances, each side divided by its own mean, mean over B² pairs; gradients are finite.")


def check_similarity_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_features, teacher_features)`` of exercise 04, task 2.

    Parameters
    ----------
    function : callable
        Takes features (B, C, H, W) and (B, C', H', W'); returns ``kdcourse.losses.similarity_preserving_loss``.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = [
        Case((random_tensor(generator, b, 2, 3, 3) + 0.3, random_tensor(generator, b, 3, 2, 2) + 0.3)) for b in (5, 8)
    ]
    check_values(function, _similarity_loss, cases, slips=SIMILARITY_SLIPS)
    check_gradient(function, cases[0], message=NO_GRADIENT, expected=_similarity_loss)
    check_no_gradient(function, cases[0], argument=1, message=TEACHER_GRADIENT)
    passed("Inner products of flattened samples, each row of them at length 1, squared differences averaged over B².")


def check_angle_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_embeddings, teacher_embeddings)`` of exercise 04, task 3.

    Parameters
    ----------
    function : callable
        Takes embeddings (B, D) and (B, D'); returns ``kdcourse.losses.rkd_angle_loss`` of them.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of a mistake that is still there.
    """
    cases = _embedding_cases(new_generator(seed))
    check_values(function, _angle_loss, cases, slips=ANGLE_SLIPS)
    _check_finite_gradient(function, cases[0])
    check_gradient(function, cases[0], message=NO_GRADIENT, expected=_angle_loss)
    check_no_gradient(function, cases[0], argument=1, message=TEACHER_GRADIENT)
    passed("Cosines at every vertex between directions to two others, Huber, mean over B³: moving all points is free.")


def check_invariance_picture(answers: Any) -> None:
    """Check the three answers of exercise 04, task 4.

    Parameters
    ----------
    answers : sequence of three str
        Letters.

    Raises
    ------
    CheckFailed
        With what speaks against the first wrong letter.
    """
    check_answers(
        answers,
        Question(
            right="b",
            wrong={
                "a": "read the row 'moved' under these two: it is 0.",
                "c": "read the whole row 'moved': not every number in it is different from 0.",
            },
            because="inner products are taken from the origin, differences of points are not",
        ),
        Question(
            right="a",
            wrong={
                "b": "all four losses see all sixty samples; compare with the column 'distance'.",
                "c": "the Huber loss is on distances too, and there the stray sample costs most.",
            },
            because="however far the sample goes, the cosines of its triplets stay between -1 and 1",
        ),
        Question(
            right="c",
            wrong={
                "a": "look for rows that are 0 from end to end.",
                "b": "this row has the largest numbers of all.",
            },
            because="all four compare shapes up to size and direction; a student of any width may place them as it "
            "likes",
        ),
    )


def check_relation_verdicts(verdicts: Any, errors: Mapping[str, Any]) -> None:
    """Check the three verdicts of exercise 04, task 5, against paired 95 % intervals.

    Parameters
    ----------
    verdicts : dict from (str, str) to str
        For each pair of arm and baseline ``"better"``, ``"worse"`` or ``"unclear"``.
    errors : mapping from str to list of float
        Test errors of every arm by seed, in the same order.

    Raises
    ------
    CheckFailed
        With what the interval of the first wrong verdict says.
    """
    check_verdicts(verdicts, errors, {pair: pair for pair in RELATION_PAIRS})


RELATION_PAIRS = (("weight=100", "no_teacher"), ("weight=100", "label_smoothing"), ("weight=1", "no_teacher"))
TEACHER_GRADIENT = "A gradient reaches the teacher's side. It is a fixed target; detach it."
NO_GRADIENT = "No gradient reaches the student's embeddings: is something detached too much?"


def _embedding_cases(generator: np.random.Generator) -> list[Case]:
    cases = []
    for batch in (5, 8, 12):
        # Whole numbers: no formula rounds them. Off the origin, on two scales, one sample far out: for Huber's line.
        student = (10 * random_tensor(generator, batch, 5)).round() + 7
        student[0] += 150
        cases.append(Case((student, (25 * random_tensor(generator, batch, 3)).round() - 11)))
    return cases


def _check_finite_gradient(function: Callable, case: Case) -> None:
    student = _Tensor.clone(case.args[0])
    student[1] = student[0]  # two samples in one place
    student.requires_grad_()
    loss = function(student, case.args[1])
    if type(loss) is not _Tensor or not loss.requires_grad:
        fail(NO_GRADIENT)
    if not bool(_isfinite(_grad(loss.sum(), student)[0]).all()):
        fail(
            "The gradient is not finite. The root of a squared distance has an infinite slope at 0, and every sample "
            "has distance 0 to itself (trap 33)."
        )


def _distances(points: Tensor) -> Tensor:
    return (points[:, None] - points[None]).norm(dim=2)  # (B, B)


def _off_diagonal_mean(distances: Tensor) -> Tensor:
    return distances.sum() / (distances > 0).sum()


def _distance_with(
    *, scale: Callable[[Tensor], Tensor] = _off_diagonal_mean, common: bool = False, prepare: Callable = lambda x: x,
    measure: Callable[[Tensor], Tensor] = _distances, compare: Callable = F.smooth_l1_loss, factor: Any = 1,
) -> Callable:  # fmt: skip
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        s, t = measure(prepare(student)), measure(prepare(teacher))
        count = len(student)
        share = factor(count) if callable(factor) else factor
        return share * compare(s / scale(t if common else s), t / scale(t))

    return wrong


DISTANCE_SLIPS = (
    Slip(
        "The distances are divided by the largest one: a single stray sample then sets the scale of all (trap 31).",
        _distance_with(scale=torch.max),
    ),
    Slip(
        "The mean includes the B distances of samples to themselves. They are 0 and say nothing: leave them out.",
        _distance_with(scale=torch.mean),
    ),
    Slip(
        "Nothing is divided by the mean distance: a student on another scale would be punished for its scale alone.",
        _distance_with(scale=torch.ones_like),
    ),
    Slip(
        "Both sides are divided by the teacher's mean. Each side has a scale of its own.",
        _distance_with(common=True),
    ),
    Slip(
        "Squared distances are compared: a pair twice as far apart counts four times.",
        _distance_with(measure=lambda x: _distances(x).square()),
    ),
    Slip(
        "Squared errors came; asked for is the Huber loss with threshold 1, which grows linearly for large ones.",
        _distance_with(compare=F.mse_loss),
    ),
    Slip(
        "Half the squared error came; the Huber loss is this up to 1, and grows linearly beyond.",
        _distance_with(compare=F.mse_loss, factor=0.5),
    ),
    Slip("Absolute errors came; asked for is the Huber loss with threshold 1.", _distance_with(compare=F.l1_loss)),
    Slip(
        "The mean is over the B(B-1) pairs of different samples. Asked for is the mean over all B² entries.",
        _distance_with(factor=lambda count: count / (count - 1)),
    ),
    Slip(
        "Each pair counts once, and the sum is divided by B²: half of what was asked for.",
        _distance_with(factor=0.5),
    ),
    Slip(
        "The loss is summed over the pairs: a batch twice as large would mean four times the step.",
        _distance_with(factor=lambda count: count**2),
    ),
    Slip(
        "The embeddings were normalised first. That moves every sample onto a sphere and changes the distances.",
        _distance_with(prepare=lambda x: F.normalize(x, dim=1)),
    ),
)


def _similarity_with(
    *, prepare: Callable = lambda x: x, rows: Callable = lambda g: F.normalize(g, dim=1),
    compare: Callable = lambda s, t: (s - t).square().mean(),
) -> Callable:  # fmt: skip
    def wrong(student: Tensor, teacher: Tensor) -> Tensor:
        grams = [(lambda x: x @ x.T)(prepare(x.flatten(1))) for x in (student, teacher)]
        return compare(*map(rows, grams))

    return wrong


SIMILARITY_SLIPS = (
    Slip(
        "The samples were normalised before the product, and nothing after it: that is the cosine similarity, another "
        "loss. The rows of the product get length 1.",
        _similarity_with(prepare=lambda x: F.normalize(x, dim=1), rows=lambda g: g),
    ),
    Slip(
        "The samples were normalised before the product as well. Only the rows of the product get length 1.",
        _similarity_with(prepare=lambda x: F.normalize(x, dim=1)),
    ),
    Slip(
        "The matrix was normalised as a whole, not row by row. That is the comparison of Gram matrices.",
        _similarity_with(rows=lambda g: g / g.norm()),
    ),
    Slip(
        "The rows of the product are not normalised: features twice as large make inner products four times as large.",
        _similarity_with(rows=lambda g: g),
    ),
    Slip(
        "The rows sum to 1 (a softmax or a sum of absolute values); asked for is Euclidean length 1.",
        _similarity_with(rows=lambda g: F.normalize(g, p=1, dim=1)),
    ),
    Slip(
        "The rows sum to 1 (a softmax or a sum of absolute values); asked for is Euclidean length 1.",
        _similarity_with(rows=lambda g: g.softmax(dim=1)),
    ),
    Slip(
        "The squares are summed over all B² entries: divide by their number.",
        _similarity_with(compare=lambda s, t: (s - t).square().sum()),
    ),
    Slip(
        "The squares are summed in each row and averaged over rows: B times too large.",
        _similarity_with(compare=lambda s, t: (s - t).square().sum(dim=1).mean()),
    ),
    Slip(
        "This is the norm of the difference, not its square.",
        _similarity_with(compare=lambda s, t: (s - t).norm() / len(s) ** 2),
    ),
    Slip("Absolute differences came; squared ones are asked for.", _similarity_with(compare=F.l1_loss)),
    Slip(
        "Positions were averaged away before the product. Each sample is one row with all of its numbers.",
        lambda s, t: _similarity_loss(s.mean(dim=(2, 3)), t.mean(dim=(2, 3))),
    ),
)


def _cosines(points: Tensor) -> Tensor:
    directions = F.normalize(points[None] - points[:, None], dim=2)  # (B, B, D): from i to j
    return directions @ directions.mT  # (B, B, B)


def _angle_with(
    *, measure: Callable = _cosines, prepare: Callable = lambda x: x, compare: Callable = F.smooth_l1_loss
) -> Callable:
    return lambda student, teacher: compare(measure(prepare(student)), measure(prepare(teacher)))


def _unit(points: Tensor) -> Tensor:
    return F.normalize(points, dim=1)


def _gram(points: Tensor) -> Tensor:
    return points @ points.T


def _undirected(points: Tensor) -> Tensor:
    differences = points[None] - points[:, None]
    return differences @ differences.mT


def _off_zero(student: Tensor, teacher: Tensor) -> Tensor:
    return torch.tensor(torch.nan)


def _distinct_mean(student: Tensor, teacher: Tensor) -> Tensor:
    count = len(student)
    return _angle_loss(student, teacher) * count**3 / (count * (count - 1) * (count - 2))


_STILL_GRAM = (
    "These are still inner products of two samples, a Gram matrix. An angle needs three: one is the vertex, and what "
    "counts are the directions from it to the other two (trap 34)."
)
ANGLE_SLIPS = (
    *(
        Slip(_STILL_GRAM, _angle_with(measure=measure, prepare=prepare, compare=compare))
        for measure in (_gram, lambda x: _gram(x) / _gram(x).max(), lambda x: _gram(x) / _gram(x).norm())
        for prepare in (_unit, lambda x: x)
        for compare in (F.mse_loss, F.smooth_l1_loss)
    ),
    Slip(
        "The embeddings were normalised first. That moves every sample onto a sphere and changes the angles.",
        _angle_with(prepare=_unit),
    ),
    Slip("Squared errors came; asked for is the Huber loss with threshold 1.", _angle_with(compare=F.mse_loss)),
    Slip(
        "The directions are not of length 1, so these are inner products of differences and grow with the distances.",
        _angle_with(measure=_undirected),
    ),
    Slip(
        "The directions are not of length 1, so these are inner products of differences and grow with the distances.",
        _angle_with(measure=_undirected, compare=F.mse_loss),
    ),
    Slip(
        "The loss is summed over the triplets: a batch twice as large would mean eight times the step.",
        _angle_with(compare=lambda s, t: F.smooth_l1_loss(s, t, reduction="sum")),
    ),
    Slip(
        "Only triplets of three different samples were counted. Asked for is the mean over all B³ entries.",
        _distinct_mean,
    ),
    Slip(
        "Angles in radians were compared. Asked for are their cosines, whose slope stays finite at 0.",
        _angle_with(measure=lambda x: _cosines(x).clamp(-1, 1).acos()),
    ),
    Slip(
        "The loss is not finite: the direction of a sample to itself has length 0, and was divided by it.",
        _off_zero,
    ),
)
