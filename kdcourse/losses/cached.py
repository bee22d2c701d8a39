"""A teacher's answers kept on disk in part: its most probable classes with the rest in one bucket, or sampled classes.

Chapter 11. With a large vocabulary all logits of all tokens do not fit on a disk. Letters: B batch, K classes, n
classes kept; T is ``temperature``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .._arguments import can_look, check_count, check_logits, check_temperature
from ._numerics import at_least_float32, log_soften


class TopTargets(NamedTuple):
    """The teacher's most probable classes, and the probability of all the others together.

    Attributes
    ----------
    indices : Tensor of int64, shape (..., n)
        Classes, the most probable first.
    log_probs : Tensor, shape (..., n)
        Their log-probabilities, in nats. They are not renormalised.
    log_rest : Tensor, shape (...)
        Log-probability of all other classes together; minus infinity if there are none.

    Examples
    --------
    >>> top_targets(torch.tensor([[0.7, 0.2, 0.1]]).log(), 1).log_rest.exp()
    tensor([0.3000])
    """

    indices: Tensor
    log_probs: Tensor
    log_rest: Tensor


class SampledTargets(NamedTuple):
    """Classes drawn from the teacher's distribution, each with its weight.

    Attributes
    ----------
    indices : Tensor of int64, shape (..., n)
        Classes; the same class may come several times.
    weights : Tensor, shape (..., n)
        The sum of a class's weights is an unbiased estimate of its probability.

    Examples
    --------
    >>> sampled_targets(torch.tensor([[0.0, 100.0]]), 4)  # a sure teacher
    SampledTargets(indices=tensor([[1, 1, 1, 1]]), weights=tensor([[0.2500, 0.2500, 0.2500, 0.2500]]))
    """

    indices: Tensor
    weights: Tensor


@torch.no_grad()
def top_targets(teacher_logits: Tensor, count: int, *, temperature: float = 1.0) -> TopTargets:
    """Keep the teacher's most probable classes.

    Parameters
    ----------
    teacher_logits : Tensor, shape (..., K)
    count : int
        Number n of classes to keep, from 1 to K.
    temperature : float
        Positive number T that divides the logits. It must be chosen now: what is left out cannot be softened later.

    Returns
    -------
    TopTargets

    Raises
    ------
    ValueError
        If count is not in [1, K], or the temperature is not positive and finite.

    Examples
    --------
    >>> top_targets(torch.tensor([[0.7, 0.2, 0.1]]).log(), 2).indices
    tensor([[0, 1]])
    """
    log_p = _checked(teacher_logits, count, temperature)
    top = log_p.topk(count, dim=-1)  # (..., n)
    return TopTargets(top.indices, top.values, _log_of_others(log_p, top.indices))


@torch.no_grad()
def sampled_targets(
    teacher_logits: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    proposal: float = 1.0,
    generator: torch.Generator | None = None,
) -> SampledTargets:
    r"""Draw classes from the teacher's distribution: random sampling knowledge distillation.

    A class drawn from :math:`r \propto p^t` gets the weight :math:`p_i / (n\,r_i)`.

    Parameters
    ----------
    teacher_logits : Tensor, shape (..., K)
    count : int
        Number n of draws, with replacement; at least 1.
    temperature : float
        Positive number T that divides the logits.
    proposal : float
        Exponent t of the distribution that is drawn from, positive. At 1 all weights are 1/n; below 1 rare classes are
        drawn more often, and weigh less.
    generator : torch.Generator, optional
        Makes the draws repeatable.

    Returns
    -------
    SampledTargets

    Raises
    ------
    ValueError
        If count is below 1, or the temperature or the proposal is not positive and finite.

    References
    ----------
    Anshumann et al. (2025), Sparse Logit Sampling, arXiv:2503.16870.

    Examples
    --------
    >>> drawn = sampled_targets(torch.zeros(1000, 4), 12)
    >>> drawn.weights.shape, bool(drawn.weights.sum(dim=-1).allclose(torch.ones(1000)))
    (torch.Size([1000, 12]), True)
    """
    count = check_count(count, "count", "The teacher's answer is kept as so many draws.")
    log_p = _checked(teacher_logits, 1, temperature)  # (..., K)
    log_r = (check_temperature(proposal) * log_p).log_softmax(dim=-1)  # (..., K)
    rows = log_r.exp().flatten(end_dim=-2)  # (samples, K)
    indices = torch.multinomial(rows, count, replacement=True, generator=generator).view(*log_p.shape[:-1], count)
    return SampledTargets(indices, (log_p - log_r).gather(-1, indices).exp() / count)


def top_kd_loss(
    student_logits: Tensor, indices: Tensor, log_probs: Tensor, log_rest: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""KL divergence from the teacher's most probable classes, all the others counted as one class.

    .. math:: \frac{T^2}{B} \sum_b \Big[\sum_{i \in \text{top}} p_i \log\frac{p_i}{q_i}
              + p_\text{rest} \log\frac{p_\text{rest}}{q_\text{rest}}\Big]

    Parameters
    ----------
    student_logits : Tensor, shape (..., K)
        The mean runs over all leading dimensions; pick the real tokens first.
    indices, log_probs, log_rest : Tensor
        Fields of `TopTargets`, made at the same temperature. None receives a gradient.
    temperature : float
        Positive number T that divides the student's logits.

    Returns
    -------
    Tensor, shape ()
        Nats times T², never negative beyond rounding. It equals `kd_loss` if all classes are kept, and is at most
        that otherwise.

    Raises
    ------
    ValueError
        If shapes do not belong together, a class is out of range, or the temperature is not positive and finite.

    Notes
    -----
    Without the last term the sum is no divergence: it can be negative, and a student lowers it by giving the kept
    classes all of its probability. Renormalising the kept classes has the same minimum: a student that is surer than
    its teacher.

    Examples
    --------
    >>> student, teacher = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.6, 0.4]]).log()
    >>> top_kd_loss(student, *top_targets(teacher, 1))  # the truncated sum would be -0.243
    tensor(0.3112)
    """
    check_logits(student_logits, "student_logits")
    temperature = check_temperature(temperature)
    _check_kept(student_logits, indices, log_probs, "log_probs")
    if log_rest.shape != student_logits.shape[:-1]:
        raise ValueError(
            f"log_rest must have one number for each row of logits, shape {tuple(student_logits.shape[:-1])}, got "
            f"{tuple(log_rest.shape)}: it is the probability of all classes that were not kept."
        )
    log_q = log_soften(student_logits, temperature)  # (..., K)
    log_p, log_rest = (at_least_float32(part.detach()).to(log_q.dtype) for part in (log_probs, log_rest))
    kept = (log_p.exp() * (log_p - log_q.gather(-1, indices))).sum(dim=-1)  # (...)
    if indices.shape[-1] == student_logits.shape[-1]:
        return temperature**2 * kept.mean()
    there = log_rest > -torch.inf  # a saturated teacher leaves nothing: 0·log 0 counts 0
    rest = log_rest.exp() * (log_rest.masked_fill(~there, 0) - _log_of_others(log_q, indices))  # (...)
    return temperature**2 * (kept + rest).mean()


