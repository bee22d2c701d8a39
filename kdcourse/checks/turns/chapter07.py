# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 07: a student's loss among its peers, a schedule, a pace."""

import torch
import torch.nn.functional as F

from ...losses import kd_loss, mutual_learning_loss
from ..cases import Case, new_generator, random_labels, random_sizes, random_tensor
from ..comparing import check_values
from ..gradients import check_gradients
from ..slips import Slip
from . import Turn, compared


def mutual_loss(logits, peer_logits, labels):
    """Return the loss of one student."""
    log_q = F.log_softmax(logits, dim=-1)  # (B, K)
    log_p = F.log_softmax(peer_logits.detach(), dim=-1)  # (B, K): a target, not a partner
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    return F.cross_entropy(logits, labels) + kl


def _attached(logits, peer_logits, labels):
    log_q, log_p = F.log_softmax(logits, dim=-1), F.log_softmax(peer_logits, dim=-1)
    return F.cross_entropy(logits, labels) + (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


def _kl(p, q):
    return (p * (p.log() - q.log())).sum(dim=-1)


def _with(term):
    """Return the loss with another peers' term."""
    return lambda z, peer, y: F.cross_entropy(z, y) + term(z.softmax(dim=-1), peer.detach().softmax(dim=-1))


MUTUAL_SLIPS = {
    "other direction": Slip(
        "This is KL(student‖peer). The one who teaches stands in front and does the weighting: KL(peer‖student).",
        _with(lambda q, p: _kl(q, p).mean()),
    ),
    "no labels": Slip(
        "The labels' term is missing: two students who only imitate each other can agree on anything.",
        lambda z, peer, y: kd_loss(z, peer, temperature=1.0),
    ),
    "labels alone": Slip(
        "The peer's term is missing: this student learns from the labels alone.",
        lambda z, peer, y: F.cross_entropy(z, y),
    ),
    "mean over classes": Slip(
        "The peer's term is K times too small: a sum over the classes, then a mean over the images.",
        _with(lambda q, p: _kl(p, q).mean() / p.shape[-1]),
    ),
    "sum over images": Slip(
        "The peer's term is summed over the batch: twice the images would mean twice the loss.",
        _with(lambda q, p: _kl(p, q).sum()),
    ),
    "half each": Slip(
        "Both terms are halved, as if they shared a weight. In mutual learning each has weight 1: there is no α.",
        lambda z, peer, y: mutual_loss(z, peer, y) / 2,
    ),
    "sign": Slip(
        "The peer's term is subtracted, so a student would run away from its peer: log p comes first.",
        _with(lambda q, p: -_kl(p, q).mean()),
    ),
    "cross-entropy": Slip(
        "The peer's term is a cross-entropy, - Σ p log q. It lacks p log p, so it is not 0 where both agree.",
        _with(lambda q, p: -(p * q.log()).sum(dim=-1).mean()),
    ),
}
GRADIENT_SLIPS = {
    "not detached": Slip(
        "The value is right, but the loss also pulls at the peer: it would be dragged towards the student whom it "
        "teaches. A peer is a fixed target: .detach().",
        _attached,
    ),
    "wrong side": Slip(
        "The value is right, but the wrong side is detached: the peer's term trains the peer, and not the student.",
        lambda z, peer, y: F.cross_entropy(z, y) + _kl(peer.softmax(dim=-1), z.detach().softmax(dim=-1)).mean(),
    ),
}


def _check_mutual_loss(function):
    generator, cases = new_generator(None), []
    for _ in range(3):
        batch, classes = random_sizes(generator, (4, 9), (4, 12))
        logits, peer = (random_tensor(generator, batch, classes, scale=2) for _ in range(2))
        cases.append(Case((logits, peer, random_labels(generator, batch, classes))))
    check_values(function, mutual_loss, cases, slips=MUTUAL_SLIPS)
    check_gradients(function, mutual_loss, cases[0], slips=GRADIENT_SLIPS)
    logits, peer, labels = cases[0].args
    torch.testing.assert_close(mutual_loss(logits, peer, labels), mutual_learning_loss([logits, peer], labels)[0])
    return "Labels and peer both count fully, and no gradient reaches the peer."


def temperature_at(step, steps):
    """Return T in a step."""
    return 1 + (20 - 1) * step / (steps - 1)


def _line(progress, first=1.0, last=20.0):
    return lambda step, steps: first + (last - first) * progress(step, steps)


def _exact(step, steps):
    return step / (steps - 1)


TEMPERATURE_SLIPS = {
    "never arrives": Slip(
        "T = 20 belongs to a step that never comes: the last of n steps has number n - 1, so divide by steps - 1.",
        _line(lambda step, steps: step / steps),
    ),
    "counted from 1": Slip(
        "The steps are counted from 0: the first of them, step 0, has T = 1 exactly.",
        _line(lambda step, steps: (step + 1) / steps),
        _line(lambda step, steps: (step - 1) / (steps - 1)),
    ),
    "overshoots": Slip(
        "T = 20 is reached a step too early, and the last step overshoots.",
        _line(lambda step, steps: (step + 1) / (steps - 1)),
    ),
    "falls": Slip("T falls from 20 to 1. Asked for is the other way: from 1 up to 20.", _line(_exact, 20.0, 1.0)),
    "from 0": Slip(
        "T starts at 0, and T divides the logits: start from 1, and add the share of 20 - 1.", _line(_exact, 0.0, 20.0)
    ),
    "ends at 21": Slip("T ends at 21: on the way from 1 to 20 lie 20 - 1 = 19, not 20.", _line(_exact, 1.0, 21.0)),
    "jumps": Slip(
        "T jumps at the end: a division of whole numbers (//) drops everything between 0 and 1.",
        _line(lambda step, steps: step // (steps - 1)),
    ),
    "multiplied": Slip(
        "T is multiplied by the same factor in each step. Asked for is a straight line: the same number is added.",
        lambda step, steps: 20.0 ** (step / (steps - 1)),
    ),
}


def _steps():
    runs = (5, int(new_generator(None).integers(6, 30)), 2)
    return [Case((step, steps)) for steps in runs for step in range(steps)]


def share_at(progress):
    """Return the share of images in use."""
    return min(1.0, 0.1 + 0.9 * progress / 0.5)


PACE_SLIPS = {
    "no end": Slip(
        "After half-time the share grows beyond 1. There are no more images than all: take the smaller of 1 and the "
        "line.",
        lambda progress: 0.1 + 0.9 * progress / 0.5,
    ),
    "arrives at the end": Slip(
        "All images are in use only at the end of the run. Asked for is half-time, progress ½.",
        lambda progress: 0.1 + 0.9 * progress,
    ),
    "from nothing": Slip(
        "The share starts at 0, so the first batch would have no image to draw. Start from a tenth.",
        lambda progress: min(1.0, progress / 0.5),
    ),
    "too steep": Slip(
        "The line is too steep: from a tenth to everything lie nine tenths, not ten.",
        lambda progress: min(1.0, 0.1 + progress / 0.5),
    ),
    "stairs": Slip(
        "The share jumps to 1 at half-time. Asked for is a straight line from a tenth up to everything.",
        lambda progress: 0.1 if progress < 0.5 else 1.0,
    ),
    "at least": Slip(
        "max takes the larger of the two, so all images are in use from the start. Take the smaller one.",
        lambda progress: max(1.0, 0.1 + 0.9 * progress / 0.5),
    ),
    "shrinks": Slip(
        "The share shrinks. A curriculum begins with few images and ends with all.",
        lambda progress: 1 - min(1.0, 0.1 + 0.9 * progress / 0.5),
        lambda progress: max(0.1, 1 - 0.9 * progress / 0.5),
    ),
}


def _progress():
    between = new_generator(None).uniform(0.05, 0.45, size=2).tolist()
    return [Case((progress,)) for progress in (0.0, *between, 0.5, 0.75, 1.0)]


TURNS = {
    "07.mutual": Turn(
        mutual_loss,
        _check_mutual_loss,
        "Without `.detach()` the loss has the same value, and another meaning: it also drags the peer towards the "
        "student.",
        MUTUAL_SLIPS | GRADIENT_SLIPS,
    ),
    "07.schedule": compared(
        temperature_at,
        _steps,
        slips=TEMPERATURE_SLIPS,
        verified="The first step has T = 1, the last one T = 20, in runs of 2, 5 and more steps.",
        note="With `step / steps` the line ends one step after the run does.",
    ),
    "07.pace": compared(
        share_at,
        _progress,
        slips=PACE_SLIPS,
        verified="A tenth at the start, all images at half-time, and no more than all afterwards.",
        note="Without `min` the share grows to 1.9, which `CurriculumBatches` refuses.",
    ),
}
