"""Outside answers to exercise 12: what's next."""

# ruff: noqa: B008, B905, E501, RUF017 (answers as learners write them)

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import check_forgetting, check_group_quantise, check_tasks_in_a_row
from kdcourse.losses import kd_loss, only_own_head


def forgetting_lists(accuracies):
    t = accuracies.tolist()
    n = len(t)
    out = []
    for j in range(n - 1):
        best = -1
        for i in range(n - 1):
            if not math.isnan(t[i][j]) and t[i][j] > best:
                best = t[i][j]
        out.append(best - t[n - 1][j])
    return sum(out) / len(out)


def forgetting_masked(accuracies):
    old = accuracies[:-1, :-1].clone()
    old[torch.isnan(old)] = -100
    gaps = old.max(0).values - accuracies[-1][:-1]
    return gaps.sum() / gaps.numel()


def forgetting_numpy(accuracies):
    a = np.array(accuracies)
    return np.mean([np.nanmax(a[:-1, j]) - a[-1, j] for j in range(a.shape[0] - 1)])


def forgetting_where(accuracies):
    n = accuracies.shape[0]
    filled = torch.where(accuracies.isnan(), torch.zeros_like(accuracies), accuracies)
    return (filled[: n - 1].amax(0)[: n - 1] - filled[n - 1, : n - 1]).mean().item()


def best_of(rows, cols=slice(None, -1)):
    return lambda a: a.nan_to_num(-9.0)[rows, cols].amax(0)


def gap(best=best_of(slice(None, -1)), end=lambda a: a[-1, :-1], combine=torch.mean):
    return lambda a: combine(best(a) - end(a))


FORGETTING = {
    "diagonal": (lambda a: (torch.diag(a)[:-1] - a[-1, :-1]).mean(), "right after a task was learned"),
    "max with the end": (gap(best_of(slice(None))), "counts 0 here"),
    "sum": (gap(combine=torch.sum), "added up"),
    "max": (gap(combine=torch.max), "forgotten most"),
    "median": (gap(combine=torch.median), "This is not the mean"),
    "abs": (lambda a: (best_of(slice(None, -1))(a) - a[-1, :-1]).abs().mean(), "Absolute values"),
    "relu": (lambda a: F.relu(best_of(slice(None, -1))(a) - a[-1, :-1]).mean(), "counts 0 here"),
    "negative": (lambda a: (a[-1, :-1] - best_of(slice(None, -1))(a)).mean(), "sign is turned round"),
    "n tasks": (lambda a: (best_of(slice(None, -1))(a) - a[-1, :-1]).sum() / a.shape[0], "last task counts too"),
    "final mean": (lambda a: a[-1].mean(), "mean accuracy at the end"),
    "final mean of old": (lambda a: a[-1, :-1].mean(), "mean accuracy at the end"),
    "best mean": (lambda a: best_of(slice(None, -1))(a).mean(), "mean of the best"),
    "first only": (lambda a: best_of(slice(None, -1))(a)[0] - a[-1, 0], "Only the first task"),
    "one step back": (lambda a: (a[-2, :-1] - a[-1, :-1]).mean(), "one step before the end"),
    "nan": (lambda a: (a[:-1, :-1].amax(0) - a[-1, :-1]).mean(), "not finite: NaN"),
    "percent": (lambda a: 100 * gap()(a), "This is not the mean"),
    "mean of rows": (lambda a: (a[:-1, :-1].nanmean(0) - a[-1, :-1]).mean(), "mean of all earlier rows"),
    "one best": (lambda a: (a[:-1, :-1].nan_to_num(0).max() - a[-1, :-1]).mean(), "One best accuracy"),
    "rows for columns": (lambda a: (a[:-1, :-1].nan_to_num(0).amax(1) - a[-1, :-1]).mean(), ""),
    "list": (lambda a: list(best_of(slice(None, -1))(a) - a[-1, :-1]), ""),
    "first minus last of all": (lambda a: (a.diagonal() - a[-1]).mean(), "last task counts too"),
    "relative": (lambda a: ((best_of(slice(None, -1))(a) - a[-1, :-1]) / best_of(slice(None, -1))(a)).mean(), ""),
}


