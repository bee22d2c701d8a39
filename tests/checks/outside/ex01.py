"""Outside answers to exercise 01: teacher and student."""

# ruff: noqa: B905 (answers as learners write them)

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    check_ensemble_logits,
    check_entropy,
    check_measured_accuracy,
    check_measured_size,
    check_soften,
)


def soften_by_hand(logits, *, temperature):
    z = logits / temperature
    z = z - z.max(dim=1, keepdim=True).values
    return z.exp() / z.exp().sum(1, keepdim=True)


def soften_in_a_loop(logits, *, temperature):
    rows = []
    for row in logits:
        rows.append(torch.softmax(row.double() / temperature, 0))
    return torch.stack(rows)


def soften_in_numpy(logits, *, temperature):
    z = logits.numpy().astype(np.float64) / temperature
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def soften_clamped(logits, *, temperature):
    return F.softmax((logits / temperature).clamp(-5, 5), 1)


def soften_first_row(logits, *, temperature):
    for row in logits:
        return F.softmax(row / temperature, 0)


SOFTEN = {
    "the softmax first, then T, then a new sum": (
        lambda z, *, temperature: F.normalize(F.softmax(z, 1) / temperature, p=1, dim=1),
        "has no effect: the rows are those of T = 1. Dividing probabi",
    ),
    "T as exponent of probabilities without a new sum": (
        lambda z, *, temperature: F.softmax(z, 1) ** (1 / temperature),
        "The probabilities are multiplied or raised after the softmax and no lo",
    ),
    "T twice": (lambda z, *, temperature: F.softmax(z / temperature / temperature, 1), "T divides twice"),
    "root of T": (lambda z, *, temperature: F.softmax(z / temperature**0.5, 1), "The root of T is used"),
    "softmax twice": (
        lambda z, *, temperature: F.softmax(F.softmax(z, 1) / temperature, 1),
        "A softmax is taken twice",
    ),
    "over the batch": (lambda z, *, temperature: torch.softmax(z / temperature, 0), "The softmax runs over the batch"),
    "divided by its largest": (
        lambda z, *, temperature: (lambda e: e / e.max(1, keepdim=True).values)((z / temperature).exp()),
        "The rows no longer sum to 1, so they are no probabilities",
    ),
    "unit length": (
        lambda z, *, temperature: F.normalize((z / temperature).exp(), dim=1),
        "The rows no longer sum to 1, so they are no probabilities",
    ),
    "overflow": (
        lambda z, *, temperature: (z / temperature).exp() / (z / temperature).exp().sum(1, keepdim=True),
        "For large logits the result is not finite",
    ),
    "clamped": (soften_clamped, ""),
    "only the first row": (soften_first_row, ""),
    "log": (lambda z, *, temperature: F.log_softmax(z / temperature, -1), "These are logarithms of probabilities"),
    "plus T": (
        lambda z, *, temperature: F.softmax(z + temperature, 1),
        "has no effect: the rows are those of T = 1. Dividing probabi",
    ),
    "in place": (lambda z, *, temperature: F.softmax(z.div_(temperature), 1), "changes the tensor `z` in place"),
    "transposed": (lambda z, *, temperature: F.softmax(z / temperature, 1).T, "The numbers are right"),
    "a list of rows cut off": (lambda z, *, temperature: F.softmax(z / temperature, 1)[:-1], ""),
    "flattened": (lambda z, *, temperature: F.softmax(z / temperature, 1).flatten(), "The numbers are right"),
}


def entropy_with_where(p):
    return -torch.where(p > 0, p * torch.log(torch.where(p > 0, p, 1.0)), 0.0).sum(-1)


def entropy_in_loops(p):
    out = []
    for row in p.tolist():
        out.append(sum(-x * math.log(x) for x in row if x > 0))
    return out


def entropy_in_numpy(p):
    q = p.numpy().astype(np.float64)
    with np.errstate(all="ignore"):
        return np.nan_to_num(-q * np.log(q)).sum(1)


