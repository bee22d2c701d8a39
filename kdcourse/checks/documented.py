"""What the docstrings of all checks have in common, written once. All exercises."""

from collections.abc import Callable
from typing import TypeVar

Check = TypeVar("Check", bound=Callable)

_SEED = """
    seed : int, optional
        Seed for the random cases; by default each call draws new ones.
"""
_NAMED = """
    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    NotImplementedError
        If the function is still the stub.
    """
_ANSWERS = """
    Parameters
    ----------
    answers : list of str
        A letter for each question.

    Raises
    ------
    CheckFailed
        With what speaks against the first wrong letter.
    NotImplementedError
        If an answer is missing.
    """
_VERDICTS = """
    Parameters
    ----------
    verdicts : dict
        ``"better"``, ``"worse"`` or ``"unclear"`` for each comparison.
    errors : mapping from str to list of float
        Test errors of every arm by seed, in the same order.

    Raises
    ------
    CheckFailed
        With what the interval of the first wrong verdict says.
    NotImplementedError
        If a verdict is missing.
    """


def takes_function(check: Check) -> Check:
    """Add to the docstring of a check of a function its argument ``seed`` and the errors."""
    return _with(check, _SEED + _NAMED)


def takes_answers(check: Check) -> Check:
    """Add to the docstring of a check of questions its argument ``answers`` and the errors."""
    return _with(check, "\n" + _ANSWERS)


def takes_verdicts(check: Check) -> Check:
    """Add to the docstring of a check of verdicts its arguments and the errors."""
    return _with(check, "\n" + _VERDICTS)


def _with(check: Check, text: str) -> Check:
    if check.__doc__:  # python -OO leaves none
        check.__doc__ = check.__doc__.rstrip() + text
    return check
