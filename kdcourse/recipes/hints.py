"""FitNets: first the student's guided layer learns the teacher's hint, then the whole student learns by soft targets.

Chapter 03.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..losses import HintRegressor, hint_loss
from ..models import capture
from ..training import History, Objective, evaluating, fit
from .distillation import MakeOptimizer, check_nothing_shared, distill, make_adam


class FitNetsHistory(NamedTuple):
    """What both stages recorded.

    Attributes
    ----------
    hint : History
        With term ``hint``.
    kd : History
        With terms ``kd`` and ``ce``.
    """

    hint: History
    kd: History


def fitnets(
    student: nn.Module,
    teacher: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    student_layer: str,
    teacher_layer: str,
    regressor: nn.Module | None = None,
    hint_epochs: int = 2,
    temperature: float = 4.0,
    alpha: float = 0.7,
    epochs: int = 5,
    batch_size: int = 128,
    seed: int = 0,
    make_optimizer: MakeOptimizer = make_adam,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    progress: bool = False,
) -> FitNetsHistory:
    """Train a student in the two stages of FitNets.

    Parameters
    ----------
    student, teacher : nn.Module
        The student is trained in place, the teacher is not changed.
    data : tuple of (images, labels)
        Shapes (N, ...) and (N,).
    student_layer, teacher_layer : str
        Names of the guided layer and of the hint layer, as in ``model.named_modules()``.
    regressor : nn.Module, optional
        Carries the guided layer's features to the hint's shape, and learns with the student in the first stage. By
        default a ``HintRegressor`` that fits both layers.
    hint_epochs, epochs : int
        Passes over the data in the first and in the second stage.
    temperature, alpha : float
        Of the second stage.
    batch_size, seed, make_optimizer, evaluate, progress
        As in ``distill``. Each stage has an optimizer of its own.

    Returns
    -------
    FitNetsHistory

    Raises
    ------
    ValueError
        As in ``distill``, for an unknown layer, or if the features cannot be compared.

    Notes
    -----
    In the first stage only what lies in front of the guided layer receives gradients; the statistics of later batch
    normalisations do follow, as the images pass through the whole student. The paper's second stage lowers α
    linearly; here it stays (``progressive`` has schedules).

    References
    ----------
    Romero et al. (2015), arXiv:1412.6550, section 2.3 and algorithm 1.
    """
    check_nothing_shared(student, teacher)
    if regressor is None:
        regressor = _make_regressor(student, teacher, data[0][:1], student_layer, teacher_layer, seed)
    hint = fit(
        student,
        data[:1],
        make_hint_objective(teacher, regressor, student_layer=student_layer, teacher_layer=teacher_layer),
        make_optimizer([*student.parameters(), *regressor.parameters()]),
        epochs=hint_epochs,
        batch_size=batch_size,
        seed=seed,
        progress=progress,
    )
    kd = distill(
        student,
        teacher,
        data,
        temperature=temperature,
        alpha=alpha,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed + 1,  # another order than in the first stage
        make_optimizer=make_optimizer,
        evaluate=evaluate,
        progress=progress,
    )
    return FitNetsHistory(hint, kd)


def make_hint_objective(
    teacher: nn.Module, regressor: nn.Module, *, student_layer: str, teacher_layer: str
) -> Objective:
    """Build the objective of the first stage: the hint alone, from images alone.

    The teacher runs on every batch, in evaluation mode: its feature maps of a whole data set would fill the memory.
    """

    def objective(student: nn.Module, images: Tensor, *ignored: Tensor) -> dict[str, Tensor]:
        with evaluating(teacher), capture(teacher, teacher_layer) as teacher_features:
            teacher(images)
        with capture(student, student_layer) as student_features:
            student(images)
        return {"hint": hint_loss(regressor(student_features[student_layer]), teacher_features[teacher_layer])}

    return objective


def _make_regressor(
    student: nn.Module, teacher: nn.Module, image: Tensor, student_layer: str, teacher_layer: str, seed: int
) -> HintRegressor:
    with evaluating(student, teacher):
        with capture(student, student_layer) as student_features:
            student(image)
        with capture(teacher, teacher_layer) as teacher_features:
            teacher(image)
    guided, hint = student_features[student_layer], teacher_features[teacher_layer]
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(seed)
        regressor = HintRegressor(guided.shape[1], hint.shape[1], size=tuple(hint.shape[2:]) or None)
    return regressor.to(image.device)
