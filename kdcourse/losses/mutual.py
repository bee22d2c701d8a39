"""Online distillation: students that learn together and teach each other (Deep Mutual Learning, 2018).

Chapter 07. Letters: B batch, K classes, S students; T is ``temperature``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import check_floating, check_labels, check_same_shape, check_temperature
from ._numerics import at_least_float32
from .soft_targets import kd_loss


def mutual_learning_loss(
    all_logits: Sequence[Tensor], labels: Tensor, *, temperature: float | Tensor = 1.0
) -> list[Tensor]:
    r"""One loss per student: the labels, and the mean divergence from each peer.

    .. math:: \mathcal{L}_i = \mathrm{CE}(z^i, y) + \frac{1}{S-1} \sum_{j \ne i} T^2\,
              \mathrm{KL}\big(\mathrm{softmax}(z^j / T) \,\|\, \mathrm{softmax}(z^i / T)\big)

    Parameters
    ----------
    all_logits : sequence of Tensor, each of shape (B, K)
        One per student, S ≥ 2, for the same samples.
    labels : Tensor of int, shape (B,)
        Class indices in [0, K).
    temperature : float
        T > 0. The paper has T = 1.

    Returns
    -------
    list of Tensor, each of shape ()
        Loss i trains student i alone: every peer stands in it as a detached target.

    Raises
    ------
    ValueError
        For fewer than two students, shapes that differ, labels out of range, or a temperature that is not positive
        and finite.

    Notes
    -----
    The mean runs over divergences, one from each peer. Averaging the peers' logits first is another method:
    ``mutual_ensemble_loss``. In a cohort of two they agree.

    References
    ----------
    Zhang, Xiang, Hospedales, Lu (2018), arXiv:1706.00384, equations 1, 5 and 8.
    """
    _check_cohort(all_logits, labels, temperature)
    losses = []
    for own in range(len(all_logits)):
        divergences = [
            kd_loss(all_logits[own], all_logits[peer], temperature=temperature)
            for peer in range(len(all_logits))
            if peer != own
        ]
        losses.append(_cross_entropy(all_logits[own], labels) + torch.stack(divergences).mean())
    return losses


def mutual_ensemble_loss(
    all_logits: Sequence[Tensor], labels: Tensor, *, temperature: float | Tensor = 1.0
) -> list[Tensor]:
    r"""One loss per student: the labels, and the divergence from the average of the peers' logits.

    .. math:: \mathcal{L}_i = \mathrm{CE}(z^i, y) + T^2\,\mathrm{KL}\Big(\mathrm{softmax}\big(\tfrac{1}{(S-1)\,T}
              \textstyle\sum_{j \ne i} z^j\big) \,\Big\|\, \mathrm{softmax}(z^i / T)\Big)

    Parameters
    ----------
    all_logits : sequence of Tensor, each of shape (B, K)
        One per student, S ≥ 2, for the same samples.
    labels : Tensor of int, shape (B,)
        Class indices in [0, K).
    temperature : float
        T > 0.

    Returns
    -------
    list of Tensor, each of shape ()
        Loss i trains student i alone: the peers' ensemble stands in it as a detached target.

    Raises
    ------
    ValueError
        As in ``mutual_learning_loss``.

    Notes
    -----
    This is not Deep Mutual Learning. Averaged logits give the geometric mean of the peers' distributions
    (renormalised): a class that one peer rules out is nearly ruled out of the target. The mean of pairwise
    divergences differs from the divergence from the *arithmetic* mean only by a constant, so there a student is
    drawn to the arithmetic mean, in which each peer keeps its say.
    """
    _check_cohort(all_logits, labels, temperature)
    losses = []
    for own in range(len(all_logits)):
        peers = [at_least_float32(logits) for index, logits in enumerate(all_logits) if index != own]
        ensemble = torch.stack(peers).mean(dim=0)  # (S-1, B, K) -> (B, K)
        divergence = kd_loss(all_logits[own], ensemble, temperature=temperature)
        losses.append(_cross_entropy(all_logits[own], labels) + divergence)
    return losses


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(at_least_float32(logits), labels.long())


def _check_cohort(all_logits: Sequence[Tensor], labels: Tensor, temperature: float | Tensor) -> None:
    if isinstance(all_logits, Tensor):
        raise ValueError(
            f"all_logits must be a list with one (B, K) tensor per student, got one tensor of shape "
            f"{tuple(all_logits.shape)}. For stacked students, pass list(all_logits)."
        )
    if len(all_logits) < 2:
        raise ValueError(
            f"a cohort needs at least two students, got {len(all_logits)}: "
            "each learns from its peers, and one student has none."
        )
    for logits in all_logits:
        check_floating(logits, "logits")
        if logits.dim() != 2:
            raise ValueError(f"each student's logits must have shape (B, K), got {tuple(logits.shape)}.")
        check_same_shape(logits, all_logits[0], "logits (one student's and the first student's)")
    check_labels(labels, all_logits[0])
    check_temperature(temperature)
