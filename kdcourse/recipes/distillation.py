"""One teacher, one student. Chapters 01, 02 and 13."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from .._arguments import check_alpha, check_temperature
from ..data import Minibatches
from ..data.batches import check_nothing_cached
from ..data.loaders import as_tensors, make_batches_of
from ..models.outputs import Outputs
from ..objectives import check_keywords, soft_target_objective, takes_keyword, with_knobs
from ..training import History, Objective, TrainingOptions, predict_logits
from ..training.fitting import count_batches
from ..training.loop import check_same_device
from ..training.options import fit_with, takes_training_options
from ..training.schedules import Schedule, progress_of
from .teachers import Teacher, as_teacher, teacher_hash


@takes_training_options()
def distill(
    student: nn.Module,
    teacher: Any,
    data: Any,
    *,
    temperature: float | Schedule = 4.0,
    alpha: float | Schedule = 0.7,
    objective: Objective = soft_target_objective,
    parts: Mapping[str, nn.Module] | None = None,
    outputs: Outputs | None = None,
    **options: Unpack[TrainingOptions],
) -> History:
    """Distil a teacher into a student.

    Of data in memory the teacher's logits are computed once. With a loader, or with ``augment``, the teacher is asked
    at each step, about the very view that the student sees.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    teacher : nn.Module, function, scikit-learn classifier, ONNX session, or Tensor
        Anything that :func:`as_teacher` takes; or its logits, (N, K), for data in memory. Not changed: neither its
        weights, nor its mode, nor its parameters' ``requires_grad``.
    data : tuple of (images, labels) or (images, labels, ...), DataLoader, Dataset, or iterable of batches
        In memory: shapes (N, ...) and (N,), tensors on the device of both models or NumPy arrays, such as
        ``load_mnist().train``; further tensors are aligned by sample and reach the objective after the teacher's
        logits. Batches of anything else are tuples of the same parts, or dicts (see ``unpack``).
    temperature, alpha : float, or schedule
        T > 0; the share of the teacher's term, in [0, 1]. A schedule from ``kdcourse.training.schedules`` turns the
        knob while training runs.
    objective : callable
        ``objective(student, images, labels, teacher_logits, ..., **knobs) -> dict[str, Tensor]``, the weighted terms
        of the loss. It gets ``temperature`` and ``alpha`` if it has keywords for them.
    parts : mapping from str to nn.Module, optional
        What the objective learns or remembers (a regressor, projections, a memory). Each part reaches the objective
        as the keyword of its name, the optimizer its parameters, a checkpoint its state.
    outputs : str, int or callable, optional
        Where the logits are in what the student, and a teacher that is a module, return, if it is no tensor: see
        :func:`kdcourse.models.logits_of`. If they differ, wrap the teacher: ``as_teacher(teacher, outputs=...)``.
    **options
        Any of :class:`kdcourse.training.TrainingOptions`: epochs, seed and so on.

    Returns
    -------
    History
        With one entry per term of the objective, already weighted: ``kd`` and ``ce`` by default.

    Raises
    ------
    ValueError
        If a knob is out of range, student and teacher share parameters, they disagree in the number of classes, the
        checkpoint was begun with another teacher, or logits that were computed once meet images that change.

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
    if isinstance(teacher, nn.Module):
        check_nothing_shared(student, teacher)
    answers = _answers_of(teacher, data, outputs, changes=options["augment"] is not None)
    if outputs is not None and takes_keyword(objective, "outputs"):
        objective = partial(objective, outputs=outputs)
    return distill_from_logits(
        student, teacher, answers, data, temperature=temperature, alpha=alpha, objective=objective, parts=parts,
        options=options,
    )  # fmt: skip


