"""The training loop: a generator that does not depend on the method. Chapters 01 and 02."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from ..data.parts import split_batch
from .graphs import CudaRecorder, Recorder, Replayed

Objective = Callable[..., dict[str, Tensor]]


@dataclass
class Knobs:
    """What a learner tunes while a student trains; an objective reads it anew at each step.

    Attributes
    ----------
    temperature : float
        T of the soft targets.
    alpha : float
        The share of the teacher's term, in [0, 1].

    Examples
    --------
    >>> knobs = Knobs(temperature=2.0)
    >>> knobs.alpha = 0.9  # between two steps, by a slider or a cell
    >>> knobs
    Knobs(temperature=2.0, alpha=0.9)
    """

    temperature: float = 4.0
    alpha: float = 0.7


@dataclass(frozen=True, slots=True)
class Step:
    """What one training step gives.

    Attributes
    ----------
    index : int
        Count of steps before this one.
    terms : dict from str to Tensor, each of shape ()
        The weighted terms of the loss, detached. They stay tensors: looking at a value waits for the device.

    Examples
    --------
    >>> Step(0, {"kd": torch.tensor(1.5), "ce": torch.tensor(0.5)}).loss
    tensor(2.)
    """

    index: int
    terms: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The sum of the terms, shape ()."""
        return torch.stack(list(self.terms.values())).sum()


def train(
    student: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    objective: Objective,
    optimizer: Optimizer,
    *,
    first_index: int = 0,
    accumulate: int = 1,
    clip_norm: float | None = None,
    autocast: torch.dtype | None = None,
    scaler: GradScaler | None = None,
    graph: bool = False,
) -> Iterator[Step]:
    """Train a student, one step at a time; the consumer decides when the next step happens.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    batches : iterable of tuples of Tensor
        Images, labels, then whatever the objective needs, sliced alike, on the student's device. A part may also be a
        list, such as a detector's images and targets.
    objective : callable
        ``objective(student, *batch) -> dict[str, Tensor]``: the weighted terms of the loss, each a scalar.
    optimizer : torch.optim.Optimizer
        Holds the student's parameters, and those of every learned part of the objective.
    first_index : int
        Index of the first step: not 0 when a run is continued.
    accumulate : int
        Pieces that a batch is split into, one after the other, for less memory at the same step. The gradient is that
        of the whole batch if the objective is a mean over samples (or over the tokens or pixels whose label is not
        -100). It is not with batch normalisation, class weights, or a loss that compares samples: they see a piece.
    clip_norm : float, optional
        Largest length of the gradient in all that the optimizer holds together; a longer one is scaled down to it.
    autocast : torch.dtype, optional
        Precision of the forward passes, such as ``torch.bfloat16``; see ``torch.autocast``.
    scaler : torch.amp.GradScaler, optional
        Scales the loss so that gradients in float16 do not vanish. The recorded terms are not scaled.
    graph : bool
        Whether on a CUDA device the whole step is recorded once and replayed, which saves launches where batches have
        one shape. It was tested with a recorder that stands for the GPU's, not yet on a GPU. All but the batch is
        recorded as it is: no knob, schedule or learning rate may change, unless it is a tensor changed in place. The
        optimizer needs ``capturable=True``. On other devices every step is an ordinary one.

    Yields
    ------
    Step
        After each update. Between two steps the consumer may evaluate, draw, change knobs, or stop.

    Raises
    ------
    ValueError
        If the objective returns no dict of scalars, if student and images are on different devices, if ``accumulate``
        or ``clip_norm`` is not positive, if ``graph`` meets what cannot be recorded, or if the loss of the first step
        reaches no trainable parameter, or one that the optimizer does not hold (a regressor or projection head that
        would never learn).

    Examples
    --------
    >>> import torch, torch.nn.functional as F
    >>> student = nn.Linear(2, 2)
    >>> batches = [(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]))] * 3
    >>> objective = lambda student, inputs, labels: {"ce": F.cross_entropy(student(inputs), labels)}
    >>> [step.index for step in train(student, batches, objective, torch.optim.SGD(student.parameters(), lr=0.1))]
    [0, 1, 2]
    """
    _check_step(accumulate, clip_norm)

    def update(batch: tuple[Tensor, ...], first: bool = False) -> dict[str, Tensor]:
        recorded: dict[str, Tensor] = {}
        optimizer.zero_grad()
        with torch.enable_grad():  # a consumer may stand inside no_grad; never yield in here
            for piece, share in [(batch, 1.0)] if accumulate == 1 else split_batch(batch, accumulate):
                with _autocast(student, autocast, cache=not graph):
                    terms = objective(student, *piece)
                    loss = sum_terms(terms)
                if first:
                    check_every_part_learns(loss, optimizer, student)
                loss = loss if accumulate == 1 else loss * share
                (loss if scaler is None else scaler.scale(loss)).backward()
                for name, term in terms.items():
                    value = term.detach()
                    recorded[name] = value if accumulate == 1 else recorded.get(name, 0) + value * share
        _step(optimizer, clip_norm, scaler)
        return recorded

    parts = [*student.modules()]
    later = Replayed(update, optimizer, recorder=recorder_for(student, scaler)) if graph else update
    for index, batch in enumerate(batches, start=first_index):
        if index == first_index:
            check_same_device(student, batch[0])
        if not all(part.training for part in parts):  # a consumer may have evaluated; asking is cheaper than setting
            student.train()
        yield Step(index, update(batch, first=True) if index == first_index else later(batch))


