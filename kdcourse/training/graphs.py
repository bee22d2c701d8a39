"""A training step recorded once as a CUDA graph, then replayed: a small student on a GPU waits for launches only.

Used by ``train(…, graph=True)``. Recording is done by an object that the tests replace, because it needs a GPU.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

Batch = tuple[Tensor, ...]
Terms = dict[str, Tensor]

WARM_UP = 3  # ordinary steps first: kernels are chosen and the optimizer's state is made before anything is recorded


class Recorder(Protocol):
    """What records a function of fixed tensors.

    Examples
    --------
    >>> recorder: Recorder = CudaRecorder  # a class until there is a GPU to make one on
    """

    def warm_up(self, function: Callable[[], Terms]) -> Terms:
        """Call the function as recording will."""

    def record(self, function: Callable[[], Terms]) -> tuple[Callable[[], None], Terms]:
        """Return what replays the function, and the tensors that each replay fills; nothing has happened yet."""


class CudaRecorder:
    """Records with ``torch.cuda.CUDAGraph``, on a stream of its own.

    Parameters
    ----------
    device : torch.device

    Examples
    --------
    >>> recorder = CudaRecorder(torch.device("cuda")) if torch.cuda.is_available() else None
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def warm_up(self, function: Callable[[], Terms]) -> Terms:
        """Call the function on the other stream: what it allocates there is ready when recording begins."""
        here = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            terms = function()
        here.wait_stream(self.stream)
        return terms

    def record(self, function: Callable[[], Terms]) -> tuple[Callable[[], None], Terms]:
        """Record the function's kernels."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            terms = function()
        return graph.replay, terms


class Replayed:
    """A step that is recorded for the first shape of batch that comes often, and replayed for all further ones.

    Batches of other shapes, such as the last one of an epoch, take ordinary steps.

    Parameters
    ----------
    update : callable
        ``update(batch) -> terms``: the whole step, from the gradients set to None to the optimizer's update. Everything
        but the batch is recorded as it is: a temperature that changes later would not be seen.
    optimizer : torch.optim.Optimizer
        Where it has the setting ``capturable``, that must be on.
    recorder : Recorder, optional
        By default nothing is recorded, and every step is an ordinary one.

    Raises
    ------
    ValueError
        If the optimizer reads a value on the device in each step, or a setting of it changes later.

    Examples
    --------
    >>> weight = torch.ones(1, requires_grad=True)
    >>> steps = Replayed(lambda batch: {"loss": batch[0].sum()}, torch.optim.SGD([weight], lr=0.1), recorder=None)
    >>> steps((torch.ones(3),))
    {'loss': tensor(3.)}
    """

    def __init__(
        self, update: Callable[[Batch], Terms], optimizer: Optimizer, *, recorder: Recorder | None = None
    ) -> None:
        if recorder is not None:
            check_capturable(optimizer)
        self.update, self.optimizer, self.recorder = update, optimizer, recorder
        self.seen: dict[Any, int] = {}
        self.shape: Any = None
        self.batch: Batch = ()
        self.terms: Terms = {}
        self.replay: Callable[[], None] | None = None
        self.settings: list[dict[str, Any]] = []

    def __call__(self, batch: Batch) -> Terms:
        """Take a step; the returned terms are the caller's own, and no later step changes them."""
        if self.recorder is None:
            return self.update(batch)
        shape = _shape_of(batch)
        self.seen[shape] = self.seen.get(shape, 0) + 1
        if self.replay is None and self.seen[shape] > WARM_UP:
            self._record(batch, shape)
        if self.replay is None or shape != self.shape:
            return self.recorder.warm_up(lambda: self.update(batch))
        if _settings_of(self.optimizer) != self.settings:
            raise ValueError(
                "a setting of the optimizer, such as lr, has changed since the step was recorded, and a recorded step "
                "does not see that. Give lr as a tensor, which is changed in place, or train with graph=False."
            )
        for held, part in zip(self.batch, batch, strict=True):
            held.copy_(part)
        self.replay()
        return {name: term.clone() for name, term in self.terms.items()}

    def _record(self, batch: Batch, shape: Any) -> None:
        assert self.recorder is not None
        self.shape, self.batch = shape, tuple(part.clone() for part in batch)
        self.settings = _settings_of(self.optimizer)
        self.replay, self.terms = self.recorder.record(lambda: self.update(self.batch))


def check_capturable(optimizer: Optimizer) -> None:
    """Raise unless an optimizer's step can be recorded.

    Examples
    --------
    >>> weights = [torch.ones(1, requires_grad=True)]
    >>> check_capturable(torch.optim.SGD(weights, lr=0.1))
    >>> check_capturable(torch.optim.Adam(weights))
    Traceback (most recent call last):
    ValueError: graph=True needs an optimizer that counts its steps on the GPU: torch.optim.Adam(…, ...
    """
    if any(group.get("capturable") is False for group in optimizer.param_groups):
        raise ValueError(
            f"graph=True needs an optimizer that counts its steps on the GPU: torch.optim.{type(optimizer).__name__}"
            "(…, capturable=True). Otherwise a replayed step would repeat the count of the recorded one."
        )


def _shape_of(batch: Batch) -> Any:
    if not all(isinstance(part, Tensor) for part in batch):
        raise ValueError(
            "graph=True needs batches of tensors, because a recorded step reads the same memory each time, got "
            f"{[type(part).__name__ for part in batch]}. Train with graph=False."
        )
    return tuple((part.shape, part.dtype) for part in batch)


def _settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Plain numbers of each parameter group; a tensor is read on the device, where it may change."""
    return [
        {name: value for name, value in group.items() if isinstance(value, int | float | tuple)}
        for group in optimizer.param_groups
    ]
