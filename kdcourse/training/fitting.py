"""``fit``: the loop over epochs with a progress bar, history, checkpoints and exact resume. Chapter 01."""

import copy
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from .._moved import renamed
from ..data.batches import Minibatches, Transform
from ..data.loaders import LoaderBatches, make_batches_of
from ..data.parts import Unpack
from ..hashing import content_hash
from ..models.outputs import call
from .checkpoints import check_can_be_saved, load_checkpoint, save_checkpoint, settings_of
from .devices import device_of
from .loop import Objective, Step, train
from .progress import progress_bar
from .schedules import MakeScheduler, WithProgress, scheduler_of
from .stopping import KeepBest


class Stateful(Protocol):
    """Anything with ``state_dict`` and ``load_state_dict``, such as a learning-rate scheduler.

    Examples
    --------
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> part: Stateful = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)
    >>> part.load_state_dict(part.state_dict())
    """

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

    Examples
    --------
    >>> History(terms={"kd": torch.tensor([0.9, 0.5]), "ce": torch.tensor([2.3, 2.1])}).steps
    2
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    evaluations: list[dict[str, float]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Count of steps recorded."""
        return max((len(values) for values in self.terms.values()), default=0)


@renamed(stateful="parts")
def fit(
    student: nn.Module,
    data: Any,
    objective: Objective,
    optimizer: Optimizer,
    *,
    epochs: int,
    batch_size: int = 128,
    seed: int = 0,
    drop_last: bool = False,
    augment: Transform | None = None,
    unpack: Unpack | None = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    autocast: torch.dtype | None = None,
    scaler: GradScaler | None = None,
    make_scheduler: MakeScheduler | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    keep_best: KeepBest | None = None,
    after_step: Callable[[Step], None] | None = None,
    parts: Mapping[str, Stateful] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: float = 30.0,
    more_epochs: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
    make_batches: Callable[..., Minibatches] = Minibatches,
) -> History:
    """Run ``train`` over epochs with a progress bar, history, checkpoints and exact resume.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    data : tuple of Tensor or NumPy array, DataLoader, Dataset, or iterable of batches
        In memory: images, labels and further tensors aligned by sample, shape (N, ...), such as cached teacher logits,
        on the student's device. Batches of anything else are moved there; see
        :class:`kdcourse.data.loaders.LoaderBatches`.
    objective : callable
        As in ``train``. If it has a keyword ``progress``, it gets how far training is, from 0 to 1, where the count of
        batches is known.
    optimizer : torch.optim.Optimizer
        As in ``train``.
    epochs, batch_size, seed, drop_last, augment, unpack, accumulate, clip_norm, autocast, scaler, make_scheduler, \
    evaluate, keep_best, checkpoint, more_epochs, progress
        As in :class:`kdcourse.training.TrainingOptions`.
    after_step : callable, optional
        ``after_step(step)``, called after each step: a weight constraint, a weight average.
    parts : mapping from str to object with state_dict, optional
        What the objective or ``after_step`` learns or remembers (hint regressor, contrastive memory, weight average),
        saved in the checkpoint and restored from it.
    checkpoint_seconds : float
        Time between checkpoints, in seconds.
    settings : mapping from str to number or str, optional
        Further settings that a checkpoint must agree in, such as the objective's temperature and alpha.
    make_batches : callable
        Called as ``Minibatches`` is, for another order of the samples, such as a curriculum.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        As ``train``, ``Minibatches`` and ``LoaderBatches`` do, or if the checkpoint was written by a run with other
        settings.
    FloatingPointError
        If the loss stops being finite; the message names the epoch and the term.

    Notes
    -----
    A checkpoint of tensors knows the content of the data. Of a loader it knows the kind of data set, the count of
    samples and the batch size: that the samples are the same is then the caller's word.

    Examples
    --------
    >>> from kdcourse.objectives import label_objective
    >>> student, data = nn.Linear(3, 10), (torch.rand(20, 3), torch.arange(20) % 10)
    >>> optimizer = torch.optim.Adam(student.parameters())
    >>> fit(student, data, label_objective, optimizer, epochs=2, batch_size=5, progress=False).steps
    8
    """
    generator = torch.Generator().manual_seed(seed)
    batches = make_batches_of(
        data, batch_size=batch_size, epochs=epochs, drop_last=drop_last, generator=generator, augment=augment,
        unpack=unpack, device=device_of(student), make_batches=make_batches,
    )  # fmt: skip
    _check_last_batch(student, batches)
    total = count_batches(batches)
    saved: dict[str, Any] = {"student": student, "optimizer": optimizer, "batches": batches}
    saved |= {f"parts.{name}": part for name, part in (parts or {}).items()}
    scheduler = None if make_scheduler is None else scheduler_of(make_scheduler, optimizer, total)
    if keep_best is not None:
        keep_best.begin(evaluate)
    others = {"scheduler": scheduler, "scaler": scaler, "best": keep_best}
    saved |= {name: part for name, part in others.items() if part is not None}
    history, recorded = History(), []
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        described = {
            **(settings or {}), "epochs": epochs, "batch_size": batch_size, "seed": seed, "drop_last": drop_last,
            "augment": augment is not None, "order": content_hash(augment, make_batches, addresses=False)[:12],
            "parameters": [list(parameter.shape) for parameter in student.parameters()],
            "update": content_hash(accumulate, clip_norm, str(autocast), make_scheduler, addresses=False)[:12],
        }  # fmt: skip
        belongs_to = settings_of(objective, optimizer, batches, others=described)
        if path.exists():
            history = History(**load_checkpoint(path, saved, belongs_to, more_epochs=more_epochs))
        check_can_be_saved(path, saved)

    objective = WithProgress(objective, total, first_step=history.steps, counts_calls=False)
    saved_at = time.monotonic()
    bar = progress_bar(total=total, done=history.steps, show=progress)
    left: Iterable[Any] = () if keep_best is not None and keep_best.stopped else batches
    with bar, _explaining_a_last_batch_of_one(batches):
        for step in train(
            student, left, objective, optimizer, first_index=history.steps, accumulate=accumulate,
            clip_norm=clip_norm, autocast=autocast, scaler=scaler,
        ):  # fmt: skip
            objective.step = step.index + 1
            recorded.append(step.terms)
            if scheduler is not None:
                scheduler.step()
            if after_step is not None:
                after_step(step)
            bar.update()
            if batches.batch == 0:  # an epoch has ended
                _record(history, recorded)
                _check_finite(history, batches)
                if evaluate is not None:
                    history.evaluations.append(_as_numbers(evaluate(student)))
                    bar.set_postfix(history.evaluations[-1], refresh=False)
                    if keep_best is not None:
                        keep_best.see(batches.epoch, history.evaluations[-1], student)
            if path is not None and time.monotonic() - saved_at > checkpoint_seconds:
                _record(history, recorded)
                _check_finite(history, batches)  # a broken student must not replace a good checkpoint
                save_checkpoint(path, saved, belongs_to, vars(history))
                saved_at = time.monotonic()
            if keep_best is not None and keep_best.stopped:
                break
    if path is not None:
        save_checkpoint(path, saved, belongs_to, vars(history))
    if keep_best is not None:
        keep_best.restore(student)
    return history


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


def _as_numbers(evaluation: dict[str, float]) -> dict[str, float]:
    """What ``evaluate`` returned, with Python's numbers for those of NumPy and torch: a checkpoint keeps no others."""
    try:
        return {
            str(name): int(value) if isinstance(value, Integral) else float(value) for name, value in evaluation.items()
        }
    except (AttributeError, TypeError, ValueError, RuntimeError):
        raise ValueError(f"evaluate must return a dict from str to number, got {evaluation!r:.200}.") from None


def count_batches(batches: Minibatches | LoaderBatches) -> int | None:
    """Return the count of batches in all epochs, or None where a loader does not say.

    Examples
    --------
    >>> count_batches(Minibatches(torch.zeros(5), batch_size=2, epochs=3))
    9
    """
    try:
        return len(batches)
    except TypeError:
        return None


def _check_last_batch(student: nn.Module, batches: Minibatches | LoaderBatches) -> None:
    """Raise before an epoch is spent if a batch normalisation cannot learn from a last batch of one sample."""
    norms = nn.modules.batchnorm._BatchNorm
    if batches.last_batch_size != 1 or not any(isinstance(module, norms) for module in student.modules()):
        return
    inputs = batches.first_inputs()
    if inputs is None:
        return
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        try:
            call(copy.deepcopy(student).train(), inputs)
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                raise ValueError(_LAST_BATCH_OF_ONE) from None


@contextmanager
def _explaining_a_last_batch_of_one(batches: Minibatches | LoaderBatches) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if batches.last_batch_size == 1 and batches.batch == 0:
            error.add_note(_LAST_BATCH_OF_ONE)
        raise


_LAST_BATCH_OF_ONE = (
    "The last batch of each epoch has one sample, from which a batch normalisation cannot learn, nor a loss that "
    "compares samples. Leave it out with drop_last=True, or take another batch_size."
)


def _check_finite(history: History, batches: Minibatches | LoaderBatches) -> None:
    """Raise if a term stopped being finite, naming the one that did so first."""
    broken = {name: (~torch.isfinite(values)).nonzero() for name, values in history.terms.items()}
    first = {name: int(steps[0]) for name, steps in broken.items() if len(steps)}
    if first:
        name = min(first, key=lambda name: first[name])
        epoch = first[name] // batches.batches_per_epoch if batches.batches_per_epoch else batches.epoch
        raise FloatingPointError(
            f"term {name!r} became infinite or NaN in epoch {epoch + 1}, at step "
            f"{first[name]}. A smaller learning rate or weight usually helps; the checkpoint, if any, is from before."
        )
