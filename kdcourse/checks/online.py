"""Checks of exercise 07: mutual learning, a schedule repaired, a curriculum, peers that disagree, an experiment."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from ..sweeps import mean_interval
from ._core import (
    Case,
    Question,
    Slip,
    as_number,
    check_answers,
    check_values,
    fail,
    name_of,
    new_generator,
    passed,
    random_labels,
    random_tensor,
)
from ._verdicts import check_verdicts

_mutual_learning_loss, _kd_loss = losses.mutual_learning_loss, losses.kd_loss
_Tensor, _grad, _allclose = torch.Tensor, torch.autograd.grad, torch.allclose


def check_mutual_learning_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(all_logits, labels, *, temperature)`` of exercise 07, task 1.

    Parameters
    ----------
    function : callable
        Takes a list of logits (B, K), one per student, and labels (B,); returns a list of losses, one per student,
        as ``kdcourse.losses.mutual_learning_loss`` does, and raises ValueError for one student.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for students, temperature in ((3, 1.0), (2, 3.0), (4, 2.0)):
        batch, classes = (int(n) for n in generator.integers((4, 4), (9, 12)))
        logits = [random_tensor(generator, batch, classes, scale=2) for _ in range(students)]
        labels = random_labels(generator, batch, classes)
        cases.append(Case((logits, labels), {"temperature": temperature}))
    check_values(function, _mutual_learning_loss, cases, slips=MUTUAL_SLIPS)
    _check_who_is_trained(function, cases[0])
    _check_refuses_one(function, cases[0])
    passed("Labels and the mean of T² KL to each peer, one loss per student, which trains no other; one is refused.")


def check_schedule(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(epoch, epochs)`` of exercise 07, task 2.

    Parameters
    ----------
    function : callable
        Returns ``(temperature, alpha)``: from (10, 0.9) in the first epoch to (1, 0.5) in the last.
    seed : int, optional
        Of the count of epochs; fresh without it.

    Raises
    ------
    CheckFailed
        With the name of a mistake that is still there.
    """
    runs = (5, int(new_generator(seed).integers(6, 40)), 2)
    cases = [Case((epoch, epochs)) for epochs in runs for epoch in range(epochs)]
    check_values(function, _knobs, cases, slips=SCHEDULE_SLIPS)
    check_values(_named_like(function, _without_division(function)), _knobs, [Case((0, 1))], slips=ONE_EPOCH_SLIPS)
    passed(f"First values in the first epoch and last ones in the last, for runs of 1, {', '.join(map(str, runs))}.")


