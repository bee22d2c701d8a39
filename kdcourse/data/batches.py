"""Batches as slices of resident tensors, in an order drawn from a generator of their own.

Chapters 01 and 02. A batch is a tuple: images, labels, then whatever a method needs, sliced alike.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Transform = Callable[[Tensor, torch.Generator], Tensor]


class Minibatches:
    """Shuffled batches of aligned tensors that can be stopped and continued exactly.

    Iterating gives tuples of tensors; ``state_dict`` between two batches and ``load_state_dict`` in a new object
    continue with the batch that would have come next.

    Parameters
    ----------
    *tensors : Tensor, shape (N, ...)
        Aligned by sample: row i of each belongs to sample i. A cache of teacher logits is one more tensor here,
        which keys it by sample whatever the order.
    batch_size : int
        Samples per batch; the last batch of an epoch is smaller when N is not a multiple.
    epochs : int
        Passes over the data.
    drop_last : bool
        Whether a smaller last batch of an epoch is left out. From a batch of one a batch normalisation cannot learn,
        nor can a loss on relations between samples.
    generator : torch.Generator, optional
        A CPU generator that alone decides the order and the augmentation. By default a new one, seeded with 0:
        drawing a plot or starting another model changes nothing here.
    augment : callable, optional
        ``augment(images, generator) -> images``, applied to the first tensor of each batch, such as ``jitter``.
        A cache of teacher logits is wrong under augmentation: it was computed for other images.

    Raises
    ------
    ValueError
        If no tensors come, their lengths differ, batch_size or epochs is not a positive integer, or no batch is left.

    Examples
    --------
    >>> batches = Minibatches(torch.arange(5), batch_size=2)
    >>> [len(batch) for (batch,) in batches], len(Minibatches(torch.arange(5), batch_size=2, drop_last=True))
    ([2, 2, 1], 2)
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int = 128,
        epochs: int = 1,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
        augment: Transform | None = None,
    ) -> None:
        if not tensors:
            raise ValueError("minibatches need at least one tensor, such as images and labels.")
        sizes = [len(tensor) for tensor in tensors]
        if len(set(sizes)) != 1 or sizes[0] == 0:
            raise ValueError(
                f"tensors must have the same, non-zero number of samples, got {sizes}. Row i of each tensor "
                "belongs to sample i; tensors of different length cannot be aligned."
            )
        for name, value in (("batch_size", batch_size), ("epochs", epochs)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}.")
        if drop_last and sizes[0] < batch_size:
            raise ValueError(
                f"drop_last leaves no batch: {sizes[0]} samples do not fill one of {batch_size}. Take a smaller "
                "batch_size."
            )
        self.tensors, self.batch_size, self.epochs, self.augment = tensors, batch_size, epochs, augment
        self.drop_last = drop_last
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.epoch = self.batch = 0
        self._order: Tensor | None = None
        self._order_state = self.generator.get_state()

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass over the data."""
        size = len(self.tensors[0])
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    @property
    def last_batch_size(self) -> int:
        """Samples in the last batch of an epoch."""
        return min(self.batch_size, len(self.tensors[0]) - (self.batches_per_epoch - 1) * self.batch_size)

    def first_inputs(self) -> Tensor:
        """Return the first sample of the first tensor, as a batch of one."""
        return self.tensors[0][:1]

    def __len__(self) -> int:
        """Batches in all epochs together."""
        return self.epochs * self.batches_per_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the remaining batches."""
        while self.epoch < self.epochs:
            order = self._draw_order()
            start = self.batch * self.batch_size
            index = order[start : start + self.batch_size]  # (B,)
            first, *others = (tensor.index_select(0, index) for tensor in self.tensors)
            if self.augment is not None:
                first = self.augment(first, self.generator)
            self.batch += 1
            if self.batch == self.batches_per_epoch:
                self.epoch, self.batch, self._order = self.epoch + 1, 0, None
            yield first, *others

    def _draw_order(self) -> Tensor:
        if self._order is None:
            self._order_state = self.generator.get_state()
            size = len(self.tensors[0])
            self._order = torch.randperm(size, generator=self.generator).to(self.tensors[0].device)  # (N,)
        return self._order

    def state_dict(self) -> dict[str, int | Tensor]:
        """Return the position: epoch, batch, and the generator's state now and when this epoch's order was drawn."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "order_state": self._order_state if self._order is not None else self.generator.get_state(),
            "generator_state": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from a position that ``state_dict`` gave."""
        self.epoch, self.batch, self._order = state["epoch"], state["batch"], None
        self.generator.set_state(state["order_state"])
        if self.batch > 0:  # in the middle of an epoch: draw its order again, then go on from where augmentation was
            self._draw_order()
            self.generator.set_state(state["generator_state"])


