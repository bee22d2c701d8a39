# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 01: the mean answers, the computation of a layer, and the vote of an ensemble."""

import torch
from torch import nn
from torch.nn.utils import skip_init

from ..cases import Case, new_generator, random_sizes, random_tensor
from ..slips import Slip
from . import compared


def mean_answers(soft, labels):
    """Return the mean answer to the images of each label."""
    rows = [soft[labels == digit].mean(dim=0) for digit in range(10)]  # ten rows of 10
    return torch.stack(rows)  # (10, 10): label, answer


def _answers() -> list[Case]:
    generator = new_generator(None)
    cases = []
    for _ in range(3):
        (more,) = random_sizes(generator, (30, 60))
        labels = torch.tensor([*range(10), 0, 0, 1, *generator.integers(0, 10, size=more).tolist()])
        cases.append(Case((random_tensor(generator, len(labels), 10, scale=2).softmax(dim=-1), labels)))
    return cases


def _sums(soft, labels):
    return torch.stack([soft[labels == digit].sum(dim=0) for digit in range(10)])


MEAN_ANSWERS_SLIPS = {
    "transposed": Slip(
        "Rows and columns are exchanged: row d belongs to the images whose label is d.",
        lambda soft, labels: mean_answers(soft, labels).T,
    ),
    "sum": Slip("These are sums: a digit with more images gets a brighter row. Take the mean over its images.", _sums),
    "all images": Slip(
        "Each sum is divided by the number of all images. Divide by the number of images with that label.",
        lambda soft, labels: _sums(soft, labels) / len(labels),
    ),
    "one row": Slip(
        "Every row is the mean over all images. Row d needs the images whose label is d.",
        lambda soft, labels: soft.mean(dim=0).expand(10, 10),
    ),
    "by the answer": Slip(
        "The images are grouped by what the teacher answers. Group them by their label.",
        lambda soft, labels: mean_answers(soft, soft.argmax(dim=1)),
    ),
    "its answer only": Slip(
        "Only the teacher's first answer is counted. Average all ten probabilities.",
        lambda soft, labels: mean_answers(nn.functional.one_hot(soft.argmax(dim=1), 10).float(), labels),
    ),
    "over classes": Slip(
        "This is a mean over the ten classes: .mean(dim=0) averages over the images.",
        lambda soft, labels: torch.stack([soft[labels == digit].mean(dim=1).mean() for digit in range(10)]),
        lambda soft, labels: torch.stack([soft[labels == digit].mean() for digit in range(10)]),
    ),
    "one image": Slip(
        "Each row is one image's answer. Take the mean over all images of that label.",
        lambda soft, labels: torch.stack([soft[labels == digit][0] for digit in range(10)]),
    ),
}


def multiply_adds(layer, output):
    """Return the multiply-adds that a layer took to compute its output."""
    row = layer.weight[0]  # the weights that make one number of the output
    return output.numel() * row.numel()


def _layers() -> list[Case]:
    generator = new_generator(None)
    cases = []
    for place in range(4):
        inner, outer, side = random_sizes(generator, (3, 7), (8, 12), (5, 9))
        if place % 2:
            layer = skip_init(nn.Conv2d, inner, outer, 3, padding=1)
            cases.append(Case((layer, random_tensor(generator, 1, outer, side, side))))
        else:
            cases.append(Case((skip_init(nn.Linear, inner, outer), random_tensor(generator, 1, outer))))
    return cases


