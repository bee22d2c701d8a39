"""Born-again networks, generation after generation; and ensembles, which one student can replace.

Chapters 01 and 06.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._arguments import check_alpha, check_temperature
from ..data.loaders import as_tensors
from ..models import logits_of
from ..objectives import label_objective
from ..training import History, TrainingOptions
from ..training.options import fit_with, takes_training_options
from .distillation import check_nothing_shared, distill


class Ensemble(nn.Module):
    """Several classifiers as one: its logits are the log of the members' mean probabilities.

    Parameters
    ----------
    members : sequence of nn.Module
        Each takes the same images, or keyword arguments, and returns logits (B, K), or an object that has them (see
        :func:`kdcourse.models.logits_of`). They are held, not copied.

    Raises
    ------
    ValueError
        If there are no members.

    Notes
    -----
    A mean of probabilities is one vote per member. Averaging logits instead is their geometric mean, in which the
    surest member outvotes the others.

    Examples
    --------
    >>> members = [nn.Linear(3, 2), nn.Linear(3, 2)]
    >>> inputs = torch.rand(1, 3)
    >>> mean = sum(member(inputs).softmax(dim=-1) for member in members) / 2
    >>> torch.allclose(Ensemble(members)(inputs).softmax(dim=-1), mean)
    True
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(members) == 0:
            raise ValueError("an ensemble needs at least one member: the mean of nothing is undefined.")
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor | None = None, **inputs: Any) -> Tensor:
        """Logits whose softmax is the mean of the members' softmax, shape (B, K)."""
        asked = images if images is not None else inputs
        log_probs = torch.stack(
            [F.log_softmax(logits_of(member, asked), dim=-1) for member in self.members]
        )  # (M, B, K)
        return log_probs.logsumexp(dim=0) - math.log(len(self.members))  # (B, K)


@dataclass
class BornAgain:
    """What ``born_again`` gives; index g is generation g + 1.

    Attributes
    ----------
    generations : list of nn.Module
        Every generation, trainable as ``make_model`` made it.
    histories : list of History
        What each recorded while it trained.
    evaluations : list of dict from str to float
        ``evaluate`` of each finished generation; empty without ``evaluate``.
    ensemble : Ensemble
        Of all generations.
    ensemble_evaluation : dict from str to float
        ``evaluate`` of the ensemble.

    Examples
    --------
    >>> result = BornAgain(generations=[nn.Linear(3, 2), nn.Linear(3, 2)])
    >>> result.ensemble(torch.rand(5, 3)).shape
    torch.Size([5, 2])
    """

    generations: list[nn.Module] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    ensemble_evaluation: dict[str, float] = field(default_factory=dict)

    @property
    def ensemble(self) -> Ensemble:
        """The mean of all generations' probabilities."""
        return Ensemble(self.generations)


@takes_training_options()
def born_again(
    make_model: Callable[[], nn.Module],
    data: Any,
    *,
    generations: int = 3,
    temperature: float | Sequence[float] = 4.0,
    alpha: float = 0.7,
    teacher: nn.Module | None = None,
    **options: Unpack[TrainingOptions],
) -> BornAgain:
    """Train the same architecture again and again, each generation taught by the one before.

    Parameters
    ----------
    make_model : callable
        ``make_model() -> nn.Module``, a new model at each call. It is moved to the device of tensors in memory.
    data : tuple of (images, labels), DataLoader, Dataset, or iterable of batches
        As in ``distill``.
    generations : int
        How many models are trained. Without ``teacher`` the first learns from the labels alone.
    temperature : float or sequence of float
        T of every distilled generation, or one T for each of them: ``generations - 1`` values, or ``generations``
        with a ``teacher``.
    alpha : float
        The share of the previous generation's term, in [0, 1].
    teacher : nn.Module, optional
        A trained model that teaches the first generation. Not changed, and not part of the ensemble.
    **options
        Any of :class:`kdcourse.training.TrainingOptions`, for each generation. Generation g (from 0) has seed + g, for
        its weights, its dropout and its sample order; the caller's random numbers stay as they were. ``evaluate`` is
        also called with the ensemble at the end. Each generation has a checkpoint of its own, with ``.g`` after the
        name.

    Returns
    -------
    BornAgain
        Every generation, not the last one alone, and the ensemble.

    Raises
    ------
    ValueError
        As in ``distill``, if ``generations`` is not positive, the number of temperatures does not fit, or
        ``make_model`` returns the same model twice.

    Notes
    -----
    The paper trains on the teacher's term alone or with the labels'; α says how much of each.

    References
    ----------
    Furlanello et al. (2018), arXiv:1805.04770, sections 3.1 and 3.2.

    Examples
    --------
    >>> from kdcourse.models import make_mlp
    >>> data = torch.rand(8, 1, 28, 28), torch.arange(8)
    >>> result = born_again(lambda: make_mlp(4), data, generations=2, epochs=1)
    >>> [list(history.terms) for history in result.histories]
    [['ce'], ['kd', 'ce']]
    """
    if generations < 1:
        raise ValueError(f"generations must be at least 1, got {generations}.")
    check_alpha(alpha)
    distilled = generations if teacher is not None else generations - 1
    temperatures = _one_per_generation(temperature, distilled)
    result, tensors = BornAgain(), as_tensors(data)
    for generation in range(generations):
        own: TrainingOptions = {
            **options,
            "seed": options["seed"] + generation,
            "checkpoint": _numbered(options["checkpoint"], generation),
        }
        with _random_numbers_of(own["seed"]):
            model = make_model() if tensors is None else make_model().to(tensors[0].device)
            for earlier in result.generations:
                check_nothing_shared(model, earlier, "two generations")
            # `is not None`: a model with a length, such as an nn.Sequential, has a truth value of its own.
            if teacher is not None:
                own_temperature = temperatures[generation - generations]  # aligned at the last generation
                history = distill(model, teacher, data, temperature=own_temperature, alpha=alpha, **own)
            else:
                history = fit_with(own, model, data, label_objective, list(model.parameters()))
        result.generations.append(model)
        result.histories.append(history)
        result.evaluations += history.evaluations[-1:]
        teacher = model
    if options["evaluate"] is not None:
        result.ensemble_evaluation = options["evaluate"](result.ensemble)
    return result


def _numbered(checkpoint: str | os.PathLike | None, generation: int) -> str | None:
    return None if checkpoint is None else f"{os.fspath(checkpoint)}.{generation}"


def _one_per_generation(temperature: float | Sequence[float], distilled: int) -> list[float]:
    values = list(temperature) if isinstance(temperature, Sequence) else [temperature] * distilled
    if len(values) != distilled:
        raise ValueError(
            f"need one temperature per distilled generation, {distilled} here, got {len(values)}. The first "
            "generation learns from the labels alone, unless a teacher is given, and has no temperature."
        )
    for value in values:
        check_temperature(value)
    return values


@contextmanager
def _random_numbers_of(seed: int) -> Iterator[None]:
    """Weights and dropout inside draw from this seed; the global generators are as before afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
