"""Checks of exercise 10, best practices: a report read, a change of a gain, a plan, and a claim of one's own."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..results import mean_interval, t_quantile
from ..results import verdict as word_of
from .cases import Case, new_generator
from .comparing import check_edge, check_values
from .documented import takes_answers, takes_function
from .failures import fail, not_answered, passed
from .questions import Question, check_answers
from .slips.best_practices import CHANGES, PLANS
from .verdicts import is_near

CHOSEN_BY = (100, 101)  # seeds that have chosen already
MOST_STUDENTS, FEWEST_SEEDS, STUDENTS_OF_A_SEED = 30, 5, 3
LARGEST_EFFECT = 200  # errors of 2,000: a tenth of the images
WORDS = ("better", "worse", "too small to matter", "unclear")
EXPECTED = WORDS[:3]
JUDGEMENTS = ("confirmed", "refuted", "open")
# Pilots: their pairs, the pairs that are needed, whether these are just enough or those before just too few, spread and
# mean of the differences in units of the spread, and the pairs that can be paid for.
JUST_ENOUGH, JUST_SHORT = 1.004, 0.996
PILOTS = (
    (4, 8, JUST_ENOUGH, 12.0, -2.5, 40.4),
    (5, 9, JUST_SHORT, 12.0, -2.5, 30.7),
    (6, 5, JUST_ENOUGH, 0.6, 0.1, 35.2),
    (4, 12, JUST_ENOUGH, 9.0, 0.1, 7.6),
    (7, 6, JUST_SHORT, 11.0, -1.0, 6.4),
    (5, 7, JUST_ENOUGH, 10.0, -2.0, 3.3),
)
TOO_POOR = "If not even two pairs can be paid for, return how many can, 1 or 0, and False: no interval comes of that."


@takes_answers
def check_report_questions(answers: Any) -> None:
    """Check the five answers of exercise 10, task 1, about a report."""
    check_answers(answers, QUESTIONS)


@takes_function
def check_change_of_gain(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(taught_few, plain_few, taught_many, plain_many)`` of exercise 10, task 2.

    Parameters
    ----------
    function : callable
        Takes four lists of test errors, in the same order of seeds; returns mean and both ends of the 95 % interval of
        the gain with few labels minus the gain with many.
    """
    generator, cases = new_generator(seed), []
    for count in (5, 6, 9):
        luck = generator.normal(0, 25, count)  # what all four runs of a seed share
        shared = generator.normal(0, 40, count)  # what both taught students of a seed share
        means = ((930, 1), (950, 0), (250, 1), (266, 0))
        runs = [mean + luck + taught * shared + generator.normal(0, 6, count) for mean, taught in means]
        cases.append(Case(tuple(errors.round(1).tolist() for errors in runs)))
    check_values(function, _change_of_gain, cases, slips=CHANGES, atol=0.01, probing=False, diagnosing=False,
                 otherwise="This is not the mean and the 95 % interval of (taught_few - plain_few) - (taught_many - "
                 "plain_many), seed by seed, as (mean, low, high).")  # fmt: skip
    passed("Two gains are subtracted within each seed, and the interval is that of their difference.")


