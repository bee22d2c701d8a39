"""Batches of a DataLoader, a Dataset or any other iterable, in a run that can be stopped and continued. Chapter 13."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from .batches import Minibatches, Transform, check_nothing_cached
from .parts import Unpack, as_tensor, is_array, to_device, unpack_batch


def as_tensors(data: Any) -> tuple[Tensor, ...] | None:
    """Return data that lies in memory as a tuple of tensors, and None for anything that has to be iterated.

    Parameters
    ----------
    data : tuple or list of Tensor or NumPy array, TensorDataset, or anything else

    Examples
    --------
    >>> [len(tensor) for tensor in as_tensors((torch.rand(4, 3), torch.arange(4)))]
    [4, 4]
    >>> as_tensors([(torch.rand(4, 3), torch.arange(4))]) is None  # a list of batches
    True
    """
    if isinstance(data, TensorDataset):
        return data.tensors
    if isinstance(data, tuple | list) and len(data) > 0 and all(is_array(part) for part in data):
        return tuple(as_tensor(part) for part in data)
    return None


def make_batches_of(
    data: Any,
    *,
    batch_size: int,
    epochs: int,
    drop_last: bool,
    generator: torch.Generator,
    augment: Transform | None,
    unpack: Unpack | None,
    device: torch.device | str,
    make_batches: Callable[..., Minibatches] = Minibatches,
) -> "Minibatches | LoaderBatches":
    """Return the batches of a run: of tensors in memory, or of anything that can be iterated.

    Examples
    --------
    >>> options = {"batch_size": 2, "epochs": 1, "drop_last": False, "augment": None, "unpack": None, "device": "cpu"}
    >>> dataset = [(torch.rand(3), 0), (torch.rand(3), 1), (torch.rand(3), 1)]
    >>> loader = DataLoader(dataset, batch_size=2)
    >>> [len(labels) for _, labels in make_batches_of(loader, generator=torch.Generator(), **options)]
    [2, 1]
    """
    tensors = as_tensors(data)
    if tensors is None:
        if make_batches is not Minibatches:
            raise ValueError(
                f"this recipe chooses samples itself and needs tensors in memory, got {type(data).__name__}. "
                "Collect them once: torch.cat over the loader."
            )
        return LoaderBatches(
            data, batch_size=batch_size, epochs=epochs, drop_last=drop_last, generator=generator, augment=augment,
            unpack=unpack, device=device,
        )  # fmt: skip
    if augment is not None:
        check_nothing_cached(tensors)
    return make_batches(
        *tensors, batch_size=batch_size, epochs=epochs, drop_last=drop_last, generator=generator, augment=augment
    )


class LoaderBatches:
    """The batches of any iterable over several epochs, as tuples on one device; it can be stopped and continued.

    What is random in the loader of an epoch (the order, transforms in this process) draws from random numbers of its
    own, seeded for that epoch. So the caller's random numbers stay as they are, and a run that is continued makes the
    same batches again: it loads those of the broken epoch that were used, and drops them.

    Parameters
    ----------
    data : DataLoader, Dataset, or iterable of batches
        A dataset is given a loader with this ``batch_size``, shuffled if it has a length. Any other iterable gives one
        batch at a time, and is iterated once for each epoch. A sampler's ``set_epoch`` is called.
    batch_size, drop_last
        For a dataset; a loader has its own.
    epochs, generator, augment
        As in ``Minibatches``; ``augment`` gets the inputs of a batch.
    unpack : callable, optional
        ``unpack(batch) -> (inputs, labels, ...)``; by default :func:`kdcourse.data.parts.unpack_batch`.
    device : torch.device
        Where the batches go.

    Raises
    ------
    ValueError
        If the data cannot be iterated, or not once for each epoch; for ``drop_last`` with a loader; if there are no
        batches.

    Notes
    -----
    The generator of a loader is put back to where the epoch began. Not repeated exactly are augmentations of worker
    processes that live on from epoch to epoch (``persistent_workers=True``), and streams that never give the same
    samples twice.

    Examples
    --------
    >>> batches = LoaderBatches([(torch.zeros(2, 3), torch.arange(2))], epochs=2)
    >>> [labels for inputs, labels in batches], len(batches)
    ([tensor([0, 1]), tensor([0, 1])], 2)
    """

    def __init__(
        self,
        data: Any,
        *,
        batch_size: int = 128,
        epochs: int = 1,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
        augment: Transform | None = None,
        unpack: Unpack | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.loader, is_made_here = _loader_of(data, batch_size, drop_last)
        if drop_last and not is_made_here:
            raise ValueError("drop_last belongs to whatever makes the batches: DataLoader(..., drop_last=True).")
        if epochs > 1 and isinstance(data, Iterator):
            raise ValueError(
                f"{type(data).__name__} gives its batches once, and {epochs} epochs were asked for. Hand over what can "
                "be iterated again: a DataLoader, a list of batches, or an object with __iter__."
            )
        self.epochs, self.augment, self.device = epochs, augment, device
        self.unpack = unpack or unpack_batch
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.epoch = self.batch = 0
        self.batches_per_epoch = _length_of(self.loader)
        if self.batches_per_epoch == 0:
            raise ValueError(f"{type(data).__name__} has no batches: there is nothing to learn from.")
        self._order_state, self._loader_states = self.generator.get_state(), self._states_of_loader()
        self._skip, self._resumed_state = 0, None
        self._random: Any = None

    @property
    def last_batch_size(self) -> int | None:
        """Samples in the last batch of an epoch, where the loader tells."""
        size, samples = getattr(self.loader, "batch_size", None), self.samples
        if size is None or samples is None or getattr(self.loader, "drop_last", False):
            return size
        return samples % size or size

    @property
    def samples(self) -> int | None:
        """Samples in an epoch, where the loader tells."""
        return _length_of(getattr(self.loader, "sampler", None))

    def __len__(self) -> int:
        """Batches in all epochs together; a ``TypeError`` if that is not known."""
        if self.batches_per_epoch is None:
            raise TypeError(f"{type(self.loader).__name__} does not say how many batches it gives.")
        return self.epochs * self.batches_per_epoch

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the remaining batches."""
        while self.epoch < self.epochs:
            for batch, is_last in self._batches_of_epoch():
                first, *others = to_device(self.unpack(batch), self.device)
                if self.augment is not None:
                    first = self.augment(first, self.generator)
                self.batch += 1
                if is_last:
                    self.batches_per_epoch = self.batch
                    self.epoch, self.batch = self.epoch + 1, 0
                yield first, *others

    def first_inputs(self) -> Any:
        """Return the inputs of the first sample, or None where a loader has no samples to ask for."""
        dataset, collate = getattr(self.loader, "dataset", None), getattr(self.loader, "collate_fn", None)
        if collate is None or not hasattr(dataset, "__getitem__"):
            return None
        with _random_numbers_kept():
            return to_device(self.unpack(collate([cast(Any, dataset)[0]])), self.device)[0]

    def state_dict(self) -> dict[str, Any]:
        """Return the position: epoch, batch, and the states of generators when the epoch began and now."""
        begun = self.batch > 0
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "order_state": self._order_state if begun else self.generator.get_state(),
            "loader_states": self._loader_states if begun else self._states_of_loader(),
            "generator_state": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from a position that ``state_dict`` gave."""
        self.epoch, self.batch, self._skip = state["epoch"], state["batch"], state["batch"]
        self.generator.set_state(state["order_state"])
        for generator, kept in zip(self._generators(), state["loader_states"], strict=True):
            generator.set_state(kept)
        self._resumed_state = state["generator_state"] if self._skip else None

    def _batches_of_epoch(self) -> Iterator[tuple[Any, bool]]:
        """Yield each batch of an epoch that was not used before, and whether it is the last one."""
        self._order_state, self._loader_states = self.generator.get_state(), self._states_of_loader()
        seed = int(torch.randint(2**62, (), generator=self.generator))
        sampler = getattr(self.loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):  # a DistributedSampler would else repeat its order
            sampler.set_epoch(self.epoch)
        with _random_numbers_kept():
            _seed_all(seed)
            iterator = iter(self.loader)
            self._random = _random_states()
        following = self._next_batch(iterator)
        for _ in range(self._skip):
            following = self._next_batch(iterator)
        if self._resumed_state is not None:
            self.generator.set_state(self._resumed_state)
        self._skip, self._resumed_state = 0, None
        if following is _END:
            raise ValueError(
                f"the data gave {self.batch} batches in epoch {self.epoch + 1}: none is left to go on with."
            )
        while following is not _END:
            batch, following = following, self._next_batch(iterator)
            yield batch, following is _END

    def _next_batch(self, iterator: Iterator[Any]) -> Any:
        with _random_numbers_kept():
            _set_random_states(self._random)
            batch = next(iterator, _END)
            self._random = _random_states()
        return batch

    def _generators(self) -> list[torch.Generator]:
        """The generators that the loader and its sampler hold, each once."""
        batch_sampler = getattr(self.loader, "batch_sampler", None)
        owners = (self.loader, getattr(self.loader, "sampler", None), batch_sampler)
        held = [getattr(owner, "generator", None) for owner in owners]
        return list({id(one): one for one in held if isinstance(one, torch.Generator)}.values())

    def _states_of_loader(self) -> list[Tensor]:
        return [generator.get_state() for generator in self._generators()]


_END = object()


def _loader_of(data: Any, batch_size: int, drop_last: bool) -> tuple[Iterable[Any], bool]:
    """Return something that gives batches, and whether it was made here."""
    if isinstance(data, IterableDataset):
        return DataLoader(data, batch_size=batch_size, drop_last=drop_last), True
    has_samples = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if isinstance(data, Dataset) or (has_samples and not isinstance(data, list | tuple | Mapping | str | DataLoader)):
        return DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=drop_last), True
    if isinstance(data, Mapping | str) or not hasattr(data, "__iter__"):
        raise ValueError(
            f"data must be a tuple of tensors or arrays, a DataLoader, a Dataset, or an iterable of batches, got "
            f"{type(data).__name__}."
        )
    return data, False


def _length_of(iterable: Any) -> int | None:
    """The length, or None: a loader of a stream has ``__len__``, and raises when it is asked."""
    try:
        return len(iterable)
    except TypeError:
        return None


def _random_states() -> tuple[Any, ...]:
    """The states of torch's, Python's and NumPy's global generators; of NumPy's if it is there."""
    numpy = sys.modules.get("numpy")
    return torch.get_rng_state(), random.getstate(), numpy and numpy.random.get_state()


def _set_random_states(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    if states[2] is not None:
        sys.modules["numpy"].random.set_state(states[2])


def _seed_all(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    states = _random_states()
    try:
        yield
    finally:
        _set_random_states(states)
