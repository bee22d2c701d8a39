"""Outside answers to exercise 09: language."""

# ruff: noqa: B905 (answers as learners write them)

import math

import torch
import torch.nn.functional as F

from kdcourse.checks import check_layer_map, check_relation_loss, check_triple_loss


def heads_of(v, heads):
    B, L, D = v.shape
    return v.view(B, L, heads, D // heads).permute(0, 2, 1, 3)


def relations(v, real, heads, fill=-1e9, scale=True):
    v = heads_of(v, heads)
    s = torch.einsum("bhid,bhjd->bhij", v, v)
    if scale:
        s = s / math.sqrt(v.size(-1))
    if fill is not None:
        s = s.masked_fill((real == 0)[:, None, None, :], fill)
    return s


def text_by_text(s, t, real, heads):
    total, count = 0.0, 0
    for a, b, r in zip(s, t.detach(), real.bool()):
        if r.any():
            a, b = a[r], b[r]
            for h in range(heads):
                i, j = a.shape[1] // heads, b.shape[1] // heads
                va, vb = a[:, h * i : (h + 1) * i], b[:, h * j : (h + 1) * j]
                q = F.log_softmax(va @ va.T / i**0.5, dim=1)
                p = F.log_softmax(vb @ vb.T / j**0.5, dim=1)
                total = total + (p.exp() * (p - q)).sum()
                count += len(a)
    return total / count


def with_chunk(s, t, real, heads):
    q = torch.stack(
        [
            F.log_softmax((c @ c.mT / c.shape[-1] ** 0.5).masked_fill(real[:, None, :] == 0, -1e30), -1)
            for c in s.chunk(heads, -1)
        ],
        1,
    )
    with torch.no_grad():
        p = torch.stack(
            [
                F.softmax((c @ c.mT / c.shape[-1] ** 0.5).masked_fill(real[:, None, :] == 0, -1e30), -1)
                for c in t.chunk(heads, -1)
            ],
            1,
        )
    rows = F.kl_div(q, p, reduction="none").sum(-1)
    weight = real[:, None].expand_as(rows)
    return (rows * weight).sum() / weight.sum()


def with_where(s, t, real, heads):
    q = relations(s, real, heads).log_softmax(-1)
    p = relations(t.detach(), real, heads).softmax(-1)
    kl = torch.special.xlogy(p, p) - p * q
    kl = torch.where(real.bool()[:, None, :, None], kl, 0.0)
    return kl.sum() / (heads * real.sum())


def kl_of(s, t, real, heads, fill=-1e9, scale=True):
    q = relations(s, real, heads, fill, scale).log_softmax(-1)
    p = relations(t.detach(), real, heads, fill, scale).softmax(-1)
    return F.kl_div(q, p, reduction="none").sum(-1)  # (B, heads, L)


def batchmean(s, t, real, heads):
    q = relations(s, real, heads).log_softmax(-1)
    p = relations(t.detach(), real, heads).softmax(-1)
    return F.kl_div(q, p, reduction="batchmean")


def everything_mean(s, t, real, heads):
    q = relations(s, real, heads).log_softmax(-1)
    p = relations(t.detach(), real, heads).softmax(-1)
    return F.kl_div(q, p)


def teacher_learns(s, t, real, heads):
    q, p = relations(s, real, heads).log_softmax(-1), relations(t, real, heads).log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).transpose(1, 2)[real.bool()].mean()


def student_frozen(s, t, real, heads):
    return teacher_learns(s.detach(), t, real, heads)


def mean_first(s, t, real, heads):
    rows = kl_of(s, t, real, heads)
    return ((rows * real[:, None]).sum(-1) / real.sum(-1, keepdim=True)).mean()


def only_first_head(s, t, real, heads):
    return kl_of(s, t, real, heads)[:, 0][real.bool()].mean()


def by_full_width(s, t, real, heads):
    q = (relations(s, real, heads, scale=False) / s.shape[-1] ** 0.5).log_softmax(-1)
    p = (relations(t.detach(), real, heads, scale=False) / t.shape[-1] ** 0.5).log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).transpose(1, 2)[real.bool()].mean()


def by_students_width(s, t, real, heads):
    d = s.shape[-1] // heads
    q = (relations(s, real, heads, scale=False) / d**0.5).log_softmax(-1)
    p = (relations(t.detach(), real, heads, scale=False) / d**0.5).log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).transpose(1, 2)[real.bool()].mean()


