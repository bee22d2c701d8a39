"""The live trainer: a student is distilled while T and α move, and another without a teacher learns beside it.

Chapter 02. ``SideBySide`` trains; this turns its knobs and draws. ``Play`` is the clock: each tick does one slice.
"""

import copy
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import ipywidgets
from torch import Tensor, nn

from ..data.mnist import MNIST
from ..losses._checks import check_alpha
from ..recipes import MakeOptimizer, make_adam, make_soft_target_objective
from ..training import Knobs, Objective, predict_logits
from .canvas import Shown
from .controls import alpha_slider, check_on_slider, is_snap, make_button, make_row, temperature_slider
from .live_picture import LivePicture
from .side_by_side import Arm, SideBySide

SLICE, SHORT_SLICE = 0.06, 0.02  # seconds of training between two looks at the sliders; and while a hand is on one
FRAME = 0.25  # seconds between two frames while nothing but the curves moves
BREATH = 0.002  # seconds
DRAG = 0.7  # seconds: moves that follow each other faster, while the clock trains, are one move of one hand


class Mark(NamedTuple):
    """A knob that was moved, or a fork.

    Attributes
    ----------
    step : int
        Of a slider that was dragged, where it came to rest.
    arm : str
        "distilled" or "fork".
    knob : str
        "temperature", "alpha" or "fork".
    value : float
        Where it was moved to.
    """

    step: int
    arm: str
    knob: str
    value: float


