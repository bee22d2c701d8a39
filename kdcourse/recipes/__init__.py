"""What a method does beyond one loss: who teaches whom, on which data, in which order.

Chapters 02 to 07. Every recipe runs the loop of ``kdcourse.training`` with an objective written in full view.
"""

# isort: off
from .distillation import (  # 01, 02
    distill,
    distill_unlabelled,
    make_adam,
    make_label_objective,
    make_soft_target_objective,
    MakeOptimizer,
)

__all__ = [  # noqa: RUF022
    "MakeOptimizer",
    "make_adam",
    "make_label_objective",
    "make_soft_target_objective",
    "distill",
    "distill_unlabelled",
]
