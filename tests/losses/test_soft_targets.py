"""Soft targets against SciPy written from Hinton, Vinyals and Dean (2015)."""

import math
import warnings

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse.losses import distillation_loss, kd_loss, soften

shapes = st.tuples(st.integers(1, 6), st.integers(2, 9))
seeds = st.integers(0, 10_000)
temperatures = st.floats(0.25, 50)


def random_logits(*shape, scale=3.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = shape or (8, 10)
    student, teacher = (scale * torch.randn(*shape, generator=generator, dtype=dtype) for _ in range(2))
    labels = torch.randint(shape[-1], shape[:-1], generator=generator)
    return student, teacher, labels


def softmax(logits, temperature=1.0):
    return scipy.special.softmax(logits.numpy() / temperature, axis=-1)


def mean_kl(p, q):
    """Mean over samples of the sum over classes of p·log(p/q)."""
    return scipy.special.rel_entr(p, q).sum(axis=-1).mean()


# soften


@given(shape=shapes, seed=seeds, temperature=temperatures)
@settings(max_examples=40, deadline=None)
def test_softened_logits_are_the_softmax_of_logits_over_the_temperature(shape, seed, temperature):
    logits, _, _ = random_logits(*shape, seed=seed)
    softened = soften(logits, temperature=temperature)
    np.testing.assert_allclose(softened.numpy(), softmax(logits, temperature), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(softened.sum(dim=-1).numpy(), 1, rtol=1e-12)


def test_softening_tends_to_uniform_as_the_temperature_grows_and_to_the_largest_logit_as_it_falls():
    logits, _, _ = random_logits()
    torch.testing.assert_close(soften(logits, temperature=1e6), torch.full_like(logits, 0.1), rtol=0, atol=1e-5)
    one_hot = F.one_hot(logits.argmax(dim=1), 10).double()
    torch.testing.assert_close(soften(logits, temperature=1e-3), one_hot, rtol=0, atol=1e-5)


def test_entropy_of_the_softened_rows_grows_with_the_temperature():
    logits, _, _ = random_logits()
    entropies = [scipy.special.entr(soften(logits, temperature=t).numpy()).sum(axis=1) for t in (0.5, 1, 2, 4, 8, 64)]
    assert (np.diff(entropies, axis=0) > 0).all()


def test_softening_lets_the_gradient_through_and_takes_logits_of_any_rank():
    logits = random_logits(2, 3, 4)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soften(x, temperature=2.5), logits)
    torch.testing.assert_close(soften(logits, temperature=2.0)[1, 2], soften(logits[1, 2], temperature=2.0))


# kd_loss: the value


@given(shape=shapes, seed=seeds, temperature=temperatures)
@settings(max_examples=60, deadline=None)
def test_kd_is_t_squared_times_the_mean_divergence_of_the_student_from_the_teacher(shape, seed, temperature):
    student, teacher, _ = random_logits(*shape, seed=seed)
    expected = temperature**2 * mean_kl(softmax(teacher, temperature), softmax(student, temperature))
    actual = kd_loss(student, teacher, temperature=temperature).item()
    assert actual == pytest.approx(expected, rel=1e-7, abs=1e-10 * temperature**2)


@pytest.mark.trap(1)
def test_the_divergence_runs_from_teacher_to_student_and_not_back():
    student, teacher, _ = random_logits()
    p, q = softmax(teacher, 4.0), softmax(student, 4.0)
    actual = kd_loss(student, teacher, temperature=4.0).item()
    assert actual == pytest.approx(16 * mean_kl(p, q))
    assert actual != pytest.approx(16 * mean_kl(q, p), rel=0.01)


@pytest.mark.trap(1)
def test_missing_a_class_that_the_teacher_believes_in_costs_more_than_inventing_one():
    both, one = torch.tensor([[8.0, 8.0, 0.0]]), torch.tensor([[8.0, 0.0, 0.0]])
    misses, invents = kd_loss(one, both, temperature=1.0), kd_loss(both, one, temperature=1.0)
    assert misses > 3 * invents


@pytest.mark.trap(2)
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_kd_is_a_sum_over_classes_not_a_mean(classes):
    student, teacher, _ = random_logits(4, classes)
    actual = kd_loss(student, teacher, temperature=1.0)
    mistaken = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none").mean()
    assert actual.item() == pytest.approx(classes * mistaken.item())


@pytest.mark.trap(2)
def test_kd_of_a_sequence_is_a_mean_over_its_tokens_and_does_not_grow_with_its_length():
    student, teacher, _ = random_logits(2, 3, 7)
    short = kd_loss(student, teacher, temperature=2.0)
    long = kd_loss(student.repeat(1, 5, 1), teacher.repeat(1, 5, 1), temperature=2.0)
    torch.testing.assert_close(long, short)
    torch.testing.assert_close(short, kd_loss(student.flatten(0, 1), teacher.flatten(0, 1), temperature=2.0))
    batchmean = 4 * F.kl_div((student / 2).log_softmax(-1), (teacher / 2).softmax(-1), reduction="batchmean")
    assert batchmean.item() == pytest.approx(3 * short.item())  # the mistake: three tokens, three times as much


@given(shape=shapes, seed=seeds, temperature=temperatures, shift=st.floats(-50, 50))
@settings(max_examples=40, deadline=None)
def test_kd_does_not_see_a_constant_added_to_all_logits_of_a_sample(shape, seed, temperature, shift):
    student, teacher, _ = random_logits(*shape, seed=seed)
    moved = kd_loss(student + shift, teacher - 2 * shift, temperature=temperature)
    torch.testing.assert_close(moved, kd_loss(student, teacher, temperature=temperature), rtol=1e-6, atol=1e-8)


@given(shape=shapes, seed=seeds, temperature=temperatures)
@settings(max_examples=40, deadline=None)
def test_kd_is_zero_at_equality_and_never_negative(shape, seed, temperature):
    student, teacher, _ = random_logits(*shape, seed=seed)
    assert kd_loss(student, student.clone(), temperature=temperature).item() == 0
    assert kd_loss(student, teacher, temperature=temperature).item() > 0


def test_kd_does_not_depend_on_the_order_of_samples_or_classes_nor_on_a_duplicated_batch():
    student, teacher, _ = random_logits()
    reference = kd_loss(student, teacher, temperature=3.0)
    samples, classes = torch.randperm(8), torch.randperm(10)
    for x, y in [
        (student[samples], teacher[samples]),
        (student[:, classes], teacher[:, classes]),
        (student.repeat(2, 1), teacher.repeat(2, 1)),
    ]:
        torch.testing.assert_close(kd_loss(x, y, temperature=3.0), reference)


# kd_loss: the gradient


def test_kd_gradient_is_t_times_the_difference_of_softened_probabilities_over_the_batch():
    student, teacher, _ = random_logits()
    student.requires_grad_()
    for temperature in (0.5, 1.0, 4.0, 20.0):
        (gradient,) = torch.autograd.grad(kd_loss(student, teacher, temperature=temperature), student)
        expected = temperature * (softmax(student.detach(), temperature) - softmax(teacher, temperature)) / 8
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_kd_gradient_at_high_temperature_is_logit_matching():
    student, teacher = (x - x.mean(1, keepdim=True) for x in random_logits()[:2])
    student.requires_grad_()
    kd_loss(student, teacher, temperature=1e5).backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / student.numel(), rtol=1e-3, atol=1e-5)


