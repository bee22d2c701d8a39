import pytest

from kdcourse.checks import check_prediction


@pytest.mark.parametrize("guess", ["b", "B", " b ", "b\n"])
def test_a_right_guess_is_confirmed_with_its_reason_however_it_is_typed(guess, capsys):
    check_prediction(guess, answer="b", because="the order never changes")
    assert capsys.readouterr().out == "You said b, and b it is: the order never changes.\n"


def test_an_answer_may_be_a_capital_letter(capsys):
    check_prediction("c", answer="C", because="so it was measured")
    assert "and C it is" in capsys.readouterr().out


def test_a_wrong_guess_stops_nothing_and_is_told_the_answer_and_its_reason(capsys):
    assert check_prediction("a", answer="b", because="the order never changes") is None
    told = capsys.readouterr().out
    assert told.startswith("You said a; it is b: the order never changes.")
    assert "it is" in told
    assert "and b it is" not in told


@pytest.mark.parametrize("guess", ["", "  ", "ab", "1", "(a)", None, 7, ["a", "b"]])
def test_a_guess_that_is_no_single_letter_is_refused_and_shown_an_example(guess):
    with pytest.raises(ValueError, match=r"one letter in quotes, such as 'b', got"):
        check_prediction(guess, answer="b", because="the order never changes")
