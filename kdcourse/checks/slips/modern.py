# mypy: disable-error-code="no-untyped-def"
"""Wrong answers of exercise 11: divergences from drawn words, means over tokens, and a step on the student's texts."""

import torch

from . import Slip

PAD, END = 0, 3


def difference(student_logits, teacher_logits, tokens):
    """Return log p - log q of the drawn words, (B, L); the teacher's side gets no gradient."""
    log_q = student_logits.log_softmax(dim=-1)
    log_p = teacher_logits.detach().log_softmax(dim=-1)
    return (log_p - log_q).gather(-1, tokens[..., None])[..., 0]


def drawn_kl(student_logits, teacher_logits, tokens, real):
    """Return reverse KL, estimated from the drawn words."""
    d = difference(student_logits, teacher_logits, tokens)[real]
    return (d.exp() - 1 - d).mean()


def _of(term, combine=lambda values, real: values[real].mean()):
    return lambda s, t, tokens, real: combine(term(difference(s, t, tokens)), real)


def _k3(d):
    return d.exp() - 1 - d


def _whole(s, t, tokens, real, *, forward=False):
    log_q, log_p = s.log_softmax(dim=-1), t.detach().log_softmax(dim=-1)
    kl = log_p.exp() * (log_p - log_q) if forward else log_q.exp() * (log_q - log_p)
    return kl.sum(dim=-1)[real].mean()


def _attached(s, t, tokens, real):
    d = (t.log_softmax(dim=-1) - s.log_softmax(dim=-1)).gather(-1, tokens[..., None])[..., 0]
    return _k3(d)[real].mean()


DRAWN = {
    "first estimate": Slip(
        "This is log q - log p of the drawn words, without the other two parts. Its mean is right, but single values "
        "are often negative, and its gradient is that of the log-probability of whatever was drawn.",
        _of(lambda d: -d),
    ),
    "sign": Slip("The sign of the difference is turned round, and the other two parts are missing.", _of(lambda d: d)),
    "swapped": Slip(
        "Teacher and student are swapped in d: it is log p - log q, teacher minus student.",
        _of(lambda d: _k3(-d)),
    ),
    "negative": Slip(
        "The sign of the whole estimate is turned round: it is never negative.", _of(lambda d: -_k3(d))
    ),
    "squares": Slip("This is half the square of d, another estimate. Asked for is exp(d) - 1 - d.",
                    _of(lambda d: d.square() / 2), _of(lambda d: d.square())),
    "no minus one": Slip("The -1 is missing: the estimate must be 0 where both agree.", _of(lambda d: d.exp() - d)),
    "plus": Slip("d is added instead of subtracted: with a plus it can be negative.", _of(lambda d: d.exp() - 1 + d)),
    "ratio only": Slip(
        "d itself is not subtracted. exp(d) - 1 has the mean 0, whatever the two say.", _of(lambda d: d.exp() - 1)
    ),
    "all words": Slip(
        "This sums over all words of the vocabulary. It is right, but it is not the estimate from the drawn words: "
        "a teacher behind a server tells only those.",
        _whole,
        lambda s, t, tokens, real: _whole(s, t, tokens, real, forward=True),
    ),
    "padding counts": Slip(
        "Places that are not real count, too: pick with `real` first.",
        _of(_k3, lambda values, real: values.mean()),
        _of(_k3, lambda values, real: (values * real).mean()),
    ),
    "padding only": Slip("The mask is turned round.", _of(_k3, lambda values, real: values[~real].mean())),
    "sum": Slip("The sum is taken, not the mean: a long text would move the student more than a short one.",
                _of(_k3, lambda values, real: values[real].sum())),
    "mean of texts": Slip(
        "Each text is averaged first, then the texts. A word of a short text counts more than one of a long text "
        "(trap 85).",
        _of(_k3, lambda values, real: ((values * real).sum(dim=1) / real.sum(dim=1)).mean()),
    ),
    "divided by texts": Slip(
        "The sum is divided by the number of texts: it grows with their length.",
        _of(_k3, lambda values, real: values[real].sum() / len(values)),
    ),
    "likeliest word": Slip(
        "The student's likeliest words are taken, not those that were drawn. Then this is no estimate of KL.",
        lambda s, t, tokens, real: drawn_kl(s, t, s.argmax(dim=-1), real),
    ),
    "teacher's word": Slip(
        "The teacher's likeliest words are taken, not those that the student drew.",
        lambda s, t, tokens, real: drawn_kl(s, t, t.argmax(dim=-1), real),
    ),
    "one ahead": Slip(
        "Logits and words are shifted against one another. They are aligned already: logits at a place speak about the "
        "word at that place (trap 91).",
        lambda s, t, tokens, real: drawn_kl(s[:, :-1], t[:, :-1], tokens[:, 1:], real[:, 1:]),
        lambda s, t, tokens, real: drawn_kl(s, t, tokens.roll(1, dims=1), real),
    ),
    "logits": Slip(
        "Raw logits are subtracted. They are no log-probabilities: take log_softmax first.",
        lambda s, t, tokens, real: _k3((t.detach() - s).gather(-1, tokens[..., None])[..., 0])[real].mean(),
    ),
    "detached": Slip(
        "The student's logits are detached, so it learns nothing.",
        lambda s, t, tokens, real: drawn_kl(s.detach(), t, tokens, real),
    ),
    "teacher learns": Slip("A gradient reaches the teacher: detach its logits.", _attached),
}  # fmt: skip


