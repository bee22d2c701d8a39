"""Drawings of how advice is judged: from a claim to a word, and the cheat sheet of all answers on one page.

Chapter 10.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .answers import SHALLOW
from .svg import Drawing

WIDTH, HEIGHT = 1000, 1414  # the shape of a sheet of A4
LEFT, ANSWER, EFFECT = 36, 540, 716  # where the columns begin
RULES = (
    "Before you believe an answer, yours or this one:",
    "two baselines, plain and smoothed labels, with the same budget;",
    "pairs of runs that share a seed, five or more, and their interval;",
    "settings chosen on held-out images, reported on test images and new seeds;",
    "the smallest effect that would matter, written down before the run;",
    "unclear is a result. It is not the same as no effect.",
)


def draw_verdict() -> Drawing:
    """Draw how a claim becomes a word: a rule written first, pairs of students, an interval, and four words."""
    drawing = Drawing(
        780, 372,
        alt="First a claim and its rule are written down: what is compared, how many seeds, and the smallest effect of "
        "interest. Then pairs of students are trained, with a teacher and without, both of a pair from the same seed. "
        "Their differences give an interval. Where it lies decides the word: left of 0 is better, right of 0 is "
        "worse, inside the band around 0 is too small to matter, anything else is unclear.",
    )  # fmt: skip
    drawing.box(20, 36, 210, 128, ["1  claim and rule:", "baselines, seeds,", "smallest effect"], size=18)
    drawing.lock(198, 58)
    drawing.arrow([(234, 100), (286, 100)])
    drawing.text(394, 18, "2  pairs of one seed", bold=True, size=18)
    for number, y in enumerate((36, 84, 132), start=1):
        drawing.network(300, y, 62, 34, SHALLOW, "", role="student")
        drawing.network(424, y, 62, 34, SHALLOW, "", role="peer")
        drawing.text(393, y + 17, f"seed {number}", role="quiet", size=16)
    drawing.text(331, 182, "taught", role="student", size=16)
    drawing.text(455, 182, "not taught", role="peer", size=16)
    drawing.arrow([(500, 100), (550, 100)])
    drawing.text(660, 18, "3  differences", bold=True, size=18)
    for place in (600, 628, 676):
        drawing.circle(place, 76, 6, role="kd")
    drawing.line([(596, 120), (676, 120)], role="kd", width=5)
    drawing.line([(716, 50), (716, 146)], role="quiet", dashed=True)
    drawing.text(716, 162, "0", role="quiet", size=16)
    drawing.text(620, 144, "interval", role="kd", size=16)
    drawing.arrow([(660, 190), (660, 212), (390, 212), (390, 232)])
    drawing.text(130, 222, "4  one of four words", bold=True, size=18)
    for place, (word, low, high) in enumerate(
        (("better", -58, -30), ("too small", -12, 9), ("unclear", -44, 14), ("worse", 26, 60))
    ):
        _interval_box(drawing, 16 + 190 * place, 240, word, low, high)
    return drawing


def draw_cheat_sheet(guide: Mapping[str, Sequence[Any]]) -> Drawing:
    """Draw the decision guide as one page for print: a mark, the advice, the answer and the effect in each line.

    Parameters
    ----------
    guide : mapping from str to sequence
        Lines by topic, as :func:`kdcourse.guide.read_guide` returns: ``advice``, ``answer``, ``words`` and ``effect``.

    Returns
    -------
    Drawing

    Raises
    ------
    ValueError
        If there are more lines than a page holds.

    Examples
    --------
    >>> from kdcourse.guide import read_guide
    >>> sheet = draw_cheat_sheet(read_guide())
    >>> sheet.width, sheet.height
    (1000, 1414)
    """
    count = sum(len(lines) for lines in guide.values())
    step = (HEIGHT - 300) / (count + 1.5 * len(guide))
    if step < 14:
        raise ValueError(f"a page holds about 65 lines of the guide, got {count} in {len(guide)} topics.")
    counts = ", ".join(f"{sum(line.answer == answer for lines in guide.values() for line in lines)} {answer}"
                       for answer in ("yes", "only", "no", "unclear", "not run yet"))  # fmt: skip
    drawing = Drawing(
        WIDTH, HEIGHT,
        alt=f"The cheat sheet: {count} pieces of advice on distillation in {len(guide)} topics, each with a mark, an "
        f"answer and an effect: {counts}. The same lines stand in the tables of the decision guide.",
    )  # fmt: skip
    drawing.text(LEFT, 44, "Knowledge distillation: advice, tested", anchor="start", size=30, bold=True)
    drawing.text(LEFT, 78, "On MNIST with small networks, paired seeds, rules written before the runs. Effects: what "
                 "decides, in 95 % intervals.", anchor="start", size=14.5, role="quiet")  # fmt: skip
    _marks(drawing, 108)
    y = 146.0
    for topic, lines in guide.items():
        drawing.text(LEFT, y, topic, anchor="start", size=16, bold=True)
        drawing.line([(LEFT, y + 0.55 * step), (WIDTH - LEFT, y + 0.55 * step)], role="quiet", width=1)
        y += 1.15 * step
        for line in lines:
            _line(drawing, y, line, min(14.5, 0.9 * step))
            y += step
        y += 0.35 * step
    _rules(drawing, HEIGHT - 118)
    return drawing


def _line(drawing: Drawing, y: float, line: Any, size: float) -> None:
    _mark(drawing, LEFT + 9, y, line.answer)
    drawing.text(LEFT + 28, y, line.advice, anchor="start", size=size)
    known = line.answer != "not run yet"
    drawing.text(ANSWER, y, line.words, anchor="start", size=size, bold=known, role="ink" if known else "quiet")
    drawing.text(EFFECT, y, line.effect, anchor="start", size=min(size, 13), role="quiet")


def _mark(drawing: Drawing, x: float, y: float, answer: str) -> None:
    """Draw a sign that needs no colour: disc, disc in a ring, cross, question mark, or a dash."""
    if answer == "yes":
        drawing.circle(x, y, 4.6)
    elif answer == "only":
        drawing.circle(x, y, 5, filled=False)
        drawing.circle(x, y, 1.2)
    elif answer == "no":
        drawing.line([(x - 4.5, y - 4.5), (x + 4.5, y + 4.5)], width=2.6)
        drawing.line([(x - 4.5, y + 4.5), (x + 4.5, y - 4.5)], width=2.6)
    elif answer == "unclear":
        drawing.text(x, y, "?", size=15, bold=True)
    else:
        drawing.line([(x - 6, y), (x + 6, y)], role="quiet", width=2)


def _marks(drawing: Drawing, y: float) -> None:
    signs = {"yes": "yes, it holds", "only": "only in some settings", "no": "no, not here",
             "unclear": "unclear, measure it", "not run yet": "not run yet"}  # fmt: skip
    for place, (answer, words) in enumerate(signs.items()):
        x = LEFT + 9 + (0, 150, 370, 540, 756)[place]
        _mark(drawing, x, y, answer)
        drawing.text(x + 16, y, words, anchor="start", size=14.5)


def _rules(drawing: Drawing, y: float) -> None:
    head, *rules = RULES
    drawing.line([(LEFT, y - 22), (WIDTH - LEFT, y - 22)], width=1.4)
    drawing.text(LEFT, y, head, anchor="start", size=16, bold=True)
    for number, rule in enumerate(rules):
        drawing.text(LEFT, y + 20 + 18.5 * number, f"{number + 1}.  {rule}", anchor="start", size=14.5)


def _interval_box(drawing: Drawing, x: float, y: float, word: str, low: float, high: float) -> None:
    drawing.box(x, y, 178, 116)
    middle = x + 89
    drawing.box(middle - 20, y + 18, 40, 52, role="quiet", dashed=True)
    drawing.line([(middle, y + 10), (middle, y + 78)], role="quiet", width=1.6)
    drawing.line([(middle + low, y + 44), (middle + high, y + 44)], role="kd", width=5)
    drawing.circle(middle + (low + high) / 2, y + 44, 6, role="kd")
    drawing.text(middle, y + 96, word, size=17, bold=True)
