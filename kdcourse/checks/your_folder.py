"""Checks of exercise 13b, your folder: a split by groups, three ways to train, paired differences, a short report."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..results import verdict
from .cases import Case, new_generator, random_labels, random_tensor
from .comparing import check_values
from .documented import takes_function, takes_verdicts
from .failures import fail, passed
from .gradients import check_gradients
from .slips.your_folder import PAIRS, WAY_GRADIENTS, WAYS, pairs, three_ways
from .verdicts import check_verdicts

NAMES = ("train", "held_out", "test")
TEACHER_LEARNS = "A gradient reaches the teacher's logits. They are a fixed target."
STUDENT_STANDS = "The value is right, but no gradient reaches the student's logits: it would never learn."
NO_DIFFERENCE = (
    "equal", "the same", "no difference", "no effect", "not different", "does not help", "doesn't help", "no better",
    "no gain", "makes no",
)  # fmt: skip


@takes_function
def check_split(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(files, groups, *, seed)`` of exercise 13b, task 1, by what a good split has, whatever its order.

    Parameters
    ----------
    function : callable
        Takes names of files, the group of each, and a seed; returns three lists of files, train, held-out and test.
        A fifth of the groups, rounded, is held out, a fifth is for the test, and no group is in two parts.
    """
    generator = new_generator(seed)
    cases = [Case(_folder(generator, count), {"seed": int(generator.integers(1, 10_000))}) for count in (15, 24, 11)]
    check_values(function, _split, cases, through=_split_well, probing=False,
                 diagnosing=False)  # fmt: skip
    passed("Every file is in one part, no group in two, a fifth of the groups each; a seed decides, and all kinds mix.")


