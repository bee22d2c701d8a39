"""What live trainers share: while ``Play`` ticks they train slice by slice, and moved knobs leave marks.

Chapters 02 and 07. A tick comes four times a second; between two of them the kernel's own loop trains a slice, reads
the messages that wait, trains the next. So a slider waits for one slice, and the page is not asked for each. No thread
is started; without a loop, as in a test, each tick trains for one slice.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import ipywidgets

from ..canvas import Shown
from ..controls import make_button
from .race import Race

SLICE, SHORT_SLICE = 0.03, 0.012  # seconds of training between two looks at the messages; and while a slider is dragged
FRAME = 0.25  # seconds between two frames while nothing but the curves moves
BREATH = 0.002  # seconds in which the messages that wait leave: the kernel sends them from another thread
BEAT = 0.25  # seconds between two ticks
SILENCE = 1.5  # seconds without a tick: the page was closed. A browser slows a hidden page down to a tick a second
DRAG = 0.7  # seconds: moves that follow each other faster, while the clock trains, are one move of one hand
PLAYING = ("playing", "_playing")  # the name of Play's state in ipywidgets 8 and in 7


class Mark(NamedTuple):
    """A knob that was moved, or a fork.

    Attributes
    ----------
    step : int
        Step of the move. A dragged slider counts where it came to rest.
    arm : str
        Name of the student: "distilled" or "fork" of a live trainer, "cohort" of a cohort.
    knob : str
        Name of the knob: "temperature", "alpha", "way", or "fork".
    value : float or str
        Value after the move.
    """

    step: int
    arm: str
    knob: str
    value: float | str


class Clocked(Shown):
    """A widget that trains while its clock plays, or when ``step`` is called.

    A subclass sets ``image``, ``race`` and ``controls``. It defines ``_draw_frame``, ``_describe`` and
    ``_count_test_errors``.

    Attributes
    ----------
    play : ipywidgets.Play
        The clock.
    reset_button, test_button : ipywidgets.Button
    race : Race
        What is trained.
    marks : list of Mark
    images_per_second : float
        Training images that each student saw per second, drawing included.
    drawn_at : float
        Time of the last frame, as ``time.perf_counter`` gives it.
    closed : bool
    """

    what = "trainer"  # as messages call it

    def __init__(self) -> None:
        super().__init__()
        self.race: Race
        self.marks: list[Mark] = []
        self.images_per_second = 0.0
        self.closed = False
        self._stopped, self._note = False, ""
        self.pace: deque[tuple[float, int]] = deque(maxlen=40)  # seconds and images of the last slices
        self.drawn_at = self._ended_at = self._touched_at = self._told_at = 0.0
        self._moved_at: dict[tuple[str, str], float] = {}  # when a hand was last on a knob
        self._ticked_at, self._trained = 0.0, True  # when the last tick came; whether the last slice could train
        self._waiting: asyncio.TimerHandle | None = None  # for the next slice
        # Play's value counts ticks, up to a number that no lesson reaches.
        beat = round(1000 * BEAT)
        self.play = ipywidgets.Play(value=0, min=0, max=10**8, step=1, interval=beat, show_repeat=False)
        self.play.observe(self._tick, "value")
        for name in PLAYING:
            if self.play.has_trait(name):
                self.play.observe(self._press_play, name)
        self.reset_button = self.make_action("reset", "undo", self.reset)
        self.test_button = self.make_action("test errors", "check", self.measure_test)
        self.controls: list[Any] = [self.play, self.reset_button, self.test_button]

    @property
    def steps(self) -> int:
        """Count of training steps that every student has taken."""
        return self.race.step

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
        self.run_on(count)

    def reset(self) -> None:
        """Go back to the start, where a subclass may put its knobs back too."""
        if self.closed:
            self.check_open()  # after an error it may go on: a reset is the way out
        with self.lock:
            self._back_to_start()
            self._forget()
            self.draw()

    def _forget(self) -> None:
        """Begin without marks, without a note, and without the error that stopped the clock."""
        self.marks, self._stopped, self._note = [], False, ""
        self.pace.clear()
        self.images_per_second = 0.0

    def measure_test(self) -> dict[str, int]:
        """Count the errors on all test images, and write them into the status line."""
        self.check_open()
        with self.lock:
            errors, images = self._count_test_errors()
            counts = ", ".join(f"{name} {count}" for name, count in errors.items())
            self._note = f"Errors on {images:,} test images after {self.steps:,} steps: {counts}."
            self.draw()
        return errors

    def close(self) -> None:
        """Stop for good; the picture and the students stay.

        Raises
        ------
        RuntimeError
            From the first error that a tick, a slider or a button met: an executed notebook fails there.
        """
        with self.lock:
            self.closed = True
            self.stop_playing()
            for control in self.controls:
                control.disabled = True
        super().close()

    # What a subclass defines.

    def _draw_frame(self) -> None:
        """Draw the picture."""
        raise NotImplementedError

    def _describe(self) -> str:
        """Return the sentence of the status line."""
        raise NotImplementedError

    def _count_test_errors(self) -> tuple[dict[str, int], int]:
        """Return the test errors by name, and the number of test images."""
        raise NotImplementedError

    # What a subclass may change.

    def _back_to_start(self) -> None:
        """Forget what was trained."""
        self.race.reset()

    def _prepare(self, *, clock: bool) -> bool:
        """Get ready for a slice; return whether there is anything to train. ``clock`` is True while play is pressed."""
        return True

    # The clock.

    def make_action(self, description: str, icon: str, action: Callable[[], object]) -> ipywidgets.Button:
        """Return a button that starts the action. An error goes to the status line."""

        def react(button: Any) -> None:
            with self.guard():
                action()

        button = make_button(description, icon)
        button.on_click(react)
        return button

    def make_step_button(self) -> ipywidgets.Button:
        """Return a button that trains for 100 steps."""

        def train() -> None:
            self.check_open()
            self.train_on(100)

        return self.make_action("train 100 steps", "step-forward", train)

    def _press_play(self, change: Any) -> None:
        """Begin at once when play is pressed, a beat before the first tick."""
        if change["new"]:
            self._ticked_at = time.perf_counter()
            self._go_on()

    def _tick(self, change: Any) -> None:
        """Train for one slice, and go on until the next tick. A tick back is the stop button."""
        if change["new"] > change["old"]:
            self._ticked_at = time.perf_counter()
            self._train_slice()
            self._go_on()

    def _go_on(self) -> None:
        """Have the kernel's loop train the next slice, once it has read the messages that wait."""
        if self._waiting is not None and not self._is_overdue(self._waiting):
            return
        if not self._plays() or time.perf_counter() - self._ticked_at > SILENCE:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel
            return
        # After a frame, and after a slider's move, its messages leave first.
        breath = BREATH if self._is_held() or time.perf_counter() - self.drawn_at < 2 * SLICE else 0
        breath = breath if self._trained else SLICE  # a cell that trains in another thread is not asked all the time
        self._waiting = loop.call_later(breath, self._next_slice)

    def _next_slice(self) -> None:
        self._waiting = None
        if self._plays():
            self._train_slice()
            self._go_on()

    def _is_overdue(self, waiting: asyncio.TimerHandle) -> bool:
        """Whether the loop that a slice waits for has ended, as that of a page does which was loaded anew."""
        return time.monotonic() - waiting.when() > SILENCE

    def _plays(self) -> bool:
        return any(self.play.has_trait(name) and getattr(self.play, name) for name in PLAYING)

    def _is_held(self) -> bool:
        """Whether a hand is on a slider."""
        return time.perf_counter() - self._touched_at < DRAG

    def _train_slice(self) -> None:
        """Train for one slice; do nothing while a cell trains."""
        self._trained = False
        if self.closed or self._stopped or not self.lock.acquire(blocking=False):
            return
        try:
            self._trained = True
            with self.guard():
                start = time.perf_counter()
                if self._prepare(clock=True):
                    before = self.steps
                    self.race.advance(seconds=SHORT_SLICE if self._is_held() else SLICE)
                    self._after_slice(start=start, before=before, last=self.race.done)
                    if self.race.done:
                        self.stop_playing()
        finally:
            self.lock.release()

    def run_on(self, count: int) -> None:
        """Train for some steps. An error is raised, and shown in the status line too."""
        self.check_open()
        try:
            self.train_on(count)
        except Exception as error:
            with self.lock:
                self.fail(error)
            raise

    def train_on(self, count: int) -> None:
        """Train for some steps, a slice at a time."""
        target, done = None, False
        while not done:
            with self.lock:
                self._moved_at.clear()  # between two calls of step no hand holds a slider
                start = time.perf_counter()
                if not self._prepare(clock=False):
                    return
                target = self.steps + count if target is None else target
                before = self.steps
                done = self.race.run_to(target, seconds=SLICE)
                self._after_slice(start=start, before=before, last=done)
            time.sleep(0.0005)  # a slider that waits for the lock gets it

    def _after_slice(self, *, start: float, before: int, last: bool = False) -> None:
        """Count the images per second of the last slices, and draw if it is time."""
        now = time.perf_counter()
        # Time from slice to slice counts drawing and messages too, but not a pause.
        seconds = now - (self._ended_at if start - self._ended_at < FRAME else start)
        self._ended_at = now
        self.pace.append((seconds, (self.steps - before) * self.race.track.batch_size))
        self.images_per_second = sum(images for _, images in self.pace) / sum(seconds for seconds, _ in self.pace)
        if last or now - self.drawn_at >= FRAME:
            self.draw()

    def mark(self, mark: Mark) -> None:
        """Note a move. Only the last of several counts: before the next step, or in one drag."""
        same = [other for other in self.marks if other[1:3] == mark[1:3]]
        moved_at = self._moved_at.get(mark[1:3], 0.0)
        self._moved_at[mark[1:3]] = self._touched_at = time.perf_counter()
        if same and (same[-1].step == mark.step or time.perf_counter() - moved_at < DRAG):
            self.marks.remove(same[-1])
        self.marks.append(mark)

    def draw(self) -> None:
        """Draw a frame, and write the status line if there is time."""
        self.drawn_at = now = time.perf_counter()
        self._draw_frame()
        # The status line can wait: while a slider is dragged, its messages would delay the picture.
        if not self._stopped and (now - self._told_at >= FRAME or now - self._touched_at >= FRAME):
            self._told_at, self.status.value = now, self._tell()

    def _tell(self) -> str:
        text = self._describe()
        return f"{text}<br>{self._note}" if self._note else text

    def tell_pace(self) -> str:
        """Return how fast it trains, or what starts it."""
        return f"{self.images_per_second:,.0f} images/s" if self.pace else "press play"

    def fail(self, error: Exception) -> None:
        """Show an error and stop the clock."""
        super().fail(error)
        self._stopped = True
        self.stop_playing()

    def stop_playing(self) -> None:
        """Let go of the play button."""
        for name in PLAYING:  # Python can stop it in both versions, and start it in neither
            if self.play.has_trait(name):
                setattr(self.play, name, False)

    def check_open(self) -> None:
        """Raise if it was closed or has stopped at an error."""
        if self.closed:
            raise ValueError(f"this {self.what} was closed; make a new one to train on.")
        if self._stopped:
            raise RuntimeError(f"the {self.what} has stopped at an error: {self.errors[-1]}") from self.errors[-1]
