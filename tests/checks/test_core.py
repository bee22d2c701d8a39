"""What all checks rest on: results become plain numbers first, and a slip is told where it explains what was found."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from kdcourse.checks import CheckFailed
from kdcourse.checks._core import (
    Case,
    Slip,
    as_number,
    as_numbers,
    check_choice,
    check_gradient,
    check_no_gradient,
    check_values,
    is_close,
    new_generator,
    random_labels,
    random_tensor,
)


class Chameleon:
    """Equal to everything, and a number when asked."""

    def __eq__(self, other):
        return True

    __hash__ = None

    def __float__(self):
        return 1.0

    def tolist(self):
        return [1.0]


class ChameleonTensor(torch.Tensor):
    """A tensor that claims to be close to all."""

    def __eq__(self, other):
        return torch.tensor(True)

    __hash__ = torch.Tensor.__hash__


class ChameleonFloat(float):
    def __eq__(self, other):
        return True

    __hash__ = float.__hash__


class ChameleonArray(np.ndarray):
    pass


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (torch.tensor(2.5, requires_grad=True), [2.5]),
        (nn.Parameter(torch.ones(2)), [1, 1]),
        (torch.tensor([True, False]), [1, 0]),
        (3, [3]),
        (True, [1]),
        (np.float32(0.5), [0.5]),
        (np.arange(3), [0, 1, 2]),
        ((1, torch.tensor([2.0, 3.0])), [1, 2, 3]),
        ({"b": 2, "a": 1}, [1, 2]),
        (math.nan, [math.nan]),
    ],
)
def test_what_learners_return_becomes_plain_numbers(value, numbers):
    assert as_numbers(value, "it").reshape(-1).tolist() == pytest.approx(numbers, nan_ok=True)


@pytest.mark.parametrize(
    "value",
    [
        Chameleon(), torch.ones(2).as_subclass(ChameleonTensor), ChameleonFloat(1.0), np.ones(2).view(ChameleonArray),
        None, "1.0", [Chameleon()], {"a": Chameleon()}, np.array(["a"]), 1j, 10**400, torch.ones(2).to_sparse(), object,
    ],
)  # fmt: skip
def test_what_is_no_number_does_not_pass(value):
    with pytest.raises(CheckFailed, match="it must be"):
        as_numbers(value, "it")


def test_a_number_that_python_refuses_to_print_is_told_as_such():
    with pytest.raises(CheckFailed, match="it must be a real number of ordinary size, got a huge int"):
        as_numbers(10**10_000, "it")


def test_one_number_is_one_number():
    assert as_number(torch.tensor([[2.0]]), "it") == 2
    with pytest.raises(CheckFailed, match="2 of them, shape \\(2,\\)"):
        as_number(torch.ones(2), "it")


def test_closeness_is_relative_and_not_a_number_is_close_to_nothing():
    near, far = np.array([1000.0, 0.0]), np.array([1000.5, 1e-7])
    assert is_close(far, near)
    assert not is_close(np.array([1002.0, 0.0]), near)
    assert not is_close(np.array([math.nan, 0.0]), np.array([math.nan, 0.0]))
    assert not is_close(np.ones((1, 2)), np.ones(2))


CASES = [Case((torch.arange(4.0),)), Case((torch.tensor([2.0, -1.0]),))]
SLIPS = [Slip("the mean is missing", torch.sum), Slip("only the first", lambda x: x[0])]


def test_a_slip_is_told_only_if_it_explains_every_case():
    check_values(torch.mean, torch.mean, CASES, slips=SLIPS)
    with pytest.raises(CheckFailed, match="the mean is missing"):
        check_values(torch.sum, torch.mean, CASES, slips=SLIPS)
    with pytest.raises(CheckFailed, match=r"returned 6; expected 1.5, for inputs tensor \(4,\)"):
        check_values(lambda x: x.sum() if len(x) == 4 else x.mean(), torch.mean, CASES, slips=SLIPS)


def test_a_slip_that_agrees_with_the_right_answer_on_these_cases_accuses_nobody():
    same = [Slip("never to be said", torch.mean)]
    with pytest.raises(CheckFailed, match="expected"):
        check_values(torch.sum, torch.mean, CASES, slips=same)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: x.mul_(2).mean() / 2, "in place"),
        (lambda x: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda x: x, r"shape \(4,\); \(\) is needed"),
        (lambda x: torch.tensor(math.inf), "not finite"),
        (lambda x: (yield 1), "it yields"),
        (3, "a function is needed, got int"),
    ],
)
def test_what_else_goes_wrong_is_said(function, told):
    with pytest.raises(CheckFailed, match=told):
        check_values(function, torch.mean, CASES)


def test_gradients_are_looked_for_where_they_must_and_must_not_be():
    case = Case((torch.ones(3), torch.ones(3)))
    check_gradient(lambda s, t: (s * t.detach()).sum(), case, message="none")
    check_no_gradient(lambda s, t: (s * t.detach()).sum(), case, argument=1, message="leaks")
    check_no_gradient(lambda s, t: (s + 0 * t).sum(), case, argument=1, message="leaks")  # connected, but 0
    for dead in (lambda s, t: (s.detach() * t).sum(), lambda s, t: torch.tensor(1.0), lambda s, t: 1.0):
        with pytest.raises(CheckFailed, match="none"):
            check_gradient(dead, case, message="none")
    with pytest.raises(CheckFailed, match="leaks"):
        check_no_gradient(lambda s, t: (s * t).sum(), case, argument=1, message="leaks")


def test_a_gradient_is_compared_where_the_right_one_is_known():
    case = Case((torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)))
    right = lambda s, t: (s.square() * t).sum()  # noqa: E731
    check_gradient(lambda s, t: torch.einsum("i,i,i->", s, s, t), case, message="none", expected=right)
    for wrong in (lambda s, t: (s * s.detach() * t).sum(), lambda s, t: s[0] ** 2 + s.detach()[1:] @ s.detach()[1:]):
        with pytest.raises(CheckFailed, match="right value and a wrong gradient"):
            check_gradient(wrong, case, message="none", expected=right)


def test_a_choice_is_answered_by_a_letter(capsys):
    choice = {"right": "b", "wrong": {"a": "look again", "c": "no"}, "because": "so it is"}
    check_choice(" B", **choice)
    assert "(b): so it is" in capsys.readouterr().out
    for answer, told in [("a", "look again"), ("d", "a, b, c"), (2, "got int"), (Chameleon(), "got Chameleon")]:
        with pytest.raises(CheckFailed, match=told):
            check_choice(answer, **choice)
    for empty in (None, ...):
        with pytest.raises(NotImplementedError, match="no answer yet"):
            check_choice(empty, **choice)


def test_random_inputs_leave_the_learners_random_state_alone():
    before = torch.get_rng_state()
    numbers = random_tensor(new_generator(3), 2, 5, scale=2.0)
    labels = random_labels(new_generator(3), 50, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert numbers.shape == (2, 5)
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert torch.equal(numbers, random_tensor(new_generator(3), 2, 5, scale=2.0))
    assert not torch.equal(random_tensor(new_generator(None), 4), random_tensor(new_generator(None), 4))


def test_what_is_shown_of_many_numbers_begins_where_they_are_wrong():
    case = Case((torch.zeros(9), [torch.ones(2, 3), torch.ones(4)], 0.25))
    with pytest.raises(CheckFailed) as found:
        check_values(lambda x, *_: x + (torch.arange(9) == 6), lambda x, *_: x, [case])
    told = "returned [1, 0, 0] from place 6 on; expected [0, 0, 0] from place 6 on"
    assert told in str(found.value)
    assert "inputs tensor (9,), list of tensor (2, 3), tensor (4,), 0.25." in str(found.value)


def test_an_input_that_is_no_tensor_is_described_on_one_line():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with pytest.raises(CheckFailed, match=r"inputs Sequential\( \(0\): Linear") as found:
        check_values(lambda model: 1.0, lambda model: 2.0, [Case((model,))])
    assert "\n" not in str(found.value)
