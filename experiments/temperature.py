"""Temperature, alpha, shape and number of images: one grid, read by many rows; and Hinton's 300 and 30 units."""

from experiments.registry import NOT_WORSE, SMALL, WORSE, Condition, Contrast, Entry, Rows, Study, Unit
from experiments.training import SHAPES, arm_name, arm_names, labels_only, mnist, shipped_logits, taught, train_students

TEMPERATURES, ALPHAS, IMAGES = (1, 2, 4, 8, 20), (0.25, 0.5, 0.7, 0.9, 1.0), (2_000, 10_000)
SHAPES_OF_GRID = ("784-300-300-10", "784-128-10")
WIDE, NARROW = (300, 300), (30, 30)
OF_WIDTHS = (1, 2.5, 4, 8, 12, 20, 40)
WIDTH_STEPS, WIDTH_BATCH = 2_600, 128


def grid(shape: str, images: int, temperature: float | None) -> Rows:
    """Train every alpha at one temperature, or without one both baselines."""
    arms = labels_only() if temperature is None else taught([temperature], ALPHAS)
    part = mnist().train.take(images)
    return train_students(
        cell=cell(shape, images),
        hidden=SHAPES[shape],
        data=(part.images, part.labels),
        arms=arms,
        teacher_logits=shipped_logits("train", images),
        noisy=True,
    )


def width(hidden: tuple[int, int], temperature: float | None) -> Rows:
    """Train students of two layers on all 55,000 images."""
    part = mnist().train
    return train_students(
        cell=f"2×{hidden[0]} units",
        hidden=hidden,
        data=(part.images, part.labels),
        arms=labels_only() if temperature is None else taught([temperature], [0.9]),
        teacher_logits=shipped_logits("train"),
        steps=WIDTH_STEPS,
        batch_size=WIDTH_BATCH,
    )


def cell(shape: str, images: int) -> str:
    """Return the name of a part of the grid."""
    return f"{shape}, {images:,} images"


def _grid_units() -> list[Unit]:
    return [
        Unit(grid, {"shape": shape, "images": images, "temperature": temperature})
        for shape in SHAPES_OF_GRID
        for images in IMAGES
        for temperature in (None, *TEMPERATURES)
    ]


def _width_units() -> list[Unit]:
    settings = [(hidden, temperature) for hidden in (NARROW, WIDE) for temperature in (None, *OF_WIDTHS)]
    return [Unit(width, {"hidden": list(hidden), "temperature": t}) for hidden, t in settings]


STUDIES = [
    Study("grid", "T × alpha × images for two shapes of student.", _grid_units, minutes=26),
    Study("width", "T for 30 and for 300 units in each of two layers, 55,000 images.", _width_units, minutes=19),
]

_BASELINES = ("plain", "smoothed 0.1", "smoothed 0.3")
_RUN = (
    "MNIST, the shipped 2×1200 teacher, T in 1, 2, 4, 8, 20 and α in .25, .5, .7, .9, 1, chosen on held-out "
    "images; two shapes of student on 2,000 and 10,000 images, about 800 steps of 64"
)
_ADVICE = "a common piece of advice"


def _at(temperatures: tuple[float, ...]) -> tuple[str, ...]:
    return arm_names(temperatures, ALPHAS)


def _with(alphas: tuple[float, ...]) -> tuple[str, ...]:
    return arm_names(TEMPERATURES, alphas)


