# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 00: the number of wrong answers."""

import torch

from ..cases import Case, new_generator, random_sizes, random_tensor
from ..slips import Slip
from . import compared


def count_wrong(logits, labels):
    """Return how many images get a wrong answer."""
    answers = logits.argmax(dim=1)  # (N,) digits
    return (answers != labels).sum()


def _answers() -> list[Case]:
    generator = new_generator(None)
    cases = []
    for _ in range(3):
        count, wrong = random_sizes(generator, (25, 40), (4, 10))
        logits = random_tensor(generator, count, 10, scale=2)
        labels = logits.argmax(dim=1)
        places = torch.from_numpy(generator.permutation(count)[:wrong])
        labels[places] = (labels[places] + torch.from_numpy(generator.integers(1, 10, size=wrong))) % 10
        labels[places[0]] = logits[places[0]].argmin()  # so that the smallest logit is right at least once
        cases.append(Case((logits, labels)))
    return cases


COUNT_WRONG_SLIPS = {
    "right ones": Slip(
        "These are the right answers. An error is an answer that differs from the label: use !=.",
        lambda logits, labels: (logits.argmax(dim=1) == labels).sum(),
    ),
    "share": Slip(
        "This is the share of wrong answers. Asked for is their number: .sum() in place of .mean().",
        lambda logits, labels: (logits.argmax(dim=1) != labels).float().mean(),
        lambda logits, labels: 100 * (logits.argmax(dim=1) != labels).float().mean(),
    ),
    "accuracy": Slip(
        "This is the share of right answers. Asked for is the number of wrong ones.",
        lambda logits, labels: (logits.argmax(dim=1) == labels).float().mean(),
        lambda logits, labels: 100 * (logits.argmax(dim=1) == labels).float().mean(),
    ),
    "not added": Slip(
        "This says of each image whether its answer is wrong. Add them up: True counts as 1.",
        lambda logits, labels: logits.argmax(dim=1) != labels,
        lambda logits, labels: (logits.argmax(dim=1) != labels).float(),
    ),
    "no digit": Slip(
        "No answer is right. argmax(dim=1) gives for each image the place of its largest logit: that is the digit.",
        lambda logits, labels: (logits.amax(dim=1) != labels).sum(),
        lambda logits, labels: (logits.argmax() != labels).sum(),
    ),
    "smallest": Slip(
        "This takes the digit with the smallest logit. The network answers the one with the largest: argmax.",
        lambda logits, labels: (logits.argmin(dim=1) != labels).sum(),
    ),
}

TURNS = {
    "00.count-wrong": compared(
        count_wrong,
        _answers,
        slips=COUNT_WRONG_SLIPS,
        verified="The wrong answers are counted.",
        note="`dim=1` looks for the largest logit of each image. With `dim=0` it would look for the image with the "
        "largest logit of each digit.",
    ),
}
