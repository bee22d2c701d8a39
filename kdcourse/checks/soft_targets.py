"""Checks of exercise 02, soft targets: the loss, a repair, two questions about a picture, a paired interval."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from ..results import t_quantile
from ..sweeps import mean_interval
from ._core import (
    Case,
    Question,
    Slip,
    check_answers,
    check_gradient,
    check_no_gradient,
    check_values,
    new_generator,
    passed,
    random_labels,
    random_tensor,
)

_kd_loss, _distillation_loss = losses.kd_loss, losses.distillation_loss


def check_kd_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_logits, teacher_logits, *, temperature)`` of exercise 02, task 1.

    Parameters
    ----------
    function : callable
        Takes two tensors of shape (B, K) and a temperature; returns the loss of ``kdcourse.losses.kd_loss``.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    cases = _logit_cases(new_generator(seed))
    check_values(function, _kd_loss, cases, slips=KD_SLIPS)
    saturated = Case((cases[0].args[0], 1e4 * cases[0].args[1]), {"temperature": 1.0})
    check_values(
        function, _kd_loss, [saturated], slips=[Slip(NOT_LOG_SPACE, _kd_naive), Slip(NOT_LOG_SPACE, _not_finite)]
    )
    check_gradient(function, cases[0], message=NO_GRADIENT, expected=_kd_loss)
    check_no_gradient(function, cases[0], argument=1, message=NOT_DETACHED)
    passed(
        f"The value agrees with T² KL(teacher‖student) on {len(cases)} random batches with T from 0.5 to 20, it stays "
        "finite for a teacher that is sure, and no gradient reaches the teacher."
    )


def check_repaired_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_logits, teacher_logits, labels, *, temperature, alpha)`` of exercise 02, task 2.

    Parameters
    ----------
    function : callable
        Takes logits of shape (B, K) twice and labels (B,); returns α T² KL + (1 - α) cross-entropy.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of a mistake that is still there.
    """
    generator = new_generator(seed)
    cases = []
    for case in _logit_cases(generator):
        labels = random_labels(generator, *case.args[0].shape)
        cases.append(Case((*case.args, labels), {**case.kwargs, "alpha": float(generator.uniform(0.1, 0.9))}))
    check_values(function, _distillation_loss, cases, slips=DISTILLATION_SLIPS)
    check_gradient(function, cases[0], message=NO_GRADIENT, expected=_distillation_loss)
    check_no_gradient(function, cases[0], argument=1, message=NOT_DETACHED)
    passed(
        f"On {len(cases)} random batches: sum over classes, mean over images, T² in front of the teacher's term only, "
        "α on the teacher, labels at T = 1, and the teacher gets no gradient."
    )


