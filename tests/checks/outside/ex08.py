"""Outside answers to exercise 08: detection."""

# ruff: noqa: B905, E501 (answers as learners write them)

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from kdcourse.checks import (
    check_foreground,
    check_overlaps,
    check_pyramid_loss,
    check_teacher_weighted_loss,
)

BCE = F.binary_cross_entropy_with_logits


def kl(s, t):
    p = t.sigmoid()
    return p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))


def weighted_by_parts(student_logits, teacher_logits, *, temperature):
    with torch.no_grad():
        w = torch.sigmoid(teacher_logits).max(dim=-1).values
        t = teacher_logits / temperature
    d = kl(student_logits / temperature, t).sum(-1)
    return (w * d).sum() / w.sum() * temperature**2


def weighted_two_classes(student_logits, teacher_logits, *, temperature):
    t = torch.stack([teacher_logits.detach(), torch.zeros_like(teacher_logits)], -1) / temperature
    s = torch.stack([student_logits, torch.zeros_like(student_logits)], -1) / temperature
    d = F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="none", log_target=True).sum((-1, -2))
    w = teacher_logits.detach().amax(-1).sigmoid()
    return temperature**2 * (d * w / w.sum()).sum()


def weighted_in_a_loop(student_logits, teacher_logits, *, temperature):
    top, bottom = 0.0, 0.0
    for s, t in zip(student_logits.flatten(0, 1), teacher_logits.detach().flatten(0, 1)):
        w = t.sigmoid().max()
        top = top + w * (
            BCE(s / temperature, (t / temperature).sigmoid(), reduction="sum")
            - BCE(t / temperature, (t / temperature).sigmoid(), reduction="sum")
        )
        bottom = bottom + w
    return temperature**2 * top / bottom


def weighted(
    d=kl,
    w=lambda t: t.sigmoid().amax(-1),
    mean=lambda w, d: (w * d).sum() / w.sum(),
    scale=lambda T: T**2,
    ts=True,
    tt=True,
    detach=True,
    sum=lambda d: d.sum(-1),
):
    def loss(student_logits, teacher_logits, *, temperature):
        t = teacher_logits.detach() if detach else teacher_logits
        a = student_logits / temperature if ts else student_logits
        b = t / temperature if tt else t
        return scale(temperature) * mean(w(t), sum(d(a, b)))

    return loss


