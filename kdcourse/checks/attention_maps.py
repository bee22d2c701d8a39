"""Checks of exercise 03: attention maps, between layers of one size and of several, and their transfer."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from .. import losses
from .cases import Case, new_generator, random_tensor
from .comparing import check_edge, check_refusal, check_values
from .documented import takes_function
from .failures import passed
from .gradients import check_gradients
from .slips.features import MAP, POOLED, POOLED_TRANSFER, TRANSFER, pooled_map, pooled_transfer_loss

_attention_map, _attention_transfer_loss = losses.attention_map, losses.attention_transfer_loss
TEACHER_GRADIENT = (
    "A gradient reaches the teacher. It is a fixed target: training would change it to be imitated easily."
)
NO_GRADIENT = "No gradient reaches the student's features: is something detached?"


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


def _features(generator: np.random.Generator, *, channels: int) -> list[Tensor]:
    sizes = [(6, 4, 3), (6, 2, 5)]  # B, H, W: positions differ from layer to layer
    return [random_tensor(generator, batch, channels, high, wide) for batch, high, wide in sizes]


def _transfer_loss(student_layers: list[Tensor], teacher_layers: list[Tensor]) -> Tensor:
    return _attention_transfer_loss(student_layers, teacher_layers)
