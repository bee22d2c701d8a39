"""Small pictures with three classes, and networks for them, shared by the tests of a user's own project."""

import random

import torch
from torch import nn
from torch.utils.data import Dataset

CLASSES, SIDE = 3, 6


def make_pictures(count=65):
    """Pictures whose class a linear map decides, so that a network can learn it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 1, SIDE, SIDE, generator=generator)
    labels = (images.flatten(1) @ torch.randn(SIDE * SIDE, CLASSES, generator=generator)).argmax(dim=1)
    return images, labels


class Pictures(Dataset):
    """Samples made one by one, as files would be; with ``noisy``, each with random numbers of its own."""

    def __init__(self, count=65, *, make=lambda image, label: (image, label), noisy=False):
        self.images, self.labels = make_pictures(count)
        self.make, self.noisy = make, noisy

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.noisy:
            image = image + 0.1 * torch.randn(image.shape) + 0.1 * random.random()
        return self.make(image, int(self.labels[index]))


def make_network(width=8, *, seed=0, classes=CLASSES, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, classes)
    )


class Wrapped(nn.Module):
    """A network whose logits come inside another object."""

    def __init__(self, network, wrap, *, name="images"):
        super().__init__()
        self.network, self.wrap, self.name = network, wrap, name

    def forward(self, *images, **named):
        return self.wrap(self.network(images[0] if images else named[self.name]))


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(left, right, **tolerance):
    torch.testing.assert_close(weights(left), weights(right), **tolerance)


EXACT = {"rtol": 0, "atol": 0}
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
