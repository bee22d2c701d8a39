"""What the course checks: the lines that a learner writes in chapters, and a learner's functions in exercises.

A check takes the function, tries it on random shapes and numbers, and knows typical mistakes by name. Nothing in the
package imports this except the grader; notebooks do.
"""

from .attention_maps import check_attention_map, check_attention_transfer_loss
from .best_practices import check_change_of_gain, check_claim, check_own_claim, check_plan, check_report_questions
from .born_again import (
    check_born_again,
    check_born_again_questions,
    check_born_again_verdicts,
    check_chosen_temperatures,
    check_mean_probabilities,
    check_temperature_choice,
)
from .contrastive import (
    check_contrastive_verdicts,
    check_info_nce_loss,
    check_push_picture,
    check_queue_loss,
    check_queue_push,
)
from .detection import (
    check_class_term_verdict,
    check_detection_questions,
    check_foreground,
    check_overlaps,
    check_pyramid_loss,
    check_teacher_weighted_loss,
)
from .failures import CheckFailed
from .feature_and_logits import (
    check_candidates,
    check_combination_verdicts,
    check_combined_objective,
    check_training_run,
    check_weight_search,
)
from .features import (
    check_attention_picture,
    check_balancing_weight,
    check_gradient_length,
    check_hint_stage,
    check_hint_verdict,
)
from .language import (
    check_control_verdict,
    check_layer_map,
    check_padding_table,
    check_relation_loss,
    check_triple_loss,
)
from .modern import (
    check_drawn_kl,
    check_kept_verdict,
    check_modern_questions,
    check_token_mean,
    check_writing_step,
)
from .online import (
    check_cohort_picture,
    check_curriculum,
    check_mutual_learning_loss,
    check_mutual_verdicts,
    check_schedule,
)
from .predictions import check_prediction
from .relations import (
    check_angle_loss,
    check_distance_loss,
    check_invariance_picture,
    check_relation_verdicts,
    check_similarity_loss,
)
from .self_distillation import (
    check_confidence_choice,
    check_deep_supervision_loss,
    check_early_exit,
    check_exit_experiment,
    check_exit_forward,
    check_exit_questions,
)
from .soft_targets import (
    check_gradient_picture,
    check_kd_loss,
    check_padded_kd_loss,
    check_paired_interval,
    check_repaired_loss,
    check_soft_target_verdicts,
)
from .teacher_and_student import (
    check_dark_knowledge,
    check_ensemble_logits,
    check_ensemble_verdicts,
    check_entropy,
    check_measured_accuracy,
    check_measured_size,
    check_soften,
)
from .temperature_sweep import (
    check_accuracy_curve,
    check_best_temperatures,
    check_find_optimum,
    check_sweep_objective,
    check_sweep_questions,
    check_sweep_runs,
)
from .turns import check
from .verdicts import check_verdict
from .whats_next import (
    check_forgetting,
    check_group_quantise,
    check_group_verdict,
    check_tasks_in_a_row,
    check_whats_next_questions,
)
from .your_folder import (
    check_folder_verdicts,
    check_paired_differences,
    check_report,
    check_split,
    check_three_ways,
)

# Names that checks had before: notebooks of that time import them.
check_chosen = check_chosen_temperatures
check_ensemble = check_mean_probabilities
check_optimum = check_best_temperatures
check_picture = check_gradient_picture
check_push = check_gradient_length
check_run = check_training_run
check_search = check_weight_search

__all__ = [
    "CheckFailed",
    "check",
    "check_accuracy_curve",
    "check_angle_loss",
    "check_attention_map",
    "check_attention_picture",
    "check_attention_transfer_loss",
    "check_balancing_weight",
    "check_best_temperatures",
    "check_born_again",
    "check_born_again_questions",
    "check_born_again_verdicts",
    "check_candidates",
    "check_change_of_gain",
    "check_chosen",
    "check_chosen_temperatures",
    "check_claim",
    "check_class_term_verdict",
    "check_cohort_picture",
    "check_combination_verdicts",
    "check_combined_objective",
    "check_confidence_choice",
    "check_contrastive_verdicts",
    "check_control_verdict",
    "check_curriculum",
    "check_dark_knowledge",
    "check_deep_supervision_loss",
    "check_detection_questions",
    "check_distance_loss",
    "check_drawn_kl",
    "check_early_exit",
    "check_ensemble",
    "check_ensemble_logits",
    "check_ensemble_verdicts",
    "check_entropy",
    "check_exit_experiment",
    "check_exit_forward",
    "check_exit_questions",
    "check_find_optimum",
    "check_folder_verdicts",
    "check_foreground",
    "check_forgetting",
    "check_gradient_length",
    "check_gradient_picture",
    "check_group_quantise",
    "check_group_verdict",
    "check_hint_stage",
    "check_hint_verdict",
    "check_info_nce_loss",
    "check_invariance_picture",
    "check_kd_loss",
    "check_kept_verdict",
    "check_layer_map",
    "check_mean_probabilities",
    "check_measured_accuracy",
    "check_measured_size",
    "check_modern_questions",
    "check_mutual_learning_loss",
    "check_mutual_verdicts",
    "check_optimum",
    "check_overlaps",
    "check_own_claim",
    "check_padded_kd_loss",
    "check_padding_table",
    "check_paired_differences",
    "check_paired_interval",
    "check_picture",
    "check_plan",
    "check_prediction",
    "check_push",
    "check_push_picture",
    "check_pyramid_loss",
    "check_queue_loss",
    "check_queue_push",
    "check_relation_loss",
    "check_relation_verdicts",
    "check_repaired_loss",
    "check_report",
    "check_report_questions",
    "check_run",
    "check_schedule",
    "check_search",
    "check_similarity_loss",
    "check_soft_target_verdicts",
    "check_soften",
    "check_split",
    "check_sweep_objective",
    "check_sweep_questions",
    "check_sweep_runs",
    "check_tasks_in_a_row",
    "check_teacher_weighted_loss",
    "check_temperature_choice",
    "check_three_ways",
    "check_token_mean",
    "check_training_run",
    "check_triple_loss",
    "check_verdict",
    "check_weight_search",
    "check_whats_next_questions",
    "check_writing_step",
]
