"""Hinton's table with every setting chosen on 5,000 held-out images, which nothing is trained on while it is chosen.

``python -m experiments.hinton_table`` runs five stages, each of them units that are stored as soon as they are done:

1. ``teachers``: 2×1200 units, dropout, weight constraint and jitter, 40 epochs; dropout and rate by held-out errors;
2. ``longer``: that setting for 100 epochs, two seeds; of the three networks the one with the fewest held-out errors is
   the teacher;
3. ``knobs``: students of 10 epochs that see the 25 shifts of ± 2 pixels, two seeds; T and alpha by held-out errors;
4. ``views``: with these knobs, the shifts or the images as they are, by held-out errors;
5. ``table``: 50 epochs and eight other seeds: plain, smoothed and distilled.

``--list`` shows the stages and the expected minutes. The record is ``experiments/results/hinton_table.json``. Test
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
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._record import write_json
from experiments.budget import SHIFTS, shift
from experiments.hinton import PAPER
from experiments.registry import Rows, Study, Unit
from experiments.running import FOLDER, run_studies, stored_rows
from experiments.training import arm_name
from kdcourse._files import write_atomically
from kdcourse.data import MNIST, load_mnist
from kdcourse.losses import kd_loss
from kdcourse.models import make_hinton_student, make_mlp
from kdcourse.sweeps import compare
from kdcourse.training import count_errors, fit, pick_device, predict_logits
from kdcourse.zoo import TEACHERS, fit_teacher

HELD_OUT, PIXELS, BATCH_SIZE, RATE = 5_000, 2, 256, 2e-3
WEIGHTS = FOLDER / "hinton_teachers"
# Hidden and input dropout, and peak rate.
OF_TEACHER = tuple(product(((0.3, 0.1), (0.5, 0.2)), (1e-3, 2e-3)))
BRIEF, PATIENT = 40, 100  # epochs of a teacher
TEMPERATURES, ALPHAS, VIEWS = (2, 4, 8, 20), (0.9, 1.0), ("as they are", "shifted")
SHORT, LONG, CHOOSE, SEEDS = 10, 50, (100, 101), range(8)
MINUTES_OF_STEP = {"teacher": 0.060 / 60, "student": 0.011 / 60}  # one thread


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
    path, images = WEIGHTS / f"{name}.answers", data().train.images
    if not path.exists():
        asked = [predict_logits(load_teacher(name), shift(images, *each)).half() for each in SHIFTS]
        write_atomically(path, lambda temporary: torch.save(torch.stack(asked, dim=1), temporary))
    return torch.load(path, map_location=images.device, weights_only=True)


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
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    steps = epochs * math.ceil(len(train.labels) / BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    knobs = {"temperature": temperature, "alpha": alpha, "smoothing": 0.1 * (arm == "label_smoothing")}
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


def teacher_units(epochs: int, seeds: Sequence[int], settings: Sequence[tuple] = OF_TEACHER) -> list[Unit]:
    """Return a unit for each teacher."""
    return [
        Unit(teacher, {"dropout": list(dropout), "rate": rate, "epochs": epochs, "seed": seed})
        for dropout, rate in settings for seed in seeds
    ]  # fmt: skip


def choosing_units(name: str, views: str, knobs: Sequence[tuple] = tuple(product(TEMPERATURES, ALPHAS))) -> list[Unit]:
    """Return the students that choose T and alpha, or views."""
    return [_student("distilled", name, views, SHORT, seed, *pair) for pair in knobs for seed in CHOOSE]


def final_units(name: str, views: str, temperature: float, alpha: float) -> list[Unit]:
    """Return the students that are reported."""
    arms = {"no_teacher": (1.0, 0.0), "label_smoothing": (1.0, 0.0), "distilled": (temperature, alpha)}
    return [_student(arm, name, views, LONG, seed, *knobs) for seed in SEEDS for arm, knobs in arms.items()]


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

    def say(line: str) -> None:
        if "recorded in" not in line:  # a stage has no record of its own
            print(line, flush=True)

    def run(stage: str, units: list[Unit]) -> Rows:
        study = Study(f"hinton_table_{stage}", stage, lambda: units, 0, writes_itself=True)
        run_studies([study], folder=options.folder, executor=options.executor, say=say)
        return stored_rows(study, folder=options.folder)

    brief = teacher_units(BRIEF, [0])
    tried = run("teachers", brief)
    best = int(str(fewest(tried, lambda place: place, brief)))
    longer = run("longer", teacher_units(PATIENT, [0, 1], [OF_TEACHER[best]]))
    name = str(min([tried[best], *longer], key=lambda row: row["held_out_errors"])["arm"])
    units = choosing_units(name, VIEWS[1])
    students = run("knobs", units)
    knobs = fewest(students, lambda place: tuple(units[place].settings[key] for key in ("temperature", "alpha")), units)
    assert isinstance(knobs, tuple)
    both = [unit for views in VIEWS for unit in choosing_units(name, views, [knobs])]
    seen = run("views", both)
    views = str(fewest(seen, lambda place: both[place].settings["views"], both))
    rows = run("table", final_units(name, views, *knobs))
    settings = {"temperature": knobs[0], "alpha": knobs[1], "views": views, "epochs": LONG, "batch_size": BATCH_SIZE}
    chosen = {"teachers": tried, "longer": longer, "knobs": _labelled(students, units), "views": seen}
    print(write_json("hinton_table", record_of(rows, name, settings, chosen)))
    return 0


def _labelled(rows: Rows, units: Sequence[Unit]) -> Rows:
    """Return rows whose arm names the knobs."""
    knobs = [(unit.settings["temperature"], unit.settings["alpha"]) for unit in units]
    return [{**row, "arm": arm_name(*pair)} for row, pair in zip(rows, knobs, strict=True)]


def record_of(rows: Rows, name: str, settings: dict[str, Any], chosen: dict[str, Rows]) -> dict[str, Any]:
    """Return the record: what was chosen, all runs, their means, and the comparisons with both baselines."""
    runs = pd.DataFrame(rows)
    teacher_row = next(row for row in [*chosen["teachers"], *chosen["longer"]] if row["arm"] == name)
    means = runs.groupby("arm", sort=False)[["test_errors", "held_out_errors", "disagreements"]].mean().round(2)
    return {
        "about": "Hinton's table with every setting chosen on 5,000 held-out images, which nothing is trained on",
        "command": "python -m experiments.hinton_table",
        "teacher": {**teacher_row, "training_images": 60_000 - HELD_OUT, "chosen_by": "held-out errors"},
        "settings": {**settings, "seeds": len(SEEDS), "images": 60_000 - HELD_OUT, "held_out": HELD_OUT},
        "paper": PAPER,
        "chosen_on_held_out_images": chosen,
        "runs": [{**row, "cell": "test", "views": row["cell"]} for row in rows],
        "means": {"teacher": {"test_errors": teacher_row["test_errors"]}} | means.to_dict(orient="index"),
        "comparisons": compare(runs).to_dict(orient="records"),
    }


def describe() -> list[str]:
    """Return a line for each stage: its units, its steps, and the minutes of one core at the speed of one thread."""
    per_epoch = (
        math.ceil((60_000 - HELD_OUT) / TEACHERS["hinton_teacher"].batch_size),
        math.ceil((60_000 - HELD_OUT) / BATCH_SIZE),
    )
    stages = {
        "teachers": (len(teacher_units(BRIEF, [0])) * BRIEF * per_epoch[0], "teacher"),
        "longer": (2 * PATIENT * per_epoch[0], "teacher"),
        "knobs": (len(choosing_units("", VIEWS[1])) * SHORT * per_epoch[1], "student"),
        "views": (len(VIEWS) * len(CHOOSE) * SHORT * per_epoch[1], "student"),
        "table": (len(final_units("", VIEWS[1], 1.0, 1.0)) * LONG * per_epoch[1], "student"),
    }
    return [
        f"{name}: {steps:,} steps, {steps * MINUTES_OF_STEP[kind]:,.0f} minutes"
        for name, (steps, kind) in stages.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
