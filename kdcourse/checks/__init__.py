"""What the course checks: a learner's predictions and, with the exercises, a learner's functions.

Nothing in the package imports this; notebooks do.
"""

from .predictions import check_prediction

__all__ = ["check_prediction"]
