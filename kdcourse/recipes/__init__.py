"""What a method does beyond one loss: who teaches whom, on which data, in which order.

Chapters 02 to 09. Every recipe runs the loop of ``kdcourse.training`` with an objective written in full view.
"""

# isort: off
# In chapter order.
from .distillation import (  # 01, 02
    distill,
    distill_unlabelled,
    make_adam,
    make_label_objective,
    make_soft_target_objective,
    MakeOptimizer,
)
from .hints import FitNetsHistory, fitnets, make_hint_objective  # 03
from .generations import BornAgain, born_again, distill_ensemble, Ensemble  # 01, 06
from .cohort import Cohort, make_mutual_objective, mutual_learning, Optimizers  # 07
from .curriculum import (  # 07
    CurriculumBatches,
    difficulty_by_loss,
    difficulty_by_margin,
    progressive,
    ScheduledKnobs,
)
from .distilbert import distilbert, make_distilbert_objective  # 09
from .student_layers import init_student_from_teacher  # 09

__all__ = [  # noqa: RUF022
    "MakeOptimizer",
    "make_adam",
    "make_label_objective",
    "make_soft_target_objective",
    "distill",
    "distill_unlabelled",
    "FitNetsHistory",
    "make_hint_objective",
    "fitnets",
    "Ensemble",
    "distill_ensemble",
    "BornAgain",
    "born_again",
    "Cohort",
    "Optimizers",
    "make_mutual_objective",
    "mutual_learning",
    "difficulty_by_loss",
    "difficulty_by_margin",
    "CurriculumBatches",
    "ScheduledKnobs",
    "progressive",
    "init_student_from_teacher",
    "make_distilbert_objective",
    "distilbert",
]
