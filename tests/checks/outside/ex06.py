"""Outside answers to exercise 06: self-distillation."""

# ruff: noqa: B905, E501 (answers as learners write them)

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import check_deep_supervision_loss, check_early_exit, check_exit_forward
from kdcourse.losses import kd_loss


def deep_by_hand(z, y, *, temperature, alpha):
    p = (z[-1].detach() / temperature).softmax(1)
    loss = F.cross_entropy(z[-1], y)
    for i in range(len(z) - 1):
        log_q = (z[i] / temperature).log_softmax(1)
        soft = (p * (p.log() - log_q)).sum(1).mean() * temperature**2
        loss = loss + F.cross_entropy(z[i], y) + alpha * (soft - F.cross_entropy(z[i], y))
    return loss


def deep_all_at_once(z, y, *, temperature, alpha):
    hard = torch.stack([F.cross_entropy(x.double(), y) for x in z])
    soft = torch.stack([kd_loss(x.double(), z[-1].double().detach(), temperature=temperature) for x in z[:-1]])
    return hard[-1] + ((1 - alpha) * hard[:-1] + alpha * soft).sum()


def deep_backwards(z, y, *, temperature, alpha):
    exits = list(z)
    deepest = exits.pop()
    total = F.nll_loss(deepest.log_softmax(-1), y)
    while exits:
        x = exits.pop()
        total = total + alpha * kd_loss(x, deepest.clone().detach(), temperature=temperature)
        total = total + (1 - alpha) * F.nll_loss(x.log_softmax(-1), y)
    return total


def deep(soft=kd_loss, hard=F.cross_entropy, a=lambda al: al, b=lambda al: 1 - al, last=lambda al: 1, teacher=lambda z, i: z[-1].detach(),
         exits=lambda z: range(len(z) - 1), combine=sum):  # fmt: skip
    def loss(z, y, *, temperature, alpha):
        terms = [
            a(alpha) * soft(z[i], teacher(z, i), temperature=temperature) + b(alpha) * hard(z[i], y) for i in exits(z)
        ]
        return last(alpha) * F.cross_entropy(z[-1], y) + combine(terms)

    return loss


