"""All shifts of an image: as jitter shifts it, with the image itself in the middle."""

import pytest
import torch

from kdcourse.data import jitter
from kdcourse.data.views import shifted_views


def test_the_middle_view_is_the_image():
    images = torch.rand(4, 1, 7, 9)
    views = shifted_views(images)
    assert views.shape == (25, 4, 1, 7, 9)
    assert views[12].equal(images)


def test_every_jittered_image_is_among_the_views():
    images = torch.rand(30, 1, 8, 8)
    views, moved = shifted_views(images), jitter(images, torch.Generator().manual_seed(1))
    places = [[bool(view[n].equal(moved[n])) for view in views].index(True) for n in range(30)]
    assert len(set(places)) > 10


def test_what_leaves_the_picture_is_gone_and_the_gap_is_black():
    images = torch.ones(1, 1, 3, 3)
    first = shifted_views(images, pixels=1)[0, 0, 0]  # everything one step down and to the right
    assert first.tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize(("images", "pixels"), [(torch.rand(28, 28), 2), (torch.rand(1, 1, 4, 4), -1)])
def test_input_that_cannot_be_shifted_is_told(images, pixels):
    with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\) and pixels >= 0"):
        shifted_views(images, pixels=pixels)
