"""The registry: rows for every claim, rules that give the right word, arms that held-out images choose."""

import dataclasses

import pytest

from experiments import registry
from experiments.claims import CLAIMS
from experiments.registry import (
    DOES_NOT,
    HOLDS,
    NOT_RUN,
    ONLY_IF,
    OPEN,
    SMALL,
    Condition,
    Contrast,
    Entry,
    entries,
    judge,
    studies,
)

FEWER, MORE, ALIKE, UNSURE = (-30, -32, -29), (30, 31, 28), (0.1, -0.1, 0.2), (-30, 40, 1)


def record(**cells):
    """A record in which ``kd`` differs from 100 plain errors by the given numbers, in each cell."""
    runs = []
    for cell, gaps in cells.items():
        for seed, gap in enumerate(gaps):
            runs.append({"cell": cell, "arm": "kd", "seed": seed, "test_errors": 100 + gap, "held_out_errors": 9})
            runs.append({"cell": cell, "arm": "plain", "seed": seed, "test_errors": 100, "held_out_errors": 9})
    return {"runs": runs}


def entry(*cells, expects="better", **changes):
    conditions = tuple(Condition(f"it is {cell}", (Contrast(cell, "kd", "plain", expects),)) for cell in cells)
    plain = Entry(
        name="trial", claim="", source="", study="trial", run="", baselines="", seeds=3, smallest_effect=5,
        conditions=conditions,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    ("gaps", "word"),
    [
        ((FEWER, FEWER), HOLDS),
        ((FEWER, MORE), f"{ONLY_IF} it is a"),
        ((FEWER, UNSURE), f"{ONLY_IF} it is a"),
        ((MORE, UNSURE), DOES_NOT),
        ((ALIKE, ALIKE), DOES_NOT),
        ((UNSURE, UNSURE), OPEN),
    ],
)
def test_a_verdict_follows_from_all_conditions(gaps, word):
    assert str(judge(entry("a", "b"), record(a=gaps[0], b=gaps[1]))) == word


def test_a_claim_of_equality_is_confirmed_by_a_small_difference_and_not_by_an_unclear_one():
    assert judge(entry("a", expects=SMALL), record(a=ALIKE)).verdict == HOLDS
    assert judge(entry("a", expects=SMALL), record(a=UNSURE)).verdict == OPEN


def test_one_comparison_that_shows_something_else_refutes_a_condition():
    both = Condition("here", (Contrast("a", "kd", "plain"), Contrast("b", "kd", "plain")))
    assert judge(entry("a", conditions=(both,)), record(a=FEWER, b=MORE)).verdict == DOES_NOT


def test_a_row_without_a_record_is_not_run_yet():
    assert judge(entry("a"), None).verdict == NOT_RUN


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match="trial needs 8 pairs, the record trial has 3"):
        judge(entry("a", seeds=8), record(a=FEWER))


def test_of_several_arms_held_out_errors_of_seeds_that_are_not_reported_choose():
    runs = record(a=FEWER)["runs"]
    for arm, held_out, test_errors in (("T = 1", 5, 999), ("T = 4", 6, 1)):
        runs += [
            {"cell": "a", "arm": arm, "seed": seed, "test_errors": test_errors + seed % 3, "held_out_errors": held_out}
            for seed in (0, 1, 2, 100, 101)
        ]
    contrast = Contrast("a", ("T = 1", "T = 4"), "plain")
    arm, baseline, values = registry.differences(runs, contrast, "test_errors")
    assert (arm, baseline, values) == ("T = 1", "plain", [899, 900, 901])  # fewest held-out errors, most test errors


def test_a_difference_can_be_taken_from_a_number_another_cell_and_another_difference():
    runs = record(a=FEWER, b=(-10, -10, -10))["runs"]
    assert registry.differences(runs, Contrast("a", "kd", 100.0), "test_errors")[2] == list(FEWER)
    across = Contrast("a", "kd", "kd", baseline_cell="b")
    assert registry.differences(runs, across, "test_errors")[2] == [-20, -22, -19]
    gain = Contrast("a", "kd", "plain", less=Contrast("b", "kd", "plain"))
    assert registry.differences(runs, gain, "test_errors")[2] == [-20, -22, -19]


def test_a_recorded_comparison_is_read_either_way_round():
    row = {"arm": "plain", "baseline": "kd", "difference": 20, "low": 12, "high": 28, "n": 3}
    finding = judge(entry("a"), {"comparisons": {"a": [row]}})
    (effect,) = finding.effects
    assert (finding.verdict, effect.difference, effect.low, effect.high) == (HOLDS, -20, -28, -12)


@pytest.mark.parametrize("runs", [[], [{"cell": "b", "arm": "kd", "seed": 0, "test_errors": 1}]])
def test_a_record_without_what_a_row_reads_is_refused(runs):
    with pytest.raises(ValueError, match="the record has no"):
        judge(entry("a"), {"runs": runs})


def test_every_claim_of_the_source_text_has_a_row():
    names = {row.name for row in entries()}
    for claim, rows in CLAIMS.items():
        for row in rows:
            assert row in names, claim
    assert len(CLAIMS) >= 25


def test_rows_are_complete_and_their_studies_exist():
    rows = entries()
    assert len(rows) >= 40
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.study in studies(), row.name
        assert row.claim.endswith((".", ")")), row.name
        assert all((row.source, row.run, row.baselines, row.conditions)), row.name
        assert row.smallest_effect > 0, row.name
        few = ("chapter", "detection", "hinton", "language", "continual", "quantisation")
        assert row.seeds >= 8 or row.study.startswith(few), row.name
        assert len({condition.words for condition in row.conditions}) == len(row.conditions), row.name


@pytest.mark.parametrize("name", list(studies()))
def test_every_study_has_units_whose_settings_can_be_stored(name):
    import json

    for unit in studies()[name].units():
        assert json.loads(json.dumps(dict(unit.settings))) == dict(unit.settings)
