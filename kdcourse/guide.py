"""The decision guide: common advice, and what the ledger of claims answers to it. Chapter 10.

The advice stands in ``guide.toml``. Every answer and every number comes from the record of the ledger, which
``tools/update_docs.py`` makes of the experiments. So a line changes when its record does.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from .records import read_record

ANSWERS = {
    "holds": "yes",
    "holds here only if": "only",
    "does not hold here": "no",
    "unclear": "unclear",
    "not run yet": "not run yet",
}
LONGEST_WHERE = 18  # characters; longer conditions are counted
UNITS = {  # shorter names, for a line of the sheet
    "% of the child's errors": "% of its errors",
    "doublings of noise over signal": "doublings of noise",
    "errors on noisy images": "errors, noisy images",
    "refused pairs of one": "refused",
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One line of the guide.

    Attributes
    ----------
    advice : str
        What one is told to do or to expect.
    row : str
        Name of the ledger's row that tests it.
    anchor : str
        Place of the row in docs/ledger.md.
    answer : str
        ``"yes"``, ``"only"``, ``"no"``, ``"unclear"`` or ``"not run yet"``.
    where : str
        Where the answer is "only": the conditions, or how many of them; else empty.
    effect : str
        Difference from the baseline: with its 95 % interval if one comparison decides, from smallest to largest if
        several do. Empty if nothing was run.

    Examples
    --------
    >>> Line("Let T rise.", "T rises", "t-rises", "only", "with few images", "−9 [−12, −6] errors").words
    'only with few images'
    """

    advice: str
    row: str
    anchor: str
    answer: str
    where: str = ""
    effect: str = ""

    @property
    def words(self) -> str:
        """The answer with its conditions."""
        return f"{self.answer} {self.where}".strip()


def read_guide(rows: Sequence[Row] | None = None) -> dict[str, tuple[Line, ...]]:
    """Return the guide's lines by topic.

    Parameters
    ----------
    rows : sequence of dict, optional
        Rows of the ledger, as in the package's record ``ledger``, which is read by default.

    Raises
    ------
    ValueError
        If the ledger lacks a row that the guide asks for.

    Examples
    --------
    >>> guide = read_guide()
    >>> list(guide)[:3]
    ['A teacher, or none', 'What to distil', 'Temperature T']
    >>> {line.answer for lines in guide.values() for line in lines} <= set(ANSWERS.values())
    True
    """
    known = {row["name"]: row for row in (read_record("ledger")["rows"] if rows is None else rows)}
    asked = _advice()
    if missing := [line["row"] for lines in asked.values() for line in lines if line["row"] not in known]:
        raise ValueError(f"the ledger has no row {missing[0]!r}, which the guide asks for.")
    return {
        topic: tuple(make_line(line["advice"], known[line["row"]]) for line in lines) for topic, lines in asked.items()
    }


def make_line(advice: str, row: Row) -> Line:
    """Return the line of a piece of advice, from the row that tests it.

    Examples
    --------
    >>> effects = [{"words": "few images", "difference": -9.2, "low": -12.1, "high": -6.3, "decides": True}]
    >>> row = {"name": "T rises", "anchor": "t-rises", "verdict": "holds", "where": [], "conditions": ["few images"],
    ...        "effects": effects, "unit": "errors", "smallest_effect": 15}
    >>> make_line("Let T rise.", row).effect
    '−9 [−12, −6] errors'
    """
    answer = ANSWERS[row["verdict"]]
    where = _where(row) if answer == "only" else ""
    return Line(advice, row["name"], row["anchor"], answer, where, effect_in_words(row))


def effect_in_words(row: Row) -> str:
    """Return how large a row's effects are: one with its interval, of several the smallest and the largest.

    Examples
    --------
    >>> effects = [{"difference": d, "low": d - 3, "high": d + 3, "decides": True} for d in (-9, -2, 4)]
    >>> effect_in_words({"effects": effects, "unit": "errors", "smallest_effect": 15})
    '−9 to +4 errors'
    """
    deciding = [effect for effect in row["effects"] if effect["decides"]]
    if not deciding:
        return ""
    unit = UNITS.get(row["unit"], row["unit"])
    digits = 2 if row["smallest_effect"] < 0.2 else 1 if row["smallest_effect"] < 5 else 0
    if len(deciding) == 1:
        numbers = [_signed(deciding[0][name], digits) for name in ("difference", "low", "high")]
        return f"{numbers[0]} [{numbers[1]}, {numbers[2]}] {unit}"
    ends = [_signed(end([effect["difference"] for effect in deciding]), digits) for end in (min, max)]
    return f"{ends[0]} to {ends[1]} {unit}"


def guide_table(lines: Sequence[Line], *, ledger: str) -> str:
    """Return lines as a Markdown table whose answers lead to the ledger.

    Parameters
    ----------
    lines : sequence of Line
    ledger : str
        Address of docs/ledger.md, seen from the page.

    Examples
    --------
    >>> line = Line("Let T rise.", "T rises", "t-rises", "yes", effect="−9 [−12, −6] errors")
    >>> print(guide_table([line], ledger="ledger.md").splitlines()[-1])
    | Let T rise. | [**yes**](ledger.md#t-rises) | −9 [−12, −6] errors |
    """
    head = ["| advice | here | effect |", "| --- | --- | --- |"]
    return "\n".join([*head, *(_cells(line, ledger) for line in lines)])


def counts_in_words(rows: Sequence[Row] | None = None) -> str:
    """Return how many claims were tested, and with which verdicts, as a sentence.

    Examples
    --------
    >>> counts_in_words([{"verdict": "holds"}, {"verdict": "unclear"}, {"verdict": "not run yet"}])
    '2 claims were tested: 1 holds, 1 unclear. 1 is written down and not run yet.'
    """
    counts = Counter(row["verdict"] for row in (read_record("ledger")["rows"] if rows is None else rows))
    waiting = counts.pop("not run yet", 0)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ANSWERS if counts[verdict])
    rest = f" {waiting} {'is' if waiting == 1 else 'are'} written down and not run yet." if waiting else ""
    return f"{counts.total()} claims were tested: {words}.{rest}"


def _cells(line: Line, ledger: str) -> str:
    answer = f"**{line.answer}** {line.where}".strip()
    return f"| {line.advice} | [{answer}]({ledger}#{line.anchor}) | {line.effect or '–'} |"


def _where(row: Row) -> str:
    """Return the conditions of a claim that holds in some, or how many they are."""
    listed = " or ".join(row["where"])
    if len(listed) <= LONGEST_WHERE:
        return f"if {listed}"
    return f"in {len(row['where'])} of {len(row['conditions'])} settings"


def _signed(value: float, digits: int) -> str:
    text = f"{value:+,.{digits}f}"
    return text.lstrip("+-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


@cache
def _advice() -> dict[str, list[dict[str, str]]]:
    file = resources.files(__package__).joinpath("guide.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))
