"""What is known about a wrong answer: the inputs, what came, what was needed. All exercises."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from .cases import Case
from .converting import as_numbers, is_close

_Tensor = torch.Tensor


class Evidence(NamedTuple):
    """Results of a learner's function and of the right one, on the same cases.

    Attributes
    ----------
    name : str
        Name of the learner's function.
    function, right : callable
        The learner's function and the right one.
    cases : sequence of Case
        Inputs on which both were called.
    found, expected : list of array
        Results by case, as plain numbers.
    names : list of str
        Names of the positional arguments.
    rtol, atol : float
        Tolerances.
    """

    name: str
    function: Callable
    right: Callable
    cases: Sequence[Case]
    found: list[np.ndarray]
    expected: list[np.ndarray]
    names: list[str]
    rtol: float
    atol: float

    @property
    def numbers(self) -> int:
        """How many numbers can speak for an explanation."""
        return sum(array.size for array in self.expected)

    def explains(self, values: Sequence[np.ndarray]) -> bool:
        """Whether these results are the learner's, and differ from the right ones."""
        return self.close(self.found, values) and not self.close(self.expected, values)

    def close(self, some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
        """Whether two lists of results agree, in every case."""
        pairs = zip(some, others, strict=True)
        return all(is_close(one, other, rtol=self.rtol, atol=self.atol) for one, other in pairs)

    def results_of(self, function: Callable, cases: Sequence[Case] | None = None) -> list[np.ndarray] | None:
        """Call a function on every case; None if it raises an error or returns no numbers."""
        try:
            return [as_numbers(case.call(function), "it") for case in (cases or self.cases)]
        except Exception:  # what cannot run on these inputs explains nothing
            return None

    def first_wrong(self) -> int:
        """Return the number of the first case whose result is wrong."""
        pairs = zip(self.found, self.expected, strict=True)
        return next(i for i, pair in enumerate(pairs) if not is_close(*pair, rtol=self.rtol, atol=self.atol))


def arguments_of(case: Case) -> dict[int | str, Any]:
    """Return all arguments of a case, by place or name."""
    arguments: dict[int | str, Any] = dict(enumerate(case.args))
    arguments.update(case.kwargs)
    return arguments


def float_inputs(case: Case) -> dict[int | str, Any]:
    """Return the arguments that are tensors of real numbers, or lists of them, by place or name."""
    return {key: value for key, value in arguments_of(case).items() if _is_float(value) or _is_list_of_floats(value)}


def lists_of(case: Case) -> dict[int | str, list]:
    """Return the arguments that are lists or tuples of tensors."""
    return {key: value for key, value in float_inputs(case).items() if type(value) in (list, tuple)}


def replaced(case: Case, changes: Mapping[int | str, Any]) -> Case:
    """Return a case with some of its arguments replaced."""
    args = tuple(changes.get(place, value) for place, value in enumerate(case.args))
    return Case(args, {name: changes.get(name, value) for name, value in case.kwargs.items()})


def on_each(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply a function to a tensor, or to every tensor of a list."""
    return change(value) if type(value) is _Tensor else type(value)(change(part) for part in value)


def scales_of(cases: Sequence[Case]) -> dict[str, list[float]]:
    """Return the quantities by which a result may be too large or too small: a name, and its value in each case."""
    by_case = [dict(_scales(case)) for case in cases]
    common = [name for name in by_case[0] if all(name in scales for scales in by_case)]
    return {name: [scales[name] for scales in by_case] for name in common}


def factor_between(
    found: Sequence[np.ndarray], base: Sequence[np.ndarray], scales: Mapping[str, Sequence[float]], rtol: float
) -> tuple[str, bool] | None:
    """Return the name of the factor between two lists of results, and whether the first is the larger one."""
    if any(a.shape != b.shape or not np.isfinite(b).all() for a, b in zip(found, base, strict=True)):
        return None
    sizes = [float(np.abs(b).max(initial=0)) for b in base]
    if not any(size > 1e-9 for size in sizes):
        return None
    for name, values in scales.items():
        if all(abs(value - 1) < 1e-9 for value in values):
            continue
        for larger in (True, False):
            factors = [value if larger else 1 / value for value in values]
            if all(
                np.abs(a - factor * b).max(initial=0) <= rtol * abs(factor) * size + 1e-9
                for a, b, factor, size in zip(found, base, factors, sizes, strict=True)
            ):
                return name, larger
    return None


def _is_float(value: Any) -> bool:
    return type(value) is _Tensor and value.is_floating_point() and value.dim() > 0


def _is_list_of_floats(value: Any) -> bool:
    return type(value) in (list, tuple) and len(value) > 0 and all(map(_is_float, value))


def _scales(case: Case) -> Iterator[tuple[str, float]]:
    yield "−1", -1.0
    temperature = case.kwargs.get("temperature")
    if type(temperature) is float and temperature > 0:
        yield from (("T²", temperature**2), ("T", temperature), ("T⁴", temperature**4), ("T³", temperature**3))
    inputs = float_inputs(case)
    lists = [len(value) for value in inputs.values() if type(value) in (list, tuple)]
    if lists and lists[0] > 1:
        n = float(lists[0])
        yield from (("n", n), ("n − 1", n - 1), ("n/(n − 1)", n / (n - 1)))
    tensors = [value if type(value) is _Tensor else value[0] for value in inputs.values()]
    if tensors:
        yield from _scales_of_shape(tensors[0].shape)
    yield from (("2", 2.0), ("100", 100.0), ("1000", 1000.0), ("ln 2", math.log(2)), ("4", 4.0), ("3", 3.0))
    for name, value in case.kwargs.items():
        if type(value) in (int, float) and name not in ("temperature", "seed") and value > 0:
            symbol = {"alpha": "α"}.get(name, f"`{name}`")
            yield symbol, float(value)
            if 0 < value < 1:
                yield f"(1 − {symbol})", 1 - value


def _scales_of_shape(shape: torch.Size) -> Iterator[tuple[str, float]]:
    rows, last = float(shape[0]), float(shape[-1])
    yield "B", rows
    if len(shape) > 1:
        yield from (("K", last), ("B·K", rows * last))
    if len(shape) > 2:
        positions = float(math.prod(shape[2:]))
        yield from (("C", float(shape[1])), ("H·W", positions), ("B·H·W", rows * positions))
    yield from (("B²", rows**2), ("B³", rows**3), ("√B", math.sqrt(rows)), ("√K", math.sqrt(last)))
    if rows > 1:
        yield from (("B − 1", rows - 1), ("B/(B − 1)", rows / (rows - 1)))
    if rows > 2:
        yield "B²/((B − 1)(B − 2))", rows**2 / ((rows - 1) * (rows - 2))
