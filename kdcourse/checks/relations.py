"""Checks of exercise 04, relation distillation: two losses, the angles repaired, a picture of invariances, verdicts."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import losses
from .cases import Case, new_generator, random_tensor
from .comparing import check_edge, check_values
from .documented import takes_answers, takes_function, takes_verdicts
from .failures import passed
from .gradients import check_finite_gradient, check_gradients
from .questions import Question, check_answers
from .slips.angles import ANGLE
from .slips.relations import DISTANCE, SIMILARITY
from .verdicts import check_verdicts

_distance_loss, _angle_loss, _similarity_loss = (
    losses.rkd_distance_loss,
    losses.rkd_angle_loss,
    losses.similarity_preserving_loss,
)
PAIRS = (("weight=100", "no_teacher"), ("weight=100", "label_smoothing"), ("weight=1", "no_teacher"))
TEACHER_GRADIENT = "A gradient reaches the teacher's side. It is a fixed target; detach it."
NO_GRADIENT = "No gradient reaches the student's embeddings: is something detached too much?"
GRADIENTS = {
    "student_embeddings": (NO_GRADIENT, ""),
    "teacher_embeddings": ("", TEACHER_GRADIENT),
    "student_features": (NO_GRADIENT, ""),
    "teacher_features": ("", TEACHER_GRADIENT),
}
NOT_FINITE = (
    "The gradient is not finite. The root of a squared distance has an infinite slope at 0, and every sample has "
    "distance 0 to itself (trap 33)."
)
FAR = (
    "Right near the origin and wrong far from it: the distances come from |x|² + |y|² - 2xy, whose rounding shows "
    "there. torch.cdist takes this shortcut above 25 rows by itself (trap 32)."
)


@takes_function
def check_distance_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_embeddings, teacher_embeddings)`` of exercise 04, task 1.

    Parameters
    ----------
    function : callable
        Takes embeddings (B, D) and (B, D'); returns ``kdcourse.losses.rkd_distance_loss`` of them.
    """
    generator = new_generator(seed)
    cases = _embedding_cases(generator)
    check_values(function, _distance_loss, cases, slips=DISTANCE)
    _check_finite(function, cases[0])
    check_gradients(function, _distance_loss, cases[0], messages=GRADIENTS)
    far = Case(tuple(random_tensor(generator, 40, width) + 1000.0 for width in (6, 9)))
    check_edge(function, _distance_loss, [far], FAR, edge="points far from the origin")
    passed("Huber loss of distances, each side divided by its own mean, mean over B² pairs; gradients are finite.")


@takes_function
def check_similarity_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_features, teacher_features)`` of exercise 04, task 2.

    Parameters
    ----------
    function : callable
        Takes features (B, C, H, W) and (B, C', H', W'); returns ``kdcourse.losses.similarity_preserving_loss``.
    """
    generator = new_generator(seed)
    cases = [
        Case((random_tensor(generator, b, 2, 3, 3) + 0.3, random_tensor(generator, b, 3, 2, 2) + 0.3))
        for b in (5, 8, 11)
    ]
    check_values(function, _similarity_loss, cases, slips=SIMILARITY)
    small = Case(tuple(tensor[:2] for tensor in cases[0].args))
    check_edge(function, _similarity_loss, [small], "A batch of two images gets a wrong loss.", edge="two images")
    check_gradients(function, _similarity_loss, cases[0], messages=GRADIENTS)
    passed("Inner products of flattened samples, each row of them at length 1, squared differences averaged over B².")


@takes_function
def check_angle_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_embeddings, teacher_embeddings)`` of exercise 04, task 3.

    Parameters
    ----------
    function : callable
        Takes embeddings (B, D) and (B, D'); returns ``kdcourse.losses.rkd_angle_loss`` of them.
    """
    cases = _embedding_cases(new_generator(seed))
    check_values(function, _angle_loss, cases, slips=ANGLE)
    _check_finite(function, cases[0])
    check_gradients(function, _angle_loss, cases[0], messages=GRADIENTS)
    passed("Cosines at every vertex between directions to two others, Huber, mean over B³: moving all points is free.")


@takes_answers
def check_invariance_picture(answers: Any) -> None:
    """Check the three answers of exercise 04, task 4."""
    check_answers(answers, QUESTIONS)


@takes_verdicts
def check_relation_verdicts(verdicts: Any, errors: Mapping[str, Any]) -> None:
    """Check the three verdicts of exercise 04, task 5."""
    check_verdicts(verdicts, errors, {pair: pair for pair in PAIRS})


QUESTIONS = (
    Question(
        right="b",
        wrong={
            "a": "read the row 'mean subtracted' under these two: it is 0.",
            "c": "read the whole row 'mean subtracted': not every number in it is different from 0.",
        },
        because="inner products are taken from the origin, and subtracting the mean moves the points against it",
    ),
    Question(
        right="a",
        wrong={
            "b": "compare the rows of the two halves: whichever is thrown away, the losses stay small.",
            "c": "no loss is: distances are divided by their mean, Gram matrices and their rows by their length.",
        },
        because="the 64 numbers repeat much of each other, so either half gives nearly the same relations",
    ),
    Question(
        right="c",
        wrong={
            "a": "look for a row that is 0 from end to end.",
            "b": "this row has no 0 at all.",
        },
        because="all four compare shapes up to size, turns and mirrors; a student may place them as it likes",
    ),
)


def _embedding_cases(generator: np.random.Generator) -> list[Case]:
    cases = []
    for batch in (5, 8, 12):
        # Whole numbers: no formula rounds them. Off the origin, on two scales, one sample far out: for Huber's line.
        student = (10 * random_tensor(generator, batch, 5)).round() + 7
        student[0] += 150
        cases.append(Case((student, (25 * random_tensor(generator, batch, 3)).round() - 11)))
    return cases


def _check_finite(function: Callable, case: Case) -> None:
    """Check that gradients are finite, in a batch with two samples in one place and in one without."""
    student: Tensor = torch.clone(case.args[0])
    student[1] = student[0]
    for one in (case, Case((student, case.args[1]))):
        check_finite_gradient(function, one, message=NOT_FINITE, missing=NO_GRADIENT)