def token_mean(parts):
    """Return the mean over all real tokens of several pieces of a batch."""
    total = sum((losses * real).sum() for losses, real in parts)
    return total / sum(real.sum() for _, real in parts).clamp(min=1)


def _means(parts):
    return [losses[real].mean() for losses, real in parts if real.any()]


TOKENS = {
    "mean of means": Slip(
        "Each piece is averaged first, then the pieces (trap 85). A token of a piece with few tokens counts too much: "
        "add up everything, and divide once.",
        lambda parts: torch.stack(_means(parts)).mean(),
        lambda parts: sum(_means(parts)) / len(parts),
    ),
    "sum of means": Slip(
        "The means of the pieces are added up. The loss would grow with the number of pieces.",
        lambda parts: sum(_means(parts)),
    ),
    "mean of texts": Slip(
        "Each text is averaged first, then the texts. Every token counts the same.",
        lambda parts: torch.cat(
            [(losses * real).sum(dim=1) / real.sum(dim=1).clamp(min=1) for losses, real in parts]
        ).mean(),
    ),
    "padding in the count": Slip(
        "The sum is divided by all places, padding too. Then padding changes the loss.",
        lambda parts: sum((losses * real).sum() for losses, real in parts) / sum(real.numel() for _, real in parts),
    ),
    "padding in the sum": Slip(
        "The loss at padded places is added.",
        lambda parts: sum(losses.sum() for losses, _ in parts) / sum(real.sum() for _, real in parts),
    ),
    "padding everywhere": Slip(
        "The mask is not used.",
        lambda parts: torch.cat([losses.flatten() for losses, _ in parts]).mean(),
        lambda parts: sum(losses.mean() for losses, _ in parts) / len(parts),
    ),
    "divided by texts": Slip(
        "The sum is divided by the number of texts, not of tokens.",
        lambda parts: (
            sum((losses * real).sum() for losses, real in parts) / sum(len(losses) for losses, _ in parts)
        ),
    ),
    "divided by pieces": Slip(
        "The sum is divided by the number of pieces, not of tokens.",
        lambda parts: sum((losses * real).sum() for losses, real in parts) / len(parts),
    ),
    "sum": Slip("Nothing is divided.", lambda parts: sum((losses * real).sum() for losses, real in parts)),
    "last piece": Slip(
        "Only the last piece counts: is the sum overwritten in the loop?", lambda parts: _means(parts)[-1]
    ),
    "first piece": Slip("Only the first piece counts: does a return stand inside the loop?",
                        lambda parts: _means(parts)[0]),
    "last count": Slip(
        "The sum of all pieces is divided by the tokens of the last one.",
        lambda parts: sum((losses * real).sum() for losses, real in parts) / parts[-1][1].sum(),
    ),
    "mask turned round": Slip(
        "The mask is turned round: padded places are averaged.",
        lambda parts: token_mean([(losses, ~real) for losses, real in parts]),
    ),
}  # fmt: skip


