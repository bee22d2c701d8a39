"""``sweep``: many students at once, over seeds and knobs, with both baselines at the same budget.

Chapters 02 to 07. What one program can train is in ``stacking``; what is swept, in ``grid``.
"""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ..losses import kd_loss
from ..losses._checks import check_alpha, check_temperature
from ..recipes.distillation import make_adam
from ..schedules import Schedule
from ..training import Objective, predict_logits
from .grid import BUDGET, Axis, make_axis, make_groups, name_of
from .jobs import Job, Metric, Tensors, run_all
from .stacking import MakeModule, Predict

BASELINES = ("no_teacher", "label_smoothing")
Knob = float | Tensor | Schedule


def soft_target_objective(
    student: nn.Module,
    images: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: Knob = 4.0,
    alpha: Knob = 0.7,
    loss: Callable[..., Tensor] = kd_loss,
    progress: float = 0.0,
) -> dict[str, Tensor]:
    """Distil from cached logits: α times a loss on soft targets, and 1 - α times the cross-entropy.

    Parameters
    ----------
    student : nn.Module
    images, labels : Tensor
        Shapes (B, ...) and (B,).
    teacher_logits : Tensor, shape (B, K)
    temperature, alpha : float, or callable
        Constants, or schedules of progress from ``kdcourse.schedules``.
    loss : callable
        ``loss(student_logits, teacher_logits, *, temperature)``.
    progress : float
        How far training is, in [0, 1].
    """
    temperature = temperature(progress) if callable(temperature) else temperature
    alpha = alpha(progress) if callable(alpha) else alpha
    check_temperature(temperature)
    check_alpha(alpha)
    logits = student(images)  # (B, K)
    kd = loss(logits, teacher_logits, temperature=temperature)
    return {"kd": alpha * kd, "ce": (1 - alpha) * F.cross_entropy(logits, labels)}


