"""Relation matrices side by side: one colour scale, classes named once, bad input refused."""

import pytest
import torch

from kdcourse.plots import relation_matrices, to_png

LABELS = [0, 0, 3, 3, 3]


def test_all_matrices_share_one_scale_and_name_each_class_once():
    small, large = torch.eye(5), 4 * torch.eye(5)
    figure = relation_matrices({"teacher": small, "student": large}, labels=LABELS, label="distance")
    *maps, bar = figure.axes
    assert [ax.get_title() for ax in maps] == ["teacher", "student"]
    assert {ax.images[0].get_clim() for ax in maps} == {(0, 4)}
    assert [text.get_text() for text in maps[0].get_xticklabels()] == ["0", "3"]
    assert maps[0].get_xticks().tolist() == [0.5, 3]
    assert bar.get_ylabel() == "distance"
    assert to_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("matrices", "told"),
    [
        ({}, "at least one matrix"),
        ({"teacher": torch.eye(4)}, r"must be \(5, 5\)"),
        ({"teacher": torch.full((5, 5), float("nan"))}, "not finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(matrices, told):
    with pytest.raises(ValueError, match=told):
        relation_matrices(matrices, labels=LABELS)