@takes_function
def check_plan(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(differences, *, smallest_effect, seconds, budget)`` of exercise 10, task 3.

    Parameters
    ----------
    function : callable
        Takes a pilot's differences, the smallest effect of interest, the seconds of a pair and all seconds there are;
        returns the smallest number of pairs whose half width is below the smallest effect, and whether it can be paid
        for; if not, how many pairs can.
    """
    generator = new_generator(seed)
    cases = [_plan_case(generator, *settings) for settings in PILOTS]
    check_values(function, _plan, cases, slips=PLANS, probing=False, diagnosing=False,
                 otherwise="At least one plan is wrong. For each n from 2 on, compare t_quantile(0.95, n - 1) "
                 "times the pilot's deviation over √n with the smallest effect; then see what it costs.")  # fmt: skip
    knobs = {"smallest_effect": 4.0, "seconds": 20.0}
    poor = [Case(([-30.0, -12.0, -25.0],), {**knobs, "budget": budget}) for budget in (30.0, 12.0)]
    check_edge(function, _plan, poor, TOO_POOR, edge="less time than two pairs need")
    passed("The smallest number of pairs that is enough, by its own t, within what can be paid for.")


def check_claim(claim: Any) -> None:
    """Check that a claim is written down completely, before anything is run; exercise 10, task 4.

    Parameters
    ----------
    claim : dict
        With the keys temperature, alpha, baseline, seeds, smallest_effect and expects.

    Raises
    ------
    CheckFailed
        With what is missing, or what would spoil the comparison.
    NotImplementedError
        If nothing is written yet.
    """
    keys = ("temperature", "alpha", "baseline", "seeds", "smallest_effect", "expects")
    if type(claim) is not dict or set(claim) != set(keys):
        fail(f"claim must be the dict of the cell above, with the keys {', '.join(keys)}.")
    if all(value is None or value is ... for value in claim.values()):
        not_answered("the claim is not written yet: give each key a value before anything is run.")
    if missing := [key for key in keys if claim[key] is None or claim[key] is ...]:
        fail(f"{missing[0]!r} is not decided yet. What is left open can be chosen after the run, to fit it.")
    _check_number(claim, "temperature", 0, math.inf, "T divides the logits: it is positive and finite.")
    _check_number(claim, "alpha", 0, 1, "α is the teacher's share, above 0 and at most 1.")
    if claim["baseline"] not in ("no_teacher", "label_smoothing"):
        fail(f"the baseline is 'no_teacher' or 'label_smoothing', got {str(claim['baseline'])[:30]!r}.")
    _check_seeds(claim["seeds"])
    _check_number(claim, "smallest_effect", 0, LARGEST_EFFECT, "It is a number of errors, of 2,000 test images.")
    if claim["expects"] not in EXPECTED:
        reason = " A claim that expects 'unclear' cannot be wrong." if claim["expects"] == "unclear" else ""
        fail(f"a claim expects one of {', '.join(map(repr, EXPECTED))}, got {str(claim['expects'])[:30]!r}.{reason}")
    students = STUDENTS_OF_A_SEED * len(claim["seeds"])
    passed(f"The claim is complete, and can turn out wrong. It needs {students} students of {MOST_STUDENTS}.")


def check_own_claim(
    claim: Any, errors: Sequence[float], baseline_errors: Sequence[float], *, word: Any, judgement: Any
) -> None:
    """Check the word and the judgement on a claim of one's own; exercise 10, task 4.

    Parameters
    ----------
    claim : dict
        As `check_claim` accepts it.
    errors, baseline_errors : sequence of float
        Test errors by seed, in the order of the claim's seeds.
    word : str
        What the interval shows: ``"better"``, ``"worse"``, ``"too small to matter"`` or ``"unclear"``.
    judgement : str
        What that means for the claim: ``"confirmed"``, ``"refuted"`` or ``"open"``.

    Raises
    ------
    CheckFailed
        With what the interval says.
    NotImplementedError
        If an answer is missing.
    """
    if type(claim) is not dict or len(errors) != len(claim.get("seeds") or []) or len(errors) != len(baseline_errors):
        fail("the runs are not those of the claim: run the cells of this task again, from the claim on.")
    for name, value, choices in (("word", word, WORDS), ("judgement", judgement, JUDGEMENTS)):
        if value is None or value is ...:
            not_answered(f"`{name}` has no value yet: choose one of {', '.join(map(repr, choices))}.")
        if type(value) is not str or value not in choices:
            fail(f"`{name}` is one of {', '.join(map(repr, choices))}, got {str(value)[:30]!r}.")
    _, low, high = mean_interval([float(a) - float(b) for a, b in zip(errors, baseline_errors, strict=True)])
    size = float(claim["smallest_effect"])
    interval = f"the interval of the paired difference is [{low:+.1f}, {high:+.1f}], the smallest effect {size:g}"
    if word not in _near_words(low, high, size):
        fail(f"{word!r} is not what the rule gives: {interval}. Look at the band of ± the smallest effect first.")
    right = "confirmed" if word == claim["expects"] else "open" if word == "unclear" else "refuted"
    if judgement != right:
        reasons = {
            "confirmed": "that is the very word that the claim expects.",
            "open": "an unclear interval neither confirms nor refutes: the expected difference is still possible.",
            "refuted": "the word is clear, and another one than the claim expects. It was written down before the run.",
        }
        fail(f"{judgement!r} is not it: {reasons[right]}")
    passed(f"{word}, so the claim is {right}: {interval}.")


def _near_words(low: float, high: float, size: float) -> set[str]:
    """Return the rule's word, and those that it would give if another machine moved an end a little."""
    step = 0.1 * (high - low)
    words = {word_of(low, high, smallest_effect=size)}
    for end in (low, high):
        for border in (0.0, -size, size):
            if is_near(end - border, low, high):
                for moved in (-step, step):
                    words.add(word_of(min(low + moved, high), max(high + moved, low), smallest_effect=size))
    return words


def _check_number(claim: Mapping[str, Any], key: str, low: float, high: float, reason: str) -> None:
    value = claim[key]
    if isinstance(value, bool) or not isinstance(value, Real) or not low < float(value) <= high or value == math.inf:
        fail(f"{key!r} cannot be {str(value)[:30]}. {reason}")


def _check_seeds(seeds: Any) -> None:
    if type(seeds) is range:
        seeds = list(seeds)
    if type(seeds) not in (list, tuple) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        fail("'seeds' must be a list of whole numbers, such as [0, 1, 2, 3, 4].")
    if len(set(seeds)) < len(seeds):
        fail("a seed stands there twice. The same seed gives the same run, and would count as evidence twice.")
    if used := set(seeds) & set(CHOSEN_BY):
        fail(f"the seed {min(used)} was used to choose. What chose must not be reported (chapter 10).")
    if len(seeds) < FEWEST_SEEDS:
        fail(f"{len(seeds)} seeds are few: Student's t is large there. Take {FEWEST_SEEDS} or more.")
    if STUDENTS_OF_A_SEED * len(seeds) > MOST_STUDENTS:
        needed = STUDENTS_OF_A_SEED * len(seeds)
        fail(f"{len(seeds)} seeds need {needed} students: yours and both baselines. The budget is {MOST_STUDENTS}.")


def _change_of_gain(
    taught_few: Sequence[float], plain_few: Sequence[float], taught_many: Sequence[float], plain_many: Sequence[float]
) -> tuple[float, float, float]:
    changes = np.subtract(taught_few, plain_few) - np.subtract(taught_many, plain_many)  # (seeds,)
    return mean_interval(changes.tolist())


def _plan(differences: Sequence[float], *, smallest_effect: float, seconds: float, budget: float) -> tuple[int, bool]:
    affordable = int(budget // seconds)
    for pairs in range(2, affordable + 1):
        if t_quantile(0.95, pairs - 1) * statistics.stdev(differences) / math.sqrt(pairs) < smallest_effect:
            return pairs, True
    return affordable, False


def _plan_case(
    generator: np.random.Generator, count: int, pairs: int, share: float, spread: float, mean: float, affordable: float
) -> Case:
    """Return a pilot for which ``pairs`` are just enough, or those before just too few."""
    pilot = generator.normal(0, 1, count)
    pilot = spread * (mean + (pilot - pilot.mean()) / pilot.std(ddof=1))
    differences = pilot.round(2).tolist()
    tried = pairs if share > 1 else pairs - 1
    half = t_quantile(0.95, tried - 1) * statistics.stdev(differences) / math.sqrt(tried)
    seconds = round(float(generator.uniform(6, 40)), 1)
    knobs = {"smallest_effect": share * half, "seconds": seconds, "budget": round(affordable * seconds, 1)}
    return Case((differences,), knobs)


QUESTIONS = (
    Question(
        right="b",
        wrong={
            "a": "a larger teacher is another experiment. Which baseline softens the targets without a teacher?",
            "c": "an ensemble costs many trainings. One baseline is missing that costs nothing.",
        },
        because="smoothed labels soften targets too, and cost nothing: without them the gain may be theirs",
    ),
    Question(
        right="a",
        wrong={
            "b": "the settings were chosen by these very errors: think of the twenty settings that do nothing.",
            "c": "the best of 24 is lucky rather than unlucky.",
        },
        because="the best of 24 is partly lucky, and the luck does not come again; soft targets were not tuned at all",
    ),
    Question(
        right="c",
        wrong={
            "a": "a bad run is a run. Would the report have left out its two best ones?",
            "b": "more seeds are better. What happened to two of them?",
        },
        because="luck was selected, and for one method only: report all seeds of all methods",
    ),
    Question(
        right="b",
        wrong={
            "a": "an average of two spreads is no spread of the difference; what both runs of a seed share cancels.",
            "c": "decimal places make a number longer and not surer.",
        },
        because="what matters is how much the difference varies from seed to seed, often far less than the runs do",
    ),
    Question(
        right="a",
        wrong={
            "b": "that gives StarKD a third advantage, and tests nothing.",
            "c": "perhaps soft targets need 40 epochs as well: nobody has looked.",
        },
        because="with the same epochs the method is what differs; with others nobody knows what made the difference",
    ),
)
