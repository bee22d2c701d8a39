"""The attention explorer without a front end: its number is the loss's, its pictures follow, its errors teach."""

import time

import pytest
import torch
from torch import nn

from kdcourse.data.mnist import Split
from kdcourse.losses import attention_transfer_loss
from kdcourse.models import capture, make_cnn, make_student_cnn
from kdcourse.training import evaluating
from kdcourse.widgets import AttentionExplorer

LAYERS = ("stage1", "stage2", "stage3")


def make_model(seed, *channels):
    torch.manual_seed(seed)
    return make_cnn(*channels)


@pytest.fixture(scope="module")
def teacher():
    return make_model(0, 8, 16, 32)


@pytest.fixture(scope="module")
def students():
    return {"first": make_model(1, 4, 8, 16), "second": make_model(2, 4, 8, 16)}


@pytest.fixture
def explorer(teacher, students, mnist):
    return AttentionExplorer(teacher, students, mnist.held_out.take(200))


def loss_of(teacher, student, image, layer):
    with evaluating(teacher, student):
        with capture(teacher, layer) as of_teacher:
            teacher(image[None])
        with capture(student, layer) as of_student:
            student(image[None])
    return float(attention_transfer_loss(of_student[layer], of_teacher[layer]))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", ["first", "second"])
def test_the_distance_is_the_attention_transfer_loss_of_that_image_and_layer(
    explorer, teacher, students, mnist, layer, name
):
    explorer.student.value, explorer.layer.value, explorer.digit.value, explorer.example.value = name, layer, 7, 2
    image = mnist.held_out.images[explorer.sample]
    assert int(mnist.held_out.labels[explorer.sample]) == 7
    assert explorer.distance == pytest.approx(loss_of(teacher, students[name], image, layer), rel=1e-4)
    assert f"{explorer.distance:.2e}" in explorer.status.value


def test_every_control_changes_the_picture(explorer, frame_of):
    explorer.layer.value = "stage2"
    for control, value in [
        (explorer.layer, "stage1"),
        (explorer.power, 6.0),
        (explorer.digit, 8),
        (explorer.example, 1),
        (explorer.student, "second"),
    ]:
        before, frames = frame_of(explorer).tobytes(), explorer.canvas.frames
        control.value = value
        assert explorer.canvas.frames > frames
        assert frame_of(explorer).tobytes() != before
    explorer.close()


def test_a_student_equal_to_its_teacher_is_at_distance_0_whatever_is_chosen(teacher, mnist):
    explorer = AttentionExplorer(teacher, teacher, mnist.held_out.take(200))
    for layer in LAYERS:
        for power in (0.5, 2.0, 8.0):
            explorer.layer.value, explorer.power.value = layer, power
            assert explorer.distance == 0
            assert "cosine 1.00" in explorer.status.value


def test_the_power_is_that_of_the_papers_sum(explorer, teacher, students, mnist):
    explorer.layer.value, explorer.power.value = "stage2", 4.0
    image = mnist.held_out.images[explorer.sample]
    maps = []
    for model in (teacher, students["first"]):
        with evaluating(model), capture(model, "stage2") as features:
            model(image[None])
        energy = (features["stage2"][0].double() ** 4).sum(dim=0)
        maps.append(energy / energy.square().sum().sqrt())
    assert explorer.distance == pytest.approx(float((maps[0] - maps[1]).square().mean()), rel=1e-4)


def test_models_are_left_as_they_were(explorer, teacher, students):
    for model in (teacher, *students.values()):
        assert model.training
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_frame_is_small_and_quick(explorer):
    start = time.process_time()
    for _ in range(5):
        for layer in LAYERS:
            explorer.layer.value = layer
            assert len(explorer.canvas.widget.value) <= 60_000
    assert (time.process_time() - start) / 15 < 0.1


def test_one_student_needs_no_choice(teacher, students, mnist):
    explorer = AttentionExplorer(teacher, students["first"], mnist.held_out.take(200))
    assert explorer.student not in explorer.widget.children[1].children
    assert "[The attention explorer" in explorer._repr_mimebundle_()["text/plain"]


def test_an_error_behind_a_slider_is_shown_and_raised_on_closing(explorer, monkeypatch):
    monkeypatch.setattr(explorer.canvas, "draw", lambda **ignored: 1 / 0)
    explorer.digit.value = 5
    assert "Stopped" in explorer.status.value
    with pytest.raises(RuntimeError, match="division"):
        explorer.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"students": {}}, "at least one student"),
        ({"students": nn.Sequential(nn.Flatten(), nn.Linear(784, 10))}, "no layer 'stage1'"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_reason(teacher, mnist, settings, told):
    settings = {"students": make_student_cnn(), **settings}
    with pytest.raises(ValueError, match=told):
        AttentionExplorer(teacher, settings.pop("students"), mnist.held_out.take(200), **settings)


def test_maps_of_other_sizes_and_missing_digits_are_refused(teacher, mnist):
    halved = nn.Sequential()
    for name, module in make_student_cnn().named_children():
        halved.add_module(name, nn.Sequential(nn.AvgPool2d(2), module) if name == "stage1" else module)
    with pytest.raises(ValueError, match="height and width may not"):
        AttentionExplorer(teacher, halved, mnist.held_out.take(200))
    ones = Split(mnist.held_out.images[:5], torch.ones(5, dtype=torch.long))
    with pytest.raises(ValueError, match="no image of"):
        AttentionExplorer(teacher, make_student_cnn(), ones)