class LiveTrainer(Shown):
    """Distil a student while its knobs move, beside a student without a teacher, on the same batches.

    Press *play*, or call ``step``. Nothing runs between two ticks of the clock and no thread is started.

    Parameters
    ----------
    student : nn.Module
        Trained in place; the student without a teacher starts as its copy.
    teacher : nn.Module
        Not changed.
    data : MNIST
        As ``load_mnist`` gives, on the models' device. Errors are counted while training on the first of
        ``held_out``: knobs that a learner turns by looking must not be turned by looking at ``test``.
    teacher_logits : Tensor, shape (N, 10), optional
        Of ``data.train``, if they are there already; otherwise computed once, here.
    knobs : Knobs, optional
        T and α to begin with, T from 0.5 to 20. The sliders write into this object, and follow it if a cell does.
    make_objective : callable
        ``make_objective(knobs) -> objective``; the objective is called with images, labels and teacher logits.
    make_optimizer : callable
        ``make_optimizer(parameters) -> Optimizer``; every student has its own.
    batch_size, seed : int
        Samples per step; the seed of their order.
    held_out : int
        How many of the held-out images the errors are counted on.

    Attributes
    ----------
    temperature, alpha, fork_temperature, fork_alpha : ipywidgets.FloatSlider or FloatLogSlider
        The knobs; set ``.value`` in a cell to move one without a hand.
    play : ipywidgets.Play
    image : ipywidgets.Image
        The last frame; its PNG carries step, temperature, alpha and the count of marks as text.
    step_button, fork_button, reset_button, test_button : ipywidgets.Button
    arms : dict from str to Arm
        "distilled", "no teacher" and, after a fork, "fork": student, steps and errors in percent.
    marks : list of Mark
    kept : dict from int to nn.Module
        The student at each step where it was forked.
    images_per_second : float
        Training images that each student went through per second, drawing included.

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

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        data: MNIST,
        *,
        teacher_logits: Tensor | None = None,
        knobs: Knobs | None = None,
        make_objective: Callable[[Knobs], Objective] = make_soft_target_objective,
        make_optimizer: MakeOptimizer = make_adam,
        batch_size: int = 128,
        seed: int = 0,
        held_out: int = 2000,
    ) -> None:
        super().__init__()
        self.knobs = Knobs() if knobs is None else knobs
        check_on_slider(self.knobs.temperature)
        check_alpha(self.knobs.alpha)
        if held_out < 1:
            raise ValueError(f"held_out must be a positive number of images, got {held_out}.")
        self._check(student, teacher, data, teacher_logits)
        images, labels = data.train
        if teacher_logits is None:
            teacher_logits = predict_logits(teacher, images)  # (N, 10), once: nothing augments the images
        measured = data.held_out.take(min(held_out, len(data.held_out.labels)))
        self._test = data.test
        self._race = SideBySide(
            student, (images, labels, teacher_logits), measured, make_objective=make_objective, knobs=self.knobs,
            make_optimizer=make_optimizer, batch_size=batch_size, seed=seed,
        )  # fmt: skip
        self._picture = LivePicture(predict_logits(teacher, measured.images), measured)
        self.image = self._picture.canvas.widget
        self.marks: list[Mark] = []
        self.kept: dict[int, nn.Module] = {}
        self.images_per_second = 0.0
        self.closed = False
        self._stopped, self._moved_by_hand, self._said = False, True, ""
        self._pace: deque[tuple[float, int]] = deque(maxlen=40)  # seconds and images of the last slices
        self._drawn = self._ended = self._touched = self._told = 0.0
        self._moved_at: dict[tuple[str, str], float] = {}  # when a hand was last on a slider
        # What the sliders last wrote, to tell when a cell has written something else.
        self._known = {"distilled": copy.copy(self.knobs)}
        self._make_controls()
        self._draw()

    @property
    def arms(self) -> dict[str, Arm]:
        """The students in training, by name."""
        return self._race.arms

    @property
    def steps(self) -> int:
        """Count of training steps that every student has taken."""
        return self._race.step

    def step(self, count: int = 100) -> None:
        """Train every student for some steps, with or without a front end; sliders act in between.

        Parameters
        ----------
        count : int
            Steps, that is batches.

        Raises
        ------
        ValueError
            If the count is not a positive integer or the trainer was closed.
        RuntimeError
            If it has stopped at an error before.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"step needs a positive integer, the number of batches to train on, got {count!r}.")
        self._check_open()
        target = self.steps + count
        try:
            self._train_to(target)
        except Exception as error:
            with self._lock:
                self._fail(error)
            raise

    def fork(self) -> None:
        """Keep the student of this moment and go on with two of it, each with knobs of its own, on the same batches.

        A fork that was there before makes way for the new one.
        """
        self._check_open()
        with self._lock:
            arm = self._race.fork()
            assert arm.knobs is not None  # a fork has what the distilled student has
            self.kept[self.steps] = copy.deepcopy(arm.student)
            self.marks = [mark for mark in self.marks if mark.arm != "fork"]
            self.marks.append(Mark(self.steps, "fork", "fork", 0.0))
            self._set_silently("fork", arm.knobs)
            self._fork_row.layout.display = "flex"
            self._picture.show_fork(True)
            self._draw()

    def reset(self) -> None:
        """Go back to the student of the start; the knobs stay where they are."""
        if self.closed:
            self._check_open()  # but an error before is no hindrance: this is the way out of it
        with self._lock:
            self._race.reset()
            self.marks, self.kept, self._stopped, self._said = [], {}, False, ""
            self._pace.clear()
            self.images_per_second = 0.0
            self._fork_row.layout.display = "none"
            self._picture.show_fork(False)
            self._draw()

    def measure_test(self) -> dict[str, int]:
        """Count the errors of every student on all test images, and write them into the status line."""
        self._check_open()
        with self._lock:
            errors = self._race.count_errors(*self._test)
            found = ", ".join(f"{name} {count}" for name, count in errors.items())
            self._said = f"Errors on {len(self._test.labels):,} test images after {self.steps:,} steps: {found}."
            self._draw()
        return errors

    def close(self) -> None:
        """Stop for good; the picture and the students stay.

        Raises
        ------
        RuntimeError
            From the first error that a tick, a slider or a button met: an executed notebook fails there.
        """
        with self._lock:
            self.closed = True
            self._stop_playing()
            for control in self._controls:
                control.disabled = True
        super().close()

    def _make_controls(self) -> None:
        # A tick is sent when the kernel has answered the one before; the interval only has to be shorter than a slice.
        # It is Play's value that counts ticks, up to a number that no lesson reaches.
        self.play = ipywidgets.Play(value=0, min=0, max=10**8, step=1, interval=10, show_repeat=False)
        self.step_button = make_button("train 100 steps", "step-forward")
        self.fork_button = make_button("fork here", "code-fork")
        self.reset_button = make_button("reset", "undo")
        self.test_button = make_button("test errors", "check")
        self.temperature = temperature_slider(self.knobs.temperature)
        self.alpha = alpha_slider(self.knobs.alpha)
        self.fork_temperature = temperature_slider(self.knobs.temperature, description="T of fork")
        self.fork_alpha = alpha_slider(self.knobs.alpha, description="α of fork")
        buttons = [self.step_button, self.fork_button, self.reset_button, self.test_button]
        self._controls = [self.play, *buttons, self.temperature, self.alpha, self.fork_temperature, self.fork_alpha]

        self.play.observe(self._tick, "value")
        self._sliders = {
            "distilled": {"temperature": self.temperature, "alpha": self.alpha},
            "fork": {"temperature": self.fork_temperature, "alpha": self.fork_alpha},
        }
        for button, action in zip(buttons, (self._step_100, self.fork, self.reset, self.measure_test), strict=True):
            button.on_click(self._guarded(action))
        for arm, sliders in self._sliders.items():
            for knob, slider in sliders.items():
                slider.observe(self._make_mover(arm, knob), "value")
        self._fork_row = make_row(self.fork_temperature, self.fork_alpha)
        self._fork_row.layout.display = "none"
        rows = [make_row(self.play, *buttons), make_row(self.temperature, self.alpha), self._fork_row]
        self.widget = ipywidgets.VBox([*rows, self.image, self.status])

    def _guarded(self, action: Callable[[], object]) -> Callable[[Any], None]:
        def react(button: Any) -> None:
            with self._guard():
                action()

        return react

    def _step_100(self) -> None:
        self._check_open()
        self._train_to(self.steps + 100)

    def _tick(self, change: Any) -> None:
        """Do one slice; a tick that goes back is the stop button, and one that finds a cell training has no turn."""
        if change["new"] <= change["old"] or self.closed or self._stopped or not self._lock.acquire(blocking=False):
            return
        try:
            with self._guard():
                start, before = time.perf_counter(), self.steps
                held = start - self._touched < DRAG
                if held:
                    # The kernel sends from another thread, which the loop would keep waiting for a whole slice: let the
                    # frame and the answer to the slider's last message leave first.
                    time.sleep(BREATH)
                self._follow_knobs()
                self._race.advance(seconds=SHORT_SLICE if held else SLICE)
                self._after_slice(start=start, before=before)
        finally:
            self._lock.release()

    def _train_to(self, target: int) -> None:
        done = False
        while not done:
            with self._lock:
                self._moved_at.clear()  # between two calls of step no hand holds a slider
                start, before = time.perf_counter(), self.steps
                self._follow_knobs()
                done = self._race.run_to(target, seconds=SLICE)
                self._after_slice(start=start, before=before, last=done)
            time.sleep(0.0005)  # a slider that waits for the lock gets it

    def _make_mover(self, arm: str, knob: str) -> Callable[[Any], None]:
        def move(change: Any) -> None:
            with self._guard():
                knobs = self.arms[arm].knobs if arm in self.arms else None
                if knobs is None or self.closed or not self._moved_by_hand:
                    return
                setattr(knobs, knob, change["new"])
                self._known[arm] = copy.copy(knobs)
                if knob == "temperature" and is_snap(change["old"], change["new"]):
                    return
                self._mark(Mark(self.steps, arm, knob, change["new"]))
                self._draw()

        return move

    def _mark(self, mark: Mark) -> None:
        """Note a move. Only where the slider came to rest counts: before the next step, or at the end of a drag."""
        same = [other for other in self.marks if other[1:3] == mark[1:3]]
        moved_at = self._moved_at.get(mark[1:3], 0.0)
        self._moved_at[mark[1:3]] = self._touched = time.perf_counter()
        if same and (same[-1].step == mark.step or time.perf_counter() - moved_at < DRAG):
            self.marks.remove(same[-1])
        self.marks.append(mark)

    def _follow_knobs(self) -> None:
        """Let the sliders follow a cell that wrote into the knobs."""
        for name, arm in self.arms.items():
            if arm.knobs is not None and arm.knobs != self._known.get(name):
                check_on_slider(arm.knobs.temperature)
                check_alpha(arm.knobs.alpha)
                self._known[name] = copy.copy(arm.knobs)
                for knob, slider in self._sliders[name].items():
                    slider.value = getattr(self._known[name], knob)

    def _after_slice(self, *, start: float, before: int, last: bool = False) -> None:
        """Count the images per second of the last slices, and draw if it is time."""
        now = time.perf_counter()
        # From slice to slice, so that drawing and messages are counted too; but not the time that someone paused.
        seconds = now - (self._ended if start - self._ended < FRAME else start)
        self._ended = now
        self._pace.append((seconds, (self.steps - before) * self._race.batch_size))
        self.images_per_second = sum(images for _, images in self._pace) / sum(seconds for seconds, _ in self._pace)
        if last or now - self._drawn >= FRAME:
            self._draw()

    def _draw(self) -> None:
        self._drawn = now = time.perf_counter()
        self._picture.draw(self.arms, self.marks, self.steps)
        # The status line can wait: while a slider is dragged, its messages would stand in the way of the picture's.
        if not self._stopped and (now - self._told >= FRAME or now - self._touched >= FRAME):
            self._told, self.status.value = now, self._describe()

    def _describe(self) -> str:
        errors = ", ".join(f"{name} <b>{arm.errors[-1]:.2f} %</b>" for name, arm in self.arms.items())
        pace = f"{self.images_per_second:,.0f} images/s" if self._pace else "press play"
        text = f"Step {self.steps:,} · {pace} · errors on held-out images: {errors}"
        return f"{text}<br>{self._said}" if self._said else text

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        self._stopped = True
        self._stop_playing()

    def _stop_playing(self) -> None:
        for name in ("playing", "_playing"):  # ipywidgets 8, ipywidgets 7: both let Python stop it, neither start it
            if self.play.has_trait(name):
                setattr(self.play, name, False)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("this live trainer was closed; make a new one to train on.")
        if self._stopped:
            raise RuntimeError(f"the live trainer has stopped at an error: {self.errors[-1]}") from self.errors[-1]

    def _set_silently(self, arm: str, knobs: Knobs) -> None:
        """Move an arm's sliders without a mark."""
        self._known[arm], self._moved_by_hand = copy.copy(knobs), False
        try:
            for knob, slider in self._sliders[arm].items():
                slider.value = getattr(knobs, knob)
        finally:
            self._moved_by_hand = True

    @staticmethod
    def _check(student: nn.Module, teacher: nn.Module, data: MNIST, teacher_logits: Tensor | None) -> None:
        if not all(hasattr(data, split) for split in ("train", "held_out", "test")):
            raise ValueError(
                f"data must have train, held_out and test, as load_mnist gives, got {type(data).__name__}."
            )
        if len(data.held_out.labels) == 0:
            raise ValueError("the data hold no held-out images to count errors on: load_mnist(held_out=5000).")
        if teacher_logits is not None and len(teacher_logits) != len(data.train.labels):
            raise ValueError(
                f"teacher_logits must have a row for each of the {len(data.train.labels)} training images, got "
                f"{len(teacher_logits)}. Row i of one belongs to image i of the other."
            )
        few = data.held_out.images[:2]
        shapes = [tuple(predict_logits(model, few).shape) for model in (student, teacher)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"student and teacher must have the same classes, got logits {shapes[0]} and {shapes[1]}.")
