"""Attention maps over digits: each map over its own digit, scaled to its own largest value, with the right outline."""

import numpy as np
import pytest
import torch

from kdcourse import plots
from kdcourse.plots.attention import GAP, enlarge, outline
from kdcourse.plots.style import INK_ON_PAPER


def sheet_of(ax):
    return np.asarray(ax.images[0].get_array())


def cell(sheet, row, column, size=28):
    top, left = row * (size + GAP), column * (size + GAP)
    return sheet[top : top + size, left : left + size]


def test_the_grid_has_the_digits_and_below_them_a_row_for_each_set_of_maps(mnist):
    images = mnist.test.images[:3]
    ax = plots.attention_grid(images, {"first": torch.rand(3, 14, 14), "second": torch.rand(3, 7, 7)})
    sheet = sheet_of(ax)
    assert sheet.shape == (3 * 30 - GAP, 3 * 30 - GAP, 3)
    for column, image in enumerate(images):
        np.testing.assert_allclose(
            cell(sheet, 0, column), INK_ON_PAPER((image[0] / image.max()).numpy())[..., :3], atol=1e-6
        )
    assert [text.get_text() for text in ax.get_yticklabels()] == ["digit", "first", "second"]


def test_a_map_is_scaled_to_its_own_largest_value_so_that_its_size_does_not_show(mnist):
    maps = torch.rand(2, 7, 7, generator=torch.Generator().manual_seed(0))
    draw = [plots.attention_grid(mnist.test.images[:2], {"maps": factor * maps}) for factor in (1, 1e-6)]
    np.testing.assert_allclose(*(sheet_of(ax) for ax in draw), atol=0.01)


def test_the_brightest_position_is_drawn_where_it_is(mnist):
    maps = torch.zeros(1, 7, 7)
    maps[0, 2, 5] = 1.0
    drawn = cell(sheet_of(plots.attention_grid(mnist.test.images[:1], {"maps": maps})), 1, 0).sum(axis=2)
    rows, columns = np.nonzero(drawn == drawn.max())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 11, 20, 23)  # blocks of 4 pixels


def test_an_empty_map_and_an_empty_image_are_drawn_without_a_warning(recwarn):
    plots.attention_grid(torch.zeros(1, 1, 28, 28), {"maps": torch.zeros(1, 7, 7)})
    assert not recwarn.list


def test_an_outline_runs_where_ink_is_half_as_dark():
    image = torch.zeros(28, 28)
    image[10:20, 5:15] = 0.8
    (line,) = outline(image)
    assert line[:, 0].min() == pytest.approx(4.5)
    assert line[:, 0].max() == pytest.approx(14.5)
    assert line[:, 1].min() == pytest.approx(9.5)
    assert line[:, 1].max() == pytest.approx(19.5)
    assert outline(torch.zeros(28, 28)) == []


def test_enlarging_repeats_each_position_as_a_block():
    values = np.arange(49.0).reshape(7, 7)
    np.testing.assert_array_equal(enlarge(values, 28, 28), np.kron(values, np.ones((4, 4))))


@pytest.mark.parametrize(
    ("images", "maps", "told"),
    [
        (torch.rand(2, 28, 28), {"a": torch.rand(2, 7, 7)}, "shape"),
        (torch.rand(2, 1, 28, 28), {}, "at least one row"),
        (torch.rand(2, 1, 28, 28), {"a": torch.rand(3, 7, 7)}, "one map for each"),
        (torch.rand(2, 1, 28, 28), {"a": torch.rand(2, 49)}, "unflatten"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_reason(images, maps, told):
    with pytest.raises(ValueError, match=told):
        plots.attention_grid(images, maps)
