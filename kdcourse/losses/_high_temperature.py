"""T² times a KL divergence where T is large against the logits. Used from chapter 02 on.

There, student and teacher are nearly uniform: their log-probabilities agree in almost all digits, their difference is
rounding, and T² magnifies it. So nothing is subtracted that agrees. Two forms of the same numbers are used:

- T·log(K·p) instead of log p: it stays of the logits' size, whatever T is.
- Σ p·(eʳ - 1 - r) instead of -Σ p·r, with r = log q - log p: every term is of second order, and none is negative.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import can_look
from ._numerics import log_soften

HIGH = 64.0
_HIGHEST = 1e18  # beyond it nothing changes any more, and T² would leave float32
_SERIES = [1 / math.factorial(n) for n in range(12, 1, -1)]  # of (eʳ - 1 - r) / r², highest power first


def is_high(temperature: float | Tensor) -> bool:
    """Whether to use this module, which takes several times as long as the plain formula.

    A tensor that cannot be read, on a GPU or in ``torch.compile``, counts as low: there, give a high T as a number.
    """
    if not isinstance(temperature, Tensor):
        return temperature >= HIGH
    if torch.compiler.is_compiling():
        return False
    while torch._C._functorch.is_functorch_wrapped_tensor(temperature):  # an axis of vmap: read all of it
        temperature = torch._C._functorch.get_unwrapped(temperature)
    return can_look(temperature) and bool((temperature >= HIGH).any())


def is_flat(logits: Tensor, temperature: float | Tensor) -> bool:
    """Whether all probabilities are nearly uniform: at a high T, and for logits that differ little against T."""
    if is_high(temperature):
        return True
    if isinstance(temperature, Tensor) or not can_look(logits):
        return False
    lowest, highest = logits.detach().aminmax()
    return highest.item() - lowest.item() < 0.05 * temperature


def scaled_kl(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T² · KL(teacher ‖ student) of each row, from logits: (..., K) -> (...)."""
    temperature = capped(temperature)
    gap = scaled_log_ratio(student, temperature) - scaled_log_ratio(teacher, temperature)  # (..., K)
    return scaled_divergence(log_soften(teacher, temperature), log_soften(student, temperature), gap, temperature)


def scaled_divergence(log_p: Tensor, log_q: Tensor, gap: Tensor, temperature: float | Tensor) -> Tensor:
    """T² · KL(p ‖ q) along the last dimension, where ``gap`` is T·(log q - log p), exact to its own last digits."""
    ratio = gap / temperature
    near = ratio.abs() < 0.1
    small = torch.where(near, ratio, 0.0)
    series = torch.zeros_like(small)
    for coefficient in _SERIES:
        series = series * small + coefficient
    p = log_p.exp()
    close = p * torch.where(near, gap, 0.0).square() * series
    far = temperature * (temperature * (log_q.exp() - p - p * ratio))
    return torch.where(near, close, far).sum(dim=-1)


def scaled_log_ratio(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """T · log(K · softmax(logits / T)) along the last dimension."""
    return logits - scaled_log_mean_exp(logits, temperature)


def scaled_log_mean_exp(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """T · log(mean(exp(logits / T))) along the last dimension, which stays as 1."""
    center = logits.detach().mean(dim=-1, keepdim=True)  # any constant would do: its part in the gradient is 0
    exponents = (logits - center) / temperature
    narrow = exponents.detach().abs().amax(dim=-1, keepdim=True) < 1
    close = torch.where(narrow, exponents, 0.0).expm1().mean(dim=-1, keepdim=True).log1p()
    far = exponents.logsumexp(dim=-1, keepdim=True) - math.log(logits.shape[-1])
    return center + temperature * torch.where(narrow, close, far)


def capped(temperature: float | Tensor) -> float | Tensor:
    """The temperature, or the highest that still changes anything."""
    return temperature.clamp(max=_HIGHEST) if isinstance(temperature, Tensor) else min(temperature, _HIGHEST)


def scaled_bernoulli_kl(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T² times the KL divergence between yes/no distributions given by logits, summed over the classes."""
    if is_high(temperature):  # yes and no as two classes, with the logits z and 0
        student, teacher = (torch.stack([x, torch.zeros_like(x)], dim=-1) for x in (student, teacher))  # (B, A, K, 2)
        return scaled_kl(student, teacher, temperature).sum(dim=-1)
    teacher, student = teacher / temperature, student / temperature
    yes = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    # σ(-z), not 1 - σ(z): exact where the teacher is sure
    no = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return temperature**2 * (yes + no).sum(dim=-1)
