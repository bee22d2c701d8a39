"""Detectors: anchors, boxes and feature pyramids, where almost everything is background (Chen et al., 2017).

Chapter 08. Letters: B batch, K classes, C channels, H and W space; A is the number of anchors in an image.
"""

from collections.abc import Hashable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_mask, check_paired_lists, check_same_shape, check_temperature, check_weight
from ._numerics import at_least_float32, keep, mean_where

Levels = Mapping[str, Tensor] | Sequence[Tensor]


def detection_classification_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    foreground: Tensor | None = None,
    background_weight: float | Tensor = 0.0,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    r"""Soft targets for anchors whose classes are K separate yes/no questions (a sigmoid each, as in RetinaNet).

    .. math:: T^2 \cdot \frac{\sum_a w_a \sum_k \mathrm{KL}\big(\sigma(z^t_{ak} / T) \,\|\, \sigma(z^s_{ak} / T)\big)}
              {\sum_a f_a}, \qquad w_a = f_a + (1 - f_a)\,w_\mathrm{background}

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, A, K)
        Logits of the same anchors; the teacher's side receives no gradient.
    foreground : Tensor of bool, shape (B, A), optional
        :math:`f_a`: the anchors matched to an object. Without it the teacher says how much of an object each anchor
        holds, :math:`w_a = f_a = \max_k \sigma(z^t_{ak})`.
    background_weight : float
        Weight of each anchor outside ``foreground``; the divisor stays the foreground's count.
    temperature : float
        T > 0.

    Returns
    -------
    Tensor, shape ()
        In nats per foreground anchor, times T². 0 when the logits agree; 0, still part of the graph, when no anchor
        is foreground and the background weighs nothing.

    Raises
    ------
    ValueError
        If shapes differ, the mask does not have one entry of 0 or 1 per anchor, temperature is not positive and
        finite, or the background's weight is negative.

    Notes
    -----
    Everything is ``logsigmoid`` of logits: exact at ±120, where a sigmoid is 0 or 1 and has no gradient left, and
    allowed under autocast, which refuses ``binary_cross_entropy``. Cross-entropy against a soft target would add the
    teacher's entropy, a constant that hides when the student has arrived; the divergence is 0 there. A mean over all
    anchors would divide a handful of objects by 100,000 anchors.

    Chen et al. distil a softmax over classes and background with the background's weight raised to 1.5; the sigmoid
    form is the one that fits today's one-stage detectors.

    References
    ----------
    Chen, Choi, Yu, Han, Chandraker (2017), Learning Efficient Object Detection Models with Knowledge Distillation,
    section 3.2. Lin et al. (2017), arXiv:1708.02002, section 3.3, for the division by the foreground's count.
    """
    check_same_shape(student_logits, teacher_logits, allow_empty=True)
    check_temperature(temperature)
    check_weight(background_weight, "background_weight")
    teacher_logits = teacher_logits.detach()
    divergence = _bernoulli_kl(teacher_logits, student_logits, temperature).sum(dim=-1)  # (B, A)
    if foreground is None:
        # softmax(log w) is w / Σw, and stays exact where every w is too small for a float
        log_weight = F.logsigmoid(at_least_float32(teacher_logits)).amax(dim=-1)  # (B, A)
        weight = log_weight.flatten().softmax(dim=0).view_as(log_weight)  # (B, A)
        return temperature**2 * (weight * divergence).sum()
    check_mask(foreground, student_logits.shape[:-1], "foreground", _ONE_PER_ANCHOR)
    inside = foreground.bool()
    count = inside.sum().clamp(min=1)
    background = keep(divergence, ~inside).sum() / count
    return temperature**2 * (mean_where(divergence, inside) + background_weight * background)


