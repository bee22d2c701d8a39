"""Old answers as soft targets: the sum over heads, its limits and gradients, and what a task label hides."""

import numpy as np
import pytest
import torch

from kdcourse.losses import kd_loss, lwf_loss, only_own_head

HEADS = [(0, 1), (4, 2, 3)]


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(5, 7, generator=generator), 2 * torch.randn(5, 7, generator=generator)


def by_hand(student, old, heads, temperature):
    total = 0.0
    for head in heads:
        for z, z_old in zip(student.double().numpy(), old.double().numpy(), strict=True):
            q, p = (np.exp(row[list(head)] / temperature) for row in (z, z_old))
            q, p = q / q.sum(), p / p.sum()
            total += temperature**2 * float((p * np.log(p / q)).sum()) / len(student)
    return total


@pytest.mark.parametrize("temperature", [0.7, 2.0, 5.0])
def test_the_loss_is_the_sum_over_heads_written_sample_by_sample(logits, temperature):
    loss = lwf_loss(*logits, heads=HEADS, temperature=temperature)
    assert float(loss) == pytest.approx(by_hand(*logits, HEADS, temperature), rel=1e-5)


def test_one_head_of_all_classes_is_kd_loss(logits):
    assert float(lwf_loss(*logits, heads=[range(7)])) == pytest.approx(float(kd_loss(*logits, temperature=2.0)))


def test_nothing_is_lost_while_old_answers_stay_whatever_new_classes_do(logits):
    student, _ = logits
    moved = student.clone()
    moved[:, 5:] += 10 * torch.randn(5, 2)
    moved[:, :2] += 3.0  # a constant on a head changes no probability of it
    assert float(lwf_loss(moved, student, heads=HEADS)) == pytest.approx(0, abs=1e-6)


def test_gradients_reach_the_old_classes_of_the_student_only():
    generator = torch.Generator().manual_seed(1)
    student, old = (torch.randn(3, 7, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    lwf_loss(student, old, heads=HEADS).backward()
    assert old.grad is None
    assert (student.grad[:, 5:] == 0).all()
    assert (student.grad[:, :5] != 0).all()
    assert torch.autograd.gradcheck(lambda z: lwf_loss(z, old.detach(), heads=HEADS), student.detach().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_give_finite_losses(dtype):
    student = torch.tensor([[1e4, -1e4, 0, 3]], dtype=dtype, requires_grad=True)
    loss = lwf_loss(student, torch.tensor([[-1e4, 1e4, 5, 0]], dtype=dtype), heads=[(0, 1), (2, 3)])
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_a_task_label_leaves_only_the_classes_of_its_own_head():
    logits, labels = torch.arange(12.0).view(2, 6), torch.tensor([5, 1])
    told = only_own_head(logits, labels, heads=[(0, 1, 2), (3, 5)])
    assert told.isfinite().tolist() == [
        [False, False, False, True, False, True],
        [True, True, True, False, False, False],
    ]
    assert torch.equal(only_own_head(logits, labels, heads=[range(6)]), logits)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([], "two classes or more"),
        ([(1,)], "two classes or more"),
        ([(0, 1), (1, 2)], "in one head at most"),
        ([(0, 7)], "in one head at most"),
        ([(0, -1)], "in one head at most"),
    ],
)
def test_heads_that_are_no_groups_are_refused(logits, heads, message):
    with pytest.raises(ValueError, match=message):
        lwf_loss(*logits, heads=heads)
    with pytest.raises(ValueError, match=message):
        only_own_head(logits[0], torch.zeros(5, dtype=torch.long), heads=heads)


def test_shapes_and_temperatures_that_do_not_fit_are_refused(logits):
    student, old = logits
    with pytest.raises(ValueError, match="same shape"):
        lwf_loss(student, old[:1], heads=HEADS)
    with pytest.raises(ValueError, match="temperature"):
        lwf_loss(student, old, heads=HEADS, temperature=0)
    with pytest.raises(ValueError, match="labels"):
        only_own_head(student, torch.zeros(5), heads=HEADS)
