"""Checks of exercise 07: mutual learning, a schedule repaired, a curriculum, peers that disagree, an experiment."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from ..results import mean_interval
from .cases import Case, new_generator, random_labels, random_sizes, random_tensor
from .comparing import check_edge, check_refusal, check_values
from .converting import as_number
from .documented import takes_answers, takes_function
from .failures import fail, named_like, not_answered, passed
from .gradients import check_gradients
from .questions import Question, check_answers
from .slips.curricula import CURRICULUM
from .slips.online import DIVIDED_BY_ZERO, MUTUAL, MUTUAL_GRADIENT, ONE_EPOCH, SCHEDULE
from .verdicts import check_verdicts

_mutual_learning_loss = losses.mutual_learning_loss
BASELINES = ("alone", "label_smoothing", "twice as long")
OWN_GRADIENT = "The values are right, but a student gets the wrong gradient of its own loss: was it detached?"
ORDER_LOST = (
    "Where the teacher is wrong and very sure, the order is lost: a probability was rounded to 0, and its logarithm "
    "taken. Stay in log space (trap 4)."
)
WHOLE_SHARE = (
    "Where the share is a whole number of images already, such as a quarter of 40, exactly that many are asked for: "
    "rounding up adds nothing to a whole number."
)


@takes_function
def check_mutual_learning_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(all_logits, labels, *, temperature)`` of exercise 07, task 1.

    Parameters
    ----------
    function : callable
        Takes a list of logits (B, K), one per student, and labels (B,); returns a list of losses, one per student,
        as ``kdcourse.losses.mutual_learning_loss`` does, and raises ValueError for one student.
    """
    generator = new_generator(seed)
    cases = []
    for students, temperature in ((3, 1.0), (2, 3.0), (4, 2.0)):
        batch, classes = random_sizes(generator, (5, 9), (5, 12))
        logits = [random_tensor(generator, batch, classes, scale=2) for _ in range(students)]
        labels = random_labels(generator, batch, classes)
        cases.append(Case((logits, labels), {"temperature": temperature}))
    check_values(function, _mutual_loss, cases, slips=MUTUAL)
    messages = {"all_logits": (OWN_GRADIENT, MUTUAL_GRADIENT["peers trained"].message)}
    check_gradients(function, _mutual_loss, cases[0], messages=messages, slips=MUTUAL_GRADIENT)
    logits, labels = cases[0].args
    check_refusal(
        function,
        Case(([logits[0]], labels), cases[0].kwargs),
        accepted="A cohort of one was accepted. There is no peer: a mean over none is NaN, or it learns silently from "
        "labels alone. Raise a ValueError.",
        other="A cohort of one gave {}. A ValueError should say that there is no peer.",
    )
    passed("Labels and the mean of T² KL to each peer, one loss per student, which trains no other; one is refused.")


