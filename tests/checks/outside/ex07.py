"""Outside answers to exercise 07: online and progressive distillation."""

# ruff: noqa: E501 (answers as learners write them)

import math

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import check_curriculum, check_mutual_learning_loss, check_schedule
from kdcourse.losses import kd_loss


def mutual_by_hand(z, y, *, temperature):
    if len(z) == 1:
        raise ValueError("no peer")
    rows = [(x / temperature).log_softmax(1) for x in z]
    out = []
    for i, log_q in enumerate(rows):
        kls = [(p.detach().exp() * (p.detach() - log_q)).sum(1).mean() for j, p in enumerate(rows) if j != i]
        out.append(F.cross_entropy(z[i], y) + temperature**2 * sum(kls) / len(kls))
    return out


def mutual_stacked(z, y, *, temperature):
    if len(z) < 2:
        raise ValueError(len(z))
    x = torch.stack(list(z)).double()
    log_q = (x / temperature).log_softmax(-1)
    log_p = log_q.detach()
    kl = (log_p.exp()[None] * (log_p[None] - log_q[:, None])).sum(-1).mean(-1)
    ce = torch.stack([F.cross_entropy(s, y) for s in x])
    return ce + temperature**2 * kl.sum(1) / (len(z) - 1)


def mutual_tuple(z, y, *, temperature):
    n = len(z)
    if n <= 1:
        raise ValueError("a cohort needs two")
    frozen = [x.clone().detach() for x in z]
    return tuple(
        F.cross_entropy(z[i], y)
        + sum(kd_loss(z[i], frozen[j], temperature=temperature) for j in range(n) if j != i) / (n - 1)
        for i in range(n)
    )


def mutual(soft=kd_loss, hard=F.cross_entropy, peers=lambda z, i: [x.detach() for j, x in enumerate(z) if j != i], reduce=lambda k: sum(k) / len(k),
           out=lambda x: x, one=ValueError):  # fmt: skip
    def loss(z, y, *, temperature):
        if len(z) < 2 and one:
            raise one("alone")
        return out([
            hard(x, y) + reduce([soft(x, p, temperature=temperature) for p in peers(z, i)] or [0 * x.sum()])
            for i, x in enumerate(z)
        ])  # fmt: skip

    return loss


