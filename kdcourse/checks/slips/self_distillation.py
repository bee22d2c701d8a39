"""Wrong answers to exercise 06, self-distillation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import kd_loss
from . import Slip, mapped
from .soft_targets import KD


def _deep(
    exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float, teacher: str = "deepest",
    swapped: bool = False, deepest_labels: float = 1.0, average: bool = False,
    kd: Callable[..., Tensor] = kd_loss, shallow_labels: bool = True, ce: Callable[..., Tensor] = F.cross_entropy,
) -> Tensor:  # fmt: skip
    *shallower, deepest = exit_logits
    share, terms = 1 - alpha if swapped else alpha, []
    for place, logits in enumerate(shallower):
        target = {"deepest": deepest, "first": exit_logits[0], "next": exit_logits[place + 1],
                  "mean": torch.stack(exit_logits).mean(dim=0)}[teacher]  # fmt: skip
        soft = kd(logits, target, temperature=temperature)
        terms.append(share * soft + (1 - share if shallow_labels else 0) * ce(logits, labels))
    total = torch.stack(terms).mean() if average else torch.stack(terms).sum()
    return deepest_labels * F.cross_entropy(deepest, labels) + total


def _with(**changes: Any) -> Callable:
    return lambda exit_logits, labels, **knobs: _deep(exit_logits, labels, **knobs, **changes)


def _deepest_twice(exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    extra = (1 - alpha) * F.cross_entropy(exit_logits[-1], labels)
    return _deep(exit_logits, labels, temperature=temperature, alpha=alpha) + extra


def _unweighted(exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = [kd_loss(logits, exit_logits[-1], temperature=temperature) for logits in exit_logits[:-1]]
    hard = [F.cross_entropy(logits, labels) for logits in exit_logits]
    return torch.stack(soft + hard).sum()


def _soft_only_weighted(z: list[Tensor], y: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = [alpha * kd_loss(logits, z[-1], temperature=temperature) for logits in z[:-1]]
    return torch.stack([*soft, *(F.cross_entropy(logits, y) for logits in z)]).sum()


def _as_the_text(exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    *shallower, deepest = exit_logits
    terms = [kd_loss(z, deepest, temperature=temperature) + 0.5 * F.cross_entropy(z, labels) for z in shallower]
    return F.cross_entropy(deepest, labels) + 0.5 * torch.stack(terms).mean()


def _deepest_weighted(z: list[Tensor], y: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return _deep(z, y, temperature=temperature, alpha=alpha, deepest_labels=1 - alpha)


def _one_shallow(which: int) -> Callable:
    return lambda z, y, **knobs: _deep([z[which], z[-1]], y, **knobs)


DEEP = {
    "α swapped": Slip(
        "α is on the wrong term: it is the share of the soft targets, 1 - α that of the labels.", _with(swapped=True)
    ),
    "no T²": Slip(
        "The factor T² is missing: the soft targets fade as T grows.",
        *(_with(kd=wrong) for wrong in KD["no T²"].wrong),
    ),
    "averaged": Slip("The shallower exits are averaged. Asked for is their sum.", _with(average=True)),
    "deepest without labels": Slip(
        "The deepest exit learns nothing: its cross-entropy with the labels is missing.", _with(deepest_labels=0)
    ),
    "deepest in the loop": Slip(
        "The deepest exit runs through the loop of the shallower ones: it is its own teacher there, and the weight of "
        "its labels is no longer 1.",
        _deepest_weighted,
        _deepest_twice,
    ),
    "first teaches": Slip(
        "The first exit teaches. Exits come shallow to deep: the teacher is the last one.",
        _with(teacher="first"),
        lambda z, y, **knobs: _deep(z[::-1], y, **knobs),
    ),
    "next teaches": Slip(
        "Each exit is taught by the next deeper one. Here all are taught by the deepest.", _with(teacher="next")
    ),
    "mean teaches": Slip(
        "The mean of all exits teaches. That is an ensemble as teacher, another method.", _with(teacher="mean")
    ),
    "one shallow exit": Slip(
        "Only one of the shallower exits counts: does a return stand inside the loop, or is a term overwritten?",
        _one_shallow(0),
        _one_shallow(-2),
    ),
    "no labels": Slip("The shallower exits never see the labels.", _with(shallow_labels=False)),
    "no weights": Slip("The two terms are added without the weights α and 1 - α.", _unweighted),
    "one weight": Slip(
        "The labels' term of the shallower exits has the weight 1. It is 1 - α, so that both shares add up to 1.",
        _soft_only_weighted,
    ),
    "soft with weight 1": Slip(
        "The soft targets have the weight 1. It is α, so that both shares add up to 1.",
        lambda z, y, *, temperature, alpha: _deep(z, y, temperature=temperature, alpha=alpha)
        + (1 - alpha) * sum(kd_loss(logits, z[-1], temperature=temperature) for logits in z[:-1]),
    ),
    "softmax before": Slip(
        "A softmax is taken before cross_entropy, which takes logits and their softmax by itself.",
        _with(ce=lambda z, y: F.cross_entropy(z.softmax(dim=-1), y)),
    ),
    "labels summed": Slip(
        "The shallower exits' labels are summed over the batch: twice the images would mean twice the step.",
        _with(ce=lambda z, y: F.cross_entropy(z, y, reduction="sum")),
    ),
    "fixed weights": Slip(
        "These are fixed weights of a half, and α is not used. Who knows which share the soft targets have?",
        _as_the_text,
    ),
    "reverse": Slip(
        "This is KL(exit‖deepest): the teacher's probabilities must weight (trap 1).",
        *(_with(kd=wrong) for wrong in KD["reverse"].wrong),
    ),
    "mean over classes": Slip(
        "The soft targets' term is K times too small: a mean over classes as well as images (trap 2).",
        *(_with(kd=wrong) for wrong in KD["mean over classes"].wrong),
    ),
    "sum over images": Slip(
        "The soft targets' term is summed over the batch: twice the images would mean twice the step.",
        *(_with(kd=wrong) for wrong in KD["sum over images"].wrong),
    ),
    **mapped(KD, lambda kd: _with(kd=kd), "one T", "cross-entropy", "only teacher softened", "only student softened",
             "softmax over batch", "T multiplies"),
}  # fmt: skip


def _not_detached(z: list[Tensor], y: Tensor, *, temperature: float, alpha: float) -> Tensor:
    """Let the soft targets pull at the deepest exit: the right value and another gradient."""
    *shallower, deepest = z
    log_p = F.log_softmax(deepest / temperature, dim=-1)
    loss = F.cross_entropy(deepest, y)
    for logits in shallower:
        log_q = F.log_softmax(logits / temperature, dim=-1)
        soft = temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
        loss = loss + alpha * soft + (1 - alpha) * F.cross_entropy(logits, y)
    return loss


def _shallow_detached(z: list[Tensor], y: Tensor, *, temperature: float, alpha: float) -> Tensor:
    *shallower, deepest = z
    soft = _not_detached([part.detach() for part in z], y, temperature=temperature, alpha=alpha)
    labels = F.cross_entropy(deepest, y) + sum((1 - alpha) * F.cross_entropy(part, y) for part in shallower)
    return labels + (soft - labels).detach()


def _wrong_side(z: list[Tensor], y: Tensor, *, temperature: float, alpha: float) -> Tensor:
    *shallower, deepest = z
    labels = F.cross_entropy(deepest, y) + sum((1 - alpha) * F.cross_entropy(part, y) for part in shallower)
    shown = _not_detached([*(part.detach() for part in shallower), deepest], y, temperature=temperature, alpha=alpha)
    return labels + shown - _not_detached_labels(z, y, alpha)


def _not_detached_labels(z: list[Tensor], y: Tensor, alpha: float) -> Tensor:
    *shallower, deepest = z
    return F.cross_entropy(deepest, y) + sum((1 - alpha) * F.cross_entropy(part.detach(), y) for part in shallower)


DEEP_GRADIENT = {
    "not detached": Slip(
        "The soft targets pull at the deepest exit as well. It is their teacher and learns from the labels alone: else "
        "it is drawn down to what the shallow exits can imitate.",
        _not_detached,
    ),
    "students detached": Slip(
        "The soft targets reach no exit: the shallower ones learn from the labels alone. Their own logits must not be "
        "detached.",
        _shallow_detached,
    ),
    "labels detached": Slip(
        "The labels reach no shallower exit: their own logits are detached in the cross-entropy.",
        lambda z, y, *, temperature, alpha: (
            _not_detached([*z[:-1], z[-1].detach()], y, temperature=temperature, alpha=alpha)
            + F.cross_entropy(z[-1], y)
            - F.cross_entropy(z[-1].detach(), y)
            + sum((1 - alpha) * (F.cross_entropy(part.detach(), y) - F.cross_entropy(part, y)) for part in z[:-1])
        ),
    ),
    "wrong side detached": Slip(
        "The wrong side is detached: the soft targets train the deepest exit, their teacher, and not the shallower "
        "ones.",
        _wrong_side,
    ),
}


def _mean(features: Tensor) -> Tensor:
    return features.mean(dim=(2, 3))


def _exit_forward(
    stages: Sequence[nn.Module], auxiliary_heads: Sequence[nn.Module], classifier: nn.Module, images: Tensor, *,
    pool: Callable[[Tensor], Tensor] = _mean, skip: int | None = None, each_from_images: bool = False,
) -> list[Tensor]:  # fmt: skip
    features, outputs = images, []
    heads = [*auxiliary_heads, classifier]
    for number, (stage, head) in enumerate(zip(stages, heads, strict=True)):
        features = features if number == skip else stage(images if each_from_images else features)
        outputs.append(head(pool(features)))
    return outputs


def _forward(**changes: Any) -> Callable:
    return lambda *parts: _exit_forward(*parts, **changes)


def _through_classifier(stages: Any, heads: Any, classifier: nn.Module, images: Tensor) -> list[Tensor]:
    return _exit_forward(stages, [classifier] * len(heads), classifier, images)


def _heads_turned(stages: Any, heads: Any, classifier: nn.Module, images: Tensor) -> list[Tensor]:
    return _exit_forward(stages, list(heads)[::-1], classifier, images)


def _maximum(features: Tensor) -> Tensor:
    return features.amax(dim=(2, 3))


_POOLED = "Asked for is the mean over positions in front of every exit, not their {}."
FORWARD = {
    "last stage dropped": Slip(
        "The last stage never runs: there is one auxiliary head fewer than stages, and zip stops silently at the "
        "shorter list (trap 45).",
        _forward(skip=2),
        _forward(skip=2, pool=_maximum),
        _forward(skip=2, pool=lambda f: f.sum(dim=(2, 3))),
    ),
    "first stage dropped": Slip("The first stage never runs.", _forward(skip=0)),
    "maximum": Slip(_POOLED.format("maximum"), _forward(pool=_maximum)),
    "sum": Slip(_POOLED.format("sum"), _forward(pool=lambda f: f.sum(dim=(2, 3)))),
    "corner": Slip(
        "Each exit sees one position of its map. Asked for is the mean over positions.",
        _forward(pool=lambda f: f[:, :, 0, 0]),
        _forward(pool=lambda f: f[:, :, -1, -1]),
        _forward(pool=lambda f: f[:, :, 2, 2]),
    ),
    "over channels": Slip("The mean runs over other axes than the positions, dim=(2, 3).",
                          _forward(pool=lambda f: f.mean(dim=(0, 2, 3)).expand(len(f), -1)),
                          _forward(pool=lambda f: f.mean(dim=(1, 2))[:, :4])),
    "deepest first": Slip(
        "The exits come deepest first. Asked for is shallow to deep.", lambda *parts: _exit_forward(*parts)[::-1]
    ),
    "only deepest": Slip(
        "Only the deepest exit came back. All exits are needed, in a list.",
        lambda *parts: _exit_forward(*parts)[-1],
        lambda *parts: _exit_forward(*parts)[-1:],
    ),
    "only first": Slip(
        "Only the first exit came back: does a return stand inside the loop?",
        lambda *parts: _exit_forward(*parts)[0],
        lambda *parts: _exit_forward(*parts)[:1],
    ),
    "deepest missing": Slip(
        "The deepest exit is missing: the classifier after the last stage gives its logits.",
        lambda *parts: _exit_forward(*parts)[:-1],
    ),
    "from images": Slip(
        "Every stage was given the images. A stage takes what the stage before it has made.",
        _forward(each_from_images=True),
    ),
    "one classifier": Slip("One classifier serves all exits. Each has a head of its own.", _through_classifier),
    "heads turned": Slip("The auxiliary heads stand in reversed order: head i belongs to stage i.", _heads_turned),
    "probabilities": Slip("These are probabilities. Asked for are logits: the losses take the softmax.",
                          lambda *parts: [z.softmax(dim=1) for z in _exit_forward(*parts)]),
    "one too many": Slip(
        "There is an exit too many: an auxiliary head after the last stage copies the classifier (trap 47).",
        lambda *parts: [*_exit_forward(*parts), _exit_forward(*parts)[-1]],
    ),
}  # fmt: skip
