"""Students whose errors are made up, for the search of exercise 14: each tells some wrong ways to choose apart."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cases import what_changed
from .failures import fail

SPLITS = ("train", "held_out", "test")
# Luck of the seeds by rank of a candidate, with the mean 0: single seeds, medians and extremes choose another one.
LUCK = (
    {0: (16, 4, -32, 12), 1: (0, 2, -2, 0), 3: (0, 0, -44, 44)},
    {0: (16, -16, -14, 14), 1: (0, 12, -12, 0), 3: (0, 0, -44, 44)},
    {0: (12, -40, 12, 16), 1: (0, 12, -12, 0), 3: (0, 0, -44, 44)},
)


class _Oracle(nn.Module):
    """A student that makes as many errors on each split as it is told to, and notes which splits it saw."""

    def __init__(self, errors: Sequence[int], seen: set[int]) -> None:
        super().__init__()
        self.errors, self.seen = torch.tensor(errors), seen

    def forward(self, images: Tensor) -> Tensor:
        labels, split, rank = images.long().T
        self.seen.update(split.tolist())
        return F.one_hot((labels + (rank < self.errors[split]).long()) % 10, 10).float()


def made_up_errors(
    generator: np.random.Generator, pairs: list[tuple], *, turned: bool, luck: int
) -> dict[tuple, np.ndarray]:
    """Return errors of every candidate on each split, by seed."""
    errors = {}
    for pair, rank in zip(pairs, generator.permutation(len(pairs)).tolist(), strict=True):
        held_out = 80 + 6 * rank + generator.integers(-1, 2, 4)
        held_out += LUCK[luck].get(rank, (0, 0, 0, 0))
        test = 80 + (-9 * rank if turned else 3 * abs(rank - 2)) + generator.integers(-1, 2, 4)
        train = 20 + 2 * abs(rank - 4) + generator.integers(0, 2, 4)
        errors[pair] = np.stack([train, held_out, test])  # (3, 4)
    return errors


def candidate_of(function: Callable, seen: set[int]) -> Callable:
    """Search among students whose errors are made up; the candidate that is found, as numbers."""

    def outcome(*, seed: int, turned: bool, luck: int) -> Any:
        generator = np.random.default_rng(seed)
        pairs = [(0.3, 1.0), (0.3, 10.0), (0.6, 1.0), (0.6, 10.0), (0.9, 1.0), (0.9, 10.0)]
        candidates = [{"alpha": alpha, "feature_weight": weight} for alpha, weight in pairs]
        seeds = generator.choice(100, size=4, replace=False).tolist()
        errors = made_up_errors(generator, pairs, turned=turned, luck=luck)
        data = {
            name: (torch.stack([labels, torch.full((200,), split), torch.arange(200)], dim=1).float(), labels)
            for split, name in enumerate(SPLITS)
            for labels in [torch.from_numpy(generator.integers(0, 10, 200))]
        }

        def run(*, seed: int, alpha: float, feature_weight: float) -> _Oracle:
            if seed not in seeds or (alpha, feature_weight) not in errors:
                fail(
                    f"run was called with seed={seed}, alpha={alpha}, feature_weight={feature_weight}: nobody gave it."
                )
            return _Oracle(errors[alpha, feature_weight][:, seeds.index(seed)].tolist(), seen)

        handed, handed_seeds = [dict(one) for one in candidates], list(seeds)
        found = function(handed, run, data, seeds=handed_seeds)
        if type(found) is not dict:
            fail(f"the chosen candidate, a dict, must come back, got {type(found).__name__}.")
        change = what_changed(candidates, handed, "candidates") or what_changed(seeds, handed_seeds, "seeds")
        if change:
            fail(f"The search {change}. Whoever called it still needs what was handed over: work on a copy.")
        return found

    return outcome
