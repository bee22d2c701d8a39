"""Divergences of logits beyond plain KL: decoupled KD, and the generalised Jensen-Shannon divergence.

Chapter 11. Letters: B batch, K classes; T is ``temperature``.
"""

import math

import torch
from torch import Tensor

from .._arguments import (
    check_labels,
    check_logit_pair,
    check_number,
    check_temperature,
    check_weight,
    known_value,
)
from ._high_temperature import capped, is_high, scaled_divergence, scaled_log_mean_exp, scaled_log_ratio
from ._numerics import in_one_precision, log_soften


def decoupled_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    alpha: float | Tensor = 1.0,
    beta: float | Tensor = 8.0,
) -> Tensor:
    r"""Decoupled knowledge distillation: separate weights for the target class and for the others.

    .. math:: \frac{T^2}{B} \sum_b \alpha\,\mathrm{KL}\big([p_y, 1-p_y] \,\|\, [q_y, 1-q_y]\big)
              + \beta\,\mathrm{KL}\big(\hat p \,\|\, \hat q\big)

    with p the teacher's and q the student's distribution at T, and y the label. A hat marks the distribution over the
    other K - 1 classes only, renormalised.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, K)
        Logits for the same samples, K ≥ 2. Further leading dimensions are averaged over. The teacher's side receives
        no gradient.
    labels : Tensor of int, shape (B,)
        Target classes, in [0, K).
    temperature : float
        Positive number T that divides the logits.
    alpha : float
        Weight ≥ 0 of the target-class term (TCKD).
    beta : float
        Weight ≥ 0 of the non-target-class term (NCKD).

    Returns
    -------
    Tensor, shape ()
        Nats times T². 0 when the two distributions agree.

    Raises
    ------
    ValueError
        If shapes differ, K < 2, labels are out of range, temperature is not positive and finite, or a weight is
        negative.

    Notes
    -----
    Plain KD couples the terms: per sample, KD = TCKD + (1 - p_y)·NCKD. So a teacher that is sure of its answer says
    little about the other classes. With **two classes** there is one other class, NCKD is always 0, and β has no
    effect. ``alpha`` is a weight here, not a share in [0, 1]. The cross-entropy of the labels is not included.

    References
    ----------
    Zhao, Cui, Song, Qiu, Liang (2022), arXiv:2203.08679, equations 5-7.

    Examples
    --------
    >>> student, teacher, labels = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log(), torch.tensor([0])
    >>> decoupled_kd_loss(student, teacher, labels, temperature=1)  # two classes: plain KD, whatever β is
    tensor(0.1308)
    """
    check_logit_pair(student_logits, teacher_logits)
    check_labels(labels, student_logits)
    temperature = check_temperature(temperature)
    alpha, beta = check_weight(alpha, "alpha"), check_weight(beta, "beta")
    student, teacher = in_one_precision(student_logits, teacher_logits)
    log_q = log_q_yes, log_q_no, log_q_others = _split_target(log_soften(student, temperature), labels)
    log_p = log_p_yes, log_p_no, log_p_others = _split_target(log_soften(teacher, temperature), labels)
    if is_high(temperature):
        temperature = capped(temperature)
        scaled_q, scaled_p = (_scaled_split(logits, labels, temperature) for logits in (student, teacher))
        return _decoupled_at_high_temperature(log_p, log_q, scaled_p, scaled_q, temperature, alpha, beta)
    target = log_p_yes.exp() * (log_p_yes - log_q_yes) + log_p_no.exp() * (log_p_no - log_q_no)  # (B,)
    others = _kl(log_p_others, log_q_others)  # (B,)
    return temperature**2 * (alpha * target + beta * others).mean()


