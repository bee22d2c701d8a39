# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 13: columns in our order, the choice under a budget, the loss inside a Trainer."""

from collections.abc import Callable
from statistics import fmean, median
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import distillation_loss
from ..cases import Case, new_generator, random_tensor, seeded_cases
from ..slips import Slip
from . import compared

WORDS = ("eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero")


def in_our_order(logits, teacher_classes, our_classes):
    """Return the logits with their columns in the order of our classes."""
    return logits[:, [teacher_classes.index(name) for name in our_classes]]


def _orders() -> list[Case]:
    """Return logits and two orders of the same names, neither sorted; the permutation is not its own inverse."""
    generator = new_generator(None)
    cases = []
    for rows, ours in ((4, "bcda"), (5, "cadeb"), (7, "ebacd")):
        theirs = sorted(ours)
        names = [WORDS[place] for place in range(len(ours))]
        teacher = [names[theirs.index(letter)] for letter in ours]
        mine = teacher[1:] + teacher[:1]
        cases.append(Case((random_tensor(generator, rows, len(ours)), teacher, mine)))
    return cases


def _placed(places: Callable) -> Callable:
    return lambda logits, teacher_classes, our_classes: logits[:, places(list(teacher_classes), list(our_classes))]


ORDER_SLIPS = {
    "inverse": Slip(
        "The permutation is the inverse one: this says where the teacher's classes stand in our list. Column i of the "
        "result is our class i, so look up each of *our* names in the teacher's list.",
        _placed(lambda theirs, ours: [ours.index(name) for name in theirs]),
    ),
    "sorted": Slip(
        "The columns are sorted by name. That is the order of a folder, but asked for is the order of our_classes, "
        "whatever it is.",
        _placed(lambda theirs, ours: [theirs.index(name) for name in sorted(ours)]),
    ),
    "unchanged": Slip(
        "The columns are where they were. Column i of the result must be our class i.",
        lambda logits, teacher_classes, our_classes: logits.clone(),
        lambda logits, teacher_classes, our_classes: logits,
    ),
    "positions in the sorted list": Slip(
        "These are the places in a sorted list. Look each of our names up in teacher_classes.",
        _placed(lambda theirs, ours: [sorted(theirs).index(name) for name in ours]),
        _placed(lambda theirs, ours: [sorted(theirs).index(name) for name in theirs]),
    ),
    "reversed": Slip(
        "The columns are reversed. Look each name up.",
        _placed(lambda theirs, ours: list(range(len(theirs)))[::-1]),
    ),
    "softmax": Slip(
        "These are probabilities. The losses take logits, so only the columns move.",
        lambda logits, theirs, ours: in_our_order(logits.softmax(dim=1), theirs, ours),
        lambda logits, theirs, ours: in_our_order(logits, theirs, ours).log_softmax(dim=1),
    ),
    "answers": Slip(
        "These are the most probable classes. The student needs all logits, so only the columns move.",
        lambda logits, theirs, ours: in_our_order(logits, theirs, ours).argmax(dim=1),
    ),
}


def pick(candidates, budget):
    """Return the name of the candidate with the fewest held-out errors, as a mean over seeds, within the budget."""
    affordable = [name for name, (size, errors) in candidates.items() if size <= budget]
    return min(affordable, key=lambda name: sum(candidates[name][1]) / len(candidates[name][1]))


def _ranked(key: Callable, *, within: Callable = lambda size, budget: size <= budget) -> Callable:
    """Return a rule that takes the smallest key among the candidates that a budget leaves."""

    def rule(candidates, budget):
        left = [name for name, (size, _) in candidates.items() if within(size, budget)]
        return min(left, key=lambda name: key(*candidates[name]))

    return rule


def _mean(size: int, errors: list) -> float:
    return fmean(errors)


# In the first table each slip has another answer; the second has a candidate of exactly the budget's size.
TABLE = {
    "huge": (900, [1, 1, 1]),
    "large": (400, [20, 24, 25]),
    "middle": (300, [12, 13, 26]),
    "lucky": (310, [9, 30, 33]),
    "steady": (330, [21, 21, 21]),
    "half": (320, [11, 12, 45]),
    "tiny": (50, [60, 61, 65]),
}
EXACTLY = {"on the line": (200, [5, 6]), "below": (150, [7, 8]), "above": (201, [1, 2]), "more seeds": (180, [6, 6, 6])}


