"""Online distillation: students that learn together and teach each other (Deep Mutual Learning, 2018).

Chapter 07. Letters: B batch, K classes, S students; T is ``temperature``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import check_labels, check_logit_list, check_temperature
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
        Logits of S ≥ 2 students for the same samples.
    labels : Tensor of int, shape (B,)
        Class indices in [0, K).
    temperature : float
        Positive number T that divides the logits. The paper has T = 1.

    Returns
    -------
    list of Tensor, each of shape ()
        Loss i trains student i alone: its peers are detached targets.

    Raises
    ------
    ValueError
        For fewer than two students, shapes that differ, labels out of range, or a temperature that is not positive
        and finite.

    Notes
    -----
    The mean is taken over divergences, one from each peer. Averaging the peers' logits first is another method:
    ``mutual_ensemble_loss``. In a cohort of two both are the same.

    References
    ----------
    Zhang, Xiang, Hospedales, Lu (2018), arXiv:1706.00384, equations 1, 5 and 8.

    Examples
    --------
    >>> cohort, labels = [torch.zeros(1, 2), torch.zeros(1, 2)], torch.tensor([0])
    >>> mutual_learning_loss(cohort, labels)  # the peers agree, so log(2) from the label is all
    [tensor(0.6931), tensor(0.6931)]
    """
    _check_cohort(all_logits, labels, temperature)
    losses = []
    for own, logits in enumerate(all_logits):
        peers = torch.stack([peer for index, peer in enumerate(all_logits) if index != own])  # (S-1, B, K)
        # One call for all peers: its mean over peers and samples is the mean of their divergences.
        divergence = kd_loss(logits.expand_as(peers), peers, temperature=temperature)
        losses.append(_cross_entropy(logits, labels) + divergence)
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
        Logits of S ≥ 2 students for the same samples.
    labels : Tensor of int, shape (B,)
        Class indices in [0, K).
    temperature : float
        As in :func:`mutual_learning_loss`.

    Returns
    -------
    list of Tensor, each of shape ()
        Loss i trains student i alone: the ensemble of its peers is a detached target.

    Raises
    ------
    ValueError
        As in ``mutual_learning_loss``.

    Notes
    -----
    This is not Deep Mutual Learning. Averaged logits give the geometric mean of the peers' distributions
    (renormalised): a class that one peer rules out is nearly ruled out of the target. In ``mutual_learning_loss``
    a student is drawn to the *arithmetic* mean, in which each peer keeps its share, because the mean of pairwise
    divergences and the divergence from that mean differ only by a constant.

    Examples
    --------
    >>> cohort = [torch.zeros(1, 2), torch.tensor([[0.0, 3.0]]), torch.tensor([[3.0, 0.0]])]
    >>> mutual_ensemble_loss(cohort, torch.tensor([0]))[0]  # two peers that cancel out: log(2) from the label is all
    tensor(0.6931)
    >>> mutual_learning_loss(cohort, torch.tensor([0]))[0]  # each peer alone still pulls
    tensor(1.1954)
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
    check_logit_list(all_logits, "all_logits", one="student", several="For stacked students, pass list(all_logits).")
    check_labels(labels, all_logits[0])
    check_temperature(temperature)
