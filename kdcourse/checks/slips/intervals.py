"""Wrong paired intervals: exercise 02, and every other one in which seeds are compared."""

import math
from collections.abc import Callable

import numpy as np

from ...results import mean_interval, t_quantile
from . import Slip


def _interval_with(half_width: Callable[[np.ndarray, np.ndarray], float]) -> Callable:
    def wrong(errors: list[float], baseline_errors: list[float]) -> tuple[float, float, float]:
        a, b = np.asarray(errors), np.asarray(baseline_errors)
        difference, half = float((a - b).mean()), half_width(a, b)
        return difference, difference - half, difference + half

    return wrong


def _interval_of(differences: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable:
    return lambda errors, baseline_errors: mean_interval(
        differences(np.asarray(errors), np.asarray(baseline_errors)).tolist()
    )


def _around_median(errors: list[float], baseline_errors: list[float]) -> tuple[float, float, float]:
    mean, low, high = mean_interval([a - b for a, b in zip(errors, baseline_errors, strict=True)])
    median = float(np.median(np.asarray(errors) - np.asarray(baseline_errors)))
    return median, median - (mean - low), median + (high - mean)


def _student_t(count: int, level: float = 0.95) -> float:
    return t_quantile(level, count - 1)


def _deviation(a: np.ndarray, b: np.ndarray) -> float:
    return float((a - b).std(ddof=1))


def _fixed_t(count: int) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda a, b: _student_t(count) * _deviation(a, b) / math.sqrt(len(a))


def _half_widths(differences: np.ndarray) -> tuple[float, float]:
    mean, _, high = mean_interval(differences.tolist())
    return high - mean, high - mean


def _mean_and(
    errors: list[float], baseline_errors: list[float], ends: Callable[[np.ndarray], tuple[float, float]]
) -> tuple[float, float, float]:
    differences = np.asarray(errors) - np.asarray(baseline_errors)
    low, high = ends(differences)
    return float(differences.mean()), low, high


INTERVAL = {
    "sign": Slip(
        "The sign is turned round: take method minus baseline, so that fewer errors give a negative number.",
        _interval_of(lambda a, b: b - a),
    ),
    "1.96": Slip(
        "1.96 is for many seeds. With few, the deviation itself is uncertain: Student's t is needed, with n - 1 "
        "degrees of freedom.",
        _interval_with(lambda a, b: 1.96 * _deviation(a, b) / math.sqrt(len(a))),
        _interval_with(lambda a, b: 2 * _deviation(a, b) / math.sqrt(len(a))),
    ),
    "t of fewer seeds": Slip(
        "The t is that of one seed fewer, so the interval is too wide: STUDENT_T goes by the number of seeds already.",
        _interval_with(lambda a, b: _student_t(len(a) - 1) * _deviation(a, b) / math.sqrt(len(a))),
    ),
    "t of more seeds": Slip(
        "The t is that of one seed more, so the interval is too narrow: STUDENT_T goes by the number of seeds already.",
        _interval_with(lambda a, b: _student_t(len(a) + 1) * _deviation(a, b) / math.sqrt(len(a))),
    ),
    "no t": Slip(
        "The ends are one standard error away; a 95 % interval needs Student's t on top.",
        _interval_with(lambda a, b: _deviation(a, b) / math.sqrt(len(a))),
    ),
    "single runs": Slip(
        "The interval is that of single runs, not of their mean: the deviation is to be divided by √n.",
        _interval_with(lambda a, b: _student_t(len(a)) * _deviation(a, b)),
    ),
    "n for √n": Slip(
        "The deviation is divided by n. The deviation of a mean is smaller by √n.",
        _interval_with(lambda a, b: _student_t(len(a)) * _deviation(a, b) / len(a)),
    ),
    "√(n - 1)": Slip(
        "The deviation is divided by √(n - 1). It has n - 1 in it already; the mean is over n.",
        _interval_with(lambda a, b: _student_t(len(a)) * _deviation(a, b) / math.sqrt(len(a) - 1)),
    ),
    "variance": Slip(
        "The variance stands where the standard deviation belongs: its root is missing.",
        _interval_with(lambda a, b: _student_t(len(a)) * _deviation(a, b) ** 2 / math.sqrt(len(a))),
        _interval_with(lambda a, b: _student_t(len(a)) * _deviation(a, b) ** 2 / len(a)),
    ),
    "ddof=0": Slip(
        "The deviation is divided by n where n - 1 is needed (ddof=1, correction=1): the mean came from the same "
        "numbers.",
        _interval_with(lambda a, b: _student_t(len(a)) * float((a - b).std()) / math.sqrt(len(a))),
    ),
    "unpaired": Slip(
        "The two columns were treated as if they had nothing to do with each other. Subtract within each seed first: "
        "what both runs of a seed share then falls out.",
        _interval_with(
            lambda a, b: _student_t(len(a)) * math.sqrt(float(a.var(ddof=1) + b.var(ddof=1))) / math.sqrt(len(a))
        ),
        _interval_with(lambda a, b: _student_t(len(a)) * float(a.std(ddof=1) + b.std(ddof=1)) / math.sqrt(len(a))),
        _interval_with(lambda a, b: _student_t(len(a)) * float(a.std(ddof=1)) / math.sqrt(len(a))),
        _interval_with(lambda a, b: _student_t(len(a)) * float(b.std(ddof=1)) / math.sqrt(len(a))),
        _interval_with(lambda a, b: _student_t(len(a)) * abs(float(a.std(ddof=1) - b.std(ddof=1))) / math.sqrt(len(a))),
    ),
    "sorted": Slip(
        "Both lists were sorted, so that a run no longer meets the run of its own seed.",
        _interval_of(lambda a, b: np.sort(a) - np.sort(b)),
    ),
    "absolute": Slip(
        "Absolute differences were taken: who gains in one seed and loses in another does neither.",
        _interval_of(lambda a, b: np.abs(a - b)),
    ),
    "relative": Slip(
        "The differences are divided by the baseline. Asked for are errors, not shares of them.",
        _interval_of(lambda a, b: (a - b) / b),
        _interval_of(lambda a, b: 100 * (a - b) / b),
    ),
    "median": Slip("The median was taken. Asked for is the mean.", _around_median),
    "range": Slip(
        "These are the smallest and the largest difference, not an interval of their mean.",
        lambda errors, baseline_errors: _mean_and(errors, baseline_errors, lambda d: (d.min(), d.max())),
    ),
    "half widths": Slip(
        "These are half widths of the interval. Asked for are its two ends.",
        lambda errors, baseline_errors: _mean_and(errors, baseline_errors, _half_widths),
    ),
    "one t": Slip(
        "The t is the same for every number of seeds. It depends on how many there are: STUDENT_T[n].",
        *(_interval_with(_fixed_t(count)) for count in range(2, 12)),
    ),
    "whole width": Slip(
        "The interval is twice as wide as it should be: t · s / √n is half of its width, on each side of the mean.",
        _interval_with(lambda a, b: 2 * _student_t(len(a)) * _deviation(a, b) / math.sqrt(len(a))),
    ),
    "90 %": Slip(
        "This is the interval of 90 %: of two sides, each gets 2.5 % at 95 %.",
        _interval_with(lambda a, b: _student_t(len(a), 0.90) * _deviation(a, b) / math.sqrt(len(a))),
    ),
}
