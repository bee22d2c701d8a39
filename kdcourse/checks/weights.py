"""Losses of two terms, α times one and 1 - α times the other: which weight is wrong, or which term. All exercises."""

from collections.abc import Iterator, Sequence

import numpy as np

from .cases import Case
from .changes import changes_of
from .evidence import Evidence, replaced, scales_of


def wrong_weight(evidence: Evidence, terms: tuple[str, str] | None) -> str:
    """Return which weight of a loss α·first + (1 - α)·second is wrong, or which of its terms, or nothing.

    Parameters
    ----------
    evidence : Evidence
        Results of the learner's function and of the right one.
    terms : (str, str), optional
        Names of the two terms, such as ``("the teacher's term", "the labels' term")``.
    """
    cases = evidence.cases
    if any(type(case.kwargs.get("alpha")) is not float for case in cases):
        return ""
    first, second = (evidence.results_of(evidence.right, _at(cases, alpha)) for alpha in (1.0, 0.0))
    if first is None or second is None:
        return ""
    alphas = [float(case.kwargs["alpha"]) for case in cases]
    mixed = [a * x + (1 - a) * y for a, x, y in zip(alphas, first, second, strict=True)]
    if not evidence.close(mixed, evidence.expected) or any(
        a.shape != b.shape for a, b in zip(evidence.found, evidence.expected, strict=True)
    ):
        return ""
    names = terms or ("the term that α weights", "the term that 1 − α weights")
    weights = _weights(cases, alphas)
    pair = _pair(evidence, first, second, weights)
    if pair:
        return _in_words(pair, names)
    for message, changed in changes_of(cases, evidence.names):
        for place in (0, 1):
            values = evidence.results_of(evidence.right, _at(changed, 1.0 - place))
            if values is None or any(v.shape != f.shape for v, f in zip(values, evidence.found, strict=True)):
                continue
            if evidence.close(values, (first, second)[place]):
                continue
            pair = _pair(evidence, *((values, second) if place == 0 else (first, values)), weights)
            if pair:
                besides = _in_words(pair, names)
                return f"In {names[place]}: {message[0].lower() + message[1:]} {besides}".strip()
    return ""


def _at(cases: Sequence[Case], alpha: float) -> list[Case]:
    return [replaced(case, {"alpha": alpha}) for case in cases]


def _weights(cases: Sequence[Case], alphas: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the weights that a mistake may give a term: a name, and the value in each case."""
    plain = {
        "α": np.array(alphas), "1 − α": 1 - np.array(alphas), "1": np.ones(len(alphas)), "0": np.zeros(len(alphas)),
        "½": np.full(len(alphas), 0.5), "α²": np.array(alphas) ** 2,
    }  # fmt: skip
    scales = {n: v for n, v in scales_of(cases).items() if n in ("T²", "T", "B", "K", "n", "n − 1", "B·K")}
    weights = dict(plain)
    for name, values in plain.items():
        if name == "0":
            continue
        for scale, sizes in scales.items():
            joined = "" if name == "1" else f"({name}) · " if "−" in name else f"{name} · "
            over = f"({name})" if "−" in name else name
            weights[f"{joined}{scale}"] = values * np.array(sizes)
            weights[f"{over} / {scale}"] = values / np.array(sizes)
    return weights


def _pair(
    e: Evidence, first: Sequence[np.ndarray], second: Sequence[np.ndarray], weights: dict[str, np.ndarray]
) -> tuple[str, str] | None:
    """Return the names of the two weights that explain the results, the likeliest first."""
    names, table = list(weights), np.stack(list(weights.values()))  # (W, cases)
    fits = np.ones((len(names), len(names)), dtype=bool)
    for place, (found, x, y) in enumerate(zip(e.found, first, second, strict=True)):
        flat = [array.reshape(-1) for array in (found, x, y)]
        values = table[:, place][:, None, None] * flat[1] + table[:, place][None, :, None] * flat[2]  # (W, W, numbers)
        close = np.abs(values - flat[0]) <= e.atol + e.rtol * np.abs(flat[0])
        fits &= close.all(axis=2)
    found_pairs = sorted(_likely(fits), key=lambda pair: pair[0] + pair[1])
    return (names[found_pairs[0][0]], names[found_pairs[0][1]]) if found_pairs else None


def _likely(fits: np.ndarray) -> Iterator[tuple[int, int]]:
    yield from ((int(i), int(j)) for i, j in np.argwhere(fits))


def _in_words(pair: tuple[str, str], names: tuple[str, str]) -> str:
    wrong = [
        f"{name} has the weight {weight}, asked for is {right}"
        for weight, right, name in zip(pair, ("α", "1 − α"), names, strict=True)
        if weight != right
    ]
    if pair == ("1 − α", "α"):
        return f"α and 1 − α are exchanged: {names[0]} has to get α."
    for weight, name in zip(pair, names, strict=True):
        if weight == "0":
            return f"{name[0].upper() + name[1:]} is missing."
    sentence = "; ".join(wrong)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""
