"""Scenes of digits: reproducible, boxes tight around ink, splits apart, batches as detectors take them."""

import pytest
import torch

from kdcourse.data import load_mnist
from kdcourse.data.scenes import SceneBatches, load_scenes, make_scenes, unpacked


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(load_mnist().test, 200, seed=3)


def test_a_scene_is_the_same_for_every_count_and_at_every_call(scenes):
    fewer = make_scenes(load_mnist().test, 20, seed=3)
    torch.testing.assert_close(fewer.images, scenes.images[:20])
    for one, other in zip(fewer.targets, scenes.targets, strict=False):
        torch.testing.assert_close(one, other)


def test_another_seed_makes_other_scenes(scenes):
    assert not torch.equal(make_scenes(load_mnist().test, 5, seed=4).images, scenes.images[:5])


def test_the_random_state_of_the_caller_is_not_touched():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    make_scenes(load_mnist().test, 2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_scenes_hold_one_to_five_digits_of_several_sizes(scenes):
    counts = [len(target["labels"]) for target in scenes.targets]
    assert set(counts) == {1, 2, 3, 4, 5}
    heights = torch.cat([target["boxes"][:, 3] - target["boxes"][:, 1] for target in scenes.targets])
    assert heights.min() < 14
    assert heights.max() > 28
    assert torch.cat([target["labels"] for target in scenes.targets]).unique().tolist() == list(range(10))


def test_grey_values_are_in_the_unit_interval_and_boxes_inside_the_scene(scenes):
    assert scenes.images.min() >= 0
    assert scenes.images.max() <= 1
    boxes = torch.cat([target["boxes"] for target in scenes.targets])
    assert boxes.min() >= 0
    assert boxes.max() <= 96
    assert (boxes[:, 2:] - boxes[:, :2] >= 2).all()  # no box of no area


def test_a_box_is_tight_around_the_ink():
    scenes = make_scenes(load_mnist().test, 30, objects=(1, 1), clutter=0, seed=1)
    for image, target in zip(scenes.images[:, 0], scenes.targets, strict=True):
        ink = (image > 0.2).nonzero()
        (top, left), (bottom, right) = ink.amin(dim=0), ink.amax(dim=0) + 1
        assert target["boxes"].tolist() == [[left, top, right, bottom]]


def test_a_scene_without_a_digit_has_empty_targets():
    (target,) = make_scenes(load_mnist().test, 1, objects=(0, 0)).targets
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert target["labels"].dtype == torch.int64


def test_test_scenes_do_not_depend_on_what_else_is_asked_for():
    one, other = load_scenes(train=1, held_out=1, test=3, seed=0), load_scenes(train=2, held_out=2, test=3, seed=9)
    torch.testing.assert_close(one.test.images, other.test.images)
    assert not torch.equal(one.train.images[0], other.train.images[0])


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"size": 40}, {"clutter": -1}, {"objects": (3, 2)}, {"objects": (-1, 2)}]
)
def test_numbers_out_of_range_are_refused(wrong):
    settings = {"count": 1, **wrong}
    with pytest.raises(ValueError, match="a scene needs count >= 1"):
        make_scenes(load_mnist().test, settings.pop("count"), **settings)


def test_packing_loses_nothing(scenes):
    images, targets = unpacked(*scenes.take(10).packed())
    torch.testing.assert_close(torch.stack(images), scenes.images[:10])
    for one, other in zip(targets, scenes.targets, strict=False):
        torch.testing.assert_close(one, other)


def test_batches_hold_every_scene_once_in_an_order_of_their_own(scenes):
    part = scenes.take(10)
    batches = list(SceneBatches(part, batch_size=4, seed=1))
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    seen = torch.stack([image for images, _ in batches for image in images])
    assert torch.equal(seen.sum(dim=(1, 2, 3)).sort().values, part.images.sum(dim=(1, 2, 3)).sort().values)
    assert not torch.equal(seen, part.images)
    assert len(SceneBatches(part, batch_size=4, epochs=3)) == 9


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"epochs": 0}])
def test_batches_need_positive_numbers(scenes, wrong):
    with pytest.raises(ValueError, match="must be positive"):
        SceneBatches(scenes, **wrong)
