"""What a method does beyond one loss: who teaches whom, on which data, in which order.

Chapters 02 to 09 and 12. Every recipe runs the loop of ``kdcourse.training`` with an objective, mostly of
``kdcourse.objectives``, and takes the options of ``kdcourse.training.TrainingOptions`` by keyword.
"""

# isort: off
# In chapter order.
from ..training.options import make_adam, MakeOptimizer
from .distillation import distill  # 01, 02
from .teachers import as_teacher  # 13
from .hints import fitnets, FitNetsHistory  # 03
from .generations import born_again, BornAgain, Ensemble  # 01, 06
from .cohort import Cohort, make_optimizers, mutual_learning  # 07
from .curriculum import CurriculumBatches, difficulty_by_loss, difficulty_by_margin, progressive  # 07
from .distilbert import distilbert  # 09
from .student_layers import init_student_from_teacher  # 09
from .continual import learn_tasks, lwf_objective, TaskHistory  # 12

__all__ = [  # noqa: RUF022
    "MakeOptimizer",
    "make_adam",
    "distill",
    "as_teacher",
    "FitNetsHistory",
    "fitnets",
    "Ensemble",
    "BornAgain",
    "born_again",
    "Cohort",
    "make_optimizers",
    "mutual_learning",
    "difficulty_by_loss",
    "difficulty_by_margin",
    "CurriculumBatches",
    "progressive",
    "init_student_from_teacher",
    "distilbert",
    "TaskHistory",
    "lwf_objective",
    "learn_tasks",
]
