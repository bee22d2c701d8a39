"""Schedules are pure functions that start where they say and end where they say."""

import math
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcourse.training.schedules import constant, cosine, linear, piecewise, progress_of, step

values = st.floats(-100, 100)
progresses = st.floats(0, 1)
between = {"linear": linear, "cosine": cosine, "piecewise": lambda a, b: piecewise([(0, a), (0.4, 3.0), (1, b)]),
           "step": lambda a, b: step([a, 3.0, b])}  # fmt: skip


@pytest.mark.trap(54)
@pytest.mark.parametrize("name", between)
@given(start=values, end=values)
def test_a_schedule_has_its_start_at_progress_0_and_its_end_at_progress_1_exactly(name, start, end):
    schedule = between[name](start, end)
    assert schedule(0) == start
    assert schedule(1) == end


@pytest.mark.trap(54)
def test_the_last_of_five_stages_trains_at_the_end_value():
    temperature, alpha = step([10, 7.75, 5.5, 3.25, 1]), linear(0.5, 0.9)
    stages = [progress_of(stage, 5) for stage in range(5)]
    assert [temperature(p) for p in stages] == [10, 7.75, 5.5, 3.25, 1]
    assert alpha(stages[-1]) == 0.9
    # Dividing by the count of stages instead ends at T = 2.8: its last value comes after the last stage.
    assert linear(10, 1)(4 / 5) == pytest.approx(2.8)
    assert linear(10, 1)(progress_of(4, 5)) == 1
    # Of 100 steps every stage has 20, the last one too.
    assert Counter(temperature(progress_of(now, 100)) for now in range(100)) == dict.fromkeys(
        [10, 7.75, 5.5, 3.25, 1], 20
    )


@given(total=st.integers(2, 1000))
def test_progress_runs_from_0_to_1_in_equal_steps(total):
    steps = [progress_of(index, total) for index in range(total)]
    np.testing.assert_allclose(steps, np.linspace(0, 1, total), rtol=0, atol=1e-12)
    assert steps[0] == 0
    assert steps[-1] == 1


def test_a_run_of_one_step_is_at_its_end():
    assert progress_of(0, 1) == 1


@given(start=values, end=values, progress=progresses)
def test_linear_is_the_weighted_mean_of_its_ends(start, end, progress):
    assert linear(start, end)(progress) == pytest.approx(np.interp(progress, [0, 1], [start, end]), abs=1e-9)


@given(start=values, end=values, progress=progresses)
def test_cosine_follows_half_a_wave(start, end, progress):
    expected = end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
    assert cosine(start, end)(progress) == pytest.approx(expected, abs=1e-9)


@given(progress=progresses)
def test_cosine_is_flat_at_both_ends_and_symmetric(progress):
    schedule = cosine(0, 1)
    assert schedule(progress) + schedule(1 - progress) == pytest.approx(1)
    assert schedule(1e-4) < 1e-7
    assert 1 - schedule(1 - 1e-4) < 1e-7


@pytest.mark.parametrize("make", [linear, cosine])
@given(start=values, end=values)
def test_schedules_between_two_ends_are_monotone_and_never_leave_them(make, start, end):
    path = np.array([make(start, end)(p) for p in np.linspace(0, 1, 33)])
    assert path.min() >= min(start, end) - 1e-9
    assert path.max() <= max(start, end) + 1e-9
    assert (np.diff(path) * np.sign(end - start) >= -1e-9).all()


@given(heights=st.lists(values, min_size=1, max_size=7))
def test_stages_have_equal_length_and_each_value_its_stage(heights):
    count = len(heights)
    middles = [step(heights)((stage + 0.5) / count) for stage in range(count)]
    assert middles == heights


@given(inner=st.lists(st.tuples(st.floats(0.01, 0.99), values), max_size=6, unique_by=lambda p: p[0]), at=progresses)
def test_piecewise_interpolates_its_points_and_passes_through_each(inner, at):
    points = [(0.0, 2.0), *sorted(inner), (1.0, -1.0)]
    schedule = piecewise(points)
    for progress, value in points:
        assert schedule(progress) == pytest.approx(value, abs=1e-9)
    xs, ys = zip(*points, strict=True)
    assert schedule(at) == pytest.approx(np.interp(at, xs, ys), abs=1e-6)


@given(progress=progresses)
def test_constant_is_constant(progress):
    assert constant(4)(progress) == 4


def test_schedules_are_pure_and_survive_pickling():
    for schedule in (constant(4), linear(8, 1), cosine(8, 1), step([3, 2]), piecewise([(0, 1), (1, 2)])):
        copy = pickle.loads(pickle.dumps(schedule))
        order = [0.7, 0.1, 1, 0, 0.7]
        assert [copy(p) for p in order] == [schedule(p) for p in order]
        assert schedule(0.7) == schedule(0.7)


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan])
def test_progress_outside_the_run_is_refused(progress):
    for schedule in (constant(4), linear(8, 1), cosine(8, 1), step([3, 2]), piecewise([(0, 1), (1, 2)])):
        with pytest.raises(ValueError, match=r"progress must be in \[0, 1\], got .* progress_of"):
            schedule(progress)


@pytest.mark.parametrize("index", [5, -1])
def test_steps_outside_the_run_are_refused(index):
    with pytest.raises(ValueError, match=rf"step must be in \[0, 5\), got {index}\. .* so the last one is 4"):
        progress_of(index, 5)


@pytest.mark.parametrize("total", [0, -3])
def test_a_run_without_steps_has_no_progress(total):
    with pytest.raises(ValueError, match=f"a run needs at least one step, got total={total}: of nothing there is no"):
        progress_of(0, total)


def test_values_that_are_not_finite_are_refused():
    for make, name, value in (
        (lambda: constant(math.nan), "value", "nan"),
        (lambda: linear(math.inf, 1), "start", "inf"), (lambda: linear(1, math.inf), "end", "inf"),
        (lambda: cosine(math.nan, 1), "start", "nan"), (lambda: cosine(1, math.nan), "end", "nan"),
        (lambda: step([1, math.inf]), "every value", "inf"),
        (lambda: piecewise([(0, 1), (1, math.nan)]), "every value", "nan"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name} of a schedule must be a finite number, got {value}"):
            make()


def test_points_that_leave_the_schedule_open_are_refused():
    with pytest.raises(ValueError, match="at least one value"):
        step([])
    for points in ([], [(0, 1)], [(0.1, 1), (1, 2)], [(0, 1), (0.9, 2)]):
        with pytest.raises(ValueError, match="must run from progress 0 to progress 1"):
            piecewise(points)
    for points in ([(0, 1), (0.5, 2), (0.5, 3), (1, 4)], [(0, 1), (0.6, 2), (0.5, 3), (1, 4)]):
        with pytest.raises(ValueError, match="must be in order of progress"):
            piecewise(points)
