"""The options that every recipe takes alike, declared once; and the optimizer that recipes make by default.

Chapters 01 to 09.
"""

import difflib
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar, cast

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from ..data.batches import Transform
from ..data.parts import Unpack
from .fitting import History, fit
from .loop import Objective
from .schedules import MakeScheduler
from .stopping import KeepBest

P = ParamSpec("P")
R = TypeVar("R")
MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]
Evaluate = Callable[[nn.Module], dict[str, float]]


def make_adam(
    parameters: list[nn.Parameter], *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Build the course's default optimizer: Adam, one fused update per step.

    Parameters
    ----------
    parameters : list of nn.Parameter
    lr : float
        Learning rate.
    betas : tuple of two floats
        Shares of the running means of gradients, and of their squares, that stay after a step, each in [0, 1). With
        0.999 Adam remembers the sizes of the last thousand gradients, with 0.99 those of the last hundred.

    Examples
    --------
    >>> optimizer = make_adam(list(nn.Linear(2, 2).parameters()), lr=0.01)
    >>> optimizer.param_groups[0]["lr"]
    0.01
    """
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)


class TrainingOptions(TypedDict, total=False):
    """What every recipe takes by keyword; the defaults are in its signature.

    Attributes
    ----------
    epochs : int
        Passes over the data.
    batch_size : int
        Samples per step.
    seed : int
        Seeds the sample order and the augmentation. It is independent of torch's global generator, which dropout and
        weight initialisation draw from (``torch.manual_seed``).
    make_optimizer : callable
        ``make_optimizer(parameters) -> Optimizer``, such as ``make_adam``.
    drop_last : bool
        Whether a smaller last batch of an epoch is left out, as a last batch of one sample often has to be.
    augment : callable, optional
        ``augment(images, generator) -> images``, such as ``kdcourse.data.jitter``.
    unpack : callable, optional
        ``unpack(batch) -> (inputs, labels, ...)`` for the batches of a loader; by default a tuple is taken as it is,
        and a dict by :func:`kdcourse.data.parts.unpack_batch`.
    accumulate, clip_norm, autocast, scaler
        How a step is taken: in how many pieces, with which limit to the gradient, in which precision. As in ``train``.
    make_scheduler : callable, optional
        ``make_scheduler(optimizer, steps)``, a learning-rate scheduler that steps after each batch: one of torch's, or
        ``learning_rate(schedule)``.
    evaluate : callable, optional
        ``evaluate(model) -> dict[str, float]``, called after each epoch.
    keep_best : KeepBest, optional
        Which evaluation counts; the run ends with the weights of the best one, and early if patience runs out.
    checkpoint : path, optional
        A file that is written atomically while training runs. If it exists, training continues from it and ends in
        the same bits as if it had never been stopped.
    more_epochs : bool
        Whether a checkpoint of the same run with fewer epochs is continued. Schedules then follow the new length. A
        scheduler that fixed its own length, such as ``OneCycleLR``, cannot go on.
    progress : bool
        Whether a progress bar is shown.

    Examples
    --------
    >>> from kdcourse.models import make_mlp
    >>> from kdcourse.recipes import distill
    >>> data = torch.rand(8, 1, 28, 28), torch.arange(8)
    >>> distill(make_mlp(4), make_mlp(8), data, epochs=3, batch_size=4).steps
    6
    """

    epochs: int
    batch_size: int
    seed: int
    make_optimizer: MakeOptimizer
    drop_last: bool
    augment: Transform | None
    unpack: Unpack | None
    accumulate: int
    clip_norm: float | None
    autocast: torch.dtype | None
    scaler: GradScaler | None
    make_scheduler: MakeScheduler | None
    evaluate: Evaluate | None
    keep_best: KeepBest | None
    checkpoint: str | os.PathLike | None
    more_epochs: bool
    progress: bool


DEFAULTS = TrainingOptions(
    epochs=5, batch_size=128, seed=0, make_optimizer=make_adam, drop_last=False, augment=None, unpack=None,
    accumulate=1, clip_norm=None, autocast=None, scaler=None, make_scheduler=None, evaluate=None, keep_best=None,
    checkpoint=None, more_epochs=False, progress=False,
)  # fmt: skip


def takes_training_options(**other_defaults: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Complete the ``**options`` of a recipe from the defaults, and show them in its signature.

    Parameters
    ----------
    **other_defaults
        Defaults in which this recipe differs.

    Returns
    -------
    callable
        A decorator. The recipe raises a ``TypeError`` that names the nearest option for a name that is unknown.

    Examples
    --------
    >>> @takes_training_options(epochs=1)
    ... def recipe(student, **options):
    ...     return options["epochs"], options["batch_size"]
    >>> recipe(None, batch_size=16)
    (1, 16)
    >>> recipe(None, epoch=2)
    Traceback (most recent call last):
    ...
    TypeError: recipe() takes no argument 'epoch'. Did you mean 'epochs'?
    """
    defaults = {**DEFAULTS, **other_defaults}

    def decorate(recipe: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(recipe)
        *own, options = signature.parameters.values()
        assert options.kind is options.VAR_KEYWORD
        shown = [options.replace(name=name, kind=options.KEYWORD_ONLY, default=value, annotation=_ANNOTATIONS[name])
                 for name, value in defaults.items()]  # fmt: skip
        names = [parameter.name for parameter in [*own, *shown]]

        @functools.wraps(recipe)
        def complete(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in names:
                    raise TypeError(f"{recipe.__name__}() takes no argument {name!r}. {_advice(name, names)}")
            return recipe(*args, **cast(Any, defaults | kwargs))

        complete.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]
        return complete

    return decorate


def fit_with(
    options: TrainingOptions,
    student: nn.Module,
    data: Any,
    objective: Objective,
    parameters: list[nn.Parameter],
    **more: Any,
) -> History:
    """Call ``fit`` with a recipe's options, and with an optimizer made for these parameters.

    Parameters
    ----------
    options : TrainingOptions
        All of them.
    student, data, objective
        As in ``fit``.
    parameters : list of nn.Parameter
        The student's, and those of every learned part of the objective.
    **more
        Further arguments of ``fit``.

    Examples
    --------
    >>> from kdcourse.objectives import label_objective
    >>> student, data = nn.Linear(3, 10), (torch.rand(20, 3), torch.arange(20) % 10)
    >>> options: TrainingOptions = {**DEFAULTS, "epochs": 1}
    >>> fit_with(options, student, data, label_objective, list(student.parameters())).steps
    1
    """
    rest = {name: value for name, value in options.items() if name != "make_optimizer"}
    return fit(student, data, objective, options["make_optimizer"](parameters), **cast(Any, rest | more))


_ANNOTATIONS = TrainingOptions.__annotations__
_OLD_NAMES = {"make_objective": "objective", "learned_parts": "parts", "optimizer": "make_optimizer"}


def _advice(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    likely = _OLD_NAMES.get(name, near[0] if near else "")
    return f"Did you mean {likely!r}?" if likely in names else f"It takes {', '.join(names)}."
