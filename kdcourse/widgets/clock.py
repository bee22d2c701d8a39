"""What live trainers share: ``Play`` is the clock, each of its ticks does one slice, and moved knobs leave marks.

Chapters 02 and 07. Nothing runs between two ticks, and no thread is started.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import ipywidgets

from .canvas import Shown
from .controls import make_button
from .race import Race

SLICE, SHORT_SLICE = 0.06, 0.02  # seconds of training between two looks at the sliders; and while a hand is on one
FRAME = 0.25  # seconds between two frames while nothing but the curves moves
BREATH = 0.002  # seconds
DRAG = 0.7  # seconds: moves that follow each other faster, while the clock trains, are one move of one hand
PLAYING = ("playing", "_playing")  # Play's own word for it, in ipywidgets 8 and in 7


class Mark(NamedTuple):
    """A knob that was moved, or a fork.

    Attributes
    ----------
    step : int
        Of a slider that was dragged, where it came to rest.
    arm : str
        Whose: "distilled" or "fork" of a live trainer, "cohort" of a cohort.
    knob : str
        "temperature", "alpha", "fork", or "way".
    value : float or str
        Where it was moved to.
    """

    step: int
    arm: str
    knob: str
    value: float | str


class Clocked(Shown):
    """A widget that trains while its clock ticks, or when ``step`` is called; a subclass says what, and draws it.

    A subclass sets ``image``, ``_race`` and ``_controls``, and defines ``_draw_frame`` and ``_describe``.

    Attributes
    ----------
    play : ipywidgets.Play
        The clock.
    reset_button, test_button : ipywidgets.Button
    marks : list of Mark
    images_per_second : float
        Training images that each student went through per second, drawing included.
    closed : bool
    """

    what = "trainer"  # as messages call it

    def __init__(self) -> None:
        super().__init__()
        self._race: Race
        self.marks: list[Mark] = []
        self.images_per_second = 0.0
        self.closed = False
        self._stopped, self._said = False, ""
        self._pace: deque[tuple[float, int]] = deque(maxlen=40)  # seconds and images of the last slices
        self._drawn = self._ended = self._touched = self._told = 0.0
        self._moved_at: dict[tuple[str, str], float] = {}  # when a hand was last on a knob
        # A tick is sent when the kernel has answered the one before; the interval only has to be shorter than a slice.
        # It is Play's value that counts ticks, up to a number that no lesson reaches.
        self.play = ipywidgets.Play(value=0, min=0, max=10**8, step=1, interval=10, show_repeat=False)
        self.play.observe(self._tick, "value")
        self.reset_button = self._make_action("reset", "undo", self.reset)
        self.test_button = self._make_action("test errors", "check", self.measure_test)
        self._controls: list[Any] = [self.play, self.reset_button, self.test_button]

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
        self._run(count)

    def reset(self) -> None:
        """Go back to the start; the knobs stay where they are."""
        if self.closed:
            self._check_open()  # but an error before is no hindrance: this is the way out of it
        with self._lock:
            self._back_to_start()
            self.marks, self._stopped, self._said = [], False, ""
            self._pace.clear()
            self.images_per_second = 0.0
            self._draw()

    def measure_test(self) -> dict[str, int]:
        """Count the errors on all test images, and write them into the status line."""
        self._check_open()
        with self._lock:
            errors, images = self._count_test_errors()
            found = ", ".join(f"{name} {count}" for name, count in errors.items())
            self._said = f"Errors on {images:,} test images after {self.steps:,} steps: {found}."
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

    # What a subclass says.

    def _draw_frame(self) -> None:
        raise NotImplementedError

    def _describe(self) -> str:
        raise NotImplementedError

    def _back_to_start(self) -> None:
        self._race.reset()

    def _count_test_errors(self) -> tuple[dict[str, int], int]:
        """Return the errors by name, and of how many images."""
        raise NotImplementedError

    def _prepare(self, *, clock: bool) -> bool:
        """Get ready for a slice; whether there is anything to train. ``clock`` tells a tick from a call of ``step``."""
        return True

    # The clock.

    def _make_action(self, description: str, icon: str, action: Callable[[], object]) -> ipywidgets.Button:
        """Return a button that does it; an error goes to the status line."""

        def react(button: Any) -> None:
            with self._guard():
                action()

        button = make_button(description, icon)
        button.on_click(react)
        return button

    def _make_step_button(self) -> ipywidgets.Button:
        def train() -> None:
            self._check_open()
            self._train(100)

        return self._make_action("train 100 steps", "step-forward", train)

    def _tick(self, change: Any) -> None:
        """Do one slice; a tick that goes back is the stop button, and one that finds a cell training has no turn."""
        if change["new"] <= change["old"] or self.closed or self._stopped or not self._lock.acquire(blocking=False):
            return
        try:
            with self._guard():
                start = time.perf_counter()
                held = start - self._touched < DRAG
                if held:
                    # The kernel sends from another thread, which the loop would keep waiting for a whole slice: let the
                    # frame and the answer to the slider's last message leave first.
                    time.sleep(BREATH)
                if self._prepare(clock=True):
                    before = self.steps
                    self._race.advance(seconds=SHORT_SLICE if held else SLICE)
                    self._after_slice(start=start, before=before, last=self._race.done)
        finally:
            self._lock.release()

    def _run(self, count: int) -> None:
        """Train as ``step`` does: an error is raised, and is told as well."""
        self._check_open()
        try:
            self._train(count)
        except Exception as error:
            with self._lock:
                self._fail(error)
            raise

    def _train(self, count: int) -> None:
        target, done = None, False
        while not done:
            with self._lock:
                self._moved_at.clear()  # between two calls of step no hand holds a slider
                start = time.perf_counter()
                if not self._prepare(clock=False):
                    return
                target = self.steps + count if target is None else target
                before = self.steps
                done = self._race.run_to(target, seconds=SLICE)
                self._after_slice(start=start, before=before, last=done)
            time.sleep(0.0005)  # a slider that waits for the lock gets it

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

    def _mark(self, mark: Mark) -> None:
        """Note a move. Only where the knob came to rest counts: before the next step, or at the end of a drag."""
        same = [other for other in self.marks if other[1:3] == mark[1:3]]
        moved_at = self._moved_at.get(mark[1:3], 0.0)
        self._moved_at[mark[1:3]] = self._touched = time.perf_counter()
        if same and (same[-1].step == mark.step or time.perf_counter() - moved_at < DRAG):
            self.marks.remove(same[-1])
        self.marks.append(mark)

    def _draw(self) -> None:
        self._drawn = now = time.perf_counter()
        self._draw_frame()
        # The status line can wait: while a slider is dragged, its messages would stand in the way of the picture's.
        if not self._stopped and (now - self._told >= FRAME or now - self._touched >= FRAME):
            self._told, self.status.value = now, self._tell()

    def _tell(self) -> str:
        text = self._describe()
        return f"{text}<br>{self._said}" if self._said else text

    def _tell_pace(self) -> str:
        return f"{self.images_per_second:,.0f} images/s" if self._pace else "press play"

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        self._stopped = True
        self._stop_playing()

    def _stop_playing(self) -> None:
        for name in PLAYING:  # both ipywidgets let Python stop it, neither start it
            if self.play.has_trait(name):
                setattr(self.play, name, False)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"this {self.what} was closed; make a new one to train on.")
        if self._stopped:
            raise RuntimeError(f"the {self.what} has stopped at an error: {self.errors[-1]}") from self.errors[-1]
