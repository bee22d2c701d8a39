"""Wrong answers to exercise 01, teacher and student."""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from . import Slip


def _exponentials(logits: Tensor, *, temperature: float) -> Tensor:
    powers = (logits / temperature).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


LARGE_LOGITS = {
    "overflow": Slip(
        "For large logits the result is not finite: their exponentials overflow. Subtract each row's largest logit "
        "first, or leave it to PyTorch's softmax.",
        _exponentials,
    )
}
SOFTEN = {
    "T multiplies": Slip(
        "The logits are multiplied by T where they must be divided: a larger T then sharpens the row.",
        lambda logits, *, temperature: (logits * temperature).softmax(dim=-1),
    ),
    "T divides probabilities": Slip(
        "T divides the probabilities: the rows no longer sum to 1. It has to divide the logits, before the softmax.",
        lambda logits, *, temperature: logits.softmax(dim=-1) / temperature,
    ),
    "T has no effect": Slip(
        "T has no effect: the rows are those of T = 1. Dividing probabilities and making them sum to 1 again gives the "
        "old ones, and so does adding T to every logit.",
        lambda logits, *, temperature: logits.softmax(dim=-1),
    ),
    "softmax over batch": Slip(
        "The softmax runs over the batch, dim=0. A row of probabilities belongs to one image.",
        lambda logits, *, temperature: (logits / temperature).softmax(dim=0),
    ),
    "softmax over all": Slip(
        "The softmax runs over all numbers at once: together they sum to 1, each row does not.",
        lambda logits, *, temperature: (logits / temperature).flatten().softmax(dim=0).view_as(logits),
    ),
    "logarithms": Slip(
        "These are logarithms of probabilities; the probabilities themselves are asked for.",
        lambda logits, *, temperature: (logits / temperature).log_softmax(dim=-1),
    ),
    "not normalised": Slip(
        "These are exponentials that nothing was divided by: the rows have to sum to 1.",
        lambda logits, *, temperature: (logits / temperature).exp(),
    ),
    "powers": Slip(
        "The probabilities are multiplied or raised after the softmax and no longer sum to 1. T belongs into the "
        "logits, before it.",
        lambda logits, *, temperature: logits.softmax(dim=-1) ** (1 / temperature),
        lambda logits, *, temperature: logits.softmax(dim=-1) * temperature,
    ),
    "each by itself": Slip(
        "Each class was judged by itself (sigmoid). The probabilities of an image add up to 1.",
        lambda logits, *, temperature: (logits / temperature).sigmoid(),
    ),
    "softmin": Slip(
        "The sign of the logits is turned round: the least likely class gets the most.",
        lambda logits, *, temperature: (-logits / temperature).softmax(dim=-1),
    ),
    "twice": Slip(
        "A softmax is taken twice: its result is divided by T and goes through another one, which makes rows level.",
        lambda logits, *, temperature: (logits.softmax(dim=-1) / temperature).softmax(dim=-1),
        lambda logits, *, temperature: (logits / temperature).softmax(dim=-1).softmax(dim=-1),
    ),
    "no exponential": Slip(
        "The logits are divided by their row's sum. Probabilities are their exponentials, divided by that sum.",
        lambda logits, *, temperature: logits / logits.sum(dim=-1, keepdim=True),
    ),
    "only the class": Slip(
        "Only the most likely class is left, as a 1 among zeros. All probabilities are asked for.",
        lambda logits, *, temperature: torch.zeros_like(logits).scatter(1, logits.argmax(-1, keepdim=True), 1.0),
    ),
}


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


def _naive(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.log()).sum(dim=-1)


