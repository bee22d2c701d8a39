"""A student that is trained while schedules turn its knobs.

Chapter 07. No widgets in here: ``ScheduleEditor`` draws the schedules and what comes of them.
"""

from types import SimpleNamespace

from torch import nn

from ...objectives import soft_target_objective, with_knobs
from ...training.schedules import Schedule, progress_of
from .race import Race, Track


class ScheduledRace(Race):
    """One student from start to end, while schedules turn its knobs.

    Parameters
    ----------
    student : nn.Module
        Trained in place.
    track : Track
        Data with images, labels and teacher logits, and how to train on them.
    temperature, alpha : callable
        Schedules. The last step trains with their end values.
    """

    def __init__(self, student: nn.Module, track: Track, *, temperature: Schedule, alpha: Schedule) -> None:
        super().__init__(track)
        self.temperature, self.alpha = temperature, alpha
        scheduled = with_knobs(soft_target_objective, SimpleNamespace(temperature=temperature, alpha=alpha))
        self.arm = self.enter("scheduled", student, scheduled)
        self.start()


class ScheduleRun:
    """A student that was trained, or is being trained, with schedules that no longer change.

    Attributes
    ----------
    name : str
        Number of the run and the origin of its schedules, such as "2 cosine".
    role : str
        Key of ``COLORS`` and ``LINES``: the look of the run in the picture.
    temperature, alpha : callable
        The schedules.
    temperatures, alphas : list of float
        Values of the schedules at each step of training.
    student : nn.Module
    steps : list of int
        Steps at which the student was measured.
    errors : list of float
        Share of held-out images that the student got wrong, in percent.
    done : bool
        Whether the student has been trained to the end.
    """

    def __init__(self, name: str, role: str, race: ScheduledRace) -> None:
        self.name, self.temperature, self.alpha = name, race.temperature, race.alpha
        self.role, self._race = role, race
        progress = [progress_of(step, race.total) for step in range(race.total)]
        self.temperatures = [self.temperature(p) for p in progress]
        self.alphas = [self.alpha(p) for p in progress]

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
