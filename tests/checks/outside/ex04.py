"""Outside answers to exercise 04: relation distillation."""

# ruff: noqa: E501 (answers as learners write them)

import torch
import torch.nn.functional as F

from kdcourse.checks import check_angle_loss, check_distance_loss, check_similarity_loss


def huber_by_hand(a, b):
    d = (a - b).abs()
    return torch.where(d < 1, d * d / 2, d - 0.5).mean()


def safe_distances(x):
    square = (x[:, None] - x[None]).pow(2).sum(-1)
    zero = square == 0
    return (square + zero).sqrt().masked_fill(zero, 0.0)


def distance_by_hand(s, t):
    a, b = safe_distances(s), safe_distances(t.detach())
    return huber_by_hand(a / a[a > 0].mean(), b / b[b > 0].mean())


def distance_in_loops(s, t):
    def side(x):
        x = x.double()
        rows = [
            torch.stack([(a - b).norm() if i != j else a.sum() * 0 for j, b in enumerate(x)]) for i, a in enumerate(x)
        ]
        d = torch.stack(rows)
        return d / (d.sum() / (d != 0).sum())

    return F.huber_loss(side(s), side(t.detach()))


def distance_by_cdist(s, t):
    with torch.no_grad():
        b = torch.cdist(t, t, compute_mode="donot_use_mm_for_euclid_dist")
        b /= b[b > 0].mean()
    a = torch.cdist(s, s, compute_mode="donot_use_mm_for_euclid_dist")
    return F.smooth_l1_loss(a / (a.sum() / a.count_nonzero()), b)


def dist(measure=lambda x: torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist"), scale=lambda d: d[d > 0].mean(),
         loss=F.smooth_l1_loss, detach=True, s_scale=None):  # fmt: skip
    def f(s, t):
        t = t.detach() if detach else t
        a, b = measure(s), measure(t)
        return loss(a / (s_scale or scale)(a), b / scale(b))

    return f


DISTANCE = {
    "largest": (dist(scale=torch.max), "The distances are divided by the largest one"),
    "mean with the diagonal": (dist(scale=torch.mean), "The mean includes the B distances of samples to themselves"),
    "median": (dist(scale=lambda d: d[d > 0].median()), "The distances are divided by their median"),
    "no scale": (dist(scale=lambda d: 1), "Nothing is divided by the mean distance"),
    "scale for the teacher only": (dist(s_scale=lambda d: 1), "`t` has no effect on what f returns"),
    "scale detached": (dist(scale=lambda d: d[d > 0].mean().detach()), ""),
    "row means": (dist(scale=lambda d: d.mean(1, keepdim=True)), "Each row of distances is divided by its own mean"),
    "squared distances": (dist(measure=lambda x: (x[:, None] - x[None]).pow(2).sum(-1)), "Squared distances are compared"),
    "p = 1": (dist(measure=lambda x: torch.cdist(x, x, p=1)), "Absolute differences were added up (p = 1)"),
    "cosine distances": (dist(measure=lambda x: 1 - F.cosine_similarity(x[:, None], x[None], dim=-1)), ""),
    "unit embeddings": (lambda s, t: dist()(F.normalize(s), F.normalize(t)), "The embeddings were normalised first"),
    "mse": (dist(loss=F.mse_loss), "Squared errors came"),
    "l1": (dist(loss=F.l1_loss), "Absolute errors came"),
    "sum": (dist(loss=lambda a, b: F.smooth_l1_loss(a, b, reduction="sum")), "The loss is summed over the pairs"),
    "upper triangle": (dist(loss=lambda a, b: F.smooth_l1_loss(a.triu(), b.triu())), "Each pair counts once"),
    "off-diagonal mean": (dist(loss=lambda a, b: F.smooth_l1_loss(a, b, reduction="sum") / (len(a) * (len(a) - 1))), "The mean is over the B(B-1) pairs of different samples"),
    "no delta": (dist(loss=lambda a, b: F.huber_loss(a, b, delta=0.5)), ""),
    "teacher attached": (dist(detach=False), "A gradient reaches the teacher's side"),
    "student detached": (lambda s, t: dist()(s.detach(), t), "No gradient reaches the student's embeddings"),
    "rounding far away": (dist(measure=lambda x: (x.pow(2).sum(1)[:, None] + x.pow(2).sum(1) - 2 * x @ x.T).clamp_min(0).sqrt()), "Right near the origin and wrong far from it"),
    "infinite gradient": (dist(measure=lambda x: (x[:, None] - x[None]).pow(2).sum(-1).sqrt()), "The gradient is not finite"),
    "one row": (dist(loss=lambda a, b: F.smooth_l1_loss(a[0], b[0])), ""),
    "transposed": (dist(measure=lambda x: torch.cdist(x.T, x.T)), ""),
    "centred and divided by std": (dist(measure=lambda x: torch.cdist(x / x.std(), x / x.std()), scale=lambda d: 1), ""),
    "consecutive": (dist(measure=lambda x: (x[1:] - x[:-1]).norm(dim=1)), ""),
}  # fmt: skip


