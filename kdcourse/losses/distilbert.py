"""DistilBERT's triple loss: soft targets, masked words, and the direction of hidden states (Sanh et al., 2019).

Chapter 09. Letters: B batch, L tokens, K vocabulary entries, D embedding width.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from .._arguments import (
    check_floating,
    check_labels,
    check_logit_pair,
    check_same_shape,
    check_temperature,
    check_weight,
)
from ._by_rows import by_rows, divergences_and_surprises, goes_by_rows
from ._numerics import cosine, in_one_precision, mean_of, real_tokens, select_real

Hidden = Tensor | Sequence[Tensor]


def hidden_cosine_loss(
    student_hidden: Hidden, teacher_hidden: Hidden, *, attention_mask: Tensor | None = None
) -> Tensor:
    r"""Angle between the last hidden states: mean of :math:`1 - \cos(h^s, h^t)` over real tokens.

    Parameters
    ----------
    student_hidden, teacher_hidden : Tensor, shape (B, L, D), or a sequence of them
        Hidden states. Of a sequence, such as ``hidden_states`` of ``transformers``, the last is taken. The teacher's
        side receives no gradient.
    attention_mask : Tensor, shape (B, L), optional
        Mask, 1 for real tokens. By default all are real.

    Returns
    -------
    Tensor, shape ()
        Value between 0 and 2. 0, and part of the graph, when no token is real.

    Raises
    ------
    ValueError
        If shapes differ or the mask does not fit.

    References
    ----------
    Sanh et al. (2019), arXiv:1910.01108, section 3.

    Examples
    --------
    >>> import torch
    >>> teacher = torch.tensor([[[1.0, 0.0]]])
    >>> hidden_cosine_loss(3 * teacher, teacher), hidden_cosine_loss(teacher.flip(2), teacher)  # alike, orthogonal
    (tensor(0.), tensor(1.))
    """
    student, teacher = _last(student_hidden, "student"), _last(teacher_hidden, "teacher")
    if student.shape[:-1] == teacher.shape[:-1] and student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"hidden states have widths {student.shape[-1]} and {teacher.shape[-1]}: there is no angle between them. "
            "DistilBERT keeps its teacher's width; for another, use hidden_state_loss with a HiddenProjection."
        )
    check_same_shape(student, teacher, "hidden states", min_dim=3)
    select = select_real(attention_mask, student.shape[:2])
    student, teacher = in_one_precision(select(student), select(teacher))  # (tokens, D)
    return mean_of(1 - cosine(student, teacher))


def distilbert_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    student_hidden: Hidden,
    teacher_hidden: Hidden,
    *,
    attention_mask: Tensor | None = None,
    temperature: float | Tensor = 2.0,
    kd_weight: float | Tensor = 5.0,
    mlm_weight: float | Tensor = 2.0,
    cosine_weight: float | Tensor = 1.0,
) -> Tensor:
    r"""Sum of the three terms: :math:`5 \cdot \mathrm{KD} + 2 \cdot \mathrm{MLM} + 1 \cdot \mathrm{cosine}`.

    The parameters are those of :func:`distilbert_terms`, which returns the terms one by one.

    Returns
    -------
    Tensor, shape ()
        Weighted sum.

    References
    ----------
    Sanh et al. (2019), arXiv:1910.01108, section 3.

    Examples
    --------
    >>> import torch
    >>> logits, hidden = torch.zeros(1, 2, 10), torch.ones(1, 2, 4)
    >>> distilbert_loss(logits, logits, torch.tensor([[7, -100]]), hidden, hidden)  # 5·0 + 2·log(10) + 1·0
    tensor(4.6052)
    """
    terms = distilbert_terms(
        student_logits,
        teacher_logits,
        labels,
        student_hidden,
        teacher_hidden,
        attention_mask=attention_mask,
        temperature=temperature,
        kd_weight=kd_weight,
        mlm_weight=mlm_weight,
        cosine_weight=cosine_weight,
    )
    return terms["kd"] + terms["mlm"] + terms["cosine"]


def distilbert_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    student_hidden: Hidden,
    teacher_hidden: Hidden,
    *,
    attention_mask: Tensor | None = None,
    temperature: float | Tensor = 2.0,
    kd_weight: float | Tensor = 5.0,
    mlm_weight: float | Tensor = 2.0,
    cosine_weight: float | Tensor = 1.0,
) -> dict[str, Tensor]:
    r"""Return the three terms of DistilBERT's loss, each already weighted, over real tokens only.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, L, K)
        Vocabulary logits; the teacher's side receives no gradient.
    labels : Tensor of int, shape (B, L)
        Word to guess where a token was masked, -100 everywhere else.
    student_hidden, teacher_hidden : Tensor, shape (B, L, D), or a sequence of them
        Hidden states, for :func:`hidden_cosine_loss`.
    attention_mask : Tensor, shape (B, L), optional
        Mask, 1 for real tokens. By default all are real. A label on padding does not count.
    temperature : float
        Positive number T, for the soft targets only.
    kd_weight, mlm_weight, cosine_weight : float
        Weights ≥ 0. The authors' published command has 5, 2 and 1. At 0 a term is measured but not trained.

    Returns
    -------
    dict of Tensor, shape ()
        ``"kd"``: T² times the KL divergence, mean over real tokens. ``"mlm"``: cross-entropy, mean over labelled real
        tokens. ``"cosine"``: mean over real tokens. Each is 0, and part of the graph, when no token counts.

    Raises
    ------
    ValueError
        If shapes differ, labels are neither -100 nor in [0, K), the mask does not fit, the temperature is not
        positive and finite, or a weight is negative.

    Notes
    -----
    Means run over all tokens of the batch, so every token has the same weight. The paper names the three losses but
    not their weights. Large logits, 2²² numbers or more, are taken a few tokens at a time, so that little more memory
    than their gradient is needed.

    Place i of one side is compared with place i of the other. A masked model speaks there about token i, a causal one
    about token i + 1: move one of the two by a place first.

    References
    ----------
    Sanh et al. (2019), arXiv:1910.01108, section 3.

    Examples
    --------
    >>> import torch
    >>> logits, hidden = torch.zeros(1, 2, 10), torch.ones(1, 2, 4)
    >>> distilbert_terms(logits, logits, torch.tensor([[7, -100]]), hidden, -hidden)  # opposite states
    {'kd': tensor(0.), 'mlm': tensor(4.6052), 'cosine': tensor(2.)}
    """
    check_logit_pair(student_logits, teacher_logits, min_dim=3)
    temperature = check_temperature(temperature)
    kd_weight, mlm_weight = check_weight(kd_weight, "kd_weight"), check_weight(mlm_weight, "mlm_weight")
    cosine_weight = check_weight(cosine_weight, "cosine_weight")
    check_labels(labels, student_logits, ignore_index=-100)
    terms = partial(divergences_and_surprises, temperature=temperature)
    if goes_by_rows(student_logits, temperature):
        real = real_tokens(attention_mask, labels.shape)
        each = by_rows(terms, student_logits, teacher_logits.detach(), labels, real=real)  # (tokens, 2)
        counted = labels.flatten() if real is None else labels.flatten().index_select(0, real)  # (tokens,)
    else:
        select = select_real(attention_mask, labels.shape)
        counted = select(labels)  # (tokens,)
        each = terms(select(student_logits), select(teacher_logits), counted)  # (tokens, 2)
    angle = hidden_cosine_loss(student_hidden, teacher_hidden, attention_mask=attention_mask)
    return {
        "kd": kd_weight * mean_of(each[:, 0]),
        "mlm": mlm_weight * (each[:, 1].sum() / (counted != -100).sum().clamp(min=1)),
        "cosine": cosine_weight * angle,
    }


def _last(hidden: Hidden, side: str) -> Tensor:
    if isinstance(hidden, Tensor):
        return hidden
    if not isinstance(hidden, Sequence):
        raise ValueError(f"{side}_hidden must be a tensor or a sequence of tensors, got {type(hidden).__name__}.")
    if len(hidden) == 0:
        raise ValueError(f"{side}_hidden is empty. Ask the model for output_hidden_states=True.")
    check_floating(hidden[-1], f"{side} hidden states")
    return hidden[-1]