def test_kd_value_at_high_temperature_is_half_the_mean_squared_difference_of_centred_logits():
    student, teacher = (x - x.mean(1, keepdim=True) for x in random_logits()[:2])
    torch.testing.assert_close(
        kd_loss(student, teacher, temperature=1e4), (student - teacher).square().mean() / 2, rtol=2e-3, atol=0
    )


@pytest.mark.trap(3)
def test_t_squared_keeps_the_gradients_size_only_where_t_is_large_against_the_logits():
    student, teacher, _ = random_logits(256, 10, scale=3.0)
    student.requires_grad_()

    def gradient_norm(temperature, power=2):
        loss = kd_loss(student, teacher, temperature=temperature) * temperature ** (power - 2)
        return torch.autograd.grad(loss, student)[0].norm().item()

    assert gradient_norm(100) == pytest.approx(gradient_norm(200), rel=0.01)  # equal in the limit
    assert gradient_norm(1) < 0.8 * gradient_norm(20)  # and not near T = 1: "constant" is wrong
    # Without T² the gradient shrinks like 1/T².
    assert gradient_norm(200, power=0) == pytest.approx(gradient_norm(100, power=0) / 4, rel=0.01)


def test_kd_gradient_agrees_with_finite_differences():
    student, teacher, _ = random_logits(3, 4)
    student.requires_grad_()
    for temperature in (0.5, 1.0, 4.0):
        assert torch.autograd.gradcheck(lambda x, t=temperature: kd_loss(x, teacher, temperature=t), student)
        assert torch.autograd.gradgradcheck(lambda x, t=temperature: kd_loss(x, teacher, temperature=t), student)


