"""What all checks rest on: results become plain numbers first, and a slip is told where it explains what was found."""

import math
import re

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

from kdcourse.checks import CheckFailed
from kdcourse.checks.cases import Case, copy_of, new_generator, random_labels, random_tensor, what_changed
from kdcourse.checks.comparing import check_values
from kdcourse.checks.converting import as_number, as_numbers, is_close
from kdcourse.checks.gradients import check_gradients
from kdcourse.checks.questions import Question, check_choice
from kdcourse.checks.slips import Slip


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
SLIPS = {
    "sum": Slip("the mean is missing", torch.sum),
    "one": Slip("only one of them", lambda x: x[0], lambda x: x[-1]),
}


def test_a_slip_is_told_only_if_it_explains_every_case():
    check_values(torch.mean, torch.mean, CASES, slips=SLIPS)
    with pytest.raises(CheckFailed, match="the mean is missing"):
        check_values(torch.sum, torch.mean, CASES, slips=SLIPS)
    with pytest.raises(CheckFailed, match="only one of them"):
        check_values(lambda x: x[-1], torch.mean, CASES, slips=SLIPS)
    with pytest.raises(CheckFailed, match=r"too large, for inputs x=tensor \(4,\)"):
        check_values(lambda x: x.sum() if len(x) == 4 else x.mean(), torch.mean, CASES, slips=SLIPS, diagnosing=False,
                     probing=False)  # fmt: skip


def test_a_slip_that_agrees_with_the_right_answer_on_these_cases_accuses_nobody():
    same = {"mean": Slip("never to be said", torch.mean)}
    with pytest.raises(CheckFailed) as found:
        check_values(torch.sum, torch.mean, CASES, slips=same)
    assert "never" not in str(found.value)


def test_what_no_slip_explains_gets_the_message_for_the_rest():
    with pytest.raises(CheckFailed, match="compare once more"):
        check_values(lambda x: x.mean() + x[0] ** 3, torch.mean, CASES, slips=SLIPS, otherwise="compare once more")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: x.mul_(2).mean() / 2, "changes the tensor `x` in place"),
        (lambda x: 1 / 0, "raised ZeroDivisionError: division by zero in the line `.*1 / 0"),
        (lambda x: x, r"shape \(4,\); \(\) is needed.*their mean is missing"),
        (lambda x: torch.tensor(math.inf), "not finite: an infinite number"),
        (lambda x: torch.tensor(math.nan), "not finite: NaN"),
        (lambda x: (yield 1), "it yields"),
        (3, "a function is needed, got int"),
    ],
)
def test_what_else_goes_wrong_is_said(function, told):
    with pytest.raises(CheckFailed, match=told):
        check_values(function, torch.mean, CASES)


def product(s, t):
    return (s.square() * t.detach()).sum()


GRADIENTS = {"s": ("none", ""), "t": ("", "leaks")}


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda s, t: (s.detach().square() * t.detach()).sum() + 0 * s.sum(), "^none$"),
        (lambda s, t: torch.tensor(14.0), "^none Everything was detached"),
        (lambda s, t: 14.0, "^none .*plain number"),
        (lambda s, t: (s.square() * t).sum(), "^leaks$"),
        (lambda s, t: (s * s.detach() * t.detach()).sum(), "right value and a wrong gradient in `s`: it is 0.5 times"),
        (lambda s, t: product(s, t) + 2 * (s - s.detach()) @ s.detach(), "it is 2 times what it should be"),
        (lambda s, t: product(torch.cat([s[:1], s[1:].detach()]), t), "wrong gradient in `s`: somewhere"),
    ],
)
def test_gradients_are_looked_for_where_they_must_and_must_not_be(function, told):
    case = Case((torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)))
    check_gradients(product, product, case, messages=GRADIENTS)
    check_gradients(lambda s, t: torch.einsum("i,i,i->", s, s, t.detach()) + 0 * t.sum(), product, case)  # connected
    with pytest.raises(CheckFailed, match=told):
        check_gradients(function, product, case, messages=GRADIENTS)


def test_a_gradient_of_each_result_is_compared_and_a_slip_names_a_wrong_one():
    def pair(z):
        return [(z[0] * z[1].detach()).sum(), (z[1] * z[0].detach()).sum()]

    case = Case(([torch.arange(3.0) + 1, torch.arange(3.0) - 7],))
    check_gradients(lambda z: torch.stack(pair(z)), pair, case)
    both = {"both": Slip("each pulls at the other", lambda z: [(z[0] * z[1]).sum()] * 2)}
    with pytest.raises(CheckFailed, match="each pulls at the other"):
        check_gradients(lambda z: [(z[0] * z[1]).sum()] * 2, pair, case, slips=both)
    with pytest.raises(CheckFailed, match=r"A gradient reaches `z\[1\]`"):
        check_gradients(lambda z: [(z[0] * z[1]).sum()] * 2, pair, case)
    with pytest.raises(CheckFailed, match="returns 1 results, 2 are needed"):
        check_gradients(lambda z: pair(z)[:1], pair, case)


