"""What the student is shown: few and many labels, images without labels, other images, and no private ones."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.registry import NOT_WORSE, SMALL, WORSE, Condition, Contrast, Entry, Rows, Study, Unit
from experiments.training import (
    SHAPES,
    TEACHER,
    arm_name,
    arm_names,
    labels_only,
    mnist,
    shipped_logits,
    taught,
    train_models,
    train_students,
)
from kdcourse import zoo
from kdcourse.losses import kd_loss
from kdcourse.objectives import label_objective
from kdcourse.training import predict_logits

SIZES, FEW, MANY = (100, 300, 1_000, 3_000, 10_000, 55_000), 1_000, 10_000
SHALLOW, DEEP = "784-128-10", "784-300-300-10"
TRANSFER_STEPS, TRANSFER_IMAGES = 1_600, 10_000
PRIVATE, PUBLIC, PUBLIC_LABELS = 30_000, 5_000, 300
NO_LABEL = -1


def labels(shape: str, images: int) -> Rows:
    """Train on so many labelled images, with a teacher and without."""
    part = mnist().train.take(images)
    return train_students(
        cell=_cell(shape, images),
        hidden=SHAPES[shape],
        data=(part.images, part.labels),
        arms=labels_only() | taught((4, 20), (0.9,)),
        teacher_logits=shipped_logits("train", images),
    )


def partly_labelled(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor) -> dict[str, Tensor]:
    """Learn from the teacher on all images, T = 20 and α = .9, and from the labels where there are some."""
    logits = student(images)
    known = labels != NO_LABEL
    ce = F.cross_entropy(logits, labels.clamp_min(0), reduction="none")  # (B,)
    ce = (ce * known).sum() / known.sum().clamp_min(1)
    return {"kd": 0.9 * kd_loss(logits, teacher_logits, temperature=20), "ce": 0.1 * ce}


def unlabelled(shape: str) -> Rows:
    """Add 9,000 images without labels to 1,000 with labels; the teacher answers for all."""
    part = mnist().train.take(MANY)
    logits = shipped_logits("train", MANY)
    some = torch.where(torch.arange(MANY, device=part.labels.device) < FEW, part.labels, NO_LABEL)
    common = {"cell": f"{shape}, unlabelled images", "hidden": SHAPES[shape]}
    soft = taught((20,), (1.0,))[arm_name(20, 1.0)]
    rows: Rows = []
    for name, targets, objective in (
        ("teacher's answers alone", part.labels, soft),
        ("answers and few labels", some, partly_labelled),
        ("pseudo-labels", logits.argmax(dim=-1), label_objective),
    ):
        rows += train_students(data=(part.images, targets), arms={name: objective}, teacher_logits=logits, **common)
    # A network's own pseudo-labels: what can be had without a teacher.
    (alone,) = train_models(SHAPES[shape], (part.images[:FEW], part.labels[:FEW]), {"": label_objective}, seeds=[200])[
        ""
    ]
    guesses = predict_logits(alone, part.images).argmax(dim=-1)
    guesses[:FEW] = part.labels[:FEW]
    rows += train_students(data=(part.images, guesses), arms={"its own pseudo-labels": label_objective}, **common)
    few, distilled = mnist().train.take(FEW), taught((20,), (0.9,))[arm_name(20, 0.9)]
    arms = labels_only() | {"few, T = 20, α = 0.9": distilled}
    rows += train_students(data=(few.images, few.labels), arms=arms, teacher_logits=logits[:FEW], **common)
    all_labels = {"all labelled, T = 20, α = 0.9": distilled, "all labelled": label_objective}
    return rows + train_students(data=(part.images, part.labels), arms=all_labels, teacher_logits=logits, **common)


def transfer_images(kind: str) -> Tensor:
    """Return 10,000 images of a kind that the teacher is asked about."""
    real, generator = mnist().train.images, torch.Generator().manual_seed(0)
    first = real[:TRANSFER_IMAGES]
    if kind == "mixtures":
        share = torch.rand(len(first), 1, 1, 1, generator=generator).to(first.device)
        return share * first + (1 - share) * first[torch.randperm(len(first), generator=generator).to(first.device)]
    if kind == "ten images warped":
        ten = torch.stack([real[mnist().train.labels == digit][0] for digit in range(10)])
        return warp(ten.repeat(len(first) // 10, 1, 1, 1), generator)
    if kind == "only 0 and 1":
        return mnist().train.only(0, 1).images[: len(first)]
    if kind == "noise":
        return torch.rand(first.shape, generator=generator).to(first.device)
    return first


def warp(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale and shift each image at random.

    Examples
    --------
    >>> warp(torch.rand(4, 1, 28, 28), torch.Generator().manual_seed(0)).shape
    torch.Size([4, 1, 28, 28])
    """
    angle, scale, across, down = (2 * torch.rand(4, len(images), generator=generator) - 1).to(images.device)
    angle, scale = 0.5 * angle, 1 + 0.3 * scale
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    matrices = torch.stack([cosine, -sine, 0.2 * across, sine, cosine, 0.2 * down], dim=-1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


TRANSFER = ("real", "mixtures", "ten images warped", "only 0 and 1", "noise")


def transfer(kind: str) -> Rows:
    """Train on the teacher's answers alone, T = 20, for images of one kind."""
    images = transfer_images(kind)
    nothing = torch.zeros(len(images), dtype=torch.long, device=images.device)  # at α = 1 no label counts
    logits = predict_logits(zoo.load(TEACHER, device=images.device), images)
    rows = train_students(
        cell="transfer",
        hidden=SHAPES[SHALLOW],
        data=(images, nothing),
        arms={kind: taught((20,), (1.0,))[arm_name(20, 1.0)]},
        teacher_logits=logits,
        steps=TRANSFER_STEPS,
    )
    if kind == "real":
        few = mnist().train.take(FEW)
        rows += train_students(
            cell="transfer",
            hidden=SHAPES[SHALLOW],
            data=(few.images, few.labels),
            arms=labels_only(),
            steps=TRANSFER_STEPS,
        )
    return rows


def private() -> Rows:
    """Train a teacher on private images; its student sees other images, without labels, and the teacher's answers."""
    train = mnist().train
    own, public = train.take(PRIVATE), train.images[PRIVATE : PRIVATE + PUBLIC]
    labels = train.labels[PRIVATE : PRIVATE + PUBLIC]
    arms = {"teacher": partial(label_objective, label_smoothing=0.1)}
    (teacher,) = train_models((400, 400), tuple(own), arms, seeds=[300], steps=1_200, batch_size=128)["teacher"]
    logits = predict_logits(teacher, public)
    of_teacher = {split: predict_logits(teacher, getattr(mnist(), split).images) for split in ("held_out", "test")}
    common = {"cell": "private data", "hidden": SHAPES[DEEP], "teacher": of_teacher}
    some = slice(0, PUBLIC_LABELS)
    rows = train_students(data=(public, labels), arms=taught((1, 4, 20), (1.0,)), teacher_logits=logits, **common)
    rows += train_students(data=(public[some], labels[some]), arms=labels_only(), **common)
    own_labels = {"all public images labelled": label_objective}
    return rows + train_students(data=(public, labels), arms=own_labels, **common)


def _cell(shape: str, images: int) -> str:
    return f"{shape}, {images:,} labels"


_SHAPES = (DEEP, SHALLOW)
STUDIES = [
    Study(
        "labels",
        "Both baselines and T = 4, 20 for 100 to 55,000 labelled images.",
        lambda: [Unit(labels, {"shape": s, "images": n}) for s in _SHAPES for n in SIZES],
        minutes=14,
    ),
    Study(
        "unlabelled",
        "1,000 labelled images, 9,000 without labels.",
        lambda: [Unit(unlabelled, {"shape": shape}) for shape in _SHAPES],
        minutes=5,
    ),
    Study(
        "transfer",
        "The teacher's answers alone, for real images and four substitutes.",
        lambda: [Unit(transfer, {"kind": kind}) for kind in TRANSFER],
        minutes=2,
    ),
    Study("private", "A teacher of private images, a student of public ones.", lambda: [Unit(private)], minutes=3),
]

_ADVICE = "a common piece of advice"
_TAUGHT = arm_names((4, 20), (0.9,))
_BOTH = ("smoothed 0.1", "smoothed 0.3")
_STEPS = "the shipped teacher, α = .9, about 800 steps of 64"


def _labels(
    name: str, claim: str, source: str, baselines: str, conditions: Sequence[Condition], smallest: float
) -> Entry:
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study="labels",
        run=f"100 to 55,000 labelled images, two shapes of student, {_STEPS}, T = 4 or 20, chosen on held-out images",
        baselines=baselines,
        seeds=8,
        smallest_effect=smallest,
        conditions=tuple(conditions),
    )