def similarity_by_hand(s, t):
    a, b = s.reshape(len(s), -1), t.detach().reshape(len(t), -1)
    g, h = a @ a.t(), b @ b.t()
    g, h = g / g.norm(dim=1, keepdim=True), h / h.norm(dim=1, keepdim=True)
    return torch.linalg.matrix_norm(g - h).pow(2) / len(s) ** 2


def similarity_by_einsum(s, t):
    g, h = (torch.einsum("ichw,jchw->ij", x.double(), x.double()) for x in (s, t.detach()))
    return F.mse_loss(F.normalize(g), F.normalize(h))


def similarity_by_rows(s, t):
    total = 0
    for i in range(len(s)):
        a = F.normalize((s[i] * s).flatten(1).sum(1), dim=0)
        b = F.normalize((t[i] * t).detach().flatten(1).sum(1), dim=0)
        total = total + (a - b).pow(2).sum()
    return total / len(s) ** 2


def sim(flat=lambda x: x.flatten(1), norm=F.normalize, loss=F.mse_loss, detach=True, gram=lambda x: x @ x.T):
    return lambda s, t: loss(norm(gram(flat(s))), norm(gram(flat(t.detach() if detach else t))))


SIMILARITY = {
    "no normalisation": (sim(norm=lambda g: g), "The rows of the product are not normalised"),
    "whole matrix": (sim(norm=lambda g: g / g.norm()), "The matrix was normalised as a whole"),
    "cosines": (
        sim(flat=lambda x: F.normalize(x.flatten(1)), norm=lambda g: g),
        "The samples were normalised before the product",
    ),
    "both": (sim(flat=lambda x: F.normalize(x.flatten(1))), "The samples were normalised before the product as well"),
    "l1 rows": (sim(norm=lambda g: F.normalize(g, p=1)), "The rows sum to 1 (a softmax or a sum of absolute values)"),
    "softmax rows": (sim(norm=lambda g: g.softmax(1)), "The rows sum to 1 (a softmax or a sum of absolute values)"),
    "by diagonal": (sim(norm=lambda g: g / g.diagonal()[:, None]), "The rows are divided by their largest number"),
    "sum": (sim(loss=lambda a, b: (a - b).pow(2).sum()), "The squares are summed over all B² entries"),
    "over B": (
        sim(loss=lambda a, b: (a - b).pow(2).sum() / len(a)),
        "The squares are summed in each row and averaged over rows",
    ),
    "norm": (sim(loss=lambda a, b: (a - b).norm()), "This is the norm of the difference"),
    "l1": (sim(loss=F.l1_loss), "Absolute differences came"),
    "huber": (sim(loss=F.smooth_l1_loss), "The Huber loss came"),
    "pooled": (sim(flat=lambda x: x.mean((2, 3))), "Positions were averaged away before the product"),
    "teacher attached": (sim(detach=False), "A gradient reaches the teacher's side"),
    "student detached": (lambda s, t: sim()(s.detach(), t), "No gradient reaches the student's embeddings"),
    "half": (sim(loss=lambda a, b: F.mse_loss(a, b) / 2), "The Huber loss came"),
    "distances": (sim(gram=lambda x: torch.cdist(x, x)), "Distances are compared"),
    "first image": (sim(loss=lambda a, b: F.mse_loss(a[0], b[0])), ""),
    "centred": (sim(flat=lambda x: x.flatten(1) - x.flatten(1).mean(0)), "The mean over samples was subtracted first"),
    "relu": (sim(flat=lambda x: x.flatten(1).relu()), "Negative numbers in `s` and `t` are replaced by 0"),
    "matrix per position": (
        sim(loss=lambda a, b: (a - b).pow(2).mean(1)),
        "One number for each row came where one is needed",
    ),
    "item": (lambda s, t: sim()(s, t).item(), "No gradient reaches the student's embeddings"),
    "channels": (sim(flat=lambda x: x.sum(1).flatten(1)), "Channels were averaged away before the product"),
}


def angles_by_loop(s, t):
    def cosines(x):
        out = []
        for i in range(len(x)):
            e = F.normalize(x - x[i], dim=1)
            out.append(e @ e.T)
        return torch.stack(out)

    return F.smooth_l1_loss(cosines(s), cosines(t.detach()))


