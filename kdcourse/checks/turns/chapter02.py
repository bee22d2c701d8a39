# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 02: the divergence, the whole loss, a batch with its cached answers."""

import torch
import torch.nn.functional as F

from ..cases import Case, new_generator, random_labels, random_sizes, random_tensor
from ..slips import Slip
from ..slips.soft_targets import KD, SURE_TEACHER, naive
from ..soft_targets import NOT_DETACHED, verify_kd_loss
from . import Turn, compared


def kl(p, q):
    """Return the divergence of each row."""
    return (p * (p.log() - q.log())).sum(dim=-1)  # (B, K) -> (B,)


def _rows() -> list[Case]:
    generator = new_generator(None)
    cases = []
    for _ in range(3):
        sizes = random_sizes(generator, (3, 9), (4, 12))
        cases.append(Case(tuple(random_tensor(generator, *sizes).softmax(dim=-1) for _ in range(2))))
    return cases


KL_SLIPS = {
    "whole batch": Slip(
        ".sum() without dim adds up the whole batch: one number, where each image needs its own.",
        lambda p, q: kl(p, q).sum(),
    ),
    "mean of the batch": Slip(
        "The result is one number. Each image needs its own: leave the mean over the batch to later.",
        lambda p, q: kl(p, q).mean(),
    ),
    "mean over classes": Slip(
        "K times too small: the divergence is a sum over the classes, not their mean.",
        lambda p, q: (p * (p.log() - q.log())).mean(dim=-1),
    ),
    "other direction": Slip(
        "This is KL(q‖p): the row in front of the logarithms does the weighting, and it must be p, the teacher.",
        lambda p, q: kl(q, p),
    ),
    "sign": Slip(
        "The sign is the other way round: log p comes first. A divergence is never negative.",
        lambda p, q: -kl(p, q),
    ),
    "cross-entropy": Slip(
        "This is the cross-entropy, - Σ p log q. It lacks p log p, so it is not 0 where the rows agree.",
        lambda p, q: -(p * q.log()).sum(dim=-1),
    ),
    "over the batch": Slip(
        "The sum runs over the images. dim=-1 is the classes' axis, of size K.",
        lambda p, q: (p * (p.log() - q.log())).sum(dim=0),
    ),
    "base two": Slip(
        "In bits, not in nats: .log() is the natural logarithm.",
        lambda p, q: (p * (p.log2() - q.log2())).sum(dim=-1),
    ),
}


def my_kd_loss(student_logits, teacher_logits, *, temperature):
    """Return the distillation loss."""
    log_q = F.log_softmax(student_logits / temperature, dim=-1)  # (B, K) student
    log_p = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)  # (B, K) teacher
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (B,)
    return temperature**2 * kl.mean()


def _attached(student_logits, teacher_logits, *, temperature):
    log_q, log_p = (F.log_softmax(logits / temperature, dim=-1) for logits in (student_logits, teacher_logits))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


KD_LOSS_SLIPS = {
    **{
        name: KD[name]
        for name in (
            "no T²", "one T", "mean over classes", "sum over images", "reverse", "cross-entropy",
            "only teacher softened", "only student softened", "T multiplies", "one value per image",
        )
    },
    "not in log space": Slip(SURE_TEACHER["not finite"].message, naive),
    "teacher attached": Slip(NOT_DETACHED, _attached),
}  # fmt: skip


def take_batch(images, labels, cache, order, start, size):
    """Return images, labels and logits of one batch of a shuffled epoch."""
    index = order[start : start + size]
    return images[index], labels[index], cache[index]


def _shuffled() -> list[Case]:
    generator = new_generator(None)
    cases = []
    for start in (2, 8, 16):  # the last one is cut short by the end of the epoch
        classes = int(generator.integers(3, 8))
        images, cache = random_tensor(generator, 18, 1, 2, 2), random_tensor(generator, 18, classes)
        # No index stands in its own place, so that every mix-up shows.
        order = torch.from_numpy(generator.permutation(18))
        order = order.roll(1)[order.argsort()]
        cases.append(Case((images, random_labels(generator, 18, 1000), cache, order, start, 4)))
    return cases


def _with_index(*indices):
    def wrong(images, labels, cache, order, start, size):
        cuts = [index(order, start, size) for index in indices]
        return tuple(tensor[cut] for tensor, cut in zip((images, labels, cache), cuts, strict=True))

    return wrong


def _right(order, start, size):
    return order[start : start + size]


def _in_order(order, start, size):
    return slice(start, start + size)


def _twice(order, start, size):
    return order[order[start : start + size]]


def _inverse(order, start, size):
    return order.argsort()[start : start + size]


TAKE_BATCH_SLIPS = {
    "cache in order": Slip(
        "The logits are cut by their place in the batch, the images by their index: each image gets the soft targets "
        "of another one.",
        _with_index(_right, _right, _in_order),
    ),
    "labels in order": Slip(
        "Labels are cut by their place in the batch, images by their index: each image gets the label of another.",
        _with_index(_right, _in_order, _right),
        _with_index(_right, _in_order, _in_order),
    ),
    "not shuffled": Slip(
        "All three are taken in the order of the data: `order` is not used, so every epoch shows the same batches.",
        _with_index(_in_order, _in_order, _in_order),
    ),
    "cache shuffled twice": Slip(
        "The logits are shuffled twice: row i of the cache already belongs to image i, so the image's index is enough.",
        _with_index(_right, _right, _twice),
    ),
    "inverse order": Slip(
        "This is the inverse of the shuffled order: argsort says where an image stands in the epoch, not which image "
        "stands at a place.",
        _with_index(_inverse, _inverse, _inverse),
        _with_index(_right, _right, _inverse),
    ),
    "whole epoch": Slip(
        "The whole epoch came. A batch has `size` images, from place `start` on.",
        _with_index(*[lambda order, start, size: order] * 3),
    ),
    "size as the end": Slip(
        "`size` was taken for the end of the slice. A batch ends at start + size.",
        _with_index(*[lambda order, start, size: order[start:size]] * 3),
    ),
    "always the first batch": Slip(
        "This is the first batch each time: the slice must begin at `start`.",
        _with_index(*[lambda order, start, size: order[:size]] * 3),
    ),
}

TURNS = {
    "02.kl": compared(
        kl,
        _rows,
        slips=KL_SLIPS,
        verified="The sum over classes agrees on three random batches.",
        note="Without `dim`, `.sum()` adds up the whole batch, so that twice the images would mean twice the loss.",
    ),
    "02.kd-loss": Turn(
        my_kd_loss,
        verify_kd_loss,
        "Without `detach` the teacher would be changed so that it is imitated more easily. The factor T² has its own "
        "section below.",
        KD_LOSS_SLIPS,
    ),
    "02.take-batch": compared(
        take_batch,
        _shuffled,
        slips=TAKE_BATCH_SLIPS,
        verified="Images, labels and logits belong together, in three batches, of which one is cut short.",
        note="One index for all three. A cache that is read in the order of the batch gives each image the soft "
        "targets of some other image, and nothing crashes.",
    ),
}
