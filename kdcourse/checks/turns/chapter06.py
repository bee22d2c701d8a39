# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 06: the lesson of the deepest exit, the rule of early exit, what a child inherits."""

import torch

from ...losses import kd_loss
from ..cases import Case, new_generator, random_labels, random_sizes, random_tensor
from ..comparing import check_values
from ..gradients import check_gradients
from ..slips import Slip
from . import Turn, compared


def lesson(exit_logits, temperature):
    """Return the soft term of the shallower exits."""
    *shallower, deepest = exit_logits  # shallow to deep, (B, K) each
    target = deepest.detach()
    return sum(kd_loss(logits, target, temperature=temperature) for logits in shallower)


def leave(probabilities, confidence):
    """Return the exit that each image takes."""
    sure = probabilities.amax(dim=-1) >= confidence  # (E, N)
    sure[-1] = True  # an image that reaches the deepest exit leaves there
    return sure.int().argmax(dim=0)  # (N,): the first exit that is sure


def inherited(child, parent, labels):
    """Return the share of the child's errors that are its parent's, too."""
    wrong = child != labels  # (N,)
    return (wrong & (child == parent)).sum() / wrong.sum()


def _attached(exit_logits, temperature):
    """Let the gradient reach the teacher; by hand, because kd_loss detaches it."""
    log_p = (exit_logits[-1] / temperature).log_softmax(dim=-1)
    rows = [(z / temperature).log_softmax(dim=-1) for z in exit_logits[:-1]]
    return temperature**2 * sum((log_p.exp() * (log_p - row)).sum(dim=-1).mean() for row in rows)


def _with(soft=kd_loss, teacher=lambda z, place: z[-1], students=lambda z: range(len(z) - 1), combine=sum):
    def wrong(exit_logits, temperature):
        terms = [
            soft(exit_logits[place], teacher(exit_logits, place).detach(), temperature=temperature)
            for place in students(exit_logits)
        ]
        return combine(terms)

    return wrong


LESSON_SLIPS = {
    "only the last": Slip(
        "Only one of the shallower exits is taught: is the sum overwritten in the loop?",
        lambda z, t: kd_loss(z[-2], z[-1].detach(), temperature=t),
    ),
    "return in the loop": Slip(
        "Only the first exit is taught: does a return stand inside the loop?",
        lambda z, t: kd_loss(z[0], z[-1].detach(), temperature=t),
    ),
    "mean": Slip(
        "This is the mean over the shallower exits. Asked for is their sum, so that a further exit takes nothing from "
        "the others.",
        _with(combine=lambda terms: sum(terms) / len(terms)),
        lambda z, t: lesson(z, t) / len(z),
    ),
    "neighbour": Slip(
        "Each exit is taught by the next deeper one. Here the deepest teaches all.",
        _with(teacher=lambda z, place: z[place + 1]),
    ),
    "first teaches": Slip(
        "The first exit teaches. The list runs from shallow to deep: the teacher is the last one.",
        lambda z, t: lesson(z[::-1], t),
    ),
    "student and teacher swapped": Slip(
        "The roles are swapped: kd_loss takes the student's logits first, then the teacher's.",
        _with(soft=lambda s, t, *, temperature: kd_loss(t, s, temperature=temperature)),
    ),
    "no T²": Slip(
        "The factor T² is missing. kd_loss of the package has it.", lambda z, t: lesson(z, t) / t**2
    ),
    "T twice": Slip(
        "T² stands there twice: kd_loss of the package has it already.", lambda z, t: lesson(z, t) * t**2
    ),
    "T unused": Slip(
        "The temperature is not used: hand it on to kd_loss.",
        lambda z, t: lesson(z, 1.0),
    ),
}  # fmt: skip
NO_GRADIENT = "The value is right, but no gradient reaches the shallower exits: detach the deepest exit only."
LESSON_GRADIENT = {
    "not detached": Slip(
        "The value is right, but a gradient reaches the deepest exit: detach its logits. It is the teacher, and would "
        "be drawn towards what the shallow exits can imitate.",
        _attached,
    ),
}


