"""What is measured of a trained student: errors, calibration, and how far it follows its teacher."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15
SCALES = torch.logspace(math.log10(0.2), math.log10(10), 80)


def calibration_error(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Return the expected calibration error in per cent: mean distance of confidence and accuracy over equal bins.

    Examples
    --------
    >>> sure = torch.tensor([[9.0, -9.0]] * 4)
    >>> round(calibration_error(sure, torch.tensor([0, 0, 0, 1])), 1)
    25.0
    """
    confidence, answer = F.softmax(logits, dim=-1).max(dim=-1)  # (N,)
    right = (answer == labels).float()
    place = (confidence * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins).index_add(0, place, confidence - right)  # per bin: count × (confidence − accuracy)
    return float(100 * gap.abs().sum() / len(labels))


def choose_scale(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature that makes the cross-entropy smallest (temperature scaling, Guo et al. 2017).

    Examples
    --------
    >>> choose_scale(torch.tensor([[9.0, -9.0]] * 4), torch.tensor([0, 0, 0, 1])) > 5
    True
    """
    losses = [float(F.cross_entropy(logits / scale, labels)) for scale in SCALES]
    return float(SCALES[losses.index(min(losses))])


def measure(logits: dict[str, Tensor], *, labels: dict[str, Tensor], teacher: dict[str, Tensor]) -> dict[str, float]:
    """Return a student's numbers from its logits on held-out and test images, the labels, and its teacher's logits.

    ``copied`` is the share of the teacher's wrong answers that the student repeats, in per cent. The scale of the
    temperature-scaled columns is chosen on held-out images.
    """
    answers = {split: each.argmax(dim=-1) for split, each in logits.items()}
    of_teacher = {split: each.argmax(dim=-1) for split, each in teacher.items()}
    teacher_wrong = of_teacher["test"] != labels["test"]
    copied = (answers["test"] == of_teacher["test"])[teacher_wrong].float()
    scale = choose_scale(logits["held_out"], labels["held_out"])
    numbers: dict[str, float] = {}
    for split, prefix in (("test", ""), ("held_out", "held_out_")):
        numbers[f"{split}_errors"] = int((answers[split] != labels[split]).sum())
        numbers[f"{prefix}disagreements"] = int((answers[split] != of_teacher[split]).sum())
    numbers["copied"] = round(100 * float(copied.mean()), 2) if len(copied) else 0.0
    for prefix, scaled in (("", logits["test"]), ("scaled_", logits["test"] / scale)):
        numbers[f"{prefix}loss"] = round(float(F.cross_entropy(scaled, labels["test"])), 5)
        numbers[f"{prefix}ece"] = round(calibration_error(scaled, labels["test"]), 3)
    return numbers
