"""Tables of runs for exercise 13: made up so that each tells some wrong ways to choose a temperature apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import Tensor

from ..results import mean_interval
from .cases import Case, random_labels, random_tensor
from .converting import as_number
from .failures import fail

_mean_interval = mean_interval
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0)
UNSTEADY = (14, -14, 12, -12)  # added to single runs: their mean is 0, and no interval is clear any more


def make_table(
    generator: np.random.Generator, valley: list[float], *, noise: float = 1.5, odd: Mapping | None = None,
    lucky: int = 3, unsteady: tuple[int, ...] = (),
) -> pd.DataFrame:  # fmt: skip
    """Return runs as a sweep returns them: what a seed's runs share, a valley in T, and luck; other columns mislead.

    Parameters
    ----------
    generator : Generator
        Source of the random numbers.
    valley : list of float
        Mean errors at each temperature, above a common level.
    noise : float
        Size of a wobble that is the same on both sides, so that the means are the valley's.
    odd : mapping, optional
        Errors that are added to single runs, by (place of T, seed).
    lucky : int
        Seed whose runs are the best of all.
    unsteady : tuple of int
        Places of the temperatures whose runs differ so much that no difference to them is clear.
    """
    luck = np.insert(500 + 40.0 * generator.permutation([-1, 0, 1, 2]), lucky, 420)  # (5,)
    moved = {(place, seed): shift for place in unsteady for seed, shift in enumerate(UNSTEADY)} | dict(odd or {})
    best, rows = int(np.argmin(valley)), []
    for place, temperature in enumerate(TEMPERATURES):
        for seed in range(5):
            wobble = noise * (-1) ** (place + seed) * (seed < 4) + moved.get((place, seed), 0)
            rows.append(
                {
                    "arm": f"temperature={temperature:g}", "temperature": temperature, "seed": seed,
                    "held_out_errors": round(luck[seed] + valley[place] + wobble),
                    "test_errors": round(2 * luck[seed] + 9 * abs(place - (best + 2) % 5) + generator.uniform(-3, 3)),
                    "held_out_loss": 0.4 + 0.02 * abs(place - (best + 3) % 5) + generator.uniform(-0.005, 0.005),
                    "train_loss": 0.1 + 0.02 * abs(place - (best + 1) % 5) + generator.uniform(-0.005, 0.005),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def optimum_cases(generator: np.random.Generator) -> list[Case]:
    """Return tables with the best T inside, at either end and nowhere, with neighbours that are clear or are not."""
    step = float(generator.integers(28, 36))
    inside = [2 * step, step, 0, step, 2 * step]
    flat = {(1, 0): -9.0, (2, 3): -9.0, (4, 1): -6.0, (4, 2): -6.0, (0, 4): 5.0}
    tables = [
        make_table(generator, inside, odd={(3, 0): -step - 4}, lucky=0),
        make_table(generator, [0.0] * 5, odd=flat),
        make_table(generator, [0, step, 2 * step, 3 * step, 4 * step]),
        make_table(generator, [3 * step, 2 * step, step, 0, 1], noise=3),
        make_table(generator, [10 * depth for depth in inside]),
        # The best T at an end, and the runs at the other end too unsteady to be clear: they are no neighbours.
        make_table(generator, [0, step, 2 * step, step, 4], unsteady=(4,)),
        make_table(generator, [4, step, 2 * step, step, 0], unsteady=(0,)),
        # One neighbour is clear, the other is not; and a temperature further away is not.
        make_table(generator, [step, 5, 0, step, 2 * step], unsteady=(1,)),
        make_table(generator, [2 * step, step, 0, 5, step], unsteady=(3,)),
        make_table(generator, [5, step, 0, step, 2 * step], unsteady=(0,)),
        # The unclear neighbour is the first, or the last, of the list.
        make_table(generator, [5, 0, step, 2 * step, 3 * step], unsteady=(0,)),
        make_table(generator, [3 * step, 2 * step, step, 0, 5], unsteady=(4,)),
        # One T has most of its runs low, and two so high that its mean is not.
        make_table(
            generator, inside, odd={(3, seed): shift for seed, shift in enumerate((-200, -200, -200, 300, 300))}
        ),
    ]
    return [Case((table,)) for table in tables]


def by_temperature(runs: pd.DataFrame, column: str = "held_out_errors") -> pd.DataFrame:
    """Return errors with a row for each temperature, rising, and a column for each seed."""
    return runs.pivot(index="temperature", columns="seed", values=column).sort_index()


def curve(runs: pd.DataFrame, *, images: int) -> tuple[list[float], ...]:
    """Return mean accuracies by rising temperature, and the lower and upper ends of their intervals."""
    shares = 1 - by_temperature(runs) / images
    return tuple(map(list, zip(*(_mean_interval(row.tolist()) for _, row in shares.iterrows()), strict=True)))


def neighbours(runs: pd.DataFrame, best: float) -> list[tuple[float, float, float]]:
    """Return the temperatures beside the best one with their paired intervals, neighbour minus best."""
    errors = by_temperature(runs)
    place = list(errors.index).index(best)
    beside = [errors.index[i] for i in (place - 1, place + 1) if 0 <= i < len(errors)]
    return [(float(t), *_mean_interval((errors.loc[t] - errors.loc[best]).tolist())[1:]) for t in beside]


def optimum(runs: pd.DataFrame) -> tuple[float, bool]:
    """Return the temperature with the fewest errors, and whether both of its neighbours are clearly worse."""
    best = float(by_temperature(runs).mean(axis=1).idxmin())
    return best, all(low > 0 for _, low, _ in neighbours(runs, best))


def small_data(generator: np.random.Generator) -> dict[str, tuple[Tensor, ...]]:
    """Return ten classes of noisy patterns; the teacher knows them, and confuses each with its neighbour."""
    patterns = random_tensor(generator, 10, 1, 28, 28)
    splits = {}
    for name, count in (("train", 300), ("held_out", 200), ("test", 100)):
        labels = random_labels(generator, count, 10)
        images = patterns[labels] + 2 * random_tensor(generator, count, 1, 28, 28)
        splits[name] = (images, labels)
    images, labels = splits["train"]
    teacher_logits = 8.0 * F.one_hot(labels, 10) + 5.0 * F.one_hot((labels + 1) % 10, 10)
    return {**splits, "train": (images, labels, teacher_logits)}


def read_runs(runs: Any, temperatures: tuple, seeds: tuple, name: str) -> pd.DataFrame:
    """Return the errors of a learner's table by temperature and seed, after a look at whether it is one."""
    if type(runs) is not pd.DataFrame:
        fail(f"{name} must return a table (DataFrame), got {'None' if runs is None else type(runs).__name__}.")
    missing = [column for column in ("temperature", "seed", "held_out_errors") if column not in runs]
    if missing:
        fail(f"The table has no column {missing[0]!r}; it has {list(runs)}.")
    runs = runs[pd.to_numeric(runs["temperature"], errors="coerce").notna()]  # without baselines, if there are any
    errors = runs.pivot_table(index="temperature", columns="seed", values="held_out_errors", aggfunc=list)
    if sorted(errors.index) != sorted(temperatures) or sorted(errors.columns) != sorted(seeds):
        fail(
            f"Temperatures {temperatures} and seeds {seeds} were asked for; the table has {list(errors.index)} and "
            f"{list(errors.columns)}. Every arm needs every seed."
        )
    if any(type(cell) is not list or len(cell) != 1 for cell in errors.to_numpy().ravel()):
        fail("Every temperature needs every seed exactly once.")
    numbers = errors.map(lambda cell: as_number(cell[0], "a number of held_out_errors"))
    if numbers.to_numpy().max() <= 1:
        fail("held_out_errors are counts of images, these are all at most 1. Shares? Multiply by the number of images.")
    return numbers