def attached(s, t, *, temperature):
    log_q, log_p = (s / temperature).log_softmax(1), (t / temperature).log_softmax(1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def deep_reverses(z, y, *, temperature, alpha):
    z.reverse()
    loss = F.cross_entropy(z[0], y)
    for x in z[1:]:
        loss = loss + (1 - alpha) * F.cross_entropy(x, y) + alpha * kd_loss(x, z[0].detach(), temperature=temperature)
    return loss


DEEP = {
    "swapped": (deep(a=lambda al: 1 - al, b=lambda al: al), "α is on the wrong term"),
    "weights of 1": (deep(a=lambda al: 1, b=lambda al: 1), "The two terms are added without the weights α and 1 - α"),
    "labels with weight 1": (deep(b=lambda al: 1), "The labels' term of the shallower exits has the weight 1. It is 1 - α"),
    "soft with weight 1": (deep(a=lambda al: 1), "The soft targets have the weight 1. It is α"),
    "halves": (deep(a=lambda al: 0.5, b=lambda al: 0.5), "has no effect: a half stands in its place"),
    "mean": (deep(combine=lambda x: sum(x) / len(x)), "The shallower exits are averaged"),
    "last only": (deep(combine=lambda x: x[-1]), "Only one of the shallower exits counts"),
    "first only": (deep(combine=lambda x: x[0]), "Only one of the shallower exits counts"),
    "no T²": (deep(soft=lambda s, t, temperature: kd_loss(s, t, temperature=temperature) / temperature**2), "The factor T² is missing"),
    "T once": (deep(soft=lambda s, t, temperature: kd_loss(s, t, temperature=temperature) / temperature), "The loss is T times too small"),
    "T = 1": (deep(soft=lambda s, t, temperature: kd_loss(s, t, temperature=1.0)), "has no effect"),
    "reverse": (deep(soft=lambda s, t, temperature: attached(t, s, temperature=temperature)), "This is KL(exit‖deepest)"),
    "first teaches": (deep(teacher=lambda z, i: z[0].detach()), "The first exit teaches"),
    "next teaches": (deep(teacher=lambda z, i: z[i + 1].detach()), "Each exit is taught by the next deeper one"),
    "mean teaches": (deep(teacher=lambda z, i: torch.stack(z).mean(0).detach()), "The mean of all exits teaches"),
    "deepest in the loop": (deep(exits=lambda z: range(len(z)), last=lambda al: 0), "The deepest exit runs through the loop of the shallower ones"),
    "deepest twice": (deep(exits=lambda z: range(len(z))), "The deepest exit runs through the loop of the shallower ones"),
    "deepest without labels": (deep(last=lambda al: 0), "The deepest exit learns nothing"),
    "deepest weighted": (deep(last=lambda al: 1 - al), "The deepest exit runs through the loop of the shallower ones"),
    "first skipped": (deep(exits=lambda z: range(1, len(z) - 1)), "`z[0]` has no effect on what loss returns"),
    "not detached": (deep(soft=attached, teacher=lambda z, i: z[-1]), "The soft targets pull at the deepest exit as well"),
    "wrong side detached": (deep(soft=lambda s, t, temperature: attached(s.detach(), t, temperature=temperature), teacher=lambda z, i: z[-1]), "The wrong side is detached"),
    "all detached": (deep(soft=lambda s, t, temperature: kd_loss(s.detach(), t, temperature=temperature)), "The soft targets reach no exit"),
    "hard detached": (deep(hard=lambda x, y: F.cross_entropy(x.detach(), y)), "The labels reach no shallower exit"),
    "soft labels": (deep(hard=lambda x, y: F.cross_entropy(x.softmax(1), y)), "A softmax is taken before cross_entropy"),
    "summed labels": (deep(hard=lambda x, y: F.cross_entropy(x, y, reduction="sum")), "The shallower exits' labels are summed over the batch"),
    "mse": (deep(soft=lambda s, t, temperature: F.mse_loss(s, t)), "`temperature` has no effect on what loss returns"),
    "reverses the list": (deep_reverses, "reverses the list `z`"),
    "order mistaken": (lambda z, y, **k: deep()(z[::-1], y, **k), "The first exit teaches"),
    "divided by exits": (lambda z, y, **k: deep()(z, y, **k) / len(z), "The result is n times too small (n is the length of the list)"),
    "a list": (lambda z, y, **k: [deep()(z, y, **k)] * len(z), "One number for each row came where one is needed"),
}  # fmt: skip


def forward_by_index(stages, auxiliary_heads, classifier, images):
    out = []
    for i in range(len(stages)):
        images = stages[i](images)
        head = auxiliary_heads[i] if i < len(auxiliary_heads) else classifier
        out.append(head(F.adaptive_avg_pool2d(images, 1).flatten(1)))
    return out


def forward_unrolled(stages, auxiliary_heads, classifier, images):
    maps = [images]
    for stage in stages:
        maps.append(stage(maps[-1]))
    vectors = [m.flatten(2).mean(-1) for m in maps[1:]]
    return [*(h(v) for h, v in zip(auxiliary_heads, vectors)), classifier(vectors[-1])]


def forward_recursive(stages, auxiliary_heads, classifier, images):
    features = stages[0](images)
    pooled = features.sum((2, 3)) / (features.shape[2] * features.shape[3])
    if len(stages) == 1:
        return (classifier(pooled),)
    return (auxiliary_heads[0](pooled), *forward_recursive(stages[1:], auxiliary_heads[1:], classifier, features))


def forward(
    pool=lambda f: f.mean((2, 3)),
    between=lambda f: f,
    before=lambda v: v,
    heads=lambda aux, c: [*aux, c],
    out=lambda z: z,
    take=slice(None),
    feed=False,
):
    def run(stages, auxiliary_heads, classifier, images):
        f, z = images, []
        for stage, head in zip(list(stages)[take], heads(auxiliary_heads, classifier)):
            f = between(stage(images if feed else f))
            z.append(head(before(pool(f))))
        return out(z)

    return run


def forward_dropped(stages, auxiliary_heads, classifier, images, pool=lambda f: f.mean((2, 3))):
    z = []
    for stage, head in zip(stages, auxiliary_heads):
        images = stage(images)
        z.append(head(pool(images)))
    z.append(classifier(pool(images)))
    return z


def forward_no_grad(*parts):
    with torch.no_grad():
        return forward()(*parts)


def forward_appends(stages, auxiliary_heads, classifier, images):
    auxiliary_heads.append(classifier)
    z = []
    for stage, head in zip(stages, auxiliary_heads):
        images = stage(images)
        z.append(head(images.mean((2, 3))))
    return z


def forward_head_first(stages, auxiliary_heads, classifier, images):
    z = []
    for stage, head in zip(stages, [*auxiliary_heads, classifier]):
        z.append(head(images.mean((2, 3))))
        images = stage(images)
    return z


FORWARD = {
    "last stage dropped": (forward_dropped, "The last stage never runs"),
    "last stage dropped, maximum": (
        lambda *p: forward_dropped(*p, pool=lambda f: f.amax((2, 3))),
        "The last stage never runs",
    ),
    "flattened": (forward(pool=lambda f: f.flatten(1)), ""),
    "maximum": (forward(pool=lambda f: f.amax((2, 3))), "Asked for is the mean over positions in front of every exit"),
    "sum": (forward(pool=lambda f: f.sum((2, 3))), "Asked for is the mean over positions in front of every exit"),
    "corner": (forward(pool=lambda f: f[..., 0, 0]), "Each exit sees one position of its map"),
    "median": (forward(pool=lambda f: f.flatten(2).median(-1).values), ""),
    "over channels": (forward(pool=lambda f: f.mean(1).flatten(1)[:, :4]), ""),
    "detached between": (forward(between=lambda f: f.detach()), "The logits are right"),
    "detached before the head": (forward(before=lambda v: v.detach()), "The logits are right"),
    "under no_grad": (forward_no_grad, "The logits of an exit carry no gradient"),
    "deepest first": (forward(out=lambda z: z[::-1]), "The exits come deepest first"),
    "only deepest": (forward(out=lambda z: z[-1]), "Only the deepest exit came back"),
    "without the deepest": (forward(out=lambda z: z[:-1]), "The deepest exit is missing"),
    "softmax": (forward(out=lambda z: [x.softmax(1) for x in z]), "These are probabilities"),
    "classes": (forward(out=lambda z: [x.argmax(1) for x in z]), ""),
    "mean of exits": (forward(out=lambda z: sum(z) / len(z)), ""),
    "images to every stage": (forward(feed=True), "Every stage was given the images"),
    "one classifier": (forward(heads=lambda aux, c: [c] * 3), "One classifier serves all exits"),
    "heads turned": (
        forward(heads=lambda aux, c: [*list(aux)[::-1], c]),
        "The auxiliary heads stand in reversed order",
    ),
    "classifier first": (forward(heads=lambda aux, c: [c, *aux]), ""),
    "list appended": (forward_appends, "The list of stages or heads was changed"),
    "head before its stage": (forward_head_first, ""),
    "relu before the head": (forward(before=lambda v: (v - 0.1).relu()), ""),
    "normalised": (forward(before=lambda v: F.normalize(v)), ""),
    "first stage skipped": (
        lambda s, a, c, x: [a[0](x.mean((2, 3))), a[1](s[1](x).mean((2, 3))), c(s[2](s[1](x)).mean((2, 3)))],
        "The first stage never runs",
    ),
    "a return in the loop": (forward(out=lambda z: z[:1]), "Only the first exit came back"),
}


def early_in_loops(z, *, confidence):
    classes, exits = [], []
    for n in range(len(z[0])):
        for e, logits in enumerate(z):
            p = logits[n].softmax(0)
            if p.max() >= confidence or e == len(z) - 1:
                classes.append(int(p.argmax()))
                exits.append(e)
                break
    return torch.tensor(classes), torch.tensor(exits)


def early_forward(z, *, confidence):
    left = torch.ones(len(z[0]), dtype=torch.bool)
    classes, exits = torch.zeros(len(left), dtype=torch.long), torch.full((len(left),), len(z) - 1)
    for e, logits in enumerate(z):
        p, c = logits.double().softmax(1).max(1)
        go = left & (p >= confidence) if e < len(z) - 1 else left
        classes[go], exits[go] = c[go], e
        left = left & ~go
    return classes, exits


def early_in_numpy(z, *, confidence):
    x = np.stack([a.numpy() for a in z]).astype(np.float64)
    p = np.exp(x - x.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    sure = p.max(-1) >= confidence - 1e-12
    sure[-1] = True
    e = sure.argmax(0)
    return p.argmax(-1)[e, np.arange(x.shape[1])], e


def early(
    score=lambda x: x.softmax(1).amax(1),
    compare=torch.ge,
    unsure=-1,
    first=True,
    predict=None,
    out=lambda c, e: (c, e),
    exits=lambda z: z,
):
    def run(z, *, confidence):
        z = exits(z)
        s = torch.stack([compare(score(x), torch.tensor(confidence)) for x in z])
        order = s.int() if first else s.int().flip(0)
        e = order.argmax(0)
        e = e if first else len(z) - 1 - e
        e = torch.where(s.any(0), e, unsure % len(z))
        c = torch.stack([x.argmax(1) for x in z])
        c = c[e, torch.arange(c.shape[1])] if predict is None else c[predict]
        return out(c, e)

    return run


def early_reverses(z, *, confidence):
    z.reverse()
    c, e = z[0].argmax(1), torch.full((len(z[0]),), len(z) - 1)
    for i, x in enumerate(z[1:], 1):
        p, k = x.softmax(1).max(1)
        c, e = torch.where(p >= confidence, k, c), torch.where(p >= confidence, len(z) - 1 - i, e)
    return c, e


EARLY = {
    "list reversed": (early_reverses, "reverses the list `z`"),
    "strictly more": (
        early(compare=torch.gt),
        "An exit whose largest probability is exactly the confidence is sure en",
    ),
    "turned": (early(compare=torch.lt), "The comparison is turned round"),
    "last sure": (early(first=False), "The last exit that is sure was taken"),
    "unsure at the first": (early(unsure=0), "An image of which no exit is sure left at the first one"),
    "unsure in the middle": (early(unsure=1), ""),
    "logits": (early(score=lambda x: x.amax(1)), "Logits were compared with the confidence"),
    "sigmoid": (early(score=lambda x: x.sigmoid().amax(1)), "Each class was judged by itself (sigmoid)"),
    "log": (early(score=lambda x: x.log_softmax(1).amax(1)), "No image ever leaves early"),
    "over images": (early(score=lambda x: x.softmax(0).amax(1)), "No image ever leaves early"),
    "margin": (early(score=lambda x: x.softmax(1).topk(2).values.diff(dim=1).abs()[:, 0]), ""),
    "mean of the batch": (
        early(score=lambda x: x.softmax(1).amax(1).mean().expand(len(x))),
        "All images leave at the same exit",
    ),
    "entropy": (early(score=lambda x: 1 - torch.special.entr(x.softmax(1)).sum(1)), ""),
    "softmax twice": (early(score=lambda x: x.softmax(1).softmax(1).amax(1)), "No image ever leaves early"),
    "deepest predicts": (early(predict=-1), "The predictions are those of the deepest exit"),
    "first predicts": (early(predict=0), "The predictions are those of the first exit"),
    "exits first": (early(out=lambda c, e: (e, c)), "The exits came first"),
    "from 1": (early(out=lambda c, e: (c, e + 1)), "The exits are counted from 1. The shallowest has the number 0"),
    "from the deepest": (early(out=lambda c, e: (c, 2 - e)), "The exits are counted from the deepest"),
    "floats": (early(out=lambda c, e: (c.float(), e.float())), "The numbers are right"),
    "float exits": (early(out=lambda c, e: (c, e.float())), "The numbers are right"),
    "classes only": (early(out=lambda c, e: c), "Only the classes came back"),
    "stacked floats": (early(out=lambda c, e: torch.stack([c, e]).float()), "The numbers are right"),
    "deep to shallow": (early(exits=lambda z: z[::-1]), "The exits are taken from deep to shallow"),
    "without the deepest": (early(exits=lambda z: z[:-1]), "The last element of `z` is left out"),
    "least likely": (early(out=lambda c, e: (3 - c, e)), "The columns of `z` are in reversed order"),
    "a list of probabilities": (lambda z, *, confidence: [x.softmax(1) for x in z], ""),
}
TASKS = {
    "deep": (check_deep_supervision_loss, DEEP, [deep_by_hand, deep_all_at_once, deep_backwards]),
    "forward": (check_exit_forward, FORWARD, [forward_by_index, forward_unrolled, forward_recursive]),
    "early": (check_early_exit, EARLY, [early_in_loops, early_forward, early_in_numpy]),
}
