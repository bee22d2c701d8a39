"""The models have the sizes they are said to have, and take images as they are."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from kdcourse.models import (
    count_parameters,
    make_cnn,
    make_hinton_student,
    make_hinton_teacher,
    make_mlp,
    make_student_cnn,
    make_student_mlp,
    make_teacher_cnn,
    make_teacher_mlp,
    size_in_bytes,
)

MAKERS = [
    make_teacher_mlp, make_student_mlp, make_hinton_teacher, make_hinton_student, make_teacher_cnn, make_student_cnn,
]  # fmt: skip


def parameters_of_mlp(*widths):
    return sum(before * after + after for before, after in pairwise(widths))


@pytest.mark.trap(8)
@pytest.mark.parametrize("make", MAKERS)
def test_every_model_takes_images_with_a_channel_and_gives_ten_logits(make, digits):
    logits = make()(digits.images[:3])
    assert logits.shape == (3, 10)
    assert torch.isfinite(logits).all()


@pytest.mark.trap(8)
def test_an_mlp_without_flattening_would_fail_on_the_same_images(digits):
    bare = nn.Sequential(*list(make_student_mlp())[1:])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        bare(digits.images[:3])


@pytest.mark.parametrize(
    ("make", "widths"),
    [
        (make_teacher_mlp, (784, 1024, 512, 256, 10)),
        (make_student_mlp, (784, 128, 10)),
        (make_hinton_teacher, (784, 1200, 1200, 10)),
        (make_hinton_student, (784, 800, 800, 10)),
        (lambda: make_hinton_student(30), (784, 30, 30, 10)),
        (lambda: make_mlp(), (784, 10)),
    ],
)
def test_an_mlp_has_the_weights_of_its_widths(make, widths):
    model = make()
    assert count_parameters(model) == parameters_of_mlp(*widths)
    assert size_in_bytes(model) == 4 * parameters_of_mlp(*widths)
    linear = [module for module in model if isinstance(module, nn.Linear)]
    assert tuple([784, *(layer.out_features for layer in linear)]) == widths


def test_the_source_texts_models_have_its_dropout():
    assert [module.p for module in make_teacher_mlp() if isinstance(module, nn.Dropout)] == [0.3, 0.3]
    assert not any(isinstance(module, nn.Dropout) for module in make_student_mlp())


def test_hintons_teacher_drops_pixels_and_units_and_his_student_nothing():
    assert [module.p for module in make_hinton_teacher() if isinstance(module, nn.Dropout)] == [0.1, 0.3, 0.3]
    assert not any(isinstance(module, nn.Dropout) for module in make_hinton_student())


def test_no_dropout_follows_the_logits():
    for make in MAKERS:
        assert isinstance(list(make().modules())[-1], nn.Linear)


def test_a_cnns_stages_are_named_and_halve_the_image_after_the_first(digits):
    model = make_cnn(3, 5, 7, 9)
    assert [name for name, _ in model.named_children()] == ["stage1", "stage2", "stage3", "stage4", "head"]
    features, shapes = digits.images[:2], []
    for name in ("stage1", "stage2", "stage3", "stage4"):
        features = getattr(model, name)(features)
        shapes.append(tuple(features.shape))
        assert (features >= 0).all()  # each stage ends in a ReLU
    assert shapes == [(2, 3, 28, 28), (2, 5, 14, 14), (2, 7, 7, 7), (2, 9, 4, 4)]
    assert torch.equal(model.head(features), model.eval().head(features))


def test_teacher_and_student_cnn_have_stages_of_one_size_so_that_features_can_be_compared(digits):
    teacher, student = make_teacher_cnn(), make_student_cnn()
    assert [name for name, _ in teacher.named_children()] == [name for name, _ in student.named_children()]
    left = right = digits.images[:2]
    for name in ("stage1", "stage2", "stage3"):
        left, right = getattr(teacher, name)(left), getattr(student, name)(right)
        assert left.shape[2:] == right.shape[2:]
        assert left.shape[1] > right.shape[1]


def test_parameters_and_bytes_of_a_cnn_add_up():
    def stage(before, after):  # two 3×3 convolutions without bias, two batch normalisations of weight and bias
        return 9 * before * after + 9 * after * after + 4 * after

    expected = stage(1, 4) + stage(4, 6) + 6 * 10 + 10
    model = make_cnn(4, 6)
    buffers = 2 * (2 * 4 + 2 * 6)  # means and variances, float32; and four int64 counters
    assert count_parameters(model) == expected
    assert size_in_bytes(model) == 4 * (expected + buffers) + 8 * 4
    assert size_in_bytes(model.half()) == 2 * (expected + buffers) + 8 * 4


def test_a_seed_builds_the_same_model_again():
    for make in MAKERS:
        torch.manual_seed(0)
        first = make().state_dict()
        torch.manual_seed(0)
        again = make().state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_mlp(10, 0), r"a positive number of units, got \(10, 0\)"),
        (lambda: make_mlp(10, dropout=1.0), r"dropout must be in \[0, 1\), got 1.0: at 1 nothing passes"),
        (lambda: make_mlp(10, input_dropout=-0.1), r"input_dropout must be in \[0, 1\), got -0.1"),
        (lambda: make_cnn(), r"one to four stages of positive width, got \(\)"),
        (lambda: make_cnn(1, 2, 3, 4, 5), r"got \(1, 2, 3, 4, 5\): 28 pixels halve thrice"),
        (lambda: make_cnn(4, -2), r"got \(4, -2\)"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()
