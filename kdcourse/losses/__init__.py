"""The losses, in the order of the chapters. Every name here can be imported from ``kdcourse.losses``.

Every loss takes the student first, the teacher second, labels third, and its hyperparameters by keyword. It returns a
scalar, a mean over the batch. The teacher never receives a gradient.

=======  =====================================================================================
Letter   Meaning, in every docstring and shape comment of the course
=======  =====================================================================================
B        samples in a batch
K        classes (vocabulary entries in a language model)
C, H, W  channels, height, width of a feature map
D        embedding width
L        tokens in a sequence
S        stacked students, trained together
N        samples in a data set
T, α     ``temperature``, ``alpha``
=======  =====================================================================================
"""

# isort: off
# In chapter order; append your family at its chapter's place, here and below.
from .soft_targets import distillation_loss, kd_loss, soften  # 02
from .features import HintRegressor, attention_map, attention_transfer_loss, hint_loss  # 03
from .relations import gram_loss, rkd_angle_loss, rkd_distance_loss, similarity_preserving_loss  # 04
from .contrastive import EmbeddingQueue, info_nce_loss  # 03, 05
from .crd import CRDLoss  # 05
from .self_distillation import deep_supervision_loss  # 06
from .mutual import mutual_ensemble_loss, mutual_learning_loss  # 07
from .detection import box_regression_loss, detection_classification_loss  # 08
from .pyramids import FPNAdapters, fpn_feature_loss  # 08
from .language import HiddenProjection, embedding_loss, hidden_state_loss, map_layers  # 09
from .self_attention import attention_loss, attention_scores_loss, value_relation_loss  # 09
from .distilbert import distilbert_loss, distilbert_terms, hidden_cosine_loss  # 09
from .divergences import decoupled_kd_loss, generalized_jsd_loss  # 11
from .correlation import dist_loss, standardize_logits  # 11
from .cached import SampledTargets, TopTargets, sampled_kd_loss, sampled_targets, top_kd_loss, top_targets  # 11
from .other_vocabularies import sorted_probability_loss  # 11
from .forgetting import lwf_loss, only_own_head  # 12
from .sigmoid_targets import binary_kd_loss  # 13

__all__ = [  # noqa: RUF022
    "soften",
    "kd_loss",
    "distillation_loss",
    "HintRegressor",
    "hint_loss",
    "attention_map",
    "attention_transfer_loss",
    "rkd_distance_loss",
    "rkd_angle_loss",
    "gram_loss",
    "similarity_preserving_loss",
    "EmbeddingQueue",
    "info_nce_loss",
    "CRDLoss",
    "deep_supervision_loss",
    "mutual_learning_loss",
    "mutual_ensemble_loss",
    "detection_classification_loss",
    "box_regression_loss",
    "FPNAdapters",
    "fpn_feature_loss",
    "map_layers",
    "HiddenProjection",
    "embedding_loss",
    "hidden_state_loss",
    "attention_loss",
    "attention_scores_loss",
    "value_relation_loss",
    "hidden_cosine_loss",
    "distilbert_loss",
    "distilbert_terms",
    "decoupled_kd_loss",
    "generalized_jsd_loss",
    "standardize_logits",
    "dist_loss",
    "TopTargets",
    "top_targets",
    "top_kd_loss",
    "SampledTargets",
    "sampled_targets",
    "sampled_kd_loss",
    "sorted_probability_loss",
    "lwf_loss",
    "only_own_head",
    "binary_kd_loss",
]
