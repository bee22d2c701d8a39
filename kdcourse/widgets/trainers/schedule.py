"""The schedule editor: draw how T and α change over a run, train with that, and draw again.

Chapter 07. ``ScheduledRace`` trains and ``SchedulePicture`` draws; this has the controls.
"""

import copy
from collections.abc import Callable
from typing import Any

import ipywidgets
from torch import nn

from ...data.mnist import MNIST
from ...training import MakeOptimizer, count_errors, make_adam
from ...training.schedules import Schedule, progress_of
from ..controls import alpha_slider, is_snap, make_row, temperature_slider, wide_layout
from .clock import PLAYING, Clocked
from .race import Track
from .schedule_picture import KEPT, ROLES, SchedulePicture
from .schedule_presets import LINES, PRESETS, PROGRESS, STAGES, draw_schedule
from .schedule_race import ScheduledRace, ScheduleRun
from .training_data import add_teacher_logits, take_measured

AS_DRAWN = "as drawn"


class ScheduleEditor(Clocked):
    """Draw schedules for T and α, train a student with them, and compare up to five such runs.

    Press *play*, or call ``train``. A copy of the student is then trained with the schedules as they are drawn at that
    moment, on the same batches each time. At the end of the run the clock stops; the next press begins another run.

    Parameters
    ----------
    student : nn.Module
        Not changed: each run trains a copy.
    teacher : nn.Module
        Not changed.
    data : MNIST
        Data as ``load_mnist`` gives, on the models' device. Errors are counted while training on the first images of
        ``held_out``.
    epochs : int
        Passes over the training data in each run.
    make_optimizer : callable
        Factory ``make_optimizer(parameters) -> Optimizer``.
    batch_size : int
        Samples per step.
    held_out : int
        Count of held-out images that the errors are counted on.

    Attributes
    ----------
    preset : ipywidgets.Dropdown
        Schedules to begin with: "constant", "T falls", "T rises", "α falls", "α rises", "linear", "cosine", "steps",
        "the stages" (five of them, and the last still has T = 2.8 and α = .9) or "labels only";
        "as drawn" once a slider was moved.
    between : ipywidgets.Dropdown
        What is between two sliders: "straight lines" between the values at progress 0, ¼, ½, ¾ and 1, or "five
        stages" of equal length.
    temperatures, alphas : list of five ipywidgets.FloatLogSlider or FloatSlider
        The sliders. A cell moves one by setting its ``.value``.
    temperature_schedule, alpha_schedule : callable
        The schedules as they are drawn, from ``kdcourse.training.schedules``: hand them to ``progressive``, or to a
        sweep.
    runs : list of ScheduleRun
        The runs, at most five: a sixth replaces the oldest.
    total : int
        Steps of one run.
    play : ipywidgets.Play
    image : ipywidgets.Image
        The last frame; its PNG carries step, the count of runs, and the ends of both schedules as text.
    train_button, reset_button, test_button : ipywidgets.Button

    Raises
    ------
    ValueError
        If a number is out of range, or the data or the models do not fit together.

    Examples
    --------
    >>> from kdcourse.data import load_mnist
    >>> from kdcourse.models import make_student_mlp, make_teacher_mlp
    >>> mnist = load_mnist()
    >>> small = mnist._replace(train=mnist.train.take(500))
    >>> editor = ScheduleEditor(make_student_mlp(), make_teacher_mlp(), small, epochs=1, held_out=500)
    >>> editor.preset.value = "cosine"
    >>> editor.train()
    ScheduleRun('1 cosine', step 4 of 4)
    >>> editor.temperature_schedule(1.0)
    2.0
    >>> editor.close()
    """

    about = "The schedule editor, with five sliders each for T and α: live when the notebook runs."
    what = "schedule editor"

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        data: MNIST,
        *,
        epochs: int = 3,
        make_optimizer: MakeOptimizer = make_adam,
        batch_size: int = 128,
        held_out: int = 2000,
    ) -> None:
        super().__init__()
        self._measured, self._test = take_measured(data, held_out), data.test
        aligned = add_teacher_logits(student, teacher, data)
        self._track = Track(aligned, self._measured, make_optimizer, batch_size, epochs)
        self._student = copy.deepcopy(student)
        self.total = len(self._track.make_batches())
        self._teacher_errors = 100 * count_errors(teacher, *self._measured) / len(self._measured.labels)
        self.runs: list[ScheduleRun] = []
        self._begun, self._pressed, self._moved_by_hand = 0, True, True
        self._values = {"temperature": [4.0] * 5, "alpha": [0.7] * 5}
        self.picture = SchedulePicture(self.total)
        self.image = self.picture.canvas.widget
        self._make_controls()
        self._take_preset("linear")
        self.draw()

    @property
    def steps(self) -> int:
        """Steps of the run in progress, or of the last one."""
        return self.race.step if self.runs else 0

    @property
    def temperature_schedule(self) -> Schedule:
        """T over progress, as it is drawn."""
        return self._make_schedule("temperature")

    @property
    def alpha_schedule(self) -> Schedule:
        """Alpha over progress, as it is drawn."""
        return self._make_schedule("alpha")

    def train(self) -> ScheduleRun:
        """Train one run to its end, the one in progress if there is one.

        Returns
        -------
        ScheduleRun

        Raises
        ------
        ValueError
            If the editor was closed.
        RuntimeError
            If it has stopped at an error before.
        """
        self.run_on(self.total)
        return self.runs[-1]

    def measure_test(self) -> dict[str, int]:
        """Count the errors of every run on all test images, and write them into the status line."""
        if not self.runs:
            raise ValueError("there is no run yet to count test errors of: call train() or step(100) first.")
        return super().measure_test()

    # Controls.

    def _make_controls(self) -> None:
        self.train_button = self.make_action("train to the end", "fast-forward", self._train_to_end)
        self.preset = ipywidgets.Dropdown(
            options=[*PRESETS, AS_DRAWN], value=AS_DRAWN, description="start from", layout=wide_layout(330)
        )
        self.between = ipywidgets.Dropdown(
            options=[LINES, STAGES], value=LINES, description="between", layout=wide_layout(230)
        )
        self.temperatures = [upright(temperature_slider(4.0, description="0")) for _ in PROGRESS]
        for slider in self.temperatures:
            slider.readout_format = ".2g"  # 2.8, where the slider's next place is at 2.79
        self.alphas = [upright(alpha_slider(0.7, description="0")) for _ in PROGRESS]
        self._sliders = {"temperature": self.temperatures, "alpha": self.alphas}
        self.preset.observe(self._choose_preset, "value")
        self.between.observe(self._choose_between, "value")
        for knob, sliders in self._sliders.items():
            for place, slider in enumerate(sliders):
                slider.observe(self._make_mover(knob, place), "value")
        for name in PLAYING:
            if self.play.has_trait(name):
                self.play.observe(self._press, name)
        self.controls += [self.train_button, self.preset, self.between, *self.temperatures, *self.alphas]
        buttons = make_row(
            self.play, self.train_button, self.reset_button, self.test_button, self.preset, self.between
        )  # fmt: skip
        self._headings = {knob: ipywidgets.HTML() for knob in self._sliders}
        equalizers = [
            ipywidgets.VBox([self._headings[knob], ipywidgets.HBox(sliders)]) for knob, sliders in self._sliders.items()
        ]
        # Beside the picture they stand one above the other, as its axes do; above it, on a narrow page, side by side.
        beside = make_row(*equalizers)
        beside.layout.flex = "1 1 320px"
        below = make_row(beside, self.image)
        below.layout.max_width = "1100px"  # else the sliders would take the room of a wide page
        self.widget = ipywidgets.VBox([buttons, below, self.status])

    def _make_mover(self, knob: str, place: int) -> Callable[[Any], None]:
        def move(change: Any) -> None:
            with self.guard():
                snapped = knob == "temperature" and is_snap(change["old"], change["new"])
                if self.closed or not self._moved_by_hand or snapped:
                    return  # what a front end only rounds to its grid stays as it was drawn
                self._values[knob][place] = change["new"]
                self._redraw_as_drawn()

        return move

    def _choose_preset(self, change: Any) -> None:
        with self.guard():
            if not self.closed and self._moved_by_hand and change["new"] != AS_DRAWN:
                self._take_preset(change["new"])
                self.draw()

    def _choose_between(self, change: Any) -> None:
        with self.guard():
            if not self.closed and self._moved_by_hand:
                self._redraw_as_drawn()

    def _take_preset(self, name: str) -> None:
        preset = PRESETS[name]
        self._values = {"temperature": list(preset.temperatures), "alpha": list(preset.alphas)}
        self._moved_by_hand = False
        try:
            self.preset.value, self.between.value = name, preset.between
            for knob, sliders in self._sliders.items():
                for slider, value in zip(sliders, self._values[knob], strict=True):
                    slider.value = value
        finally:
            self._moved_by_hand = True
        self._name_sliders()

    def _redraw_as_drawn(self) -> None:
        self.preset.value = AS_DRAWN
        self._name_sliders()
        self.draw()

    def _name_sliders(self) -> None:
        staged = self.between.value == STAGES
        for knob, letter in (("temperature", "T"), ("alpha", "α")):
            self._headings[knob].value = f"<b>{letter}</b> {'in stage' if staged else 'at progress'}"
            for slider, name in zip(self._sliders[knob], "12345" if staged else "0¼½¾1", strict=True):
                slider.description = name

    def _make_schedule(self, knob: str) -> Schedule:
        return draw_schedule(self._values[knob], between=self.between.value)

    # Runs.

    def _train_to_end(self) -> None:
        self.check_open()
        self.train_on(self.total)

    def _press(self, change: Any) -> None:
        self._pressed = self._pressed or bool(change["new"])

    def _prepare(self, *, clock: bool) -> bool:
        if self.runs and not self.runs[-1].done:
            return True
        if clock and not self._pressed:
            return False  # a tick that was on its way when the run before it ended
        self._begin()
        return True

    def _begin(self) -> None:
        """Begin a run with what is drawn, in place of the oldest if there is no room."""
        self.runs = self.runs[-(KEPT - 1) :]
        taken = {run.role for run in self.runs}
        race = ScheduledRace(
            copy.deepcopy(self._student), self._track, temperature=self.temperature_schedule, alpha=self.alpha_schedule
        )
        self._begun += 1
        name = f"{self._begun} {self.preset.value}"
        self.race = race
        self.runs.append(ScheduleRun(name, next(role for role in ROLES if role not in taken), race))
        self.pace.clear()

    def _after_slice(self, *, start: float, before: int, last: bool = False) -> None:
        super()._after_slice(start=start, before=before, last=last)
        if self.race.done:
            self._pressed = False
            self.stop_playing()

    def _back_to_start(self) -> None:
        self.runs, self._begun, self._pressed = [], 0, False
        self.stop_playing()

    def _count_test_errors(self) -> tuple[dict[str, int], int]:
        self.race.rest()
        return {run.name: count_errors(run.student, *self._test) for run in self.runs}, len(self._test.labels)

    # Picture and sentence.

    def _draw_frame(self) -> None:
        self.test_button.disabled = not self.runs
        running = bool(self.runs) and not self.runs[-1].done
        now = progress_of(min(self.steps, self.total - 1), self.total) if running else None
        drawn = {"temperature": self.temperature_schedule, "alpha": self.alpha_schedule}
        self.picture.draw(
            {run.role: run for run in self.runs}, drawn, staged=self.between.value == STAGES, values=self._values,
            step=self.steps, now=now,
        )  # fmt: skip

    def _describe(self) -> str:
        temperature, alpha = self.temperature_schedule(1.0), self.alpha_schedule(1.0)
        drawn = (
            f"As drawn, the last step trains at T = {temperature:.3g}, α = {alpha:.2f}: the labels end with a weight "
            f"of <b>{1 - alpha:.2f}</b>."
        )
        if not self.runs:
            return (
                f"{drawn} The teacher has {self._teacher_errors:.2f} % errors. Press play to train a student with it."
            )
        errors = ", ".join(f"{run.name} <b>{run.errors[-1]:.2f} %</b>" for run in self.runs)
        share, images = self.runs[-1].errors[-1] / 100, len(self._measured.labels)
        precision = 196 * (share * (1 - share) / images) ** 0.5
        state = "done" if self.runs[-1].done else self.tell_pace()
        return (
            f"{drawn}<br>Run {self.runs[-1].name}: step {self.steps:,} of {self.total:,} · {state} · held-out errors: "
            f"{errors}; teacher {self._teacher_errors:.2f} %.<br>With {images:,} images such a share is known to about "
            f"± {precision:.1f} points, and another seed would move it too: a small difference between two runs "
            "is no finding."
        )


def upright(slider: Any) -> Any:
    """Turn a slider upright, as on an equalizer."""
    slider.orientation = "vertical"
    slider.layout = ipywidgets.Layout(height="150px", width="58px")
    return slider
