"""Rows that read the records of chapters 02 to 07 and of ``kdcourse distill``, and the studies that make these records.

A chapter's settings and baselines stand in its own source, and so does its rule: what it asserts, it asserts of the
small run. These rows judge the full-size record by the common rule.
"""

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from experiments.registry import SMALL, WORSE, Condition, Contrast, Entry, Rows, Study, Unit

ROOT = Path(__file__).resolve().parent.parent
ADVICE = "a common piece of advice"


def run_module(module: str, arguments: list[str], sources: str) -> Rows:
    """Run a module that writes its own record; ``sources`` only tells one version of its source from another."""
    subprocess.run([sys.executable, "-m", f"experiments.{module}", *arguments], check=True, cwd=ROOT)
    return []


def module_unit(module: str, *arguments: str, sources: Sequence[Path]) -> Unit:
    """Return the unit that runs a module which writes its own record; other sources make another unit."""
    text = b"".join(path.read_bytes() for path in sources)
    settings = {"module": module, "arguments": list(arguments), "sources": hashlib.sha256(text).hexdigest()[:16]}
    return Unit(run_module, settings)


def _chapter(number: str) -> list[Unit]:
    return [module_unit("chapters", number, sources=sorted((ROOT / "notebooks" / "source").glob(f"{number}_*.py")))]


def _distill(part: str) -> list[Unit]:
    return [module_unit("distill", part, sources=[ROOT / "kdcourse" / "commands" / "when_it_helps.py"])]


def _detection() -> list[Unit]:
    return [module_unit("detection", sources=[ROOT / "experiments" / "detection.py"])]


# Minutes of both cores, as recorded.
STUDIES = [
    Study(
        "distill_settings",
        "How kdcourse distill chose T and alpha.",
        lambda: _distill("settings"),
        4,
        writes_itself=True,
    ),
    Study("distill", "What kdcourse distill prints.", lambda: _distill("command"), 4, writes_itself=True),
    Study("chapter03", "Chapter 03 at full size.", lambda: _chapter("03"), 33, writes_itself=True),
    Study("chapter04", "Chapter 04 at full size.", lambda: _chapter("04"), 55, writes_itself=True),
    Study("chapter05", "Chapter 05 at full size.", lambda: _chapter("05"), 39, writes_itself=True),
    Study("chapter06", "Chapter 06 at full size.", lambda: _chapter("06"), 54, writes_itself=True),
    Study("chapter07", "Chapter 07 at full size.", lambda: _chapter("07"), 36, writes_itself=True),
    Study("detection", "What of a detector is worth distilling.", _detection, 60, writes_itself=True, by_default=False),
]

_RUNS = {
    "chapter03": (8, "chapter 03 at full size: CNN students, 2,000 images, weights chosen on held-out images"),
    "chapter04": (6, "chapter 04 at full size: 3,000 images, weights chosen on held-out images"),
    "chapter05": (5, "chapter 05 at full size: 10,000 images, 8 epochs, weights chosen on held-out images"),
    "chapter06": (5, "chapter 06 at full size: 10,000 images; exits of a CNN, generations of 2×300 units"),
    "chapter07": (5, "chapter 07 at full size: 5,000 images; schedules 2×300 units, 2,000 images"),
    "detection": (
        5,
        "scenes of digits, 2,000 for training, 1,000 for the test; each term's weight chosen on 300 others",
    ),
}


def row_of(
    runs: Mapping[str, tuple[int, str]],
    study: str,
    name: str,
    claim: str,
    source: str,
    baselines: str,
    conditions: dict[str, list[tuple]],
    *,
    smallest: float = 15,
    metric: str = "test_errors",
    unit: str = "errors",
    note: str = "",
) -> Entry:
    """Return a row of a record that a module writes itself; ``runs`` has the seeds of each study and what was run."""
    seeds, run = runs[study]
    return Entry(
        name=name,
        claim=claim,
        source=source,
        study=study,
        run=run,
        baselines=baselines,
        seeds=seeds,
        smallest_effect=smallest,
        metric=metric,
        unit=unit,
        note=note,
        conditions=tuple(
            Condition(words, tuple(Contrast(*pair) for pair in pairs)) for words, pairs in conditions.items()
        ),
    )


_row = partial(row_of, _RUNS)
_NONE, _KD = "against no teacher", "against soft targets"
_OF_03 = [
    _row(
        "chapter03",
        "intermediate features",
        "Intermediate features often help, beside the logits.",
        ADVICE,
        "soft targets alone",
        {
            "they are hints": [(_KD, "kd + hint", "kd")],
            "they are attention maps": [(_KD, "kd + attention", "kd")],
            "they are contrasted": [(_KD, "kd + contrastive", "kd")],
        },
    ),
    _row(
        "chapter03",
        "attention maps",
        "Attention patterns sometimes help: alone, or beside the logits.",
        ADVICE,
        "no teacher; soft targets alone",
        {
            "they stand alone": [(_NONE, "attention", "no_teacher")],
            "they stand beside the logits": [(_KD, "kd + attention", "kd")],
        },
    ),
    _row(
        "chapter03",
        "features say more",
        "Intermediate layers are a richer signal than the final answers.",
        ADVICE,
        "soft targets alone",
        {
            "they are hints": [(_KD, "hint", "kd")],
            "they are FitNets' two stages": [(_KD, "fitnets", "kd")],
            "they are attention maps": [(_KD, "attention", "kd")],
            "they are contrasted": [(_KD, "contrastive", "kd")],
        },
    ),
    _row(
        "chapter03",
        "start with attention transfer",
        "Start with attention transfer, the most forgiving of the feature methods.",
        ADVICE,
        "no teacher; label smoothing is better than it by the same record",
        {"it stands alone": [(_NONE, "attention", "no_teacher")]},
    ),
]

