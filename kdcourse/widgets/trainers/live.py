"""The live trainer: a student is distilled while T and α move, and another without a teacher learns beside it.

Chapter 02. ``LiveRace`` trains and ``LivePicture`` draws; this has the controls.
"""

import copy
from collections.abc import Callable
from typing import Any

import ipywidgets
from torch import Tensor, nn

from ..._arguments import check_alpha
from ...data.mnist import MNIST
from ...objectives import soft_target_objective
from ...training import Knobs, MakeOptimizer, Objective, make_adam, predict_logits
from ..controls import alpha_slider, check_on_slider, is_snap, make_row, temperature_slider
from .clock import Clocked, Mark
from .live_picture import LivePicture
from .live_race import LiveRace
from .race import Arm, Track
from .training_data import add_teacher_logits, take_measured


class LiveTrainer(Clocked):
    """Distil a student while its knobs move, beside a student without a teacher, on the same batches.

    Press *play*, or call ``step``. Nothing runs between two ticks of the clock and no thread is started.

    Parameters
    ----------
    student : nn.Module
        Distilled student, trained in place. The student without a teacher starts as its copy.
    teacher : nn.Module
        Not changed.
    data : MNIST
        Data as ``load_mnist`` gives, on the models' device. Errors are counted while training on the first images of
        ``held_out``: knobs that a learner turns by looking must not be turned by looking at ``test``.
    teacher_logits : Tensor, shape (N, 10), optional
        Logits for ``data.train``, if they are known already; by default they are computed here, once.
    knobs : Knobs, optional
        T and α at the start, T from 0.5 to 20. The sliders write into this object, and follow it if a cell does.
    objective : callable
        Objective ``objective(student, images, labels, teacher_logits, **knobs) -> dict[str, Tensor]``. It gets the
        knobs that it has keywords for.
    make_optimizer : callable
        Factory ``make_optimizer(parameters) -> Optimizer``; every student has an optimizer of its own.
    batch_size : int
        Samples per step.
    held_out : int
        Count of held-out images that the errors are counted on.

    Attributes
    ----------
    temperature, alpha, fork_temperature, fork_alpha : ipywidgets.FloatSlider or FloatLogSlider
        The knobs. A cell moves one by setting its ``.value``.
    play : ipywidgets.Play
    image : ipywidgets.Image
        The last frame; its PNG carries step, temperature, alpha and the count of marks as text.
    step_button, fork_button, reset_button, test_button : ipywidgets.Button
    arms : dict from str to Arm
        Students with steps and errors in percent: "distilled", "no teacher" and, after a fork, "fork".
    marks : list of Mark
        Moves of the knobs, and forks.

    Raises
    ------
    ValueError
        If a knob or a number is out of range, or the data or the models do not fit together.

    Examples
    --------
    >>> from kdcourse.data import load_mnist
    >>> from kdcourse.models import make_student_mlp, make_teacher_mlp
    >>> live = LiveTrainer(make_student_mlp(), make_teacher_mlp(), load_mnist(), held_out=500)
    >>> live.step(20)
    >>> live.temperature.value = 8
    >>> live.marks
    [Mark(step=20, arm='distilled', knob='temperature', value=8.0)]
    >>> live.close()
    """

    about = "The live trainer, with sliders for T and α: live when the notebook runs."
    what = "live trainer"

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        data: MNIST,
        *,
        teacher_logits: Tensor | None = None,
        knobs: Knobs | None = None,
        objective: Objective = soft_target_objective,
        make_optimizer: MakeOptimizer = make_adam,
        batch_size: int = 128,
        held_out: int = 2000,
    ) -> None:
        super().__init__()
        self.knobs = Knobs() if knobs is None else knobs
        self._first_knobs = copy.copy(self.knobs)
        check_on_slider(self.knobs.temperature)
        check_alpha(self.knobs.alpha)
        measured = take_measured(data, held_out)
        self._test = data.test
        aligned = add_teacher_logits(student, teacher, data, teacher_logits)
        track = Track(aligned, measured, make_optimizer, batch_size)
        self.race: LiveRace = LiveRace(student, track, objective=objective, knobs=self.knobs)
        self.picture = LivePicture(predict_logits(teacher, measured.images), measured)
        self.image = self.picture.canvas.widget
        self._moved_by_hand = True
        # What the sliders last wrote, to tell when a cell has written something else.
        self._known = {"distilled": copy.copy(self.knobs)}
        self._make_controls()
        self.draw()

    @property
    def arms(self) -> dict[str, Arm]:
        """The students in training, by name."""
        return self.race.arms

    def fork(self) -> None:
        """Go on with two copies of the distilled student, each with knobs of its own, on the same batches.

        The new fork replaces an earlier one.
        """
        self.check_open()
        with self.lock:
            arm = self.race.fork()
            assert arm.knobs is not None  # a fork has what the distilled student has
            self.marks = [mark for mark in self.marks if mark.arm != "fork"]
            self.marks.append(Mark(self.steps, "fork", "fork", 0.0))
            self._set_silently("fork", arm.knobs)
            self._fork_row.layout.display = "flex"
            self.picture.show_fork(True)
            self.draw()

    def _back_to_start(self) -> None:
        self.race.reset()
        self.knobs.temperature, self.knobs.alpha = self._first_knobs.temperature, self._first_knobs.alpha
        self._set_silently("distilled", self.knobs)
        self._fork_row.layout.display = "none"
        self.picture.show_fork(False)

    def _count_test_errors(self) -> tuple[dict[str, int], int]:
        return self.race.count_errors(*self._test), len(self._test.labels)

    def _make_controls(self) -> None:
        self.step_button = self.make_step_button()
        self.fork_button = self.make_action("fork here", "code-fork", self.fork)
        self.temperature = temperature_slider(self.knobs.temperature)
        self.alpha = alpha_slider(self.knobs.alpha)
        self.fork_temperature = temperature_slider(self.knobs.temperature, description="T of fork")
        self.fork_alpha = alpha_slider(self.knobs.alpha, description="α of fork")
        self._sliders = {
            "distilled": {"temperature": self.temperature, "alpha": self.alpha},
            "fork": {"temperature": self.fork_temperature, "alpha": self.fork_alpha},
        }
        for arm, sliders in self._sliders.items():
            for knob, slider in sliders.items():
                slider.observe(self._make_mover(arm, knob), "value")
        of_distilled, of_fork = (list(sliders.values()) for sliders in self._sliders.values())
        self.controls += [self.step_button, self.fork_button, *of_distilled, *of_fork]
        self._fork_row = make_row(*of_fork)
        self._fork_row.layout.display = "none"
        buttons = make_row(self.play, self.step_button, self.fork_button, self.reset_button, self.test_button)
        self.widget = ipywidgets.VBox([buttons, make_row(*of_distilled), self._fork_row, self.image, self.status])

    def _make_mover(self, arm: str, knob: str) -> Callable[[Any], None]:
        def move(change: Any) -> None:
            with self.guard():
                knobs = self.arms[arm].knobs if arm in self.arms else None
                if knobs is None or self.closed or not self._moved_by_hand:
                    return
                setattr(knobs, knob, change["new"])
                self._known[arm] = copy.copy(knobs)
                if knob == "temperature" and is_snap(change["old"], change["new"]):
                    return
                self.mark(Mark(self.steps, arm, knob, change["new"]))
                self.race.watch()
                self.draw()

        return move

    def _prepare(self, *, clock: bool) -> bool:
        self._follow_knobs()
        return True

    def _follow_knobs(self) -> None:
        """Let the sliders follow a cell that wrote into the knobs."""
        for name, arm in self.arms.items():
            if arm.knobs is not None and arm.knobs != self._known.get(name):
                check_on_slider(arm.knobs.temperature)
                check_alpha(arm.knobs.alpha)
                self._known[name] = copy.copy(arm.knobs)
                for knob, slider in self._sliders[name].items():
                    slider.value = getattr(self._known[name], knob)

    def _draw_frame(self) -> None:
        self.picture.draw(self.arms, self.marks, self.steps)

    def _describe(self) -> str:
        errors = ", ".join(f"{name} <b>{arm.errors[-1]:.2f} %</b>" for name, arm in self.arms.items())
        return f"Step {self.steps:,} · {self.tell_pace()} · errors on held-out images: {errors}"

    def _set_silently(self, arm: str, knobs: Knobs) -> None:
        """Move an arm's sliders without a mark."""
        self._known[arm], self._moved_by_hand = copy.copy(knobs), False
        try:
            for knob, slider in self._sliders[arm].items():
                slider.value = getattr(knobs, knob)
        finally:
            self._moved_by_hand = True
