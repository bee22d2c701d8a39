"""Live widgets: sliders that act while something runs, and pictures that follow.

Chapters 00 to 07. The same objects run without a front end: set a slider's ``.value``, call ``live.step(n)``. They
work on ipywidgets 7.7 with ipykernel 6 (Colab) and on ipywidgets 8 with ipykernel 6 or 7.
"""

from ..training import Knobs
from .attention import AttentionExplorer
from .canvas import Canvas, Shown
from .clock import Mark
from .cohort import CohortTrainer
from .exits import ExitsExplorer, GenerationsExplorer
from .explorers import HelloSlider, TemperatureExplorer, hello_slider
from .guess_buttons import guess
from .live import LiveTrainer
from .negatives import NegativesExplorer
from .relations import RelationExplorer
from .schedule_editor import ScheduleEditor
from .schedule_runs import ScheduleRun

__all__ = [
    "AttentionExplorer",
    "Canvas",
    "CohortTrainer",
    "ExitsExplorer",
    "GenerationsExplorer",
    "HelloSlider",
    "Knobs",
    "LiveTrainer",
    "Mark",
    "NegativesExplorer",
    "RelationExplorer",
    "ScheduleEditor",
    "ScheduleRun",
    "Shown",
    "TemperatureExplorer",
    "guess",
    "hello_slider",
]
