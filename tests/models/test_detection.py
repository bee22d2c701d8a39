"""Detectors of digits: anchors match digits, pictures keep their size, the metric is COCO's."""

import pytest
import torch
from torchvision.ops import box_iou

from kdcourse.data import load_mnist
from kdcourse.data.scenes import SceneBatches, make_scenes
from kdcourse.models import capture
from kdcourse.models.detection import (
    LEVELS,
    detect,
    detector_losses,
    make_detector,
    make_student_detector,
    make_teacher_detector,
    match_anchors,
    mean_average_precision,
    run_detector,
)
from kdcourse.training import train


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(load_mnist().test, 60, seed=5)


@pytest.mark.trap(93)
def test_pictures_are_not_enlarged_and_grey_values_not_changed():
    detector, image = make_student_detector(), torch.rand(1, 96, 96)
    images, _ = detector.transform([image])
    torch.testing.assert_close(images.tensors[0], image)


@pytest.mark.trap(94)
def test_nearly_every_digit_of_a_scene_is_matched_by_an_anchor(scenes):
    detector = make_student_detector()
    images, targets = detector.transform(list(scenes.images), list(scenes.targets))
    features = list(detector.backbone(images.tensors).values())
    (anchors, *_) = detector.anchor_generator(images, features)
    best = torch.cat([box_iou(target["boxes"], anchors).amax(dim=1) for target in targets])
    assert (best > detector.proposal_matcher.low_threshold).float().mean() > 0.9


def test_the_pyramid_has_three_levels_at_strides_8_16_and_32():
    with torch.no_grad():
        levels = make_teacher_detector().backbone(torch.rand(2, 1, 96, 96))
    assert [(name, *map(int, level.shape)) for name, level in levels.items()] == [
        (name, 2, 64, side, side) for name, side in zip(LEVELS, (12, 6, 3), strict=True)
    ]


def test_teacher_and_student_have_the_same_anchors_in_the_same_order():
    images, _ = make_teacher_detector().transform([torch.rand(1, 96, 96)])
    found = []
    for detector in (make_teacher_detector(), make_student_detector()):
        with torch.no_grad():
            found.append(detector.anchor_generator(images, list(detector.backbone(images.tensors).values()))[0])
    torch.testing.assert_close(*found)


def test_the_loop_trains_a_detector_on_lists_of_images_and_targets(scenes):
    student = make_student_detector()

    def objective(student, images, targets):
        return student(images, targets)

    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    steps = list(train(student, SceneBatches(scenes.take(4), batch_size=2), objective, optimizer))
    assert [sorted(step.terms) for step in steps] == [["bbox_regression", "classification"]] * 2


def test_a_scene_without_a_digit_trains_too():
    empty = make_scenes(load_mnist().test, 2, objects=(0, 0))
    losses = make_student_detector().train()(list(empty.images), list(empty.targets))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_detecting_restores_the_mode_and_gives_a_result_per_picture(scenes):
    detector = make_student_detector().train()
    assert len(detect(detector, scenes.images[:5], batch_size=2)) == 5
    assert detector.training


def test_features_of_the_pyramid_can_be_captured():
    detector = make_student_detector().eval()
    names = [f"backbone.fpn.layer_blocks.{number}" for number in range(3)]
    with capture(detector, *names) as seen:
        detector([torch.rand(1, 96, 96)])
    assert [tuple(seen[name].shape) for name in names] == [(1, 24, n, n) for n in (12, 6, 3)]


@pytest.mark.trap(95)
def test_the_metric_is_one_for_the_truth_and_falls_with_each_mistake(scenes):
    pytest.importorskip("torchmetrics")
    truth = [{**target, "scores": torch.ones(len(target["labels"]))} for target in scenes.targets]
    assert mean_average_precision(truth, scenes.targets) == {"mAP": 1.0, "AP50": 1.0}
    shifted = [{**found, "boxes": found["boxes"] + 2} for found in truth]
    worse = mean_average_precision(shifted, scenes.targets)
    assert 0 < worse["mAP"] < 0.9
    wrong = [{**found, "labels": (found["labels"] + 1) % 10} for found in truth]
    assert mean_average_precision(wrong, scenes.targets)["mAP"] < 0.1


@pytest.mark.trap(95)
def test_sizes_of_our_own_divide_digits_that_coco_calls_small():
    pytest.importorskip("torchmetrics")
    sides = (8.0, 20.0, 40.0)
    truth = [{"boxes": torch.tensor([[5.0, 5.0, 5 + s, 5 + s]]), "labels": torch.tensor([3])} for s in sides]
    found = [{**target, "scores": torch.ones(1)} for target in truth]
    found[2] = {**found[2], "labels": torch.tensor([4])}  # the large one is taken for another digit
    by_size = mean_average_precision(found, truth, small=11)
    assert (by_size["small"], by_size["medium"], by_size["large"]) == (1.0, 1.0, 0.0)
    everything = mean_average_precision(found, truth, small=32)  # COCO's own limits
    assert sorted(everything) == ["AP50", "mAP", "medium", "small"]  # 40 pixels are medium, none is large
    assert by_size["mAP"] == everything["mAP"] == mean_average_precision(found, truth)["mAP"]
    with pytest.raises(ValueError, match="positive number of pixels, got 0"):
        mean_average_precision(found, truth, small=0)


def test_the_metric_needs_a_target_for_each_picture(scenes):
    with pytest.raises(ValueError, match="got 60 for 0 pictures"):
        mean_average_precision([], scenes.targets)


def test_a_detector_takes_torchvisions_settings():
    assert make_detector(width=8, blocks=1, channels=16, score_thresh=0.3).score_thresh == 0.3


def test_running_by_hand_gives_the_losses_that_the_detector_gives(scenes):
    detector, part = make_student_detector().train(), scenes.take(3)
    for module in detector.modules():  # the statistics of a batch must not change between the two
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    right = detector(list(part.images), list(part.targets))
    found = detector_losses(detector, run_detector(detector, list(part.images), part.targets))
    torch.testing.assert_close(found, right)


def test_foreground_is_a_small_part_of_the_anchors_and_every_object_has_some(scenes):
    detector = make_student_detector()
    matched = match_anchors(detector, run_detector(detector, list(scenes.images), scenes.targets))
    assert (matched >= 0).float().mean() < 0.05
    for row, target in zip(matched, scenes.targets, strict=True):
        assert set(row[row >= 0].tolist()) == set(range(len(target["labels"])))


def test_a_scene_without_a_digit_matches_no_anchor():
    empty = make_scenes(load_mnist().test, 1, objects=(0, 0))
    detector = make_student_detector()
    assert (match_anchors(detector, run_detector(detector, list(empty.images), empty.targets)) == -1).all()


def test_a_box_of_no_area_is_refused_with_its_place(scenes):
    wrong = {"boxes": torch.tensor([[5.0, 5.0, 5.0, 9.0]]), "labels": torch.tensor([1])}
    with pytest.raises(ValueError, match="target 1 has a box of no area"):
        run_detector(make_student_detector(), list(scenes.images[:2]), [scenes.targets[0], wrong])


@pytest.mark.parametrize(("images", "targets"), [(0, None), (2, 1)])
def test_images_and_targets_must_fit(scenes, images, targets):
    part = None if targets is None else scenes.targets[:targets]
    with pytest.raises(ValueError, match="one target for each"):
        run_detector(make_student_detector(), list(scenes.images[:images]), part)
