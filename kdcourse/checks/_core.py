"""What every check of an exercise shares: safe conversion, random cases, slips that are known by name.

Exercises 01 to 15. A learner's function may return anything, so results are converted to plain numbers first, by
functions taken when this module was loaded: an object that compares true with everything is not a number.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

_Tensor, _detach, _tolist = torch.Tensor, torch.Tensor.detach, torch.Tensor.tolist
RTOL, ATOL = 1e-3, 1e-6


class CheckFailed(AssertionError):
    """A check found a mistake; the message says what was seen and what is probably behind it."""


class Slip(NamedTuple):
    """A typical mistake: the function that a learner who makes it writes, and what to tell them.

    Attributes
    ----------
    message : str
        Names the mistake and why it matters, in one or two sentences; not the repaired line.
    wrong : callable
        Takes the arguments of the learner's function and returns what this mistake returns.
    """

    message: str
    wrong: Callable[..., Any]


class Case(NamedTuple):
    """Arguments for one call of the learner's function."""

    args: tuple = ()
    kwargs: Mapping[str, Any] = {}

    def call(self, function: Callable) -> Any:
        """Call a function with copies of the arguments, so that what it does to them stays with it."""
        return function(*map(_copy, self.args), **{name: _copy(value) for name, value in self.kwargs.items()})


class Question(NamedTuple):
    """A question with choices, as `check_choice` takes it."""

    right: str
    wrong: Mapping[str, str]
    because: str


def new_generator(seed: int | None) -> np.random.Generator:
    """Return a generator of its own: fresh numbers without a seed, and the learner's random state untouched."""
    return np.random.default_rng(seed)