@takes_function
def check_three_ways(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(logits, labels, teacher_logits, *, way, temperature, alpha)`` of exercise 13b, task 2.

    Parameters
    ----------
    function : callable
        Returns the loss of a batch: cross-entropy for ``"plain"``, with smoothed labels (.1) for ``"smoothed"``, and
        for ``"distilled"`` α T² KL + (1 - α) cross-entropy.
    """
    generator = new_generator(seed)
    cases = [_batch(generator, way, *shape) for way in ("plain", "smoothed", "distilled") for shape in ((5, 4), (7, 3))]
    check_values(function, three_ways, cases, slips=WAYS, terms=("teacher's", "labels'"))
    for case in cases[::2]:
        check_gradients(
            function, three_ways, case, slips=WAY_GRADIENTS, terms=("teacher's", "labels'"),
            messages={"logits": (STUDENT_STANDS, ""), "teacher_logits": ("", TEACHER_LEARNS)},
        )  # fmt: skip
    passed("Three ways, one function: the same batch and the same student, and only the target differs.")


@takes_function
def check_paired_differences(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(errors)`` of exercise 13b, task 3.

    Parameters
    ----------
    function : callable
        Takes a dict from way to the errors by seed; returns a dict from baseline to (mean, low, high), the paired
        difference of ``"distilled"`` minus that baseline with its 95 % interval.
    """
    generator = new_generator(seed)
    cases = [Case((_errors(generator, count),)) for count in (4, 3, 6)]
    check_values(function, pairs, cases, slips=PAIRS, probing=False, diagnosing=False,
                 otherwise="For each of 'plain' and 'smoothed', return mean, low and high of the differences, seed by "
                 "seed, of distilled minus that baseline.")  # fmt: skip
    passed("Paired by seed, distilled minus baseline, with both ends of the interval.")


@takes_verdicts
def check_folder_verdicts(verdicts: Any, errors: Mapping[str, Sequence[float]]) -> None:
    """Check the two verdicts of exercise 13b, task 4: the distilled student against both baselines."""
    check_verdicts(verdicts, errors, {other: ("distilled", other) for other in ("plain", "smoothed")})


@takes_function
def check_report(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(facts)`` of exercise 13b, task 5, by what a report must say, in any words.

    Parameters
    ----------
    function : callable
        Takes a dict of facts; returns a text of at most eight lines with the counts of test images and seeds, the
        verdict and both ends of the interval for each baseline, and the student's share of the teacher's bytes in per
        cent.
    """
    generator = new_generator(seed)
    kinds = [("better", "unclear"), ("worse", "better"), ("unclear", "worse")]
    cases = [Case((_facts(generator, plain, smoothed),)) for plain, smoothed in kinds]
    check_values(function, _report, cases, through=_report_well, probing=False, diagnosing=False)
    passed("What was measured, against whom, with which interval, and what the student costs: somebody can rely on it.")


def _split(files: list[str], groups: list[str], *, seed: int) -> tuple[list[str], ...]:
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    fifth = round(len(names) / 5)
    parts = names[2 * fifth :], names[:fifth], names[fifth : 2 * fifth]
    return tuple([file for file, group in zip(files, groups, strict=True) if group in part] for part in parts)


def _report(facts: Mapping[str, Any]) -> str:
    lines = [
        f"{other}: {verdict(low, high)}, {mean:.1f} errors, from {low:.1f} to {high:.1f}"
        for other, (mean, low, high) in facts["differences"].items()
    ]
    share = 100 * facts["student_bytes"] / facts["teacher_bytes"]
    return "\n".join([f"{facts['test_images']} images, {facts['seeds']} seeds, {share:.1f} %", *lines])


def _folder(generator: np.random.Generator, count: int) -> tuple[list[str], list[str]]:
    """Return files of three classes in groups of one to six, sorted as a folder is, and the group of each."""
    files = []
    for group in range(count):
        kind = ("cat", "dog", "owl")[group * 3 // count]  # a class is a stretch of groups, as folders have it
        files += [f"{kind}/g{group:03}_{number}.png" for number in range(int(generator.integers(1, 7)))]
    return files, [file.split("/")[1].split("_")[0] for file in files]


def _split_well(function: Callable) -> Callable:
    def outcome(files: list, groups: list, *, seed: int) -> float:
        group_of, before = dict(zip(files, groups, strict=True)), (list(files), list(groups))
        result = function(files, groups, seed=seed)
        if (files, groups) != before:
            fail("The list that was handed over has changed. Whoever called it still needs it: work on a copy.")
        parts = _three_lists(result, group_of)
        _check_each_once(parts, files)
        kinds = [{group_of[file] for file in part} for part in parts]
        _check_apart(kinds)
        total, fifth = len(set(groups)), round(len(set(groups)) / 5)
        for name, kind in zip(NAMES, kinds, strict=True):
            wanted = total - 2 * fifth if name == "train" else fifth
            if len(kind) != wanted:
                fail(
                    f"{name} has {len(kind)} of {total} groups, {wanted} are asked for. Count groups, not files: "
                    "held-out and test have round(groups / 5) each."
                )
        again = _three_lists(function(list(files), list(groups), seed=seed), group_of)
        if [set(part) for part in again] != [set(part) for part in parts]:
            fail("The same seed gave another split the second time. A comparison needs the same test set every time.")
        others = [_three_lists(function(list(files), list(groups), seed=seed + n), group_of) for n in range(1, 9)]
        if all(set(other[2]) == set(parts[2]) for other in others):
            fail("Nine seeds gave the same test set: the groups are not mixed, or the seed is not used.")
        _check_mixed([*others, parts], group_of)
        return 0.0

    return outcome


def _three_lists(result: Any, group_of: Mapping[str, str]) -> list[list[str]]:
    if isinstance(result, dict) and set(result) == set(NAMES):
        result = [result[name] for name in NAMES]
    if type(result) not in (tuple, list) or len(result) != 3:
        fail(f"three lists are needed, train, held-out and test, got {_kind(result)}.")
    parts = []
    for part in result:
        if type(part) not in (list, tuple, set) or any(type(file) is not str for file in part):
            fail(f"each part is a list of names of files, got {_kind(part)}.")
        unknown = [file for file in part if file not in group_of]
        if unknown:
            fail(f"{unknown[0]!r} is no file of the folder. The parts hold names of files, not groups or places.")
        parts.append(list(part))
    return parts


def _check_each_once(parts: list[list[str]], files: Sequence[str]) -> None:
    every = [file for part in parts for file in part]
    twice = sorted({file for file in every if every.count(file) > 1})
    if twice:
        where = [name for name, part in zip(NAMES, parts, strict=True) if twice[0] in part]
        fail(f"{twice[0]!r} is there twice, in {' and '.join(where)}. A file is learned from or tested on, never both.")
    missing = sorted(set(files) - set(every))
    if missing:
        fail(f"{len(missing)} of {len(files)} files are in no part, for example {missing[0]!r}.")


def _check_apart(kinds: Sequence[set[str]]) -> None:
    for one, other in ((0, 2), (0, 1), (1, 2)):
        both = sorted(kinds[one] & kinds[other])
        if both:
            fail(
                f"Group {both[0]!r} is in {NAMES[one]} and in {NAMES[other]}. Files of one group are nearly copies, so "
                "the score would be that of memory. Split the groups, then take their files."
            )


def _check_mixed(splits: Sequence[list[list[str]]], group_of: Mapping[str, str]) -> None:
    """Fail if test sets are always neighbours in the folder, as they are if only the starting point is drawn."""
    order = list(dict.fromkeys(group_of.values()))
    places = [sorted({order.index(group_of[file]) for file in split[2]}) for split in splits]
    if all(place[-1] - place[0] == len(place) - 1 for place in places):
        fail(
            "The test groups always stand side by side in the folder, so they are of one class or one day. Mix all the "
            "groups."
        )


def _batch(generator: np.random.Generator, way: str, rows: int, classes: int) -> Case:
    logits, teacher_logits = (random_tensor(generator, rows, classes, scale=2) for _ in range(2))
    knobs = {"way": way, "temperature": float(generator.uniform(1.5, 5)), "alpha": float(generator.uniform(0.55, 0.9))}
    return Case((logits, random_labels(generator, rows, classes), teacher_logits), knobs)


def _errors(generator: np.random.Generator, count: int) -> dict[str, list[int]]:
    base = generator.integers(40, 90, size=count)  # seeds differ much more than ways
    return {
        way: [int(errors) for errors in base - gain + generator.integers(-4, 5, size=count)]
        for way, gain in (("plain", 0), ("smoothed", 6), ("distilled", 13))
    }


def _facts(generator: np.random.Generator, *words: str) -> dict[str, Any]:
    """Return facts whose numbers are all different, with the verdicts asked for."""
    found = {}
    for other, word in zip(("plain", "smoothed"), words, strict=True):
        near, far = generator.uniform(1.2, 9.4), generator.uniform(10.6, 28.0)
        low, high = {"better": (-far, -near), "worse": (near, far), "unclear": (-far, near)}[word]
        found[other] = (0.5 * (low + high), low, high)
    teacher = int(generator.integers(600_000, 900_000))
    return {
        "test_images": int(generator.integers(150, 990)),
        "seeds": int(generator.integers(11, 30)),
        "differences": found,
        "teacher_bytes": teacher,
        "student_bytes": int(teacher * generator.uniform(0.031, 0.093)),
    }


def _report_well(function: Callable) -> Callable:
    def outcome(facts: dict) -> float:
        text = function(facts)
        if type(text) is not str:
            fail(f"a report is a text, got {_kind(text)}. Return it; printing it returns None.")
        lines = [line for line in text.splitlines() if line.strip()]
        if not 1 <= len(lines) <= 8:
            fail(f"the report has {len(lines)} lines; at most eight were asked for.")
        _check_numbers(text, facts)
        for other, (_, low, high) in facts["differences"].items():
            _check_sentence(lines, other, verdict(low, high))
        return 0.0

    return outcome


def _check_numbers(text: str, facts: Mapping[str, Any]) -> None:
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))]
    _needs(numbers, facts["test_images"], 0, "the number of test images", "Errors of what?")
    _needs(numbers, facts["seeds"], 0, "the number of seeds", "One seed or twenty is what a reader asks first.")
    for other, (mean, low, high) in facts["differences"].items():
        for end, value in (("lower", low), ("upper", high)):
            _needs(
                numbers, abs(value), 0.51, f"the {end} end of the interval against {other}",
                f"A difference of {mean:.1f} alone does not say how sure it is.",
            )  # fmt: skip
    share = 100 * facts["student_bytes"] / facts["teacher_bytes"]
    _needs(numbers, share, 0.51, "the student's share of the teacher's bytes, in per cent",
           "This is why anybody wanted a student. Student divided by teacher, times 100.")  # fmt: skip


def _needs(numbers: Sequence[float], value: float, tolerance: float, what: str, why: str) -> None:
    if not any(abs(number - value) <= tolerance for number in numbers):
        fail(f"{what[0].upper()}{what[1:]}, {value:.4g} here, is not in the report. {why}")


def _check_sentence(lines: Sequence[str], other: str, right: str) -> None:
    """Fail unless a line names the baseline and the right verdict, and no wrong one."""
    about = [str.lower(line) for line in lines if other in line.lower()]
    if not about:
        fail(f"No line of the report names the baseline {other!r}. Say against whom the student was compared.")
    said = {word for line in about for word in re.findall(r"\b(better|worse|unclear)\b", line)}
    if any(phrase in line for line in about for phrase in NO_DIFFERENCE) and right == "unclear":
        fail(
            f"The interval against {other!r} holds 0, and the report says that there is no difference. Nobody knows "
            "that: unclear is not equal."
        )
    if right not in said:
        got = f"says {', '.join(sorted(said))}" if said else "has no verdict"
        fail(f"Against {other!r} the interval shows {right!r}, and its line {got}. Look at both ends, not at the mean.")
    if len(said) > 1:
        fail(f"The line about {other!r} says {' and '.join(sorted(said))}. Give each baseline a line of its own.")


def _kind(value: Any) -> str:
    return (
        f"a {type(value).__name__} of {len(value)}" if type(value) in (list, tuple, dict, set) else type(value).__name__
    )
