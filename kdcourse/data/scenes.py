"""Scenes for detection: several MNIST digits of several sizes in one picture, with clutter, each with its box.

Chapter 08. Scenes are made from a seed in seconds; train, held-out and test scenes have no digit image in common.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .mnist import Split, load_mnist

SIZE = 96  # pixels of a scene's side
SIDES = (16, 20, 24, 30, 36, 44, 54, 66)  # pixels that a digit's 28 become; its ink takes about two thirds of them
Target = dict[str, Tensor]


class Scenes(NamedTuple):
    """Pictures with boxes; unpack it as ``images, targets = scenes``.

    Attributes
    ----------
    images : Tensor of float32, shape (N, 1, 96, 96)
        Grey values in [0, 1].
    targets : tuple of dict
        For each picture ``boxes``, a float Tensor (objects, 4) of corners x1, y1, x2, y2 in pixels, and ``labels``, an
        int64 Tensor (objects,) of digits: what torchvision's detectors take.

    Examples
    --------
    >>> target = {"boxes": torch.tensor([[2.0, 3.0, 20.0, 30.0]]), "labels": torch.tensor([7])}
    >>> Scenes(torch.rand(1, 1, 96, 96), (target,)).take(1).targets[0]["labels"]
    tensor([7])
    """

    images: Tensor
    targets: tuple[Target, ...]

    def take(self, count: int) -> "Scenes":
        """Return the first ``count`` scenes."""
        if not 1 <= count <= len(self.targets):
            raise ValueError(f"count must be from 1 to {len(self.targets)}, the number of scenes, got {count}.")
        return Scenes(self.images[:count], self.targets[:count])

    def packed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return tensors that `fit` slices: images, boxes (N, objects, 4), labels (N, objects), -1 where none is."""
        boxes = [target["boxes"] for target in self.targets]
        labels = [target["labels"] for target in self.targets]
        return self.images, pad_sequence(boxes, True, 0.0), pad_sequence(labels, True, -1.0)


def unpacked(images: Tensor, boxes: Tensor, labels: Tensor) -> tuple[list[Tensor], list[Target]]:
    """Return a batch of packed scenes as a list of images and a list of targets.

    Examples
    --------
    >>> images, targets = unpacked(torch.rand(1, 1, 96, 96), torch.rand(1, 2, 4), torch.tensor([[7, -1]]))
    >>> targets[0]["boxes"].shape, targets[0]["labels"]
    (torch.Size([1, 4]), tensor([7]))
    """
    there = labels >= 0  # (B, objects)
    rows = zip(boxes, labels, there, strict=True)
    return list(images), [{"boxes": box[real], "labels": label[real]} for box, label, real in rows]


class SceneSplits(NamedTuple):
    """The three splits: train to learn from, held_out to choose by, test to report.

    Attributes
    ----------
    train, held_out, test : Scenes
        Made of the digits of MNIST's split of the same name.

    Examples
    --------
    >>> part = Scenes(torch.rand(1, 1, 96, 96), ({},))
    >>> SceneSplits(part, part, part)._fields
    ('train', 'held_out', 'test')
    """

    train: Scenes
    held_out: Scenes
    test: Scenes


def load_scenes(*, train: int = 2000, held_out: int = 500, test: int = 1000, seed: int = 0) -> SceneSplits:
    """Make the course's scenes. The test scenes are the same whatever is asked for the other splits.

    Parameters
    ----------
    train, held_out, test : int
        Number of scenes of each split. More scenes begin with the fewer ones.
    seed : int
        Seeds the training scenes. The other two splits are fixed.

    Examples
    --------
    >>> scenes = load_scenes(train=4, held_out=2, test=2)
    >>> scenes.train.images.shape, len(scenes.test.targets)
    (torch.Size([4, 1, 96, 96]), 2)
    """
    mnist = load_mnist()
    return SceneSplits(
        make_scenes(mnist.train, train, seed=seed),
        make_scenes(mnist.held_out, held_out, seed=10_001),
        make_scenes(mnist.test, test, seed=10_002),
    )


