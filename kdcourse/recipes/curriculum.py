"""Progressive distillation: T and α follow schedules, and samples come from easy to hard.

Chapter 07.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._arguments import check_floating, check_labels
from ..data.batches import Minibatches, Transform
from ..data.loaders import as_tensors
from ..objectives import soft_target_objective
from ..training import History, Objective, TrainingOptions, predict_logits
from ..training.options import takes_training_options
from ..training.schedules import Schedule, linear, piecewise, progress_of
from .distillation import check_nothing_shared, distill_from_logits, sampled

Difficulty = Callable[[Tensor, Tensor], Tensor]


def difficulty_by_loss(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Return how hard each sample is: the teacher's cross-entropy on it, in nats.

    Parameters
    ----------
    teacher_logits : Tensor, shape (N, K)
    labels : Tensor of int, shape (N,)

    Returns
    -------
    Tensor, shape (N,)
        Larger is harder: a digit that even the teacher gets wrong comes last.

    Examples
    --------
    >>> logits = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    >>> difficulty_by_loss(logits, torch.tensor([0, 0])).round(decimals=2)
    tensor([0.0100, 5.0100])
    """
    check_floating(teacher_logits, "teacher logits")
    check_labels(labels, teacher_logits)
    return F.cross_entropy(teacher_logits.float(), labels.long(), reduction="none")


