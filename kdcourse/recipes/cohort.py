"""Deep mutual learning: a cohort of students trained together, each on the labels and on its peers.

Chapter 07.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from ..losses import mutual_learning_loss
from ..training import History, Knobs, Objective, fit
from .distillation import MakeOptimizer, check_nothing_shared, make_adam

CohortLoss = Callable[..., list[Tensor]]


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
    """Several optimizers that step together, behind the interface that ``train`` and ``fit`` use."""

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


def make_mutual_objective(knobs: Knobs, *, loss: CohortLoss = mutual_learning_loss) -> Objective:
    """Build the objective of a cohort, one term per student: ``student 0``, ``student 1``, …

    Parameters
    ----------
    knobs : Knobs
        Only ``temperature`` is read, at each step.
    loss : callable
        ``mutual_learning_loss``, or ``mutual_ensemble_loss`` for the average of the peers' logits.
    """

    def objective(cohort: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        losses = loss(cohort(images), labels, temperature=knobs.temperature)
        # Peers are detached in each loss, so their sum gives every student the gradient of its own.
        return {f"student {number}": term for number, term in enumerate(losses)}

    return objective


def mutual_learning(
    students: Sequence[nn.Module],
    data: tuple[Tensor, Tensor],
    *,
    temperature: float = 1.0,
    loss: CohortLoss = mutual_learning_loss,
    epochs: int = 5,
    batch_size: int = 128,
    seed: int = 0,
    make_optimizer: MakeOptimizer | Sequence[MakeOptimizer] = make_adam,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    progress: bool = False,
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
    epochs, batch_size, seed, progress
        As in ``kdcourse.training.fit``. All students see the same batches.
    make_optimizer : callable or sequence of callables
        Called once per student with its parameters; or one callable for each student.
    evaluate : callable, optional
        ``evaluate(model) -> dict[str, float]``, called for each student after each epoch and recorded as
        ``student 0 accuracy`` and so on.

    Returns
    -------
    History
        With one term per student.

    Raises
    ------
    ValueError
        For fewer than two students, students that share parameters, or another number of optimizers than students.

    Notes
    -----
    Two decisions. The target is a peer's output in the same training-mode pass, with its dropout noise: that costs
    one forward pass per student instead of two, and noise differs from step to step, so a student follows its
    average. And all students step at once, while the paper updates one after the other, each against peers that
    have just moved.

    References
    ----------
    Zhang, Xiang, Hospedales, Lu (2018), arXiv:1706.00384, section 3 and algorithm 1.
    """
    cohort = Cohort(students)
    makers = [make_optimizer] * len(students) if callable(make_optimizer) else list(make_optimizer)
    if len(makers) != len(students):
        raise ValueError(f"need one optimizer for all or one per student, got {len(makers)} for {len(students)}.")
    optimizers = Optimizers(make(list(one.parameters())) for make, one in zip(makers, students, strict=True))
    return fit(
        cohort,
        data,
        make_mutual_objective(Knobs(temperature=temperature), loss=loss),
        cast(Optimizer, optimizers),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        evaluate=None if evaluate is None else _evaluate_each(students, evaluate),
        progress=progress,
    )


def _evaluate_each(
    students: Sequence[nn.Module], evaluate: Callable[[nn.Module], dict[str, float]]
) -> Callable[[nn.Module], dict[str, float]]:
    def evaluate_each(cohort: nn.Module) -> dict[str, float]:
        return {
            f"student {number} {name}": value
            for number, student in enumerate(students)
            for name, value in evaluate(student).items()
        }

    return evaluate_each
