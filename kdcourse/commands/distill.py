"""``kdcourse distill``: students with and without a teacher, compared with intervals, as a table and a picture.

Without settings it asks when a teacher helps, in ``when_it_helps``. With any of ``SETTINGS`` it makes one
comparison, here.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from .. import models, zoo
from .._arguments import check_alpha, check_temperature
from .._files import check_writable, write_atomically
from ..data import load_mnist
from ..sweeps import compare, mean_interval, sweep
from ..training import choose_threads, count_errors, evaluating, pick_device
from . import when_it_helps
from .console import say

STUDENTS = {"mlp": models.make_student_mlp, "hinton": models.make_hinton_student, "cnn": models.make_student_cnn}
ARMS = {"no_teacher": "plain", "label_smoothing": "label smoothing"}
# One comparison has these settings; any of them on the command line asks for one.
SETTINGS: dict[str, Any] = {"temperature": 4.0, "alpha": 0.7, "epochs": 5, "teacher": "teacher_mlp", "student": "mlp"}


@dataclass(frozen=True)
class Report:
    """Trained students, compared.

    Attributes
    ----------
    text : str
        The table, then each difference.
    runs : pd.DataFrame
        A row per student: ``arm``, ``seed``, ``test_errors``.
    teacher_errors : int
    """

    text: str
    runs: pd.DataFrame
    teacher_errors: int


def run(options: argparse.Namespace) -> int:
    """Train, print the table, draw the picture; what cannot be written is found before anything trains."""
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    if given and (options.images or options.steps):
        raise ValueError(
            f"--images and --steps belong to the question when a teacher helps, and --{next(iter(given))} to one "
            "comparison: leave out one of them."
        )
    settings = SETTINGS | given
    check_temperature(settings["temperature"])
    check_alpha(settings["alpha"])
    device = pick_device(options.device)
    if options.picture.suffix.lower() != ".png" or not options.picture.absolute().parent.is_dir():
        raise ValueError(f"the picture must be a .png in a folder that exists, got {options.picture}.")
    check_writable(options.picture, size=2**17)
    choose_threads(options.threads)
    if given:
        return _compare_once(options, settings, range(options.seed, options.seed + (options.seeds or 3)), device)
    counts = {shape: options.seeds or len(seeds) for shape, seeds in when_it_helps.SEEDS.items()}
    return _ask_when(options, {s: range(options.seed, options.seed + count) for s, count in counts.items()}, device)


def _ask_when(options: argparse.Namespace, seeds: Mapping[str, Sequence[int]], device: torch.device) -> int:
    steps = options.steps or when_it_helps.STEPS
    counts = " or ".join(dict.fromkeys(f"{len(each)}" for each in seeds.values()))
    say(  # first: standard output may be a full disk
        f"When does a teacher help? Test errors of 10,000, means of {counts} students; T = "
        f"{when_it_helps.TEMPERATURE:g}, alpha = {when_it_helps.ALPHA:g}, about {steps:,} steps for each, {device}.\n"
    )
    study = when_it_helps.study(
        zoo.load(when_it_helps.TEACHER, device=device),
        images=options.images or when_it_helps.IMAGES,
        steps=steps,
        seeds=seeds,
        device=device,
        processes=options.threads != 1,
    )
    say(study.to_text())
    study.draw(options.picture)  # after the table: whatever happens to the picture, the result is on the screen
    say(f"\nPicture: {options.picture}")
    return 0


def _compare_once(options: argparse.Namespace, settings: dict, seeds: Sequence[int], device: torch.device) -> int:
    title = f"T = {settings['temperature']:g}, alpha = {settings['alpha']:g}, {settings['epochs']} epochs"
    teacher = _load_or_train(settings["teacher"], device)
    say(f"{title}, seeds {', '.join(map(str, seeds))}, {device}\n")  # first: standard output may be a full disk
    report = distillation_report(
        STUDENTS[settings["student"]], teacher, temperature=settings["temperature"], alpha=settings["alpha"],
        epochs=settings["epochs"], seeds=seeds, device=device,
    )  # fmt: skip
    say(report.text)
    draw(report, options.picture)  # after the table: whatever happens to the picture, the result is on the screen
    say(f"\nPicture: {options.picture}")
    return 0


def distillation_report(
    make_student: Callable[[], nn.Module],
    teacher: nn.Module,
    *,
    temperature: float = 4.0,
    alpha: float = 0.7,
    epochs: int = 5,
    seeds: Sequence[int] = (0, 1, 2),
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Report:
    """Train students plainly, with label smoothing and with a teacher, and compare them.

    Parameters
    ----------
    make_student : callable
        Factory of one student; images (B, 1, 28, 28) to logits (B, 10).
    teacher : nn.Module
        Trained teacher on ``device``.
    temperature, alpha : float
        T > 0; the share of the teacher's term, in [0, 1].
    epochs : int
        Passes over the 55,000 training images, the same for every student.
    seeds : sequence of int
        Seeds of the students, one student per method and seed. With two or more the differences have an interval.
    device : str or torch.device
        Where all of them train.
    progress : bool
        Whether a bar is shown on standard error.

    Raises
    ------
    ValueError
        If a knob is out of range.
    """
    mnist = load_mnist(device=device)
    runs = sweep(
        make_student=make_student,
        data=mnist,
        teacher=teacher,
        seeds=list(seeds),
        temperature=temperature,
        alpha=alpha,
        epochs=epochs,
        progress=progress,
    )
    distilled = next(arm for arm in runs["arm"] if arm not in ARMS)
    runs["arm"] = runs["arm"].replace({**ARMS, distilled: "distilled"})
    student = make_student().to(device)
    teacher_errors = count_errors(teacher, *mnist.test)
    rows = [_row("teacher", teacher, f"{teacher_errors}", mnist.test.images)]
    for arm in (*ARMS.values(), "distilled"):
        errors = runs.loc[runs["arm"] == arm, "test_errors"].tolist()
        rows.append(_row(arm, student, _mean_and_half_width(errors), mnist.test.images))
    table = pd.DataFrame(rows).to_string(index=False)
    return Report(f"{table}\n\n{differences(runs)}", runs, teacher_errors)


def differences(runs: pd.DataFrame) -> str:
    """Say how the distilled students differ from each baseline; one seed has no interval, so nothing is claimed."""
    if runs["seed"].nunique() < 2:
        return "One seed has no interval: differences of some twenty errors are noise. Try --seeds 3."
    table = compare(runs, baseline=list(ARMS.values()))
    return "\n".join(
        f"distilled - {row.baseline}: {row.difference:+.1f} errors, 95 % interval "
        f"[{row.low:+.1f}, {row.high:+.1f}], {row.n} seeds: {row.verdict}"
        for row in table[table["arm"] == "distilled"].itertuples()
    )


def draw(report: Report, path: Path) -> None:
    """Draw each student as a dot, the means as bars and the teacher as a line; the PNG is written atomically."""
    from .. import plots  # here: drawing is all that needs matplotlib

    arms = [*ARMS.values(), "distilled"]
    colors = [plots.COLORS["no_teacher"], plots.COLORS["label_smoothing"], plots.COLORS["student"]]
    ax = plots.new_axes(width=6.4, height=3.4)
    for place, (arm, color) in enumerate(zip(arms, colors, strict=True)):
        errors = report.runs.loc[report.runs["arm"] == arm, "test_errors"].tolist()
        mean = sum(errors) / len(errors)
        ax.plot([place - 0.2, place + 0.2], [mean, mean], color=color, linewidth=3)
        ax.plot([place] * len(errors), errors, "o", color=color, alpha=0.6)
        ax.annotate(f"{mean:.0f}", (place + 0.24, mean), va="center")
    color = plots.COLORS["teacher"]
    ax.axhline(report.teacher_errors, color=color, linestyle="--", linewidth=1.5)
    ax.annotate(f"teacher {report.teacher_errors}", (-0.45, report.teacher_errors), va="bottom", color=color)
    ax.set(xticks=range(len(arms)), xticklabels=arms, ylabel="test errors of 10,000", xlim=(-0.5, len(arms) - 0.4))
    ax.set_ylim(bottom=0)
    ax.set_title("One dot per seed, a bar at the mean", fontsize="medium", loc="left")
    write_atomically(path, lambda temporary: temporary.write_bytes(plots.to_png(ax)))


def _load_or_train(name: str, device: torch.device) -> nn.Module:
    if name in zoo.TEACHERS and not zoo.is_shipped(name):
        say(f"no weights of {name} are here: training it")
        zoo.train_teacher(name, device=device, force=True)
        return zoo.load(name, device=device, folder="teachers")
    return zoo.load(name, device=device)


def _row(name: str, model: nn.Module, errors: str, images: Tensor) -> dict[str, str]:
    return {
        "model": name,
        "parameters": f"{models.count_parameters(model):,}",
        "size": f"{models.size_in_bytes(model) / 2**20:.2f} MiB",
        "test errors of 10,000": errors,
        "images/s": f"{_images_per_second(model, images):,.0f}",
    }


def _mean_and_half_width(errors: list[float]) -> str:
    if len(errors) == 1:
        return f"{errors[0]:.0f}"
    mean, low, high = mean_interval(errors)
    return f"{mean:.1f} ± {(high - low) / 2:.1f}"


def _images_per_second(model: nn.Module, images: Tensor, *, repeats: int = 5) -> float:
    """Best of a few passes over 2,000 images; where a GPU computes, its queue is empty at both ends."""
    batch, seconds = images[:2000], []
    with evaluating(model):
        for _ in range(repeats + 1):  # the first warms up
            start = time.perf_counter()
            model(batch).sum().item()
            seconds.append(time.perf_counter() - start)
    return len(batch) / min(seconds[1:])
