"""The cohort trainer: students that teach each other while you watch, and one that started like the first, alone.

Chapter 07. Letters: S students, N held-out images, K classes, M measurements.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import ipywidgets
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.mnist import MNIST
from ..losses import kd_loss, mutual_ensemble_loss, mutual_learning_loss
from ..objectives import label_objective, mutual_objective, with_knobs
from ..recipes import Cohort, make_optimizers
from ..training import Knobs, MakeOptimizer, Objective, count_errors, make_adam, predict_logits
from .clock import Clocked, Mark
from .cohort_picture import MOST, CohortPicture
from .controls import check_on_slider, is_snap, make_row, temperature_slider
from .inputs import check_same_classes, take_measured
from .race import Arm, Race, check_finite, predict_in_parts


def label_losses(all_logits: Sequence[Tensor], labels: Tensor, *, temperature: float | Tensor = 1.0) -> list[Tensor]:
    """One cross-entropy per student and nothing from its peers: ``mutual_learning_loss`` without the learning."""
    return [F.cross_entropy(logits, labels) for logits in all_logits]


WAYS = {"pairwise": mutual_learning_loss, "averaged logits": mutual_ensemble_loss, "labels only": label_losses}


class CohortRace(Race):
    """A cohort, and a copy of its first student that learns alone, on the same batches.

    Parameters
    ----------
    students : sequence of nn.Module
        Trained in place.
    data, held_out : tuple of Tensor
        Images and labels, to learn from and to count errors on.
    objective : callable
        Of the cohort.
    make_optimizer, batch_size, seed
        As in ``Race``; each student has its own optimizer.

    Attributes
    ----------
    measured : list of int
        Steps at which everything was measured.
    student_errors : list of list of float
        Of each student, in percent. The errors of arm "cohort" are those of its vote.
    divergences, agreements : list of Tensor, each of shape (S+1, S+1)
        As ``CohortTrainer`` has them.
    """

    def __init__(
        self,
        students: Sequence[nn.Module],
        data: tuple[Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        *,
        objective: Objective,
        make_optimizer: MakeOptimizer,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(data, held_out, make_optimizer=make_optimizer, batch_size=batch_size, seed=seed)
        self.students = list(students)
        alone = copy.deepcopy(self.students[0])
        self._enter("cohort", Cohort(self.students), objective)
        self._enter("alone", alone, label_objective)
        self._start()

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
        """Count the errors of each student, of the one alone and of the vote on images, all at once."""
        self.rest()
        errors = {name: count_errors(student, images, labels) for name, student in self.everyone.items()}
        logits = torch.stack([predict_logits(student, images) for student in self.students])  # (S, N, K)
        return {**errors, "vote": int((_vote(logits) != labels).sum())}

    def _optimize(self, student: nn.Module) -> Optimizer:
        if isinstance(student, Cohort):
            return make_optimizers(self.students, self.make_optimizer)
        return super()._optimize(student)

    def _start(self) -> None:
        self.student_errors: list[list[float]] = [[] for _ in self.students]
        self.divergences: list[Tensor] = []
        self.agreements: list[Tensor] = []
        super()._start()

    def _evaluate(self, arms: list[Arm]) -> Iterator[None]:
        images, labels = self.held_out
        for arm in arms:
            check_finite(arm, self.step)
        everyone = []
        for student in self.everyone.values():
            everyone.append((yield from predict_in_parts(student, images)))
        logits = torch.stack(everyone)  # (S+1, N, K)
        answers = logits.argmax(dim=-1)  # (S+1, N)
        for errors, wrong in zip(self.student_errors, answers != labels, strict=False):  # the last is the one alone
            errors.append(100 * int(wrong.sum()) / len(labels))
        self._record(self.arms["cohort"], _vote(logits[:-1]) != labels)
        self._record(self.arms["alone"], answers[-1] != labels)
        told = [torch.stack([kd_loss(own, peer, temperature=1.0) for peer in logits]) for own in logits]
        self.divergences.append(torch.stack(told).cpu())  # (S+1, S+1)
        self.agreements.append((answers[:, None] == answers).float().mean(dim=-1).cpu())  # (S+1, S+1)
        self._evaluated = self.step


class CohortTrainer(Clocked):
    """Train a cohort of students that teach each other, and choose how they do it while it runs.

    Press *play*, or call ``step``. Another student, *alone*, starts as a copy of student 0 and learns from the labels
    only, on the same batches. One copy per student would be a fairer comparison, and cost as much as the cohort.

    Parameters
    ----------
    students : sequence of nn.Module
        Two to six that share nothing, trained in place; their architectures may differ.
    data : MNIST
        As ``load_mnist`` gives, on the students' device. Errors are counted while training on the first of
        ``held_out``.
    temperature : float
        T of what peers tell each other, from 0.5 to 20; 1 in the paper.
    way : str
        "pairwise" (``mutual_learning_loss``), "averaged logits" (``mutual_ensemble_loss``) or "labels only".
    make_optimizer : callable
        ``make_optimizer(parameters) -> Optimizer``; every student has its own.
    batch_size, seed : int
        Samples per step; the seed of their order.
    held_out : int
        How many of the held-out images the errors are counted on.

    Attributes
    ----------
    temperature : ipywidgets.FloatLogSlider
    way : ipywidgets.Dropdown
        Set ``.value`` in a cell to move one without a hand.
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
        ``[m, i, j]`` is the mean KL(p_j ‖ p_i) in nats, at T = 1: what student i is told by its peer j. The last row
        and column are the one alone, whom nobody tells anything.
    agreements : Tensor, shape (M, S+1, S+1)
        Share of the held-out images to which two give the same answer.
    marks : list of Mark
        Where T or the way was moved.

    Raises
    ------
    ValueError
        If there are fewer than two students or more than six, two of them share parameters or differ in their
        classes, or a knob or a number is out of range.

    Examples
    --------
    >>> from kdcourse.data import load_mnist
    >>> from kdcourse.models import make_student_mlp
    >>> cohort = CohortTrainer([make_student_mlp() for _ in range(2)], load_mnist(), held_out=500)
    >>> cohort.step(20)
    >>> cohort.way.value = "averaged logits"
    >>> cohort.marks
    [Mark(step=20, arm='cohort', knob='way', value='averaged logits')]
    >>> cohort.close()
    """

    about = "The cohort trainer, with a slider for T and a choice of who teaches whom: live when the notebook runs."
    what = "cohort trainer"

    def __init__(
        self,
        students: Sequence[nn.Module],
        data: MNIST,
        *,
        temperature: float = 1.0,
        way: str = "pairwise",
        make_optimizer: MakeOptimizer = make_adam,
        batch_size: int = 128,
        seed: int = 0,
        held_out: int = 2000,
    ) -> None:
        super().__init__()
        check_on_slider(temperature)
        if way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(map(repr, WAYS))}, got {way!r}.")
        if len(students) > MOST:
            raise ValueError(f"the picture has room for {MOST} students, got {len(students)}.")
        measured = take_measured(data, held_out)
        for number, student in enumerate(students[1:], start=1):
            names = f"student 0 and student {number}"
            check_same_classes(students[0], student, names=names, images=measured.images)
        self._knobs, self._test = Knobs(temperature=temperature), data.test
        self.temperature = temperature_slider(temperature)
        layout = ipywidgets.Layout(width="300px", max_width="100%")
        self.way = ipywidgets.Dropdown(options=list(WAYS), value=way, description="learn from", layout=layout)
        self._race: CohortRace = CohortRace(
            students, data.train, measured,
            objective=with_knobs(partial(mutual_objective, loss=self._loss), self._knobs),
            make_optimizer=make_optimizer, batch_size=batch_size, seed=seed,
        )  # fmt: skip
        self._picture = CohortPicture(len(students))
        self.image = self._picture.canvas.widget
        self._make_controls()
        self._draw()

    @property
    def students(self) -> list[nn.Module]:
        """The cohort."""
        return self._race.students

    @property
    def alone(self) -> nn.Module:
        """The student that started as a copy of student 0 and has no peers."""
        return self._race.arms["alone"].student

    @property
    def measured(self) -> list[int]:
        """Steps at which everything was measured."""
        return self._race.measured

    @property
    def curves(self) -> dict[str, list[float]]:
        """Held-out errors in percent, by name."""
        students = {f"student {number}": errors for number, errors in enumerate(self._race.student_errors)}
        arms = self._race.arms
        return {**students, "alone": arms["alone"].errors, "vote": arms["cohort"].errors}

    @property
    def divergences(self) -> Tensor:
        """Mean KL(p_j ‖ p_i) at each measurement, (M, S+1, S+1)."""
        return torch.stack(self._race.divergences)

    @property
    def agreements(self) -> Tensor:
        """Share of equal answers at each measurement, (M, S+1, S+1)."""
        return torch.stack(self._race.agreements)

    def _loss(self, all_logits: Sequence[Tensor], labels: Tensor, *, temperature: float | Tensor) -> list[Tensor]:
        return WAYS[self.way.value](all_logits, labels, temperature=temperature)

    def _make_controls(self) -> None:
        self.step_button = self._make_step_button()
        self.temperature.observe(self._turn_temperature, "value")
        self.way.observe(self._turn_way, "value")
        self._controls += [self.step_button, self.temperature, self.way]
        buttons = make_row(self.play, self.step_button, self.reset_button, self.test_button)
        self.widget = ipywidgets.VBox([buttons, make_row(self.way, self.temperature), self.image, self.status])

    def _turn_temperature(self, change: Any) -> None:
        with self._guard():
            if not self.closed:
                self._knobs.temperature = change["new"]
                if not is_snap(change["old"], change["new"]):
                    self._moved("temperature", change["new"])

    def _turn_way(self, change: Any) -> None:
        with self._guard():
            if not self.closed:
                self.temperature.disabled = change["new"] == "labels only"  # where no peer speaks, T says nothing
                self._moved("way", change["new"])

    def _moved(self, knob: str, value: float | str) -> None:
        self._mark(Mark(self.steps, "cohort", knob, value))
        self._draw()

    def _count_test_errors(self) -> tuple[dict[str, int], int]:
        return self._race.count_errors(*self._test), len(self._test.labels)

    def _draw_frame(self) -> None:
        race = self._race
        said = {"temperature": self._knobs.temperature, "way": list(WAYS).index(self.way.value)}
        self._picture.draw(
            race.measured, self.curves, race.divergences, step=self.steps, marks=self.marks, said=said
        )  # fmt: skip

    def _describe(self) -> str:
        *students, alone, vote = (errors[-1] for errors in self.curves.values())
        each = ", ".join(f"<b>{errors:.2f} %</b>" for errors in students)
        same = self._race.agreements[-1]
        within, count = _off_diagonal_mean(same[:-1, :-1]), len(students)
        outside = float(same[-1, :-1].mean())
        return (
            f"Step {self.steps:,} · {self._tell_pace()} · errors on held-out images: students 0 to {count - 1}: "
            f"{each}; alone: <b>{alone:.2f} %</b>; the vote of the cohort: <b>{vote:.2f} %</b>.<br>Two students of "
            f"the cohort give the same answer to {100 * within:.1f} % of the images, a student and the one alone to "
            f"{100 * outside:.1f} %."
        )


def _vote(logits: Tensor) -> Tensor:
    """Return the answers of the mean of the students' probabilities, from (S, N, K) to (N,)."""
    return logits.softmax(dim=-1).mean(dim=0).argmax(dim=-1)


def _off_diagonal_mean(matrix: Tensor) -> float:
    count = len(matrix)
    return float((matrix.sum() - matrix.diagonal().sum()) / (count * (count - 1)))
