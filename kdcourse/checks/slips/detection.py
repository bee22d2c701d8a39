"""Wrong answers to exercise 08, detection."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Slip

Levels = Mapping[str, Tensor]


def bernoulli_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the divergence of yes and no for each anchor and class, from logits."""
    target, bce = teacher.sigmoid(), F.binary_cross_entropy_with_logits
    return bce(student, target, reduction="none") - bce(teacher, target, reduction="none")


def _surest(logits: Tensor) -> Tensor:
    return logits.sigmoid().amax(dim=-1)  # (B, A)


def _weighted(weight: Tensor, divergence: Tensor) -> Tensor:
    return (weight * divergence).sum() / weight.sum()


def _classes(
    divergence: Callable[[Tensor, Tensor], Tensor] = bernoulli_kl,
    weight: Callable[[Tensor], Tensor] = _surest,
    mean: Callable[[Tensor, Tensor], Tensor] = _weighted,
    *,
    power: int = 2,
) -> Callable:
    def loss(student_logits, teacher_logits, *, temperature):  # type: ignore[no-untyped-def]
        teacher = teacher_logits.detach()
        inner = divergence(student_logits / temperature, teacher / temperature).sum(dim=-1)  # (B, A)
        return temperature**power * mean(weight(teacher), inner)

    return loss


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the cross-entropy of yes and no, the teacher's entropy left in."""
    return F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")


