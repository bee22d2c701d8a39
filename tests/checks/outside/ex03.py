"""Outside answers to exercise 03: feature distillation."""

# ruff: noqa: B905, E501 (answers as learners write them)

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    check_attention_map,
    check_attention_transfer_loss,
    check_gradient_length,
    check_hint_stage,
)


def map_by_einsum(features):
    energy = torch.einsum("bchw,bchw->bhw", features, features).reshape(len(features), -1)
    return energy / energy.norm(dim=1, keepdim=True)


def map_in_a_loop(features):
    rows = []
    for image in features.double():
        total = torch.zeros(image.shape[1:], dtype=torch.float64)
        for channel in image:
            total = total + channel * channel
        rows.append(total.flatten() / total.square().sum().sqrt())
    return torch.stack(rows)


def map_in_numpy(features):
    e = (features.numpy().astype(np.float64) ** 2).sum(1).reshape(len(features), -1)
    return e / np.linalg.norm(e, axis=1, keepdims=True)


def map_of_last_image(features):
    for image in features:
        m = F.normalize(image.pow(2).sum(0).flatten(), dim=0)
    return m


MAP = {
    "no unit length": (lambda f: f.pow(2).sum(1).flatten(1), "The maps are not normalised"),
    "mean, no unit length": (lambda f: f.pow(2).mean(1).flatten(1), "The maps are not normalised"),
    "sum 1": (lambda f: (lambda m: m / m.sum(1, keepdim=True))(f.pow(2).sum(1).flatten(1)), "The entries sum to 1; asked for is a vector of length 1, the Euclidean"),
    "abs": (lambda f: F.normalize(f.abs().sum(1).flatten(1)), "This is the map of absolute values"),
    "no square": (lambda f: F.normalize(f.sum(1).flatten(1)), "Channels are averaged and nothing is squared"),
    "square of the sum": (lambda f: F.normalize(f.sum(1).pow(2).flatten(1)), "Channels are averaged first and squared afterwards"),
    "max over channels": (lambda f: F.normalize(f.abs().amax(1).flatten(1)), ""),
    "p = 4": (lambda f: F.normalize(f.pow(4).sum(1).flatten(1)), "The activations are squared twice"),
    "picture": (lambda f: F.normalize(f.pow(2).sum(1), dim=(1, 2)), "The map is still a picture"),
    "over images": (lambda f: F.normalize(f.pow(2).sum(1).flatten(1), dim=0), "Each position is compared across the batch (dim=0)"),
    "over rows": (lambda f: F.normalize(f.pow(2).sum(1), dim=1).flatten(1), "Each row or column of positions was normalised by itself"),
    "channels kept": (lambda f: F.normalize(f.pow(2).flatten(2).sum(2)), "Positions were averaged and channels kept"),
    "relu first": (lambda f: F.normalize(f.relu().pow(2).sum(1).flatten(1)), "Negative numbers in `f` are replaced by 0"),
    "batch flattened": (lambda f: F.normalize(f.pow(2).sum(1).flatten(), dim=0), ""),
    "first channel left out": (lambda f: F.normalize(f[:, 1:].pow(2).sum(1).flatten(1)), ""),
    "squared length": (lambda f: (lambda m: m / m.pow(2).sum(1, keepdim=True))(f.pow(2).sum(1).flatten(1)), "The map was divided by its squared length"),
    "standardised": (
        lambda f: (lambda m: (m - m.mean(1, keepdim=True)) / m.std(1, keepdim=True))(f.pow(2).sum(1).flatten(1)), ""),
    "last image": (map_of_last_image, ""),
    "softmax": (lambda f: f.pow(2).sum(1).flatten(1).softmax(1), "A softmax over positions is another map"),
    "in place": (lambda f: F.normalize(f.pow_(2).sum(1).flatten(1)), "changes the tensor `f` in place"),
    "transposed": (lambda f: F.normalize(f.pow(2).sum(1).transpose(1, 2).flatten(1)), "The positions are in another order"),
}  # fmt: skip


def transfer_with_mse(student_layers, teacher_layers):
    if len(student_layers) != len(teacher_layers):
        raise ValueError("as many of each")
    return sum(F.mse_loss(map_by_einsum(s), map_by_einsum(t).detach()) for s, t in zip(student_layers, teacher_layers))


