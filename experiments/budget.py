"""Longer training and augmentation, with the teacher's answers for the very view that the student sees."""

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.registry import Condition, Contrast, Entry, Rows, Study, Unit
from experiments.training import SHAPES, TEACHER, arm_name, labels_only, mnist, taught, train_students
from kdcourse import zoo
from kdcourse.training import predict_logits

IMAGES, PIXELS = 2_000, 2
LENGTHS = (800, 1_600, 6_400)
SHIFTS = [(down, across) for down in range(-PIXELS, PIXELS + 1) for across in range(-PIXELS, PIXELS + 1)]
SHAPE = "784-300-300-10"
VIEWS = ("as they are", "shifted", "shifted, fixed answers")


def shift(images: Tensor, down: int, across: int) -> Tensor:
    """Move all images, filling with 0.

    Examples
    --------
    >>> image = torch.zeros(1, 1, 3, 3); image[0, 0, 0, 0] = 1
    >>> shift(image, 1, 2)[0, 0].nonzero().tolist()
    [[1, 2]]
    """
    moved = torch.zeros_like(images)
    height, width = images.shape[-2:]
    to, start = slice(max(down, 0), height + min(down, 0)), slice(max(-down, 0), height + min(-down, 0))
    over, left = slice(max(across, 0), width + min(across, 0)), slice(max(-across, 0), width + min(-across, 0))
    moved[..., to, over] = images[..., start, left]
    return moved


def all_shifts(images: Tensor) -> Tensor:
    """Return the 25 shifts of every image, (25 N, 1, 28, 28): first all images moved by the first shift, and so on."""
    return torch.cat([shift(images, *each) for each in SHIFTS])


def budget(steps: int, views: str) -> Rows:
    """Train for a number of steps on images as they are, or on all 25 shifts of ± 2 pixels."""
    part = mnist().train.take(IMAGES)
    images, labels = part.images, part.labels
    teacher = zoo.load(TEACHER, device=images.device)
    logits = predict_logits(teacher, images)
    if views != VIEWS[0]:
        fixed = logits.repeat(len(SHIFTS), 1)
        images, labels = all_shifts(images), labels.repeat(len(SHIFTS))
        logits = fixed if views == VIEWS[2] else predict_logits(teacher, images)
    arms = taught((20,), (0.9,)) if views == VIEWS[2] else labels_only() | taught((20,), (0.9,))
    return train_students(
        cell=f"{steps:,} steps, {views}",
        hidden=SHAPES[SHAPE],
        data=(images, labels),
        arms=arms,
        teacher_logits=logits,
        steps=steps,
    )


STUDIES = [
    Study(
        "budget",
        "800, 1,600 and 6,400 steps, with and without shifts.",
        lambda: [Unit(budget, {"steps": steps, "views": views}) for steps in LENGTHS for views in VIEWS],
        minutes=30,
    )
]

_DISTILLED = arm_name(20, 0.9)
_BOTH = ("smoothed 0.1", "smoothed 0.3")
_SHORT, _MIDDLE, _LONG = (f"{steps:,} steps" for steps in LENGTHS)


def _more(views: str) -> Contrast:
    """Return the change of the gain over plain labels from 1,600 to 6,400 steps."""
    before = Contrast(f"{_MIDDLE}, {views}", _DISTILLED, "plain")
    return Contrast(f"{_LONG}, {views}", _DISTILLED, "plain", less=before)


def _between(cell: str, other: str) -> Contrast:
    """Return the difference of distilled students in two cells."""
    return Contrast(cell, _DISTILLED, _DISTILLED, baseline_cell=other)


def _entry(
    name: str, claim: str, source: str, baselines: str, conditions: Sequence[Condition], *, smallest: float = 15
) -> Entry:
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study="budget",
        run=f"{SHAPE}, 2,000 images, the shipped teacher, T = 20, α = .9; the 25 shifts of ± 2 pixels, the teacher's "
        "answers for each",
        baselines=baselines,
        seeds=8,
        smallest_effect=smallest,
        conditions=tuple(conditions),
    )


ENTRIES = [
    _entry(
        "longer training",
        "Train a distilled student longer: 6,400 steps are better than 1,600.",
        "a common piece of advice; Beyer et al. 2022",
        "the same for 1,600 steps",
        [Condition(f"images are {v}", (_between(f"{_LONG}, {v}", f"{_MIDDLE}, {v}"),)) for v in VIEWS[:2]],
    ),
    _entry(
        "longer than on labels",
        "A distilled student gains more from longer training than one trained on labels.",
        "a common piece of advice",
        "plain labels, for as long",
        [Condition(f"images are {views}", (_more(views),)) for views in VIEWS[:2]],
    ),
    _entry(
        "augmentation",
        "Data augmentation helps a distilled student.",
        "a common piece of advice",
        "distilled on images as they are, for as long",
        [
            Condition(f"it trains for {steps}", (_between(f"{steps}, {VIEWS[1]}", f"{steps}, {VIEWS[0]}"),))
            for steps in (_SHORT, _MIDDLE, _LONG)
        ],
    ),
    _entry(
        "augmentation beside a teacher",
        "With augmentation a teacher still helps.",
        "a control of both pieces of advice",
        "plain and smoothed labels, with the same shifts",
        [
            Condition(
                f"it trains for {steps}",
                (
                    Contrast(f"{steps}, {VIEWS[1]}", _DISTILLED, "plain"),
                    Contrast(f"{steps}, {VIEWS[1]}", _DISTILLED, _BOTH),
                ),
            )
            for steps in (_SHORT, _MIDDLE, _LONG)
        ],
    ),
    _entry(
        "a consistent teacher",
        "The teacher should answer for the very view that the student sees: fixed answers are worse.",
        "Beyer et al. 2022",
        "the unshifted image's answers",
        [
            Condition(f"it trains for {steps}", (_between(f"{steps}, {VIEWS[1]}", f"{steps}, {VIEWS[2]}"),))
            for steps in (_SHORT, _MIDDLE, _LONG)
        ],
    ),
]
