"""Sliders and buttons that look the same in every widget of the course.

Chapters 00 to 02 and every later widget.
"""

import math

import ipywidgets

LOWEST, HIGHEST = 0.5, 20.0  # of the temperature, on every slider


def temperature_slider(value: float, *, description: str = "T") -> ipywidgets.FloatLogSlider:
    """Return a slider for the temperature, from 0.5 to 20 in equal ratios: T divides."""
    check_on_slider(value)
    low, high = math.log10(LOWEST), math.log10(HIGHEST)
    return ipywidgets.FloatLogSlider(
        value=value, min=low, max=high, step=0.01, description=description, readout_format=".3g", layout=slider_layout()
    )


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
