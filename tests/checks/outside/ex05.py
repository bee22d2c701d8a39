"""Outside answers to exercise 05: contrastive distillation."""

# ruff: noqa: E501 (answers as learners write them)

import math

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import check_info_nce_loss, check_queue_loss, check_queue_push


def nce_by_log_softmax(s, t, *, temperature):
    a, b = s / s.norm(dim=1, keepdim=True), (t / t.norm(dim=1, keepdim=True)).detach()
    z = torch.mm(a, b.t()) / temperature
    return -(z.log_softmax(1).diag() + z.log_softmax(0).diag()).mean() / 2


def nce_in_loops(s, t, *, temperature):
    a, b = F.normalize(s.double()), F.normalize(t.detach().double())
    total = 0
    for i in range(len(a)):
        there = torch.stack([a[i] @ b[j] for j in range(len(a))]) / temperature
        back = torch.stack([a[j] @ b[i] for j in range(len(a))]) / temperature
        total = total + torch.logsumexp(there, 0) - there[i] + torch.logsumexp(back, 0) - back[i]
    return total / (2 * len(a))


def nce_with_targets(s, t, *, temperature):
    with torch.no_grad():
        b = F.normalize(t)
    z = F.normalize(s) @ b.T / temperature
    y = torch.eye(len(z))
    return (F.cross_entropy(z, y) + F.cross_entropy(z.t(), y)).mul(0.5)


def nce(
    norm=F.normalize,
    combine=lambda a, b: (a + b) / 2,
    tau=lambda z, t: z / t,
    ce=None,
    detach=True,
    target=lambda n: torch.arange(n),
):
    def loss(s, t, *, temperature):
        z = tau(norm(s) @ norm(t.detach() if detach else t).T, temperature)
        y = target(len(z))
        f = ce or F.cross_entropy
        return combine(f(z, y), f(z.T, y))

    return loss