@takes_function
def check_schedule(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(epoch, epochs)`` of exercise 07, task 2.

    Parameters
    ----------
    function : callable
        Returns ``(temperature, alpha)``: from (10, 0.9) in the first epoch to (1, 0.5) in the last. T is multiplied by
        the same factor in each epoch, α goes in a straight line.
    """
    runs = (5, int(new_generator(seed).integers(6, 40)), 2)
    cases = [Case((epoch, epochs)) for epochs in runs for epoch in range(epochs)]
    check_values(function, _knobs, cases, slips=SCHEDULE)
    message = "A run of one epoch gets wrong values: its only epoch is also its last, so it gets T = 1 and α = 0.5."
    check_edge(_without_division(function), _knobs, [Case((0, 1))], message, slips=ONE_EPOCH, edge="one epoch")
    passed(f"First values in the first epoch and last ones in the last, for runs of 1, {', '.join(map(str, runs))}.")


@takes_function
def check_curriculum(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(teacher_logits, labels, *, share)`` of exercise 07, task 3.

    Parameters
    ----------
    function : callable
        Takes logits (N, K) and labels (N,); returns the positions of the easiest share by the teacher's loss, the
        easiest first, rounded up.
    """
    generator = new_generator(seed)
    cases = []
    for count, share in ((41, 0.3), (30, 0.55), (25, 1.0)):
        logits, labels = random_tensor(generator, count, 6, scale=2), random_labels(generator, count, 6)
        cases.append(Case((logits, labels), {"share": share}))
    check_values(function, _curriculum, cases, slips=CURRICULUM)
    logits, labels = random_tensor(generator, 40, 6, scale=2), random_labels(generator, 40, 6)
    whole = [Case((logits, labels), {"share": share}) for share in (0.25, 0.5)]
    check_edge(function, _curriculum, whole, WHOLE_SHARE, edge="a share that is a whole number of images")
    least = Case((logits, labels), {"share": 0.001})
    message = "A share of less than one image is rounded up to one image."
    check_edge(function, _curriculum, [least], message, edge="a share of less than one image")
    # Two images of which the teacher is wrongly sure, one more than the other: probability 0 for both in float32.
    sure = torch.tensor([[0.0, 300.0], [0.0, 1.0], [0.0, 200.0], [0.0, -1.0]])
    case = Case((sure, torch.zeros(4, dtype=torch.long)), {"share": 1.0})
    check_edge(function, _curriculum, [case], ORDER_LOST, edge="a teacher that is wrong and very sure")
    passed("The easiest by the teacher's loss come first, the share is rounded up, and a sure teacher is no problem.")


@takes_answers
def check_cohort_picture(answers: Any) -> None:
    """Check the three answers of exercise 07, task 4."""
    check_answers(answers, QUESTIONS)


def check_mutual_verdicts(verdicts: Any, may_save: Any, errors: Mapping[str, Sequence[float]]) -> None:
    """Check the three verdicts and the best case of exercise 07, task 5, against paired 95 % intervals.

    Parameters
    ----------
    verdicts : dict from str to str
        For each baseline ``"better"``, ``"worse"`` or ``"unclear"``.
    may_save : float
        Errors that the interval against ``"alone"`` still lets the cohort save; 0 if it is worse for sure.
    errors : mapping from str to list of float
        Test errors by seed of ``"mutual"`` and of every baseline.

    Raises
    ------
    CheckFailed
        With what the interval of the first wrong verdict says.
    """
    check_verdicts(verdicts, errors, {other: ("mutual", other) for other in BASELINES})
    if may_save is None or may_save is ...:
        not_answered("may_save has no answer yet: put a number of errors.")
    differences = [a - b for a, b in zip(errors["mutual"], errors["alone"], strict=True)]
    mean, low, high = mean_interval(differences)
    right, found = max(0.0, -low), as_number(may_save, "may_save")
    # The learner may have rounded to whole errors, or have read them off on another machine.
    near = max(0.6, 0.05 * (high - low))
    if abs(found - right) <= near:
        return passed(f"With {len(differences)} seeds a gain of up to {right:.0f} errors cannot be excluded.")
    known = {
        low: "A negative number of errors saved would be errors added: mind the sign.",
        high: "That is the cohort's worst case: the other end of the interval.",
        -high: "That is the cohort's worst case: the other end of the interval.",
        high - mean: "That is half the interval's width, and it is not centred on 0.",
        high - low: "That is the interval's whole width, and it is not centred on 0.",
        mean: "That is the mean difference. The interval says how far from it the truth may be.",
        -mean: "That is the mean difference. The interval says how far from it the truth may be.",
        float(max(-difference for difference in differences)): "That is the luckiest of the seeds, no interval.",
    }
    for wrong, message in known.items():
        if abs(found - wrong) <= near / 2:
            fail(message)
    fail("That is not where the interval ends: take it from the five paired differences.")


QUESTIONS = (
    Question(
        right="a",
        wrong={
            "b": "a loss holds fast where it is smallest; is its number the smallest of the five?",
            "c": "a loss holds fast where it is smallest; is its number the smallest of the five?",
        },
        because="the mean of the divergences is least at the mean of the predictions: each peer keeps its say",
    ),
    Question(
        right="c",
        wrong={
            "a": "no label enters a row of this picture; it shows what the students say.",
            "b": "once, after the mean; and a second softmax would make a prediction flatter, not sharper.",
        },
        because="a mean of logits is a product of predictions: whoever says 'impossible' has a veto",
    ),
    Question(
        right="b",
        wrong={
            "a": "any row could be written down and compared, trained or not. What is the best of them worth?",
            "c": "at a higher temperature the three predictions are still three.",
        },
        because="the least possible mean divergence says how much the peers disagree; only a united cohort has 0",
    ),
)


def _mutual_loss(all_logits: list[Tensor], labels: Tensor, *, temperature: float) -> list[Tensor]:
    return _mutual_learning_loss(all_logits, labels, temperature=temperature)


def _knobs(epoch: int, epochs: int) -> tuple[float, float]:
    progress = epoch / (epochs - 1) if epochs > 1 else 1.0
    return 10.0 ** (1 - progress), 0.9 - 0.4 * progress


def _without_division(function: Callable) -> Callable:
    def run(epoch: int, epochs: int) -> Any:
        try:
            return function(epoch, epochs)
        except ZeroDivisionError:
            return DIVIDED_BY_ZERO, DIVIDED_BY_ZERO

    return named_like(function, run)


def _curriculum(teacher_logits: Tensor, labels: Tensor, *, share: float) -> Tensor:
    difficulty = F.cross_entropy(teacher_logits, labels, reduction="none")  # (N,)
    return difficulty.argsort()[: math.ceil(share * len(labels))]