def sweep(
    *,
    student: MakeModule | Any,
    data: Any,
    seed: Iterable[int],
    epochs: int | Sequence[int],
    objective: Objective | Any = soft_target_objective,
    teacher: nn.Module | Tensor | Any = None,
    batch_size: int | Sequence[int] = 128,
    optimizer: Callable[..., Optimizer] | Any = make_adam,
    lr: float | Sequence[float] | None = None,
    augment: Any = None,
    parts: Mapping[str, MakeModule] | None = None,
    baselines: Sequence[str] = BASELINES,
    label_smoothing: float = 0.1,
    predict: Predict | None = None,
    metrics: Mapping[str, Metric] | None = None,
    stacked: bool | None = None,
    keep_models: bool = False,
    cache: str | os.PathLike | None = None,
    executor: Executor | None = None,
    progress: bool = True,
    **knobs: Any,
) -> pd.DataFrame:
    """Train a student for every seed and every combination of knobs, many in one program, beside two baselines.

    One seed means one set of initial weights and one order of samples for every arm: differences between arms can be
    taken seed by seed, as ``compare`` does. Each student gets the numbers of an ordinary run: ``torch.manual_seed(s)``,
    ``student()``, and ``kdcourse.training.fit(…, seed=s)``.

    Every argument from ``objective`` to ``augment``, ``student``, ``epochs`` and every knob may be one value, a list
    (swept), or a dict of named choices (swept). Numbers reach the objective as scalar tensors, so that one program
    holds them all; where all arms agree in a number, as that number. Anything else, and all in a dict, is a choice,
    handed over as it is, with a program for each.

    Parameters
    ----------
    student : callable
        ``student() -> nn.Module``, drawing its weights from torch's global generator.
    data : MNIST, or mapping with keys train, held_out and test, or tuple of Tensor
        Each split a tuple of tensors (N, ...): images, labels, then what the objective needs. ``held_out`` and
        ``test`` are for evaluation and may be missing; a plain tuple is the training split.
    seed : iterable of int
        At least one.
    epochs, batch_size : int
        Budget of every arm and baseline.
    objective : callable
        ``objective(student, images, labels, [teacher_logits], *more, **knobs) -> dict[str, Tensor]``. If it has a
        keyword ``progress``, it gets how far training is, from 0 to 1, as a float.
    teacher : nn.Module or Tensor of shape (N, K) or (S, N, K), optional
        Its logits on the training images, computed once, become the third tensor of each batch. With a first
        dimension S each seed has its own teacher, as a generation of born-again networks does.
    optimizer : callable
        ``optimizer(parameters) -> Optimizer``; with ``lr`` given, ``optimizer(parameters, lr=lr)``.
    lr : float, optional
        Learning rate.
    augment : callable, optional
        ``augment(images, generator) -> images``.
    parts : mapping from str to callable, optional
        Learned parts of the objective: ``{"regressor": make_regressor}`` gives each student its own, trained with it
        and handed to the objective as the keyword ``regressor``.
    baselines : sequence of str
        From ``"no_teacher"`` and ``"label_smoothing"``; they run at every budget that the arms run at.
    label_smoothing : float
        Of that baseline, in (0, 1).
    predict : callable, optional
        ``predict(student, images) -> logits``, for students that return something else; also the baselines' logits.
    metrics : mapping from str to callable, optional
        Further columns: ``metric(logits, labels)`` on the test split (N, K), (N,), or on ``held_out`` without one.
    stacked : bool, optional
        Train in one program, or one after the other with the same result; by default what is faster here.
    keep_models : bool
        Add a column ``model`` with the trained students.
    cache : path, optional
        Folder that keeps each group's rows; a sweep that was stopped goes on from there.
    executor : concurrent.futures.Executor, optional
        Trains the groups elsewhere, such as a ``ProcessPoolExecutor`` or Dask's ``client.get_executor()``. Functions
        must be importable there. Each process uses one thread.
    progress : bool
        Show a progress bar.
    **knobs
        Keywords of the objective.

    Returns
    -------
    DataFrame
        One row per student: ``arm``, its knobs, ``seed``, ``test_errors``, ``test_loss``, ``held_out_errors``,
        ``held_out_loss`` (cross-entropy in nats), ``train_loss`` (the objective's mean over the last epoch, comparable
        within an arm only), ``steps``, ``seconds`` (the group's training time shared out evenly). Where a budget
        varies, ``method`` and ``budget`` tell its two halves apart. Settings are in ``.attrs``.

    Raises
    ------
    ValueError
        If seeds repeat or are missing, a knob reaches no objective, shapes do not fit, an axis is empty or ambiguous,
        cached logits meet augmented images, or the optimizer would mix stacked students.

    Notes
    -----
    Numbers agree with ordinary runs to rounding (1e-5 after 100 steps, tested). With dropout a stacked run draws other
    masks than an ordinary one: equal in distribution only. The arms of a seed still share their masks.
    Clipping by the norm over all gradients would mix stacked students; there is no place for it here.

    Examples
    --------
    >>> from kdcourse.models import make_mlp
    >>> data = torch.rand(64, 1, 28, 28), torch.arange(64) % 10, torch.randn(64, 10)
    >>> settings = dict(student=lambda: make_mlp(8), data=data, epochs=1, progress=False)
    >>> runs = sweep(seed=range(2), temperature=[2, 8], **settings)
    >>> list(runs.arm.unique())
    ['temperature=2', 'temperature=8', 'no_teacher', 'label_smoothing']
    """
    seeds = _check_seeds(seed)
    _check_baselines(baselines, label_smoothing)
    if keep_models and cache is not None:
        raise ValueError("keep_models and cache exclude one another: the cache keeps rows of the table, not weights.")
    train, evaluation = _splits(data)
    axes = {
        name: make_axis(name, value)
        for name, value in {
            "student": student, "optimizer": optimizer, "epochs": epochs, "batch_size": batch_size, "augment": augment,
            "objective": objective, "teacher": teacher, **({} if lr is None else {"lr": lr}), **knobs,
        }.items()
    }  # fmt: skip
    for choice in axes["objective"].values.values():
        _check_keywords(choice, [*knobs, *(parts or {})])
    if soft_target_objective in axes["objective"].values.values() and teacher is None and len(train) < 3:
        raise ValueError(
            "soft_target_objective needs the teacher's logits: give teacher=, a model or its logits (N, K), or data "
            "whose third tensor they are; or an objective of your own."
        )
    axes["teacher"] = _cached(axes["teacher"], train, seeds, augmented=any(axes["augment"].values.values()))

    budget = [axes[name] for name in BUDGET if name in axes]
    method = [axis for name, axis in axes.items() if name not in BUDGET]
    (name, first), *_ = axes["objective"].values.items()
    predict = predict or _logits_of
    groups = make_groups(method, budget, named="distilled" if first is soft_target_objective else name)
    methods = len(groups)
    if baselines:
        smoothing = {name: label_smoothing if name == "label_smoothing" else 0.0 for name in baselines}
        plain = Axis("objective", {"labels": partial(_label_objective, predict=predict)}, numeric=False)
        baseline = Axis("label_smoothing", smoothing, numeric=True, bare=True)
        groups += make_groups([plain, baseline], budget, named=baselines[0])
    columns = [axis.name for axis in [*method, *budget] if axis.varied or axis.name in knobs]
    jobs = [
        Job(
            group=group, columns=columns, train=train, evaluation=evaluation, seeds=seeds,
            parts=dict(parts or {}) if number < methods else {}, predict=predict, metrics=dict(metrics or {}), stacked=stacked, keep_models=keep_models,
            parent=os.getpid(),
        )
        for number, group in enumerate(groups)
    ]  # fmt: skip
    rows = run_all(jobs, cache=cache, executor=executor, progress=progress)
    runs = pd.DataFrame(rows)
    if not any(axis.varied for axis in budget):
        runs = runs.drop(columns=["method", "budget"])
    runs.attrs = {
        "seed": seeds,
        "axes": {axis.name: list(axis.values) for axis in [*method, *budget]},
        "baselines": list(baselines),
        "label_smoothing": label_smoothing,
        "samples": len(train[0]),
        "evaluated": {name: len(split[0]) for name, split in evaluation.items()},
        "device": str(train[0].device),
        "torch": torch.__version__,
    }
    return runs


