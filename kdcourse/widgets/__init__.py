"""Live widgets: sliders that act while something runs, and pictures that follow.

Chapters 00 to 07, 10 and 12. The same objects run without a front end: set a slider's ``.value``, call
``live.step(n)``. They work on ipywidgets 7.7 with ipykernel 6 (Colab) and on ipywidgets 8 with ipykernel 6 or 7.
"""

from ..training import Knobs
from .canvas import Canvas, Shown
from .explorers import (
    AttentionExplorer,
    BiasExplorer,
    BitsExplorer,
    BoxesExplorer,
    ExitsExplorer,
    ForgettingExplorer,
    GenerationsExplorer,
    HeadsExplorer,
    HelloSlider,
    ModesExplorer,
    NegativesExplorer,
    RelationExplorer,
    TemperatureExplorer,
    count_exit_multiply_adds,
    hello_slider,
)
from .guess_buttons import guess
from .trainers import CohortTrainer, HeatMap, LiveTrainer, Mark, ScheduleEditor, ScheduleRun

__all__ = [
    "AttentionExplorer",
    "BiasExplorer",
    "BitsExplorer",
    "BoxesExplorer",
    "Canvas",
    "CohortTrainer",
    "ExitsExplorer",
    "ForgettingExplorer",
    "GenerationsExplorer",
    "HeadsExplorer",
    "HeatMap",
    "HelloSlider",
    "Knobs",
    "LiveTrainer",
    "Mark",
    "ModesExplorer",
    "NegativesExplorer",
    "RelationExplorer",
    "ScheduleEditor",
    "ScheduleRun",
    "Shown",
    "TemperatureExplorer",
    "count_exit_multiply_adds",
    "guess",
    "hello_slider",
]
