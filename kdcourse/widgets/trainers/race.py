"""Students trained side by side on the same batches, in units small enough to draw and to listen in between.

Chapters 02 and 07. No widgets in here: a live trainer turns the knobs and draws what is recorded.
"""

import copy
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...data import Minibatches
from ...training import Knobs, MakeOptimizer, Objective, Step, WithProgress, evaluating, train

EVALUATION_PART = 500  # images per unit of work
ENDLESS = 10**9  # epochs
WATCHED, WATCHED_GAP = 300, 20  # steps after a change, and steps between two measurements there


@dataclass(frozen=True)
class Track:
    """What all arms of a race share.

    Attributes
    ----------
    data : tuple of Tensor
        Tensors that a batch is cut from, aligned by sample: images, labels, and whatever the objectives need.
    held_out : tuple of Tensor
        Images and labels that the errors are counted on.
    make_optimizer : callable
        Factory ``make_optimizer(parameters) -> Optimizer``; each arm has an optimizer of its own.
    batch_size : int
        Samples per step.
    epochs : int
        Passes over the data until the race is done.
    """

    data: tuple[Tensor, ...]
    held_out: tuple[Tensor, Tensor]
    make_optimizer: MakeOptimizer
    batch_size: int
    epochs: int = ENDLESS

    def make_batches(self) -> Minibatches:
        """Return the batches of a race, the same ones each time."""
        generator = torch.Generator().manual_seed(0)
        return Minibatches(*self.data, batch_size=self.batch_size, epochs=self.epochs, generator=generator)


@dataclass
class Arm:
    """One of the students in training, and what was measured of it.

    Attributes
    ----------
    name : str
        Name such as "distilled" or "no teacher".
    student : nn.Module
    optimizer : Optimizer
    objective : callable
    knobs : Knobs or None
        Knobs that its objective reads; None without a teacher.
    steps : list of int
        Steps at which it was measured.
    errors : list of float
        Share of held-out images it got wrong, in percent.
    terms : dict from str to Tensor
        Terms of its loss at the last step.
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


class Race:
    """Arms that take their steps in turn, on the same batches. A subclass enters them, then starts.

    Parameters
    ----------
    track : Track

    Attributes
    ----------
    arms : dict from str to Arm
    step : int
        Steps that every arm has taken.
    total : int
        Steps until the race is done.
    at_rest : bool
        Whether every arm has seen the same batches, and what was due has been measured.
    """

    def __init__(self, track: Track) -> None:
        self.track = track
        self.arms: dict[str, Arm] = {}
        self._initial: dict[str, dict[str, Any]] = {}

    @property
    def done(self) -> bool:
        """Whether every arm has taken its last step and was measured after it."""
        return self.step == self.total and self.at_rest

    def reset(self) -> None:
        """Go back to the students of the start and to the first batch; drop the arms that came later."""
        self.arms = {name: arm for name, arm in self.arms.items() if name in self._initial}
        for name, arm in self.arms.items():
            arm.student.load_state_dict(self._initial[name])
            arm.optimizer = self.optimize(arm.student)
        self.start()

    def advance(self, *, seconds: float) -> None:
        """Do units of work, at least one, until the time is spent or the race is done."""
        end = time.perf_counter() + seconds
        while not self.done:
            next(self._units)
            if time.perf_counter() >= end:
                break

    def rest(self) -> None:
        """Bring every arm to the same step."""
        while not self.at_rest:
            next(self._units)

    def run_to(self, step: int, *, seconds: float) -> bool:
        """Train up to a step, for at most ``seconds``; return whether it was reached."""
        step = min(step, self.total)
        end = time.perf_counter() + seconds
        while self.step < step or not self.at_rest:
            next(self._units)
            if time.perf_counter() > end:
                break
        return self.step >= step and self.at_rest

    def enter(self, name: str, student: nn.Module, objective: Objective, knobs: Knobs | None = None) -> Arm:
        """Enter an arm. A reset brings its student back to what it is now."""
        self._initial[name] = copy.deepcopy(student.state_dict())
        self.arms[name] = Arm(name, student, self.optimize(student), objective, knobs)
        return self.arms[name]

    def optimize(self, student: nn.Module) -> Optimizer:
        """Return a fresh optimizer for a student."""
        return self.track.make_optimizer(list(student.parameters()))

    def start(self) -> None:
        """Stand at the first batch, with every arm measured."""
        batches = self.track.make_batches()
        self._batches, self.total = iter(batches), len(batches)
        self.step = self.evaluated = self._watched_until = 0
        self.at_rest = True
        for arm in self.arms.values():
            arm.steps, arm.errors, arm.terms, arm.trainer = [], [], {}, self.train(arm)
        self.evaluate_now()
        self._units = self._work()

    def train(self, arm: Arm) -> Iterator[Step]:
        """Return the training loop of an arm, on the batches of the race."""

        def batches() -> Iterator[tuple[Tensor, ...]]:
            while True:
                yield self._batch

        objective = WithProgress(arm.objective, self.total, first_step=self.step)
        return train(arm.student, batches(), objective, arm.optimizer)

    def watch(self) -> None:
        """Measure often for the next steps: something was changed, and its effect is of interest."""
        self._watched_until = self.step + WATCHED

    def evaluate_now(self) -> None:
        """Measure every arm at once."""
        for _ in self.evaluate(list(self.arms.values())):
            pass

    def evaluate(self, arms: list[Arm]) -> Iterator[None]:
        """Measure arms a part at a time."""
        images, labels = self.track.held_out
        for arm in arms:
            check_finite(arm, self.step)
            logits = yield from predict_in_parts(arm.student, images)
            self.record(arm, logits.argmax(dim=-1) != labels)
        self.evaluated = self.step

    def record(self, arm: Arm, wrong: Tensor) -> None:
        """Note an arm's share of errors, from (N,) truth values."""
        arm.steps.append(self.step)
        arm.errors.append(100 * int(wrong.sum()) / len(wrong))

    def _gap(self) -> int:
        """Return the steps between two measurements: few at first, when errors fall fast, then up to a hundred."""
        gap = max(10, min(100, self.step // 10))
        return min(gap, WATCHED_GAP) if self.step <= self._watched_until else gap

    def _work(self) -> Iterator[None]:
        """Train and measure to the end, a unit at a time: one step of one arm, or one part of an evaluation."""
        for batch in self._batches:
            self.at_rest, self._batch = False, batch
            arms = list(self.arms.values())
            for place, arm in enumerate(arms):
                arm.terms = next(arm.trainer).terms
                if place < len(arms) - 1:
                    yield
            self.step += 1
            if self.step - self.evaluated >= self._gap() or self.step == self.total:
                yield from self.evaluate(arms)
            self.at_rest = True
            yield


def predict_in_parts(student: nn.Module, images: Tensor) -> Generator[None, None, Tensor]:
    """Compute logits of (N, …) images a part at a time; yield after each part, return (N, K) at the end."""
    parts = []
    for part in images.split(EVALUATION_PART):
        with evaluating(student):
            logits = student(part)
        parts.append(logits)
        yield
    return torch.cat(parts)


def check_finite(arm: Arm, step: int) -> None:
    """Raise if the last loss of an arm was not finite."""
    for name, term in arm.terms.items():
        if not bool(torch.isfinite(term)):
            raise FloatingPointError(
                f"term {name!r} of the {arm.name} student is {float(term)} at step {step}: its weights are lost. "
                "Reset, and try a smaller learning rate."
            )
