"""Newer losses on logits: decoupled KD, DIST, standardised logits and the generalised Jensen-Shannon divergence.

Chapter 11. Letters: B batch, K classes; T is ``temperature``.
"""

import math

import torch
from torch import Tensor

from ._checks import check_floating, check_labels, check_same_shape, check_temperature, check_weight
from ._numerics import at_least_float32
from .soft_targets import _log_soften


def decoupled_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    alpha: float | Tensor = 1.0,
    beta: float | Tensor = 8.0,
) -> Tensor:
    r"""Decoupled knowledge distillation: target class and non-target classes, weighted apart.

    .. math:: \frac{T^2}{B} \sum_b \alpha\,\mathrm{KL}\big([p_y, 1-p_y] \,\|\, [q_y, 1-q_y]\big)
              + \beta\,\mathrm{KL}\big(\hat p \,\|\, \hat q\big)

    with p the teacher's and q the student's distribution at T, y the label, and the hat meaning: among the other
    K - 1 classes only, renormalised.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, K)
        Logits for the same samples, K ≥ 2. Further leading dimensions are averaged over. The teacher's side receives
        no gradient.
    labels : Tensor of int, shape (B,)
        The target classes, in [0, K).
    temperature : float
        T > 0.
    alpha : float
        ≥ 0, weight of the target-class term (TCKD).
    beta : float
        ≥ 0, weight of the non-target-class term (NCKD).

    Returns
    -------
    Tensor, shape ()
        In nats times T². 0 when the two distributions agree.

    Raises
    ------
    ValueError
        If shapes differ, K < 2, labels are out of range, temperature is not positive and finite, or a weight is
        negative.

    Notes
    -----
    Plain KD couples the terms: per sample, KD = TCKD + (1 - p_y)·NCKD, so a teacher that is sure of its answer
    silences its own knowledge about the other classes. With **two classes** there is one other class, NCKD is 0
    whatever the logits, and β does nothing. ``alpha`` is a weight here, not a share in [0, 1]; the labels'
    cross-entropy is the caller's to add.

    References
    ----------
    Zhao, Cui, Song, Qiu, Liang (2022), arXiv:2203.08679, equations 5-7.
    """
    check_same_shape(student_logits, teacher_logits)
    _check_two_classes(student_logits, "The loss splits the target class from the others.")
    check_labels(labels, student_logits)
    check_temperature(temperature)
    check_weight(alpha, "alpha")
    check_weight(beta, "beta")
    log_q_yes, log_q_no, log_q_others = _split_target(_log_soften(student_logits, temperature), labels)
    log_p_yes, log_p_no, log_p_others = _split_target(_log_soften(teacher_logits.detach(), temperature), labels)
    target = log_p_yes.exp() * (log_p_yes - log_q_yes) + log_p_no.exp() * (log_p_no - log_q_no)  # (B,)
    others = _kl(log_p_others, log_q_others)  # (B,)
    return temperature**2 * (alpha * target + beta * others).mean()


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    beta: float | Tensor = 1.0,
    gamma: float | Tensor = 1.0,
) -> Tensor:
    r"""DIST: match how predictions correlate, within each sample and within each class.

    .. math:: \beta\,\Big(1 - \frac{1}{B}\sum_b \rho(p_{b,:}, q_{b,:})\Big)
              + \gamma\,\Big(1 - \frac{1}{K}\sum_k \rho(p_{:,k}, q_{:,k})\Big)

    with ρ Pearson's correlation, p the teacher's and q the student's probabilities at T.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, K)
        Logits for the same samples, B ≥ 2 and K ≥ 2. The teacher's side receives no gradient.
    temperature : float
        T > 0.
    beta : float
        ≥ 0, weight of the relation between the classes of one sample (rows).
    gamma : float
        ≥ 0, weight of the relation between the samples of one class (columns).

    Returns
    -------
    Tensor, shape ()
        Between 0 and 2 (β + γ); 0 when each row and column agrees up to scale and offset.

    Raises
    ------
    ValueError
        If shapes differ or are not (B, K), B or K is 1, temperature is not positive and finite, or a weight is
        negative.

    Notes
    -----
    There is no T²: a correlation does not shrink as T grows, and neither does its gradient. The authors' code does
    multiply by T² (at its default T = 1 that changes nothing). A row or column in which the *teacher* is constant
    has no correlation and counts 0; one in which only the student is constant counts 1 and gives no gradient.

    References
    ----------
    Huang, You, Wang, Qian, Xu (2022), arXiv:2205.10536, equations 6-10.
    """
    check_same_shape(student_logits, teacher_logits)
    if student_logits.dim() != 2 or min(student_logits.shape) < 2:
        raise ValueError(
            f"logits must have shape (B, K) with B ≥ 2 and K ≥ 2, got {tuple(student_logits.shape)}. "
            "Correlation along a row or a column needs at least two numbers."
        )
    check_temperature(temperature)
    check_weight(beta, "beta")
    check_weight(gamma, "gamma")
    log_q = _log_soften(student_logits, temperature)  # (B, K)
    log_p = _log_soften(teacher_logits.detach(), temperature)  # (B, K)
    between_classes = _correlation_distance(log_q.exp(), log_p.exp(), dim=1).mean()  # (B,) -> ()
    columns = [_largest_is_one(log_probs, dim=0) for log_probs in (log_q, log_p)]  # (B, K) each
    between_samples = _correlation_distance(*columns, dim=0).mean()  # (K,) -> ()
    return beta * between_classes + gamma * between_samples


