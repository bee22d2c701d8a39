"""Outside answers to exercise 02: soft targets."""

# ruff: noqa: B905, E501 (answers as learners write them)

import math
import statistics

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import check_kd_loss, check_padded_kd_loss, check_paired_interval, check_repaired_loss
from kdcourse.losses import kd_loss


def by_cross_entropy(s, t, *, temperature):
    p = F.softmax(t.detach().double() / temperature, 1)
    ce = F.cross_entropy(s.double() / temperature, p)
    return (ce - torch.special.entr(p).sum(1).mean()) * temperature**2


def in_a_loop(s, t, *, temperature):
    total = 0
    for a, b in zip(s, t.detach()):
        log_q, log_p = torch.log_softmax(a / temperature, 0), torch.log_softmax(b / temperature, 0)
        for i in range(len(a)):
            total = total + log_p[i].exp() * (log_p[i] - log_q[i])
    return temperature * temperature * total / len(s)


def with_distributions(s, t, *, temperature):
    q = torch.distributions.Categorical(logits=s / temperature)
    p = torch.distributions.Categorical(logits=t.detach() / temperature)
    return torch.distributions.kl_divergence(p, q).mean() * temperature**2


def last_image(s, t, *, temperature):
    for a, b in zip(s, t.detach()):
        loss = F.kl_div(
            F.log_softmax(a / temperature, 0), F.log_softmax(b / temperature, 0), reduction="sum", log_target=True
        )
    return temperature**2 * loss


def first_image(s, t, *, temperature):
    for a, b in zip(s, t.detach()):
        kl = F.kl_div(
            F.log_softmax(a / temperature, 0), F.log_softmax(b / temperature, 0), reduction="sum", log_target=True
        )
        return temperature**2 * kl


def no_grad(s, t, *, temperature):
    with torch.no_grad():
        return kd_loss(s, t, temperature=temperature)


def in_numpy(s, t, *, temperature):
    return torch.tensor(kd_loss(s.detach(), t, temperature=temperature).item())


