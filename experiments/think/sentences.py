"""How an answer says what was measured: a mean, or a paired difference with its interval, no number by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from kdcourse.sweeps import compare


@dataclass(frozen=True)
class Answer:
    """The folded text of one question, in Markdown, and the numbers it rests on: one row per trained network."""

    text: str
    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """An arm minus its baseline; as text, in words: ``48 errors more (20 to 77)``, ``between 5 fewer and 74 more``."""

    mean: float
    low: float
    high: float
    seeds: int
    verdict: str
    unit: str = "errors"

    def __str__(self) -> str:
        if self.low > 0 or self.high < 0:
            ends = sorted((abs(self.low), abs(self.high)))
            word = "fewer" if self.mean < 0 else "more"
            return f"{abs(self.mean):,.0f} {self.unit} {word} ({ends[0]:,.0f} to {ends[1]:,.0f})"
        return f"between {-self.low:,.0f} {self.unit} fewer and {self.high:,.0f} more"

    def is_(self, *words: str) -> "Difference":
        """Return this difference if its verdict is one of the words, which are those that the sentence needs.

        Raises
        ------
        ValueError
            If the runs say something else: then the sentence must be written anew.
        """
        if self.verdict not in words:
            raise ValueError(f"the sentence says {' or '.join(words)}, the runs say {self.verdict}: {self}.")
        return self


def difference(
    runs: pd.DataFrame, arm: str, baseline: str, *, metric: str = "test_errors", smallest_effect: float = 0.0
) -> Difference:
    """Compare two arms of a table as ``sweep`` gives it, seed by seed (columns ``arm, seed`` and the metric)."""
    two = runs[runs["arm"].isin([arm, baseline])][["arm", "seed", metric]]
    (row,) = compare(two, metric=metric, baseline=baseline, smallest_effect=smallest_effect).to_dict("records")
    return Difference(row["difference"], row["low"], row["high"], row["n"], row["verdict"])


def mean(runs: pd.DataFrame, arm: str, *, metric: str = "test_errors", digits: int = 0) -> str:
    """Return the mean of an arm over its seeds, as text: ``1,132``."""
    return f"{runs.loc[runs['arm'] == arm, metric].mean():,.{digits}f}"
