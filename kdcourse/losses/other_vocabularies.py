"""A teacher with another vocabulary: probabilities compared by rank, without knowing which token is which.

Chapter 11. Letters: B tokens, K the student's vocabulary, K' the teacher's; T is ``temperature``.
"""

import torch.nn.functional as F
from torch import Tensor

from .._arguments import check_logits, check_temperature
from ._numerics import at_least_float32, log_soften


def sorted_probability_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Universal logit distillation: distance between the two rows of probabilities, each sorted by size.

    .. math:: \frac{1}{B} \sum_b \sum_i \big|\,q_{(i)} - p_{(i)}\,\big|

    with (i) the i-th largest probability. The shorter row is filled with zeros.

    Parameters
    ----------
    student_logits : Tensor, shape (..., K)
        The mean runs over all leading dimensions; pick aligned tokens first.
    teacher_logits : Tensor, shape (..., K')
        Same leading dimensions. Receives no gradient.
    temperature : float
        Positive number T that divides both sides' logits.

    Returns
    -------
    Tensor, shape ()
        In [0, 2], without T².

    Raises
    ------
    ValueError
        If the leading dimensions differ, or the temperature is not positive and finite.

    Notes
    -----
    Sorting forgets *which* token a probability belongs to: a student that is sure of the wrong token has a loss of 0
    if its teacher is as sure of the right one. So the paper adds it to the cross-entropy of the labels.

    References
    ----------
    Boizard, El Haddad, Hudelot, Colombo (2024), arXiv:2402.12030.

    Examples
    --------
    >>> import torch
    >>> student, teacher = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.1, 0.2, 0.7]]).log()
    >>> sorted_probability_loss(student, teacher)  # |.9-.7| + |.1-.2| + |0-.1|
    tensor(0.4000)
    """
    check_logits(student_logits, "student_logits")
    check_logits(teacher_logits, "teacher_logits")
    if student_logits.shape[:-1] != teacher_logits.shape[:-1]:
        raise ValueError(
            f"student and teacher need logits for the same tokens, got {tuple(student_logits.shape)} and "
            f"{tuple(teacher_logits.shape)}: only the last dimension, the vocabulary, may differ."
        )
    temperature = check_temperature(temperature)
    q = log_soften(student_logits, temperature).exp().sort(dim=-1, descending=True).values  # (..., K)
    p = log_soften(at_least_float32(teacher_logits.detach()), temperature).exp().to(q.dtype)  # (..., K')
    p = p.sort(dim=-1, descending=True).values
    longest = max(q.shape[-1], p.shape[-1])
    q, p = (F.pad(side, (0, longest - side.shape[-1])) for side in (q, p))
    return (q - p).abs().sum(dim=-1).mean()
