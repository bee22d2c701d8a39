"""Checks of exercise 03, feature distillation: attention maps, a hint stage repaired, pushes compared, a verdict."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ._core import (
    Case,
    Question,
    Slip,
    as_number,
    check_answers,
    check_gradient,
    check_no_gradient,
    check_values,
    fail,
    name_of,
    new_generator,
    passed,
    random_tensor,
)
from ._verdicts import check_verdict

_attention_map, _attention_transfer_loss = losses.attention_map, losses.attention_transfer_loss


def check_attention_map(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(features)`` of exercise 03, task 1.

    Parameters
    ----------
    function : callable
        Takes features of shape (B, C, H, W); returns ``kdcourse.losses.attention_map`` of them, shape (B, H·W).
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    cases = [Case((features,)) for features in _features(new_generator(seed), channels=3)]
    check_values(function, _attention_map, cases, slips=MAP_SLIPS)
    passed("One vector per image: channels squared and added up, positions kept, length 1.")


def check_attention_transfer_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_layers, teacher_layers)`` of exercise 03, task 1.

    Parameters
    ----------
    function : callable
        Takes two lists of feature maps; returns ``kdcourse.losses.attention_transfer_loss`` of them.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    students = _features(new_generator(seed), channels=3)
    teachers = [random_tensor(np.random.default_rng(i), len(s), 5, *s.shape[2:]) for i, s in enumerate(students)]
    cases = [Case(([*students], [*teachers])), Case((students[:1], teachers[:1])), Case((students[1:], teachers[1:]))]
    check_values(function, _attention_transfer_loss, cases, slips=TRANSFER_SLIPS)
    single = Case((students[0], teachers[0]))
    check_gradient(
        _on_lists(function), single, expected=_on_lists(_attention_transfer_loss),
        message="No gradient reaches the student's features: is something detached?",
    )  # fmt: skip
    check_no_gradient(_on_lists(function), single, argument=1, message=TEACHER_GRADIENT)
    try:
        function([*students], teachers[:1])
    except ValueError:
        pass
    except Exception as error:
        fail(f"Lists of different lengths gave {type(error).__name__}: {error}. Asked for is a ValueError.")
    else:
        fail(
            f"{len(students)} student layers met 1 teacher layer, and the function returned a loss: zip stops at the "
            "shorter list without a word (trap 22). Raise a ValueError."
        )
    passed("Mean over batch and positions, sum over layers, no gradient into the teacher, unequal lists refused.")


def check_hint_stage(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, regressor, teacher, batches, *, lr)`` of exercise 03, task 2.

    Parameters
    ----------
    function : callable
        Takes three modules, batches of images and a learning rate; trains student and regressor by stochastic gradient
        descent on the mean squared error to the teacher's features, and returns the losses of the steps.
    seed : int, optional
        Of weights and images; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of a mistake that is still there.
    """
    cases = [Case((), {"seed": int(number)}) for number in new_generator(seed).integers(0, 10_000, size=2)]
    check_values(_stage_with(function), _stage_with(_hint_stage), cases, slips=STAGE_SLIPS)
    _, modules = _run_stage(function, cases[0].kwargs["seed"])
    if any(parameter.grad is not None for parameter in modules["teacher"].parameters()):
        fail(TEACHER_GRADIENT)
    passed(
        "Losses and trained weights agree with the right stage: the regressor learns, magnitudes count, and the "
        "teacher is a fixed target in evaluation mode."
    )