WEIGHTED = {
    "no T²": (weighted(scale=lambda T: 1), "T² is missing"),
    "T": (weighted(scale=lambda T: T), "T and not T²"),
    "T⁴": (weighted(scale=lambda T: T**4), ""),
    "1/T²": (weighted(scale=lambda T: 1 / T**2), ""),
    "T unused": (weighted(ts=False, tt=False, scale=lambda T: 1), ""),
    "student only": (weighted(tt=False), ""),
    "teacher only": (weighted(ts=False), "Only the teacher is softened"),
    "soft weight": (lambda s, t, *, temperature: weighted(w=lambda x: (x / temperature).sigmoid().amax(-1))(s, t, temperature=temperature), "The weights are softened too"),
    "bce": (weighted(d=lambda s, t: BCE(s, t.sigmoid(), reduction="none")), "entropy is still in it"),
    "sigmoid then log": (weighted(d=lambda s, t: t.sigmoid() * (t.sigmoid().log() - s.sigmoid().log()) + (1 - t.sigmoid()) * ((1 - t.sigmoid()).log() - (1 - s.sigmoid()).log())), ""),
    "sigmoid then bce": (weighted(d=lambda s, t: F.binary_cross_entropy(s.sigmoid(), t.sigmoid(), reduction="none")), ""),
    "reverse kl": (weighted(d=lambda s, t: kl(t, s)), "The two sides are exchanged"),
    "softmax": (weighted(d=lambda s, t: F.kl_div(s.log_softmax(-1), t.softmax(-1), reduction="none")), "A softmax makes the classes"),
    "yes": (weighted(d=lambda s, t: t.sigmoid() * (F.logsigmoid(t) - F.logsigmoid(s))), "Only the answer yes"),
    "mse": (weighted(d=lambda s, t: (s - t) ** 2), ""),
    "mse of probabilities": (weighted(d=lambda s, t: (s.sigmoid() - t.sigmoid()) ** 2), ""),
    "plain mean": (weighted(mean=lambda w, d: d.mean()), "Every anchor counts alike"),
    "masked mean": (weighted(mean=lambda w, d: (w * d).mean()), "divided by the number of anchors"),
    "sum": (weighted(mean=lambda w, d: (w * d).sum()), "not divided"),
    "per picture": (weighted(mean=lambda w, d: ((w * d).sum(1) / w.sum(1)).mean()), "Each picture is divided"),
    "mean of classes": (weighted(sum=lambda d: d.mean(-1)), "the classes are averaged"),
    "max of classes": (weighted(sum=lambda d: d.amax(-1)), ""),
    "weight sum": (weighted(w=lambda t: t.sigmoid().sum(-1)), "adds up all classes"),
    "weight softmax": (weighted(w=lambda t: t.softmax(-1).amax(-1)), "comes from a softmax"),
    "weight threshold": (weighted(w=lambda t: (t.sigmoid().amax(-1) > 0.5).float()), "The anchors above one half"),
    "weight logits": (weighted(w=lambda t: t.amax(-1)), "is a logit"),
    "weight min": (weighted(w=lambda t: t.sigmoid().amin(-1)), ""),
    "weight first class": (weighted(w=lambda t: t.sigmoid()[..., 0]), ""),
    "teacher learns": (weighted(detach=False), ""),
    "student detached": (lambda s, t, *, temperature: weighted()(s.detach(), t, temperature=temperature), "No gradient reaches the student"),
    "item": (lambda s, t, *, temperature: weighted()(s, t, temperature=temperature).item(), "No gradient reaches the student"),
    "vector": (weighted(mean=lambda w, d: w * d / w.sum()), ""),
    "in place": (lambda s, t, *, temperature: weighted()(s.div_(temperature), t, temperature=1.0) * temperature**2, "in place"),
    "swapped": (lambda s, t, *, temperature: weighted()(t, s, temperature=temperature), ""),
}  # fmt: skip


def pyramid_right(student_levels, teacher_levels, adapters):
    assert_same = sorted(student_levels) == sorted(teacher_levels)
    if not assert_same:
        raise ValueError("levels")
    losses = []
    for k, t in teacher_levels.items():
        t = t.detach()
        w = t.abs().mean(1).flatten(1)
        w = w / w.sum(1, keepdim=True)
        e = F.mse_loss(adapters[k](student_levels[k]), t, reduction="none").mean(1).flatten(1)
        losses.append((w * e).sum(1).mean(0))
    return sum(losses) / len(losses)


def pyramid_einsum(student_levels, teacher_levels, adapters):
    if student_levels.keys() != teacher_levels.keys():
        raise ValueError(f"{student_levels.keys()} and {teacher_levels.keys()}")
    total = torch.tensor(0.0)
    for k in student_levels:
        t = teacher_levels[k].detach()
        w = t.abs().sum(1)
        w = w / w.sum((1, 2))[:, None, None]
        d = adapters[k](student_levels[k]) - t
        total = total + torch.einsum("bhw,bchw,bchw->", w, d, d) / (d.shape[0] * d.shape[1])
    return total / len(student_levels)


def pyramid_scene_by_scene(student_levels, teacher_levels, adapters):
    if set(student_levels) ^ set(teacher_levels):
        raise ValueError("missing")
    values = []
    for k in student_levels:
        for s, t in zip(adapters[k](student_levels[k]), teacher_levels[k].detach()):
            w = t.abs().mean(0)
            values.append((w * ((s - t) ** 2).mean(0)).sum() / w.sum())
    return torch.stack(values).mean()