def sampled_kd_loss(
    student_logits: Tensor, indices: Tensor, weights: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""Cross-entropy of the student under classes that were drawn from the teacher.

    .. math:: -\frac{T^2}{B} \sum_b \sum_j w_j \log q_{i_j}

    Parameters
    ----------
    student_logits : Tensor, shape (..., K)
        The mean runs over all leading dimensions; pick the real tokens first.
    indices, weights : Tensor, shape (..., n)
        Fields of `SampledTargets`, made at the same temperature. Neither receives a gradient.
    temperature : float
        Positive number T that divides the student's logits.

    Returns
    -------
    Tensor, shape ()
        Nats times T². Its expectation is `kd_loss` plus T² times the teacher's entropy, so the gradient is that of
        `kd_loss` in expectation.

    Raises
    ------
    ValueError
        If shapes do not belong together, a class is out of range, or the temperature is not positive and finite.

    References
    ----------
    Anshumann et al. (2025), Sparse Logit Sampling, arXiv:2503.16870.

    Examples
    --------
    >>> student = torch.tensor([[0.25, 0.75]]).log()
    >>> sampled_kd_loss(student, torch.tensor([[1, 1]]), torch.tensor([[0.5, 0.5]]))  # -log(0.75)
    tensor(0.2877)
    """
    check_logits(student_logits, "student_logits")
    temperature = check_temperature(temperature)
    _check_kept(student_logits, indices, weights, "weights")
    log_q = log_soften(student_logits, temperature)  # (..., K)
    weights = at_least_float32(weights.detach()).to(log_q.dtype)
    return -(temperature**2) * (weights * log_q.gather(-1, indices)).sum(dim=-1).mean()


def _checked(teacher_logits: Tensor, count: int, temperature: float) -> Tensor:
    check_logits(teacher_logits, "teacher_logits")
    count = check_count(count, "count", "The teacher's answer is kept as so many classes.")
    if count > teacher_logits.shape[-1]:
        raise ValueError(f"count must be at most {teacher_logits.shape[-1]}, the number of classes, got {count}.")
    return log_soften(teacher_logits.detach(), check_temperature(temperature))


def _check_kept(student_logits: Tensor, indices: Tensor, values: Tensor, name: str) -> None:
    if indices.shape != values.shape or indices.shape[:-1] != student_logits.shape[:-1] or indices.shape[-1:] == (0,):
        raise ValueError(
            f"indices and {name} must have one row for each row of logits, got indices {tuple(indices.shape)}, {name} "
            f"{tuple(values.shape)} and logits {tuple(student_logits.shape)}."
        )
    if indices.dtype != torch.int64:
        raise ValueError(f"indices must be int64, the classes that were kept, got {indices.dtype}.")
    classes = student_logits.shape[-1]
    if can_look(indices) and indices.numel() and not 0 <= indices.min() <= indices.max() < classes:
        raise ValueError(
            f"indices must be from 0 to {classes - 1}, got {indices.min()} to {indices.max()}: does the "
            "teacher have the same classes, or the same vocabulary?"
        )


def _log_of_others(log_probs: Tensor, indices: Tensor) -> Tensor:
    """Log of the summed probability of all classes but the given ones: (..., K), (..., n) -> (...)."""
    return log_probs.scatter(-1, indices, -torch.inf).logsumexp(dim=-1)
