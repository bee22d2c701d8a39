"""Decoupled KD and the generalised JSD against NumPy and SciPy; and what these and DIST have in common."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse.losses import decoupled_kd_loss, dist_loss, generalized_jsd_loss, kd_loss, standardize_logits

shapes = st.tuples(st.integers(2, 6), st.integers(2, 7))
seeds = st.integers(0, 10_000)


def random_logits(batch=8, classes=10, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher, torch.randint(classes, (batch,), generator=generator)


def softmax(logits, temperature=1.0):
    return scipy.special.softmax(logits.numpy() / temperature, axis=-1)


def tckd_and_nckd(student, teacher, labels, temperature):
    """Per sample, from equations 3 to 6 of arXiv:2203.08679, one sample at a time."""
    target, others = [], []
    for p, q, label in zip(softmax(teacher, temperature), softmax(student, temperature), labels.tolist(), strict=True):
        b_p, b_q = np.array([p[label], 1 - p[label]]), np.array([q[label], 1 - q[label]])
        p_rest, q_rest = np.delete(p, label) / b_p[1], np.delete(q, label) / b_q[1]
        target.append(scipy.special.rel_entr(b_p, b_q).sum())
        others.append(scipy.special.rel_entr(p_rest, q_rest).sum())
    return np.array(target), np.array(others)


# Decoupled KD


@given(shape=shapes, seed=seeds, temperature=st.floats(0.5, 20), alpha=st.floats(0, 3), beta=st.floats(0, 10))
@settings(max_examples=40, deadline=None)
def test_decoupled_kd_is_the_papers_weighted_sum_of_two_divergences_times_t_squared(
    shape, seed, temperature, alpha, beta
):
    student, teacher, labels = random_logits(*shape, seed=seed)
    target, others = tckd_and_nckd(student, teacher, labels, temperature)
    expected = temperature**2 * (alpha * target + beta * others).mean()
    actual = decoupled_kd_loss(student, teacher, labels, temperature=temperature, alpha=alpha, beta=beta)
    assert actual.item() == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(shape=shapes, seed=seeds, temperature=st.floats(0.5, 20))
@settings(max_examples=40, deadline=None)
def test_kd_is_tckd_plus_the_mean_of_nckd_weighted_by_what_the_teacher_leaves_to_other_classes(
    shape, seed, temperature
):
    student, teacher, labels = random_logits(*shape, seed=seed)
    tckd = decoupled_kd_loss(student, teacher, labels, temperature=temperature, alpha=1, beta=0)
    p_target = torch.from_numpy(softmax(teacher, temperature)).gather(1, labels[:, None]).squeeze(1)
    nckd = torch.stack(
        [
            decoupled_kd_loss(student[i : i + 1], teacher[i : i + 1], labels[i : i + 1],
                              temperature=temperature, alpha=0, beta=1)
            for i in range(len(labels))
        ]
    )  # fmt: skip
    coupled = kd_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(tckd + ((1 - p_target) * nckd).mean(), coupled, rtol=1e-9, atol=1e-12)
    if student.shape[1] > 2 and p_target.std() > 0.01:  # the mean of products is not the product of means
        assert not torch.isclose(tckd + (1 - p_target).mean() * nckd.mean(), coupled, rtol=1e-9, atol=0)


def test_non_target_term_survives_a_teacher_so_sure_that_one_minus_p_rounds_to_zero():
    student, teacher, labels = (x.float() if x.is_floating_point() else x for x in random_logits())
    teacher = teacher + 60 * F.one_hot(labels, 10)
    assert (1 - teacher.softmax(dim=1).gather(1, labels[:, None]) == 0).all()
    nckd = decoupled_kd_loss(student, teacher, labels, temperature=1, alpha=0, beta=1)
    expected = [
        scipy.special.rel_entr(*(scipy.special.softmax(np.delete(z, label)) for z in (z_t, z_s))).sum()
        for z_t, z_s, label in zip(teacher.numpy(), student.numpy(), labels.tolist(), strict=True)
    ]
    assert nckd.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_with_two_classes_the_non_target_term_vanishes_whatever_beta():
    student, teacher, labels = random_logits(classes=2)
    student.requires_grad_()
    nckd = decoupled_kd_loss(student, teacher, labels, temperature=4, alpha=0, beta=1000)
    nckd.backward()
    assert nckd.item() == 0
    assert student.grad.abs().max() == 0
    full = decoupled_kd_loss(student, teacher, labels, temperature=4, alpha=1, beta=8)
    torch.testing.assert_close(full, kd_loss(student, teacher, temperature=4))


@pytest.mark.parametrize("loss", ["dkd", "dist", "jsd", "jsd0", "jsd1"])
def test_loss_is_zero_at_equality_and_never_negative(loss):
    student, teacher, labels = random_logits(batch=6, classes=5)
    call = make_calls(labels)[loss]
    assert call(teacher.clone(), teacher).item() == pytest.approx(0, abs=1e-12)
    for seed in range(20):
        student, teacher, _ = random_logits(batch=6, classes=5, seed=seed)
        assert call(student, teacher) > 0


@pytest.mark.parametrize("loss", ["dkd", "dist", "jsd", "jsd0", "jsd1"])
def test_loss_ignores_a_shift_of_each_row_and_the_order_of_samples(loss):
    student, teacher, labels = random_logits(batch=6, classes=5)
    shift = torch.linspace(-50, 50, 6, dtype=torch.float64)[:, None]
    expected = make_calls(labels)[loss](student, teacher)
    torch.testing.assert_close(make_calls(labels)[loss](student + shift, teacher - shift), expected)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(make_calls(labels[order])[loss](student[order], teacher[order]), expected)
    doubled = make_calls(labels.repeat(2))[loss](student.repeat(2, 1), teacher.repeat(2, 1))
    torch.testing.assert_close(doubled, expected)


@pytest.mark.parametrize("loss", ["dkd", "dist", "jsd", "jsd0", "jsd1"])
def test_analytic_gradient_agrees_with_finite_differences_and_none_reaches_the_teacher(loss):
    student, teacher, labels = random_logits(batch=4, classes=5, scale=1)
    call = make_calls(labels)[loss]
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: call(s, teacher), (student,))
    teacher.requires_grad_()
    call(student, teacher).backward()
    assert teacher.grad is None


@pytest.mark.trap(4)
@pytest.mark.parametrize("loss", ["dkd", "dist", "jsd", "jsd0", "jsd1"])
@pytest.mark.parametrize("saturated", ["student", "teacher", "both"])
def test_saturated_logits_give_a_finite_loss_and_gradient(loss, saturated):
    student, teacher, labels = (x.float() if x.is_floating_point() else x for x in random_logits(batch=6, classes=5))
    if saturated != "teacher":
        student = F.one_hot(labels.roll(1), 5).float() * 1e4
    if saturated != "student":
        teacher = F.one_hot(labels, 5).float() * 1e4
    student.requires_grad_()
    value = make_calls(labels)[loss](student, teacher)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


@pytest.mark.trap(4)
def test_reverse_kl_gradient_is_finite_where_a_differentiable_kl_div_target_gives_nan():
    student = torch.tensor([[0.0, 200.0, -5.0]], requires_grad=True)
    teacher = torch.tensor([[300.0, 0.0, 1.0]])
    target = F.softmax(student, dim=-1)  # holds exact zeros
    (naive,) = torch.autograd.grad(F.kl_div(F.log_softmax(teacher, dim=-1), target, reduction="batchmean"), student)
    assert torch.isnan(naive).any()
    loss = generalized_jsd_loss(student, teacher, beta=1)
    loss.backward()
    # d KL(q‖p) / d z_k = q_k (log q_k - log p_k - KL); here q is one-hot, so everything is 0 with log p far off.
    assert loss.item() == pytest.approx(300)
    torch.testing.assert_close(student.grad, torch.zeros(1, 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("loss", ["dkd", "dist", "jsd", "jsd0", "jsd1"])
def test_loss_maps_over_a_stack_of_temperatures(loss):
    student, teacher, labels = random_logits(batch=4, classes=5)
    temperatures = torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64)
    mapped = torch.func.vmap(lambda t: make_calls(labels, t)[loss](student, teacher))(temperatures)
    single = torch.stack([make_calls(labels, float(t))[loss](student, teacher) for t in temperatures])
    torch.testing.assert_close(mapped, single)


def test_stacked_students_map_with_their_gradients_and_their_own_batches():
    student = torch.randn(3, 4, 5, dtype=torch.float64)
    teacher = torch.randn(3, 4, 5, dtype=torch.float64)
    labels = torch.randint(5, (3, 4))

    def loss(student, teacher, labels, beta):
        return (
            decoupled_kd_loss(student, teacher, labels, temperature=2, beta=beta)
            + dist_loss(student, teacher)
            + generalized_jsd_loss(standardize_logits(student), standardize_logits(teacher), beta=0.3)
        )

    betas = torch.tensor([0.0, 1.0, 8.0], dtype=torch.float64)
    mapped = torch.func.vmap(torch.func.grad(loss))(student, teacher, labels, betas)
    single = torch.stack(
        [torch.func.grad(loss)(*row) for row in zip(student, teacher, labels, betas.tolist(), strict=True)]
    )
    torch.testing.assert_close(mapped, single)


@pytest.mark.parametrize("loss", ["dkd", "dist", "jsd", "jsd0", "jsd1"])
def test_bfloat16_logits_under_autocast_lose_no_more_than_their_own_rounding(loss):
    student, teacher, labels = random_logits(batch=6, classes=5)
    low_student, low_teacher = student.bfloat16().requires_grad_(), teacher.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = make_calls(labels)[loss](low_student, low_teacher)
    low.backward()
    assert low.dtype == torch.float32
    exact = make_calls(labels)[loss](low_student.detach().double(), low_teacher.double())
    assert low.item() == pytest.approx(exact.item(), rel=1e-4)
    assert torch.isfinite(low_student.grad).all()


def make_calls(labels, temperature=2.0):
    return {
        "dkd": lambda s, t: decoupled_kd_loss(s, t, labels, temperature=temperature),
        "dist": lambda s, t: dist_loss(s, t, temperature=temperature),
        "jsd": lambda s, t: generalized_jsd_loss(s, t, beta=0.3, temperature=temperature),
        "jsd0": lambda s, t: generalized_jsd_loss(s, t, beta=0, temperature=temperature),
        "jsd1": lambda s, t: generalized_jsd_loss(s, t, beta=1, temperature=temperature),
    }


def test_decoupled_kd_takes_tokens_and_refuses_what_it_cannot_use():
    student, teacher, labels = random_logits(batch=6, classes=5)
    flat = decoupled_kd_loss(student, teacher, labels, temperature=2)
    tokens = decoupled_kd_loss(student.view(2, 3, 5), teacher.view(2, 3, 5), labels.view(2, 3), temperature=2)
    torch.testing.assert_close(tokens, flat)
    with pytest.raises(ValueError, match="same shape"):
        decoupled_kd_loss(student, teacher[:1], labels, temperature=2)
    with pytest.raises(ValueError, match=r"at least two classes in their last dimension, got \(6, 1\)"):
        decoupled_kd_loss(student[:, :1], teacher[:, :1], labels * 0, temperature=2)
    with pytest.raises(ValueError, match=r"in \[0, 5\), got 5"):
        decoupled_kd_loss(student, teacher, labels * 0 + 5, temperature=2)
    with pytest.raises(ValueError, match="temperature must be positive"):
        decoupled_kd_loss(student, teacher, labels, temperature=0)
    for name in ("alpha", "beta"):
        with pytest.raises(ValueError, match=f"{name} must be finite and not negative"):
            decoupled_kd_loss(student, teacher, labels, temperature=2, **{name: -1.0})


# Generalised Jensen-Shannon


@given(shape=shapes, seed=seeds, beta=st.floats(0.01, 0.99), temperature=st.floats(0.5, 10))
@settings(max_examples=40, deadline=None)
def test_generalized_jsd_is_the_mixture_formula_inside_the_interval(shape, seed, beta, temperature):
    student, teacher, _ = random_logits(*shape, seed=seed)
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    m = beta * p + (1 - beta) * q
    expected = beta * scipy.special.rel_entr(p, m).sum(-1) + (1 - beta) * scipy.special.rel_entr(q, m).sum(-1)
    actual = generalized_jsd_loss(student, teacher, beta=beta, temperature=temperature)
    assert actual.item() == pytest.approx(expected.mean(), rel=1e-7, abs=1e-10)


@pytest.mark.trap(84)
def test_generalized_jsd_at_its_ends_is_forward_and_reverse_kl_and_not_zero():
    student, teacher, _ = random_logits()
    q, p = softmax(student), softmax(teacher)
    forward, reverse = scipy.special.rel_entr(p, q).sum(-1).mean(), scipy.special.rel_entr(q, p).sum(-1).mean()
    assert abs(forward - reverse) > 0.01
    assert generalized_jsd_loss(student, teacher, beta=0).item() == pytest.approx(forward)
    assert generalized_jsd_loss(student, teacher, beta=1).item() == pytest.approx(reverse)
    # and they are what the formula tends to, once divided by the weight that vanishes
    tiny = 1e-6
    assert generalized_jsd_loss(student, teacher, beta=tiny).item() / tiny == pytest.approx(forward, rel=1e-3)
    assert generalized_jsd_loss(student, teacher, beta=1 - tiny).item() / tiny == pytest.approx(reverse, rel=1e-3)


def test_generalized_jsd_at_one_half_is_symmetric_and_at_most_log_two():
    student, teacher, _ = random_logits(scale=100)
    there, back = (generalized_jsd_loss(*pair, beta=0.5) for pair in ((student, teacher), (teacher, student)))
    torch.testing.assert_close(there, back)
    assert 0 < there <= math.log(2)


def test_generalized_jsd_maps_over_beta_with_both_ends_and_finite_gradients():
    student, teacher, _ = random_logits(batch=4, classes=5)
    betas = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    loss = lambda student, beta: generalized_jsd_loss(student, teacher, beta=beta)  # noqa: E731
    mapped = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(student, betas)
    single = torch.stack([torch.func.grad(loss)(student, float(beta)) for beta in betas])
    torch.testing.assert_close(mapped, single)


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_generalized_jsd_refuses_a_mixture_outside_the_interval(beta):
    student, teacher, _ = random_logits()
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\], got .*teacher's share of the mixture"):
        generalized_jsd_loss(student, teacher, beta=beta)


def test_generalized_jsd_refuses_shapes_that_differ_and_a_cold_temperature():
    student, teacher, _ = random_logits()
    with pytest.raises(ValueError, match="same shape"):
        generalized_jsd_loss(student, teacher[:, :5], beta=0.5)
    with pytest.raises(ValueError, match="temperature must be positive"):
        generalized_jsd_loss(student, teacher, beta=0.5, temperature=0)
