# mypy: disable-error-code="no-untyped-def"
"""Wrong answers of exercise 13b: three ways to train, and paired differences."""

import math
from collections.abc import Callable
from statistics import fmean, stdev

import torch.nn.functional as F
from torch import Tensor

from ...results import mean_interval, t_quantile
from . import Slip


def _ce(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def _kl(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    log_q, log_p = ((z / temperature).log_softmax(dim=1) for z in (logits, teacher_logits.detach()))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def three_ways(logits, labels, teacher_logits, *, way, temperature, alpha):
    """Return the loss of one of three ways to train."""
    if way == "plain":
        return _ce(logits, labels)
    if way == "smoothed":
        return _ce(logits, labels, 0.1)
    return alpha * _kl(logits, teacher_logits, temperature) + (1 - alpha) * _ce(logits, labels)


def _changed(
    *,
    plain: Callable = _ce,
    smoothed: Callable = lambda z, y: _ce(z, y, 0.1),
    distilled: Callable = lambda z, y, t, T, a: a * _kl(z, t, T) + (1 - a) * _ce(z, y),
) -> Callable:
    """Return the three ways with some of them replaced."""

    def ways(logits, labels, teacher_logits, *, way, temperature, alpha):
        if way == "distilled":
            return distilled(logits, labels, teacher_logits, temperature, alpha)
        return plain(logits, labels) if way == "plain" else smoothed(logits, labels)

    return ways


def _attached(z: Tensor, t: Tensor, temperature: float) -> Tensor:
    log_q, log_p = ((x / temperature).log_softmax(dim=1) for x in (z, t))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


WAYS = {
    "smoothed labels everywhere": Slip(
        "The plain way has smoothed labels, too. Then one of the two baselines is missing.",
        _changed(plain=lambda z, y: _ce(z, y, 0.1)),
    ),
    "no smoothing": Slip(
        "The smoothed way is the plain one: label_smoothing=0.1 is missing.", _changed(smoothed=_ce)
    ),
    "smoothed beside the teacher": Slip(
        "The distilled way smooths the labels as well. A gain could then be that of smoothing.",
        _changed(distilled=lambda z, y, t, T, a: a * _kl(z, t, T) + (1 - a) * _ce(z, y, 0.1)),
    ),
    "no T squared": Slip(
        "T² is missing: the teacher's gradients are about T² times too small, so α does not mean what it says.",
        _changed(distilled=lambda z, y, t, T, a: a * _kl(z, t, T) / T**2 + (1 - a) * _ce(z, y)),
    ),
    "T once": Slip(
        "The factor is T and not T².",
        _changed(distilled=lambda z, y, t, T, a: a * _kl(z, t, T) / T + (1 - a) * _ce(z, y)),
    ),
    "T squared twice": Slip(
        "T² is there twice: kd_loss has it inside already.",
        _changed(distilled=lambda z, y, t, T, a: a * T**2 * _kl(z, t, T) + (1 - a) * _ce(z, y)),
    ),
    "T unused": Slip(
        "The temperature is not used: the probabilities are those of T = 1.",
        _changed(distilled=lambda z, y, t, T, a: a * _kl(z, t, 1.0) + (1 - a) * _ce(z, y)),
    ),
    "T in the labels' term": Slip(
        "The cross-entropy with the labels is softened, too. Labels meet the plain logits.",
        _changed(distilled=lambda z, y, t, T, a: a * _kl(z, t, T) + (1 - a) * _ce(z / T, y)),
    ),
    "weights exchanged": Slip(
        "α and 1 - α are exchanged: α is the teacher's share.",
        _changed(distilled=lambda z, y, t, T, a: (1 - a) * _kl(z, t, T) + a * _ce(z, y)),
    ),
    "labels not weighted": Slip(
        "The labels' term has no weight: 1 - α is missing.",
        _changed(distilled=lambda z, y, t, T, a: a * _kl(z, t, T) + _ce(z, y)),
    ),
    "teacher not weighted": Slip(
        "The teacher's term has no weight: α is missing.",
        _changed(distilled=lambda z, y, t, T, a: _kl(z, t, T) + (1 - a) * _ce(z, y)),
    ),
    "teacher alone": Slip(
        "The labels' term is missing in the distilled way.",
        _changed(distilled=lambda z, y, t, T, a: a * _kl(z, t, T)),
        _changed(distilled=lambda z, y, t, T, a: _kl(z, t, T)),
    ),
    "exchanged": Slip(
        "Student and teacher are exchanged in the divergence: the student comes first in kd_loss.",
        _changed(distilled=lambda z, y, t, T, a: a * _attached(t, z, T) + (1 - a) * _ce(z, y)),
    ),
    "hard answers": Slip(
        "The teacher's answers were turned into labels. Its second choice is what it has to tell.",
        _changed(distilled=lambda z, y, t, T, a: a * _ce(z, t.argmax(dim=1)) + (1 - a) * _ce(z, y)),
    ),
    "cross-entropy with soft targets": Slip(
        "The teacher's entropy is still in it: this is the cross-entropy with soft targets, not the divergence. A "
        "perfect student would not pay 0.",
        _changed(
            distilled=lambda z, y, t, T, a: a * T**2 * F.cross_entropy(z / T, (t / T).softmax(dim=1))
            + (1 - a) * _ce(z, y)
        ),
    ),
    "distilled everywhere": Slip(
        "The way is not looked at: all three have the same loss.",
        _changed(
            plain=lambda z, y: _ce(z, y),
            smoothed=_ce,
            distilled=lambda z, y, t, T, a: _ce(z, y),
        ),
        lambda z, y, t, *, way, temperature, alpha: alpha * _kl(z, t, temperature) + (1 - alpha) * _ce(z, y),
    ),
    "sum": Slip(
        "The batch is added up. Take the mean, else the step depends on the size of the batch.",
        lambda z, y, t, **knobs: len(z) * three_ways(z, y, t, **knobs),
    ),
}  # fmt: skip
WAY_GRADIENTS = {
    "teacher learns": Slip(
        "A gradient reaches the teacher's logits. They are a fixed target.",
        _changed(distilled=lambda z, y, t, T, a: a * _attached(z, t, T) + (1 - a) * _ce(z, y)),
    ),
}

BASELINES = ("plain", "smoothed")


def pairs(errors):
    """Return mean, low and high of the paired differences for each baseline."""
    return {
        other: mean_interval([one - base for one, base in zip(errors["distilled"], errors[other], strict=True)])
        for other in BASELINES
    }


def _differences(errors: dict, other: str) -> list:
    return [one - base for one, base in zip(errors["distilled"], errors[other], strict=True)]


def _with_half(half: Callable) -> Callable:
    """Return paired differences whose interval has another half width."""

    def wrong(errors):
        found = {}
        for other in BASELINES:
            mean, low, high = mean_interval(_differences(errors, other))
            width = half(errors, other, (high - low) / 2)
            found[other] = mean, mean - width, mean + width
        return found

    return wrong


def _reordered(order: Callable) -> Callable:
    return lambda errors: {other: order(*triple) for other, triple in pairs(errors).items()}


def _standard_error(errors: dict, other: str) -> float:
    return stdev(_differences(errors, other)) / math.sqrt(len(errors[other]))


def _unpaired(errors: dict, other: str, half: float) -> float:
    n = len(errors[other])
    together = math.sqrt((stdev(errors["distilled"]) ** 2 + stdev(errors[other]) ** 2) / n)
    return t_quantile(0.95, n - 1) * together


PAIRS = {
    "turned round": Slip(
        "Baseline minus distilled. Asked for is distilled minus baseline, so that fewer errors are below 0.",
        lambda errors: {
            other: mean_interval([-difference for difference in _differences(errors, other)]) for other in BASELINES
        },
    ),
    "sorted": Slip(
        "The errors are sorted first, so that seeds are no longer paired with themselves.",
        lambda errors: {
            other: mean_interval(
                [a - b for a, b in zip(sorted(errors["distilled"]), sorted(errors[other]), strict=True)]
            )
            for other in BASELINES
        },
    ),
    "not paired": Slip(
        "The interval is that of two independent groups. The seeds are pairs: take differences first, and their "
        "interval.",
        _with_half(_unpaired),
        _with_half(
            lambda errors, other, half: _unpaired(errors, other, half) / t_quantile(0.95, len(errors[other]) - 1)
        ),
    ),
    "standard deviation": Slip(
        "The ends are one standard deviation away. That says how seeds differ, and not how sure the mean is.",
        _with_half(lambda errors, other, half: stdev(_differences(errors, other))),
        _with_half(lambda errors, other, half: 2 * stdev(_differences(errors, other))),
        _with_half(lambda errors, other, half: 1.96 * stdev(_differences(errors, other))),
    ),
    "standard error": Slip(
        "The ends are one or two standard errors away. With few seeds the t distribution needs more: mean_interval "
        "does that.",
        _with_half(lambda errors, other, half: _standard_error(errors, other)),
        _with_half(lambda errors, other, half: 2 * _standard_error(errors, other)),
        _with_half(lambda errors, other, half: 1.96 * _standard_error(errors, other)),
    ),
    "smallest and largest": Slip(
        "The ends are the smallest and the largest difference. An interval of the mean is asked for.",
        lambda errors: {
            other: (fmean(d), min(d), max(d)) for other in BASELINES for d in [_differences(errors, other)]
        },
    ),
    "order": Slip(
        "Mean, low, high is the order.",
        _reordered(lambda mean, low, high: (low, mean, high)),
        _reordered(lambda mean, low, high: (mean, high, low)),
        _reordered(lambda mean, low, high: (low, high, mean)),
    ),
    "half width": Slip(
        "The ends of the interval are asked for, not how far they are from the mean.",
        _reordered(lambda mean, low, high: (mean, (high - low) / 2, (high - low) / 2)),
        _reordered(lambda mean, low, high: (mean, mean - low, high - mean)),
    ),
    "exchanged baselines": Slip(
        "The two baselines are exchanged.",
        lambda errors: {"plain": pairs(errors)["smoothed"], "smoothed": pairs(errors)["plain"]},
    ),
    "one baseline": Slip(
        "Both entries are measured against the same baseline.",
        lambda errors: dict.fromkeys(BASELINES, pairs(errors)["plain"]),
        lambda errors: dict.fromkeys(BASELINES, pairs(errors)["smoothed"]),
    ),
    "the other pair": Slip(
        "This compares the baselines with each other: the distilled student is the one that is judged.",
        lambda errors: {
            "plain": mean_interval([a - b for a, b in zip(errors["smoothed"], errors["plain"], strict=True)]),
            "smoothed": mean_interval([a - b for a, b in zip(errors["plain"], errors["smoothed"], strict=True)]),
        },
    ),
    "per cent": Slip(
        "The differences are divided by the baseline. Asked for are errors.",
        lambda errors: {
            other: mean_interval(
                [100 * (a - b) / b for a, b in zip(errors["distilled"], errors[other], strict=True)]
            )
            for other in BASELINES
        },
    ),
    "the errors themselves": Slip(
        "This is the interval of the distilled student's errors. Asked for is that of the differences.",
        lambda errors: dict.fromkeys(BASELINES, mean_interval(errors["distilled"])),
        lambda errors: {other: mean_interval(errors[other]) for other in BASELINES},
    ),
}  # fmt: skip
