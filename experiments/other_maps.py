"""Does attention transfer help because the student looks where the teacher looks *at this image*? Maps of other images.

``python -m experiments.other_maps`` from the repository's root; a stopped run continues. The record is
``experiments/results/other_maps.json``, which chapter 03 shows.

Written before the run: CNN students as in chapter 03, 1,000 images, 5 epochs in batches of 25, weight 10 for the
attention term, 24 seeds, errors of 10,000 test images. One arm hears the teacher's maps of its own images, the other
those of the image before it in the batch. The smallest effect of interest is 15 errors. The *right* map is worth
something if the first arm is better than the second.
"""

import argparse
import math
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._record import write_json
from kdcourse import zoo
from kdcourse.commands.when_it_helps import one_cycle
from kdcourse.data import load_mnist
from kdcourse.losses import attention_transfer_loss
from kdcourse.models import capture, evaluating, make_student_cnn
from kdcourse.sweeps import compare, sweep

LAYERS = ("stage2", "stage3")
IMAGES, EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT, SEEDS = 1_000, 5, 25, 0.03, 10.0, 24
SMALLEST_EFFECT = 15
ARMS = {"own image's map": False, "another image's map": True}


def objective(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *maps: Tensor, other: bool
) -> dict[str, Tensor]:
    """Cross-entropy and attention transfer, from the teacher's features of these images or of those before them."""
    with capture(student, *LAYERS) as features:
        logits = student(images)
    heard = [each.roll(1, 0) if other else each for each in maps]
    return {
        "ce": F.cross_entropy(logits, labels),
        "attention": WEIGHT * attention_transfer_loss([features[name] for name in LAYERS], heard),
    }


def answers(images: Tensor) -> list[Tensor]:
    """Return the teacher's logits and its features at both layers, 250 images at a time."""
    teacher, parts = zoo.load("teacher_cnn"), []
    for part in images.split(250):
        with evaluating(teacher), capture(teacher, *LAYERS) as features:
            parts.append((teacher(part), *(features[name] for name in LAYERS)))
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def comparisons(runs: pd.DataFrame) -> dict[str, list[dict]]:
    """Return both arms against the baselines, and the own map against the other."""
    judged = partial(compare, runs, smallest_effect=SMALLEST_EFFECT)
    pair = judged(baseline="another image's map")
    return {
        "against the baselines": judged(baseline=["no_teacher", "label_smoothing"]).to_dict("records"),
        "the right map": pair[pair["arm"] == "own image's map"].to_dict("records"),
    }


def main() -> None:
    """Train all students, a process for each core, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m experiments.other_maps")
    parser.add_argument("--cache", type=Path, default=Path("runs/other_maps"), help="folder of what is done already")
    options = parser.parse_args()
    mnist, start = load_mnist(), time.perf_counter()
    images = mnist.train.take(IMAGES)
    runs = sweep(
        make_student=make_student_cnn,
        data={"train": (*images, *answers(images.images)), "test": mnist.test},
        objective={name: partial(objective, other=other) for name, other in ARMS.items()},
        seeds=range(SEEDS),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        make_optimizer=one_cycle(EPOCHS * math.ceil(IMAGES / BATCH_SIZE)),
        lr=LEARNING_RATE,
        cache=options.cache,
        executor="processes",
        progress=False,
    )
    record = {
        "command": "python -m experiments.other_maps",
        "about": f"CNN students, {IMAGES:,} images, {EPOCHS} epochs in batches of {BATCH_SIZE}, attention transfer "
        f"with weight {WEIGHT:g}, {SEEDS} seeds, errors of 10,000 test images",
        "smallest_effect": SMALLEST_EFFECT,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "comparisons": comparisons(runs),
        "runs": runs[["arm", "seed", "test_errors"]].to_dict("records"),
    }
    print(f"recorded in {write_json('other_maps', record)}")


if __name__ == "__main__":
    main()