def difficulty_by_margin(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Return how hard each sample is: by how much the best wrong class's logit exceeds the label's.

    Parameters
    ----------
    teacher_logits : Tensor, shape (N, K)
    labels : Tensor of int, shape (N,)

    Returns
    -------
    Tensor, shape (N,)
        Positive where the teacher is wrong. Unlike the loss it does not saturate for a teacher that is sure.

    Examples
    --------
    >>> logits = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    >>> difficulty_by_margin(logits, torch.tensor([0, 0]))
    tensor([-5.,  5.])
    """
    check_floating(teacher_logits, "teacher logits")
    check_labels(labels, teacher_logits)
    target = labels.long()[:, None]  # (N, 1)
    best_wrong = teacher_logits.scatter(1, target, -math.inf).amax(dim=1)  # (N,)
    return best_wrong - teacher_logits.gather(1, target).squeeze(1)


class CurriculumBatches(Minibatches):
    """Batches drawn from the easiest share of the data, a share that grows with progress.

    Parameters
    ----------
    *tensors : Tensor, shape (N, ...)
        Aligned by sample.
    difficulty : Tensor, shape (N,)
        Difficulty of each sample, larger is harder. Its negative makes an anti-curriculum; random numbers make a
        control with the same sampling.
    pace : callable
        Schedule of the easiest share of the data, in (0, 1], that a batch may come from.
    batch_size, epochs, drop_last, generator, augment
        As in ``Minibatches``: as many batches, of the same sizes.

    Raises
    ------
    ValueError
        If there is not one finite difficulty per sample, the pace leaves (0, 1], or as ``Minibatches`` does.

    Notes
    -----
    A batch is drawn with replacement from its pool. Over a run easy samples are seen more often than hard ones: that
    is what a curriculum with a fixed budget means.

    Examples
    --------
    >>> samples = torch.arange(100)
    >>> batches = CurriculumBatches(samples, difficulty=samples.float(), pace=linear(0.1, 1.0), batch_size=10)
    >>> bool(next(iter(batches))[0].max() < 10)  # from the easiest tenth
    True
    """

    def __init__(
        self,
        *tensors: Tensor,
        difficulty: Tensor,
        pace: Schedule,
        batch_size: int = 128,
        epochs: int = 1,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
        augment: Transform | None = None,
    ) -> None:
        super().__init__(
            *tensors, batch_size=batch_size, epochs=epochs, drop_last=drop_last, generator=generator, augment=augment
        )
        size = len(tensors[0])
        if tuple(difficulty.shape) != (size,) or not bool(torch.isfinite(difficulty).all()):
            raise ValueError(
                f"difficulty must be one finite number per sample, shape ({size},), got {tuple(difficulty.shape)}. "
                "It orders the samples from easy to hard."
            )
        self._easiest_first = difficulty.argsort(stable=True)  # (N,)
        shares = [pace(progress_of(batch, len(self))) for batch in range(len(self))]
        if not all(0 < share <= 1 for share in shares):
            raise ValueError(
                f"pace must stay in (0, 1], got {min(shares)} to {max(shares)}. It is the share of the data, easiest "
                "first, that batches come from."
            )
        self._pools = [max(1, math.ceil(share * size)) for share in shares]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the remaining batches."""
        size = len(self.tensors[0])
        while self.epoch < self.epochs:
            pool = self._pools[self.epoch * self.batches_per_epoch + self.batch]
            count = min(self.batch_size, size - self.batch * self.batch_size)
            chosen = torch.randint(pool, (count,), generator=self.generator)  # (B,)
            index = self._easiest_first[chosen.to(self._easiest_first.device, non_blocking=True)]
            first, *others = (tensor.index_select(0, index) for tensor in self.tensors)
            if self.augment is not None:
                first = self.augment(first, self.generator)
            self.batch += 1
            if self.batch == self.batches_per_epoch:
                self.epoch, self.batch = self.epoch + 1, 0
            yield first, *others

    def _draw_order(self) -> Tensor:
        return self._easiest_first  # nothing is drawn per epoch, so nothing needs to be drawn again on resuming


@takes_training_options()
def progressive(
    student: nn.Module,
    teacher: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    temperature: float | Schedule = linear(8.0, 2.0),  # noqa: B008
    alpha: float | Schedule = linear(0.9, 0.5),  # noqa: B008
    difficulty: Difficulty | None = difficulty_by_loss,
    pace: Schedule = piecewise([(0, 0.1), (0.5, 1), (1, 1)]),  # noqa: B008
    objective: Objective = soft_target_objective,
    **options: Unpack[TrainingOptions],
) -> History:
    """Distil while temperature and alpha follow schedules and samples come from easy to hard.

    Parameters
    ----------
    student, teacher : nn.Module
        The student is trained in place, the teacher is not changed.
    data : tuple of (images, labels)
        Shapes (N, ...) and (N,).
    temperature, alpha : float, or schedule
        Knobs as in ``distill``; the last step trains with a schedule's end value. By default T falls from 8 to 2 and α
        from .9 to .5: the run ends with the labels at half the weight, not at none.
    difficulty : callable, optional
        ``difficulty(teacher_logits, labels) -> Tensor (N,)``, larger is harder: ``difficulty_by_loss``,
        ``difficulty_by_margin``, the negative of one for an anti-curriculum. None takes every epoch in random order.
    pace : callable
        The easiest share of the data that a batch may come from, a schedule in (0, 1]. By default it grows from a
        tenth to everything at half-time. A pace that reaches the last samples only at the end shows them too rarely,
        in whatever order: in chapter 07 that costs hundreds of errors.
    objective : callable
        As in ``distill``.
    **options
        Any of :class:`kdcourse.training.TrainingOptions`.

    Returns
    -------
    History
        With terms ``kd`` and ``ce``, already weighted.

    Raises
    ------
    ValueError
        As in ``distill``, if a schedule leaves its knob's range, or the pace leaves (0, 1].

    Examples
    --------
    >>> from kdcourse.models import make_mlp
    >>> data = torch.rand(8, 1, 28, 28), torch.arange(8)
    >>> list(progressive(make_mlp(4), make_mlp(8), data, temperature=linear(8, 2), epochs=1).terms)
    ['kd', 'ce']
    """
    check_nothing_shared(student, teacher)
    tensors = as_tensors(data)
    if tensors is None or len(tensors) != 2:
        raise ValueError(
            f"progressive orders all samples by difficulty, so data must be (images, labels) in memory, got "
            f"{type(data).__name__}. With a loader take distill, whose temperature and alpha may be schedules too."
        )
    images, labels = tensors
    teacher_logits = predict_logits(teacher, images)  # (N, K)
    make_batches: Callable[..., Minibatches] = Minibatches
    if difficulty is not None:
        make_batches = partial(CurriculumBatches, difficulty=difficulty(teacher_logits, labels), pace=pace)
    return distill_from_logits(
        student, teacher, teacher_logits, tensors, temperature=temperature, alpha=alpha, objective=objective,
        options=options, settings={"pace": sampled(pace)}, make_batches=make_batches,
    )  # fmt: skip
