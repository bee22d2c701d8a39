"""Labels beside points that would lie on each other: they are moved apart until each can be read.

Chapter 04. Letters: N labels, F fixed labels, P points.
"""

import math

import torch
from torch import Tensor

ROUNDS = 40
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))  # spreads directions evenly round the circle


def place_labels(points: Tensor, *, fixed: Tensor, avoid: Tensor, gap: float) -> Tensor:
    """Return a place for the label of each point, near the point and away from everything else.

    Parameters
    ----------
    points : Tensor, shape (N, 2)
        Points to be labelled.
    fixed : Tensor, shape (F, 2)
        Centres of labels that stand already.
    avoid : Tensor, shape (P, 2)
        Points that no label may hide.
    gap : float
        Distance between the centres of two labels. From a point a label keeps half of it.

    Returns
    -------
    Tensor, shape (N, 2)

    Examples
    --------
    >>> nothing = torch.zeros(0, 2)
    >>> places = place_labels(torch.zeros(2, 2), fixed=nothing, avoid=nothing, gap=1.0)
    >>> round(float(torch.pdist(places)), 1)
    1.0
    """
    count, others = len(points), torch.cat([fixed, avoid])
    gaps = torch.full((count + len(others),), gap)
    gaps[count + len(fixed) :] = gap / 2
    angles = GOLDEN_ANGLE * torch.arange(count)
    # Points at the same place get directions of their own.
    places = points + gap / 2 * torch.stack([angles.cos(), angles.sin()], dim=1)  # (N, 2)
    itself = torch.eye(count, count + len(others), dtype=torch.bool)
    for _ in range(ROUNDS):
        away = places[:, None] - torch.cat([places, others])  # (N, N + F + P, 2)
        distance = away.norm(dim=-1).clamp(min=1e-9)  # (N, N + F + P)
        missing = (gaps - distance).clamp(min=0).masked_fill(itself, 0)
        if bool((missing < 0.05 * gap).all()):
            break
        missing[:, :count] /= 2  # of two labels each goes half of the way
        moves = (missing / distance)[..., None].mul(away).sum(dim=1)  # (N, 2)
        # A crowd on one side must not throw a label far away.
        places = places + moves * (gap / 2 / moves.norm(dim=1, keepdim=True).clamp(min=1e-9)).clamp(max=1)
    return places