def box_regression_loss(
    student_boxes: Tensor,
    teacher_boxes: Tensor,
    targets: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    margin: float | Tensor = 0.0,
) -> Tensor:
    r"""Boxes with the teacher as an upper bound: the student stops paying once it beats the teacher.

    .. math:: \frac{1}{\sum_a f_a} \sum_a f_a \cdot \begin{cases}
              \|b^s_a - y_a\|^2 & \text{if } \|b^s_a - y_a\|^2 + m > \|b^t_a - y_a\|^2 \\ 0 & \text{otherwise}
              \end{cases}

    Parameters
    ----------
    student_boxes, teacher_boxes : Tensor, shape (B, A, 4) or (N, 4)
        Regression outputs for the same anchors, in one encoding; the teacher's side receives no gradient.
    targets : Tensor, same shape, optional
        :math:`y`: the true boxes in that encoding; anything, even NaN, outside ``foreground``. Without targets the
        student imitates the teacher's boxes by smooth L1, summed over the four numbers.
    foreground : Tensor of bool, shape (B, A) or (N,), optional
        The anchors matched to an object. Without it every box counts: they are taken to be selected already.
    margin : float
        m >= 0, in squared units of the encoding: by how much the student must beat the teacher to be left alone.

    Returns
    -------
    Tensor, shape ()
        Mean over foreground boxes. 0 when the boxes agree and the margin is 0; 0, still part of the graph, when there
        is no foreground.

    Raises
    ------
    ValueError
        If shapes differ, the last dimension is not 4, the mask does not have one entry of 0 or 1 per box, or a margin
        is negative or comes without targets.

    Notes
    -----
    This is the paper's :math:`L_b`; there it is added to the usual box loss on the labels with weight 0.5. Note where
    its margin stands: with m > 0 a student exactly as good as its teacher still pays. Regression outputs have no
    bounds, so a teacher may be plainly wrong; that is why it bounds the student rather than being copied.

    References
    ----------
    Chen, Choi, Yu, Han, Chandraker (2017), section 3.3, equation 4.
    """
    check_same_shape(student_boxes, teacher_boxes, "boxes", allow_empty=True)
    if student_boxes.shape[-1] != 4:
        raise ValueError(f"boxes need four numbers in the last dimension, got shape {tuple(student_boxes.shape)}.")
    check_weight(margin, "margin")
    if foreground is not None:
        check_mask(foreground, student_boxes.shape[:-1], "foreground", _ONE_PER_ANCHOR)
    student = _select(student_boxes, foreground)  # (B, A, 4), 0 outside the foreground
    teacher = _select(teacher_boxes.detach(), foreground)  # (B, A, 4)
    if targets is None:
        if not isinstance(margin, Tensor) and margin != 0:
            raise ValueError("a margin compares two distances to the true boxes: pass targets, or leave margin at 0.")
        distance = F.smooth_l1_loss(student, teacher, reduction="none").sum(dim=-1)  # (B, A)
        return mean_where(distance, foreground)
    check_same_shape(student_boxes, targets, "boxes and targets", allow_empty=True)
    truth = _select(targets.detach(), foreground)  # (B, A, 4)
    student_error = (student - truth).square().sum(dim=-1)  # (B, A)
    teacher_error = (teacher - truth).square().sum(dim=-1)  # (B, A)
    bounded = torch.where(student_error + margin > teacher_error, student_error, 0.0)  # (B, A)
    return mean_where(bounded, foreground)


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


_ONE_PER_ANCHOR = "It says for each anchor whether it is matched to an object, for instance matched_index >= 0."


def _bernoulli_kl(teacher_logits: Tensor, student_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """KL between yes/no distributions given by logits, elementwise."""
    teacher = at_least_float32(teacher_logits) / temperature
    student = at_least_float32(student_logits) / temperature
    yes = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    # σ(-z), not 1 - σ(z): exact where the teacher is sure
    no = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return yes + no


def _select(boxes: Tensor, foreground: Tensor | None) -> Tensor:
    return keep(at_least_float32(boxes), None if foreground is None else foreground.unsqueeze(-1))


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
