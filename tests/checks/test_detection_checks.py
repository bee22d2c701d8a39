"""Exercise 08: right answers in several styles pass, and each typical mistake gets its own message."""

import math

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from kdcourse.checks import (
    CheckFailed,
    check_class_term_verdict,
    check_detection_questions,
    check_foreground,
    check_overlaps,
    check_pyramid_loss,
    check_teacher_weighted_loss,
)
from kdcourse.checks.slips.detection import FOREGROUND, OVERLAPS, PYRAMID, TEACHER_WEIGHTED, bernoulli_kl, pyramid_loss
from kdcourse.losses import FPNAdapters, detection_classification_loss, fpn_feature_loss

CHECKS = {
    check_teacher_weighted_loss: TEACHER_WEIGHTED,
    check_pyramid_loss: PYRAMID,
    check_overlaps: OVERLAPS,
    check_foreground: FOREGROUND,
}
SLIPS = [
    pytest.param(check, slip.message, wrong, id=f"{check.__name__}-{name}-{number}")
    for check, slips in CHECKS.items()
    for name, slip in slips.items()
    for number, wrong in enumerate(slip.wrong)
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("check", "message", "wrong"), SLIPS)
def test_each_slip_gets_its_own_message(check, message, wrong):
    for seed in (1, 2, 3):
        with pytest.raises(CheckFailed) as found:
            check(wrong, seed=seed)
        assert str(found.value) == message


def course_loss(student_logits, teacher_logits, *, temperature):
    return detection_classification_loss(student_logits, teacher_logits, temperature=temperature)


class ByHand:
    def __call__(self, student, teacher, *, temperature):
        with torch.no_grad():
            weight = teacher.amax(dim=2).sigmoid()
            weight = weight / weight.sum()
        return (
            temperature**2 * (weight * bernoulli_kl(student / temperature, teacher.detach() / temperature).sum(2)).sum()
        )


@pytest.mark.parametrize("right", [course_loss, ByHand()])
def test_a_right_class_loss_passes_however_it_is_written(right):
    for seed in range(3):
        check_teacher_weighted_loss(right, seed=seed)


def course_pyramid(student, teacher, adapters):
    if set(student) != set(teacher):
        raise ValueError("levels")
    return fpn_feature_loss({name: adapters[name](level) for name, level in student.items()}, teacher)


def course_pyramid_with_adapters(student, teacher, adapters):
    ours = FPNAdapters(dict.fromkeys(student, 2), dict.fromkeys(student, 4))
    ours.convolutions = nn.ModuleList([adapters[name] for name in ours.names])
    return fpn_feature_loss(ours(student), teacher)


@pytest.mark.parametrize("right", [course_pyramid, course_pyramid_with_adapters, pyramid_loss])
def test_a_right_pyramid_loss_passes_however_it_is_written(right):
    for seed in range(3):
        check_pyramid_loss(right, seed=seed)


def test_torchvisions_overlap_passes_and_so_does_a_mask_made_with_it():
    for seed in range(3):
        check_overlaps(box_iou, seed=seed)
        check_foreground(lambda anchors, boxes: (box_iou(anchors, boxes) >= 0.5).any(dim=1), seed=seed)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda *args, **knobs: None, "got None"),
        (lambda *args, **knobs: torch.tensor(math.nan), "not finite|shape|one number"),
        (lambda: 0, "TypeError"),
        ("a word", "a function is needed"),
    ],
)
def test_what_is_no_answer_is_told_so(check, wrong, told):
    with pytest.raises(CheckFailed, match=told):
        check(wrong, seed=1)


@pytest.mark.parametrize("check", CHECKS)
def test_a_stub_is_not_answered(check):
    def stub(*args, **knobs):
        raise NotImplementedError("Task 1")

    with pytest.raises(NotImplementedError):
        check(stub, seed=1)


def test_questions_name_what_speaks_against_a_wrong_letter(capsys):
    check_detection_questions(["b", "c", "a"])
    assert capsys.readouterr().out.count("Passed") == 3
    for wrong, told in (
        (["a", "c", "a"], "first column"),
        (["b", "b", "a"], "optimizer"),
        (["b", "c", "b"], "two starts"),
    ):
        with pytest.raises(CheckFailed, match=told):
            check_detection_questions(wrong)
    with pytest.raises(NotImplementedError):
        check_detection_questions([None, None, None])


def test_the_verdict_is_that_of_the_paired_interval():
    taught, plain = [1.0, 1.1, 1.2, 1.0], [2.0, 2.2, 2.1, 2.1]
    check_class_term_verdict("better", taught, plain)
    with pytest.raises(CheckFailed):
        check_class_term_verdict("unclear", taught, plain)
    with pytest.raises(CheckFailed):
        check_class_term_verdict("better", plain, taught)
