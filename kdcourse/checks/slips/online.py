"""Wrong answers to exercise 07, online and progressive distillation."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses import kd_loss
from . import Slip, mapped
from .soft_targets import KD


def _mutual(
    all_logits: Sequence[Tensor], labels: Tensor, *, temperature: float, kd: Callable[..., Tensor] = kd_loss,
    reduce: Callable[[Tensor], Tensor] = torch.mean, ce: Callable[..., Tensor] = F.cross_entropy,
    peers_of: Callable[[Sequence[Tensor], int], list[Tensor]] | None = None,
) -> list[Tensor]:  # fmt: skip
    found = []
    for own, logits in enumerate(all_logits):
        peers = (peers_of or _peers)(all_logits, own)
        divergences = torch.stack([kd(logits, peer, temperature=temperature) for peer in peers])
        found.append(ce(logits, labels) + reduce(divergences))
    return found


def _peers(all_logits: Sequence[Tensor], own: int) -> list[Tensor]:
    return [other for place, other in enumerate(all_logits) if place != own]


def _with(**changes: Any) -> Callable:
    return lambda z, labels, *, temperature: _mutual(z, labels, temperature=temperature, **changes)


def _towards_mean_prediction(z: Sequence[Tensor], labels: Tensor, *, temperature: float) -> list[Tensor]:
    def mean(all_logits: Sequence[Tensor], own: int) -> list[Tensor]:
        rows = torch.stack(_peers(all_logits, own)) / temperature
        return [temperature * rows.softmax(dim=-1).mean(dim=0).log()]

    return _mutual(z, labels, temperature=temperature, peers_of=mean)


def _softened_labels(z: Sequence[Tensor], labels: Tensor, *, temperature: float) -> list[Tensor]:
    return _mutual(z, labels, temperature=temperature, ce=lambda s, y: F.cross_entropy(s / temperature, y))


def _one_number(combine: Callable[[Tensor], Tensor]) -> Callable:
    return lambda z, y, *, temperature: combine(torch.stack(_mutual(z, y, temperature=temperature)))


def _terms_summed(z: Sequence[Tensor], y: Tensor, *, temperature: float) -> list[Tensor]:
    return _mutual(z, y, temperature=temperature, ce=lambda s, y: F.cross_entropy(s, y, reduction="sum"))


MUTUAL = {
    "logits averaged": Slip(
        "The peers' logits are averaged first. That is the ensemble as a target, another method (trap 51): here each "
        "peer has a divergence of its own.",
        _with(peers_of=lambda z, own: [torch.stack(_peers(z, own)).mean(dim=0)]),
    ),
    "predictions averaged": Slip(
        "The peers' predictions are averaged first, and one divergence is taken. Asked for is the mean of divergences.",
        _towards_mean_prediction,
    ),
    "added": Slip(
        "The divergences are added up: a larger cohort would weigh more against the labels.", _with(reduce=torch.sum)
    ),
    "divided by S": Slip(
        "The sum is divided by S. A student is not its own peer: there are fewer divergences than students.",
        _with(peers_of=lambda z, own: list(z)),
    ),
    "no labels": Slip(
        "The labels are missing: students who only imitate each other can agree on anything.", _with(ce=lambda z, y: 0)
    ),
    "labels alone": Slip(
        "The peers are missing: each student learns from the labels alone.", _with(kd=lambda s, t, **_: 0 * s.sum())
    ),
    "no T²": Slip(
        "The factor T² is missing: the peers fade as T grows.", *(_with(kd=wrong) for wrong in KD["no T²"].wrong)
    ),
    "reverse": Slip(
        "This is KL(student‖peer): the probabilities of the one who teaches must weight (trap 1).",
        *(_with(kd=wrong) for wrong in KD["reverse"].wrong),
    ),
    "mean over classes": Slip(
        "The peers' term is K times too small: a mean over classes as well as images (trap 2).",
        *(_with(kd=wrong) for wrong in KD["mean over classes"].wrong),
    ),
    "sum over images": Slip(
        "The peers' term is summed over the batch: twice the images would mean twice the step.",
        *(_with(kd=wrong) for wrong in KD["sum over images"].wrong),
    ),
    "labels summed": Slip(
        "The labels' term is summed over the batch: twice the images would mean twice the step.", _terms_summed
    ),
    "T⁴": Slip("T² is there twice: kd_loss has it already.", _with(
        kd=lambda s, t, *, temperature: temperature**2 * kd_loss(s, t, temperature=temperature))),
    "softmax before": Slip("A softmax is taken before cross_entropy, which takes logits and their softmax by itself.",
                           _with(ce=lambda z, y: F.cross_entropy(z.softmax(dim=-1), y))),
    "cross-entropy": Slip(
        "This is a cross-entropy with the peers' rows: it is not 0 where all agree, the peers' entropy is still in it.",
        *(_with(kd=wrong) for wrong in KD["cross-entropy"].wrong),
    ),
    "softened labels": Slip(
        "The labels' term sees softened logits. Labels are hard: they take the logits as they are.", _softened_labels
    ),
    "one peer": Slip(
        "Each student has one peer, its neighbour or the first or last one. Here all others teach it.",
        _with(peers_of=lambda z, own: [z[(own + 1) % len(z)]]),
        _with(peers_of=lambda z, own: [z[own - 1]]),
        _with(peers_of=lambda z, own: _peers(z, own)[:1]),
        _with(peers_of=lambda z, own: _peers(z, own)[-1:]),
    ),
    "no weights": Slip(
        "Both terms are halved, as if they shared one weight. Each is asked for as it is.",
        lambda z, y, *, temperature: [loss / 2 for loss in _mutual(z, y, temperature=temperature)],
    ),
    "one number": Slip(
        "One number came for the whole cohort. Each student has a loss of its own, in a list.",
        _one_number(torch.sum),
        _one_number(torch.mean),
    ),
    "first student": Slip(
        "Only the first student's loss came back: does a return stand inside the loop? All are needed, in a list.",
        lambda z, y, *, temperature: _mutual(z, y, temperature=temperature)[0],
        lambda z, y, *, temperature: _mutual(z, y, temperature=temperature)[:1],
    ),
    "last student": Slip(
        "The last student's loss stands in all places, or alone: was one list entry overwritten in the loop?",
        lambda z, y, *, temperature: _mutual(z, y, temperature=temperature)[-1:],
        lambda z, y, *, temperature: _mutual(z, y, temperature=temperature)[-1:] * len(z),
    ),
    **mapped(KD, lambda kd: _with(kd=kd), "one T", "only teacher softened", "only student softened",
             "softmax over batch", "T multiplies", "Jensen-Shannon"),
}  # fmt: skip


def _attached(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    log_q, log_p = F.log_softmax(s / temperature, dim=-1), F.log_softmax(t / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


MUTUAL_GRADIENT = {
    "peers trained": Slip(
        "A student's loss also pulls at its peers. Each would then be drawn to those who imitate it, besides what it "
        "learns itself: a peer is a fixed target.",
        _with(kd=_attached),
    ),
    "students detached": Slip(
        "The peers' term trains nobody: the student's own logits are detached in it, so it learns from labels alone.",
        _with(kd=lambda s, t, *, temperature: kd_loss(s.detach(), t, temperature=temperature)),
    ),
    "labels detached": Slip(
        "The labels train nobody: the student's own logits are detached in the cross-entropy.",
        _with(ce=lambda z, y: F.cross_entropy(z.detach(), y)),
    ),
    "wrong side": Slip(
        "The wrong side is detached: the peers' term of a student trains its peers, and not the student.",
        _with(kd=lambda s, t, *, temperature: _attached(s.detach(), t, temperature=temperature)),
    ),
}


def _progress(epoch: int, epochs: int) -> float:
    return epoch / (epochs - 1) if epochs > 1 else 1.0


def _knobs(
    epoch: int, epochs: int, *, progress: Callable[[int, int], float] = _progress,
    temperatures: tuple[float, float] = (10.0, 1.0), alphas: tuple[float, float] = (0.9, 0.5),
    straight: bool = False, bent: bool = False,
) -> tuple[float, float]:  # fmt: skip
    """Return T, which is multiplied by the same factor each epoch unless ``straight``, and α, in a line unless bent."""
    share = progress(epoch, epochs)
    line, powers = (lambda a, b: a + (b - a) * share), (lambda a, b: a * (b / a) ** share)
    return (line if straight else powers)(*temperatures), (powers if bent else line)(*alphas)


def _knobs_with(**changes: Any) -> Callable:
    return lambda epoch, epochs: _knobs(epoch, epochs, **changes)


def _never(epoch: int, epochs: int) -> float:
    return epoch / epochs


def _only(temperature: bool) -> Callable:
    def wrong(epoch: int, epochs: int) -> tuple[float, float]:
        right, unrepaired = _knobs(epoch, epochs), _knobs(epoch, epochs, progress=_never)
        return (right[0], unrepaired[1]) if temperature else (unrepaired[0], right[1])

    return wrong


_NEVER_ARRIVES = (
    "The last values belong to an epoch that never comes: with five epochs the last one has T = 1.6 (trap 54)."
)
_ALPHA_TO_ONE = (
    "α ends at 1: the labels have no weight left when it matters most (trap 56). Asked for is α from 0.9 to 0.5."
)
SCHEDULE = {
    "never arrives": Slip(
        _NEVER_ARRIVES, _knobs_with(progress=_never), _knobs_with(progress=_never, straight=True)
    ),
    "never arrives, α grows": Slip(
        _NEVER_ARRIVES + " And α still grows.",
        _knobs_with(progress=_never, alphas=(0.5, 1.0)),
        _knobs_with(progress=_never, alphas=(0.5, 0.9)),
        _knobs_with(progress=_never, alphas=(0.5, 1.0), straight=True),
        _knobs_with(progress=_never, alphas=(0.5, 0.9), straight=True),
    ),
    "straight": Slip(
        "T goes in a straight line: the same number is taken away in each epoch. Asked for is the same factor: it is "
        "multiplied.",
        _knobs_with(straight=True),
    ),
    "α multiplied": Slip(
        "α is multiplied by the same factor in each epoch. That is how T moves; α goes in a straight line.",
        _knobs_with(bent=True),
    ),
    "α never arrives": Slip("T arrives, but α's last value belongs to an epoch that never comes.", _only(True)),
    "T never arrives": Slip("α arrives, but T's last value belongs to an epoch that never comes.", _only(False)),
    "starts late": Slip(
        "The last epoch has the last values now, but the first one no longer has the first: they start too late.",
        _knobs_with(progress=lambda epoch, epochs: (epoch + 1) / epochs),
    ),
    "counted from 1": Slip(
        "The epochs are counted from 1 here. They are counted from 0: the first values come before the first epoch.",
        _knobs_with(progress=lambda epoch, epochs: (epoch - 1) / (epochs - 1)),
    ),
    "one step too many": Slip(
        "The values change too slowly: between five epochs there are four steps, not six.",
        _knobs_with(progress=lambda epoch, epochs: epoch / (epochs + 1)),
        _knobs_with(progress=lambda epoch, epochs: (epoch + 1) / (epochs + 1)),
    ),
    "α to 1": Slip(_ALPHA_TO_ONE, _knobs_with(alphas=(0.5, 1.0)), _knobs_with(alphas=(0.9, 1.0))),
    "α to 0": Slip("α ends at another value. Asked for is from 0.9 to 0.5.", _knobs_with(alphas=(0.9, 0.0)),
                   _knobs_with(alphas=(0.9, 0.1)), _knobs_with(alphas=(1.0, 0.5))),
    "α grows": Slip(
        "α grows. Asked for is the other way: the labels gain weight towards the end (trap 56).",
        _knobs_with(alphas=(0.5, 0.9)),
    ),
    "α fixed": Slip("α does not change. Asked for is a straight line from 0.9 to 0.5.", _knobs_with(alphas=(0.9, 0.9)),
                    _knobs_with(alphas=(0.5, 0.5))),
    "T fixed": Slip("T does not change. Asked for is from 10 down to 1.",
                    _knobs_with(temperatures=(10.0, 10.0)), _knobs_with(temperatures=(1.0, 1.0))),
    "T grows": Slip("T grows. Asked for is from 10 down to 1.", _knobs_with(temperatures=(1.0, 10.0)),
                    _knobs_with(temperatures=(1.0, 10.0), straight=True)),
    "T to 0": Slip("T ends at 0. Asked for is 1: T divides.", _knobs_with(temperatures=(10.0, 0.0)),
                   _knobs_with(temperatures=(10.0, 0.0), straight=True)),
    "backwards": Slip(
        "All goes backwards: the first epoch has the last values.",
        _knobs_with(progress=lambda epoch, epochs: 1 - _progress(epoch, epochs)),
    ),
    "jumps": Slip(
        "The values jump at the end: a division of whole numbers (//) or a rounding drops what is between.",
        _knobs_with(progress=lambda epoch, epochs: epoch // (epochs - 1)),
        _knobs_with(progress=lambda epoch, epochs: round(_progress(epoch, epochs))),
    ),
    "overshoots": Slip(
        "The values overshoot: they are reached an epoch too early.",
        _knobs_with(progress=lambda epoch, epochs: min(1.0, (epoch + 1) / (epochs - 1))),
        _knobs_with(progress=lambda epoch, epochs: (epoch + 1) / (epochs - 1)),
    ),
    "curved": Slip("The progress is curved: a cosine or a square of it. It grows by the same step in each epoch.",
                   _knobs_with(progress=lambda epoch, epochs: (1 - math.cos(math.pi * _progress(epoch, epochs))) / 2),
                   _knobs_with(progress=lambda epoch, epochs: _progress(epoch, epochs) ** 2)),
    "swapped": Slip(
        "α came first. Asked for is the temperature, then α.", lambda epoch, epochs: _knobs(epoch, epochs)[::-1]
    ),
}  # fmt: skip
DIVIDED_BY_ZERO = float("inf")
ONE_EPOCH = {
    "ZeroDivisionError": Slip(
        "A run of one epoch raised ZeroDivisionError: between one epoch and itself there is no step.",
        lambda epoch, epochs: (DIVIDED_BY_ZERO, DIVIDED_BY_ZERO),
    ),
    "first values": Slip(
        "A run of one epoch got the first values. Its only epoch is also its last: the promise is about the end.",
        _knobs_with(progress=lambda epoch, epochs: 0.0),
    ),
}
