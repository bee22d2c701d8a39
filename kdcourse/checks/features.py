"""Checks of exercise 03, feature distillation: attention maps, a hint stage repaired, pushes compared, a verdict."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import losses
from .cases import Case, new_generator, random_tensor, seeded_cases
from .comparing import check_edge, check_refusal, check_values
from .converting import as_number
from .documented import takes_answers, takes_function
from .failures import fail, not_answered, passed
from .gradients import check_gradients
from .questions import Question, check_answers
from .slips.features import (
    GRADIENT_LENGTH,
    HINT_STAGE,
    MAP,
    POOLED,
    POOLED_TRANSFER,
    TRANSFER,
    pooled_map,
    pooled_transfer_loss,
)
from .verdicts import check_verdict

_attention_map, _attention_transfer_loss = losses.attention_map, losses.attention_transfer_loss
TEACHER_GRADIENT = (
    "A gradient reaches the teacher. It is a fixed target: training would change it to be imitated easily."
)
NO_GRADIENT = "No gradient reaches the student's features: is something detached?"
NO_LENGTH = (
    "This is not the length of the gradient: the root of the sum of the squares of all its entries, in all parameters, "
    "weights and biases alike."
)
STAGE = (
    "The {} of your stage are not those of the right one. Compare, in this order: who is in the optimizer, which mode "
    "each network runs in, what is compared, and when gradients are cleared."
)


@takes_function
def check_attention_map(function: Callable, *, seed: int | None = None, pooled: bool = False) -> None:
    """Check ``function(features)``, or ``function(features, size)`` of exercise 03, task 1.

    Parameters
    ----------
    function : callable
        Takes features of shape (B, C, H, W); returns ``kdcourse.losses.attention_map`` of them, shape (B, H·W). With
        ``pooled`` it also takes a size (h, w), whose sides divide H and W, and returns maps of shape (B, h·w).
    pooled : bool
        Whether the function takes a size.
    """
    generator = new_generator(seed)
    if pooled:
        _check_pooled_map(function, generator)
        return passed("One vector of length 1 per image, and each of its positions is the mean of a block of squares.")
    cases = [Case((features,)) for features in _features(generator, channels=3)]
    check_values(function, _attention_map, cases, slips=MAP)
    one = Case((cases[0].args[0][:1],))
    check_edge(function, _attention_map, [one], "One image must give a map of shape (1, H·W).", edge="one image")
    channel = Case((cases[1].args[0][:, :1],))
    check_edge(function, _attention_map, [channel], "Features of one channel have a wrong map.", edge="one channel")
    passed("One vector per image: channels squared and added up, positions kept, length 1.")


def _check_pooled_map(function: Callable, generator: np.random.Generator) -> None:
    shapes = [((5, 3, 8, 6), (2, 3)), ((6, 2, 6, 4), (3, 2)), ((4, 3, 4, 12), (4, 3))]  # B, C, H, W; h, w
    cases = [Case((random_tensor(generator, *shape), size)) for shape, size in shapes]
    check_values(function, pooled_map, cases, slips=POOLED)
    same = Case((cases[0].args[0], (8, 6)))
    check_edge(function, pooled_map, [same], "A map that has the size already must stay as it is.", edge="equal sizes")
    one = Case((cases[1].args[0][:1], (3, 2)))
    check_edge(function, pooled_map, [one], "One image must give a map of shape (1, h·w).", edge="one image")


@takes_function
def check_attention_transfer_loss(function: Callable, *, seed: int | None = None, pooled: bool = False) -> None:
    """Check ``function(student_layers, teacher_layers)`` of exercise 03, task 1.

    Parameters
    ----------
    function : callable
        Takes two lists of feature maps; returns ``kdcourse.losses.attention_transfer_loss`` of them.
    pooled : bool
        Whether the layers of a pair may differ in height and width. The larger map is then brought to the size of the
        smaller one.
    """
    generator = new_generator(seed)
    students = _features(generator, channels=3)
    students.insert(1, random_tensor(generator, 6, 3, 3, 3))
    teachers = [random_tensor(np.random.default_rng(i), len(s), 5, *s.shape[2:]) for i, s in enumerate(students)]
    if pooled:  # the teacher's layer is larger, as large, smaller
        teachers = [random_tensor(generator, 6, 5, *size) for size in ((12, 6), (3, 3), (2, 5))]
        students[2] = random_tensor(generator, 6, 3, 4, 10)
    right, slips = (pooled_transfer_loss, POOLED_TRANSFER) if pooled else (_transfer_loss, TRANSFER)
    cases = [
        Case(([*students], [*teachers])),
        Case((students[:2], teachers[:2])),
        Case((students[:1], teachers[:1])),
        Case((students[1:], teachers[1:])),
    ]
    check_values(function, right, cases, slips=slips)
    messages = {"student_layers": (NO_GRADIENT, ""), "teacher_layers": ("", TEACHER_GRADIENT)}
    check_gradients(function, right, cases[0], messages=messages)
    for case in (Case(([*students], teachers[:1])), Case((students[:1], [*teachers]))):
        check_refusal(
            function,
            case,
            accepted=f"{len(case.args[0])} student layers met {len(case.args[1])} teacher layers, and the function "
            "returned a loss: zip stops silently at the shorter list (trap 22). Raise a ValueError.",
            other="Lists of different lengths gave {}. Asked for is a ValueError.",
        )
    passed("Mean over batch and positions, sum over layers, no gradient into the teacher, unequal lists refused.")


@takes_function
def check_hint_stage(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, regressor, teacher, batches, *, lr)`` of exercise 03, task 2.

    Parameters
    ----------
    function : callable
        Takes three modules, batches of images and a learning rate; trains student and regressor by stochastic gradient
        descent on the mean squared error to the teacher's features, and returns the losses of the steps.
    """
    cases = seeded_cases(seed, 2)
    check_values(function, _hint_stage, cases, slips=HINT_STAGE, through=_losses_and_weights, probing=False,
                 otherwise=STAGE.format("losses or the trained weights"))  # fmt: skip
    _, modules = _run_stage(function, cases[0].kwargs["seed"])
    if any(parameter.grad is not None for parameter in modules["teacher"].parameters()):
        fail(TEACHER_GRADIENT)
    passed(
        "Losses and trained weights agree with the right stage: the regressor learns, magnitudes count, and the "
        "teacher is a fixed target in evaluation mode."
    )