def angles_by_einsum(s, t):
    def cosines(x):
        d = x[None] - x[:, None]
        square = d.pow(2).sum(-1, keepdim=True)
        e = d / torch.where(square > 0, square, 1.0).sqrt()
        return torch.einsum("ijd,ikd->ijk", e, e)

    return huber_by_hand(cosines(s), cosines(t.detach()))


def angles_in_double(s, t):
    def cosines(x):
        e = F.normalize(x.double().unsqueeze(0) - x.double().unsqueeze(1), p=2, dim=-1)
        return torch.bmm(e, e.transpose(1, 2))

    with torch.no_grad():
        target = cosines(t)
    return F.huber_loss(cosines(s), target)


def cos(x, norm=lambda d: F.normalize(d, dim=2)):
    e = norm(x[None] - x[:, None])
    return e @ e.mT


def angle(measure=cos, loss=F.smooth_l1_loss, detach=True):
    return lambda s, t: loss(measure(s), measure(t.detach() if detach else t))


ANGLE = {
    "gram": (angle(lambda x: x @ x.T), "These are still inner products of two samples"),
    "cosine similarity": (angle(lambda x: F.normalize(x) @ F.normalize(x).T, loss=F.mse_loss), "These are still inner products of two samples"),
    "divided by max": (angle(lambda x: (lambda g: g / g.max())(F.normalize(x) @ F.normalize(x).T), loss=F.mse_loss), "These are still inner products of two samples"),
    "centred cosines": (angle(lambda x: F.cosine_similarity((x - x.mean(0))[:, None], (x - x.mean(0))[None], dim=-1)), "These are still inner products of two samples"),
    "no unit": (angle(lambda x: cos(x, norm=lambda d: d)), "The directions are not of length 1, so these are inner products of dif"),
    "mse": (angle(loss=F.mse_loss), "Squared errors came"),
    "l1": (angle(loss=F.l1_loss), "Absolute errors came"),
    "sum": (angle(loss=lambda a, b: F.smooth_l1_loss(a, b, reduction="sum")), "The loss is summed over the triplets"),
    "radians": (angle(lambda x: cos(x).clamp(-1 + 1e-6, 1 - 1e-6).acos()), "Angles in radians were compared"),
    "wrong axis": (angle(lambda x: cos(x, norm=lambda d: F.normalize(d, dim=1))), "The directions are scaled along another axis than their own D numbers"),
    "unit embeddings": (angle(lambda x: cos(F.normalize(x))), "The embeddings were normalised first"),
    "nan": (angle(lambda x: cos(x, norm=lambda d: d / d.norm(dim=2, keepdim=True))), "The loss is not finite"),
    "teacher attached": (angle(detach=False), "A gradient reaches the teacher's side"),
    "student detached": (lambda s, t: angle()(s.detach(), t), "No gradient reaches the student's embeddings"),
    "first vertex": (angle(lambda x: cos(x)[0]), "Only one sample serves as the vertex"),
    "sum over vertices": (angle(loss=lambda a, b: F.smooth_l1_loss(a, b, reduction="none").mean((1, 2)).sum()), "The result is B times too large (B is the number of rows (images))"),
    "distinct triplets": (angle(loss=lambda a, b: F.smooth_l1_loss(a, b, reduction="sum") / (len(a) * (len(a) - 1) * (len(a) - 2))), "Only triplets of three different samples were counted"),
    "no huber": (angle(loss=lambda a, b: (a - b).pow(2).mean() / 2), "Half the squared error came"),
    "delta": (angle(loss=lambda a, b: F.smooth_l1_loss(a, b, beta=0.5)), ""),
    "abs": (angle(lambda x: cos(x).abs()), "The cosines lost their sign"),
    "distances": (angle(lambda x: torch.cdist(x, x)), ""),
    "transposed": (angle(lambda x: cos(x.T)), ""),
    "half the pairs": (angle(lambda x: cos(x).triu()), "The result is 2 times too small"),
    "sine": (angle(lambda x: (1 - cos(x) ** 2).clamp_min(1e-9).sqrt()), ""),
}  # fmt: skip
TASKS = {
    "distance": (check_distance_loss, DISTANCE, [distance_by_hand, distance_in_loops, distance_by_cdist]),
    "similarity": (check_similarity_loss, SIMILARITY, [similarity_by_hand, similarity_by_einsum, similarity_by_rows]),
    "angle": (check_angle_loss, ANGLE, [angles_by_loop, angles_by_einsum, angles_in_double]),
}
