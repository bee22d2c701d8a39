# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 11: the generalised divergence, a bucket for the rest, and where a text counts."""

import torch

from ..cases import Case, new_generator, random_tensor
from ..slips import Slip
from . import compared

PAD, END = 0, 3


def jsd(p, q, beta):
    """Return the generalised Jensen-Shannon divergence of each row, for beta between 0 and 1."""
    m = beta * p + (1 - beta) * q  # (B, K): p is the teacher, q the student
    to_teacher = (p * (p.log() - m.log())).sum(dim=-1)  # (B,)
    to_student = (q * (q.log() - m.log())).sum(dim=-1)  # (B,)
    return beta * to_teacher + (1 - beta) * to_student


def _kl(a, b):
    return (a * (a.log() - b.log())).sum(dim=-1)


def _mixed(p, q, beta, *, share=None, weights=None):
    share = beta if share is None else share
    m = share * p + (1 - share) * q
    first, second = (beta, 1 - beta) if weights is None else weights
    return first * _kl(p, m) + second * _kl(q, m)


JSD_SLIPS = {
    "mixture swapped": Slip(
        "The mixture has the student's share for the teacher: m = βp + (1-β)q. A public trainer had this mistake for "
        "months.",
        lambda p, q, beta: _mixed(p, q, beta, share=1 - beta),
    ),
    "weights swapped": Slip(
        "The two weights are swapped: β belongs to KL(p‖m), 1-β to KL(q‖m).",
        lambda p, q, beta: _mixed(p, q, beta, weights=(1 - beta, beta)),
    ),
    "both swapped": Slip(
        "Teacher and student are swapped everywhere: p is the teacher, and β its share of the mixture.",
        lambda p, q, beta: jsd(q, p, beta),
    ),
    "half and half": Slip(
        "β is not used: this is the symmetric divergence, β = ½.",
        lambda p, q, beta: _mixed(p, q, 0.5),
        lambda p, q, beta: _mixed(p, q, beta, share=0.5),
        lambda p, q, beta: _mixed(p, q, beta, weights=(0.5, 0.5)),
    ),
    "no mixture": Slip(
        "There is no mixture: these are forward and reverse KL, added with weights. They are infinite where one side "
        "is 0; the mixture never is.",
        lambda p, q, beta: beta * _kl(p, q) + (1 - beta) * _kl(q, p),
        lambda p, q, beta: (1 - beta) * _kl(p, q) + beta * _kl(q, p),
    ),
    "to the mixture's other side": Slip(
        "The roles inside KL are swapped: p and q stand in front of the bars, m behind.",
        lambda p, q, beta: beta * _kl(beta * p + (1 - beta) * q, p) + (1 - beta) * _kl(beta * p + (1 - beta) * q, q),
    ),
    "one term": Slip(
        "One of the two terms is missing.",
        lambda p, q, beta: beta * _kl(p, beta * p + (1 - beta) * q),
        lambda p, q, beta: (1 - beta) * _kl(q, beta * p + (1 - beta) * q),
    ),
    "unweighted": Slip("The two terms are not weighted.", lambda p, q, beta: _mixed(p, q, beta, weights=(1, 1))),
    "forward": Slip("This is forward KL alone, KL(p‖q).", lambda p, q, beta: _kl(p, q)),
    "reverse": Slip("This is reverse KL alone, KL(q‖p).", lambda p, q, beta: _kl(q, p)),
    "all at once": Slip(
        "Everything is added up or averaged: one number, where each row needs its own.",
        lambda p, q, beta: jsd(p, q, beta).sum(),
        lambda p, q, beta: jsd(p, q, beta).mean(),
    ),
    "mean over classes": Slip(
        "The mean over the classes is taken. A divergence is a sum over them: this is K times too small.",
        lambda p, q, beta: jsd(p, q, beta) / p.shape[-1],
    ),
    "sign": Slip("The sign is turned round: a divergence is never negative.", lambda p, q, beta: -jsd(p, q, beta)),
}


