"""The cohort trainer: students that teach each other while you watch, and one that started like the first, alone.

Chapter 07. ``CohortRace`` trains and ``CohortPicture`` draws; this has the controls. Letters: S students, M
measurements.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets
import torch
from torch import Tensor, nn

from ...data.mnist import MNIST
from ...objectives import mutual_objective, with_knobs
from ...training import Knobs, MakeOptimizer, make_adam
from ..controls import is_snap, make_row, temperature_slider, wide_layout
from .clock import Clocked, Mark
from .cohort_picture import MOST, CohortPicture
from .cohort_race import WAYS, CohortRace, ways_of
from .race import Track
from .training_data import check_same_classes, take_measured


class CohortTrainer(Clocked):
    """Train a cohort of students that teach each other, and choose how they do it while it runs.

    Press *play*, or call ``step``. Another student, *alone*, starts as a copy of student 0 and learns from the labels
    only, on the same batches. One copy per student would be a fairer comparison, and cost as much as the cohort.

    Parameters
    ----------
    students : sequence of nn.Module
        Two to six students that share nothing, trained in place. Their architectures may differ.
    data : MNIST
        Data as ``load_mnist`` gives, on the students' device. Errors are counted while training on the first images of
        ``held_out``.
    make_optimizer : callable
        Factory ``make_optimizer(parameters) -> Optimizer``; every student has an optimizer of its own.
    batch_size : int
        Samples per step.
    held_out : int
        Count of held-out images that the errors are counted on.

    Attributes
    ----------
    temperature : ipywidgets.FloatLogSlider
        T of what peers tell each other; 1 at the start, as in the paper.
    way : ipywidgets.Dropdown
        What the students learn from: "pairwise" (``mutual_learning_loss``), "averaged logits" (with three students or
        more; ``mutual_ensemble_loss``) or "labels only". A cell chooses by setting ``.value``.
    play : ipywidgets.Play
    image : ipywidgets.Image
        The last frame; its PNG carries step, temperature, way (its place in the list) and the count of marks as text.
    step_button, reset_button, test_button : ipywidgets.Button
    students : list of nn.Module
    alone : nn.Module
    steps : int
    measured : list of int
        The M steps at which everything was measured.
    curves : dict from str to list of float
        Held-out errors in percent at those steps: "student 0", "student 1", …, "alone", and "vote" for the mean of
        the students' probabilities.
    divergences : Tensor, shape (M, S+1, S+1)
        Distances at those steps: ``[m, i, j]`` is the mean KL(p_j ‖ p_i) in nats, at T = 1, which student i is told by
        its peer j. The last row and column are the one alone, whom nobody tells anything.
    agreements : Tensor, shape (M, S+1, S+1)
        Share of the held-out images to which two students give the same answer.
    marks : list of Mark
        Moves of T or the way.

    Raises
    ------
    ValueError
        If there are fewer than two students or more than six, two of them share parameters or differ in their
        classes, or a number is out of range.

    Examples
    --------
    >>> from kdcourse.data import load_mnist
    >>> from kdcourse.models import make_student_mlp
    >>> cohort = CohortTrainer([make_student_mlp() for _ in range(2)], load_mnist(), held_out=500)
    >>> cohort.step(20)
    >>> cohort.way.value = "labels only"
    >>> cohort.marks
    [Mark(step=20, arm='cohort', knob='way', value='labels only')]
    >>> cohort.close()
    """

    about = "The cohort trainer, with a slider for T and a choice of who teaches whom: live when the notebook runs."
    what = "cohort trainer"

    def __init__(
        self,
        students: Sequence[nn.Module],
        data: MNIST,
        *,
        make_optimizer: MakeOptimizer = make_adam,
        batch_size: int = 128,
        held_out: int = 2000,
    ) -> None:
        super().__init__()
        if len(students) > MOST:
            raise ValueError(f"the picture has room for {MOST} students, got {len(students)}.")
        measured = take_measured(data, held_out)
        for number, student in enumerate(students[1:], start=1):
            names = f"student 0 and student {number}"
            check_same_classes(students[0], student, names=names, images=measured.images)
        self._knobs, self._test = Knobs(temperature=1.0), data.test
        self.temperature = temperature_slider(self._knobs.temperature)
        self.way = ipywidgets.Dropdown(
            options=ways_of(len(students)), value="pairwise", description="learn from", layout=wide_layout(300)
        )
        track = Track(data.train, measured, make_optimizer, batch_size)
        objective = with_knobs(partial(mutual_objective, loss=self._loss), self._knobs)
        self.race: CohortRace = CohortRace(students, track, objective=objective)
        self.picture = CohortPicture(len(students))
        self.image = self.picture.canvas.widget
        self._make_controls()
        self.draw()

    @property
    def students(self) -> list[nn.Module]:
        """The cohort."""
        return self.race.students

    @property
    def alone(self) -> nn.Module:
        """The student that started as a copy of student 0 and has no peers."""
        return self.race.arms["alone"].student

    @property
    def measured(self) -> list[int]:
        """Steps at which everything was measured."""
        return self.race.measured

    @property
    def curves(self) -> dict[str, list[float]]:
        """Held-out errors in percent, by name."""
        students = {f"student {number}": errors for number, errors in enumerate(self.race.student_errors)}
        arms = self.race.arms
        return {**students, "alone": arms["alone"].errors, "vote": arms["cohort"].errors}

    @property
    def divergences(self) -> Tensor:
        """Mean KL(p_j ‖ p_i) at each measurement, (M, S+1, S+1)."""
        return torch.stack(self.race.divergences)

    @property
    def agreements(self) -> Tensor:
        """Share of equal answers at each measurement, (M, S+1, S+1)."""
        return torch.stack(self.race.agreements)

    def _loss(self, all_logits: Sequence[Tensor], labels: Tensor, *, temperature: float | Tensor) -> list[Tensor]:
        return WAYS[self.way.value](all_logits, labels, temperature=temperature)

    def _make_controls(self) -> None:
        self.step_button = self.make_step_button()
        self.temperature.observe(self._turn_temperature, "value")
        self.way.observe(self._turn_way, "value")
        self.controls += [self.step_button, self.temperature, self.way]
        buttons = make_row(self.play, self.step_button, self.reset_button, self.test_button)
        self.widget = ipywidgets.VBox([buttons, make_row(self.way, self.temperature), self.image, self.status])

    def _turn_temperature(self, change: Any) -> None:
        with self.guard():
            if not self.closed:
                self._knobs.temperature = change["new"]
                if not is_snap(change["old"], change["new"]):
                    self._moved("temperature", change["new"])

    def _turn_way(self, change: Any) -> None:
        with self.guard():
            if not self.closed:
                self.temperature.disabled = change["new"] == "labels only"  # without peers T has no meaning
                self._moved("way", change["new"])

    def _moved(self, knob: str, value: float | str) -> None:
        self.mark(Mark(self.steps, "cohort", knob, value))
        self.draw()

    def _count_test_errors(self) -> tuple[dict[str, int], int]:
        return self.race.count_errors(*self._test), len(self._test.labels)

    def _draw_frame(self) -> None:
        race = self.race
        notes = {"temperature": self._knobs.temperature, "way": list(WAYS).index(self.way.value)}
        self.picture.draw(
            race.measured, self.curves, race.divergences, step=self.steps, marks=self.marks, notes=notes
        )  # fmt: skip

    def _describe(self) -> str:
        *students, alone, vote = (errors[-1] for errors in self.curves.values())
        each = ", ".join(f"<b>{errors:.2f} %</b>" for errors in students)
        same = self.race.agreements[-1]
        within, count = _off_diagonal_mean(same[:-1, :-1]), len(students)
        outside = float(same[-1, :-1].mean())
        return (
            f"Step {self.steps:,} · {self.tell_pace()} · errors on held-out images: students 0 to {count - 1}: "
            f"{each}; alone: <b>{alone:.2f} %</b>; the vote of the cohort: <b>{vote:.2f} %</b>.<br>Two students of "
            f"the cohort give the same answer to {100 * within:.1f} % of the images, a student and the one alone to "
            f"{100 * outside:.1f} %."
        )


def _off_diagonal_mean(matrix: Tensor) -> float:
    count = len(matrix)
    return float((matrix.sum() - matrix.diagonal().sum()) / (count * (count - 1)))
