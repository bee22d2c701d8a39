"""Checks of exercise 14, feature and logits: the combined objective, a run, a search on held-out images, verdicts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ..recipes import make_adam
from ..training import count_errors, fit
from .cases import Case, seeded_cases
from .comparing import check_values
from .converting import as_number
from .documented import takes_function, takes_verdicts
from .failures import CheckFailed, fail, not_answered, passed
from .made_up_students import LUCK, SPLITS, candidate_of
from .slips.feature_and_logits import OBJECTIVE, RUN, SEARCH
from .soft_targets import TERMS
from .verdicts import check_verdicts

_kd_loss, _hint_loss, _fit, _make_adam, _count_errors = losses.kd_loss, losses.hint_loss, fit, make_adam, count_errors
_Tensor, _grad = torch.Tensor, torch.autograd.grad
EPOCHS, SAMPLES, BATCH = 8, 200, 100
OTHERS = ("logits", "features", "no_teacher", "label_smoothing")
WRONG_TOTAL = (
    "The terms are not those that are asked for, or one of their gradients in student and regressor is not. Compare "
    "them one by one: α T² KL, 1 - α cross-entropy, and the weight times the mean squared error of regressed features."
)
WRONG_RUN = (
    "The trained student is not the one that these steps give: torch.manual_seed(seed), student, then regressor, Adam "
    "at 1e-2 on both, batches of 100 in the order of the run's seed, nothing else that draws or steps."
)
WRONG_SEARCH = "This is not the candidate with the fewest errors on held-out images, as a mean over all seeds."


@takes_function
def check_combined_objective(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, images, labels, teacher_logits, teacher_features, *, regressor, …)`` of exercise 14.

    Parameters
    ----------
    function : callable
        Also takes ``temperature``, ``alpha`` and ``feature_weight``; returns a dict of weighted terms: α T² KL, 1 - α
        cross-entropy, and the weight times the hint loss of the regressed features ``student[:-1](images)``.
    """
    knobs = [(4.0, 0.8, 20.0), (1.5, 0.3, 0.4), (6.0, 0.6, 3.0)]
    names = ("temperature", "alpha", "feature_weight")
    cases = [
        Case((), {**case.kwargs, **dict(zip(names, values, strict=True))})
        for case, values in zip(seeded_cases(seed, 3), knobs, strict=True)
    ]
    try:
        check_values(function, _objective, cases, slips=OBJECTIVE, through=_total_and_gradients, diagnosing=False,
                     otherwise=WRONG_TOTAL)  # fmt: skip
    except CheckFailed as error:
        if str(error) == WRONG_TOTAL and _has_the_names(function, cases[0]):
            for part in (("ce", "kd"), ("feature",)):
                check_values(function, _objective, cases, through=partial(_terms_of, names=part), terms=TERMS)
        raise
    passed("Three weighted terms, their gradients reach student and regressor, and none reaches the teacher.")