def check_curriculum(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(teacher_logits, labels, *, share)`` of exercise 07, task 3.

    Parameters
    ----------
    function : callable
        Takes logits (N, K) and labels (N,); returns the positions of the easiest share by the teacher's loss, the
        easiest first, rounded up.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for count, share in ((41, 0.3), (30, 0.55), (25, 1.0)):
        logits, labels = random_tensor(generator, count, 6, scale=2), random_labels(generator, count, 6)
        cases.append(Case((logits, labels), {"share": share}))
    check_values(function, _curriculum, cases, slips=CURRICULUM_SLIPS)
    # Two images of which the teacher is wrongly sure, one more than the other: probability 0 for both in float32.
    labels = torch.zeros(4, dtype=torch.long)
    logits = torch.tensor([[0.0, 300.0], [0.0, 1.0], [0.0, 200.0], [0.0, -1.0]])
    message = (
        "Where the teacher is wrong and very sure, the order is lost: a probability was rounded to 0, and its "
        "logarithm taken. Stay in log space (trap 4)."
    )
    sure = Case((logits, labels), {"share": 1.0})
    check_values(function, _curriculum, [sure], slips=[Slip(message, function)])
    passed("The easiest by the teacher's loss come first, the share is rounded up, and a sure teacher is no problem.")


def check_cohort_picture(answers: Any) -> None:
    """Check the three answers of exercise 07, task 4.

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
            right="a",
            wrong={
                "b": "a loss holds fast where it is smallest; is its number the smallest of the five?",
                "c": "a loss holds fast where it is smallest; is its number the smallest of the five?",
            },
            because="the mean of the divergences is least at the mean of the predictions: each peer keeps its say",
        ),
        Question(
            right="c",
            wrong={
                "a": "no label enters a row of this picture; it shows what the students say.",
                "b": "once, after the mean; and a second softmax would make a prediction flatter, not sharper.",
            },
            because="a mean of logits is a product of predictions: whoever says 'impossible' has a veto",
        ),
        Question(
            right="b",
            wrong={
                "a": "any row could be written down and compared, trained or not. What is the best of them worth?",
                "c": "at a higher temperature the three predictions are still three.",
            },
            because="the least possible mean divergence says how much the peers disagree; only a united cohort has 0",
        ),
    )


def check_mutual_verdicts(verdicts: Any, may_save: Any, errors: Mapping[str, Sequence[float]]) -> None:
    """Check the three verdicts and the best case of exercise 07, task 5, against paired 95 % intervals.

    Parameters
    ----------
    verdicts : dict from str to str
        For each baseline ``"better"``, ``"worse"`` or ``"unclear"``.
    may_save : float
        Errors that the interval against ``"alone"`` still lets the cohort save; 0 if it is worse for sure.
    errors : mapping from str to list of float
        Test errors by seed of ``"mutual"`` and of every baseline.

    Raises
    ------
    CheckFailed
        With what the interval of the first wrong verdict says.
    """
    check_verdicts(verdicts, errors, {other: ("mutual", other) for other in MUTUAL_BASELINES})
    if may_save is None or may_save is ...:
        raise NotImplementedError("may_save has no answer yet: put a number of errors.")
    differences = [a - b for a, b in zip(errors["mutual"], errors["alone"], strict=True)]
    mean, low, high = mean_interval(differences)
    # The learner may have rounded to whole errors, or have read them off on another machine.
    check_values(
        lambda: as_number(may_save, "may_save"), lambda: max(0.0, -low), [Case()], atol=max(0.6, 0.05 * (high - low)),
        slips=[
            Slip("A negative number of errors saved would be errors added: mind the sign.", lambda: low),
            Slip("That is the cohort's worst case: the other end of the interval.", lambda: high),
            Slip("That is the cohort's worst case: the other end of the interval.", lambda: -high),
            Slip("That is half the interval's width, and it is not centred on 0.", lambda: high - mean),
            Slip("That is the mean difference. The interval says how far from it the truth may be.", lambda: mean),
            Slip("That is the mean difference. The interval says how far from it the truth may be.", lambda: -mean),
            Slip("That is not where the interval ends: take it from the five paired differences.",
                 lambda: as_number(may_save, "may_save")),
        ],
    )  # fmt: skip
    passed(f"With {len(differences)} seeds a gain of up to {max(0.0, -low):.0f} errors cannot be excluded.")


MUTUAL_BASELINES = ("alone", "label_smoothing", "twice as long")


def _check_who_is_trained(function: Callable, case: Case) -> None:
    found, right = (_gradients(f, case) for f in (function, _mutual_learning_loss))
    for own, (rows, right_rows) in enumerate(zip(found, right, strict=True)):
        for other, (a, b) in enumerate(zip(rows, right_rows, strict=True)):
            if _allclose(a, b, rtol=1e-3, atol=1e-6):
                continue
            if own == other:
                fail("The values are right, but a student gets the wrong gradient of its own loss: was it detached?")
            fail(
                "A student's loss also pulls at its peers. Each would then be drawn to those who imitate it, besides "
                "what it learns itself: a peer is a fixed target."
            )


def _gradients(function: Callable, case: Case) -> list[list[Tensor]]:
    logits = [_Tensor.clone(one).requires_grad_() for one in case.args[0]]
    found = []
    for loss in function(logits, case.args[1], **case.kwargs):
        if type(loss) is not _Tensor or not loss.requires_grad:
            fail("No gradient flows from a student's loss: is it a plain number, or is something detached too much?")
        gradients = _grad(loss, logits, retain_graph=True, allow_unused=True)
        found.append([torch.zeros_like(z) if g is None else g for g, z in zip(gradients, logits, strict=True)])
    return found


def _check_refuses_one(function: Callable, case: Case) -> None:
    logits, labels = case.args
    try:
        function([logits[0].clone()], labels, **case.kwargs)
    except ValueError:
        return
    except Exception as error:
        fail(f"A cohort of one gave {type(error).__name__}: {error}. A ValueError should say that there is no peer.")
    fail("A cohort of one was accepted. There is no peer: a mean over none is NaN, or it learns from labels unnoticed.")


def _mutual(
    all_logits: Sequence[Tensor], labels: Tensor, *, temperature: float, kd: Callable[..., Tensor] = _kd_loss,
    reduce: Callable[[Tensor], Tensor] = torch.mean, ce: Callable[..., Tensor] = F.cross_entropy,
    peers_of: Callable[[Sequence[Tensor], int], list[Tensor]] | None = None,
) -> list[Tensor]:  # fmt: skip
    found = []
    for own, logits in enumerate(all_logits):
        peers = (peers_of or _peers)(all_logits, own)
        divergences = torch.stack([kd(logits, peer, temperature=temperature) for peer in peers])
        found.append(ce(logits, labels) + reduce(divergences))
    return found


def _peers(all_logits: Sequence[Tensor], own: int) -> list[Tensor]:
    return [other for place, other in enumerate(all_logits) if place != own]


def _with(**changes: Any) -> Callable:
    return lambda z, labels, *, temperature: _mutual(z, labels, temperature=temperature, **changes)


def _towards_mean_prediction(z: Sequence[Tensor], labels: Tensor, *, temperature: float) -> list[Tensor]:
    def mean(all_logits: Sequence[Tensor], own: int) -> list[Tensor]:
        rows = torch.stack(_peers(all_logits, own)) / temperature
        return [temperature * rows.softmax(dim=-1).mean(dim=0).log()]

    return _mutual(z, labels, temperature=temperature, peers_of=mean)


def _cross_entropies(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    log_q = F.log_softmax(s / temperature, dim=-1)
    return -(temperature**2) * (F.softmax(t / temperature, dim=-1) * log_q).sum(dim=-1).mean()


def _softened_labels(z: Sequence[Tensor], labels: Tensor, *, temperature: float) -> list[Tensor]:
    return _mutual(z, labels, temperature=temperature, ce=lambda s, y: F.cross_entropy(s / temperature, y))


MUTUAL_SLIPS = (
    Slip(
        "The peers' logits are averaged first. That is the ensemble as a target, another method (trap 51): here each "
        "peer has a divergence of its own.",
        _with(peers_of=lambda z, own: [torch.stack(_peers(z, own)).mean(dim=0)]),
    ),
    Slip(
        "The peers' predictions are averaged first, and one divergence is taken. Asked for is the mean of divergences.",
        _towards_mean_prediction,
    ),
    Slip("The divergences are added up: a larger cohort would weigh more against the labels.", _with(reduce=torch.sum)),
    Slip(
        "The sum is divided by S. A student is not its own peer: there are fewer divergences than students.",
        _with(peers_of=lambda z, own: list(z)),
    ),
    Slip(
        "The labels are missing: students who only imitate each other can agree on anything.", _with(ce=lambda z, y: 0)
    ),
    Slip(
        "The factor T² is missing: the peers fade as T grows.",
        _with(kd=lambda s, t, *, temperature: _kd_loss(s, t, temperature=temperature) / temperature**2),
    ),
    Slip(
        "This is KL(student‖peer): the probabilities of the one who teaches must weight (trap 1).",
        _with(kd=lambda s, t, *, temperature: _kd_loss(t, s, temperature=temperature)),
    ),
    Slip(
        "The peers' term is K times too small: a mean over classes as well as images (trap 2).",
        _with(kd=lambda s, t, *, temperature: _kd_loss(s, t, temperature=temperature) / s.shape[-1]),
    ),
    Slip(
        "The peers' term is summed over the batch: twice the images would mean twice the step.",
        _with(kd=lambda s, t, *, temperature: _kd_loss(s, t, temperature=temperature) * len(s)),
    ),
    Slip(
        "This is a cross-entropy with the peers' rows: it is not 0 where all agree, the peers' entropy is still in it.",
        _with(kd=_cross_entropies),
    ),
    Slip("The labels' term sees softened logits. Labels are hard: they take the logits as they are.", _softened_labels),
    Slip(
        "Each student has one peer, its neighbour. Here all others teach it.",
        _with(peers_of=lambda z, own: [z[(own + 1) % len(z)]]),
    ),
    Slip(
        "Each student has one peer, its neighbour. Here all others teach it.",
        _with(peers_of=lambda z, own: [z[own - 1]]),
    ),
    Slip(
        "One number came for the whole cohort. Each student has a loss of its own, in a list.",
        lambda z, y, *, temperature: torch.stack(_mutual(z, y, temperature=temperature)).sum(),
    ),
    Slip(
        "One number came for the whole cohort. Each student has a loss of its own, in a list.",
        lambda z, y, *, temperature: torch.stack(_mutual(z, y, temperature=temperature)).mean(),
    ),
    Slip(
        "Only the first student's loss came back. All are needed, in a list.",
        lambda z, y, *, temperature: _mutual(z, y, temperature=temperature)[0],
    ),
)


def _progress(epoch: int, epochs: int) -> float:
    return epoch / (epochs - 1) if epochs > 1 else 1.0


def _knobs(
    epoch: int, epochs: int, *, progress: Callable[[int, int], float] = _progress,
    temperatures: tuple[float, float] = (10.0, 1.0), alphas: tuple[float, float] = (0.9, 0.5),
) -> tuple[float, float]:  # fmt: skip
    share = progress(epoch, epochs)
    temperature, alpha = (a + (b - a) * share for a, b in (temperatures, alphas))
    return temperature, alpha


def _knobs_with(**changes: Any) -> Callable:
    return lambda epoch, epochs: _knobs(epoch, epochs, **changes)


_NEVER_ARRIVES = (
    "The last values belong to an epoch that never comes: with five epochs the last one has T = 2.8 (trap 54)."
)
_ALPHA_TO_ONE = (
    "α ends at 1: the labels have no weight left when it matters most (trap 56). Asked for is α from 0.9 to 0.5."
)
SCHEDULE_SLIPS = (
    Slip(_NEVER_ARRIVES, _knobs_with(progress=lambda epoch, epochs: epoch / epochs)),
    Slip(
        _NEVER_ARRIVES + " And α still grows.",
        _knobs_with(progress=lambda epoch, epochs: epoch / epochs, alphas=(0.5, 1.0)),
    ),
    Slip(
        _NEVER_ARRIVES + " And α still grows.",
        _knobs_with(progress=lambda epoch, epochs: epoch / epochs, alphas=(0.5, 0.9)),
    ),
    Slip(
        "The last epoch has the last values now, but the first one no longer has the first: the line starts too late.",
        _knobs_with(progress=lambda epoch, epochs: (epoch + 1) / epochs),
    ),
    Slip(_ALPHA_TO_ONE, _knobs_with(alphas=(0.5, 1.0))),
    Slip(
        "α grows. Asked for is the other way: the labels gain weight towards the end (trap 56).",
        _knobs_with(alphas=(0.5, 0.9)),
    ),
    Slip("T grows. Asked for is from 10 down to 1.", _knobs_with(temperatures=(1.0, 10.0))),
    Slip(
        "All goes backwards: the first epoch has the last values.",
        _knobs_with(progress=lambda epoch, epochs: 1 - epoch / (epochs - 1)),
    ),
    Slip(
        "The values jump at the end: a division of whole numbers (//) drops what is between.",
        _knobs_with(progress=lambda epoch, epochs: epoch // (epochs - 1)),
    ),
    Slip(
        "The values overshoot: they are reached an epoch too early.",
        _knobs_with(progress=lambda epoch, epochs: min(1.0, (epoch + 1) / (epochs - 1))),
    ),
    Slip("α came first. Asked for is the temperature, then α.", lambda epoch, epochs: _knobs(epoch, epochs)[::-1]),
)
_DIVIDED_BY_ZERO = float("inf")
ONE_EPOCH_SLIPS = (
    Slip(
        "A run of one epoch raised ZeroDivisionError: between one epoch and itself there is no step.",
        lambda epoch, epochs: (_DIVIDED_BY_ZERO, _DIVIDED_BY_ZERO),
    ),
    Slip(
        "A run of one epoch got the first values. Its only epoch is also its last: the promise is about the end.",
        _knobs_with(progress=lambda epoch, epochs: 0.0),
    ),
)


def _without_division(function: Callable) -> Callable:
    def run(epoch: int, epochs: int) -> Any:
        try:
            return function(epoch, epochs)
        except ZeroDivisionError:
            return _DIVIDED_BY_ZERO, _DIVIDED_BY_ZERO

    return run


def _named_like(function: Callable, other: Callable) -> Callable:
    other.__name__ = name_of(function)
    return other


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _curriculum(
    teacher_logits: Tensor, labels: Tensor, *, share: float, difficulty: Callable[[Tensor, Tensor], Tensor] = _losses,
    rounding: Callable[[float], int] = math.ceil, descending: bool = False,
) -> Tensor:  # fmt: skip
    order = difficulty(teacher_logits, labels).argsort(descending=descending)
    return order[: rounding(share * len(labels))]


def _curriculum_with(**changes: Any) -> Callable:
    return lambda z, y, *, share: _curriculum(z, y, share=share, **changes)


def _ranks(z: Tensor, y: Tensor, *, share: float) -> Tensor:
    return _losses(z, y).argsort().argsort()[: math.ceil(share * len(y))]


def _in_data_order(z: Tensor, y: Tensor, *, share: float) -> Tensor:
    return _curriculum(z, y, share=share).sort().values


def _sorted_losses(z: Tensor, y: Tensor, *, share: float) -> Tensor:
    return _losses(z, y).sort().values[: math.ceil(share * len(y))]


def _mask(z: Tensor, y: Tensor, *, share: float) -> Tensor:
    chosen = torch.zeros(len(y))
    chosen[_curriculum(z, y, share=share)] = 1
    return chosen


def _hardest_kept(z: Tensor, y: Tensor, *, share: float) -> Tensor:
    return _losses(z, y).argsort()[-math.ceil(share * len(y)) :]


CURRICULUM_SLIPS = (
    Slip("The hardest come first: an anti-curriculum. A large loss means hard.", _curriculum_with(descending=True)),
    Slip("The order is right, but the hardest share was kept instead of the easiest.", _hardest_kept),
    Slip(
        "The order is by how sure the teacher is, whatever it is sure of: an image on which it is wrong and sure "
        "counts as easy. The label must have a say.",
        _curriculum_with(difficulty=lambda z, y: -z.softmax(dim=1).amax(dim=1)),
    ),
    Slip(
        "The order is by the teacher's entropy, which knows no label: wrong and sure counts as easy.",
        _curriculum_with(difficulty=lambda z, y: torch.special.entr(z.softmax(dim=1)).sum(dim=1)),
    ),
    Slip(
        "The order is by the label's logit. Without the other classes' logits it says little: the softmax compares.",
        _curriculum_with(difficulty=lambda z, y: -z.gather(1, y[:, None])[:, 0]),
    ),
    Slip("The share was rounded down. Asked for is up to whole images.", _curriculum_with(rounding=int)),
    Slip("The share was rounded to the nearest number. Asked for is up.", _curriculum_with(rounding=round)),
    Slip("These are losses. Asked for are the positions of the images.", _sorted_losses),
    Slip("These are ranks: which place each image has. Asked for is which image has each place.", _ranks),
    Slip("The right images, but in the order of the data. The easiest must come first.", _in_data_order),
    Slip("A mask came. Asked for are positions, the easiest first.", _mask),
    Slip("All images came back, the share was not used.", lambda z, y, *, share: _curriculum(z, y, share=1.0)),
    Slip("This is the data in its own order: nothing was sorted (trap 55).", lambda z, y, *, share: torch.arange(
        math.ceil(share * len(y)))),
)  # fmt: skip
