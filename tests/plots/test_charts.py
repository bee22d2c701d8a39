"""Charts: helpers draw the numbers that they are given and nothing else."""

import numpy as np
import pytest
import torch

from kdcourse import plots


def test_curve_draws_the_numbers_it_got_in_the_look_of_its_role():
    ax = plots.curve([1, 2, 4], torch.tensor([3.0, 2.0, 1.0]), role="kd", label="KD")
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 3], [2, 2], [4, 1]])
    assert line.get_color() == plots.COLORS["kd"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["KD"]


def test_curve_draws_into_given_axes_with_a_band_and_an_own_colour():
    ax = plots.new_axes()
    assert plots.curve(range(3), [1, 2, 3], low=[0, 1, 2], high=[2, 3, 4], color="black", ax=ax) is ax
    assert len(ax.collections) == 1
    assert ax.lines[0].get_color() == "black"


def test_probability_bars_are_as_high_as_the_probabilities():
    logits = torch.tensor([2.0, 0.0, -1.0])
    ax = plots.probability_bars({"T = 1": logits.softmax(0), "T = 4": (logits / 4).softmax(0)}, label=0)
    heights = [bar.get_height() for bars in ax.containers for bar in bars]
    expected = np.concatenate([np.exp(x) / np.exp(x).sum() for x in (np.array([2, 0, -1.0]), np.array([2, 0, -1]) / 4)])
    np.testing.assert_allclose(heights, expected, rtol=1e-6)
    assert ax.get_xticklabels()[0].get_fontweight() == "bold"


def test_training_curves_carry_marks_at_the_steps_of_a_change():
    ax = plots.training_curves({"student": ([0, 10], [5, 3]), "no_teacher": ([0, 10], [5, 4])}, marks={4: "T = 8"})
    assert [text.get_text() for text in ax.texts] == ["T = 8"]
    assert ax.lines[2].get_xdata()[0] == 4
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["student", "no teacher"]


def test_a_matrix_writes_its_numbers_and_names():
    ax = plots.matrix(torch.tensor([[0.0, -1.0], [3.0, 0.5]]), numbers=".1f", rows="ab", columns="cd")
    assert ax.images[0].get_clim() == (-1, 3)
    assert sorted(text.get_text() for text in ax.texts) == ["-1.0", "0.0", "0.5", "3.0"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["c", "d"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.curve([1, 2], [1]), "2 x, 1 y"),
        (lambda: plots.curve([], []), "x must be a non-empty list of numbers"),
        (lambda: plots.curve(["a"], [1]), "x must be numbers"),
        (lambda: plots.curve([1], [1], low=[0]), "a band needs both its ends"),
        (lambda: plots.curve([1], [1], role="kdd"), "there is no role 'kdd'"),
        (lambda: plots.probability_bars([2.0, -1.0]), "must not be negative.*Logits"),
        (lambda: plots.probability_bars([0.5, 0.6]), "must sum to 1, got a smallest of 0.5 and a sum of 1.1"),
        (lambda: plots.probability_bars([[0.5, 0.5]]), r"non-empty list of numbers, got shape \(1, 2\)"),
        (lambda: plots.probability_bars([0.5, 0.5], label=2), "label must be a class from 0 to 1, got 2"),
        (lambda: plots.training_curves({}), "at least one curve"),
        (lambda: plots.matrix([1, 2]), r"must be a matrix \(R, C\), got shape \(2,\)"),
        (lambda: plots.matrix([[1, 2]], columns="a"), "columns must name 2 lines of the matrix, got 1"),
    ],
)
def test_bad_input_is_told_what_is_needed(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
