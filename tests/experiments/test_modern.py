"""The experiment of chapter 11: every claim has its arms, verdicts follow their rules, and all blocks run."""

import itertools
import json

import pytest
import torch

from experiments import _modern_patience, _modern_students, _modern_writers, modern
from experiments import _modern_plan as plan
from experiments._record import RESULTS
from kdcourse.losses import kd_loss

TINY = _modern_students.TINY
ARMS = {
    **{f"divergences, {shape}": {*_modern_students.DIVERGENCES, *plan.BASELINES} for shape in _modern_students.WIDTHS},
    "newer, ten digits": {*_modern_students._GRIDS, *plan.BASELINES, _modern_students.HIGHER},
    "newer, 24 kinds": {*_modern_students._GRIDS, *plan.BASELINES},
    **{
        f"patience, {shape}": {f"{way}, {length}" for length, ways in _modern_patience.ARMS.items() for way in ways}
        for shape in _modern_patience.SHAPES
    },
    "cached": set(_modern_writers.CACHED_ARMS),
    "writers": {"start", *_modern_writers.WRITER_ARMS},
    "sorted": {*plan.BASELINES, "labels and sorted", "sorted alone"},
}
CONTRASTS = [contrast for claim in plan.CLAIMS for contrast in claim.get("all", claim.get("within"))]


@pytest.mark.parametrize("contrast", CONTRASTS, ids=lambda contrast: " ".join(contrast[:4]))
def test_every_contrast_compares_two_arms_of_its_block(contrast):
    block, arm, baseline, *_ = contrast
    assert {arm, baseline} <= ARMS[block]


def rows_of(contrast, difference):
    """Five seeds whose difference is the given one, give or take a little."""
    block, arm, baseline, metric, smallest, lower = contrast
    wobble = smallest / 50
    better = -difference if lower else difference
    return [
        {"block": block, "arm": name, "seed": seed, metric: 100 * smallest + level + wobble * (seed % 3) * place}
        for place, (name, level) in enumerate({arm: better, baseline: 0.0}.items())
        for seed in range(5)
    ]


def word_of(claim, *differences):
    contrasts = claim.get("all", claim.get("within"))
    rows = [row for contrast, size in zip(contrasts, differences, strict=True) for row in rows_of(contrast, size)]
    merged = {}
    for row in rows:
        merged.setdefault((row["block"], row["arm"], row["seed"]), {}).update(row)
    found = plan.verdicts(list(merged.values()), plan.comparisons(list(merged.values())))
    return {each["claim"]: each["verdict"] for each in found}[claim["claim"]]


SINGLE = [claim for claim in plan.CLAIMS if len(claim.get("all", ())) == 1]


@pytest.mark.parametrize("claim", SINGLE, ids=lambda claim: claim["claim"][:40])
def test_a_claim_of_a_gain_holds_only_if_it_is_large_enough(claim):
    smallest = claim["all"][0][4]
    assert word_of(claim, 3 * smallest) == "holds"
    assert word_of(claim, -3 * smallest) == "does not hold here"
    assert word_of(claim, 0.3 * smallest) == "too small to matter"


def test_a_claim_of_no_difference_needs_both_intervals_inside():
    claim = next(claim for claim in plan.CLAIMS if "within" in claim and len(claim["within"]) == 2)
    smallest = claim["within"][0][4]
    assert word_of(claim, 0.1 * smallest, 0.1 * smallest) == "holds"
    assert word_of(claim, 0.1 * smallest, 5 * smallest) == "does not hold here"


def test_sorted_alone_is_judged_by_its_mean():
    rows = [{"block": "sorted", "arm": "sorted alone", "seed": seed, "test_errors": 8900} for seed in range(2)]
    assert [each["verdict"] for each in plan.verdicts(rows, [])] == ["holds"]
    rows[0]["test_errors"] = 5000
    assert [each["verdict"] for each in plan.verdicts(rows, [])] == ["does not hold here"]


def test_a_knob_is_chosen_by_held_out_errors_and_the_first_wins_a_tie(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "measured", lambda name, jobs, run: [run(**job) for job in jobs])
    errors = {1: 30, 2: 20, 3: 20}
    found = plan.choose("trial", lambda *, knob, **_: {"held_out_errors": errors[knob]}, [{"knob": k} for k in errors])
    assert found == {"knob": 2}


def test_plain_kd_is_tuned_as_long_as_its_rivals():
    counts = {method: len(list(_modern_students.settings_of(method))) for method in _modern_students._GRIDS}
    assert set(counts.values()) == {6}


def test_an_objective_for_each_arm_of_the_views_asks_for_the_right_one():
    shifted, answers = torch.arange(25.0)[:, None].expand(25, 3)[..., None], torch.randn(25, 3, 4)
    seen = []

    def student(views):
        seen.append(views[:, 0].long())
        return torch.zeros(len(views), 4)

    index = torch.tensor([0, 1, 2])
    for arm in ("same view", "stale targets", "other view"):
        objective = _modern_patience.make_objective(arm, shifted, answers, torch.Generator().manual_seed(3))
        kd = objective(student, index, torch.zeros(3, dtype=torch.long))["kd"]
        same = kd_loss(torch.zeros(3, 4), answers[seen[-1], index], temperature=_modern_patience.TEMPERATURE)
        middle = kd_loss(torch.zeros(3, 4), answers[12, index], temperature=_modern_patience.TEMPERATURE)
        assert torch.isclose(kd, same) == (arm == "same view")
        assert torch.isclose(kd, middle) == (arm == "stale targets")
    assert all(first.equal(second) for first, second in itertools.pairwise(seen))  # every arm sees the same views


def test_renormalised_targets_sum_to_one_and_leave_nothing():
    indices, log_probs, log_rest = _modern_writers.renormalised(
        torch.tensor([[3, 1]]), torch.tensor([[0.4, 0.2]]).log()
    )
    torch.testing.assert_close(log_probs.exp(), torch.tensor([[2 / 3, 1 / 3]]))
    assert log_rest.exp().tolist() == [0.0]
    assert indices.tolist() == [[3, 1]]


def test_bytes_are_those_of_what_is_kept():
    sizes = {arm: _modern_writers.bytes_of(arm, 10, 6024) for arm in _modern_writers.CACHED_ARMS}
    assert sizes == {
        "labels": 20, "all logits": 120_480, "top-8 renormalised": 320, "top-8 with a bucket": 340, "8 sampled": 160,
    }  # fmt: skip


def test_a_block_joins_the_record_and_the_others_stay(monkeypatch):
    there = json.loads((RESULTS / "modern.json").read_text(encoding="utf-8"))
    written = {}
    monkeypatch.setattr(modern, "write_json", lambda name, record: written.update(record))
    modern.join([], _modern_students.Size())
    assert {name: written[name] for name in written} == {name: there[name] for name in written}

    again = [{**row, "test_errors": 1 + row["test_errors"]} for row in there["runs"] if row["block"] == "sorted"]
    modern.join(again, _modern_students.Size())
    others = [row for row in there["runs"] if row["block"] != "sorted"]
    assert written["runs"] == others + again
    assert written["pages"] == there["pages"]


def test_a_block_of_another_size_joins_no_record():
    with pytest.raises(ValueError, match="run all blocks again"):
        modern.join([], TINY)
