"""Two tokenizers cut one text differently: where do both have a cut? Chapter 11."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Span(NamedTuple):
    """Tokens of both sides that cover the same part of a text.

    Attributes
    ----------
    student, teacher : slice
        Places among the tokens of each side.

    Examples
    --------
    >>> "a large cat".split()[Span(slice(0, 1), slice(0, 2)).student]
    ['a']
    """

    student: slice
    teacher: slice


def aligned_spans(student_ends: Sequence[int], teacher_ends: Sequence[int]) -> list[Span]:
    """Cut a text into the shortest parts at whose ends both tokenizers have a cut.

    Parameters
    ----------
    student_ends, teacher_ends : sequence of int
        Where each token ends, in bytes or characters of the text (the second number of a tokenizer's
        ``offset_mapping``), rising, without special tokens. Both must end at the same place.

    Returns
    -------
    list of Span
        In order, without gaps. After the last token of a span both models have read the same text, so their
        predictions of what follows may be compared.

    Raises
    ------
    ValueError
        If a side is empty or does not rise, or if the two end at different places.

    Examples
    --------
    >>> for span in aligned_spans([1, 7, 11], [1, 4, 7, 9, 11]):  # a|large|cat, a|lar|ge|ca|t
    ...     print(span.student, span.teacher)
    slice(0, 1, None) slice(0, 1, None)
    slice(1, 2, None) slice(1, 3, None)
    slice(2, 3, None) slice(3, 5, None)
    """
    for name, ends in (("student_ends", student_ends), ("teacher_ends", teacher_ends)):
        if len(ends) == 0 or any(later <= earlier for earlier, later in pairwise(ends)):
            raise ValueError(f"{name} must rise from token to token, got {list(ends)!r:.80}. Leave special tokens out.")
    if student_ends[-1] != teacher_ends[-1]:
        raise ValueError(
            f"both sides must end at the same place of one text, got {student_ends[-1]} and {teacher_ends[-1]}: was "
            "one of them cut off?"
        )
    places = {end: place + 1 for place, end in enumerate(teacher_ends)}
    common = [(place + 1, places[end]) for place, end in enumerate(student_ends) if end in places]
    starts = [(0, 0), *common[:-1]]
    return [Span(slice(a, c), slice(b, d)) for (a, b), (c, d) in zip(starts, common, strict=True)]