def test_a_choice_is_answered_by_a_letter(capsys):
    choice = Question(right="b", wrong={"a": "look again", "c": "no"}, because="so it is")
    check_choice(" B", choice)
    check_choice("(b)", choice)
    assert "(b): so it is" in capsys.readouterr().out
    for answer, told in [("a", "look again"), ("d", "a, b, c"), (2, "got int"), (Chameleon(), "got Chameleon")]:
        with pytest.raises(CheckFailed, match=told):
            check_choice(answer, choice)
    for empty in (None, ...):
        with pytest.raises(NotImplementedError, match="no answer yet"):
            check_choice(empty, choice)


def test_random_inputs_leave_the_learners_random_state_alone():
    before = torch.get_rng_state()
    numbers = random_tensor(new_generator(3), 2, 5, scale=2.0)
    labels = random_labels(new_generator(3), 50, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert numbers.shape == (2, 5)
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert torch.equal(numbers, random_tensor(new_generator(3), 2, 5, scale=2.0))
    assert not torch.equal(random_tensor(new_generator(None), 4), random_tensor(new_generator(None), 4))


def test_a_wrong_answer_that_nothing_explains_is_shown_on_inputs_that_can_be_copied():
    case = Case((torch.randn(6, 5), torch.arange(6) % 3), {"share": 0.25})

    def right(points, labels, *, share):
        return (share * points[labels == 0]).sum()

    with pytest.raises(CheckFailed) as found:
        check_values(
            lambda points, labels, *, share: right(points, labels, share=share) + points[0, 0] ** 3, right, [case]
        )
    told = str(found.value)
    inputs, results = told[told.index("points=torch") :].split(" it returns ")
    given = eval(f"dict({inputs})", {"torch": torch, "dict": dict})
    came, needed = (float(text.split()[0]) for text in results.rstrip(".").split("; "))
    assert right(**given).item() == pytest.approx(needed, abs=1e-4)
    assert (right(**given) + given["points"][0, 0] ** 3).item() == pytest.approx(came, abs=1e-4)


def test_an_input_that_is_no_tensor_is_described_on_one_line():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with pytest.raises(CheckFailed, match=r"inputs model=Sequential\( \(0\): Linear") as found:
        check_values(lambda model: 1.0, lambda model: 2.0, [Case((model,))])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("before", "change", "told"),
    [
        ([torch.zeros(2), torch.ones(2)], lambda x: x.reverse(), "reverses the list `x`"),
        ([1.0, 2.0], lambda x: x.append(3.0), "makes the list `x` longer"),
        ([3.0, 2.0, 5.0], lambda x: x.sort(), "changes the order of the list `x`"),
        ([3.0, 2.0], lambda x: x.__setitem__(1, 7.0), r"changes `x\[1\]`"),
        ([torch.zeros(2)], lambda x: x[0].add_(1), r"changes the tensor `x\[0\]` in place"),
        ({"a": [1.0], "b": [2.0]}, lambda x: x.pop("a"), "changes the keys of the dict `x`"),
        ({"a": [1.0], "b": [2.0]}, lambda x: x["b"].clear(), r"makes the list `x\['b'\]` shorter"),
        (np.zeros(2), lambda x: x.fill(1), "changes the array `x` in place"),
    ],
)
def test_what_a_function_does_to_its_arguments_is_seen(before, change, told):
    after = copy_of(before)
    assert what_changed(before, after, "x") == ""
    change(after)
    assert re.search(told, what_changed(before, after, "x"))


def test_a_float_is_no_index_and_our_own_message_is_not_wrapped():
    whole = Case((torch.tensor([3, 1, 2]),))
    check_values(lambda x: x.argsort().tolist(), torch.argsort, [whole])
    with pytest.raises(CheckFailed, match="must be whole"):
        check_values(lambda x: x.argsort().float(), torch.argsort, [whole])

    def failing(x):
        raise CheckFailed("this alone")

    with pytest.raises(CheckFailed, match=r"^this alone$"):
        check_values(failing, torch.mean, CASES)


def test_jupyter_shows_the_message_and_no_frames():
    shell = InteractiveShell()
    for code, told in {
        "check_values(torch.sum, torch.mean, CASES, slips=SLIPS)": "CheckFailed: the mean is missing",
        "check_choice(None, QUESTION)": "NotImplementedError: this question has no answer yet",
    }.items():
        shown = []
        shell._showtraceback = lambda kind, value, lines, shown=shown: shown.extend(lines)
        shell.push({**globals(), "QUESTION": Question("a", {}, "")})
        shell.run_cell(code)
        assert len(shown) == 1, shown
        assert shown[0].startswith(told)
