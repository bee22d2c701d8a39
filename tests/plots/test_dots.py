"""Named numbers from several sources: what is drawn, and what is refused."""

import pytest

from kdcourse.plots import dots

PAPER = {"plain": 146, "smoothed": None, "distilled": 74}
HERE = {"plain": 143, "smoothed": 121, "distilled": 80.3}


def test_each_source_has_a_dot_in_each_row_that_it_knows():
    ax = dots({"paper": PAPER, "here": HERE}, xlabel="errors")
    assert {line.get_label(): len(line.get_xdata()) for line in ax.lines} == {"paper": 2, "here": 3}
    assert [text.get_text() for text in ax.texts] == ["146", "74", "143", "121", "80"]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(PAPER)
    assert ax.yaxis_inverted()


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "one or two sources, got 0"),
        ({"paper": PAPER, "here": {"plain": 1}}, "the same names"),
        ({"paper": {"plain": 0}}, "above 0, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(sources, message):
    with pytest.raises(ValueError, match=message):
        dots(sources, xlabel="errors")
