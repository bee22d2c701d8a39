"""Hinton's table with every setting chosen on 5,000 held-out images, which nothing is trained on while it is chosen.

``python -m experiments.hinton_table`` runs four stages, each of them units that are stored as soon as they are done:

1. teachers of 2×1200 units with dropout, a weight constraint and jitter: dropout, rate and epochs by held-out errors;
2. a second seed of the best one; of the two the one with fewer held-out errors is the teacher;
3. students of 20 epochs and two seeds: T, alpha, and whether they see the 25 shifts of ± 2 pixels;
4. 100 epochs and eight seeds: plain, smoothed and distilled, with shifts and without.

``--list`` shows the stages and the expected minutes. The record is ``experiments/results/held_out_table.json``. Test
errors are counted, and choose nothing.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.budget import SHIFTS, shift
from experiments.hinton import PAPER
from experiments.registry import Rows, Study, Unit
from experiments.running import FOLDER, run_studies, stored_rows
from kdcourse._files import write_atomically
from kdcourse.data import MNIST, load_mnist
from kdcourse.losses import kd_loss
from kdcourse.models import make_hinton_student, make_mlp
from kdcourse.training import count_errors, fit, pick_device, predict_logits
from kdcourse.zoo import TEACHERS, fit_teacher

HELD_OUT, PIXELS, BATCH_SIZE, RATE = 5_000, 2, 128, 2e-3
WEIGHTS = FOLDER / "hinton_teachers"
# Hidden and input dropout, peak rate, epochs.
OF_TEACHER = tuple(product(((0.3, 0.1), (0.5, 0.2)), (1e-3, 2e-3), (60, 200)))
TEMPERATURES, ALPHAS, VIEWS = (2, 4, 8, 20), (0.9, 1.0), ("as they are", "shifted")
SHORT, LONG, CHOOSE, SEEDS = 20, 100, (100, 101), range(8)
MINUTES_OF_STEP = {"teacher": 0.060 / 60, "student": 0.005 / 60}  # one thread


@cache
def data() -> MNIST:
    """Return 55,000 images to train on, 5,000 to choose by, 10,000 to report."""
    return load_mnist(device=pick_device(), held_out=HELD_OUT)


def teacher(dropout: Sequence[float], rate: float, epochs: int, seed: int) -> Rows:
    """Train a teacher, store its weights, and count its held-out errors."""
    hidden, inputs = dropout
    make = partial(make_mlp, 1200, 1200, dropout=hidden, input_dropout=inputs)
    recipe = replace(TEACHERS["hinton_teacher"], make=make, learning_rate=rate, epochs=epochs, held_out=HELD_OUT)
    path = weights_of(dropout, rate, epochs, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = path.with_suffix(".checkpoint")
    model = fit_teacher(recipe, seed=seed, device=pick_device(), checkpoint=checkpoint, progress=False)
    write_atomically(path, lambda temporary: torch.save(model.state_dict(), temporary))
    checkpoint.unlink(missing_ok=True)
    errors = {f"{split}_errors": count_errors(model, *getattr(data(), split)) for split in ("held_out", "test")}
    return [{"cell": "teacher", "arm": path.stem, "seed": seed, **errors}]


def weights_of(dropout: Sequence[float], rate: float, epochs: int, seed: int) -> Path:
    """Return where a teacher's weights are."""
    return WEIGHTS / f"dropout-{dropout[0]:g}-{dropout[1]:g}-rate-{rate:g}-epochs-{epochs}-seed-{seed}.pt"


@cache
def load_teacher(name: str) -> nn.Module:
    """Return a stored teacher; dropout plays no part when it answers."""
    model = make_mlp(1200, 1200, dropout=0.5, input_dropout=0.5).to(pick_device())
    model.load_state_dict(torch.load(WEIGHTS / f"{name}.pt", map_location=pick_device(), weights_only=True))
    return model.eval()


