"""Rows that read the records of chapters 09 and 12, and the studies that make these records and one of chapter 03.

Their arms and choices stand in ``experiments/language.py``, ``continual.py`` and ``quantisation.py``, with a rule for
each claim that was written before the run. These rows judge the same comparisons by the common rule.
"""

from experiments.earlier import ADVICE, ROOT, module_unit
from experiments.registry import SMALL, WORSE, Condition, Contrast, Entry, Study, Unit


def _unit_of(name: str, *arguments: str) -> list[Unit]:
    return [module_unit(name, *arguments, sources=sorted((ROOT / "experiments").glob(f"*{name}*.py")))]


# Minutes of one core, as recorded.
STUDIES = [
    Study(
        "language",
        "Which part of a BERT is worth distilling, and from which start.",
        lambda: _unit_of("language", "--processes", "2"),
        90,
        writes_itself=True,
        by_default=False,
    ),
    Study(
        "continual",
        "Learning without forgetting on five pairs of digits.",
        lambda: _unit_of("continual"),
        3,
        writes_itself=True,
    ),
    Study("other_maps", "Attention maps of other images.", lambda: _unit_of("other_maps"), 8, writes_itself=True),
    Study("quantisation", "A student of 8, 4, 3 and 2 bits.", lambda: _unit_of("quantisation"), 1, writes_itself=True),
]


def _language(name: str, claim: str, source: str, baselines: str, conditions: dict[str, list[Contrast]]) -> Entry:
    return Entry(
        name,
        claim,
        source,
        "language",
        "kinds of definitions, students of two blocks, 300 steps; weights chosen on held-out definitions",
        baselines,
        seeds=5,
        smallest_effect=30,
        conditions=tuple(Condition(words, tuple(contrasts)) for words, contrasts in conditions.items()),
        unit="errors of 3,000",
    )


def _best_attention(rivals: str, start: str) -> list[Contrast]:
    table = f"best attention term, {rivals}, 1,000 labels, {start}"
    return [
        Contrast(table, "best attention term", other) for other in ("best other term", "no_teacher", "label_smoothing")
    ]


_OF_LANGUAGE = [
    _language(
        "attention matching",
        "Attention matching is the most impactful technique for language models.",
        f"{ADVICE}; Wang et al. 2023, arXiv:2305.15032, for terms on the inside of the network",
        "the best other term; no teacher; label smoothing",
        {
            "its rivals are all other terms and the start is random": _best_attention("all terms", "random start"),
            "its rivals are all other terms and the start is the teacher's layers": _best_attention(
                "all terms", "teacher's layers"
            ),
            "its rivals lie inside the network and the start is random": _best_attention(
                "terms on the inside of the network", "random start"
            ),
            "its rivals lie inside the network and the start is the teacher's layers": _best_attention(
                "terms on the inside of the network", "teacher's layers"
            ),
        },
    ),
    _language(
        "a start from the teacher's layers",
        "A start from the teacher's layers does more than any single term of the loss.",
        "Sanh et al. 2019, DistilBERT, table 4",
        "the best single term with a random start",
        {
            f"there are {labels}": [Contrast(f"start, {labels}", "teacher's layers, no_teacher", "best single term")]
            for labels in ("1,000 labels", "all labels")
        },
    ),
]


def _continual(
    name: str, claim: str, source: str, baselines: str, contrasts: list[Contrast], smallest: float = 50
) -> Entry:
    return Entry(
        name,
        claim,
        source,
        "continual",
        "784-200-200-10, five tasks of two digits, one epoch each; errors after the last task",
        baselines,
        seeds=5,
        smallest_effect=smallest,
        conditions=(Condition("the digits come in pairs", tuple(contrasts)),),
    )


_LAST = "after the last task"
_OF_CONTINUAL = [
    _continual(
        "LwF with task labels",
        "With task labels, learning without forgetting forgets less than plain training.",
        "Li and Hoiem 2016, arXiv:1606.09282",
        "the same network only trained on, with plain and with smoothed labels",
        [
            Contrast(_LAST, "task told: LwF", "task told: trained on"),
            Contrast(_LAST, "task told: LwF", "task told: trained on, smoothed labels"),
        ],
    ),
    _continual(
        "LwF without task labels",
        "Without task labels the same loss forgets nearly everything: more than half of the answers are wrong.",
        "van de Ven and Tolias 2019, arXiv:1904.07734, table 4",
        "5,000 errors of 10,000",
        [Contrast("test", "not told: LwF", 5000.0, WORSE)],
    ),
    _continual(
        "twenty exemplars",
        "Twenty exemplars a class mend what learning without forgetting cannot keep.",
        "Rebuffi et al. 2017, arXiv:1611.07725; arXiv:1904.07734, table 4",
        "LwF without exemplars",
        [Contrast(_LAST, "not told: LwF and 20 exemplars", "not told: LwF")],
        smallest=1000,
    ),
    _continual(
        "old answers beside exemplars",
        "Beside exemplars the old network's answers still help.",
        "arXiv:1904.07734, table 4",
        "the same exemplars alone",
        [Contrast(_LAST, "not told: LwF and 20 exemplars", "not told: 20 exemplars")],
    ),
]


def _quantisation(
    name: str, claim: str, source: str, baselines: str, conditions: dict[str, list[Contrast]], note: str = ""
) -> Entry:
    return Entry(
        name,
        claim,
        source,
        "quantisation",
        "784-64-10, 5,000 images; T and α of the teacher chosen by held-out errors at 2 bits",
        baselines,
        seeds=5,
        smallest_effect=20,
        conditions=tuple(Condition(words, tuple(contrasts)) for words, contrasts in conditions.items()),
        note=note,
    )


_BITS = "test errors"
_OF_QUANTISATION = [
    _quantisation(
        "eight bits",
        "Eight bits, rounded after training, cost nothing that matters.",
        "common practice",
        "the float student",
        {"each row has its scale": [Contrast(_BITS, "8 bits, a scale a row", "float", ("better", SMALL))]},
    ),
    _quantisation(
        "a scale for each row",
        "A scale for each row beats one scale for the whole matrix.",
        "common practice",
        "one scale",
        {
            f"there are {bits} bits": [Contrast(_BITS, f"{bits} bits, a scale a row", f"{bits} bits, one scale")]
            for bits in (4, 3)
        },
    ),
    _quantisation(
        "training while rounded",
        "Training with rounded weights mends what rounding broke.",
        "Jacob et al. 2018, arXiv:1712.05877",
        "rounding after training",
        {
            f"there are {bits} bits": [
                Contrast(_BITS, f"{bits} bits, trained by labels", f"{bits} bits, a scale a row")
            ]
            for bits in (3, 2)
        },
        note="It is trained three epochs longer; chapter 12 has the float student that is trained on as long.",
    ),
    _quantisation(
        "a teacher for few bits",
        "A teacher helps a student that is trained with rounded weights.",
        "arXiv:2601.20088",
        "labels; smoothed labels",
        {
            f"there are {bits} bits": [
                Contrast(_BITS, f"{bits} bits, trained by teacher", f"{bits} bits, trained by {how}")
                for how in ("labels", "smoothed")
            ]
            for bits in (3, 2)
        },
    ),
]

ENTRIES = [*_OF_LANGUAGE, *_OF_CONTINUAL, *_OF_QUANTISATION]