def pyramid(
    adapt=True,
    w=lambda t: t.abs().mean(1),
    norm=lambda w: w / w.sum((1, 2), keepdim=True),
    e=lambda s, t: (s - t).pow(2).mean(1),
    mean=lambda x: x.sum((1, 2)).mean(),
    detach=True,
    over=lambda v: sum(v) / len(v),
    check=True,
):
    def loss(student_levels, teacher_levels, adapters):
        if check and set(student_levels) != set(teacher_levels):
            raise ValueError("levels")
        values = []
        for k in student_levels:
            s = adapters[k](student_levels[k]) if adapt else student_levels[k].mean(1, keepdim=True)
            t = teacher_levels[k].detach() if detach else teacher_levels[k]
            values.append(mean(norm(w(t)) * e(s, t)))
        return over(values)

    return loss


def pyramid_early(student_levels, teacher_levels, adapters):
    if set(student_levels) != set(teacher_levels):
        raise ValueError
    for k in student_levels:
        one = pyramid_right({k: student_levels[k]}, {k: teacher_levels[k]}, adapters)
        return one


def pyramid_square(student_levels, teacher_levels, adapters):
    if set(student_levels) != set(teacher_levels):
        raise ValueError
    total = 0
    for k in student_levels:
        t = teacher_levels[k].detach()
        w = t.abs().mean(1, keepdim=True)
        w = w / w.sum((2, 3), keepdim=True)
        total = total + ((adapters[k](student_levels[k]) * w - t * w) ** 2).mean(1).sum((1, 2)).mean()
    return total / len(student_levels)


PYRAMID = {
    "unchanged": (lambda s, t, a: pyramid(adapt=False, norm=lambda w: w / w.max(), check=False)(s, t, a), ""),
    "adapter only": (lambda s, t, a: sum((((a[k](s[k]) - t[k].detach()) * (w := t[k].detach().abs().mean(1, keepdim=True)) / w.max()) ** 2).mean() for k in s) / len(s), "Two mistakes are left"),
    "batch maximum": (pyramid(norm=lambda w: w / w.max()), "largest value of the whole batch"),
    "batch maximum, mean": (pyramid(norm=lambda w: w / w.max(), mean=lambda x: x.mean()), "largest value of the whole batch"),
    "scene maximum": (pyramid(norm=lambda w: w / w.amax((1, 2), keepdim=True)), "largest value of its scene"),
    "scene maximum, mean": (pyramid(norm=lambda w: w / w.amax((1, 2), keepdim=True), mean=lambda x: x.mean()), ""),
    "batch sum": (pyramid(norm=lambda w: w / w.sum()), "its sum over the whole batch"),
    "square": (pyramid_square, "enters twice"),
    "not scaled": (pyramid(norm=lambda w: w), "not scaled at all"),
    "softmax": (pyramid(norm=lambda w: w.flatten(1).softmax(1).view_as(w)), ""),
    "no weight": (pyramid(w=lambda t: torch.ones_like(t[:, 0])), "Every position counts alike"),
    "signed weight": (pyramid(w=lambda t: t.mean(1)), ""),
    "energy weight": (pyramid(w=lambda t: t.pow(2).mean(1)), ""),
    "mean of positions": (pyramid(mean=lambda x: x.mean()), ""),
    "sum of scenes": (pyramid(mean=lambda x: x.sum()), ""),
    "sum of channels": (pyramid(e=lambda s, t: (s - t).pow(2).sum(1)), "added up over the channels"),
    "l1": (pyramid(e=lambda s, t: (s - t).abs().mean(1)), "Absolute differences"),
    "sum of levels": (pyramid(over=sum), "The levels are added up"),
    "last level": (pyramid(over=lambda v: v[-1]), "Only one level counts"),
    "return in the loop": (pyramid_early, "Only one level counts"),
    "no adapter": (pyramid(adapt=False), "The adapters are not used"),
    "teacher learns": (pyramid(detach=False), "gradient reaches the teacher"),
    "student detached": (lambda s, t, a: pyramid()({k: v.detach() for k, v in s.items()}, t, a), "only the adapters would learn"),
    "item": (lambda s, t, a: pyramid()(s, t, a).item(), ""),
    "no refusal": (pyramid(check=False), "Where one side lacks level 16 the function gave KeyError"),
    "common levels": (lambda s, t, a: pyramid()({k: s[k] for k in s if k in t}, {k: t[k] for k in t if k in s}, a), "One side lacks level 16, and a loss came back"),
}  # fmt: skip