def entropy_last(p):
    for row in p:
        h = torch.special.entr(row).sum()
    return h


ENTROPY = {
    "NaN replaced after the sum": (
        lambda p: torch.nan_to_num(-(p * torch.log(p)).sum(1)),
        "A NaN is replaced after the sum",
    ),
    "whole row dropped": (
        lambda p: -(p * p.log()).sum(1).where((p > 0).all(1), torch.tensor(0.0)),
        "A NaN is replaced after the sum",
    ),
    "log2": (lambda p: -torch.xlogy(p, p).sum(1) / math.log(2), "This is in bits (logarithm to base 2)"),
    "mean": (lambda p: -torch.xlogy(p, p).mean(1), "This is K times too small"),
    "no minus": (lambda p: torch.xlogy(p, p).sum(1), "The sign is turned round"),
    "over images": (lambda p: -torch.xlogy(p, p).sum(0), "The sum runs over the images"),
    "keepdim": (lambda p: -torch.xlogy(p, p).sum(1, keepdim=True), "The numbers are right"),
    "mean over rows": (lambda p: -torch.xlogy(p, p).sum(1).mean(), "One number came for all rows"),
    "log1p": (lambda p: -(p * torch.log1p(p)).sum(1), ""),
    "a large epsilon": (lambda p: -(p * (p + 0.01).log()).sum(1), ""),
    "squared": (lambda p: -(p**2 * p.clamp_min(1e-30).log()).sum(1), ""),
    "softmax again": (lambda p: torch.special.entr(F.softmax(p, 1)).sum(1), "The rows are probabilities already"),
    "the last row": (entropy_last, "One number came for all"),
    "against uniform": (lambda p: math.log(p.shape[1]) + torch.xlogy(p, p).sum(1), ""),
    "exp": (lambda p: torch.special.entr(p).sum(1).exp(), "This is e to the entropy"),
    "no log": (lambda p: (p * (1 - p)).sum(1), "This is the Gini impurity"),
}


def accuracy_right(model, images, labels, *, batch_size):
    mode = model.training
    model.eval()
    hits = 0
    with torch.inference_mode():
        for i in range(0, len(images), batch_size):
            hits += int((model(images[i : i + batch_size]).argmax(1) == labels[i : i + batch_size]).sum())
    model.train(mode)
    return hits / len(images)


def accuracy_on_a_copy(model, images, labels, *, batch_size):
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        return torch.cat([frozen(x).max(1).indices for x in torch.split(images, batch_size)]).eq(labels).double().mean()


def accuracy_weighted(model, images, labels, *, batch_size):
    before = model.training
    model.train(False)
    total = 0.0
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size)):
            total += (model(x).argmax(-1) == y).float().mean().item() * len(x)
    model.train(before)
    return np.float64(total / len(labels))


def accuracy(
    model, images, labels, *, batch_size, mode=False, grad=False, back=True, batches=None, divide=None, average=False,
    pick=lambda z: z.argmax(1), freeze=False,
):  # fmt: skip
    was = model.training
    if mode is not None:
        model.train(mode)
    if freeze:
        model.requires_grad_(False)
    starts = list(range(0, len(images), batch_size))
    starts = starts[batches] if batches else starts
    shares, hits, seen = [], 0, 0
    with torch.set_grad_enabled(grad):
        for i in starts:
            x, y = images[i : i + batch_size], labels[i : i + batch_size]
            good = pick(model(x)) == y
            hits, seen = hits + int(good.sum()), seen + len(y)
            shares.append(float(good.float().mean()))
    if back:
        model.train(was)
    if average:
        return sum(shares) / len(shares)
    return hits / (divide(len(images), batch_size, seen) if divide else len(images))


def acc(**changes):
    return lambda *args, **knobs: accuracy(*args, **knobs, **changes)


