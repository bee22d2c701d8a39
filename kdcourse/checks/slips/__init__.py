"""The wrong answers that the checks know by name: one catalogue for each exercise.

A catalogue is a mapping from the name of a mistake to a `Slip`. A wrong function has the arguments of the function that
the learner writes, so it can be read as what somebody who makes this mistake would hand in.
"""

from collections.abc import Callable, Mapping
from typing import Any


class Slip:
    """A typical mistake: the message for whoever makes it, and functions that make it.

    Attributes
    ----------
    message : str
        Name of the mistake and why it matters, in one or two sentences; not the repaired line.
    wrong : tuple of callable
        Functions that make the mistake, often a single one. Each takes the arguments of the learner's function.
    """

    __slots__ = ("message", "wrong")

    def __init__(self, message: str, *wrong: Callable[..., Any]) -> None:
        self.message, self.wrong = message, wrong


Slips = Mapping[str, Slip]


def mapped(slips: Slips, change: Callable[[Callable], Callable], *names: str, prefix: str = "") -> dict[str, Slip]:
    """Carry mistakes over to a larger function: the same messages, with every wrong function passed to ``change``.

    Parameters
    ----------
    slips : mapping from str to Slip
        Catalogue of the smaller function.
    change : callable
        Takes a wrong function and returns the larger one that calls it.
    *names : str
        Names of the mistakes to carry over; all of them by default.
    prefix : str
        Text in front of the names, where the larger function has mistakes of the same name.
    """
    return {prefix + name: Slip(slips[name].message, *map(change, slips[name].wrong)) for name in names or slips}