def groups_reshape(weights, *, bits, group):
    w = weights.reshape(-1, group)
    s = w.detach().abs().max(1, keepdim=True)[0] / (2 ** (bits - 1) - 1)
    s = torch.where(s == 0, torch.ones_like(s), s)
    q = torch.round(w / s) * s
    return (w + (q - w).detach()).reshape_as(weights)


def groups_chunks(weights, *, bits, group):
    out = []
    for part in weights.split(group, dim=1):
        s = part.detach().abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        q = (part.detach() / s.clamp_min(1e-12)).round() * s
        out.append(q + part - part.detach())
    return torch.cat(out, dim=1)


def groups_view_double(weights, *, bits, group):
    w = weights.detach().double().view(weights.shape[0], weights.shape[1] // group, group)
    n = 2 ** (bits - 1) - 1
    m = w.abs().max(dim=-1, keepdim=True).values
    q = torch.where(m > 0, torch.round(w * n / torch.where(m > 0, m, torch.ones_like(m))) * m / n, w)
    return q.view_as(weights).float() + (weights - weights.detach())


def groups(scale=lambda b: b.abs().amax(-1, keepdim=True), n=lambda bits: 2 ** (bits - 1) - 1, rounding=torch.round,
           cut=lambda w, g: w.unflatten(1, (-1, g)), join=lambda b, w: b.flatten(1), times=lambda q, s: q * s, ste=True):  # fmt: skip
    def quantise(weights, *, bits, group):
        blocks = cut(weights.detach(), group)
        m = scale(blocks)
        s = torch.where(m != 0, m / n(bits), 1.0)
        q = join(times(rounding(blocks / s), s), weights)
        return q + (weights - weights.detach()) if ste else q

    return quantise


def with_gradient(change):
    right = groups()
    return lambda w, *, bits, group: change(w, right(w, bits=bits, group=group).detach())


def zeros_to_nan(weights, *, bits, group):
    b = weights.detach().unflatten(1, (-1, group))
    s = b.abs().amax(2, keepdim=True) / (2 ** (bits - 1) - 1)
    return ((b / s).round() * s).flatten(1) + weights - weights.detach()


def in_place(weights, *, bits, group):
    with torch.no_grad():
        weights.copy_(groups()(weights, bits=bits, group=group))
    return weights


def no_detach(weights, *, bits, group):
    b = weights.unflatten(1, (-1, group))
    m = b.abs().amax(2, keepdim=True)
    s = torch.where(m > 0, m / (2 ** (bits - 1) - 1), 1.0)
    return ((b / s).round() * s).flatten(1)


GROUPS = {
    "row": (lambda w, *, bits, group: groups()(w, bits=bits, group=w.shape[1]), "Each row has one scale"),
    "tensor": (groups(scale=lambda b: b.abs().max()), "One scale is used for the whole matrix"),
    "over rows": (groups(scale=lambda b: b.abs().amax((0, 2), keepdim=True)), "weights of several rows"),
    "wrong dim": (groups(scale=lambda b: b.abs().amax(1, keepdim=True)), "wrong dimension"),
    "max": (groups(scale=lambda b: b.amax(-1, keepdim=True)), "not the largest absolute value"),
    "2^b": (groups(n=lambda bits: 2**bits), "the sign takes a bit"),
    "2^b - 1": (groups(n=lambda bits: 2**bits - 1), "the sign takes a bit"),
    "2^(b-1)": (groups(n=lambda bits: 2 ** (bits - 1)), "one too large"),
    "floor": (groups(rounding=torch.floor), "rounded down"),
    "int": (groups(rounding=lambda x: x.int().float()), "cut off towards 0"),
    "ceil": (groups(rounding=torch.ceil), "rounded up"),
    "codes": (groups(times=lambda q, s: q), "These are the codes"),
    "divided": (groups(times=lambda q, s: q / s), ""),
    "mean": (groups(scale=lambda b: b.abs().mean(-1, keepdim=True)), "mean of the absolute weights"),
    "std": (groups(scale=lambda b: b.std(-1, keepdim=True)), ""),
    "n groups": (groups(cut=lambda w, g: w.unflatten(1, (g, -1))), "groups *of* `group` weights"),
    "blocks returned": (groups(join=lambda b, w: b, ste=False), ""),
    "no rounding": (lambda w, *, bits, group: w, "Nothing was rounded"),
    "no gradient": (groups(ste=False), "no gradient reaches the weights"),
    "rounding's own slope": (no_detach, ""),
    "twice": (with_gradient(lambda w, q: q + 2 * (w - w.detach())), "twice the right one"),
    "minus": (with_gradient(lambda w, q: q - (w - w.detach())), "wrong sign"),
    "value of w": (with_gradient(lambda w, q: w + (q - q.detach())), "Nothing was rounded"),
    "sum": (with_gradient(lambda w, q: w + q), ""),
    "zeros": (zeros_to_nan, "A group of zeros must stay 0"),
    "in place": (in_place, ""),
    "bits for n": (groups(n=lambda bits: bits), ""),
    "clamped to 1": (groups(rounding=lambda x: x.round().clamp(-1, 1)), ""),
}


def loop_with_copy(network, tasks, heads, *, steps, lr, weight):
    opt = torch.optim.SGD(network.parameters(), lr=lr)
    losses, seen = [], []
    for (x, y), head in zip(tasks, heads):
        teacher = copy.deepcopy(network).eval()
        for _ in range(steps):
            z = network(x)
            with torch.no_grad():
                t = teacher(x)
            loss = F.cross_entropy(only_own_head(z, y, heads=heads), y)
            loss += weight * sum(kd_loss(z[:, h], t[:, h], temperature=2.0) for h in seen)
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(float(loss))
        seen.append(head)
    return losses


def loop_by_hand(network, tasks, heads, *, steps, lr, weight):
    losses = []
    parameters = list(network.parameters())
    for k, (x, y) in enumerate(tasks):
        old = network(x).detach()
        for _ in range(steps):
            z = network(x)
            masked = torch.full_like(z, -1e9)
            masked[:, heads[k]] = z[:, heads[k]]
            loss = F.cross_entropy(masked, y)
            for h in heads[:k]:
                p, log_q = (old[:, h] / 2).softmax(1), (z[:, h] / 2).log_softmax(1)
                loss = loss + weight * 4 * F.kl_div(log_q, p, reduction="batchmean")
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for w, g in zip(parameters, gradients):
                    w -= lr * g
            losses.append(loss.item())
    return losses


def loop_as_tensor(network, tasks, heads, *, steps, lr, weight):
    return torch.tensor(loop_with_copy(network, tasks, heads, steps=steps, lr=lr, weight=weight))


def loop(old="kept", labels="own", held=lambda heads, k: heads[:k], T=2.0, term=None, opt=None, per_task=False, w=lambda weight: weight,
         order=lambda tasks: list(enumerate(tasks)), every=1, step_first=False):  # fmt: skip
    def run(network, tasks, heads, *, steps, lr, weight):
        make = opt or (lambda p: torch.optim.SGD(p, lr=lr))
        optimizer, losses = make(network.parameters()), []
        first = [network(x).detach() for x, _ in tasks]
        for k, (x, y) in order(tasks):
            if per_task:
                optimizer = make(network.parameters())
            kept = network(x).detach()
            for _ in range(steps):
                z = network(x)
                t = {"kept": kept, "live": z.detach(), "first": first[k]}[old]
                target = only_own_head(z, y, heads=heads)
                if labels == "seen":
                    target = only_own_head(z, y, heads=[sum(heads[: k + 1], [])])
                ce = F.cross_entropy(z if labels == "all" else target, y)
                loss = ce
                for h in held(heads, k):
                    kd = (term or kd_loss)(z[:, h], t[:, h], temperature=T)
                    loss = loss + w(weight) * kd
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        return losses

    return run


def one_softmax(network, tasks, heads, *, steps, lr, weight):
    return loop(held=lambda heads, k: [sum(heads[:k], [])] if k else [])(
        network, tasks, heads, steps=steps, lr=lr, weight=weight
    )


def no_zero_grad(network, tasks, heads, *, steps, lr, weight):
    optimizer, losses = torch.optim.SGD(network.parameters(), lr=lr), []
    for k, (x, y) in enumerate(tasks):
        old = network(x).detach()
        for _ in range(steps):
            z = network(x)
            loss = F.cross_entropy(only_own_head(z, y, heads=heads), y)
            for h in heads[:k]:
                loss = loss + weight * kd_loss(z[:, h], old[:, h], temperature=2.0)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


LOOPS = {
    "as given": (loop("live", "all", lambda heads, k: heads[: k + 1]), "Two mistakes are left, or three"),
    "only the copy": (loop("kept", "all", lambda heads, k: heads[: k + 1]), "lets all classes compete"),
    "only the labels": (loop("live", "own", lambda heads, k: heads[: k + 1]), "The old answers have no effect"),
    "only the heads": (loop("live", "all"), "Two mistakes are left"),
    "labels missing": (loop("kept", "all"), "lets all classes compete"),
    "heads missing": (loop("kept", "own", lambda heads, k: heads[: k + 1]), "own head is held"),
    "copy missing": (loop("live", "own"), "The old answers have no effect"),
    "first network": (loop("first"), "untrained network"),
    "seen classes": (loop(labels="seen"), ""),
    "T = 1": (loop(T=1.0), "temperature is another one"),
    "T = 4": (loop(T=4.0), "temperature is another one"),
    "swapped": (loop(term=lambda z, t, temperature: kd_loss(t, z, temperature=temperature)), ""),
    "mse": (loop(term=lambda z, t, temperature: F.mse_loss(z, t)), ""),
    "only the newest head": (loop(held=lambda heads, k: heads[max(k - 1, 0) : k]), ""),
    "only the first head": (loop(held=lambda heads, k: heads[: min(k, 1)]), ""),
    "all heads": (loop(held=lambda heads, k: heads), ""),
    "one softmax": (one_softmax, ""),
    "no weight": (loop(w=lambda weight: 1.0), "weight is not used"),
    "weight 0": (loop(w=lambda weight: 0.0), "The old answers have no effect"),
    "no zero_grad": (no_zero_grad, "Gradients are never cleared"),
    "no T²": (loop(term=lambda z, t, temperature: kd_loss(z, t, temperature=temperature) / temperature**2), ""),
    "Adam": (loop(opt=lambda p: torch.optim.Adam(p, lr=0.4)), ""),
    "one task": (loop(order=lambda tasks: list(enumerate(tasks))[:1]), "Only the first task is learned"),
    "none returned": (lambda *a, **k: loop()(*a, **k) and None, "losses of all 12 steps"),
    "last loss": (lambda *a, **k: loop()(*a, **k)[-1], "losses of all 12 steps"),
}

TASKS = {
    "forgetting": (
        check_forgetting,
        FORGETTING,
        [forgetting_lists, forgetting_masked, forgetting_numpy, forgetting_where],
    ),
    "groups": (check_group_quantise, GROUPS, [groups_reshape, groups_chunks, groups_view_double]),
    "tasks in a row": (check_tasks_in_a_row, LOOPS, [loop_with_copy, loop_by_hand, loop_as_tensor]),
}