def writing_step(student, teacher, ids, optimizer):
    """Take one step on the student's own texts, by reverse KL, and return the loss."""
    real = ids[:, 1:] != PAD
    return _step(student, teacher, ids, optimizer, lambda log_q, log_p: _reverse(log_q, log_p)[:, :-1][real].mean())


def _reverse(log_q, log_p):
    return (log_q.exp() * (log_q - log_p)).sum(dim=-1)


def _forward(log_q, log_p):
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _step(student, teacher, ids, optimizer, combine, *, clear=True, frozen=True, shown=None):
    log_q = student(ids).log_softmax(dim=-1)
    teacher_logits = teacher(ids if shown is None else shown(ids))
    log_p = (teacher_logits.detach() if frozen else teacher_logits).log_softmax(dim=-1)
    loss = combine(log_q, log_p)
    if clear:
        optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _masked(mask, kl=_reverse, combine=lambda values, mask: values[mask].mean(), **settings):
    def wrong(student, teacher, ids, optimizer):
        def loss(log_q, log_p):
            values, chosen = kl(log_q, log_p), mask(ids)
            return combine(values[:, : chosen.shape[1]], chosen)

        return _step(student, teacher, ids, optimizer, loss, **settings)

    return wrong


def _next(ids):
    return ids[:, 1:] != PAD


def _here(ids):
    return ids != PAD


def _no_end(ids):
    return (ids[:, 1:] != PAD) & (ids[:, 1:] != END)


def _over_all(values, mask):
    return (values * mask).mean()


STEP = {
    "nothing repaired": Slip(
        "Nothing is repaired yet: look at which tokens the mask leaves out, at what the sum is divided by, and at "
        "which KL this is.",
        _masked(_no_end, _forward, _over_all),
    ),
    "mask and division left": Slip(
        "The divergence is right. The mask still leaves out a token that should be learned, and the sum is still "
        "divided by all places.",
        _masked(_no_end, combine=_over_all),
    ),
    "mask left": Slip(
        "Divergence and mean are right. The mask still leaves out the closing token: the student never learns to stop "
        "(trap 86).",
        _masked(_no_end),
    ),
    "forward and mask left": Slip(
        "The mean is right. The divergence is still forward KL, and the mask still leaves out the closing token.",
        _masked(_no_end, _forward),
    ),
    "forward left": Slip(
        "Mask and mean are right. The divergence is still forward KL: in reverse KL the student's probabilities are "
        "the weights.",
        _masked(_next, _forward),
    ),
    "division left": Slip(
        "Mask and divergence are right. The sum is still divided by all places, padding too.",
        _masked(_next, combine=_over_all),
    ),
    "forward and division left": Slip(
        "The mask is right. The divergence is still forward KL, and the sum is still divided by all places.",
        _masked(_next, _forward, _over_all),
    ),
    "not shifted": Slip(
        "The mask marks places that are real themselves. At the closing token there is nothing left to say: look at "
        "the next token.",
        _masked(_here),
    ),
    "everything counts": Slip("Every place counts, padding too.", _masked(lambda ids: torch.ones_like(ids[:, 1:]) > 0)),
    "mean of texts": Slip(
        "Each text is averaged first, then the texts (trap 85).",
        _masked(_next, combine=lambda v, m: ((v * m).sum(dim=1) / m.sum(dim=1)).mean()),
    ),
    "mean over words": Slip(
        "The mean over the vocabulary is taken. A divergence is a sum over it.",
        _masked(_next, lambda q, p: (q.exp() * (q - p)).mean(dim=-1)),
    ),
    "sum": Slip("The sum over the tokens is taken, not the mean.", _masked(_next, combine=lambda v, m: v[m].sum())),
    "gradients pile up": Slip(
        "The gradients are not cleared: they pile up from step to step.", _masked(_next, clear=False)
    ),
    "teacher learns": Slip(
        "A gradient reaches the teacher. It is frozen: ask it inside torch.no_grad(), or detach its logits.",
        _masked(_next, frozen=False),
    ),
    "teacher one ahead": Slip(
        "The teacher reads texts that are shifted. It must read the same tokens as the student (trap 91).",
        _masked(_next, shown=lambda ids: ids.roll(-1, dims=1)),
    ),
}
