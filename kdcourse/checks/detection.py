"""Checks of exercise 08, detection: a class term without labels, a repaired pyramid loss, anchors and their digits."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import losses
from .cases import Case, new_generator, random_tensor, seeded_cases
from .comparing import check_edge, check_refusal, check_values
from .documented import takes_answers, takes_function
from .failures import fail, passed
from .gradients import check_gradients
from .questions import Question, check_answers
from .slips.detection import FOREGROUND, OVERLAPS, PYRAMID, TEACHER_WEIGHTED, foreground, overlaps, pyramid_loss
from .verdicts import check_verdict

_class_loss = losses.detection_classification_loss
TEACHER_GRADIENT = "A gradient reaches the teacher. It is a fixed target: detach its logits."
NO_GRADIENT = "No gradient reaches the student's logits: is something detached?"


@takes_function
def check_teacher_weighted_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_logits, teacher_logits, *, temperature)`` of exercise 08, task 1.

    Parameters
    ----------
    function : callable
        Takes logits of shape (B, A, K) and a temperature; returns the class loss in which each anchor is weighted by
        the probability of the teacher's most likely class: ``kdcourse.losses.detection_classification_loss`` without a
        mask.
    """
    generator = new_generator(seed)
    cases = [
        Case(tuple(_logits(generator, shape, scale) for _ in range(2)), {"temperature": temperature})
        for shape, scale, temperature in (((2, 7, 3), 2.0, 2.5), ((3, 4, 5), 2.0, 1.0), ((1, 6, 2), 2.0, 4.0))
    ]
    check_values(function, _teacher_weighted, cases, slips=TEACHER_WEIGHTED)
    messages = {"student_logits": (NO_GRADIENT, ""), "teacher_logits": ("", TEACHER_GRADIENT)}
    check_gradients(function, _teacher_weighted, cases[0], messages=messages)
    sure = Case((cases[1].args[0] * 60, cases[1].args[1] * 60), {"temperature": 1.0})
    check_edge(function, _teacher_weighted, [sure], "Very sure answers have a wrong loss: stay with logits (trap 57).",
               edge="logits of ±100", slips=TEACHER_WEIGHTED)  # fmt: skip
    alike = Case((cases[0].args[0], cases[0].args[0]), {"temperature": 2.0})
    check_edge(function, _teacher_weighted, [alike], "A student that equals its teacher must pay 0.", edge="equals")
    passed(
        "Weighted by the teacher's surest class, divided by the weights' sum, T² where it belongs, and 0 for a perfect "
        "student."
    )


@takes_function
def check_pyramid_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_levels, teacher_levels, adapters)`` of exercise 08, task 2.

    Parameters
    ----------
    function : callable
        Takes two dicts of maps by level and a dict of modules by level; returns the mean over the levels of the
        squared errors, weighted in each scene by the teacher's activation.
    """
    cases = seeded_cases(seed, 3)
    check_values(
        function, pyramid_loss, cases, slips=PYRAMID, through=_loss_and_gradients, probing=False, diagnosing=False,
        otherwise="This is not the mean over levels and scenes of the squared errors, weighted by importances that sum "
        "to 1 in each scene, or its gradients are others.",
    )  # fmt: skip
    student, teacher, adapters = _levels(cases[0].kwargs["seed"])
    for lacking in (teacher, student):
        fewer = {name: level for name, level in lacking.items() if name != "16"}
        pair = (student, fewer) if lacking is teacher else (fewer, teacher)
        check_refusal(
            lambda *pair: function(*pair, adapters),
            Case(pair),
            accepted="One side lacks level 16, and a loss came back: that scale is never taught, and nobody hears of "
            "it. Raise a ValueError.",
            other="Where one side lacks level 16 the function gave {}. Asked for is a ValueError.",
        )
    passed(
        "Adapters are used and learn, each scene has weights of its own that enter once, and missing levels are told."
    )


@takes_function
def check_overlaps(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(boxes, others)`` of exercise 08, task 3.

    Parameters
    ----------
    function : callable
        Takes corners x1, y1, x2, y2 of shapes (N, 4) and (M, 4); returns the shares of the union, shape (N, M).
    """
    generator = new_generator(seed)
    cases = [Case((_boxes(generator, n), _boxes(generator, m))) for n, m in ((4, 3), (2, 5), (3, 3))]
    check_values(function, overlaps, cases, slips=OVERLAPS)
    apart = Case((torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[12.0, 13, 30, 40], [0.0, 15, 9, 30]])))
    check_edge(function, overlaps, [apart], "Two boxes that lie apart must have 0.", edge="apart", slips=OVERLAPS)
    one = Case((cases[0].args[0], cases[0].args[0][:1]))
    check_edge(function, overlaps, [one], "One box on one side must give the shape (N, 1).", edge="one box")
    passed("Common part over union, for every pair; boxes that lie apart have 0 and equal ones 1.")