def softmax_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the terms of the divergence if the classes competed."""
    log_p, log_q = teacher.log_softmax(dim=-1), student.log_softmax(dim=-1)
    return log_p.exp() * (log_p - log_q)


def _yes_only(student: Tensor, teacher: Tensor) -> Tensor:
    return teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))


def _softened_weight(student_logits, teacher_logits, *, temperature):  # type: ignore[no-untyped-def]
    teacher = teacher_logits.detach()
    inner = bernoulli_kl(student_logits / temperature, teacher / temperature).sum(dim=-1)
    return temperature**2 * _weighted(_surest(teacher / temperature), inner)


def _students_weight(student_logits, teacher_logits, *, temperature):  # type: ignore[no-untyped-def]
    inner = bernoulli_kl(student_logits / temperature, teacher_logits.detach() / temperature).sum(dim=-1)
    return temperature**2 * _weighted(_surest(student_logits.detach()), inner)


def _one_side(student_logits, teacher_logits, *, temperature):  # type: ignore[no-untyped-def]
    teacher = teacher_logits.detach()
    return temperature**2 * _weighted(_surest(teacher), bernoulli_kl(student_logits, teacher / temperature).sum(dim=-1))


def _after(student: Tensor, teacher: Tensor) -> Tensor:
    bce = F.binary_cross_entropy
    return bce(student.sigmoid(), teacher.sigmoid(), reduction="none") - bce(
        teacher.sigmoid(), teacher.sigmoid(), reduction="none"
    )


TEACHER_WEIGHTED = {
    "entropy": Slip(
        "The teacher's entropy is still in it: a student that equals its teacher would not pay 0 (trap 58).",
        _classes(soft_cross_entropy),
    ),
    "sigmoid first": Slip(
        "The sigmoid is taken before the logarithm, so a sure student is cut off and gets no gradient (trap 57). Stay "
        "with logits.",
        _classes(_after),
    ),
    "no square": Slip(
        "The factor T² is missing: the gradients of softened answers shrink like 1/T².", _classes(power=0)
    ),
    "T": Slip("The factor is T and not T².", _classes(power=1)),
    "one side": Slip("Only the teacher is softened. Divide the student's logits by T too.", _one_side),
    "softened weight": Slip(
        "The weights are softened too. How sure the teacher is that there is a digit is read at T = 1; at a high T "
        "every anchor would count alike.",
        _softened_weight,
    ),
    "student's weight": Slip(
        "The student's own certainty is the weight, so it could ignore a digit by not seeing it. Take the teacher's.",
        _students_weight,
    ),
    "unweighted": Slip(
        "Every anchor counts alike, and nearly all of them are background (trap 59).",
        _classes(weight=lambda teacher: torch.ones_like(teacher[..., 0])),
    ),
    "divided by the anchors": Slip(
        "The weighted sum is divided by the number of anchors (trap 60). Divide by the sum of the weights.",
        _classes(mean=lambda weight, inner: (weight * inner).mean()),
    ),
    "not divided": Slip(
        "The weighted sum is not divided: a larger batch would have a larger loss. Divide by the sum of the weights.",
        _classes(mean=lambda weight, inner: (weight * inner).sum()),
    ),
    "picture by picture": Slip(
        "Each picture is divided by its own weights, so one without any digit counts as much as one with five. Divide "
        "once, by the sum over the whole batch.",
        _classes(mean=lambda weight, inner: ((weight * inner).sum(dim=1) / weight.sum(dim=1)).mean()),
    ),
    "weight of all classes": Slip(
        "The weight adds up all classes, or averages them. It is the probability of the most likely one.",
        _classes(weight=lambda teacher: teacher.sigmoid().sum(dim=-1)),
        _classes(weight=lambda teacher: teacher.sigmoid().mean(dim=-1)),
    ),
    "softmax weight": Slip(
        "The weight comes from a softmax, which must share out 1 even where there is no digit. Take the sigmoid.",
        _classes(weight=lambda teacher: teacher.softmax(dim=-1).amax(dim=-1)),
    ),
    "logit as weight": Slip(
        "The weight is a logit and can be negative. Take its sigmoid.",
        _classes(weight=lambda teacher: teacher.amax(dim=-1)),
    ),
    "squared weight": Slip("The weight enters twice.", _classes(weight=lambda teacher: _surest(teacher).square())),
    "weight of each class": Slip(
        "Each class is weighted by its own probability, so that a false alarm of the student costs nothing. The weight "
        "belongs to the anchor.",
        lambda s, t, *, temperature: (
            temperature**2
            * (t.detach().sigmoid() * bernoulli_kl(s / temperature, t.detach() / temperature)).sum()
            / _surest(t.detach()).sum()
        ),
    ),
    "hard mask": Slip(
        "The anchors above one half count, and the others not at all. Weight each by the probability itself.",
        _classes(weight=lambda teacher: (_surest(teacher) > 0.5).float()),
    ),
    "mean over classes": Slip(
        "K times too small: the classes are averaged. Add them up.",
        _classes(lambda student, teacher: bernoulli_kl(student, teacher) / student.shape[-1]),
    ),
    "softmax": Slip(
        "A softmax makes the classes of an anchor compete. Each class is a yes or no of its own.", _classes(softmax_kl)
    ),
    "yes only": Slip(
        "Only the answer yes is compared. What the teacher says no to is half of the divergence.", _classes(_yes_only)
    ),
    "reversed": Slip(
        "The two sides are exchanged: this is the divergence of the teacher from the student.",
        _classes(lambda student, teacher: bernoulli_kl(teacher, student)),
    ),
}


def pyramid_loss(
    student_levels: Levels,
    teacher_levels: Levels,
    adapters: Mapping[str, nn.Module] | nn.ModuleDict,
    *,
    importance: Callable[[Tensor], Tensor] | None = None,
    error: Callable[[Tensor, Tensor], Tensor] | None = None,
    combine: Callable[[list[Tensor]], Tensor] = lambda terms: torch.stack(terms).mean(),
    detach: bool = True,
) -> Tensor:
    """Return the pyramid's loss of exercise 08, task 2, or with other parts a wrong one."""
    if set(student_levels) != set(teacher_levels):
        raise ValueError(f"both need the same levels, got {list(student_levels)} and {list(teacher_levels)}.")
    terms = []
    for name in student_levels:
        theirs = teacher_levels[name].detach() if detach else teacher_levels[name]
        mine = adapters[name](student_levels[name])
        weight = (importance or scene_weights)(theirs)  # (B, H, W)
        difference = (error or _mean_square)(mine, theirs)  # (B, H, W)
        terms.append((weight * difference).sum(dim=(1, 2)).mean())
    return combine(terms)


