"""InfoNCE against NumPy written from the paper, and the queue against Python's own deque."""

import math
import warnings
from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdcourse.losses import EmbeddingQueue, info_nce_loss

seeds = st.integers(0, 10_000)


def random_embeddings(batch=6, width=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(batch, width, generator=generator, dtype=dtype) for _ in range(2))
    return student, teacher, torch.randint(3, (batch,), generator=generator)


def filled_queue(count=5, size=8, width=4, seed=7, labels=True):
    queue = EmbeddingQueue(width, size).double()
    embeddings, _, classes = random_embeddings(count, width, seed)
    queue.push(embeddings, classes if labels else None)
    return queue, embeddings, classes


def cosine(x, y):
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def one_direction(anchors, partners, temperature, labels=None, extra=(), extra_labels=None):
    """For each anchor: minus the log of its partner's share among its partner and all that are negatives to it."""
    losses = []
    for i, anchor in enumerate(anchors):
        positive = math.exp(cosine(anchor, partners[i]) / temperature)
        total = positive
        for j, other in enumerate(partners):
            if j != i and (labels is None or labels[j] != labels[i]):
                total += math.exp(cosine(anchor, other) / temperature)
        for j, other in enumerate(extra):
            if labels is None or extra_labels is None or extra_labels[j] != labels[i]:
                total += math.exp(cosine(anchor, other) / temperature)
        losses.append(-math.log(positive / total))
    return float(np.mean(losses))


# InfoNCE: the value


@given(batch=st.integers(2, 7), width=st.integers(1, 5), seed=seeds, temperature=st.floats(0.05, 5))
@settings(max_examples=40, deadline=None)
def test_infonce_is_the_mean_log_share_of_the_positive_among_all_candidates(batch, width, seed, temperature):
    student, teacher, _ = random_embeddings(batch, width, seed)
    expected = one_direction(student.numpy(), teacher.numpy(), temperature)
    actual = info_nce_loss(student, teacher, temperature=temperature, symmetric=False)
    assert actual.item() == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.trap(30)
@given(batch=st.integers(2, 7), seed=seeds, temperature=st.floats(0.05, 5))
@settings(max_examples=25, deadline=None)
def test_both_directions_count_and_exchange_with_student_and_teacher(batch, seed, temperature):
    student, teacher, _ = random_embeddings(batch, seed=seed)
    there = one_direction(student.numpy(), teacher.numpy(), temperature)
    back = one_direction(teacher.numpy(), student.numpy(), temperature)
    actual = info_nce_loss(student, teacher, temperature=temperature)
    assert actual.item() == pytest.approx((there + back) / 2, rel=1e-8, abs=1e-10)
    torch.testing.assert_close(info_nce_loss(teacher, student, temperature=temperature), actual)


@pytest.mark.trap(30)
def test_one_direction_alone_forgives_a_teacher_that_all_students_resemble():
    # Sample 2's student lies between two teachers. Looking from the students, sample 1 is found without doubt.
    teacher = torch.eye(3)
    student = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.9, 0, 1.0]])
    one_way = info_nce_loss(student, teacher, temperature=0.1, symmetric=False)
    both = info_nce_loss(student, teacher, temperature=0.1)
    assert not torch.isclose(one_way, both, rtol=0.05)


def test_embeddings_that_are_all_alike_cost_the_log_of_the_batch():
    same = torch.ones(8, 4)
    assert info_nce_loss(same, same, temperature=0.07).item() == pytest.approx(math.log(8), rel=1e-6)


def test_perfect_agreement_tends_to_zero_as_the_temperature_falls_and_is_above_zero_before():
    points = torch.eye(5)
    losses = [info_nce_loss(points, points, temperature=t).item() for t in (1.0, 0.2, 0.05)]
    assert losses[0] > losses[1] > losses[2] >= 0
    assert losses[1] == pytest.approx(math.log(1 + 4 * math.exp(-5)), rel=1e-5)
    assert losses[2] < 1e-7