def overlaps_numpy(boxes, others):
    a, b = boxes.numpy(), others.numpy()
    out = np.zeros((len(a), len(b)), dtype=np.float32)
    for i in range(len(a)):
        for j in range(len(b)):
            w = min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0])
            h = min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1])
            c = max(w, 0) * max(h, 0)
            out[i, j] = c / ((a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1]) + (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1]) - c)
    return out


def overlaps_by_columns(boxes, others):
    x1, y1, x2, y2 = boxes[:, None].unbind(-1)
    u1, v1, u2, v2 = others[None].unbind(-1)
    c = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(0) * (
        torch.minimum(y2, v2) - torch.maximum(y1, v1)
    ).clamp(0)
    return c / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - c)


def iou(clamp=True, union=lambda a, b, c: a + b - c, extra=0.0, sides=slice(0, 2)):
    def f(boxes, others):
        near = torch.max(boxes[:, None, :2], others[:, :2])
        far = torch.min(boxes[:, None, 2:], others[:, 2:])
        d = far - near + extra
        d = d.clamp(min=0) if clamp else d
        c = d[..., 0] * d[..., 1]
        area = lambda x: (x[:, 2] - x[:, 0] + extra) * (x[:, 3] - x[:, 1] + extra)  # noqa: E731
        return c / union(area(boxes)[:, None], area(others)[None], c)

    return f


OVERLAPS = {
    "no clamp": (iou(clamp=False), "lie apart in both directions"),
    "clamped product": (lambda a, b: iou(clamp=False)(a, b).clamp(min=0), ""),
    "sum of areas": (iou(union=lambda a, b, c: a + b), "counts the common part twice"),
    "minimum": (iou(union=lambda a, b, c: torch.minimum(a, b)), "share of the smaller box"),
    "maximum": (iou(union=lambda a, b, c: torch.maximum(a, b)), "share of the larger box"),
    "of the first": (iou(union=lambda a, b, c: a), "share of the first box"),
    "of the other": (iou(union=lambda a, b, c: b), "share of the other box"),
    "intersection": (iou(union=lambda a, b, c: 1.0), "the common area in pixels"),
    "plus one": (iou(extra=1.0), "One pixel is added"),
    "dice": (lambda a, b: 2 * iou(union=lambda a, b, c: a + b)(a, b), "twice the common part"),
    "pairwise": (lambda a, b: iou()(a, b).diagonal(), ""),
    "transposed": (lambda a, b: iou()(b, a), ""),
    "distance": (lambda a, b: 1 - iou()(a, b), "1 minus the overlap"),
    "width and height": (lambda a, b: box_iou(torch.cat([a[:, :2], a[:, :2] + a[:, 2:]], 1), torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], 1)), "taken for width and height"),
    "widths only": (lambda a, b: (torch.min(a[:, None, 2], b[:, 2]) - torch.max(a[:, None, 0], b[:, 0])).clamp(0) / (torch.max(a[:, None, 2], b[:, 2]) - torch.min(a[:, None, 0], b[:, 0])), ""),
    "percent": (lambda a, b: 100 * iou()(a, b), ""),
    "mask": (lambda a, b: iou()(a, b) > 0.5, ""),
    "best": (lambda a, b: iou()(a, b).amax(1), ""),
    "rounded": (lambda a, b: iou()(a, b).round(decimals=1), ""),
    "intersection only if inside": (lambda a, b: iou()(a, b) * (iou()(a, b) > 0.5), ""),
    "in place": (lambda a, b: (a[:, 2:].sub_(a[:, :2]), iou()(a, b))[1], "in place"),
}  # fmt: skip