def _label_objective(
    student: nn.Module,
    images: Tensor,
    labels: Tensor,
    *ignored: Tensor,
    label_smoothing: float | Tensor,
    predict: Predict,
) -> dict[str, Tensor]:
    """Cross-entropy with smoothed labels, as ``F.cross_entropy`` has it; there the share cannot be a tensor."""
    log_q = F.log_softmax(predict(student, images), dim=-1)  # (B, K)
    ce = F.nll_loss(log_q, labels)
    return {"ce": (1 - label_smoothing) * ce - label_smoothing * log_q.mean()}


def _logits_of(student: nn.Module, images: Tensor) -> Tensor:
    return student(images)


def _check_seeds(seed: Iterable[int]) -> list[int]:
    if isinstance(seed, int):
        seed = [seed]
    seeds = [int(value) for value in seed]
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(
            f"seed needs one or more different non-negative integers, such as range(5), got {seeds[:10]}. Each is a "
            "repetition of the whole experiment; a repeated one would count the same run twice."
        )
    return seeds


def _check_baselines(baselines: Sequence[str], label_smoothing: float) -> None:
    unknown = [name for name in baselines if name not in BASELINES]
    if isinstance(baselines, str) or unknown or len(set(baselines)) != len(baselines):
        raise ValueError(f"baselines must be a list from {list(BASELINES)}, got {baselines!r}.")
    if not isinstance(label_smoothing, float | int) or not 0 < label_smoothing < 1:
        raise ValueError(
            f"label_smoothing must be one number in (0, 1), got {label_smoothing!r}: it is the share of the target "
            "that the baseline spreads over all classes. 0 is the no_teacher baseline, at 1 the labels say nothing."
        )


def _check_keywords(objective: Any, names: list[str]) -> None:
    if not callable(objective):
        raise ValueError(f"an objective is a function of student and batch, got {type(objective).__name__}.")
    parameters = inspect.signature(objective).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    taken = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = [name for name in names if name not in taken]
    if unknown:
        raise ValueError(
            f"the objective {name_of(objective)} has no keyword {unknown[0]!r}; it has {taken}. A knob that reaches "
            "nothing would be swept in vain. Knobs are keyword-only: def objective(student, images, labels, *, …)."
        )


def _splits(data: Any) -> tuple[Tensors, dict[str, Tensors]]:
    """Training tensors, and the splits to evaluate on."""
    if isinstance(data, Mapping):
        get = data.get
    elif hasattr(data, "train"):
        get = partial(getattr, data)
    else:
        get = {"train": data}.get
    names = ("train", "test", "held_out")
    train, *others = (get(name, None) for name in names)
    for name, split in zip(names, (train, *others), strict=True):
        if split is None and name != "train":
            continue
        if not isinstance(split, Sequence) or len(split) < 2 or not all(isinstance(t, Tensor) for t in split):
            raise ValueError(
                f"data needs a split {name!r} that is a tuple of tensors, images and labels first, got "
                f"{type(split).__name__}. Give load_mnist(), a dict of splits, or (images, labels, …)."
            )
        sizes = [len(tensor) for tensor in split]
        if len(set(sizes)) != 1 or (sizes[0] == 0 and name == "train"):
            raise ValueError(
                f"tensors of split {name!r} must have the same, non-zero number of samples, got {sizes}. Row i of "
                "each belongs to sample i."
            )
    evaluation = {name: tuple(split) for name, split in zip(names[1:], others, strict=True) if split is not None}
    return tuple(train), {name: split for name, split in evaluation.items() if len(split[0])}


def _cached(axis: Axis, train: Tensors, seeds: list[int], *, augmented: bool) -> Axis:
    """The teacher axis with logits in place of models."""
    values = {name: _teacher_logits(value, train, seeds) for name, value in axis.values.items()}
    if augmented and any(value is not None for value in values.values()):
        raise ValueError(
            "teacher and augment exclude one another: the cached logits belong to the images as they are, not to "
            "augmented ones. Call the teacher inside the objective, on the batch that the student sees."
        )
    return replace(axis, values=values, numeric=False)


def _teacher_logits(teacher: Any, train: Tensors, seeds: list[int]) -> Tensor | None:
    images = train[0]
    if isinstance(teacher, nn.Module):
        return predict_logits(teacher, images)
    if teacher is None:
        return None
    shape = tuple(teacher.shape) if isinstance(teacher, Tensor) else None
    if shape is None or shape[:-1] not in ((len(images),), (len(seeds), len(images))):
        raise ValueError(
            f"a teacher is a model, or its logits of shape ({len(images)}, K), or ({len(seeds)}, {len(images)}, K) "
            f"with one teacher per seed, got {shape or type(teacher).__name__}. Row i belongs to image i."
        )
    return teacher.detach().to(images.device)
