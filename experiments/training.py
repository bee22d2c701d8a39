"""Students of the studies: data and teachers kept by each process, and one call that trains and measures many."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import product

import torch
from torch import Tensor, nn

from experiments.measures import measure
from experiments.registry import CHOOSING, Rows
from kdcourse import zoo
from kdcourse.data import MNIST, load_mnist
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective, soft_target_objective
from kdcourse.sweeps import sweep
from kdcourse.training import Objective, count_errors, pick_device, predict_logits

SEEDS = (*range(8), *CHOOSING)
BATCH_SIZE, LEARNING_RATE, STEPS = 64, 2e-3, 800
NOISE = 0.5  # standard deviation of the pixels' noise in the noisy test images
SMOOTHING = (0.1, 0.3)
SHAPES = {"784-128-10": (128,), "784-300-300-10": (300, 300), "784-32-10": (32,)}
TEACHER = "hinton_teacher"


@cache
def mnist() -> MNIST:
    """Return MNIST on the device that this process trains on."""
    return load_mnist(device=pick_device())


@cache
def noisy_images() -> Tensor:
    """Return the test images with noise, the same for all students."""
    images = mnist().test.images
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images.device)
    return (images + NOISE * noise).clamp_(0, 1)


@cache
def shipped_logits(split: str, count: int | None = None) -> Tensor:
    """Return the shipped teacher's logits on the first images of a split."""
    images = getattr(mnist(), split).images[:count]
    return predict_logits(zoo.load(TEACHER, device=images.device), images)


def shipped_teacher() -> dict[str, Tensor]:
    """Return the shipped teacher's logits on held-out and test images."""
    return {split: shipped_logits(split) for split in ("held_out", "test")}


def epochs_for(images: int, *, steps: int = STEPS, batch_size: int = BATCH_SIZE) -> int:
    """Return the number of epochs that makes about so many steps."""
    return max(1, round(steps / -(-images // batch_size)))


def labels_only() -> dict[str, Objective]:
    """Return both baselines: labels as they are, and labels of which a share is spread over all classes."""
    smoothed = {f"smoothed {share:g}": partial(label_objective, label_smoothing=share) for share in SMOOTHING}
    return {"plain": label_objective, **smoothed}


def arm_name(temperature: float, alpha: float) -> str:
    """Return how a distilled arm is called in a record."""
    return f"T = {temperature:g}, α = {alpha:g}"


def arm_names(temperatures: Iterable[float], alphas: Iterable[float]) -> tuple[str, ...]:
    """Return the names of all arms of a grid."""
    return tuple(arm_name(*pair) for pair in product(temperatures, list(alphas)))


def taught(temperatures: Iterable[float], alphas: Iterable[float]) -> dict[str, Objective]:
    """Return an objective for each T and alpha of a grid."""
    return {
        arm_name(temperature, alpha): partial(soft_target_objective, temperature=temperature, alpha=alpha)
        for temperature, alpha in product(temperatures, list(alphas))
    }


def train_students(
    *,
    cell: str,
    hidden: Sequence[int],
    data: tuple[Tensor, Tensor],
    arms: Mapping[str, Objective],
    teacher_logits: Tensor | None = None,
    teacher: dict[str, Tensor] | None = None,
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    noisy: bool = False,
) -> Rows:
    """Train students of one shape on one set of images, one for each arm and seed, and measure each.

    ``teacher_logits`` are those on the images, (N, K), or (S, N, K) with a teacher for each seed. ``teacher`` has its
    logits on held-out and test images, which disagreements are counted against; by default the shipped teacher's.
    ``noisy`` counts errors on noisy test images too.
    """
    runs = train_models(hidden, data, arms, teacher_logits, seeds=seeds, steps=steps, batch_size=batch_size)
    return [
        {
            "cell": cell,
            "arm": arm,
            "seed": seed,
            **measure_student(model, teacher or shipped_teacher(), place, noisy=noisy),
        }
        for arm, models in runs.items()
        for place, (seed, model) in enumerate(zip(seeds, models, strict=True))
    ]


def train_models(
    hidden: Sequence[int],
    data: tuple[Tensor, Tensor],
    arms: Mapping[str, Objective],
    teacher_logits: Tensor | None = None,
    *,
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
) -> dict[str, list[nn.Module]]:
    """Train a model for each arm and seed; returns them by arm, in the order of the seeds."""
    models: dict[str, list[nn.Module]] = {}
    for arm, objective in arms.items():
        runs = sweep(
            make_student=partial(make_mlp, *hidden),
            data=data,
            objective=objective,
            teacher=teacher_logits,
            seeds=seeds,
            epochs=epochs_for(len(data[0]), steps=steps, batch_size=batch_size),
            batch_size=batch_size,
            lr=LEARNING_RATE,
            baselines=[],
            keep_models=True,
            progress=False,
        )
        models[arm] = list(runs["model"])
    return models


def measure_student(
    student: nn.Module, teacher: dict[str, Tensor], place: int = 0, *, noisy: bool = False
) -> dict[str, float]:
    """Return a student's numbers; ``place`` is its own teacher's place where each seed has one."""
    images = mnist()
    labels = {"held_out": images.held_out.labels.cpu(), "test": images.test.labels.cpu()}
    logits = {split: predict_logits(student, getattr(images, split).images).cpu() for split in labels}
    own = {split: (each[place] if each.dim() == 3 else each).cpu() for split, each in teacher.items()}
    numbers = measure(logits, labels=labels, teacher=own)
    if noisy:
        numbers["noisy_errors"] = count_errors(student, noisy_images(), images.test.labels)
    return numbers
