"""Checks of exercise 06, self-distillation: deep supervision, a forward pass repaired, early exits, an experiment."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ._core import (
    Case,
    Question,
    Slip,
    check_answers,
    check_choice,
    check_values,
    fail,
    name_of,
    new_generator,
    passed,
    random_labels,
    random_tensor,
)
from ._verdicts import check_verdict

_deep_supervision_loss, _kd_loss = losses.deep_supervision_loss, losses.kd_loss
_Tensor, _grad = torch.Tensor, torch.autograd.grad


def check_deep_supervision_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(exit_logits, labels, *, temperature, alpha)`` of exercise 06, task 1.

    Parameters
    ----------
    function : callable
        Takes a list of logits (B, K), deepest exit last, and labels (B,); returns
        ``kdcourse.losses.deep_supervision_loss`` of them.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for exits, temperature, alpha in ((3, 3.0, 0.3), (2, 0.7, 0.8), (4, 6.0, 0.6)):
        batch, classes = (int(n) for n in generator.integers((4, 4), (9, 12)))
        logits = [random_tensor(generator, batch, classes, scale=2) for _ in range(exits)]
        knobs = {"temperature": temperature, "alpha": alpha}
        cases.append(Case((logits, random_labels(generator, batch, classes)), knobs))
    check_values(function, _deep_supervision_loss, cases, slips=DEEP_SLIPS)
    found, right = (_exit_gradients(f, cases[0]) for f in (function, _deep_supervision_loss))
    *shallower, deepest = zip(found, right, strict=True)
    if any(not torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in shallower):
        fail("The value is right, but the wrong gradient reaches a shallower exit: is something detached too much?")
    if not torch.allclose(*deepest, rtol=1e-3, atol=1e-6):
        fail(
            "The soft targets pull at the deepest exit as well. It is their teacher and learns from the labels alone: "
            "else it is drawn down to what the shallow exits can imitate."
        )
    passed("Labels for every exit, α T² KL to the deepest for the shallower ones, summed; the deepest is detached.")


def check_exit_forward(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(stages, auxiliary_heads, classifier, images)`` of exercise 06, task 2.

    Parameters
    ----------
    function : callable
        Runs all stages and returns the logits of every exit, deepest last; features are averaged over positions first.
    seed : int, optional
        Of weights and images; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of a mistake that is still there.
    """
    cases = [Case((), {"seed": int(number)}) for number in new_generator(seed).integers(0, 10_000, size=2)]
    check_values(_outputs_of(function), _outputs_of(_exit_forward), cases, slips=FORWARD_SLIPS)
    passed("Every stage runs, each exit sees the mean over positions, and the classifier stands after the last stage.")


