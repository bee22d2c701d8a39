"""The training loop, a generator that never learns a method's name; and what stands around it.

Chapters 01 and 02. ``train`` is the loop; ``fit`` adds a progress bar, history, checkpoint and exact resume.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ._checkpoints import load_checkpoint, save_checkpoint
from ._checkpoints import write_whole as write_whole
from .data.batches import Minibatches, Transform
from .devices import choose_threads as choose_threads
from .devices import pick_device as pick_device
from .devices import seed_everything as seed_everything
from .devices import threads_asked_for as threads_asked_for

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
) -> Iterator[Step]:
    """Train a student, one step at a time; the consumer decides when the next step happens.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    batches : iterable of tuples of Tensor
        Images, labels, then whatever the objective needs, sliced alike, on the student's device.
    objective : callable
        ``objective(student, *batch) -> dict[str, Tensor]``: the weighted terms of the loss, each a scalar.
    optimizer : torch.optim.Optimizer
        Holds the student's parameters, and those of every learned part of the objective.
    first_index : int
        Index of the first step: not 0 when a run is continued.

    Yields
    ------
    Step
        After each update. Between two steps the consumer may evaluate, draw, change knobs, or stop.

    Raises
    ------
    ValueError
        If the objective returns no dict of scalars, if student and images are on different devices, or if the loss
        of the first step reaches no trainable parameter, or one that the optimizer does not hold (a regressor or
        projection head that would never learn).

    Examples
    --------
    >>> import torch, torch.nn.functional as F
    >>> student = nn.Linear(2, 2)
    >>> batches = [(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]))] * 3
    >>> objective = lambda student, inputs, labels: {"ce": F.cross_entropy(student(inputs), labels)}
    >>> [step.index for step in train(student, batches, objective, torch.optim.SGD(student.parameters(), lr=0.1))]
    [0, 1, 2]
    """
    for index, batch in enumerate(batches, start=first_index):
        if index == first_index:
            _check_same_device(student, batch[0])
        student.train()  # a consumer may have evaluated in between
        with torch.enable_grad():  # and may stand inside no_grad; never yield in here
            terms = objective(student, *batch)
            loss = _total(terms)
            if index == first_index:
                _check_every_part_learns(loss, optimizer, student)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        yield Step(index, {name: term.detach() for name, term in terms.items()})


class Stateful(Protocol):
    """Anything with ``state_dict`` and ``load_state_dict``, such as a learning-rate scheduler."""

    def state_dict(self) -> Any:
        """Return what is needed to continue."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Continue from it."""


@dataclass
class History:
    """What ``fit`` recorded.

    Attributes
    ----------
    terms : dict from str to Tensor, each of shape (steps,)
        Each weighted term of the loss at each step, on the CPU.
    evaluations : list of dict from str to float
        What ``evaluate`` returned after each epoch.
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    evaluations: list[dict[str, float]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Count of steps recorded."""
        return max((len(values) for values in self.terms.values()), default=0)


