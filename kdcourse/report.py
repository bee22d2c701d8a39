"""What ``kdcourse distill`` prints and draws: students with and without a teacher, compared with intervals.

Chapters 00 and 02.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from . import zoo
from ._arguments import check_alpha, check_temperature
from ._files import write_atomically
from .data import load_mnist
from .models import count_parameters, size_in_bytes
from .sweeps import compare, mean_interval, sweep
from .training import count_errors, evaluating

ARMS = {"no_teacher": "plain", "label_smoothing": "label smoothing"}


def distillation_report(
    make_student: Callable[[], nn.Module],
    *,
    teacher_name: str = "teacher_mlp",
    temperature: float = 4.0,
    alpha: float = 0.7,
    epochs: int = 5,
    seeds: Sequence[int] = (0, 1, 2),
    device: str | torch.device = "cpu",
    picture: str | os.PathLike = "distill.png",
    progress: bool = True,
) -> str:
    """Train students plainly, with label smoothing and with a teacher; return a table and write a picture.

    Parameters
    ----------
    make_student : callable
        Builds one student; images (B, 1, 28, 28) to logits (B, 10).
    teacher_name : str
        A key of ``zoo.TEACHERS``; it is trained here, and said so, if the package holds no weights of that name.
    temperature, alpha : float
        T > 0; the share of the teacher's term, in [0, 1].
    epochs : int
        Passes over the 55,000 training images, the same for every student.
    seeds : sequence of int
        One student per method and seed. With two or more the differences have an interval.
    device : str or torch.device
    picture : path
        A PNG, written whole or not at all.
    progress : bool

    Returns
    -------
    str
        The table, then each difference.

    Raises
    ------
    ValueError
        If a knob is out of range, the teacher is unknown, or the picture cannot be written there.
    """
    check_temperature(temperature)
    check_alpha(alpha)
    picture = Path(picture)
    if picture.suffix.lower() != ".png" or not picture.absolute().parent.is_dir():
        raise ValueError(f"the picture must be a .png in a folder that exists, got {picture}.")
    teacher = _load_or_train(teacher_name, device, progress)
    mnist = load_mnist(device=device)
    runs = sweep(
        student=make_student,
        data=mnist,
        teacher=teacher,
        seed=list(seeds),
        temperature=temperature,
        alpha=alpha,
        epochs=epochs,
        progress=progress,
    )
    distilled = next(arm for arm in runs["arm"] if arm not in ARMS)
    runs["arm"] = runs["arm"].replace({**ARMS, distilled: "distilled"})
    student = make_student().to(device)
    rows = [_row("teacher", teacher, f"{count_errors(teacher, *mnist.test)}", mnist.test.images)]
    for arm in (*ARMS.values(), "distilled"):
        errors = runs.loc[runs["arm"] == arm, "test_errors"].tolist()
        rows.append(_row(arm, student, _mean_and_half_width(errors), mnist.test.images))
    _draw(runs, count_errors(teacher, *mnist.test), picture)
    title = f"T = {temperature:g}, alpha = {alpha:g}, {epochs} epochs, seeds {', '.join(map(str, seeds))}, {device}"
    table = pd.DataFrame(rows).to_string(index=False)
    return f"{title}\n\n{table}\n\n{_differences(runs)}\n\nPicture: {picture}"


def _load_or_train(name: str, device: str | torch.device, progress: bool) -> nn.Module:
    if name in zoo.TEACHERS and not zoo.is_shipped(name):
        print(f"no weights of {name} are here: training it")
        zoo.train_teacher(name, device=device, progress=progress)
    return zoo.load(name, device=device)


def _row(name: str, model: nn.Module, errors: str, images: Tensor) -> dict[str, str]:
    return {
        "model": name,
        "parameters": f"{count_parameters(model):,}",
        "size": f"{size_in_bytes(model) / 2**20:.2f} MiB",
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


def _differences(runs: pd.DataFrame) -> str:
    if runs["seed"].nunique() < 2:
        return "One seed has no interval: differences of some twenty errors are noise. Try --seeds 3."
    table = compare(runs, baseline=list(ARMS.values()))
    lines = []
    for row in table[table["arm"] == "distilled"].itertuples():
        lines.append(
            f"distilled - {row.baseline}: {row.difference:+.1f} errors, 95 % interval "
            f"[{row.low:+.1f}, {row.high:+.1f}], {row.n} seeds: {row.verdict}"
        )
    return "\n".join(lines)


def _draw(runs: pd.DataFrame, teacher_errors: int, path: Path) -> None:
    from . import plots  # here: drawing is all that needs matplotlib

    arms = [*ARMS.values(), "distilled"]
    colors = [plots.COLORS["no_teacher"], plots.COLORS["label_smoothing"], plots.COLORS["student"]]
    ax = plots.new_axes(width=6.4, height=3.4)
    for place, (arm, color) in enumerate(zip(arms, colors, strict=True)):
        errors = runs.loc[runs["arm"] == arm, "test_errors"].tolist()
        mean = sum(errors) / len(errors)
        ax.plot([place - 0.2, place + 0.2], [mean, mean], color=color, linewidth=3)
        ax.plot([place] * len(errors), errors, "o", color=color, alpha=0.6)
        ax.annotate(f"{mean:.0f}", (place + 0.24, mean), va="center")
    ax.axhline(teacher_errors, color=plots.COLORS["teacher"], linestyle="--", linewidth=1.5)
    ax.annotate(f"teacher {teacher_errors}", (-0.45, teacher_errors), va="bottom", color=plots.COLORS["teacher"])
    ax.set(xticks=range(len(arms)), xticklabels=arms, ylabel="test errors of 10,000", xlim=(-0.5, len(arms) - 0.4))
    ax.set_ylim(bottom=0)
    ax.set_title("One dot per seed, a bar at the mean", fontsize="medium", loc="left")
    write_atomically(path, lambda temporary: temporary.write_bytes(plots.to_png(ax)))
