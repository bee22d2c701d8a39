"""Checks of exercise 05: InfoNCE, a queue repaired, negatives left out, who gets the push, an experiment."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from ._core import (
    Case,
    Question,
    Slip,
    check_answers,
    check_gradient,
    check_no_gradient,
    check_values,
    name_of,
    new_generator,
    passed,
    random_labels,
    random_tensor,
)
from ._verdicts import check_verdicts

_info_nce_loss = losses.info_nce_loss


def check_info_nce_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_embeddings, teacher_embeddings, *, temperature)`` of exercise 05, task 1.

    Parameters
    ----------
    function : callable
        Takes two tensors (B, D); returns the mean of InfoNCE in both directions, as ``kdcourse.losses.info_nce_loss``.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for temperature in (0.1, 0.5, 2.0):
        batch, width = (int(n) for n in generator.integers((5, 6), (10, 12)))
        teacher = random_tensor(generator, batch, width, scale=2)
        student = teacher + random_tensor(generator, batch, width, scale=2)
        cases.append(Case((student, teacher), {"temperature": temperature}))
    check_values(function, _info_nce_loss, cases, slips=INFO_NCE_SLIPS)
    # The teacher turned round: positives are the least similar, their shares beyond what a float can hold.
    student, teacher = cases[0].args
    sharp = Case((student, -teacher), {"temperature": 0.002})
    check_values(function, _info_nce_loss, [sharp], slips=[Slip(OVERFLOW, function)])
    check_gradient(function, cases[0], message=NO_GRADIENT, expected=_info_nce_loss)
    check_no_gradient(function, cases[0], argument=1, message=TEACHER_GRADIENT)
    passed("Unit vectors, both directions, finite for a small τ, and no gradient reaches the teacher.")


def check_queue_push(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(bank, count, embeddings)`` of exercise 05, task 2.

    Parameters
    ----------
    function : callable
        Takes a bank (size, D), the count of embeddings pushed so far and a batch (B, D); returns ``(bank, count)``.
    seed : int, optional
        Of the numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of a mistake that is still there.
    """
    generator = new_generator(seed)
    bank = F.normalize(random_tensor(generator, 10, 4), dim=1)
    batch, larger = (random_tensor(generator, size, 4, scale=3) for size in (4, 23))
    cases = [Case((bank, count, batch)) for count in (0, 6, 8, 29)]
    check_values(function, _push, cases, slips=PUSH_SLIPS)
    # Twice, and 23 is no multiple of 10: the second push shows whether the count went on.
    large = [Case((bank, count, larger)) for count in (0, 7)]
    check_values(_or_error(function), _push, large, slips=LARGE_SLIPS)
    passed("Rows one after another, modulo the size, unit length; of a large batch the last ones, in their places.")


def check_queue_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, teacher, labels, *, queue, queue_labels, temperature)`` of exercise 05, task 3.

    Parameters
    ----------
    function : callable
        Takes embeddings (B, D) twice, labels (B,), a queue (M, D) with its labels (M,), -1 where a row is empty;
        returns InfoNCE of the student's direction without negatives of the anchor's class or empty rows.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for filled, temperature in ((7, 0.5), (12, 0.2), (0, 1.0)):
        batch, width = (int(n) for n in generator.integers((7, 5), (11, 9)))
        teacher = random_tensor(generator, batch, width, scale=2)
        student = teacher + random_tensor(generator, batch, width, scale=2)
        labels = random_labels(generator, batch, 3)
        labels[:4] = torch.tensor([0, 1, 2, 0])  # every class, and one of them twice
        queue, queue_labels = torch.zeros(12, width), torch.full((12,), -1)
        queue[:filled] = F.normalize(random_tensor(generator, filled, width), dim=1)
        queue_labels[:filled] = random_labels(generator, filled, 3)
        queue_labels[: min(filled, 3)] = torch.arange(min(filled, 3))
        knobs = {"queue": queue, "queue_labels": queue_labels, "temperature": temperature}
        cases.append(Case((student, teacher, labels), knobs))
    check_values(function, _queue_loss, cases, slips=QUEUE_SLIPS)
    student, teacher, labels = cases[0].args
    sharp = Case((student, -teacher, labels), {**cases[0].kwargs, "temperature": 0.002})
    check_values(function, _queue_loss, [sharp], slips=[Slip(OVERFLOW, function)])
    check_gradient(function, cases[0], message=NO_GRADIENT, expected=_queue_loss)
    check_no_gradient(function, cases[0], argument=1, message=TEACHER_GRADIENT)
    passed("The positive stays in; negatives of the anchor's class and empty rows are out, in batch and queue.")


