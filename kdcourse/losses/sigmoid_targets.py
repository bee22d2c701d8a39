"""Soft targets for heads with a sigmoid: one yes-or-no answer, or several labels at once.

Chapter 13. Letters: B batch, K classes; T is ``temperature``.
"""

from torch import Tensor

from .._arguments import check_same_shape, check_temperature
from ._high_temperature import scaled_bernoulli_kl
from ._numerics import in_one_precision


def binary_kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    r"""KL divergence between the two answers of each sigmoid, scaled by :math:`T^2`.

    .. math:: \frac{T^2}{B K} \sum_{b,k} \mathrm{KL}\big(\sigma(z^t_{bk} / T) \,\|\, \sigma(z^s_{bk} / T)\big)

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B,) or (B, K, ...)
        Logits for the same samples, one for each yes-or-no question. The teacher's side receives no gradient.
    temperature : float
        Positive number T that divides the logits.

    Returns
    -------
    Tensor, shape ()
        Nats per question, times T²: a mean over all entries, as ``F.binary_cross_entropy_with_logits`` takes.

    Raises
    ------
    ValueError
        If the shapes differ, a tensor is empty or not floating point, or the temperature is not positive and finite.

    Notes
    -----
    A sigmoid's logit z is a softmax over two classes with the logits 0 and z, so for one question this is ``kd_loss``
    on those two. A softmax over K questions would be wrong: several may be true, or none.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 2, for two classes.

    Examples
    --------
    >>> import torch
    >>> student, teacher = torch.zeros(1, 1), torch.tensor([[3.0]]).log()  # probabilities 1/2 and 3/4
    >>> binary_kd_loss(student, teacher, temperature=1)  # 0.75·log(0.75 / 0.5) + 0.25·log(0.25 / 0.5)
    tensor(0.1308)
    """
    check_same_shape(student_logits, teacher_logits, min_dim=1)
    temperature = check_temperature(temperature)
    student, teacher = in_one_precision(student_logits, teacher_logits)
    return scaled_bernoulli_kl(student.unsqueeze(-1), teacher.unsqueeze(-1), temperature).mean()
