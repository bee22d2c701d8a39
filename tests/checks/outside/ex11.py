"""Outside answers to exercise 11: modern distillation."""

# ruff: noqa: E501, E741 (answers as learners write them)

import torch
import torch.nn.functional as F

from kdcourse.checks import check_drawn_kl, check_token_mean, check_writing_step


def drawn_with_distribution(student_logits, teacher_logits, tokens, real):
    q = torch.distributions.Categorical(logits=student_logits)
    p = torch.distributions.Categorical(logits=teacher_logits.detach())
    ratio = p.log_prob(tokens) - q.log_prob(tokens)
    est = torch.exp(ratio) - ratio - 1.0
    return torch.masked_select(est, real).mean()


def drawn_with_one_hot(student_logits, teacher_logits, tokens, real):
    hot = F.one_hot(tokens, student_logits.size(-1)).float()
    lq = (F.log_softmax(student_logits, -1) * hot).sum(-1)
    with torch.no_grad():
        lp = (F.log_softmax(teacher_logits, -1) * hot).sum(-1)
    k3 = (lp - lq).exp() - 1 - (lp - lq)
    return (k3 * real).sum() / real.sum()


def drawn_in_a_loop(student_logits, teacher_logits, tokens, real):
    values = []
    for b in range(tokens.shape[0]):
        for i in range(tokens.shape[1]):
            if real[b, i]:
                w = tokens[b, i]
                d = teacher_logits[b, i].detach().log_softmax(0)[w] - student_logits[b, i].log_softmax(0)[w]
                values.append(torch.exp(d) - 1 - d)
    return torch.stack(values).mean()


def picked(s, t, tokens, softmax=F.log_softmax, detach=True):
    t = t.detach() if detach else t
    index = tokens.unsqueeze(-1)
    return softmax(s, dim=-1).gather(-1, index).squeeze(-1), softmax(t, dim=-1).gather(-1, index).squeeze(-1)


def estimate(term, reduce=lambda v, real: v[real].mean(), **settings):
    def run(s, t, tokens, real):
        return reduce(term(*picked(s, t, tokens, **settings)), real)

    return run


def k3(lq, lp):
    return (lp - lq).exp() - 1 - (lp - lq)


DRAWN = {
    "k1": (estimate(lambda lq, lp: lq - lp), "without the other two parts"),
    "k1 turned": (estimate(lambda lq, lp: lp - lq), "sign of the difference"),
    "k2": (estimate(lambda lq, lp: 0.5 * (lp - lq) ** 2), "half the square"),
    "roles": (estimate(lambda lq, lp: k3(lp, lq)), "Teacher and student are swapped in d"),
    "no one": (estimate(lambda lq, lp: (lp - lq).exp() - (lp - lq)), "The -1 is missing"),
    "only exp": (estimate(lambda lq, lp: (lp - lq).exp() - 1), "d itself is not subtracted"),
    "plus d": (estimate(lambda lq, lp: (lp - lq).exp() - 1 + (lp - lq)), "added instead of subtracted"),
    "negated": (estimate(lambda lq, lp: -k3(lq, lp)), "never negative"),
    "all places": (estimate(k3, lambda v, real: v.mean()), "Places that are not real"),
    "masked, all places": (estimate(k3, lambda v, real: (v * real).sum() / v.numel()), "Places that are not real"),
    "sum": (estimate(k3, lambda v, real: (v * real).sum()), "sum is taken"),
    "per text": (estimate(k3, lambda v, real: ((v * real).sum(1) / real.sum(1)).mean()), "Each text is averaged first"),
    "by batch": (estimate(k3, lambda v, real: (v * real).sum() / v.shape[0]), "number of texts"),
    "by length": (estimate(k3, lambda v, real: (v * real).sum() / v.shape[1]), ""),
    "mask turned": (estimate(k3, lambda v, real: v[~real].mean()), "mask is turned round"),
    "probabilities": (estimate(k3, softmax=F.softmax), ""),
    "full kl": (lambda s, t, tokens, real: (s.softmax(-1) * (s.log_softmax(-1) - t.detach().log_softmax(-1))).sum(-1)[real].mean(), "sums over all words"),
    "full forward": (lambda s, t, tokens, real: F.kl_div(s.log_softmax(-1)[real], t.detach().log_softmax(-1)[real], log_target=True, reduction="batchmean"), "sums over all words"),
    "raw logits": (estimate(k3, softmax=lambda z, dim: z), "Raw logits"),
    "teacher not detached": (estimate(k3, detach=False), "reaches the teacher"),
    "student detached": (lambda s, t, tokens, real: drawn_with_one_hot(s.detach(), t, tokens, real), "learns nothing"),
    "argmax": (lambda s, t, tokens, real: drawn_with_one_hot(s, t, s.argmax(-1), real), "likeliest words"),
    "shifted": (lambda s, t, tokens, real: drawn_with_one_hot(s[:, :-1], t[:, :-1], tokens[:, 1:], real[:, 1:]), "shifted"),
    "wrong axis": (lambda s, t, tokens, real: k3(*(z.log_softmax(1).gather(-1, tokens[..., None])[..., 0] for z in (s, t.detach())))[real].mean(), ""),
    "no mean": (estimate(k3, lambda v, real: v * real), ""),
    "item": (lambda *a: drawn_with_one_hot(*a).item(), "learns nothing"),
    "no minus d": (estimate(lambda lq, lp: (lp - lq).exp()), ""),
    "log of ratio squared": (estimate(lambda lq, lp: (lp - lq) ** 2), "half the square"),
}  # fmt: skip