@given(scale=st.floats(1e-3, 1e3), seed=seeds)
@settings(max_examples=25, deadline=None)
def test_infonce_does_not_see_lengths_a_common_rotation_or_the_order_of_samples(scale, seed):
    student, teacher, labels = random_embeddings(seed=seed)
    reference = info_nce_loss(student, teacher, temperature=0.3, labels=labels)
    rotation, _ = torch.linalg.qr(random_embeddings(4, 4, seed + 1)[0])
    for s, t, classes in [
        (scale * student, teacher / scale, labels),
        (student @ rotation, teacher @ rotation, labels),
        (student.flip(0), teacher.flip(0), labels.flip(0)),
    ]:
        torch.testing.assert_close(info_nce_loss(s, t, temperature=0.3, labels=classes), reference)


# InfoNCE: labels


@pytest.mark.trap(29)
@given(batch=st.integers(2, 9), seed=seeds)
@settings(max_examples=30, deadline=None)
def test_with_labels_samples_of_the_same_class_are_not_negatives(batch, seed):
    student, teacher, labels = random_embeddings(batch, seed=seed)
    pairs = [(student.numpy(), teacher.numpy()), (teacher.numpy(), student.numpy())]
    expected = np.mean([one_direction(*pair, 0.5, labels.tolist()) for pair in pairs])
    actual = info_nce_loss(student, teacher, temperature=0.5, labels=labels)
    assert actual.item() == pytest.approx(expected, rel=1e-8, abs=1e-10)
    if len(set(labels.tolist())) < batch:
        assert actual < info_nce_loss(student, teacher, temperature=0.5)


@pytest.mark.trap(29)
def test_a_tenth_of_mnists_negatives_would_be_false(mnist):
    labels = mnist.train.labels[: 64 * 500].view(500, 64)
    false = ((labels[:, :, None] == labels[:, None]).sum(dim=(1, 2)) - 64).sum() / (500 * 64 * 63)
    assert false.item() == pytest.approx(0.1, abs=0.01)
    # A student that has learned its classes, and nothing else, pays for it unless labels are given.
    embeddings, classes = torch.eye(10)[labels[0]], labels[0]
    with_labels = info_nce_loss(embeddings, embeddings, temperature=0.07, labels=classes)
    without = info_nce_loss(embeddings, embeddings, temperature=0.07)
    assert with_labels < 1e-4
    assert without > 1


def test_labels_that_are_all_different_change_nothing():
    student, teacher, _ = random_embeddings()
    with_labels = info_nce_loss(student, teacher, temperature=0.2, labels=torch.arange(6))
    torch.testing.assert_close(with_labels, info_nce_loss(student, teacher, temperature=0.2))


def test_a_batch_of_one_class_has_no_negatives_no_loss_and_no_gradient():
    student, teacher, _ = random_embeddings()
    loss = info_nce_loss(student.requires_grad_(), teacher, temperature=0.2, labels=torch.zeros(6, dtype=torch.long))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


# InfoNCE: the queue


@pytest.mark.trap(29)
@pytest.mark.parametrize("labelled", [True, False])
def test_the_queue_adds_its_filled_rows_as_negatives_of_the_students(labelled):
    student, teacher, labels = random_embeddings()
    queue, extra, extra_labels = filled_queue(count=5, size=8)
    known = labels if labelled else None
    there = one_direction(
        student.numpy(),
        teacher.numpy(),
        0.4,
        known.tolist() if labelled else None,
        extra.numpy(),
        extra_labels.tolist(),
    )
    back = one_direction(teacher.numpy(), student.numpy(), 0.4, known.tolist() if labelled else None)
    actual = info_nce_loss(student, teacher, temperature=0.4, labels=known, queue=queue)
    assert actual.item() == pytest.approx((there + back) / 2, rel=1e-8)
    alone = info_nce_loss(student, teacher, temperature=0.4, labels=known, queue=queue, symmetric=False)
    assert alone.item() == pytest.approx(there, rel=1e-8)


