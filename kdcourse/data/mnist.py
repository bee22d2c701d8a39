"""MNIST, all 70,000 digits, inside the package; checksums are verified at every load.

Chapter 01. Licence: CC BY-SA 3.0, see ``LICENSE-MNIST.txt`` beside the files.
"""

from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

import torch
from torch import Tensor

from .unpacking import unpack

# SHA-256 of the unpacked files.
CHECKSUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class Split(NamedTuple):
    """Images and their labels; unpack it as ``images, labels = split``.

    Attributes
    ----------
    images : Tensor of float32, shape (N, 1, 28, 28)
        Grey values in [0, 1]; 0 is background.
    labels : Tensor of int64, shape (N,)
        The digit, 0 to 9.

    Examples
    --------
    >>> split = Split(torch.rand(6, 1, 28, 28), torch.tensor([0, 1, 2, 0, 1, 2]))
    >>> images, labels = split.take(4).without(2)
    >>> labels
    tensor([0, 1, 0])
    """

    images: Tensor
    labels: Tensor

    def take(self, count: int) -> "Split":
        """Return the first ``count`` samples. MNIST's order is already mixed, so a prefix is a fair small data set."""
        size = len(self.labels)
        if not 1 <= count <= size:
            raise ValueError(f"count must be from 1 to {size}, the size of this split, got {count}.")
        images, labels = self.images[:count], self.labels[:count]
        if 2 * count > size:
            return Split(images, labels)
        return Split(images.clone(), labels.clone())  # a view takes all of MNIST along when it is sent to a process

    def only(self, *digits: int) -> "Split":
        """Return the samples whose label is one of ``digits``."""
        return self._where(torch.isin(self.labels, self._digits(digits)))

    def without(self, *digits: int) -> "Split":
        """Return the samples whose label is none of ``digits``."""
        return self._where(~torch.isin(self.labels, self._digits(digits)))

    def _where(self, mask: Tensor) -> "Split":
        return Split(self.images[mask], self.labels[mask])

    def _digits(self, digits: tuple[int, ...]) -> Tensor:
        if not digits or any(digit not in range(10) for digit in digits):
            raise ValueError(f"digits must be one or more of 0 to 9, got {digits}.")
        return torch.tensor(digits, device=self.labels.device)


class MNIST(NamedTuple):
    """The three splits: train to learn from, held_out to choose by, test to report.

    Attributes
    ----------
    train, held_out, test : Split
        By default 55,000, 5,000 and 10,000 samples. Knobs are chosen on ``held_out``; ``test`` is looked at last.

    Examples
    --------
    >>> part = Split(torch.rand(6, 1, 28, 28), torch.arange(6))
    >>> MNIST(train=part, held_out=part.take(2), test=part.take(3))._fields
    ('train', 'held_out', 'test')
    """

    train: Split
    held_out: Split
    test: Split


def load_mnist(*, device: str | torch.device = "cpu", held_out: int = 5000) -> MNIST:
    """Load MNIST from inside the package onto a device.

    Parameters
    ----------
    device : str or torch.device
        Where the tensors live (220 MB in float32).
    held_out : int
        How many of the 60,000 training samples, from the end, are kept apart for choosing knobs. 0 trains on all.

    Returns
    -------
    MNIST
        Splits ``train``, ``held_out``, ``test`` of float32 images (N, 1, 28, 28) in [0, 1] and int64 labels (N,).

    Raises
    ------
    ValueError
        If ``held_out`` is not in [0, 60000), or a file is missing, damaged or altered; the message names the file.

    Examples
    --------
    >>> mnist = load_mnist()
    >>> len(mnist.train.labels), len(mnist.held_out.labels), len(mnist.test.labels)
    (55000, 5000, 10000)
    """
    if not 0 <= held_out < 60_000:
        raise ValueError(f"held_out must be from 0 to 59999, got {held_out}: some images must be left to train on.")
    images, labels, test_images, test_labels = (tensor.to(device) for tensor in _tensors())
    images, test_images = images.float().div_(255), test_images.float().div_(255)
    labels, test_labels = labels.long(), test_labels.long()
    size = 60_000 - held_out
    return MNIST(
        train=Split(images[:size], labels[:size]),
        held_out=Split(images[size:], labels[size:]),
        test=Split(test_images, test_labels),
    )


@lru_cache(maxsize=1)
def _tensors() -> tuple[Tensor, ...]:
    """Bytes of the four files as uint8 tensors, kept so that a second load is quick."""
    folder = resources.files(__package__) / "mnist"
    return tuple(read_idx(folder / f"{name}.gz", sha256=checksum) for name, checksum in CHECKSUMS.items())


def read_idx(path: Traversable, *, sha256: str) -> Tensor:
    """Read one gzip-compressed IDX file after verifying its checksum.

    Parameters
    ----------
    path : Traversable
        The ``.gz`` file.
    sha256 : str
        Hex digest that the unpacked bytes must have.

    Returns
    -------
    Tensor of uint8, shape (N, 1, H, W) for images or (N,) for labels

    Raises
    ------
    ValueError
        If the file is missing, does not unpack, or has another checksum.

    Examples
    --------
    >>> import gzip, hashlib, pathlib, tempfile
    >>> raw = bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])  # one dimension, two bytes
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.gz"
    >>> _ = path.write_bytes(gzip.compress(raw))
    >>> read_idx(path, sha256=hashlib.sha256(raw).hexdigest())
    tensor([7, 9], dtype=torch.uint8)
    """
    raw = unpack(path, sha256=sha256, what="MNIST file")
    dimensions = raw[3]
    shape = [int.from_bytes(raw[4 * i + 4 : 4 * i + 8], "big") for i in range(dimensions)]
    flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=4 * dimensions + 4)
    return flat.view(shape[0], 1, *shape[1:]) if dimensions == 3 else flat
