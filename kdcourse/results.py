"""How sure a difference is, and the one rule that turns an interval into a word. Chapters 02 to 10, exercises, ledger.

``mean_interval`` says where a mean difference can well lie, ``verdict`` what that shows. Recorded results are read with
``kdcourse.records``.
"""

import math
from collections.abc import Sequence


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float, float]:
    r"""Return the mean and the ends of its t interval.

    .. math:: \bar d \pm t_{n-1} \, s_d / \sqrt n

    Parameters
    ----------
    values : sequence of float
        At least two, independent of one another, such as differences between two methods, seed by seed.
    level : float
        Coverage, in (0, 1).

    Raises
    ------
    ValueError
        If there are fewer than two values, or the level is not in (0, 1).

    References
    ----------
    Student (1908), "The probable error of a mean", Biometrika 6.

    Examples
    --------
    >>> [round(number, 2) for number in mean_interval([-12, -7, -9, -20])]
    [-12.0, -21.09, -2.91]
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least two values, got {n}: one value says nothing about the spread.")
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = t_quantile(level, n - 1) * math.sqrt(variance / n)
    return mean, mean - half, mean + half


def verdict(low: float, high: float, *, lower_is_better: bool = True, smallest_effect: float = 0.0) -> str:
    """Say what the interval of a difference, method minus baseline, shows about the method.

    Parameters
    ----------
    low, high : float
        Ends of the interval.
    lower_is_better : bool
        True for errors and losses, False for accuracies.
    smallest_effect : float
        Smallest effect of interest, not negative, decided before the run. Where the whole interval is closer to 0 than
        this, the difference is known and too small to matter.

    Returns
    -------
    str
        ``"better"`` or ``"worse"`` where the interval leaves out 0; ``"too small to matter"`` where it lies between
        minus and plus the smallest effect; else ``"unclear"``. Unclear is not equal.

    Raises
    ------
    ValueError
        If the ends are not in order, or the smallest effect is negative.

    Examples
    --------
    >>> verdict(-21.1, -2.9), verdict(-9, 4), verdict(-9, 4, smallest_effect=10)
    ('better', 'unclear', 'too small to matter')
    """
    if not low <= high or not smallest_effect >= 0:
        raise ValueError(
            f"an interval needs low <= high and a smallest effect that is not negative, got [{low}, {high}] and "
            f"{smallest_effect}."
        )
    if -smallest_effect < low and high < smallest_effect:
        return "too small to matter"
    if low <= 0 <= high:
        return "unclear"
    return "better" if (high < 0) == lower_is_better else "worse"


def t_quantile(level: float, degrees: int) -> float:
    """Return the t such that Student's distribution with ``degrees`` degrees of freedom lies in ±t at ``level``.

    Examples
    --------
    >>> round(t_quantile(0.95, 4), 4)
    2.7764
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}: it is the share of intervals that hold the truth.")
    low, high = 0.0, 1.0
    while _t_inside(high, degrees) < level:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _t_inside(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def _t_inside(t: float, degrees: int) -> float:
    """P(|T| < t). For a whole number of degrees it is a finite sum (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