def test_a_push_after_the_loss_leaves_its_gradient_as_it_was():
    student, teacher, labels = random_embeddings()
    gradients = []
    for pushes in (False, True):
        queue, _, _ = filled_queue()
        own = student.clone().requires_grad_()
        loss = info_nce_loss(own, teacher, temperature=0.4, labels=labels, queue=queue)
        if pushes:
            queue.push(teacher, labels)
        loss.backward()
        gradients.append(own.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_an_empty_queue_changes_nothing_and_reading_a_queue_does_not_change_it():
    student, teacher, labels = random_embeddings()
    queue = EmbeddingQueue(4, 8).double()
    for known in (None, labels):
        torch.testing.assert_close(
            info_nce_loss(student, teacher, temperature=0.2, labels=known, queue=queue),
            info_nce_loss(student, teacher, temperature=0.2, labels=known),
        )
    assert queue.count == 0
    assert not queue.filled.any()


def test_queued_embeddings_without_labels_are_negatives_of_everyone():
    student, teacher, labels = random_embeddings()
    queue, extra, _ = filled_queue(labels=False)
    expected = one_direction(student.numpy(), teacher.numpy(), 0.4, labels.tolist(), extra.numpy())
    actual = info_nce_loss(student, teacher, temperature=0.4, labels=labels, queue=queue, symmetric=False)
    assert actual.item() == pytest.approx(expected, rel=1e-8)


def test_a_batch_of_one_needs_a_queue():
    student, teacher, _ = random_embeddings(1)
    with pytest.raises(ValueError, match=r"a batch of one has no negatives: give at least 2 samples, or a queue"):
        info_nce_loss(student, teacher, temperature=0.2)
    assert info_nce_loss(student, teacher, temperature=0.2, queue=filled_queue()[0]).isfinite()


# InfoNCE: gradients and precision


def test_the_gradient_agrees_with_finite_differences():
    student, teacher, labels = random_embeddings(4, 3)
    queue, _, _ = filled_queue(width=3)
    for options in ({}, {"symmetric": False}, {"labels": labels}, {"labels": labels, "queue": queue}):
        assert torch.autograd.gradcheck(
            lambda x, options=options: info_nce_loss(x, teacher, temperature=0.5, **options), student.requires_grad_()
        )


def test_the_teacher_and_the_queue_receive_no_gradient():
    student, teacher, _ = random_embeddings()
    queue, _, _ = filled_queue()
    info_nce_loss(student.requires_grad_(), teacher.requires_grad_(), temperature=0.2, queue=queue).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert not queue.vectors.requires_grad
    assert list(queue.parameters()) == []


@pytest.mark.trap(28)
def test_a_projection_of_the_student_is_used_and_learns():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(32, 6, generator=generator)
    student = teacher @ torch.randn(6, 9, generator=generator)  # wider, and turned
    torch.manual_seed(0)
    projection = nn.Linear(9, 6)
    before = projection.weight.detach().clone()
    optimizer = torch.optim.Adam(projection.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = info_nce_loss(projection(student), teacher, temperature=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert not torch.equal(projection.weight, before)


@pytest.mark.trap(28)
def test_widths_that_differ_are_refused_not_pooled_away_beside_an_unused_projection():
    with pytest.raises(ValueError, match=r"embeddings must have the same shape, got \(4, 9\) and \(4, 6\)"):
        info_nce_loss(torch.randn(4, 9), torch.randn(4, 6), temperature=0.2)


@pytest.mark.parametrize("temperature", [1e-3, 1e-2, 1.0, 1e3])
def test_infonce_is_finite_at_any_temperature_and_for_a_zero_embedding(temperature):
    student, teacher, _ = random_embeddings(dtype=torch.float32)
    student[0] = 0
    loss = info_nce_loss(student.requires_grad_(), teacher, temperature=temperature)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_infonce_is_computed_in_single_precision_under_autocast_and_for_half_precision():
    student, teacher, labels = random_embeddings(32, 64, dtype=torch.float32)
    queue = EmbeddingQueue(64, 16)
    queue.push(random_embeddings(16, 64, seed=3, dtype=torch.float32)[0])
    expected = info_nce_loss(student, teacher, temperature=0.07, labels=labels, queue=queue)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = info_nce_loss(student, teacher, temperature=0.07, labels=labels, queue=queue)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected)
    for dtype in (torch.float16, torch.bfloat16):
        halves = student.to(dtype), teacher.to(dtype)
        actual = info_nce_loss(*halves, temperature=0.07, queue=queue)
        torch.testing.assert_close(actual, info_nce_loss(*(x.float() for x in halves), temperature=0.07, queue=queue))


def test_infonce_maps_over_temperatures_and_students():
    _, teacher, labels = random_embeddings()
    students = torch.randn(3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    temperatures = torch.tensor([0.07, 0.2, 1.0], dtype=torch.float64)

    def loss(student, temperature):
        return info_nce_loss(student, teacher, temperature=temperature, labels=labels)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = torch.vmap(loss)(students, temperatures)
    alone = [loss(s, t) for s, t in zip(students, temperatures.tolist(), strict=True)]
    torch.testing.assert_close(mapped, torch.stack(alone))


# InfoNCE: bad input


@pytest.mark.parametrize("temperature", [0, -0.1, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_and_finite_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        info_nce_loss(torch.randn(4, 3), torch.randn(4, 3), temperature=temperature)


@pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.long), torch.zeros(4), torch.zeros(4, 1).long()])
def test_labels_must_be_one_integer_for_each_sample(labels):
    with pytest.raises(ValueError, match=r"labels must hold one integer per sample, shape \(4,\), got torch"):
        info_nce_loss(torch.randn(4, 3), torch.randn(4, 3), temperature=0.2, labels=labels)
    with pytest.raises(ValueError, match=r"labels must be a torch.Tensor of integers, got list"):
        info_nce_loss(torch.randn(4, 3), torch.randn(4, 3), temperature=0.2, labels=[0, 1, 2, 3])


def test_maps_are_refused_and_so_is_a_queue_of_another_width():
    with pytest.raises(ValueError, match=r"embeddings must have shape \(B, D\), got \(4, 3, 2, 2\). Pool or flatten"):
        info_nce_loss(torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2), temperature=0.2)
    with pytest.raises(ValueError, match=r"the queue holds embeddings of width 5, got 3"):
        info_nce_loss(torch.randn(4, 3), torch.randn(4, 3), temperature=0.2, queue=EmbeddingQueue(5, 8))


# The queue


@pytest.mark.trap(39)
@given(size=st.integers(1, 9), batches=st.lists(st.integers(1, 14), min_size=1, max_size=8), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_the_queue_holds_exactly_the_last_embeddings_whatever_the_sizes_of_queue_and_batches(size, batches, seed):
    queue, last = EmbeddingQueue(3, size).double(), deque(maxlen=size)
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        embeddings = torch.randn(batch, 3, generator=generator, dtype=torch.float64)
        labels = torch.randint(100, (batch,), generator=generator)
        queue.push(embeddings, labels)
        last.extend(zip(F.normalize(embeddings, dim=1).tolist(), labels.tolist(), strict=True))
    held = list(zip(queue.vectors[queue.filled].tolist(), queue.labels[queue.filled].tolist(), strict=True))
    assert sorted(held) == sorted(last)
    assert queue.count == sum(batches)


@pytest.mark.trap(39)
def test_the_queue_wraps_around_in_the_middle_of_a_batch_and_overwrites_its_tail():
    queue = EmbeddingQueue(1, 5)
    queue.push(torch.ones(3, 1), torch.tensor([0, 1, 2]))
    assert queue.filled.tolist() == [True, True, True, False, False]
    queue.push(torch.ones(3, 1), torch.tensor([3, 4, 5]))
    assert queue.labels.tolist() == [5, 1, 2, 3, 4]
    queue.push(torch.ones(12, 1), torch.arange(6, 18))
    assert sorted(queue.labels.tolist()) == [13, 14, 15, 16, 17]


@pytest.mark.trap(38)
def test_queued_vectors_have_length_one_so_that_perfect_positives_cost_next_to_nothing():
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(64, 128, generator=generator), dim=1)
    queue = EmbeddingQueue(128, 4096)
    queue.push(3 * torch.randn(4096, 128, generator=generator))
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(4096))
    ours = info_nce_loss(embeddings, embeddings, temperature=0.07, queue=queue, symmetric=False)
    positives = torch.ones(64, 1)
    raw = torch.randn(4096, 128, generator=generator)  # the mistake: norms of 11
    mistaken = F.cross_entropy(torch.cat([positives, embeddings @ raw.T], 1) / 0.07, torch.zeros(64, dtype=torch.long))
    assert ours < 0.1
    assert mistaken > 20
    fresh = EmbeddingQueue(128, 4096)  # what it starts as is nobody's negative
    torch.testing.assert_close(
        info_nce_loss(embeddings, embeddings, temperature=0.07, queue=fresh, symmetric=False),
        info_nce_loss(embeddings, embeddings, temperature=0.07, symmetric=False),
    )


