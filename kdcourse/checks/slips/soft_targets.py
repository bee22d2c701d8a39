"""Wrong answers to exercise 02, soft targets."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses import kd_loss
from . import Slip, mapped


def log_rows(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the logarithms of both rows of probabilities."""
    return F.log_softmax(student_logits / temperature, dim=-1), F.log_softmax(teacher_logits / temperature, dim=-1)


def divergences(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Return KL(teacher‖student) of each image, without T²."""
    log_q, log_p = log_rows(student_logits, teacher_logits, temperature)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (B,)


def no_t2(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Leave T² out."""
    return divergences(student_logits, teacher_logits, temperature=temperature).mean()


def naive(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Take logarithms of probabilities."""
    q, p = (row.exp() for row in log_rows(student_logits, teacher_logits, temperature))
    return temperature**2 * (p * (p.log() - q.log())).sum(dim=-1).mean()


def _not_finite(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    return torch.tensor(math.inf)


def reverse(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Exchange the two sides."""
    return temperature**2 * divergences(teacher_logits, student_logits, temperature=temperature).mean()


def cross_entropy(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Leave the teacher's entropy in."""
    log_q, log_p = log_rows(student_logits, teacher_logits, temperature)
    return -(temperature**2) * (log_p.exp() * log_q).sum(dim=-1).mean()


def _student_not_softened(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * divergences(student_logits * temperature, teacher_logits, temperature=temperature).mean()


def _teacher_not_softened(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * divergences(student_logits, teacher_logits * temperature, temperature=temperature).mean()


def _softmax_over_batch(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_q, log_p = (F.log_softmax(logits / temperature, dim=0) for logits in (student_logits, teacher_logits))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


def _jensen_shannon(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    log_q, log_p = log_rows(s, t, temperature)
    log_m = ((log_q.exp() + log_p.exp()) / 2).log()
    sides = [(log.exp() * (log - log_m)).sum(dim=-1) for log in (log_q, log_p)]
    return temperature**2 * (sides[0] + sides[1]).mean() / 2


def _both_ways(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return (kd_loss(s, t, temperature=temperature) + kd_loss(t, s, temperature=temperature)) / 2


def _of_probabilities(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    def wrong(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
        q, p = (logits.div(temperature).softmax(dim=-1) for logits in (s, t))
        return temperature**2 * measure(q, p)

    return wrong


SURE_TEACHER = {
    "not finite": Slip(
        "For a teacher (or student) that is very sure the loss is not finite: a probability was rounded to 0, and its "
        "logarithm taken. Stay in log space (trap 4).",
        naive,
        _not_finite,
    )
}
KD = {
    "no T²": Slip(
        "The loss is T² times too small: the factor T² is missing. Without it the teacher's share fades as T grows.",
        no_t2,
    ),
    "one T": Slip(
        "The loss is T times too small: the gradient loses one 1/T in the chain rule and one more in q - p.",
        lambda s, t, *, temperature: temperature * no_t2(s, t, temperature=temperature),
    ),
    "mean over classes": Slip(
        "The loss is K times too small, K being the number of classes: a mean over all numbers (reduction='mean') "
        "divides by classes as well, though only their sum is one divergence (trap 2).",
        lambda s, t, *, temperature: kd_loss(s, t, temperature=temperature) / s.shape[-1],
    ),
    "mean over classes, no T²": Slip(
        "This is K times too small, and T² is missing as well.",
        lambda s, t, *, temperature: no_t2(s, t, temperature=temperature) / s.shape[-1],
    ),
    "sum over images": Slip(
        "The loss is summed over the batch: twice the images would mean twice the step. Take the mean over images.",
        lambda s, t, *, temperature: temperature**2 * divergences(s, t, temperature=temperature).sum(),
    ),
    "sum over images, no T²": Slip(
        "The loss is summed over the batch, and T² is missing as well. Take the mean over images.",
        lambda s, t, *, temperature: divergences(s, t, temperature=temperature).sum(),
    ),
    "reverse": Slip(
        "This is KL(student‖teacher): the student's own probabilities weight. Here the teacher's must (trap 1).",
        reverse,
    ),
    "cross-entropy": Slip(
        "This is a cross-entropy with the teacher's rows. It has the same gradient, but it is not 0 when student and "
        "teacher agree: the teacher's entropy is still in it.",
        cross_entropy,
    ),
    "only teacher softened": Slip("Only the teacher is softened. Both rows need the same T.", _student_not_softened),
    "only student softened": Slip("Only the student is softened. Both rows need the same T.", _teacher_not_softened),
    "softmax over batch": Slip(
        "The softmax runs over the batch, dim=0. A row of probabilities belongs to one image.", _softmax_over_batch
    ),
    "T multiplies": Slip(
        "The logits are multiplied by T. They are divided by it: a large T flattens.",
        lambda s, t, *, temperature: temperature**2 * no_t2(s, t, temperature=1 / temperature),
    ),
    "no logarithm": Slip(
        "F.kl_div got probabilities as its first argument. It wants their logarithms there: log_softmax.",
        lambda s, t, *, temperature: (
            temperature**2
            * F.kl_div(F.softmax(s / temperature, dim=-1), F.softmax(t / temperature, dim=-1), reduction="batchmean")
        ),
    ),
    "not a number": Slip(
        "This is not a number on any batch. F.kl_div takes logarithms first and probabilities second; for logarithms "
        "as its second argument it has log_target=True.",
        lambda s, t, *, temperature: torch.tensor(math.nan),
    ),
    "squared logits": Slip(
        "This is the squared difference of the logits. The divergence comes near to it for a large T, up to a factor, "
        "and for no other.",
        lambda s, t, *, temperature: (s - t).square().mean(),
        lambda s, t, *, temperature: (s - t).square().sum(dim=-1).mean(),
        lambda s, t, *, temperature: ((s - t) / temperature).square().mean(),
    ),
    "distance of probabilities": Slip(
        "The probabilities are compared by a squared or absolute difference. A divergence is asked for: it weights "
        "the difference of the logarithms by the teacher's probabilities.",
        _of_probabilities(lambda q, p: (q - p).square().mean()),
        _of_probabilities(lambda q, p: (q - p).square().sum(dim=-1).mean()),
        _of_probabilities(lambda q, p: (q - p).abs().mean()),
        _of_probabilities(lambda q, p: (q - p).abs().sum(dim=-1).mean()),
    ),
    "Jensen-Shannon": Slip(
        "This is a symmetric divergence (Jensen-Shannon, or both directions). Asked for is KL(teacher‖student) alone.",
        _jensen_shannon,
        _both_ways,
    ),
    "teacher's class only": Slip(
        "Only the teacher's most probable class counts. How it ranks the others, its dark knowledge, is lost.",
        lambda s, t, *, temperature: temperature**2 * F.cross_entropy(s / temperature, t.argmax(dim=-1)),
        lambda s, t, *, temperature: F.cross_entropy(s, t.argmax(dim=-1)),
    ),
    "one value per image": Slip(
        "One value per image came where one loss is needed: is the mean over the batch missing?",
        lambda s, t, *, temperature: temperature**2 * divergences(s, t, temperature=temperature),
    ),
}
TEACHER_TERM = (
    "no T²", "one T", "mean over classes", "mean over classes, no T²", "sum over images", "sum over images, no T²",
    "reverse", "cross-entropy", "only teacher softened", "only student softened",
)  # fmt: skip


def _mixed(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float,
    kd: Callable | None = None, swapped: bool = False, label_temperature: float = 1.0, factor_on_all: bool = False,
) -> Tensor:  # fmt: skip
    hard = F.cross_entropy(student_logits / label_temperature, labels)
    soft = (kd or kd_loss)(student_logits, teacher_logits, temperature=temperature)
    share = 1 - alpha if swapped else alpha
    if factor_on_all:
        return share * soft + (1 - share) * temperature**2 * hard
    return share * soft + (1 - share) * hard


def _with(**changes: Any) -> Callable:
    return lambda s, t, labels, **knobs: _mixed(s, t, labels, **knobs, **changes)


def _as_teacher_term(kd: Callable) -> Callable:
    return _with(kd=kd)


SWAPPED = Slip("α is on the wrong term: it is the share of the teacher, 1 - α that of the labels.", _with(swapped=True))
DISTILLATION = {
    "α swapped": SWAPPED,
    **mapped(KD, _as_teacher_term, *TEACHER_TERM),
    "α swapped, no T²": Slip("α is on the wrong term, and T² is missing.", _with(kd=no_t2, swapped=True)),
    "α swapped, mean over classes": Slip(
        "The loss is K times too small in its teacher's term, and α is on the wrong one.",
        *(_with(kd=wrong, swapped=True) for wrong in KD["mean over classes"].wrong),
    ),
    "T² on labels": Slip(
        "T² multiplies the labels' term too. They are not softened, so nothing needs to be made up for.",
        _with(factor_on_all=True),
    ),
    "softened labels": Slip(
        "The labels' term sees softened logits. Labels are hard: cross-entropy takes the logits as they are.",
        lambda s, t, labels, *, temperature, alpha: _mixed(
            s, t, labels, temperature=temperature, alpha=alpha, label_temperature=temperature
        ),
    ),
    "sums": Slip(
        "Both terms are summed over the batch: twice the images would mean twice the step. Take means over images.",
        lambda s, t, labels, **knobs: len(s) * _mixed(s, t, labels, **knobs),
    ),
    "no weights": Slip(
        "The two terms are added without weights.",
        lambda s, t, labels, *, temperature, alpha: kd_loss(s, t, temperature=temperature) + F.cross_entropy(s, labels),
    ),
    "labels for the teacher": Slip(
        "The labels' term looks at the teacher's logits. It is the student that has to learn the labels.",
        lambda s, t, labels, *, temperature, alpha: (
            alpha * kd_loss(s, t, temperature=temperature) + (1 - alpha) * F.cross_entropy(t, labels)
        ),
    ),
}
