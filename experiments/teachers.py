"""Which teacher: patient, stopped early, label-smoothed, noisy, small and large ones, and an assistant between two.

Each seed has a teacher of its own, so that the intervals hold for the luck of teachers too.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from experiments.measures import measure
from experiments.registry import WORSE, Condition, Contrast, Entry, Rows, Study, Unit
from experiments.training import (
    SEEDS,
    SHAPES,
    arm_name,
    arm_names,
    labels_only,
    mnist,
    taught,
    train_models,
    train_students,
)
from kdcourse.objectives import label_objective
from kdcourse.training import predict_logits

IMAGES, BATCH_SIZE, PATIENT, EARLY = 10_000, 128, 1_560, 235
TEMPERATURES, ALPHAS, WRONG = (1, 4, 16), (0.1, 0.3, 0.5, 0.7, 0.9), 0.4
TINY, DEEP = "784-32-10", "784-300-300-10"
# Hidden units, steps, label smoothing, share of wrong labels. An assistant learns from a large teacher.
KINDS = {
    "patient": ((400, 400), PATIENT, 0.0, 0.0),
    "early": ((400, 400), EARLY, 0.0, 0.0),
    "smoothed": ((400, 400), PATIENT, 0.1, 0.0),
    "noisy": ((400, 400), PATIENT, 0.0, WRONG),
    "small": ((60, 60), PATIENT, 0.0, 0.0),
    "large": ((1200, 1200), PATIENT, 0.0, 0.0),
}
ASSISTANT = (100, 100)


def wrong_labels(labels: Tensor, share: float) -> Tensor:
    """Return labels of which a share is replaced by another digit, the same ones at each call.

    Examples
    --------
    >>> changed = wrong_labels(torch.zeros(1000, dtype=torch.long), 0.4)
    >>> 350 < int((changed != 0).sum()) < 450
    True
    """
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(len(labels), generator=generator) < share
    shift = torch.randint(1, 10, (len(labels),), generator=generator)
    return torch.where(chosen.to(labels.device), (labels + shift.to(labels.device)) % 10, labels)


def make_teachers(kind: str, seeds: Sequence[int] = SEEDS) -> list[nn.Module]:
    """Train a teacher of a kind for each seed, on the students' images."""
    hidden, steps, smoothing, wrong = KINDS[kind]
    part = mnist().train.take(IMAGES)
    labels = wrong_labels(part.labels, wrong) if wrong else part.labels
    arms = {kind: partial(label_objective, label_smoothing=smoothing)}
    # Its weights are drawn with other seeds than the students'.
    own = [1_000 + seed for seed in seeds]
    return train_models(hidden, (part.images, labels), arms, seeds=own, steps=steps, batch_size=BATCH_SIZE)[kind]


