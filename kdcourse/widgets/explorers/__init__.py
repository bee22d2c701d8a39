"""Widgets that show what one formula or one network does: a slider moves, a picture follows. Nothing is trained.

Chapters 00 to 06, 08, 09, 11 and 12, one file for each explorer.
"""

from .attention import AttentionExplorer
from .bias import BiasExplorer
from .bits import BitsExplorer
from .boxes import BoxesExplorer
from .exits import ExitsExplorer, count_exit_multiply_adds
from .forgetting import ForgettingExplorer
from .generations import GenerationsExplorer
from .heads import HeadsExplorer
from .hello import HelloSlider, hello_slider
from .modes import ModesExplorer
from .negatives import NegativesExplorer
from .relations import RelationExplorer
from .temperature import TemperatureExplorer

__all__ = [
    "AttentionExplorer",
    "BiasExplorer",
    "BitsExplorer",
    "BoxesExplorer",
    "ExitsExplorer",
    "ForgettingExplorer",
    "GenerationsExplorer",
    "HeadsExplorer",
    "HelloSlider",
    "ModesExplorer",
    "NegativesExplorer",
    "RelationExplorer",
    "TemperatureExplorer",
    "count_exit_multiply_adds",
    "hello_slider",
]
