"""An ensemble as teacher: is one student of five networks better than one of a single network, and as good as all?"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.registry import NOT_WORSE, Condition, Contrast, Entry, Rows, Study, Unit
from experiments.teachers import logits_of, on_evaluation, teacher_rows
from experiments.training import (
    SEEDS,
    SHAPES,
    arm_names,
    labels_only,
    mnist,
    taught,
    train_models,
    train_students,
)
from kdcourse.objectives import label_objective

IMAGES, MEMBERS, STEPS, BATCH_SIZE = 10_000, 5, 790, 128
SHAPE, TEMPERATURES, ALPHAS = "784-300-300-10", (1, 4, 20), (0.5, 0.9)


def mean_answer(logits: Tensor) -> Tensor:
    """Return the logarithm of the members' mean probabilities, (M, N, K) to (N, K).

    Examples
    --------
    >>> two = torch.tensor([[[0.0, 0.0]], [[50.0, 0.0]]])
    >>> [round(value, 2) for value in F.softmax(mean_answer(two), dim=-1)[0].tolist()]
    [0.75, 0.25]
    """
    return torch.logsumexp(F.log_softmax(logits, dim=-1), dim=0) - torch.log(torch.tensor(float(len(logits))))


def ensembles() -> Rows:
    """Train five members for each seed, then students of the ensemble and of its first member."""
    part = mnist().train.take(IMAGES)
    data = part.images, part.labels
    of_seed = [
        train_models(
            SHAPES[SHAPE],
            data,
            {"": label_objective},
            seeds=range(5_000 + 10 * seed, 5_000 + 10 * seed + MEMBERS),
            steps=STEPS,
            batch_size=BATCH_SIZE,
        )[""]
        for seed in SEEDS
    ]
    rows: Rows = train_students(cell=SHAPE, hidden=SHAPES[SHAPE], data=data, arms=labels_only())
    for name, count in (("the ensemble", MEMBERS), ("a member", 1)):
        answers = torch.stack(
            [mean_answer(logits_of(members[:count], part.images)) for members in of_seed]
        )  # (S, N, K)
        each = [on_evaluation(members[:count]) for members in of_seed]
        evaluation = {split: torch.stack([mean_answer(own[split]) for own in each]) for split in each[0]}
        rows += teacher_rows(SHAPE, name, evaluation)
        trained = train_students(
            cell=SHAPE,
            hidden=SHAPES[SHAPE],
            data=data,
            arms=taught(TEMPERATURES, ALPHAS),
            teacher_logits=answers,
            teacher=evaluation,
        )
        rows += [{**row, "arm": f"of {name}: {row['arm']}"} for row in trained]
    return rows


STUDIES = [
    Study("ensembles", "Five networks as one teacher, against one of them.", lambda: [Unit(ensembles)], minutes=8)
]


def _of(name: str) -> tuple[str, ...]:
    return tuple(f"of {name}: {arm}" for arm in arm_names(TEMPERATURES, ALPHAS))


def _entry(name: str, claim: str, source: str, baselines: str, contrasts: Sequence[tuple]) -> Entry:
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study="ensembles",
        run="10,000 images; ensembles of five 784-300-300-10, another for each seed; one student of the same shape, "
        "T = 1, 4, 20 and α = .5, .9 chosen on held-out images",
        baselines=baselines,
        seeds=8,
        smallest_effect=15,
        conditions=(Condition("10,000 images", tuple(Contrast(SHAPE, *pair) for pair in contrasts)),),
    )


ENTRIES = [
    _entry(
        "ensemble into one model",
        "An ensemble can be distilled into one model: the student beats networks trained on labels.",
        "a common piece of advice; Hinton et al. 2015",
        "plain labels; the better of two smoothings",
        [(_of("the ensemble"), "plain"), (_of("the ensemble"), ("smoothed 0.1", "smoothed 0.3"))],
    ),
    _entry(
        "as good as the ensemble",
        "The student of an ensemble is as good as the ensemble.",
        "Hinton et al. 2015, table 1, speech",
        "the ensemble",
        [(_of("the ensemble"), "the ensemble", NOT_WORSE)],
    ),
    _entry(
        "ensembles teach better",
        "An ensemble teaches better than one of its members.",
        "Hinton et al. 2015, section 4",
        "students of one member",
        [(_of("the ensemble"), _of("a member"))],
    ),
]
