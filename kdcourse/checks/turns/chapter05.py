# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 05: InfoNCE's square and its push; CRD's probability and its memory."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ..cases import Case, new_generator, random_sizes, random_tensor
from ..failures import CheckFailed
from ..slips import Slip
from . import Turn, compared


def info_nce(cosines, temperature):
    """Return each anchor's loss."""
    return -(cosines / temperature).log_softmax(dim=1).diagonal()  # (B, B) -> (B,)


def push(cosines, temperature):
    """Return the gradient of each anchor's loss by its cosines."""
    shares = (cosines / temperature).softmax(dim=1)  # (B, B), the positives on the diagonal
    return (shares - torch.eye(len(shares), device=shares.device)) / temperature


def critic(cosine, z, *, negatives, images, temperature):
    """Return the probability that a pair is real."""
    real = (cosine / temperature).exp() / z  # how often a real partner looks like this
    noise = negatives / images  # N partners from noise, each image with probability 1 / M
    return real / (real + noise)


def refresh(memory, index, vectors, *, momentum):
    """Return the memory after a batch."""
    memory = memory.clone()
    blend = momentum * memory[index] + (1 - momentum) * vectors  # (B, D)
    memory[index] = F.normalize(blend, dim=1)
    return memory


def _squares() -> list[Case]:
    generator = new_generator(None)
    cases = []
    for temperature in (0.1, 0.4, 0.01):
        (size,) = random_sizes(generator, (5, 9))
        student, teacher = (F.normalize(random_tensor(generator, size, 6), dim=1) for _ in range(2))
        teacher[0] = student[0]  # a cosine of 1, and exp(1 / 0.01) is no float
        cases.append(Case((student @ teacher.T, temperature)))
    return cases


def _critic_cases() -> list[Case]:
    generator = new_generator(None)
    settings = [(50.0, 16, 100, 0.1), (900.0, 256, 1000, 0.2), (3000.0, 64, 5000, 0.07)]
    return [
        Case(
            (random_tensor(generator, 5 + place).tanh(), z),
            {"negatives": negatives, "images": images, "temperature": temperature},
        )
        for place, (z, negatives, images, temperature) in enumerate(settings)
    ]


def _memories() -> list[Case]:
    generator, cases = new_generator(None), []
    for momentum in (0.5, 0.8, 0.2):
        memory = F.normalize(random_tensor(generator, 11, 4), dim=1)
        index = torch.from_numpy(generator.permutation(11)[:5].copy())
        cases.append(Case((memory, index, F.normalize(random_tensor(generator, 5, 4), dim=1)), {"momentum": momentum}))
    return cases


def _as_tensor(turn: Turn, cases: Callable[[], list[Case]], *, learns: bool = False) -> Turn:
    """Let a check also ask for a tensor, since the chapter goes on with it, and for a gradient where one is needed."""

    def verify(function: Callable) -> str:
        verified = turn.verify(function)
        (first, *others), knobs = cases()[0].copied()
        value = function(first.requires_grad_(learns), *others, **knobs)
        if not isinstance(value, torch.Tensor):
            raise CheckFailed(f"The numbers are right, but a tensor is needed, not a {type(value).__name__}.")
        if learns and not value.requires_grad:
            raise CheckFailed("The numbers are right, but no gradient flows through them: is something detached?")
        return verified

    return turn._replace(verify=verify)


def _scores(change):
    return lambda cosines, temperature: -change(cosines / temperature)


INFO_NCE_SLIPS = {
    "columns": Slip(
        "The softmax runs over the anchors: here each teacher embedding looks for its student. A row is one anchor.",
        _scores(lambda x: x.log_softmax(dim=0).diagonal()),
    ),
    "mean of the batch": Slip(
        "The result is one number. Each anchor needs its own: leave the mean over the batch to later.",
        _scores(lambda x: x.log_softmax(dim=1).diagonal().mean()),
        _scores(lambda x: x.log_softmax(dim=1).diagonal().sum()),
    ),
    "all candidates": Slip(
        "This is -log of every candidate's share, (B, B). Only the positive's counts: it stands on the diagonal.",
        _scores(lambda x: x.log_softmax(dim=1)),
    ),
    "sign": Slip(
        "The sign is the other way round. The logarithm of a share is never positive, a loss is never negative.",
        _scores(lambda x: -x.log_softmax(dim=1).diagonal()),
    ),
    "no logarithm": Slip(
        "The logarithm is missing: this is the share itself, with a sign.",
        _scores(lambda x: x.softmax(dim=1).diagonal()),
        _scores(lambda x: -x.softmax(dim=1).diagonal()),
        _scores(lambda x: x.softmax(dim=1).diagonal() - 1),
    ),
    "no temperature": Slip(
        "The temperature is not used: divide the cosines by it before the softmax.",
        lambda cosines, temperature: info_nce(cosines, 1),
    ),
    "temperature multiplies": Slip(
        "The temperature multiplies. It divides: a small τ makes the softmax sharper.",
        lambda cosines, temperature: info_nce(cosines, 1 / temperature),
    ),
    "temperature outside": Slip(
        "The temperature divides the loss. It divides the cosines, before the softmax.",
        lambda cosines, temperature: info_nce(cosines, 1) / temperature,
    ),
    "softmax twice": Slip(
        "A softmax is taken twice: log_softmax and cross_entropy take scores.",
        _scores(lambda x: x.softmax(dim=1).log_softmax(dim=1).diagonal()),
    ),
    "first column": Slip(
        "The first candidate was taken for the positive of every anchor. The positive of anchor i is candidate i.",
        _scores(lambda x: x.log_softmax(dim=1)[:, 0]),
    ),
    "no positive below": Slip(
        "The positive is missing in the denominator. It is a candidate like all others.",
        _scores(lambda x: x.diagonal() - x.masked_fill(torch.eye(len(x)) > 0, -torch.inf).logsumexp(dim=1)),
    ),
    "whole matrix": Slip(
        "One softmax runs over all pairs of the batch. Each anchor has a softmax of its own, dim=1.",
        _scores(lambda x: x.diagonal() - x.flatten().logsumexp(dim=0)),
    ),
    "overflow": Slip(
        "Right on paper, but at τ = 0.01 a cosine of 1 becomes exp(100), too large for a float. log_softmax never "
        "takes that exponential.",
        _scores(lambda x: (x.exp().diagonal() / x.exp().sum(dim=1)).log()),
        _scores(lambda x: x.diagonal() - x.exp().sum(dim=1).log()),
        _scores(lambda x: x.exp().diagonal().log() - x.exp().sum(dim=1).log()),
    ),
}

