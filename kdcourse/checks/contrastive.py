"""Checks of exercise 05: InfoNCE, a queue repaired, negatives left out, who gets the push, an experiment."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from .cases import Case, new_generator, random_labels, random_sizes, random_tensor
from .comparing import check_edge, check_values
from .documented import takes_answers, takes_function, takes_verdicts
from .failures import named_like, passed
from .gradients import check_gradients
from .questions import Question, check_answers
from .slips.contrastive import INFO_NCE, LARGE_BATCH, QUEUE_PUSH
from .slips.queues import QUEUE
from .verdicts import check_verdicts

_info_nce_loss = losses.info_nce_loss
PAIRS = (
    ("left out", "no_teacher"),
    ("left out", "false negatives in"),
    ("left out", "squared error"),
    ("false negatives in", "label_smoothing"),
)
OVERFLOW = (
    "At a τ of 0.002 the loss is wrong or not finite: the exponential of 500 is too large for a float, that of -500 "
    "is 0, and its logarithm was taken. Stay in log space."
)
NO_GRADIENT = "No gradient reaches the student's embeddings: is something detached too much?"
TEACHER_GRADIENT = (
    "A gradient reaches the teacher's embeddings. The teacher is a fixed target: it would come to meet the student."
)
GRADIENTS = {"student_embeddings": (NO_GRADIENT, ""), "teacher_embeddings": ("", TEACHER_GRADIENT)}
LARGE = "A batch that is larger than the bank is written wrongly: of the last `size` embeddings each has one row."


@takes_function
def check_info_nce_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_embeddings, teacher_embeddings, *, temperature)`` of exercise 05, task 1.

    Parameters
    ----------
    function : callable
        Takes two tensors (B, D); returns the mean of InfoNCE in both directions, as ``kdcourse.losses.info_nce_loss``.
    """
    generator = new_generator(seed)
    cases = [Case(_pair(generator, (5, 10), (10, 16)), {"temperature": temperature}) for temperature in (0.1, 0.5, 2.0)]
    check_values(function, _info_nce_loss, cases, slips=INFO_NCE)
    # The teacher turned round: positives are the least similar, their shares beyond what a float can hold.
    student, teacher = cases[0].args
    sharp = Case((student, -teacher), {"temperature": 0.002})
    check_edge(function, _info_nce_loss, [sharp], OVERFLOW, edge="a small τ")
    two = Case((student[:2], teacher[:2]), {"temperature": 0.5})
    check_edge(function, _info_nce_loss, [two], "A batch of two images gets a wrong loss.", edge="a batch of two")
    check_gradients(function, _info_nce_loss, cases[0], messages=GRADIENTS)
    passed("Unit vectors, both directions, finite for a small τ, and no gradient reaches the teacher.")


