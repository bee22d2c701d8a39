"""Hinton's MNIST experiments at full size: 2×800 students, plain and distilled, and transfer sets that lack classes.

Run ``python -m experiments.hinton`` from the repository's root. If it is stopped, the same command continues: every run
has a checkpoint of its own. ``experiments/results/hinton.json`` is written when the last run has ended.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._record import write_json
from kdcourse import zoo
from kdcourse._files import write_atomically
from kdcourse.data import load_mnist
from kdcourse.data.mnist import MNIST
from kdcourse.losses import kd_loss
from kdcourse.models import make_hinton_student
from kdcourse.sweeps import compare
from kdcourse.training import choose_threads, fit, pick_device, predict_logits

# Test errors of 10,000; section 3 of the paper. Its biases were tuned on the test set.
PAPER = {
    "teacher": {"test_errors": 67},
    "no_teacher": {"test_errors": 146},
    "distilled": {"test_errors": 74},
    "without_3": {
        "test_errors": 206, "errors_on_3": 133, "bias": 3.5, "test_errors_with_bias": 109, "errors_on_3_with_bias": 14,
    },
    "only_7_and_8": {"test_errors": 4730, "bias": -7.6, "test_errors_with_bias": 1320},
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One experiment: what the student learns from, and which digits its transfer set holds.

    Attributes
    ----------
    alpha : float
        Share of the soft targets; the rest is cross-entropy with the labels.
    label_smoothing : float
        Label smoothing of the cross-entropy.
    digits : str
        Digits in the transfer set.
    biased : tuple of int
        Classes whose bias is moved by one number afterwards, chosen on held-out images.
    longer : int
        Factor on the number of epochs: a small transfer set has few steps per epoch.
    """

    alpha: float
    label_smoothing: float = 0.0
    digits: str = "0123456789"
    biased: tuple[int, ...] = ()
    longer: int = 1


ARMS = {
    "no_teacher": Arm(alpha=0.0),
    "label_smoothing": Arm(alpha=0.0, label_smoothing=0.1),
    "distilled": Arm(alpha=0.9),
    # Soft targets alone: only the teacher can tell the student about absent digits.
    "without_3": Arm(alpha=1.0, digits="012456789", biased=(3,)),
    "only_7_and_8": Arm(alpha=1.0, digits="78", biased=(7, 8), longer=2),
}

# Candidates for the bias, on both sides of 0.
BIASES = [step / 10 for step in range(-150, 151)]


def hinton_objective(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, arm: Arm, temperature: float,
    bfloat16: bool,
) -> dict[str, Tensor]:  # fmt: skip
    """Learn from soft targets and labels as an arm weighs them, the student's pass in bfloat16 on request."""
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        logits = student(images)  # (B, K)
    logits = logits.float()
    ce = F.cross_entropy(logits, labels, label_smoothing=arm.label_smoothing)
    if arm.alpha == 0:
        return {"ce": ce}
    kd = kd_loss(logits, teacher_logits, temperature=temperature)
    return {"kd": arm.alpha * kd, "ce": (1 - arm.alpha) * ce}


def count_errors_with(logits: Tensor, labels: Tensor, *, bias: float, classes: tuple[int, ...]) -> Tensor:
    """Return which rows are wrong, shape (N,), when the classes' logits are moved by a bias."""
    moved = logits.clone()
    moved[:, list(classes)] += bias
    return moved.argmax(dim=-1) != labels


