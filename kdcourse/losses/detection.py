"""Detectors: anchors and boxes, most of which are background (Chen et al., 2017).

Chapter 08. Letters: B batch, K classes, A anchors in an image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .._arguments import (
    check_class_dimension,
    check_mask,
    check_same_shape,
    check_temperature,
    check_weight,
    known_value,
)
from ._high_temperature import scaled_bernoulli_kl
from ._numerics import in_one_precision, keep, mean_where


def detection_classification_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    foreground: Tensor | None = None,
    background_weight: float | Tensor = 0.0,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    r"""Soft targets for anchors with a sigmoid for each of K classes, as in RetinaNet.

    .. math:: T^2 \cdot \frac{\sum_a w_a \sum_k \mathrm{KL}\big(\sigma(z^t_{ak} / T) \,\|\, \sigma(z^s_{ak} / T)\big)}
              {\sum_a f_a}, \qquad w_a = f_a + (1 - f_a)\,w_\mathrm{background}

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, A, K)
        Logits for the same anchors. The teacher's side receives no gradient.
    foreground : Tensor of bool, shape (B, A), optional
        Mask :math:`f_a` of the anchors matched to an object. Without it the teacher's most likely class weights each
        anchor: :math:`w_a = f_a = \max_k \sigma(z^t_{ak})`.
    background_weight : float
        Weight ≥ 0 of each anchor outside ``foreground``. The divisor stays the foreground's count.
    temperature : float
        Positive number T that divides the logits.

    Returns
    -------
    Tensor, shape ()
        Nats per foreground anchor, times T². 0 when the logits agree. Also 0, and part of the graph, when no anchor
        is foreground and the background has weight 0.

    Raises
    ------
    ValueError
        If shapes differ, the mask does not have one entry of 0 or 1 per anchor, temperature is not positive and
        finite, or the background's weight is negative.

    Notes
    -----
    The loss uses ``logsigmoid`` of logits. It is exact at ±120, where a sigmoid is 0 or 1 and has no gradient, and
    allowed under autocast, which refuses ``binary_cross_entropy``. The divergence is 0 when the student equals the
    teacher; cross-entropy against a soft target would add the teacher's entropy, a constant. A mean over all anchors
    would divide a handful of objects by 100,000 anchors.

    Chen et al. distil a softmax over classes and background, with a weight of 1.5 for the background. One-stage
    detectors since then have a sigmoid per class, as here.

    References
    ----------
    Chen, Choi, Yu, Han, Chandraker (2017), Learning Efficient Object Detection Models with Knowledge Distillation,
    section 3.2. Lin et al. (2017), arXiv:1708.02002, section 3.3, for the division by the foreground's count.

    Examples
    --------
    >>> student, teacher = torch.zeros(1, 1, 1), torch.tensor([[[3.0]]]).log()  # probabilities 1/2 and 3/4
    >>> detection_classification_loss(student, teacher)  # 0.75·log(0.75 / 0.5) + 0.25·log(0.25 / 0.5)
    tensor(0.1308)
    """
    check_same_shape(student_logits, teacher_logits, allow_empty=True)
    check_class_dimension(student_logits, "logits")
    temperature = check_temperature(temperature)
    background_weight = check_weight(background_weight, "background_weight")
    student, teacher = in_one_precision(student_logits, teacher_logits)
    divergence = scaled_bernoulli_kl(student, teacher, temperature)  # (B, A)
    if foreground is None:
        # softmax(log w) is w / Σw, and stays exact where every w is too small for a float
        log_weight = F.logsigmoid(teacher).amax(dim=-1)  # (B, A)
        weight = log_weight.flatten().softmax(dim=0).view_as(log_weight)  # (B, A)
        return (weight * divergence).sum()
    check_mask(foreground, student_logits.shape[:-1], "foreground", _ONE_PER_ANCHOR)
    inside = foreground.bool()
    count = inside.sum().clamp(min=1)
    background = keep(divergence, ~inside).sum() / count
    return mean_where(divergence, inside) + background_weight * background


def box_regression_loss(
    student_boxes: Tensor,
    teacher_boxes: Tensor,
    targets: Tensor | None = None,
    *,
    foreground: Tensor | None = None,
    margin: float | Tensor = 0.0,
) -> Tensor:
    r"""Boxes with the teacher as a bound: a student that beats the teacher pays nothing.

    .. math:: \frac{1}{\sum_a f_a} \sum_a f_a \cdot \begin{cases}
              \|b^s_a - y_a\|^2 & \text{if } \|b^s_a - y_a\|^2 + m > \|b^t_a - y_a\|^2 \\ 0 & \text{otherwise}
              \end{cases}

    Parameters
    ----------
    student_boxes, teacher_boxes : Tensor, shape (B, A, 4) or (N, 4)
        Regression outputs for the same anchors, in one encoding. The teacher's side receives no gradient.
    targets : Tensor, same shape, optional
        True boxes :math:`y` in that encoding. Outside ``foreground`` they may hold anything, even NaN. Without targets
        the student imitates the teacher's boxes by smooth L1, summed over the four numbers.
    foreground : Tensor of bool, shape (B, A) or (N,), optional
        Mask of the anchors matched to an object. Without it every box counts.
    margin : float
        Number m ≥ 0, in squared units of the encoding. The student must beat the teacher by m to pay nothing.

    Returns
    -------
    Tensor, shape ()
        Mean over foreground boxes. 0, and part of the graph, when there is no foreground.

    Raises
    ------
    ValueError
        If shapes differ, the last dimension is not 4, the mask does not have one entry of 0 or 1 per box, or a margin
        is negative or comes without targets.

    Notes
    -----
    This is the paper's :math:`L_b`, which is added to the usual box loss on the labels with weight 0.5. With m > 0 a
    student exactly as good as its teacher still pays. The teacher is a bound and not a target, because regression
    outputs have no limits and a teacher may be far off.

    References
    ----------
    Chen, Choi, Yu, Han, Chandraker (2017), section 3.3, equation 4.

    Examples
    --------
    >>> truth = torch.zeros(1, 4)
    >>> box_regression_loss(truth + 0.5, truth + 0.1, truth)  # worse than the teacher: 4·0.5²
    tensor(1.)
    >>> box_regression_loss(truth + 0.1, truth + 0.5, truth)  # better than the teacher
    tensor(0.)
    """
    check_same_shape(student_boxes, teacher_boxes, "boxes", allow_empty=True)
    if student_boxes.shape[-1] != 4:
        raise ValueError(f"boxes need four numbers in the last dimension, got shape {tuple(student_boxes.shape)}.")
    margin = check_weight(margin, "margin")
    if foreground is not None:
        check_mask(foreground, student_boxes.shape[:-1], "foreground", _ONE_PER_ANCHOR)
    student, teacher = in_one_precision(student_boxes, teacher_boxes)
    inside = None if foreground is None else foreground.unsqueeze(-1)
    student, teacher = keep(student, inside), keep(teacher, inside)  # (B, A, 4), 0 outside the foreground
    if targets is None:
        if known_value(margin) not in (0, None):
            raise ValueError("a margin compares two distances to the true boxes: pass targets, or leave margin at 0.")
        distance = F.smooth_l1_loss(student, teacher, reduction="none").sum(dim=-1)  # (B, A)
        return mean_where(distance, foreground)
    check_same_shape(student_boxes, targets, "boxes and targets", allow_empty=True)
    truth = keep(targets.detach().to(student.dtype), inside)  # (B, A, 4)
    student_error = (student - truth).square().sum(dim=-1)  # (B, A)
    teacher_error = (teacher - truth).square().sum(dim=-1)  # (B, A)
    better = student_error + margin <= teacher_error  # (B, A) never where one of them is NaN
    bounded = torch.where(better, 0.0, student_error)  # (B, A)
    return mean_where(torch.where(teacher_error.isnan(), teacher_error, bounded), foreground)


_ONE_PER_ANCHOR = "It marks the anchors matched to an object, for example matched_index >= 0."
