"""RKD's angles of wide embeddings: by inner products, with the numbers of the way by directions."""

import pytest
import torch

from kdcourse.losses import relations as module
from kdcourse.losses import rkd_angle_loss


def points(batch=9, width=6, *, seed=0, dtype=torch.float64):
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def way(student, teacher):
    return module._way_to_angles(student, teacher)


@pytest.mark.parametrize("batch", [3, 9, 40])
@pytest.mark.parametrize("widths", [(6, 4), (2, 9)])
def test_inner_products_and_directions_give_the_same_value_and_gradient(batch, widths):
    student, teacher = (points(batch, width, seed=seed) for seed, width in enumerate(widths))
    ours, plain = (f(student, teacher) for f in (module._angles_by_products, module._angles_by_directions))
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-13)
    assert ours[1].abs().max() > 1e-4


def test_vertices_in_several_parts_are_those_taken_at_once():
    student, teacher = points(260, 8), points(260, 8, seed=1)  # one vertex at a time from 257 samples on
    ours, plain = (f(student, teacher) for f in (module._angles_by_products, module._angles_by_directions))
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-13)


def test_first_and_second_derivatives_by_inner_products_are_exact(monkeypatch):
    monkeypatch.setattr(module, "_WIDE", 1)
    student, teacher = points(5, 4).requires_grad_(), points(5, 3, seed=1)
    assert way(student, teacher) is module._angles_by_products
    assert torch.autograd.gradcheck(rkd_angle_loss, (student, teacher))
    assert torch.autograd.gradgradcheck(lambda x: rkd_angle_loss(x, teacher), (student,))


def test_wide_embeddings_far_from_the_origin_keep_their_digits():
    student, teacher = points(16, 700, dtype=torch.float32) + 50, points(16, 700, seed=1, dtype=torch.float32) - 50
    assert way(student, teacher) is module._angles_by_products
    student.requires_grad_()
    value = rkd_angle_loss(student, teacher)
    value.backward()
    exact = module._angles_by_directions(student.detach().double(), teacher.double())
    torch.testing.assert_close((value.detach().double(), student.grad.double()), exact, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("apart", [0.0, 1e-4])
def test_nearly_equal_samples_are_compared_by_directions(apart):
    student, teacher = points(16, 700, dtype=torch.float32), points(16, 700, seed=1, dtype=torch.float32)
    student[3] = student[5] + apart
    assert way(student, teacher) is way(teacher, student) is module._angles_by_directions
    exact = module._angles_by_directions(student.double(), teacher.double())[0]
    assert rkd_angle_loss(student, teacher).item() == pytest.approx(exact.item(), rel=1e-4)


def test_narrow_embeddings_broken_numbers_and_vmap_go_by_directions():
    assert way(points(), points(seed=1)) is module._angles_by_directions
    broken = points(16, 700)
    broken[2, 3] = torch.nan
    assert way(broken, points(16, 700)) is module._angles_by_directions
    stacked = torch.stack([points(6, 700, seed=seed) for seed in range(2)])
    teacher = points(6, 700, seed=9)
    together = torch.func.vmap(lambda x: rkd_angle_loss(x, teacher))(stacked)
    alone = torch.stack([rkd_angle_loss(x, teacher) for x in stacked])
    torch.testing.assert_close(together, alone)