@takes_function
def check_foreground(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(anchors, boxes)`` of exercise 08, task 3.

    Parameters
    ----------
    function : callable
        Takes anchors (A, 4) and true boxes (objects, 4); returns a mask (A,) of the anchors whose best overlap is at
        least one half.
    """
    generator = new_generator(seed)
    cases = [_anchors_case(generator, count) for count in (3, 4, 2)]
    side_by_side = torch.tensor([[0.0, 0, 20, 20], [20, 0, 40, 20]])  # the second anchor has a third of each
    cases.append(Case((side_by_side + torch.tensor([[0.0, 0, 0, 0], [-10, 0, -10, 0]]), side_by_side)))
    check_values(function, foreground, cases, slips=FOREGROUND, through=_as_mask, probing=False)
    half = Case((torch.tensor([[0.0, 0, 4, 4], [0, 0, 2, 3]]), torch.tensor([[0.0, 0, 4, 2]])))
    check_edge(function, foreground, [half], "An overlap of exactly one half counts.", edge="exactly one half",
               slips=FOREGROUND, probing=False)  # fmt: skip
    none = Case((cases[0].args[0], torch.empty(0, 4)))
    check_edge(function, foreground, [none], "Without a digit no anchor is foreground: all False, shape (A,).",
               edge="no box", probing=False)  # fmt: skip
    passed("The best box decides, one half is enough, and a scene without a digit has no foreground.")


@takes_answers
def check_detection_questions(answers: Any) -> None:
    """Check the three answers of exercise 08, task 4."""
    check_answers(answers, QUESTIONS)


def check_class_term_verdict(verdict: Any, taught: Sequence[float], plain: Sequence[float]) -> None:
    """Check ``"better"``, ``"worse"`` or ``"unclear"`` against the paired 95 % interval; exercise 08, task 5.

    Parameters
    ----------
    verdict : str
        Word that the learner chose.
    taught, plain : sequence of float
        Distances to the teacher by seed, in the same order; lower is better.

    Raises
    ------
    CheckFailed
        With what the interval says.
    """
    check_verdict(verdict, taught, plain, unit="", digits=3)


QUESTIONS = (
    Question(
        right="b",
        wrong={
            "a": "read the first column: with more digits it grows almost in proportion.",
            "c": "the scenes were made by one and the same rule, and only their number of digits differs.",
        },
        because="the mask changes the sum and not the divisor, which is always 1,134 anchors (trap 60)",
    ),
    Question(
        right="c",
        wrong={
            "a": "the box head was never trained on a digit: the table says for how many an anchor is made.",
            "b": "the optimizer is not even asked: this loss is computed once, on a new network.",
        },
        because="an anchor that matches nothing is background, so most digits give the box head no example (trap 94)",
    ),
    Question(
        right="a",
        wrong={
            "b": "a seed decides where a student starts, and two starts differ without any teacher.",
            "c": "more scenes make each score more exact, and the two scores still belong to two starts.",
        },
        because="the pair must share start, order and steps, or their difference is counted as the method's (trap 96)",
    ),
)


def _teacher_weighted(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    return _class_loss(student_logits, teacher_logits, temperature=temperature)


def _logits(generator: Any, shape: tuple[int, ...], scale: float) -> Tensor:
    return random_tensor(generator, *shape, scale=scale) - 1


def _levels(seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor], nn.ModuleDict]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = {"8": (4, 6), "16": (2, 3), "32": (1, 2)}
        student = {name: torch.randn(3, 2, *size, requires_grad=True) for name, size in sizes.items()}
        teacher = {name: torch.randn(3, 4, *size) for name, size in sizes.items()}
        for level in teacher.values():
            level[1] *= 5  # one bright scene
            level.requires_grad_()
        return student, teacher, nn.ModuleDict({name: nn.Conv2d(2, 4, 1) for name in sizes})


def _loss_and_gradients(function: Callable) -> Callable:
    def outcome(*, seed: int) -> list:
        student, teacher, adapters = _levels(seed)
        with torch.enable_grad():
            loss = function(student, teacher, adapters)
            reached = [*student.values(), *teacher.values(), *adapters.parameters()]
            if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
                return [loss, *(torch.zeros_like(part) for part in reached)]
            found = torch.autograd.grad(loss, reached, allow_unused=True)
        return [loss.detach(), *(torch.zeros_like(p) if g is None else g for g, p in zip(found, reached, strict=True))]

    return outcome


def _boxes(generator: Any, count: int) -> Tensor:
    corners = torch.from_numpy(generator.uniform(0, 20, size=(count, 2))).float()
    sides = torch.from_numpy(generator.uniform(4, 20, size=(count, 2))).float()
    return torch.cat([corners, corners + sides], dim=1).round()


def _as_mask(function: Callable) -> Callable:
    def outcome(anchors: Tensor, boxes: Tensor) -> Any:
        value = function(anchors, boxes)
        if isinstance(value, Tensor) and value.shape == (len(anchors),) and value.dtype != torch.bool:
            fail("The mask must be a tensor of bool: as numbers it would pick rows 0 and 1 instead of anchors.")
        return value

    return outcome


def _anchors_case(generator: Any, count: int) -> Case:
    """Boxes, and anchors beside each: some share more than half of the union, some less, some between 0.4 and 0.5."""
    boxes = torch.stack([torch.tensor([30.0 * place, 0.0, 30.0 * place + 20, 20.0]) for place in range(count)])
    moves = torch.from_numpy(generator.permutation([0.0, 2.0, 4.0, 7.5, 8.0, 12.0, 40.0])).float()  # 7.5: 0.45
    anchors = torch.cat([boxes[place] + torch.stack([moves * 0, moves] * 2, dim=1) for place in range(count)])
    order = torch.from_numpy(generator.permutation(len(anchors)))
    return Case((anchors[order], boxes))
