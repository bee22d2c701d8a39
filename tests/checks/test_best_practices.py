"""Exercise 10: right answers in several styles pass, each slip is named, and a claim is complete before it is run."""

import re
import statistics

import numpy as np
import pytest

from kdcourse.checks import (
    CheckFailed,
    check_change_of_gain,
    check_claim,
    check_own_claim,
    check_plan,
    check_report_questions,
)
from kdcourse.checks.slips.best_practices import CHANGES, PLANS
from kdcourse.results import mean_interval, t_quantile

CATALOGUES = {"change": (check_change_of_gain, CHANGES), "plan": (check_plan, PLANS)}
SLIPS = [
    pytest.param(check, slip.message, wrong, id=f"{task}-{name}-{number}")
    for task, (check, slips) in CATALOGUES.items()
    for name, slip in slips.items()
    for number, wrong in enumerate(slip.wrong)
]
CLAIM = {
    "temperature": 4.0,
    "alpha": 0.7,
    "baseline": "label_smoothing",
    "seeds": [0, 1, 2, 3, 4],
    "smallest_effect": 10,
    "expects": "better",
}


def by_other_pairs(taught_few, plain_few, taught_many, plain_many):
    """The change of the taught students minus the change of the plain ones: the same number."""
    taught, plain = np.subtract(taught_few, taught_many), np.subtract(plain_few, plain_many)
    return mean_interval(list(taught - plain))


def plan_backwards(differences, *, smallest_effect, seconds, budget):
    affordable = int(budget / seconds)
    s, answer = statistics.stdev(differences), None
    for n in range(affordable, 1, -1):
        if t_quantile(0.95, n - 1) * s < smallest_effect * n**0.5:
            answer = n
    return (affordable, False) if answer is None else (answer, True)


def plan_by_intervals(differences, *, smallest_effect, seconds, budget):
    n, s = 2, np.std(differences, ddof=1)
    while n * seconds <= budget:
        if t_quantile(0.95, n - 1) * s / np.sqrt(n) < smallest_effect:
            return n, True
        n += 1
    return n - 1 if n > 2 else int(budget // seconds), False


def test_the_same_change_in_another_order_passes():
    for seed in range(4):
        check_change_of_gain(by_other_pairs, seed=seed)


@pytest.mark.parametrize("right", [plan_backwards, plan_by_intervals])
def test_a_plan_in_another_style_passes(right):
    for seed in range(3):
        check_plan(right, seed=seed)


@pytest.mark.parametrize(("check", "message", "wrong"), SLIPS)
def test_each_slip_gets_its_own_message(check, message, wrong):
    for seed in (0, 3):
        with pytest.raises(CheckFailed, match=re.escape(message)):
            check(wrong, seed=seed)


def test_too_little_money_is_an_edge_of_its_own():
    def at_least_two(differences, **knobs):
        pairs, enough = plan_backwards(differences, **knobs)
        return max(pairs, 2), enough

    with pytest.raises(CheckFailed, match="not even two pairs"):
        check_plan(at_least_two, seed=0)


def test_the_questions_know_their_letters():
    check_report_questions(list("bacba"))
    for place, right in enumerate("bacba"):
        for letter in set("abc") - {right}:
            answers = list("bacba")
            answers[place] = letter
            with pytest.raises(CheckFailed, match=rf"\({letter}\) is not it"):
                check_report_questions(answers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expects": None}, "'expects' is not decided yet"),
        ({"temperature": 0}, "T divides the logits"),
        ({"temperature": True}, "T divides the logits"),
        ({"alpha": 1.2}, "at most 1"),
        ({"alpha": float("nan")}, "at most 1"),
        ({"baseline": "distilled"}, "the baseline is"),
        ({"seeds": [0, 1, 2, 3]}, "4 seeds are few"),
        ({"seeds": [0, 0, 1, 2, 3]}, "stands there twice"),
        ({"seeds": [0, 1, 2, 3, 100]}, "was used to choose"),
        ({"seeds": list(range(11))}, "The budget is 30"),
        ({"seeds": 5}, "list of whole numbers"),
        ({"seeds": [0.5, 1, 2, 3, 4]}, "list of whole numbers"),
        ({"smallest_effect": 0}, "a number of errors"),
        ({"smallest_effect": "10"}, "a number of errors"),
        ({"expects": "unclear"}, "cannot be wrong"),
        ({"expects": "fewer"}, "a claim expects one of"),
    ],
)
def test_a_claim_that_could_not_be_judged_is_refused(changes, message):
    check_claim(CLAIM)
    with pytest.raises(CheckFailed, match=message):
        check_claim(CLAIM | changes)


def test_the_keys_of_a_claim_are_asked_for():
    for claim in ({}, None, {"alpha": 1}, [CLAIM]):
        with pytest.raises(CheckFailed, match="with the keys temperature"):
            check_claim(claim)


BETTER, SMALL, OPEN = [-30, -26, -33, -29, -31], [-2, 1, -1, 2, 0], [-40, 35, -10, 12, -30]


@pytest.mark.parametrize(
    ("differences", "expects", "word", "judgement"),
    [
        (BETTER, "better", "better", "confirmed"),
        (BETTER, "worse", "better", "refuted"),
        (SMALL, "better", "too small to matter", "refuted"),
        (SMALL, "too small to matter", "too small to matter", "confirmed"),
        (OPEN, "better", "unclear", "open"),
    ],
)
def test_word_and_judgement_are_those_of_the_rule(differences, expects, word, judgement):
    claim, errors = CLAIM | {"expects": expects}, [200 + d for d in differences]
    check_own_claim(claim, errors, [200] * 5, word=word, judgement=judgement)
    for other in {"better", "worse", "too small to matter", "unclear"} - {word}:
        with pytest.raises(CheckFailed, match="is not what the rule gives"):
            check_own_claim(claim, errors, [200] * 5, word=other, judgement=judgement)
    for other in {"confirmed", "refuted", "open"} - {judgement}:
        with pytest.raises(CheckFailed, match=f"'{other}' is not it"):
            check_own_claim(claim, errors, [200] * 5, word=word, judgement=other)


def test_an_end_that_rounding_may_move_leaves_both_words():
    errors = [200 + d for d in (-9.9, -10.1, -0.4, 0.2, -5.0)]
    _, low, high = mean_interval([e - 200 for e in errors])
    assert low < -10 < 0 < high < 1.5
    for word, judgement in (("unclear", "open"), ("better", "confirmed")):
        check_own_claim(CLAIM, errors, [200] * 5, word=word, judgement=judgement)


def test_runs_of_another_claim_are_refused():
    with pytest.raises(CheckFailed, match="not those of the claim"):
        check_own_claim(CLAIM, [1, 2, 3], [1, 2, 3], word="unclear", judgement="open")


def test_stubs_are_told_apart_from_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("not yet")

    for check in (check_change_of_gain, check_plan):
        with pytest.raises(NotImplementedError):
            check(stub)
    with pytest.raises(NotImplementedError):
        check_report_questions([None] * 5)
    with pytest.raises(NotImplementedError):
        check_claim(dict.fromkeys(CLAIM))
    with pytest.raises(NotImplementedError):
        check_own_claim(CLAIM, [1, 2, 3, 4, 5], [2, 3, 4, 5, 7], word=None, judgement=None)
