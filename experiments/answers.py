"""What in a teacher's answer helps: the true answers beside permuted, flattened, averaged and meaningless ones."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.registry import SMALL, Condition, Contrast, Entry, Rows, Study, Unit
from experiments.training import (
    SHAPES,
    arm_name,
    labels_only,
    mnist,
    shipped_logits,
    taught,
    train_students,
)
from kdcourse.losses import kd_loss, standardize_logits
from kdcourse.models import make_hinton_teacher
from kdcourse.objectives import soft_target_objective
from kdcourse.training import Objective, predict_logits

IMAGES, ALPHA, TEMPERATURES = 2_000, 0.9, (4, 20)
KINDS = ("true", "permuted", "confidence only", "class mean", "untrained", "hard answers")
HIGH = 40
OF_LOGITS = "logits matched"
STANDARDISED = "standardised"


def true(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the teacher's logits as they are."""
    return logits


def permuted(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return logits whose smaller nine change places at random in each row; the largest stays.

    Examples
    --------
    >>> rows = permuted(torch.tensor([[5.0, 1.0, 2.0]]), torch.tensor([0]), 1.0)
    >>> float(rows[0, 0]), rows[0, 1:].sort().values.tolist()
    (5.0, [1.0, 2.0])
    """
    generator = torch.Generator().manual_seed(0)
    top = logits.argmax(dim=-1, keepdim=True)  # (N, 1)
    keys = torch.rand(logits.shape, generator=generator).scatter_(1, top.cpu(), 2.0)  # the largest comes last
    order = keys.argsort(dim=-1).to(logits.device)  # (N, K): a random order of the others, then the largest
    own = torch.ones_like(logits, dtype=torch.bool).scatter_(1, top, False)
    mixed = logits.clone()
    mixed[own] = logits.gather(1, order[:, :-1]).flatten()
    return mixed


def confidence_only(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return logits whose softened answer keeps its largest probability and spreads the rest evenly.

    Examples
    --------
    >>> flat = confidence_only(torch.tensor([[5.0, 1.0, 2.0]]), torch.tensor([0]), 2.0)
    >>> [round(value, 3) for value in F.softmax(flat / 2, dim=-1)[0].tolist()]
    [0.736, 0.132, 0.132]
    """
    soft = F.softmax(logits / temperature, dim=-1)
    largest, top = soft.max(dim=-1, keepdim=True)  # (N, 1)
    rest = ((1 - largest) / (logits.shape[-1] - 1)).expand_as(soft)
    return temperature * rest.scatter(1, top, largest).clamp_min(1e-12).log()


def class_mean(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return for each image the mean softened answer of its class: which classes are alike, and nothing of the image.

    Examples
    --------
    >>> rows = class_mean(torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]), 1.0)
    >>> bool((rows[0] == rows[1]).all())
    True
    """
    soft = F.softmax(logits / temperature, dim=-1)
    members = F.one_hot(labels, logits.shape[-1]).to(soft)  # (N, K)
    means = members.T @ soft / members.sum(dim=0).clamp_min(1)[:, None]  # (K, K)
    return temperature * means[labels].clamp_min(1e-12).log()


def untrained(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the logits of a teacher that was never trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_hinton_teacher()
    return predict_logits(model.to(logits.device), mnist().train.images[: len(logits)])


def hard_answers(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return logits that are certain of the teacher's first answer."""
    return temperature * 20.0 * F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits)


CHANGES = dict(zip(KINDS, (true, permuted, confidence_only, class_mean, untrained, hard_answers), strict=True))