def accuracy_of_whole_batches(model, images, labels, *, batch_size):
    was = model.training
    model.eval()
    hits = 0
    with torch.no_grad():
        for b in range(len(images) // batch_size):
            part = slice(b * batch_size, (b + 1) * batch_size)
            hits += (model(images[part]).argmax(1) == labels[part]).sum().item()
    model.train(was)
    return hits / len(images)


ACCURACY = {
    "a last batch that never runs": (accuracy_of_whole_batches, "The small last batch never runs"),
    "a last batch that never runs, divided by what ran": (
        acc(batches=slice(None, -1), divide=lambda n, b, seen: seen),
        "The small last batch never runs",
    ),
    "mean of means": (acc(average=True), "This is the mean of the batches' means"),
    "training mode": (acc(mode=True), "The model answers in training mode"),
    "whatever mode": (acc(mode=None), "The model answers in training mode"),
    "gradients kept": (acc(grad=True), "The model's answers keep what a gradient would need"),
    "left in evaluation mode": (acc(back=False), "The model came in training mode and is left in evaluation mode"),
    "left frozen": (acc(freeze=True), "The model came trainable and is left frozen"),
    "least likely class": (acc(pick=lambda z: z.argmin(1)), ""),
    "divided by batches": (
        acc(divide=lambda n, b, seen: math.ceil(n / b)),
        "The count of right answers is divided by the number of batches",
    ),
    "divided by full batches": (
        acc(divide=lambda n, b, seen: b * math.ceil(n / b)),
        "The count of right answers is divided by the number of batches",
    ),
    "first batch left out": (acc(batches=slice(1, None)), "The first batch is left out"),
    "count": (acc(divide=lambda n, b, seen: 1), "This counts the right answers"),
    "percent": (lambda *a, **k: 100 * accuracy(*a, **k), "This is in percent"),
    "errors": (lambda *a, **k: 1 - accuracy(*a, **k), "This is the share of wrong answers"),
    "rounded": (lambda *a, **k: round(accuracy(*a, **k), 1), ""),
    "only the last batch": (acc(batches=slice(-1, None), divide=lambda n, b, seen: seen), "Only the last batch counts"),
}


def size_right(model):
    n = b = 0
    for p in model.parameters():
        n += p.numel()
        b += p.numel() * p.element_size()
    for p in model.buffers():
        b += p.nbytes
    return n, b


def size_by_state(model):
    weights = dict(model.named_parameters())
    return sum(p.numel() for p in weights.values()), sum(v.nbytes for v in model.state_dict().values())


def size_in_numpy(model):
    return int(np.sum([np.prod(p.shape) for p in model.parameters()])), int(
        np.sum([t.untyped_storage().nbytes() for t in [*model.parameters(), *model.buffers()]])
    )


def size_of_float(model):
    model.float()
    return size_right(model)


SIZE = {
    "frozen left out": (
        lambda m: (sum(p.numel() for p in m.parameters() if p.requires_grad), size_right(m)[1]),
        "Only what is trained is counted",
    ),
    "no buffers": (
        lambda m: (size_right(m)[0], sum(p.nbytes for p in m.parameters())),
        "The bytes leave out the buffers",
    ),
    "four bytes": (
        lambda m: (size_right(m)[0], 4 * sum(v.numel() for v in m.state_dict().values())),
        "Every number is taken to have 4 bytes",
    ),
    "buffers counted": (
        lambda m: (sum(v.numel() for v in m.state_dict().values()), size_right(m)[1]),
        "Buffers are counted as parameters",
    ),
    "float": (lambda m: (float(size_right(m)[0]), float(size_right(m)[1])), "The numbers are right"),
    "kB": (lambda m: (size_right(m)[0], size_right(m)[1] / 1024), "The size is in kilobytes or megabytes"),
    "MB": (lambda m: (size_right(m)[0], size_right(m)[1] / 1e6), "The size is in kilobytes or megabytes"),
    "swapped": (lambda m: size_right(m)[::-1], "The two numbers are swapped"),
    "one number": (lambda m: size_right(m)[0], "One number came for all"),
    "number of tensors": (lambda m: (len(list(m.parameters())), len(m.state_dict())), ""),
    "biases left out": (
        lambda m: (sum(p.numel() for p in m.parameters() if p.ndim > 1), size_right(m)[1]),
        "The biases are left out",
    ),
    "first layer": (lambda m: size_right(m[0]), ""),
    "changes the model": (size_of_float, "The model was changed"),
    "bits": (lambda m: (size_right(m)[0], 8 * size_right(m)[1]), "The size is in bits"),
    "shapes added": (lambda m: (sum(sum(p.shape) for p in m.parameters()), size_right(m)[1]), ""),
    "float buffers only": (lambda m: (size_right(m)[0], sum(v.nbytes for v in m.state_dict().values() if v.ndim)), ""),
}


def ensemble_log_mean(z):
    p = torch.stack([F.log_softmax(member.double(), -1) for member in z])
    return torch.logsumexp(p, 0) - math.log(len(z))


def ensemble_by_addition(z):
    total = F.log_softmax(z[0], -1)
    for member in z[1:]:
        total = torch.logaddexp(total, F.log_softmax(member, -1))
    return total


def ensemble_shifted(z):
    log_p = z - z.logsumexp(-1, keepdim=True)
    top = log_p.max(0).values
    return top + (log_p - top).exp().mean(0).log()


ENSEMBLE = {
    "log of mean": (lambda z: z.softmax(-1).mean(0).log(), "For members that are sure a logit is not finite or wrong"),
    "log of mean with epsilon": (
        lambda z: (z.softmax(-1).mean(0) + 1e-6).log(),
        "For members that are sure a logit is not finite or wrong",
    ),
    "mean of logits": (lambda z: z.mean(0), "The members' logits are averaged"),
    "mean of log softmax": (lambda z: z.log_softmax(-1).mean(0), "The members' logits are averaged"),
    "mean probabilities": (lambda z: z.softmax(-1).mean(0), "These are the mean probabilities"),
    "votes": (lambda z: F.one_hot(z.argmax(-1), z.shape[-1]).float().mean(0), "Each member votes with its class only"),
    "raw logsumexp": (lambda z: z.logsumexp(0), "The exponentials of raw logits are added"),
    "first member": (lambda z: z[0], "Only one member answers"),
    "softmax over members": (lambda z: (z.softmax(0) * z).sum(0), ""),
    "all but the last": (
        lambda z: z[:-1].log_softmax(-1).logsumexp(0),
        "The last row (image) of the batch is left out",
    ),
    "over images": (lambda z: z.log_softmax(1).logsumexp(0), "The softmax runs over the members or the images"),
    "maximum": (
        lambda z: z.softmax(-1).max(0).values.log(),
        "Each class has the logit of the member that is surest of it",
    ),
    "logit of each class": (lambda z: torch.logit(z.softmax(-1).mean(0), eps=1e-6), ""),
    "mean over images": (lambda z: z.log_softmax(-1).logsumexp(1), ""),
    "sum of probabilities": (lambda z: z.softmax(-1).sum(0), "These are the mean probabilities"),
    "standardised": (lambda z: ((z - z.mean(-1, keepdim=True)) / z.std(-1, keepdim=True)).mean(0), ""),
}
TASKS = {
    "soften": (check_soften, SOFTEN, [soften_by_hand, soften_in_a_loop, soften_in_numpy]),
    "entropy": (check_entropy, ENTROPY, [entropy_with_where, entropy_in_loops, entropy_in_numpy]),
    "accuracy": (check_measured_accuracy, ACCURACY, [accuracy_right, accuracy_on_a_copy, accuracy_weighted]),
    "size": (check_measured_size, SIZE, [size_right, size_by_state, size_in_numpy]),
    "ensemble": (check_ensemble_logits, ENSEMBLE, [ensemble_log_mean, ensemble_by_addition, ensemble_shifted]),
}