def mean_with_lists(parts):
    top, bottom = 0.0, 0
    for l, m in parts:
        top = top + l[m].sum()
        bottom = bottom + int(m.sum())
    return top / bottom


def mean_concatenated(parts):
    return torch.hstack([torch.masked_select(l, m) for l, m in parts]).mean()


def mean_weighted(parts):
    n = torch.tensor([float(m.sum()) for _, m in parts])
    sums = torch.stack([(l * m).sum() for l, m in parts])
    return (sums / n.clamp(min=1) * n).sum() / n.sum()


MEANS = {
    "mean of means": (lambda parts: torch.stack([l[m].mean() for l, m in parts]).mean(), "averaged first, then the pieces"),
    "added means": (lambda parts: sum(l[m].mean() for l, m in parts), "means of the pieces are added"),
    "text means": (lambda parts: torch.cat([(l * m).sum(1) / m.sum(1) for l, m in parts]).mean(), "Each text is averaged first"),
    "padded denominator": (lambda parts: sum((l * m).sum() for l, m in parts) / sum(m.numel() for l, m in parts), "divided by all places"),
    "padded numerator": (lambda parts: sum(l.sum() for l, m in parts) / sum(m.sum() for l, m in parts), "padded places is added"),
    "no mask": (lambda parts: torch.cat([l.reshape(-1) for l, m in parts]).mean(), "mask is not used"),
    "by texts": (lambda parts: sum((l * m).sum() for l, m in parts) / sum(l.shape[0] for l, m in parts), "number of texts"),
    "by pieces": (lambda parts: sum((l * m).sum() for l, m in parts) / len(parts), "number of pieces"),
    "sum": (lambda parts: sum((l * m).sum() for l, m in parts), "Nothing is divided"),
    "last": (lambda parts: parts[-1][0][parts[-1][1]].mean(), "Only the last piece"),
    "first": (lambda parts: parts[0][0][parts[0][1]].mean(), "Only the first piece"),
    "inverted": (lambda parts: mean_concatenated([(l, ~m) for l, m in parts]), "mask is turned round"),
    "last count": (lambda parts: sum((l * m).sum() for l, m in parts) / parts[-1][1].sum(), "tokens of the last one"),
    "batchmean": (lambda parts: sum((l * m).sum() / len(l) for l, m in parts) / len(parts), ""),
    "weighted by texts": (lambda parts: sum(l[m].mean() * len(l) for l, m in parts) / sum(len(l) for l, _ in parts), ""),
    "median": (lambda parts: torch.cat([l[m] for l, m in parts]).median(), ""),
    "none": (lambda parts: None, ""),
    "nan for padding": (lambda parts: sum(l[m].mean() * m.sum() for l, m in parts) / sum(m.sum() for _, m in parts), "must add nothing"),
    "longest piece": (lambda parts: max((l[m].mean() for l, m in parts)), ""),
}  # fmt: skip


