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


# Controls of both kinds, marks that change the direction of writing, characters that take no place, separators of lines
# that only some programs know, halves of pairs.
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff"
)
_IN_TEXT, _IN_LINE = re.compile(f"[{_UNSEEN}]"), re.compile(f"[{_UNSEEN}\t\n]")


def visible(text: str) -> str:
    """Return a text in which characters that reorder or hide others are written out, such as U+202E."""
    return _IN_TEXT.sub(_named, text)


def visible_line(text: str) -> str:
    """Return a text as `visible` does, with ends of lines and tabs written out too."""
    return _IN_LINE.sub(_named, text)


def _named(character: re.Match[str]) -> str:
    return f"⟨U+{ord(character[0]):04X}⟩"
