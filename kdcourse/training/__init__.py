"""The training loop, and fitting, evaluation, checkpoints, devices and schedules around it.

Chapters 01, 02 and 07. ``train`` is the loop, a generator that does not depend on the method; ``fit`` adds a progress
bar, history, checkpoints and exact resume.
"""

from ..models.modes import evaluating
from .devices import choose_threads, pick_device, threads_asked_for
from .evaluation import accuracy, count_errors, predict_logits
from .fitting import History, Stateful, fit
from .gradients import gradient_length
from .loop import Knobs, Objective, Step, train
from .options import MakeOptimizer, TrainingOptions, make_adam
from .schedules import WithProgress, learning_rate
from .stopping import KeepBest

__all__ = [
    "History",
    "KeepBest",
    "Knobs",
    "MakeOptimizer",
    "Objective",
    "Stateful",
    "Step",
    "TrainingOptions",
    "WithProgress",
    "accuracy",
    "choose_threads",
    "count_errors",
    "evaluating",
    "fit",
    "gradient_length",
    "learning_rate",
    "make_adam",
    "pick_device",
    "predict_logits",
    "threads_asked_for",
    "train",
]
