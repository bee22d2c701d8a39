"""What tests of widgets share: a few images, a teacher that knows something, the frame that a picture shows."""

import io

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kdcourse.models import make_mlp


@pytest.fixture(scope="session")
def frame_of():
    """Return a function from a canvas or a trainer to the picture it shows, with its notes in ``.text``."""

    def read(shown):
        image = shown.image if hasattr(shown, "image") else shown.canvas.widget
        return Image.open(io.BytesIO(image.value))

    return read


@pytest.fixture(scope="session")
def weights_of():
    """Return a function from a model to all its weights in one vector."""
    return lambda model: torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.fixture(scope="session")
def small(mnist):
    return mnist._replace(
        train=mnist.train.take(600), held_out=mnist.held_out.take(300), test=mnist.test.take(400)
    )  # fmt: skip


@pytest.fixture(scope="session")
def teacher(mnist):
    """A teacher that knows something: two hundred steps on labels."""
    torch.manual_seed(7)
    model = make_mlp(64)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for images, labels in zip(mnist.train.images[:12800].split(64), mnist.train.labels[:12800].split(64), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()