def check_early_exit(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(exit_logits, *, confidence)`` of exercise 06, task 3.

    Parameters
    ----------
    function : callable
        Takes a list of logits (N, K), deepest exit last; returns the predicted classes (N,) and the exits taken (N,).
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for confidence in (0.5, 0.8, 0.95):
        logits = [random_tensor(generator, 200, 4, scale=2.5) for _ in range(3)]
        cases.append(Case((logits,), {"confidence": confidence}))
    check_values(function, _early_exit, cases, slips=EARLY_SLIPS)
    for confidence, told in ((0.0, "first"), (1.1, "deepest")):
        case = Case(cases[0].args, {"confidence": confidence})
        message = f"At a confidence of {confidence} every image takes the {told} exit."
        check_values(function, _early_exit, [case], slips=[Slip(message, function)])
    passed("Each image takes the first exit that is sure enough, and the deepest if none is.")


def check_exit_questions(answers: Any) -> None:
    """Check the three answers of exercise 06, task 4.

    Parameters
    ----------
    answers : sequence of three str
        Letters.

    Raises
    ------
    CheckFailed
        With what speaks against the first wrong letter.
    """
    check_answers(
        answers,
        Question(
            right="c",
            wrong={
                "a": "leaving early changes no weight; the network is the same in every row.",
                "b": "the deepest exit sees 14 times 14 pixels of each image that reaches it, in every row.",
            },
            because="the sure images are the easy ones; whoever stays is harder than the average",
        ),
        Question(
            right="a",
            wrong={
                "b": "compare the accuracies of the two rows: the difference is a few images of 1,000.",
                "c": "look at the shares: some images do leave.",
            },
            because="exits that are rarely wrong when they are sure cost nothing and save the later stages",
        ),
        Question(
            right="b",
            wrong={
                "a": "then the reported accuracy is the best of many tries on the very images it is reported on.",
                "c": "training images are known by heart: an exit is surer and more often right there than it will be.",
            },
            because="the confidence is a knob like T and α: held-out images choose, test images report",
        ),
    )


def check_exit_experiment(
    verdicts: Any, answer: Any, taught: Sequence[Sequence[float]], labels_only: Sequence[Sequence[float]]
) -> None:
    """Check two verdicts and the question of exercise 06, task 5.

    Parameters
    ----------
    verdicts : dict from str to str
        ``"first"`` and ``"deepest"``: ``"better"``, ``"worse"`` or ``"unclear"``.
    answer : str
        The letter.
    taught, labels_only : list by seed of the errors of each exit
        With and without the deepest exit's teaching.

    Raises
    ------
    CheckFailed
        With what the interval says, or what speaks against the letter.
    """
    if type(verdicts) is not dict or sorted(verdicts) != ["deepest", "first"]:
        fail("verdicts must be a dict with a word for 'first' and one for 'deepest'.")
    for name, place in (("first", 0), ("deepest", -1)):
        check_verdict(verdicts[name], [row[place] for row in taught], [row[place] for row in labels_only])
    check_choice(
        answer,
        right="b",
        wrong={
            "a": "task 1 has checked it: no gradient of the soft targets reaches the deepest exit's logits.",
            "c": "its weight is 1 in both arms, whatever α is.",
        },
        because="the first stage serves all exits, and follows whatever reaches any of them",
    )


def _exit_gradients(function: Callable, case: Case) -> list[Tensor]:
    logits = [_Tensor.clone(exit).requires_grad_() for exit in case.args[0]]
    loss = function(logits, case.args[1], **case.kwargs)
    if type(loss) is not _Tensor or not loss.requires_grad:
        fail("No gradient reaches any exit: is the loss a plain number, or is something detached too much?")
    found = _grad(loss, logits, allow_unused=True)
    return [torch.zeros_like(z) if g is None else g for g, z in zip(found, logits, strict=True)]


def _deep(
    exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float, teacher: str = "deepest",
    swapped: bool = False, squared: bool = True, deepest_labels: float = 1.0, average: bool = False,
    kd: Callable[..., Tensor] = _kd_loss, shallow_labels: bool = True,
) -> Tensor:  # fmt: skip
    *shallower, deepest = exit_logits
    share, terms = 1 - alpha if swapped else alpha, []
    for place, logits in enumerate(shallower):
        target = {"deepest": deepest, "first": exit_logits[0], "next": exit_logits[place + 1],
                  "mean": torch.stack(exit_logits).mean(dim=0)}[teacher]  # fmt: skip
        soft = kd(logits, target, temperature=temperature) / (1 if squared else temperature**2)
        terms.append(share * soft + (1 - share if shallow_labels else 0) * F.cross_entropy(logits, labels))
    total = torch.stack(terms).mean() if average else torch.stack(terms).sum()
    return deepest_labels * F.cross_entropy(deepest, labels) + total


def _with(**changes: Any) -> Callable:
    return lambda exit_logits, labels, **knobs: _deep(exit_logits, labels, **knobs, **changes)


def _deepest_twice(exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    extra = (1 - alpha) * F.cross_entropy(exit_logits[-1], labels)
    return _deep(exit_logits, labels, temperature=temperature, alpha=alpha) + extra


def _unweighted(exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = [_kd_loss(logits, exit_logits[-1], temperature=temperature) for logits in exit_logits[:-1]]
    hard = [F.cross_entropy(logits, labels) for logits in exit_logits]
    return torch.stack(soft + hard).sum()


def _as_the_text(exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    *shallower, deepest = exit_logits
    terms = [_kd_loss(z, deepest, temperature=temperature) + 0.5 * F.cross_entropy(z, labels) for z in shallower]
    return F.cross_entropy(deepest, labels) + 0.5 * torch.stack(terms).mean()


_IN_THE_LOOP = (
    "The deepest exit runs through the loop of the shallower ones: it is its own teacher there, and the weight of its "
    "labels is no longer 1."
)
DEEP_SLIPS = (
    Slip("α is on the wrong term: it is the share of the soft targets, 1 - α that of the labels.", _with(swapped=True)),
    Slip("The factor T² is missing: the soft targets fade as T grows.", _with(squared=False)),
    Slip("The shallower exits are averaged. Asked for is their sum.", _with(average=True)),
    Slip(
        "The deepest exit learns nothing: its cross-entropy with the labels is missing.",
        _with(deepest_labels=0),
    ),
    Slip(
        _IN_THE_LOOP,
        lambda z, y, *, temperature, alpha: _deep(z, y, temperature=temperature, alpha=alpha, deepest_labels=1 - alpha),
    ),
    Slip(
        _IN_THE_LOOP,
        _deepest_twice,
    ),
    Slip(
        "The first exit teaches. Exits come shallow to deep: the teacher is the last one.",
        _with(teacher="first"),
    ),
    Slip("Each exit is taught by the next deeper one. Here all are taught by the deepest.", _with(teacher="next")),
    Slip(
        "The mean of all exits teaches. That is an ensemble as teacher, another method.",
        _with(teacher="mean"),
    ),
    Slip("The shallower exits never see the labels.", _with(shallow_labels=False)),
    Slip("The two terms are added without the weights α and 1 - α.", _unweighted),
    Slip(
        "These are fixed weights of a half, and α is not used. Who knows which share the soft targets have?",
        _as_the_text,
    ),
    Slip(
        "This is KL(exit‖deepest): the teacher's probabilities must weight (trap 1).",
        _with(kd=lambda s, t, *, temperature: _kd_loss(t, s, temperature=temperature)),
    ),
    Slip(
        "The soft targets' term is K times too small: a mean over classes as well as images (trap 2).",
        _with(kd=lambda s, t, *, temperature: _kd_loss(s, t, temperature=temperature) / s.shape[-1]),
    ),
    Slip(
        "The soft targets' term is summed over the batch: twice the images would mean twice the step.",
        _with(kd=lambda s, t, *, temperature: _kd_loss(s, t, temperature=temperature) * len(s)),
    ),
)


def _mean(features: Tensor) -> Tensor:
    return features.mean(dim=(2, 3))


def _exit_forward(
    stages: Sequence[nn.Module], auxiliary_heads: Sequence[nn.Module], classifier: nn.Module, images: Tensor, *,
    pool: Callable[[Tensor], Tensor] = _mean, reversed_order: bool = False,
) -> list[Tensor]:  # fmt: skip
    features, outputs = images, []
    for stage, head in zip(stages, [*auxiliary_heads, classifier], strict=True):
        features = stage(features)
        outputs.append(head(pool(features)))
    return outputs[::-1] if reversed_order else outputs


def _dropped_stage(
    stages: Sequence[nn.Module], auxiliary_heads: Sequence[nn.Module], classifier: nn.Module, images: Tensor, *,
    pool: Callable[[Tensor], Tensor] = _mean,
) -> list[Tensor]:  # fmt: skip
    features, outputs = images, []
    for stage, head in zip(stages, auxiliary_heads, strict=False):
        features = stage(features)
        outputs.append(head(pool(features)))
    return [*outputs, classifier(pool(features))]


def _from_images(
    stages: Sequence[nn.Module], auxiliary_heads: Sequence[nn.Module], classifier: nn.Module, images: Tensor
) -> list[Tensor]:
    heads = [*auxiliary_heads, classifier]
    return [head(_mean(stage(images))) for stage, head in zip(stages, heads, strict=True)]


def _classifier_everywhere(
    stages: Sequence[nn.Module], auxiliary_heads: Sequence[nn.Module], classifier: nn.Module, images: Tensor
) -> list[Tensor]:
    return _exit_forward(stages, [classifier] * len(auxiliary_heads), classifier, images)


def _outputs_of(function: Callable, **changes: Any) -> Callable:
    def outcome(*, seed: int) -> Any:
        if not callable(function):
            fail(f"a function is needed, got {type(function).__name__}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # As wide as the images, so that a stage which is left out, or fed with the images, raises no error.
            stages = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(3))
            heads, classifier = nn.ModuleList(nn.Linear(4, 5) for _ in range(2)), nn.Linear(4, 5)
            images = torch.randn(6, 4, 5, 5)
        return function(stages, heads, classifier, images, **changes)

    outcome.__name__ = name_of(function)
    return outcome


_DROPPED = (
    "The last stage never runs: there is one auxiliary head fewer than stages, and zip stops at the shorter list "
    "without a word (trap 45)."
)
_POOLED = "Asked for is the mean over positions in front of every exit, not their {}."
_ONLY_DEEPEST = "Only the deepest exit came back. All exits are needed, in a list."
FORWARD_SLIPS = (
    Slip(_DROPPED, _outputs_of(_dropped_stage)),
    Slip(_DROPPED, _outputs_of(_dropped_stage, pool=lambda f: f.amax(dim=(2, 3)))),
    Slip(_POOLED.format("maximum"), _outputs_of(_exit_forward, pool=lambda f: f.amax(dim=(2, 3)))),
    Slip(_POOLED.format("sum"), _outputs_of(_exit_forward, pool=lambda f: f.sum(dim=(2, 3)))),
    Slip(
        "Each exit sees one corner of its map. Asked for is the mean over positions.",
        _outputs_of(_exit_forward, pool=lambda f: f[:, :, 0, 0]),
    ),
    Slip(
        "The exits come deepest first. Asked for is shallow to deep.",
        _outputs_of(_exit_forward, reversed_order=True),
    ),
    Slip(_ONLY_DEEPEST, _outputs_of(lambda s, h, c, x: _exit_forward(s, h, c, x)[-1])),
    Slip(_ONLY_DEEPEST, _outputs_of(lambda s, h, c, x: _exit_forward(s, h, c, x)[-1:])),
    Slip(
        "Every stage was given the images. A stage takes what the stage before it has made.",
        _outputs_of(_from_images),
    ),
    Slip(
        "One classifier serves all exits. Each has a head of its own.",
        _outputs_of(_classifier_everywhere),
    ),
    Slip(
        "There is an exit too many: an auxiliary head after the last stage copies the classifier (trap 47).",
        _outputs_of(lambda s, h, c, x: [*_exit_forward(s, h, c, x), _exit_forward(s, h, c, x)[-1]]),
    ),
)  # fmt: skip


def _early_exit(
    exit_logits: list[Tensor], *, confidence: float, sureness: str = "softmax", among: str = "first",
    unsure: int = -1, predict: str = "taken",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    logits = torch.stack(exit_logits)  # (E, N, K)
    scores = {"softmax": logits.softmax(dim=2), "logits": logits, "sigmoid": logits.sigmoid(),
              "batch": logits.softmax(dim=1)}[sureness].amax(dim=2)  # (E, N)  # fmt: skip
    sure = scores >= confidence
    count = len(exit_logits)
    places = torch.arange(count)[:, None]
    if among == "first":
        exits = torch.where(sure, places, count).amin(dim=0)
    elif among == "last":
        exits = torch.where(sure, places, -1).amax(dim=0)
    else:  # the surest
        exits = torch.where(sure.any(dim=0), scores.argmax(dim=0), count)
    exits = torch.where(sure.any(dim=0), exits, unsure % count)
    chosen = exits if predict == "taken" else torch.full_like(exits, count - 1)
    return logits[chosen, torch.arange(logits.shape[1])].argmax(dim=1), exits


def _early(**changes: Any) -> Callable:
    return lambda exit_logits, *, confidence: _early_exit(exit_logits, confidence=confidence, **changes)


def _unsure_anyway(exit_logits: list[Tensor], *, confidence: float) -> tuple[Tensor, Tensor]:
    logits = torch.stack(exit_logits)
    sure = logits.softmax(dim=2).amax(dim=2) < confidence
    exits = torch.where(sure.any(dim=0), sure.int().argmax(dim=0), len(exit_logits) - 1)
    return logits[exits, torch.arange(logits.shape[1])].argmax(dim=1), exits


EARLY_SLIPS = (
    Slip("The last exit that is sure was taken. The first one saves the work of the others.", _early(among="last")),
    Slip(
        "The surest exit was taken. To know it, all exits must run, and nothing is saved.",
        _early(among="surest"),
    ),
    Slip("An image of which no exit is sure left at the first one. It must reach the deepest.", _early(unsure=0)),
    Slip(
        "An image of which no exit is sure left at the surest one. It must reach the deepest.",
        lambda z, *, confidence: _most_confident(z, confidence=confidence),
    ),
    Slip("Logits were compared with the confidence. It is a probability: softmax first.", _early(sureness="logits")),
    Slip("Each class was judged by itself (sigmoid). The probabilities of an image add up to 1.",
         _early(sureness="sigmoid")),
    Slip("The softmax runs over the images. A row of probabilities belongs to one image.", _early(sureness="batch")),
    Slip("The predictions are those of the deepest exit, whatever exit was taken.", _early(predict="deepest")),
    Slip("The comparison is turned round: images leave where the exit is unsure.", _unsure_anyway),
    Slip(
        "The exits came first. Asked for are the predicted classes, then the exits.",
        lambda z, *, confidence: _early_exit(z, confidence=confidence)[::-1],
    ),
)  # fmt: skip


def _most_confident(exit_logits: list[Tensor], *, confidence: float) -> tuple[Tensor, Tensor]:
    logits = torch.stack(exit_logits)
    scores = logits.softmax(dim=2).amax(dim=2)
    sure = scores >= confidence
    exits = torch.where(sure.any(dim=0), sure.int().argmax(dim=0), scores.argmax(dim=0))
    return logits[exits, torch.arange(logits.shape[1])].argmax(dim=1), exits