def transfer_expanded(student_layers, teacher_layers):
    terms = []
    for s, t in zip(student_layers, teacher_layers, strict=True):
        a, b = map_by_einsum(s), map_by_einsum(t.detach())
        terms.append((2 - 2 * (a * b).sum(1)).mean() / a.shape[1])
    return torch.stack(terms).sum()


def transfer_in_double(student_layers, teacher_layers):
    n = len(student_layers)
    if n != len(teacher_layers):
        raise ValueError(n)
    loss = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        targets = [map_by_einsum(t.double()) for t in teacher_layers]
    for i in range(n):
        loss = loss + (map_by_einsum(student_layers[i].double()) - targets[i]).pow(2).mean()
    return loss


def transfer(m=map_by_einsum, d=F.mse_loss, combine=sum, detach=True, strict=True):
    def loss(student_layers, teacher_layers):
        pairs = zip(student_layers, teacher_layers, strict=strict)
        return combine([d(m(s), m(t).detach() if detach else m(t)) for s, t in pairs])

    return loss


def transfer_returns_early(student_layers, teacher_layers):
    loss = 0
    for s, t in zip(student_layers, teacher_layers, strict=True):
        loss = loss + F.mse_loss(map_by_einsum(s), map_by_einsum(t.detach()))
        return loss


def transfer_pops(student_layers, teacher_layers):
    if len(student_layers) != len(teacher_layers):
        raise ValueError
    loss = 0
    while student_layers:
        loss = loss + F.mse_loss(map_by_einsum(student_layers.pop()), map_by_einsum(teacher_layers.pop().detach()))
    return loss


TRANSFER = {
    "mean over layers": (transfer(combine=lambda x: sum(x) / len(x)), "The loss is a mean over layers"),
    "only the last": (transfer(combine=lambda x: x[-1]), "Only the last layer counts"),
    "returns early": (transfer_returns_early, "Only the first layer counts"),
    "largest layer": (transfer(combine=max), ""),
    "product": (transfer(combine=lambda x: torch.stack(x).prod()), ""),
    "sum of squares": (transfer(d=lambda a, b: (a - b).pow(2).sum()), "Everything is summed"),
    "sum over positions": (transfer(d=lambda a, b: (a - b).pow(2).sum(1).mean()), "The squares are summed over positions"),
    "norm": (transfer(d=lambda a, b: (a - b).norm(dim=1).mean()), "This is the norm of the difference"),
    "l1": (transfer(d=F.l1_loss), "Absolute differences were taken"),
    "half": (transfer(d=lambda a, b: 0.5 * F.mse_loss(a, b)), "The squares are halved"),
    "teacher attached": (transfer(detach=False), "A gradient reaches the teacher"),
    "student detached": (transfer(d=lambda a, b: F.mse_loss(a.detach(), b)), "No gradient reaches the student's features"),
    "last layer detached": (lambda s, t: transfer()([*s[:-1], s[-1].detach()], t), "No gradient reaches the student's features"),
    "zip": (transfer(strict=False), "3 student layers met 1 teacher layers"),
    "assert": (lambda s, t: (_ for _ in ()).throw(AssertionError("lengths")) if len(s) != len(t) else transfer()(s, t), "Lists of different lengths gave AssertionError"),
    "no unit maps": (transfer(m=lambda f: f.pow(2).sum(1).flatten(1)), "The maps are not normalised"),
    "abs maps": (transfer(m=lambda f: F.normalize(f.abs().sum(1).flatten(1))), "This is the map of absolute values"),
    "sum-1 maps": (transfer(m=lambda f: (lambda m: m / m.sum(1, keepdim=True))(f.pow(2).sum(1).flatten(1))), "The entries sum to 1; asked for is a vector of length 1, the Euclidean"),
    "pops": (transfer_pops, "makes the list `student_layers` shorter"),
    "list": (transfer(combine=list), "One number for each row came where one is needed"),
    "item": (transfer(combine=lambda x: sum(v.item() for v in x)), "No gradient reaches the student's features"),
    "cosine": (transfer(d=lambda a, b: (1 - F.cosine_similarity(a, b)).mean()), "The maps are compared by their cosine"),
    "kl": (transfer(d=lambda a, b: F.kl_div(a.log_softmax(1), b.softmax(1), reduction="batchmean")), ""),
}  # fmt: skip