def minibatches(
    *tensors: Tensor,
    batch_size: int = 128,
    epochs: int = 1,
    drop_last: bool = False,
    generator: torch.Generator | None = None,
    augment: Transform | None = None,
) -> Minibatches:
    """Iterate over shuffled batches of aligned tensors; see ``Minibatches`` for the parameters.

    Examples
    --------
    >>> import torch
    >>> images, labels = torch.rand(10, 1, 28, 28), torch.arange(10)
    >>> [len(batch_labels) for batch_images, batch_labels in minibatches(images, labels, batch_size=4)]
    [4, 4, 2]
    """
    return Minibatches(
        *tensors, batch_size=batch_size, epochs=epochs, drop_last=drop_last, generator=generator, augment=augment
    )


def check_nothing_cached(tensors: Sequence[Tensor]) -> None:
    """Raise if images that will be augmented stand beside values that were computed from the images as they are.

    Parameters
    ----------
    tensors : sequence of Tensor
        Images, labels, then further tensors aligned by sample. A floating-point tensor of two or more dimensions among
        the further ones is taken for cached logits or features.

    Examples
    --------
    >>> images, labels, teacher_logits = torch.rand(4, 1, 28, 28), torch.arange(4), torch.randn(4, 10)
    >>> check_nothing_cached((images, labels))
    >>> check_nothing_cached((images, labels, teacher_logits))
    Traceback (most recent call last):
    ...
    ValueError: augment cannot be used beside cached logits or features ...
    """
    for place, tensor in enumerate(tensors[2:], start=2):
        if tensor.is_floating_point() and tensor.dim() > 1:
            raise ValueError(
                f"augment cannot be used beside cached logits or features (tensor {place} of the data, shape "
                f"{tuple(tensor.shape)}): they belong to the images as they are, not to augmented ones. Call the "
                "teacher inside the objective, on the batch that the student sees."
            )


def jitter(images: Tensor, generator: torch.Generator, *, pixels: int = 2) -> Tensor:
    """Shift each image by up to ``pixels`` in both directions, filling with 0; one gather for the whole batch.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
    generator : torch.Generator
        A CPU generator; one shift per image is drawn from it.
    pixels : int
        Largest shift in either direction. Hinton et al. used 2 for the MNIST teacher.

    Returns
    -------
    Tensor, shape (B, C, H, W)

    Raises
    ------
    ValueError
        If the images are not 4-D or pixels is negative.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 3.

    Examples
    --------
    >>> images = torch.rand(4, 1, 28, 28)
    >>> jitter(images, torch.Generator().manual_seed(0), pixels=2).shape
    torch.Size([4, 1, 28, 28])
    """
    if images.dim() != 4 or pixels < 0:
        raise ValueError(f"jitter needs images (B, C, H, W) and pixels >= 0, got {tuple(images.shape)} and {pixels}.")
    batch, channels, height, width = images.shape
    shifts = torch.randint(0, 2 * pixels + 1, (2, batch), generator=generator).to(images.device)
    padded = F.pad(images, (pixels, pixels, pixels, pixels))  # (B, C, H + 2p, W + 2p)
    rows = shifts[0, :, None] + torch.arange(height, device=images.device)  # (B, H)
    columns = shifts[1, :, None] + torch.arange(width, device=images.device)  # (B, W)
    flat = rows[:, :, None] * (width + 2 * pixels) + columns[:, None, :]  # (B, H, W)
    index = flat.view(batch, 1, -1).expand(-1, channels, -1)  # (B, C, H*W)
    return padded.flatten(2).gather(2, index).view_as(images)
