"""Feature pyramids: a map per scale, imitated at important positions (Wang et al., 2019).

Chapter 08. Letters: B batch, C channels, H and W space.
"""

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .._arguments import can_look, check_count, check_floating, check_paired_lists, check_same_shape
from ._numerics import in_one_precision, in_range, over_largest
from ._precision import fit_to_layer

Levels = Mapping[str, Tensor] | Sequence[Tensor]


class FPNAdapters(nn.Module):
    """One learned 1×1 convolution per pyramid level, from the student's channels to the teacher's.

    Parameters
    ----------
    student_channels, teacher_channels : dict of int, or list of int
        Channels per level, with the names (or in the order) of the features.

    Raises
    ------
    ValueError
        If the levels differ or there are none.

    Notes
    -----
    Its parameters belong in the student's optimizer: ``Adam([*student.parameters(), *adapters.parameters()])``. An
    adapter changes channels only. Height and width must agree, as they do for two pyramids over the same image.

    Examples
    --------
    >>> adapters = FPNAdapters([32, 32], [256, 256])
    >>> student = [torch.rand(2, 32, 8, 8), torch.rand(2, 32, 4, 4)]
    >>> [tuple(level.shape) for level in adapters(student)]
    [(2, 256, 8, 8), (2, 256, 4, 4)]
    """

    def __init__(
        self,
        student_channels: Mapping[str, int] | Sequence[int],
        teacher_channels: Mapping[str, int] | Sequence[int],
    ) -> None:
        super().__init__()
        levels = _paired_levels(student_channels, teacher_channels)
        # A ModuleList in the order of the names: a ModuleDict forbids dots in a key, and level names may have them.
        self.names = [name for name, _, _ in levels]
        self.convolutions = nn.ModuleList()
        for name, student, teacher in levels:
            why = f"It counts the channels of level {name!r}."
            channels = check_count(student, "student_channels", why), check_count(teacher, "teacher_channels", why)
            self.convolutions.append(nn.Conv2d(*channels, kernel_size=1))

    def forward(self, student_features: Levels) -> Levels:
        """Adapt every level: a dict gives a dict of the same names, a list gives a list."""
        named = _named(student_features)
        _check_levels(named, self.names, "features", "adapters")
        adapted = {}
        for name, convolution in zip(self.names, self.convolutions, strict=True):
            check_floating(named[name], f"student features of level {name!r}")
            if named[name].dim() != 4 or named[name].shape[1] != convolution.in_channels:
                raise ValueError(
                    f"the adapter of level {name!r} takes features of shape (B, {convolution.in_channels}, H, W), "
                    f"got {tuple(named[name].shape)}."
                )
            adapted[name] = convolution(fit_to_layer(named[name], convolution))  # (B, C_teacher, H, W)
        return adapted if isinstance(student_features, Mapping) else list(adapted.values())


