"""Wrong answers to exercise 05, task 3: negatives that are none, in the batch and in the queue."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import Slip
from .contrastive import NOT_UNIT, unit_rows


def _queue_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, *, queue: Tensor, queue_labels: Tensor, temperature: float,
    batch_classes: bool = True, queue_classes: bool = True, empty: bool = True, fill: float = -math.inf,
    positive: bool = True, use_queue: bool = True, use_batch: bool = True, scale: Callable = unit_rows,
    reduce: Callable[[Tensor], Tensor] = torch.mean, only_same: bool = False, scale_queue: float = 1.0,
) -> Tensor:  # fmt: skip
    student, teacher = scale(student), scale(teacher.detach())
    scores = torch.cat([student @ teacher.T, scale_queue * student @ queue.T], dim=1) / temperature  # (B, B + M)
    itself = torch.eye(len(student), dtype=torch.bool)
    in_batch = (labels[:, None] != labels) | itself if batch_classes else torch.ones_like(itself)
    if only_same:
        in_batch = labels[:, None] == labels
    if not use_batch:
        in_batch = itself
    in_queue = (labels[:, None] != queue_labels) if queue_classes else torch.ones(len(labels), len(queue)) > 0
    if only_same:
        in_queue = labels[:, None] == queue_labels
    if empty:
        in_queue = in_queue & (queue_labels >= 0)
    if not use_queue:
        in_queue = torch.zeros_like(in_queue)
    positives = scores.diagonal()
    allowed = torch.cat([in_batch if positive else in_batch & ~itself, in_queue], dim=1)
    return reduce(scores.masked_fill(~allowed, fill).logsumexp(dim=1) - positives)


def _with(**changes: Any) -> Callable:
    return lambda s, t, labels, **knobs: _queue_loss(s, t, labels, **knobs, **changes)


def _both_ways(s: Tensor, t: Tensor, labels: Tensor, **knobs: Any) -> Tensor:
    itself = torch.eye(len(s), dtype=torch.bool)
    scores = unit_rows(t) @ unit_rows(s).T / knobs["temperature"]
    masked = scores.masked_fill((labels[:, None] == labels) & ~itself, -math.inf)
    return (_queue_loss(s, t, labels, **knobs) + (masked.logsumexp(dim=1) - scores.diagonal()).mean()) / 2


def _as_zero_rows(s: Tensor, t: Tensor, labels: Tensor, **knobs: Any) -> Tensor:
    """Multiply the scores by the mask."""
    queue, queue_labels = knobs["queue"], knobs["queue_labels"]
    scores = torch.cat([unit_rows(s) @ unit_rows(t).T, unit_rows(s) @ queue.T], dim=1) / knobs["temperature"]
    others = torch.cat([labels, queue_labels])
    allowed = (labels[:, None] != others) & (others >= 0)
    allowed[torch.arange(len(s)), torch.arange(len(s))] = True
    return ((scores * allowed).logsumexp(dim=1) - scores.diagonal()).mean()


_IN_QUEUE = "Negatives of the anchor's class are left out in the batch only: in the queue they are still in (trap 40)."
QUEUE = {
    "false negatives": Slip(
        "Negatives of the anchor's class are still in, in batch and queue (trap 29).",
        _with(batch_classes=False, queue_classes=False),
    ),
    "nothing left out": Slip(
        "Nothing was left out: neither the anchor's class nor the empty rows.",
        _with(batch_classes=False, queue_classes=False, empty=False),
    ),
    "in the queue": Slip(_IN_QUEUE, _with(queue_classes=False)),
    "in the queue, empty rows": Slip(
        _IN_QUEUE + " And so are its empty rows.", _with(queue_classes=False, empty=False)
    ),
    "in the batch": Slip(
        "Negatives of the anchor's class are left out in the queue only: in the batch they are still in (trap 29).",
        _with(batch_classes=False),
    ),
    "in the batch, empty rows": Slip(
        "Negatives of the anchor's class are still in, in the batch (trap 29), and so are the queue's empty rows.",
        _with(batch_classes=False, empty=False),
    ),
    "empty rows": Slip(
        "The empty rows of the queue are in: a vector of zeros has cosine 0 with everything, more than many a real "
        "negative.",
        _with(empty=False),
    ),
    "score 0": Slip(
        "What is left out got the score 0, and the exponential of 0 is 1: it still stands in the denominator, as a "
        "negative that no training can push away.",
        _with(fill=0.0),
        _as_zero_rows,
    ),
    "score -1": Slip(
        "What is left out got a small score, and its exponential still stands in the denominator. Only -inf is gone.",
        _with(fill=-1.0),
        _with(fill=-10.0),
    ),
    "only the class": Slip(
        "The mask is turned round: only images of the anchor's class are kept, and the real negatives are out.",
        _with(only_same=True),
    ),
    "no positive": Slip(
        "With the negatives of its class the positive was left out of the denominator. It is of the anchor's class, "
        "and must stay.",
        _with(positive=False),
    ),
    "no queue": Slip("The queue is not used.", _with(use_queue=False)),
    "no batch": Slip(
        "The batch's other images are missing: they are negatives beside the queue's.", _with(use_batch=False)
    ),
    "not unit": Slip(NOT_UNIT, _with(scale=lambda x: x)),
    "both ways": Slip(
        "Both directions came. Asked for is the student's alone; the queue holds no student.", _both_ways
    ),
    "teacher finds": Slip(
        "The teacher looks for its student. Asked for is the other direction: the student finds its teacher.",
        lambda s, t, labels, **knobs: _queue_loss(t, s, labels, **knobs),
    ),
    "no τ": Slip(
        "The temperature is not used.",
        lambda s, t, labels, **knobs: _queue_loss(s, t, labels, **{**knobs, "temperature": 1.0}),
    ),
    "τ for the batch only": Slip(
        "The scores of the queue are not divided by the temperature; those of the batch are.",
        lambda s, t, labels, **knobs: _queue_loss(s, t, labels, **knobs, scale_queue=knobs["temperature"]),
    ),
    "summed": Slip(
        "The loss is summed over the batch: twice the images would mean twice the step.", _with(reduce=torch.sum)
    ),
}