def make_scenes(
    digits: Split, count: int, *, objects: tuple[int, int] = (1, 5), size: int = SIZE, clutter: int = 6, seed: int = 0
) -> Scenes:
    """Put digits into pictures: several sizes, some overlap, fragments of other digits as clutter, a noisy ground.

    Parameters
    ----------
    digits : Split
        Digit images (N, 1, 28, 28) and labels to draw from.
    count : int
        Number of scenes.
    objects : (int, int)
        Least and largest number of digits in a scene. 0 as the least makes scenes without any.
    size : int
        Pixels of a side, at least 56: the largest digit must fit.
    clutter : int
        Fragments in a scene.
    seed : int
        Seeds everything; scene i is the same for every ``count``.

    Returns
    -------
    Scenes
        On the CPU. A box is tight around the digit's ink.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> scenes = make_scenes(Split(torch.ones(3, 1, 28, 28), torch.tensor([4, 5, 6])), 2, objects=(2, 2), clutter=0)
    >>> [target["boxes"].shape for target in scenes.targets]
    [torch.Size([2, 4]), torch.Size([2, 4])]
    """
    least, largest = objects
    if count < 1 or size < 56 or clutter < 0 or not 0 <= least <= largest:
        raise ValueError(
            f"a scene needs count >= 1, size >= 56, clutter >= 0 and 0 <= least <= largest objects, got count={count}, "
            f"size={size}, clutter={clutter}, objects={objects}."
        )
    images, targets = torch.empty(count, 1, size, size), []
    for place in range(count):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + place)
        images[place, 0], target = _make_scene(digits, least, largest, size, clutter, generator)
        targets.append(target)
    return Scenes(images, tuple(targets))


def _make_scene(
    digits: Split, least: int, largest: int, size: int, clutter: int, generator: torch.Generator
) -> tuple[Tensor, Target]:
    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    scene = 0.12 * torch.rand(size, size, generator=generator)
    for _ in range(clutter):
        side = draw(6, 13)
        source = digits.images[draw(0, len(digits.labels)), 0]
        top, left, y, x = draw(4, 25 - side), draw(4, 25 - side), draw(0, size - side), draw(0, size - side)
        patch = scene[y : y + side, x : x + side]
        torch.maximum(patch, 0.7 * source[top : top + side, left : left + side], out=patch)
    boxes, labels = torch.empty(0, 4), list[int]()
    for _ in range(draw(least, largest + 1)):
        index, side = draw(0, len(digits.labels)), SIDES[draw(0, len(SIDES))]
        digit = F.interpolate(digits.images[index][None], (side, side), mode="area" if side < 28 else "bilinear")[0, 0]
        ink = (digit > 0.2).nonzero()
        if len(ink) == 0:
            continue
        (top, left), (bottom, right) = ink.amin(dim=0).tolist(), (ink.amax(dim=0) + 1).tolist()
        digit = digit[top:bottom, left:right]
        height, width = digit.shape
        for _ in range(20):
            y, x = draw(0, size - height + 1), draw(0, size - width + 1)
            box = torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32)
            if len(boxes) == 0 or _covered(box, boxes) <= 0.25:
                patch = scene[y : y + height, x : x + width]
                torch.maximum(patch, digit, out=patch)
                boxes, labels = torch.cat([boxes, box]), [*labels, int(digits.labels[index])]
                break
    return scene, {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64)}


def _covered(box: Tensor, boxes: Tensor) -> float:
    """Return the largest share of the smaller box that a pair has in common."""
    corner, far = torch.maximum(box[:, :2], boxes[:, :2]), torch.minimum(box[:, 2:], boxes[:, 2:])
    common = (far - corner).clamp(min=0).prod(dim=1)  # (objects,)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    area = (box[:, 2:] - box[:, :2]).prod()
    return float((common / torch.minimum(areas, area)).max())


class SceneBatches:
    """Shuffled batches of scenes, each a list of images and a list of targets as torchvision's detectors take them.

    Parameters
    ----------
    scenes : Scenes
    batch_size, epochs : int
    seed : int
        Seeds the order.

    Examples
    --------
    >>> scenes = load_scenes(train=5, held_out=1, test=1).train
    >>> [len(images) for images, targets in SceneBatches(scenes, batch_size=2)]
    [2, 2, 1]
    """

    def __init__(self, scenes: Scenes, *, batch_size: int = 16, epochs: int = 1, seed: int = 0) -> None:
        if batch_size < 1 or epochs < 1:
            raise ValueError(f"batch_size and epochs must be positive, got {batch_size} and {epochs}.")
        self.scenes, self.batch_size, self.epochs, self.seed = scenes, batch_size, epochs, seed

    def __len__(self) -> int:
        """Batches in all epochs together."""
        return self.epochs * -(-len(self.scenes.targets) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[list[Tensor], list[Target]]]:
        """Yield the batches, from the first on."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            for index in torch.randperm(len(self.scenes.targets), generator=generator).split(self.batch_size):
                yield [self.scenes.images[i] for i in index], [self.scenes.targets[i] for i in index.tolist()]
