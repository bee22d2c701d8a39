"""Losses that ignore the scale of predictions: standardised logits, and correlations (DIST).

Chapter 11. Letters: B batch, K classes; T is ``temperature``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import (
    check_class_dimension,
    check_floating,
    check_logit_pair,
    check_temperature,
    check_two_classes,
    check_weight,
    warn_of_probabilities,
)
from ._high_temperature import capped, is_flat, scaled_log_ratio
from ._numerics import at_least_float32, in_one_precision, log_soften, over_largest


def standardize_logits(logits: Tensor) -> Tensor:
    r"""Each row to mean 0 and standard deviation 1: :math:`(z - \bar z) / \sigma(z)`.

    Use it on the student's and on the teacher's logits, in front of any loss on logits. The student must then match
    the order and spacing of the teacher's scores, but not their size.

    Parameters
    ----------
    logits : Tensor, shape (..., K)
        Scores before the softmax, K ≥ 2.

    Returns
    -------
    Tensor, shape (..., K)
        Standardised rows. A constant row becomes 0. Gradients flow to ``logits``.

    Raises
    ------
    ValueError
        If the logits are not floating point, or K < 2.

    Notes
    -----
    The variance is divided by K, as in the paper. Some public code divides by K - 1, which amounts to a T larger by
    :math:`\sqrt{K/(K-1)}`. Standardised scores have size 1, so T from 2 to 4 is already high, and T² balances gradients
    from smaller T on. The gradient with respect to raw logits has a further factor 1/σ, so a student with small
    logits is pushed harder.

    References
    ----------
    Sun, Ren, Li, Wang, Cao (2024), arXiv:2403.01427, algorithm 1.

    Examples
    --------
    >>> standardize_logits(torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    tensor([[-1.2247,  0.0000,  1.2247],
            [-1.2247,  0.0000,  1.2247]])
    """
    check_floating(logits, "logits")
    check_class_dimension(logits, "logits")
    check_two_classes(logits, "One number has no spread to divide by.")
    warn_of_probabilities(logits, "logits")
    logits = at_least_float32(logits)
    lowest, largest = (extreme(logits.detach(), dim=-1, keepdim=True) for extreme in (torch.amin, torch.amax))
    spread = largest - lowest
    constant = spread <= 8 * torch.finfo(logits.dtype).eps * largest.abs()
    # To [0, 1] first: squares of very large or very small logits would leave the range of float32.
    scaled = (logits - lowest) / spread.masked_fill(constant, math.inf)  # (..., K), 0 where constant
    return F.layer_norm(scaled, scaled.shape[-1:], eps=_limits(scaled)[0])  # without learned weights: z-scores


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
        Positive number T that divides the logits.
    beta : float
        Weight ≥ 0 of the relation between the classes of one sample (rows).
    gamma : float
        Weight ≥ 0 of the relation between the samples of one class (columns).

    Returns
    -------
    Tensor, shape ()
        Value between 0 and 2 (β + γ). 0 when each row and column agrees up to scale and offset.

    Raises
    ------
    ValueError
        If shapes differ or are not (B, K), B or K is 1, temperature is not positive and finite, or a weight is
        negative.

    Notes
    -----
    There is no T², because neither a correlation nor its gradient shrinks as T grows. The authors' code multiplies by
    T²; at its default T = 1 that changes nothing. A row or column in which the *teacher* is constant has no
    correlation and counts 0. One in which only the student is constant counts 1 and gives no gradient.

    References
    ----------
    Huang, You, Wang, Qian, Xu (2022), arXiv:2205.10536, equations 6-10.

    Examples
    --------
    >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> dist_loss(3 * teacher, teacher)  # more certain, but correlated
    tensor(0.)
    >>> dist_loss(teacher.flip(1), teacher)  # every row and column has correlation -1: 2·(β + γ)
    tensor(4.)
    """
    check_logit_pair(student_logits, teacher_logits)
    if student_logits.dim() != 2 or len(student_logits) < 2:
        raise ValueError(
            f"logits must have shape (B, K) with B ≥ 2 and K ≥ 2, got {tuple(student_logits.shape)}. "
            "Correlation along a row or a column needs at least two numbers."
        )
    temperature = check_temperature(temperature)
    beta, gamma = check_weight(beta, "beta"), check_weight(gamma, "gamma")
    student, teacher = in_one_precision(student_logits, teacher_logits)
    if is_flat(student, temperature) or is_flat(teacher, temperature):
        rows, columns = zip(*(_standardize_flat(logits, temperature) for logits in (student, teacher)), strict=True)
    else:
        log_q = log_soften(student, temperature)  # (B, K)
        log_p = log_soften(teacher, temperature)  # (B, K)
        rows = tuple(_standardize_rows(log_probs.exp()) for log_probs in (log_q, log_p))
        columns = tuple(
            _standardize_columns(_digits_of_a_sure_class(_largest_is_one(log_probs), log_probs)[0])
            for log_probs in (log_q, log_p)
        )
    between_classes, between_samples = _mean_distance(*rows), _mean_distance(*columns)
    return beta * between_classes + gamma * between_samples


def _mean_distance(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Mean of 1 - ρ, from standardised numbers, whose mean product is ρ, and from where there are any."""
    (student_scores, student_varies), (teacher_scores, teacher_varies) = student, teacher
    # Where one of them is constant the product is 0, and so is the gradient.
    products = student_scores * (teacher_scores * (student_varies & teacher_varies))  # (B, K)
    return teacher_varies.mean(dtype=products.dtype) - products.mean()


def _standardize_rows(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Each row to mean 0 and deviation 1, (B, K); and whether it varies by more than rounding, (B, 1)."""
    least, rounding = _limits(numbers)
    scores, mean, inverse = torch.native_layer_norm(numbers, numbers.shape[1:], None, None, least)
    return scores, rounding * mean * inverse < 1


def _standardize_columns(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Each column to mean 0 and deviation 1, (B, K); and whether it varies by more than rounding, (K,)."""
    least, rounding = _limits(numbers)
    scores, mean, inverse = torch.native_batch_norm(numbers, None, None, None, None, True, 0.0, least)
    return scores, rounding * mean * inverse < 1


def _standardize_flat(
    logits: Tensor, temperature: float | Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Rows and columns of nearly uniform probabilities p, from T·(K·p - 1): its digits are not those of 1/K."""
    temperature = capped(temperature)
    ratios = scaled_log_ratio(logits, temperature)  # (B, K) T·log(K·p)
    below = ratios - ratios.detach().amax(dim=0, keepdim=True)  # (B, K) of the column's largest
    # Correlation ignores a factor, so numbers of any size are brought to the size of 1.
    rows = over_largest(temperature * (ratios / temperature).expm1(), dim=1)
    columns = over_largest(temperature * (below / temperature).expm1(), dim=0)
    log_probs = ratios / temperature - math.log(logits.shape[1])
    columns, sure = _digits_of_a_sure_class(columns, log_probs)
    by_columns, varies = _standardize_columns(columns)
    rounding = 8 * torch.finfo(logits.dtype).eps * logits.detach().abs().amax(dim=1, keepdim=True)  # (B, 1)
    return (
        (_standardize_rows(rows)[0], _range(ratios, dim=1) > rounding),
        (by_columns, torch.where(sure, varies, (_range(ratios, dim=0) > rounding.amax()).squeeze(0))),
    )


def _digits_of_a_sure_class(columns: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """Replace the column of a class that every sample takes for sure: 1 - 1e-9 is 1 in float32, and 1e-9 is not 0.

    Correlation ignores an offset, so 1 - p may stand for p, with the sign turned. There is one such class at most.

    Returns
    -------
    tuple of Tensor
        The columns (B, K), and which of them was replaced (K,).
    """
    log_probs = log_probs.expand_as(columns)
    classes = torch.arange(columns.shape[1], device=columns.device)
    surest = classes == log_probs.detach().amin(dim=0).argmax()  # (K,)
    sure = surest & (log_probs.detach() > math.log(0.9)).all(dim=0)
    others = log_probs.masked_fill(surest, -math.inf).logsumexp(dim=1, keepdim=True)  # (B, 1) log(1 - p)
    return torch.where(sure, -_largest_is_one(others), columns), sure


def _range(numbers: Tensor, *, dim: int) -> Tensor:
    numbers = numbers.detach()
    return numbers.amax(dim=dim, keepdim=True) - numbers.amin(dim=dim, keepdim=True)


def _limits(numbers: Tensor) -> tuple[float, float]:
    """The least variance to divide by, and the share of the mean below which a deviation is rounding."""
    limits = torch.finfo(numbers.dtype)
    # Small enough to change nothing; its power of -3/2, which the backward pass takes, still is a float.
    return limits.tiny ** (2 / 3), 8 * limits.eps


def _largest_is_one(log_probs: Tensor) -> Tensor:
    """Columns of probabilities up to a factor, which correlation ignores: a class none favours cannot underflow."""
    return (log_probs - log_probs.detach().amax(dim=0, keepdim=True)).exp()
