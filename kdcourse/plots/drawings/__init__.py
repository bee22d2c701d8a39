"""Drawings of the methods: who is told what by whom, what is frozen, where gradients go."""

from .answers import draw_cohort, draw_generations, draw_schedule, draw_soft_targets, draw_teacher_and_student
from .best_practices import draw_cheat_sheet, draw_verdict
from .features import draw_attention_transfer, draw_exits, draw_fitnets, draw_hooks
from .modern import draw_kept_answers, draw_on_policy
from .own_project import draw_own_project
from .representations import draw_crd, draw_info_nce, draw_triplet
from .svg import Drawing
from .tasks import draw_detection, draw_language
from .whats_next import draw_lwf, draw_quantisation

__all__ = [
    "Drawing",
    "draw_attention_transfer",
    "draw_cheat_sheet",
    "draw_cohort",
    "draw_crd",
    "draw_detection",
    "draw_exits",
    "draw_fitnets",
    "draw_generations",
    "draw_hooks",
    "draw_info_nce",
    "draw_kept_answers",
    "draw_language",
    "draw_lwf",
    "draw_on_policy",
    "draw_own_project",
    "draw_quantisation",
    "draw_schedule",
    "draw_soft_targets",
    "draw_teacher_and_student",
    "draw_triplet",
    "draw_verdict",
]