@takes_answers
def check_attention_picture(answers: Any) -> None:
    """Check the three answers of exercise 03, task 3."""
    check_answers(answers, QUESTIONS)


@takes_function
def check_gradient_length(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(loss, parameters)`` of exercise 03, task 4.

    Parameters
    ----------
    function : callable
        Takes a scalar tensor and a list of parameters; returns the length of the loss's gradient in all of them
        together. Parameters that the loss does not reach count 0, and nothing is left in ``.grad``.
    """
    cases = seeded_cases(seed, 3)
    check_values(function, _length, cases, slips=GRADIENT_LENGTH, through=_lengths, probing=False, otherwise=NO_LENGTH)
    parameters, loss, _ = _small_problem(cases[0].kwargs["seed"])
    function(loss, parameters)
    if any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in parameters):
        fail("Gradients are left behind in .grad: the next optimizer step would add them. Measuring must not train.")
    if not all(parameter.requires_grad for parameter in parameters):
        fail("The parameters come back frozen: whoever trains on learns nothing.")
    passed("One length over all parameters, the graph is still usable, and no gradient is left behind.")


def check_balancing_weight(weight: Any, labels_loss: Tensor, feature_loss: Tensor, parameters: Sequence) -> None:
    """Check the weight at which a feature term pushes as hard as the labels' term; exercise 03, task 4.

    Parameters
    ----------
    weight : float
        Weight that the learner found.
    labels_loss, feature_loss : Tensor, shape ()
        The two terms, unweighted.
    parameters : sequence of Tensor
        Where the push is measured.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    if weight is None or weight is ...:
        not_answered("Task 4: the weight is not set yet.")
    found = as_number(weight, "the weight")
    labels, feature = (_length(loss, list(parameters)) for loss in (labels_loss, feature_loss))
    if abs(found - labels / feature) <= 0.02 * labels / feature:
        return passed(f"At weight {found:.0f} both terms push equally hard on this batch, {labels:.3f}.")
    values = (labels_loss / feature_loss).item()
    known = {
        feature / labels: "The ratio is upside down: at this weight the feature term pushes less than at weight 1.",
        values: "This makes the two values equal. A student feels gradients, not values: compare the pushes.",
        1 / values: "This is a ratio of the two values, upside down. Compare the pushes, and divide the labels' by the "
        "feature term's.",
        (labels / feature) ** 2: "This is the square of the right weight: a push is proportional to its weight.",
        (labels / feature) ** 0.5: "This is the root of the right weight: a push is proportional to its weight.",
        labels: "This is the push of the labels' term. The weight is a ratio of two pushes.",
        feature: "This is the push of the feature term. The weight is a ratio of two pushes.",
        labels - feature: "This is the difference of the two pushes. A weight multiplies: take their ratio.",
    }
    for wrong, message in known.items():
        if abs(found - wrong) <= 0.02 * abs(wrong):
            fail(message)
    fail(f"At weight {found:.4g} the feature term pushes {found * feature:.3g}, the labels push {labels:.3g}.")


def check_hint_verdict(verdict: Any, hints: Sequence[float], baseline_hints: Sequence[float]) -> None:
    """Check ``"better"``, ``"worse"`` or ``"unclear"`` against the paired 95 % interval; exercise 03, task 5.

    Parameters
    ----------
    verdict : str
        Word that the learner chose.
    hints, baseline_hints : sequence of float
        Hint losses by seed, in the same order; lower is better.

    Raises
    ------
    CheckFailed
        With what the interval says.
    """
    check_verdict(verdict, hints, baseline_hints, unit="", digits=4)


QUESTIONS = (
    Question(
        right="c",
        wrong={
            "a": "this student was never trained, and nothing was transferred to it.",
            "b": "look at its row again: the bright positions lie on and beside the strokes.",
        },
        because="paper is 0 everywhere, so any filters are active near ink: a map that looks right proves no learning",
    ),
    Question(
        right="a",
        wrong={
            "b": "read the table from factor 1 to factor 10, both columns.",
            "c": "one of the two columns does not move at all.",
        },
        because="the map is scaled to length 1, so only places are compared; the hint compares the numbers themselves",
    ),
    Question(
        right="b",
        wrong={
            "a": "nothing is learned yet: the cell printed the loss of an untrained student, and it is not 0.",
            "c": "averaging over fewer images changes the noise of a mean, not its size.",
        },
        because="two unit vectors over 196 positions differ by at most 2 in squares, divided by 196 (trap 23)",
    ),
)


def _features(generator: np.random.Generator, *, channels: int) -> list[Tensor]:
    sizes = [(6, 4, 3), (6, 2, 5)]  # B, H, W: positions differ from layer to layer
    return [random_tensor(generator, batch, channels, high, wide) for batch, high, wide in sizes]


def _transfer_loss(student_layers: list[Tensor], teacher_layers: list[Tensor]) -> Tensor:
    return _attention_transfer_loss(student_layers, teacher_layers)


def _hint_stage(
    student: nn.Module, regressor: nn.Module, teacher: nn.Module, batches: Sequence[Tensor], *, lr: float
) -> list[Tensor]:
    optimizer = torch.optim.SGD([*student.parameters(), *regressor.parameters()], lr=lr)
    found = []
    for images in batches:
        with torch.no_grad():
            hint = teacher.eval()(images)
        loss = (regressor(student.train()(images)) - hint).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return found


def _run_stage(function: Callable, seed: int) -> tuple[Any, dict[str, nn.Module]]:
    """Run a stage on small networks; what it returned, and the networks afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student, teacher = (nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU()) for width in (2, 4))
        regressor = nn.Conv2d(2, 4, 1)
        buffers = dict(teacher.named_buffers())
        buffers["1.running_mean"].normal_()  # statistics unlike the batches', so that the teacher's mode is seen
        buffers["1.running_var"].uniform_(0.5, 2)
        batches = [torch.randn(5 if number < 6 else 3, 1, 6, 6) for number in range(7)]  # the last one is smaller
        modules = {"student": student, "regressor": regressor, "teacher": teacher}
        returned = function(student, regressor, teacher, batches, lr=0.3)
    return returned, modules


def _losses_and_weights(function: Callable) -> Callable:
    def outcome(*, seed: int) -> list:
        returned, modules = _run_stage(function, seed)
        if type(returned) not in (list, tuple, Tensor, np.ndarray):
            fail(f"the losses of all 7 steps are needed, in a list, got {type(returned).__name__}.")
        if len(returned) != 7:
            fail(f"there are 7 batches, and {len(returned)} losses came back: each batch is a step and has a loss.")
        weights = [
            weight.detach() for name in ("student", "regressor") for weight in modules[name].state_dict().values()
        ]
        return [returned, *weights]

    return outcome


def _small_problem(seed: int) -> tuple[list[nn.Parameter], Tensor, Tensor]:
    """Parameters, a loss that reaches all of them and one that reaches the first layer only, on one graph."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second, inputs = nn.Linear(4, 3), nn.Linear(3, 2), torch.randn(5, 4)
    with torch.enable_grad():
        hidden = first(inputs).tanh()
        return [*first.parameters(), *second.parameters()], second(hidden).square().mean(), hidden.sum(dim=1).mean()


def _length(loss: Tensor, parameters: list) -> float:
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None]).norm().item()


def _lengths(function: Callable) -> Callable:
    def outcome(*, seed: int) -> list:
        parameters, whole, part = _small_problem(seed)
        return [function(whole, parameters), function(part, parameters)]

    return outcome
