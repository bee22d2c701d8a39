"""Patient and consistent teachers, on few images: who sees which view, how long, and how large the student is."""

import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments._modern_plan import Rows
from experiments._modern_students import Size
from experiments._rows import measured
from kdcourse import zoo
from kdcourse.data import load_mnist
from kdcourse.data.views import shifted_views
from kdcourse.losses import kd_loss
from kdcourse.models import make_mlp
from kdcourse.training import count_errors, fit, predict_logits

SHAPES = {"2×800": (800, 800), "32 units": (32,)}
TEMPERATURE, IMAGES, BATCH_SIZE = 8.0, 1000, 64
EPOCHS = {"short": 15, "long": 120}
# Large students are dear, so long runs have every arm, and short ones what the claims and their pictures need.
ARMS = {
    "short": ("same view", "stale targets", "label_smoothing"),
    "long": ("same view", "stale targets", "other view", "no_teacher", "label_smoothing"),
}


@lru_cache
def views(images: int) -> tuple[Tensor, Tensor, Tensor]:
    """The 25 shifts of each image, their labels, and the teacher's logits of each shift: the cache's key is both."""
    few, teacher = load_mnist().train.take(images), zoo.load("hinton_teacher")
    shifted = shifted_views(few.images)  # (25, N, 1, 28, 28)
    answers = torch.stack([predict_logits(teacher, each) for each in shifted])  # (25, N, 10)
    return shifted, few.labels, answers


def make_objective(arm: str, shifted: Tensor, answers: Tensor, generator: torch.Generator):
    """Build an objective whose batches are numbers of images; it draws a view of each from its own generator."""

    def objective(student: nn.Module, index: Tensor, labels: Tensor) -> dict[str, Tensor]:
        seen, other = torch.randint(len(shifted), (2, len(index)), generator=generator)  # (B,), (B,)
        logits = student(shifted[seen, index])
        if arm in ("no_teacher", "label_smoothing"):
            return {"ce": F.cross_entropy(logits, labels, label_smoothing=0.1 * (arm == "label_smoothing"))}
        middle = torch.full_like(seen, len(shifted) // 2)
        asked = {"same view": seen, "other view": other, "stale targets": middle}[arm]
        return {"kd": kd_loss(logits, answers[asked, index], temperature=TEMPERATURE)}

    return objective


def run(*, block: str, shape: str, way: str, epochs: int, images: int, seed: int, **_: Any) -> Mapping[str, float]:
    """Train one student."""
    start = time.process_time()
    shifted, labels, answers = views(images)
    torch.manual_seed(seed)
    student = make_mlp(*SHAPES[shape])
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(1000 + seed)  # the same views for all arms of a seed
    history = fit(
        student, (torch.arange(images), labels), make_objective(way, shifted, answers, generator), optimizer,
        epochs=epochs, batch_size=BATCH_SIZE, seed=seed, progress=False,
        make_scheduler=lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    )  # fmt: skip
    last = [float(values[-50:].mean()) for values in history.terms.values()]
    return {
        "test_errors": count_errors(student, *load_mnist().test),
        "last_train_loss": round(sum(last), 5),
        "seconds": round(time.process_time() - start, 1),
    }


def jobs(size: Size) -> Iterator[dict[str, Any]]:
    """Seed by seed, so that a run that is cut short has whole seeds."""
    for seed in range(min(size.seeds, 5)):
        for shape in SHAPES:
            for length, ways in ARMS.items():
                for way in ways:
                    yield {
                        "block": f"patience, {shape}", "arm": f"{way}, {length}", "shape": shape, "way": way,
                        "epochs": 1 if size.tiny else EPOCHS[length], "images": 100 if size.tiny else IMAGES,
                        "seed": seed,
                    }  # fmt: skip


def patience(size: Size) -> Rows:
    """Run all arms."""
    return measured("patience", jobs(size), run)