def generalized_jsd_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, beta: float | Tensor, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Generalised Jensen-Shannon divergence, from forward KL (β = 0) to reverse KL (β = 1).

    .. math:: \beta\,\mathrm{KL}(p \,\|\, m) + (1-\beta)\,\mathrm{KL}(q \,\|\, m),\quad m = \beta p + (1-\beta) q

    with p the teacher's and q the student's distribution at T, for β inside (0, 1); at β = 0 it is KL(p‖q) and at
    β = 1 it is KL(q‖p).

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (..., K)
        Logits for the same samples or tokens. The mean runs over all leading dimensions. The teacher's side receives
        no gradient.
    beta : float
        Share of the teacher in the mixture m, in [0, 1].
    temperature : float
        Positive number T that divides both sides' logits.

    Returns
    -------
    Tensor, shape ()
        Nats, without T². 0 when the two distributions agree.

    Raises
    ------
    ValueError
        If shapes differ, beta is outside [0, 1], or the temperature is not positive and finite.

    Notes
    -----
    The formula itself is 0 at both ends, so the ends are defined by limits: JSD/β tends to KL(p‖q) as β → 0, and
    JSD/(1-β) to KL(q‖p) as β → 1. The value therefore jumps at the ends. Near them the loss is small: divide it by β
    or 1-β, or raise the learning rate.

    References
    ----------
    Agarwal et al. (2024), arXiv:2306.13649, equation 1 and section 2.

    Examples
    --------
    >>> student, teacher = torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 100.0]])
    >>> generalized_jsd_loss(student, teacher, beta=0.5)  # no class in common: log(2)
    tensor(0.6931)
    >>> generalized_jsd_loss(student, teacher, beta=0)  # forward KL
    tensor(100.)
    """
    check_logit_pair(student_logits, teacher_logits)
    temperature = check_temperature(temperature)
    beta = _check_mixture(beta)
    student, teacher = in_one_precision(student_logits, teacher_logits)
    log_q = log_soften(student, temperature)  # (..., K)
    log_p = log_soften(teacher, temperature)  # (..., K)
    if not isinstance(beta, Tensor):
        if beta == 0:
            return _kl(log_p, log_q).mean()
        if beta == 1:
            return _kl(log_q, log_p).mean()
        return _mixed_kl(log_p, log_q, beta, math.log(beta), math.log1p(-beta)).mean()
    # β may be the mapped axis of torch.func.vmap: no branch can look at it.
    at_an_end = (beta == 0) | (beta == 1)
    inside = torch.where(at_an_end, torch.full_like(beta, 0.5), beta)
    mixed = _mixed_kl(log_p, log_q, inside, inside.log(), torch.log1p(-inside)).mean()
    ends = torch.where(beta == 0, _kl(log_p, log_q).mean(), _kl(log_q, log_p).mean())
    return torch.where(at_an_end, ends, mixed)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p‖q) along the last dimension, from log-probabilities: finite wherever they are."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _mixed_kl(
    log_p: Tensor,
    log_q: Tensor,
    beta: float | Tensor,
    log_beta: float | Tensor,
    log_rest: float | Tensor,
) -> Tensor:
    log_m = torch.logaddexp(log_p + log_beta, log_q + log_rest)  # (..., K)
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def _split_target(log_probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of the target (B,), of all others together (B,), and among the others (B, K-1)."""
    target = labels.long().unsqueeze(-1)  # (B, 1)
    log_others = _gather_others(log_probs, target)  # (B, K-1)
    log_no = log_others.logsumexp(dim=-1)  # (B,)
    return log_probs.gather(-1, target).squeeze(-1), log_no, log_others.log_softmax(dim=-1)


def _gather_others(values: Tensor, target: Tensor) -> Tensor:
    """Leave out each row's target: (B, K) -> (B, K-1). Masking it by -inf would give NaN times probability 0."""
    others = torch.arange(values.shape[-1] - 1, device=values.device)
    return values.gather(-1, others + (others >= target))


def _scaled_split(logits: Tensor, labels: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What ``_split_target`` gives, times T and without the digits that student and teacher have in common."""
    target = labels.long().unsqueeze(-1)  # (B, 1)
    ratios = scaled_log_ratio(logits, temperature)  # (B, K)
    others = _gather_others(ratios, target)  # (B, K-1)
    together = scaled_log_mean_exp(others, temperature)  # (B, 1)
    return ratios.gather(-1, target).squeeze(-1), together.squeeze(-1), others - together


def _decoupled_at_high_temperature(
    log_p: tuple[Tensor, ...],
    log_q: tuple[Tensor, ...],
    scaled_p: tuple[Tensor, ...],
    scaled_q: tuple[Tensor, ...],
    temperature: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
) -> Tensor:
    """Decoupled KD from split log-probabilities and from scaled ones."""

    def target_or_not(split: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(split[:2], dim=-1)  # (B, 2)

    target = scaled_divergence(
        target_or_not(log_p), target_or_not(log_q), target_or_not(scaled_q) - target_or_not(scaled_p), temperature
    )
    others = scaled_divergence(log_p[2], log_q[2], scaled_q[2] - scaled_p[2], temperature)
    return (alpha * target + beta * others).mean()


def _check_mixture(beta: float | Tensor) -> float | Tensor:
    beta = check_number(beta, "beta")
    value = known_value(beta)
    if value is None or 0 <= value <= 1:
        return beta
    raise ValueError(
        f"beta must be in [0, 1], got {value}. It is the teacher's share of the mixture: "
        "0 gives forward KL, 1 gives reverse KL."
    )