_OF_04 = [
    _row(
        "chapter04",
        "relations help",
        "Relations between samples carry knowledge: a student that learns them alone beats labels.",
        f"{ADVICE}; Park et al. 2019",
        "plain labels; smoothed labels",
        {
            f"they are {name}": [
                ("minus no_teacher", arm, "no_teacher"),
                ("minus label_smoothing", arm, "label_smoothing"),
            ]
            for name, arm in (("distances", "distance"), ("angles", "angle"), ("similarities", "similarity-preserving"))
        },
    ),
    _row(
        "chapter04",
        "relations beside logits",
        "Relations help beside the logits.",
        f"{ADVICE}; Park et al. 2019",
        "soft targets alone",
        {
            f"they are {name}": [("minus KD", f"KD + {arm}", "KD")]
            for name, arm in (("distances", "distance"), ("angles", "angle"), ("similarities", "similarity-preserving"))
        },
    ),
    _row(
        "chapter04",
        "angles by a Gram matrix",
        "A Gram matrix preserves the angles between samples: it does as well as the paper's angles.",
        ADVICE,
        "angles of triplets, as in Park et al. 2019",
        {"it stands beside the logits": [("minus KD + Gram", "KD + Gram", "KD + angle", ("better", SMALL))]},
    ),
]

_L2 = "against L2 on features"
_OF_05 = [
    _row(
        "chapter05",
        "CRD against L2",
        "Contrastive representation distillation is more effective than simple L2 matching.",
        f"{ADVICE}; Tian et al. 2020",
        "L2 on features",
        {
            "it stands alone": [(_L2, "CRD", "L2 on features")],
            "it stands beside the logits": [(_L2, "KD + CRD", "L2 on features")],
        },
    ),
    _row(
        "chapter05",
        "CRD beside logits",
        "CRD helps beside the logits.",
        "Tian et al. 2020, README of the authors",
        "soft targets alone",
        {"10,000 images": [("against KD alone", "KD + CRD", "KD")]},
    ),
    _row(
        "chapter05",
        "false negatives",
        "Negatives of the same class cost accuracy.",
        "Tian et al. 2020, the authors' code",
        "the same with false negatives",
        {
            "the loss is CRD": [("pair by pair", "CRD", "CRD, false negatives in")],
            "the loss is InfoNCE": [("pair by pair", "InfoNCE, queue", "InfoNCE, queue, false negatives in")],
        },
    ),
]

_TWINS = "generations against their twins"
_OF_06 = [
    _row(
        "chapter06",
        "born again",
        "The first born-again step improves accuracy by .5 to 1 points.",
        f"{ADVICE}; Furlanello et al. 2018",
        "a twin that is trained on labels with the same seed",
        {
            "T is 4": [(_TWINS, "T = 4: generation 1", "twin")],
            "T and α are chosen on held-out images": [(_TWINS, "chosen: generation 1", "twin")],
        },
        smallest=50,
    ),
    _row(
        "chapter06",
        "gains shrink",
        "Born-again gains shrink after two or three generations: the first step gains, the third "
        "adds nothing to speak of.",
        f"{ADVICE}; the paper never tried a fourth",
        "twins",
        {
            "T and α are chosen on held-out images": [
                (_TWINS, "chosen: generation 1", "twin"),
                (_TWINS, "chosen: generation 3", "twin", (WORSE, SMALL)),
            ]
        },
    ),
    _row(
        "chapter06",
        "born again on wrong labels",
        "Where labels are wrong, a born-again student is better than its parent.",
        "a control of the advice on born-again networks",
        "generation 0",
        {
            "one generation": [("wrong labels", "generation 1", "generation 0")],
            "three generations together": [("wrong labels", "3 generations", "generation 0")],
        },
    ),
    _row(
        "chapter06",
        "an ensemble of generations",
        "An ensemble of generations beats as many independent networks.",
        "Furlanello et al. 2018, table of ensembles, with the control that is left out there",
        "four independent networks",
        {"T and α are chosen on held-out images": [("one and four", "4 generations, chosen", "4 independent")]},
    ),
    _row(
        "chapter06",
        "the deepest exit teaches",
        "A network's deepest exit teaches its shallower ones.",
        f"{ADVICE}; Zhang et al. 2019",
        "labels at every exit",
        {
            f"T is {t}": [
                ("exit 1, own teacher", f"deepest teaches, T = {t}", "labels at every exit"),
                ("exit 2, own teacher", f"deepest teaches, T = {t}", "labels at every exit"),
            ]
            for t in (1, 4)
        },
    ),
    _row(
        "chapter06",
        "self-distillation",
        "A network improves by distilling from its own deepest exit.",
        f"{ADVICE}; Zhang et al. 2019",
        "the same network without exits; label smoothing",
        {
            f"T is {t}": [
                ("deepest exit", f"deepest teaches, T = {t}", "no_teacher"),
                ("deepest exit", f"deepest teaches, T = {t}", "label_smoothing"),
            ]
            for t in (1, 4)
        },
    ),
    _row(
        "chapter06",
        "errors are inherited",
        "Wrong knowledge passes on: a child repeats its parent's errors more often than a twin does.",
        "arXiv:2510.12615",
        "the twin",
        {
            "T is 4": [("errors inherited, %", "child, T = 4", "its twin", WORSE)],
            "T and α are chosen": [("errors inherited, %", "child, chosen", "its twin", WORSE)],
        },
        smallest=2,
        unit="% of the child's errors",
    ),
]

