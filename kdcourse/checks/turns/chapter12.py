# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 12: the old answers kept, weights rounded to a grid, a gradient that passes through."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses import kd_loss
from ..cases import Case, new_generator, random_tensor, seeded_cases
from ..slips import Slip
from ..slips.whats_next import ROUNDED
from . import compared


def keep_old(logits, old_logits, heads, temperature):
    """Return how far the answers on old classes have moved."""
    # A head is a list such as [0, 1]: the classes of one old task.
    return sum(kd_loss(logits[:, head], old_logits[:, head], temperature=temperature) for head in heads)


def _flat(heads):
    return [member for head in heads for member in head]


def _each(term, combine=sum):
    return lambda z, old, heads, t: combine([term(z[:, h], old[:, h], t) for h in heads])


def _kd(z, old, t):
    return kd_loss(z, old, temperature=t)


def _mean(terms):
    return sum(terms) / len(terms)


def _probabilities_cut(z, old, heads, t):
    """Take the softmax over all classes and cut the columns out afterwards."""
    log_q, log_p = (z / t).log_softmax(dim=1), (old / t).log_softmax(dim=1)
    parts = [(log_p[:, h].exp() * (log_p[:, h] - log_q[:, h])).sum(dim=1).mean() for h in heads]
    return t**2 * sum(parts)