def scores_mse(s, t, real, heads):
    q, p = relations(s, real, heads, None), relations(t.detach(), real, heads, None)
    pair = real[:, None, :, None] * real[:, None, None, :]
    return ((q - p).square() * pair).sum() / (pair.sum() * heads)


def last_text(s, t, real, heads):
    for i in range(len(s)):
        loss = kl_of(s[i : i + 1], t[i : i + 1], real[i : i + 1], heads)[:, :, real[i].bool()].mean()
    return loss


def first_text(s, t, real, heads):
    for i in range(len(s)):
        return kl_of(s[i : i + 1], t[i : i + 1], real[i : i + 1], heads)[:, :, real[i].bool()].mean()


def infinite(s, t, real, heads):
    return kl_of(s, t, real, heads, fill=-math.inf).transpose(1, 2)[real.bool()].mean()


def symmetric(s, t, real, heads):
    q, p = relations(s, real, heads).log_softmax(-1), relations(t.detach(), real, heads).log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1) + (q.exp() * (q - p)).sum(-1)
    return kl.transpose(1, 2)[real.bool()].mean() / 2


def view_at_once(s, t, real, heads):
    sides = []
    for v in (s, t.detach()):
        v = v.reshape(v.shape[0], heads, v.shape[1], -1)
        scores = (v @ v.mT / v.shape[-1] ** 0.5).masked_fill(real[:, None, None] == 0, -1e9)
        sides.append(scores.log_softmax(-1))
    q, p = sides
    return (p.exp() * (p - q)).sum(-1).transpose(1, 2)[real.bool()].mean()


def kd_words_cos(s, t, words, hs, ht, real, temperature):
    real, hidden = real.bool(), words != -100
    q, p = F.log_softmax(s[real] / temperature, -1), F.softmax(t[real].detach() / temperature, -1)
    kd = temperature**2 * F.kl_div(q, p, reduction="batchmean")
    mlm = F.cross_entropy(s[hidden], words[hidden]) if hidden.any() else (0 * s[real]).sum()
    cos = 1 - F.cosine_similarity(hs[real], ht[real].detach(), dim=-1).mean()
    return kd, mlm, cos


def if_any(s, t, words, hs, ht, real, *, temperature):
    kd, mlm, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    return 5 * kd + 2 * mlm + cos


def masked_sums(s, t, words, hs, ht, real, *, temperature):
    m = real.float()
    p = (t.detach() / temperature).softmax(-1)
    kd = (torch.special.xlogy(p, p) - p * (s / temperature).log_softmax(-1)).sum(-1)
    ce = F.cross_entropy(s.permute(0, 2, 1), words, reduction="none", ignore_index=-100)
    n = (words != -100).sum()
    dot = (F.normalize(hs, dim=-1) * F.normalize(ht.detach(), dim=-1)).sum(-1)
    return (
        5 * temperature**2 * (kd * m).sum() / m.sum() + 2 * ce.sum() / max(1, int(n)) + ((1 - dot) * m).sum() / m.sum()
    )


def token_by_token(s, t, words, hs, ht, real, *, temperature):
    kd = mlm = cos = 0.0
    tokens = masked = 0
    for b in range(s.shape[0]):
        for i in range(s.shape[1]):
            if real[b, i]:
                q, p = (s[b, i] / temperature).log_softmax(0), (t[b, i].detach() / temperature).log_softmax(0)
                kd = kd + (p.exp() * (p - q)).sum()
                cos = cos + 1 - F.cosine_similarity(hs[b, i], ht[b, i].detach(), dim=0)
                tokens += 1
            if words[b, i] >= 0:
                mlm = mlm - s[b, i].log_softmax(0)[words[b, i]]
                masked += 1
    return 5 * temperature**2 * kd / tokens + 2 * mlm / max(masked, 1) + cos / tokens


def broken(s, t, words, hs, ht, real, *, temperature):
    q, p = F.log_softmax(s / temperature, -1), F.softmax(t.detach() / temperature, -1)
    kd = F.kl_div(q, p, reduction="batchmean") * temperature**2
    mlm = F.cross_entropy(s.flatten(0, 1), words.flatten())
    cosine = 1 - F.cosine_similarity(hs, ht.detach(), dim=-1).mean()
    return 5 * kd + 2 * mlm + 0 * cosine