def _exits(generator):
    exits = int(generator.integers(3, 5))
    batch, classes = random_sizes(generator, (5, 9), (5, 12))
    return [random_tensor(generator, batch, classes, scale=2) for _ in range(exits)]


def _verify_lesson(function):
    generator = new_generator(None)
    cases = [Case((_exits(generator), temperature)) for temperature in (3.0, 1.7, 0.6)]
    check_values(function, lesson, cases, slips=LESSON_SLIPS)
    messages = {"exit_logits": (NO_GRADIENT, "")}
    check_gradients(function, lesson, cases[0], messages=messages, slips=LESSON_GRADIENT)
    return "The deepest exit teaches all the others, each with the weight 1, and no gradient reaches it."


def _answers_of_exits():
    """Return probabilities of three exits for many images, so that every mistake shows."""
    generator = new_generator(None)
    cases = []
    for confidence in (0.5, 0.8, 0.95):
        logits = random_tensor(generator, 3, 150, 4, scale=2.5)
        cases.append(Case((logits.softmax(dim=-1), confidence)))
    return cases


def _leaving(among):
    def wrong(probabilities, confidence):
        certainty = probabilities.amax(dim=-1)  # (E, N)
        sure = certainty >= confidence
        last = len(sure) - 1
        if among == "last":  # the deepest of those that are sure
            return torch.where(sure.any(dim=0), last - sure.flip(0).int().argmax(dim=0), last)
        return torch.where(sure.any(dim=0), certainty.argmax(dim=0), last)  # the surest

    return wrong


def _whole_batch(probabilities, confidence):
    sure = probabilities.amax(dim=-1).mean(dim=-1) >= confidence  # (E,)
    sure[-1] = True
    return sure.int().argmax(dim=0).expand(probabilities.shape[1])


LEAVE_SLIPS = {
    "unsure at the first": Slip(
        "An image of which no exit is sure left at the first one: argmax of nothing but zeros is 0. It must go to the "
        "deepest exit.",
        lambda p, c: (p.amax(dim=-1) >= c).int().argmax(dim=0),
    ),
    "last": Slip(
        "The deepest of the sure exits was taken. The first one saves the work of the others.", _leaving("last")
    ),
    "surest": Slip(
        "The surest exit was taken. To know which one that is, all of them must run, and nothing is saved.",
        _leaving("surest"),
    ),
    "turned": Slip(
        "The comparison is turned round: images leave where the exit is unsure.",
        lambda p, c: torch.where((p.amax(dim=-1) < c).any(dim=0), (p.amax(dim=-1) < c).int().argmax(dim=0), len(p) - 1),
        lambda p, c: leave(1 - p.amax(dim=-1, keepdim=True), 1 - c),
    ),
    "counted from 1": Slip("The exits are counted from 1. The shallowest has the number 0.",
                           lambda p, c: leave(p, c) + 1),
    "whole batch": Slip("All images leave at the same exit. Each image decides for itself: amax over the classes only.",
                        _whole_batch),
    "never": Slip("No image leaves early: what is compared never reaches the confidence. A sure exit has one *large* "
                  "probability.",
                  lambda p, c: torch.full(p.shape[1:2], len(p) - 1),
                  lambda p, c: leave(p.amin(dim=-1, keepdim=True), c)),
    "a mask": Slip("Which exits are sure came back, (E, N). Asked for is one number for each image: the first of them.",
                   lambda p, c: p.amax(dim=-1) >= c),
    "the answers": Slip("The classes came back. Asked for are the exits that the images take.",
                        lambda p, c: p.argmax(dim=-1).gather(0, leave(p, c)[None])[0]),
}  # fmt: skip


def _verify_leave(function):
    check_values(function, leave, _answers_of_exits(), slips=LEAVE_SLIPS)
    level = Case((torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]]), 0.5))
    message = "A probability of exactly the confidence is enough: 'at least' is >=, and the image leaves there."
    check_values(function, leave, [level], otherwise=message, diagnosing=False, edge="exactly the confidence")
    return "Each image takes the first exit that is sure enough, and the deepest if none is."