ALL = _at(TEMPERATURES)
# Name, claim, source, baselines, comparisons (arm, baseline, expected), metric, unit,
# smallest effect.
_CLAIMS = (
    (
        "T=1",
        "At T = 1 the teacher's answers are sharp, and less knowledge is transferred than at a higher T.",
        _ADVICE,
        "the best of T = 2, 4, 8, 20",
        [(_at((1,)), _at((2, 4, 8, 20)), WORSE)],
        "test_errors",
        "errors",
        15,
    ),
    (
        "T=4-8",
        "T from 4 to 8 is a good balance: better than T = 1, and not worse than T = 20.",
        _ADVICE,
        "the best of T = 1; the best of T = 20",
        [(_at((4, 8)), _at((1,)), "better"), (_at((4, 8)), _at((20,)), NOT_WORSE)],
        "test_errors",
        "errors",
        15,
    ),
    (
        "T>10",
        "Above T = 10 the answers are so soft that the student learns less.",
        _ADVICE,
        "the best of T = 4, 8",
        [(_at((20,)), _at((4, 8)), WORSE)],
        "test_errors",
        "errors",
        15,
    ),
    (
        "alpha=.5-.7",
        "α from .5 to .7 is a good start: not worse than a lower or a higher one.",
        _ADVICE,
        "the best of α = .25; the best of α = .9, 1",
        [(_with((0.5, 0.7)), _with((0.25,)), NOT_WORSE), (_with((0.5, 0.7)), _with((0.9, 1.0)), NOT_WORSE)],
        "test_errors",
        "errors",
        15,
    ),
    (
        "alpha with a good teacher",
        "With a good teacher a higher α is better.",
        _ADVICE,
        "the best of α = .25, .5",
        [(_with((0.9, 1.0)), _with((0.25, 0.5)), "better")],
        "test_errors",
        "errors",
        15,
    ),
    (
        "logits always",
        "The teacher's logits always help.",
        _ADVICE,
        "plain labels; the better of two smoothings",
        [(ALL, "plain", "better"), (ALL, _BASELINES[1:], "better")],
        "test_errors",
        "errors",
        15,
    ),
    (
        "calibration",
        "A distilled student is better calibrated than one trained on labels, even after the latter is "
        "temperature-scaled.",
        "Menon et al. 2021, as it is often read",
        "plain labels; plain labels scaled on held-out images",
        [(ALL, "plain", "better"), (ALL, ("plain", "scaled_ece"), "better")],
        "ece",
        "% calibration error",
        0.3,
    ),
    (
        "high T and calibration",
        "A high T spoils the student's calibration.",
        "a finding of small trials for this course",
        "T = 1 at the same α",
        [(arm_name(20, 0.9), arm_name(1, 0.9), WORSE)],
        "ece",
        "% calibration error",
        0.3,
    ),
    (
        "calibrated by scaling",
        "After temperature scaling on held-out images, a distilled student's probabilities are "
        "better than a plain one's, scaled alike.",
        "a control that calibration claims need (Guo et al. 2017)",
        "plain labels, scaled alike",
        [(ALL, "plain", "better")],
        "scaled_loss",
        "nats",
        0.01,
    ),
    (
        "fidelity is not accuracy",
        "The student that follows its teacher most closely is not the most accurate one.",
        "Stanton et al. 2021",
        "the setting with the fewest held-out errors",
        [(("by fidelity", ALL), ALL, WORSE)],
        "test_errors",
        "errors",
        15,
    ),
    (
        "robust to noise",
        "A distilled student stands noise in the test images better than a smoothed one.",
        "a hope that is often voiced; compare Hinton et al. 2015, section 6",
        "the better of two smoothings",
        [(ALL, _BASELINES[1:], "better")],
        "noisy_errors",
        "errors on noisy images",
        100,
    ),
)


def _contrast(where: str, arm: object, baseline: object, expects: object) -> Contrast:
    extra = {}
    if isinstance(arm, tuple) and arm[0] == "by fidelity":
        arm, extra["chosen_by"] = arm[1], "held_out_disagreements"
    if isinstance(baseline, tuple) and baseline[-1] == "scaled_ece":
        baseline, extra["baseline_metric"] = baseline
    return Contrast(where, arm, baseline, expects, **extra)  # type: ignore[arg-type]


def _of_grid() -> list[Entry]:
    cells = [cell(shape, images) for shape in SHAPES_OF_GRID for images in IMAGES]
    return [
        Entry(
            name=name,
            claim=claim,
            source=source,
            study="grid",
            run=_RUN,
            baselines=baselines,
            seeds=8,
            metric=metric,
            unit=unit,
            smallest_effect=smallest,
            conditions=tuple(
                Condition(f"the student is {where}", tuple(_contrast(where, *pair) for pair in pairs))
                for where in cells
            ),
        )
        for name, claim, source, baselines, pairs, metric, unit, smallest in _CLAIMS
    ]


def _width_entry(name: str, claim: str, units: str, contrasts: list[Contrast], baselines: str) -> Entry:
    return Entry(
        name=name,
        claim=claim,
        source="Hinton et al. 2015, section 3",
        study="width",
        run=f"2×{units} units, 55,000 images, the shipped teacher, α = .9, about 2,600 steps of 128",
        baselines=baselines,
        seeds=8,
        smallest_effect=15,
        conditions=(Condition(f"2×{units} units", tuple(contrasts)),),
    )


def _t(*temperatures: float) -> tuple[str, ...]:
    return arm_names(temperatures, [0.9])


ENTRIES = [
    *_of_grid(),
    _width_entry(
        "any T above 8",
        "With 300 or more units in each layer, all temperatures above 8 give about the same.",
        "300",
        [Contrast("2×300 units", arm_name(t, 0.9), arm_name(20, 0.9), SMALL) for t in (12, 40)],
        "T = 20",
    ),
    _width_entry(
        "T of a narrow student",
        "With 30 units in each layer, T from 2.5 to 4 is better than higher or lower ones.",
        "30",
        [
            Contrast("2×30 units", _t(2.5, 4), _t(1), "better"),
            Contrast("2×30 units", _t(2.5, 4), _t(8, 12, 20, 40), "better"),
        ],
        "T = 1; the best of T = 8, 12, 20, 40",
    ),
]
