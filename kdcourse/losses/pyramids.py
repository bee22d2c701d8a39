"""Feature pyramids: a map per scale, imitated where it matters (Wang et al., 2019).

Chapter 08. Letters: B batch, C channels, H and W space.
"""

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .._arguments import check_paired_lists, check_same_shape
from ._numerics import at_least_float32

Levels = Mapping[str, Tensor] | Sequence[Tensor]


class FPNAdapters(nn.Module):
    """One learned 1×1 convolution per pyramid level, from the student's channels to the teacher's.

    Parameters
    ----------
    student_channels, teacher_channels : dict of int, or list of int
        Channels per level, under the same names (or in the same order) as the features.

    Raises
    ------
    ValueError
        If the levels differ or there are none.

    Notes
    -----
    Its parameters belong in the student's optimizer: ``Adam([*student.parameters(), *adapters.parameters()])``. It
    fixes channels only; height and width must agree already, as they do for two pyramids over the same image.

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
        self.convolutions = nn.ModuleList(nn.Conv2d(student, teacher, kernel_size=1) for _, student, teacher in levels)

    def forward(self, student_features: Levels) -> Levels:
        """Adapt every level: a dict gives a dict of the same names, a list gives a list."""
        named = _named(student_features)
        _check_levels(named, self.names, "features", "adapters")
        adapted = {}
        for name, convolution in zip(self.names, self.convolutions, strict=True):
            if named[name].dim() != 4 or named[name].shape[1] != convolution.in_channels:
                raise ValueError(
                    f"the adapter of level {name!r} takes features of shape (B, {convolution.in_channels}, H, W), "
                    f"got {tuple(named[name].shape)}."
                )
            adapted[name] = convolution(named[name])  # (B, C_teacher, H, W)
        return adapted if isinstance(student_features, Mapping) else list(adapted.values())


def fpn_feature_loss(student_features: Levels, teacher_features: Levels, *, importance: Levels | None = None) -> Tensor:
    r"""Imitation of a feature pyramid where it matters, level by level.

    .. math:: \frac{1}{\text{levels}} \sum_l \frac{1}{B} \sum_b \frac{\sum_{ij} w_{bij} \,
              \mathrm{mean}_c (F^s_{bcij} - F^t_{bcij})^2}{\sum_{ij} w_{bij}}

    Parameters
    ----------
    student_features, teacher_features : dict or list of Tensor, shape (B, C, H, W)
        One map per level, the student's after :class:`FPNAdapters` where channels differ. The teacher's side receives
        no gradient.
    importance : dict or list of Tensor, shape (B, H, W), optional
        :math:`w \ge 0`, a mask of the foreground or a soft weight per position. Without it the teacher's mean absolute
        activation over channels.

    Returns
    -------
    Tensor, shape ()
        Mean over levels and samples. A sample without any importance on a level adds 0 there.

    Raises
    ------
    ValueError
        If levels are missing or unequal in number, shapes differ, or an importance has the wrong shape or is negative.

    Notes
    -----
    Importance is normalised within each sample, so a bright image in the batch does not mute the others, and enters
    once: multiplying both maps by it before squaring would weigh by its square.

    References
    ----------
    Wang, Yuan, Zhang, Feng (2019), arXiv:1906.03609, equations 1 to 3, for imitation under a mask with a learned
    adapter. Zhang and Ma (2021), ICLR, section 3.1, for importance from activations (we use its spatial part, linear).
    """
    levels = _paired_levels(student_features, teacher_features)
    weights: dict[Hashable, Tensor] | None = None
    if importance is not None:
        weights = _named(importance)
        _check_levels(weights, [name for name, _, _ in levels], "importance", "features")
    losses = []
    for name, student, teacher in levels:
        check_same_shape(student, teacher, f"features of level {name!r}", min_dim=4)
        student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
        weight = teacher.abs().mean(dim=1) if weights is None else _check_importance(weights[name], teacher, name)
        error = (student - teacher).square().mean(dim=1)  # (B, H, W)
        weighted = (weight * error).flatten(1).sum(dim=1)  # (B,)
        # clamp: a sample without any importance gives 0 / tiny = 0
        normalizer = weight.flatten(1).sum(dim=1).clamp(min=torch.finfo(weight.dtype).tiny)  # (B,)
        losses.append((weighted / normalizer).mean())
    return torch.stack(losses).mean()


def _named(levels: Mapping | Sequence) -> dict:
    return dict(levels) if isinstance(levels, Mapping) else dict(enumerate(levels))


def _paired_levels(student: Mapping | Sequence, teacher: Mapping | Sequence) -> list[tuple]:
    """List (name, student's entry, teacher's entry) per level, or raise: no level is dropped without a word."""
    if isinstance(student, Tensor) or isinstance(teacher, Tensor):
        raise ValueError("pyramid levels come as a dict or a list, got one Tensor. For a single level: [features].")
    if isinstance(student, Mapping) != isinstance(teacher, Mapping):
        raise ValueError("student and teacher levels must both be dicts or both be lists: names pair them, or order.")
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
            "A level left out would be a scale that nobody teaches."
        )


def _check_importance(weight: Tensor, teacher: Tensor, name: Hashable) -> Tensor:
    shape = (teacher.shape[0], *teacher.shape[2:])
    if not isinstance(weight, Tensor) or tuple(weight.shape) != shape:
        came = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"importance of level {name!r} must have shape {shape}, one weight per position, got {came}.")
    weight = weight.to(teacher.dtype).detach()
    if weight.device.type != "cpu" or torch._C._functorch.is_functorch_wrapped_tensor(weight):
        return weight
    if bool((weight < 0).any()):
        raise ValueError(f"importance of level {name!r} must not be negative: it would reward a difference there.")
    return weight