@pytest.mark.trap(42)
def test_the_queue_does_not_change_in_evaluation_mode():
    queue, _, _ = filled_queue()
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    queue.eval()
    queue.push(torch.randn(3, 4))
    assert all(torch.equal(value, before[name]) for name, value in queue.state_dict().items())
    queue.train()
    queue.push(torch.randn(3, 4).double())
    assert queue.count == 8


@pytest.mark.trap(42)
def test_the_queue_never_reads_a_value_back_from_the_device():
    # Tensors on the meta device have no values: int(pointer), a mask as index or .item() would raise.
    queue = EmbeddingQueue(4, 5).to("meta")
    student = torch.randn(3, 4, device="meta", requires_grad=True)
    labels = torch.zeros(3, dtype=torch.long, device="meta")
    for _ in range(3):
        loss = info_nce_loss(student, student.detach(), temperature=0.1, labels=labels, queue=queue)
        queue.push(student, labels)
    assert loss.shape == ()
    with pytest.raises(RuntimeError):
        int(queue.count)


def test_the_queue_keeps_no_graph_and_its_state_can_be_saved_and_restored():
    queue = EmbeddingQueue(4, 5)
    queue.push(torch.randn(3, 4, requires_grad=True) * 2, torch.tensor([1, 2, 3]))
    assert not queue.vectors.requires_grad
    other = EmbeddingQueue(4, 5)
    other.load_state_dict(queue.state_dict())
    more = torch.randn(4, 4)
    queue.push(more)
    other.push(more)
    assert all(torch.equal(a, b) for a, b in zip(queue.buffers(), other.buffers(), strict=True))


def test_the_queue_takes_half_precision():
    queue = EmbeddingQueue(4, 5)
    queue.push(torch.randn(3, 4).bfloat16())
    torch.testing.assert_close(queue.vectors[:3].norm(dim=1), torch.ones(3))


def test_the_queue_refuses_what_does_not_fit_also_in_evaluation_mode():
    for dim, size in ((0, 5), (4, 0), (4, -1)):
        with pytest.raises(ValueError, match=r"(dim|size) must be a positive integer, got (0|-1)"):
            EmbeddingQueue(dim, size)
    queue = EmbeddingQueue(4, 5).eval()
    for shape in ((3, 5), (4,), (3, 4, 1)):
        with pytest.raises(ValueError, match=r"this queue holds embeddings of shape \(B, 4\), got"):
            queue.push(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"labels must hold one integer per sample, shape \(3,\)"):
        queue.push(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="embeddings must be floating point"):
        queue.push(torch.zeros(3, 4, dtype=torch.long))