def standardize_logits(logits: Tensor) -> Tensor:
    r"""Each row to mean 0 and standard deviation 1: :math:`(z - \bar z) / \sigma(z)`.

    Apply it to the student's and the teacher's logits, then any loss on logits: the student must then match the
    order and spacing of the teacher's scores, not their size.

    Parameters
    ----------
    logits : Tensor, shape (..., K)
        Scores before the softmax, K ≥ 2.

    Returns
    -------
    Tensor, shape (..., K)
        Standardised rows; a constant row becomes 0. Gradients flow to ``logits``; detach the teacher's.

    Raises
    ------
    ValueError
        If the logits are not floating point, or K < 2.

    Notes
    -----
    σ divides by K, as the paper writes it; code found in the wild divides by K - 1, which is the same as a T larger
    by :math:`\sqrt{K/(K-1)}`. Standardised scores have size 1, so T of 2 to 4 is warm here, and the gradient's
    T² rule holds from smaller T on. The gradient with respect to raw logits carries a further 1/σ: a student with
    small logits is pushed harder.

    References
    ----------
    Sun, Ren, Li, Wang, Cao (2024), arXiv:2403.01427, algorithm 1.
    """
    check_floating(logits, "logits")
    _check_two_classes(logits, "One number has no spread to divide by.")
    logits = at_least_float32(logits)
    lowest, largest = (extreme(logits.detach(), dim=-1, keepdim=True) for extreme in (torch.amin, torch.amax))
    spread = largest - lowest
    constant = spread <= 8 * torch.finfo(logits.dtype).eps * largest.abs()
    # To [0, 1] first: squares of very large or very small logits would leave the range of float32.
    scaled = (logits - lowest) / spread.masked_fill(constant, math.inf)  # (..., K), 0 where constant
    centred = scaled - scaled.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)  # (..., 1)
    return centred / variance.masked_fill(constant, 1).sqrt()


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
        Logits for the same samples or tokens; averaged over all leading dimensions. The teacher's side receives no
        gradient.
    beta : float
        In [0, 1], the teacher's share of the mixture m.
    temperature : float
        T > 0, for both sides.

    Returns
    -------
    Tensor, shape ()
        In nats, without T². 0 when the two distributions agree.

    Raises
    ------
    ValueError
        If shapes differ, beta is outside [0, 1], or the temperature is not positive and finite.

    Notes
    -----
    Written out, the formula is 0 at both ends. Its limits after division are what the ends stand for: JSD/β tends to
    KL(p‖q) as β → 0, and JSD/(1-β) to KL(q‖p) as β → 1. The value therefore jumps at the ends: near them, scale the
    learning rate or divide yourself.

    References
    ----------
    Agarwal et al. (2024), arXiv:2306.13649, equation 1 and section 2.
    """
    check_same_shape(student_logits, teacher_logits)
    check_temperature(temperature)
    _check_mixture(beta)
    log_q = _log_soften(student_logits, temperature)  # (..., K)
    log_p = _log_soften(teacher_logits.detach(), temperature)  # (..., K)
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
    others = torch.arange(log_probs.shape[-1] - 1, device=labels.device)
    # Gathering leaves no masked -inf behind, whose product with probability 0 would be NaN.
    log_others = log_probs.gather(-1, others + (others >= target))  # (B, K-1)
    log_no = log_others.logsumexp(dim=-1)  # (B,)
    return log_probs.gather(-1, target).squeeze(-1), log_no, log_others.log_softmax(dim=-1)


def _correlation_distance(student: Tensor, teacher: Tensor, *, dim: int) -> Tensor:
    """1 - Pearson's correlation of positive numbers along a dimension."""
    student_mean, teacher_mean = student.mean(dim, keepdim=True), teacher.mean(dim, keepdim=True)
    student, teacher = student - student_mean, teacher - teacher_mean
    student_square, teacher_square = (student * student).sum(dim), (teacher * teacher).sum(dim)
    with torch.no_grad():  # where positive numbers are equal but for rounding
        rounding = 8 * torch.finfo(student.dtype).eps * student.shape[dim] ** 0.5
        teacher_constant = teacher_square <= (rounding * teacher_mean.squeeze(dim)).square()
        constant = teacher_constant | (student_square <= (rounding * student_mean.squeeze(dim)).square())
    # Divided by infinity, a constant has no correlation, and gives and takes no gradient.
    inverse_norms = (student_square * teacher_square).masked_fill(constant, math.inf).rsqrt()
    return (1 - (student * teacher).sum(dim) * inverse_norms).masked_fill(teacher_constant, 0)


def _largest_is_one(log_probs: Tensor, *, dim: int) -> Tensor:
    """Probabilities up to a factor, which correlation ignores: a class that no sample favours cannot underflow."""
    return (log_probs - log_probs.detach().amax(dim=dim, keepdim=True)).exp()


def _check_two_classes(logits: Tensor, why: str) -> None:
    if logits.dim() == 0 or logits.shape[-1] < 2:
        raise ValueError(f"logits need at least two classes in their last dimension, got {tuple(logits.shape)}. {why}")


def _check_mixture(beta: float | Tensor) -> None:
    if not isinstance(beta, Tensor) and not (0 <= beta <= 1 and math.isfinite(beta)):
        raise ValueError(
            f"beta must be in [0, 1], got {beta}. It is the teacher's share of the mixture: "
            "0 gives forward KL, 1 gives reverse KL."
        )
