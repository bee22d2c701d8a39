"""Wrong answers of exercise 10: a change of a gain, and a plan for a comparison."""

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np

from ...results import mean_interval, t_quantile
from . import Slip

Numbers = Sequence[float]
Interval = tuple[float, float, float]


def _of(change: Callable[..., np.ndarray]) -> Callable[..., Interval]:
    """Return a function that takes the interval of what ``change`` makes of the four lists."""
    return lambda a, b, c, d: mean_interval(change(*map(np.asarray, (a, b, c, d))).tolist())


def _around(half: Callable[[np.ndarray, np.ndarray], float]) -> Callable[..., Interval]:
    """Return a function with the right mean and another half width, from the gains of both conditions."""

    def wrong(a: Numbers, b: Numbers, c: Numbers, d: Numbers) -> Interval:
        few, many = np.subtract(a, b), np.subtract(c, d)
        mean, width = float((few - many).mean()), half(few, many)
        return mean, mean - width, mean + width

    return wrong


def _of_both(ends: Callable[[Interval, Interval], Interval]) -> Callable[..., Interval]:
    """Return a function that combines the intervals of both gains."""

    def wrong(a: Numbers, b: Numbers, c: Numbers, d: Numbers) -> Interval:
        gains = (np.subtract(one, other).tolist() for one, other in ((a, b), (c, d)))
        few, many = map(mean_interval, gains)
        return ends(few, many)

    return wrong


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _unpaired(few: np.ndarray, many: np.ndarray) -> float:
    return math.hypot(_standard_error(few), _standard_error(many))


def _median(a: Numbers, b: Numbers, c: Numbers, d: Numbers) -> Interval:
    differences = np.subtract(a, b) - np.subtract(c, d)
    mean, low, high = mean_interval(differences.tolist())
    middle = float(np.median(differences))
    return middle, middle - (mean - low), middle + (high - mean)


CHANGES = {
    "sign": Slip(
        "The sign is turned round: take the gain with few labels minus the gain with many, and each gain as taught "
        "minus plain.",
        _of(lambda a, b, c, d: (c - d) - (a - b)),
    ),
    "one gain": Slip(
        "This is one of the two gains. Whether the gain has changed is another question: subtract one from the other, "
        "seed by seed.",
        _of(lambda a, b, c, d: a - b),
        _of(lambda a, b, c, d: c - d),
        _of(lambda a, b, c, d: b - a),
        _of(lambda a, b, c, d: d - c),
    ),
    "no baselines": Slip(
        "The plain students are left out. That compares few labels with many, and everybody is worse with few.",
        _of(lambda a, b, c, d: a - c),
        _of(lambda a, b, c, d: c - a),
    ),
    "only the baselines": Slip(
        "The taught students are left out.",
        _of(lambda a, b, c, d: b - d),
        _of(lambda a, b, c, d: d - b),
    ),
    "sum": Slip(
        "The gains were added or averaged. Asked for is how they differ.",
        _of(lambda a, b, c, d: (a - b) + (c - d)),
        _of(lambda a, b, c, d: ((a - b) + (c - d)) / 2),
    ),
    "shares": Slip(
        "The gains are taken as shares of the plain student's errors. Asked for are errors.",
        _of(lambda a, b, c, d: a / b - c / d),
        _of(lambda a, b, c, d: (a - b) / b - (c - d) / d),
        _of(lambda a, b, c, d: 100 * ((a - b) / b - (c - d) / d)),
    ),
    "ratio": Slip(
        "This is a ratio of the gains. It has no sensible interval when the second gain is near 0: subtract.",
        _of(lambda a, b, c, d: (a - b) / (c - d)),
    ),
    "ends subtracted": Slip(
        "Two intervals were taken and their ends subtracted. That is no interval of the difference: subtract the gains "
        "within each seed first.",
        _of_both(lambda f, m: (f[0] - m[0], f[1] - m[2], f[2] - m[1])),
        _of_both(lambda f, m: (f[0] - m[0], f[1] - m[1], f[2] - m[2])),
        _of_both(lambda f, m: (f[0] - m[0], min(f[1] - m[1], f[2] - m[2]), max(f[1] - m[1], f[2] - m[2]))),
    ),
    "unpaired": Slip(
        "The two gains were treated as if they had nothing to do with each other. The seeds are the same: subtract "
        "within each seed, and what both share falls out.",
        _around(lambda f, m: t_quantile(0.95, len(f) - 1) * _unpaired(f, m)),
        _around(lambda f, m: t_quantile(0.95, 2 * len(f) - 2) * _unpaired(f, m)),
        _around(lambda f, m: 1.96 * _unpaired(f, m)),
    ),
    "1.96": Slip(
        "1.96 is for many seeds. With few, Student's t is needed, with n - 1 degrees of freedom; mean_interval has it.",
        _around(lambda f, m: 1.96 * _standard_error(f - m)),
        _around(lambda f, m: 2 * _standard_error(f - m)),
    ),
    "other t": Slip(
        "The degrees of freedom are those of another number of values: there is one difference of gains for each seed.",
        _around(lambda f, m: t_quantile(0.95, 2 * len(f) - 2) * _standard_error(f - m)),
        _around(lambda f, m: t_quantile(0.95, 2 * len(f) - 1) * _standard_error(f - m)),
        _around(lambda f, m: t_quantile(0.95, 4 * len(f) - 1) * _standard_error(f - m)),
        _around(lambda f, m: t_quantile(0.95, len(f)) * _standard_error(f - m)),
    ),
    "single runs": Slip(
        "The interval is that of single seeds, not of their mean: the deviation is to be divided by √n.",
        _around(lambda f, m: t_quantile(0.95, len(f) - 1) * float((f - m).std(ddof=1))),
    ),
    "standard error": Slip(
        "The ends are one standard error or deviation away. A 95 % interval needs Student's t on top.",
        _around(lambda f, m: _standard_error(f - m)),
        _around(lambda f, m: float((f - m).std(ddof=1))),
    ),
    "ddof=0": Slip(
        "The deviation is divided by n where n - 1 is needed.",
        _around(lambda f, m: t_quantile(0.95, len(f) - 1) * float((f - m).std()) / math.sqrt(len(f))),
    ),
    "sorted": Slip(
        "The lists were sorted, so that a run no longer meets the run of its own seed.",
        _of(lambda a, b, c, d: (np.sort(a) - np.sort(b)) - (np.sort(c) - np.sort(d))),
        _of(lambda a, b, c, d: np.sort(a - b) - np.sort(c - d)),
    ),
    "absolute": Slip(
        "Absolute values were taken: a gain in one seed and a loss in another are not the same.",
        _of(lambda a, b, c, d: abs(a - b) - abs(c - d)),
        _of(lambda a, b, c, d: abs((a - b) - (c - d))),
    ),
    "one after the other": Slip(
        "The lists were put one behind the other. Within a seed there are four runs, and one difference of gains.",
        lambda a, b, c, d: mean_interval([x - y for x, y in zip([*a, *c], [*b, *d], strict=True)]),
        lambda a, b, c, d: mean_interval([x - y for x, y in zip([*a, *b], [*c, *d], strict=True)]),
    ),
    "median": Slip("The median was taken. Asked for is the mean.", _median),
}