def standardised_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Return the KD loss of standardised logits (Sun et al. 2024, arXiv:2403.01427)."""
    return kd_loss(standardize_logits(student_logits), standardize_logits(teacher_logits), temperature=temperature)


def logit_objective(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor) -> dict[str, Tensor]:
    """Match centred logits by their squared error: the limit of T² · KL at a high T is its half, divided by K."""
    logits = student(images)
    gap = (logits - logits.mean(dim=-1, keepdim=True)) - (teacher_logits - teacher_logits.mean(dim=-1, keepdim=True))
    squared = gap.square().sum(dim=-1).mean() / (2 * logits.shape[-1])
    return {"logits": ALPHA * squared, "ce": (1 - ALPHA) * F.cross_entropy(logits, labels)}


def answers(shape: str, kind: str, temperature: float | None) -> Rows:
    """Train students on one kind of answer, or without a temperature on labels alone."""
    part = mnist().train.take(IMAGES)
    logits = shipped_logits("train", IMAGES)
    arms: dict[str, Objective] = labels_only()
    if kind in CHANGES and temperature is not None:
        logits = CHANGES[kind](logits, part.labels, temperature)
        arms = {f"{kind}, T = {temperature:g}": objective for objective in taught([temperature], [ALPHA]).values()}
    elif kind == STANDARDISED and temperature is not None:
        objective = partial(soft_target_objective, temperature=temperature, alpha=ALPHA, loss=standardised_loss)
        arms = {f"{kind}, T = {temperature:g}": objective}
    elif kind == OF_LOGITS:
        arms = {OF_LOGITS: logit_objective, **taught([HIGH], [ALPHA])}
    return train_students(
        cell=shape, hidden=SHAPES[shape], data=(part.images, part.labels), arms=arms, teacher_logits=logits
    )


def _units() -> list[Unit]:
    settings: list[tuple[str, float | None]] = [("labels", None), (OF_LOGITS, None)]
    settings += [(kind, temperature) for kind in KINDS for temperature in TEMPERATURES]
    settings += [(STANDARDISED, temperature) for temperature in (1, 2, 4)]
    return [
        Unit(answers, {"shape": shape, "kind": kind, "temperature": temperature})
        for shape in (SHALLOW, DEEP)
        for kind, temperature in settings
    ]


SHALLOW, DEEP = "784-128-10", "784-300-300-10"
STUDIES = [Study("answers", "What in a teacher's answer helps: true answers and five that lack something.", _units, 10)]

_BEST_SMOOTHED = ("smoothed 0.1", "smoothed 0.3")


def _of(kind: str, temperatures: tuple[float, ...] = TEMPERATURES) -> tuple[str, ...]:
    return tuple(f"{kind}, T = {temperature:g}" for temperature in temperatures)


def _entry(name: str, claim: str, source: str, baselines: str, *pairs: tuple) -> Entry:
    conditions = [Condition(f"{s}", tuple(Contrast(s, *pair) for pair in pairs)) for s in (DEEP, SHALLOW)]
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study="answers",
        run="2,000 images, the shipped teacher, α = .9, T = 4 and 20, chosen for each arm; two shapes of student, "
        "about 800 steps of 64",
        baselines=baselines,
        seeds=8,
        smallest_effect=15,
        conditions=tuple(conditions),
    )


ENTRIES = [
    _entry(
        "soft targets say more",
        "Soft targets hold more information than hard labels: which wrong answers are likely helps the student.",
        "a common piece of advice; Hinton et al. 2015, section 1",
        "the same answers with the nine smaller probabilities permuted; the teacher's first answer alone",
        (_of("true"), _of("permuted")),
        (_of("true"), _of("hard answers")),
    ),
    _entry(
        "confidence only",
        "The teacher's confidence in each image explains the gain.",
        "Tang et al. 2020; Furlanello et al. 2018, arXiv:1805.04770, CWTM",
        "the true answers; the claim holds if the difference is too small to matter",
        (_of("confidence only"), _of("true"), SMALL),
    ),
    _entry(
        "permuted answers",
        "Answers whose smaller probabilities are permuted still help: part of the gain is smoothing.",
        "Furlanello et al. 2018, arXiv:1805.04770, DKPP; Yuan et al. 2020",
        "plain labels",
        (_of("permuted"), "plain"),
    ),
    _entry(
        "class means",
        "The mean answer of each class helps more than smoothed labels: which classes are alike is knowledge.",
        "Tang et al. 2020; arXiv:2510.12615",
        "the better of two smoothings",
        (_of("class mean"), _BEST_SMOOTHED),
    ),
    _entry(
        "more than class means",
        "What the teacher says of the single image helps beyond the mean answer of its class.",
        "Tang et al. 2020",
        "class means",
        (_of("true"), _of("class mean")),
    ),
    _entry(
        "an untrained teacher",
        "A teacher that was never trained helps as smoothing does.",
        "Yuan et al. 2020",
        "plain labels",
        (_of("untrained"), "plain"),
    ),
    _entry(
        "high T matches logits",
        "At a high T, soft targets are the same as matching logits.",
        "Hinton et al. 2015, section 2.1; Kim et al. 2021",
        "squared error of centred logits; T = 40",
        (arm_name(HIGH, ALPHA), OF_LOGITS, SMALL),
    ),
    _entry(
        "standardised logits",
        "Standardised logits are better than a chosen T.",
        "Sun et al. 2024, arXiv:2403.01427",
        "the better of T = 4 and 20",
        (_of(STANDARDISED, (1, 2, 4)), _of("true")),
    ),
]