def step_functional(student, teacher, ids, optimizer):
    student_logits, nxt = student(ids)[:, :-1], ids[:, 1:]
    keep = nxt.ne(0)
    with torch.no_grad():
        logp = F.log_softmax(teacher(ids)[:, :-1], -1)
    logq = F.log_softmax(student_logits, -1)
    loss = F.kl_div(logp, logq, log_target=True, reduction="none").sum(-1)
    loss = (loss * keep).sum() / keep.sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


def step_flat(student, teacher, ids, optimizer):
    optimizer.zero_grad()
    m = (ids[:, 1:] != 0).flatten()
    q = student(ids)[:, :-1].flatten(0, 1)[m].log_softmax(1)
    p = teacher(ids)[:, :-1].detach().flatten(0, 1)[m].log_softmax(1)
    loss = (q.exp() * (q - p)).sum() / m.sum()
    loss.backward()
    optimizer.step()
    return float(loss)


def step_loop(student, teacher, ids, optimizer):
    q, p = student(ids).log_softmax(-1), teacher(ids).detach().log_softmax(-1)
    terms = [
        (q[b, i].exp() * (q[b, i] - p[b, i])).sum()
        for b in range(ids.shape[0])
        for i in range(ids.shape[1] - 1)
        if ids[b, i + 1] != 0
    ]
    loss = sum(terms) / len(terms)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def step(mask=lambda ids: ids[:, 1:] != 0, kl="reverse", reduce=None, zero=True, detach=True, order="right", T=1.0):
    def run(student, teacher, ids, optimizer):
        m = mask(ids)
        q = (student(ids)[:, : m.shape[1]] / T).log_softmax(-1)
        p = (teacher(ids)[:, : m.shape[1]] / T).log_softmax(-1)
        p = p.detach() if detach else p
        d = q.exp() * (q - p) if kl == "reverse" else p.exp() * (p - q) if kl == "forward" else (q - p) ** 2
        loss = reduce(d.sum(-1), m) if reduce else d.sum(-1)[m].mean()
        if zero:
            optimizer.zero_grad()
        loss.backward()
        if order != "no step":
            optimizer.step()
        return loss.item()

    return run


def no_end(ids):
    return (ids[:, 1:] != 0) & (ids[:, 1:] != 3)


def over_all(v, m):
    return (v * m).mean()


STEPS = {
    "as given": (step(no_end, "forward", over_all), "Nothing is repaired"),
    "mask only": (step(kl="forward", reduce=over_all), "still forward KL"),
    "kl only": (step(no_end, reduce=over_all), "mask still leaves out a token"),
    "mean only": (step(no_end, "forward"), "still forward KL, and the mask"),
    "mask missing": (step(no_end), "closing token"),
    "kl missing": (step(kl="forward"), "still forward KL"),
    "mean missing": (step(reduce=over_all), "divided by all places"),
    "unshifted": (step(lambda ids: ids != 0), "mark"),
    "all places": (step(lambda ids: ids[:, 1:] >= 0), "Every place counts"),
    "text means": (step(reduce=lambda v, m: ((v * m).sum(1) / m.sum(1)).mean()), "averaged first"),
    "sum": (step(reduce=lambda v, m: (v * m).sum()), "not the mean"),
    "by texts": (step(reduce=lambda v, m: (v * m).sum() / len(v)), ""),
    "pile up": (step(zero=False), "not cleared"),
    "teacher learns": (step(detach=False), "reaches the teacher"),
    "no step": (step(order="no step"), ""),
    "squares": (step(kl="squares"), ""),
    "T = 2": (step(T=2.0), ""),
    "inverted mask": (step(lambda ids: ids[:, 1:] == 0), ""),
    "none returned": (lambda *a: step()(*a) and None, "loss of the step is needed"),
    "shift back": (step(lambda ids: ids[:, :-1] != 0), ""),
}

TASKS = {
    "drawn": (check_drawn_kl, DRAWN, [drawn_with_distribution, drawn_with_one_hot, drawn_in_a_loop]),
    "token mean": (check_token_mean, MEANS, [mean_with_lists, mean_concatenated, mean_weighted]),
    "step": (check_writing_step, STEPS, [step_functional, step_flat, step_loop]),
}
