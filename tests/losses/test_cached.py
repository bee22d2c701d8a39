"""Answers of a teacher kept in part: against NumPy, class by class, and against the whole answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse.losses import kd_loss, sampled_kd_loss, sampled_targets, top_kd_loss, top_targets


def random_logits(batch=6, classes=9, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64) for _ in range(2))


def softmax(row):
    exp = np.exp(row - row.max())
    return exp / exp.sum()


def bucketed_kl(student, teacher, count, temperature):
    """KL of the count most probable classes and one bucket, one sample at a time."""
    values = []
    for student_row, teacher_row in zip(student.numpy(), teacher.numpy(), strict=True):
        q, p = softmax(student_row / temperature), softmax(teacher_row / temperature)
        top = np.argsort(-p)[:count]
        pairs = [(p[i], q[i]) for i in top]
        if count < len(p):
            pairs.append((1 - p[top].sum(), 1 - q[top].sum()))
        values.append(sum(a * np.log(a / b) for a, b in pairs))
    return temperature**2 * np.mean(values)


# The most probable classes


@given(count=st.integers(1, 9), temperature=st.floats(0.5, 10), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_top_kd_is_the_divergence_of_the_kept_classes_and_one_bucket_for_the_rest(count, temperature, seed):
    student, teacher = random_logits(seed=seed)
    kept = top_targets(teacher, count, temperature=temperature)
    actual = top_kd_loss(student, *kept, temperature=temperature).item()
    assert actual == pytest.approx(bucketed_kl(student, teacher, count, temperature), rel=1e-7, abs=1e-10)


def test_with_all_classes_kept_it_is_kd():
    student, teacher = random_logits()
    whole = top_kd_loss(student, *top_targets(teacher, 9, temperature=4), temperature=4)
    torch.testing.assert_close(whole, kd_loss(student, teacher, temperature=4))


def test_it_grows_with_the_classes_that_are_kept_and_never_beyond_kd():
    student, teacher = random_logits()
    losses = [top_kd_loss(student, *top_targets(teacher, count)).item() for count in range(1, 10)]
    assert losses == sorted(losses)
    assert losses[0] > 0


@pytest.mark.trap(89)
def test_the_bucket_keeps_the_loss_a_divergence_where_the_truncated_sum_is_negative():
    student, teacher = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.6, 0.4]]).log()
    student.requires_grad_()
    kept = top_targets(teacher, 1)
    truncated = (kept.log_probs.exp() * (kept.log_probs - student.log_softmax(-1).gather(-1, kept.indices))).sum()
    assert truncated.item() == pytest.approx(-0.2433, abs=1e-4)
    loss = top_kd_loss(student, *kept)
    assert loss.item() == pytest.approx(0.3112, abs=1e-4)
    loss.backward()
    torch.testing.assert_close(student.grad, torch.tensor([[0.3, -0.3]]))  # q - p, as for the whole answer


@pytest.mark.trap(90)
def test_the_kept_classes_are_not_renormalised():
    _, teacher = random_logits()
    kept = top_targets(teacher, 2)
    assert (kept.log_probs.exp().sum(dim=-1) < 0.999).any()
    torch.testing.assert_close(kept.log_probs.exp().sum(dim=-1) + kept.log_rest.exp(), torch.ones(6).double())
    # Its minimum is the teacher's probability of each kept class; renormalised classes would ask for more.
    student = teacher.log_softmax(-1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(top_kd_loss(student, *kept), student)
    assert gradient.abs().max() < 1e-12


def test_a_saturated_teacher_leaves_nothing_and_the_loss_stays_finite():
    student = torch.zeros(2, 3, requires_grad=True)
    kept = top_targets(torch.tensor([[0.0, 1e4, 0.0], [1e4, 0.0, 0.0]]), 1)
    loss = top_kd_loss(student, *kept)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(3))
    assert student.grad.isfinite().all()


def test_answers_kept_in_half_precision_change_the_loss_little():
    student, teacher = (logits.float() for logits in random_logits())
    indices, log_probs, log_rest = top_targets(teacher, 3)
    halved = top_kd_loss(student, indices, log_probs.half(), log_rest.half())
    torch.testing.assert_close(halved, top_kd_loss(student, indices, log_probs, log_rest), rtol=1e-2, atol=1e-3)


# Sampled classes


@pytest.mark.trap(90)
@pytest.mark.parametrize("proposal", [1.0, 0.7])
def test_sampled_weights_are_an_unbiased_estimate_of_each_probability(proposal):
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(20_000, 4)
    drawn = sampled_targets(logits, 8, proposal=proposal, generator=torch.Generator().manual_seed(0))
    estimates = torch.zeros(20_000, 4).scatter_add_(1, drawn.indices, drawn.weights)  # (20000, 4)
    error = estimates.std(dim=0) / 20_000**0.5
    assert ((estimates.mean(dim=0) - logits[0].softmax(0)).abs() < 4 * error).all()


def test_the_gradient_of_sampled_kd_is_that_of_kd_in_expectation():
    student, teacher = (logits[:1].float() for logits in random_logits())
    student, many = student.requires_grad_(), teacher.expand(40_000, 9)
    drawn = sampled_targets(many, 12, temperature=2, generator=torch.Generator().manual_seed(0))
    sampled = sampled_kd_loss(student.expand(40_000, 9), *drawn, temperature=2)
    whole = kd_loss(student, teacher, temperature=2)
    (actual,), (expected,) = (torch.autograd.grad(loss, student) for loss in (sampled, whole))
    torch.testing.assert_close(actual, expected, rtol=0, atol=6e-3)
    entropy = -(teacher / 2).softmax(-1).mul((teacher / 2).log_softmax(-1)).sum()
    assert sampled.item() == pytest.approx((whole + 4 * entropy).item(), rel=1e-2)


def test_draws_are_repeatable_with_a_generator():
    _, teacher = random_logits()
    first, second = (sampled_targets(teacher, 5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.indices, second.indices)


# Both


def test_tokens_of_sequences_are_averaged_over():
    student, teacher = random_logits(batch=12)
    folded = [logits.view(3, 4, 9) for logits in (student, teacher)]
    torch.testing.assert_close(
        top_kd_loss(folded[0], *top_targets(folded[1], 2)), top_kd_loss(student, *top_targets(teacher, 2))
    )
    assert sampled_targets(folded[1], 5).indices.shape == (3, 4, 5)


def test_no_gradient_reaches_what_was_kept():
    student, teacher = random_logits()
    student.requires_grad_()
    indices, log_probs, log_rest = top_targets(teacher, 3)
    log_probs.requires_grad_(), log_rest.requires_grad_()
    top_kd_loss(student, indices, log_probs, log_rest).backward()
    assert log_probs.grad is None
    assert log_rest.grad is None
    weights = torch.full((6, 3), 1 / 3, requires_grad=True)
    sampled_kd_loss(student, indices, weights).backward()
    assert weights.grad is None


def test_gradients_are_right():
    student, teacher = random_logits(batch=3, classes=5)
    student.requires_grad_()
    kept, drawn = top_targets(teacher, 2), sampled_targets(teacher, 4)
    assert torch.autograd.gradcheck(lambda logits: top_kd_loss(logits, *kept, temperature=2), student)
    assert torch.autograd.gradcheck(lambda logits: sampled_kd_loss(logits, *drawn, temperature=2), student)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: top_targets(z, 10), "count must be at most 9, the number of classes, got 10"),
        (lambda z: top_targets(z, 0), "count must be a positive integer, got 0"),
        (lambda z: top_targets(z, 2, temperature=0), "temperature must be positive"),
        (lambda z: sampled_targets(z, 0), "count must be a positive integer, got 0"),
        (lambda z: top_kd_loss(z[:5], *top_targets(z, 2)), "one row for each row of logits"),
        (
            lambda z: top_kd_loss(z, *top_targets(z, 2)[:2], torch.zeros(5)),
            "log_rest must have one number for each row",
        ),
        (lambda z: top_kd_loss(z[:, :4], *top_targets(z, 9)), "the same vocabulary"),
        (lambda z: sampled_kd_loss(z, torch.zeros(6, 2), torch.zeros(6, 2)), "indices must be int64"),
        (lambda z: sampled_kd_loss(z, torch.full((6, 2), 9), torch.zeros(6, 2)), "indices must be from 0 to 8"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_logits()[1])
