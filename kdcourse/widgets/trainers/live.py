"""The live trainer: a student is distilled while T and α move, and another without a teacher learns beside it.

Chapter 02. ``LiveRace`` trains, ``LivePicture`` draws, ``Choices`` says what to start with; this has the controls.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets
from torch import Tensor, nn

from ..._arguments import check_alpha
from ...data.mnist import MNIST
from ...objectives import soft_target_objective
from ...training import Knobs, MakeOptimizer, Objective, make_adam, predict_logits
from ..controls import alpha_slider, check_on_slider, is_snap, make_row, temperature_slider, wide_layout
from .clock import Clocked, Mark
from .live_choices import Choices
from .live_picture import LivePicture
from .live_race import LiveRace
from .race import Arm
from .training_data import take_measured


class LiveTrainer(Clocked):
    """Distil a student while its knobs move, beside a student without a teacher, on the same batches.

    Press *play*, or call ``step``. Nothing runs between two ticks of the clock and no thread is started.

    Parameters
    ----------
    student : nn.Module, or mapping from str to callable
        Distilled student, trained in place. The student without a teacher starts as its copy. With factories by name,
        such as ``{"one hidden layer": make_student_mlp}``, a switch chooses among their students, and each choice
        starts anew. The first one begins.
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
    images : sequence of int
        Numbers of training images for a second switch; the first one begins. By default all images are used.
    digit : int, optional
        Digit whose soft target is shown at the start; by default the one that the teacher is least sure of.

    Attributes
    ----------
    temperature, alpha, fork_temperature, fork_alpha : ipywidgets.FloatSlider or FloatLogSlider
        The knobs. A cell moves one by setting its ``.value``.
    student_choice, images_choice : ipywidgets.Dropdown
        The switches, hidden where there is nothing to choose. A choice restarts the race and leaves T and α alone.
    digit_choice : ipywidgets.Dropdown
        The digit whose soft target is shown: of each, the image that the teacher gets right and is least sure of.
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
        student: nn.Module | Mapping[str, Callable[[], nn.Module]],
        teacher: nn.Module,
        data: MNIST,
        *,
        teacher_logits: Tensor | None = None,
        knobs: Knobs | None = None,
        objective: Objective = soft_target_objective,
        make_optimizer: MakeOptimizer = make_adam,
        batch_size: int = 128,
        held_out: int = 2000,
        images: Sequence[int] = (),
        digit: int | None = None,
    ) -> None:
        super().__init__()
        self.knobs = Knobs() if knobs is None else knobs
        self._first_knobs, self._objective = copy.copy(self.knobs), objective
        check_on_slider(self.knobs.temperature)
        check_alpha(self.knobs.alpha)
        measured = take_measured(data, held_out)
        self._test = data.test
        self._choices = Choices(
            student, images, teacher=teacher, data=data, measured=measured, teacher_logits=teacher_logits,
            make_optimizer=make_optimizer, batch_size=batch_size,
        )  # fmt: skip
        self.race: LiveRace = self._make_race(next(iter(self._choices.students)), next(iter(self._choices.images)))
        self.picture = LivePicture(predict_logits(teacher, measured.images), measured, digit=digit)
        self._first_digit = self.picture.digit
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

    def reset(self) -> None:
        """Go back to the start: first student, first number of images, T, α and digit as they were given."""
        super().reset()
        with self.lock:
            self._note = f"Back at the start: {self._describe_start()}."
            self.status.value = self._tell()

    def _back_to_start(self) -> None:
        switches = (self.student_choice, self.images_choice)
        moved = any(switch.index != 0 for switch in switches)
        with self._silently():
            for switch in switches:
                switch.index = 0
            self.digit_choice.value = self._first_digit
        self.picture.choose_digit(self._first_digit)
        self.knobs.temperature, self.knobs.alpha = self._first_knobs.temperature, self._first_knobs.alpha
        self._set_silently("distilled", self.knobs)
        if moved:
            self.race = self._make_race(self.student_choice.value, self.images_choice.value)
        else:
            self.race.reset()
        self._hide_fork()

    def _hide_fork(self) -> None:
        self._fork_row.layout.display = "none"
        self.picture.show_fork(False)

    def _make_race(self, student: str, images: str) -> LiveRace:
        model, track = self._choices.take_student(student), self._choices.take_track(images)
        return LiveRace(model, track, objective=self._objective, knobs=self.knobs)

    def _restart(self) -> None:
        """Begin with the chosen student and images; T and α stay where they stand."""
        if self.closed or not self._moved_by_hand:
            return
        self.status.value = "Asking the teacher about these images …"
        self.race = self._make_race(self.student_choice.value, self.images_choice.value)
        self._hide_fork()
        self._forget()
        self._note = f"A new start: {self._describe_start()}."
        self._told_at = 0.0  # at once: the status line must not go on asking the teacher
        self.draw()

    def _describe_start(self) -> str:
        chosen = [self.student_choice.value, self.images_choice.value]
        return ", ".join([*filter(None, chosen), f"T = {self.knobs.temperature:.3g}", f"α = {self.knobs.alpha:.2g}"])

    def _show_digit(self) -> None:
        if not self._moved_by_hand:
            return
        self.picture.choose_digit(self.digit_choice.value)
        self.draw()

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
        self.student_choice = make_choice("student", self._choices.students, 260)
        self.images_choice = make_choice("learns from", self._choices.images, 240)
        self.digit_choice = make_choice("show digit", self.picture.digits, 150, value=self.picture.digit)
        self.follow(self.student_choice, self.images_choice, action=self._restart)
        self.follow(self.digit_choice, action=self._show_digit)
        choices = [self.student_choice, self.images_choice, self.digit_choice]
        of_distilled, of_fork = (list(sliders.values()) for sliders in self._sliders.values())
        self.controls += [self.step_button, self.fork_button, *of_distilled, *of_fork, *choices]
        self._fork_row = make_row(*of_fork)
        self._fork_row.layout.display = "none"
        buttons = make_row(self.play, self.step_button, self.fork_button, self.reset_button, self.test_button)
        rows = [buttons, make_row(*of_distilled), self._fork_row, make_row(*choices)]
        self.widget = ipywidgets.VBox([*rows, self.image, self.status])

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
        self._known[arm] = copy.copy(knobs)
        with self._silently():
            for knob, slider in self._sliders[arm].items():
                slider.value = getattr(knobs, knob)

    @contextmanager
    def _silently(self) -> Iterator[None]:
        """Let controls move without what follows from a hand's move."""
        self._moved_by_hand = False
        try:
            yield
        finally:
            self._moved_by_hand = True


def make_choice(description: str, options: Iterable[Any], pixels: int, *, value: Any = None) -> ipywidgets.Dropdown:
    """Return a list to choose from, by default its first entry; hidden if there is nothing to choose."""
    options = list(options)
    layout = wide_layout(pixels)
    layout.display = "" if len(options) > 1 else "none"
    value = options[0] if value is None else value
    return ipywidgets.Dropdown(options=options, value=value, description=description, layout=layout)
