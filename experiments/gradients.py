"""Are the gradients of soft targets smoother? The share of noise in a batch's gradient, as a student trains."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from experiments.registry import Condition, Contrast, Entry, Rows, Study, Unit
from experiments.training import BATCH_SIZE, LEARNING_RATE, SHAPES, arm_name, labels_only, mnist, shipped_logits, taught
from kdcourse.data import minibatches
from kdcourse.models import make_mlp
from kdcourse.training import make_adam, train

IMAGES, AFTER, BATCHES, SEEDS = 2_000, (0, 100, 400), 30, range(8)
SHAPE = "784-128-10"
Terms = Callable[..., dict[str, Tensor]]


def noise_of(student: nn.Module, objective: Terms, batches: list[tuple[Tensor, ...]]) -> float:
    """Return the logarithm, to base 2, of noise over signal: the mean squared distance of a batch's gradient from the
    mean gradient, over the mean gradient's squared length.

    Examples
    --------
    >>> from kdcourse.objectives import label_objective
    >>> student, batch = nn.Linear(2, 3), (torch.rand(4, 2), torch.tensor([0, 1, 2, 0]))
    >>> noise_of(student, label_objective, [batch, batch])
    -inf
    """
    gradients = []
    for batch in batches:
        loss = torch.stack(list(objective(student, *batch).values())).sum()
        gradients.append(torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(student.parameters()))]))
    stacked = torch.stack(gradients)  # (batches, P)
    mean = stacked.mean(dim=0)
    noise = (stacked - mean).square().sum(dim=1).mean()
    return math.log2(float(noise / mean.square().sum())) if noise > 0 else -math.inf


def gradients() -> Rows:
    """Measure, on the way of a student that learns from labels, how noisy the gradient of each objective would be."""
    part, logits = mnist().train.take(IMAGES), shipped_logits("train", IMAGES)
    objectives = labels_only() | taught((1, 4, 20), (0.9,))
    rows: Rows = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        student = make_mlp(*SHAPES[SHAPE]).to(part.images.device)
        make = partial(minibatches, *part, logits, batch_size=BATCH_SIZE, drop_last=True)
        probe = list(make(generator=torch.Generator().manual_seed(1_000 + seed)))[:BATCHES]
        steps = train(
            student,
            make(epochs=20, generator=torch.Generator().manual_seed(seed)),
            objectives["plain"],
            make_adam(student.parameters(), lr=LEARNING_RATE),
        )
        for done in range(max(AFTER) + 1):
            if done in AFTER:
                for arm, objective in objectives.items():
                    noise = round(noise_of(student, objective, probe), 4)
                    rows.append({"cell": f"after {done} steps", "arm": arm, "seed": seed, "log2_noise": noise})
            next(steps)
    return rows


STUDIES = [
    Study(
        "gradients", "How noisy a batch's gradient is, for labels and for soft targets.", lambda: [Unit(gradients)], 0.5
    )
]

ENTRIES = [
    Entry(
        name="smoother gradients",
        claim="Soft targets give smoother gradients than hard labels: less of a batch's gradient is noise.",
        source="a common piece of advice; Hinton et al. 2015, section 1",
        study="gradients",
        run="784-128-10, 2,000 images; 30 batches of 64 at three moments of a training on labels; the shipped teacher, "
        "α = .9, T = 4 and T = 20",
        baselines="plain labels; smoothed labels, .1",
        seeds=8,
        metric="log2_noise",
        unit="doublings of noise over signal",
        smallest_effect=0.1,
        conditions=tuple(
            Condition(
                f"it is {when}, T = {t}",
                (
                    Contrast(when, arm_name(t, 0.9), "plain"),
                    Contrast(when, arm_name(t, 0.9), "smoothed 0.1"),
                ),
            )
            for when in (f"after {done} steps" for done in AFTER)
            for t in (4, 20)
        ),
    )
]
