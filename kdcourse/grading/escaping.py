"""Text of a learner's made safe to show: for a terminal, a page, and a spreadsheet.

The grader. Names of files, messages and code may hold characters that drive a terminal, reorder or hide text, or make a
spreadsheet compute.
"""

import re


def without_formulas(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; learners choose their file names.

    Where the semicolon separates columns, as in much of Europe, a formula may also begin after one.
    """
    return re.sub(r"(^|[;|\t\r\n]\s*)(?=[=+\-@\t\r＝＋－＠])", r"\1'", text)


def visible(text: str) -> str:
    """Return a text in which characters that reorder or hide others are written out, such as U+202E."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff]", _named, text)


def _named(character: re.Match[str]) -> str:
    return f"⟨U+{ord(character[0]):04X}⟩"