MULTIPLY_ADDS_SLIPS = {
    "weights": Slip(
        "This is the number of weights. A convolution uses each of them again at every place of the image.",
        lambda layer, output: layer.weight.numel(),
        lambda layer, output: layer.weight.numel() + layer.bias.numel(),
    ),
    "all weights": Slip(
        "Each number of the output took one row of the weight, weight[0], and not all of it.",
        lambda layer, output: output.numel() * layer.weight.numel(),
    ),
    "numbers that leave": Slip(
        "This counts the numbers that leave the layer. Each of them took as many multiply-adds as a row has weights.",
        lambda layer, output: output.numel(),
    ),
    "one row": Slip(
        "This is what one number of the output took. Multiply by how many numbers the output has.",
        lambda layer, output: layer.weight[0].numel(),
    ),
    "rows": Slip(
        "len() counts along the first dimension only. .numel() counts all numbers of a tensor.",
        lambda layer, output: output.numel() * len(layer.weight[0]),
    ),
    "twice": Slip(
        "Twice too many: a multiplication with its addition counts as one multiply-add.",
        lambda layer, output: 2 * multiply_adds(layer, output),
    ),
    "bias": Slip(
        "The bias is counted too. It is added without a multiplication, and the usual count leaves it out.",
        lambda layer, output: multiply_adds(layer, output) + output.numel(),
        lambda layer, output: multiply_adds(layer, output) + layer.bias.numel(),
    ),
}


def vote(all_logits):
    """Return the mean of the members' probabilities."""
    probabilities = all_logits.softmax(dim=-1)  # (M, N, K)
    return probabilities.mean(dim=0)  # (N, K)


def _members() -> list[Case]:
    generator = new_generator(None)
    shapes = [random_sizes(generator, (2, 5), (5, 8), (8, 12)) for _ in range(3)]
    return [Case((random_tensor(generator, *shape, scale=3),)) for shape in shapes]


VOTE_SLIPS = {
    "logits averaged": Slip(
        "The logits are averaged and then softened: the surest member outvotes the others. Average the probabilities.",
        lambda z: z.mean(dim=0).softmax(dim=-1),
    ),
    "logits": Slip("These are mean logits, no probabilities: the softmax is missing.", lambda z: z.mean(dim=0)),
    "over members": Slip(
        "The softmax runs over the members, dim=0. The ten probabilities of one image add up to 1: dim=-1.",
        lambda z: z.softmax(dim=0).mean(dim=0),
    ),
    "over images": Slip(
        "The softmax runs over the images, dim=1. The ten probabilities of one image add up to 1: dim=-1.",
        lambda z: z.softmax(dim=1).mean(dim=0),
    ),
    "sum": Slip(
        "The probabilities are added and not averaged: each row sums to the number of members, not to 1.",
        lambda z: z.softmax(dim=-1).sum(dim=0),
    ),
    "mean over images": Slip(
        "The mean runs over the images, dim=1. Each image needs its own vote: average over the members, dim=0.",
        lambda z: z.softmax(dim=-1).mean(dim=1),
    ),
    "surest": Slip(
        "For each class the surest member decides alone. Take the mean of all members.",
        lambda z: z.softmax(dim=-1).amax(dim=0),
    ),
    "counted": Slip(
        "Each member names one class only, so how sure it is gets lost. Average the probabilities.",
        lambda z: nn.functional.one_hot(z.argmax(dim=-1), z.shape[-1]).float().mean(dim=0),
    ),
    "softmax twice": Slip(
        "A second softmax is taken of the mean: it makes the rows almost level.",
        lambda z: vote(z).softmax(dim=-1),
        lambda z: z.softmax(dim=-1).softmax(dim=-1).mean(dim=0),
    ),
}

TURNS = {
    "01.mean-answers": compared(
        mean_answers,
        _answers,
        slips=MEAN_ANSWERS_SLIPS,
        verified="Each row is the mean answer to the images of its label.",
        note="`labels == digit` chooses the images of one label. With a sum, frequent digits would have bright rows.",
    ),
    "01.multiply-adds": compared(
        multiply_adds,
        _layers,
        slips=MULTIPLY_ADDS_SLIPS,
        verified="The count is right for fully connected layers and for convolutions.",
        note="`layer.weight.numel()` is the size, not the cost: a convolution uses each weight at every place.",
    ),
    "01.vote": compared(
        vote,
        _members,
        slips=VOTE_SLIPS,
        verified="Each row is the mean of the members' probabilities.",
        note="The softmax comes first. The mean of the logits would let the surest member outvote the others.",
    ),
}
