"""The registry: every claim that the course tests, with its rule, and how a record becomes a verdict.

An ``Entry`` is written before its study runs: claim, source, what is run, baselines, seeds, the smallest effect of
interest, and what each comparison is expected to show. A ``Study`` is what runs; several entries may read one record.
``docs/ledger.md`` is made from entries and records, so that no verdict and no number is typed.

The rule, for all entries. ``kdcourse.results.verdict`` turns each comparison's interval into a word. A comparison that
shows what the entry expects is confirmed; one that shows something else is refuted; an unclear one is open. A condition
is confirmed if all its comparisons are, refuted if one is, else open. The claim *holds* if all conditions are
confirmed. It *holds here only if* some are. It *does not hold here* if none is and one is refuted. Else it is
*unclear*.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

from kdcourse.results import mean_interval, verdict

# In the order of the ledger. A module has STUDIES, ENTRIES, or both; one that is not there yet is left out.
MODULES = (
    "temperature",
    "answers",
    "teachers",
    "students",
    "data_sets",
    "budget",
    "ensembles",
    "gradients",
    "shapes",
    "earlier",
    "hinton_rows",
    "later",
)
BETTER, WORSE, SMALL, UNCLEAR = "better", "worse", "too small to matter", "unclear"
NOT_WORSE = (BETTER, SMALL)
HOLDS, ONLY_IF, DOES_NOT, OPEN, NOT_RUN = (
    "holds",
    "holds here only if",
    "does not hold here",
    "unclear",
    "not run yet",
)
# Seeds that choose knobs on held-out images. No result of theirs is reported.
CHOOSING = (100, 101)

Arms = str | tuple[str, ...]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Contrast:
    """One difference, arm minus baseline, and the words that confirm the claim.

    Attributes
    ----------
    cell : str
        The part of the record: the ``cell`` of its runs, or the name of a table of comparisons.
    arm, baseline : str or tuple of str
        Of several arms the one with the smallest mean of ``chosen_by`` over the seeds 100 and 101. A number as
        baseline is a number: a figure of a paper, say.
    expects : str or tuple of str
        Words of ``kdcourse.results.verdict`` that confirm the claim.
    chosen_by, baseline_chosen_by : str
        Columns of the record.
    baseline_cell, baseline_metric : str
        The baseline's cell and column, where they are not the arm's.
    less : Contrast, optional
        Another difference that is subtracted, seed by seed: does the gain itself change?
    """

    cell: str
    arm: Arms
    baseline: Arms | float
    expects: str | tuple[str, ...] = BETTER
    chosen_by: str = "held_out_errors"
    baseline_chosen_by: str = "held_out_errors"
    baseline_cell: str = ""
    baseline_metric: str = ""
    less: "Contrast | None" = None


@dataclass(frozen=True)
class Condition:
    """Where the claim is tested, in words that follow "holds here only if", and the comparisons that test it there."""

    words: str
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True)
class Entry:
    """One row of the ledger. Everything here is written before the run.

    Attributes
    ----------
    name : str
    claim, source : str
        The claim in one sentence; the paper and its section, or "a common piece of advice".
    study : str
        Name of the record in ``experiments/results``.
    run, baselines : str
        What is run, and what it is compared with, in words.
    seeds : int
        Pairs of runs behind each interval.
    smallest_effect : float
        In the unit of the metric. A difference whose interval is closer to 0 does not matter.
    conditions : tuple of Condition
    metric, unit : str
        Column of the record's runs, and what it counts.
    lower_is_better : bool
    note : str
        What a reader should know beside the verdict.
    """

    name: str
    claim: str
    source: str
    study: str
    run: str
    baselines: str
    seeds: int
    smallest_effect: float
    conditions: tuple[Condition, ...]
    metric: str = "test_errors"
    unit: str = "errors"
    lower_is_better: bool = True
    note: str = ""


@dataclass(frozen=True)
class Unit:
    """The smallest piece of work that is stored: ``function(**settings)`` returns rows for the record."""

    function: Callable[..., Rows]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What leaves one record.

    Attributes
    ----------
    name : str
        The record is ``experiments/results/NAME.json``.
    about : str
    units : callable
        Returns the list of units. Their order is the order of the record's rows.
    minutes : float
        Expected time on one quiet core.
    writes_itself : bool
        Whether the unit writes the record, as the chapters' runs do.
    by_default : bool
        Whether ``python -m experiments`` without a name runs it.
    """

    name: str
    about: str
    units: Callable[[], Sequence[Unit]]
    minutes: float
    writes_itself: bool = False
    by_default: bool = True


