"""One data set as several tasks that come one after the other, and the few images that may be kept. Chapter 12."""

from collections.abc import Sequence

import torch

from .mnist import Split

PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


def split_into_tasks(split: Split, tasks: Sequence[Sequence[int]] = PAIRS) -> list[Split]:
    """Cut a split into tasks by digit: split MNIST, the smallest benchmark of continual learning.

    Parameters
    ----------
    split : Split
        Images and labels.
    tasks : sequence of sequence of int
        Digits of each task; no digit twice.

    Returns
    -------
    list of Split
        One per task, in order. Labels stay the digits 0 to 9.

    Raises
    ------
    ValueError
        If there is no task, a digit is in two tasks, a task has no image, or a digit is not from 0 to 9.

    References
    ----------
    Zenke, Poole, Ganguli (2017), arXiv:1703.04200, section 5.1 (split MNIST).

    Examples
    --------
    >>> split = Split(torch.rand(6, 1, 28, 28), torch.tensor([0, 2, 1, 3, 2, 0]))
    >>> [task.labels.tolist() for task in split_into_tasks(split, [(0, 1), (2, 3)])]
    [[0, 1, 0], [2, 3, 2]]
    """
    digits = [digit for task in tasks for digit in task]
    if not digits or len(set(digits)) != len(digits):
        raise ValueError(f"each digit belongs to one task, and there must be at least one task, got {list(tasks)}.")
    found = [split.only(*task) for task in tasks]
    for task, part in zip(tasks, found, strict=True):
        if len(part.labels) == 0:
            raise ValueError(f"there is no image of the digits {tuple(task)}: a task needs at least one.")
    return found


def pick_exemplars(split: Split, per_class: int, *, generator: torch.Generator) -> Split:
    """Pick images of each class at random, to be kept when the others are gone.

    Parameters
    ----------
    split : Split
        Images and labels of one task.
    per_class : int
        How many of each class; a class that has fewer gives all.
    generator : torch.Generator
        A CPU generator.

    Returns
    -------
    Split
        Sorted by class.

    Raises
    ------
    ValueError
        If per_class is not a positive integer.

    References
    ----------
    Rebuffi et al. (2017), arXiv:1611.07725. It picks by *herding*; here the choice is random.

    Examples
    --------
    >>> split = Split(torch.rand(5, 1, 28, 28), torch.tensor([3, 2, 3, 3, 2]))
    >>> pick_exemplars(split, 2, generator=torch.Generator().manual_seed(0)).labels
    tensor([2, 2, 3, 3])
    """
    if isinstance(per_class, bool) or not isinstance(per_class, int) or per_class < 1:
        raise ValueError(f"per_class must be a positive integer, got {per_class!r}: it counts the images kept.")
    order = torch.randperm(len(split.labels), generator=generator).to(split.labels.device)  # (N,)
    labels = split.labels[order]
    kept = torch.cat([order[labels == digit][:per_class] for digit in labels.unique()])
    return Split(split.images[kept], split.labels[kept])
