"""A distilled student beside one without a teacher, and a fork of the first with knobs of its own.

Chapter 02. No widgets in here: ``LiveTrainer`` turns its knobs and draws what it records.
"""

import copy

from torch import Tensor, nn

from ..objectives import label_objective, with_knobs
from ..training import Knobs, MakeOptimizer, Objective, count_errors
from .race import Arm, Race


class SideBySide(Race):
    """A distilled student and one without a teacher, equal at the start, on the same batches; and a fork of the first.

    Parameters
    ----------
    student : nn.Module
        The distilled one, trained in place. The other starts as its copy.
    data : tuple of Tensor
        Training images, labels and teacher logits, aligned by sample.
    held_out : tuple of Tensor
        Images and labels that the errors are counted on.
    objective : callable
        ``objective(student, images, labels, teacher_logits, **knobs)`` of the distilled student and its fork.
    knobs : Knobs
        Of the distilled student.
    make_optimizer, batch_size, seed
        As in ``Race``.
    """

    def __init__(
        self,
        student: nn.Module,
        data: tuple[Tensor, Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        *,
        objective: Objective,
        knobs: Knobs,
        make_optimizer: MakeOptimizer,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(data, held_out, make_optimizer=make_optimizer, batch_size=batch_size, seed=seed)
        self.objective = objective
        plain = copy.deepcopy(student)
        self._enter("distilled", student, with_knobs(objective, knobs), knobs)
        self._enter("no teacher", plain, label_objective)
        self._start()

    def fork(self) -> Arm:
        """Copy the distilled student as it is now, optimizer and all; the copy sees the same batches from here on."""
        self.rest()
        source = self.arms["distilled"]
        student, knobs = copy.deepcopy(source.student), copy.copy(source.knobs)
        assert knobs is not None  # the distilled student has knobs
        optimizer = self._optimize(student)
        optimizer.load_state_dict(copy.deepcopy(source.optimizer.state_dict()))
        arm = Arm("fork", student, optimizer, with_knobs(self.objective, knobs), knobs, [], [], dict(source.terms))
        if self._evaluated < self.step:
            self._evaluate_now()
        arm.steps, arm.errors = source.steps[-1:], source.errors[-1:]
        arm.trainer = self._train(arm)
        self.arms["fork"] = arm
        return arm

    def count_errors(self, images: Tensor, labels: Tensor) -> dict[str, int]:
        """Count each student's errors on images, all at once."""
        self.rest()
        return {name: count_errors(arm.student, images, labels) for name, arm in self.arms.items()}
