"""A cohort that learns from each other, and a copy of its first student that learns alone, on the same batches.

Chapter 07. No widgets in here: ``CohortTrainer`` chooses the way and draws what is recorded. Letters: S students, N
held-out images, K classes.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ...losses import kd_loss, mutual_ensemble_loss, mutual_learning_loss
from ...objectives import label_objective
from ...recipes import Cohort, make_optimizers
from ...training import Objective, count_errors, predict_logits
from .race import Arm, Race, Track, check_finite, predict_in_parts


def label_losses(all_logits: Sequence[Tensor], labels: Tensor, *, temperature: float | Tensor = 1.0) -> list[Tensor]:
    """Return one cross-entropy per student and nothing from its peers: ``mutual_learning_loss`` without the peers."""
    return [F.cross_entropy(logits, labels) for logits in all_logits]


WAYS = {"pairwise": mutual_learning_loss, "averaged logits": mutual_ensemble_loss, "labels only": label_losses}


def ways_of(count: int) -> list[str]:
    """Return the ways in which a cohort of some students can learn.

    A student of two has one peer. The mean of its peers' logits is that peer's, so averaging would be pairwise again.
    """
    return [way for way in WAYS if count > 2 or way != "averaged logits"]


class CohortRace(Race):
    """A cohort, and a copy of its first student that learns alone, on the same batches.

    Parameters
    ----------
    students : sequence of nn.Module
        Cohort, trained in place. Each student has an optimizer of its own.
    track : Track
        Data with images and labels, and what else all students share.
    objective : callable
        Objective of the cohort.

    Attributes
    ----------
    measured : list of int
        Steps at which everything was measured.
    student_errors : list of list of float
        Errors of each student in percent. The errors of arm "cohort" are those of its vote.
    divergences, agreements : list of Tensor, each of shape (S+1, S+1)
        The measurements that ``CohortTrainer`` shows.
    """

    def __init__(self, students: Sequence[nn.Module], track: Track, *, objective: Objective) -> None:
        super().__init__(track)
        self.students = list(students)
        alone = copy.deepcopy(self.students[0])
        self.enter("cohort", Cohort(self.students), objective)
        self.enter("alone", alone, label_objective)
        self.start()

    @property
    def everyone(self) -> dict[str, nn.Module]:
        """The students of the cohort and the one alone, by name."""
        names = [f"student {number}" for number in range(len(self.students))]
        return dict(zip([*names, "alone"], [*self.students, self.arms["alone"].student], strict=True))

    @property
    def measured(self) -> list[int]:
        """Steps at which everything was measured."""
        return self.arms["cohort"].steps

    def count_errors(self, images: Tensor, labels: Tensor) -> dict[str, int]:
        """Count the errors of each student, of the one alone and of the vote on images."""
        self.rest()
        errors = {name: count_errors(student, images, labels) for name, student in self.everyone.items()}
        logits = torch.stack([predict_logits(student, images) for student in self.students])  # (S, N, K)
        return {**errors, "vote": int((_vote(logits) != labels).sum())}

    def optimize(self, student: nn.Module) -> Optimizer:
        """Return a fresh optimizer for a student, or one each for the cohort."""
        if isinstance(student, Cohort):
            return make_optimizers(self.students, self.track.make_optimizer)
        return super().optimize(student)

    def start(self) -> None:
        """Stand at the first batch, with everyone measured."""
        self.student_errors: list[list[float]] = [[] for _ in self.students]
        self.divergences: list[Tensor] = []
        self.agreements: list[Tensor] = []
        super().start()

    def evaluate(self, arms: list[Arm]) -> Iterator[None]:
        """Measure everyone a part at a time: errors, distances and agreement."""
        images, labels = self.track.held_out
        for arm in arms:
            check_finite(arm, self.step)
        everyone = []
        for student in self.everyone.values():
            everyone.append((yield from predict_in_parts(student, images)))
        logits = torch.stack(everyone)  # (S+1, N, K)
        answers = logits.argmax(dim=-1)  # (S+1, N)
        for errors, wrong in zip(self.student_errors, answers != labels, strict=False):  # the last is the one alone
            errors.append(100 * int(wrong.sum()) / len(labels))
        self.record(self.arms["cohort"], _vote(logits[:-1]) != labels)
        self.record(self.arms["alone"], answers[-1] != labels)
        rows = [torch.stack([kd_loss(own, peer, temperature=1.0) for peer in logits]) for own in logits]
        self.divergences.append(torch.stack(rows).cpu())  # (S+1, S+1)
        self.agreements.append((answers[:, None] == answers).float().mean(dim=-1).cpu())  # (S+1, S+1)
        self.evaluated = self.step


def _vote(logits: Tensor) -> Tensor:
    """Return the answers of the mean of the students' probabilities, from (S, N, K) to (N,)."""
    return logits.softmax(dim=-1).mean(dim=0).argmax(dim=-1)