@takes_function
def check_training_run(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(make_student, make_regressor, objective, data, *, seed, epochs)`` of exercise 14, task 2.

    Parameters
    ----------
    function : callable
        Draws student and regressor, in this order, after ``torch.manual_seed(seed)``; trains both with Adam at 1e-2 in
        batches of 100 shuffled by ``seed``; returns the student.
    """
    check_values(function, _run, seeded_cases(seed, 2), slips=RUN, through=_student_logits, probing=False, atol=2e-3,
                 otherwise=WRONG_RUN, diagnosing=False)  # fmt: skip
    passed(
        "The seed owns the student's start and the order, the regressor learns along, and the budget is what was asked."
    )


@takes_function
def check_weight_search(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(candidates, run, data, *, seeds)`` of exercise 14, task 3.

    Parameters
    ----------
    function : callable
        Trains ``run(seed=…, **candidate)`` for every candidate and seed; returns the candidate with the fewest errors
        on ``data["held_out"]``, a mean over seeds.
    """
    cases = [
        # "turned": what the test images say against the held-out ones
        Case((), {**case.kwargs, "turned": number % 2 == 0, "luck": number % len(LUCK)})
        for number, case in enumerate(seeded_cases(seed, 4))
    ]
    seen: set[int] = set()
    check_values(function, _search, cases, slips=SEARCH, through=partial(candidate_of, seen=seen), probing=False,
                 diagnosing=False, otherwise=WRONG_SEARCH)  # fmt: skip
    seen.clear()
    cases[0].call(candidate_of(function, seen=seen))
    if SPLITS.index("test") in seen:
        fail(
            "The test images were looked at during the search. Even where they do not decide, they are no longer "
            "unseen: keep them for the report."
        )
    passed("Every candidate, every seed, and held-out images alone: the test images were not touched.")


def check_candidates(candidates: Any) -> None:
    """Check the candidates of the three arms of exercise 14, task 4: each arm is searched, and equally long.

    Parameters
    ----------
    candidates : dict from str to list of dict
        For ``"logits"``, ``"features"`` and ``"both"``: dicts with ``alpha`` and ``feature_weight``.

    Raises
    ------
    CheckFailed
        If an arm has another number of candidates than another, fewer than three, or terms that are not its own.
    """
    if type(candidates) is not dict or sorted(candidates, key=str) != ["both", "features", "logits"]:
        fail("candidates must be a dict with the keys 'logits', 'features' and 'both'.")
    if not any(type(tries) not in (list, tuple) or len(tries) for tries in candidates.values()):
        not_answered("Task 4: there are no candidates yet.")
    counts = {arm: _count_candidates(arm, tries) for arm, tries in candidates.items()}
    if len(set(counts.values())) > 1:
        fail(
            f"the arms have {counts} different candidates. Who may try more often finds more: an unequal search is an "
            "unequal budget."
        )
    if counts["both"] < 3:
        fail(f"{counts['both']} candidates are no search; give each arm three or more.")
    passed(f"Three arms, {counts['both']} candidates each.")


@takes_verdicts
def check_combination_verdicts(verdicts: Any, errors: Mapping[str, Sequence[float]]) -> None:
    """Check the four verdicts of exercise 14, task 5: features and logits together against each other arm."""
    check_verdicts(verdicts, errors, {other: ("both", other) for other in OTHERS})


def _count_candidates(arm: str, tries: Any) -> int:
    if type(tries) not in (list, tuple) or not all(
        type(one) is dict and sorted(one, key=str) == ["alpha", "feature_weight"] for one in tries
    ):
        fail(f"the candidates of {arm!r} must be a list of dicts with 'alpha' and 'feature_weight'.")
    pairs = {(as_number(one["alpha"], "alpha"), as_number(one["feature_weight"], "the weight")) for one in tries}
    for alpha, weight in pairs:
        if not 0 <= alpha <= 1 or not 0 <= weight < float("inf"):
            fail(f"{arm!r}: alpha must be in [0, 1] and the weight not negative, got {alpha} and {weight}.")
        if (alpha > 0) != (arm != "features") or (weight > 0) != (arm != "logits"):
            fail(
                f"{arm!r} with alpha={alpha:g} and feature_weight={weight:g} is another arm: 'logits' has no "
                "feature term, 'features' no soft targets, 'both' has both."
            )
    return len(pairs)


def _objective(
    student: nn.Sequential, images: Tensor, labels: Tensor, teacher_logits: Tensor, teacher_features: Tensor, *,
    regressor: nn.Module, temperature: float, alpha: float, feature_weight: float,
) -> dict[str, Tensor]:  # fmt: skip
    features = student[:-1](images)
    logits = student[-1](features)
    return {
        "kd": alpha * _kd_loss(logits, teacher_logits, temperature=temperature),
        "ce": (1 - alpha) * F.cross_entropy(logits, labels),
        "feature": feature_weight * _hint_loss(regressor(features), teacher_features),
    }


def _small_problem(seed: int) -> tuple[nn.Sequential, nn.Module, tuple[Tensor, ...]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # As wide as the teacher's features, so that a regressor which is left out raises no error.
        student = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
        regressor = losses.HintRegressor(6, 6)
        images, labels = torch.randn(7, 5), torch.randint(0, 4, (7,))
        return student, regressor, (images, labels, 2 * torch.randn(7, 4), 3 * torch.randn(7, 6))


def _total_and_gradients(function: Callable) -> Callable:
    """Return the total and its gradients in student and regressor, on a small problem."""

    def outcome(*, seed: int, **knobs: float) -> list:
        student, regressor, (images, labels, *teacher) = _small_problem(seed)
        teacher = [tensor.requires_grad_() for tensor in teacher]
        with torch.enable_grad():
            terms = function(student, images, labels, *teacher, regressor=regressor, **knobs)
            if type(terms) is not dict or not terms or any(type(term) is not _Tensor for term in terms.values()):
                fail(f"the objective must return a dict of terms, each a tensor, got {type(terms).__name__}.")
            if any(term.dim() for term in terms.values()):
                fail("each term must be one number: is a mean missing?")
            total = torch.stack(list(terms.values())).sum()
        if not total.requires_grad:
            fail("No gradient reaches the student: is something detached too much?")
        parameters = [*student.parameters(), *regressor.parameters()]
        found = _grad(total, [*parameters, *teacher], allow_unused=True)
        if any(gradient is not None and gradient.abs().max() > 0 for gradient in found[len(parameters) :]):
            fail("A gradient reaches the teacher's logits or features. They are fixed targets: detach them.")
        return [total, *(torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=False))]

    return outcome


def _has_the_names(function: Callable, case: Case) -> bool:
    try:
        case.call(_terms_of(function, ("ce", "feature", "kd")))
    except KeyError:
        return False
    return True


def _terms_of(function: Callable, names: Sequence[str]) -> Callable:
    """Return some of the terms by name."""

    def outcome(*, seed: int, **knobs: float) -> list:
        student, regressor, batch = _small_problem(seed)
        terms = function(student, *batch, regressor=regressor, **knobs)
        return [terms[name] for name in names]

    return outcome


class _Student(nn.Sequential):
    """A small student that counts its training steps."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 10))
        self.steps = 0

    def features(self, images: Tensor) -> Tensor:
        """Return what stands before the last layer."""
        self.steps += self.training
        return self[1](self[0](3 * images))


def _small_objective(
    student: _Student, images: Tensor, labels: Tensor, targets: Tensor, *, regressor: nn.Module
) -> dict[str, Tensor]:
    features = student.features(images)
    return {
        "ce": F.cross_entropy(student[2](features), labels),
        "feature": 3 * _hint_loss(regressor(features), targets),
    }


def _run(
    make_student: Callable[[], nn.Module], make_regressor: Callable[[], nn.Module], objective: Callable,
    data: tuple[Tensor, ...], *, seed: int, epochs: int,
) -> nn.Module:  # fmt: skip
    torch.manual_seed(seed)
    student, regressor = make_student(), make_regressor()
    optimizer = _make_adam([*student.parameters(), *regressor.parameters()], lr=1e-2)
    bound = partial(objective, regressor=regressor)
    _fit(student, data, bound, optimizer, epochs=epochs, batch_size=BATCH, seed=seed, progress=False)
    return student


def _student_logits(function: Callable) -> Callable:
    """Run it on a small problem; the trained student's logits."""

    def outcome(*, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2 * seed + 1)
            data = torch.randn(SAMPLES, 6), torch.randint(0, 10, (SAMPLES,)), 2 * torch.randn(SAMPLES, 12)
            make_regressor = partial(losses.HintRegressor, 8, 12)
            student = function(_Student, make_regressor, _small_objective, data, seed=seed, epochs=EPOCHS)
        if type(student) is not _Student:
            fail(f"the trained student must come back, as make_student() made it, got {type(student).__name__}.")
        expected = EPOCHS * SAMPLES // BATCH
        if student.steps != expected:
            fail(
                f"The student was trained for {student.steps} steps, {expected} were asked for. With unequal budgets "
                "the longer training may win, whatever the method."
            )
        with torch.no_grad():
            return student.eval()[2](student.features(data[0]))

    return outcome


def _search(
    candidates: list[dict[str, float]], run: Callable[..., nn.Module], data: dict[str, tuple], *, seeds: list[int]
) -> dict[str, float]:
    def errors(candidate: dict[str, float]) -> int:
        return sum(_count_errors(run(seed=seed, **candidate), *data["held_out"]) for seed in seeds)

    return min(candidates, key=errors)
