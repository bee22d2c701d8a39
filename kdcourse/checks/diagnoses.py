"""Mistakes that can be recognised in any exercise, without a slip of its own. All exercises.

A diagnosis looks at what came and at what was needed, and returns what is probably wrong, or nothing. Each has to
explain every case, so that none accuses by chance.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from .cases import Case, describe
from .changes import changes_of
from .evidence import Evidence, factor_between, float_inputs, lists_of, on_each, replaced, scales_of
from .weights import wrong_weight

MEANING = {
    "T": "T is the temperature",
    "B": "B is the number of rows (images)",
    "K": "K is the size of the last dimension, such as the number of classes",
    "n": "n is the length of the list",
    "C": "C is the number of channels",
    "H·W": "H·W is the number of positions",
}
REASONS = {
    ("T²", False): "Is the factor T² missing? Without it a term fades as T grows.",
    ("T²", True): "Is T² there twice, or where it does not belong?",
    ("T", False): "A factor T is missing, or T divides once too often.",
    ("T", True): "There is a factor T too many, or T divides once too little.",
    ("B", True): "A sum over the batch came where a mean is asked for: twice the images would mean twice the step.",
    ("B", False): "It was divided by the number of rows once too often.",
    ("K", False): "A mean over all numbers divides by K as well, where a sum over the last dimension is asked for.",
    ("K", True): "A sum over the last dimension came where a mean is asked for.",
    ("B·K", True): "Everything was summed; is a mean missing?",
    ("n", False): "A mean over the list came where a sum is asked for.",
    ("n", True): "A sum over the list came where a mean is asked for.",
    ("n/(n − 1)", False): "It was divided by n; one less than that is asked for.",
    ("n/(n − 1)", True): "It was divided by n − 1; n is asked for.",
    ("B/(B − 1)", True): "It was divided by one less than the number of rows.",
    ("100", True): "Percent came where a share between 0 and 1 is asked for.",
    ("ln 2", False): "The logarithm to base 2 is 1/ln 2 times the natural one; is one taken for the other?",
    ("2", False): "Is there a mean of two parts where their sum is asked for, or a factor ½ too many?",
    ("2", True): "Is there a sum of two parts where their mean is asked for, or a factor 2 too many?",
}


def explain(evidence: Evidence, *, terms: tuple[str, str] | None = None, probing: bool = True) -> str:
    """Return what is probably wrong with a learner's results, or nothing.

    Parameters
    ----------
    evidence : Evidence
        Results of the learner's function and of the right one.
    terms : (str, str), optional
        Names of the terms that have the weights α and 1 - α, such as ``("the teacher's term", "the labels' term")``.
    probing : bool
        Whether the functions may be called again, with other arguments. Not where a call trains something.
    """
    simple: list[Callable[[Evidence], str]] = [not_finite, _shape, _order, _same_but_changed, _factor, _rows]
    for diagnosis in simple:
        message = diagnosis(evidence)
        if message:
            return message
    if not probing or evidence.numbers < 3:
        return ""
    return _other_arguments(evidence) or wrong_weight(evidence, terms) or _without_effect(evidence) or _offset(evidence)


def factor_in_words(name: str, larger: bool) -> str:
    """Return a sentence about a factor between what came and what was needed."""
    if name == "−1":
        return "The sign is turned round."
    symbol = next((MEANING[part] for part in MEANING if name.startswith(part)), "")
    meaning = f" ({symbol})" if symbol and not name.startswith("T") else ""
    reason = REASONS.get((name, larger), "")
    return f"The result is {name} times too {'large' if larger else 'small'}{meaning}. {reason}".strip()


def not_finite(e: Evidence) -> str:
    """Return where a result is NaN or infinite, or nothing."""
    holes = [place for place, numbers in enumerate(e.found) if not np.isfinite(numbers).all()]
    if not holes:
        return ""
    numbers = e.found[holes[0]]
    kind = "NaN" if np.isnan(numbers).any() else "an infinite number"
    share = "" if numbers.size == 1 else f" in {int((~np.isfinite(numbers)).sum())} of {numbers.size} places"
    likely = (
        "NaN comes from 0/0, 0 · log 0, inf - inf, or a mean over nothing"
        if kind == "NaN"
        else "It comes from a division by 0, the logarithm of 0, or the exponential of a large number"
    )
    inputs = describe(e.cases[holes[0]], e.names)
    return f"{e.name} returned a number that is not finite: {kind}{share}, for inputs {inputs}. {likely}."


def _shape(e: Evidence) -> str:
    place = next((i for i, (a, b) in enumerate(zip(e.found, e.expected, strict=True)) if a.shape != b.shape), None)
    if place is None:
        return ""
    found, needed = e.found[place], e.expected[place]
    told = f"{e.name} returned numbers of shape {found.shape}; {needed.shape} is needed"
    if found.size == needed.size and np.allclose(found.reshape(-1), needed.reshape(-1), rtol=e.rtol, atol=e.atol):
        return f"{told}. The numbers are right: a dimension of size 1 too many or too few, or a missing flatten."
    if found.ndim == 2 and found.T.shape == needed.shape and np.allclose(found.T, needed, rtol=e.rtol, atol=e.atol):
        return f"{told}. The numbers are right, but rows and columns are exchanged (transposed)."
    if needed.size == 1 and found.size > 1:
        what = "One number for each row came" if found.ndim == 1 else "Many numbers came"
        for name, value in (("mean", found.mean()), ("sum", found.sum())):
            if np.isclose(value, needed.reshape(-1)[0], rtol=e.rtol, atol=e.atol):
                return f"{told}. {what} where one is needed: their {name} is missing."
        return f"{told}. {what} where one is needed: is a mean or a sum missing?"
    if found.size == 1 and needed.size > 1:
        return f"{told}. One number came for all; one each is needed. Was a mean or sum taken over too much?"
    if found.ndim == needed.ndim == 1:
        more, asked = found.size - needed.size, describe(e.cases[place], e.names)
        start = " The others are right." if _same_start(found, needed) else ""
        much = f"{abs(more)} too {'many' if more > 0 else 'few'}"
        return f"{e.name} returned {found.size} numbers; {needed.size} are needed, so {much}, for {asked}.{start}"
    return f"{told}. Which dimension is summed, averaged or normalised?"


def _same_start(found: np.ndarray, needed: np.ndarray) -> bool:
    shorter = min(found.size, needed.size)
    return shorter > 0 and bool(np.allclose(found[:shorter], needed[:shorter]))


def _order(e: Evidence) -> str:
    orders: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "The numbers are right, but in reversed order.": lambda x: x.reshape(-1)[::-1].reshape(x.shape),
        "Rows and columns are exchanged: the result is transposed.": lambda x: x.T if x.ndim == 2 else x,
        "The rows come in reversed order.": lambda x: x[::-1] if x.ndim > 1 else x,
        "The columns come in reversed order.": lambda x: x[..., ::-1] if x.ndim > 1 else x,
    }
    for message, turned in orders.items():
        if e.explains([turned(needed) for needed in e.expected]):
            return message
    pairs = list(zip(e.found, e.expected, strict=True))
    distinct = all(needed.size < 2 or len(np.unique(needed)) > needed.size / 2 for _, needed in pairs)
    ordered = [(np.sort(a.reshape(-1)), np.sort(b.reshape(-1))) for a, b in pairs]
    if distinct and all(a.size > 1 and np.allclose(a, b, rtol=e.rtol, atol=e.atol) for a, b in ordered):
        return "These are the right numbers in another order: which of them belongs to which row, or to which input?"
    return ""


def _softmax(x: np.ndarray) -> np.ndarray:
    return torch.from_numpy(x).softmax(dim=-1).numpy() if x.ndim else x


def _same_but_changed(e: Evidence) -> str:
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "A softmax was taken once too often: these numbers are a softmax of the right ones.": _softmax,
        "These are absolute values: the signs are lost.": np.abs,
        "This is 1 minus what is asked for.": lambda x: 1 - x,
        "This is the square of what is asked for: is a root missing?": np.square,
        "This is the square root of what is asked for.": lambda x: np.sqrt(np.abs(x)),
        "This is the logarithm of what is asked for.": lambda x: np.log(np.abs(x)),
        "This is e to the power of what is asked for: is a logarithm missing?": lambda x: np.exp(np.minimum(x, 300)),
        "This is 1 divided by what is asked for: the fraction is upside down.": lambda x: 1 / x,
        "The numbers were rounded to whole ones.": np.round,
        "Negative numbers were replaced by 0.": lambda x: np.maximum(x, 0),
        "The mean was subtracted from each row.": lambda x: x - x.mean(axis=-1, keepdims=True) if x.ndim else x,
        "Each row was divided by its sum.": lambda x: x / x.sum(axis=-1, keepdims=True) if x.ndim else x,
        "The result is 0 whatever comes in.": lambda x: 0 * x,
    }
    with np.errstate(all="ignore"):
        for message, change in changes.items():
            if e.explains([change(needed) for needed in e.expected]):
                return message
    return ""


def _factor(e: Evidence) -> str:
    scales = scales_of(e.cases) if e.numbers > 2 else {"−1": [-1.0] * len(e.cases)}
    named = factor_between(e.found, e.expected, scales, e.rtol)
    if named:
        return factor_in_words(*named)
    return ""


def _rows(e: Evidence) -> str:
    if any(needed.ndim != 2 or not np.allclose(needed.sum(axis=1), 1, atol=1e-3) for needed in e.expected):
        return ""
    if all(np.allclose(found.sum(axis=1), 1, atol=1e-3) for found in e.found):
        return ""
    if all(np.allclose(found.sum(axis=0), 1, atol=1e-3) for found in e.found):
        return "The columns sum to 1, and the rows do not: the softmax runs over dim=0. A row belongs to one image."
    return "The rows no longer sum to 1, so they are no probabilities: was something done to them after the softmax?"


def _other_arguments(e: Evidence) -> str:
    """What came is what the right function gives for changed arguments, perhaps up to a factor."""
    scales = {name: values for name, values in scales_of(e.cases).items() if name in ("T²", "T", "B", "K", "n", "−1")}
    for message, cases in changes_of(e.cases, e.names):
        values = e.results_of(e.right, cases)
        if values is None or [v.shape for v in values] != [v.shape for v in e.found] or e.close(values, e.expected):
            continue
        if e.close(e.found, values):
            return message
        factor = factor_between(e.found, values, scales, e.rtol)
        if factor:
            return f"{message} And besides: {factor_in_words(*factor)}"
    return ""


def _without_effect(e: Evidence) -> str:
    """Arguments that the learner's function takes no notice of, and the right one does."""
    silent, heard = [], False
    for name, cases in _disturbed(e):
        needed, found = e.results_of(e.right, cases), e.results_of(e.function, cases)
        if needed is None or found is None or e.close(needed, e.expected):
            continue
        pairs = zip(found, e.found, strict=True)
        if all(one.shape == other.shape and np.allclose(one, other, rtol=1e-6, atol=0) for one, other in pairs):
            silent.append(f"`{name}`")
        else:
            heard = True
    if silent and not heard:
        return f"{e.name} always returns the same: none of what comes in has an effect."
    which = " and ".join(silent[:3])
    return f"{which} {'have' if len(silent) > 1 else 'has'} no effect on what {e.name} returns." if silent else ""