def distill_from_logits(
    student: nn.Module,
    teacher: Any,
    answers: Tensor | Teacher,
    data: Any,
    *,
    temperature: float | Schedule,
    alpha: float | Schedule,
    objective: Objective,
    parts: Mapping[str, nn.Module] | None = None,
    options: TrainingOptions,
    settings: Mapping[str, Any] | None = None,
    make_batches: Callable[..., Minibatches] = Minibatches,
) -> History:
    """Do what ``distill`` does with the teacher's answers: logits for all samples, or a function of a batch's inputs.

    ``settings`` and ``make_batches`` are those of ``fit``.

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
    _check_knobs(temperature, alpha, data, options)
    parts = dict(parts or {})
    check_keywords(objective, parts)
    objective = with_knobs(partial(objective, **parts), SimpleNamespace(temperature=temperature, alpha=alpha))
    if isinstance(answers, Tensor):
        images, labels, *more = as_tensors(data) or ()
        data = (images, labels, answers, *more)
    else:
        objective = partial(_asking, answers, objective)
    return fit_with(
        options,
        student,
        data,
        objective,
        [parameter for module in (student, *parts.values()) for parameter in module.parameters()],
        parts=parts,
        settings={
            "temperature": sampled(temperature), "alpha": sampled(alpha), **(settings or {}),
            "teacher": teacher_hash(teacher) if options["checkpoint"] else "",
        },
        make_batches=make_batches,
    )  # fmt: skip


def _answers_of(teacher: Any, data: Any, outputs: Outputs | None, *, changes: bool) -> Tensor | Teacher:
    """The teacher's logits for all samples, computed once; or, where the images change, a function to ask."""
    tensors = as_tensors(data)
    if tensors is not None and len(tensors) < 2:
        raise ValueError("distill needs images and labels, got one tensor. Without labels take alpha=1 and any labels.")
    if isinstance(teacher, Tensor):
        if tensors is None:
            raise ValueError(
                "logits that were computed once belong to samples in memory, in their order, and a loader has its own. "
                "Hand over the teacher itself, or put the logits into the data set: fit(student, loader, "
                "soft_target_objective, ...) with batches (images, labels, teacher_logits)."
            )
        if changes:
            check_nothing_cached((*tensors[:2], teacher))
        return teacher
    ask = as_teacher(teacher, outputs=outputs if isinstance(teacher, nn.Module) else None)
    if tensors is None or changes:
        check_nothing_cached(tensors or ())
        return ask
    # Once, and keyed by sample: nothing augments the images, so the teacher's logits never change.
    if isinstance(teacher, nn.Module):
        check_same_device(teacher, tensors[0])
    return predict_logits(ask, tensors[0])  # (N, K)


def _asking(
    answers: Teacher, objective: Objective, student: nn.Module, images: Any, *batch: Any, progress: float = 0.0
) -> dict[str, Tensor]:
    """Ask the teacher about the images of this batch, and call the objective with its logits after the labels."""
    if not batch:
        raise ValueError(
            "the batches have one part, and distill needs images and labels. Without labels take alpha=1 and any "
            "labels: unpack=lambda images: (images, torch.zeros(len(images), dtype=torch.long))."
        )
    labels, *more = batch
    return objective(student, images, labels, answers(images), *more, progress=progress)


def _check_knobs(temperature: float | Schedule, alpha: float | Schedule, data: Any, options: TrainingOptions) -> None:
    """Raise before training, not in the middle of it, if a knob leaves its range at any step."""
    steps = _count_steps(data, options)
    if steps is None and (callable(temperature) or callable(alpha)):
        raise ValueError(
            "a schedule for temperature or alpha needs the count of batches, and this loader has no length. Give its "
            "class a __len__, or take numbers."
        )
    for step in range(steps if steps is not None and (callable(temperature) or callable(alpha)) else 1):
        check_temperature(_value_at(temperature, progress_of(step, steps or 1)))
        check_alpha(_value_at(alpha, progress_of(step, steps or 1)))


def _count_steps(data: Any, options: TrainingOptions) -> int | None:
    batches = make_batches_of(
        data, batch_size=options["batch_size"], epochs=options["epochs"], drop_last=options["drop_last"],
        generator=torch.Generator(), augment=None, unpack=options["unpack"], device="cpu",
    )  # fmt: skip
    return count_batches(batches)


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