def stage_right(student, regressor, teacher, batches, *, lr):
    optimizer = torch.optim.SGD(list(student.parameters()) + list(regressor.parameters()), lr)
    student.train()
    teacher.eval()
    out = []
    for x in batches:
        with torch.inference_mode():
            target = teacher(x)
        target = target.clone()
        optimizer.zero_grad(set_to_none=False)
        loss = (regressor(student(x)) - target).pow(2).mean()
        loss.backward()
        optimizer.step()
        out.append(float(loss))
    return out


def stage_by_hand(student, regressor, teacher, batches, *, lr):
    parts = [*student.parameters(), *regressor.parameters()]
    teacher.eval().requires_grad_(False)
    losses = []
    for x in batches:
        student.train()
        loss = F.mse_loss(regressor(student(x)), teacher(x))
        grads = torch.autograd.grad(loss, parts)
        with torch.no_grad():
            for p, g in zip(parts, grads):
                p -= lr * g
        losses.append(loss.detach())
    return torch.stack(losses)


def stage_two_optimizers(student, regressor, teacher, batches, *, lr):
    optimizers = [torch.optim.SGD(m.parameters(), lr=lr) for m in (student, regressor)]
    targets = [teacher.eval()(x).detach() for x in batches]
    losses = []
    for x, target in zip(batches, targets):
        loss = F.mse_loss(regressor(student.train()(x)), target)
        for o in optimizers:
            o.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
        losses.append(loss.item())
    return losses


def stage(
    learn=("student", "regressor"), make=torch.optim.SGD, teacher_mode=False, student_mode=True, loss=F.mse_loss,
    clear=True, step=True, prepare=lambda f: f, cut=False, skip=0, rate=None, detach=True, give=lambda x: x,
):  # fmt: skip
    def run(student, regressor, teacher, batches, *, lr):
        modules = {"student": student, "regressor": regressor}
        optimizer = make([p for name in learn for p in modules[name].parameters()], lr=rate or lr)
        losses = []
        for x in batches[skip:]:
            hint = prepare(teacher.train(teacher_mode)(x))
            hint = hint.detach() if detach else hint
            features = student.train(student_mode)(x)
            value = loss(prepare(regressor(features.detach() if cut else features)), hint)
            if clear:
                optimizer.zero_grad()
            value.backward()
            if step:
                optimizer.step()
            losses.append(value.item())
        return give(losses)

    return run


STAGE = {
    "regressor forgotten": (stage(learn=("student",)), "The regressor does not learn"),
    "student forgotten": (stage(learn=("regressor",)), "Only the regressor learns"),
    "student features detached": (stage(cut=True), "Only the regressor learns"),
    "teacher trains": (stage(teacher_mode=True), "The teacher runs in training mode"),
    "teacher attached": (stage(detach=False), "A gradient reaches the teacher"),
    "student in eval": (stage(student_mode=False), "The student runs in evaluation mode while it trains"),
    "normalised": (
        stage(prepare=lambda f: F.normalize(f, dim=1)),
        "The features are scaled to length 1 at each position and then averaged",
    ),
    "normalised and teacher trains": (
        stage(prepare=lambda f: F.normalize(f, dim=1), teacher_mode=True),
        "The teacher runs in training mode",
    ),
    "not cleared": (stage(clear=False), "Gradients of earlier steps are never cleared"),
    "no step": (stage(step=False), "Gradients are cleared between backward() and step()"),
    "sum": (stage(loss=lambda a, b: F.mse_loss(a, b, reduction="sum")), "The squared errors are summed"),
    "l1": (stage(loss=F.l1_loss), "Absolute errors were taken"),
    "half": (stage(loss=lambda a, b: F.mse_loss(a, b) / 2), "The loss is half the mean squared error"),
    "Adam": (stage(make=torch.optim.Adam), "Another optimizer came"),
    "momentum": (stage(make=lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)), "Another optimizer came"),
    "weight decay": (
        stage(make=lambda p, lr: torch.optim.SGD(p, lr=lr, weight_decay=1e-2)),
        "The losses or the trained weights of your stage are not those of the r",
    ),
    "fixed rate": (stage(rate=0.01), "The learning rate `lr` is not used"),
    "first batch skipped": (stage(skip=1), "there are 7 batches"),
    "mean loss": (stage(give=lambda x: sum(x) / len(x)), "the losses of all 7 steps are needed"),
    "last loss": (stage(give=lambda x: x[-1]), "the losses of all 7 steps are needed"),
    "reversed": (stage(give=lambda x: x[::-1]), "These are the right numbers in another order"),
    "none": (stage(give=lambda x: None), "the losses of all 7 steps are needed"),
    "flattened normalised": (
        stage(prepare=lambda f: F.normalize(f.flatten(1), dim=1)),
        "The losses or the trained weights of your stage are not those of the r",
    ),
}


