"""Soft targets of sigmoids against SciPy, and against two classes of a softmax."""

import numpy as np
import pytest
import scipy.special
import torch

from kdcourse.losses import binary_kd_loss, kd_loss


def draw(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("shape", [(7,), (7, 1), (5, 4), (2, 3, 4)])
def test_the_loss_is_the_mean_divergence_of_the_yes_no_answers(shape, temperature):
    student, teacher = draw(*shape), draw(*shape, seed=1)
    p, q = (scipy.special.expit(z.numpy() / temperature) for z in (teacher, student))
    kl = scipy.special.rel_entr(p, q) + scipy.special.rel_entr(1 - p, 1 - q)
    np.testing.assert_allclose(binary_kd_loss(student, teacher, temperature=temperature), temperature**2 * kl.mean())


@pytest.mark.parametrize("temperature", [1.0, 4.0, 1e5])
def test_one_logit_is_two_classes_with_the_logits_0_and_z(temperature):
    student, teacher = draw(9, 1), draw(9, 1, seed=1)
    two = [torch.cat([torch.zeros_like(z), z], dim=1) for z in (student, teacher)]
    expected = kd_loss(*two, temperature=temperature)
    torch.testing.assert_close(binary_kd_loss(student, teacher, temperature=temperature), expected)


def test_it_is_0_for_equal_logits_and_has_the_right_gradient_which_the_teacher_never_gets():
    student, teacher = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    assert binary_kd_loss(student, student, temperature=2.0) == 0
    assert torch.autograd.gradcheck(lambda z: binary_kd_loss(z, teacher.detach(), temperature=2.0), student)
    binary_kd_loss(student, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    expected = 2.0 * ((student / 2).sigmoid() - (teacher / 2).sigmoid()) / 12  # T (q - p) / BK
    torch.testing.assert_close(student.grad, expected.detach())


def test_saturated_logits_and_half_precision_stay_finite():
    student, teacher = torch.tensor([1e4, -1e4, 0.0]).requires_grad_(), torch.tensor([-1e4, 1e4, 1e4])
    loss = binary_kd_loss(student, teacher, temperature=1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    half = binary_kd_loss(draw(4, 3).half(), draw(4, 3, seed=1).half(), temperature=4.0)
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    ("student", "teacher", "temperature", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 1), 1.0, "must have the same shape"),
        (torch.zeros(0, 3), torch.zeros(0, 3), 1.0, "must not be empty"),
        (torch.zeros(2), torch.zeros(2).long(), 1.0, "must be floating point"),
        (torch.zeros(2), torch.zeros(2), 0.0, "temperature must be positive"),
    ],
)
def test_bad_input_is_refused_in_words(student, teacher, temperature, message):
    with pytest.raises(ValueError, match=message):
        binary_kd_loss(student, teacher, temperature=temperature)
