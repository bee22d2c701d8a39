"""Sliders and buttons that look the same in every widget of the course.

Chapters 00 to 02 and every later widget.
"""

import math

import ipywidgets

LOWEST, HIGHEST = 0.5, 20.0  # of the temperature, on every slider
TEMPERATURE_STEP = 0.02  # in powers of two: 1.4 %


def temperature_slider(value: float, *, description: str = "T") -> ipywidgets.FloatLogSlider:
    """Return a slider for the temperature, from 0.5 to 20 in equal ratios: T divides. Powers of two are on it."""
    check_on_slider(value)
    return ipywidgets.FloatLogSlider(
        value=value, base=2, min=math.log2(LOWEST), max=math.log2(HIGHEST), step=TEMPERATURE_STEP,
        description=description, readout_format=".3g", layout=slider_layout(),
    )  # fmt: skip


def is_snap(old: float, new: float) -> bool:
    """Whether a front end only put a temperature onto the slider's next place, as it does when it first shows it."""
    return abs(math.log2(new / old)) < 0.6 * TEMPERATURE_STEP


def slider_layout() -> ipywidgets.Layout:
    """Return the width that all sliders have: two of them stand side by side on a laptop."""
    return ipywidgets.Layout(width="360px", max_width="100%")


def check_on_slider(temperature: float) -> None:
    """Raise unless a slider for the temperature can stand there."""
    if not LOWEST <= temperature <= HIGHEST:
        raise ValueError(
            f"temperature must be from {LOWEST} to {HIGHEST:g} on a slider, got {temperature}. Below, the softmax is "
            "a one-hot vector; above, it is uniform."
        )


def alpha_slider(value: float, *, description: str = "α") -> ipywidgets.FloatSlider:
    """Return a slider for the share of the teacher's term, from 0 to 1."""
    return ipywidgets.FloatSlider(
        value=value, min=0, max=1, step=0.01, description=description, readout_format=".2f", layout=slider_layout()
    )


def make_button(description: str, icon: str) -> ipywidgets.Button:
    """Return a button as wide as its words."""
    return ipywidgets.Button(description=description, icon=icon, layout=ipywidgets.Layout(width="auto"))


def make_row(*controls: ipywidgets.DOMWidget) -> ipywidgets.HBox:
    """Return controls side by side; on a narrow page they wrap."""
    return ipywidgets.HBox(controls, layout=ipywidgets.Layout(flex_flow="row wrap"))
