"""Self-attention as knowledge: probabilities, scores, and relations of values (TinyBERT, MiniLM).

Chapter 09. Letters: B batch, L tokens; d is the width of a head. ``attention_mask`` is the tokenizer's: (B, L), 1
where a token is real, 0 where it is padding. What padding holds changes neither a loss nor a gradient; only the scores
of ``attention_scores_loss`` must be finite there.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import can_look, check_floating, check_mask, check_same_shape, warn_of_probabilities
from ._numerics import MASK_REASON, in_one_precision, keep, mean_of, mean_where
from ._precision import full_precision


def attention_loss(
    student_attention: Tensor,
    teacher_attention: Tensor,
    *,
    attention_mask: Tensor | None = None,
    average_heads: bool = False,
) -> Tensor:
    r"""KL divergence from the teacher's attention, row by row.

    .. math:: \frac{1}{\text{heads} \cdot \text{real tokens}} \sum_{b,h,i} \mathrm{KL}(A^t_{bhi} \,\|\, A^s_{bhi})

    Parameters
    ----------
    student_attention, teacher_attention : Tensor, shape (B, heads, L, L)
        Probabilities, after the softmax: each row sums to 1. The teacher's side receives no gradient.
    attention_mask : Tensor, shape (B, L), optional
        Mask, 1 for real tokens. Rows and columns of padding are left out.
    average_heads : bool
        Whether to compare the mean over heads of each side; needed if the numbers of heads differ.

    Returns
    -------
    Tensor, shape ()
        Mean over real rows and heads, in nats. 0, and part of the graph, when no token is real.

    Raises
    ------
    ValueError
        If the numbers of heads differ (and are not averaged), other sizes differ, a value is negative (a score, not a
        probability), or the mask does not fit.

    Notes
    -----
    There is no second softmax. It would be nearly uniform for numbers between 0 and 1, and the loss nearly 0. Rows are
    divided by their sum over real keys. The sum is 1 unless attention dropout has removed entries: a student in
    training mode needs ``attention_probs_dropout_prob=0`` here. A student's exact 0 counts as the smallest positive
    float.

    References
    ----------
    Wang et al. (2020), MiniLM, arXiv:2002.10957, equation 5 (its last block only).

    Examples
    --------
    >>> student = torch.full((1, 1, 2, 2), 0.5)
    >>> teacher = torch.tensor([0.75, 0.25]).expand(1, 1, 2, 2)
    >>> attention_loss(student, teacher)  # 0.75·log(0.75 / 0.5) + 0.25·log(0.25 / 0.5) in both rows
    tensor(0.1308)
    """
    student, teacher = _paired_heads(student_attention, teacher_attention, attention_mask, average_heads, "attention")
    if attention_mask is not None:
        asking, keys = _real_rows(attention_mask, student.shape[1])
        student, teacher = (keep(side.flatten(0, 2).index_select(0, asking), keys) for side in (student, teacher))
    p, p_sum = _rows_with_sums(teacher, "teacher")  # (..., L), (...)
    q, q_sum = _rows_with_sums(student, "student")
    tiny = torch.finfo(q.dtype).tiny
    # twice as fast as torch.xlogy on a CPU, and 0 · log(tiny) is 0 as well
    apart = (p * (p.clamp(min=tiny).log() - q.clamp(min=tiny).log())).sum(dim=-1)  # (...)
    # of p / p_sum and q / q_sum, without dividing every number
    divergence = apart / p_sum - p_sum.log() + q_sum.log()
    return mean_of(divergence)


def attention_scores_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    attention_mask: Tensor | None = None,
    average_heads: bool = False,
) -> Tensor:
    r"""Mean squared error between attention scores before the softmax, :math:`QK^\top / \sqrt{d}`.

    Parameters
    ----------
    student_scores, teacher_scores : Tensor, shape (B, heads, L, L)
        Scores before the softmax. The teacher's side receives no gradient.
    attention_mask : Tensor, shape (B, L), optional
        Mask, 1 for real tokens. By default all are real.
    average_heads : bool
        Whether to compare the mean over heads of each side; needed if the numbers of heads differ.

    Returns
    -------
    Tensor, shape ()
        Mean over heads and pairs of real tokens. 0, and part of the graph, when no token is real.

    Raises
    ------
    ValueError
        If the numbers of heads differ (and are not averaged), other sizes differ, or the mask does not fit.

    Notes
    -----
    Take the scores before a model sets padded keys to minus infinity: the difference of two infinities is NaN.

    References
    ----------
    Jiao et al. (2020), arXiv:1909.10351, equation 7.

    Examples
    --------
    >>> teacher = torch.ones(1, 2, 5, 5)
    >>> attention_scores_loss(3 * teacher, teacher)  # (3 - 1)² for every pair of tokens
    tensor(4.)
    """
    student, teacher = _paired_heads(student_scores, teacher_scores, attention_mask, average_heads, "attention scores")
    for side, scores in (("student", student), ("teacher", teacher)):
        warn_of_probabilities(scores, f"{side} attention scores")
    if attention_mask is None:
        return F.mse_loss(student, teacher)
    real = attention_mask.to(student.dtype)
    pair = real[:, None, :, None] * real[:, None, None, :]  # (B, 1, L, L)
    pairs = student.shape[1] * pair.sum()
    return F.mse_loss(student * pair, teacher * pair, reduction="sum") / pairs.clamp(min=1)


def value_relation_loss(
    student_values: Tensor, teacher_values: Tensor, *, attention_mask: Tensor | None = None
) -> Tensor:
    r"""KL divergence between value relations :math:`\mathrm{softmax}(V V^\top / \sqrt{d})`, row by row.

    Parameters
    ----------
    student_values, teacher_values : Tensor, shape (B, heads, L, d)
        Value vectors of one block, split into equally many heads on both sides; d may differ. The teacher's side
        receives no gradient.
    attention_mask : Tensor, shape (B, L), optional
        Mask, 1 for real tokens. By default all are real.

    Returns
    -------
    Tensor, shape ()
        Mean over real rows and heads, in nats. 0, and part of the graph, when no token is real.

    Raises
    ------
    ValueError
        If batch, heads or tokens differ, or the mask does not fit.

    References
    ----------
    Wang et al. (2020), MiniLM, arXiv:2002.10957, equations 6 to 8.

    Examples
    --------
    >>> teacher = torch.tensor([2.0, 0.0]).view(1, 1, 2, 1)  # likeness (4, 0) and (0, 0)
    >>> value_relation_loss(torch.zeros(1, 1, 2, 1), teacher)  # the first row alone differs from a uniform one
    tensor(0.3015)
    >>> value_relation_loss(-teacher, teacher)  # relations are inner products: turning all values changes none
    tensor(0.)
    """
    for name, values in (("student values", student_values), ("teacher values", teacher_values)):
        check_floating(values, name)
        if values.dim() != 4 or 0 in values.shape:
            raise ValueError(f"{name} must have shape (B, heads, L, d), got {tuple(values.shape)}.")
    pair = in_one_precision(student_values, teacher_values)
    student, teacher = (_log_relation(values, attention_mask) for values in pair)  # (B, heads, L, L)
    check_same_shape(student, teacher, "value relations")
    divergence = (teacher.exp() * (teacher - student)).sum(dim=-1)  # (B, heads, L)
    return mean_where(divergence, None if attention_mask is None else attention_mask.bool().unsqueeze(1))


def _paired_heads(
    student: Tensor, teacher: Tensor, attention_mask: Tensor | None, average_heads: bool, what: str
) -> tuple[Tensor, Tensor]:
    """Check both sides and the mask, raise half precision, average heads where asked."""
    for side, tensor in (("student", student), ("teacher", teacher)):
        check_floating(tensor, f"{side} {what}")
        if tensor.dim() != 4:
            raise ValueError(f"{side} {what} must have shape (B, heads, L, L), got {tuple(tensor.shape)}.")
    if student.shape[1] != teacher.shape[1] and not average_heads:
        raise ValueError(
            f"the student has {student.shape[1]} attention heads, the teacher {teacher.shape[1]}: heads have no "
            "order in common. Use equally many, or compare their means with average_heads=True."
        )
    student, teacher = in_one_precision(student, teacher)
    if average_heads:
        student, teacher = student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True)  # (B, 1, L, L)
    check_same_shape(student, teacher, what)
    if attention_mask is not None:
        check_mask(attention_mask, (student.shape[0], student.shape[2]), "attention_mask", MASK_REASON)
    return student, teacher


def _real_rows(attention_mask: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Places of real queries' rows among all B·heads·L, shape (rows,), and which keys are real for each, (rows, L)."""
    real = attention_mask.bool()
    asking = real.unsqueeze(1).expand(-1, heads, -1).flatten().nonzero().squeeze(1)
    return asking, real.index_select(0, asking // (heads * real.shape[1]))


def _rows_with_sums(attention: Tensor, side: str) -> tuple[Tensor, Tensor]:
    """Probabilities, not negative, and the sum of each row."""
    by_value = can_look(attention) and attention.numel() > 0
    if by_value and attention.detach().amin().item() < 0:
        raise ValueError(
            f"{side} attention must hold probabilities, got {attention.min().item():.3g}. These look like scores "
            "before the softmax: attention_scores_loss compares those."
        )
    sums = attention.sum(dim=-1)
    if by_value and sums.detach().amin().item() == 0:
        raise ValueError(f"{side} attention has a row of zeros over real tokens: each row must sum to 1.")
    return attention, sums.clamp(min=torch.finfo(attention.dtype).tiny)


@full_precision
def _log_relation(values: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Log-probabilities (B, heads, L, L) of each token's likeness to every real token."""
    if attention_mask is None:
        return (values @ values.mT / math.sqrt(values.shape[-1])).log_softmax(dim=-1)
    check_mask(attention_mask, (values.shape[0], values.shape[2]), "attention_mask", MASK_REASON)
    real = attention_mask.bool()
    values = keep(values, real[:, None, :, None])
    scores = values @ values.mT / math.sqrt(values.shape[-1])  # (B, heads, L, L)
    # The smallest float, not minus infinity: a sample of padding alone would give NaN.
    return keep(scores, real[:, None, None, :], torch.finfo(scores.dtype).min).log_softmax(dim=-1)