def push_by_parts(loss, parameters):
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return sum(g.pow(2).sum() for g in grads).sqrt()


def push_and_clean(loss, parameters):
    saved = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    loss.backward(retain_graph=True)
    total = sum(float(p.grad.double().pow(2).sum()) for p in parameters if p.grad is not None)
    for p, old in zip(parameters, saved):
        p.grad = old
    return total**0.5


def push_in_numpy(loss, parameters):
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return np.linalg.norm(np.concatenate([g.numpy().ravel() for g in grads if g is not None]))


def push(measure, **knobs):
    def run(loss, parameters):
        grads = torch.autograd.grad(loss, parameters, **{"retain_graph": True, "allow_unused": True, **knobs})
        return measure([g for g in grads if g is not None])

    return run


def push_leaves(loss, parameters):
    loss.backward(retain_graph=True)
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()


def push_leaves_cleared_before(loss, parameters):
    for p in parameters:
        p.grad = None
    return push_leaves(loss, parameters)


PUSH = {
    "sum of norms": (push(lambda g: sum(x.norm() for x in g)), "The lengths of the parts were added"),
    "mean of norms": (
        push(lambda g: torch.stack([x.norm() for x in g]).mean()),
        "The mean of the parts' lengths was taken",
    ),
    "squared": (push(lambda g: sum(x.pow(2).sum() for x in g)), "The length was squared"),
    "first": (push(lambda g: g[0].norm()), "Only the first parameter counts"),
    "last": (push(lambda g: g[-1].norm()), "Only the last parameter counts"),
    "largest entry": (push(lambda g: max(x.abs().max() for x in g)), "The largest entry came"),
    "l1": (push(lambda g: sum(x.abs().sum() for x in g)), "Absolute values were added up"),
    "mean of squares": (
        push(lambda g: torch.cat([x.flatten() for x in g]).pow(2).mean().sqrt()),
        "The squares were averaged",
    ),
    "signed sum": (push(lambda g: sum(x.sum() for x in g)), "The entries were added up"),
    "a list": (push(lambda g: [x.norm() for x in g]), ""),
    "graph freed": (push(lambda g: torch.cat([x.flatten() for x in g]).norm(), retain_graph=False), ""),
    "unused not allowed": (push(lambda g: torch.cat([x.flatten() for x in g]).norm(), allow_unused=False), ""),
    "backward": (push_leaves, "The second push contains the first"),
    "backward, cleared before": (push_leaves_cleared_before, "Gradients are left behind in .grad"),
    "the value": (lambda loss, parameters: loss.item(), "This is the value of the loss"),
    "of the weights": (
        lambda loss, parameters: torch.cat([p.flatten() for p in parameters]).norm(),
        "This is the length of the parameters",
    ),
    "spectral": (push(lambda g: sum(torch.linalg.matrix_norm(x, 2) ** 2 for x in g if x.ndim == 2).sqrt()), ""),
    "biases left out": (push(lambda g: torch.cat([x.flatten() for x in g if x.ndim > 1]).norm()), ""),
    "divided by parameters": (
        push(lambda g: torch.cat([x.flatten() for x in g]).norm() / sum(x.numel() for x in g)),
        "",
    ),
    "times loss": (lambda loss, p: push_by_parts(loss, p) * loss.item(), ""),
}


