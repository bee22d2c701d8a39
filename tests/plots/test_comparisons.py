"""Interval plots: better, worse and unclear are told apart by colour and shape, whatever the page."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from kdcourse import plots

TABLE = pd.DataFrame(
    {"arm": ["a", "b", "c"], "difference": [-2.0, 1.0, 5.0], "low": [-3.0, -1.0, 4.0], "high": [-1.0, 3.0, 6.0]}
)


def marks_of(ax):
    """Return the line that marks the difference of each row."""
    return [line for line in ax.lines if line.get_marker() in "<o>s"]


def test_better_worse_and_unclear_have_colours_and_shapes_of_their_own():
    ax = plots.intervals(TABLE)
    better, unclear, worse = marks_of(ax)
    assert [line.get_marker() for line in (better, unclear, worse)] == ["<", "o", ">"]
    assert len({line.get_color() for line in (better, unclear, worse)}) == 3
    assert to_rgb(unclear.get_markerfacecolor()) == to_rgb(plots.PAPER)  # hollow
    assert [line.get_xdata()[0] for line in (better, unclear, worse)] == [-2, 1, 5]
    (legend,) = ax.get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["better", "unclear", "worse"]


def test_an_interval_that_ends_at_zero_is_unclear():
    ax = plots.intervals({"arm": ["a"], "difference": [1.0], "low": [0.0], "high": [2.0]})
    assert [line.get_marker() for line in marks_of(ax)] == ["o"]


def test_the_axis_says_on_which_side_there_are_fewer_errors():
    ax = plots.intervals(TABLE)
    texts = {text.get_text(): text.xy[0] for text in ax.texts}
    assert texts == {"← fewer errors": 0, "more errors →": 1}


def test_one_baseline_is_named_below_the_axis():
    ax = plots.intervals(TABLE.assign(arm=["a_1", "b", "c"], baseline="no_teacher"))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a 1", "b", "c"]
    assert ax.get_xlabel() == "difference from no teacher"


def test_several_baselines_are_named_in_their_rows():
    ax = plots.intervals(TABLE.assign(baseline=["plain", "plain", "soft_labels"]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a − plain", "b − plain", "c − soft labels"]
    assert ax.get_xlabel() == "difference"


def test_the_smallest_effect_of_interest_is_a_band_around_zero_with_a_name():
    ax = plots.intervals(TABLE, smallest_effect=2.5)
    (band,) = ax.patches
    assert np.ptp(band.get_extents().get_points()[:, 0]) > 0
    assert (band.get_x(), band.get_width()) == (-2.5, 5)
    (legend,) = ax.get_figure().legends
    assert legend.get_texts()[-1].get_text() == "± 2.5: smallest effect of interest"


def test_an_interval_within_the_band_is_drawn_as_too_small_on_either_side_of_zero():
    table = {"arm": ["a", "b", "c"], "difference": [-2, 2, -9], "low": [-3, 1, -14], "high": [-1, 3, -4]}
    without, within = plots.intervals(table), plots.intervals(table, smallest_effect=5)
    assert [line.get_marker() for line in without.lines[1:6:2]] == ["<", ">", "<"]
    assert [line.get_marker() for line in within.lines[1:6:2]] == ["s", "s", "<"]
    words = [text.get_text() for text in within.get_figure().legends[0].get_texts()]
    assert words == ["better", "too small to matter", "± 5: smallest effect of interest"]


def test_long_names_leave_room_for_the_intervals():
    ax = plots.intervals(TABLE.assign(arm=["a name of an arm that says everything about how it was trained"] * 3))
    plots.to_png(ax)
    assert ax.get_window_extent().width > 300
    (left, right) = sorted(text.get_window_extent().x0 for text in ax.texts)
    assert right - left > 150  # the two sides do not overprint each other


def accuracies():
    table = TABLE.copy()
    table.attrs["lower_is_better"] = False
    return table


def test_what_is_better_when_it_is_higher_has_its_colours_on_the_other_sides():
    errors, points = plots.intervals(TABLE), plots.intervals(accuracies(), unit="points")
    assert [line.get_marker() for line in marks_of(errors)] == [line.get_marker() for line in marks_of(points)]
    (first, *_, last), (other_first, *_, other_last) = (
        [line.get_color() for line in marks_of(ax)] for ax in (errors, points)
    )
    assert (first, last) == (other_last, other_first) == (plots.COLORS["student"], plots.COLORS["kd"])
    assert [text.get_text() for text in points.texts] == ["← fewer points", "more points →"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.intervals({"arm": ["a"]}), "the table has no column 'difference'"),
        (
            lambda: plots.intervals({"arm": ["a"], "difference": [2.0], "low": [0.0], "high": [1.0]}),
            "each interval must hold its difference",
        ),
        (lambda: plots.intervals(TABLE, smallest_effect=0), "smallest_effect must be positive, got 0"),
    ],
)
def test_bad_input_is_told_what_is_needed(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_a_small_run_and_the_full_size_have_the_same_rows_and_axes_of_their_own():
    other_order = TABLE.iloc[::-1].assign(high=[60.0, 30.0, 10.0])
    figure = plots.did_it_hold({"small run": TABLE, "full size": other_order})
    left, right = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["small run", "full size"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b", "c"]
    assert [line.get_xdata()[0] for line in marks_of(left)] == [-2, 1, 5]
    assert [line.get_xdata()[0] for line in marks_of(right)] == [-2, 1, 5]
    assert [line.get_marker() for line in marks_of(right)] == ["o", "o", ">"]  # a now holds 0
    assert left.get_xlim() != right.get_xlim()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["better", "unclear", "worse"]


def test_runs_with_other_numbers_of_images_share_an_axis_of_errors_in_10_000():
    tables = {"small": TABLE, "full": TABLE.assign(baseline="plain")}
    figure = plots.did_it_hold(tables, images={"small": 2_000, "full": 10_000}, smallest_effect=15)
    left, right = figure.axes
    middle = TABLE["difference"].tolist()
    assert [line.get_xdata()[0] for line in marks_of(left)] == [5 * value for value in middle]
    assert [line.get_xdata()[0] for line in marks_of(right)] == middle
    assert left.get_xlim() == right.get_xlim()
    assert right.get_xlabel() == "difference from plain,\nin errors of 10,000"
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "± 15: smallest effect of interest"
    # What 10,000 images make of a difference decides whether it is too small.
    inside = TABLE.assign(difference=[2.0] * 3, low=[1.0] * 3, high=[4.0] * 3)
    both = plots.did_it_hold({"a": inside, "b": inside}, images={"a": 1_000, "b": 10_000}, smallest_effect=5)
    assert [marks_of(ax)[0].get_marker() for ax in both.axes] == [">", "s"]


@pytest.mark.parametrize("images", [{"small": 2_000}, {"small": 2_000, "full": 0}])
def test_images_are_a_positive_number_for_each_run(images):
    with pytest.raises(ValueError, match="images must give a positive number for each of"):
        plots.did_it_hold({"small": TABLE, "full": TABLE}, images=images)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({}, "needs at least one table"),
        ({"small": TABLE, "full": TABLE.iloc[:2]}, "'full' has other rows than the first table"),
        ({"small": {"arm": ["a"]}}, "no column 'difference'"),
    ],
)
def test_runs_with_other_rows_are_not_drawn_side_by_side(tables, told):
    with pytest.raises(ValueError, match=told):
        plots.did_it_hold(tables)
