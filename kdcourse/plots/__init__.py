"""Pictures of the course: each helper draws one thing into Axes and returns them; nothing is computed or trained here.

Chapters 00 to 12. ``show`` displays a picture with a description in words.
"""

from .attention import attention_grid
from .charts import (
    COLORS,
    DPI,
    GRID,
    INK,
    LINES,
    curve,
    digit_grid,
    intervals,
    matrix,
    new_axes,
    probability_bars,
    show,
    tidy,
    to_png,
    training_curves,
)
from .relations import relation_matrices

__all__ = [
    "COLORS",
    "DPI",
    "GRID",
    "INK",
    "LINES",
    "attention_grid",
    "curve",
    "digit_grid",
    "intervals",
    "matrix",
    "new_axes",
    "probability_bars",
    "relation_matrices",
    "show",
    "tidy",
    "to_png",
    "training_curves",
]
