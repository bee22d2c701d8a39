"""Which sample an explorer shows: a digit, and one of the images of that digit.

Chapters 01, 03 and 06.
"""

import ipywidgets
from torch import Tensor

from ..controls import slider_layout, wide_layout

EXAMPLES = 20  # images of each digit to choose from


class SamplePicker:
    """A list of digits and a slider over examples. Together they pick one sample.

    Parameters
    ----------
    labels : Tensor of int, shape (N,)
    order : Tensor of int, shape (N,)
        Samples in the order in which they are offered.
    digit : int
        Digit at the start.

    Attributes
    ----------
    digit : ipywidgets.Dropdown
    example : ipywidgets.IntSlider
    offered : dict from int to list of int
        Samples of each digit.

    Raises
    ------
    ValueError
        If the data lack a digit.
    """

    def __init__(self, labels: Tensor, order: Tensor, *, digit: int) -> None:
        check_every_digit(labels)
        self.offered = {each: order[labels[order] == each][:EXAMPLES].tolist() for each in range(10)}
        self.digit = digit_dropdown(digit)
        self.example = ipywidgets.IntSlider(
            0, 0, len(self.offered[digit]) - 1, description="example", layout=slider_layout()
        )
        self.digit.observe(self._change_digit, "value")

    @property
    def sample(self) -> int:
        """The sample picked, a number in the data."""
        samples = self.offered[self.digit.value]
        return samples[min(self.example.value, len(samples) - 1)]

    def _change_digit(self, change: dict[str, int]) -> None:
        self.example.max = len(self.offered[change["new"]]) - 1


def digit_dropdown(digit: int) -> ipywidgets.Dropdown:
    """Return a list of the ten digits."""
    return ipywidgets.Dropdown(options=list(range(10)), value=digit, description="digit", layout=wide_layout(150))


def check_every_digit(labels: Tensor) -> None:
    """Raise unless there is an image of each digit."""
    missing = sorted(set(range(10)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"the data have no image of {missing}: the explorer needs at least one of each digit.")