def with_bucket(p, q, kept):
    """Return the KL divergence of each row when all classes but the kept ones are counted as one."""
    top_p, top_q = p.gather(-1, kept), q.gather(-1, kept)  # (B, n)
    rest_p, rest_q = 1 - top_p.sum(dim=-1), 1 - top_q.sum(dim=-1)  # (B,)
    return (top_p * (top_p / top_q).log()).sum(dim=-1) + rest_p * (rest_p / rest_q).log()


def _tops(p, q, kept):
    return p.gather(-1, kept), q.gather(-1, kept)


def _truncated(p, q, kept):
    top_p, top_q = _tops(p, q, kept)
    return _kl(top_p, top_q)


def _renormalised(p, q, kept, both=True):
    top_p, top_q = _tops(p, q, kept)
    top_p = top_p / top_p.sum(dim=-1, keepdim=True)
    return _kl(top_p, top_q / top_q.sum(dim=-1, keepdim=True) if both else top_q)


def _bucket_of(p, q, kept, term):
    top_p, top_q = _tops(p, q, kept)
    return _kl(top_p, top_q) + term(1 - top_p.sum(dim=-1), 1 - top_q.sum(dim=-1))


def _bucket(term):
    return lambda p, q, kept: _bucket_of(p, q, kept, term)


BUCKET_SLIPS = {
    "truncated": Slip(
        "The rest is left out. This sum is no divergence: it can be negative, and a student makes it smaller by giving "
        "the kept classes everything. Cut off at 0 it has no gradient there (trap 89).",
        _truncated,
        lambda p, q, kept: _truncated(p, q, kept).clamp(min=0),
    ),
    "renormalised": Slip(
        "The kept classes were made to sum to 1. Then nothing is left for the others, and the student becomes surer "
        "than its teacher (trap 90).",
        lambda p, q, kept: _renormalised(p, q, kept, both=False),
        _renormalised,
    ),
    "other sign": Slip("The bucket's term is subtracted.", _bucket(lambda rp, rq: -rp * (rp / rq).log())),
    "bucket turned round": Slip(
        "The bucket's term is turned round: the teacher's rest is the weight, and stands above the line.",
        _bucket(lambda rp, rq: rq * (rq / rp).log()),
    ),
    "bucket without weight": Slip(
        "The bucket's logarithm has no weight: it is multiplied by the teacher's rest, as every other class is by its "
        "probability.",
        _bucket(lambda rp, rq: (rp / rq).log()),
    ),
    "bucket not compared": Slip(
        "The bucket has its own entropy only. It must be compared with the student's rest.",
        _bucket(lambda rp, rq: rp * rp.log()),
        _bucket(lambda rp, rq: -rp * rq.log()),
    ),
    "difference of rests": Slip(
        "The rests are subtracted from one another. They are probabilities of one more class: compare them as the "
        "others.",
        _bucket(lambda rp, rq: rp - rq),
        _bucket(lambda rp, rq: (rp - rq).abs()),
    ),
    "swapped": Slip(
        "Teacher and student are swapped: p, the teacher, is the weight.", lambda p, q, kept: with_bucket(q, p, kept)
    ),
    "all classes": Slip("All classes are compared, and none is put into a bucket.", lambda p, q, kept: _kl(p, q)),
    "first columns": Slip(
        "The first columns are taken, not the kept ones: gather(-1, kept) picks each row's own.",
        lambda p, q, kept: with_bucket(p, q, torch.arange(kept.shape[-1]).expand_as(kept)),
    ),
    "all at once": Slip(
        "Everything is added up or averaged: one number, where each row needs its own.",
        lambda p, q, kept: with_bucket(p, q, kept).sum(),
        lambda p, q, kept: with_bucket(p, q, kept).mean(),
    ),
}


def counts(ids):
    """Return for each place of a text but the last whether the token after it is to be learned."""
    after = ids[:, 1:]  # (B, L - 1): what should be said at each place
    return after != 0  # padding counts nothing; the closing token, 3, counts


