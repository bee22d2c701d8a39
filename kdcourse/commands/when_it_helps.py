"""``kdcourse distill`` without settings: when does a teacher help? Two shapes of student, few images to all of them.

How the settings were chosen, on held-out images, is recorded by ``experiments/distill.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch
from torch import Tensor, nn

from .. import models
from .._files import write_atomically
from ..data import MNIST, load_mnist
from ..sweeps import compare, mean_interval, sweep
from ..training import count_errors, make_adam, predict_logits, threads_asked_for
from ..training.progress import progress_bar

TEACHER, TEMPERATURE, ALPHA, LEARNING_RATE, BATCH_SIZE = "hinton_teacher", 20.0, 0.5, 1.6e-2, 64
STUDENTS: dict[str, Callable[[], nn.Module]] = {
    "784-128-10": models.make_student_mlp,
    "784-300-300-10": partial(models.make_hinton_student, 300),
}
METHODS = {"no_teacher": "plain", "label_smoothing": "smoothed", "distilled": "distilled"}
IMAGES, STEPS = (300, 10_000, 55_000), 300
# The small student trains faster, and what a teacher does for it is less: more seeds show which way it goes.
SEEDS: dict[str, Sequence[int]] = {"784-128-10": range(5), "784-300-300-10": range(3)}
SMALLEST_EFFECT = 15  # errors of 10,000, named before the runs: less is too small to matter


@dataclass(frozen=True)
class Study:
    """Students of several shapes, trained on few and on many images, with a teacher and without.

    Attributes
    ----------
    runs : pd.DataFrame
        A row per student: ``student``, ``images``, ``arm``, ``seed``, ``steps``, ``test_errors``.
    teacher_errors : int
    """

    runs: pd.DataFrame
    teacher_errors: int

    def comparison(self) -> pd.DataFrame:
        """Return the paired differences of the distilled students from each baseline, for each shape and size."""
        parts = []
        for (student, images), runs in self.runs.groupby(["student", "images"], sort=False):
            table = compare(runs, baseline=["plain", "smoothed"], smallest_effect=SMALLEST_EFFECT)
            parts.append(table[table["arm"] == "distilled"].assign(student=student, images=images))
        return pd.concat(parts, ignore_index=True)

    def verdicts(self) -> dict[tuple[str, int], str]:
        """Say for each shape and size whether a teacher helps.

        It is better if it beats both baselines, worse if either beats it. Else it is unclear against one of them, or
        too small to matter.
        """
        words = {}
        for (student, images), rows in self.comparison().groupby(["student", "images"], sort=False):
            of_both = set(rows["verdict"])
            weakest = next(word for word in ("worse", "unclear", "too small to matter", "better") if word in of_both)
            words[student, images] = weakest
        return words

    @property
    def fewest_seeds(self) -> int:
        """How many students of one shape, size and method there are at least."""
        return int(self.runs.groupby(["student", "images", "arm"])["seed"].nunique().min())

    def to_text(self) -> str:
        """Return the table of mean errors, then every difference with its interval, then the answer."""
        means = self.runs.groupby(["student", "arm", "images"])["test_errors"].mean()
        images = list(self.runs["images"].unique())
        shapes, arms = list(self.runs["student"].unique()), list(METHODS.values())
        lines = [
            "images".rjust(8) + "".join(f"   {shape:^29}" for shape in shapes),
            " " * 8 + ("   " + "".join(f"{arm:>9} " for arm in arms).rstrip().ljust(29)) * len(shapes),
        ]
        for count in images:
            cells = ["".join(f"{means[shape, arm, count]:9,.0f} " for arm in arms).ljust(29) for shape in shapes]
            lines.append(f"{count:8,}" + "".join(f"   {cell[:29]}" for cell in cells))
        table = "\n".join(line.rstrip() for line in lines)
        if self.fewest_seeds < 2:
            return f"{table}\n\nOne seed has no interval, so this run claims nothing. Try --seeds 3."
        return f"{table}\n\n{self._differences()}\n\n{self._answers()}"

    def draw(self, path: Path) -> None:
        """Draw errors against images, a panel per shape; the PNG is written atomically."""
        picture = draw_study(self)
        from .. import plots

        write_atomically(path, lambda temporary: temporary.write_bytes(plots.to_png(picture)))

    def _differences(self) -> str:
        lines, table = [], self.comparison()
        for shape in table["student"].unique():
            lines += ["", f"{shape}: distilled - baseline, paired, with the 95 % interval"]
            for row in table[table["student"] == shape].to_dict("records"):
                lines.append(
                    f"{row['images']:8,} images  {'- ' + row['baseline']:10} {row['difference']:+8,.0f} errors "
                    f"[{row['low']:+,.0f}, {row['high']:+,.0f}]: {row['verdict']}"
                )
        return "\n".join(lines[1:])

    def _answers(self) -> str:
        said = {
            "better": "the teacher helps against both baselines at {} images",
            "too small to matter": "what it adds is too small to matter at {}",
            "unclear": "it is unclear at {}",
            "worse": "at {} a baseline is better",
        }
        sentences, words = ["In this run:"], self.verdicts()
        for shape in dict.fromkeys(student for student, _ in words):
            sizes = {images: word for (student, images), word in words.items() if student == shape}
            counts = {verdict: [f"{images:,}" for images in sizes if sizes[images] == verdict] for verdict in said}
            parts = [said[verdict].format(_listed(images)) for verdict, images in counts.items() if images]
            sentences.append(f"- {shape}: {'; '.join(parts)}.")
        return "\n".join(sentences)


def study(
    teacher: nn.Module,
    *,
    students: dict[str, Callable[[], nn.Module]] = STUDENTS,
    images: Sequence[int] = IMAGES,
    steps: int = STEPS,
    seeds: Sequence[int] | Mapping[str, Sequence[int]] = SEEDS,
    temperature: float = TEMPERATURE,
    alpha: float = ALPHA,
    data: MNIST | None = None,
    device: str | torch.device = "cpu",
    processes: bool = True,
    progress: bool = True,
) -> Study:
    """Train students plainly, with label smoothing and with a teacher, on few images and on many.

    Parameters
    ----------
    teacher : nn.Module
        Trained teacher on ``device``; it answers once for each image.
    students : dict from str to callable
        Factory of each shape: images (B, 1, 28, 28) to logits (B, 10).
    images : sequence of int
        Numbers of training images; the first ones are taken.
    steps : int
        Steps of 64 images for every student, up to whole passes over its images; one pass at least. Within them the
        learning rate rises and falls once.
    seeds : sequence of int, or mapping from str to sequence of int
        Seeds of the students, for all shapes or by the shape's name; one of each size and method per seed.
    temperature, alpha : float
        T > 0; the share of the teacher's term, in [0, 1].
    data : MNIST, optional
        The images; by default those of the package.
    device : str or torch.device
        Where all of them train.
    processes : bool
        Whether the students train on all cores, a process each; on a GPU they stay in this one.
    progress : bool
        Whether bars are shown on standard error.

    Returns
    -------
    Study

    Raises
    ------
    ValueError
        If there are no such images, or a knob is out of range.
    """
    mnist = load_mnist(device=device) if data is None else data
    sizes = list(dict.fromkeys(images))
    if not sizes or not all(1 <= count <= len(mnist.train.labels) for count in sizes):
        raise ValueError(f"images must be numbers from 1 to {len(mnist.train.labels):,}, got {list(images)}.")
    on_cpu = torch.device(device).type == "cpu"
    workers = threads_asked_for() or joblib.cpu_count() if processes and on_cpu else 1
    logits = predict_logits(teacher, mnist.train.images[: max(sizes)])  # (N, 10), once: they never change

    def seeds_of(shape: str) -> Sequence[int]:
        return seeds[shape] if isinstance(seeds, Mapping) else seeds

    parts = [
        _Part(
            shape, students[shape], count, whole_passes(steps, count), group, temperature, alpha,
            stacked=False if on_cpu else None,
        )
        for shape in students
        for count in sizes
        for group in ([[seed] for seed in seeds_of(shape)] if on_cpu else [list(seeds_of(shape))])
    ]  # fmt: skip
    sent = mnist if workers < 2 or data is not None else None  # MNIST itself is read faster than it is sent
    rows = _train_all(parts, sent, logits, workers=workers, progress=progress)
    order = {shape: place for place, shape in enumerate(students)}
    runs = pd.concat(rows, ignore_index=True)
    runs = runs.sort_values("arm", key=lambda arms: arms.map(list(METHODS.values()).index), kind="stable")
    runs = runs.sort_values("images", key=lambda counts: counts.map(sizes.index), kind="stable")
    runs = runs.sort_values("student", key=lambda shapes: shapes.map(order), kind="stable", ignore_index=True)
    return Study(runs, count_errors(teacher, *mnist.test))


def whole_passes(steps: int, images: int) -> int:
    """Return the passes over so many images that come nearest to so many steps; one at least.

    Examples
    --------
    >>> whole_passes(300, images=300), whole_passes(300, images=55_000)
    (60, 1)
    """
    return max(1, round(steps / -(-images // BATCH_SIZE)))


def one_cycle(steps: int) -> Callable[..., torch.optim.Optimizer]:
    """Return what makes an Adam whose learning rate rises to ``lr`` and then falls to nearly 0 within ``steps`` steps.

    A run so short would else end in the noise of its last batches.

    Examples
    --------
    >>> optimizer = one_cycle(100)(list(nn.Linear(2, 2).parameters()), lr=0.01)
    >>> round(optimizer.param_groups[0]["lr"], 4)  # a twenty-fifth, before the first step
    0.0004
    """

    def make(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        optimizer = make_adam(parameters, lr=lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1)
        optimizer.register_step_post_hook(lambda *ignored: schedule.step())
        return optimizer

    return make


@dataclass(frozen=True)
class _Part:
    """The students of one shape and size, by all methods: what one process trains at a time."""

    shape: str
    make_student: Callable[[], nn.Module]
    images: int
    epochs: int
    seeds: list[int]
    temperature: float
    alpha: float
    stacked: bool | None

    @property
    def steps(self) -> int:
        return len(METHODS) * len(self.seeds) * self.epochs * -(-self.images // BATCH_SIZE)

    def train(self, mnist: MNIST | None, logits: Tensor) -> pd.DataFrame:
        """Return a row per student; ``logits`` (N, 10) are the teacher's, and without ``mnist`` it is loaded."""
        data = _mnist() if mnist is None else mnist
        runs = sweep(
            make_student=self.make_student,
            data={"train": data.train.take(self.images), "test": data.test},
            teacher=logits,
            seeds=self.seeds,
            epochs=self.epochs,
            batch_size=BATCH_SIZE,
            lr=LEARNING_RATE,
            make_optimizer=one_cycle(self.epochs * -(-self.images // BATCH_SIZE)),
            temperature=self.temperature,
            alpha=self.alpha,
            stacked=self.stacked,
            progress=False,
        )
        columns = ["student", "images", "arm", "seed", "steps", "test_errors"]
        return runs.assign(student=self.shape, images=self.images, arm=runs["arm"].map(METHODS))[columns]


_mnist = lru_cache(maxsize=1)(load_mnist)


def _train_all(
    parts: list[_Part], mnist: MNIST | None, logits: Tensor, *, workers: int, progress: bool
) -> list[pd.DataFrame]:
    """Train the parts in processes, the longest first, so that none is left alone with a long one at the end."""
    by_length = sorted(range(len(parts)), key=lambda place: -parts[place].steps)
    tasks = ((place, parts[place], mnist, logits[: parts[place].images].clone()) for place in by_length)
    done: dict[int, pd.DataFrame] = {}
    with progress_bar(total=sum(part.steps for part in parts), done=0, show=progress) as bar:
        if workers < 2:
            results = map(_train_part, tasks)
        else:
            pool = joblib.Parallel(workers, backend="loky", batch_size=1, return_as="generator_unordered")
            results = pool(joblib.delayed(_train_part_alone)(task) for task in tasks)
        for place, rows in results:
            done[place] = rows
            bar.update(parts[place].steps)
    return [done[place] for place in range(len(parts))]


def _train_part(task: tuple[int, _Part, MNIST | None, Tensor]) -> tuple[int, pd.DataFrame]:
    place, part, mnist, logits = task
    return place, part.train(mnist, logits)


def _train_part_alone(task: tuple[int, _Part, MNIST | None, Tensor]) -> tuple[int, pd.DataFrame]:
    torch.set_num_threads(1)  # the processes already share the processors among them
    return _train_part(task)


def draw_study(found: Study) -> Any:
    """Return the picture: a panel per shape of student, log-log, the three methods by colour, line and marker."""
    from .. import plots  # here: drawing is all that needs matplotlib
    from ..plots.comparisons import VERDICTS
    from ..plots.style import line_of, new_figure

    roles = {"plain": "no_teacher", "smoothed": "label_smoothing", "distilled": "student"}
    shapes = list(found.runs["student"].unique())
    images = sorted(found.runs["images"].unique())
    several = found.fewest_seeds > 1
    figure = new_figure(width=4.4 * len(shapes), height=3.9)
    axes = figure.subplots(1, len(shapes), sharey=True, squeeze=False)[0]
    words = found.verdicts() if several else {}
    for ax, shape in zip(axes, shapes, strict=True):
        plots.tidy(ax)
        for shift, (arm, role) in zip((0.96, 1.0, 1.04), roles.items(), strict=True):
            runs = found.runs[(found.runs["student"] == shape) & (found.runs["arm"] == arm)]
            errors = [runs.loc[runs["images"] == count, "test_errors"].tolist() for count in images]
            places = [count * shift for count in images]  # side by side, so that no interval hides another
            means = [sum(values) / len(values) for values in errors]
            ax.plot(places, means, **line_of(role), markersize=6, label=arm)
            if several:
                ends = [mean_interval(values)[1:] for values in errors]
                for place, (low, high) in zip(places, ends, strict=True):
                    ax.plot([place, place], [max(low, 1), high], color=plots.COLORS[role], linewidth=1.4)
        ax.axhline(found.teacher_errors, **line_of("teacher"), label="the teacher")
        ax.set(
            xscale="log", yscale="log", title=f"{shape}: distilled is" if several else shape, xlabel="training images"
        )
        ax.set_xticks(images, labels=[f"{count:,}" for count in images])
        ax.minorticks_off()
        for count in images:
            if word := words.get((shape, count)):
                ax.annotate(
                    word.replace(" to ", "\nto "), (count, 0.985), xycoords=ax.get_xaxis_transform(), ha="center",
                    va="top", fontsize=8.5, color=VERDICTS[word]["color"], fontweight="bold",
                )  # fmt: skip
        ax.set_xlim(images[0] / 1.9, images[-1] * 1.9)
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low, high * 1.5)  # room for the words
    ticks = [count for count in (50, 100, 200, 500, 1000, 2000, 5000) if low <= count <= high]
    axes[0].set_yticks(ticks, labels=[f"{count:,}" for count in ticks])
    axes[0].set_ylabel("test errors of 10,000")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
