"""What ``sweep`` is given, read and checked before anything is trained.

Chapters 02 to 07.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from .._arguments import check_alpha, check_temperature
from ..data.batches import check_nothing_cached
from ..training import predict_logits
from .grid import Axis
from .jobs import Tensors
from .sharing import gpus_seen

BASELINES = ("no_teacher", "label_smoothing")


def check_seeds(values: Iterable[int]) -> list[int]:
    """Return the seeds as a list; raise unless they are different non-negative integers.

    Examples
    --------
    >>> check_seeds(range(3))
    [0, 1, 2]
    """
    seeds = [int(value) for value in ([values] if isinstance(values, int) else values)]
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(
            f"seeds needs one or more different non-negative integers, such as range(5), got {seeds[:10]}. Each is a "
            "repetition of the whole experiment; a repeated one would count the same run twice."
        )
    return seeds


def check_baselines(baselines: Sequence[str], label_smoothing: float) -> None:
    """Raise unless the baselines are known and label smoothing is a share.

    Examples
    --------
    >>> check_baselines(["no_teacher"], 0.1)
    >>> check_baselines(["no_teacher"], 1.0)
    Traceback (most recent call last):
    ValueError: label_smoothing must be one number in (0, 1), got 1.0: ...
    """
    unknown = [name for name in baselines if name not in BASELINES]
    if isinstance(baselines, str) or unknown or len(set(baselines)) != len(baselines):
        raise ValueError(f"baselines must be a list from {list(BASELINES)}, got {baselines!r}.")
    if not isinstance(label_smoothing, float | int) or not 0 < label_smoothing < 1:
        raise ValueError(
            f"label_smoothing must be one number in (0, 1), got {label_smoothing!r}: it is the share of the target "
            "that the baseline spreads over all classes. 0 is the no_teacher baseline, at 1 the labels say nothing."
        )


def check_counts(axis: Axis) -> None:
    """Raise unless all values are positive integers.

    Examples
    --------
    >>> check_counts(Axis("epochs", {5: 5, 10: 10}, numeric=True))
    >>> check_counts(Axis("epochs", {0: 0}, numeric=True))
    Traceback (most recent call last):
    ValueError: epochs must be a positive integer, got 0.
    """
    for value in axis.values.values():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{axis.name} must be a positive integer, got {value!r}.")


def check_knobs(axes: Mapping[str, Axis], *, shares: bool) -> None:
    """Raise if a temperature is not positive, or an alpha not a share: as tensors the losses would let them pass.

    Examples
    --------
    >>> alpha = {"alpha": Axis("alpha", {0.5: 0.5, 2.0: 2.0}, numeric=True)}
    >>> check_knobs(alpha, shares=False)  # of an objective whose alpha is no share
    >>> check_knobs(alpha, shares=True)
    Traceback (most recent call last):
    ValueError: alpha must be in [0, 1], got 2...
    """
    for name, check in (("temperature", check_temperature), ("alpha", check_alpha)):
        if name in axes and axes[name].numeric and (name == "temperature" or shares):
            for value in axes[name].values.values():
                check(value)


def check_executor(executor: Any) -> None:
    """Raise unless groups can be trained there.

    Examples
    --------
    >>> check_executor("processes")
    >>> check_executor("threads")
    Traceback (most recent call last):
    ValueError: executor must be 'processes', 'gpus', an executor of concurrent.futures or its like, or None, got ...
    """
    if executor not in (None, "processes", "gpus") and not isinstance(executor, Executor):
        raise ValueError(
            "executor must be 'processes', 'gpus', an executor of concurrent.futures or its like, or None, got "
            f"{executor!r}: it says where the groups of students train."
        )
    if executor == "gpus" and not gpus_seen():
        raise ValueError("executor='gpus' needs a GPU, and torch sees none. On this machine take 'processes' or None.")


def check_factory(make_student: Any) -> None:
    """Raise unless it is a function that builds a student.

    Examples
    --------
    >>> check_factory(lambda: nn.Linear(2, 3))
    >>> check_factory(nn.Linear(2, 3))
    Traceback (most recent call last):
    ValueError: make_student must be a function that builds a student, got Linear. ...
    """
    if isinstance(make_student, nn.Module) or not callable(make_student):
        raise ValueError(
            f"make_student must be a function that builds a student, got {type(make_student).__name__}. Every seed "
            "draws its own weights, so pass the function, not its result: make_student=make_small, not make_small()."
        )


def read_splits(data: Any) -> tuple[Tensors, dict[str, Tensors]]:
    """Return the training tensors and the splits to evaluate on.

    Examples
    --------
    >>> import torch
    >>> split = torch.rand(6, 2), torch.arange(6)
    >>> train, evaluation = read_splits({"train": split, "test": split})
    >>> len(train), list(evaluation)
    (2, ['test'])
    """
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


def cache_logits(axis: Axis, train: Tensors, seeds: list[int], *, augmented: bool) -> Axis:
    """Return the teacher axis with logits in place of models.

    Examples
    --------
    >>> import torch
    >>> train = torch.rand(6, 2), torch.arange(6)
    >>> teachers = Axis("teacher", {"none": None, "small": nn.Linear(2, 3)}, numeric=False)
    >>> logits = cache_logits(teachers, train, [0, 1], augmented=False).values
    >>> logits["none"], logits["small"].shape
    (None, torch.Size([6, 3]))
    """
    if augmented:
        check_nothing_cached(train)
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
