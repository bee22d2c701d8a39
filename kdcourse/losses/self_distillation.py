"""Self-distillation: the deepest exit of a network teaches its shallower exits (Be Your Own Teacher, 2019).

Chapter 06. Letters: B batch, K classes, D embedding width; T is ``temperature``, α is ``alpha``.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .._arguments import (
    check_alpha,
    check_labels,
    check_logit_list,
    check_paired_lists,
    check_same_shape,
    check_temperature,
    check_weight,
    known_value,
)
from ._numerics import at_least_float32, in_one_precision
from .soft_targets import kd_loss


def deep_supervision_loss(
    exit_logits: Sequence[Tensor],
    labels: Tensor,
    *,
    temperature: float | Tensor,
    alpha: float | Tensor,
    exit_features: Sequence[Tensor] | None = None,
    hint_weight: float | Tensor = 0.0,
) -> Tensor:
    r"""Labels for every exit, and the deepest exit's soft targets for the shallower ones.

    .. math:: \mathrm{CE}(z^E, y) + \sum_{e<E} \big[(1-\alpha)\,\mathrm{CE}(z^e, y)
              + \alpha\,\mathrm{KD}_T(z^e, z^E) + \lambda\,\lVert f^e - f^E \rVert_2^2\big]

    Parameters
    ----------
    exit_logits : sequence of Tensor, each of shape (B, K)
        Logits of two or more exits, the deepest last. The last exit is the network's own output, not a second
        classifier beside it. As the teacher of the others it is detached: it learns from the labels alone.
    labels : Tensor of int, shape (B,)
        Class indices in [0, K).
    temperature : float
        Positive number T, for the soft targets.
    alpha : float
        Share of the soft targets at each shallower exit, in [0, 1]. 0 is plain deep supervision.
    exit_features : sequence of Tensor, each of shape (B, ...), optional
        Features in front of each classifier, one per exit. All need the shape of the deepest: use a learned layer for
        the shallower ones. The deepest is detached here too.
    hint_weight : float
        Weight λ ≥ 0 of the feature hint. It must be given with ``exit_features``, and only then.

    Returns
    -------
    Tensor, shape ()
        Sum over exits of means over the batch, in nats (soft targets times T²).

    Raises
    ------
    ValueError
        If there are fewer than two exits, shapes differ, labels are out of range, temperature is not positive and
        finite, alpha is outside [0, 1], or ``exit_features`` and ``hint_weight`` come without each other.

    Notes
    -----
    The paper writes the soft-target term without T². Here T² is there, as in ``kd_loss``, so that α means the same at
    every T. The hint is the paper's squared norm, which grows with the number of features: expect a λ far below 1.

    References
    ----------
    Zhang et al. (2019), arXiv:1905.08094, section 3 and equation 5.

    Examples
    --------
    >>> import torch
    >>> exits, labels = [torch.zeros(2, 10)] * 3, torch.tensor([3, 7])
    >>> deep_supervision_loss(exits, labels, temperature=4, alpha=0)  # three exits that guess: 3·log(10)
    tensor(6.9078)
    """
    check_logit_list(exit_logits, "exit_logits", one="exit", several="Does the model return only its last exit?")
    check_labels(labels, exit_logits[-1])
    temperature, alpha = check_temperature(temperature), check_alpha(alpha)
    *shallower, deepest = exit_logits
    labels = labels.long()
    loss = F.cross_entropy(at_least_float32(deepest), labels)
    for logits in shallower:
        soft = kd_loss(logits, deepest, temperature=temperature)
        loss = loss + (1 - alpha) * F.cross_entropy(at_least_float32(logits), labels) + alpha * soft
    hint_weight = _check_hint(exit_features, hint_weight)
    if exit_features is not None:
        check_paired_lists(exit_features, exit_logits, "tensors (features of each exit, and its logits)")
        loss = loss + hint_weight * _feature_hint(exit_features)
    return loss


def _feature_hint(exit_features: Sequence[Tensor]) -> Tensor:
    """Squared distance of each shallower exit's features from the deepest's: summed over exits, mean over B."""
    *shallower, deepest = exit_features
    distances = []
    for features in shallower:
        check_same_shape(features, deepest, "features (a shallower exit's and the deepest exit's)")
        features, target = in_one_precision(features, deepest)  # a sum of squares leaves float16
        difference = features - target
        distances.append(difference.flatten(1).square().sum(dim=1).mean())  # (B, D) -> (B,) -> ()
    return sum(distances[1:], start=distances[0])


def _check_hint(exit_features: Sequence[Tensor] | None, hint_weight: float | Tensor) -> float | Tensor:
    hint_weight = check_weight(hint_weight, "hint_weight")
    weighted = known_value(hint_weight) != 0  # also where the value must not be read
    if exit_features is None and weighted:
        raise ValueError(f"hint_weight={hint_weight} needs exit_features: the hint compares features, not logits.")
    if exit_features is not None and not weighted:
        raise ValueError("exit_features need a hint_weight above 0: at weight 0 they would change nothing.")
    return hint_weight
