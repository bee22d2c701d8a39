"""Spans of two tokenizations of one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcourse.data.alignment import aligned_spans

cuts = st.sets(st.integers(1, 29), max_size=20).map(lambda ends: [*sorted(ends), 30])


@given(student=cuts, teacher=cuts)
def test_spans_cover_the_same_text_on_both_sides_without_gaps_and_none_can_be_cut_further(student, teacher):
    text = "a large cat sat on a small mat"
    spans = aligned_spans(student, teacher)
    for ends, side in ((student, "student"), (teacher, "teacher")):
        pieces = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        joined = ["".join(pieces[getattr(span, side)]) for span in spans]
        assert "".join(joined) == text
        if side == "student":
            covered = joined
    assert joined == covered
    assert len(spans) == len(set(student) & set(teacher))


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ([], [3], "student_ends must rise from token to token"),
        ([1, 1, 3], [3], "Leave special tokens out"),
        ([1, 3], [3, 2], "teacher_ends must rise"),
        ([1, 3], [4], "got 3 and 4: was one of them cut off"),
    ],
)
def test_what_is_no_tokenization_of_one_text_is_refused(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        aligned_spans(student, teacher)
