"""Soft targets: the loss that named the field (Hinton, Vinyals and Dean, 2015).

Chapter 02. Letters: B batch, K classes; T is ``temperature``, α is ``alpha``.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import check_alpha, check_labels, check_logit_pair, check_logits, check_temperature
from ._by_rows import by_rows, divergences_and_surprises, goes_by_rows, row_divergences
from ._high_temperature import is_high, scaled_kl
from ._numerics import at_least_float32, in_one_precision, log_soften


def soften(logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    r"""Probabilities at a temperature: :math:`\mathrm{softmax}(z / T)`.

    Parameters
    ----------
    logits : Tensor, shape (..., K)
        Scores before the softmax.
    temperature : float
        Positive number T that divides the logits. At 1 the softmax is unchanged. As T grows, the K probabilities
        approach 1/K.

    Returns
    -------
    Tensor, shape (..., K)
        Probabilities; each row sums to 1. Gradients flow to ``logits``.

    Raises
    ------
    ValueError
        If the temperature is not positive and finite, or the logits are not floating point, have one class, or come
        as class maps (B, K, H, W).

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, equation 1.

    Examples
    --------
    >>> logits = torch.tensor([1.0, 4.0]).log()
    >>> soften(logits, temperature=1)  # 1 to 4
    tensor([0.2000, 0.8000])
    >>> soften(logits, temperature=2)  # 1 to 2: the square roots
    tensor([0.3333, 0.6667])
    """
    check_logits(logits)
    temperature = check_temperature(temperature)
    return log_soften(logits, temperature).exp()


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    r"""KL divergence from the teacher's soft targets, scaled by :math:`T^2`.

    .. math:: T^2 \cdot \frac{1}{B} \sum_{b} \mathrm{KL}\big(\mathrm{softmax}(z^t_b / T) \,\|\,
              \mathrm{softmax}(z^s_b / T)\big)

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, K)
        Logits for the same samples. Further leading dimensions, as in (B, L, K), are averaged over too. The
        teacher's side receives no gradient.
    temperature : float
        Positive number T that divides the logits.

    Returns
    -------
    Tensor, shape ()
        In nats times T². 0 when the two distributions agree; never negative beyond rounding.

    Raises
    ------
    ValueError
        If the shapes differ, a tensor is not floating point, there is one class, the logits come as class maps
        (B, K, H, W), or the temperature is not one number, positive and finite.

    Notes
    -----
    The divergence is taken in log space: a saturated teacher (probability exactly 0) gives 0, not NaN. A class with
    a logit of minus infinity gives NaN: leave it out on both sides. The formula is written out because ``F.kl_div``
    has no batching rule for ``torch.func.vmap``. Large logits, 2²² numbers or more, are taken a few rows at a time, so
    that little more memory than their gradient is needed. The gradient with respect to the
    student's logits is :math:`T (q - p) / B`; for T large against the logits it tends to
    :math:`(z^s - z^t) / (B K)` (centred logits), so T² keeps its size nearly constant there, and only there.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 2 and equations 2-4.

    Examples
    --------
    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    >>> kd_loss(student, teacher, temperature=1)  # 0.75·log(0.75 / 0.5) + 0.25·log(0.25 / 0.5)
    tensor(0.1308)
    >>> kd_loss(teacher, teacher, temperature=4)
    tensor(0.)
    """
    check_logit_pair(student_logits, teacher_logits)
    temperature = check_temperature(temperature)
    if goes_by_rows(student_logits, temperature):
        divergences = partial(_divergences_in_one_precision, temperature=temperature)
        return by_rows(divergences, student_logits, teacher_logits.detach()).mean()
    student, teacher = in_one_precision(student_logits, teacher_logits)
    if is_high(temperature):  # the lines below would subtract numbers that agree in nearly all digits
        return scaled_kl(student, teacher, temperature).mean()
    log_q = log_soften(student, temperature)  # (B, K)
    log_p = log_soften(teacher, temperature)  # (B, K)
    kl = (log_p.exp() * (log_p - log_q)).sum()  # (B, K) -> () over classes and samples
    samples = log_q.shape[:-1].numel()
    # Gradients shrink like 1/T² once T is large against the logits: T² keeps alpha meaningful as T changes.
    return kl * (temperature**2 / samples)


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float | Tensor = 4.0,
    alpha: float | Tensor = 0.7,
) -> Tensor:
    r"""Soft targets and labels together: :math:`\alpha\,\mathrm{KD} + (1-\alpha)\,\mathrm{CE}`.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, K)
        Logits for the same samples; the teacher's side receives no gradient.
    labels : Tensor of int, shape (B,), optional
        Class indices in [0, K). Without labels the result is ``kd_loss`` alone, whatever ``alpha`` is: unlabelled data
        can be distilled too.
    temperature : float
        Positive number T, for the teacher's term only; the cross-entropy is taken at T = 1.
    alpha : float
        Share of the teacher's term, in [0, 1].

    Returns
    -------
    Tensor, shape ()
        Mean over the batch, in nats (the teacher's term times T²).

    Raises
    ------
    ValueError
        If shapes differ, labels are out of range or of the wrong shape, temperature is not positive and finite, or
        alpha is outside [0, 1].

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 2.

    Examples
    --------
    >>> student, labels = torch.zeros(2, 10), torch.tensor([3, 7])
    >>> distillation_loss(student, student, labels, alpha=0.5)  # 0.5·0 + 0.5·log(10)
    tensor(1.1513)
    """
    alpha = check_alpha(alpha)
    if labels is not None and goes_by_rows(student_logits, temperature):
        kd, cross_entropy = _both_by_rows(student_logits, teacher_logits, labels, temperature)
    else:
        kd = kd_loss(student_logits, teacher_logits, temperature=temperature)
        if labels is None:
            return kd
        check_labels(labels, student_logits)
        # (B, K), (B,): further dimensions join the batch.
        cross_entropy = F.cross_entropy(at_least_float32(student_logits).flatten(0, -2), labels.flatten().long())
    if isinstance(alpha, Tensor):  # an axis of vmap, of whatever dtype
        return alpha * kd + (1 - alpha) * cross_entropy
    return torch.lerp(cross_entropy, kd, alpha)  # the same in one step


def _divergences_in_one_precision(student: Tensor, teacher: Tensor, *, temperature: float | Tensor) -> Tensor:
    return row_divergences(*in_one_precision(student, teacher), temperature)


def _both_by_rows(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Both terms in one pass over large logits: apart, each would need a gradient of their size."""
    check_logit_pair(student_logits, teacher_logits)
    temperature = check_temperature(temperature)
    check_labels(labels, student_logits)
    both = partial(divergences_and_surprises, temperature=temperature)
    kd, cross_entropy = by_rows(both, student_logits, teacher_logits.detach(), labels).mean(dim=0)
    return kd, cross_entropy
