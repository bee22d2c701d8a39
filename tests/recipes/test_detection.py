"""A detector's student: what the teacher said is kept by scene, and each term teaches what it should."""

import pytest
import torch
from safetensors.torch import save_file

from kdcourse.data import load_mnist
from kdcourse.data.scenes import make_scenes
from kdcourse.losses import fpn_feature_loss
from kdcourse.models.detection import (
    LEVELS,
    detector_losses,
    make_student_detector,
    make_teacher_detector,
    match_anchors,
    run_detector,
)
from kdcourse.recipes.detection import (
    box_targets,
    detection_objective,
    make_adapters,
    recorded_students,
    remember_detector,
)


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(load_mnist().test, 6, seed=11)


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(1)
    return make_teacher_detector().eval()


def still(detector):
    """The detector with batch normalisation that does not change, so that two passes agree."""
    return detector.eval()


def test_what_is_remembered_is_what_the_teacher_says_about_the_same_scenes(teacher, scenes):
    logits, boxes, *maps = remember_detector(teacher.train(), scenes.images, batch_size=4)
    assert teacher.training  # its mode is restored
    with torch.no_grad():
        outputs = run_detector(teacher.eval(), list(scenes.images))
    torch.testing.assert_close(logits, outputs.class_logits.half(), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(boxes, outputs.boxes.half(), atol=1e-2, rtol=1e-2)
    for found, right in zip(maps, outputs.levels.values(), strict=True):
        torch.testing.assert_close(found, right.half(), atol=1e-2, rtol=1e-2)
    assert not logits.requires_grad


@pytest.mark.trap(96)
def test_without_a_teacher_only_the_losses_on_the_labels_are_left(teacher, scenes):
    student = still(make_student_detector())
    alone = detection_objective(student, *scenes.packed())
    right = detector_losses(student, run_detector(student, list(scenes.images), scenes.targets))
    torch.testing.assert_close(alone, right)
    beside = detection_objective(
        student, *scenes.packed(), *remember_detector(teacher, scenes.images), class_weight=0.5
    )
    assert list(beside) == [*alone, "class"]
    for name, term in alone.items():
        torch.testing.assert_close(beside[name], term)


@pytest.mark.parametrize(("name", "knob"), [("class", "class_weight"), ("box", "box_weight")])
def test_a_weight_multiplies_its_term(teacher, scenes, name, knob):
    student, batch = still(make_student_detector()), (*scenes.packed(), *remember_detector(teacher, scenes.images))
    one, three = (detection_objective(student, *batch, **{knob: weight})[name] for weight in (1.0, 3.0))
    torch.testing.assert_close(three, 3 * one)
    assert one > 0


def test_the_class_term_is_zero_for_a_student_that_is_its_teacher(teacher, scenes):
    batch = (*scenes.packed(), *remember_detector(teacher, scenes.images))
    term = detection_objective(teacher.eval(), *batch, class_weight=1.0)["class"]
    assert term < 1e-3  # half precision


@pytest.mark.parametrize("levels", [LEVELS, ("8",), ("16", "32")])
def test_the_pyramid_term_compares_the_levels_of_the_adapters(teacher, scenes, levels):
    student = still(make_student_detector())
    adapters = make_adapters(student, teacher, levels=levels)
    batch = (*scenes.packed(), *remember_detector(teacher, scenes.images))
    terms = detection_objective(student, *batch, pyramid_weight=2.0, adapters=adapters)
    with torch.no_grad():
        mine = run_detector(student, list(scenes.images)).levels
        theirs = run_detector(teacher.eval(), list(scenes.images)).levels
        adapted = adapters({name: mine[name] for name in levels})
        right = fpn_feature_loss(adapted, {name: theirs[name] for name in levels})
    torch.testing.assert_close(terms["pyramid"], 2 * right, rtol=1e-2, atol=1e-3)
    terms["pyramid"].backward()
    assert all(parameter.grad is not None for parameter in adapters.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_teacher_that_was_not_asked_and_a_pyramid_without_adapters_are_refused(teacher, scenes):
    student = make_student_detector()
    with pytest.raises(ValueError, match="need what the teacher said"):
        detection_objective(student, *scenes.packed(), box_weight=1.0)
    batch = (*scenes.packed(), *remember_detector(teacher, scenes.images))
    with pytest.raises(ValueError, match="make_adapters"):
        detection_objective(student, *batch, pyramid_weight=1.0)
    with pytest.raises(ValueError, match=r"levels 8, 16, 32, got 64"):
        make_adapters(student, teacher, levels=("8", "64"))


def test_scenes_without_a_digit_give_terms_of_zero_that_can_be_trained(teacher):
    empty = make_scenes(load_mnist().test, 2, objects=(0, 0))
    student = make_student_detector()
    batch = (empty.images, torch.zeros(2, 1, 4), torch.full((2, 1), -1), *remember_detector(teacher, empty.images))
    terms = detection_objective(student, *batch, class_weight=1.0, box_weight=1.0)
    assert terms["class"] == terms["box"] == 0
    sum(terms.values()).backward()


def test_the_true_boxes_come_back_from_their_encoding(scenes):
    detector = still(make_student_detector())
    outputs = run_detector(detector, list(scenes.images), scenes.targets)
    matched = match_anchors(detector, outputs)
    targets = box_targets(detector, outputs, matched)
    coder = detector.head.regression_head.box_coder
    for row, anchors, target, places in zip(targets, outputs.anchors, outputs.targets, matched, strict=True):
        inside = places >= 0
        decoded = coder.decode_single(row[inside], anchors[inside])
        torch.testing.assert_close(decoded, target["boxes"][places[inside]], atol=1e-3, rtol=1e-3)
        assert (row[~inside] == 0).all()


def test_boxes_of_the_student_that_are_the_truth_cost_nothing(teacher, scenes):
    """A student that beats its teacher everywhere pays nothing; its own loss on the labels is zero too."""
    student = still(make_student_detector())
    outputs = run_detector(student, list(scenes.images), scenes.targets)
    right = box_targets(student, outputs, match_anchors(student, outputs))

    class Head(torch.nn.Module):
        regression_head = student.head.regression_head

        def forward(self, levels):
            return {"cls_logits": outputs.class_logits.detach(), "bbox_regression": right.requires_grad_()}

        def compute_loss(self, *args):
            return student_head.compute_loss(*args)

    student_head, student.head = student.head, Head()
    batch = (*scenes.packed(), *remember_detector(teacher, scenes.images))
    terms = detection_objective(student, *batch, box_weight=1.0)
    assert terms["box"] == 0
    assert terms["bbox_regression"] < 1e-5


def test_recorded_students_come_back_by_arm_and_seed(tmp_path):
    students = {f"{arm}/{seed}": make_student_detector() for arm in ("no_teacher", "all") for seed in (0, 1)}
    state = {f"{name}/{key}": x.half() if x.is_floating_point() else x for name, student in students.items()
             for key, x in student.state_dict().items()}  # fmt: skip
    save_file(state, tmp_path / "students.safetensors")
    found = recorded_students(tmp_path / "students.safetensors")
    assert {arm: len(row) for arm, row in found.items()} == {"no_teacher": 2, "all": 2}
    for key, value in students["all/1"].state_dict().items():
        torch.testing.assert_close(found["all"][1].state_dict()[key], value, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="missing or damaged"):
        recorded_students(tmp_path / "others.safetensors")
