"""Wrong answers to exercise 02, task 1: the distillation loss of sequences, of which some positions are padding."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses import kd_loss
from . import Slip, mapped
from .soft_targets import KD, divergences, log_rows


def padded_kd_loss(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, temperature: float) -> Tensor:
    """Return the distillation loss of the positions that count: (B, L, K), (B, L, K), (B, L) -> a number."""
    return kd_loss(student_logits[mask], teacher_logits[mask], temperature=temperature)


def _of_rows(loss: Callable) -> Callable:
    """Return what a loss of rows makes of the positions that count."""

    def wrong(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float) -> Tensor:
        return loss(s[mask], t[mask], temperature=temperature)

    return wrong


def _of_divergences(reduce: Callable[[Tensor, Tensor], Tensor], *, factor: bool = True) -> Callable:
    """Return a loss that makes one number of the divergences (B, L) in its own way."""

    def wrong(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float) -> Tensor:
        kl = divergences(s, t, temperature=temperature)  # (B, L)
        return (temperature**2 if factor else 1) * reduce(kl, mask)

    return wrong


def _over_positions(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float) -> Tensor:
    log_q, log_p = (F.log_softmax(logits / temperature, dim=1) for logits in (s, t))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1)[mask].mean()


def _one_side_masked(of_student: bool) -> Callable:
    def wrong(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float) -> Tensor:
        zeros = mask[..., None]
        s, t = (s * zeros, t) if of_student else (s, t * zeros)
        return temperature**2 * divergences(s, t, temperature=temperature).sum() / mask.sum()

    return wrong


def _infinite(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float) -> Tensor:
    s, t = (logits.masked_fill(~mask[..., None], -math.inf) for logits in (s, t))
    log_q, log_p = log_rows(s, t, temperature)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum() / mask.sum()


def _sentence_means(kl: Tensor, mask: Tensor) -> Tensor:
    return ((kl * mask).sum(dim=1) / mask.sum(dim=1)).mean()


COUNTED = "Padding is counted in the mean: the sum over the positions that count is divided by all B · L positions"
PADDED_KD = {
    "mask unused": Slip(
        "Every position counts, padding too: the mask has no effect. What stands in padding is noise, and the student "
        "would learn it.",
        _of_divergences(lambda kl, mask: kl.mean()),
    ),
    "padding in the count": Slip(
        f"{COUNTED}. So the same sentence weighs less beside a longer one.",
        _of_divergences(lambda kl, mask: (kl * mask).mean()),
    ),
    "padding in the count, no T²": Slip(
        f"{COUNTED}, and T² is missing.",
        _of_divergences(lambda kl, mask: (kl * mask).mean(), factor=False),
    ),
    "per sentence": Slip(
        "The sum over positions is divided by the number of sentences, B: the loss grows with their length, as with "
        "reduction='batchmean' (trap 2).",
        _of_divergences(lambda kl, mask: (kl * mask).sum() / len(kl)),
    ),
    "per sentence, no T²": Slip(
        "The sum over positions is divided by the number of sentences, B, and T² is missing.",
        _of_divergences(lambda kl, mask: (kl * mask).sum() / len(kl), factor=False),
    ),
    "per place": Slip(
        "The sum over positions is divided by the length L. Divide by the number of positions that count.",
        _of_divergences(lambda kl, mask: (kl * mask).sum() / kl.shape[1]),
    ),
    "mean of means": Slip(
        "Each sentence is averaged first, and then the sentences: a position of a short sentence weighs more. Asked "
        "for is one mean over all positions that count.",
        _of_divergences(_sentence_means),
    ),
    "mask inverted": Slip(
        "The mask is turned round: padding counts, and everything else does not. True means that a position counts.",
        _of_divergences(lambda kl, mask: kl[~mask].mean()),
        _of_divergences(lambda kl, mask: (kl * ~mask).sum() / mask.sum()),
    ),
    "last position": Slip(
        "Only the last position of each sentence counts. Every position with a True in the mask has a row of its own.",
        _of_divergences(lambda kl, mask: kl[torch.arange(len(kl)), mask.sum(dim=1) - 1].mean()),
    ),
    "one per sentence": Slip(
        "One value per sentence came where one loss is needed.",
        _of_divergences(lambda kl, mask: (kl * mask).sum(dim=1)),
        _of_divergences(lambda kl, mask: (kl * mask).sum(dim=1) / mask.sum(dim=1)),
    ),
    "one per position": Slip(
        "One value per position came where one loss is needed: take the mean over the positions that count.",
        _of_divergences(lambda kl, mask: kl * mask),
        _of_divergences(lambda kl, mask: kl[mask]),
    ),
    "sum": Slip(
        "The loss is summed over the positions: twice the text would mean twice the step. Take the mean over those "
        "that count.",
        _of_divergences(lambda kl, mask: (kl * mask).sum()),
    ),
    "sum, no T²": Slip(
        "The loss is summed over the positions, and T² is missing as well.",
        _of_divergences(lambda kl, mask: (kl * mask).sum(), factor=False),
    ),
    "softmax over positions": Slip(
        "The softmax runs along the sentence, dim=1. In (B, L, K) the classes are the last axis.", _over_positions
    ),
    "one side masked": Slip(
        "Only one of the two is set to 0 in padding, so student and teacher differ there and padding adds to the loss.",
        _one_side_masked(True),
        _one_side_masked(False),
    ),
    "infinite logits": Slip(
        "Padding was filled with -inf before the softmax. A row of -inf has no softmax: it is not a number. Leave such "
        "rows out instead.",
        _infinite,
    ),
    **mapped(
        KD, _of_rows, "no T²", "one T", "mean over classes", "mean over classes, no T²", "reverse", "cross-entropy",
        "only teacher softened", "only student softened", "T multiplies", "no logarithm", "squared logits",
        "distance of probabilities", "Jensen-Shannon", "teacher's class only",
    ),
}  # fmt: skip
