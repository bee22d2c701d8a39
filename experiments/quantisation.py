"""A student of 8, 4, 3 and 2 bits: rounded after training, trained while rounded, and taught while rounded.

``python -m experiments.quantisation`` from the repository's root; a stopped run continues. Claims, arms and rules were
written before the run. The record is ``experiments/results/quantisation.json``, which chapter 12 shows.
"""

import argparse
import time
from functools import lru_cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from experiments._record import write_json
from experiments._rows import measured
from kdcourse import zoo
from kdcourse.data import MNIST, load_mnist
from kdcourse.models import (
    fake_quantise_model,
    make_mlp,
    quantise_model,
    saved_size_in_bytes,
    size_in_bytes,
)
from kdcourse.objectives import label_objective, soft_target_objective, with_knobs
from kdcourse.recipes import make_adam
from kdcourse.sweeps import compare
from kdcourse.training import choose_threads, count_errors, fit, predict_logits

TEACHER = "hinton_teacher"
BITS = (8, 4, 3, 2)
TRAINED_BITS = (3, 2)  # at 8 and 4 bits there is next to nothing left to gain
# Choices for the teacher's knobs, made by held-out errors at 2 bits, with seeds that the comparison does not use.
CHOICES = ((4.0, 0.5), (4.0, 0.9))
CHOICE_SEEDS = (100, 101)

# Test errors of 10,000; an effect counts from 20 errors on.
SMALLEST_EFFECT = 20
CLAIMS = [
    {
        "claim": "Eight bits, rounded after training, cost nothing that matters",
        "source": "common practice",
        "rule": "holds if 8 bits, one scale a row, minus the float student lies within ±20 errors",
    },
    {
        "claim": "A scale for each row beats one scale for the whole matrix",
        "source": "common practice; trap 98",
        "rule": "holds if it is better at 4 and at 3 bits",
    },
    {
        "claim": "Training with rounded weights mends what rounding broke",
        "source": "arXiv:1712.05877",
        "rule": "holds if it is better than rounding after training at 3 and at 2 bits",
    },
    {
        "claim": "A teacher helps a student that is trained with rounded weights",
        "source": "arXiv:2601.20088",
        "rule": "holds if it is better than both, labels and smoothed labels, at 3 and at 2 bits",
    },
]


@lru_cache(maxsize=1)
def _data(images: int) -> tuple[MNIST, Tensor]:
    """Return MNIST, and the teacher's logits on the images that students learn from."""
    mnist = load_mnist()
    mnist = mnist._replace(train=mnist.train.take(images))
    return mnist, predict_logits(zoo.load(TEACHER), mnist.train.images)


def train_on(
    student: nn.Module, how: str, *, images: int, epochs: int, batch_size: int, seed: int, temperature: float = 4.0,
    alpha: float = 0.9,
) -> nn.Module:  # fmt: skip
    """Train a student in place: ``"labels"``, ``"smoothed"`` or ``"teacher"``."""
    mnist, teacher_logits = _data(images)
    objective = {
        "labels": label_objective,
        "smoothed": with_knobs(label_objective, {"label_smoothing": 0.1}),
        "teacher": with_knobs(soft_target_objective, {"temperature": temperature, "alpha": alpha}),
    }[how]
    optimizer = make_adam(list(student.parameters()))
    data = (*mnist.train, teacher_logits)
    fit(student, data, objective, optimizer, epochs=epochs, batch_size=batch_size, seed=seed, progress=False)
    return student


def run(
    *, seed: int, images: int, width: int, first: int, epochs: int, batch_size: int, temperature: float, alpha: float,
    split: str,
) -> dict[str, Any]:  # fmt: skip
    """Train one float student, make every quantised one from it, and return the errors of all.

    ``split`` is ``"test"`` for the comparison, ``"held_out"`` for the choice of the teacher's knobs at 2 bits.
    """
    start, mnist = time.process_time(), _data(images)[0]
    data = getattr(mnist, split)
    common = {"images": images, "batch_size": batch_size, "temperature": temperature, "alpha": alpha}
    torch.manual_seed(seed)
    student = train_on(make_mlp(width), "labels", epochs=first, seed=seed, **common)
    if split == "held_out":
        rounded = train_on(fake_quantise_model(student, bits=2), "teacher", epochs=epochs, seed=seed + 1, **common)
        return {"errors": {"2 bits, trained by teacher": count_errors(quantise_model(rounded, bits=2), *data)}}
    errors = {"float": count_errors(student, *data)}
    sizes = {"float": saved_size_in_bytes(student)}
    for how in ("labels", "smoothed", "teacher"):
        longer = train_on(fresh_copy(student, width), how, epochs=epochs, seed=seed + 1, **common)
        errors[f"float, trained on by {how}"] = count_errors(longer, *data)
    for bits in BITS:
        rounded = quantise_model(student, bits=bits)
        errors[f"{bits} bits, one scale"] = count_errors(quantise_model(student, bits=bits, per_row=False), *data)
        errors[f"{bits} bits, a scale a row"] = count_errors(rounded, *data)
        sizes[f"{bits} bits"] = saved_size_in_bytes(rounded)
    for bits in TRAINED_BITS:
        for how in ("labels", "smoothed", "teacher"):
            learner = train_on(fake_quantise_model(student, bits=bits), how, epochs=epochs, seed=seed + 1, **common)
            packed = quantise_model(learner, bits=bits)
            errors[f"{bits} bits, trained by {how}"] = count_errors(packed, *data)
    sizes["weights of float, without names"] = size_in_bytes(student)
    return {"errors": errors, "sizes": sizes, "seconds": round(time.process_time() - start, 1)}