ZERO_PROBABILITY = {
    "NaN": Slip(
        "A probability of exactly 0 makes the entropy NaN: 0 · log 0 counts as 0, and the computer has to be told.",
        _naive,
    ),
    "replaced after the sum": Slip(
        "A NaN is replaced after the sum: one probability of 0 then costs the whole row its entropy. Replace it in "
        "the terms, before they are added.",
        lambda p: _naive(p).nan_to_num(),
    ),
}
ENTROPY = {
    "sign": Slip("The sign is turned round: log p is negative, an entropy is not.", lambda p: -_entropy(p)),
    "bits": Slip(
        "This is in bits (logarithm to base 2). Nats are asked for: the natural one.",
        lambda p: _entropy(p) / math.log(2),
    ),
    "base 10": Slip(
        "This is to base 10. Nats are asked for: the natural logarithm.", lambda p: _entropy(p) / math.log(10)
    ),
    "as a share": Slip(
        "This is the entropy as a share of the largest possible one, log K. Asked for is the entropy in nats.",
        lambda p: _entropy(p) / math.log(p.shape[-1]),
    ),
    "mean over classes": Slip(
        "This is K times too small: a mean over the classes, where their sum is one entropy.",
        lambda p: _entropy(p) / p.shape[-1],
    ),
    "over images": Slip(
        "The sum runs over the images, dim=0. Each image has an entropy of its own.",
        lambda p: torch.special.entr(p).sum(dim=0),
    ),
    "one mean": Slip(
        "One number came for all rows. Each row has an entropy; their mean comes later.", lambda p: _entropy(p).mean()
    ),
    "one sum": Slip(
        "One number came for all rows, a sum over everything. Each row has an entropy.", lambda p: _entropy(p).sum()
    ),
    "not summed": Slip("The terms of the classes are not added up: one number for each row is asked for.",
                       torch.special.entr, lambda p: -torch.special.entr(p)),
    "perplexity": Slip(
        "This is e to the entropy, a number of classes. The entropy itself is asked for.", lambda p: _entropy(p).exp()
    ),
    "not weighted": Slip(
        "The logarithms are not weighted by the probabilities: rare answers then count as much as frequent ones.",
        lambda p: -p.log().sum(dim=-1),
        lambda p: -p.log().mean(dim=-1),
    ),
    "softmax again": Slip(
        "The rows are probabilities already, and a softmax was taken of them once more.",
        lambda p: _entropy(p.softmax(dim=-1)),
    ),
    "surest class": Slip(
        "Only the most probable class counts. An entropy is a sum over all of them.",
        lambda p: -p.amax(dim=-1).log(),
        lambda p: torch.special.entr(p.amax(dim=-1)),
        lambda p: 1 - p.amax(dim=-1),
    ),
    "Gini": Slip(
        "This is the Gini impurity, 1 - Σ p²: another measure of being unsure. Asked for is -Σ p log p.",
        lambda p: 1 - p.square().sum(dim=-1),
    ),
}  # fmt: skip


WRONG_AXIS = "The softmax runs over the members or the images. Each row of ten belongs to one image of one member."
ENSEMBLE = {
    "logits averaged": Slip(
        "The members' logits are averaged. That is a geometric mean of their probabilities, in which the surest member "
        "outvotes the others.",
        lambda z: z.mean(dim=0),
        lambda z: z.log_softmax(dim=-1).mean(dim=0),
    ),
    "logits added": Slip(
        "The members' logits are added: that multiplies their probabilities, and the result is much too sure.",
        lambda z: z.sum(dim=0),
    ),
    "probabilities": Slip(
        "These are the mean probabilities, not logits: a softmax on top makes them almost level.",
        lambda z: z.softmax(dim=-1).mean(dim=0),
        lambda z: z.softmax(dim=-1).sum(dim=0),
    ),
    "wrong axis": Slip(
        WRONG_AXIS,
        lambda z: z.softmax(dim=0).mean(dim=0).log(),
        lambda z: z.softmax(dim=1).mean(dim=0).log(),
    ),
    "no softmax": Slip(
        "The exponentials of raw logits are added: a member whose logits are larger counts more. Each member's row "
        "has to be probabilities first.",
        lambda z: z.logsumexp(dim=0),
    ),
    "surest": Slip(
        "Each class has the logit of the member that is surest of it; an ensemble takes a mean.",
        lambda z: z.amax(dim=0),
        lambda z: z.softmax(dim=-1).amax(dim=0).log(),
    ),
    "one member": Slip(
        "Only one member answers: all of them belong to the ensemble.", lambda z: z[0], lambda z: z[-1]
    ),
    "votes": Slip("Each member votes with its class only; how sure it is gets lost. Average probabilities.",
                  lambda z: one_hot(z.argmax(dim=-1), z.shape[-1]).float().mean(dim=0)),
    "median": Slip("The median of the members was taken. A mean of probabilities is asked for.",
                   lambda z: z.softmax(dim=-1).median(dim=0).values.log(), lambda z: z.median(dim=0).values),
}  # fmt: skip
