"""Verdicts are those of the paired interval; where it ends next to 0, another machine's word is right as well."""

import pytest

from kdcourse.checks import CheckFailed
from kdcourse.checks.questions import Question, check_answers
from kdcourse.checks.verdicts import check_verdict, check_verdicts, is_near
from kdcourse.sweeps import mean_interval

BASELINE = [300.0, 340.0, 280.0, 310.0]
WOBBLE = (3, -3, 2, -2)
HALF = 3.2 * (26 / 3) ** 0.5 / 2  # half the interval's width, nearly


def errors_at(shift):
    return [base + shift + wobble for base, wobble in zip(BASELINE, WOBBLE, strict=True)]


@pytest.mark.parametrize(
    ("shift", "accepted"),
    [
        (-30, {"better"}),
        (-1.1 * HALF, {"better", "unclear"}),
        (-0.9 * HALF, {"unclear", "better"}),
        (0, {"unclear"}),
        (0.6 * HALF, {"unclear"}),
        (0.9 * HALF, {"unclear", "worse"}),
        (1.1 * HALF, {"worse", "unclear"}),
        (1.5 * HALF, {"worse"}),
    ],
)
def test_both_words_are_right_where_the_interval_ends_next_to_0(shift, accepted, capsys):
    for word in ("better", "worse", "unclear"):
        if word in accepted:
            check_verdict(word, errors_at(shift), BASELINE)
        else:
            with pytest.raises(CheckFailed, match="the interval of the paired difference"):
                check_verdict(word, errors_at(shift), BASELINE)
    assert ("another machine" in capsys.readouterr().out) == (len(accepted) > 1)


def test_next_to_0_is_a_tenth_of_the_width():
    low, high = mean_interval([a - b for a, b in zip(errors_at(HALF), BASELINE, strict=True)])[1:]
    assert is_near(low, low, high)
    assert not is_near(high, low, high)
    assert not is_near(0.0, 0.0, 0.0)


def test_every_comparison_needs_its_word():
    errors = {"method": errors_at(-30), "baseline": BASELINE}
    pairs = {"b": ("method", "baseline")}
    check_verdicts({"b": "better"}, errors, pairs)
    for verdicts, told in (({}, "no verdict for 'method' against 'baseline'"), (["better"], "must be the dict")):
        with pytest.raises(CheckFailed, match=told):
            check_verdicts(verdicts, errors, pairs)
    with pytest.raises(CheckFailed, match=r"\[-3"):
        check_verdicts({"b": "worse"}, errors, pairs)
    with pytest.raises(NotImplementedError):
        check_verdicts({"b": None}, errors, pairs)


class Letters(list):
    def __iter__(self):
        return iter("ab")


def test_answers_are_a_list_of_letters(capsys):
    questions = [Question("a", {"b": "look again"}, "so"), Question("b", {"a": "no"}, "thus")]
    for answers in (["a", "b"], ("A", " b")):
        check_answers(answers, questions)
    assert "(b): thus" in capsys.readouterr().out
    for answers in (None, "ab", ["a"], ["a", "b", "c"], {"a": "b"}, Letters(["b", "a"])):
        with pytest.raises(CheckFailed, match=r"a list of 2 letters in quotes, such as \['a', 'b'\]"):
            check_answers(answers, questions)
    with pytest.raises(CheckFailed, match="look again"):
        check_answers(["b", "b"], questions)
    with pytest.raises(NotImplementedError):
        check_answers([None, "b"], questions)