PUSH_SLIPS = {
    "no temperature in front": Slip(
        "1/τ is missing in front: the cosine is divided by τ before the softmax, so the chain rule gives 1/τ.",
        lambda cosines, temperature: temperature * push(cosines, temperature),
    ),
    "temperature in front": Slip(
        "The shares are multiplied by τ. The chain rule gives 1/τ: a small τ pushes harder.",
        lambda cosines, temperature: temperature**2 * push(cosines, temperature),
    ),
    "positive": Slip(
        "The positive is pushed away like a negative. Subtract 1 from its share, on the diagonal: then it is pulled.",
        lambda cosines, temperature: (cosines / temperature).softmax(dim=1) / temperature,
    ),
    "shares alone": Slip(
        "These are the shares. The positive's is lessened by 1, and all are divided by τ.",
        lambda cosines, temperature: (cosines / temperature).softmax(dim=1),
    ),
    "sign": Slip(
        "The sign is the other way round: this is the step that lowers the loss. Asked for is the gradient.",
        lambda cosines, temperature: -push(cosines, temperature),
    ),
    "one everywhere": Slip(
        "1 is subtracted everywhere. Only the positive, on the diagonal, gets the -1.",
        lambda cosines, temperature: ((cosines / temperature).softmax(dim=1) - 1) / temperature,
    ),
    "columns": Slip(
        "The softmax runs over the anchors. A row is one anchor: dim=1.",
        lambda cosines, temperature: push(cosines.T, temperature).T,
    ),
    "flat softmax": Slip(
        "The softmax is taken of the cosines themselves. Divide them by τ first.",
        lambda cosines, temperature: push(cosines, 1),
        lambda cosines, temperature: push(cosines, 1) / temperature,
    ),
    "mean of the batch": Slip(
        "B times too small: this is the gradient of the mean over the batch. Each anchor has a loss of its own.",
        lambda cosines, temperature: push(cosines, temperature) / len(cosines),
    ),
    "negatives only": Slip(
        "The diagonal is 0. The positive is pulled, with its share minus 1, divided by τ.",
        lambda cosines, temperature: push(cosines, temperature) * (1 - torch.eye(len(cosines))),
    ),
}


def _critic(real=lambda e, z: e / z, noise=lambda n, m: n / m, h=lambda r, n: r / (r + n), divide=True):
    def wrong(cosine, z, *, negatives, images, temperature):
        e = (cosine / temperature if divide else cosine * temperature).exp()
        return h(real(e, z), noise(negatives, images))

    return wrong


