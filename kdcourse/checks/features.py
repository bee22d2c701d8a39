"""Checks of exercise 03, feature distillation: a hint stage repaired, pushes compared, a verdict.

Attention maps have a module of their own, ``attention_maps``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .attention_maps import TEACHER_GRADIENT
from .cases import seeded_cases
from .comparing import check_values
from .converting import as_number
from .documented import takes_answers, takes_function
from .failures import fail, not_answered, passed
from .questions import Question, check_answers
from .slips.features import GRADIENT_LENGTH, HINT_STAGE
from .verdicts import check_verdict

NO_LENGTH = (
    "This is not the length of the gradient: the root of the sum of the squares of all its entries, in all parameters, "
    "weights and biases alike."
)
STAGE = (
    "The {} of your stage are not those of the right one. Compare, in this order: who is in the optimizer, which mode "
    "each network runs in, what is compared, and when gradients are cleared."
)


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
