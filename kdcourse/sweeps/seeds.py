"""What a seed stands for: the weights that a student starts from, and the order in which it sees the samples.

Chapters 02 to 07. Letters: S seeds, B samples in a batch, N samples in a data set.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batches import Minibatches, Transform
from ..training import Objective

MakeModule = Callable[[], nn.Module]


class Program(nn.Module):
    """A student and the learned parts of its objective: all that each student of a sweep has for itself.

    Parameters
    ----------
    make_student : callable
        ``make_student() -> nn.Module``.
    parts : mapping from str to callable
        ``part() -> nn.Module``, such as a hint regressor; the objective gets it under its name.
    seed : int
        Gives the weights that ``torch.manual_seed(seed)`` gives an ordinary run.
    device : torch.device
        Weights are drawn on the CPU whatever the device, so that a seed means the same everywhere.

    Examples
    --------
    >>> program = Program(lambda: nn.Linear(2, 2), {}, seed=3, device=torch.device("cpu"))
    >>> _ = torch.manual_seed(3)
    >>> torch.equal(program.student.weight, nn.Linear(2, 2).weight)
    True
    """

    def __init__(self, make_student: MakeModule, parts: Mapping[str, MakeModule], *, seed: int, device: torch.device):
        super().__init__()
        torch.manual_seed(seed)
        self.student = make_student()
        self.parts = nn.ModuleDict({name: make() for name, make in parts.items()})
        self.seed, self.random_state = seed, torch.get_rng_state()
        self.to(device)

    def forward(self, objective: Objective, batch: tuple[Tensor, ...], knobs: Mapping[str, Any]) -> Any:
        """Call the objective on the student."""
        return objective(self.student, *batch, **dict(self.parts.items()), **knobs)


class Orders:
    """One order of samples per seed: that of ``Minibatches`` with a generator of this seed.

    Parameters
    ----------
    tensors : sequence of Tensor, each of shape (N, ...)
        Aligned by sample, or of shape (S, N, ...) where ``per_seed`` says so.
    per_seed : sequence of bool
        True for a tensor whose row s belongs to seed s alone.
    seeds : sequence of int
    batch_size, epochs : int
    drop_last : bool
    augment : callable, optional
        ``augment(images, generator) -> images``, drawing from the seed's generator.

    Examples
    --------
    >>> orders = Orders([torch.arange(5)], per_seed=[False], seeds=[0, 1], batch_size=3, epochs=1)
    >>> [batch.shape for (batch,) in orders.together()]
    [torch.Size([2, 3]), torch.Size([2, 2])]
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        *,
        per_seed: Sequence[bool],
        seeds: Sequence[int],
        batch_size: int,
        epochs: int,
        drop_last: bool = False,
        augment: Transform | None = None,
    ) -> None:
        self.tensors, self.per_seed, self.seeds, self.augment = tensors, per_seed, seeds, augment
        self.samples = torch.arange(len(tensors[0]), device=tensors[0].device)  # (N,)
        self.make_batches = partial(
            Minibatches, self.samples, batch_size=batch_size, epochs=epochs, drop_last=drop_last
        )
        self.one = self.make_batches()
        self.steps = len(self.one)

    def weight(self, step: int) -> float:
        """Return the share of a step's batch in the samples of the last epoch; 0 in the epochs before."""
        one, batch = self.one, step - (self.steps - self.one.batches_per_epoch)
        size = one.last_batch_size if step == self.steps - 1 else one.batch_size
        samples = (one.batches_per_epoch - 1) * one.batch_size + one.last_batch_size
        return size / samples if batch >= 0 else 0.0

    def together(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of all seeds side by side, each tensor (S, B, ...)."""
        indices, generators = zip(*(self._indices(seed) for seed in self.seeds), strict=True)
        rows = torch.arange(len(self.seeds), device=self.samples.device)[:, None]  # (S, 1)
        for drawn in zip(*indices, strict=True):
            index = torch.stack([samples for (samples,) in drawn])  # (S, B)
            first, *others = (
                tensor[rows, index] if own else tensor.index_select(0, index.flatten()).unflatten(0, index.shape)
                for tensor, own in zip(self.tensors, self.per_seed, strict=True)
            )
            if self.augment is not None:
                first = torch.stack([self.augment(*pair) for pair in zip(first, generators, strict=True)])
            yield first, *others

    def alone(self, row: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of one seed, each tensor (B, ...)."""
        indices, generator = self._indices(self.seeds[row])
        for (index,) in indices:
            first, *others = (
                (tensor[row] if own else tensor).index_select(0, index)
                for tensor, own in zip(self.tensors, self.per_seed, strict=True)
            )
            if self.augment is not None:
                first = self.augment(first, generator)
            yield first, *others

    def _indices(self, seed: int) -> tuple[Minibatches, torch.Generator]:
        generator = torch.Generator().manual_seed(seed)
        return self.make_batches(generator=generator), generator
