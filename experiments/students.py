"""How small may a student be, and what does it save?"""

import statistics
import time
from collections.abc import Sequence
from functools import partial

from torch import nn

from experiments.registry import NOT_WORSE, WORSE, Condition, Contrast, Entry, Rows, Study, Unit
from experiments.teachers import logits_of, make_teachers, on_evaluation, teacher_rows
from experiments.training import SHAPES, TEACHER, arm_names, labels_only, mnist, taught, train_students
from kdcourse import zoo
from kdcourse.models import count_parameters, make_mlp, size_in_bytes
from kdcourse.training import predict_logits

IMAGES, STEPS, BATCH_SIZE = 10_000, 1_560, 128
FRACTIONS = {"1/2": 2, "1/3": 3, "1/10": 10, "1/30": 30, "1/100": 100}
OF_TEACHER = (400, 400)
REPEATS = 8


def width_for(share: float) -> int:
    """Return the width of a student of two layers whose parameters are nearest to a share of the teacher's.

    Examples
    --------
    >>> width_for(1)
    400
    """
    wanted = share * count_parameters(make_mlp(*OF_TEACHER))
    return min(range(1, 1 + OF_TEACHER[0]), key=lambda width: abs(_parameters(width) - wanted))


def _parameters(width: int) -> int:
    return (784 + 1) * width + (width + 1) * width + (width + 1) * 10


def sizes() -> Rows:
    """Train a teacher for each seed, and its students of every size, all for as many steps as the teacher."""
    own = make_teachers("patient")
    part, of_own = mnist().train.take(IMAGES), on_evaluation(own)
    rows = [row for name in FRACTIONS for row in teacher_rows(name, "teacher", of_own)]
    for name, fraction in FRACTIONS.items():
        width = width_for(1 / fraction)
        rows += train_students(
            cell=name,
            hidden=(width, width),
            data=(part.images, part.labels),
            arms=labels_only() | taught((1, 4, 16), (0.9,)),
            teacher_logits=logits_of(own, part.images),
            teacher=of_own,
            steps=STEPS,
            batch_size=BATCH_SIZE,
        )
    return rows


def speed() -> Rows:
    """Time teacher and students on the test images in turn, one thread, and count their bytes."""
    device = mnist().test.images.device
    models: dict[str, nn.Module] = {"teacher": zoo.load(TEACHER, device=device)}
    models |= {shape: make_mlp(*SHAPES[shape]).to(device) for shape in ("784-128-10", "784-300-300-10")}
    images = mnist().test.images
    rows: Rows = []
    for repeat in range(REPEATS):
        for arm, model in models.items():
            numbers = {"milliseconds": round(_seconds(partial(predict_logits, model, images)) * 100, 3)}
            megabytes = round(size_in_bytes(model) / 1e6, 3)
            rows.append({"cell": "10,000 test images", "arm": arm, "seed": repeat, **numbers, "megabytes": megabytes})
    return rows


def _seconds(work: partial, tries: int = 5) -> float:
    times = []
    for _ in range(tries):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


STUDIES = [
    Study("speed", "Time and memory of teacher and students.", lambda: [Unit(speed)], minutes=1),
    Study("sizes", "Students of a half to a hundredth of their teacher.", lambda: [Unit(sizes)], minutes=13),
]

_DISTILLED = arm_names((1, 4, 16), (0.9,))
_RUN = (
    "10,000 images; teachers 784-400-400-10, one for each seed; students of two layers, T = 1, 4, 16, chosen on "
    "held-out images, α = .9, as many steps as the teacher"
)
_SMALLEST = 20


def _sizes(name: str, claim: str, source: str, baselines: str, fractions: Sequence[str], *pairs: tuple) -> Entry:
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study="sizes",
        run=_RUN,
        baselines=baselines,
        seeds=8,
        smallest_effect=_SMALLEST,
        conditions=tuple(
            Condition(
                f"the student has {fraction} of the parameters", tuple(Contrast(fraction, *pair) for pair in pairs)
            )
            for fraction in fractions
        ),
    )


def _speed(name: str, claim: str, metric: str, unit: str, smallest: float) -> Entry:
    where = "10,000 test images"
    return Entry(
        name=name,
        claim=claim,
        source="a common piece of advice",
        study="speed",
        run="the shipped teacher and both students, one thread, medians of five passes over the test images, in turn",
        baselines="the teacher, 2×1200 units",
        seeds=REPEATS,
        metric=metric,
        unit=unit,
        smallest_effect=smallest,
        conditions=tuple(Condition(s, (Contrast(where, s, "teacher"),)) for s in ("784-128-10", "784-300-300-10")),
    )


ENTRIES = [
    _sizes(
        "a third to a half",
        "A student of a third to a half of the teacher loses little.",
        "a common piece of advice; no paper names the range",
        "its teacher",
        ("1/2", "1/3"),
        (_DISTILLED, "teacher", NOT_WORSE),
    ),
    _sizes(
        "below a tenth",
        "A student below a tenth of the teacher loses much.",
        "a common piece of advice",
        "its teacher",
        ("1/30", "1/100"),
        (_DISTILLED, "teacher", WORSE),
    ),
    _sizes(
        "approaches its teacher",
        "A distilled student comes nearer to its teacher's accuracy than one trained on labels.",
        "a common piece of advice; Hinton et al. 2015",
        "plain labels; the better of two smoothings",
        tuple(FRACTIONS),
        (_DISTILLED, "plain"),
        (_DISTILLED, ("smoothed 0.1", "smoothed 0.3")),
    ),
    _speed("a student is faster", "A student is fast, its teacher slow.", "milliseconds", "ms for 1,000 images", 1),
    _speed(
        "a student is smaller",
        "A student is cheap to deploy, its teacher expensive.",
        "megabytes",
        "MB of weights",
        0.1,
    ),
]
