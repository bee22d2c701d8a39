"""Pictures: one meaning one colour, for every reader; helpers draw what they are given and nothing else."""

import io
import itertools
import subprocess
import sys

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kdcourse import plots

# What the three kinds of dichromats see, linear RGB to linear RGB: Machado, Oliveira, Fernandes (2009), severity 1.
VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour):
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def cielab(rgb):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_any_two_colours_differ_for_every_kind_of_colour_vision(vision):
    seen = {name: cielab(np.array(VISION[vision]) @ linear(colour)) for name, colour in plots.COLORS.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= 20, (one, other)


def test_every_colour_has_a_contrast_of_three_to_one_on_the_white_it_brings_along():
    for name, colour in plots.COLORS.items():
        luminance = linear(colour) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) >= 3, name


def test_any_two_lines_differ_without_colour():
    assert plots.LINES.keys() == plots.COLORS.keys()
    looks = {name: (str(line["linestyle"]), line["marker"]) for name, line in plots.LINES.items()}
    assert len(set(looks.values())) == len(looks)
    for name, line in plots.LINES.items():
        assert line["color"] == plots.COLORS[name]


@pytest.mark.parametrize("size", [(0.62, 0.8857), (3.1, 2.0057), (6.0, 3.2), (5.58, 0.7), (4.349, 1.995)])
def test_a_picture_of_any_size_in_inches_becomes_png(size):
    width, height = size
    image = Image.open(io.BytesIO(plots.to_png(plots.new_axes(width=width, height=height))))
    assert abs(image.width - 100 * width) <= 1
    assert abs(image.height - 100 * height) <= 1


def test_a_figure_is_opaque_white_so_that_a_dark_page_does_not_shine_through():
    image = Image.open(io.BytesIO(plots.to_png(plots.new_axes())))
    assert image.convert("RGBA").getextrema()[3] == (255, 255)
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_importing_plots_leaves_pyplot_and_ipywidgets_alone():
    code = "import sys, kdcourse.plots; print({'matplotlib.pyplot', 'ipywidgets', 'IPython'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


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


def test_probability_bars_show_small_probabilities_on_a_logarithmic_axis():
    ax = plots.probability_bars(torch.tensor([0.9999, 0.0001]), log=True)
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 1e-4


def test_a_digit_grid_shows_every_pixel_once_and_every_caption():
    images = torch.rand(5, 1, 28, 28)
    ax = plots.digit_grid(images, captions=list("abcde"), columns=3)
    sheet = ax.images[0].get_array()
    np.testing.assert_allclose(float(sheet.sum()), float(images.sum()), rtol=1e-5)
    np.testing.assert_allclose(sheet[:28, 30:58], images[1, 0], rtol=1e-6)
    assert [text.get_text() for text in ax.texts] == list("abcde")


def test_training_curves_carry_marks_at_the_steps_of_a_change():
    ax = plots.training_curves({"student": ([0, 10], [5, 3]), "no_teacher": ([0, 10], [5, 4])}, marks={4: "T = 8"})
    assert [text.get_text() for text in ax.texts] == ["T = 8"]
    assert ax.lines[2].get_xdata()[0] == 4
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["student", "no teacher"]


def test_an_interval_that_holds_zero_is_drawn_hollow():
    table = pd.DataFrame({"arm": ["a", "b"], "difference": [-2.0, 1.0], "low": [-3.0, -1.0], "high": [-1.0, 3.0]})
    ax = plots.intervals(table.assign(baseline="plain"))
    hollow = [line.get_markerfacecolor() == "white" for line in ax.lines if line.get_marker() == "o"]
    assert hollow == [False, True]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a − plain", "b − plain"]


def test_a_matrix_is_symmetric_around_its_centre_and_writes_its_numbers():
    ax = plots.matrix(torch.tensor([[0.0, -1.0], [3.0, 0.5]]), numbers=".1f", centre=0, rows="ab", columns="cd")
    assert ax.images[0].get_clim() == (-3, 3)
    assert sorted(text.get_text() for text in ax.texts) == ["-1.0", "0.0", "0.5", "3.0"]


def test_show_stores_a_small_png_and_its_description(monkeypatch):
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", publisher)
    try:
        plots.show(plots.curve([0, 1], [0, 1]), alt="A straight line that rises.")
    finally:
        InteractiveShell.clear_instance()
    (output,) = publisher.outputs
    assert output["data"]["text/plain"] == "A straight line that rises."
    assert output["metadata"]["image/png"]["alt"] == "A straight line that rises."
    import base64

    image = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
    assert image.size == (600, 320)
    assert image.info["dpi"][0] <= 100.1


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
        (lambda: plots.digit_grid(torch.rand(3, 2, 4, 4)), r"images must have shape .* got \(3, 2, 4, 4\)"),
        (lambda: plots.digit_grid(torch.rand(3, 4, 4), captions=["a"]), "got 1 for 3 images"),
        (lambda: plots.digit_grid(torch.rand(3, 4, 4), columns=0), "columns must be a positive integer"),
        (lambda: plots.training_curves({}), "at least one curve"),
        (lambda: plots.intervals({"arm": ["a"]}), "the table has no column 'difference'"),
        (
            lambda: plots.intervals({"arm": ["a"], "difference": [2.0], "low": [0.0], "high": [1.0]}),
            "each interval must hold its difference",
        ),
        (lambda: plots.matrix([1, 2]), r"must be a matrix \(R, C\), got shape \(2,\)"),
        (lambda: plots.matrix([[1, 2]], columns="a"), "columns must name 2 lines of the matrix, got 1"),
        (lambda: plots.show(plots.new_axes(), alt=" "), "alt must say in a sentence"),
        (lambda: plots.to_png("picture"), "a picture is Axes or a Figure, got str"),
    ],
)
def test_bad_input_is_told_what_is_needed(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize("width", [4.6, 5.8, 6.0, 5.67])
def test_a_vertical_line_stays_vertical_whatever_the_width_in_inches(width):
    ax = plots.new_axes(width=width, height=2)
    ax.set_axis_off()
    ax.axvline(0.5, color="black", linewidth=3)
    pixels = np.asarray(Image.open(io.BytesIO(plots.to_png(ax))).convert("L"))  # (H, W)
    inside = pixels[20:-20]
    assert len({int(row.argmin()) for row in inside}) == 1