def attached(s, t, *, temperature):
    log_q, log_p = (s / temperature).log_softmax(1), (t / temperature).log_softmax(1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def mutual_returns_early(z, y, *, temperature):
    if len(z) < 2:
        raise ValueError
    for i, x in enumerate(z):
        kls = [kd_loss(x, p, temperature=temperature) for j, p in enumerate(z) if j != i]
        return [F.cross_entropy(x, y) + sum(kls) / len(kls)]


def mutual_pops(z, y, *, temperature):
    if len(z) < 2:
        raise ValueError
    out = []
    for _ in range(len(z)):
        x = z.pop(0)
        out.append(F.cross_entropy(x, y) + sum(kd_loss(x, p, temperature=temperature) for p in z) / len(z))
        z.append(x)
    z.append(z.pop(0))
    return out


MUTUAL = {
    "sum of divergences": (mutual(reduce=sum), "The divergences are added up"),
    "over S": (
        mutual(reduce=lambda k: sum(k) / (len(k) + 1)),
        "The sum is divided by S. A student is not its own peer",
    ),
    "itself too": (
        mutual(peers=lambda z, i: [x.detach() for x in z]),
        "The sum is divided by S. A student is not its own peer",
    ),
    "next peer only": (mutual(peers=lambda z, i: [z[(i + 1) % len(z)].detach()]), "Each student has one peer"),
    "first peer": (mutual(peers=lambda z, i: [z[0 if i else 1].detach()]), "Each student has one peer"),
    "mean logits": (
        mutual(peers=lambda z, i: [torch.stack([x for j, x in enumerate(z) if j != i]).mean(0).detach()]),
        "The peers' logits are averaged first",
    ),
    "largest": (mutual(reduce=lambda k: max(k)), ""),
    "no labels": (mutual(hard=lambda x, y: 0), "The labels are missing"),
    "no peers": (mutual(reduce=lambda k: 0), "The peers are missing"),
    "half": (mutual(out=lambda x: [v / 2 for v in x]), "Both terms are halved"),
    "no T²": (
        mutual(soft=lambda s, t, temperature: kd_loss(s, t, temperature=temperature) / temperature**2),
        "The factor T² is missing",
    ),
    "T⁴": (
        mutual(soft=lambda s, t, temperature: kd_loss(s, t, temperature=temperature) * temperature**2),
        "T² is there twice: kd_loss has it already",
    ),
    "T = 1": (mutual(soft=lambda s, t, temperature: kd_loss(s, t, temperature=1.0)), "has no effect"),
    "reverse": (
        mutual(soft=lambda s, t, temperature: kd_loss(t, s, temperature=temperature)),
        "This is KL(student‖peer)",
    ),
    "reverse, attached": (
        mutual(soft=lambda s, t, temperature: attached(t, s, temperature=temperature)),
        "This is KL(student‖peer)",
    ),
    "soft labels": (
        mutual(hard=lambda x, y: F.cross_entropy(x.softmax(1), y)),
        "A softmax is taken before cross_entropy",
    ),
    "labels summed": (
        mutual(hard=lambda x, y: F.cross_entropy(x, y, reduction="sum")),
        "The labels' term is summed over the batch",
    ),
    "mse": (
        mutual(soft=lambda s, t, temperature: F.mse_loss(s, t)),
        "`temperature` has no effect on what loss returns",
    ),
    "peers attached": (
        mutual(soft=attached, peers=lambda z, i: [x for j, x in enumerate(z) if j != i]),
        "A student's loss also pulls at its peers",
    ),
    "student detached": (
        mutual(soft=lambda s, t, temperature: kd_loss(s.detach(), t, temperature=temperature)),
        "The peers' term trains nobody",
    ),
    "labels detached": (mutual(hard=lambda x, y: F.cross_entropy(x.detach(), y)), "The labels train nobody"),
    "one number": (mutual(out=sum), "One number came for the whole cohort"),
    "mean": (mutual(out=lambda x: sum(x) / len(x)), "One number came for the whole cohort"),
    "reversed": (mutual(out=lambda x: x[::-1]), "The numbers are right"),
    "without the last": (mutual(out=lambda x: x[:-1]), ""),
    "returns early": (mutual_returns_early, "Only the first student's loss came back"),
    "one accepted": (mutual(one=None), "A cohort of one was accepted"),
    "one gives IndexError": (mutual(one=IndexError), "A cohort of one gave IndexError"),
    "list turned": (mutual_pops, "changes the order of the list `z`"),
    "numbers": (mutual(out=lambda x: [v.item() for v in x]), "The values are right"),
    "a dict": (
        mutual(out=lambda x: dict(enumerate(v.detach() for v in x))),
        "returned a dict; asked for is a list of 3, without names",
    ),
    "last student's for all": (mutual(out=lambda x: [x[-1]] * len(x)), "The last student's loss stands in all places"),
}


def knobs_linspace(epoch, epochs):
    return np.geomspace(10, 1, epochs)[epoch] if epochs > 1 else 1.0, np.linspace(0.9, 0.5, epochs)[
        epoch
    ] if epochs > 1 else 0.5


def knobs_from_the_end(epoch, epochs):
    left = (epochs - 1 - epoch) / max(epochs - 1, 1)
    return torch.tensor(10**left), torch.tensor(0.5 + 0.4 * left)


def knobs_lerp(epoch, epochs):
    w = 1.0 if epochs == 1 else epoch / (epochs - 1)
    return [math.exp((1 - w) * math.log(10)), (1 - w) * 0.9 + w * 0.5]


def knobs(share=lambda e, n: e / (n - 1) if n > 1 else 1, t=(10, 1), a=(0.9, 0.5), out=lambda t, a: (t, a)):
    def f(epoch, epochs):
        s = share(epoch, epochs)
        return out(t[0] * (t[1] / t[0]) ** s, a[0] + (a[1] - a[0]) * s)

    return f


SCHEDULE = {
    "never arrives": (knobs(share=lambda e, n: e / n), "The last values belong to an epoch that never comes"),
    "starts late": (knobs(share=lambda e, n: (e + 1) / n), "The last epoch has the last values now"),
    "n + 1": (knobs(share=lambda e, n: e / (n + 1)), "The values change too slowly"),
    "e + 1 over n - 1": (knobs(share=lambda e, n: (e + 1) / max(n - 1, 1)), "The values overshoot"),
    "division by zero": (knobs(share=lambda e, n: e / (n - 1)), "A run of one epoch raised ZeroDivisionError"),
    "first values for one epoch": (
        knobs(share=lambda e, n: e / max(n - 1, 1)),
        "A run of one epoch got the first values",
    ),
    "α grows": (knobs(a=(0.5, 0.9)), "α grows. Asked for is the other way: the labels gain weight"),
    "α to 1": (knobs(a=(0.5, 1.0)), "α ends at 1: the labels have no weight left when it matters most (trap"),
    "α from 0.9 to 0": (knobs(a=(0.9, 0.0)), "α ends at another value"),
    "T grows": (knobs(t=(1, 10)), "T grows. Asked for is from 10 down to 1"),
    "T to 0": (knobs(t=(10, 0)), "T ends at 0. Asked for is 1: T divides"),
    "T from 9": (knobs(t=(9, 1)), ""),
    "swapped": (knobs(out=lambda t, a: (a, t)), "α came first. Asked for is the temperature, then α"),
    "T only": (knobs(out=lambda t, a: t), "One number came for all"),
    "T twice": (knobs(out=lambda t, a: (t, t)), ""),
    "rounded": (knobs(out=lambda t, a: (round(t), a)), ""),
    "integers": (knobs(share=lambda e, n: e // (n - 1) if n > 1 else 1), "The values jump at the end"),
    "backwards": (knobs(share=lambda e, n: 1 - (e / (n - 1) if n > 1 else 0)), "All goes backwards"),
    "cosine": (
        knobs(share=lambda e, n: 0.5 - 0.5 * math.cos(math.pi * e / (n - 1)) if n > 1 else 1),
        "The progress is curved",
    ),
    "square": (knobs(share=lambda e, n: (e / (n - 1)) ** 2 if n > 1 else 1), "The progress is curved"),
    "straight": (
        lambda e, n: (10 - 9 * e / (n - 1) if n > 1 else 1.0, 0.9 - 0.4 * e / (n - 1) if n > 1 else 0.5),
        "T goes in a straight line",
    ),
    "α fixed": (knobs(a=(0.9, 0.9)), "α does not change. Asked for is a straight line from 0.9 to"),
    "a dict": (
        knobs(out=lambda t, a: {"temperature": t, "alpha": a}),
        "returned a dict; asked for is a tuple of 2, without names",
    ),
    "None": (knobs(out=lambda t, a: None), "f must be a tensor or a number"),
    "fixed epochs": (knobs(share=lambda e, n: e / 4), ""),
    "α unrepaired": (lambda e, n: (10 ** (1 - e / max(n - 1, 1)), 0.5 + 0.5 * e / n), ""),
    "α in percent": (knobs(a=(90, 50)), ""),
}


def curriculum_in_lists(z, y, *, share):
    losses = [float(F.cross_entropy(z[i : i + 1], y[i : i + 1])) for i in range(len(y))]
    order = sorted(range(len(y)), key=losses.__getitem__)
    return order[: math.ceil(len(y) * share)]


def curriculum_topk(z, y, *, share):
    log_p = z.double().log_softmax(1).gather(1, y[:, None]).squeeze(1)
    return log_p.topk(-int(-share * len(y) // 1)).indices


def curriculum_in_numpy(z, y, *, share):
    x = z.numpy().astype(np.float64)
    top = x.max(1)
    loss = top + np.log(np.exp(x - top[:, None]).sum(1)) - x[np.arange(len(x)), y.numpy()]
    return np.argsort(loss, kind="stable")[: int(np.ceil(share * len(x)))]


def curriculum(
    score=lambda z, y: F.cross_entropy(z, y, reduction="none"),
    count=lambda s, n: math.ceil(s * n),
    take=lambda order, k: order[:k],
    out=lambda k, z, y: k,
):
    return lambda z, y, *, share: out(take(score(z, y).argsort(), count(share, len(y))), z, y)


CURRICULUM = {
    "int + 1": (curriculum(count=lambda s, n: int(s * n) + 1), "Where the share is a whole number of images already"),
    "int": (curriculum(count=lambda s, n: int(s * n)), "The share was rounded down"),
    "round": (curriculum(count=lambda s, n: round(s * n)), "The share was rounded down"),
    "at least one": (curriculum(count=lambda s, n: max(1, int(s * n))), "The share was rounded down"),
    "hardest first": (curriculum(take=lambda o, k: o.flip(0)[:k]), "The hardest come first"),
    "hardest": (curriculum(take=lambda o, k: o[-k:]), "The order is right"),
    "easiest last": (
        curriculum(take=lambda o, k: o[:k].flip(0)),
        "The right images, with the hardest of them first. The easies",
    ),
    "floats": (curriculum(out=lambda k, z, y: k.float()), "The numbers are right"),
    "in data order": (
        curriculum(out=lambda k, z, y: k.sort().values),
        "The right images, but in the order of the data. The easiest",
    ),
    "mask": (
        curriculum(out=lambda k, z, y: torch.isin(torch.arange(len(y)), k)),
        "A mask came. Asked for are positions, the easiest first",
    ),
    "logits of them": (curriculum(out=lambda k, z, y: z[k]), ""),
    "labels of them": (curriculum(out=lambda k, z, y: y[k]), "These are labels of the images"),
    "losses of them": (
        curriculum(out=lambda k, z, y: F.cross_entropy(z, y, reduction="none")[k]),
        "These are losses. Asked for are the positions of the images",
    ),
    "all": (curriculum(take=lambda o, k: o), "All images came back"),
    "confidence": (curriculum(score=lambda z, y: -z.softmax(1).amax(1)), "The order is by how sure the teacher is"),
    "entropy": (
        curriculum(score=lambda z, y: torch.special.entr(z.softmax(1)).sum(1)),
        "The order is by the teacher's entropy",
    ),
    "label's logit": (curriculum(score=lambda z, y: -z[torch.arange(len(y)), y]), "The order is by the label's logit"),
    "probability underflow": (
        curriculum(score=lambda z, y: -z.softmax(1)[torch.arange(len(y)), y].log()),
        "Where the teacher is wrong and very sure",
    ),
    "probability": (
        curriculum(score=lambda z, y: -z.softmax(1)[torch.arange(len(y)), y]),
        "Where the teacher is wrong and very sure",
    ),
    "softmax twice": (
        curriculum(score=lambda z, y: F.cross_entropy(z.softmax(1), y, reduction="none")),
        "A softmax is taken twice",
    ),
    "ranks": (
        curriculum(score=lambda z, y: F.cross_entropy(z, y, reduction="none").argsort()),
        "These are ranks: which place each image has. Asked for is wh",
    ),
    "first share only": (
        lambda z, y, *, share: curriculum()(z[: math.ceil(share * len(y))], y[: math.ceil(share * len(y))], share=1.0),
        "The share was cut off before sorting",
    ),
    "random": (
        lambda z, y, *, share: torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[
            : math.ceil(share * len(y))
        ],
        "`z` and `y` have no effect on what <lambda> returns",
    ),
    "from 1": (curriculum(out=lambda k, z, y: k + 1), "Every result is 1 more than it should be"),
    "1 - share": (curriculum(count=lambda s, n: math.ceil((1 - s) * n)), ""),
    "mean loss": (
        curriculum(score=lambda z, y: F.cross_entropy(z, y).expand(len(y))),
        "This is the data in its own order",
    ),
    "sorted losses": (
        lambda z, y, *, share: F.cross_entropy(z, y, reduction="none").sort().values[: math.ceil(share * len(y))],
        "These are losses. Asked for are the positions of the images",
    ),
    "wrong first": (curriculum(score=lambda z, y: (z.argmax(1) == y).float()), ""),
}
TASKS = {
    "mutual": (check_mutual_learning_loss, MUTUAL, [mutual_by_hand, mutual_stacked, mutual_tuple]),
    "schedule": (check_schedule, SCHEDULE, [knobs_linspace, knobs_from_the_end, knobs_lerp]),
    "curriculum": (check_curriculum, CURRICULUM, [curriculum_in_lists, curriculum_topk, curriculum_in_numpy]),
}
