"""The look of pictures: one meaning one colour, told apart by every reader, on paper that does not glare."""

import itertools
import subprocess
import sys

import matplotlib.colors
import numpy as np
import pytest

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


def luminance(colour):
    return linear(colour) @ [0.2126, 0.7152, 0.0722]


def test_every_colour_has_a_contrast_of_three_to_one_on_the_paper_it_brings_along_and_text_of_seven_to_one():
    paper = luminance(plots.PAPER) + 0.05
    for name, colour in plots.COLORS.items():
        assert paper / (luminance(colour) + 0.05) >= 3, name
    assert paper / (luminance(plots.INK) + 0.05) >= 7


def test_the_paper_is_darker_than_white_and_looks_grey():
    assert 0.7 < luminance(plots.PAPER) < 0.85
    channels = matplotlib.colors.to_rgb(plots.PAPER)
    assert max(channels) - min(channels) < 0.03


def test_any_two_lines_differ_without_colour():
    assert plots.LINES.keys() == plots.COLORS.keys()
    looks = {name: (str(line["linestyle"]), line["marker"]) for name, line in plots.LINES.items()}
    assert len(set(looks.values())) == len(looks)
    for name, line in plots.LINES.items():
        assert line["color"] == plots.COLORS[name]


def test_importing_plots_leaves_pyplot_and_ipywidgets_alone():
    code = "import sys, kdcourse.plots; print({'matplotlib.pyplot', 'ipywidgets', 'IPython'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
