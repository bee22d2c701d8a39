"""Images side by side: every pixel once, every caption."""

import numpy as np
import pytest
import torch

from kdcourse import plots


def test_a_digit_grid_shows_every_pixel_once_and_every_caption():
    images = torch.rand(5, 1, 28, 28)
    ax = plots.digit_grid(images, captions=list("abcde"), columns=3)
    sheet = ax.images[0].get_array()
    np.testing.assert_allclose(float(sheet.sum()), float(images.sum()), rtol=1e-5)
    np.testing.assert_allclose(sheet[:28, 30:58], images[1, 0], rtol=1e-6)
    assert [text.get_text() for text in ax.texts] == list("abcde")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.digit_grid(torch.rand(3, 2, 4, 4)), r"images must have shape .* got \(3, 2, 4, 4\)"),
        (lambda: plots.digit_grid(torch.rand(3, 4, 4), captions=["a"]), "got 1 for 3 images"),
        (lambda: plots.digit_grid(torch.rand(3, 4, 4), columns=0), "columns must be a positive integer"),
    ],
)
def test_bad_input_is_told_what_is_needed(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