def fpn_feature_loss(student_features: Levels, teacher_features: Levels, *, importance: Levels | None = None) -> Tensor:
    r"""Imitation of a feature pyramid, level by level, weighted by importance.

    .. math:: \frac{1}{\text{levels}} \sum_l \frac{1}{B} \sum_b \frac{\sum_{ij} w_{bij} \,
              \mathrm{mean}_c (F^s_{bcij} - F^t_{bcij})^2}{\sum_{ij} w_{bij}}

    Parameters
    ----------
    student_features, teacher_features : dict or list of Tensor, shape (B, C, H, W)
        Maps, one per level. Where channels differ, :class:`FPNAdapters` comes first. The teacher's side receives no
        gradient.
    importance : dict or list of Tensor, shape (B, H, W), optional
        Weights :math:`w \ge 0`, one per position: a mask of the foreground, or any soft weight. By default the
        teacher's mean absolute activation over channels.

    Returns
    -------
    Tensor, shape ()
        Mean over levels and samples. A sample with importance 0 everywhere on a level adds 0 there.

    Raises
    ------
    ValueError
        If levels are missing or unequal in number, shapes differ, or an importance has the wrong shape or is negative.

    Notes
    -----
    Importance is normalised within each sample, so that a bright image does not outweigh the others. It enters once:
    multiplying both maps by it before squaring would weight by its square.

    References
    ----------
    Wang, Yuan, Zhang, Feng (2019), arXiv:1906.03609, equations 1 to 3, for imitation under a mask with a learned
    adapter. Zhang and Ma (2021), ICLR, section 3.1, for importance from activations (we use its spatial part, linear).

    Examples
    --------
    >>> teacher = [torch.ones(2, 8, 4, 4), torch.ones(2, 8, 2, 2)]
    >>> fpn_feature_loss([3 * level for level in teacher], teacher)  # (3 - 1)² at every position of both levels
    tensor(4.)
    """
    levels = _paired_levels(student_features, teacher_features)
    weights: dict[Hashable, Tensor] | None = None
    if importance is not None:
        weights = _named(importance)
        _check_levels(weights, [name for name, _, _ in levels], "importance", "features")
    losses = []
    for name, student, teacher in levels:
        check_same_shape(student, teacher, f"features of level {name!r}", min_dim=4)
        student, teacher = in_one_precision(student, teacher)
        weight = teacher.abs().mean(dim=1) if weights is None else _check_importance(weights[name], teacher, name)
        error = (student - teacher).square().mean(dim=1)  # (B, H, W)
        normalizer = weight.flatten(1).sum(dim=1)  # (B,)
        if not in_range(normalizer):  # only the weights' ratios count: bring the largest to 1
            weight = over_largest(weight, dim=(1, 2))
            normalizer = weight.flatten(1).sum(dim=1)
        weighted = (weight * error).flatten(1).sum(dim=1)  # (B,)
        # A sample without any importance gives 0 / 1. Over the smallest float its gradient would be 0 times infinity.
        losses.append((weighted / normalizer.masked_fill(normalizer == 0, 1)).mean())
    return torch.stack(losses).mean()


def _named(levels: Mapping | Sequence) -> dict:
    if not isinstance(levels, Mapping | Sequence):
        raise ValueError(f"pyramid levels come as a dict or a list, got {type(levels).__name__}.")
    return dict(levels) if isinstance(levels, Mapping) else dict(enumerate(levels))


def _paired_levels(student: Mapping | Sequence, teacher: Mapping | Sequence) -> list[tuple]:
    """List (name, student's entry, teacher's entry) per level, or raise, so that no level is dropped silently."""
    if isinstance(student, Tensor) or isinstance(teacher, Tensor):
        raise ValueError("pyramid levels come as a dict or a list, got one Tensor. For a single level: [features].")
    if isinstance(student, Mapping) != isinstance(teacher, Mapping):
        raise ValueError(
            "student and teacher levels must both be dicts or both be lists: they are paired by name or by order."
        )
    paired_by_name = isinstance(student, Mapping)
    student, teacher = _named(student), _named(teacher)
    if paired_by_name:
        _check_levels(student, list(teacher), "student levels", "teacher levels")
    check_paired_lists(list(student), list(teacher), "pyramid levels")
    return [(name, student[name], teacher[name]) for name in student]


def _check_levels(named: Mapping, expected: Sequence, what: str, other: str) -> None:
    if set(named) != set(expected):
        raise ValueError(
            f"{what} and {other} must have the same levels, got {list(named)} and {list(expected)}. "
            "A missing level would be a scale that is never taught."
        )


def _check_importance(weight: Tensor, teacher: Tensor, name: Hashable) -> Tensor:
    shape = (teacher.shape[0], *teacher.shape[2:])
    if not isinstance(weight, Tensor) or tuple(weight.shape) != shape:
        came = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"importance of level {name!r} must have shape {shape}, one weight per position, got {came}.")
    if weight.is_complex() or weight.device != teacher.device:
        raise ValueError(
            f"importance of level {name!r} must be real numbers on {teacher.device}, got {weight.dtype} on "
            f"{weight.device}."
        )
    weight = weight.to(teacher.dtype).detach()
    if can_look(weight) and bool((weight < 0).any()):
        raise ValueError(f"importance of level {name!r} must not be negative: it would reward a difference there.")
    return weight