def fit(
    student: nn.Module,
    data: Iterable[Tensor],
    objective: Objective,
    optimizer: Optimizer,
    *,
    epochs: int,
    batch_size: int = 128,
    seed: int = 0,
    augment: Transform | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    after_step: Callable[[Step], None] | None = None,
    stateful: Mapping[str, Stateful] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: float = 30.0,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
    make_batches: Callable[..., Minibatches] = Minibatches,
) -> History:
    """Run ``train`` over shuffled epochs with a progress bar, history, checkpoints and exact resume.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    data : tuple of Tensor, each of shape (N, ...)
        Images, labels and further tensors aligned by sample, such as cached teacher logits.
    objective, optimizer
        As in ``train``.
    epochs, batch_size : int
        Passes over the data, and samples per step.
    seed : int
        Owner of the order of samples and of the augmentation. It is independent of torch's global generator,
        which dropout and weight initialisation draw from (``torch.manual_seed``).
    augment : callable, optional
        ``augment(images, generator) -> images``, such as ``kdcourse.data.jitter``.
    evaluate : callable, optional
        ``evaluate(student) -> dict[str, float]``, called after each epoch.
    after_step : callable, optional
        ``after_step(step)``, called after each step: a scheduler, a weight constraint, a weight average.
    stateful : mapping from str to object with state_dict, optional
        What ``after_step`` or the objective remembers (scheduler, weight average, contrastive memory, hint
        regressor), saved and restored with the checkpoint.
    checkpoint : path, optional
        Written whole or not at all, every ``checkpoint_seconds`` and at the end. If the file exists, training
        continues from it and ends in the same bits as if it had never been stopped.
    checkpoint_seconds : float
        Time between checkpoints, in seconds.
    settings : mapping from str to number or str, optional
        Further settings that a checkpoint must agree in, such as the objective's temperature and alpha.
    progress : bool
        Show a progress bar.
    make_batches : callable
        Called as ``Minibatches`` is, for another order of the samples, such as a curriculum.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        As ``train`` and ``Minibatches`` do, or if the checkpoint was written by a run with other settings.
    FloatingPointError
        If the loss stops being finite; the message names the epoch and the term.
    """
    data = tuple(data)
    generator = torch.Generator().manual_seed(seed)
    batches = make_batches(*data, batch_size=batch_size, epochs=epochs, generator=generator, augment=augment)
    parts: dict[str, Any] = {"student": student, "optimizer": optimizer, "batches": batches}
    parts |= {f"stateful.{name}": part for name, part in (stateful or {}).items()}
    settings = {
        **(settings or {}),
        "epochs": epochs, "batch_size": batch_size, "seed": seed, "samples": len(data[0]), "augment": bool(augment),
        "parameters": [list(parameter.shape) for parameter in student.parameters()],
    }  # fmt: skip
    history, recorded = History(), []
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        history = History(**load_checkpoint(path, parts, settings))

    saved_at = time.monotonic()
    with _progress_bar(total=len(batches), done=history.steps, show=progress) as bar:
        for step in train(student, batches, objective, optimizer, first_index=history.steps):
            recorded.append(step.terms)
            if after_step is not None:
                after_step(step)
            bar.update()
            if batches.batch == 0:  # an epoch has ended
                _record(history, recorded)
                _check_finite(history, batches)
                if evaluate is not None:
                    history.evaluations.append(evaluate(student))
                    bar.set_postfix(history.evaluations[-1], refresh=False)
            if path is not None and time.monotonic() - saved_at > checkpoint_seconds:
                _record(history, recorded)
                _check_finite(history, batches)  # a broken student must not replace a good checkpoint
                save_checkpoint(path, parts, settings, vars(history))
                saved_at = time.monotonic()
    if path is not None:
        save_checkpoint(path, parts, settings, vars(history))
    return history


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models in evaluation mode without gradients; afterwards every module has the mode it had before."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def predict_logits(model: nn.Module, images: Tensor, *, batch_size: int = 2000) -> Tensor:
    """Return a model's logits for many images, in evaluation mode and without gradients; the mode is restored.

    Parameters
    ----------
    model : nn.Module
        Its mode, module by module, is the same afterwards.
    images : Tensor, shape (N, ...)
    batch_size : int
        Images per forward pass.

    Returns
    -------
    Tensor, shape (N, K)
        Row i belongs to image i: aligned with ``images``, so that it can be batched beside them.

    Raises
    ------
    ValueError
        If there are no images, or they are on another device than the model.
    """
    if len(images) == 0:
        raise ValueError("predict_logits needs at least one image, got none.")
    _check_same_device(model, images)
    with evaluating(model):
        return torch.cat([model(part) for part in images.split(batch_size)])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 2000) -> float:
    """Share of images whose largest logit is the label's, in [0, 1], over all images at once.

    Parameters
    ----------
    model : nn.Module
        Evaluated in evaluation mode, which is restored afterwards.
    images : Tensor, shape (N, ...)
    labels : Tensor of int, shape (N,)
    batch_size : int
        Images per forward pass; it does not change the result.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no images or another number of labels.
    """
    return 1 - count_errors(model, images, labels, batch_size=batch_size) / len(labels)


def count_errors(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 2000) -> int:
    """Count the images whose largest logit is not the label's; see ``accuracy``."""
    if labels.shape != images.shape[:1]:
        raise ValueError(f"one label per image is needed, got {tuple(labels.shape)} for {len(images)} images.")
    return int((predict_logits(model, images, batch_size=batch_size).argmax(dim=-1) != labels).sum())


def _total(terms: dict[str, Tensor]) -> Tensor:
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


def _check_same_device(model: nn.Module, images: Tensor) -> None:
    """Raise if model and images are on devices of different kinds."""
    kinds = {parameter.device.type for parameter in model.parameters()}
    if kinds and kinds != {images.device.type}:
        raise ValueError(
            f"the model is on {' and '.join(sorted(kinds))}, the images are on {images.device.type}. Move both to one "
            "device, as in model.to(device) and load_mnist(device=device)."
        )


def _check_every_part_learns(loss: Tensor, optimizer: Optimizer, student: nn.Module) -> None:
    """Raise if the loss depends on a trainable leaf that no parameter group holds, or on none at all."""
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


def _record(history: History, recorded: list[dict[str, Tensor]]) -> None:
    """Move the terms of the steps since last time to the CPU, one transfer per term; an absent term counts 0."""
    before, zero = history.steps, torch.zeros(())
    for name in {name: None for terms in [history.terms, *recorded] for name in terms}:
        there = [index for index, terms in enumerate(recorded) if name in terms]
        values = zero.repeat(len(recorded))
        if there:
            values[there] = torch.stack([recorded[index][name] for index in there]).float().cpu()
        history.terms[name] = torch.cat([history.terms.get(name, zero.repeat(before)), values])
    recorded.clear()


def _check_finite(history: History, batches: Minibatches) -> None:
    """Raise if a term stopped being finite, naming the one that did so first."""
    broken = {name: (~torch.isfinite(values)).nonzero() for name, values in history.terms.items()}
    first = {name: int(steps[0]) for name, steps in broken.items() if len(steps)}
    if first:
        name = min(first, key=lambda name: first[name])
        raise FloatingPointError(
            f"term {name!r} became infinite or NaN in epoch {first[name] // batches.batches_per_epoch + 1}, at step "
            f"{first[name]}. A smaller learning rate or weight usually helps; the checkpoint, if any, is from before."
        )


def _progress_bar(*, total: int, done: int, show: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, initial=done, disable=not show, leave=False, unit="step", mininterval=0.25)
