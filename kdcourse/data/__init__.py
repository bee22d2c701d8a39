"""Data that ships inside the package, as tensors on the device: nothing is downloaded, nothing is decoded per image.

Chapters 00 and 01. ``load_mnist`` verifies and loads; ``minibatches`` slices tensors alike; ``jitter`` shifts images.
"""

from .batches import Minibatches, jitter, minibatches
from .masking import mask_words
from .mnist import MNIST, Split, load_mnist

__all__ = ["MNIST", "Minibatches", "Split", "jitter", "load_mnist", "mask_words", "minibatches"]
