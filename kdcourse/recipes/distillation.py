"""One teacher, one student. Chapters 01 and 02."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, Unpack

from torch import Tensor, nn

from .._arguments import check_alpha, check_temperature
from ..data import Minibatches
from ..hashing import content_hash
from ..objectives import check_keywords, soft_target_objective, with_knobs
from ..training import History, Objective, TrainingOptions, predict_logits
from ..training.options import fit_with, takes_training_options
from ..training.schedules import Schedule, progress_of


@takes_training_options()
def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: tuple[Tensor, ...],
    *,
    temperature: float | Schedule = 4.0,
    alpha: float | Schedule = 0.7,
    objective: Objective = soft_target_objective,
    parts: Mapping[str, nn.Module] | None = None,
    **options: Unpack[TrainingOptions],
) -> History:
    """Distil a teacher into a student; the teacher's logits are computed once.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    teacher : nn.Module
        Not changed: neither its weights, nor its mode, nor its parameters' ``requires_grad``.
    data : tuple of (images, labels) or (images, labels, ...)
        Shapes (N, ...) and (N,), on the device of both models, such as ``load_mnist().train``; further tensors are
        aligned by sample and reach the objective after the teacher's logits.
    temperature, alpha : float, or schedule
        T > 0; the share of the teacher's term, in [0, 1]. A schedule from ``kdcourse.training.schedules`` turns the
        knob while training runs.
    objective : callable
        ``objective(student, images, labels, teacher_logits, ..., **knobs) -> dict[str, Tensor]``, the weighted terms
        of the loss. It gets ``temperature`` and ``alpha`` if it has keywords for them.
    parts : mapping from str to nn.Module, optional
        What the objective learns or remembers (a regressor, projections, a memory). Each part reaches the objective
        as the keyword of its name, the optimizer its parameters, a checkpoint its state.
    **options
        Any of :class:`kdcourse.training.TrainingOptions`: epochs, seed and so on.

    Returns
    -------
    History
        With one entry per term of the objective, already weighted: ``kd`` and ``ce`` by default.

    Raises
    ------
    ValueError
        If a knob is out of range, student and teacher share parameters, they disagree in the number of classes, or
        the checkpoint was begun with another teacher.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 2.

    Examples
    --------
    >>> import torch
    >>> from kdcourse.models import make_mlp
    >>> history = distill(make_mlp(4), make_mlp(8), (torch.rand(8, 1, 28, 28), torch.arange(8)), epochs=1)
    >>> list(history.terms)
    ['kd', 'ce']
    """
    check_nothing_shared(student, teacher)
    # Once, and keyed by sample: nothing augments the images, so the teacher's logits never change.
    teacher_logits = predict_logits(teacher, data[0])  # (N, K)
    return distill_from_logits(
        student, teacher, teacher_logits, data, temperature=temperature, alpha=alpha, objective=objective, parts=parts,
        options=options,
    )  # fmt: skip


def distill_from_logits(
    student: nn.Module,
    teacher: nn.Module,
    teacher_logits: Tensor,
    data: tuple[Tensor, ...],
    *,
    temperature: float | Schedule,
    alpha: float | Schedule,
    objective: Objective,
    parts: Mapping[str, nn.Module] | None = None,
    options: TrainingOptions,
    settings: Mapping[str, Any] | None = None,
    make_batches: Callable[..., Minibatches] = Minibatches,
) -> History:
    """Do what ``distill`` does once the teacher has spoken; ``settings`` and ``make_batches`` are those of ``fit``.

    Examples
    --------
    >>> import torch
    >>> from kdcourse.training.options import DEFAULTS
    >>> images, labels = torch.rand(8, 2), torch.arange(8) % 2
    >>> student, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> history = distill_from_logits(
    ...     student, teacher, predict_logits(teacher, images), (images, labels), temperature=4.0, alpha=0.9,
    ...     objective=soft_target_objective, options=DEFAULTS | {"epochs": 3, "batch_size": 4},
    ... )
    >>> history.steps
    6
    """
    batch_size, epochs, drop_last = options["batch_size"], options["epochs"], options["drop_last"]
    steps = len(Minibatches(*data, batch_size=batch_size, epochs=epochs, drop_last=drop_last))
    for step in range(steps):  # before training, not in the middle of it
        check_temperature(_value_at(temperature, progress_of(step, steps)))
        check_alpha(_value_at(alpha, progress_of(step, steps)))
    parts = dict(parts or {})
    check_keywords(objective, parts)
    images, labels, *more = data
    return fit_with(
        options,
        student,
        (images, labels, teacher_logits, *more),
        with_knobs(partial(objective, **parts), SimpleNamespace(temperature=temperature, alpha=alpha)),
        [parameter for module in (student, *parts.values()) for parameter in module.parameters()],
        parts=parts,
        settings={
            "temperature": sampled(temperature), "alpha": sampled(alpha), **(settings or {}),
            "teacher": content_hash(teacher.state_dict()) if options["checkpoint"] else "",
        },
        make_batches=make_batches,
    )  # fmt: skip


def check_nothing_shared(student: nn.Module, other: nn.Module, what: str = "student and teacher") -> None:
    """Raise if two models share a parameter: then one would move as the other learns, and there is nothing to teach.

    Examples
    --------
    >>> check_nothing_shared(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> model = nn.Linear(2, 2)
    >>> check_nothing_shared(model, nn.Sequential(model))
    Traceback (most recent call last):
    ...
    ValueError: student and teacher share 2 parameter(s). ...
    """
    shared = {id(p) for p in student.parameters()} & {id(p) for p in other.parameters()}
    if student is other or shared:
        raise ValueError(
            f"{what} share {'one object' if student is other else f'{len(shared)} parameter(s)'}. A model cannot be "
            "its own teacher: the difference between the two would vanish or follow every step. Use "
            "copy.deepcopy(model) for the one that should stay."
        )


def sampled(knob: float | Schedule) -> float | str:
    """Return a schedule as the values it takes: two that agree in them are the same to a checkpoint.

    Examples
    --------
    >>> sampled(4.0), sampled(lambda progress: 1 - progress)
    (4.0, '1 0.9 0.8 0.7 0.6 0.5 0.4 0.3 0.2 0.1 0')
    """
    return " ".join(f"{knob(tenth / 10):g}" for tenth in range(11)) if callable(knob) else knob


def _value_at(knob: float | Schedule, progress: float) -> float:
    return knob(progress) if callable(knob) else knob