def _answers():
    """Return the classes that two networks give, with errors that are shared, apart, and one's own."""
    generator = new_generator(None)
    cases = []
    for count in (80, 120, 200):
        labels = random_labels(generator, count, 6)
        wrong = (labels + 1 + random_labels(generator, count, 4)) % 6
        other = (wrong + 1) % 6
        kinds = torch.from_numpy(generator.choice(5, size=count, p=[0.3, 0.2, 0.2, 0.2, 0.1]))
        child = torch.where(torch.isin(kinds, torch.tensor([0, 3])), labels, wrong)
        parent = torch.where(kinds <= 1, torch.where(kinds == 0, labels, wrong), torch.where(kinds == 2, labels, wrong))
        parent = torch.where(kinds == 4, torch.where(other == labels, labels, other), parent)
        cases.append(Case((child, parent, labels)))
    return cases


def _share(among, counted):
    return lambda child, parent, labels: counted(child, parent, labels).sum() / among(child, parent, labels).sum()


def _child_wrong(child, parent, labels):
    return child != labels


def _parent_wrong(child, parent, labels):
    return parent != labels


def _both_wrong(child, parent, labels):
    return (child != labels) & (parent != labels)


def _same_wrong(child, parent, labels):
    return (child != labels) & (child == parent)


INHERITED_SLIPS = {
    "of all images": Slip(
        "This is a share of all images. A network with fewer errors has fewer to share: divide by the child's errors.",
        lambda child, parent, labels: _same_wrong(child, parent, labels).float().mean(),
    ),
    "of the parent's errors": Slip(
        "This is a share of the parent's errors: how many it hands on. Asked for is the share of the child's.",
        _share(_parent_wrong, _same_wrong),
    ),
    "both wrong": Slip(
        "Both wrong is not enough: asked for is the *same* wrong answer.", _share(_child_wrong, _both_wrong)
    ),
    "of the common errors": Slip(
        "This divides by the images that both get wrong. Asked for is the share of all of the child's errors.",
        _share(_both_wrong, _same_wrong),
    ),
    "agreement": Slip(
        "Equal answers are counted where both are right as well. Only the child's errors count.",
        lambda child, parent, labels: (child == parent).float().mean(),
        lambda child, parent, labels: (child == parent).sum() / (child != labels).sum(),
    ),
    "a count": Slip(
        "This is a count. Asked for is a share: divide by the number of the child's errors.",
        lambda child, parent, labels: _same_wrong(child, parent, labels).sum(),
    ),
    "different": Slip(
        "This is the share of the child's errors that are *not* inherited.",
        lambda child, parent, labels: 1 - inherited(child, parent, labels),
    ),
    "in percent": Slip("This is in percent. Asked for is a share between 0 and 1.",
                       lambda child, parent, labels: 100 * inherited(child, parent, labels)),
}  # fmt: skip

TURNS = {
    "06.lesson": Turn(
        lesson,
        _verify_lesson,
        "`kd_loss` detaches its teacher by itself, so this `.detach()` says who teaches and changes nothing. By "
        "hand it is needed: without it the deepest exit is drawn towards what the shallow ones can imitate.",
        {**LESSON_SLIPS, **LESSON_GRADIENT},
    ),
    "06.leave": Turn(
        leave,
        _verify_leave,
        "`argmax` of a column without a single `True` is 0. Without the second line, an image of which *no* exit is "
        "sure would leave at the first exit, where it is recognised worst.",
        LEAVE_SLIPS,
    ),
    "06.inherited": compared(
        inherited,
        _answers,
        slips=INHERITED_SLIPS,
        verified="The same wrong answers, as a share of the child's errors, agree on three random cases.",
        note="A *count* of equal errors grows with the number of errors. Two networks that make more errors share more "
        "of them, even if nothing was handed down: divide by the child's own errors.",
    ),
}
