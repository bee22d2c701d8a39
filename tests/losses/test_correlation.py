"""DIST and standardised logits against SciPy; what DIST has in common with others is in test_divergences.py."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse.losses import dist_loss, kd_loss, standardize_logits

shapes = st.tuples(st.integers(2, 6), st.integers(2, 7))
seeds = st.integers(0, 10_000)


def random_logits(batch=8, classes=10, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64) for _ in range(2)]


def softmax(logits, temperature=1.0):
    return scipy.special.softmax(logits.numpy() / temperature, axis=-1)


# DIST


@given(shape=shapes, seed=seeds, temperature=st.floats(0.5, 10), beta=st.floats(0, 3), gamma=st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_dist_is_one_minus_pearson_over_rows_and_columns(shape, seed, temperature, beta, gamma):
    student, teacher = random_logits(*shape, seed=seed)
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    rows = np.mean([1 - scipy.stats.pearsonr(q[b], p[b])[0] for b in range(shape[0])])
    columns = np.mean([1 - scipy.stats.pearsonr(q[:, k], p[:, k])[0] for k in range(shape[1])])
    actual = dist_loss(student, teacher, temperature=temperature, beta=beta, gamma=gamma)
    assert actual.item() == pytest.approx(beta * rows + gamma * columns, rel=1e-6, abs=1e-9)


def test_dist_needs_no_t_squared_because_its_gradient_does_not_shrink_with_temperature():
    student, teacher = random_logits()
    student.requires_grad_()
    norms = []
    for temperature in (100.0, 1000.0):
        (gradient,) = torch.autograd.grad(dist_loss(student, teacher, temperature=temperature), student)
        norms.append(gradient.norm().item())
    assert norms[1] == pytest.approx(norms[0], rel=0.1)
    assert dist_loss(student, teacher, temperature=1e4) <= 4


def test_dist_is_zero_at_equality_even_where_a_class_underflows_in_every_sample():
    logits = torch.zeros(4, 3)
    logits[:, 2] = torch.tensor([-300.0, -301.0, -299.0, -305.0])  # probability 0 in float32
    logits[:, 0] = torch.tensor([1.0, 2.0, 0.5, 3.0])
    assert (F.softmax(logits, dim=1)[:, 2] == 0).all()
    assert dist_loss(logits, logits.clone()).item() == pytest.approx(0, abs=1e-6)


def test_dist_counts_a_constant_teacher_row_as_zero_and_a_constant_student_row_as_one():
    varied = torch.tensor([[1.0, 2.0, 4.0], [0.0, 1.0, -1.0]])
    flat = torch.full((2, 3), 0.1)
    assert dist_loss(varied, flat, gamma=0).item() == 0
    student = flat.clone().requires_grad_()
    loss = dist_loss(student, varied, gamma=0)
    loss.backward()
    assert loss.item() == 1
    assert (student.grad == 0).all()


@pytest.mark.parametrize("classes", [3, 1000])
def test_dist_in_float32_is_exact_where_predictions_are_nearly_uniform_or_nearly_one_hot(classes):
    for scale in (1e-2, 1.0, 30.0):
        student, teacher = (logits.requires_grad_() for logits in random_logits(64, classes, scale))
        exact = dist_loss(student, teacher)
        exact.backward()
        single = student.detach().float().requires_grad_()
        loss = dist_loss(single, teacher.float())
        loss.backward()
        assert loss.item() == pytest.approx(exact.item(), abs=1e-5)
        torch.testing.assert_close(
            single.grad.double(), student.grad, rtol=1e-3, atol=1e-3 * float(student.grad.abs().max())
        )


def test_dist_in_float32_keeps_the_digits_of_a_class_that_every_sample_takes_for_sure():
    """1 - 1e-9 is 1 in float32, so the column of such a class was rounding; its correlation is that of the others."""
    generator = torch.Generator().manual_seed(1)
    far = 0
    for _ in range(300):
        batch, classes = (int(torch.randint(2, high, (1,), generator=generator)) for high in (9, 12))
        size, other, exponent = torch.rand(3, generator=generator).tolist()
        student, teacher = (torch.randn(batch, classes, generator=generator) * 10 ** (6 * n - 2) for n in (size, other))
        student[:, 0] += 25 * student.abs().amax() * (exponent > 0.5)
        settings = {"temperature": 10 ** (2 * exponent - 0.3)}
        single, exact = (
            dist_loss(student, teacher, **settings),
            dist_loss(student.double(), teacher.double(), **settings),
        )
        far += abs(float(single - exact)) > 1e-3
    assert far == 0
    student = torch.tensor([[20.0, 0.0], [25.0, 0.0], [22.0, 1.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    loss = dist_loss(student, teacher, beta=0)
    loss.backward()
    columns = [logits.double().softmax(dim=1).T for logits in (student.detach(), teacher)]
    wanted = [1 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*columns, strict=True)]
    assert loss.item() == pytest.approx(float(sum(wanted)) / 2, abs=1e-5)
    assert student.grad.isfinite().all()
    assert (student.grad.abs() > 1e-4).any()


@pytest.mark.parametrize("constant", ["student", "teacher", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dist_of_columns_and_rows_that_differ_by_rounding_alone_has_no_gradient(constant, dtype):
    student, teacher = (logits.to(dtype) for logits in random_logits(5, 4))
    # The same probabilities in each row and column, but for the rounding of different offsets.
    flat = (0.3 + torch.arange(5, dtype=dtype)[:, None]).repeat(1, 4)
    if constant in ("student", "both"):
        student = flat.clone()
    if constant in ("teacher", "both"):
        teacher = flat
    student.requires_grad_()
    loss = dist_loss(student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(2.0 if constant == "student" else 0.0, abs=1e-6)
    assert (student.grad.abs() < 1e-6).all()


def test_dist_refuses_a_batch_of_one_and_other_shapes():
    student, teacher = random_logits()
    for bad in (student[:1], student[:, :1], student.view(2, 4, 10)):
        with pytest.raises(ValueError, match=r"at least two (numbers|classes)"):
            dist_loss(bad, bad)
    with pytest.raises(ValueError, match="same shape"):
        dist_loss(student, teacher[:4])
    with pytest.raises(ValueError, match="temperature must be positive"):
        dist_loss(student, teacher, temperature=-1)
    for name in ("beta", "gamma"):
        with pytest.raises(ValueError, match=f"{name} must be finite and not negative"):
            dist_loss(student, teacher, **{name: math.inf})


# Standardised logits


@given(shape=shapes, seed=seeds, scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e3, 1e20]))
@settings(max_examples=40, deadline=None)
def test_standardized_rows_are_z_scores_at_every_magnitude(shape, seed, scale):
    logits = random_logits(*shape, seed=seed)[0].float() * scale
    rows = standardize_logits(logits)
    expected = scipy.stats.zscore(logits.double().numpy(), axis=-1, ddof=0)
    np.testing.assert_allclose(rows.numpy(), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(rows.mean(dim=-1), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(dim=-1, correction=0), 1, rtol=1e-5)


def test_standardizing_ignores_scale_and_offset_so_only_the_relations_of_the_teacher_remain():
    student, teacher = random_logits()
    torch.testing.assert_close(standardize_logits(5 * student - 3), standardize_logits(student))
    doubled = kd_loss(standardize_logits(2 * teacher + 1), standardize_logits(teacher), temperature=2)
    assert doubled.item() == pytest.approx(0, abs=1e-12)
    assert kd_loss(2 * teacher + 1, teacher, temperature=2) > 0.1  # without it, the size must match too


def test_standardizing_with_k_minus_one_is_a_larger_temperature():
    student, _ = random_logits(classes=10)
    unbiased = (student - student.mean(1, keepdim=True)) / student.std(1, keepdim=True)
    torch.testing.assert_close(unbiased * math.sqrt(10 / 9), standardize_logits(student))


def test_a_constant_row_standardizes_to_zero_with_a_finite_gradient():
    logits = torch.tensor([[0.1, 0.1, 0.1], [1.0, 2.0, 3.0]], requires_grad=True)
    rows = standardize_logits(logits)
    rows.square().sum().backward()
    assert (rows[0] == 0).all()
    assert torch.isfinite(logits.grad).all()


def test_gradient_of_standardizing_is_exact():
    logits = random_logits(batch=3, classes=4)[0].requires_grad_()
    assert torch.autograd.gradcheck(standardize_logits, (logits,))


def test_standardizing_raises_half_precision_and_refuses_one_class_and_integers():
    assert standardize_logits(torch.randn(2, 3).half() * 1000).dtype == torch.float32
    with pytest.raises(ValueError, match="no spread to divide by"):
        standardize_logits(torch.randn(3, 1))
    with pytest.raises(ValueError, match="floating point"):
        standardize_logits(torch.ones(2, 3, dtype=torch.long))