def _disturbed(e: Evidence) -> Iterator[tuple[str, list[Case]]]:
    def disturb(x: torch.Tensor) -> torch.Tensor:
        size = 0.7 * x.abs().mean()
        return x + size * torch.sin(torch.arange(float(x.numel()), dtype=x.dtype)).view(x.shape)

    first = e.cases[0]
    for key in float_inputs(first):
        name = e.names[key] if isinstance(key, int) else key
        if key in lists_of(first):
            for place in range(min(len(lists_of(case)[key]) for case in e.cases)):
                for label, position in ((f"{name}[{place}]", place), (f"{name}[-{place + 1}]", -place - 1)):
                    yield label, [_with_part(case, key, position, disturb) for case in e.cases]
        else:
            yield name, [replaced(case, {key: on_each(float_inputs(case)[key], disturb)}) for case in e.cases]
    for place, value in enumerate(first.args):
        if type(value) is torch.Tensor and value.dtype == torch.int64:
            yield e.names[place], [replaced(case, {place: case.args[place].roll(1)}) for case in e.cases]
    for key, value in first.kwargs.items():
        if type(value) is float:
            yield key, [replaced(case, {key: 0.7 * case.kwargs[key]}) for case in e.cases]


def _with_part(case: Case, key: int | str, position: int, change: Callable) -> Case:
    parts = list(lists_of(case)[key])
    parts[position] = change(parts[position])
    return replaced(case, {key: type(lists_of(case)[key])(parts)})


def _offset(e: Evidence) -> str:
    if any(found.shape != needed.shape for found, needed in zip(e.found, e.expected, strict=True)):
        return ""
    offsets = np.concatenate([(a - b).reshape(-1) for a, b in zip(e.found, e.expected, strict=True)])
    if offsets.size > 2 and np.allclose(offsets, offsets[0], rtol=1e-3, atol=1e-5) and abs(offsets[0]) > 1e-4:
        much = "more" if offsets[0] > 0 else "less"
        return f"Every result is {abs(offsets[0]):.4g} {much} than it should be: something constant was added."
    return ""