@cache
def answers(name: str) -> Tensor:
    """Return the teacher's logits for the 25 shifts of every training image, (N, 25, 10) in half precision: 28 MB."""
    images = data().train.images
    return torch.stack([predict_logits(load_teacher(name), shift(images, *each)).half() for each in SHIFTS], dim=1)


def pick_shifts(images: Tensor, which: Tensor) -> Tensor:
    """Return each image moved by one of the 25 shifts.

    Examples
    --------
    >>> images = torch.rand(2, 1, 28, 28)
    >>> moved = pick_shifts(images, torch.tensor([0, 24]))
    >>> bool((moved[0] == shift(images[:1], *SHIFTS[0])).all() and (moved[1] == shift(images[1:], *SHIFTS[24])).all())
    True
    """
    height, width = images.shape[-2:]
    views = F.pad(images, (PIXELS,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 5, 5, H, W)
    side = 2 * PIXELS + 1
    down, right = side - 1 - which // side, side - 1 - which % side  # moving down by p is the view that starts p higher
    return views[torch.arange(len(images), device=images.device), :, down, right]


def objective(
    student: nn.Module, images: Tensor, labels: Tensor, logits: Tensor, *, temperature: float, alpha: float,
    smoothing: float, shifted: bool,
) -> dict[str, Tensor]:  # fmt: skip
    """Learn from labels and from the teacher's answer for the very shift that the student sees."""
    middle = len(SHIFTS) // 2
    which = torch.randint(len(SHIFTS), (len(images),)).to(images.device) if shifted else torch.full_like(labels, middle)
    if shifted:
        images = pick_shifts(images, which)
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        predicted = student(images)  # (B, K)
    predicted = predicted.float()
    ce = F.cross_entropy(predicted, labels, label_smoothing=smoothing)
    if alpha == 0:
        return {"ce": ce}
    own = logits[torch.arange(len(labels), device=labels.device), which].float()  # (B, K)
    return {"kd": alpha * kd_loss(predicted, own, temperature=temperature), "ce": (1 - alpha) * ce}


def student(arm: str, teacher: str, views: str, epochs: int, seed: int, temperature: float, alpha: float) -> Rows:
    """Train one 2×800 student and count its errors."""
    train = data().train
    torch.manual_seed(seed)
    model = make_hinton_student().to(train.images.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    steps = epochs * math.ceil(len(train.labels) / BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    knobs = {"temperature": temperature, "alpha": alpha, "smoothing": 0.1 * (arm == "smoothed")}
    fit(
        model, (*train, answers(teacher)), partial(objective, shifted=views == VIEWS[1], **knobs), optimizer,
        epochs=epochs, batch_size=BATCH_SIZE, seed=seed, after_step=lambda step: scheduler.step(), progress=False,
    )  # fmt: skip
    logits = {split: predict_logits(model, getattr(data(), split).images) for split in ("held_out", "test")}
    row = {
        f"{split}_errors": int((each.argmax(-1) != getattr(data(), split).labels).sum())
        for split, each in logits.items()
    }
    agree = logits["test"].argmax(-1) == predict_logits(load_teacher(teacher), data().test.images).argmax(-1)
    return [{"cell": views, "arm": arm, "seed": seed, **row, "disagreements": int((~agree).sum())}]


def teacher_units(seed: int, settings: Sequence[tuple] = OF_TEACHER) -> list[Unit]:
    """Return a unit for each teacher."""
    return [
        Unit(teacher, {"dropout": list(dropout), "rate": rate, "epochs": epochs, "seed": seed})
        for dropout, rate, epochs in settings
    ]


def choosing_units(name: str) -> list[Unit]:
    """Return the students that choose T, alpha and views."""
    return [
        _student("distilled", name, views, SHORT, seed, temperature, alpha)
        for views in VIEWS for temperature in TEMPERATURES for alpha in ALPHAS for seed in CHOOSE
    ]  # fmt: skip


def final_units(name: str, temperature: float, alpha: float) -> list[Unit]:
    """Return the students that are reported."""
    arms = {"plain": (1.0, 0.0), "smoothed": (1.0, 0.0), "distilled": (temperature, alpha)}
    return [_student(arm, name, v, LONG, seed, *knobs) for v in VIEWS for arm, knobs in arms.items() for seed in SEEDS]


def _student(arm: str, name: str, views: str, epochs: int, seed: int, temperature: float, alpha: float) -> Unit:
    settings = {"arm": arm, "teacher": name, "views": views, "epochs": epochs, "seed": seed}
    return Unit(student, settings | {"temperature": temperature, "alpha": alpha})


def fewest(rows: Rows, key: Callable[[int], object], units: Sequence[Unit]) -> object:
    """Return the key of the units with the smallest sum of held-out errors.

    Examples
    --------
    >>> rows = [{"held_out_errors": errors} for errors in (5, 4, 1, 9)]
    >>> fewest(rows, lambda place: "ab"[place % 2], [Unit(teacher)] * 4)
    'a'
    """
    sums: dict[object, int] = {}
    for place in range(len(units)):
        sums[key(place)] = sums.get(key(place), 0) + rows[place]["held_out_errors"]
    return min(sums, key=lambda each: sums[each])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages one after another; each chooses what the next one runs."""
    parser = argparse.ArgumentParser(prog="python -m experiments.hinton_table", description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="show the stages and their expected minutes, run nothing")
    parser.add_argument("--executor", default="processes", help="processes, or the address of a Dask scheduler")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of finished units")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(describe()))
        return 0

    def run(name: str, about: str, units: list[Unit], *, last: bool = False) -> Rows:
        study = Study(name, about, lambda: units, 0, writes_itself=not last)
        run_studies([study], folder=options.folder, executor=options.executor, say=lambda line: print(line, flush=True))
        return stored_rows(study, folder=options.folder)

    first = teacher_units(0)
    best = int(str(fewest(run("hinton_teachers", "Teachers.", first), lambda place: place, first)))
    pair = [unit for seed in (0, 1) for unit in teacher_units(seed, [OF_TEACHER[best]])]
    chosen = run("hinton_teachers", "Two seeds of the best.", pair)
    name = str(min(chosen, key=lambda row: row["held_out_errors"])["arm"])
    units = choosing_units(name)
    knobs = fewest(
        run("hinton_choice", "T, alpha and views.", units),
        lambda place: tuple(units[place].settings[key] for key in ("temperature", "alpha")),
        units,
    )
    assert isinstance(knobs, tuple)
    about = (
        f"Hinton's table, all settings chosen on held-out images: teacher {name}, T = {knobs[0]:g}, α = {knobs[1]:g}. "
    )
    run("held_out_table", f"{about}The paper: {PAPER}", final_units(name, *knobs), last=True)
    return 0


def describe() -> list[str]:
    """Return a line for each stage: its units, its steps, and the minutes of one core at the speed of one thread."""
    per_epoch = (
        math.ceil((60_000 - HELD_OUT) / TEACHERS["hinton_teacher"].batch_size),
        math.ceil((60_000 - HELD_OUT) / BATCH_SIZE),
    )
    stages = {
        "teachers": (sum(epochs for *_, epochs in OF_TEACHER) * per_epoch[0], "teacher"),
        "second teacher": (max(epochs for *_, epochs in OF_TEACHER) * per_epoch[0], "teacher"),
        "choice": (len(choosing_units("")) * SHORT * per_epoch[1], "student"),
        "table": (len(final_units("", 1.0, 1.0)) * LONG * per_epoch[1], "student"),
    }
    return [
        f"{name}: {steps:,} steps, {steps * MINUTES_OF_STEP[kind]:,.0f} minutes"
        for name, (steps, kind) in stages.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
