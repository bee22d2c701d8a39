"""Detection losses against NumPy and SciPy written from the papers."""

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from kdcourse.losses import box_regression_loss, detection_classification_loss

seeds = st.integers(0, 10_000)


def normal(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(batch=2, anchors=9, classes=4, seed=0, scale=3.0):
    return normal(2, batch, anchors, classes, seed=seed, scale=scale).unbind()


def some_anchors(batch=2, anchors=9, seed=0):
    return torch.rand(batch, anchors, generator=torch.Generator().manual_seed(seed)) < 0.4


def bernoulli_kl(teacher, student, temperature):
    """Per anchor, summed over its classes, from the definition: p log p/q + (1-p) log (1-p)/(1-q)."""
    t, s = teacher.numpy() / temperature, student.numpy() / temperature
    yes = scipy.special.rel_entr(scipy.special.expit(t), scipy.special.expit(s))
    no = scipy.special.rel_entr(scipy.special.expit(-t), scipy.special.expit(-s))
    return (yes + no).sum(-1)


# Classification


@given(seed=seeds, temperature=st.floats(0.5, 10), background=st.floats(0, 2))
@settings(max_examples=30, deadline=None)
def test_classification_is_the_sum_of_bernoulli_divergences_over_the_foregrounds_count(seed, temperature, background):
    student, teacher = logits(seed=seed)
    inside = some_anchors(seed=seed)
    weight = np.where(inside.numpy(), 1.0, background)
    expected = temperature**2 * (weight * bernoulli_kl(teacher, student, temperature)).sum() / max(1, int(inside.sum()))
    actual = detection_classification_loss(
        student, teacher, foreground=inside, background_weight=background, temperature=temperature
    )
    assert actual.item() == pytest.approx(float(expected), rel=1e-8, abs=1e-12)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_without_a_mask_each_anchor_weighs_what_the_teacher_believes_of_its_likeliest_object(seed):
    student, teacher = logits(seed=seed)
    weight = scipy.special.expit(teacher.numpy()).max(-1)
    expected = (weight * bernoulli_kl(teacher, student, 1.0)).sum() / weight.sum()
    assert detection_classification_loss(student, teacher).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("foreground", [None, some_anchors()])
@pytest.mark.trap(58)
def test_classification_is_zero_at_equality_where_cross_entropy_is_the_teachers_entropy(foreground):
    teacher = logits()[1]
    loss = detection_classification_loss(teacher, teacher, foreground=foreground, temperature=2.0)
    assert loss.item() == 0
    mistaken = F.binary_cross_entropy_with_logits(teacher / 2, (teacher / 2).sigmoid()) * 4
    assert mistaken > 1


@given(seed=seeds, scale=st.floats(0.01, 200))
@settings(max_examples=30, deadline=None)
def test_classification_is_never_negative(seed, scale):
    student, teacher = logits(seed=seed, scale=scale)
    assert detection_classification_loss(student, teacher).item() >= -1e-12


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("foreground", [None, torch.ones(1, 1, dtype=torch.bool)])
@pytest.mark.trap(57)
def test_classification_is_exact_at_logit_120_where_a_sigmoid_has_no_gradient_left(sign, foreground):
    student = torch.full((1, 1, 1), 120.0 * sign, requires_grad=True)
    teacher = torch.full((1, 1, 1), -120.0 * sign)
    loss = detection_classification_loss(student, teacher, foreground=foreground)
    loss.backward()
    assert loss.item() == pytest.approx(120)
    assert student.grad.item() == pytest.approx(sign)

    mistaken = torch.full((1, 1, 1), 120.0 * sign, requires_grad=True)
    clamped = F.binary_cross_entropy(mistaken.sigmoid(), teacher.sigmoid())
    clamped.backward()
    assert clamped.item() == pytest.approx(100)  # PyTorch's clamp of the logarithm
    assert mistaken.grad.item() == 0


@pytest.mark.trap(57)
def test_classification_runs_under_autocast_and_keeps_float32_precision():
    student, teacher = (x.float() for x in logits())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = detection_classification_loss(student.bfloat16(), teacher.bfloat16(), foreground=some_anchors())
    outside = detection_classification_loss(
        student.bfloat16().float(), teacher.bfloat16().float(), foreground=some_anchors()
    )
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, outside)


@pytest.mark.trap(59)
def test_more_background_anchors_do_not_dilute_the_foreground():
    student, teacher = logits(anchors=3)
    foreground = torch.ones(2, 3, dtype=torch.bool)
    alone = detection_classification_loss(student, teacher, foreground=foreground)

    crowd = normal(2, 997, 4, seed=1)
    padded = detection_classification_loss(
        torch.cat([student, crowd], dim=1),
        torch.cat([teacher, crowd + 1], dim=1),
        foreground=F.pad(foreground, (0, 997)),
    )
    torch.testing.assert_close(padded, alone)
    # and with every anchor in the divisor the same objects count 333 times less
    everything = bernoulli_kl(teacher, student, 1.0).sum() / (2 * 1000)
    assert alone.item() / everything == pytest.approx(1000 / 3)


