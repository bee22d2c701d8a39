"""``kdcourse distill`` without settings: when does a teacher help? Two shapes of student, from 300 images to all."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from .. import models, zoo
from .._files import write_atomically
from ..data import load_mnist
from ..results import mean_interval
from ..sweeps import compare, sweep
from ..training import predict_logits

SHAPES = {"784-128-10": (128,), "784-300-300-10": (300, 300)}
SIZES = (300, 1_000, 3_000, 10_000, 55_000)
ARMS = {"no_teacher": "labels only", "label_smoothing": "label smoothing", "distilled": "from a teacher"}
ROLES = {"no_teacher": "no_teacher", "label_smoothing": "label_smoothing", "distilled": "student"}
TICKS = (100, 200, 500, 1_000, 2_000)
TEACHER = "hinton_teacher"
# Chosen on the 5,000 held-out images by experiments/when_it_helps.py; its record says how.
KNOBS = {"temperature": 20.0, "alpha": 0.9, "lr": 2e-3}
STEPS, BATCH_SIZE = 400, 128  # of every student; with all images two passes, which are more


@dataclass(frozen=True)
class Study:
    """Students of both shapes, trained on more and more images.

    Attributes
    ----------
    runs : pd.DataFrame
        A row per student: ``shape``, ``images``, ``arm``, ``seed``, ``test_errors``.
    differences : pd.DataFrame
        A row per shape, number of images and baseline: the distilled students minus the baseline, with the ends of the
        paired interval and the verdict.
    """

    runs: pd.DataFrame
    differences: pd.DataFrame

    def to_text(self) -> str:
        """Return the mean errors and both verdicts, a line for each shape and number of images."""
        lines = []
        for shape, rows in self.runs.groupby("shape", sort=False):
            lines.append(f"{shape}: test errors of 10,000, mean of {rows.seed.nunique()} seeds")
            names = f"{'labels only':>11}  {'smoothing':>9}  {'teacher':>7}"
            lines.append(f"{'images':>8}  {names}  against both baselines")
            for images, some in rows.groupby("images"):
                means = some.groupby("arm").test_errors.mean()
                words = self.verdicts(str(shape), int(images))
                lines.append(
                    f"{images:>8,}  {means['no_teacher']:>11,.0f}  {means['label_smoothing']:>9,.0f}  "
                    f"{means['distilled']:>7,.0f}  {words['no_teacher']}, {words['label_smoothing']}"
                )
            lines.append("")
        return "\n".join(lines).rstrip()

    def verdicts(self, shape: str, images: int) -> dict[str, str]:
        """Return the word for each baseline."""
        table = self.differences
        rows = table[(table["shape"] == shape) & (table["images"] == images)]
        return dict(zip(rows["baseline"], rows["verdict"], strict=True))


def study(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    sizes: Sequence[int] = SIZES,
    steps: int = STEPS,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Study:
    """Train students of two shapes on more and more images: with labels only, smoothed labels, and a teacher.

    Parameters
    ----------
    seeds : sequence of int
        Seeds of the students, at least two: one student per shape, number of images, arm and seed.
    sizes : sequence of int
        Numbers of training images.
    steps : int
        Training steps of each student; at least two passes over the images are made.
    device : str or torch.device
        Where all of them train.
    progress : bool
        Whether a bar is shown on standard error.

    Raises
    ------
    ValueError
        If there are fewer than two seeds, or a size is not from 1 to 55,000.
    """
    if len(set(seeds)) < 2:
        raise ValueError(f"an interval needs at least two seeds, got {len(set(seeds))}. Try --seeds 3.")
    mnist = load_mnist(device=device)
    logits = predict_logits(zoo.load(TEACHER, device=device), mnist.train.images)  # (55000, 10), once for all
    make_student = {shape: _factory(hidden) for shape, hidden in SHAPES.items()}
    parts, bar = [], tqdm(sizes, disable=not progress, leave=False, unit="size")
    for size in bar:
        bar.set_postfix_str(f"{size:,} images")
        runs = sweep(
            make_student=make_student, data={"train": (*mnist.train.take(size), logits[:size]), "test": mnist.test},
            seeds=list(seeds), temperature=KNOBS["temperature"], alpha=KNOBS["alpha"], lr=KNOBS["lr"],
            batch_size=BATCH_SIZE, epochs=max(2, math.ceil(steps / math.ceil(size / BATCH_SIZE))),
            executor="processes", progress=False,
        )  # fmt: skip
        parts.append(_named(runs, size))
    runs = pd.concat(parts, ignore_index=True)
    return Study(runs, _differences(runs))


def draw(found: Study, path: Path) -> None:
    """Draw errors against images, a panel for each shape; the PNG is written atomically."""
    from .. import plots  # here: drawing is all that needs matplotlib

    first = plots.new_axes(width=8.6, height=3.8)
    figure = first.figure
    figure.clear()
    panels = [plots.tidy(ax) for ax in figure.subplots(1, len(SHAPES), sharey=True)]
    for ax, (shape, rows) in zip(panels, found.runs.groupby("shape", sort=False), strict=True):
        for arm, role in ROLES.items():
            errors = rows[rows["arm"] == arm].groupby("images").test_errors.apply(list)
            ends = pd.DataFrame([mean_interval(each) for each in errors], columns=["mean", "low", "high"])
            plots.curve(
                errors.index, ends["mean"], low=ends["low"].clip(lower=1), high=ends["high"], role=role,
                label=ARMS[arm], ax=ax,
            )  # fmt: skip
        sizes = sorted(rows["images"].unique())
        ax.set(xscale="log", yscale="log", xlabel="training images", title=f"student {shape}")
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.set_yticks(TICKS, [f"{tick:,}" for tick in TICKS])
        ax.minorticks_off()
    panels[0].set_ylabel("test errors of 10,000")
    write_atomically(path, lambda temporary: temporary.write_bytes(plots.to_png(figure)))


def _factory(hidden: tuple[int, ...]) -> Callable[[], nn.Module]:
    return partial(models.make_mlp, *hidden)


def _named(runs: pd.DataFrame, size: int) -> pd.DataFrame:
    """Return the columns that the study needs, with the arm apart from the shape."""
    arms = runs["method"].where(runs["method"].isin(["no_teacher", "label_smoothing"]), "distilled")
    columns = {"shape": runs["student"], "images": size, "arm": arms}
    return runs[["seed", "test_errors"]].assign(**columns)


def _differences(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the distilled students minus each baseline, in pairs of equal seed."""
    parts = []
    for (shape, size), some in runs.groupby(["shape", "images"], sort=False):
        table = compare(some, baseline=["no_teacher", "label_smoothing"])
        parts.append(table[table["arm"] == "distilled"].assign(shape=shape, images=size))
    columns = ["shape", "images", "baseline", "difference", "low", "high", "n", "verdict"]
    return pd.concat(parts, ignore_index=True)[columns]
