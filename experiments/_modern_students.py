"""Students of experiment ``modern`` that answer one label: ten digits, and 24 kinds of definitions."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._modern_plan import BASELINES, CHOICE_SEEDS, Rows, choose
from experiments._rows import measured
from kdcourse import zoo
from kdcourse.data import load_mnist
from kdcourse.data.definitions import load_definitions
from kdcourse.data.tokens import encode, load_tokenizer
from kdcourse.losses import (
    decoupled_kd_loss,
    dist_loss,
    generalized_jsd_loss,
    kd_loss,
    sorted_probability_loss,
    standardize_logits,
)
from kdcourse.models import make_mlp
from kdcourse.models.words import BagOfWords
from kdcourse.objectives import label_objective
from kdcourse.training import fit, predict_logits

DIVERGENCES = {"forward": 0.0, "JS": 0.5, "reverse": 1.0}
WIDTHS = {"narrow": 4, "wide": 32}
SHOULD_BE_NOTHING = 0.01  # what a teacher rules out: kinds to which it gives less


class Size(NamedTuple):
    """How much is trained; ``--tiny`` takes little, to see that all runs."""

    images: int = 2000
    digit_epochs: int = 20
    texts: int = 4000
    text_epochs: int = 10
    evaluated: int = 2000
    seeds: int = 5
    digit_seeds: int = 7
    tiny: bool = False


TINY = Size(images=200, digit_epochs=1, texts=200, text_epochs=1, evaluated=200, seeds=2, digit_seeds=2, tiny=True)


class Material(NamedTuple):
    """Inputs, labels and the teacher's logits to learn from; inputs, labels and its logits to be judged by."""

    train: tuple[Tensor, Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    test_teacher: Tensor


@lru_cache
def digits(size: Size) -> Material:
    """2,000 images and the large teacher's logits."""
    mnist, teacher = load_mnist(), zoo.load("hinton_teacher")
    few = mnist.train.take(size.images)
    answers = predict_logits(teacher, few.images)
    return Material((*few, answers), tuple(mnist.held_out), tuple(mnist.test), predict_logits(teacher, mnist.test[0]))


@lru_cache
def kinds_teacher(definitions: int) -> BagOfWords:
    """A bag of words of width 64 that has read all training definitions; seconds, and nearly as good as a BERT."""
    split = load_definitions().train.take(definitions)
    torch.manual_seed(0)
    teacher = BagOfWords(64)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3, fused=True)
    ids = encode(load_tokenizer(), split.texts).input_ids
    fit(teacher, (ids, split.labels), label_objective, optimizer, epochs=5, batch_size=128, progress=False)
    return teacher


@lru_cache
def kinds(size: Size) -> Material:
    """Definitions, and the logits of a wide bag of words that has read many more."""
    definitions, tokenizer = load_definitions(), load_tokenizer()
    teacher = kinds_teacher(200 if size.tiny else len(definitions.train.texts))
    parts = [
        getattr(definitions, name).take(count)
        for name, count in (("train", size.texts), ("held_out", size.evaluated), ("test", size.evaluated))
    ]
    ids = [encode(tokenizer, part.texts).input_ids for part in parts]
    answers = [predict_logits(teacher, each) for each in ids]
    return Material(
        (ids[0], parts[0].labels, answers[0]), (ids[1], parts[1].labels), (ids[2], parts[2].labels), answers[2]
    )


def objective(
    student: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    *,
    method: str,
    temperature: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.0,
    weight: float = 1.0,
) -> dict[str, Tensor]:
    """Terms of every method of this file, on one student."""
    logits = student(inputs)
    if method in BASELINES:
        return {"ce": F.cross_entropy(logits, labels, label_smoothing=0.1 * (method == "label_smoothing"))}
    if method == "divergence":
        return {"kd": generalized_jsd_loss(logits, teacher_logits, beta=beta, temperature=temperature)}
    if method == "sorted":
        kd = sorted_probability_loss(logits, teacher_logits, temperature=temperature)
        return {"sorted": weight * kd, "ce": alpha * F.cross_entropy(logits, labels)}
    ce = F.cross_entropy(logits, labels)
    if method == "DKD":  # the paper adds it to the labels' term, with TCKD's weight 1
        return {"kd": decoupled_kd_loss(logits, teacher_logits, labels, temperature=temperature, beta=beta), "ce": ce}
    if method == "DIST":
        return {"kd": weight * dist_loss(logits, teacher_logits, temperature=temperature), "ce": ce}
    if method == "standardised":
        logits, teacher_logits = standardize_logits(logits), standardize_logits(teacher_logits)
    return {"kd": alpha * kd_loss(logits, teacher_logits, temperature=temperature), "ce": (1 - alpha) * ce}


# Six settings for each method, so that plain KD is tuned as long as its rivals.
_GRIDS: dict[str, dict[str, list[float]]] = {
    "KD": {"temperature": [2, 8, 20], "alpha": [0.5, 0.9]},
    "DKD": {"temperature": [2, 4, 8], "beta": [1, 8]},
    "DIST": {"temperature": [1, 4, 8], "weight": [1, 4]},
    "standardised": {"temperature": [1, 2, 4], "alpha": [0.5, 0.9]},
}
# Added after the first results on digits were seen: standardised logits had chosen the softest targets of all.
HIGHER = "KD, higher T"


def settings_of(method: str) -> Iterator[dict[str, Any]]:
    """Every setting of a method's grid."""
    if method == HIGHER:
        return ({"method": "KD", "temperature": t, "alpha": 0.9} for t in (40, 80, 160))
    (one, ones), (two, twos) = _GRIDS[method].items()
    return ({"method": method, one: first, two: second} for first in ones for second in twos)