def _attached(s, t, temperature):
    log_p, log_q = (t / temperature).log_softmax(dim=1), (s / temperature).log_softmax(dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


KEEP_SLIPS = {
    "all classes": Slip(
        "The softmax runs over all classes, the new ones too. The old network knows nothing of them: cut the old "
        "classes out of the logits first.",
        lambda z, old, heads, t: _kd(z, old, t),
    ),
    "one softmax": Slip(
        "One softmax runs over all old classes together. Each old task has a softmax of its own: loop over the heads.",
        lambda z, old, heads, t: _kd(z[:, _flat(heads)], old[:, _flat(heads)], t),
    ),
    "cut afterwards": Slip(
        "The softmax is taken over all classes, and the columns are cut out of the probabilities. They no longer sum "
        "to 1: cut the logits.",
        _probabilities_cut,
    ),
    "last head": Slip(
        "Only the newest of the old tasks counts: is the sum overwritten in the loop?",
        lambda z, old, heads, t: _kd(z[:, heads[-1]], old[:, heads[-1]], t),
    ),
    "first head": Slip(
        "Only the first of the old tasks counts: does a return stand inside the loop?",
        lambda z, old, heads, t: _kd(z[:, heads[0]], old[:, heads[0]], t),
    ),
    "mean over heads": Slip(
        "The heads are averaged. Asked for is their sum, so that a further task takes nothing from the others.",
        _each(_kd, _mean),
    ),
    "swapped": Slip(
        "The roles are swapped: kd_loss takes the learning network's logits first, then the old ones.",
        lambda z, old, heads, t: keep_old(old, z, heads, t),
    ),
    "no T²": Slip(
        "The factor T² is missing. kd_loss of the package has it.",
        lambda z, old, heads, t: keep_old(z, old, heads, t) / t**2,
    ),
    "T twice": Slip(
        "T² stands there twice: kd_loss of the package has it already.",
        lambda z, old, heads, t: keep_old(z, old, heads, t) * t**2,
    ),
    "T unused": Slip(
        "The temperature is not used: hand it on to kd_loss.",
        lambda z, old, heads, t: keep_old(z, old, heads, 1.0),
        lambda z, old, heads, t: keep_old(z, old, heads, 2.0),
    ),
    "cross-entropy": Slip(
        "This is the cross-entropy of the two answers. Its gradient is the same, but it is not 0 when nothing has "
        "changed: use the KL divergence, kd_loss.",
        _each(lambda s, o, t: t**2 * -((o / t).softmax(1) * (s / t).log_softmax(1)).sum(1).mean()),
        _each(lambda s, o, t: -((o / t).softmax(1) * (s / t).log_softmax(1)).sum(1).mean()),
    ),
    "squares": Slip(
        "These are squared differences of logits. That is another loss: it also asks for the size of the logits.",
        _each(lambda s, o, t: F.mse_loss(s, o)),
        _each(lambda s, o, t: (s - o).square().sum()),
    ),
    "hard answers": Slip(
        "The old network's answers were turned into labels. What it thinks of the second choice is lost: compare "
        "softened probabilities.",
        _each(lambda s, o, t: F.cross_entropy(s, o.argmax(dim=1))),
        _each(lambda s, o, t: F.cross_entropy(s / t, o.argmax(dim=1))),
    ),
    "detached": Slip(
        "The learning network's logits are detached, so it learns nothing from its old answers. Detach the old ones.",
        lambda z, old, heads, t: keep_old(z.detach(), old, heads, t),
    ),
    "old learns": Slip(
        "A gradient reaches the old logits. They are a fixed target: kd_loss detaches them for you.",
        _each(_attached),
    ),
}


def _losses_and_gradients(function):
    """Return the loss and its gradients in the new and the old logits, for three old tasks and a new one."""

    def outcome(*, seed: int) -> list:
        generator = new_generator(seed)
        z, old = (random_tensor(generator, 6, 9, scale=2).requires_grad_() for _ in range(2))
        heads = [[0, 1], [4, 2, 3], [5, 6]]  # 7 and 8 are new
        with torch.enable_grad():
            loss = function(z, old, heads, 1.5 + seed % 3)
            if type(loss) is not Tensor or loss.dim() or not loss.requires_grad:
                return [loss, torch.zeros_like(z), torch.zeros_like(old)]
            gradients = torch.autograd.grad(loss, (z, old), allow_unused=True)
        return [loss.detach(), *(torch.zeros_like(z) if part is None else part for part in gradients)]

    return outcome


def rounded(weights, bits):
    """Return weights rounded to the levels of a few bits, with a scale for each row."""
    levels = 2 ** (bits - 1) - 1
    scale = weights.abs().amax(dim=1, keepdim=True) / levels  # (R, 1)
    return (weights / scale).round() * scale


def _matrices() -> list[Case]:
    """Return weights whose rows differ in size, in sign, and in where their largest entry is."""
    generator = new_generator(None)
    sizes = torch.tensor([[1.0], [0.03], [2.0], [0.2]])
    cases = []
    for bits, columns in ((4, 7), (3, 5), (2, 6)):
        weights = sizes * random_tensor(generator, 4, columns)
        weights[0, 0] = -1.3 * weights[0].abs().max()  # the largest weight of this row is negative
        cases.append(Case((weights, bits)))
    return cases


def straight_through(weights, rounded):
    """Return the rounded weights, with the gradient of the unrounded ones."""
    return rounded.detach() + (weights - weights.detach())


def _value_and_gradient(function):
    def outcome(*, seed: int) -> list:
        generator = new_generator(seed)
        weights = random_tensor(generator, 3, 5, scale=2).requires_grad_()
        push = random_tensor(generator, 3, 5)
        with torch.enable_grad():
            result = function(weights, (weights / 0.5).round() * 0.5)
            if type(result) is not Tensor or result.shape != weights.shape or not result.requires_grad:
                return [result, torch.zeros_like(weights)]
            (gradient,) = torch.autograd.grad((push * result).sum(), weights, allow_unused=True)
        return [result.detach(), torch.zeros_like(weights) if gradient is None else gradient]

    return outcome


STRAIGHT_SLIPS = {
    "rounded": Slip(
        "The values are right, but the gradient is 0: rounding has no slope. Nothing would ever be learned.",
        lambda w, r: r,
        lambda w, r: r.detach(),
        lambda w, r: r.detach().requires_grad_(),
        lambda w, r: w + (r - w),
        lambda w, r: w.detach() + (r - w).detach(),
    ),
    "weights": Slip(
        "These are the weights before rounding. The layer must compute with the rounded ones; only the gradient is "
        "that of the unrounded.",
        lambda w, r: w,
        lambda w, r: w + (r - r.detach()),
    ),
    "wrong detach": Slip(
        "The difference is turned round or detached in the wrong place: the values are no longer the rounded ones.",
        lambda w, r: w + (w - r).detach(),
        lambda w, r: r + w,
        lambda w, r: r.detach() + w,
        lambda w, r: w - (r - w).detach(),
        lambda w, r: (w + r) / 2,
    ),
    "minus": Slip(
        "The gradient has the wrong sign: training would climb. Add the weights minus their detached copy.",
        lambda w, r: r.detach() + (w.detach() - w),
        lambda w, r: r.detach() - (w - w.detach()),
    ),
    "twice": Slip(
        "The gradient is twice the right one: the weights come in twice.",
        lambda w, r: r.detach() + 2 * (w - w.detach()),
    ),
    "half": Slip(
        "The gradient is half the right one. Straight through means factor 1.",
        lambda w, r: r.detach() + 0.5 * (w - w.detach()),
    ),
}

TURNS = {
    "12.keep-old": compared(
        keep_old,
        lambda: seeded_cases(None, 3),
        slips=KEEP_SLIPS,
        through=_losses_and_gradients,
        probing=False,
        diagnosing=False,
        otherwise="This is not the sum, over the old tasks, of kd_loss between the new and the old logits of that "
        "task's classes, or its gradients are others.",
        verified="Each old task has a softmax of its own, the new classes do not count, and only the network that "
        "learns gets a gradient.",
        note="The mistake that is made most often is one softmax over all classes: it punishes the network for "
        "learning the new ones.",
    ),
    "12.rounded": compared(
        rounded,
        _matrices,
        slips=ROUNDED,
        verified="Each row has a scale of its own, and its largest weight stays as it is.",
        note="Take the largest *absolute* value: in many rows the largest weight is negative. A matrix of zeros would "
        "divide by 0; the course's `quantise` gives such a row the scale 1.",
    ),
    "12.straight-through": compared(
        straight_through,
        lambda: seeded_cases(None, 2),
        slips=STRAIGHT_SLIPS,
        through=_value_and_gradient,
        probing=False,
        diagnosing=False,
        otherwise="The values must be the rounded weights, and the gradient in `weights` the gradient of the result.",
        verified="Forward it is the staircase, backward it is the identity.",
        note="`weights - weights.detach()` is exactly 0 and has the gradient 1. Written as `weights + (rounded - "
        "weights).detach()` it is the same, up to the last bit of a sum.",
    ),
}
