"""Masks: what is dropped reaches neither value nor gradient, and what is kept is not touched in a single bit."""

import math
import warnings

import numpy as np
import pytest
import torch

from kdcourse import losses
from kdcourse.losses._numerics import keep, mean_where, unit

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def random_tensor(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


MASKS = {
    "same shape": torch.tensor([[1, 0, 1], [0, 1, 1]]).bool().unsqueeze(-1).expand(2, 3, 4).contiguous(),
    "one per token": torch.tensor([[1, 0, 1], [0, 1, 1]]).unsqueeze(-1),
    "one per feature": torch.tensor([True, False, False, True]),
    "nothing": torch.zeros(2, 1, 1, dtype=torch.bool),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_keeping_is_choosing_bit_by_bit(mask, dtype):
    tensor = random_tensor(2, 3, 4, dtype=dtype)
    for x in (tensor, tensor.transpose(0, 1).contiguous().transpose(0, 1), tensor.new_full((), -0.0).expand(2, 3, 4)):
        kept, chosen = keep(x, mask), torch.where(mask.bool(), x, 0.0)
        assert kept.dtype == chosen.dtype
        assert torch.equal(kept, chosen)
        assert torch.equal(kept.signbit(), chosen.signbit())


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_dropped_may_be_anything_and_what_is_kept_stays_wrong(wrong, dtype):
    mask = torch.tensor([[True], [False]])
    tensor = torch.tensor([[1.0, 2.0], [wrong, wrong]], dtype=dtype, requires_grad=True)
    loss = (keep(tensor, mask) ** 2).sum()
    loss.backward()
    assert loss == 5
    assert torch.equal(tensor.grad, torch.tensor([[2.0, 4.0], [0.0, 0.0]], dtype=dtype))
    assert not keep(tensor, ~mask).isfinite().all()  # a NaN among real values is not hidden


def test_a_wrong_gradient_of_what_is_dropped_stops_there():
    tensor = torch.zeros(3, requires_grad=True)
    kept = keep(tensor, torch.tensor([True, False, True]))
    kept.backward(torch.tensor([1.0, math.nan, 3.0]))
    assert tensor.grad.tolist() == [1, 0, 3]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_first_and_second_derivatives_agree_with_finite_differences(mask):
    tensor = random_tensor(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: keep(x, mask) ** 3, tensor)
    assert torch.autograd.gradgradcheck(lambda x: keep(x, mask) ** 3, tensor)


def test_a_mask_larger_than_the_tensor_broadcasts_it_and_a_fill_takes_the_place_of_zero():
    tensor = random_tensor(1, 4).requires_grad_()
    mask = torch.tensor([[True], [False], [True]])
    assert torch.equal(keep(tensor, mask), torch.where(mask, tensor, 0.0))
    keep(tensor, mask).sum().backward()
    assert tensor.grad.tolist() == [[2.0] * 4]
    assert torch.equal(keep(tensor, mask, -7.0)[1], torch.full((4,), -7.0, dtype=torch.float64))
    assert keep(tensor, None) is tensor


def test_keeping_maps_over_stacked_tensors_and_masks():
    tensors, masks = random_tensor(5, 3, 4), torch.rand(5, 3, 1) < 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(torch.vmap(keep)(tensors, masks), keep(tensors, masks))
        assert torch.equal(torch.vmap(keep, in_dims=(0, None))(tensors, masks[0]), keep(tensors, masks[:1]))
        gradients = torch.vmap(torch.func.grad(lambda x, m: (keep(x, m) ** 2).sum()))(tensors, masks)
    torch.testing.assert_close(gradients, 2 * keep(tensors, masks))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_mean_runs_over_what_is_kept_and_is_zero_within_the_graph_where_nothing_is(mask):
    values = random_tensor(2, 3, 4).requires_grad_()
    mean = mean_where(values, mask)
    kept = values[mask.bool().expand(2, 3, 4)]
    torch.testing.assert_close(mean, kept.mean() if kept.numel() else torch.zeros((), dtype=torch.float64))
    mean.backward()
    assert values.grad.isfinite().all()


def test_the_mean_without_a_mask_is_the_mean():
    values = random_tensor(2, 3, 4)
    torch.testing.assert_close(mean_where(values, None), values.mean())


def test_unit_vectors_are_exact_and_a_vector_of_zeros_stays_and_takes_no_gradient():
    vectors = random_tensor(4, 3)
    vectors[2] = 0
    vectors.requires_grad_()
    units = unit(vectors)
    expected = vectors.detach().numpy().copy()
    expected[[0, 1, 3]] /= np.linalg.norm(expected[[0, 1, 3]], axis=1, keepdims=True)
    np.testing.assert_allclose(units.detach(), expected, rtol=1e-15)
    (units * random_tensor(4, 3).flip(0)).sum().backward()
    assert (vectors.grad[2] == 0).all()
    assert (vectors.grad[[0, 1, 3]] != 0).all()
    away_from_zero = vectors.detach()[:2].requires_grad_()
    assert torch.autograd.gradcheck(unit, away_from_zero)


DEAD = {
    "info_nce": lambda s, t: losses.info_nce_loss(s, t, temperature=0.1),
    "similarity": losses.similarity_preserving_loss,
    "gram": losses.gram_loss,
    "distances": losses.rkd_distance_loss,
    "angles": losses.rkd_angle_loss,
    "cosine": lambda s, t: losses.hidden_cosine_loss(s[None], t[None]),
    "attention": lambda s, t: losses.attention_transfer_loss(s.view(6, 2, 2, 2), t.view(6, 2, 2, 2)),
}


@pytest.mark.parametrize("name", DEAD)
@pytest.mark.parametrize("dead", [slice(2, 3), slice(None)], ids=["one sample", "all samples"])
def test_a_sample_without_any_activation_does_not_blow_up_the_gradient(name, dead):
    student, teacher = 5 * random_tensor(2, 6, 8, dtype=torch.float32).relu()
    student[dead] = 0
    student.requires_grad_()
    loss = DEAD[name](student, teacher)
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad.abs().max() < 10