def scene_weights(teacher: Tensor) -> Tensor:
    """Return the mean absolute activation of each position, scaled to a sum of 1 in each scene."""
    weight = teacher.abs().mean(dim=1)
    return weight / weight.sum(dim=(1, 2), keepdim=True)


def _mean_square(mine: Tensor, theirs: Tensor) -> Tensor:
    return (mine - theirs).square().mean(dim=1)


def _pyramid(**changes) -> Callable:  # type: ignore[no-untyped-def]
    return lambda student, teacher, adapters: pyramid_loss(student, teacher, adapters, **changes)


def _broken(student, teacher, adapters, *, adapt=False, scale="batch", twice=True):  # type: ignore[no-untyped-def]
    """Return the broken loss of the task, with some of its three mistakes mended."""
    if set(student) != set(teacher):
        raise ValueError("levels")
    total = torch.zeros(())
    for name in student:
        mine, theirs = student[name], teacher[name].detach()
        mine = adapters[name](mine) if adapt else mine.mean(dim=1, keepdim=True)
        weight = theirs.abs().mean(dim=1, keepdim=True)
        weight = weight / (weight.max() if scale == "batch" else weight.sum(dim=(2, 3), keepdim=True))
        if twice:
            total = total + ((mine * weight - theirs * weight) ** 2).mean()
        elif scale == "batch":
            total = total + (weight * (mine - theirs) ** 2).mean()
        else:
            total = total + (weight * (mine - theirs) ** 2).mean(dim=1).sum(dim=(1, 2)).mean()
    return total / len(student)


def _weights_of(largest: bool, *, of_scene: bool) -> Callable[[Tensor], Tensor]:
    def weights(teacher: Tensor) -> Tensor:
        weight = teacher.abs().mean(dim=1)
        dims = (1, 2) if of_scene else (0, 1, 2)
        return weight / (weight.amax(dim=dims, keepdim=True) if largest else weight.sum(dim=dims, keepdim=True))

    return weights


PYRAMID = {
    "all three": Slip(
        "All three mistakes are still there. Begin with the shapes: which layer brings 24 channels to 64?", _broken
    ),
    "no adapter": Slip(
        "The adapters are not used: one number per position stands in for all of the teacher's channels (trap 61).",
        lambda s, t, a: _broken(s, t, a, scale="scene", twice=False),
        lambda s, t, a: _broken(s, t, a, scale="scene"),
        lambda s, t, a: _broken(s, t, a, twice=False),
    ),
    "batch, twice": Slip(
        "Two mistakes are left: the importance is divided by the largest of the whole batch, and it enters twice "
        "(trap 62).",
        lambda s, t, a: _broken(s, t, a, adapt=True),
    ),
    "batch": Slip(
        "The importance is divided by the largest value of the whole batch, so one bright scene mutes the others "
        "(trap 62). In each scene the importances must sum to 1.",
        lambda s, t, a: _broken(s, t, a, adapt=True, twice=False),
        _pyramid(importance=_weights_of(True, of_scene=False)),
    ),
    "largest of the scene": Slip(
        "The importance is divided by the largest value of its scene. Then a scene with many active positions weighs "
        "more than one with few: the importances must sum to 1.",
        _pyramid(importance=_weights_of(True, of_scene=True)),
    ),
    "sum of the batch": Slip(
        "The importance is divided by its sum over the whole batch, so a bright scene outweighs the others.",
        _pyramid(importance=_weights_of(False, of_scene=False)),
    ),
    "twice": Slip(
        "Both maps are multiplied by the importance before they are squared, so it enters twice (trap 62).",
        lambda s, t, a: _broken(s, t, a, adapt=True, scale="scene"),
        _pyramid(importance=lambda teacher: scene_weights(teacher).square()),
    ),
    "not scaled": Slip(
        "The importance is not scaled at all: a bright scene outweighs the others.",
        _pyramid(importance=lambda teacher: teacher.abs().mean(dim=1)),
    ),
    "no importance": Slip(
        "Every position counts alike. Weight by the teacher's activation.",
        _pyramid(importance=lambda teacher: torch.full_like(teacher[:, 0], 1 / teacher[0, 0].numel())),
    ),
    "sum of the levels": Slip(
        "The levels are added up. Take their mean, as the broken loss does.",
        _pyramid(combine=lambda terms: torch.stack(terms).sum()),
    ),
    "one level": Slip(
        "Only one level counts. Is there a `return` inside the loop, or `=` where `+=` belongs?",
        _pyramid(combine=lambda terms: terms[-1]),
        _pyramid(combine=lambda terms: terms[0]),
        _pyramid(combine=lambda terms: terms[-1] / len(terms)),
        _pyramid(combine=lambda terms: terms[0] / len(terms)),
    ),
    "sum over channels": Slip(
        "The squares are added up over the channels. Take their mean.",
        _pyramid(error=lambda mine, theirs: (mine - theirs).square().sum(dim=1)),
    ),
    "absolute error": Slip(
        "Absolute differences were taken. Square them.",
        _pyramid(error=lambda mine, theirs: (mine - theirs).abs().mean(dim=1)),
    ),
    "teacher learns": Slip(
        "A gradient reaches the teacher's maps. They are a fixed target: detach them.", _pyramid(detach=False)
    ),
    "student detached": Slip(
        "The student's maps are detached: only the adapters would learn.",
        lambda s, t, a: pyramid_loss({name: level.detach() for name, level in s.items()}, t, a),
    ),
    "adapted detached": Slip(
        "The adapted maps are detached: neither the student nor the adapters would learn.",
        lambda s, t, a: pyramid_loss(s, t, {name: _Detached(a[name]) for name in s}),
    ),
}