def check_paired_interval(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(errors, baseline_errors)`` of exercise 02, task 4: a paired difference with its interval.

    Parameters
    ----------
    function : callable
        Takes two lists of numbers, a pair per seed; returns ``(difference, low, high)``.
    seed : int, optional
        Of the numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for count in (3, 5, 8):
        luck = generator.normal(300, 40, count)  # what both runs of a seed share
        errors = [(luck + shift + generator.normal(0, 6, count)).round(1).tolist() for shift in (-15, 0)]
        cases.append(Case(tuple(errors)))
    # Quantiles in tables are rounded: an end near 0 is right to a few thousandths.
    check_values(function, _paired_interval, cases, slips=INTERVAL_SLIPS, atol=0.01)
    passed("The difference is paired, method minus baseline, and its interval is Student's for 3, 5 and 8 seeds.")


def check_picture(answers: Any) -> None:
    """Check the two answers of exercise 02, task 3, about the gradient against T.

    Parameters
    ----------
    answers : sequence of two str
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
                "a": "read the lower curve at T = 8 and at T = 16 on its logarithmic axis.",
                "c": "that would be one factor 1/T. A second one hides in q - p: both rows move towards 1/K.",
            },
            because="without T² the gradient falls like 1/T²: one 1/T from the chain rule, one from q - p",
        ),
        Question(
            right="c",
            wrong={
                "a": "look at the upper curve from T = 0.5 to T = 4: it is not level.",
                "b": "a factor can always be multiplied; ask where the softmax is nearly linear.",
            },
            because="q - p is proportional to 1/T only where the logits are small against T; below, T² promises too "
            "much",
        ),
    )


def _logit_cases(generator: np.random.Generator) -> list[Case]:
    cases = []
    for temperature in (0.5, 3.0, 8.0, 20.0):
        batch, classes = (int(n) for n in generator.integers((3, 4), (9, 12)))
        logits = [random_tensor(generator, batch, classes, scale=3) for _ in range(2)]
        cases.append(Case(tuple(logits), {"temperature": temperature}))
    return cases


NO_GRADIENT = "No gradient reaches the student's logits: is something detached too much?"
NOT_DETACHED = (
    "A gradient reaches the teacher's logits. The teacher is a fixed target: training would change it to be imitated "
    "more easily."
)
NOT_LOG_SPACE = (
    "For a teacher that is very sure the loss is not finite: a probability was rounded to 0, and its logarithm taken. "
    "Stay in log space (trap 4)."
)


def _log_rows(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return F.log_softmax(student_logits / temperature, dim=-1), F.log_softmax(teacher_logits / temperature, dim=-1)


def _kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_q, log_p = _log_rows(student_logits, teacher_logits, temperature)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (B,), no T²


def _kd_naive(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    q, p = (row.exp() for row in _log_rows(student_logits, teacher_logits, temperature))
    return temperature**2 * (p * (p.log() - q.log())).sum(dim=-1).mean()


def _not_finite(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    return torch.tensor(math.inf)


def _reverse(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _kd(teacher_logits, student_logits, temperature=temperature).mean()


def _cross_entropy(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_q, log_p = _log_rows(student_logits, teacher_logits, temperature)
    return -(temperature**2) * (log_p.exp() * log_q).sum(dim=-1).mean()


def _student_not_softened(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _kd(student_logits * temperature, teacher_logits, temperature=temperature).mean()


def _softmax_over_batch(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_q, log_p = (F.log_softmax(logits / temperature, dim=0) for logits in (student_logits, teacher_logits))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


KD_SLIPS = (
    Slip(
        "The loss is T² times too small: the factor T² is missing. Without it the teacher's share fades as T grows.",
        lambda s, t, *, temperature: _kd(s, t, temperature=temperature).mean(),
    ),
    Slip(
        "The loss is T times too small: the gradient loses one 1/T in the chain rule and one more in q - p.",
        lambda s, t, *, temperature: temperature * _kd(s, t, temperature=temperature).mean(),
    ),
    Slip(
        "The loss is K times too small, K being the number of classes: a mean over all numbers (reduction='mean') "
        "divides by classes as well, though only their sum is one divergence (trap 2).",
        lambda s, t, *, temperature: temperature**2 * _kd(s, t, temperature=temperature).mean() / s.shape[-1],
    ),
    Slip(
        "This is K times too small, and T² is missing as well.",
        lambda s, t, *, temperature: _kd(s, t, temperature=temperature).mean() / s.shape[-1],
    ),
    Slip(
        "The loss is summed over the batch: twice the images would mean twice the step. Take the mean over images.",
        lambda s, t, *, temperature: temperature**2 * _kd(s, t, temperature=temperature).sum(),
    ),
    Slip(
        "This is KL(student‖teacher): the student's own probabilities weight. Here the teacher's must (trap 1).",
        _reverse,
    ),
    Slip(
        "This is a cross-entropy with the teacher's rows. It has the same gradient, but it is not 0 when student and "
        "teacher agree: the teacher's entropy is still in it.",
        _cross_entropy,
    ),
    Slip("Only the teacher is softened. Both rows need the same T.", _student_not_softened),
    Slip("The softmax runs over the batch, dim=0. A row of probabilities belongs to one image.", _softmax_over_batch),
    Slip(
        "The logits are multiplied by T. They are divided by it: a large T flattens.",
        lambda s, t, *, temperature: temperature**2 * _kd(s, t, temperature=1 / temperature).mean(),
    ),
    Slip(
        "F.kl_div got probabilities as its first argument. It wants their logarithms there: log_softmax.",
        lambda s, t, *, temperature: (
            temperature**2
            * F.kl_div(F.softmax(s / temperature, dim=-1), F.softmax(t / temperature, dim=-1), reduction="batchmean")
        ),
    ),
    Slip(
        "This is not a number on any batch. F.kl_div takes logarithms first and probabilities second; for logarithms "
        "as its second argument it has log_target=True.",
        lambda s, t, *, temperature: torch.tensor(math.nan),
    ),
    Slip(
        "This is the squared difference of the logits. The divergence comes near to it for a large T, up to a factor, "
        "and for no other.",
        lambda s, t, *, temperature: (s - t).square().mean(),
    ),
    Slip(
        "One value per image came where one loss is needed: is the mean over the batch missing?",
        lambda s, t, *, temperature: temperature**2 * _kd(s, t, temperature=temperature),
    ),
)


def _mixed(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float,
    kd: Callable | None = None, swapped: bool = False, label_temperature: float = 1.0, factor_on_all: bool = False,
) -> Tensor:  # fmt: skip
    hard = F.cross_entropy(student_logits / label_temperature, labels)
    soft = (kd or _kd_loss)(student_logits, teacher_logits, temperature=temperature)
    share = 1 - alpha if swapped else alpha
    if factor_on_all:
        return share * soft + (1 - share) * temperature**2 * hard
    return share * soft + (1 - share) * hard


def _with(**changes: Any) -> Callable:
    return lambda s, t, labels, **knobs: _mixed(s, t, labels, **knobs, **changes)


DISTILLATION_SLIPS = (
    Slip("α is on the wrong term: it is the share of the teacher, 1 - α that of the labels.", _with(swapped=True)),
    *(Slip(slip.message, _with(kd=slip.wrong)) for slip in KD_SLIPS[:8]),
    Slip(
        "α is on the wrong term, and T² is missing.",
        _with(kd=KD_SLIPS[0].wrong, swapped=True),
    ),
    Slip(
        "The loss is K times too small in its teacher's term, and α is on the wrong one.",
        _with(kd=KD_SLIPS[2].wrong, swapped=True),
    ),
    Slip(
        "T² multiplies the labels' term too. They are not softened, so nothing needs to be made up for.",
        _with(factor_on_all=True),
    ),
    Slip(
        "The labels' term sees softened logits. Labels are hard: cross-entropy takes the logits as they are.",
        lambda s, t, labels, *, temperature, alpha: _mixed(
            s, t, labels, temperature=temperature, alpha=alpha, label_temperature=temperature
        ),
    ),
    Slip(
        "Both terms are summed over the batch: twice the images would mean twice the step. Take means over images.",
        lambda s, t, labels, **knobs: len(s) * _mixed(s, t, labels, **knobs),
    ),
    Slip(
        "The two terms are added without weights.",
        lambda s, t, labels, *, temperature, alpha: (
            _kd_loss(s, t, temperature=temperature) + F.cross_entropy(s, labels)
        ),
    ),
)


def _paired_interval(errors: list[float], baseline_errors: list[float]) -> tuple[float, float, float]:
    return mean_interval([a - b for a, b in zip(errors, baseline_errors, strict=True)])


def _interval_with(half_width: Callable[[np.ndarray, np.ndarray], float]) -> Callable:
    def wrong(errors: list[float], baseline_errors: list[float]) -> tuple[float, float, float]:
        a, b = np.asarray(errors), np.asarray(baseline_errors)
        difference, half = float((a - b).mean()), half_width(a, b)
        return difference, difference - half, difference + half

    return wrong


def _student_t(count: int) -> float:
    return t_quantile(0.95, count - 1)


INTERVAL_SLIPS = (
    Slip(
        "The sign is turned round: take method minus baseline, so that fewer errors give a negative number.",
        lambda errors, baseline_errors: _paired_interval(baseline_errors, errors),
    ),
    Slip(
        "1.96 is for many seeds. With few, the deviation itself is uncertain: Student's t is needed, with n - 1 "
        "degrees of freedom.",
        _interval_with(lambda a, b: 1.96 * float((a - b).std(ddof=1)) / math.sqrt(len(a))),
    ),
    Slip(
        "The t is that of one seed fewer, so the interval is too wide: STUDENT_T goes by the number of seeds already.",
        _interval_with(lambda a, b: _student_t(len(a) - 1) * float((a - b).std(ddof=1)) / math.sqrt(len(a))),
    ),
    Slip(
        "The interval is that of single runs, not of their mean: the deviation is to be divided by √n.",
        _interval_with(lambda a, b: _student_t(len(a)) * float((a - b).std(ddof=1))),
    ),
    Slip(
        "The deviation is divided by n where n - 1 is needed (ddof=1, correction=1): the mean came from the same "
        "numbers.",
        _interval_with(lambda a, b: _student_t(len(a)) * float((a - b).std()) / math.sqrt(len(a))),
    ),
    Slip(
        "The two columns were treated as if they had nothing to do with each other. Subtract within each seed first: "
        "what both runs of a seed share then falls out.",
        _interval_with(
            lambda a, b: _student_t(len(a)) * math.sqrt(float(a.var(ddof=1) + b.var(ddof=1))) / math.sqrt(len(a))
        ),
    ),
)
