"""Drawings of modern distillation: a student that writes what it is taught on, and answers that are kept in part.

Chapter 11.
"""

from .answers import DEEP, SHALLOW
from .svg import Drawing

FULL = (0.9, 0.62, 0.34, 0.26, 0.22, 0.2, 0.18, 0.16, 0.14, 0.13)
CUT = (0.98, 0.68, 0.37, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
FEW = (0.9, 0.62, 0.34, 0.95)


def draw_on_policy() -> Drawing:
    """Draw on-policy distillation: the student writes, the teacher says at each token what it would have said."""
    drawing = Drawing(
        780, 462,
        alt="The student gets a prompt, the kind of a noun, and writes a text, token by token. The text goes to the "
        "frozen teacher and back to the student. Both say at each place how probable every next token is. The "
        "divergence of the two answers is the loss. Its gradient goes to the student's answers only, and not through "
        "the writing.",
    )  # fmt: skip
    drawing.box(14, 214, 112, 66, ["prompt:", "animal"], size=18)
    drawing.network(170, 200, 110, 84, SHALLOW, "student writes", role="student")
    drawing.arrow([(128, 247), (166, 247)])
    drawing.box(330, 216, 150, 62, ["a text:", "a large dog"], role="ce", size=18)
    drawing.arrow([(284, 247), (326, 247)], role="student")
    drawing.network(350, 40, 118, 92, DEEP, "teacher", role="teacher", frozen=True)
    drawing.arrow([(405, 212), (405, 170)])
    drawing.network(356, 330, 100, 64, SHALLOW, "student", role="student")
    drawing.arrow([(405, 282), (405, 324)])
    drawing.bars(524, 52, 96, 62, FULL[:7], role="teacher")
    drawing.text(572, 132, "next token?", role="teacher")
    drawing.arrow([(474, 86), (518, 86)])
    drawing.bars(524, 330, 96, 56, (0.3, 0.8, 0.2, 0.5, 0.16, 0.3, 0.14), role="student")
    drawing.text(572, 404, "next token?", role="student")
    drawing.arrow([(462, 362), (518, 362)])
    drawing.box(656, 208, 108, 66, ["KL at each", "token"], role="kd", size=18)
    drawing.arrow([(626, 92), (710, 92), (710, 204)])
    drawing.line([(710, 278), (710, 362)], role="student", dashed=True)
    drawing.arrow([(710, 362), (630, 362)], role="student", gradient=True)
    drawing.legend(150, 444)
    return drawing


def draw_kept_answers() -> Drawing:
    """Draw three ways to keep a teacher's answer: all of it, the largest renormalised, the largest with a bucket."""
    drawing = Drawing(
        780, 232,
        alt="A teacher's answer as ten bars: three large ones and a long flat tail. In the middle the three largest "
        "alone, made taller so that they sum to one; the tail is gone. On the right the three largest at their own "
        "heights, and one more bar, the bucket, for all the others together.",
    )  # fmt: skip
    for left, heights, title, below in (
        (30, FULL, "all of it", "6,024 numbers a token"),
        (300, CUT, "top 3, renormalised", "nothing for the others"),
        (570, FEW, "top 3 and a bucket", "the rest, counted once"),
    ):
        drawing.text(left + 90, 24, title, size=19)
        drawing.bars(left, 48, 180, 120, heights, role="teacher")
        drawing.text(left + 90, 198, below, size=17)
    drawing.arrow([(222, 110), (284, 110)])
    drawing.text(253, 92, "lossy", size=15)
    drawing.text(520, 110, "or", size=19)
    return drawing