@dataclass(frozen=True)
class Effect:
    """What one comparison showed."""

    words: str
    arm: str
    baseline: str
    difference: float
    low: float
    high: float
    n: int
    word: str
    confirmed: bool
    values: tuple[float, ...] = ()  # seed by seed, where the record has them


@dataclass(frozen=True)
class Finding:
    """An entry's verdict, and the effects behind it."""

    verdict: str
    where: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()

    def __str__(self) -> str:
        return f"{self.verdict} {' or '.join(self.where)}" if self.where else self.verdict


def judge(entry: Entry, record: Mapping[str, Any] | None) -> Finding:
    """Return what a record says of an entry's claim; without a record, that it was not run yet."""
    if record is None:
        return Finding(NOT_RUN)
    effects, states = [], {}
    for condition in entry.conditions:
        own = [_effect(entry, condition.words, contrast, record) for contrast in condition.contrasts]
        effects += own
        refuted = any(not effect.confirmed and effect.word != UNCLEAR for effect in own)
        states[condition.words] = all(effect.confirmed for effect in own), refuted
    confirmed = tuple(words for words, (yes, _) in states.items() if yes)
    if len(confirmed) == len(states):
        return Finding(HOLDS, (), tuple(effects))
    if confirmed:
        return Finding(ONLY_IF, confirmed, tuple(effects))
    return Finding(DOES_NOT if any(no for _, no in states.values()) else OPEN, (), tuple(effects))


def _effect(entry: Entry, words: str, contrast: Contrast, record: Mapping[str, Any]) -> Effect:
    expects = (contrast.expects,) if isinstance(contrast.expects, str) else contrast.expects
    runs = runs_of(record)
    if runs and contrast.cell not in tables_of(record):
        arm, baseline, values = differences(runs, contrast, entry.metric)
        mean, low, high = mean_interval(values)
        n = len(values)
    else:
        row, values = _recorded(record, contrast), []
        arm, baseline, n = row["arm"], row["baseline"], row["n"]
        mean, low, high = row["difference"], row["low"], row["high"]
    if n < entry.seeds:
        raise ValueError(f"{entry.name} needs {entry.seeds} pairs, the record {entry.study} has {n} for {contrast}.")
    word = verdict(low, high, lower_is_better=entry.lower_is_better, smallest_effect=entry.smallest_effect)
    return Effect(words, arm, baseline, mean, low, high, n, word, word in expects, tuple(values))


def differences(runs: Rows, contrast: Contrast, metric: str) -> tuple[str, str, list[float]]:
    """Return the names of arm and baseline, and their differences seed by seed."""
    arm = _choose(runs, contrast.cell, contrast.arm, contrast.chosen_by)
    left = _by_seed(runs, contrast.cell, arm, metric)
    if isinstance(contrast.baseline, int | float):
        baseline, right = f"{contrast.baseline:g}", dict.fromkeys(left, float(contrast.baseline))
    else:
        cell = contrast.baseline_cell or contrast.cell
        baseline = _choose(runs, cell, contrast.baseline, contrast.baseline_chosen_by)
        right = _by_seed(runs, cell, baseline, contrast.baseline_metric or metric)
        elsewhere = (contrast.baseline_cell, contrast.baseline_metric.replace("_", " "))
        baseline = ", ".join([baseline, *filter(None, elsewhere)])
    if left.keys() != right.keys():
        raise ValueError(f"{arm!r} has the seeds {sorted(left)}, {baseline!r} has {sorted(right)}: pairs need both.")
    values = {seed: left[seed] - right[seed] for seed in sorted(left)}
    if contrast.less is not None:
        *_, others = differences(runs, contrast.less, metric)
        values = {seed: value - other for (seed, value), other in zip(values.items(), others, strict=True)}
        baseline = f"{baseline} − the same at {contrast.less.cell}"
    return arm, baseline, list(values.values())


