"""Widget of forgetting: what does a network still know after each task, and what does it answer instead?

Chapter 12. Letters: n tasks, K classes.
"""

from collections.abc import Mapping

import ipywidgets
from matplotlib.axes import Axes

from ...plots import COLORS, GRID, INK, tidy
from ...recipes import TaskHistory
from ..canvas import Canvas, Shown
from ..controls import make_row, slider_layout, wide_layout

MOST = 6  # methods that a reader can tell apart
DASHES = ["-", "--", ":", "-."]


class ForgettingExplorer(Shown):
    """Step from task to task: accuracy on each task, on all so far, and the answers digit by digit.

    Parameters
    ----------
    histories : mapping from str to TaskHistory
        What networks answered after each task, by the name of the method, one to six; all of the same tasks.
    told : bool
        Whether the network is told at the start which task an image is from.

    Attributes
    ----------
    after, method, told : ipywidgets.Widget
        The controls. A cell moves one by setting its ``.value``; ``after`` counts tasks from 1.
    accuracies : list of float
        Accuracy on each task learned so far, as shown.
    canvas : Canvas

    Raises
    ------
    ValueError
        If there is no method or more than six, or they have different tasks.
    """

    about = "The forgetting explorer, live when the notebook runs."

    def __init__(self, histories: Mapping[str, TaskHistory], *, told: bool = False) -> None:
        super().__init__()
        tasks = {history.tasks for history in histories.values()}
        if not 1 <= len(histories) <= MOST or len(tasks) != 1:
            raise ValueError(
                f"the explorer needs one to {MOST} methods on the same tasks, got {len(histories)} methods and "
                f"{len(tasks)} kinds of tasks."
            )
        self._histories = dict(histories)
        self._tasks = next(iter(tasks))
        self.after = ipywidgets.IntSlider(1, 1, len(self._tasks), description="after task", layout=slider_layout())
        self.method = ipywidgets.Dropdown(options=list(histories), description="method", layout=wide_layout(360))
        self.told = ipywidgets.ToggleButtons(
            options=[("task not told", False), ("task told", True)], value=told, description="asked with"
        )
        self._make_picture()
        self.follow(self.after, self.method, self.told, action=self._draw)
        controls = ipywidgets.VBox([make_row(self.after, self.method), self.told])
        self.widget = ipywidgets.VBox([controls, self.canvas.widget, self.status])
        self._draw()

    def _make_picture(self) -> None:
        self.canvas = Canvas(9.2, 3.3)
        self._make_bars(tidy(self.canvas.add_axes(0.065, 0.17, 0.25, 0.70)))
        self._make_curves(tidy(self.canvas.add_axes(0.40, 0.17, 0.27, 0.70)))
        self._make_answers(self.canvas.add_axes(0.745, 0.17, 0.245, 0.70))

    def _make_bars(self, ax: Axes) -> None:
        names = [",".join(map(str, task)) for task in self._tasks]
        ax.set(ylim=(0, 108), ylabel="accuracy, %", xlabel="digits of each task", xlim=(-0.6, len(names) - 0.4))
        ax.set_xticks(range(len(names)), names)
        ax.grid(False, axis="x")
        self._bars_title = ax.set_title("", fontsize=9, color=INK)
        self._bars = list(ax.bar(range(len(names)), [0.0] * len(names), color=COLORS["student"], width=0.68))
        self._numbers = [ax.text(place, 0, "", ha="center", va="bottom", fontsize=8.5, color=INK)
                         for place in range(len(names))]  # fmt: skip
        self.canvas.moving(self._bars_title, *self._bars, *self._numbers)

    def _make_curves(self, ax: Axes) -> None:
        count = len(self._tasks)
        ax.set(ylim=(0, 108), xlim=(0.7, count + 0.3), xlabel="tasks learned", xticks=range(1, count + 1))
        ax.set_title("all tasks so far, every method", fontsize=9, color=INK)
        self._curves = {
            name: ax.plot([], [], color=COLORS["no_teacher"], linewidth=1.3, linestyle=DASHES[place % len(DASHES)])[0]
            for place, name in enumerate(self._histories)
        }
        (self._ring,) = ax.plot([], [], "o", color=COLORS["student"], markersize=9)
        self.canvas.moving(*self._curves.values(), self._ring)

    def _make_answers(self, ax: Axes) -> None:
        digits = sorted(digit for task in self._tasks for digit in task)
        self._digits = digits
        blank = [[0.0] * len(digits)] * len(digits)
        self._sheet = ax.imshow(blank, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        ax.set_xticks(range(len(digits)), [str(digit) for digit in digits])
        ax.set_yticks(range(len(digits)), [str(digit) for digit in digits])
        ax.set(xlabel="answer", ylabel="digit")
        ax.tick_params(colors=INK, labelsize=8.5, length=0)
        for side in ax.spines.values():
            side.set_color(GRID)
        ax.set_title("what each digit is taken for", fontsize=9, color=INK)
        self.canvas.moving(self._sheet)

    def _draw(self) -> None:
        name, told, after = self.method.value, self.told.value, self.after.value
        history = self._histories[name]
        row = history.accuracies(told=told)[after - 1]
        self.accuracies = row[:after].tolist()
        for place, (bar, number) in enumerate(zip(self._bars, self._numbers, strict=True)):
            height = 100 * self.accuracies[place] if place < after else 0.0
            bar.set(height=height, color=COLORS["student"] if place == after - 1 else COLORS["kd"])
            number.set_position((place, height + 1))
            number.set_text(f"{height:.0f}" if place < after else "")
        self._bars_title.set_text(f"after task {after} of {len(self._tasks)}")
        for other, curve in self._curves.items():
            means = _means(self._histories[other], told)
            chosen = other == name
            curve.set_data(range(1, len(means) + 1), [100 * mean for mean in means])
            curve.set(color=COLORS["student" if chosen else "no_teacher"], linewidth=2.4 if chosen else 1.3)
        mean = sum(self.accuracies) / after
        self._ring.set_data([after], [100 * mean])
        counts = (history.told if told else history.untold)[after - 1][self._digits][:, self._digits].float()
        self._sheet.set_data((counts / counts.sum(dim=1, keepdim=True).clamp_min(1)).numpy())
        self.canvas.draw(method=name, after_task=after, told=told, accuracy=round(mean, 4))
        self._tell(mean)

    def _tell(self, mean: float) -> None:
        after = self.after.value
        asked = "told which task an image is from" if self.told.value else "not told the task"
        digits = ", ".join(map(str, self._tasks[0]))
        self.status.value = (
            f"<b>{self.method.value}</b>, after task {after}, {asked}: <b>{100 * mean:.1f} %</b>, the mean over the "
            f"tasks so far. On the first task (digits {digits}) it is {100 * self.accuracies[0]:.1f} %, on the newest "
            f"{100 * self.accuracies[-1]:.1f} %. Blue: the newest task, and the chosen method's curve."
        )


def _means(history: TaskHistory, told: bool) -> list[float]:
    """Return the mean accuracy over the tasks so far, after each task."""
    return history.accuracies(told=told).nanmean(dim=1).tolist()
