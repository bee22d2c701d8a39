"""The losses, in the order of the chapters. Every name here can be imported from ``kdcourse.losses``.

Every loss takes the student first, the teacher second, labels third, and its hyperparameters by keyword; gives a
scalar that is a mean over the batch; and never sends a gradient to the teacher.

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

from .soft_targets import distillation_loss, kd_loss, soften

__all__ = [
    "distillation_loss",
    "kd_loss",
    "soften",
]
