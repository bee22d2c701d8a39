"""Outside answers to exercise 10: best practices."""

# ruff: noqa: B905, E501 (answers as learners write them)

import math
import statistics as st

import numpy as np

from kdcourse.checks import check_change_of_gain, check_plan
from kdcourse.results import mean_interval, t_quantile


def change_numpy(taught_few, plain_few, taught_many, plain_many):
    g1 = np.array(taught_few) - np.array(plain_few)
    g2 = np.array(taught_many) - np.array(plain_many)
    d = g1 - g2
    half = t_quantile(0.95, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return d.mean(), d.mean() - half, d.mean() + half


def change_loop(taught_few, plain_few, taught_many, plain_many):
    out = []
    for i in range(len(taught_few)):
        few = taught_few[i] - plain_few[i]
        many = taught_many[i] - plain_many[i]
        out.append(few - many)
    return list(mean_interval(out))


def change_by_hand(taught_few, plain_few, taught_many, plain_many):
    d = [a - b - c + e for a, b, c, e in zip(taught_few, plain_few, taught_many, plain_many)]
    m, s = st.mean(d), st.stdev(d)
    h = t_quantile(0.95, len(d) - 1) * s / math.sqrt(len(d))
    return (m, m - h, m + h)


def gains(a, b, c, d):
    return np.subtract(a, b), np.subtract(c, d)


def with_half(half):
    def f(a, b, c, d):
        x, y = gains(a, b, c, d)
        m, h = float((x - y).mean()), float(half(x, y))
        return m, m - h, m + h

    return f


def through(make):
    return lambda a, b, c, d: mean_interval([float(v) for v in make(*map(np.array, (a, b, c, d)))])


CHANGE = {
    "many minus few": (through(lambda a, b, c, d: c - d - a + b), "sign is turned round"),
    "gain few": (through(lambda a, b, c, d: a - b), "one of the two gains"),
    "gain many": (through(lambda a, b, c, d: c - d), "one of the two gains"),
    "taught only": (through(lambda a, b, c, d: a - c), "plain students are left out"),
    "plain only": (through(lambda a, b, c, d: b - d), "taught students are left out"),
    "added": (through(lambda a, b, c, d: a - b + c - d), "added or averaged"),
    "crossed": (through(lambda a, b, c, d: a - d - (c - b)), ""),
    "relative": (through(lambda a, b, c, d: (a - b) / b - (c - d) / d), "shares of the plain"),
    "percent": (through(lambda a, b, c, d: 100 * (a - b) / b - 100 * (c - d) / d), "shares of the plain"),
    "ratio": (through(lambda a, b, c, d: (a - b) / (c - d)), "ratio of the gains"),
    "abs": (through(lambda a, b, c, d: np.abs(a - b) - np.abs(c - d)), "Absolute values"),
    "normal": (with_half(lambda x, y: 1.96 * (x - y).std(ddof=1) / len(x) ** 0.5), "1.96"),
    "no root": (with_half(lambda x, y: t_quantile(0.95, len(x) - 1) * (x - y).std(ddof=1)), "divided by √n"),
    "population": (with_half(lambda x, y: t_quantile(0.95, len(x) - 1) * np.std(x - y) / len(x) ** 0.5), "n - 1 is needed"),
    "dof n": (with_half(lambda x, y: t_quantile(0.95, len(x)) * (x - y).std(ddof=1) / len(x) ** 0.5), "degrees of freedom"),
    "dof of all": (with_half(lambda x, y: t_quantile(0.95, 2 * len(x) - 2) * (x - y).std(ddof=1) / len(x) ** 0.5), "degrees of freedom"),
    "two sample": (with_half(lambda x, y: t_quantile(0.95, 2 * len(x) - 2) * math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / len(x))), "nothing to do with each other"),
    "welch like": (with_half(lambda x, y: 1.96 * math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / len(x))), "nothing to do with each other"),
    "se": (with_half(lambda x, y: (x - y).std(ddof=1) / len(x) ** 0.5), "standard error"),
    "ends": (lambda a, b, c, d: tuple(np.subtract(mean_interval(np.subtract(a, b).tolist()), mean_interval(np.subtract(c, d).tolist()))), "their ends subtracted"),
    "sorted": (lambda a, b, c, d: change_numpy(sorted(a), sorted(b), sorted(c), sorted(d)), "sorted"),
    "concatenated": (lambda a, b, c, d: mean_interval([x - y for x, y in zip(a + c, b + d)]), "one behind the other"),
    "mean only": (lambda a, b, c, d: float(np.mean(np.subtract(a, b) - np.subtract(c, d))), ""),
    "half width": (lambda a, b, c, d: (change_loop(a, b, c, d)[0], change_loop(a, b, c, d)[2] - change_loop(a, b, c, d)[0]), ""),
    "median": (lambda a, b, c, d: (float(np.median(np.subtract(a, b) - np.subtract(c, d))), *change_loop(a, b, c, d)[1:]), ""),
    "order": (lambda a, b, c, d: (*change_loop(a, b, c, d)[1:], change_loop(a, b, c, d)[0]), ""),
    "range": (lambda a, b, c, d: (float(np.mean(np.subtract(a, b) - np.subtract(c, d))), float(np.min(np.subtract(a, b) - np.subtract(c, d))), float(np.max(np.subtract(a, b) - np.subtract(c, d)))), ""),
}  # fmt: skip


