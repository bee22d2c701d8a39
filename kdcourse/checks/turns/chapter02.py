# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 02: the divergence."""

from ..cases import Case, new_generator, random_sizes, random_tensor
from ..slips import Slip
from . import compared


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

TURNS = {
    "02.kl": compared(
        kl,
        _rows,
        slips=KL_SLIPS,
        verified="The sum over classes agrees on three random batches.",
        note="Without `dim`, `.sum()` adds up the whole batch, so that twice the images would mean twice the loss.",
    ),
}