def weight_repaired_only(s, t, words, hs, ht, real, *, temperature):
    q, p = F.log_softmax(s / temperature, -1), F.softmax(t.detach() / temperature, -1)
    kd = F.kl_div(q, p, reduction="batchmean") * temperature**2
    return (
        5 * kd
        + 2 * F.cross_entropy(s.flatten(0, 1), words.flatten())
        + 1
        - F.cosine_similarity(hs, ht.detach(), dim=-1).mean()
    )


def cosine_left(s, t, words, hs, ht, real, *, temperature):
    kd, mlm, _ = kd_words_cos(s, t, words, hs, ht, real, temperature)
    return 5 * kd + 2 * mlm + 1 - F.cosine_similarity(hs, ht.detach(), dim=-1).mean()


def weight_left(s, t, words, hs, ht, real, *, temperature):
    kd, mlm, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    return 5 * kd + 2 * mlm + 0 * cos


def nan_left(s, t, words, hs, ht, real, *, temperature):
    kd, _, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    return 5 * kd + 2 * F.cross_entropy(s.flatten(0, 1), words.flatten()) + cos


def halves(s, t, words, hs, ht, real, *, temperature):
    kd, mlm, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    return 0.5 * kd + 0.5 * mlm + cos


def unweighted(s, t, words, hs, ht, real, *, temperature):
    return sum(kd_words_cos(s, t, words, hs, ht, real, temperature))


def averaged(s, t, words, hs, ht, real, *, temperature):
    return if_any(s, t, words, hs, ht, real, temperature=temperature) / 3


def no_t2(s, t, words, hs, ht, real, *, temperature):
    kd, mlm, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    return 5 * kd / temperature**2 + 2 * mlm + cos


def mlm_softened(s, t, words, hs, ht, real, *, temperature):
    kd, _, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    hidden = words != -100
    mlm = F.cross_entropy(s[hidden] / temperature, words[hidden], reduction="sum") / hidden.sum().clamp(min=1)
    return 5 * kd + 2 * mlm + cos


def mean_not_batchmean(s, t, words, hs, ht, real, *, temperature):
    _, mlm, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    keep = real.bool()
    kd = F.kl_div(
        F.log_softmax(s[keep] / temperature, -1), F.softmax(t[keep].detach() / temperature, -1), reduction="mean"
    )
    return 5 * temperature**2 * kd + 2 * mlm + cos


def t_teacher_grad(s, t, words, hs, ht, real, *, temperature):
    keep = real.bool()
    _, mlm, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    kd = F.kl_div(F.log_softmax(s[keep] / temperature, -1), F.softmax(t[keep] / temperature, -1), reduction="batchmean")
    return 5 * temperature**2 * kd + 2 * mlm + cos


def hidden_teacher_grad(s, t, words, hs, ht, real, *, temperature):
    keep = real.bool()
    kd, mlm, _ = kd_words_cos(s, t, words, hs, ht, real, temperature)
    return 5 * kd + 2 * mlm + 1 - F.cosine_similarity(hs[keep], ht[keep], dim=-1).mean()


def item(s, t, words, hs, ht, real, *, temperature):
    return if_any(s, t, words, hs, ht, real, temperature=temperature).item()


def with_view(s, t, words, hs, ht, real, *, temperature):
    kd, _, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    flat = s.view(-1, s.shape[-1])
    total = F.cross_entropy(flat, words.view(-1), reduction="sum")
    return 5 * kd + 2 * total / (words != -100).sum().clamp(min=1) + cos


def kd_on_hidden(s, t, words, hs, ht, real, *, temperature):
    _, mlm, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    keep = words != -100
    kd = F.kl_div(
        F.log_softmax(s[keep] / temperature, -1), F.softmax(t[keep].detach() / temperature, -1), reduction="sum"
    )
    return 5 * temperature**2 * kd / keep.sum().clamp(min=1) + 2 * mlm + cos


def returns_terms(s, t, words, hs, ht, real, *, temperature):
    kd, mlm, cos = kd_words_cos(s, t, words, hs, ht, real, temperature)
    return {"kd": 5 * kd, "mlm": 2 * mlm, "cosine": cos}


def refuse(function):
    def guarded(student_blocks, teacher_blocks):
        if student_blocks > teacher_blocks:
            raise ValueError("too deep")
        return function(student_blocks, teacher_blocks)

    guarded.__name__ = function.__name__
    return guarded


