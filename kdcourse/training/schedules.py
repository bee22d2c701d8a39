"""Temperature and alpha as functions of progress: what a training run turns by itself while it runs.

Chapter 07. A schedule takes progress in [0, 1] and returns a number. It remembers nothing, can be drawn, saved with
``pickle`` and called in any order; ``progress_of`` says where a step stands, and the last step stands at exactly 1.
"""

import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from .loop import Objective

Schedule = Callable[[float], float]
MakeScheduler = Callable[[Optimizer, int], LRScheduler]


def progress_of(step: int, total: int) -> float:
    """Progress of a step: 0 for the first, 1 for the last.

    Parameters
    ----------
    step : int
        In [0, total).
    total : int
        Count of steps (or epochs, or stages). A run of one step is at its end: progress 1.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If the run has no step at all, or this one is outside [0, total).

    Notes
    -----
    ``step / total`` would be below 1 at the last step: a schedule read there never shows its end value to any batch.

    Examples
    --------
    >>> [progress_of(step, total=5) for step in range(5)]
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if total < 1:
        raise ValueError(
            f"a run needs at least one step, got total={total}: of nothing there is no share that is done."
        )
    if not 0 <= step < total:
        raise ValueError(
            f"step must be in [0, {total}), got {step}. Steps are counted from 0, so the last one is {total - 1}."
        )
    return step / (total - 1) if total > 1 else 1.0


def constant(value: float) -> Schedule:
    """Return the schedule that stays at one value.

    Examples
    --------
    >>> constant(4)(0.3)
    4.0
    """
    _check_finite("value", value)
    return partial(_constant, value=float(value))


def linear(start: float, end: float) -> Schedule:
    """Return the schedule that goes from ``start`` at progress 0 to ``end`` at progress 1 in a straight line.

    Examples
    --------
    >>> temperature = linear(8, 2)
    >>> [temperature(progress) for progress in (0, 0.5, 1)]
    [8.0, 5.0, 2.0]
    """
    _check_finite("start", start)
    _check_finite("end", end)
    return partial(_linear, start=float(start), end=float(end))


def cosine(start: float, end: float) -> Schedule:
    r"""Return the schedule that leaves ``start`` and reaches ``end`` slowly, and is quickest half-way.

    .. math:: \text{end} + (\text{start} - \text{end}) \cdot \tfrac12 (1 + \cos \pi\,\text{progress})

    Examples
    --------
    >>> [round(cosine(8, 2)(progress), 2) for progress in (0, 0.25, 0.5, 1)]
    [8.0, 7.12, 5.0, 2.0]
    """
    _check_finite("start", start)
    _check_finite("end", end)
    return partial(_cosine, start=float(start), end=float(end))


def step(values: Sequence[float]) -> Schedule:
    """Return the schedule with stages of equal length, one per value.

    Parameters
    ----------
    values : sequence of float
        The first holds from progress 0 on, the last up to and including progress 1. Five stages from 10 down to 1
        are ``[10, 7.75, 5.5, 3.25, 1]``: the last *stage* trains at 1.

    Raises
    ------
    ValueError
        If there are no values or one is not finite.

    Examples
    --------
    >>> [step([10, 4, 1])(progress) for progress in (0, 0.3, 0.5, 0.9, 1)]
    [10.0, 10.0, 4.0, 1.0, 1.0]
    """
    if len(values) == 0:
        raise ValueError("step needs at least one value: each is one stage of the run, and there are none.")
    for value in values:
        _check_finite("every value", value)
    return partial(_step, values=tuple(float(value) for value in values))


def piecewise(points: Sequence[tuple[float, float]]) -> Schedule:
    """Return the schedule through given points, straight between them: what the schedule editor draws.

    Parameters
    ----------
    points : sequence of (progress, value)
        In order of progress, which starts at 0, ends at 1 and never repeats.

    Raises
    ------
    ValueError
        If there are fewer than two points, they do not run from progress 0 to 1 in strictly increasing order, or
        a value is not finite.

    Examples
    --------
    >>> pace = piecewise([(0, 0.1), (0.5, 1), (1, 1)])
    >>> [pace(progress) for progress in (0, 0.25, 0.5, 0.75)]
    [0.1, 0.55, 1.0, 1.0]
    """
    points = [(float(progress), float(value)) for progress, value in points]
    if len(points) < 2 or points[0][0] != 0 or points[-1][0] != 1:
        raise ValueError(
            f"points must run from progress 0 to progress 1, got {points}. Without both ends the schedule would not "
            "say what happens first or last."
        )
    for (before, _), (after, _) in pairwise(points):
        if not before < after:
            raise ValueError(
                f"points must be in order of progress, got {after} after {before}. Two values at one progress would "
                "leave open which of them holds."
            )
    for _, value in points:
        _check_finite("every value", value)
    return partial(_piecewise, points=tuple(points))


def learning_rate(factor: Schedule) -> MakeScheduler:
    """Return ``make_scheduler`` for a learning rate that is multiplied by a schedule.

    Parameters
    ----------
    factor : callable
        A schedule: 1 is the optimizer's own learning rate. A warm-up and a decay are
        ``piecewise([(0, 0.01), (0.1, 1), (1, 0)])``.

    Returns
    -------
    callable
        ``make_scheduler(optimizer, steps) -> torch.optim.lr_scheduler.LambdaLR``, for recipes and ``fit``.

    Examples
    --------
    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> scheduler = learning_rate(linear(1, 0))(optimizer, 5)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> optimizer.param_groups[0]["lr"]  # the third of five steps
    0.05
    """

    return partial(_make_scheduler, factor)


def scheduler_of(make_scheduler: MakeScheduler, optimizer: Optimizer, steps: int | None) -> LRScheduler:
    """Make a scheduler for a run of so many steps.

    Raises
    ------
    ValueError
        If the count of steps is not known, or the scheduler waits for a measurement.

    Examples
    --------
    >>> import torch
    >>> make = lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    >>> scheduler_of(make, torch.optim.SGD([torch.zeros(1)]), 10).total_steps
    10
    """
    if steps is None:
        raise ValueError(
            "a schedule needs the count of batches, and this loader has no length. Give its data set or the loader's "
            "class a __len__."
        )
    scheduler = make_scheduler(optimizer, steps)
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            "make_scheduler steps after each batch, and ReduceLROnPlateau waits for a measurement. Step it yourself "
            "at the end of evaluate(model), where the measurement is made."
        )
    return scheduler


class WithProgress:
    """An objective that is told how far training is, if it has a keyword ``progress``.

    Parameters
    ----------
    objective : callable
        ``objective(student, *batch, **knobs) -> dict[str, Tensor]``.
    steps : int, optional
        Count of steps of the whole run. If it is not known (None), the objective is told no progress.
    first_step : int
        Index of the step of the first call; not 0 when a run is continued.
    counts_calls : bool
        Whether each call is a step. If not, the owner sets ``step``: one step may take several calls.

    Examples
    --------
    >>> objective = WithProgress(lambda student, *, progress: {"share": progress}, steps=3)
    >>> [objective(None) for step in range(3)]
    [{'share': 0.0}, {'share': 0.5}, {'share': 1.0}]
    """

    def __init__(
        self, objective: Objective, steps: int | None, *, first_step: int = 0, counts_calls: bool = True
    ) -> None:
        self.objective, self.steps, self.step, self.counts_calls = objective, steps, first_step, counts_calls
        self.wanted = "progress" in inspect.signature(objective).parameters

    def __call__(self, student: nn.Module, *batch: Tensor, **knobs: Any) -> dict[str, Tensor]:
        """Call the objective for the next step."""
        if self.wanted and self.steps is not None:
            knobs["progress"] = progress_of(self.step, self.steps)
        self.step += self.counts_calls
        return self.objective(student, *batch, **knobs)


def _make_scheduler(factor: Schedule, optimizer: Optimizer, steps: int) -> LambdaLR:
    # After the last step a scheduler steps once more: that value trains nothing.
    return LambdaLR(optimizer, lambda step: factor(progress_of(min(step, steps - 1), steps)))


def _constant(progress: float, *, value: float) -> float:
    _check_progress(progress)
    return value


def _linear(progress: float, *, start: float, end: float) -> float:
    _check_progress(progress)
    return _between(start, end, progress)


def _cosine(progress: float, *, start: float, end: float) -> float:
    _check_progress(progress)
    return _between(start, end, 0.5 * (1 - math.cos(math.pi * progress)))


def _step(progress: float, *, values: tuple[float, ...]) -> float:
    _check_progress(progress)
    # Progress 1 belongs to the last stage, not to one after it.
    return values[min(int(progress * len(values)), len(values) - 1)]


def _piecewise(progress: float, *, points: tuple[tuple[float, float], ...]) -> float:
    _check_progress(progress)
    right = min(bisect_right(points, progress, key=lambda point: point[0]), len(points) - 1)
    (before, start), (after, end) = points[right - 1], points[right]
    return _between(start, end, (progress - before) / (after - before))


def _between(start: float, end: float, share: float) -> float:
    """Weighted mean that gives both ends exactly, without rounding."""
    return (1 - share) * start + share * end


def _check_progress(progress: float) -> None:
    if not 0 <= progress <= 1:
        raise ValueError(
            f"progress must be in [0, 1], got {progress}. It is the share of the run that is done: "
            "progress_of(step, total) computes it."
        )


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} of a schedule must be a finite number, got {value}.")