class _Detached(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> Tensor:
        return self.inner(features).detach()


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the share of the union that each box has in common with each other one, (N, 4) and (M, 4) to (N, M)."""
    return _common(boxes, others) / _union(boxes, others)


def _common(boxes: Tensor, others: Tensor, *, clamp: bool = True) -> Tensor:
    near = torch.maximum(boxes[:, None, :2], others[None, :, :2])  # (N, M, 2)
    far = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = (far - near).clamp(min=0) if clamp else far - near
    return sides.prod(dim=-1)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)


def _union(boxes: Tensor, others: Tensor) -> Tensor:
    return _areas(boxes)[:, None] + _areas(others)[None] - _common(boxes, others)


def foreground(anchors: Tensor, boxes: Tensor, *, overlap: float = 0.5) -> Tensor:
    """Return which anchors share at least ``overlap`` of their union with some box, (A,)."""
    if len(boxes) == 0:
        return torch.zeros(len(anchors), dtype=torch.bool)
    return overlaps(anchors, boxes).amax(dim=1) >= overlap


OVERLAPS = {
    "not clamped": Slip(
        "Boxes that lie apart in both directions have two negative sides, whose product is positive. Clamp the sides, "
        "and not their product, at 0.",
        lambda b, o: (c := _common(b, o, clamp=False)) / (_areas(b)[:, None] + _areas(o)[None] - c),
        lambda b, o: _common(b, o, clamp=False) / _union(b, o),
        lambda b, o: (c := _common(b, o, clamp=False).clamp(min=0)) / (_areas(b)[:, None] + _areas(o)[None] - c),
    ),
    "counted twice": Slip(
        "The sum of both areas counts the common part twice. Subtract it once.",
        lambda b, o: _common(b, o) / (_areas(b)[:, None] + _areas(o)[None]),
    ),
    "smaller box": Slip(
        "This is the share of the smaller box. Divide by the union, or a tiny box inside a large one would be perfect.",
        lambda b, o: _common(b, o) / torch.minimum(_areas(b)[:, None], _areas(o)[None]),
    ),
    "larger box": Slip(
        "This is the share of the larger box. Divide by the union.",
        lambda b, o: _common(b, o) / torch.maximum(_areas(b)[:, None], _areas(o)[None]),
    ),
    "first box": Slip(
        "This is the share of the first box. Divide by the union.", lambda b, o: _common(b, o) / _areas(b)[:, None]
    ),
    "other box": Slip(
        "This is the share of the other box. Divide by the union.", lambda b, o: _common(b, o) / _areas(o)[None]
    ),
    "common area": Slip("This is the common area in pixels. Divide by the union.", _common),
    "hull": Slip(
        "You divide by the area of the smallest box around both. Divide by the union.",
        lambda b, o: (
            _common(b, o)
            / (torch.maximum(b[:, None, 2:], o[None, :, 2:]) - torch.minimum(b[:, None, :2], o[None, :, :2])).prod(
                dim=-1
            )
        ),
    ),
    "one pixel more": Slip(
        "One pixel is added to each side. Here a box ends at its corner: its width is x2 - x1.",
        lambda b, o: overlaps(
            b + torch.tensor([0.0, 0, 1, 1], dtype=b.dtype), o + torch.tensor([0.0, 0, 1, 1], dtype=b.dtype)
        ),
    ),
    "dice": Slip(
        "This is twice the common part over the sum of both areas. Divide the common part by the union.",
        lambda b, o: 2 * _common(b, o) / (_areas(b)[:, None] + _areas(o)[None]),
    ),
    "width and height": Slip(
        "The last two numbers are taken for width and height. They are the far corner, x2 and y2.",
        lambda b, o: overlaps(
            torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], dim=1), torch.cat([o[:, :2], o[:, :2] + o[:, 2:]], dim=1)
        ),
    ),
    "pairs": Slip(
        "Box n was compared with box n only. Every box meets every other one: the result has shape (N, M).",
        lambda b, o: overlaps(b, o).diagonal(),
    ),
    "transposed": Slip(
        "Rows and columns are exchanged: a row belongs to one of the first boxes.", lambda b, o: overlaps(b, o).T
    ),
    "distance": Slip("This is 1 minus the overlap: equal boxes would have 0.", lambda b, o: 1 - overlaps(b, o)),
}


def _mask(change: Callable[[Tensor], Tensor]) -> Callable:
    def mask(anchors: Tensor, boxes: Tensor) -> Tensor:
        if len(boxes) == 0:
            return torch.zeros(len(anchors), dtype=torch.bool)
        return change(overlaps(anchors, boxes))

    return mask


FOREGROUND = {
    "more than half": Slip(
        "An overlap of exactly one half counts too: at least, not more than.",
        _mask(lambda shares: shares.amax(dim=1) > 0.5),
    ),
    "all boxes": Slip(
        "An anchor would have to overlap every box of the scene. One is enough.",
        _mask(lambda shares: (shares >= 0.5).all(dim=1)),
        _mask(lambda shares: shares.amin(dim=1) >= 0.5),
        _mask(lambda shares: shares.mean(dim=1) >= 0.5),
    ),
    "summed": Slip(
        "The overlaps with all boxes are added up: two quarters make no half. The best box decides.",
        _mask(lambda shares: shares.sum(dim=1) >= 0.5),
    ),
    "first box": Slip(
        "Only one box of the scene was asked. The best one decides.",
        _mask(lambda shares: shares[:, 0] >= 0.5),
        _mask(lambda shares: shares[:, -1] >= 0.5),
    ),
    "per box": Slip(
        "There is one answer for each box. Each anchor needs one: shape (A,).",
        _mask(lambda shares: (shares >= 0.5).any(dim=0)),
    ),
    "a table": Slip(
        "There is one answer for each anchor and box. Each anchor needs one: shape (A,).",
        _mask(lambda shares: shares >= 0.5),
    ),
    "any overlap": Slip(
        "Every anchor that touches a box is in. Asked for is at least half of the union.",
        _mask(lambda shares: shares.amax(dim=1) > 0),
    ),
    "lower threshold": Slip(
        "Anchors with an overlap from 0.4 on are in. Between 0.4 and 0.5 torchvision leaves an anchor out of the loss.",
        _mask(lambda shares: shares.amax(dim=1) >= 0.4),
    ),
    "background": Slip("This marks the background.", _mask(lambda shares: shares.amax(dim=1) < 0.5)),
    "best anchor": Slip(
        "This marks the best anchor of each box. Here every anchor with enough overlap is in.",
        _mask(lambda shares: torch.zeros(len(shares), dtype=torch.bool).index_fill(0, shares.argmax(dim=0), True)),
    ),
}