def _tables() -> list[Case]:
    more = {"one": (10, [9, 9, 9, 9]), "two": (20, [11, 12]), "three": (30, [8, 8, 8, 8, 8, 8])}
    return [Case((TABLE, 400)), Case((EXACTLY, 200)), Case((more, 100))]


def _as_name(function: Callable) -> Callable:
    """Compare names as numbers: the place of a name in its table, or -1 for anything else."""

    def outcome(candidates, budget) -> int:
        name = function(candidates, budget)
        return list(candidates).index(name) if isinstance(name, str) and name in candidates else -1

    return outcome


PICK_SLIPS = {
    "no budget": Slip(
        "The budget was not asked: this is the best of all candidates, however large.",
        _ranked(_mean, within=lambda size, budget: True),
    ),
    "strictly": Slip(
        "A candidate of exactly the budget's size fits. Use <=.",
        _ranked(_mean, within=lambda size, budget: size < budget),
    ),
    "best seed": Slip(
        "The best single seed decides. With many seeds somebody is always lucky: take the mean.",
        _ranked(lambda size, errors: min(errors)),
    ),
    "worst seed": Slip(
        "The worst single seed decides. Take the mean over the seeds.", _ranked(lambda size, errors: max(errors))
    ),
    "median": Slip(
        "The median leaves out how bad the bad seeds are. Asked for is the mean.",
        _ranked(lambda size, errors: median(errors)),
    ),
    "sum": Slip(
        "The errors are added up and not divided, so a candidate with more seeds looks worse. Take the mean.",
        _ranked(lambda size, errors: sum(errors)),
    ),
    "smallest": Slip(
        "The smallest file is taken. A budget is a limit; within it, the errors decide.", _ranked(lambda size, _: size)
    ),
    "largest": Slip(
        "The largest that fits is taken. Large does not mean good: look at the errors.",
        _ranked(lambda size, _: -size),
    ),
    "most errors": Slip(
        "This is the candidate with the most errors. Fewer are better: take the smallest mean.",
        _ranked(lambda size, errors: -fmean(errors)),
    ),
}


def loss_and_outputs(model, ask, inputs):
    """Return the loss of a batch, and what the model returned."""
    labels = inputs["labels"]
    tokens = {name: part for name, part in inputs.items() if name != "labels"}
    outputs = model(**tokens)
    loss = distillation_loss(outputs.logits, ask(tokens), labels, temperature=2.0, alpha=0.5)
    return loss, outputs


