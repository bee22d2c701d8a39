"""The folded answers in a chapter's source: where they stand, and what the record says should stand there."""

import re
import textwrap
from collections.abc import Mapping

HEADING = re.compile(r"^# ## Think, then try$", flags=re.MULTILINE)
FOLDED = re.compile(r"^# (?P<indent> *)<details><summary>[^\n]*\n(?P<body>.*?)^# *</details>", re.MULTILINE | re.DOTALL)
WIDTH = 118


def with_answers(source: str, texts: Mapping[str, str]) -> str:
    """Return a chapter's source with the folded answers of a record in their places.

    Parameters
    ----------
    source : str
        A chapter in the percent format.
    texts : mapping of str to str
        Markdown by number of the question: "2" is the second ``<details>`` below the heading *Think, then try*.

    Raises
    ------
    ValueError
        If the chapter has no such heading or no such question.
    """
    parts = HEADING.split(source)
    if len(parts) != 2:
        raise ValueError("the chapter needs one heading 'Think, then try'.")
    places = list(FOLDED.finditer(parts[1]))
    below = parts[1]
    for number, text in sorted(texts.items(), key=lambda item: int(item[0]), reverse=True):
        if not 1 <= int(number) <= len(places):
            raise ValueError(f"there is an answer {number}, and the chapter has {len(places)} folded ones.")
        place = places[int(number) - 1]
        below = below[: place.start("body")] + _commented(text, place["indent"]) + below[place.end("body") :]
    return parts[0] + "# ## Think, then try" + below


def _commented(text: str, indent: str) -> str:
    """Return Markdown as comment lines between two empty ones; text is wrapped, tables and code are not."""
    lines = [""]
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(text).strip()):
        if paragraph.lstrip().startswith(("|", "```")):
            lines += [*paragraph.splitlines(), ""]
        else:
            for item in re.split(r"\n(?=- )", paragraph):  # the points of a list begin lines of their own
                hanging = "  " if item.startswith("- ") else ""
                lines += textwrap.wrap(
                    " ".join(item.split()), WIDTH - len(indent), subsequent_indent=hanging, break_long_words=False,
                    break_on_hyphens=False,
                )  # fmt: skip
            lines.append("")
    return "".join(f"# {indent}{line}".rstrip() + "\n" for line in lines)
