"""Data, a teacher's logits and a sweep that trains in a moment."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from sweep_students import make_small_mlp

from kdcourse.data.mnist import MNIST
from kdcourse.sweeps import sweep


@pytest.fixture(scope="module")
def small(mnist):
    """330 training digits (the last batch of 64 is smaller), 100 held out, 200 to test on."""
    return MNIST(mnist.train.take(330), mnist.held_out.take(100), mnist.test.take(200))


@pytest.fixture(scope="module")
def teacher_logits(small):
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(len(small.train.labels), 10, generator=generator)
    return 5 * F.one_hot(small.train.labels, 10) + 2 * noise


@pytest.fixture(scope="module")
def quick(small, teacher_logits):
    """``sweep`` with all that most tests share."""
    return partial(
        sweep, make_student=make_small_mlp, data=small, teacher=teacher_logits, seeds=range(2), epochs=1, batch_size=64,
        progress=False,
    )  # fmt: skip