class _Reader(nn.Module):
    """Reads as a classifier of transformers does: words where the mask is 1, and a loss of its own given labels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.words = nn.Parameter(torch.randn(12, 4, generator=generator))
        self.asked_with_labels = False

    def forward(self, input_ids, attention_mask=None, labels=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask  # (B, L)
        embedded = self.words[input_ids] * mask.unsqueeze(-1)  # (B, L, K)
        logits = embedded.sum(dim=1) / mask.sum(dim=1, keepdim=True)  # (B, K)
        self.asked_with_labels |= labels is not None
        return SimpleNamespace(logits=logits, loss=None if labels is None else F.cross_entropy(logits, labels))


def _through_readers(function: Callable) -> Callable:
    def outcome(*, seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        student, teacher = _Reader(seed), _Reader(seed + 1)
        mask = (torch.arange(6) < torch.randint(2, 6, (5, 1), generator=generator)).long()  # (B, L)
        inputs = {
            "input_ids": torch.randint(0, 12, (5, 6), generator=generator),
            "attention_mask": mask,
            "labels": torch.randint(0, 4, (5,), generator=generator),
        }
        with torch.enable_grad():
            result = function(student, lambda tokens: teacher(**tokens).logits.detach(), inputs)
        if not isinstance(result, tuple) or len(result) != 2 or not hasattr(result[1], "logits"):
            return [torch.zeros(()), torch.zeros_like(student.words), torch.zeros(5, 4), 0.0]
        loss, outputs = result
        gradient = None
        if type(loss) is Tensor and loss.dim() == 0 and loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, student.words, allow_unused=True)
        gradient = torch.zeros_like(student.words) if gradient is None else gradient
        loss = loss.detach() if type(loss) is Tensor else loss
        return [loss, gradient, outputs.logits.detach(), float(teacher.asked_with_labels)]

    return outcome


def _tokens(inputs: dict, *names: str) -> dict:
    return {name: part for name, part in inputs.items() if name in (names or ("input_ids", "attention_mask"))}


def _made(loss_of: Callable, student_sees: tuple = (), teacher_sees: tuple = ()) -> Callable:
    def wrong(model, ask, inputs):
        outputs = model(**_tokens(inputs, *student_sees))
        return loss_of(outputs.logits, ask(_tokens(inputs, *teacher_sees)), inputs["labels"]), outputs

    return wrong


def _asked(logits: Tensor, taught: Tensor, labels: Tensor, **knobs: float) -> Tensor:
    return distillation_loss(logits, taught, labels, **({"temperature": 2.0, "alpha": 0.5} | knobs))


def _own_loss(model, ask, inputs):
    outputs = model(**inputs)
    return outputs.loss, outputs


def _loss_alone(model, ask, inputs):
    return loss_and_outputs(model, ask, inputs)[0]


def _labels_to_the_teacher(model, ask, inputs):
    outputs = model(**_tokens(inputs))
    return _asked(outputs.logits, ask(inputs), inputs["labels"]), outputs


TRAINER_SLIPS = {
    "teacher without mask": Slip(
        "The teacher got no attention mask, so it also reads the padding. Hand over everything but the labels.",
        _made(_asked, teacher_sees=("input_ids",)),
    ),
    "student without mask": Slip(
        "The student got no attention mask, so it also reads the padding. Hand over everything but the labels.",
        _made(_asked, student_sees=("input_ids",)),
        _made(_asked, student_sees=("input_ids",), teacher_sees=("input_ids",)),
    ),
    "the model's own loss": Slip(
        "This is the loss that the model computes from the labels alone: no teacher is in it.", _own_loss
    ),
    "loss alone": Slip("The Trainer needs two things when it evaluates: return loss, outputs.", _loss_alone),
    "labels to the teacher": Slip(
        "The teacher got the labels, too. Its logits stay the same, but it computes a loss that nobody needs, and a "
        "teacher that is no model of transformers raises an error.",
        _labels_to_the_teacher,
    ),
    "exchanged": Slip(
        "Student and teacher are exchanged in the loss: the student comes first.",
        _made(lambda logits, taught, labels: _asked(taught, logits, labels)),
    ),
    "temperature": Slip("The temperature is not 2.", _made(lambda *parts: _asked(*parts, temperature=1.0)),
                        _made(lambda *parts: _asked(*parts, temperature=4.0))),
    "alpha": Slip("The teacher's share is not a half.", _made(lambda *parts: _asked(*parts, alpha=0.7)),
                  _made(lambda *parts: _asked(*parts, alpha=1.0))),
    "twice": Slip(
        "The labels count twice: distillation_loss has the cross-entropy inside already.",
        _made(lambda logits, taught, labels: _asked(logits, taught, labels) + F.cross_entropy(logits, labels)),
    ),
    "detached": Slip(
        "No gradient reaches the student: its logits were detached, or the loss became a number.",
        _made(lambda logits, taught, labels: _asked(logits.detach(), taught, labels)),
    ),
}  # fmt: skip

TURNS = {
    "13.in-our-order": compared(
        in_our_order,
        _orders,
        slips=ORDER_SLIPS,
        probing=False,
        diagnosing=False,
        otherwise="Column i of the result must be the teacher's logit of our class i, for every row.",
        verified="Column i is our class i, in any order of either list.",
        note="The inverse permutation is the mistake that is made most often. It goes unnoticed if one list is sorted "
        "and only two classes have changed places.",
    ),
    "13.pick": compared(
        pick,
        _tables,
        slips=PICK_SLIPS,
        through=_as_name,
        probing=False,
        diagnosing=False,
        otherwise="Return the name of the candidate that has the smallest mean of held-out errors, among those whose "
        "size is at most the budget.",
        verified="The budget decides who may stand, the mean over seeds who wins, and no test image was looked at.",
        note="Two candidates whose intervals overlap are not told apart by this rule. If it matters, train more seeds; "
        "if it does not, take the smaller one.",
    ),
    "13.trainer": compared(
        loss_and_outputs,
        lambda: seeded_cases(None, 3),
        slips=TRAINER_SLIPS,
        through=_through_readers,
        probing=False,
        diagnosing=False,
        otherwise="Return two things: distillation_loss of the student's logits, the teacher's and the labels, with "
        "T = 2 and α = 0.5; and what the model returned. Student and teacher get all inputs but the labels.",
        verified="Both read the same tokens with the same mask, and the loss has the teacher in it once.",
        note="A forgotten attention mask raises no error. The model then reads padding as words, and its answer "
        "depends on the longest text of the batch.",
    ),
}
