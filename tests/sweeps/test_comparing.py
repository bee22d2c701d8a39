"""Paired differences: intervals are those of SciPy, and what cannot be compared is refused."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdcourse.results import t_quantile, verdict
from kdcourse.sweeps import compare, format_comparison, in_words, mean_interval


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=12).filter(
        lambda pairs: np.std([a - b for a, b in pairs]) > 1e-3
    ),
)
@settings(max_examples=50, deadline=None)
def test_intervals_are_those_of_scipys_paired_t_test(pairs):
    arm, other = np.array(pairs).T
    runs = pd.DataFrame(
        [{"arm": name, "seed": s, "errors": v} for name, vs in (("a", arm), ("b", other)) for s, v in enumerate(vs)]
    )
    (row,) = compare(runs.sample(frac=1, random_state=0), metric="errors", baseline="b").itertuples()
    expected = stats.ttest_rel(arm, other).confidence_interval(0.95)
    np.testing.assert_allclose((row.low, row.high), (expected.low, expected.high), rtol=1e-7, atol=1e-7)
    assert row.difference == pytest.approx(arm.mean() - other.mean(), abs=1e-9)
    assert row.n == len(pairs)
    significant = stats.ttest_rel(arm, other).pvalue < 0.05
    assert (row.verdict != "unclear") == significant


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 29, 100, 999])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_t_quantiles_are_those_of_scipy(degrees, level):
    assert t_quantile(level, degrees) == pytest.approx(stats.t.ppf((1 + level) / 2, degrees), rel=1e-9)


def test_of_intervals_around_no_effect_one_in_twenty_leaves_out_0():
    generator = np.random.default_rng(0)
    missed = [not (low <= 0 <= high) for _, low, high in map(mean_interval, generator.normal(size=(4000, 4)).tolist())]
    assert abs(np.mean(missed) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 4000)


def make_runs(**arms):
    return pd.DataFrame([{"arm": a, "seed": s, "test_errors": v} for a, vs in arms.items() for s, v in enumerate(vs)])


def test_pairing_takes_out_the_luck_that_both_share():
    luck = np.array([0.0, 50, 100, 20, 80])
    runs = make_runs(kd=luck - np.array([3, 4, 3, 2, 3]), no_teacher=luck)
    (row,) = compare(runs, baseline="no_teacher").itertuples()
    assert row.verdict == "better"
    unpaired = stats.ttest_ind(luck - 3, luck).confidence_interval(0.95)
    assert unpaired.low < 0 < unpaired.high


def test_verdicts_turn_with_the_sense_of_the_metric():
    runs = make_runs(kd=[1.0, 2, 3], no_teacher=[11.0, 12.5, 13])
    assert compare(runs, baseline="no_teacher").verdict.tolist() == ["better"]
    assert compare(runs, baseline="no_teacher", lower_is_better=False).verdict.tolist() == ["worse"]
    same = make_runs(kd=[1, 2, 3], no_teacher=[1, 2, 3])
    assert compare(same, baseline="no_teacher").verdict.tolist() == ["unclear"]


def test_a_difference_that_is_known_and_smaller_than_what_matters_is_called_so():
    runs = make_runs(kd=[10.0, 11, 13], no_teacher=[11.0, 12.5, 14])
    assert compare(runs, baseline="no_teacher").verdict.tolist() == ["better"]
    assert compare(runs, baseline="no_teacher", smallest_effect=3).verdict.tolist() == ["too small to matter"]
    assert compare(runs, baseline="no_teacher", smallest_effect=1).verdict.tolist() == ["better"]
    assert verdict(-1, 1) == "unclear"  # not equal: an interval around 0 says nothing without a smallest effect
    assert verdict(-1, 1, smallest_effect=2) == "too small to matter"
    for wrong in ({"low": 1, "high": -1}, {"low": -1, "high": 1, "smallest_effect": -1}):
        with pytest.raises(ValueError, match="an interval needs low <= high"):
            verdict(**wrong)


def test_the_readable_table_has_signs_intervals_and_verdicts():
    runs = make_runs(kd=[1.0, 2, 3], other=[1, 2, 4], no_teacher=[11.0, 12.5, 13], label_smoothing=[1, 2, 4.3])
    text = format_comparison(compare(runs), digits=1)
    low, high = stats.ttest_rel([1, 2, 3], [11, 12.5, 13]).confidence_interval(0.95)
    expected = f"−10.2 [−{-low:.1f}, −{-high:.1f}] better"
    assert text.loc["kd", "minus no_teacher"] == expected
    assert text.loc["kd", "test_errors"] == "2.0"
    assert text.loc["no_teacher", "minus no_teacher"] == ""
    assert text.loc["other", "minus label_smoothing"].startswith("−0.1 [−0.5, +0.3] unclear")
    assert "-" not in "".join(text.to_numpy().flatten())
    assert list(text.columns) == ["test_errors", "minus no_teacher", "minus label_smoothing"]


def test_what_compare_refuses_it_explains():
    runs = make_runs(kd=[1, 2, 3], no_teacher=[2, 3, 4])
    check = partial(compare, baseline="no_teacher")
    with pytest.raises(ValueError, match=r"no column 'accuracy'; it has"):
        check(runs, metric="accuracy")
    with pytest.raises(ValueError, match="arms must have the same values of seed"):
        check(runs[:-1])
    with pytest.raises(ValueError, match="has one seed twice"):
        check(pd.concat([runs, runs[:1]]))
    with pytest.raises(ValueError, match="at least two values of seed, got 1"):
        check(runs[runs.seed == 0])
    with pytest.raises(ValueError, match="there is no baseline 'teacher'"):
        check(runs, baseline="teacher")
    with pytest.raises(ValueError, match="missing values"):
        check(runs.assign(test_errors=[1, 2, float("nan"), 2, 3, 4]))
    with pytest.raises(ValueError, match="level must be in"):
        mean_interval([1.0, 2.0], level=95)
    with pytest.raises(ValueError, match="no arm to compare"):
        check(runs[runs.arm == "no_teacher"])
    with pytest.raises(ValueError, match="at least two values, got 1"):
        mean_interval([1.0])


def table_of(differences):
    arms = {"kd": [100 + d for d in differences], "no_teacher": [100] * len(differences)}
    rows = [{"arm": arm, "seed": s, "test_errors": e} for arm, errors in arms.items() for s, e in enumerate(errors)]
    return compare(pd.DataFrame(rows), baseline="no_teacher")


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([-10, -12, -11], "better, 11.0 errors fewer, 95 % interval 8.5 to 13.5"),
        ([10, 12, 11], "worse, 11.0 errors more, 95 % interval 8.5 to 13.5"),
        ([-10, 12, -1], "unclear, between 27.1 errors fewer and 27.8 more"),
    ],
)
def test_a_comparison_in_words_says_the_side_and_both_ends(differences, said):
    assert in_words(table_of(differences)) == f"In this run, 3 seeds:\n  kd against no teacher: {said}"


def test_an_arm_that_is_not_there_cannot_be_told():
    with pytest.raises(ValueError, match="no arm 'hint'"):
        in_words(table_of([-1, -2, -3]), "hint")
