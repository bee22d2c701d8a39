"""Data that ships inside the package, as tensors on the device: nothing is downloaded, nothing is decoded per image.

Chapters 00, 01 and 12. ``load_mnist`` verifies and loads; ``minibatches`` slices tensors alike; ``jitter`` shifts
images; ``split_into_tasks`` cuts a split into tasks.
"""

from .batches import Minibatches, jitter, minibatches
from .masking import mask_words
from .mnist import MNIST, Split, load_mnist
from .tasks import pick_exemplars, split_into_tasks

__all__ = [
    "MNIST",
    "Minibatches",
    "Split",
    "jitter",
    "load_mnist",
    "mask_words",
    "minibatches",
    "pick_exemplars",
    "split_into_tasks",
]