def fresh_copy(student: nn.Module, width: int) -> nn.Module:
    """Return another float student with the same weights."""
    other = make_mlp(width)
    other.load_state_dict(student.state_dict())
    return other


def pairs() -> list[tuple[str, str]]:
    """Return what is compared with what."""
    found = [(f"{bits} bits, a scale a row", "float") for bits in BITS]
    found += [(f"{bits} bits, a scale a row", f"{bits} bits, one scale") for bits in BITS]
    found += [(f"{bits} bits, trained by labels", f"{bits} bits, a scale a row") for bits in TRAINED_BITS]
    for bits in TRAINED_BITS:
        teacher = f"{bits} bits, trained by teacher"
        found += [(teacher, f"{bits} bits, trained by {how}") for how in ("labels", "smoothed")]
    # Rounded or not, a student that is trained on for the same epochs is the fair float.
    found += [(f"{bits} bits, trained by labels", "float, trained on by labels") for bits in TRAINED_BITS]
    found += [(f"{bits} bits, trained by teacher", "float, trained on by teacher") for bits in TRAINED_BITS]
    return found + [("float, trained on by teacher", f"float, trained on by {how}") for how in ("labels", "smoothed")]


def comparisons(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each pair's paired difference in errors with its interval and verdict."""
    table = pd.DataFrame(
        [
            {"arm": arm, "seed": row["seed"], "test_errors": errors}
            for row in rows
            for arm, errors in row["errors"].items()
        ]
    )
    found = []
    for arm, baseline in pairs():
        two = compare(table[table.arm.isin([arm, baseline])], baseline=baseline, smallest_effect=SMALLEST_EFFECT)
        found += two.to_dict("records")
    return found


def verdicts(compared: list[dict[str, Any]]) -> list[str]:
    """Apply the rule of each claim, in the order of ``CLAIMS``."""
    of = {(row["arm"], row["baseline"]): row["verdict"] for row in compared}
    rounded = [of["8 bits, a scale a row", "float"]]
    by_row = [of[f"{bits} bits, a scale a row", f"{bits} bits, one scale"] for bits in (4, 3)]
    trained = [of[f"{bits} bits, trained by labels", f"{bits} bits, a scale a row"] for bits in TRAINED_BITS]
    taught = [
        of[f"{bits} bits, trained by teacher", f"{bits} bits, trained by {how}"]
        for bits in TRAINED_BITS
        for how in ("labels", "smoothed")
    ]
    return [
        {"too small to matter": "holds", "worse": "does not hold here"}.get(rounded[0], rounded[0]),
        *(_all_better(words) for words in (by_row, trained, taught)),
    ]


def _all_better(words: list[str]) -> str:
    if set(words) == {"better"}:
        return "holds"
    some = f"better in {words.count('better')} of {len(words)} comparisons"
    return f"{'does not hold here' if 'worse' in words else 'unclear'}: {some}"


def main(arguments: list[str] | None = None) -> None:
    """Choose the teacher's knobs, run all seeds and write the record."""
    parser = argparse.ArgumentParser(prog="python -m experiments.quantisation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--width", type=int, default=64, help="units in the hidden layer")
    parser.add_argument("--first", type=int, default=10, help="passes over the data before anything is rounded")
    parser.add_argument("--epochs", type=int, default=3, help="passes with rounded weights, or of training on")
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args(arguments)
    settings = {key: getattr(options, key) for key in ("images", "width", "first", "epochs", "batch_size")}
    choices = [
        {"seed": seed, **settings, "temperature": temperature, "alpha": alpha, "split": "held_out"}
        for temperature, alpha in CHOICES
        for seed in CHOICE_SEEDS
    ]
    held_out: dict[tuple[float, float], int] = dict.fromkeys(CHOICES, 0)
    for row in measured("quantisation", choices, run):
        held_out[row["temperature"], row["alpha"]] += sum(row["errors"].values())
    temperature, alpha = min(CHOICES, key=lambda choice: held_out[choice])
    jobs = [
        {"seed": seed, **settings, "temperature": temperature, "alpha": alpha, "split": "test"}
        for seed in range(options.seeds)
    ]
    rows = measured("quantisation", jobs, run)
    compared = comparisons(rows)
    write_json(
        "quantisation",
        {
            "command": "python -m experiments.quantisation",
            "about": f"784-{options.width}-10, {options.images:,} images, {options.first} epochs of float training, "
            f"then {options.epochs} more, batches of {options.batch_size}, Adam at 0.001, {options.seeds} seeds, "
            f"errors of 10,000 test images; teacher {TEACHER} with T = {temperature:g} and alpha = {alpha:g}, chosen "
            "by held-out errors at 2 bits",
            "settings": {**settings, "temperature": temperature, "alpha": alpha, "teacher": TEACHER},
            "held_out_errors_of_choices": {f"T = {t:g}, alpha = {a:g}": total for (t, a), total in held_out.items()},
            "smallest_effect": SMALLEST_EFFECT,
            "claims": [{**claim, "verdict": word} for claim, word in zip(CLAIMS, verdicts(compared), strict=True)],
            "runs": rows,
            "comparisons": {"test errors": compared},
            "minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
        },
    )


if __name__ == "__main__":
    choose_threads()
    main()