def check_attention_picture(answers: Any) -> None:
    """Check the three answers of exercise 03, task 3.

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
                "a": "this student was never trained, and nothing was transferred to it.",
                "b": "look at its row again: the bright positions lie on and beside the strokes.",
            },
            because="paper is 0 everywhere, so any filters are active near ink: a map that looks right proves no "
            "learning",
        ),
        Question(
            right="a",
            wrong={
                "b": "read the table from factor 1 to factor 10, both columns.",
                "c": "one of the two columns does not move at all.",
            },
            because="the map is scaled to length 1, so only places are compared; the hint compares the numbers "
            "themselves",
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


def check_push(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(loss, parameters)`` of exercise 03, task 4.

    Parameters
    ----------
    function : callable
        Takes a scalar tensor and a list of parameters; returns the length of the loss's gradient in all of them
        together. Parameters that the loss does not reach count 0, and nothing is left in ``.grad``.
    seed : int, optional
        Of weights and inputs; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    cases = [Case((), {"seed": int(number)}) for number in new_generator(seed).integers(0, 10_000, size=3)]
    check_values(_pushes_with(function), _pushes_with(_push), cases, slips=PUSH_SLIPS)
    parameters, loss, _ = _small_problem(cases[0].kwargs["seed"])
    function(loss, parameters)
    if any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in parameters):
        fail("Gradients are left behind in .grad: the next optimizer step would add them. Measuring must not train.")
    passed("One length over all parameters, the graph is still usable, and no gradient is left behind.")


def check_balancing_weight(weight: Any, labels_loss: Tensor, feature_loss: Tensor, parameters: Sequence) -> None:
    """Check the weight at which a feature term pushes as hard as the labels' term; exercise 03, task 4.

    Parameters
    ----------
    weight : float
        The learner's.
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
        raise NotImplementedError("Task 4: the weight is not set yet.")
    found = as_number(weight, "the weight")
    labels, feature = (_push(loss, list(parameters)) for loss in (labels_loss, feature_loss))
    if abs(found - labels / feature) <= 0.02 * labels / feature:
        return passed(f"At weight {found:.0f} both terms push equally hard on this batch, {labels:.3f}.")
    if abs(found - feature / labels) <= 0.02 * feature / labels:
        fail("The ratio is upside down: at this weight the feature term pushes less than it does at weight 1.")
    values = (labels_loss / feature_loss).item()
    if abs(found - values) <= 0.02 * values:
        fail("This makes the two values equal. A student feels gradients, not values: compare the pushes.")
    fail(f"At weight {found:.4g} the feature term pushes {found * feature:.3g}, the labels push {labels:.3g}.")


def check_hint_verdict(verdict: Any, hints: Sequence[float], baseline_hints: Sequence[float]) -> None:
    """Check ``"better"``, ``"worse"`` or ``"unclear"`` against the paired 95 % interval; exercise 03, task 5.

    Parameters
    ----------
    verdict : str
        The learner's.
    hints, baseline_hints : sequence of float
        Hint losses by seed, in the same order; lower is better.

    Raises
    ------
    CheckFailed
        With what the interval says.
    """
    check_verdict(verdict, hints, baseline_hints, unit="", digits=4)


TEACHER_GRADIENT = (
    "A gradient reaches the teacher. It is a fixed target: training would change it to be imitated easily."
)


def _features(generator: np.random.Generator, *, channels: int) -> list[Tensor]:
    sizes = [(6, 4, 3), (6, 2, 5)]  # B, H, W: positions differ from layer to layer
    return [random_tensor(generator, batch, channels, high, wide) for batch, high, wide in sizes]


def _on_lists(function: Callable) -> Callable:
    def on_single(student: Tensor, teacher: Tensor) -> Any:
        return function([student], [teacher])

    on_single.__name__ = name_of(function)
    return on_single


def _energy(features: Tensor) -> Tensor:
    return features.square().mean(dim=1)  # (B, H, W)


MAP_SLIPS = (
    Slip(
        "The maps are not normalised: a student whose features are twice as large would have another map.",
        lambda f: _energy(f).flatten(1),
    ),
    Slip(
        "The maps are not normalised: a student whose features are twice as large would have another map.",
        lambda f: f.square().sum(dim=1).flatten(1),
    ),
    Slip(
        "Channels are averaged first and squared afterwards: activations of opposite sign cancel. Square first.",
        lambda f: F.normalize(f.mean(dim=1).square().flatten(1), dim=1),
    ),
    Slip(
        "Channels are averaged and nothing is squared: activations of opposite sign cancel, and a map can be negative.",
        lambda f: F.normalize(f.mean(dim=1).flatten(1), dim=1),
    ),
    Slip(
        "This is the map of absolute values, p = 1. The one asked for squares, which favours the strongest positions.",
        lambda f: F.normalize(f.abs().mean(dim=1).flatten(1), dim=1),
    ),
    Slip(
        "The strongest channel alone makes this map. All channels count.",
        lambda f: F.normalize(f.square().amax(dim=1).flatten(1), dim=1),
    ),
    Slip(
        "Positions were averaged and channels kept. An attention map says where, so its entries are positions.",
        lambda f: F.normalize(f.square().mean(dim=(2, 3)), dim=1),
    ),
    Slip(
        "Each position is compared across the batch (dim=0). The vector to normalise belongs to one image.",
        lambda f: F.normalize(_energy(f).flatten(1), dim=0),
    ),
    Slip(
        "Each row or column of positions was normalised by itself. The whole map is one vector: flatten first.",
        lambda f: F.normalize(_energy(f), dim=1).flatten(1),
    ),
    Slip(
        "Each row or column of positions was normalised by itself. The whole map is one vector: flatten first.",
        lambda f: F.normalize(_energy(f), dim=2).flatten(1),
    ),
    Slip(
        "The entries sum to 1; asked for is a vector of length 1, the Euclidean norm.",
        lambda f: F.normalize(_energy(f).flatten(1), p=1, dim=1),
    ),
    Slip(
        "A softmax over positions is another map: it depends on the scale of the features.",
        lambda f: _energy(f).flatten(1).softmax(dim=1),
    ),
    Slip(
        "The features were normalised over channels before: every position then has the same energy.",
        lambda f: F.normalize(_energy(F.normalize(f, dim=1)).flatten(1), dim=1),
    ),
    Slip(
        "The map is still a picture, (B, H, W). As one vector per image, (B, H·W), layers of any size look alike.",
        lambda f: _attention_map(f).unflatten(1, f.shape[2:]),
    ),
)


