"""Arguments as a mistake would change them: a softmax too many, T on one side, the last row left out. All exercises.

If a learner's result is the right one for changed arguments, the change is the mistake.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F

from .cases import Case
from .evidence import float_inputs, lists_of, on_each, replaced

_Tensor = torch.Tensor
Changed = Iterator[tuple[str, list[Case]]]

ON_VALUES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "A softmax of {} is taken before it is used: one softmax too many.": lambda x: x.softmax(dim=-1),
    "The logarithm of a softmax of {} is taken before it is used.": lambda x: x.log_softmax(dim=-1),
    "The sigmoid of {} is taken before it is used.": torch.sigmoid,
    "The rows of {} are scaled to length 1 first, which changes what is compared.": lambda x: F.normalize(x, dim=-1),
    "The columns of {} are scaled to length 1, dim=0. What belongs together is a row.": lambda x: F.normalize(x, dim=0),
    "The mean of each row of {} is subtracted first.": lambda x: x - x.mean(dim=-1, keepdim=True),
    "The mean of each column of {} is subtracted first.": lambda x: x - x.mean(dim=0, keepdim=True),
    "Absolute values of {} are taken first: its signs are lost.": torch.abs,
    "Squares of {} are taken first.": torch.square,
    "Negative numbers in {} are replaced by 0.": torch.relu,
    "The sign of {} is turned round.": torch.neg,
    "The rows of {} are in reversed order.": lambda x: x.flip(0),
    "The rows of {} are moved by one: row 1 meets row 2.": lambda x: x.roll(1, dims=0),
    "The columns of {} are in reversed order.": lambda x: x.flip(-1),
    "{} is transposed: rows and columns are exchanged.": lambda x: x.transpose(-1, -2) if x.dim() > 1 else x,
    "Only the largest number of each row of {} is used, as 0 and 1: how sure it is gets lost.": (
        lambda x: F.one_hot(x.argmax(dim=-1), x.shape[-1]).to(x.dtype)
    ),
    "{} has no effect.": torch.zeros_like,
}
ON_ROWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "The last row (image) of the batch is left out.": lambda x: x[:-1],
    "The first row (image) of the batch is left out.": lambda x: x[1:],
    "Only the first row (image) of the batch counts: does a return stand inside the loop?": lambda x: x[:1],
    "Only the last row (image) of the batch counts: were the others overwritten?": lambda x: x[-1:],
}
ON_LISTS: dict[str, Callable[[list], list]] = {
    "Only the first element of {} counts: does a return stand inside the loop?": lambda x: x[:1],
    "Only the last element of {} counts: were the others overwritten in the loop?": lambda x: x[-1:],
    "The last element of {} is left out.": lambda x: x[:-1],
    "The first element of {} is left out.": lambda x: x[1:],
    "{} is taken in reversed order.": lambda x: x[::-1],
}


def changes_of(cases: Sequence[Case], names: Sequence[str]) -> Changed:
    """Yield mistakes in one sentence each, with the cases as the mistake changes them."""
    yield from _swapped(cases, names)
    yield from _temperature(cases, names)
    yield from _weights(cases)
    yield from _lists(cases, names)
    yield from _lists_of_numbers(cases, names)
    yield from _rows(cases)
    yield from _values(cases, names)
    yield from _labels(cases, names)


def _called(key: int | str, names: Sequence[str]) -> str:
    return f"`{names[key] if isinstance(key, int) else key}`"


def _each(cases: Sequence[Case], change: Callable[[Case], dict[int | str, Any]]) -> list[Case]:
    return [replaced(case, change(case)) for case in cases]


def _swapped(cases: Sequence[Case], names: Sequence[str]) -> Changed:
    for one, other in combinations(float_inputs(cases[0]), 2):
        if all(_alike(float_inputs(case)[one], float_inputs(case)[other]) for case in cases):
            message = f"{_called(one, names)} and {_called(other, names)} stand in each other's place."

            def exchanged(case: Case, a: int | str = one, b: int | str = other) -> dict[int | str, Any]:
                values = float_inputs(case)
                return {a: values[b], b: values[a]}

            yield message, _each(cases, exchanged)


def _alike(one: Any, other: Any) -> bool:
    if type(one) is _Tensor and type(other) is _Tensor:
        return one.shape == other.shape
    return type(one) is not _Tensor and type(other) is not _Tensor


def _temperature(cases: Sequence[Case], names: Sequence[str]) -> Changed:
    if any(type(case.kwargs.get("temperature")) is not float for case in cases):
        return
    # On the inputs, so that a factor such as T² in front of the loss stays as it is …
    for message, power in (("T has no effect on the softmax.", 1), ("T multiplies where it has to divide.", 2)):
        yield message, _scaled_all(cases, power)
    yield "T divides twice.", _scaled_all(cases, -1)
    # … and on T itself, for what does not depend on the scale of its inputs.
    yield "T has no effect.", _with(cases, "temperature", lambda t: 1.0)
    yield "T multiplies where it has to divide.", _with(cases, "temperature", lambda t: 1 / t)
    yield "The square of T is used.", _with(cases, "temperature", lambda t: t**2)
    yield "The root of T is used.", _with(cases, "temperature", lambda t: t**0.5)
    if len(float_inputs(cases[0])) < 2:
        return
    for key in float_inputs(cases[0]):
        name = _called(key, names)
        yield f"{name} is not divided by T, the other side is.", _scaled(cases, key, 1)
        yield f"{name} is divided by T twice.", _scaled(cases, key, -1)
        yield f"{name} is multiplied by T where it has to be divided.", _scaled(cases, key, 2)


def _scaled_all(cases: Sequence[Case], power: int) -> list[Case]:
    changed = list(cases)
    for key in float_inputs(cases[0]):
        changed = _scaled(changed, key, power)
    return changed


def _scaled(cases: Sequence[Case], key: int | str, power: int) -> list[Case]:
    """Return the cases with one argument multiplied by a power of T."""
    factors = [case.kwargs["temperature"] ** power for case in cases]
    values = [on_each(float_inputs(case)[key], lambda x, f=f: x * f) for case, f in zip(cases, factors, strict=True)]  # type: ignore[misc]
    return [replaced(case, {key: value}) for case, value in zip(cases, values, strict=True)]


def _weights(cases: Sequence[Case]) -> Changed:
    for name, value in cases[0].kwargs.items():
        if type(value) is not float or name == "temperature":
            continue
        symbol = {"alpha": "α"}.get(name, f"`{name}`")
        if all(0 < case.kwargs[name] < 1 for case in cases):
            message = f"{symbol} and 1 − {symbol} are exchanged."
            yield message, _with(cases, name, lambda value: 1 - value)
            yield f"{symbol} has no effect: a half stands in its place.", _with(cases, name, lambda value: 0.5)
        yield f"{symbol} has no effect: 1 stands in its place.", _with(cases, name, lambda value: 1.0)
        yield f"{symbol} has no effect: 0 stands in its place.", _with(cases, name, lambda value: 0.0)
        yield f"1 divided by {symbol} is used.", _with(cases, name, lambda value: 1 / value)
        yield f"The square of {symbol} is used.", _with(cases, name, lambda value: value**2)


def _lists(cases: Sequence[Case], names: Sequence[str]) -> Changed:
    keys = list(lists_of(cases[0]))
    groups = [keys] if len(keys) < 2 else [keys, *([key] for key in keys)]
    for group in filter(None, groups):
        called = " and ".join(_called(key, names) for key in group)
        for message, change in ON_LISTS.items():

            def changed(case: Case, group: list = group, change: Callable = change) -> dict[int | str, Any]:
                return {key: change(lists_of(case)[key]) for key in group}

            yield message.format(called), _each(cases, changed)


def _lists_of_numbers(cases: Sequence[Case], names: Sequence[str]) -> Changed:
    keys = [
        place for place, value in enumerate(cases[0].args) if type(value) is list and set(map(type, value)) == {float}
    ]
    if not keys:
        return
    called = " and ".join(_called(key, names) for key in keys)
    for message, change in ON_LISTS.items():

        def changed(case: Case, change: Callable = change) -> dict[int | str, Any]:
            return {key: change(case.args[key]) for key in keys}

        yield message.format(called), _each(cases, changed)


def _rows(cases: Sequence[Case]) -> Changed:
    for message, change in ON_ROWS.items():

        def changed(case: Case, change: Callable = change) -> dict[int | str, Any]:
            first = next(iter(float_inputs(case).values()), None)
            if first is None:
                return {}
            count = len(first if type(first) is _Tensor else first[0])
            named: dict[int | str, Any] = dict(enumerate(case.args))
            return {
                key: on_each(value, change)
                for key, value in named.items()
                if (type(value) is _Tensor and value.dim() > 0 and len(value) == count)
                or (key in lists_of(case) and all(len(part) == count for part in value))
            }

        yield message, _each(cases, changed)


def _values(cases: Sequence[Case], names: Sequence[str]) -> Changed:
    keys = list(float_inputs(cases[0]))
    groups = [[key] for key in keys] + ([keys] if len(keys) > 1 else [])
    for message, change in ON_VALUES.items():
        for group in groups:
            called = " and ".join(_called(key, names) for key in group)

            def changed(case: Case, group: list = group, change: Callable = change) -> dict[int | str, Any]:
                return {key: on_each(float_inputs(case)[key], change) for key in group}

            try:
                yield message.format(called), _each(cases, changed)
            except (RuntimeError, IndexError):  # a change that these shapes do not allow
                continue


def _labels(cases: Sequence[Case], names: Sequence[str]) -> Changed:
    for place, value in enumerate(cases[0].args):
        if type(value) is _Tensor and value.dtype == torch.int64 and value.dim() == 1:
            name = _called(place, names)
            yield f"{name} are moved by one: row 1 gets the label of row 2.", _with(cases, place, lambda y: y.roll(1))
            yield f"{name} are in reversed order.", _with(cases, place, lambda y: y.flip(0))
            yield f"{name} have no effect.", _with(cases, place, torch.zeros_like)


def _with(cases: Sequence[Case], key: int | str, change: Callable[[Any], Any]) -> list[Case]:
    """Return the cases with one argument changed."""
    return [
        replaced(case, {key: change(case.args[key] if isinstance(key, int) else case.kwargs[key])}) for case in cases
    ]
