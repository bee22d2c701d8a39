"""Many students trained at once, compared with error bars. First used in chapter 02.

``sweep`` trains, ``compare`` takes paired differences, ``format_comparison`` tabulates, ``in_words`` says them.
``on_all_cores`` calls a function of one's own many times.
"""

from ..objectives import soft_target_objective
from ..results import mean_interval
from .comparing import compare, format_comparison, in_words
from .cores import on_all_cores
from .running import sweep

__all__ = [
    "compare",
    "format_comparison",
    "in_words",
    "mean_interval",
    "on_all_cores",
    "soft_target_objective",
    "sweep",
]
