"""Sliders and buttons that look the same in every widget of the course.

All chapters with a widget.
"""

import math

import ipywidgets

LOWEST, HIGHEST = 0.5, 20.0  # of the temperature, on every slider
TEMPERATURE_STEP = 0.02  # in powers of two: 1.4 %


def temperature_slider(value: float, *, description: str = "T") -> ipywidgets.FloatLogSlider:
    """Return a slider for the temperature, from 0.5 to 20 in equal ratios because T divides; it meets powers of 2."""
    check_on_slider(value)
    return ipywidgets.FloatLogSlider(
        value=value, base=2, min=math.log2(LOWEST), max=math.log2(HIGHEST), step=TEMPERATURE_STEP,
        description=description, readout_format=".3g", layout=slider_layout(),
    )  # fmt: skip


def is_snap(old: float, new: float) -> bool:
    """Return whether a front end only rounded a temperature to the slider's grid, as it does when it first shows it."""
    return abs(math.log2(new / old)) < 0.6 * TEMPERATURE_STEP


def slider_layout() -> ipywidgets.Layout:
    """Return the width of all sliders: two of them stand side by side on a laptop."""
    return wide_layout(360)


def wide_layout(pixels: int) -> ipywidgets.Layout:
    """Return a width in pixels that shrinks on a narrow page."""
    return ipywidgets.Layout(width=f"{pixels}px", max_width="100%")


def check_on_slider(temperature: float) -> None:
    """Raise unless a temperature is in the range of its slider."""
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
    """Return a row of controls, which wraps on a narrow page."""
    return ipywidgets.HBox(controls, layout=ipywidgets.Layout(flex_flow="row wrap"))
