"""Random inputs on which a learner's function is tried, and what became of them. All exercises."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from .failures import name_of

_Tensor, _detach, _equal = torch.Tensor, torch.Tensor.detach, torch.equal


class Case(NamedTuple):
    """Arguments for one call of the learner's function."""

    args: tuple = ()
    kwargs: Mapping[str, Any] = {}

    def copied(self) -> "Case":
        """Return copies of the arguments, so that what a function does to them stays with it."""
        return Case(tuple(map(copy_of, self.args)), {name: copy_of(value) for name, value in self.kwargs.items()})

    def call(self, function: Callable) -> Any:
        """Call a function with copies of the arguments."""
        args, kwargs = self.copied()
        return function(*args, **kwargs)


def new_generator(seed: int | None) -> np.random.Generator:
    """Return a separate generator: fresh numbers without a seed, and the learner's random state untouched."""
    return np.random.default_rng(seed)


def random_tensor(generator: np.random.Generator, *shape: int, scale: float = 1.0) -> torch.Tensor:
    """Return a float32 tensor of normal numbers times ``scale``."""
    return torch.from_numpy((scale * generator.standard_normal(shape)).astype(np.float32))


def random_labels(generator: np.random.Generator, count: int, classes: int) -> torch.Tensor:
    """Return ``count`` labels from 0 to ``classes`` - 1, int64."""
    return torch.from_numpy(generator.integers(0, classes, size=count))


def random_sizes(generator: np.random.Generator, *ranges: tuple[int, int]) -> list[int]:
    """Return a random size for each range, its end excluded; no two of them equal, so that axes can be told apart."""
    while True:
        sizes = [int(generator.integers(low, high)) for low, high in ranges]
        if len(set(sizes)) == len(sizes):
            return sizes


def seeded_cases(seed: int | None, count: int, **knobs: Any) -> list[Case]:
    """Return cases that hold a seed of their own, from which a small problem is built."""
    return [Case((), {"seed": int(number), **knobs}) for number in new_generator(seed).integers(1, 10_000, size=count)]


def copy_of(value: Any) -> Any:
    """Return a copy of a tensor, of a table, or of a list, tuple or dict of them; anything else as it is."""
    if type(value) is _Tensor:
        return _detach(value).clone()
    if type(value) in (list, tuple):
        return type(value)(copy_of(part) for part in value)
    if type(value) is dict:
        return {key: copy_of(part) for key, part in value.items()}
    return value.copy() if isinstance(value, pd.DataFrame | np.ndarray) else value


def argument_names(function: Callable, case: Case) -> list[str]:
    """Return the names of a case's positional arguments, as the function calls them."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [parameter.name for parameter in parameters if parameter.kind <= parameter.POSITIONAL_OR_KEYWORD]
    fallback = [f"argument {place + 1}" for place in range(len(case.args))]
    return [*named[: len(case.args)], *fallback[len(named) :]]


def what_changed(before: Any, after: Any, name: str) -> str:
    """Return what a function did to an argument, as a clause such as "reverses the list `layers`", or nothing."""
    if type(before) is _Tensor:
        same = type(after) is _Tensor and before.shape == after.shape and _equal(before, _detach(after))
        return "" if same or bool(before.isnan().any()) else f"changes the tensor `{name}` in place"
    if isinstance(before, pd.DataFrame):
        return "" if before.equals(after) else f"changes the table `{name}` in place"
    if isinstance(before, np.ndarray):
        return "" if np.array_equal(before, after, equal_nan=True) else f"changes the array `{name}` in place"
    if type(before) is dict:
        if list(before) != list(after):
            return f"changes the keys of the dict `{name}`"
        return next(filter(None, (what_changed(before[key], after[key], f"{name}[{key!r}]") for key in before)), "")
    if type(before) in (int, float, str, bool):
        return "" if type(before) is type(after) and before == after else f"changes `{name}`"
    if type(before) not in (list, tuple):
        return ""
    if len(before) != len(after):
        return f"makes the list `{name}` {'longer' if len(after) > len(before) else 'shorter'}"
    pairs = zip(before, after, strict=True)
    parts = [what_changed(one, other, f"{name}[{place}]") for place, (one, other) in enumerate(pairs)]
    if type(before) is list and any(parts):
        if not any(what_changed(one, other, name) for one, other in zip(before, reversed(after), strict=True)):
            return f"reverses the list `{name}`"
        if all(any(not what_changed(one, other, name) for one in before) for other in after):
            return f"changes the order of the list `{name}`"
    return next(filter(None, parts), "")


def describe(case: Case, names: list[str]) -> str:
    """Return the arguments of a case in words: shapes of tensors, and everything else as it is."""
    named = [*zip(names, case.args, strict=True), *case.kwargs.items()]
    return ", ".join(f"{name}={_described(value)}" for name, value in named)


def written_out(case: Case, names: list[str]) -> str:
    """Return the arguments of a small case with all their numbers, to be copied into a cell."""
    named = [*zip(names, case.args, strict=True), *case.kwargs.items()]
    return ", ".join(f"{name}={_literal(value)}" for name, value in named)


def _described(value: Any) -> str:
    if type(value) is _Tensor:
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, pd.DataFrame):
        return f"table with {len(value)} rows"
    if type(value) in (list, tuple) and any(type(part) is _Tensor for part in value):
        return f"{type(value).__name__} of {', '.join(map(_described, value))}"
    if callable(value) and not isinstance(value, torch.nn.Module):
        return name_of(value)
    return f"{value:.4g}" if type(value) is float else " ".join(repr(value).split())[:60]


def _literal(value: Any) -> str:
    if type(value) is _Tensor:
        return f"torch.tensor({_numbers(value.tolist())})"
    if type(value) in (list, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return f"{value:.4g}" if type(value) is float else repr(value)


def _numbers(value: Any) -> str:
    if type(value) is list:
        return f"[{', '.join(map(_numbers, value))}]"
    return f"{value:g}{'.' if type(value) is float and value == int(value) else ''}"
