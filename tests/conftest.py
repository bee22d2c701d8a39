"""What tests share: one thread, so that timings and bits do not depend on the machine, and a few real digits."""

import pytest
import torch

from kdcourse.data import load_mnist
from kdcourse.data.mnist import MNIST, Split


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist() -> MNIST:
    """All of MNIST; tests only read it."""
    return load_mnist()


@pytest.fixture(scope="session")
def digits(mnist: MNIST) -> Split:
    """The first 500 training digits: a few steps per epoch, the last batch smaller."""
    return mnist.train.take(500)
