"""Pictures of the course: each helper draws one thing into Axes and returns them; nothing is computed or trained here.

Chapters 00 to 12. ``show`` displays a picture with a description in words.
"""

from .attention import attention_grid
from .charts import curve, matrix, probability_bars, ticks_at, training_curves
from .comparisons import did_it_hold, intervals
from .dots import dots
from .images import digit_grid
from .relations import relation_matrices
from .showing import show, to_png
from .style import COLORS, DPI, GRID, INK, LINES, PAPER, new_axes, tidy

__all__ = [
    "COLORS",
    "DPI",
    "GRID",
    "INK",
    "LINES",
    "PAPER",
    "attention_grid",
    "curve",
    "did_it_hold",
    "digit_grid",
    "dots",
    "intervals",
    "matrix",
    "new_axes",
    "probability_bars",
    "relation_matrices",
    "show",
    "ticks_at",
    "tidy",
    "to_png",
    "training_curves",
]
