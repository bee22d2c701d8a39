"""Learning without forgetting: tasks come one after the other, and the network's old answers are its teacher.

Chapter 12. Letters: n tasks, K classes, N images.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import Split, pick_exemplars
from ..losses import lwf_loss, only_own_head
from ..losses.forgetting import Heads
from ..training import TrainingOptions, predict_logits
from ..training.options import fit_with, takes_training_options

Terms = dict[str, Tensor]


def lwf_objective(
    student: nn.Module,
    images: Tensor,
    labels: Tensor,
    old_logits: Tensor,
    *,
    heads: Heads,
    old_heads: Heads = (),
    temperature: float = 2.0,
    old_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> Terms:
    r"""Learn a new task from its labels, and keep the answers that the network gave before.

    .. math:: \mathrm{CE}(z, y) + \lambda \, L_\mathrm{LwF}(z, z^{old}; T)

    Parameters
    ----------
    student : nn.Module
    images, labels : Tensor
        Shapes (B, ...) and (B,).
    old_logits : Tensor, shape (B, K)
        Logits of the network before this task, for these images.
    heads : sequence of sequence of int
        All classes seen so far, this task's too, in groups. The cross-entropy compares a label with the classes of its
        own group only.
    old_heads : sequence of sequence of int
        Classes of earlier tasks, in groups; in the first task there are none.
    temperature : float
        T > 0 of the old answers.
    old_weight : float
        λ, the weight of the old answers. With 0 the network is only trained on, and forgets.
    label_smoothing : float
        Share of the label that is spread over its group, in [0, 1).

    Returns
    -------
    dict
        With the term ``ce``, and the weighted term ``old`` if there are old heads and a weight.

    References
    ----------
    Li, Hoiem (2016), arXiv:1606.09282, section 3.

    Examples
    --------
    >>> batch = torch.rand(4, 3), torch.tensor([2, 3, 2, 3]), torch.randn(4, 4)
    >>> student = nn.Linear(3, 4)
    >>> list(lwf_objective(student, *batch, heads=[(0, 1), (2, 3)], old_heads=[(0, 1)]))
    ['ce', 'old']
    """
    logits = student(images)  # (B, K)
    terms = {"ce": _smoothed_cross_entropy(only_own_head(logits, labels, heads=heads), labels, label_smoothing)}
    if old_heads and old_weight:
        terms["old"] = old_weight * lwf_loss(logits, old_logits, heads=old_heads, temperature=temperature)
    return terms


class TaskHistory(NamedTuple):
    """What a network answered after each task.

    Attributes
    ----------
    tasks : tuple of tuple of int
        Classes of each task.
    told, untold : Tensor of int, shape (n, K, K)
        Counts of test images by true class and answer, after each task: once with a task label, so that only the
        classes of the image's own task can be answered, and once among all classes that were seen.

    Examples
    --------
    >>> counts = torch.tensor([[[9, 1], [0, 10]]])
    >>> history = TaskHistory(tasks=((0, 1),), told=counts, untold=counts)
    >>> history.accuracy(told=True), history.errors(told=True)
    (0.95, 1)
    """

    tasks: tuple[tuple[int, ...], ...]
    told: Tensor
    untold: Tensor

    def accuracies(self, *, told: bool) -> Tensor:
        """Return accuracies by task, shape (n, n): row i after task i, column j for task j; NaN before it was learned.

        Examples
        --------
        >>> counts = torch.tensor([[[9, 1], [0, 10]]])
        >>> TaskHistory(((0, 1),), counts, counts).accuracies(told=True)
        tensor([[0.9500]])
        """
        counts = self.told if told else self.untold
        table = torch.full((len(self.tasks), len(self.tasks)), torch.nan)
        for after in range(len(self.tasks)):
            for task in range(after + 1):
                of_task = counts[after][list(self.tasks[task])]  # (classes of the task, K)
                right = sum(int(row[digit]) for row, digit in zip(of_task, self.tasks[task], strict=True))
                table[after, task] = right / int(of_task.sum())
        return table

    def accuracy(self, *, told: bool) -> float:
        """Return the share of all test images that is answered right after the last task.

        Examples
        --------
        >>> counts = torch.tensor([[[9, 1], [0, 10]]])
        >>> TaskHistory(((0, 1),), counts, counts).accuracy(told=False)
        0.95
        """
        return 1 - self.errors(told=told) / int(self.told[-1].sum())

    def errors(self, *, told: bool) -> int:
        """Return how many test images are answered wrongly after the last task.

        Examples
        --------
        >>> counts = torch.tensor([[[9, 1], [0, 10]]])
        >>> TaskHistory(((0, 1),), counts, counts).errors(told=False)
        1
        """
        counts = (self.told if told else self.untold)[-1]
        return int(counts.sum() - counts.diagonal().sum())


@takes_training_options(epochs=2)
def learn_tasks(
    student: nn.Module,
    tasks: Sequence[Split],
    test: Split,
    *,
    told: bool,
    old_weight: float = 1.0,
    temperature: float = 2.0,
    exemplars: int = 0,
    label_smoothing: float = 0.0,
    **options: Unpack[TrainingOptions],
) -> TaskHistory:
    """Train a network on one task after the other, with its old answers as a teacher.

    Parameters
    ----------
    student : nn.Module
        Returns logits for all classes; trained in place.
    tasks : sequence of Split
        Training images of each task, as ``kdcourse.data.split_into_tasks`` gives.
    test : Split
        Images of all tasks, asked after each of them.
    told : bool
        Whether a task label tells in training which task an image is from: then each task has a softmax of its own.
        Otherwise one softmax covers all classes seen so far.
    old_weight, temperature, label_smoothing : float
        As in :func:`lwf_objective`. With ``old_weight=0`` the network is only trained on.
    exemplars : int
        Images of each old class that are kept, at random, and repeated until they are as many as the new task's. A
        number as large as the data set keeps everything, which is joint training.
    **options
        Any of :class:`kdcourse.training.TrainingOptions` but ``checkpoint`` and ``evaluate``: epochs of each task, and
        so on. Each task has an optimizer of its own.

    Returns
    -------
    TaskHistory

    Raises
    ------
    ValueError
        If there are no tasks, a class is in two of them or in none, ``exemplars`` or ``old_weight`` is negative, or a
        checkpoint or an evaluation is asked for.

    Notes
    -----
    The old answers are computed once, before the task, for the images of the *new* task: at that moment the student is
    its own teacher, and no copy is needed.

    References
    ----------
    Li, Hoiem (2016), arXiv:1606.09282. van de Ven, Tolias (2019), arXiv:1904.07734 (with and without task labels).

    Examples
    --------
    >>> from kdcourse.models import make_mlp
    >>> data = Split(torch.rand(40, 1, 28, 28), torch.arange(40) % 4)
    >>> history = learn_tasks(make_mlp(8), [data.only(0, 1), data.only(2, 3)], data, told=True, epochs=1)
    >>> history.accuracies(told=True).shape
    torch.Size([2, 2])
    """
    classes = _classes_of(tasks, test)
    if exemplars < 0 or old_weight < 0:
        raise ValueError(f"exemplars and old_weight must not be negative, got {exemplars} and {old_weight}.")
    if options["checkpoint"] is not None or options["evaluate"] is not None:
        raise ValueError("learn_tasks evaluates after each task by itself, and writes no checkpoint.")
    generator = torch.Generator().manual_seed(options["seed"])
    kept: list[Split] = []
    answers: dict[bool, list[Tensor]] = {True: [], False: []}
    for number, task in enumerate(tasks):
        data = _with_repeated(task, kept)
        objective = partial(
            lwf_objective, heads=_heads(classes[: number + 1], told), old_heads=_heads(classes[:number], told),
            temperature=temperature, old_weight=old_weight, label_smoothing=label_smoothing,
        )  # fmt: skip
        of_task: TrainingOptions = {**options, "seed": options["seed"] + number}
        old_logits = predict_logits(student, data.images)  # (N, K), before the first step on this task
        fit_with(of_task, student, (*data, old_logits), objective, list(student.parameters()))
        if exemplars:
            kept.append(pick_exemplars(task, exemplars, generator=generator))
        logits = predict_logits(student, test.images)
        for by_task, counts in answers.items():
            counts.append(_count_answers(logits, test.labels, classes, seen=number + 1, told=by_task))
    return TaskHistory(classes, torch.stack(answers[True]), torch.stack(answers[False]))


def _classes_of(tasks: Sequence[Split], test: Split) -> tuple[tuple[int, ...], ...]:
    classes = tuple(tuple(task.labels.unique().tolist()) for task in tasks)
    members = [member for group in classes for member in group]
    if not members or len(set(members)) != len(members) or set(members) != set(test.labels.unique().tolist()):
        raise ValueError(
            f"each class of the test images must belong to one task, got tasks with the classes {list(classes)} and "
            f"test images of {test.labels.unique().tolist()}."
        )
    return classes


def _heads(classes: Sequence[tuple[int, ...]], told: bool) -> Heads:
    """Return a head for each task, or one for all of them."""
    if told or not classes:
        return classes
    return [list(chain(*classes))]


def _with_repeated(task: Split, kept: list[Split]) -> Split:
    """Return a task's images, and the exemplars as often as makes them about as many."""
    if not kept:
        return task
    size = sum(len(part.labels) for part in kept)
    parts = [task, *kept * max(1, round(len(task.labels) / size))]
    return Split(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _count_answers(logits: Tensor, labels: Tensor, classes: Heads, *, seen: int, told: bool) -> Tensor:
    """Return how often each class (rows) was answered by each class (columns), shape (K, K)."""
    width = logits.shape[-1]
    known = torch.zeros(width, dtype=torch.bool, device=logits.device)
    known[list(chain(*classes[:seen]))] = True
    among_seen = logits.masked_fill(~known, -torch.inf)
    choices = only_own_head(logits, labels, heads=classes) if told else among_seen
    pairs = labels * width + choices.argmax(dim=1)  # (N,)
    return torch.bincount(pairs, minlength=width * width).view(width, width).cpu()


def _smoothed_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross-entropy over the finite logits of each row."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}: at 1 the labels say nothing.")
    log_q = F.log_softmax(logits, dim=-1)  # (B, K), minus infinity outside the head
    inside = torch.isfinite(logits)
    spread = log_q.masked_fill(~inside, 0.0).sum(dim=-1) / inside.sum(dim=-1)  # (B,)
    return (1 - label_smoothing) * F.nll_loss(log_q, labels) - label_smoothing * spread.mean()
