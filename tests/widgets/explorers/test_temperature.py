"""The temperature explorer without a front end: probabilities, entropy and push against what they are made of."""

import math

import pytest
import torch
from torch import nn

from kdcourse.losses import kd_loss
from kdcourse.training import predict_logits
from kdcourse.widgets import TemperatureExplorer


def test_the_explorer_shows_softened_probabilities_and_their_entropy(small, teacher):
    explorer = TemperatureExplorer(teacher, small.held_out)
    explorer.temperature.value, explorer.digit.value, explorer.example.value = 5, 8, 2
    logits = predict_logits(teacher, small.held_out.images)[explorer.sample].double().numpy() / 5
    p = [math.exp(z) for z in logits]
    p = [value / sum(p) for value in p]
    assert explorer.target.tolist() == pytest.approx(p, abs=1e-6)
    nats = -sum(value * math.log(value) for value in p)
    assert f"{nats:.3f} nats</b> = {nats / math.log(2):.3f} bits" in explorer.status.value
    assert int(small.held_out.labels[explorer.sample]) == 8


def test_the_push_is_minus_the_gradient_of_the_loss_for_a_student_that_knows_nothing(small, teacher):
    explorer = TemperatureExplorer(teacher, small.held_out, temperature=3.0)
    image = small.held_out.images[explorer.sample][None]
    logits = torch.zeros(1, 10, requires_grad=True)  # all classes are equally likely
    kd_loss(logits, teacher(image).detach(), temperature=3.0).backward()
    assert explorer.push.tolist() == pytest.approx((-logits.grad[0]).tolist(), abs=1e-5)


def test_the_explorer_begins_with_the_image_the_teacher_is_least_sure_of(small, teacher):
    explorer = TemperatureExplorer(teacher, small.held_out, temperature=4.0)
    entropies = []
    for example in range(4):
        explorer.example.value = example
        entropies.append(float(torch.special.entr(explorer.target).sum()))
    assert entropies == sorted(entropies, reverse=True)


def test_the_explorer_survives_a_change_to_a_digit_with_fewer_images(small, teacher):
    few = small.held_out.take(60)
    explorer = TemperatureExplorer(teacher, few)
    for digit in range(10):
        explorer.example.value = explorer.example.max
        explorer.digit.value = digit
        assert int(few.labels[explorer.sample]) == digit
    explorer.close()


def test_the_explorer_refuses_what_it_cannot_draw(small, teacher):
    with pytest.raises(ValueError, match=r"no image of \[3\]"):
        TemperatureExplorer(teacher, small.held_out.without(3))
    with pytest.raises(ValueError, match=r"temperature must be from 0\.5 to 20"):
        TemperatureExplorer(teacher, small.held_out, temperature=0)
    with pytest.raises(ValueError, match=r"ten classes; the teacher gives logits of shape \(300, 5\)"):
        TemperatureExplorer(nn.Sequential(nn.Flatten(), nn.Linear(784, 5)), small.held_out)