def _per_layer(distance: Callable[[Tensor, Tensor], Tensor], *, image: Callable = _attention_map) -> Callable:
    def wrong(students: list[Tensor], teachers: list[Tensor]) -> Tensor:
        return torch.stack([distance(image(s), image(t)) for s, t in zip(students, teachers, strict=True)]).sum()

    return wrong


def _mean_square(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().mean()


TRANSFER_SLIPS = (
    Slip(
        "The loss is a mean over layers. Asked for is their sum, so that the weight of a layer does not depend on how "
        "many others there are.",
        lambda s, t: _attention_transfer_loss(s, t) / len(s),
    ),
    Slip(
        "The squares are summed over positions: H·W times too large, and the usual weight of 1000 no longer fits. Take "
        "their mean.",
        _per_layer(lambda s, t: (s - t).square().sum(dim=1).mean()),
    ),
    Slip("Everything is summed, images too: twice the batch would mean twice the step.",
         _per_layer(lambda s, t: (s - t).square().sum())),
    Slip("The loss is summed over the batch: twice the images would mean twice the step.",
         _per_layer(lambda s, t: (s - t).square().mean(dim=1).sum())),
    Slip(
        "This is the norm of the difference, not its square, as the paper prints it. Asked for is the squared form.",
        _per_layer(lambda s, t: (s - t).norm(dim=1).mean()),
    ),
    Slip("Absolute differences were taken. Asked for are squared ones.", _per_layer(lambda s, t: (s - t).abs().mean())),
    Slip("Only the first layer counts: does the return stand inside the loop?",
         lambda s, t: _attention_transfer_loss(s[:1], t[:1])),
    Slip("Only the last layer counts: the terms of the others were overwritten.",
         lambda s, t: _attention_transfer_loss(s[-1:], t[-1:])),
    Slip(
        "The maps are not normalised: features of another scale would cost, though they look at the same places.",
        _per_layer(_mean_square, image=MAP_SLIPS[0].wrong),
    ),
    Slip(MAP_SLIPS[2].message, _per_layer(_mean_square, image=MAP_SLIPS[2].wrong)),
    Slip(MAP_SLIPS[4].message, _per_layer(_mean_square, image=MAP_SLIPS[4].wrong)),
)  # fmt: skip


def _hint_stage(
    student: nn.Module, regressor: nn.Module, teacher: nn.Module, batches: Sequence[Tensor], *, lr: float,
    forgotten: bool = False, normalised: bool = False, teacher_trains: bool = False, only_regressor: bool = False,
    student_evaluates: bool = False, accumulates: bool = False, factor: float = 1.0, adam: bool = False,
) -> list[Tensor]:  # fmt: skip
    learned = [*([] if only_regressor else student.parameters()), *([] if forgotten else regressor.parameters())]
    optimizer = torch.optim.Adam(learned, lr=lr) if adam else torch.optim.SGD(learned, lr=lr)
    teacher.train(teacher_trains)
    student.train(not student_evaluates)
    found = []
    for images in batches:
        with torch.no_grad():
            hint = teacher(images)
        guided = regressor(student(images))
        if normalised:
            hint, guided = F.normalize(hint, dim=1), F.normalize(guided, dim=1)
        loss = factor * (guided - hint).square().mean()
        if not accumulates:
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
        batches = [torch.randn(5, 1, 6, 6) for _ in range(6)]
        modules = {"student": student, "regressor": regressor, "teacher": teacher}
        returned = function(student, regressor, teacher, batches, lr=0.3)
    return returned, modules


def _stage_with(function: Callable, **changes: Any) -> Callable:
    def outcome(*, seed: int) -> list:
        if not callable(function):
            fail(f"a function is needed, got {type(function).__name__}.")
        returned, modules = _run_stage(lambda *parts, **knobs: function(*parts, **knobs, **changes), seed)
        weights = [weight.detach() for name in ("student", "regressor") for weight in modules[name].parameters()]
        return [returned, *weights]

    outcome.__name__ = name_of(function)
    return outcome


_STAGE_MISTAKES = {
    "teacher_trains": "The teacher runs in training mode: its batch normalisation follows each batch, so the target "
    "moves (trap 13).",
    "normalised": "The features are scaled to length 1 at each position and then averaged. That is another loss, blind "
    "to magnitudes and C times smaller (trap 18).",
    "forgotten": "The regressor does not learn: its parameters never reach the optimizer, and the student is pulled "
    "towards a random projection (trap 21).",
}
STAGE_SLIPS = (
    *(
        Slip(_STAGE_MISTAKES[left[0]], _stage_with(_hint_stage, **dict.fromkeys(left, True)))
        for count in (1, 2, 3)
        for left in itertools.combinations(_STAGE_MISTAKES, count)
    ),
    Slip(
        "Only the regressor learns; the student's parameters never reach the optimizer.",
        _stage_with(_hint_stage, only_regressor=True),
    ),
    Slip(
        "The student runs in evaluation mode while it trains: its batch normalisation learns no statistics.",
        _stage_with(_hint_stage, student_evaluates=True),
    ),
    Slip("Gradients of earlier steps are never cleared, and add up.", _stage_with(_hint_stage, accumulates=True)),
    Slip("The loss is half the mean squared error.", _stage_with(_hint_stage, factor=0.5)),
    Slip("Another optimizer came: plain SGD was asked for.", _stage_with(_hint_stage, adam=True)),
)


def _small_problem(seed: int) -> tuple[list[nn.Parameter], Tensor, Tensor]:
    """Parameters, a loss that reaches all of them and one that reaches the first layer only, on one graph."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second, inputs = nn.Linear(4, 3), nn.Linear(3, 2), torch.randn(5, 4)
    with torch.enable_grad():
        hidden = first(inputs).tanh()
        return [*first.parameters(), *second.parameters()], second(hidden).square().mean(), hidden.sum(dim=1).mean()


def _gradients(loss: Tensor, parameters: list) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [gradient.flatten() for gradient in found if gradient is not None]


def _push(loss: Tensor, parameters: list) -> float:
    return torch.cat(_gradients(loss, parameters)).norm().item()


def _pushes_with(function: Callable) -> Callable:
    def outcome(*, seed: int) -> list:
        if not callable(function):
            fail(f"a function is needed, got {type(function).__name__}.")
        parameters, whole, part = _small_problem(seed)
        return [function(whole, parameters), function(part, parameters)]

    outcome.__name__ = name_of(function)
    return outcome


def _accumulated(loss: Tensor, parameters: list) -> float:
    loss.backward(retain_graph=True)
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm().item()


PUSH_SLIPS = (
    Slip(
        "The second push contains the first: backward adds to what is in .grad already.",
        _pushes_with(_accumulated),
    ),
    Slip(
        "The lengths of the parts were added. All gradients together are one long vector, and it has one length.",
        _pushes_with(lambda loss, p: sum(float(g.norm()) for g in _gradients(loss, p))),
    ),
    Slip("The length was squared: its root is missing.", _pushes_with(lambda loss, p: _push(loss, p) ** 2)),
    Slip(
        "Only the first parameter counts.",
        _pushes_with(lambda loss, p: float(_gradients(loss, p)[0].norm())),
    ),
    Slip(
        "The mean of the parts' lengths was taken: a layer more would make the same push look smaller.",
        _pushes_with(lambda loss, p: float(np.mean([float(g.norm()) for g in _gradients(loss, p)]))),
    ),
    Slip(
        "Absolute values were added up. Asked for is the Euclidean length.",
        _pushes_with(lambda loss, p: float(torch.cat(_gradients(loss, p)).abs().sum())),
    ),
)  # fmt: skip