def attached(s, t, *, temperature):
    log_q, log_p = F.log_softmax(s / temperature, 1), F.log_softmax(t / temperature, 1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def kl(s, t, T, *, T_s=None, T_t=None, reduction="batchmean"):
    log_q, log_p = F.log_softmax(s / (T_s or T), 1), F.log_softmax(t.detach() / (T_t or T), 1)
    return F.kl_div(log_q, log_p, reduction=reduction, log_target=True)


KD = {
    "no T²": (lambda s, t, *, temperature: kl(s, t, temperature), "The loss is T² times too small"),
    "T² as 2T": (lambda s, t, *, temperature: 2 * temperature * kl(s, t, temperature), ""),
    "T to the fourth": (lambda s, t, *, temperature: temperature**4 * kl(s, t, temperature), "The result is T² times too large"),
    "divided by T²": (lambda s, t, *, temperature: kl(s, t, temperature) / temperature**2, "The result is T⁴ times too small"),
    "half": (lambda s, t, *, temperature: 0.5 * temperature**2 * kl(s, t, temperature), "The result is 2 times too small"),
    "T on the student only": (lambda s, t, *, temperature: temperature**2 * kl(s, t, temperature, T_t=1), "Only the student is softened"),
    "T on the teacher only": (lambda s, t, *, temperature: temperature**2 * kl(s, t, temperature, T_s=1), "Only the teacher is softened"),
    "T unused": (lambda s, t, *, temperature: kl(s, t, 1), "has no effect on the softmax"),
    "T unused but for T²": (lambda s, t, *, temperature: temperature**2 * kl(s, t, 1), "has no effect on the softmax"),
    "T² inside": (lambda s, t, *, temperature: temperature**2 * kl(s, t, temperature**2), "T divides twice"),
    "default reduction": (lambda s, t, *, temperature: temperature**2 * kl(s, t, temperature, reduction="mean"), "The loss is K times too small"),
    "sum": (lambda s, t, *, temperature: temperature**2 * kl(s, t, temperature, reduction="sum"), "The loss is summed over the batch"),
    "sum without T²": (lambda s, t, *, temperature: kl(s, t, temperature, reduction="sum"), "The loss is summed over the batch"),
    "swapped": (lambda s, t, *, temperature: temperature**2 * kl(t, s, temperature), "This is KL(student‖teacher)"),
    "softmax before": (lambda s, t, *, temperature: temperature**2 * kl(s.softmax(1), t.softmax(1), temperature), "A softmax of `s` and `t` is taken before it is used"),
    "softmax before, on the teacher": (lambda s, t, *, temperature: temperature**2 * kl(s, t.softmax(1), temperature), "A softmax of `t` is taken before it is used"),
    "negative": (lambda s, t, *, temperature: -(temperature**2) * kl(s, t, temperature), "The sign is turned round"),
    "mean squared error of softened": (
        lambda s, t, *, temperature: F.mse_loss((s / temperature).softmax(1), (t / temperature).softmax(1)), ""),
    "the last image": (last_image, "Only the last row (image) of the batch counts"),
    "the first image": (first_image, "Only the first row (image) of the batch counts"),
    "no_grad": (no_grad, "No gradient reaches the student's logits"),
    "a number from numpy": (in_numpy, "No gradient reaches the student's logits"),
    "item": (lambda s, t, *, temperature: kd_loss(s, t, temperature=temperature).item(), "No gradient reaches the student's logits"),
    "teacher attached": (attached, "A gradient reaches the teacher's logits"),
    "epsilon": (lambda s, t, *, temperature: (lambda q, p: temperature**2 * (p * ((p + 1e-7) / (q + 1e-7)).log()).sum(1).mean())(
        (s / temperature).softmax(1), (t.detach() / temperature).softmax(1)), ""),
    "clamped logits": (lambda s, t, *, temperature: kd_loss(s.clamp(-20, 20), t.clamp(-20, 20), temperature=temperature), "For a teacher that is very sure the loss is wrong"),
    "centred wrongly": (lambda s, t, *, temperature: kd_loss(s - s.mean(0), t - t.mean(0), temperature=temperature), "The mean of each column of `s` and `t` is subtracted first"),
    "labels from the teacher": (lambda s, t, *, temperature: F.cross_entropy(s, t.argmax(1)), "Only the teacher's most probable class counts"),
    "plus cross-entropy": (
        lambda s, t, *, temperature: kd_loss(s, t, temperature=temperature) + F.cross_entropy(s, t.argmax(1)), ""),
    "in place": (lambda s, t, *, temperature: kd_loss(s, t.div_(temperature), temperature=temperature), "changes the tensor `t` in place"),
}  # fmt: skip


def repaired_by_hand(s, t, y, *, temperature, alpha):
    log_q = (s / temperature).log_softmax(1)
    p = (t.detach() / temperature).softmax(1)
    soft = (torch.xlogy(p, p) - p * log_q).sum() / len(s) * temperature**2
    hard = -s.log_softmax(1)[range(len(y)), y].mean()
    return hard + alpha * (soft - hard)


def repaired_one_hot(s, t, y, *, temperature, alpha):
    target = F.one_hot(y, s.shape[1]).to(s.dtype)
    return alpha * by_cross_entropy(s, t, temperature=temperature) + (1 - alpha) * F.cross_entropy(s, target)


def repaired_in_place_on_a_copy(s, t, y, *, temperature, alpha):
    teacher = t.detach().clone()
    teacher /= temperature
    soft = F.kl_div(F.log_softmax(s / temperature, 1), teacher.log_softmax(1), log_target=True, reduction="none")
    return alpha * temperature**2 * soft.sum(1).mean() + (1 - alpha) * F.nll_loss(s.log_softmax(1), y)


def mix(soft=kd_loss, hard=F.cross_entropy, a=lambda alpha: alpha, b=lambda alpha: 1 - alpha):
    def loss(s, t, y, *, temperature, alpha):
        return a(alpha) * soft(s, t, temperature=temperature) + b(alpha) * hard(s, y)

    return loss


REPAIRED = {
    "α on both": (mix(b=lambda alpha: alpha), "The labels' term has the weight α"),
    "1 − α on both": (mix(a=lambda alpha: 1 - alpha), "The teacher's term has the weight 1 − α"),
    "labels with weight 1": (mix(b=lambda alpha: 1), "The labels' term has the weight 1, asked for is 1 − α"),
    "teacher with weight 1": (mix(a=lambda alpha: 1), "The teacher's term has the weight 1, asked for is α"),
    "no weights": (mix(a=lambda alpha: 1, b=lambda alpha: 1), "The two terms are added without weights"),
    "halves": (mix(a=lambda alpha: 0.5, b=lambda alpha: 0.5), "has no effect: a half stands in its place"),
    "swapped": (mix(a=lambda alpha: 1 - alpha, b=lambda alpha: alpha), "α is on the wrong term"),
    "α squared": (mix(a=lambda alpha: alpha**2), "The teacher's term has the weight α²"),
    "labels missing": (mix(b=lambda alpha: 0), "The labels' term is missing"),
    "teacher missing": (mix(a=lambda alpha: 0), "The teacher's term is missing"),
    "no T²": (mix(soft=lambda s, t, temperature: kl(s, t, temperature)), "The loss is T² times too small"),
    "T⁴": (mix(soft=lambda s, t, temperature: temperature**4 * kl(s, t, temperature)), "The teacher's term has the weight α · T²"),
    "mean": (mix(soft=lambda s, t, temperature: temperature**2 * kl(s, t, temperature, reduction="mean")), "The loss is K times too small"),
    "sum": (mix(soft=lambda s, t, temperature: temperature**2 * kl(s, t, temperature, reduction="sum")), "The loss is summed over the batch"),
    "reverse": (mix(soft=lambda s, t, temperature: temperature**2 * kl(t, s, temperature)), "This is KL(student‖teacher)"),
    "T on one side": (mix(soft=lambda s, t, temperature: temperature**2 * kl(s, t, temperature, T_s=1)), "Only the teacher is softened"),
    "labels summed": (mix(hard=lambda s, y: F.cross_entropy(s, y, reduction="sum")), "The labels' term has the weight (1 − α) · B, asked for is 1 − α"),
    "softmax before cross_entropy": (mix(hard=lambda s, y: F.cross_entropy(s.softmax(1), y)), "In the labels' term"),
    "labels smoothed": (mix(hard=lambda s, y: F.cross_entropy(s, y, label_smoothing=0.1)), ""),
    "labels rolled": (mix(hard=lambda s, y: F.cross_entropy(s, y.roll(1))), "`y` are moved by one"),
    "labels of the teacher": (lambda s, t, y, **k: mix()(s, t, t.argmax(1), **k), "`y` has no effect on what <lambda> returns"),
    "teacher attached": (mix(soft=attached), "A gradient reaches the teacher's logits"),
    "student detached in the soft term": (mix(soft=lambda s, t, temperature: kd_loss(s.detach(), t, temperature=temperature)), "has the right value"),
    "student detached in the hard term": (mix(hard=lambda s, y: F.cross_entropy(s.detach(), y)), "has the right value"),
    "per image": (mix(hard=lambda s, y: F.cross_entropy(s, y, reduction="none")), "One number for each row came where one is needed"),
    "nll of probabilities": (mix(hard=lambda s, y: F.nll_loss(s.softmax(1), y)), ""),
    "negative": (lambda *a, **k: -mix()(*a, **k), "The sign is turned round"),
}  # fmt: skip
STUDENT_T = {2: 12.706, 3: 4.3027, 4: 3.1824, 5: 2.7764, 6: 2.5706, 7: 2.4469, 8: 2.3646}


def interval_by_statistics(errors, baseline_errors):
    d = [a - b for a, b in zip(errors, baseline_errors)]
    m = statistics.fmean(d)
    h = STUDENT_T[len(d)] * statistics.stdev(d) / len(d) ** 0.5
    return [m, m - h, m + h]


def interval_in_numpy(errors, baseline_errors):
    d = np.subtract(errors, baseline_errors)
    h = STUDENT_T[d.size] * np.std(d, ddof=1) / np.sqrt(d.size)
    return np.mean(d), np.mean(d) - h, np.mean(d) + h


def interval_by_hand(errors, baseline_errors):
    n = len(errors)
    d = [errors[i] - baseline_errors[i] for i in range(n)]
    m = sum(d) / n
    var = sum((x - m) ** 2 for x in d) / (n - 1)
    h = STUDENT_T[n] * math.sqrt(var / n)
    return torch.tensor([m, m - h, m + h], dtype=torch.float64)


def interval(
    center=np.mean,
    spread=lambda d: np.std(d, ddof=1),
    t=lambda n: STUDENT_T[n],
    over=math.sqrt,
    pairs=np.subtract,
    order=(0, 1, 2),
):
    def f(errors, baseline_errors):
        d = pairs(np.array(errors), np.array(baseline_errors))
        h = t(len(d)) * spread(d) / over(len(d))
        three = [center(d), center(d) - h, center(d) + h]
        return tuple(three[i] for i in order)

    return f


def sorts_in_place(errors, baseline_errors):
    result = interval()(errors, baseline_errors)
    errors.sort()
    return result


INTERVAL = {
    "baseline minus method": (interval(pairs=lambda a, b: b - a), "The sign is turned round"),
    "n - 1 for t": (interval(t=lambda n: STUDENT_T[n - 1] if n > 2 else 12.7), "The t is that of one seed fewer"),
    "normal": (interval(t=lambda n: 1.96), "1.96 is for many seeds"),
    "no t": (interval(t=lambda n: 1), "The ends are one standard error away"),
    "t of 5": (interval(t=lambda n: 2.7764), "The t is the same for every number of seeds"),
    "ddof": (interval(spread=np.std), "The deviation is divided by n where n - 1 is needed (ddof=1, correctio"),
    "not divided": (interval(over=lambda n: 1), "The interval is that of single runs"),
    "divided by n": (interval(over=lambda n: n), "The deviation is divided by n"),
    "variance": (interval(spread=lambda d: np.var(d, ddof=1)), "The variance stands where the standard deviation belongs"),
    "spread of errors": (lambda a, b: interval(spread=lambda d: np.std(a, ddof=1))(a, b), "The two columns were treated as if they had nothing to do with each ot"),
    "spread of baseline": (lambda a, b: interval(spread=lambda d: np.std(b, ddof=1))(a, b), "The two columns were treated as if they had nothing to do with each ot"),
    "sorted": (interval(pairs=lambda a, b: np.sort(a) - np.sort(b)), "Both lists were sorted"),
    "relative": (interval(pairs=lambda a, b: a / b - 1), "The differences are divided by the baseline"),
    "absolute": (interval(pairs=lambda a, b: np.abs(a - b)), "Absolute differences were taken"),
    "median": (interval(center=np.median), "The median was taken"),
    "range": (lambda a, b: (np.mean(np.subtract(a, b)), np.min(np.subtract(a, b)), np.max(np.subtract(a, b))), "These are the smallest and the largest difference"),
    "low, mean, high": (interval(order=(1, 0, 2)), "These are the right numbers in another order"),
    "mean, high, low": (interval(order=(0, 2, 1)), "These are the right numbers in another order"),
    "ends only": (interval(order=(1, 2)), ""),
    "half width": (lambda a, b: (lambda m, low, high: (m, high - m, high - m))(*interval()(a, b)), "These are half widths of the interval"),
    "whole width": (interval(t=lambda n: 2 * STUDENT_T[n]), "The interval is twice as wide as it should be"),
    "one seed left out": (lambda a, b: interval()(a[:-1], b[:-1]), "The last element of `a` and `b` is left out"),
    "input sorted in place": (sorts_in_place, "changes the order of the list `errors`"),
    "mean absolute deviation": (interval(spread=lambda d: np.mean(np.abs(d - d.mean()))), ""),
}  # fmt: skip


def padded_by_sentences(student_logits, teacher_logits, mask, *, temperature):
    losses = []
    for s, t, m in zip(student_logits, teacher_logits.detach(), mask):
        for place in range(len(m)):
            if m[place]:
                losses.append(by_cross_entropy(s[place][None], t[place][None], temperature=temperature))
    return torch.stack(losses).mean()


def padded_weights(student_logits, teacher_logits, mask, *, temperature):
    w = mask.float() / mask.float().sum()
    q = torch.log_softmax(student_logits / temperature, 2)
    with torch.no_grad():
        p = torch.log_softmax(teacher_logits / temperature, 2)
    return temperature**2 * torch.einsum("bl,blk->", w, p.exp() * (p - q))


def padded_masked_select(student_logits, teacher_logits, mask, *, temperature):
    k = student_logits.shape[-1]
    s = torch.masked_select(student_logits, mask.unsqueeze(-1)).view(-1, k)
    t = torch.masked_select(teacher_logits, mask.unsqueeze(-1)).view(-1, k).detach()
    return (
        F.kl_div((s / temperature).log_softmax(1), (t / temperature).log_softmax(1), log_target=True, reduction="sum")
        / len(s)
        * temperature**2
    )


def tokens(s, t, temperature):
    return F.kl_div(F.log_softmax(s / temperature, -1), F.softmax(t.detach() / temperature, -1), reduction="none")


PADDED = {
    "default reduction": (lambda s, t, m, *, temperature: temperature**2 * tokens(s, t, temperature)[m].mean(), "The loss is K times too small"),
    "batchmean without mask": (lambda s, t, m, *, temperature: temperature**2 * tokens(s, t, temperature).sum() / len(s), ""),
    "no mask": (lambda s, t, m, *, temperature: temperature**2 * tokens(s, t, temperature).sum(-1).mean(), "the mask has no effect"),
    "masked mean": (lambda s, t, m, *, temperature: temperature**2 * (tokens(s, t, temperature).sum(-1) * m).mean(), "Padding is counted in the mean"),
    "zeroed logits": (lambda s, t, m, *, temperature: temperature**2 * tokens(s * m[..., None], t * m[..., None], temperature).sum(-1).mean(), "Padding is counted in the mean"),
    "student zeroed": (lambda s, t, m, *, temperature: temperature**2 * tokens(s * m[..., None], t, temperature).sum() / m.sum(), "Only one of the two is set to 0"),
    "sum over sentences": (lambda s, t, m, *, temperature: temperature**2 * (tokens(s, t, temperature).sum(-1) * m).sum(1).mean(), "divided by the number of sentences"),
    "sentence means": (lambda s, t, m, *, temperature: temperature**2 * torch.stack([tokens(a, b, temperature)[c].sum(-1).mean() for a, b, c in zip(s, t, m)]).mean(), "Each sentence is averaged first"),
    "inverted": (lambda s, t, m, *, temperature: temperature**2 * tokens(s, t, temperature).sum(-1)[~m].mean(), "The mask is turned round"),
    "no T²": (lambda s, t, m, *, temperature: tokens(s, t, temperature).sum(-1)[m].mean(), "The loss is T² times too small"),
    "half": (lambda s, t, m, *, temperature: temperature**2 * tokens(s, t, temperature).sum(-1)[m].mean() / 2, "The result is 2 times too small"),
    "T⁴": (lambda s, t, m, *, temperature: temperature**4 * tokens(s, t, temperature).sum(-1)[m].mean(), "The result is T² times too large"),
    "T unused": (lambda s, t, m, *, temperature: temperature**2 * tokens(s, t, 1).sum(-1)[m].mean(), ""),
    "swapped": (lambda s, t, m, *, temperature: kd_loss(t[m], s[m], temperature=temperature), "This is KL(student‖teacher)"),
    "negative": (lambda s, t, m, *, temperature: -kd_loss(s[m], t[m], temperature=temperature), "The sign is turned round"),
    "attached": (lambda s, t, m, *, temperature: attached(s[m], t[m], temperature=temperature), "A gradient reaches the teacher's logits"),
    "first sentence": (lambda s, t, m, *, temperature: kd_loss(s[0][m[0]], t[0][m[0]], temperature=temperature), ""),
    "last in the loop": (lambda s, t, m, *, temperature: [kd_loss(a[c], b[c], temperature=temperature) for a, b, c in zip(s, t, m)][-1], ""),
    "vector": (lambda s, t, m, *, temperature: temperature**2 * tokens(s, t, temperature).sum(-1)[m], "One value per position"),
    "nan_to_num": (lambda s, t, m, *, temperature: (lambda q, p: temperature**2 * torch.nan_to_num(p * (p.log() - q.log())).sum(-1)[m].mean())(
        (s / temperature).softmax(-1), (t.detach() / temperature).softmax(-1)), ""),
}  # fmt: skip
TASKS = {
    "padded": (check_padded_kd_loss, PADDED, [padded_by_sentences, padded_weights, padded_masked_select]),
    "kd_loss": (check_kd_loss, KD, [by_cross_entropy, in_a_loop, with_distributions]),
    "repaired": (check_repaired_loss, REPAIRED, [repaired_by_hand, repaired_one_hot, repaired_in_place_on_a_copy]),
    "interval": (check_paired_interval, INTERVAL, [interval_by_statistics, interval_in_numpy, interval_by_hand]),
}
