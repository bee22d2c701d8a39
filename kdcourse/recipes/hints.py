"""FitNets: first the student's guided layer learns the teacher's hint, then the whole student learns by soft targets.

Chapter 03.
"""

import os
from functools import partial
from typing import Any, NamedTuple
from typing import Unpack as Options

import torch
from torch import nn

from ..data.loaders import LoaderBatches, as_tensors
from ..data.parts import Unpack, to_device
from ..losses import HiddenProjection, HintRegressor
from ..models import capture, evaluating
from ..models.outputs import call
from ..objectives import hint_objective
from ..training import History, TrainingOptions
from ..training.devices import device_of
from ..training.options import fit_with, takes_training_options
from .distillation import check_nothing_shared, distill


class FitNetsHistory(NamedTuple):
    """What both stages recorded.

    Attributes
    ----------
    hint : History
        With term ``hint``.
    kd : History
        With terms ``kd`` and ``ce``.

    Examples
    --------
    >>> FitNetsHistory(hint=History(), kd=History()).kd.steps
    0
    """

    hint: History
    kd: History


@takes_training_options()
def fitnets(
    student: nn.Module,
    teacher: nn.Module,
    data: Any,
    *,
    student_layer: str,
    teacher_layer: str,
    regressor: nn.Module | None = None,
    hint_epochs: int = 2,
    temperature: float = 4.0,
    alpha: float = 0.7,
    **options: Options[TrainingOptions],
) -> FitNetsHistory:
    """Train a student in the two stages of FitNets.

    Parameters
    ----------
    student, teacher : nn.Module
        The student is trained in place, the teacher is not changed.
    data : tuple of (images, labels), DataLoader, Dataset, or iterable of batches
        As in ``distill``.
    student_layer, teacher_layer : str
        Names of the guided layer and of the hint layer, as in ``model.named_modules()``.
    regressor : nn.Module, optional
        Carries the guided layer's features to the hint's shape, and learns with the student in the first stage. By
        default a ``HintRegressor`` that fits both layers, or for tokens (B, L, D) a ``HiddenProjection``.
    hint_epochs : int
        Passes over the data in the first stage; ``epochs`` counts those of the second.
    temperature, alpha : float
        Knobs of the second stage.
    **options
        Any of :class:`kdcourse.training.TrainingOptions`. Each stage has an optimizer of its own, and a checkpoint of
        its own: that of the first has ``.hint`` after its name.

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

    Examples
    --------
    >>> from kdcourse.models import make_cnn
    >>> data = torch.rand(8, 1, 28, 28), torch.arange(8)
    >>> layers = {"student_layer": "stage1", "teacher_layer": "stage1"}
    >>> history = fitnets(make_cnn(2), make_cnn(4), data, **layers, hint_epochs=1, epochs=1)
    >>> list(history.hint.terms), list(history.kd.terms)
    (['hint'], ['kd', 'ce'])
    """
    check_nothing_shared(student, teacher)
    tensors = as_tensors(data)
    if regressor is None:
        inputs = _first_inputs(data, options["unpack"]) if tensors is None else tensors[0][:1]
        inputs = to_device(inputs, device_of(student))
        regressor = _make_regressor(student, teacher, inputs, student_layer, teacher_layer, options["seed"])
    objective = partial(
        hint_objective, teacher=teacher, regressor=regressor, student_layer=student_layer, teacher_layer=teacher_layer
    )
    checkpoint = options["checkpoint"]
    first_stage: TrainingOptions = {
        **options, "epochs": hint_epochs, "evaluate": None, "keep_best": None,
        "checkpoint": None if checkpoint is None else f"{os.fspath(checkpoint)}.hint",
    }  # fmt: skip
    hint = fit_with(
        first_stage,
        student,
        data if tensors is None else tensors[:1],
        objective,
        [*student.parameters(), *regressor.parameters()],
        parts={"regressor": regressor},
        settings={"student_layer": student_layer, "teacher_layer": teacher_layer},
    )
    second_stage: TrainingOptions = {**options, "seed": options["seed"] + 1}  # another order than in the first stage
    kd = distill(student, teacher, data, temperature=temperature, alpha=alpha, **second_stage)
    return FitNetsHistory(hint, kd)


def _first_inputs(data: Any, unpack: Unpack | None) -> Any:
    """The inputs of one batch, drawn without touching the caller's random numbers."""
    return next(iter(LoaderBatches(data, batch_size=1, unpack=unpack)))[0]


def _make_regressor(
    student: nn.Module, teacher: nn.Module, inputs: Any, student_layer: str, teacher_layer: str, seed: int
) -> nn.Module:
    """A map from the student's features to the teacher's: a convolution for maps, a linear layer for tokens."""
    with evaluating(student, teacher):
        with capture(student, student_layer) as student_features:
            call(student, inputs)
        with capture(teacher, teacher_layer) as teacher_features:
            call(teacher, inputs)
    guided, hint = student_features[student_layer], teacher_features[teacher_layer]
    if guided.dim() != hint.dim() or guided.dim() not in (2, 3, 4):
        raise ValueError(
            f"layer {student_layer!r} gives features of shape {tuple(guided.shape)}, {teacher_layer!r} "
            f"{tuple(hint.shape)}: no regressor is known from one to the other. Maps (B, C, H, W), tokens (B, L, D) "
            "and vectors (B, D) go with their like; for anything else hand over your own module as regressor."
        )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(seed)
        regressor: nn.Module
        if guided.dim() == 3:
            regressor = HiddenProjection(guided.shape[-1], hint.shape[-1])
        else:
            regressor = HintRegressor(guided.shape[1], hint.shape[1], size=tuple(hint.shape[2:]) or None)
    return regressor.to(guided.device)
