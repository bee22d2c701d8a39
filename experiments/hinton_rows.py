"""Rows that repeat the figures of Hinton et al. 2015, section 3, and the two studies that make their records.

``hinton`` is the paper's table with the shipped teacher and usual settings. ``hinton_table`` chooses every setting on
held-out images. ``width``, which varies T with the width, stands in ``experiments/temperature.py``.
"""

from functools import partial

from experiments.earlier import ROOT, module_unit, row_of
from experiments.registry import SMALL, Study, Unit


def _unit_of(name: str) -> list[Unit]:
    return [module_unit(name, sources=[ROOT / "experiments" / f"{name}.py"])]


STUDIES = [
    Study("hinton", "Hinton's table.", lambda: _unit_of("hinton"), 60, writes_itself=True, by_default=False),
    Study(
        "hinton_table",
        "Hinton's table, every setting chosen on held-out images.",
        lambda: _unit_of("hinton_table"),
        110,
        writes_itself=True,
        by_default=False,
    ),
]

_row = partial(row_of, {
    "hinton": (3, "2×800 units, 60,000 images, T = 20, 20 epochs"),
    "hinton_table": (
        8,
        "2×800 units, 55,000 images, 50 epochs; teacher, T, α, and shifts of up to 2 pixels or none, chosen on "
        "5,000 held-out images that nothing is trained on",
    ),
})  # fmt: skip

_HINTON = "Hinton et al. 2015, section 3"
ENTRIES = [
    _row(
        "hinton",
        "Hinton: 146 to 74",
        "A 2×800 student that makes 146 errors makes 74 with soft targets at T = 20: the teacher helps.",
        _HINTON,
        "plain labels; smoothed labels",
        {"60,000 images": [("test", "distilled", "no_teacher"), ("test", "distilled", "label_smoothing")]},
        smallest=10,
    ),
    _row(
        "hinton",
        "Hinton: 74 errors",
        "The distilled student makes 74 errors.",
        _HINTON,
        "the paper's 74",
        {"60,000 images": [("test", "distilled", 74.0, ("better", SMALL))]},
        smallest=5,
    ),
    _row(
        "hinton",
        "Hinton: plain 146",
        "The plain student makes 146 errors.",
        _HINTON,
        "the paper's 146",
        {"60,000 images": [("test", "no_teacher", 146.0, SMALL)]},
        smallest=15,
    ),
    _row(
        "hinton",
        "Hinton: no threes",
        "A student that never saw a three makes 206 errors, 109 with its bias raised.",
        _HINTON,
        "its own errors before the bias; the paper's 109",
        {
            "there are no threes": [
                ("test", "without_3, with bias", "without_3"),
                ("test", "without_3, with bias", 109.0, ("better", SMALL)),
            ]
        },
        smallest=10,
        note="The paper tuned its bias on test images; here it is chosen on held-out ones.",
    ),
    _row(
        "hinton",
        "Hinton: only 7 and 8",
        "A student of sevens and eights alone makes 47.3 % errors, 13.2 % with lowered biases.",
        _HINTON,
        "its own errors before the biases; the paper's 1,320",
        {
            "there are sevens and eights": [
                ("test", "only_7_and_8, with bias", "only_7_and_8"),
                ("test", "only_7_and_8, with bias", 1320.0, ("better", SMALL)),
            ]
        },
        smallest=100,
    ),
    _row(
        "hinton_table",
        "Hinton: settings by held-out images",
        "With every setting chosen on held-out images, the teacher helps a 2×800 student that is trained for long.",
        _HINTON,
        "plain labels; smoothed labels; both with the same images and epochs",
        {"55,000 images": [("test", "distilled", "no_teacher"), ("test", "distilled", "label_smoothing")]},
        smallest=10,
    ),
    _row(
        "hinton_table",
        "Hinton: 74 by held-out images",
        "With every setting chosen on held-out images, the distilled student makes 74 errors or fewer.",
        _HINTON,
        "the paper's 74",
        {"55,000 images": [("test", "distilled", 74.0, ("better", SMALL))]},
        smallest=5,
    ),
]