def resized_by_avg_pool(features, size):
    kernel = features.shape[2] // size[0], features.shape[3] // size[1]
    maps = F.avg_pool2d(features.pow(2).mean(1, keepdim=True), kernel).flatten(1)
    return maps / maps.norm(dim=1, keepdim=True)


def resized_by_unfold(features, size):
    h, w = features.shape[2] // size[0], features.shape[3] // size[1]
    blocks = features.pow(2).sum(1).unfold(1, h, h).unfold(2, w, w)
    return F.normalize(blocks.sum((-1, -2)).reshape(len(features), -1))


def resized_in_loops(features, size):
    b, _, high, wide = features.shape
    out = torch.zeros(b, *size, dtype=torch.float64)
    for i in range(high):
        for j in range(wide):
            out[:, i * size[0] // high, j * size[1] // wide] += features[:, :, i, j].double().pow(2).sum(1)
    out = out.reshape(b, -1)
    return out / out.square().sum(1, keepdim=True).sqrt()


def resized(energy=lambda f: f.pow(2).sum(1), pool=F.adaptive_avg_pool2d, scale=lambda m: F.normalize(m.flatten(1))):
    return lambda features, size: scale(pool(energy(features), size))


RESIZED = {
    "size ignored": (lambda f, size: map_by_einsum(f), "`size` is not used"),
    "pool, then square": (resized(energy=lambda f: f, pool=lambda f, s: F.adaptive_avg_pool2d(f, s).pow(2).sum(1)), "before they are squared"),
    "normalise, then pool": (
        lambda f, s: F.adaptive_avg_pool2d(map_by_einsum(f).unflatten(1, f.shape[2:]), s).flatten(1), "scaled to length 1 first"),
    "max pool": (resized(pool=F.adaptive_max_pool2d), "the strongest one was kept"),
    "strided": (resized(pool=lambda m, s: m[:, :: m.shape[1] // s[0], :: m.shape[2] // s[1]]), "the others were left out"),
    "cropped": (resized(pool=lambda m, s: m[:, : s[0], : s[1]]), "the others were left out"),
    "bilinear": (resized(pool=lambda m, s: F.interpolate(m[:, None], s, mode="bilinear")[:, 0]), "interpolated between positions"),
    "swapped": (resized(pool=lambda m, s: F.adaptive_avg_pool2d(m, s[::-1])), "Height and width are exchanged"),
    "no unit length": (resized(scale=lambda m: m.flatten(1)), "The maps are not normalised"),
    "abs": (resized(energy=lambda f: f.abs().sum(1)), "This is the map of absolute values"),
    "square of the sum": (resized(energy=lambda f: f.sum(1).pow(2)), "averaged first and squared afterwards"),
    "sum 1": (resized(scale=lambda m: m.flatten(1) / m.flatten(1).sum(1, keepdim=True)), "The entries sum to 1"),
    "picture": (resized(scale=lambda m: F.normalize(m.flatten(1)).unflatten(1, m.shape[1:])), "The map is still a picture"),
    "over images": (resized(scale=lambda m: F.normalize(m.flatten(1), dim=0)), "Each position is compared across the batch"),
    "median of the block": (
        resized(pool=lambda m, s: m.reshape(len(m), s[0], m.shape[1] // s[0], s[1], -1).transpose(2, 3).flatten(3).median(-1).values), ""),
    "in place": (lambda f, s: F.normalize(F.adaptive_avg_pool2d(f.pow_(2).sum(1), s).flatten(1)), "changes the tensor `f` in place"),
}  # fmt: skip
TASKS = {
    "map": (check_attention_map, MAP, [map_by_einsum, map_in_a_loop, map_in_numpy]),
    "resized map": (
        partial(check_attention_map, pooled=True),
        RESIZED,
        [resized_by_avg_pool, resized_by_unfold, resized_in_loops],
    ),
    "transfer": (check_attention_transfer_loss, TRANSFER, [transfer_with_mse, transfer_expanded, transfer_in_double]),
    "stage": (check_hint_stage, STAGE, [stage_right, stage_by_hand, stage_two_optimizers]),
    "push": (check_gradient_length, PUSH, [push_by_parts, push_and_clean, push_in_numpy]),
}
