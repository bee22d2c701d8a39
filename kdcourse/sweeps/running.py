"""``sweep``: many students at once, over seeds and knobs, with both baselines at the same budget.

Chapters 02 to 07. What one program can train is in ``stacking``; what is swept, in ``grid``.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._moved import renamed
from ..objectives import check_keywords, label_objective, soft_target_objective
from ..training import Objective, make_adam
from .arguments import (
    BASELINES,
    cache_logits,
    check_baselines,
    check_counts,
    check_executor,
    check_factory,
    check_knobs,
    check_seeds,
    read_splits,
)
from .grid import BUDGET, Axis, make_axis, make_groups
from .jobs import Job, Metric, Where, run_all
from .seeds import MakeModule
from .stacking import Predict


@renamed(student="make_student", optimizer="make_optimizer", seed="seeds")
def sweep(
    *,
    make_student: MakeModule | Any,
    data: Any,
    seeds: Iterable[int],
    epochs: int | Sequence[int],
    objective: Objective | Any = soft_target_objective,
    teacher: nn.Module | Tensor | Any = None,
    batch_size: int | Sequence[int] = 128,
    make_optimizer: Callable[..., Optimizer] | Any = make_adam,
    lr: float | Sequence[float] | None = None,
    augment: Any = None,
    drop_last: bool = False,
    parts: Mapping[str, MakeModule] | None = None,
    baselines: Sequence[str] = BASELINES,
    label_smoothing: float = 0.1,
    predict: Predict | None = None,
    metrics: Mapping[str, Metric] | None = None,
    stacked: bool | None = None,
    keep_models: bool = False,
    cache: str | os.PathLike | None = None,
    executor: Where = None,
    progress: bool = True,
    **knobs: Any,
) -> pd.DataFrame:
    """Train a student for every seed and every combination of knobs, many in one program, beside two baselines.

    One seed means one set of initial weights and one order of samples for every arm: differences between arms can be
    taken seed by seed, as ``compare`` does. Each student gets the numbers of an ordinary run: ``torch.manual_seed(s)``,
    ``make_student()``, and ``kdcourse.training.fit(…, seed=s)``.

    Every argument from ``objective`` to ``augment``, ``make_student``, ``epochs`` and every knob may be one value, or
    several: a list, or a dict of named choices. Numbers that differ between arms reach the objective as scalar tensors,
    so that one program trains all arms. Every other value is a choice: it is handed over as it is, and each choice has
    a program of its own. So has each value in a dict, numbers too.

    Parameters
    ----------
    make_student : callable
        ``make_student() -> nn.Module``, drawing its weights from torch's global generator.
    data : MNIST, or mapping with keys train, held_out and test, or tuple of Tensor
        Each split a tuple of tensors (N, ...): images, labels, then what the objective needs. ``held_out`` and
        ``test`` are for evaluation and may be missing; a plain tuple is the training split.
    seeds : iterable of int
        Repetitions of the experiment, at least one.
    epochs, batch_size : int
        Passes over the data and samples per step, for every arm and baseline.
    objective : callable
        ``objective(student, images, labels, [teacher_logits], *more, **knobs) -> dict[str, Tensor]``. If it has a
        keyword ``progress``, it gets how far training is, from 0 to 1, as a float.
    teacher : nn.Module or Tensor of shape (N, K) or (S, N, K), optional
        Teacher, or its logits on the training images. They are computed once and become the third tensor of each batch.
        With a first dimension S each seed has a teacher of its own, as a generation of born-again networks does.
    make_optimizer : callable
        ``make_optimizer(parameters) -> Optimizer``; with ``lr`` given, ``make_optimizer(parameters, lr=lr)``.
    lr : float, optional
        Learning rate.
    augment : callable, optional
        ``augment(images, generator) -> images``.
    drop_last : bool
        Whether a smaller last batch of an epoch is left out.
    parts : mapping from str to callable, optional
        Learned parts of the objective: ``{"regressor": make_regressor}`` gives each student its own, trained with it
        and handed to the objective as the keyword ``regressor``.
    baselines : sequence of str
        Names from ``"no_teacher"`` and ``"label_smoothing"``; they run at every budget that the arms run at.
    label_smoothing : float
        Share of the target that the label smoothing baseline spreads over all classes, in (0, 1).
    predict : callable, optional
        ``predict(student, images) -> logits``, for students that return something else; also the baselines' logits.
    metrics : mapping from str to callable, optional
        Further columns: ``metric(logits, labels)`` on the test split (N, K), (N,), or on ``held_out`` without one.
    stacked : bool, optional
        Whether students train in one program, or one after the other with the same result. By default the faster way
        is chosen.
    keep_models : bool
        Whether a column ``model`` holds the trained students.
    cache : path, optional
        Folder that keeps each group's rows; a sweep that was stopped goes on from there.
    executor : "processes", "gpus" or concurrent.futures.Executor, optional
        Where the groups train; by default in this process, one after the other. ``"processes"`` means a process for
        each core, or as many as ``KDCOURSE_THREADS`` says; functions of a notebook are sent along, and data on a GPU
        stay in this process. ``"gpus"`` means a process for each GPU that torch sees; it was tested with the CPU in
        their place, not yet on several GPUs. Both cut a long group into pieces by seeds and arms, so that all are
        equally busy. An executor, such as a ``ProcessPoolExecutor`` or Dask's ``client.get_executor()``, must
        be able to import the functions. Each process uses one thread.
    progress : bool
        Whether a progress bar is shown.
    **knobs
        Keywords of the objective. ``temperature`` and ``alpha`` may also be schedules from
        ``kdcourse.training.schedules``.

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
    Numbers agree with ordinary runs to rounding: for an MLP in float32 to 1e-5 after 100 steps, for a CNN in float64
    to 1e-10 (tested). In float32 a CNN with batch normalisation is chaotic: a stacked run differs from an ordinary
    one as much as the same run with the samples turned round inside each batch. One by one, as CNNs are trained on
    the CPU by default, the two are equal in every bit.

    With dropout a stacked run draws other masks than an ordinary one: equal in distribution only. The arms of a seed
    still share their masks. Clipping by the norm over all gradients would mix stacked students; it has no place here.

    Examples
    --------
    >>> from kdcourse.models import make_mlp
    >>> data = torch.rand(64, 1, 28, 28), torch.arange(64) % 10, torch.randn(64, 10)
    >>> settings = dict(make_student=lambda: make_mlp(8), data=data, epochs=1, progress=False)
    >>> runs = sweep(seeds=range(2), temperature=[2, 8], **settings)
    >>> list(runs.arm.unique())
    ['temperature=2', 'temperature=8', 'no_teacher', 'label_smoothing']
    """
    seeds = check_seeds(seeds)
    check_baselines(baselines, label_smoothing)
    if keep_models and cache is not None:
        raise ValueError("keep_models and cache exclude one another: the cache keeps rows of the table, not weights.")
    train, evaluation = read_splits(data)
    axes = {
        name: make_axis(name, value)
        for name, value in {
            "student": make_student, "optimizer": make_optimizer, "epochs": epochs, "batch_size": batch_size,
            "augment": augment, "objective": objective, "teacher": teacher,
            **({} if lr is None else {"lr": lr}), **knobs,
        }.items()
    }  # fmt: skip
    check_counts(axes["epochs"])
    check_counts(axes["batch_size"])
    for choice in axes["student"].values.values():
        check_factory(choice)
    for choice in axes["objective"].values.values():
        check_keywords(choice, [*knobs, *(parts or {})])
    check_executor(executor)
    ours = soft_target_objective in axes["objective"].values.values()
    check_knobs(axes, shares=ours)
    if ours and teacher is None and len(train) < 3:
        raise ValueError(
            "soft_target_objective needs the teacher's logits: give teacher=, a model or its logits (N, K), or data "
            "whose third tensor they are; or an objective of your own."
        )
    axes["teacher"] = cache_logits(axes["teacher"], train, seeds, augmented=any(axes["augment"].values.values()))

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
            group=group, columns=columns, train=train, evaluation=evaluation, seeds=seeds, predict=predict,
            parts=dict(parts or {}) if number < methods else {}, metrics=dict(metrics or {}), stacked=stacked,
            keep_models=keep_models, drop_last=drop_last, parent=os.getpid(),
        )
        for number, group in enumerate(groups)
    ]  # fmt: skip
    rows = run_all(jobs, cache=cache, executor=executor, progress=progress)
    runs = pd.DataFrame(rows)
    if not any(axis.varied for axis in budget):
        runs = runs.drop(columns=["method", "budget"])
    runs.attrs = {
        "seeds": seeds,
        "axes": {axis.name: list(axis.values) for axis in [*method, *budget]},
        "baselines": list(baselines),
        "label_smoothing": label_smoothing,
        "samples": len(train[0]),
        "evaluated": {name: len(split[0]) for name, split in evaluation.items()},
        "device": str(train[0].device),
        "torch": torch.__version__,
    }
    return runs


def _label_objective(student: nn.Module, *batch: Tensor, predict: Predict, label_smoothing: float) -> dict[str, Tensor]:
    return label_objective(partial(predict, student), *batch, label_smoothing=label_smoothing)


def _logits_of(student: nn.Module, images: Tensor) -> Tensor:
    return student(images)