def foreground_torchvision(anchors, boxes):
    if boxes.numel() == 0:
        return torch.zeros(len(anchors)).bool()
    return box_iou(anchors, boxes).max(dim=1).values >= 0.5


def foreground_any(anchors, boxes):
    return (box_iou(boxes, anchors) >= 0.5).any(0)


def foreground_loop(anchors, boxes):
    mask = torch.zeros(len(anchors), dtype=torch.bool)
    for box in boxes:
        mask |= box_iou(anchors, box[None])[:, 0] >= 0.5
    return mask


FOREGROUND = {
    "greater": (lambda a, b: (box_iou(a, b) > 0.5).any(1), "exactly one half counts too"),
    "all": (lambda a, b: (box_iou(a, b) >= 0.5).all(1), "overlap every box"),
    "sum": (lambda a, b: box_iou(a, b).sum(1) >= 0.5, "two quarters make no half"),
    "mean": (lambda a, b: box_iou(a, b).mean(1) >= 0.5, "overlap every box"),
    "first": (lambda a, b: box_iou(a, b)[:, 0] >= 0.5, "Only one box of the scene"),
    "last": (lambda a, b: box_iou(a, b)[:, -1] >= 0.5, "Only one box of the scene"),
    "per box": (lambda a, b: (box_iou(a, b) >= 0.5).any(0), ""),
    "table": (lambda a, b: box_iou(a, b) >= 0.5, ""),
    "touches": (lambda a, b: (box_iou(a, b) > 0).any(1), "Every anchor that touches"),
    "0.4": (lambda a, b: (box_iou(a, b) >= 0.4).any(1), "from 0.4 on"),
    "0.7": (lambda a, b: (box_iou(a, b) >= 0.7).any(1), ""),
    "background": (lambda a, b: ~(box_iou(a, b) >= 0.5).any(1), "marks the background"),
    "best anchor": (lambda a, b: torch.isin(torch.arange(len(a)), box_iou(a, b).argmax(0)), "best anchor of each box"),
    "place": (lambda a, b: box_iou(a, b).argmax(1), ""),
    "indices": (lambda a, b: (box_iou(a, b) >= 0.5).any(1).nonzero().flatten(), ""),
    "max fails on empty": (lambda a, b: box_iou(a, b).max(1).values >= 0.5, "at the edge: no box"),
    "empty is True": (lambda a, b: (box_iou(a, b) >= 0.5).any(1) if len(b) else torch.ones(len(a), dtype=torch.bool), "Without a digit no anchor is foreground"),
    "empty is empty": (lambda a, b: (box_iou(a, b) >= 0.5).any(1) if len(b) else torch.zeros(0, dtype=torch.bool), "Without a digit no anchor is foreground"),
    "floats": (lambda a, b: (box_iou(a, b) >= 0.5).any(1).float(), "must be a tensor of bool"),
    "whole numbers": (lambda a, b: (box_iou(a, b) >= 0.5).any(1).long(), "must be a tensor of bool"),
    "share": (lambda a, b: box_iou(a, b).amax(1), ""),
}  # fmt: skip


TASKS = {
    "teacher_weighted": (check_teacher_weighted_loss, WEIGHTED, [weighted_by_parts, weighted_two_classes, weighted_in_a_loop]),
    "pyramid": (check_pyramid_loss, PYRAMID, [pyramid_right, pyramid_einsum, pyramid_scene_by_scene]),
    "overlaps": (check_overlaps, OVERLAPS, [box_iou, overlaps_numpy, overlaps_by_columns]),
    "foreground": (check_foreground, FOREGROUND, [foreground_torchvision, foreground_any, foreground_loop]),
}  # fmt: skip