_STILL = "stands still"
_OF_07 = [
    _row(
        "chapter07",
        "mutual learning",
        "Students that teach each other learn better than alone; no teacher is needed.",
        f"{ADVICE}; Zhang et al. 2018",
        "one student alone",
        {
            f"there are {count} students, T = {t}": [(f"one student of {count}", f"peers, T = {t}", "alone")]
            for count in (2, 4)
            for t in (1, 4)
        },
    ),
    _row(
        "chapter07",
        "mutual learning and smoothing",
        "Mutual learning does more than label smoothing.",
        "a control that papers leave out",
        "smoothed labels",
        {f"T is {t}": [("against smoothed labels", f"peers, T = {t}", "smoothed labels")] for t in (1, 4)},
    ),
    _row(
        "chapter07",
        "averaged peers",
        "Averaging the peers' logits is better than learning alone.",
        ADVICE,
        "one student alone",
        {f"T is {t}": [("one student of 4", f"averaged logits, T = {t}", "alone")] for t in (1, 4)},
    ),
    _row(
        "chapter07",
        "T falls",
        "Let the temperature fall during training.",
        ADVICE,
        "a T that stands still, chosen alike",
        {"T falls from 20 to 1": [("schedules", "T falls to 1", _STILL)]},
    ),
    _row(
        "chapter07",
        "T rises",
        "Let the temperature rise during training.",
        "small trials for this course",
        "a T that stands still, chosen alike",
        {"T rises from 1 to 20": [("schedules", "T rises from 1", _STILL)]},
    ),
    _row(
        "chapter07",
        "alpha rises",
        "Let α rise during training.",
        ADVICE,
        "an α that stands still, chosen alike",
        {"α rises from 0": [("schedules", "α rises from 0", _STILL)]},
    ),
    _row(
        "chapter07",
        "five stages",
        "Five stages in which T falls and α rises are better than constants.",
        ADVICE,
        "constants, chosen alike",
        {"2,000 images": [("schedules", "the stages", _STILL)]},
    ),
    _row(
        "chapter07",
        "easy examples first",
        "Start with easy examples and progress to harder ones.",
        ADVICE,
        "a random order at the same pace; plain epochs",
        {
            "the easiest come first": [
                ("order", "easiest first", "random order"),
                ("order", "easiest first", "plain epochs"),
            ],
            "the easiest of each digit come first": [
                ("order", "easiest of each digit first", "random order"),
                ("order", "easiest of each digit first", "plain epochs"),
            ],
        },
    ),
    _row(
        "chapter07",
        "alpha and a hasty teacher",
        "With a hasty teacher, whose answers are poor, a high α hurts.",
        ADVICE,
        "no teacher",
        {
            "α rises to 1": [("a hasty teacher", "α rises to 1", "no_teacher", WORSE)],
            "α rises to .9": [("a hasty teacher", "α rises to .9", "no_teacher", WORSE)],
        },
    ),
]

_PYRAMID = "against the pyramid, full"
_OF_DETECTION = [
    _row(
        "detection",
        "the feature pyramid",
        "In detection the features of the pyramid give the biggest gain.",
        ADVICE,
        "no teacher; the class term; the box term",
        {
            "the digits are in scenes": [
                ("against no teacher, full", "pyramid", "no_teacher"),
                (_PYRAMID, "class", "pyramid", WORSE),
                (_PYRAMID, "box", "pyramid", WORSE),
            ]
        },
        smallest=1,
        unit="points of mAP",
    ),
    _row(
        "detection",
        "all scales",
        "All levels of the pyramid together gain more than each level alone.",
        ADVICE,
        "one level alone",
        {f"the level is {level}": [(_PYRAMID, f"level {level}", "pyramid", WORSE)] for level in (8, 16, 32)},
        smallest=1,
        unit="points of mAP",
    ),
]

ENTRIES = [
    *_OF_03,
    *_OF_04,
    *_OF_05,
    *_OF_06,
    *_OF_07,
    *(replace(entry, lower_is_better=False) for entry in _OF_DETECTION),
]
