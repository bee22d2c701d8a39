"""Schedules to begin with, and what can stand between the sliders of the schedule editor.

Chapter 07.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ...training.schedules import Schedule, constant, cosine, linear, piecewise, step

PROGRESS = (0.0, 0.25, 0.5, 0.75, 1.0)  # where the five sliders stand
LINES, STAGES = "straight lines", "five stages"  # what is between two sliders


class Preset(NamedTuple):
    """Values of the five sliders of each knob, and what is between two sliders."""

    temperatures: tuple[float, ...]
    alphas: tuple[float, ...]
    between: str = LINES


def _sample(schedule: Schedule) -> tuple[float, ...]:
    return tuple(schedule(progress) for progress in PROGRESS)


PRESETS = {
    "constant": Preset(_sample(constant(20.0)), _sample(constant(0.9))),
    "T falls": Preset(_sample(linear(20.0, 1.0)), _sample(constant(0.9))),
    "T rises": Preset(_sample(linear(1.0, 20.0)), _sample(constant(0.9))),
    "α falls": Preset(_sample(constant(20.0)), _sample(linear(1.0, 0.0))),
    "α rises": Preset(_sample(constant(20.0)), _sample(linear(0.0, 1.0))),
    "linear": Preset(_sample(linear(8.0, 2.0)), _sample(linear(0.9, 0.5))),
    "cosine": Preset(_sample(cosine(8.0, 2.0)), _sample(cosine(0.9, 0.5))),
    "steps": Preset((8.0, 6.5, 5.0, 3.5, 2.0), (0.9, 0.8, 0.7, 0.6, 0.5), STAGES),
    # The advice is T from 10 to 1 and α from .5 to 1 in five stages. It is often written with the number of the stage,
    # 0 to 4, divided by 5. So the last stage is at four fifths of the way, and nothing trains with T = 1 or α = 1.
    "the stages": Preset(
        tuple(10 - 9 * stage / 5 for stage in range(5)), tuple(0.5 + 0.5 * stage / 5 for stage in range(5)), STAGES
    ),
    "labels only": Preset(_sample(constant(4.0)), _sample(constant(0.0))),
}


def draw_schedule(values: Sequence[float], *, between: str) -> Schedule:
    """Return the schedule through the values of five sliders.

    Examples
    --------
    >>> draw_schedule([8, 4, 4, 2, 1], between=LINES)(0.125)
    6.0
    >>> draw_schedule([8, 4, 4, 2, 1], between=STAGES)(0.125)
    8.0
    """
    return step(values) if between == STAGES else piecewise(list(zip(PROGRESS, values, strict=True)))