def _against_both(shape: str, images: int, *expects: str) -> Condition:
    where = _cell(shape, images)
    pairs = tuple(Contrast(where, _TAUGHT, baseline, *expects) for baseline in ("plain", _BOTH))
    return Condition(f"the student is {where}", pairs)


def _shrinks(shape: str) -> Condition:
    gain = (arm_name(20, 0.9), "plain")
    many = Contrast(_cell(shape, 55_000), *gain)
    return Condition(f"the student is {shape}", (Contrast(_cell(shape, 1_000), *gain, less=many),))


def _unlabelled(name: str, claim: str, source: str, baselines: str, *pairs: tuple, smallest: float = 15) -> Entry:
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study="unlabelled",
        run=f"1,000 labelled and 9,000 other images, {_STEPS}, T = 20",
        baselines=baselines,
        seeds=8,
        smallest_effect=smallest,
        conditions=tuple(
            Condition(s, tuple(Contrast(f"{s}, unlabelled images", *pair) for pair in pairs)) for s in _SHAPES
        ),
        note="The shipped teacher learned from all of these images with their labels; a teacher that never saw them "
        "knows less about them. For such a one see private data.",
    )


def _transfer(name: str, claim: str, source: str, baselines: str, *pairs: tuple) -> Entry:
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study="transfer",
        run="784-128-10, 10,000 images of a kind, the shipped teacher's answers alone, T = 20, about 1,600 steps of 64",
        baselines=baselines,
        seeds=8,
        smallest_effect=50,
        conditions=tuple(Condition(str(pair[0]), (Contrast("transfer", *pair),)) for pair in pairs),
    )


