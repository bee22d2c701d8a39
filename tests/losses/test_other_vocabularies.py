"""Probabilities compared by rank: against NumPy, and what sorting forgets."""

import numpy as np
import pytest
import torch

from kdcourse.losses import kd_loss, sorted_probability_loss


def logits(classes, batch=4, seed=0):
    return 2 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_mean_distance_of_sorted_rows_with_zeros_at_the_end():
    student, teacher = logits(5), logits(8, seed=1)
    expected = []
    for q, p in zip(student.softmax(-1).numpy(), teacher.softmax(-1).numpy(), strict=True):
        q = np.concatenate([np.sort(q)[::-1], np.zeros(3)])
        expected.append(np.abs(q - np.sort(p)[::-1]).sum())
    assert sorted_probability_loss(student, teacher).item() == pytest.approx(np.mean(expected))
    assert sorted_probability_loss(teacher, student).item() == pytest.approx(np.mean(expected))


@pytest.mark.trap(88)
def test_sorting_forgets_which_token_is_which():
    student, teacher = logits(6), logits(6)
    shuffled = student[:, torch.tensor([5, 0, 4, 1, 3, 2])]
    assert sorted_probability_loss(shuffled, teacher).item() == pytest.approx(0, abs=1e-12)
    assert kd_loss(shuffled, teacher, temperature=1) > 0.5


def test_the_gradient_is_right_and_none_reaches_the_teacher():
    student, teacher = logits(5).requires_grad_(), logits(8, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: sorted_probability_loss(z, teacher, temperature=2), student)
    sorted_probability_loss(student, teacher).backward()
    assert teacher.grad is None


def test_half_precision_and_extreme_logits_stay_finite():
    loss = sorted_probability_loss(1e4 * logits(5).half(), -1e4 * logits(7).half())
    assert loss.isfinite()


def test_other_leading_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"logits for the same tokens, got \(4, 5\) and \(3, 8\)"):
        sorted_probability_loss(logits(5), logits(8, batch=3))
    with pytest.raises(ValueError, match="temperature must be positive"):
        sorted_probability_loss(logits(5), logits(8), temperature=-1)