COUNT_SLIPS = {
    "not shifted": Slip(
        "This marks real tokens, not places whose *next* token is real: at the closing token there is nothing left to "
        "say. Look one token ahead.",
        lambda ids: ids[:, :-1] != PAD,
    ),
    "one too many": Slip(
        "The result has one place too many: after the last token nothing is said. Its shape is (B, L - 1).",
        lambda ids: ids != PAD,
    ),
    "no end": Slip(
        "The closing token is left out, so the student never learns to stop (trap 86).",
        lambda ids: (ids[:, 1:] != PAD) & (ids[:, 1:] != END),
        lambda ids: (ids[:, :-1] != PAD) & (ids[:, 1:] != PAD) & (ids[:, 1:] != END),
    ),
    "padding only": Slip("The mask is turned round: it marks padding.", lambda ids: ids[:, 1:] == PAD),
    "all": Slip(
        "Every place counts. Then most of a short text's loss is padding, which anybody can predict.",
        lambda ids: torch.ones_like(ids[:, 1:], dtype=torch.bool),
    ),
    "ends only": Slip("Only the closing tokens are marked.", lambda ids: ids[:, 1:] == END),
    "shifted the other way": Slip(
        "The mask is shifted the wrong way: it asks about the token before.",
        lambda ids: torch.cat([ids[:, :1], ids[:, :-2]], dim=1) != PAD,
    ),
    "first left out": Slip(
        "The first word is left out. The kind stands before it, so it is predicted from something.",
        lambda ids: (ids[:, 1:] != PAD) & (torch.arange(ids.shape[1] - 1) > 0),
    ),
}


def _pairs(count=3):
    generator = new_generator(None)
    cases = []
    for beta, rows, classes in ((0.3, 4, 6), (0.8, 3, 5), (0.55, 5, 7))[:count]:
        p, q = (random_tensor(generator, rows, classes, scale=2).softmax(dim=-1) for _ in range(2))
        cases.append(Case((p, q, beta)))
    return cases


def _with_kept():
    generator = new_generator(None)
    cases = []
    for rows, classes, count in ((4, 7, 2), (3, 6, 3), (5, 8, 1)):
        p, q = (random_tensor(generator, rows, classes, scale=2).softmax(dim=-1) for _ in range(2))
        cases.append(Case((p, q, p.topk(count, dim=-1).indices)))
    return cases


def _texts():
    generator = new_generator(None)
    cases = []
    for lengths, longest in (((3, 6, 5), 6), ((4, 2), 5)):
        ids = torch.zeros(len(lengths), longest, dtype=torch.int64)
        for row, length in zip(ids, lengths, strict=True):
            row[:length] = torch.from_numpy(generator.integers(10, 6000, size=length))
            row[0], row[length - 1] = 6000 + int(generator.integers(24)), END
        cases.append(Case((ids,)))
    cut = torch.from_numpy(generator.integers(10, 6000, size=(2, 4)))  # cut off: no closing token
    return [*cases, Case((cut,))]


TURNS = {
    "11.jsd": compared(
        jsd,
        _pairs,
        slips=JSD_SLIPS,
        verified="The mixture has the teacher's share β, and each side is compared with it, row by row.",
        note="The mixture is where public code goes wrong: with the shares swapped, β = 0.9 is a divergence that asks "
        "for the other end.",
    ),
    "11.bucket": compared(
        with_bucket,
        _with_kept,
        slips=BUCKET_SLIPS,
        verified="The kept classes at their own height, and the others as one more class: never negative.",
        note="Without the last term the sum can be negative. With it, the result is at most the divergence of all "
        "classes, and 0 if kept classes and rest agree.",
    ),
    "11.counts": compared(
        counts,
        _texts,
        slips=COUNT_SLIPS,
        probing=False,
        diagnosing=False,
        otherwise="Marked are not those places whose next token is real. Compare the first text by hand.",
        verified="A place counts if something real comes next, the closing token included.",
        note="Many libraries set the padding token to the closing token's number. Then the line above throws both "
        "away, and the student writes on for ever.",
    ),
}