def test_the_teacher_receives_no_gradient():
    student, teacher, labels = (x.requires_grad_() if x.is_floating_point() else x for x in random_logits())
    (kd_loss(student, teacher, temperature=2.0) + distillation_loss(student, teacher, labels)).backward()
    assert teacher.grad is None
    assert student.grad is not None


# kd_loss: numbers at the edge


@pytest.mark.trap(4)
@pytest.mark.parametrize("size", [2e2, 1e4, 1e30])
def test_a_saturated_teacher_gives_a_finite_loss_and_gradient(size):
    student = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher = size * F.one_hot(torch.arange(4), 10).float()
    p = teacher.softmax(dim=1)
    assert (p * (p.log() - student.log_softmax(1))).sum().isnan()  # the mistake: 0·log 0
    loss = kd_loss(student, teacher, temperature=1.0)
    loss.backward()
    torch.testing.assert_close(loss, F.cross_entropy(student, torch.arange(4)))  # a one-hot target
    assert student.grad.isfinite().all()


@pytest.mark.trap(4)
def test_a_student_that_is_certain_and_wrong_pays_in_proportion_and_learns():
    student = torch.zeros(1, 3).index_fill(1, torch.tensor([0]), 1e4).requires_grad_()
    teacher = torch.tensor([[0.0, 1e4, 0.0]])
    loss = kd_loss(student, teacher, temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    torch.testing.assert_close(student.grad, torch.tensor([[1.0, -1.0, 0.0]]))


@given(scale=st.floats(1e-6, 1e6), temperature=st.floats(1e-2, 1e3), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_kd_is_finite_for_logits_of_any_size_in_single_precision(scale, temperature, seed):
    student, teacher, _ = random_logits(scale=scale, seed=seed, dtype=torch.float32)
    student.requires_grad_()
    loss = kd_loss(student, teacher, temperature=temperature)
    loss.backward()
    assert loss.isfinite()
    assert loss >= -1e-6 * temperature**2
    assert student.grad.isfinite().all()


def test_under_bfloat16_autocast_the_loss_is_computed_in_single_precision():
    student, teacher, labels = random_logits(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kd = kd_loss(student, teacher, temperature=4.0)
        both = distillation_loss(student, teacher, labels)
    assert kd.dtype == both.dtype == torch.float32
    torch.testing.assert_close(kd, kd_loss(student, teacher, temperature=4.0))
    torch.testing.assert_close(both, distillation_loss(student, teacher, labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_a_single_precision_loss_and_a_half_precision_gradient(dtype):
    student, teacher, labels = random_logits(dtype=dtype)
    student.requires_grad_()
    loss = distillation_loss(student, teacher, labels, temperature=4.0, alpha=0.5)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss, distillation_loss(student.float(), teacher.float(), labels, temperature=4.0, alpha=0.5)
    )
    assert student.grad.dtype == dtype
    assert soften(student, temperature=1.0).dtype == torch.float32


def test_half_precision_does_not_overflow_where_t_squared_would():
    student, teacher, _ = random_logits(dtype=torch.float16)
    assert torch.tensor(300.0**2).half().isinf()
    assert kd_loss(student, teacher, temperature=300.0).isfinite()


# distillation_loss


@given(seed=seeds, temperature=temperatures, alpha=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_distillation_weighs_the_teachers_term_by_alpha_and_the_labels_by_the_rest(seed, temperature, alpha):
    student, teacher, labels = random_logits(seed=seed)
    kd = temperature**2 * mean_kl(softmax(teacher, temperature), softmax(student, temperature))
    cross_entropy = -np.log(softmax(student)[np.arange(8), labels.numpy()]).mean()  # at T = 1, whatever T is
    actual = distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha).item()
    assert actual == pytest.approx(alpha * kd + (1 - alpha) * cross_entropy, rel=1e-7, abs=1e-8)


def test_alpha_one_is_kd_alone_and_alpha_zero_is_cross_entropy_alone():
    student, teacher, labels = random_logits()
    kd = kd_loss(student, teacher, temperature=4.0)
    torch.testing.assert_close(distillation_loss(student, teacher, labels, alpha=1.0), kd)
    torch.testing.assert_close(distillation_loss(student, teacher, labels, alpha=0), F.cross_entropy(student, labels))


def test_without_labels_it_is_kd_alone_whatever_alpha_says():
    student, teacher, _ = random_logits()
    for alpha in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            distillation_loss(student, teacher, temperature=2.0, alpha=alpha),
            kd_loss(student, teacher, temperature=2.0),
        )


def test_distillation_of_token_logits_is_that_of_all_tokens_as_one_batch():
    student, teacher, labels = random_logits(2, 5, 7)
    torch.testing.assert_close(
        distillation_loss(student, teacher, labels),
        distillation_loss(student.reshape(10, 7), teacher.reshape(10, 7), labels.reshape(10)),
    )


def test_distillation_takes_tensors_that_are_not_contiguous():
    student, teacher, labels = random_logits(5, 2, 7)
    student, teacher, labels = student.transpose(0, 1), teacher.transpose(0, 1), labels.transpose(0, 1)
    torch.testing.assert_close(
        distillation_loss(student, teacher, labels),
        distillation_loss(student.contiguous(), teacher.contiguous(), labels.contiguous()),
    )


def test_distillation_gradient_agrees_with_finite_differences():
    student, teacher, labels = random_logits(3, 4)
    assert torch.autograd.gradcheck(lambda x: distillation_loss(x, teacher, labels), student.requires_grad_())


# Many at once


@pytest.mark.trap(5)
def test_kd_maps_over_temperatures_without_a_slow_fallback_and_as_one_by_one():
    student, teacher, _ = random_logits()
    temperatures = torch.tensor([0.5, 1.0, 4.0, 20.0], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing batching rule announces itself as a warning
        mapped = torch.vmap(lambda t: kd_loss(student, teacher, temperature=t))(temperatures)
        gradients = torch.vmap(torch.func.grad(lambda s, t: kd_loss(s, teacher, temperature=t)), in_dims=(None, 0))(
            student, temperatures
        )
    for temperature, loss, gradient in zip(temperatures.tolist(), mapped, gradients, strict=True):
        x = student.clone().requires_grad_()
        alone = kd_loss(x, teacher, temperature=temperature)
        alone.backward()
        torch.testing.assert_close(loss, alone.detach())
        torch.testing.assert_close(gradient, x.grad)


@pytest.mark.trap(5)
def test_distillation_maps_over_students_temperatures_and_alphas_together():
    _, teacher, labels = random_logits()
    students = torch.randn(3, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    temperatures, alphas = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([0.0, 0.5, 1.0]).double()

    def loss(student, temperature, alpha):
        return distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = torch.vmap(loss)(students, temperatures, alphas)
    alone = [loss(*each) for each in zip(students, temperatures.tolist(), alphas.tolist(), strict=True)]
    torch.testing.assert_close(mapped, torch.stack(alone))


def test_distillation_maps_over_batches_of_labels_whose_values_cannot_be_looked_at():
    student, teacher, labels = random_logits(2, 5, 7)
    mapped = torch.vmap(distillation_loss)(student, teacher, labels)
    alone = torch.stack([distillation_loss(*each) for each in zip(student, teacher, labels, strict=True)])
    torch.testing.assert_close(mapped, alone)


def test_the_temperature_itself_can_be_learned():
    student, teacher, _ = random_logits(3, 4)
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: kd_loss(student, teacher, temperature=t), temperature)


# Bad input


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("loss", [soften, kd_loss, distillation_loss])
def test_a_temperature_that_is_not_positive_and_finite_is_refused(loss, temperature):
    tensors = [torch.zeros(2, 3)] * (1 if loss is soften else 2)
    with pytest.raises(ValueError, match=r"temperature must be positive and finite, got .* divides the logits"):
        loss(*tensors, temperature=temperature)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, math.nan, 70])
def test_an_alpha_outside_zero_and_one_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got .* share of the teacher's term"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1]), alpha=alpha)


@pytest.mark.parametrize("shape", [(1, 10), (8, 1), (8, 9), (4, 10), (10,), (8, 1, 10)])
def test_shapes_that_differ_are_refused_also_where_broadcasting_would_hide_it(shape):
    with pytest.raises(ValueError, match=r"logits must have the same shape, got \(8, 10\) and .*Broadcasting"):
        kd_loss(torch.zeros(8, 10), torch.zeros(shape), temperature=1.0)


def test_logits_without_a_batch_or_without_content_are_refused():
    with pytest.raises(ValueError, match=r"at least 2 dimensions with the batch first, got shape \(3,\).*unsqueeze"):
        kd_loss(torch.zeros(3), torch.zeros(3), temperature=1.0)
    with pytest.raises(ValueError, match=r"logits must not be empty, got shape \(0, 3\): the mean of nothing is NaN"):
        kd_loss(torch.zeros(0, 3), torch.zeros(0, 3), temperature=1.0)


def test_logits_that_are_not_floating_point_tensors_are_refused():
    with pytest.raises(ValueError, match=r"student logits must be floating point, got torch.int64"):
        kd_loss(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3), temperature=1.0)
    with pytest.raises(ValueError, match=r"teacher logits must be a torch.Tensor, got ndarray"):
        kd_loss(torch.zeros(2, 3), np.zeros((2, 3)), temperature=1.0)
    with pytest.raises(ValueError, match=r"^logits must be a torch.Tensor, got list"):
        soften([1.0, 2.0], temperature=1.0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), r"labels must be in \[0, 3\), got 3. The logits have 3 classes"),
        (torch.tensor([-1, 0]), r"labels must be in \[0, 3\), got -1"),
        (torch.tensor([-100, 0]), r"labels must be in \[0, 3\), got -100"),
        (
            torch.tensor([0.0, 1.0]),
            r"class indices \(torch.long\), got torch.float32. Real-valued labels name no class",
        ),
        (torch.eye(3)[:2], r"shape of the logits. One-hot labels: labels.argmax"),
        (torch.tensor([True, False]), r"class indices \(torch.long\), got torch.bool"),
        (torch.tensor([0, 1, 2]), r"labels must have shape \(2,\), one per row of logits \(2, 3\), got \(3,\)"),
        (torch.tensor([[0], [1]]), r"labels must have shape \(2,\).* got \(2, 1\)"),
        (torch.tensor(0), r"labels must have shape \(2,\).* got \(\)"),
        ([0, 1], r"labels must be a torch.Tensor of class indices, got list"),
    ],
)
def test_labels_that_are_not_one_class_index_per_row_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), labels)


def test_labels_may_be_any_integer_type():
    student, teacher, labels = random_logits()
    expected = distillation_loss(student, teacher, labels)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        torch.testing.assert_close(distillation_loss(student, teacher, labels.to(dtype)), expected)