@pytest.mark.trap(59)
def test_without_a_mask_confident_background_hardly_counts():
    student, teacher = logits(anchors=3)
    teacher = teacher.abs()  # three objects in each image
    alone = detection_classification_loss(student, teacher)
    crowd = torch.full((2, 997, 4), -14.0, dtype=torch.float64)
    padded = detection_classification_loss(torch.cat([student, crowd], dim=1), torch.cat([teacher, crowd], dim=1))
    torch.testing.assert_close(padded, alone, rtol=1e-3, atol=0)


@pytest.mark.parametrize("anchors", [0, 9])
@pytest.mark.trap(60)
def test_no_foreground_gives_zero_within_the_graph_not_nan(anchors):
    student, teacher = logits(anchors=anchors)
    student.requires_grad_()
    loss = detection_classification_loss(student, teacher, foreground=torch.zeros(2, anchors, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_classification_gradient_at_high_temperature_matches_logits():
    student, teacher = logits()
    student.requires_grad_()
    foreground = torch.ones(2, 9, dtype=torch.bool)
    detection_classification_loss(student, teacher, foreground=foreground, temperature=1e4).backward()
    # dσ/dz is a quarter at 0, so T²·(σ(s/T) - σ(t/T))/T tends to (s - t)/4
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 4 / 18, rtol=1e-3, atol=1e-6)


def test_detection_gradients_agree_with_finite_differences_and_never_reach_the_teacher():
    student, teacher = logits(anchors=3)
    student.requires_grad_()
    teacher.requires_grad_()
    inside = some_anchors(anchors=3, seed=3)
    assert 0 < inside.sum() < 6
    for mask in (None, inside):
        loss = lambda x, mask=mask: detection_classification_loss(x, teacher, foreground=mask, temperature=2.0)  # noqa: E731
        assert torch.autograd.gradcheck(loss, student)
        loss(student).backward()
    for targets in (None, normal(2, 3, 4, seed=7)):
        loss = lambda x, y=targets: box_regression_loss(x, teacher, y, foreground=inside)  # noqa: E731
        assert torch.autograd.gradcheck(loss, student)
        loss(student).backward()
    assert teacher.grad is None


def test_classification_sweeps_temperature_under_vmap():
    student, teacher = logits()
    temperatures = torch.tensor([1.0, 2.0, 8.0], dtype=torch.float64)
    inside = some_anchors()
    swept = vmap(lambda t: detection_classification_loss(student, teacher, foreground=inside, temperature=t))(
        temperatures
    )
    one_by_one = [detection_classification_loss(student, teacher, foreground=inside, temperature=t) for t in (1, 2, 8)]
    torch.testing.assert_close(swept, torch.stack(one_by_one))


def test_classification_of_stacked_students_under_vmap():
    students, teacher = normal(3, 2, 9, 4, seed=1), logits()[1]
    inside = some_anchors()
    stacked = vmap(lambda s: detection_classification_loss(s, teacher, foreground=inside))(students)
    torch.testing.assert_close(stacked[2], detection_classification_loss(students[2], teacher, foreground=inside))


# Boxes


def bounded(student, teacher, targets, inside, margin):
    total = 0.0
    for place in np.argwhere(inside.numpy()):
        s, t, y = (x[tuple(place)].numpy() for x in (student, teacher, targets))
        student_error, teacher_error = np.linalg.norm(s - y) ** 2, np.linalg.norm(t - y) ** 2
        total += student_error if student_error + margin > teacher_error else 0.0
    return total / max(1, int(inside.sum()))


@given(seed=seeds, margin=st.floats(0, 5))
@settings(max_examples=30, deadline=None)
def test_box_loss_is_the_papers_teacher_bounded_squared_error_over_the_foregrounds_count(seed, margin):
    student, teacher, targets = normal(3, 2, 9, 4, seed=seed).unbind()
    inside = some_anchors(seed=seed)
    actual = box_regression_loss(student, teacher, targets, foreground=inside, margin=margin)
    assert actual.item() == pytest.approx(bounded(student, teacher, targets, inside, margin), rel=1e-9)


@pytest.mark.parametrize(("student_error", "margin", "expected"), [(1.0, 0.5, 0.0), (1.0, 1.5, 1.0), (2.0, 0.0, 0.0)])
def test_a_student_that_beats_its_teacher_by_the_margin_is_left_alone(student_error, margin, expected):
    targets = torch.zeros(1, 4)
    student = torch.tensor([[student_error**0.5, 0, 0, 0]], requires_grad=True)
    teacher = torch.tensor([[2**0.5, 0, 0, 0]])
    loss = box_regression_loss(student, teacher, targets, margin=margin)
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    assert bool(student.grad.any()) == (expected > 0)


def test_imitated_boxes_are_smooth_l1_summed_over_four_numbers():
    student, teacher = normal(2, 5, 4, seed=1, scale=2.0).unbind()
    difference = np.abs((student - teacher).numpy())
    huber = np.where(difference < 1, difference**2 / 2, difference - 0.5).sum(-1)
    assert box_regression_loss(student, teacher).item() == pytest.approx(huber.mean())
    inside = torch.tensor([True, False, False, True, False])
    actual = box_regression_loss(student, teacher, foreground=inside)
    assert actual.item() == pytest.approx(huber[[0, 3]].mean())


@pytest.mark.parametrize("with_targets", [False, True])
def test_equal_boxes_cost_nothing(with_targets):
    teacher, targets = normal(2, 3, 5, 4).unbind()
    assert box_regression_loss(teacher, teacher, targets if with_targets else None).item() == 0


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.trap(60)
def test_boxes_outside_the_foreground_change_neither_the_loss_nor_the_divisor(with_targets):
    student, teacher, targets = normal(3, 1, 3, 4, seed=2).unbind()
    alone = box_regression_loss(student, teacher, targets if with_targets else None)
    junk = torch.full((1, 97, 4), torch.nan, dtype=torch.float64)
    longer = torch.cat([student, junk], dim=1).requires_grad_()
    padded = box_regression_loss(
        longer,
        torch.cat([teacher, junk], dim=1),
        torch.cat([targets, junk], dim=1) if with_targets else None,
        foreground=F.pad(torch.ones(1, 3, dtype=torch.bool), (0, 97)),
    )
    torch.testing.assert_close(padded, alone)
    padded.backward()
    assert longer.grad[:, :3].any()
    assert not longer.grad[:, 3:].any()
    mistaken = (
        F.smooth_l1_loss(student, teacher, reduction="none").sum() / 400
    ).item()  # mask, then mean of everything
    assert box_regression_loss(student, teacher).item() / mistaken == pytest.approx(400 / 3)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("boxes", [0, 5])
@pytest.mark.trap(60)
def test_no_foreground_box_gives_zero_within_the_graph_not_nan(with_targets, boxes):
    student, teacher, targets = normal(3, boxes, 4).unbind()
    student.requires_grad_()
    mask = torch.zeros(boxes, dtype=torch.bool) if boxes else None
    loss = box_regression_loss(student, teacher, targets if with_targets else None, foreground=mask)
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_box_margin_is_swept_under_vmap():
    student, teacher, targets = normal(3, 6, 4, seed=4).unbind()
    margins = torch.tensor([0.0, 2.0, 50.0], dtype=torch.float64)
    swept = vmap(lambda m: box_regression_loss(student, teacher, targets, margin=m))(margins)
    assert swept[2].item() == pytest.approx((student - targets).square().sum(-1).mean().item())
    torch.testing.assert_close(swept[0], box_regression_loss(student, teacher, targets))


def test_boxes_in_bf16_are_compared_in_float32():
    student, teacher, targets = normal(3, 5, 4).bfloat16().unbind()
    actual = box_regression_loss(student, teacher, targets)
    torch.testing.assert_close(actual, box_regression_loss(student.float(), teacher.float(), targets.float()))


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"student": torch.rand(2, 9, 1)}, r"same shape, got \(2, 9, 1\) and \(2, 9, 4\)"),
        ({"student": torch.ones(2, 9, 4, dtype=torch.long)}, "floating point"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"background_weight": -1.0}, "background_weight must be finite and not negative"),
        ({"foreground": torch.ones(2, 9, 4)}, r"foreground must have shape \(2, 9\), got \(2, 9, 4\).*matched"),
        ({"foreground": torch.full((2, 9), 3)}, "foreground must hold only 0 and 1, got 3"),
        ({"foreground": [True]}, r"foreground must be a torch.Tensor of 0 and 1, got list"),
    ],
)
def test_classification_refuses_what_it_cannot_mean(arguments, message):
    arguments = {"student": torch.rand(2, 9, 4), "teacher": torch.rand(2, 9, 4), **arguments}
    with pytest.raises(ValueError, match=message):
        detection_classification_loss(arguments.pop("student"), arguments.pop("teacher"), **arguments)


@pytest.mark.parametrize(
    ("boxes", "arguments", "message"),
    [
        ((torch.rand(5, 4), torch.rand(1, 4)), {}, "boxes must have the same shape"),
        ((torch.rand(5, 3), torch.rand(5, 3)), {}, r"four numbers in the last dimension, got shape \(5, 3\)"),
        ((torch.rand(5, 4), torch.rand(5, 4), torch.rand(1, 4)), {}, "boxes and targets must have the same shape"),
        ((torch.rand(5, 4), torch.rand(5, 4)), {"margin": -0.5}, "margin must be finite and not negative"),
        ((torch.rand(5, 4), torch.rand(5, 4)), {"margin": 0.5}, "pass targets, or leave margin at 0"),
        ((torch.rand(5, 4), torch.rand(5, 4)), {"foreground": torch.ones(5, 4)}, r"foreground must have shape \(5,\)"),
    ],
)
def test_box_loss_refuses_what_it_cannot_mean(boxes, arguments, message):
    with pytest.raises(ValueError, match=message):
        box_regression_loss(*boxes, **arguments)