def train(
    material: Material, make_student: Callable[[], nn.Module], *, seed: int, epochs: int, lr: float,
    **knobs: Any,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """Train one student and return its test logits and numbers."""
    start = time.process_time()
    torch.manual_seed(seed)
    student = make_student()
    optimizer = torch.optim.Adam(student.parameters(), lr=lr, fused=True)
    fit(
        student, material.train, partial(objective, **knobs), optimizer, epochs=epochs, batch_size=128, seed=seed,
        progress=False,
    )  # fmt: skip
    held_out, test = (predict_logits(student, split[0]) for split in (material.held_out, material.test))
    numbers = {
        "held_out_errors": int((held_out.argmax(dim=1) != material.held_out[1]).sum()),
        "test_errors": int((test.argmax(dim=1) != material.test[1]).sum()),
        "seconds": round(time.process_time() - start, 1),
    }
    return test, numbers


def shape_of_answers(logits: Tensor, teacher_logits: Tensor) -> dict[str, float]:
    """Entropy in nats, and the probability that goes where the teacher gives less than 1 %."""
    log_q = logits.log_softmax(dim=1)
    ruled_out = teacher_logits.softmax(dim=1) < SHOULD_BE_NOTHING
    return {
        "entropy": round(float(-(log_q.exp() * log_q).sum(dim=1).mean()), 4),
        "tail": round(float((log_q.exp() * ruled_out).sum(dim=1).mean()), 5),
    }


def run_kinds(load: Callable[[], Material], *, width: int, epochs: int, seed: int, **job: Any) -> Mapping[str, float]:
    """Run one job on the 24 kinds."""
    material, knobs = load(), {key: job[key] for key in job if key not in ("stage", "block", "arm")}
    logits, numbers = train(material, partial(BagOfWords, width), epochs=epochs, seed=seed, **knobs)
    return numbers | shape_of_answers(logits, material.test_teacher)


def run_digits(load: Callable[[], Material], *, epochs: int, seed: int, **job: Any) -> Mapping[str, float]:
    """Run one job on ten digits."""
    knobs = {key: job[key] for key in job if key not in ("stage", "block", "arm")}
    return train(load(), partial(make_mlp, 300, 300), epochs=epochs, seed=seed, **knobs)[1]


def divergences(size: Size, load: Callable[[], Material]) -> Rows:
    """Students of two widths that learn from the teacher alone, by three divergences, and the two baselines."""
    name, run, rows = "divergences", partial(run_kinds, load), []
    arms = {arm: {"method": "divergence", "beta": beta} for arm, beta in DIVERGENCES.items()}
    arms |= {arm: {"method": arm} for arm in BASELINES}
    for shape, width in WIDTHS.items():
        fixed = {"block": f"{name}, {shape}", "width": width, "epochs": size.text_epochs}
        for arm, knobs in arms.items():  # a divergence with small gradients may need another rate: each has its own
            rates = [{"lr": lr, **knobs} for lr in (1e-2, 3e-2)]
            chosen = choose(name, run, rates, seeds=CHOICE_SEEDS[:1], **fixed, arm=arm)
            jobs = [{**fixed, "arm": arm, **chosen, "seed": seed} for seed in range(size.seeds)]
            rows += measured(name, jobs, run)
    return rows


def newer(
    name: str, where: str, fixed: dict[str, Any], rates: list[float], run: Callable, seeds: int, *more: str
) -> Rows:
    """DKD, DIST and standardised logits against plain KD, each with the best of its own six settings."""
    block = {"block": f"newer, {where}", **fixed}
    lr = choose(name, run, [{"lr": lr, "method": "no_teacher"} for lr in rates], **block, arm="no_teacher")["lr"]
    rows: Rows = []
    for arm in (*BASELINES, *_GRIDS, *more):
        settings = [{"method": arm}] if arm in BASELINES else settings_of(arm)
        chosen = choose(name, run, settings, **block, arm=arm, lr=lr)
        jobs = [{**block, "arm": arm, "lr": lr, **chosen, "seed": seed} for seed in range(seeds)]
        rows += measured(name, jobs, run)
    return rows


def newer_digits(size: Size) -> Rows:
    """Ten classes, 2,000 images."""
    fixed, run = {"epochs": size.digit_epochs}, partial(run_digits, partial(digits, size))
    return newer("newer-digits", "ten digits", fixed, [1e-3], run, size.digit_seeds, HIGHER)


def newer_kinds(size: Size, load: Callable[[], Material]) -> Rows:
    """24 classes, 4,000 definitions, a student of width 32."""
    fixed, run = {"width": WIDTHS["wide"], "epochs": size.text_epochs}, partial(run_kinds, load)
    return newer("newer-kinds", "24 kinds", fixed, [1e-2, 3e-2], run, size.seeds)


def sorted_probabilities(size: Size) -> Rows:
    """What a student learns from a teacher whose classes have no names."""
    name, run = "sorted", partial(run_digits, partial(digits, size))
    fixed = {"block": "sorted", "epochs": size.digit_epochs, "lr": 1e-3}
    grid = [{"method": "sorted", "temperature": t, "weight": w} for t in (1, 4) for w in (0.5, 2)]
    arms = {arm: {"method": arm} for arm in BASELINES}
    arms["labels and sorted"] = choose(name, run, grid, seeds=CHOICE_SEEDS[:1], **fixed, arm="labels and sorted")
    arms["sorted alone"] = {"method": "sorted", "temperature": 1, "weight": 1, "alpha": 0.0}
    jobs = [{**fixed, "arm": arm, **knobs, "seed": seed} for seed in range(size.seeds) for arm, knobs in arms.items()]
    return measured(name, jobs, run)
