"""The negatives explorer without a front end: shares, loss and false negatives against the package's loss."""

import math

import pytest
import torch

from kdcourse.losses import info_nce_loss
from kdcourse.widgets import NegativesExplorer

BATCH, WIDTH = 20, 6


def make_batch(seed=0, batch=BATCH):
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(batch, WIDTH, generator=generator)
    student = teacher + 0.8 * torch.randn(batch, WIDTH, generator=generator)
    return student, teacher, torch.rand(batch, 1, 28, 28, generator=generator), torch.arange(batch) % 4


@pytest.fixture
def explorer():
    return NegativesExplorer(*make_batch(), anchor=2)


@pytest.mark.parametrize("temperature", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("left_out", [False, True])
def test_the_mean_over_all_anchors_is_the_packages_loss(explorer, temperature, left_out):
    student, teacher, _, labels = make_batch()
    explorer.temperature.value, explorer.leave_out.value = temperature, left_out
    losses = []
    for anchor in range(BATCH):
        explorer.anchor.value = anchor
        losses.append(explorer.loss)
    known = labels if left_out else None
    used = explorer.temperature.value
    expected = info_nce_loss(student, teacher, temperature=used, symmetric=False, labels=known)
    assert sum(losses) / BATCH == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_shares_are_ordered_sum_to_one_and_hold_the_loss(explorer):
    assert explorer.shares.sum().item() == pytest.approx(1, abs=1e-5)
    assert (explorer.shares.diff() <= 0).all()
    assert len(explorer.candidates) == len(set(explorer.candidates)) == BATCH
    positive = explorer.shares[explorer.candidates.index(2)].item()
    assert explorer.loss == pytest.approx(-math.log(positive), rel=1e-4)


def test_chance_is_the_log_of_one_more_than_the_negatives_and_fewer_negatives_cost_less(explorer):
    losses = []
    for count in explorer.negatives.options:
        explorer.negatives.value = count
        assert explorer.chance == pytest.approx(math.log(count + 1))
        losses.append(explorer.loss)
    assert list(explorer.negatives.options) == [1, 3, 7, 15, 19]
    assert losses == sorted(losses)


def test_a_hot_softmax_spreads_and_a_cool_one_sees_the_nearest_only(explorer):
    explorer.temperature.value = 1
    hot = explorer.shares.max().item()
    explorer.temperature.value = 0.02
    assert hot < 0.2
    assert explorer.shares.max().item() > 0.8


def test_samples_of_the_anchors_class_are_counted_and_can_be_left_out(explorer):
    assert explorer.false_negatives == BATCH // 4 - 1
    same = [sample for sample in explorer.candidates if sample != 2 and sample % 4 == 2]
    share = sum(explorer.shares[explorer.candidates.index(sample)].item() for sample in same)
    rest = 1 - explorer.shares[explorer.candidates.index(2)].item()
    assert explorer.false_share == pytest.approx(share / rest, rel=1e-3)
    assert "4 false negatives get" in explorer.status.value
    before = explorer.loss
    explorer.leave_out.value = True
    assert explorer.false_negatives == 0
    assert explorer.loss < before
    assert not set(same) & set(explorer.candidates)
    assert "left out" in explorer.status.value


def test_a_positive_that_is_not_among_the_first_is_still_drawn():
    student, teacher, images, labels = make_batch(batch=40)
    explorer = NegativesExplorer(-student, teacher, images, labels)
    explorer.temperature.value = 1.0
    assert explorer.candidates.index(0) >= 18
    assert "is only number" in explorer.status.value
    assert "worse than" in explorer.status.value
    explorer.close()


def test_nothing_but_false_negatives_leaves_the_positive_alone():
    student, teacher, images, _ = make_batch()
    explorer = NegativesExplorer(student, teacher, images, torch.zeros(BATCH, dtype=torch.long))
    explorer.leave_out.value = True
    assert (explorer.loss, explorer.chance, explorer.candidates) == (0, 0, [0])
    explorer.close()


def test_every_control_changes_the_picture_in_less_than_60_kilobytes(explorer, frame_of):
    seen = {frame_of(explorer).tobytes()}
    moves = [(explorer.temperature, 0.3), (explorer.negatives, 7), (explorer.anchor, 9), (explorer.leave_out, True)]
    for control, value in [*moves, (explorer.negatives, 15)]:
        control.value = value
        seen.add(frame_of(explorer).tobytes())
    assert len(seen) == 6
    frame = frame_of(explorer)
    assert frame.text["anchor"] == "9"
    assert float(frame.text["loss"]) == pytest.approx(explorer.loss, abs=1e-4)
    assert len(explorer.canvas.widget.value) < 60_000
    explorer.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"student_embeddings": torch.randn(BATCH, WIDTH + 1)}, "project the student"),
        ({"images": torch.rand(BATCH, 28, 28)}, "needs images"),
        ({"labels": torch.zeros(BATCH - 1)}, "needs images"),
        ({"anchor": BATCH}, "from 0 to 19"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(change, told):
    names = ("student_embeddings", "teacher_embeddings", "images", "labels")
    with pytest.raises(ValueError, match=told):
        NegativesExplorer(**(dict(zip(names, make_batch(), strict=True)) | change))


def test_a_batch_of_three_is_too_small():
    with pytest.raises(ValueError, match="at least 4 samples"):
        NegativesExplorer(*make_batch(batch=3))