def check_push_picture(answers: Any) -> None:
    """Check the three answers of exercise 05, task 4.

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
            because="about a tenth of all digits are the anchor's, in a batch as in a queue: size is no remedy, labels "
            "are",
        ),
    )


def check_contrastive_verdicts(verdicts: Any, errors: Mapping[str, Any]) -> None:
    """Check the four verdicts of exercise 05, task 5, against paired 95 % intervals.

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
    check_verdicts(verdicts, errors, {pair: pair for pair in CONTRASTIVE_PAIRS})


CONTRASTIVE_PAIRS = (
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


def _unit_rows(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)


def _cross_entropy(scores: Tensor) -> Tensor:
    return scores.logsumexp(dim=1) - scores.diagonal()  # (B,)


def _info_nce(
    student: Tensor, teacher: Tensor, *, temperature: float, scale: Callable[[Tensor], Tensor] = _unit_rows,
    row_loss: Callable[[Tensor], Tensor] = _cross_entropy, there: float = 0.5, back: float = 0.5,
    divide: Callable[[Tensor, float], Tensor] = torch.div,
) -> Tensor:  # fmt: skip
    scores = divide(scale(student) @ scale(teacher).T, temperature)
    return there * row_loss(scores).mean() + back * row_loss(scores.T).mean()


def _info_nce_with(**changes: Any) -> Callable:
    return lambda s, t, *, temperature: _info_nce(s, t, temperature=temperature, **changes)


def _without_positive(scores: Tensor) -> Tensor:
    itself = torch.eye(len(scores), dtype=torch.bool)
    return scores.masked_fill(itself, -math.inf).logsumexp(dim=1) - scores.diagonal()


def _within_one_side(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    own = [_unit_rows(x) @ _unit_rows(x).T / temperature for x in (s, t)]
    positives = (_unit_rows(s) * _unit_rows(t)).sum(dim=1) / temperature
    return torch.stack([scores.logsumexp(dim=1) - positives for scores in own]).mean()


_NOT_UNIT = (
    "The embeddings are not scaled to length 1: these are inner products, and a student lowers its loss by making its "
    "vectors longer."
)
_ONE_WAY = "Only one direction came: {}. The mean of both is asked for (trap 30)."
INFO_NCE_SLIPS = (
    Slip(_NOT_UNIT, _info_nce_with(scale=lambda x: x)),
    Slip(
        "Columns were scaled to length 1, dim=0. An embedding is a row.",
        _info_nce_with(scale=lambda x: F.normalize(x, dim=0)),
    ),
    Slip(
        "Each whole matrix was scaled, instead of each of its rows.",
        _info_nce_with(scale=lambda x: x / x.norm()),
    ),
    Slip(_ONE_WAY.format("the student finds its teacher"), _info_nce_with(there=1.0, back=0.0)),
    Slip(_ONE_WAY.format("the teacher finds its student"), _info_nce_with(there=0.0, back=1.0)),
    Slip("Both directions are added. Asked for is their mean.", _info_nce_with(there=1.0, back=1.0)),
    Slip(
        "The temperature multiplies. It divides: a small τ makes the softmax sharper.", _info_nce_with(divide=torch.mul)
    ),
    Slip("The temperature is not used.", _info_nce_with(divide=lambda x, temperature: x)),
    Slip(
        "The positive is missing in the denominator: the share of the push no longer adds up, and the loss can be "
        "negative.",
        _info_nce_with(row_loss=_without_positive),
    ),
    Slip(
        "The loss is summed over the batch: twice the images would mean twice the step.",
        _info_nce_with(row_loss=lambda scores: _cross_entropy(scores).sum()),
    ),
    Slip(
        "The sign is wrong: this grows as the positives are found.",
        _info_nce_with(row_loss=lambda scores: -_cross_entropy(scores)),
    ),
    Slip(
        "The denominator is a mean over the candidates, not their sum: guessing would cost 0.",
        _info_nce_with(row_loss=lambda scores: _cross_entropy(scores) - math.log(len(scores))),
    ),
    Slip(
        "The positives' scores alone, without a softmax: nothing keeps all embeddings from becoming the same.",
        _info_nce_with(row_loss=lambda scores: -scores.diagonal()),
    ),
    Slip(
        "This is one minus the positive's share. Asked for is minus its logarithm.",
        _info_nce_with(row_loss=lambda scores: 1 - scores.softmax(dim=1).diagonal()),
    ),
    Slip(
        "The candidates come from the anchor's own network. The student looks among the teacher's embeddings, and the "
        "other way round.",
        _within_one_side,
    ),
)


def _push(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return _write(bank, count, _unit_rows(embeddings), go_on=lambda: count + len(embeddings))


def _write(
    bank: Tensor, count: int, rows: Tensor, *, go_on: Callable[[], int], first: bool = False
) -> tuple[Tensor, int]:
    bank, kept = bank.clone(), min(len(rows), len(bank))
    offset = 0 if first else len(rows) - kept
    for number in range(kept):
        bank[(count + offset + number) % len(bank)] = rows[offset + number]
    return bank, go_on()


def _wraps_to_zero(bank: Tensor, pointer: int, embeddings: Tensor) -> tuple[Tensor, int]:
    start = pointer % len(bank)
    if start + len(embeddings) > len(bank):
        start = 0
    bank = bank.clone()
    bank[start : start + len(embeddings)] = embeddings
    return bank, (start + len(embeddings)) % len(bank)


def _wraps_to_zero_counting(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return _wraps_to_zero(bank, count, embeddings)[0], count + len(embeddings)


def _normalised(push: Callable) -> Callable:
    return lambda bank, count, embeddings: push(bank, count, _unit_rows(embeddings))


def _shifted(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return torch.cat([bank, _unit_rows(embeddings)])[-len(bank) :], count + len(embeddings)


def _cut_off(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    start = count % len(bank)
    fits = min(len(embeddings), len(bank) - start)
    bank = bank.clone()
    bank[start : start + fits] = _unit_rows(embeddings[:fits])
    return bank, count + len(embeddings)


_WRAPS = "When a batch does not fit, it starts at row 0: the rows at the end keep what they had for ever (trap 39)."
_POINTER = (
    "The second number is the next row. Asked for is the count since the start: it also tells whether the bank has "
    "ever been full."
)
PUSH_SLIPS = (
    *(Slip(_WRAPS, push) for push in (_wraps_to_zero, _wraps_to_zero_counting)),
    *(Slip(_WRAPS, _normalised(push)) for push in (_wraps_to_zero, _wraps_to_zero_counting)),
    Slip(
        "The rows are right, but not scaled to length 1: a longer one would be a 'cosine' above 1 (trap 38).",
        lambda bank, count, x: _write(bank, count, x, go_on=lambda: count + len(x)),
    ),
    Slip(
        "Columns were scaled to length 1, dim=0. An embedding is a row.",
        lambda bank, count, x: _write(bank, count, F.normalize(x, dim=0), go_on=lambda: count + len(x)),
    ),
    Slip(
        _POINTER,
        lambda bank, count, x: _write(bank, count, _unit_rows(x), go_on=lambda: (count + len(x)) % len(bank)),
    ),
    Slip(
        "The count did not go on: the next batch would overwrite this one.",
        lambda bank, count, x: _write(bank, count, _unit_rows(x), go_on=lambda: count),
    ),
    Slip(
        "The count stops at the size of the bank. It is that of all embeddings since the start.",
        lambda bank, count, x: _write(bank, count, _unit_rows(x), go_on=lambda: min(count + len(x), len(bank))),
    ),
    Slip("What is beyond the last row is cut off. It belongs to the first rows.", _cut_off),
    Slip(
        "The rows were shifted, so that the newest stand at the end. Asked for are fixed rows: number n goes to row n "
        "modulo size.",
        _shifted,
    ),
    Slip("Only the bank came back. The new count is needed too.", lambda bank, count, x: _push(bank, count, x)[0]),
    Slip("The count came first. Asked for are the bank, then the count.", lambda *args: _push(*args)[::-1]),
)
LARGE_SLIPS = (
    Slip("A batch larger than the bank raises an error (trap 39).", lambda bank, count, x: math.inf),
    Slip(
        "Of a batch larger than the bank the first embeddings stayed. The last ones are the newest.",
        lambda bank, count, x: _write(bank, count, _unit_rows(x), go_on=lambda: count + len(x), first=True),
    ),
    Slip(
        "Of a batch larger than the bank the right embeddings stay, but not in their rows: those before them count.",
        lambda bank, count, x: _write(bank, count, _unit_rows(x[-len(bank) :]), go_on=lambda: count + len(x)),
    ),
    Slip(
        "Of a batch larger than the bank only those that stay were counted. All that were pushed count.",
        lambda bank, count, x: _write(bank, count, _unit_rows(x), go_on=lambda: count + len(bank)),
    ),
    Slip(
        "Of a batch larger than the bank only those that stay were counted and placed. All that were pushed count.",
        lambda bank, count, x: _write(bank, count, _unit_rows(x[-len(bank) :]), go_on=lambda: count + len(bank)),
    ),
)


def _or_error(function: Callable) -> Callable:
    def run(bank: Tensor, count: int, embeddings: Tensor) -> Any:
        try:
            return function(bank, count, embeddings)
        except (RuntimeError, IndexError):
            return math.inf

    run.__name__ = name_of(function)
    return run


def _queue_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, *, queue: Tensor, queue_labels: Tensor, temperature: float,
    batch_classes: bool = True, queue_classes: bool = True, empty: bool = True, fill: float = -math.inf,
    positive: bool = True, use_queue: bool = True, use_batch: bool = True, scale: Callable = _unit_rows,
    reduce: Callable[[Tensor], Tensor] = torch.mean,
) -> Tensor:  # fmt: skip
    student, teacher = scale(student), scale(teacher.detach())
    scores = torch.cat([student @ teacher.T, student @ queue.T], dim=1) / temperature  # (B, B + M)
    itself = torch.eye(len(student), dtype=torch.bool)
    in_batch = (labels[:, None] != labels) | itself if batch_classes else torch.ones_like(itself)
    if not use_batch:
        in_batch = itself
    in_queue = (labels[:, None] != queue_labels) if queue_classes else torch.ones(len(labels), len(queue)) > 0
    if empty:
        in_queue = in_queue & (queue_labels >= 0)
    if not use_queue:
        in_queue = torch.zeros_like(in_queue)
    positives = scores.diagonal()
    allowed = torch.cat([in_batch if positive else in_batch & ~itself, in_queue], dim=1)
    return reduce(scores.masked_fill(~allowed, fill).logsumexp(dim=1) - positives)


def _queue_with(**changes: Any) -> Callable:
    return lambda s, t, labels, **knobs: _queue_loss(s, t, labels, **knobs, **changes)


def _both_ways(s: Tensor, t: Tensor, labels: Tensor, **knobs: Any) -> Tensor:
    itself = torch.eye(len(s), dtype=torch.bool)
    scores = _unit_rows(t) @ _unit_rows(s).T / knobs["temperature"]
    back = _cross_entropy(scores.masked_fill((labels[:, None] == labels) & ~itself, -math.inf)).mean()
    return (_queue_loss(s, t, labels, **knobs) + back) / 2


_ZERO = (
    "What is left out got the score 0, and the exponential of 0 is 1: it still stands in the denominator, as a "
    "negative that no training can push away."
)
_IN_QUEUE = "Negatives of the anchor's class are left out in the batch only: in the queue they are still in (trap 40)."
QUEUE_SLIPS = (
    Slip("Negatives of the anchor's class are still in, in batch and queue (trap 29).", _queue_with(
        batch_classes=False, queue_classes=False)),
    Slip("Nothing was left out: neither the anchor's class nor the empty rows.", _queue_with(
        batch_classes=False, queue_classes=False, empty=False)),
    Slip(_IN_QUEUE, _queue_with(queue_classes=False)),
    Slip(_IN_QUEUE + " And so are its empty rows.", _queue_with(queue_classes=False, empty=False)),
    Slip(
        "Negatives of the anchor's class are left out in the queue only: in the batch they are still in (trap 29).",
        _queue_with(batch_classes=False),
    ),
    Slip(
        "The empty rows of the queue are in: a vector of zeros has cosine 0 with everything, more than many a real "
        "negative.",
        _queue_with(empty=False),
    ),
    Slip(_ZERO, _queue_with(fill=0.0)),
    Slip(
        "With the negatives of its class the positive was left out of the denominator. It is of the anchor's class, "
        "and must stay.",
        _queue_with(positive=False),
    ),
    Slip("The queue is not used.", _queue_with(use_queue=False)),
    Slip("The batch's other images are missing: they are negatives beside the queue's.", _queue_with(use_batch=False)),
    Slip(_NOT_UNIT, _queue_with(scale=lambda x: x)),
    Slip("Both directions came. Asked for is the student's alone; the queue holds no student.", _both_ways),
    Slip("The temperature is not used.", lambda s, t, labels, **knobs: _queue_loss(
        s, t, labels, **{**knobs, "temperature": 1.0})),
    Slip("The loss is summed over the batch: twice the images would mean twice the step.", _queue_with(
        reduce=torch.sum)),
)  # fmt: skip