def plan_while(differences, *, smallest_effect, seconds, budget):
    sd = np.array(differences).std(ddof=1)
    most = math.floor(budget / seconds)
    n = 2
    while n <= most:
        if t_quantile(0.95, n - 1) * sd / math.sqrt(n) < smallest_effect:
            return n, True
        n = n + 1
    return most, False


def plan_next(differences, *, smallest_effect, seconds, budget):
    m = int(budget // seconds)
    s = st.stdev(differences)
    n = next((k for k in range(2, m + 1) if t_quantile(0.95, k - 1) * s / k**0.5 < smallest_effect), None)
    return (m, False) if n is None else (n, True)


def plan_needed_first(differences, *, smallest_effect, seconds, budget):
    spread, needed = st.stdev(differences), 2
    while t_quantile(0.95, needed - 1) * spread / math.sqrt(needed) >= smallest_effect and needed < 300:
        needed += 1
    enough = needed * seconds <= budget
    return [needed if enough else int(budget // seconds), enough]


def plan(half=lambda s, n, d: t_quantile(0.95, n - 1) * s / n**0.5, sd=st.stdev, most=lambda b, s: int(b // s), found=lambda n, m: (n, True), short=lambda n, m: (m, False)):  # fmt: skip
    def f(differences, *, smallest_effect, seconds, budget):
        m, s = most(budget, seconds), sd(differences)
        for n in range(2, 120):
            if half(s, n, differences) < smallest_effect:
                return found(n, m) if n <= m else short(n, m)
        return short(n, m)

    return f


PLAN = {
    "normal": (plan(lambda s, n, d: 1.96 * s / n**0.5), "1.96"),
    "two": (plan(lambda s, n, d: 2 * s / n**0.5), "1.96"),
    "pilot t": (plan(lambda s, n, d: t_quantile(0.95, len(d) - 1) * s / n**0.5), "pilot's number of pairs"),
    "pilot root": (plan(lambda s, n, d: t_quantile(0.95, n - 1) * s / len(d) ** 0.5), "root of the pilot"),
    "dof": (plan(lambda s, n, d: t_quantile(0.95, n) * s / n**0.5), "degrees of freedom"),
    "n": (plan(lambda s, n, d: t_quantile(0.95, n - 1) * s / n), "divided by n"),
    "root n-1": (plan(lambda s, n, d: t_quantile(0.95, n - 1) * s / (n - 1) ** 0.5), "one off"),
    "no root": (plan(lambda s, n, d: t_quantile(0.95, n - 1) * s), "single differences"),
    "population": (plan(sd=st.pstdev), "n - 1 is needed"),
    "variance": (plan(sd=st.variance), "variance"),
    "full width": (plan(lambda s, n, d: 2 * t_quantile(0.95, n - 1) * s / n**0.5), "whole width"),
    "se only": (plan(lambda s, n, d: s / n**0.5), "standard error alone"),
    "90": (plan(lambda s, n, d: t_quantile(0.9, n - 1) * s / n**0.5), "another level"),
    "one sided": (plan(lambda s, n, d: t_quantile(0.975, n - 1) * s / n**0.5), "another level"),
    "no budget": (plan(short=lambda n, m: (n, True)), "budget is not used"),
    "no budget but False": (plan(short=lambda n, m: (n, False)), "budget is not used"),
    "all": (plan(found=lambda n, m: (m, True)), "whole budget is spent"),
    "ceil": (plan(most=lambda b, s: math.ceil(b / s)), "rounded up"),
    "two students": (plan(most=lambda b, s: int(b / (2 * s))), "time of a pair"),
    "zero": (plan(short=lambda n, m: (0, False)), "can be paid for"),
    "flag": (plan(found=lambda n, m: (n, False), short=lambda n, m: (m, True)), "wrong way round"),
    "always true": (plan(short=lambda n, m: (m, True)), "wrong way round"),
    "plus one": (plan(found=lambda n, m: (n + 1, True)), "one off"),
    "minus one": (plan(found=lambda n, m: (n - 1, True)), "one off"),
    "swap": (lambda d, **k: tuple(reversed(plan()(d, **k))), "exchanged"),
    "number only": (lambda d, **k: plan()(d, **k)[0], ""),
    "float": (lambda d, **k: (float(plan()(d, **k)[0]), plan()(d, **k)[1]), ""),
    "formula": (lambda d, *, smallest_effect, seconds, budget: (math.ceil((1.96 * st.stdev(d) / smallest_effect) ** 2), True), ""),
    "mean": (plan(sd=lambda d: abs(st.mean(d))), "mean of the pilot"),
}  # fmt: skip

TASKS = {
    "change of gain": (check_change_of_gain, CHANGE, [change_numpy, change_loop, change_by_hand]),
    "plan": (check_plan, PLAN, [plan_while, plan_next, plan_needed_first]),
}
