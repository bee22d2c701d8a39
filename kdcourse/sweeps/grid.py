"""What is swept: axes, the arms they span, and the groups of arms that one program can train.

Chapters 02 to 07. Numbers become tensors inside one program; anything else (a loss, a student) makes a group.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Axes that belong to the budget, so that the baselines run through them too.
BUDGET = ("student", "optimizer", "lr", "epochs", "batch_size", "augment")


@dataclass(frozen=True)
class Axis:
    """One keyword of a sweep with the values it takes.

    Attributes
    ----------
    name : str
    values : dict from str or float to object
        What the table shows, and what the program gets.
    numeric : bool
        Numbers can share a program, as a tensor with one value per arm.
    bare : bool
        An arm's label holds the value alone, without ``name=``.

    Examples
    --------
    >>> axis = Axis("temperature", {2: 2, 8: 8}, numeric=True)
    >>> axis.varied, axis.label(8)
    (True, 'temperature=8')
    """

    name: str
    values: dict[Any, Any]
    numeric: bool
    bare: bool = False

    @property
    def varied(self) -> bool:
        """Whether arms differ in it."""
        return len(self.values) > 1

    def label(self, shown: Any) -> str:
        """Return what an arm's label says of one value."""
        return name_of(shown) if self.bare else f"{self.name}={name_of(shown)}"


@dataclass
class Arm:
    """One point of the grid: what the table shows of it.

    Examples
    --------
    >>> Arm("temperature=4", "epochs=5", {"temperature": 4, "epochs": 5}).label
    'temperature=4, epochs=5'
    """

    method: str
    budget: str
    shown: dict[str, Any]

    @property
    def label(self) -> str:
        """The arm's name in the table, such as ``temperature=4, epochs=5``."""
        return ", ".join(part for part in (self.method, self.budget) if part)


@dataclass
class Group:
    """Arms that one program trains: equal but for numeric knobs.

    Attributes
    ----------
    choices : dict
        Values that all arms share, by axis.
    arms : list of Arm
    numbers : dict from str to list of float
        Values of the numeric knobs that differ, one per arm.

    Examples
    --------
    >>> group = Group({}, numbers={"temperature": [2.0, 8.0], "alpha": [0.5, 0.5]})
    >>> group.knobs(torch.zeros(1))
    {'temperature': tensor([2., 8.]), 'alpha': 0.5}
    """

    choices: dict[str, Any]
    arms: list[Arm] = field(default_factory=list)
    numbers: dict[str, list[float]] = field(default_factory=dict)

    def knobs(self, like: Tensor) -> dict[str, Any]:
        """Return the numeric knobs as tensors (A,); those that are the same for all arms as plain numbers."""
        return {
            name: values[0] if len(set(values)) == 1 else torch.tensor(values, dtype=like.dtype, device=like.device)
            for name, values in self.numbers.items()
        }


def make_axis(name: str, value: Any) -> Axis:
    """Read an axis: a list, tuple, range or array holds several values, a dict names choices, the rest is one value.

    Raises
    ------
    ValueError
        If the axis is empty, or two of its values would have the same name in the table.

    Examples
    --------
    >>> make_axis("temperature", [2, 8]).values, make_axis("temperature", 4).varied
    ({2: 2, 8: 8}, False)
    """
    if isinstance(value, Mapping):
        values, numeric = {str(key): item for key, item in value.items()}, False
        _check_distinct(name, list(values), len(value))
    else:
        array = isinstance(value, np.ndarray) or (isinstance(value, Tensor) and value.dim() == 1)
        items = value.tolist() if array else value
        items = list(items) if isinstance(items, list | tuple | range) else [items]
        numeric = all(isinstance(item, Real) and not isinstance(item, bool) for item in items)
        names = [item if numeric else name_of(item) for item in items]
        _check_distinct(name, names, len(items))
        values = dict(zip(names, items, strict=True))
    if not values:
        raise ValueError(f"axis {name!r} is empty: give at least one value, such as {name}=[…].")
    return Axis(name, values, numeric, bare=name == "objective")


def name_of(value: Any) -> str:
    """Return a short name for the table: a function's own, a type's for other objects, ``str`` for plain values.

    Examples
    --------
    >>> name_of(4.0), name_of(functools.partial(print, sep="-"))
    ('4', 'print(sep=-)')
    """
    if isinstance(value, functools.partial):
        settings = [f"{key}={name_of(item)}" for key, item in value.keywords.items()]
        return f"{name_of(value.func)}({', '.join([*map(name_of, value.args), *settings])})"
    if isinstance(value, str | Real) or value is None:
        return f"{value:g}" if isinstance(value, float) else str(value)
    return str(getattr(value, "__name__", type(value).__name__)).lstrip("_")


def make_groups(method: list[Axis], budget: list[Axis], *, named: str) -> list[Group]:
    """Span the grid of all axes and collect its points into groups.

    Parameters
    ----------
    method : list of Axis
        What distinguishes methods: the objective, its knobs, the teacher.
    budget : list of Axis
        What an arm shares with its baselines. Each of their values has a program of its own, numbers too: an
        optimizer has one learning rate, a program one count of epochs.
    named : str
        The arms' name where no axis of ``method`` varies.

    Examples
    --------
    >>> method, budget = [make_axis("temperature", [2, 8])], [make_axis("epochs", [5, 10])]
    >>> for group in make_groups(method, budget, named="distilled"):  # a program for each number of epochs
    ...     print(group.choices, [arm.label for arm in group.arms])
    {'epochs': 5} ['temperature=2, epochs=5', 'temperature=8, epochs=5']
    {'epochs': 10} ['temperature=2, epochs=10', 'temperature=8, epochs=10']
    """
    groups: dict[tuple, Group] = {}
    stacked = [axis.name for axis in method if axis.numeric]
    for shown, values in _points([*method, *budget]):
        label = ", ".join(axis.label(shown[axis.name]) for axis in method if axis.varied) or named
        cost = ", ".join(axis.label(shown[axis.name]) for axis in budget if axis.varied)
        key = tuple(item for item in shown.items() if item[0] not in stacked)
        choices = {name: value for name, value in values.items() if name not in stacked}
        group = groups.setdefault(key, Group(choices))
        group.arms.append(Arm(label, cost, shown))
        for name in stacked:
            group.numbers.setdefault(name, []).append(values[name])
    return list(groups.values())


def _points(axes: list[Axis]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """All combinations: the names the table shows, and the values."""
    for items in itertools.product(*(axis.values.items() for axis in axes)):
        pairs = list(zip(axes, items, strict=True))
        yield {axis.name: item[0] for axis, item in pairs}, {axis.name: item[1] for axis, item in pairs}


def _check_distinct(name: str, names: list, count: int) -> None:
    if len(set(names)) != count:
        raise ValueError(
            f"axis {name!r} has values that cannot be told apart in the table: {names}. Drop the repeated ones, or "
            f'name them with a dict, as in {name}={{"one": …, "other": …}}.'
        )