ENTRIES = [
    _labels(
        "a teacher helps",
        "A teacher helps, against plain and against smoothed labels.",
        "Hinton et al. 2015; a common piece of advice",
        "plain labels; the better of two smoothings",
        [_against_both(shape, images) for shape in _SHAPES for images in SIZES],
        15,
    ),
    _labels(
        "gain and labels",
        "The gain from a teacher shrinks as labels grow: it is larger with 1,000 labels than with 55,000.",
        "small trials for this course",
        "plain labels, at both sizes",
        [_shrinks(shape) for shape in _SHAPES],
        30,
    ),
    _labels(
        "the shape decides",
        "With all labels the student's shape decides: two hidden layers gain from a teacher, one loses.",
        "small trials for this course",
        "the better of two smoothings",
        [
            Condition(
                "all 55,000 labels are used",
                (
                    Contrast(_cell(DEEP, 55_000), _TAUGHT, _BOTH),
                    Contrast(_cell(SHALLOW, 55_000), _TAUGHT, _BOTH, WORSE),
                ),
            )
        ],
        15,
    ),
    _unlabelled(
        "unlabelled images",
        "Unlabelled images with the teacher's answers help.",
        _ADVICE,
        "the labelled images alone, distilled",
        ("answers and few labels", "few, T = 20, α = 0.9"),
        ("teacher's answers alone", "few, T = 20, α = 0.9"),
    ),
    _unlabelled(
        "pseudo-labels",
        "The teacher's first answers as pseudo-labels of unlabelled images help.",
        _ADVICE,
        "the labelled images alone, distilled",
        ("pseudo-labels", "few, T = 20, α = 0.9"),
    ),
    _unlabelled(
        "answers as good as labels",
        "Unlabelled images with the teacher's answers are worth as much as labelled ones.",
        "small trials for this course",
        "all 10,000 labelled, distilled",
        ("teacher's answers alone", "all labelled, T = 20, α = 0.9", SMALL),
        smallest=20,
    ),
    _unlabelled(
        "no teacher, own pseudo-labels",
        "A network's own pseudo-labels do as well as the teacher's.",
        "a control of the advice on pseudo-labels",
        "the teacher's pseudo-labels",
        ("its own pseudo-labels", "pseudo-labels", NOT_WORSE),
    ),
    _transfer(
        "other images will do",
        "Other images than real ones will do to ask the teacher about.",
        "Hinton et al. 2015, section 3, threes; Beyer et al. 2022",
        "1,000 real images with labels, smoothed",
        *((kind, _BOTH, NOT_WORSE) for kind in TRANSFER[1:]),
    ),
    _transfer(
        "real images are best",
        "Real images are the best to ask the teacher about.",
        "small trials for this course",
        "real images",
        *((kind, "real", WORSE) for kind in TRANSFER[1:]),
    ),
    Entry(
        name="private data",
        claim="A student can learn from a teacher of private data without seeing them.",
        source=_ADVICE,
        study="private",
        run="teacher 784-400-400-10 on 30,000 private images; student 784-300-300-10 on 5,000 others without labels, "
        "T = 1, 4, 20, chosen on held-out images",
        baselines="plain and smoothed on 300 labelled public images",
        seeds=8,
        smallest_effect=50,
        conditions=(
            Condition(
                "5,000 public images",
                (
                    Contrast("private data", arm_names((1, 4, 20), (1.0,)), "plain"),
                    Contrast("private data", arm_names((1, 4, 20), (1.0,)), _BOTH),
                ),
            ),
        ),
        note="Whether the student's answers betray the private images is another question; it was not tested.",
    ),
]