CRITIC_SLIPS = {
    "no Z": Slip(
        "Z is not used. This is the paper's form: with it, unrelated pairs count as real from the start.",
        _critic(real=lambda e, z: e),
    ),
    "Z multiplies": Slip("Z multiplies the exponential. It divides it.", _critic(real=lambda e, z: e * z)),
    "Z once": Slip(
        "Z divides the exponential in one place only. It belongs to both, above and below.",
        lambda cosine, z, *, negatives, images, temperature: (
            (cosine / temperature).exp() / z / ((cosine / temperature).exp() + negatives / images)
        ),
        lambda cosine, z, *, negatives, images, temperature: (
            (cosine / temperature).exp() / ((cosine / temperature).exp() / z + negatives / images)
        ),
    ),
    "M / N": Slip(
        "The noise is M/N. It is N/M: N negatives for each real pair, each image drawn with probability 1/M.",
        _critic(noise=lambda n, m: m / n),
    ),
    "N alone": Slip(
        "The noise is N. A certain image among M is drawn with probability 1/M, so the noise is N/M.",
        _critic(noise=lambda n, m: n),
    ),
    "one negative": Slip(
        "The noise is 1/M, as if there were one negative for each real pair. There are N of them.",
        _critic(noise=lambda n, m: 1 / m),
    ),
    "no noise": Slip(
        "The noise, N/M, is missing below, or 1 stands in its place.",
        _critic(h=lambda r, n: r),
        _critic(noise=lambda n, m: 1),
    ),
    "softmax": Slip(
        "A softmax lets the pairs compete. Each pair is a question of its own: yes or no?",
        lambda cosine, z, *, negatives, images, temperature: (cosine / temperature).softmax(dim=0),
    ),
    "odds": Slip(
        "These are odds, real divided by noise, which have no upper end. A probability divides by the sum of both.",
        _critic(h=lambda r, n: r / n),
    ),
    "noise probability": Slip(
        "This is the probability that the pair is noise, 1 - h.", _critic(h=lambda r, n: n / (r + n))
    ),
    "temperature multiplies": Slip("The temperature multiplies. It divides the cosine.", _critic(divide=False)),
    "no temperature": Slip(
        "The temperature is not used: it divides the cosine.",
        lambda cosine, z, **knobs: critic(cosine, z, **{**knobs, "temperature": 1}),
    ),
    "no exponential": Slip(
        "The exponential is missing: cosine / τ may be negative, and a probability may not.",
        lambda cosine, z, *, negatives, images, temperature: (
            (cosine / temperature / z) / (cosine / temperature / z + negatives / images)
        ),
    ),
}


def _written(change):
    def wrong(memory, index, vectors, *, momentum):
        memory = memory.clone()
        memory[index] = change(memory[index], vectors, momentum)
        return memory

    return wrong


def _first_rows(memory, index, vectors, *, momentum):
    return refresh(memory, torch.arange(len(index)), vectors, momentum=momentum)


REFRESH_SLIPS = {
    "no unit length": Slip(
        "The rows are not scaled back to length 1: the mean of two unit vectors is shorter than 1.",
        _written(lambda old, new, m: m * old + (1 - m) * new),
    ),
    "momentum on the new": Slip(
        "The momentum weights the new vectors. It is the share of the old row that is kept.",
        _written(lambda old, new, m: F.normalize((1 - m) * old + m * new, dim=1)),
    ),
    "overwritten": Slip(
        "The rows are overwritten: nothing of the old vectors is left, whatever the momentum.",
        _written(lambda old, new, m: new),
    ),
    "half and half": Slip(
        "Old and new count half each, whatever the momentum says.",
        _written(lambda old, new, m: F.normalize(old + new, dim=1)),
    ),
    "new in full": Slip(
        "The new vectors count in full: their share is 1 - momentum.",
        _written(lambda old, new, m: F.normalize(m * old + new, dim=1)),
    ),
    "first rows": Slip(
        "The batch was written to the first rows. Image number index[i] has row index[i], wherever the batch put it.",
        _first_rows,
    ),
    "rows alone": Slip(
        "Only the rows of the batch came back, (B, D). Asked for is the whole memory, (M, D).",
        lambda memory, index, vectors, *, momentum: refresh(memory, index, vectors, momentum=momentum)[index],
    ),
    "columns": Slip(
        "Columns were scaled to length 1, dim=0. A vector is a row.",
        _written(lambda old, new, m: F.normalize(m * old + (1 - m) * new, dim=0)),
    ),
    "untouched": Slip(
        "The memory came back as it was: nothing was written.", lambda memory, index, vectors, *, momentum: memory
    ),
}

TURNS = {
    "05.info-nce": _as_tensor(
        compared(
            info_nce,
            _squares,
            slips=INFO_NCE_SLIPS,
            verified="Each anchor's loss agrees on three random squares, at τ = 0.01 too.",
            note="`log_softmax` and not `softmax().log()`: at a small τ a share is rounded to 0, and its logarithm is "
            "minus infinity.",
        ),
        _squares,
        learns=True,
    ),
    "05.push": _as_tensor(
        compared(
            push,
            _squares,
            slips=PUSH_SLIPS,
            verified="The gradient agrees on three random squares: negatives are pushed, the positive is pulled.",
            note="Each row adds up to 0: what the negatives are pushed away, the positive is pulled near.",
        ),
        _squares,
    ),
    "05.critic": _as_tensor(
        compared(
            critic,
            _critic_cases,
            slips=CRITIC_SLIPS,
            verified="The probability agrees for three settings of Z, N, M and τ.",
            note="N and M are easily swapped. More negatives must make a pair harder to believe.",
        ),
        _critic_cases,
        learns=True,
    ),
    "05.refresh": _as_tensor(
        compared(
            refresh,
            _memories,
            slips=REFRESH_SLIPS,
            verified="The rows of the batch move and have length 1, all others stay, for three momenta.",
            note="Without the last `F.normalize` the rows shrink, and a shorter negative pushes less.",
        ),
        _memories,
    ),
}