def logits_of(teachers: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Return each teacher's logits, (S, N, K)."""
    return torch.stack([predict_logits(teacher, images) for teacher in teachers])


def on_evaluation(teachers: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return the teachers' logits on held-out and test images."""
    return {split: logits_of(teachers, getattr(mnist(), split).images) for split in ("held_out", "test")}


def teacher_rows(cell: str, arm: str, logits: dict[str, Tensor], seeds: Sequence[int] = SEEDS) -> Rows:
    """Return the numbers of the teachers themselves; they agree with themselves."""
    labels = {split: getattr(mnist(), split).labels.cpu() for split in logits}
    own = [{split: each[place].cpu() for split, each in logits.items()} for place in range(len(seeds))]
    return [
        {"cell": cell, "arm": arm, "seed": seed, **measure(each, labels=labels, teacher=each)}
        for seed, each in zip(seeds, own, strict=True)
    ]


def teachers(kind: str) -> Rows:
    """Train teachers of a kind, then students of two shapes at every T and alpha."""
    own = make_teachers(kind)
    return teacher_rows("teachers", kind, on_evaluation(own)) + _students_of(kind, own)


def assistant() -> Rows:
    """Train large teachers, assistants that learn from them, and students that learn from the assistants."""
    large = make_teachers("large")
    part = mnist().train.take(IMAGES)
    arms = taught([4], [0.9])
    helpers = train_models(
        ASSISTANT, (part.images, part.labels), arms, logits_of(large, part.images), steps=PATIENT, batch_size=BATCH_SIZE
    )[arm_name(4, 0.9)]
    return teacher_rows("teachers", "assistant", on_evaluation(helpers)) + _students_of("assistant", helpers)


def baselines() -> Rows:
    """Train students of both shapes on labels alone."""
    part = mnist().train.take(IMAGES)
    data = part.images, part.labels
    return [
        row
        for shape in (TINY, DEEP)
        for row in train_students(cell=shape, hidden=SHAPES[shape], data=data, arms=labels_only())
    ]


def _students_of(kind: str, own: Sequence[nn.Module]) -> Rows:
    part = mnist().train.take(IMAGES)
    alphas = ALPHAS if kind == "noisy" else ALPHAS[2::2]
    rows: Rows = []
    for shape in (TINY, DEEP):
        trained = train_students(
            cell=shape,
            hidden=SHAPES[shape],
            data=(part.images, part.labels),
            arms=taught(TEMPERATURES, alphas),
            teacher_logits=logits_of(own, part.images),
            teacher=on_evaluation(own),
        )
        rows += [{**row, "arm": f"{kind}: {row['arm']}"} for row in trained]
    return rows


STUDIES = [
    Study(
        "teachers",
        "Six kinds of teachers and an assistant, 10,000 images, students of two shapes.",
        lambda: [Unit(baselines), *(Unit(teachers, {"kind": kind}) for kind in KINDS), Unit(assistant)],
        minutes=40,
    )
]


def _of(
    kind: str, temperatures: Sequence[float] = TEMPERATURES, alphas: Sequence[float] = ALPHAS[2::2]
) -> tuple[str, ...]:
    return tuple(f"{kind}: {name}" for name in arm_names(temperatures, alphas))


def _entry(
    name: str, claim: str, source: str, baselines: str, *pairs: tuple, shapes: Sequence[str] = (TINY, DEEP)
) -> Entry:
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study="teachers",
        run="10,000 images; teachers 784-400-400-10 of 12 epochs unless said otherwise, one for each seed; students of "
        "about 800 steps, T = 1, 4, 16 and α = .5, .9 chosen on held-out images for each arm",
        baselines=baselines,
        seeds=8,
        smallest_effect=15,
        conditions=tuple(Condition(s, tuple(Contrast(s, *pair) for pair in pairs)) for s in shapes),
    )


_BOTH = ("smoothed 0.1", "smoothed 0.3")
ENTRIES = [
    _entry(
        "saturated teacher, high T",
        "A teacher that is certain of its own training images hurts a small student at a high T.",
        "Cho and Hariharan 2019, and small trials for this course",
        "plain labels",
        (_of("patient", (16,)), "plain", WORSE),
        shapes=(TINY,),
    ),
    _entry(
        "early-stopped teacher",
        "A teacher that is stopped early teaches better.",
        "Cho and Hariharan 2019",
        "the patient teacher",
        (_of("early"), _of("patient")),
    ),
    _entry(
        "label-smoothed teacher",
        "A label-smoothed teacher teaches worse.",
        "Müller et al. 2019; disputed by Shen et al. 2021 and Chandrasegaran et al. 2022",
        "the patient teacher",
        (_of("smoothed"), _of("patient"), WORSE),
    ),
    _entry(
        "a smoothed teacher wants T = 1",
        "A label-smoothed teacher teaches best at T = 1.",
        "Chandrasegaran et al. 2022",
        "T = 4, T = 16",
        (_of("smoothed", (1,)), _of("smoothed", (4,))),
        (_of("smoothed", (1,)), _of("smoothed", (16,))),
    ),
    _entry(
        "a bigger teacher",
        "A bigger, better teacher makes a better student: 2×1200 units against 2×60.",
        "a common piece of advice; against it Cho and Hariharan 2019, Mirzadeh et al. 2020",
        "the small teacher",
        (_of("large"), _of("small")),
    ),
    _entry(
        "teacher assistant",
        "Between a large teacher and a small student an assistant of middle size helps.",
        "Mirzadeh et al. 2020",
        "the large teacher itself",
        (_of("assistant"), _of("large")),
        shapes=(TINY,),
    ),
    _entry(
        "alpha with a noisy teacher",
        "With a noisy teacher a lower α is better: .1 or .3 against .7 or .9. (The teacher's "
        "training labels are wrong in 40 %.)",
        "a common piece of advice",
        "α = .7, .9",
        (_of("noisy", alphas=ALPHAS[:2]), _of("noisy", alphas=ALPHAS[3:])),
    ),
    _entry(
        "a noisy teacher hurts",
        "A noisy teacher is worse than none.",
        "a control of the advice on α",
        "smoothed labels",
        (_of("noisy", alphas=ALPHAS), _BOTH, WORSE),
    ),
]