NCE = {
    "no unit length": (nce(norm=lambda x: x), "The embeddings are not scaled to length 1: these are inner products"),
    "columns": (nce(norm=lambda x: F.normalize(x, dim=0)), "Columns were scaled to length 1, dim=0. An embedding is a row"),
    "one way": (nce(combine=lambda a, b: a), "Only one direction came"),
    "other way": (nce(combine=lambda a, b: b), "Only one direction came"),
    "sum": (nce(combine=lambda a, b: a + b), "Both directions are added"),
    "times τ": (nce(tau=lambda z, t: z * t), "The temperature multiplies"),
    "no τ": (nce(tau=lambda z, t: z), "The temperature is not used"),
    "τ squared": (nce(tau=lambda z, t: z / t**2), "The square of T is used"),
    "sum over batch": (nce(ce=lambda z, y: F.cross_entropy(z, y, reduction="sum")), "The loss is summed over the batch"),
    "softmax first": (nce(ce=lambda z, y: F.cross_entropy(z.softmax(1), y)), "A softmax is taken twice"),
    "negative": (nce(combine=lambda a, b: -(a + b) / 2), "The sign is wrong: this grows as the positives are found"),
    "positives out of the denominator": (
        nce(ce=lambda z, y: ((z - 1e9 * torch.eye(len(z))).logsumexp(1) - z.diag()).mean()), "The positive is missing in the denominator"),
    "target 0": (nce(target=lambda n: torch.zeros(n, dtype=torch.long)), "The positive of a row is another row's"),
    "target shifted": (nce(target=lambda n: torch.arange(n).roll(1)), ""),
    "teacher attached": (nce(detach=False), "A gradient reaches the teacher's embeddings"),
    "student detached": (lambda s, t, *, temperature: nce()(s.detach(), t, temperature=temperature), "No gradient reaches the student's embeddings"),
    "one direction detached": (
        lambda s, t, *, temperature: (nce(combine=lambda a, b: a)(s, t, temperature=temperature)
            + nce(combine=lambda a, b: b)(s.detach(), t, temperature=temperature)) / 2, ""),
    "exp and log": (nce(ce=lambda z, y: -(z.exp().diag() / z.exp().sum(1)).log().mean()), "At a τ of 0.002 the loss is wrong or not finite"),
    "log of the mean": (nce(ce=lambda z, y: -z.softmax(1).diag().mean().log()), "The logarithm of the mean share was taken"),
    "first row": (nce(ce=lambda z, y: F.cross_entropy(z[:1], y[:1])), "Only the first image is classified"),
    "per row": (nce(ce=lambda z, y: F.cross_entropy(z, y, reduction="none")), "One number for each row came where one is needed"),
    "distances": (nce(tau=lambda z, t: -(2 - 2 * z).clamp_min(1e-9).sqrt() / t), ""),
    "cosine loss": (lambda s, t, *, temperature: 1 - F.cosine_similarity(s, t.detach()).mean(), "The embeddings are compared by a squared difference or a cosine alone"),
    "both networks' candidates": (lambda s, t, *, temperature: (lambda x: F.cross_entropy(
        (x @ x.T / temperature).masked_fill(torch.eye(len(x)) > 0, -1e9), torch.arange(len(x)).roll(len(x) // 2)))(
        F.normalize(torch.cat([s, t.detach()]))), ""),
    "τ²": (lambda s, t, *, temperature: temperature**2 * nce()(s, t, temperature=temperature), "There is a factor τ² (or τ) in front"),
}  # fmt: skip


def push_in_loop(bank, count, embeddings):
    new = bank.clone()
    for x in embeddings:
        new[count % len(bank)] = x / x.norm()
        count += 1
    return new, count


def push_by_roll(bank, count, embeddings):
    size, unit = bank.shape[0], F.normalize(embeddings.double()).to(bank.dtype)
    order = torch.roll(bank, -(count % size), 0)
    for part in unit.split(size):
        order = torch.cat([order[len(part) :], part]) if len(part) < size else part.clone()
    return torch.roll(order, (count + len(embeddings)) % size, 0), count + len(embeddings)


def push_in_numpy(bank, count, embeddings):
    out = bank.numpy().copy()
    e = embeddings.numpy() / np.linalg.norm(embeddings.numpy(), axis=1, keepdims=True)
    for i in range(max(0, len(e) - len(out)), len(e)):
        out[(count + i) % len(out)] = e[i]
    return [torch.from_numpy(out), count + len(e)]


def push(
    unit=F.normalize,
    start=lambda c, size: c % size,
    after=lambda c, n, size: c + n,
    keep=lambda x, size: x[-size:],
    copy=True,
    order=lambda x: x,
):
    def run(bank, count, embeddings):
        size = len(bank)
        bank = bank.clone() if copy else bank
        rows = order(unit(keep(embeddings, size)))
        skipped = len(embeddings) - len(rows)
        for i, row in enumerate(rows):
            bank[(start(count, size) + skipped + i) % size] = row
        return bank, after(count, len(embeddings), size)

    return run


def push_slices(bank, count, embeddings):
    start = count % len(bank)
    bank = bank.clone()
    bank[start : start + len(embeddings)] = F.normalize(embeddings)
    return bank, count + len(embeddings)


def push_restart(bank, count, embeddings):
    start = count % len(bank)
    if start + len(embeddings) > len(bank):
        start = 0
    bank = bank.clone()
    bank[start : start + len(embeddings)] = F.normalize(embeddings)
    return bank, count + len(embeddings)


def push_two_parts(bank, count, embeddings):
    size, start = len(bank), count % len(bank)
    first = min(size - start, len(embeddings))
    bank = bank.clone()
    bank[start : start + first] = F.normalize(embeddings[:first])
    bank[: len(embeddings) - first] = F.normalize(embeddings[first:])
    return bank, count + len(embeddings)


PUSH = {
    "no unit": (push(unit=lambda x: x), "The rows are right"),
    "columns": (push(unit=lambda x: F.normalize(x, dim=0)), "Columns were scaled to length 1, dim=0. An embedding is a row"),
    "whole": (push(unit=lambda x: x / x.norm()), "The whole batch was scaled by one number"),
    "divided by the sum": (push(unit=lambda x: x / x.sum(1, keepdim=True)), ""),
    "pointer": (push(after=lambda c, n, size: (c + n) % size), "The second number is the next row"),
    "count stays": (push(after=lambda c, n, size: c), "The count did not go on"),
    "count capped": (push(after=lambda c, n, size: min(c + n, size)), "The count stops at the size of the bank"),
    "count by one": (push(after=lambda c, n, size: c + 1), "The count went on by 1, or by the batch alone"),
    "float count": (push(after=lambda c, n, size: float(c + n)), "The numbers are right"),
    "restart": (push_restart, "When a batch does not fit"),
    "slices": (push_slices, ""),
    "two parts": (push_two_parts, "A batch larger than the bank raises an error (trap 39)"),
    "first stay": (push(keep=lambda x, size: x[:size]), ""),
    "in place": (push(copy=False), "changes the tensor `bank` in place"),
    "start at 0": (push(start=lambda c, size: 0), "The batch always starts at row 0: the count has no effect on where it"),
    "off by one": (push(start=lambda c, size: c + 1), "The rows are off by one"),
    "backwards": (push(order=lambda x: x.flip(0)), "The batch is written from its last row to its first"),
    "newest at the end": (lambda b, c, e: (torch.cat([b, F.normalize(e)])[-len(b):], c + len(e)), "The rows were shifted"),
    "bank only": (lambda b, c, e: push()(b, c, e)[0], "Only the bank came back"),
    "swapped": (lambda b, c, e: push()(b, c, e)[::-1], "The count came first"),
    "large batch from row 0": (lambda b, c, e: push()(b, c, e) if len(e) <= len(b) else (F.normalize(e[-len(b):]), c + len(e)), "Of a batch larger than the bank the right embeddings stay"),
    "large batch refused": (lambda b, c, e: push()(b, c, e) if len(e) <= len(b) else 1 / 0, "<lambda> raised ZeroDivisionError"),
    "count of what fits": (lambda b, c, e: (push()(b, c, e)[0], c + min(len(e), len(b))), "Of a batch larger than the bank only those that stay were counted"),
    "only the last": (lambda b, c, e: push()(b, c, e[-1:]), ""),
    "bank normalised too": (lambda b, c, e: (F.normalize(push(unit=lambda x: x)(b, c, e)[0] + 1e-3), c + len(e)), ""),
}  # fmt: skip


def queue_in_loops(s, t, y, *, queue, queue_labels, temperature):
    a, b = F.normalize(s), F.normalize(t.detach())
    losses = []
    for i in range(len(a)):
        scores = [a[i] @ b[i]]
        scores += [a[i] @ b[j] for j in range(len(b)) if y[j] != y[i]]
        scores += [a[i] @ queue[m] for m in range(len(queue)) if queue_labels[m] >= 0 and queue_labels[m] != y[i]]
        losses.append(F.cross_entropy(torch.stack(scores)[None] / temperature, torch.tensor([0])))
    return sum(losses) / len(losses)


def queue_by_where(s, t, y, *, queue, queue_labels, temperature):
    a, b = F.normalize(s.double()), F.normalize(t.detach().double())
    batch, old = a @ b.T / temperature, a @ queue.double().T / temperature
    minus = torch.tensor(-torch.inf, dtype=torch.float64)
    own = torch.eye(len(a), dtype=torch.bool)
    batch = torch.where((y[:, None] == y[None]) & ~own, minus, batch)
    old = torch.where((y[:, None] == queue_labels[None]) | (queue_labels < 0)[None], minus, old)
    return -torch.cat([batch, old], 1).log_softmax(1)[own.nonzero(as_tuple=True)].mean()


def queue_filtered(s, t, y, *, queue, queue_labels, temperature):
    used = queue_labels != -1
    keys, labels = torch.cat([F.normalize(t).detach(), queue[used]]), torch.cat([y, queue_labels[used]])
    z = torch.einsum("bd,md->bm", F.normalize(s), keys) / temperature
    mask = y[:, None].ne(labels)
    mask[:, : len(y)] |= torch.eye(len(y), dtype=torch.bool)
    return (z.masked_fill(mask.logical_not(), -math.inf).logsumexp(1) - z.diagonal()).mean()


def queue(
    batch=lambda same, own: ~same | own,
    old=lambda same, empty: ~same & ~empty,
    fill=-math.inf,
    norm=F.normalize,
    reduce=torch.mean,
    detach=True,
):
    def loss(s, t, y, *, queue, queue_labels, temperature):
        a, b = norm(s), norm(t.detach() if detach else t)
        z = torch.cat([a @ b.T, a @ queue.T], 1) / temperature
        own = torch.eye(len(a), dtype=torch.bool)
        keep = torch.cat(
            [batch(y[:, None] == y, own), old(y[:, None] == queue_labels, (queue_labels < 0).expand(len(a), -1))], 1
        )
        return reduce(z.masked_fill(~keep, fill).logsumexp(1) - z.diagonal())

    return loss


def yes(a, b):
    return torch.ones_like(a)


def no(a, b):
    return torch.zeros_like(a)


QUEUE = {
    "all in": (queue(batch=yes, old=yes), "Nothing was left out"),
    "false in batch": (queue(batch=yes), "Negatives of the anchor's class are left out in the queue only"),
    "false in queue": (
        queue(old=lambda same, empty: ~empty),
        "Negatives of the anchor's class are left out in the batch only",
    ),
    "empty in": (queue(old=lambda same, empty: ~same), "The empty rows of the queue are in"),
    "only empty out": (
        queue(batch=yes, old=lambda same, empty: ~empty),
        "Negatives of the anchor's class are still in",
    ),
    "positive out": (
        queue(batch=lambda same, own: ~same),
        "With the negatives of its class the positive was left out of the denom",
    ),
    "no queue": (queue(old=no), "The queue is not used"),
    "no batch": (queue(batch=lambda same, own: own), "The batch's other images are missing"),
    "score 0": (queue(fill=0.0), "What is left out got the score 0, and the exponential of 0 is 1: it st"),
    "score -1e4": (queue(fill=-5.0), ""),
    "turned mask": (
        queue(batch=lambda same, own: same | own, old=lambda same, empty: same & ~empty),
        "The mask is turned round",
    ),
    "no unit": (queue(norm=lambda x: x), "The embeddings are not scaled to length 1: these are inner products"),
    "sum": (queue(reduce=torch.sum), "The loss is summed over the batch"),
    "per image": (queue(reduce=lambda x: x), "One number for each row came where one is needed"),
    "max": (queue(reduce=torch.max), ""),
    "first image": (queue(reduce=lambda x: x[0]), ""),
    "teacher attached": (queue(detach=False), "A gradient reaches the teacher's embeddings"),
    "student detached": (
        lambda s, *a, **k: queue()(s.detach(), *a, **k),
        "No gradient reaches the student's embeddings",
    ),
    "no τ": (lambda *a, **k: queue()(*a, **{**k, "temperature": 1.0}), "The temperature is not used"),
    "times τ": (
        lambda *a, **k: queue()(*a, **{**k, "temperature": 1 / k["temperature"]}),
        "T multiplies where it has to divide",
    ),
    "teacher finds": (lambda s, t, y, **k: queue(detach=False)(t, s, y, **k), "The teacher looks for its student"),
    "own label counts as queue": (
        queue(old=lambda same, empty: same | ~empty),
        "Negatives of the anchor's class are left out in the batch only",
    ),
    "negative": (queue(reduce=lambda x: -x.mean()), "The sign is turned round"),
    "exp": (queue(reduce=lambda x: 1 - (-x).exp().mean()), ""),
    "queue twice": (lambda s, t, y, *, queue: 0, ""),
    "labels of the queue shifted": (
        lambda s, t, y, **k: queue()(s, t, y, **{**k, "queue_labels": k["queue_labels"].roll(1)}),
        "",
    ),
}
TASKS = {
    "info_nce": (check_info_nce_loss, NCE, [nce_by_log_softmax, nce_in_loops, nce_with_targets]),
    "push": (check_queue_push, PUSH, [push_in_loop, push_by_roll, push_in_numpy]),
    "queue": (check_queue_loss, QUEUE, [queue_in_loops, queue_by_where, queue_filtered]),
}
