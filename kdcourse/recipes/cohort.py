"""Deep mutual learning: a cohort of students trained together, each on the labels and on its peers.

Chapter 07.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from typing import Any, Unpack, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from ..losses import mutual_learning_loss
from ..objectives import mutual_objective
from ..training import History, MakeOptimizer, TrainingOptions
from ..training.options import Evaluate, fit_with, takes_training_options
from .distillation import check_nothing_shared


class Cohort(nn.Module):
    """Students that see the same batch: the forward pass returns a list of logits, one (B, K) tensor per student.

    Parameters
    ----------
    students : sequence of nn.Module
        At least two, sharing nothing; their architectures may differ.

    Raises
    ------
    ValueError
        If there are fewer than two students, or two of them share parameters.

    Examples
    --------
    >>> import torch
    >>> cohort = Cohort([nn.Linear(3, 10), nn.Linear(3, 10)])
    >>> [tuple(logits.shape) for logits in cohort(torch.rand(4, 3))]
    [(4, 10), (4, 10)]
    """

    def __init__(self, students: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(students) < 2:
            raise ValueError(
                f"a cohort needs at least two students, got {len(students)}: each learns from its peers, and one "
                "student has none."
            )
        for one, other in combinations(students, 2):
            check_nothing_shared(one, other, "two students")
        self.students = nn.ModuleList(students)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits of each student."""
        return [student(images) for student in self.students]


class Optimizers:
    """Several optimizers that step together, behind the interface that ``train`` and ``fit`` use.

    Examples
    --------
    >>> import torch
    >>> both = Optimizers(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=lr) for lr in (0.1, 0.2))
    >>> [group["lr"] for group in both.param_groups]
    [0.1, 0.2]
    """

    def __init__(self, optimizers: Iterable[Optimizer]) -> None:
        self.optimizers = list(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of all."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self) -> None:
        """Clear the gradients of all."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Step each."""
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states of all."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Continue from the states of all."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


@takes_training_options()
def mutual_learning(
    students: Sequence[nn.Module],
    data: tuple[Tensor, Tensor],
    *,
    temperature: float = 1.0,
    loss: Callable[..., list[Tensor]] = mutual_learning_loss,
    **options: Unpack[TrainingOptions],
) -> History:
    """Train a cohort of students that teach each other; no teacher is needed.

    Parameters
    ----------
    students : sequence of nn.Module
        At least two, trained in place. They should start from different weights: equal ones have nothing to say to
        each other.
    data : tuple of (images, labels)
        Shapes (N, ...) and (N,).
    temperature : float
        T > 0; 1 in the paper.
    loss : callable
        ``mutual_learning_loss`` (pairwise), or ``mutual_ensemble_loss`` (average of the peers' logits).
    **options
        Any of :class:`kdcourse.training.TrainingOptions`. All students see the same batches. ``make_optimizer`` is
        called once per student with its parameters, ``evaluate`` for each student after each epoch; what it returns
        is recorded as ``student 0 accuracy`` and so on.

    Returns
    -------
    History
        With one term per student.

    Raises
    ------
    ValueError
        For fewer than two students, or students that share parameters.

    Notes
    -----
    Two decisions. The target is a peer's output in the same training-mode pass, with its dropout noise: that costs
    one forward pass per student instead of two, and noise differs from step to step, so a student follows its
    average. And all students step at once, while the paper updates one after the other, each against peers that
    have just moved.

    References
    ----------
    Zhang, Xiang, Hospedales, Lu (2018), arXiv:1706.00384, section 3 and algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from kdcourse.models import make_mlp
    >>> data = torch.rand(8, 1, 28, 28), torch.arange(8)
    >>> list(mutual_learning([make_mlp(4), make_mlp(4)], data, epochs=1).terms)
    ['student 0', 'student 1']
    """
    cohort, evaluate = Cohort(students), options["evaluate"]
    each: TrainingOptions = {
        **options,
        "evaluate": None if evaluate is None else _evaluate_each(students, evaluate),
        "make_optimizer": lambda parameters: make_optimizers(students, options["make_optimizer"]),
    }
    objective = partial(mutual_objective, temperature=temperature, loss=loss)
    return fit_with(each, cohort, data, objective, list(cohort.parameters()))


def make_optimizers(students: Sequence[nn.Module], make_optimizer: MakeOptimizer) -> Optimizer:
    """Build one optimizer for each student, behind the interface of one.

    Examples
    --------
    >>> from kdcourse.recipes import make_adam
    >>> len(make_optimizers([nn.Linear(2, 2), nn.Linear(2, 2)], make_adam).param_groups)
    2
    """
    return cast(Optimizer, Optimizers(make_optimizer(list(student.parameters())) for student in students))


def _evaluate_each(students: Sequence[nn.Module], evaluate: Evaluate) -> Evaluate:
    def evaluate_each(cohort: nn.Module) -> dict[str, float]:
        return {
            f"student {number} {name}": value
            for number, student in enumerate(students)
            for name, value in evaluate(student).items()
        }

    return evaluate_each