@refuse
def by_floor(s, t):
    return {i: math.floor(i * t / s + 1 / 2) for i in range(1, s + 1)}


@refuse
def in_integers(s, t):
    result = {}
    for i in range(1, s + 1):
        result[i] = (2 * i * t + s) // (2 * s)
    return result


@refuse
def by_nearest(s, t):
    return {i: max(range(1, t + 1), key=lambda b: (-abs(b * s - i * t), b)) for i in range(1, s + 1)}


def unrefused(s, t):
    return {i: int(i * t / s + 0.5) for i in range(1, s + 1)}


def asserted(s, t):
    assert s <= t
    return unrefused(s, t)


@refuse
def floats(s, t):
    return {i: float(int(i * t / s + 0.5)) for i in range(1, s + 1)}


@refuse
def tensors(s, t):
    return {i: torch.tensor(i * t / s + 0.5).floor() for i in range(1, s + 1)}


TASKS = {
    "relations": (
        check_relation_loss,
        {
            "batchmean": (batchmean, "noise"),
            "mean of everything": (everything_mean, "columns"),
            "rows of padding": (lambda s, t, real, heads: kl_of(s, t, real, heads).mean(), "Rows of padding count"),
            "count of all": (
                lambda s, t, real, heads: (kl_of(s, t, real, heads) * real[:, None]).mean(),
                "count does not",
            ),
            "unmasked": (
                lambda s, t, real, heads: kl_of(s, t, real, heads, fill=None).transpose(1, 2)[real.bool()].mean(),
                "Padding is among",
            ),
            "filled with 0": (
                lambda s, t, real, heads: kl_of(s, t, real, heads, fill=0.0).transpose(1, 2)[real.bool()].mean(),
                "set to 0",
            ),
            "infinite": (infinite, "not finite"),
            "no scale": (
                lambda s, t, real, heads: kl_of(s, t, real, heads, scale=False).transpose(1, 2)[real.bool()].mean(),
                "√d",
            ),
            "scale of the full width": (by_full_width, "whole vector"),
            "scale of the student": (by_students_width, "of its own"),
            "one head": (lambda s, t, real, heads: text_by_text(s, t, real, 1), "not split"),
            "only first head": (only_first_head, "first head"),
            "view at once": (view_at_once, "mixes tokens and heads"),
            "reversed": (lambda s, t, real, heads: text_by_text(t, s, real, heads), "turned round"),
            "symmetric": (symmetric, ""),
            "scores": (scores_mse, ""),
            "mean of means": (mean_first, "averaged first"),
            "sum": (lambda s, t, real, heads: text_by_text(s, t, real, heads) * real.sum() * heads, "added up"),
            "sum over heads": (lambda s, t, real, heads: text_by_text(s, t, real, heads) * heads, "heads are added up"),
            "last text": (last_text, ""),
            "first text": (first_text, ""),
            "teacher learns": (teacher_learns, "A gradient reaches the teacher"),
            "student frozen": (student_frozen, "No gradient"),
            "cosines": (
                lambda s, t, real, heads: text_by_text(
                    *(F.normalize(heads_of(v, heads), dim=-1).transpose(1, 2).flatten(2) for v in (s, t)), real, heads
                ),
                "length 1",
            ),
            "root": (lambda s, t, real, heads: text_by_text(s, t, real, heads).sqrt(), "square root"),
            "a number": (lambda s, t, real, heads: text_by_text(s, t, real, heads).item(), "plain number"),
        },
        [text_by_text, with_chunk, with_where],
    ),
    "triple": (
        check_triple_loss,
        {
            "as it was": (broken, "number of texts"),
            "weight repaired only": (weight_repaired_only, "number of texts"),
            "cosine left": (cosine_left, "cosine runs over padding"),
            "weight left": (weight_left, "two terms"),
            "NaN left": (nan_left, "trap 69"),
            "halves": (halves, "weights are others"),
            "unweighted": (unweighted, "weights are others"),
            "averaged": (averaged, "divided"),
            "no T²": (no_t2, "T² is missing"),
            "words softened": (mlm_softened, "T = 1"),
            "mean of cells": (mean_not_batchmean, "words of the vocabulary"),
            "teacher's logits learn": (t_teacher_grad, "A gradient reaches the teacher"),
            "teacher's states learn": (hidden_teacher_grad, "A gradient reaches the teacher"),
            "a number": (item, "plain number"),
            "with view": (with_view, ""),
            "kd on hidden words": (kd_on_hidden, "hidden words only"),
            "a dict": (returns_terms, "dict"),
            "reversed": (
                lambda s, t, w, hs, ht, real, *, temperature: (
                    5 * kd_words_cos(t, s, w, hs, ht, real, temperature)[0]
                    + 2 * kd_words_cos(s, t, w, hs, ht, real, temperature)[1]
                    + kd_words_cos(s, t, w, hs, ht, real, temperature)[2]
                ),
                "turned round",
            ),
            "cosine added": (
                lambda s, t, w, hs, ht, real, *, temperature: (
                    if_any(s, t, w, hs, ht, real, temperature=temperature)
                    + 1
                    - 2 * kd_words_cos(s, t, w, hs, ht, real, temperature)[2]
                ),
                "turns the student away",
            ),
            "cosine forgotten": (
                lambda s, t, w, hs, ht, real, *, temperature: (
                    5 * kd_words_cos(s, t, w, hs, ht, real, temperature)[0]
                    + 2 * kd_words_cos(s, t, w, hs, ht, real, temperature)[1]
                ),
                "two terms",
            ),
            "words forgotten": (
                lambda s, t, w, hs, ht, real, *, temperature: (
                    5 * kd_words_cos(s, t, w, hs, ht, real, temperature)[0]
                    + kd_words_cos(s, t, w, hs, ht, real, temperature)[2]
                ),
                "hidden words are missing",
            ),
            "T once": (
                lambda s, t, w, hs, ht, real, *, temperature: (
                    5 * kd_words_cos(s, t, w, hs, ht, real, temperature)[0] / temperature
                    + 2 * kd_words_cos(s, t, w, hs, ht, real, temperature)[1]
                    + kd_words_cos(s, t, w, hs, ht, real, temperature)[2]
                ),
                "where T² is needed",
            ),
        },
        [if_any, masked_sums, token_by_token],
    ),
    "map": (
        check_layer_map,
        {
            "not refused": (unrefused, "Raise a ValueError"),
            "asserted": (asserted, "AssertionError"),
            "floats": (floats, "must be whole"),
            "tensors": (tensors, ""),
            "round": (refuse(lambda s, t: {i: round(i * t / s) for i in range(1, s + 1)}), "Halves"),
            "floor": (refuse(lambda s, t: {i: i * t // s for i in range(1, s + 1)}), "rounded down"),
            "ceil": (refuse(lambda s, t: {i: math.ceil(i * t / s) for i in range(1, s + 1)}), "rounded up"),
            "whole quotient": (refuse(lambda s, t: {i: i * (t // s) for i in range(1, s + 1)}), "made whole"),
            "rounded quotient": (refuse(lambda s, t: {i: i * round(t / s) for i in range(1, s + 1)}), "rounded before"),
            "from 0": (refuse(lambda s, t: {i: int((i + 1) * t / s + 0.5) - 1 for i in range(s)}), "counted from 0"),
            "from 0, plain": (refuse(lambda s, t: {i: int(i * t / s + 0.5) for i in range(s)}), "counted from 0"),
            "one more": (refuse(lambda s, t: {i: int(i * t / s + 0.5) for i in range(s + 1)}), "embeddings"),
            "a list": (refuse(lambda s, t: [int(i * t / s + 0.5) for i in range(1, s + 1)]), "list"),
            "last blocks": (refuse(lambda s, t: {i: t - s + i for i in range(1, s + 1)}), "last blocks"),
            "first blocks": (refuse(lambda s, t: {i: i for i in range(1, s + 1)}), "first blocks"),
            "reversed": (refuse(lambda s, t: {int(i * t / s + 0.5): i for i in range(1, s + 1)}), "exchanged"),
            "spread": (
                refuse(lambda s, t: {i: int(x + 0.5) for i, x in enumerate(torch.linspace(1, t, s).tolist(), 1)}),
                "first blocks meet",
            ),
            "hidden states": (
                refuse(lambda s, t: {i: int(i * (t + 1) / (s + 1) + 0.5) for i in range(1, s + 1)}),
                "embeddings",
            ),
            "none": (lambda s, t: None, "None"),
        },
        [by_floor, in_integers, by_nearest],
    ),
}
