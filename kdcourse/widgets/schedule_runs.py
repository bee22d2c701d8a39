"""Schedules to begin with, and a student that is trained while schedules turn its knobs.

Chapter 07. No widgets in here: ``ScheduleEditor`` draws the schedules and what comes of them.
"""

from types import SimpleNamespace
from typing import NamedTuple

from torch import Tensor, nn

from ..data import Minibatches
from ..objectives import with_knobs
from ..training import MakeOptimizer, Objective
from ..training.schedules import Schedule, constant, cosine, linear, progress_of
from .race import Race

PROGRESS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the five sliders
LINES, STAGES = "straight lines", "five stages"  # what is between them
TEXT = "as the widely read text has it"


class Preset(NamedTuple):
    """Values of the five sliders of each knob, and what is between them."""

    temperatures: tuple[float, ...]
    alphas: tuple[float, ...]
    between: str = LINES


def _sample(schedule: Schedule) -> tuple[float, ...]:
    return tuple(schedule(progress) for progress in PROGRESS)


PRESETS = {
    "constant": Preset(_sample(constant(4.0)), _sample(constant(0.7))),
    "linear": Preset(_sample(linear(8.0, 2.0)), _sample(linear(0.9, 0.5))),
    "cosine": Preset(_sample(cosine(8.0, 2.0)), _sample(cosine(0.9, 0.5))),
    "steps": Preset((8.0, 6.5, 5.0, 3.5, 2.0), (0.9, 0.8, 0.7, 0.6, 0.5), STAGES),
    # T from 10 to 1 and α from .5 to 1 in five stages: so it is announced. But the formula divides the number of the
    # stage, 0 to 4, by 5: the last stage is at four fifths of the way, and nothing ever trains with T = 1 or α = 1.
    TEXT: Preset(
        tuple(10 - 9 * stage / 5 for stage in range(5)), tuple(0.5 + 0.5 * stage / 5 for stage in range(5)), STAGES
    ),
    "labels only": Preset(_sample(constant(4.0)), _sample(constant(0.0))),
}
SHORT = {TEXT: "the text's"}  # in the name of a run


class ScheduledRace(Race):
    """One student from start to end, while schedules turn its knobs.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    data : tuple of Tensor
        Training images, labels and teacher logits, aligned by sample.
    held_out : tuple of Tensor
        Images and labels that the errors are counted on.
    temperature, alpha : callable
        Schedules. The last step trains with their end values.
    objective : callable
        ``objective(student, images, labels, teacher_logits, **knobs)``; it gets the knobs that it has keywords for.
    make_optimizer, batch_size, seed, epochs
        As in ``Race``.
    """

    def __init__(
        self,
        student: nn.Module,
        data: tuple[Tensor, Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        *,
        temperature: Schedule,
        alpha: Schedule,
        objective: Objective,
        make_optimizer: MakeOptimizer,
        batch_size: int,
        seed: int,
        epochs: int,
    ) -> None:
        super().__init__(
            data, held_out, make_optimizer=make_optimizer, batch_size=batch_size, seed=seed, epochs=epochs
        )  # fmt: skip
        scheduled = with_knobs(objective, SimpleNamespace(temperature=temperature, alpha=alpha))
        self.arm = self._enter("scheduled", student, scheduled)
        self._start()


class ScheduleRun:
    """A student that was trained, or is being trained, with schedules that no longer change.

    Attributes
    ----------
    name : str
        Its number and where its schedules came from, such as "2 cosine".
    temperature, alpha : callable
        The schedules.
    temperatures, alphas : list of float
        Their values at each step of training.
    student : nn.Module
    steps : list of int
        When it was measured.
    errors : list of float
        Share of held-out images it got wrong, in percent.
    done : bool
        Whether it has been trained to the end.
    """

    def __init__(self, name: str, role: str, race: ScheduledRace, *, temperature: Schedule, alpha: Schedule) -> None:
        self.name, self.temperature, self.alpha = name, temperature, alpha
        self._role, self._race = role, race
        progress = [progress_of(step, race.total) for step in range(race.total)]
        self.temperatures = [temperature(p) for p in progress]
        self.alphas = [alpha(p) for p in progress]

    @property
    def student(self) -> nn.Module:
        """The student as it is now."""
        return self._race.arm.student

    @property
    def steps(self) -> list[int]:
        """When it was measured."""
        return self._race.arm.steps

    @property
    def errors(self) -> list[float]:
        """Share of held-out images it got wrong, in percent."""
        return self._race.arm.errors

    @property
    def done(self) -> bool:
        """Whether it has been trained to the end."""
        return self._race.done

    def __repr__(self) -> str:
        """Return its name and how far it is."""
        return f"ScheduleRun({self.name!r}, step {self._race.step} of {self._race.total})"


def count_steps(data: tuple[Tensor, ...], *, batch_size: int, epochs: int) -> int:
    """Count the steps of a run, of which the last of each epoch may be on fewer samples."""
    return len(Minibatches(*data, batch_size=batch_size, epochs=epochs))
