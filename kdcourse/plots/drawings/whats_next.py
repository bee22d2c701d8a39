"""Drawings of what comes next: a network that is its own teacher across tasks, and weights on a grid.

Chapter 12.
"""

from .answers import DEEP, GUESS, SOFT
from .svg import Drawing

STEPS = 4  # of the staircase


def draw_lwf() -> Drawing:
    """Draw learning without forgetting: the old network's answers to new images are kept as soft targets."""
    drawing = Drawing(
        780, 420,
        alt="Images of a new task, digits 2 and 3, go to the network as it was before, frozen, and to the network that "
        "learns. The old network's answers on the old digits 0 and 1 are soft targets. The labels of the new images "
        "are the other target. No image of the old task is there. Gradients reach the learning network only.",
    )  # fmt: skip
    drawing.box(12, 148, 122, 78, ["new images:", "2 and 3"], size=18)
    drawing.network(200, 24, 130, 92, DEEP, "as it was", role="teacher", frozen=True)
    drawing.network(200, 214, 130, 92, DEEP, "as it learns", role="student")
    drawing.arrow([(132, 170), (164, 70), (196, 70)])
    drawing.arrow([(132, 204), (164, 260), (196, 260)])
    drawing.bars(400, 36, 92, 66, SOFT[2:4], role="teacher")
    drawing.text(446, 122, "0 or 1?", role="teacher")
    drawing.arrow([(336, 70), (394, 70)])
    drawing.bars(400, 178, 92, 66, GUESS[3:5], role="student")
    drawing.text(446, 262, "0 or 1?", role="student")
    drawing.bars(400, 288, 92, 52, (0.25, 0.8), role="student")
    drawing.text(446, 358, "2 or 3?", role="student")
    drawing.arrow([(336, 240), (394, 216)])
    drawing.arrow([(336, 276), (394, 312)])
    drawing.box(572, 116, 180, 60, "λ · T² · KL", role="kd", size=22)
    drawing.arrow([(496, 76), (536, 76), (568, 128)])
    drawing.arrow([(496, 212), (536, 212), (568, 164)])
    drawing.box(572, 286, 92, 56, "CE", role="ce", size=22)
    drawing.arrow([(496, 316), (568, 316)])
    drawing.box(690, 286, 72, 56, "labels", role="ce", size=18)
    drawing.arrow([(688, 314), (668, 314)], role="ce")
    drawing.line([(756, 146), (771, 146), (771, 376)], role="student", dashed=True)
    drawing.line([(618, 346), (618, 376)], role="student", dashed=True)
    drawing.arrow([(771, 376), (265, 376), (265, 338)], role="student", gradient=True)
    drawing.legend(170, 402)
    return drawing


def draw_quantisation() -> Drawing:
    """Draw fake quantisation: values go up a staircase, gradients pass straight through."""
    drawing = Drawing(
        780, 330,
        alt="Floating-point weights pass through a staircase that rounds them to a few levels, and the layer computes "
        "with the rounded ones. On the way back the gradient does not see the staircase: it goes straight through to "
        "the floating-point weights. After training only the codes, of two bits in this drawing, and a scale go into "
        "the file.",
    )  # fmt: skip
    drawing.box(20, 92, 150, 78, ["weights", "32 bits each"], role="student")
    _staircase(drawing, 236, 60, 190, 142, STEPS)
    drawing.text(331, 226, "round to levels", role="kd")
    drawing.arrow([(174, 116), (232, 116)])
    drawing.box(490, 92, 120, 78, ["rounded", "weights"], role="kd")
    drawing.arrow([(432, 116), (486, 116)])
    drawing.arrow([(614, 130), (672, 130)])
    drawing.box(676, 100, 86, 60, "loss", role="ce")
    drawing.line([(719, 96), (719, 34), (95, 34)], role="student", dashed=True)
    drawing.arrow([(95, 34), (95, 88)], role="student", gradient=True)
    drawing.text(407, 16, "straight through", role="student", size=17)
    drawing.arrow([(550, 174), (550, 238)], role="kd")
    drawing.box(462, 242, 176, 50, "file: codes, scales", role="kd", size=18)
    drawing.legend(24, 284)
    return drawing


def _staircase(drawing: Drawing, x: float, y: float, width: float, height: float, steps: int) -> None:
    """Draw a diagonal and the staircase that rounds it."""
    drawing.line([(x, y + height), (x + width, y)], role="quiet", width=1.4, dashed=True)
    points = []
    for step in range(steps + 1):
        level = y + height * (1 - step / steps)
        left = x + width * max(0.0, (step - 0.5) / steps)
        right = x + width * min(1.0, (step + 0.5) / steps)
        points += [(left, level), (right, level)]
    drawing.line(points, role="kd", width=3.2)