@takes_function
def check_queue_push(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(bank, count, embeddings)`` of exercise 05, task 2.

    Parameters
    ----------
    function : callable
        Takes a bank (size, D), the count of embeddings pushed so far and a batch (B, D); returns ``(bank, count)``.
    """
    generator = new_generator(seed)
    bank = F.normalize(random_tensor(generator, 10, 4), dim=1)
    batch, full, larger = (random_tensor(generator, size, 4, scale=3) for size in (4, 10, 23))
    check_values(function, _push, [Case((bank, count, batch)) for count in (0, 6, 8, 29)], slips=QUEUE_PUSH)
    message = "A batch as large as the bank is written wrongly: it fills every row once."
    check_edge(function, _push, [Case((bank, count, full)) for count in (0, 13)], message, edge="a batch of bank size")
    # Twice, and 23 is no multiple of 10: the second push shows whether the count went on.
    large = [Case((bank, count, larger)) for count in (0, 7)]
    check_edge(_or_error(function), _push, large, LARGE, slips=LARGE_BATCH)
    passed("Rows one after another, modulo the size, unit length; of a large batch the last ones, in their places.")


@takes_function
def check_queue_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, teacher, labels, *, queue, queue_labels, temperature)`` of exercise 05, task 3.

    Parameters
    ----------
    function : callable
        Takes embeddings (B, D) twice, labels (B,), a queue (M, D) with its labels (M,), -1 where a row is empty;
        returns InfoNCE of the student's direction without negatives of the anchor's class or empty rows.
    """
    generator = new_generator(seed)
    cases = [_queue_case(generator, *knobs) for knobs in ((7, 0.5), (12, 0.2), (0, 1.0), (9, 0.4))]
    check_values(function, _queue_loss, cases, slips=QUEUE)
    student, teacher, labels = cases[0].args
    sharp = Case((student, -teacher, labels), {**cases[0].kwargs, "temperature": 0.002})
    check_edge(function, _queue_loss, [sharp], OVERFLOW, edge="a small τ")
    alone = Case(
        (student, teacher, torch.zeros_like(labels)), {**cases[2].kwargs, "queue": cases[0].kwargs["queue"] * 0}
    )
    message = "Where all images are of one class and the queue is empty no negative is left, and the loss is 0."
    check_edge(function, _queue_loss, [alone], message, edge="no negative is left", atol=1e-5)
    check_gradients(function, _queue_loss, cases[0], messages=GRADIENTS, skip=("queue",))
    passed("The positive stays in; negatives of the anchor's class and empty rows are out, in batch and queue.")


@takes_answers
def check_push_picture(answers: Any) -> None:
    """Check the three answers of exercise 05, task 4."""
    check_answers(answers, QUESTIONS)


@takes_verdicts
def check_contrastive_verdicts(verdicts: Any, errors: Mapping[str, Any]) -> None:
    """Check the four verdicts of exercise 05, task 5."""
    check_verdicts(verdicts, errors, {pair: pair for pair in PAIRS})


QUESTIONS = (
    Question(
        right="c",
        wrong={
            "a": "it need not know a label to act on an image: whatever is no positive is a negative.",
            "b": "only the positive is drawn near, and the positive is the same image, not the same digit.",
        },
        because="most of the push goes where the teacher sees the same digit: what belongs together is torn apart",
    ),
    Question(
        right="a",
        wrong={
            "b": "the 500 digits are the same in every line, and so are their labels.",
            "c": "nothing was trained between the lines; the cosines are the same in all of them.",
        },
        because="τ divides differences before the exponential: small ones hardly count when it is large",
    ),
    Question(
        right="b",
        wrong={
            "a": "more of them are of other digits, and more are of the same digit.",
            "c": "an earlier batch has digits as this one has.",
        },
        because="about a tenth of all digits are the anchor's, in a batch as in a queue: size is no remedy, labels are",
    ),
)


def _pair(generator: np.random.Generator, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return embeddings of a student and of its teacher, which are alike."""
    batch, width = random_sizes(generator, rows, columns)
    teacher = random_tensor(generator, batch, width, scale=2)
    return teacher + random_tensor(generator, batch, width, scale=2), teacher


def _queue_case(generator: np.random.Generator, filled: int, temperature: float) -> Case:
    student, teacher = _pair(generator, (7, 11), (5, 7))
    labels = random_labels(generator, len(student), 3)
    labels[:4] = torch.tensor([0, 1, 2, 0])  # every class, and one of them twice
    queue, queue_labels = torch.zeros(12, student.shape[1]), torch.full((12,), -1)
    queue[:filled] = F.normalize(random_tensor(generator, filled, student.shape[1]), dim=1)
    queue_labels[:filled] = random_labels(generator, filled, 3)
    queue_labels[: min(filled, 3)] = torch.arange(min(filled, 3))
    return Case((student, teacher, labels), {"queue": queue, "queue_labels": queue_labels, "temperature": temperature})


def _push(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    bank, rows = bank.clone(), F.normalize(embeddings, dim=1)
    for number, row in enumerate(rows):
        bank[(count + number) % len(bank)] = row
    return bank, count + len(rows)


def _or_error(function: Callable) -> Callable:
    def run(bank: Tensor, count: int, embeddings: Tensor) -> Any:
        try:
            return function(bank, count, embeddings)
        except (RuntimeError, IndexError):
            return math.inf

    return named_like(function, run)


def _queue_loss(
    student_embeddings: Tensor, teacher_embeddings: Tensor, labels: Tensor, *, queue: Tensor, queue_labels: Tensor,
    temperature: float,
) -> Tensor:  # fmt: skip
    student, teacher = F.normalize(student_embeddings, dim=1), F.normalize(teacher_embeddings.detach(), dim=1)
    scores = torch.cat([student @ teacher.T, student @ queue.T], dim=1) / temperature  # (B, B + M)
    itself = torch.eye(len(student), dtype=torch.bool)
    allowed = torch.cat(
        [(labels[:, None] != labels) | itself, (labels[:, None] != queue_labels) & (queue_labels >= 0)], dim=1
    )
    return (scores.masked_fill(~allowed, -math.inf).logsumexp(dim=1) - scores.diagonal()).mean()