def _plan(
    half: Callable[[list[float], int], float] = lambda d, n: t_quantile(0.95, n - 1) * statistics.stdev(d) / n**0.5,
    affordable: Callable[[float, float], int] = lambda seconds, budget: int(budget // seconds),
    short: Callable[[int, int], tuple] = lambda pairs, needed: (pairs, False),
    enough: Callable[[int, int], tuple] = lambda pairs, needed: (needed, True),
    first: int = 2,
    beyond: bool = False,
) -> Callable[..., tuple]:
    """Return a plan that differs from the right one in a piece; ``beyond`` looks for n beyond what can be paid for."""

    def wrong(differences: Numbers, *, smallest_effect: float, seconds: float, budget: float) -> tuple:
        values, pairs = list(differences), affordable(seconds, budget)
        last = max(pairs, 300 if beyond else 0)
        for needed in range(first, last + 1):
            if half(values, needed) < smallest_effect:
                return enough(pairs, needed) if needed <= pairs else short(pairs, needed)
        return short(pairs, last)

    return wrong


def _mean(values: list[float]) -> float:
    return abs(statistics.fmean(values))


PLANS = {
    "1.96": Slip(
        "1.96 is for many pairs. With few, Student's t with n - 1 degrees of freedom is larger, and more pairs are "
        "needed.",
        _plan(lambda d, n: 1.96 * statistics.stdev(d) / n**0.5),
        _plan(lambda d, n: 2 * statistics.stdev(d) / n**0.5),
    ),
    "t of the pilot": Slip(
        "The t is that of the pilot's number of pairs. The plan's own number decides: its t is smaller for a larger n.",
        _plan(lambda d, n: t_quantile(0.95, len(d) - 1) * statistics.stdev(d) / n**0.5),
    ),
    "degrees of freedom": Slip(
        "The degrees of freedom of n pairs are n - 1.",
        _plan(lambda d, n: t_quantile(0.95, n) * statistics.stdev(d) / n**0.5),
    ),
    "one off": Slip(
        "Either the degrees of freedom or the root is one off, so a pair too many is planned: n pairs have n - 1 "
        "degrees of freedom, and the deviation of their mean is smaller by √n.",
        _plan(lambda d, n: t_quantile(0.95, n - 2) * statistics.stdev(d) / n**0.5, first=3),
        _plan(lambda d, n: t_quantile(0.95, n - 1) * statistics.stdev(d) / (n - 1) ** 0.5),
    ),
    "root of the pilot": Slip(
        "The deviation is divided by the root of the pilot's number of pairs, so planning more pairs hardly helps. "
        "Divide by the root of the number that is planned.",
        _plan(lambda d, n: t_quantile(0.95, n - 1) * statistics.stdev(d) / len(d) ** 0.5),
    ),
    "n for √n": Slip(
        "The deviation is divided by n. The deviation of a mean is smaller by √n: four times the pairs halve it.",
        _plan(lambda d, n: t_quantile(0.95, n - 1) * statistics.stdev(d) / n),
    ),
    "single runs": Slip(
        "The interval is that of single differences, which no number of pairs makes small. Divide the deviation by √n.",
        _plan(lambda d, n: t_quantile(0.95, n - 1) * statistics.stdev(d)),
    ),
    "variance": Slip(
        "The variance stands where the standard deviation belongs.",
        _plan(lambda d, n: t_quantile(0.95, n - 1) * statistics.variance(d) / n**0.5),
        _plan(lambda d, n: t_quantile(0.95, n - 1) * statistics.variance(d) / n),
    ),
    "population": Slip(
        "The deviation is divided by n where n - 1 is needed: the mean came from the same numbers.",
        _plan(lambda d, n: t_quantile(0.95, n - 1) * statistics.pstdev(d) / n**0.5),
    ),
    "whole width": Slip(
        "The whole width of the interval is compared with the smallest effect. Half of it, on each side of the mean, "
        "must be smaller.",
        _plan(lambda d, n: 2 * t_quantile(0.95, n - 1) * statistics.stdev(d) / n**0.5),
    ),
    "half of the half": Slip(
        "The half width is halved once more: t · s / √n is half of the interval's width already.",
        _plan(lambda d, n: 0.5 * t_quantile(0.95, n - 1) * statistics.stdev(d) / n**0.5),
    ),
    "without t": Slip(
        "The standard error alone is compared. A 95 % interval needs Student's t on top.",
        _plan(lambda d, n: statistics.stdev(d) / n**0.5),
    ),
    "90 %": Slip(
        "This is the t of another level: 95 % inside means t_quantile(0.95, …).",
        _plan(lambda d, n: t_quantile(0.90, n - 1) * statistics.stdev(d) / n**0.5),
        _plan(lambda d, n: t_quantile(0.975, n - 1) * statistics.stdev(d) / n**0.5),
    ),
    "the mean": Slip(
        "The mean of the pilot is used. How many pairs are needed depends on the spread of the differences; the mean "
        "is what one wants to find out.",
        _plan(lambda d, n: abs(_mean(d) - t_quantile(0.95, n - 1) * statistics.stdev(d) / n**0.5)),
        _plan(lambda d, n: _mean(d) + t_quantile(0.95, n - 1) * statistics.stdev(d) / n**0.5),
        _plan(lambda d, n: t_quantile(0.95, n - 1) * _mean(d) / n**0.5),
    ),
    "budget ignored": Slip(
        "The budget is not used. If the pairs that are needed cost more, return those that can be paid for, and False.",
        _plan(short=lambda pairs, needed: (needed, True), beyond=True),
        _plan(short=lambda pairs, needed: (needed, False), beyond=True),
    ),
    "all is spent": Slip(
        "The whole budget is spent, although fewer pairs are enough. Return the smallest number that is.",
        _plan(enough=lambda pairs, needed: (pairs, True)),
    ),
    "rounded up": Slip(
        "The number of pairs that can be paid for is rounded up: part of a pair is no pair.",
        _plan(affordable=lambda seconds, budget: math.ceil(budget / seconds)),
        _plan(affordable=lambda seconds, budget: round(budget / seconds)),
    ),
    "students": Slip(
        "`seconds` is the time of a pair, both students together. Neither double nor halve it.",
        _plan(affordable=lambda seconds, budget: int(budget // (2 * seconds))),
        _plan(affordable=lambda seconds, budget: int(2 * budget // seconds)),
    ),
    "the pilot counts": Slip(
        "The pilot's pairs were added or taken off. They have shaped the plan: the comparison is made with new pairs.",
        lambda d, **knobs: (max(0, _plan()(d, **knobs)[0] - len(d)), _plan()(d, **knobs)[1]),
        lambda d, **knobs: (_plan()(d, **knobs)[0] + len(d), _plan()(d, **knobs)[1]),
    ),
    "nothing if short": Slip(
        "If the budget is too small, return the number of pairs that can be paid for, with False: a wide interval is "
        "still an answer.",
        _plan(short=lambda pairs, needed: (0, False)),
        _plan(short=lambda pairs, needed: (-1, False)),
    ),
    "the flag": Slip(
        "The second value is the wrong way round: True means that the pairs are enough.",
        _plan(enough=lambda pairs, needed: (needed, False), short=lambda pairs, needed: (pairs, True)),
        _plan(short=lambda pairs, needed: (pairs, True)),
        _plan(enough=lambda pairs, needed: (needed, False)),
    ),
    "one too many": Slip(
        "The number is one off. The first n whose half width is below the smallest effect is the answer.",
        _plan(enough=lambda pairs, needed: (needed + 1, True)),
        _plan(enough=lambda pairs, needed: (needed - 1, True)),
    ),
    "swapped": Slip(
        "The two values are exchanged: first the number of pairs, then whether they are enough.",
        lambda d, **knobs: _plan()(d, **knobs)[::-1],
    ),
}