def choose_bias(logits: Tensor, labels: Tensor, *, classes: tuple[int, ...]) -> float:
    """Return the bias with the fewest errors; the middle one if several are equally good."""
    errors = [int(count_errors_with(logits, labels, bias=bias, classes=classes).sum()) for bias in BIASES]
    best = [bias for bias, count in zip(BIASES, errors, strict=True) if count == min(errors)]
    return best[len(best) // 2]


def measure(student: nn.Module, arm: Arm, mnist: MNIST) -> dict:
    """Count the student's errors on the test images; a bias is chosen on held-out images only."""
    logits, labels = predict_logits(student, mnist.test.images), mnist.test.labels
    wrong = logits.argmax(dim=-1) != labels
    if not arm.biased:
        return {"test_errors": int(wrong.sum())}
    bias = choose_bias(predict_logits(student, mnist.held_out.images), mnist.held_out.labels, classes=arm.biased)
    still_wrong = count_errors_with(logits, labels, bias=bias, classes=arm.biased)
    errors = {"test_errors": int(wrong.sum()), "bias": bias, "test_errors_with_bias": int(still_wrong.sum())}
    if arm.biased == (3,):
        threes = labels == 3
        errors |= {"errors_on_3": int(wrong[threes].sum()), "errors_on_3_with_bias": int(still_wrong[threes].sum())}
    return errors


def run(name: str, seed: int, data: MNIST, teacher_logits: Tensor, options: argparse.Namespace) -> dict:
    """Train and measure one student, or read what was measured before."""
    arm = ARMS[name]
    folder, epochs = Path(options.folder), options.epochs * arm.longer
    teacher = {key: zoo.provenance("hinton_teacher")[key] for key in ("command", "date", "test_errors")}
    settings = {key: getattr(options, key) for key in SETTINGS}
    settings = {**asdict(arm), **settings, "images": len(data.train.labels), "teacher": teacher}
    settings = json.loads(json.dumps(settings))  # as they will be read: tuples are lists
    result = folder / f"{name}-{seed}.json"
    if result.exists():
        earlier = json.loads(result.read_text(encoding="utf-8"))
        if earlier["settings"] == settings:
            return earlier["row"]
    inside = torch.isin(data.train.labels, torch.tensor([int(d) for d in arm.digits], device=data.train.labels.device))
    tensors = [tensor[inside] for tensor in (*data.train, teacher_logits)]
    torch.manual_seed(seed)
    student = make_hinton_student(options.width).to(data.train.images.device)
    optimizer = torch.optim.Adam(student.parameters(), lr=options.lr)
    steps = epochs * math.ceil(len(tensors[1]) / options.batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps)
    checkpoint = folder / f"{name}-{seed}.pt"
    start = time.perf_counter()
    knobs = {"arm": arm, "temperature": options.temperature, "bfloat16": options.bfloat16}
    fit(
        student, tensors, partial(hinton_objective, **knobs), optimizer,
        epochs=epochs, batch_size=options.batch_size, seed=seed, after_step=lambda step: scheduler.step(),
        parts={"scheduler": scheduler}, checkpoint=checkpoint, progress=options.progress,
    )  # fmt: skip
    row = {
        "arm": name, "seed": seed, "images": len(tensors[1]), "epochs": epochs, **measure(student, arm, data),
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    text = json.dumps({"settings": settings, "row": row})
    write_atomically(result, lambda path: path.write_text(text, encoding="utf-8"))
    checkpoint.unlink()
    return row


def summarise(rows: list[dict]) -> dict:
    """Return means by arm, and paired differences of the distilled students from both baselines."""
    table = pd.DataFrame(rows)
    numbers = [column for column in table if "errors" in column or column == "bias"]
    means = {
        arm: {column: round(float(group[column].mean()), 2) for column in numbers if group[column].notna().all()}
        for arm, group in table.groupby("arm", sort=False)
    }
    compared = table[table.arm.isin(["no_teacher", "label_smoothing", "distilled"])]
    comparisons: list[dict] = []
    if table.seed.nunique() > 1 and "distilled" in means:
        present = [arm for arm in ("no_teacher", "label_smoothing") if arm in means]
        differences = compare(compared, metric="test_errors", baseline=present)
        comparisons = differences[differences.arm == "distilled"].to_dict("records")
    means["teacher"] = {"test_errors": zoo.provenance("hinton_teacher")["test_errors"]}
    return {"means": means, "comparisons": comparisons}


SETTINGS = ("epochs", "width", "temperature", "batch_size", "lr", "bfloat16")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--images", type=int, default=60_000, help="number of training images, from the start")
    parser.add_argument("--held-out", type=int, default=5000, help="images kept out of transfer sets that lack classes")
    parser.add_argument("--width", type=int, default=800)
    parser.add_argument("--temperature", type=float, default=20.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--folder", default="runs/hinton", help="folder of checkpoints and finished rows")
    parser.add_argument("--record", default="hinton", help="name of the file in experiments/results")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args(arguments)

    choose_threads(options.threads)
    device = pick_device(options.device)
    teacher = zoo.load("hinton_teacher", device=device)
    rows = []
    for name in options.arms:
        # All images where nothing is chosen; 5,000 fewer where a bias is, and those choose it.
        mnist = load_mnist(device=device, held_out=options.held_out if ARMS[name].biased else 0)
        mnist = mnist._replace(train=mnist.train.take(min(options.images, len(mnist.train.labels))))
        logits = predict_logits(teacher, mnist.train.images)  # (N, 10), once: nothing augments the images
        for seed in range(options.seeds):
            rows.append(run(name, seed, mnist, logits, options))
            print(rows[-1], flush=True)
    record = {
        "about": "Hinton's MNIST experiments: test errors of 10,000; biases chosen on held-out training images",
        "command": " ".join(["python -m experiments.hinton", *(sys.argv[1:] if arguments is None else arguments)]),
        "settings": {key: getattr(options, key) for key in (*SETTINGS, "seeds", "images", "held_out")},
        "arms": {name: asdict(ARMS[name]) for name in options.arms},
        "paper": PAPER,
        "teacher": zoo.provenance("hinton_teacher"),
        "runs": rows,
        **summarise(rows),
    }
    print(write_json(options.record, record))


if __name__ == "__main__":
    main()
