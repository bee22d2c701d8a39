"""Verdicts on what was measured, against paired intervals: the experiments of all exercises.

A notebook is graded on another machine than it was written on. That machine rounds in another order, so its counts of
errors differ by a few. If an interval ends so close to 0 that this could change the verdict, both words are accepted.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ..results import mean_interval
from ..results import verdict as _verdict_of
from .failures import fail
from .questions import Question, check_choice

BORDER = 0.1  # of the interval's width; other machines were seen to move an end by a twentieth of it


def check_verdict(
    verdict: Any, errors: Sequence[float], baseline_errors: Sequence[float], *, unit: str = " errors", digits: int = 1
) -> None:
    """Check ``"better"``, ``"worse"`` or ``"unclear"`` against the 95 % interval of the paired differences.

    Parameters
    ----------
    verdict : str
        Word that the learner chose.
    errors, baseline_errors : sequence of float
        Errors by seed, in the same order; fewer are better.
    unit : str
        Unit of the errors in messages.
    digits : int
        Decimal places in messages.

    Raises
    ------
    CheckFailed
        With what the interval says.
    """
    _, low, high = mean_interval([float(a) - float(b) for a, b in zip(errors, baseline_errors, strict=True)])
    right, also = _words(low, high)
    interval = f"the interval of the paired difference is [{low:+.{digits}f}, {high:+.{digits}f}]{unit}"
    others = {
        "better": f"{interval}; better for sure would need both ends below 0.",
        "worse": f"{interval}; worse for sure would need both ends above 0.",
        "unclear": f"{interval}, and 0 is not in it: the seeds do decide.",
    }
    if verdict is not None and (type(verdict) is not str or verdict not in others):
        fail(f"a verdict is 'better', 'worse' or 'unclear', got {type(verdict).__name__} {str(verdict)[:20]!r}.")
    because = interval
    if also:
        because += f". It ends so near to 0 that another machine's rounding may decide between {right!r} and {also!r}"
        right = also if verdict == also else right
    wrong = {word: reason for word, reason in others.items() if word not in (right, also)}
    check_choice(verdict, Question(right=right, wrong=wrong, because=because))


def check_verdicts(
    verdicts: Any, errors: Mapping[str, Sequence[float]], pairs: Mapping[Hashable, tuple[str, str]]
) -> None:
    """Check a dict of verdicts, a word for each comparison.

    Parameters
    ----------
    verdicts : dict
        Words that the learner chose.
    errors : mapping from str to sequence of float
        Errors of every arm by seed, in the same order.
    pairs : mapping to (str, str)
        For each key of ``verdicts`` the arm, and what it is measured against.

    Raises
    ------
    CheckFailed
        With what the interval of the first wrong verdict says.
    """
    if type(verdicts) is not dict:
        fail(f"verdicts must be the dict of the cell above, with a word for each, got {type(verdicts).__name__}.")
    for key, (arm, baseline) in pairs.items():
        if key not in verdicts:
            fail(f"there is no verdict for {arm!r} against {baseline!r}: the key {key!r} is missing.")
        check_verdict(verdicts[key], errors[arm], errors[baseline])


def is_near(end: float, low: float, high: float) -> bool:
    """Whether an end of an interval is so near to 0 that another machine may see it on the other side."""
    return abs(end) < BORDER * (high - low)


def _words(low: float, high: float) -> tuple[str, str]:
    """Return the right word, and the one that is accepted too where it is a close thing, or nothing."""
    right = _verdict_of(low, high)
    nearest = min(low, high, key=abs)
    if not is_near(nearest, low, high):
        return right, ""
    if right != "unclear":
        return right, "unclear"
    return right, "better" if nearest == high else "worse"