def random_tensor(generator: np.random.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    """Return a float32 tensor of normal numbers times ``scale``."""
    return torch.from_numpy((scale * generator.standard_normal(shape)).astype(np.float32))


def random_labels(generator: np.random.Generator, count: int, classes: int) -> Tensor:
    """Return ``count`` labels from 0 to ``classes`` - 1, int64."""
    return torch.from_numpy(generator.integers(0, classes, size=count))


def check_values(
    function: Callable,
    expected: Callable,
    cases: Sequence[Case],
    *,
    slips: Sequence[Slip] = (),
    rtol: float = RTOL,
    atol: float = ATOL,
) -> None:
    """Compare a learner's function with the right one on every case, and name the slip if one explains what was found.

    Parameters
    ----------
    function : callable
        The learner's.
    expected : callable
        The right one, with the same arguments. It and the slips return a tensor, a number, or a list, tuple or dict
        of them.
    cases : sequence of Case
        Inputs; several, with shapes that tell mistakes apart.
    slips : sequence of Slip
        The first whose results agree with the learner's in every case gives the message.
    rtol, atol : float
        Relative and absolute tolerance.

    Raises
    ------
    CheckFailed
        If a result is wrong, is not made of numbers, or the function raises an error or changes its input.
    NotImplementedError
        If the function is still the stub.
    """
    name = name_of(function)
    found = [_run(function, case, name) for case in cases]
    right = [as_numbers(case.call(expected), "the expected result") for case in cases]
    wrong_at = [i for i, pair in enumerate(zip(found, right, strict=True)) if not is_close(*pair, rtol=rtol, atol=atol)]
    if not wrong_at:
        return
    for slip in slips:
        if _agrees(slip.wrong, cases, found, rtol, atol) and not _agrees(slip.wrong, cases, right, rtol, atol):
            fail(slip.message)
    first = wrong_at[0]
    if found[first].shape != right[first].shape:
        fail(f"{name} returned numbers of shape {found[first].shape}; {right[first].shape} is needed.")
    if not np.isfinite(found[first]).all():
        fail(f"{name} returned a number that is not finite ({_few(found[first])}); expected {_few(right[first])}.")
    told = [_around(numbers, found[first], right[first], rtol, atol) for numbers in (found[first], right[first])]
    fail(f"{name} returned {told[0]}; expected {told[1]}, for inputs {_describe(cases[first])}.")


def check_no_gradient(function: Callable, case: Case, *, argument: int | str, message: str) -> None:
    """Fail with ``message`` if a gradient reaches an argument, such as the teacher's logits."""
    found = _gradient(function, case, argument)
    if found is not None and found.abs().max() > 0:
        fail(message)


def check_gradient(
    function: Callable, case: Case, *, message: str, argument: int | str = 0, expected: Callable | None = None
) -> None:
    """Fail with ``message`` if no gradient reaches an argument, such as the student's logits.

    With ``expected`` the gradient is compared, too: part of a loss can be detached and its value stay right.
    """
    found = _gradient(function, case, argument)
    if found is None or not found.abs().max() > 0:
        fail(message)
    if expected is None:
        return
    right = _gradient(expected, case, argument)
    assert right is not None
    if not is_close(as_numbers(found, "the gradient"), as_numbers(right, "the gradient"), rtol=1e-2,
                    atol=1e-3 * float(right.abs().max())):  # fmt: skip
        fail(
            f"{name_of(function)} has the right value and a wrong gradient: somewhere on the way from its first "
            "argument a tensor was detached, made into a number or computed without gradients."
        )


def _gradient(function: Callable, case: Case, argument: int | str) -> Tensor | None:
    args, kwargs = [_copy(value) for value in case.args], {name: _copy(value) for name, value in case.kwargs.items()}
    held: Any = args if isinstance(argument, int) else kwargs
    held[argument].requires_grad_()
    loss = function(*args, **kwargs)
    if type(loss) is not _Tensor or not loss.requires_grad:
        return None
    loss.sum().backward()
    return held[argument].grad


def check_choice(answer: Any, *, right: str, wrong: Mapping[str, str], because: str) -> None:
    """Check the answer to a question with choices.

    Parameters
    ----------
    answer : str
        The learner's letter. ``None`` or ``...`` is the stub's.
    right : str
        The letter that is right.
    wrong : mapping from str to str
        For every other letter, what speaks against it, without giving the answer away.
    because : str
        Printed when the answer is right.

    Raises
    ------
    CheckFailed
        With the reason that belongs to the wrong letter.
    NotImplementedError
        If there is no answer yet.
    """
    if answer is None or answer is ...:
        raise NotImplementedError("this question has no answer yet: put a letter in quotes, such as 'a'.")
    if type(answer) is not str:
        fail(f"an answer is one letter in quotes, such as 'a', got {type(answer).__name__}.")
    letter = str.lower(str.strip(answer))
    if letter in wrong:
        fail(f"({letter}) is not it: {wrong[letter]}")
    if not str.__eq__(letter, right):
        fail(f"the choices are {', '.join(sorted([right, *wrong]))}; {letter[:20]!r} is none of them.")
    passed(f"({right}): {because}")


def check_answers(answers: Any, *questions: Question) -> None:
    """Check the answers to several questions with choices.

    Parameters
    ----------
    answers : list of str
        A letter for each question.
    *questions : Question
        In the same order.

    Raises
    ------
    CheckFailed
        With the reason that belongs to the first wrong letter.
    NotImplementedError
        If there is no answer yet.
    """
    if type(answers) not in (list, tuple) or len(answers) != len(questions):
        example = str(["a", "b", "c", "d"][: len(questions)])
        fail(f"answers must be a list of {len(questions)} letters in quotes, such as {example}.")
    for answer, question in zip(answers, questions, strict=True):
        check_choice(answer, right=question.right, wrong=question.wrong, because=question.because)


def passed(verified: str) -> None:
    """Say what a pass has verified."""
    print(f"Passed. {verified}")


def fail(message: str) -> NoReturn:
    """Raise with a message that teaches."""
    raise CheckFailed(message)


def as_number(value: Any, what: str) -> float:
    """Return a result as a plain float.

    Parameters
    ----------
    value : Tensor with one element, int, float or NumPy number
    what : str
        Its name in a message, such as ``"my_kd_loss"``.

    Raises
    ------
    CheckFailed
        If it is something else.
    """
    numbers = as_numbers(value, what)
    if numbers.size != 1:
        fail(f"{what} must be one number, got {numbers.size} of them, shape {numbers.shape}. Is a mean or sum missing?")
    return float(numbers.reshape(-1)[0])


def as_numbers(value: Any, what: str) -> np.ndarray:
    """Return a result as float64 numbers; a list, tuple or dict of results one after another.

    Raises
    ------
    CheckFailed
        If something in it is not a number or a tensor of numbers.
    """
    kind = type(value)
    if kind is _Tensor or kind is nn.Parameter:
        if value.layout is not torch.strided:
            fail(f"{what} must be an ordinary (dense) tensor.")
        return np.asarray(_tolist(_detach(value)), dtype=np.float64)
    if kind in (bool, int, float) or (isinstance(value, np.number | np.bool_) and kind.__module__ == "numpy"):
        try:
            return np.asarray(float(value), dtype=np.float64)
        except (OverflowError, TypeError):  # an integer beyond 1e308 (Python refuses to print it), a complex number
            fail(f"{what} must be a real number of ordinary size, got {value if kind is not int else 'a huge int'}.")
    if kind is np.ndarray and value.dtype.kind in "biuf":
        return np.array(value, dtype=np.float64)
    if kind is dict:
        value, kind = [dict.__getitem__(value, key) for key in sorted(value)], list
    if kind in (list, tuple):
        parts = [as_numbers(part, what) for part in value]
        return np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0)
    fail(f"{what} must be a tensor or a number, got {'None' if value is None else kind.__name__}. Is a return missing?")


