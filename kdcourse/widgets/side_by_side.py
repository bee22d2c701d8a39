"""Students trained side by side on the same batches, in units small enough to draw and to listen in between.

Chapter 02. No widgets in here: ``LiveTrainer`` turns its knobs and draws what it records.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data import minibatches
from ..recipes import MakeOptimizer, make_label_objective
from ..training import Knobs, Objective, Step, evaluating, train

EVALUATION_PART = 500  # images per unit of work


@dataclass
class Arm:
    """One of the students in training, and what was measured of it.

    Attributes
    ----------
    name : str
        "distilled", "no teacher" or "fork".
    student : nn.Module
    optimizer : Optimizer
    objective : callable
    knobs : Knobs or None
        What its objective reads; None without a teacher.
    steps : list of int
        When it was measured.
    errors : list of float
        Share of held-out images it got wrong, in percent.
    terms : dict from str to Tensor
        The terms of its loss at the last step.
    trainer : iterator of Step
        The course's training loop, one step per ``next``.
    """

    name: str
    student: nn.Module
    optimizer: Optimizer
    objective: Objective
    knobs: Knobs | None = None
    steps: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    terms: dict[str, Tensor] = field(default_factory=dict)
    trainer: Iterator[Step] = field(default_factory=lambda: iter(()))


class SideBySide:
    """A distilled student and one without a teacher, equal at the start, on the same batches; and a fork of the first.

    Parameters
    ----------
    student : nn.Module
        The distilled one, trained in place. The other starts as its copy.
    data : tuple of Tensor
        Training images, labels and teacher logits, aligned by sample.
    held_out : tuple of Tensor
        Images and labels that the errors are counted on.
    make_objective : callable
        ``make_objective(knobs) -> objective`` for the distilled student and its fork.
    knobs : Knobs
        Of the distilled student.
    make_optimizer : callable
        ``make_optimizer(parameters) -> Optimizer``; each student has its own.
    batch_size, seed : int
        Samples per step; the seed of their order.
    """

    def __init__(
        self,
        student: nn.Module,
        data: tuple[Tensor, Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        *,
        make_objective: Callable[[Knobs], Objective],
        knobs: Knobs,
        make_optimizer: MakeOptimizer,
        batch_size: int,
        seed: int,
    ) -> None:
        self.data, self.held_out, self.batch_size, self.seed = data, held_out, batch_size, seed
        self.make_objective, self.make_optimizer = make_objective, make_optimizer
        self._initial = copy.deepcopy(student.state_dict())
        plain = copy.deepcopy(student)
        self.arms = {
            "distilled": Arm("distilled", student, make_optimizer(_parameters(student)), make_objective(knobs), knobs),
            "no teacher": Arm("no teacher", plain, make_optimizer(_parameters(plain)), make_label_objective()),
        }
        self._start()

    def reset(self) -> None:
        """Go back to the students of the start and to the first batch; the fork is dropped."""
        self.arms.pop("fork", None)
        for arm in self.arms.values():
            arm.student.load_state_dict(self._initial)
            arm.optimizer = self.make_optimizer(_parameters(arm.student))
        self._start()

    def _start(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        images, labels, teacher_logits = self.data
        self._batches = iter(
            minibatches(images, labels, teacher_logits, batch_size=self.batch_size, epochs=10**9, generator=generator)
        )
        self.step = self._evaluated = 0
        self.at_rest = True  # every student has seen the same batches, and what was due has been measured
        for arm in self.arms.values():
            arm.steps, arm.errors, arm.terms, arm.trainer = [], [], {}, self._train(arm)
        for _ in self._evaluate(list(self.arms.values())):
            pass
        self._units = self._work()

    def advance(self, *, seconds: float) -> None:
        """Do units of work, one at least, until the time is spent."""
        end = time.perf_counter() + seconds
        next(self._units)
        while time.perf_counter() < end:
            next(self._units)

    def rest(self) -> None:
        """Bring every student to the same step."""
        while not self.at_rest:
            next(self._units)

    def run_to(self, step: int, *, seconds: float) -> bool:
        """Train up to a step, for ``seconds`` at most; whether it was reached."""
        end = time.perf_counter() + seconds
        while self.step < step or not self.at_rest:
            next(self._units)
            if time.perf_counter() > end:
                break
        return self.step >= step and self.at_rest

    def fork(self) -> Arm:
        """Copy the distilled student as it is now, optimizer and all; the copy sees the same batches from here on."""
        self.rest()
        source = self.arms["distilled"]
        student, knobs = copy.deepcopy(source.student), copy.copy(source.knobs)
        assert knobs is not None  # the distilled student has knobs
        optimizer = self.make_optimizer(_parameters(student))
        optimizer.load_state_dict(copy.deepcopy(source.optimizer.state_dict()))
        arm = Arm("fork", student, optimizer, self.make_objective(knobs), knobs, [], [], dict(source.terms))
        if self._evaluated < self.step:
            for _ in self._evaluate(list(self.arms.values())):
                pass
        arm.steps, arm.errors = source.steps[-1:], source.errors[-1:]
        arm.trainer = self._train(arm)
        self.arms["fork"] = arm
        return arm

    def count_errors(self, images: Tensor, labels: Tensor) -> dict[str, int]:
        """Count each student's errors on images, all at once."""
        self.rest()
        return {
            name: sum(int(part) for part in _errors(arm.student, images, labels)) for name, arm in self.arms.items()
        }

    def _work(self) -> Iterator[None]:
        """Train and measure for ever, a unit at a time: one step of one student, or one part of an evaluation."""
        while True:
            self.at_rest = False
            self._batch = next(self._batches)
            arms = list(self.arms.values())
            for place, arm in enumerate(arms):
                arm.terms = next(arm.trainer).terms
                if place < len(arms) - 1:
                    yield
            self.step += 1
            # Often at first, when errors fall fast, then every hundred steps.
            if self.step - self._evaluated >= max(10, min(100, self.step // 10)):
                yield from self._evaluate(arms)
            self.at_rest = True
            yield

    def _train(self, arm: Arm) -> Iterator[Step]:
        def batches() -> Iterator[tuple[Tensor, ...]]:
            while True:
                yield self._batch

        return train(arm.student, batches(), arm.objective, arm.optimizer)

    def _evaluate(self, arms: list[Arm]) -> Iterator[None]:
        images, labels = self.held_out
        for arm in arms:
            _check_finite(arm, self.step)
            counts = []
            for count in _errors(arm.student, images, labels):
                counts.append(count)
                yield
            arm.steps.append(self.step)
            arm.errors.append(100 * int(torch.stack(counts).sum()) / len(labels))
        self._evaluated = self.step


def _parameters(student: nn.Module) -> list[nn.Parameter]:
    return list(student.parameters())


def _errors(student: nn.Module, images: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """Yield the count of errors in each part of the images, still on the device."""
    for image_part, label_part in zip(images.split(EVALUATION_PART), labels.split(EVALUATION_PART), strict=True):
        with evaluating(student):
            count = (student(image_part).argmax(dim=-1) != label_part).sum()
        yield count


def _check_finite(arm: Arm, step: int) -> None:
    for name, term in arm.terms.items():
        if not bool(torch.isfinite(term)):
            raise FloatingPointError(
                f"term {name!r} of the {arm.name} student is {float(term)} at step {step}: its weights are lost. "
                "Reset, and try a smaller learning rate."
            )
