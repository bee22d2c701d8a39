"""A distilled student beside one without a teacher, and a fork of the first with knobs of its own.

Chapter 02. No widgets in here: ``LiveTrainer`` turns the knobs and draws what is recorded.
"""

import copy

from torch import Tensor, nn

from ...objectives import label_objective, with_knobs
from ...training import Knobs, Objective, count_errors
from .race import Arm, Race, Track


class LiveRace(Race):
    """A distilled student and one without a teacher, equal at the start, on the same batches; and a fork of the first.

    Parameters
    ----------
    student : nn.Module
        Distilled student, trained in place. The other starts as its copy.
    track : Track
        Data with images, labels and teacher logits, and what else both students share.
    objective : callable
        Objective ``objective(student, images, labels, teacher_logits, **knobs)`` of the distilled student and its fork.
    knobs : Knobs
        Knobs of the distilled student.
    """

    def __init__(self, student: nn.Module, track: Track, *, objective: Objective, knobs: Knobs) -> None:
        super().__init__(track)
        self.objective = objective
        plain = copy.deepcopy(student)
        self.enter("distilled", student, with_knobs(objective, knobs), knobs)
        self.enter("no teacher", plain, label_objective)
        self.start()

    def fork(self) -> Arm:
        """Copy the distilled student as it is now, optimizer and all; the copy sees the same batches from here on."""
        self.rest()
        source = self.arms["distilled"]
        student, knobs = copy.deepcopy(source.student), copy.copy(source.knobs)
        assert knobs is not None  # the distilled student has knobs
        optimizer = self.optimize(student)
        optimizer.load_state_dict(copy.deepcopy(source.optimizer.state_dict()))
        arm = Arm("fork", student, optimizer, with_knobs(self.objective, knobs), knobs, [], [], dict(source.terms))
        if self.evaluated < self.step:
            self.evaluate_now()
        arm.steps, arm.errors = source.steps[-1:], source.errors[-1:]
        arm.trainer = self.train(arm)
        self.arms["fork"] = arm
        return arm

    def count_errors(self, images: Tensor, labels: Tensor) -> dict[str, int]:
        """Count each student's errors on images."""
        self.rest()
        return {name: count_errors(arm.student, images, labels) for name, arm in self.arms.items()}