def is_close(found: np.ndarray, expected: np.ndarray, *, rtol: float = RTOL, atol: float = ATOL) -> bool:
    """Whether two results agree in shape and numbers; compared as plain floats."""
    if found.shape != expected.shape:
        return False
    pairs = zip(found.reshape(-1).tolist(), expected.reshape(-1).tolist(), strict=True)
    return all(abs(a - b) <= atol + rtol * abs(b) if math.isfinite(a) else False for a, b in pairs)


def name_of(function: Any) -> str:
    """Return a function's name for messages."""
    name = getattr(function, "__name__", None)
    return name if type(name) is str else type(function).__name__


def _run(function: Callable, case: Case, name: str) -> np.ndarray:
    args, kwargs = [_copy(value) for value in case.args], {key: _copy(value) for key, value in case.kwargs.items()}
    if not callable(function):
        fail(f"a function is needed, got {type(function).__name__}.")
    try:
        value = function(*args, **kwargs)
    except NotImplementedError:
        raise
    except Exception as error:
        raise CheckFailed(f"{name} raised {type(error).__name__}: {error}. Inputs: {_describe(case)}.") from error
    if inspect.isgenerator(value):
        fail(f"{name} must return its result, it yields.")
    for before, after in zip([*case.args, *case.kwargs.values()], [*args, *kwargs.values()], strict=True):
        if type(before) is _Tensor and not torch.equal(before, after):
            fail(f"{name} changes its input in place. Whoever called it still needs those numbers.")
    return as_numbers(value, name)


def _agrees(wrong: Callable, cases: Sequence[Case], found: Iterable[np.ndarray], rtol: float, atol: float) -> bool:
    try:
        values = [as_numbers(case.call(wrong), "a slip") for case in cases]
    except Exception:  # a slip that cannot run on these inputs explains nothing
        return False
    # What is not finite explains what is not finite, so that a NaN has its message too.
    pairs = [(np.nan_to_num(a), np.nan_to_num(b)) for a, b in zip(found, values, strict=True)]
    same_holes = all(
        (np.isfinite(a) == np.isfinite(b)).all() for a, b in zip(found, values, strict=True) if a.shape == b.shape
    )
    return same_holes and all(is_close(a, b, rtol=rtol, atol=atol) for a, b in pairs)


def _copy(value: Any) -> Any:
    if type(value) is _Tensor:
        return _detach(value).clone()
    if type(value) in (list, tuple):
        return type(value)(_copy(part) for part in value)
    if type(value) is dict:
        return {key: _copy(part) for key, part in value.items()}
    return value


def _describe(case: Case) -> str:
    named = [*enumerate(case.args), *case.kwargs.items()]
    return ", ".join((f"{key}=" if type(key) is str else "") + _described(value) for key, value in named)


def _described(value: Any) -> str:
    if type(value) is _Tensor:
        return f"tensor {tuple(value.shape)}"
    if type(value) in (list, tuple) and any(type(part) is _Tensor for part in value):
        return f"{type(value).__name__} of {', '.join(map(_described, value))}"
    return f"{value:.4g}" if type(value) is float else " ".join(repr(value).split())[:60]


def _around(numbers: np.ndarray, found: np.ndarray, right: np.ndarray, rtol: float, atol: float) -> str:
    """Return the first numbers, or those from the first on that is wrong."""
    pairs = zip(found.reshape(-1), right.reshape(-1), strict=True)
    wrong = next(i for i, (a, b) in enumerate(pairs) if not is_close(a, b, rtol=rtol, atol=atol))
    return _few(numbers) if wrong < 4 else f"{_few(numbers.reshape(-1)[wrong:])} from place {wrong} on"


def _few(numbers: np.ndarray) -> str:
    flat = numbers.reshape(-1)
    text = ", ".join(f"{number:.5g}" for number in flat[:4])
    return text if flat.size == 1 else f"[{text}{', …' if flat.size > 4 else ''}]"