def recorder_for(student: nn.Module, scaler: GradScaler | None) -> Recorder | None:
    """Return what records a student's steps: nothing on a CPU.

    Raises
    ------
    ValueError
        If a scaler would have to read each step's gradients.

    Examples
    --------
    >>> print(recorder_for(nn.Linear(2, 2), None))
    None
    """
    if scaler is not None:
        raise ValueError(
            "graph=True cannot record a scaler, which looks at the gradients of each step. Use "
            "autocast=torch.bfloat16, which needs none."
        )
    device = next((parameter.device for parameter in student.parameters()), torch.device("cpu"))
    return CudaRecorder(device) if device.type == "cuda" else None


def _autocast(student: nn.Module, dtype: torch.dtype | None, *, cache: bool = True) -> AbstractContextManager[Any]:
    if dtype is None:
        return nullcontext()
    return torch.autocast(next(student.parameters()).device.type, dtype=dtype, cache_enabled=cache)


def _step(optimizer: Optimizer, clip_norm: float | None, scaler: GradScaler | None) -> None:
    """Clip the gradients and let the optimizer step; a scaler leaves the step out if a gradient overflowed."""
    if clip_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)  # first: the limit is meant for the gradients as they are
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(held, clip_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def _check_step(accumulate: int, clip_norm: float | None) -> None:
    if not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(f"accumulate must be a positive integer, got {accumulate!r}. A batch is split into so many.")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm}. It is the gradient's largest length.")


def sum_terms(terms: dict[str, Tensor]) -> Tensor:
    """Add the terms of an objective, and raise unless it returned a dict of scalars.

    Examples
    --------
    >>> sum_terms({"kd": torch.tensor(1.5), "ce": torch.tensor(0.5)})
    tensor(2.)
    """
    if not isinstance(terms, dict) or not terms:
        raise ValueError(
            f"an objective returns a dict of the loss's terms, such as {{'kd': …, 'ce': …}}, got "
            f"{type(terms).__name__}."
        )
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.dim() != 0:
            shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise ValueError(f"term {name!r} of the loss must be a scalar tensor, got {shape}. Take its mean.")
    total, *others = terms.values()
    for term in others:
        total = total + term
    return total


def check_same_device(model: nn.Module, images: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> None:
    """Raise if model and images are on devices of different kinds; inputs may also be a list, or a dict, of tensors.

    Examples
    --------
    >>> check_same_device(nn.Linear(2, 2), torch.rand(1, 2))
    >>> check_same_device(nn.Linear(2, 2), [torch.rand(2)])
    """
    if not isinstance(images, Tensor):
        images = next(iter(images.values())) if isinstance(images, Mapping) else images[0]
    kinds = {parameter.device.type for parameter in model.parameters()}
    if kinds and kinds != {images.device.type}:
        raise ValueError(
            f"the model is on {' and '.join(sorted(kinds))}, the images are on {images.device.type}. Move both to one "
            "device, as in model.to(device) and load_mnist(device=device)."
        )


def check_every_part_learns(loss: Tensor, optimizer: Optimizer, student: nn.Module) -> None:
    """Raise if the loss depends on a trainable leaf that no parameter group holds, or on none at all.

    Examples
    --------
    >>> student, regressor = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> loss = regressor(student(torch.rand(1, 2))).sum()
    >>> check_every_part_learns(loss, torch.optim.SGD([*student.parameters(), *regressor.parameters()]), student)
    """
    if not loss.requires_grad:
        raise ValueError(
            "the loss reaches no trainable parameter, so no step would change anything. Was the student's output "
            "detached, is every parameter frozen, or does the loop run inside torch.inference_mode()?"
        )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    forgotten, seen, stack = [], set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in held:
            forgotten.append(f"{names.get(id(leaf), 'a part of the objective')} {tuple(leaf.shape)}")
        stack.extend(parent for parent, _ in node.next_functions)
    if forgotten:
        raise ValueError(
            f"the loss reaches {len(forgotten)} trainable tensor(s) that the optimizer does not hold, so they would "
            f"never learn: {', '.join(sorted(forgotten)[:4])}. Hand them over, as in Adam([*student.parameters(), "
            "*regressor.parameters()]), or freeze them with requires_grad_(False)."
        )