def _choose(runs: Rows, cell: str, arms: Arms, column: str) -> str:
    if isinstance(arms, str):
        return arms
    scores = {}
    for arm in arms:
        values = [run[column] for run in runs if (run["cell"], run["arm"]) == (cell, arm) and run["seed"] in CHOOSING]
        if len(values) != len(CHOOSING):
            raise ValueError(f"the record has {len(values)} runs of {arm!r} in {cell!r} that choose, not two.")
        scores[arm] = math.fsum(values)
    return min(scores, key=lambda arm: scores[arm])


def _by_seed(runs: Rows, cell: str, arm: str, metric: str) -> dict[int, float]:
    own = [run for run in runs if (run["cell"], run["arm"]) == (cell, arm) and run["seed"] not in CHOOSING]
    if not own:
        raise ValueError(f"the record has no runs of {arm!r} in {cell!r}.")
    return {run["seed"]: run[metric] for run in own}


def runs_of(record: Mapping[str, Any]) -> Rows:
    """Return a record's runs with cell, arm and seed; empty where it holds comparisons alone, as a chapter's does.

    A run whose bias was moved is two arms: as trained, and with the bias.
    """
    runs: Rows = []
    for run in record.get("runs", []):
        cell = f"{run['student']}, {run['images']:,} images" if "student" in run else "test"
        runs.append({"cell": cell, **run})
        if "test_errors_with_bias" in run:
            moved = {"arm": f"{run['arm']}, with bias", "test_errors": run["test_errors_with_bias"]}
            runs.append({"cell": cell, **run, **moved})
    return runs


def _recorded(record: Mapping[str, Any], contrast: Contrast) -> dict[str, Any]:
    """Return a row of a comparison that the record holds already, the right way round."""
    for row in tables_of(record).get(contrast.cell, []):
        if (row["arm"], row["baseline"]) == (contrast.arm, contrast.baseline):
            return row
        if (row["baseline"], row["arm"]) == (contrast.arm, contrast.baseline):
            turned = {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
            return {**row, "arm": row["baseline"], "baseline": row["arm"], **turned}
    raise ValueError(
        f"the record has no comparison of {contrast.arm!r} with {contrast.baseline!r} in {contrast.cell!r}."
    )


def tables_of(record: Mapping[str, Any]) -> dict[str, Rows]:
    """Return a record's comparisons by name, also those of the best of several terms."""
    tables = [record.get(key, {}) for key in ("comparisons", "best_terms")]
    return {name: rows for each in tables if isinstance(each, Mapping) for name, rows in each.items()}


@cache
def modules() -> tuple[ModuleType, ...]:
    """Return the modules of studies and entries that are there."""
    names = [f"{__package__}.{name}" for name in MODULES]
    return tuple(importlib.import_module(name) for name in names if importlib.util.find_spec(name))


def entries() -> list[Entry]:
    """Return all rows of the ledger, in order."""
    return [entry for module in modules() for entry in getattr(module, "ENTRIES", [])]


def studies() -> dict[str, Study]:
    """Return all that can be run, by name, in order."""
    return {study.name: study for study in _studies()}


def _studies() -> Iterator[Study]:
    for module in modules():
        yield from getattr(module, "STUDIES", [])
