"""Checks of exercise 14, feature and logits: the combined objective, a run, a search on held-out images, verdicts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ..recipes import make_adam
from ..training import count_errors, fit
from ._core import Case, Slip, as_number, check_values, fail, name_of, new_generator, passed
from ._verdicts import check_verdicts

_kd_loss, _hint_loss, _fit, _make_adam, _count_errors = losses.kd_loss, losses.hint_loss, fit, make_adam, count_errors
_Tensor, _grad = torch.Tensor, torch.autograd.grad
EPOCHS, SAMPLES, BATCH = 8, 200, 100
SPLITS = ("train", "held_out", "test")


def check_combined_objective(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, images, labels, teacher_logits, teacher_features, *, regressor, …)`` of exercise 14.

    Parameters
    ----------
    function : callable
        Also takes ``temperature``, ``alpha`` and ``feature_weight``; returns a dict of weighted terms: α T² KL, 1 - α
        cross-entropy, and the weight times the hint loss of the regressed features ``student[:-1](images)``.
    seed : int, optional
        Of the small networks; a fresh one without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    knobs = [(4.0, 0.8, 20.0), (1.5, 0.3, 0.4), (6.0, 0.6, 3.0)]
    cases = [
        Case((), {"seed": int(number), "temperature": t, "alpha": a, "feature_weight": w})
        for number, (t, a, w) in zip(new_generator(seed).integers(0, 10_000, size=3), knobs, strict=True)
    ]
    check_values(_objective_by(function, watch=True), _objective_by(_objective), cases, slips=OBJECTIVE_SLIPS)
    passed("Three weighted terms, their gradients reach student and regressor, and none reaches the teacher.")


def check_run(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(make_student, make_regressor, objective, data, *, seed, epochs)`` of exercise 14, task 2.

    Parameters
    ----------
    function : callable
        Draws student and regressor, in this order, after ``torch.manual_seed(seed)``; trains both with Adam at 1e-2 in
        batches of 100 shuffled by ``seed``; returns the student.
    seed : int, optional
        Of the small problem; a fresh one without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    cases = [Case((), {"seed": int(number)}) for number in new_generator(seed).integers(1, 10_000, size=2)]
    check_values(_student_by(function, watch=True), _student_by(_run), cases, slips=RUN_SLIPS, atol=2e-3)
    passed(
        "The seed owns the student's start and the order, the regressor learns along, and the budget is what was asked."
    )


def check_search(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(candidates, run, data, *, seeds)`` of exercise 14, task 3.

    Parameters
    ----------
    function : callable
        Trains ``run(seed=…, **candidate)`` for every candidate and seed; returns the candidate with the fewest errors
        on ``data["held_out"]``, a mean over seeds.
    seed : int, optional
        Of the errors; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    cases = [
        Case((), {"seed": int(number), "turned": turned})  # what the test images say against the held-out ones
        for number, turned in zip(new_generator(seed).integers(0, 10_000, size=3), (True, False, True), strict=True)
    ]
    seen: set[int] = set()
    check_values(_candidate_by(function, seen), _candidate_by(_search), cases, slips=SEARCH_SLIPS)
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
    if type(candidates) is not dict or sorted(candidates) != ["both", "features", "logits"]:
        fail("candidates must be a dict with the keys 'logits', 'features' and 'both'.")
    if not any(candidates.values()):
        raise NotImplementedError("Task 4: there are no candidates yet.")
    counts = {}
    for arm, tries in candidates.items():
        if type(tries) not in (list, tuple) or not all(
            type(one) is dict and sorted(one) == ["alpha", "feature_weight"] for one in tries
        ):
            fail(f"the candidates of {arm!r} must be a list of dicts with 'alpha' and 'feature_weight'.")
        pairs = {(as_number(one["alpha"], "alpha"), as_number(one["feature_weight"], "the weight")) for one in tries}
        counts[arm] = len(pairs)
        for alpha, weight in pairs:
            if not 0 <= alpha <= 1 or not 0 <= weight < float("inf"):
                fail(f"{arm!r}: alpha must be in [0, 1] and the weight not negative, got {alpha} and {weight}.")
            if (alpha > 0) != (arm != "features") or (weight > 0) != (arm != "logits"):
                fail(
                    f"{arm!r} with alpha={alpha:g} and feature_weight={weight:g} is another arm: 'logits' has no "
                    "feature term, 'features' no soft targets, 'both' has both."
                )
    if len(set(counts.values())) > 1:
        fail(
            f"the arms have {counts} different candidates. Who may try more often finds more: an unequal search is an "
            "unequal budget."
        )
    if counts["both"] < 3:
        fail(f"{counts['both']} candidates are no search; give each arm three or more.")
    passed(f"Three arms, {counts['both']} candidates each.")


def check_combination_verdicts(verdicts: Any, errors: Mapping[str, Sequence[float]]) -> None:
    """Check the four verdicts of exercise 14, task 5, against paired 95 % intervals.

    Parameters
    ----------
    verdicts : dict from str to str
        For each other arm ``"better"``, ``"worse"`` or ``"unclear"``: features and logits together, against it.
    errors : mapping from str to list of float
        Test errors by seed.

    Raises
    ------
    CheckFailed
        With what the interval of the first wrong verdict says.
    """
    check_verdicts(verdicts, errors, {other: ("both", other) for other in OTHERS})


OTHERS = ("logits", "features", "no_teacher", "label_smoothing")


def _mean_hint(regressor: nn.Module, features: Tensor, teacher_features: Tensor) -> Tensor:
    return _hint_loss(regressor(features), teacher_features)


def _objective(
    student: nn.Sequential, images: Tensor, labels: Tensor, teacher_logits: Tensor, teacher_features: Tensor, *,
    regressor: nn.Module, temperature: float, alpha: float, feature_weight: float, hint: Callable = _mean_hint,
    share: Callable[[float], float] = lambda alpha: alpha, weight: Callable[[float], float] = lambda weight: weight,
    soft_factor: Callable[[float], float] = lambda t: 1.0, on_all: bool = False, rest: bool = False,
    unweighted: bool = False, cut: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    features = student[:-1](images)
    logits = student[-1](features)
    kd = soft_factor(temperature) * _kd_loss(logits, teacher_logits, temperature=temperature)
    ce = F.cross_entropy(logits, labels)
    feature = hint(regressor, features.detach() if cut else features, teacher_features)
    a, w = (1.0 if unweighted else share(alpha)), weight(feature_weight)
    b = 1.0 if unweighted else 1 - a
    if on_all or rest:
        a, b = (w * a, w * b) if on_all else ((1 - w) * a, (1 - w) * b)
    return {"kd": a * kd, "ce": b * ce, "feature": w * feature}


def _objective_by(function: Callable, *, watch: bool = False, **changes: Any) -> Callable:
    """Return its total and the gradients in student and regressor, on a small problem."""

    def outcome(*, seed: int, **knobs: float) -> list:
        if not callable(function):
            fail(f"a function is needed, got {type(function).__name__}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # As wide as the teacher's features, so that a regressor which is left out raises no error.
            student = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
            regressor = losses.HintRegressor(6, 6)
            images, labels = torch.randn(7, 5), torch.randint(0, 4, (7,))
            teacher = [2 * torch.randn(7, 4), 3 * torch.randn(7, 6)]
        if watch:
            teacher = [tensor.requires_grad_() for tensor in teacher]
        with torch.enable_grad():
            terms = function(student, images, labels, *teacher, regressor=regressor, **knobs, **changes)
            if type(terms) is not dict or not terms or any(type(term) is not _Tensor for term in terms.values()):
                fail(f"the objective must return a dict of terms, each a tensor, got {type(terms).__name__}.")
            if any(term.dim() for term in terms.values()):
                fail("each term must be one number: is a mean missing?")
            total = torch.stack(list(terms.values())).sum()
        if not total.requires_grad:
            fail("No gradient reaches the student: is something detached too much?")
        parameters = [*student.parameters(), *regressor.parameters()]
        found = _grad(total, [*parameters, *(teacher if watch else [])], allow_unused=True)
        if any(gradient is not None and gradient.abs().max() > 0 for gradient in found[len(parameters) :]):
            fail("A gradient reaches the teacher's logits or features. They are fixed targets: detach them.")
        return [total, *(torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=False))]

    outcome.__name__ = name_of(function)
    return outcome


def _objective_slip(message: str, **changes: Any) -> Slip:
    return Slip(message, _objective_by(_objective, **changes))


OBJECTIVE_SLIPS = (
    _objective_slip(
        "The feature term is not scaled: its weight is missing. A term counts by its gradient, and at weight 1 it "
        "counts as much as the layer happens to be large.",
        weight=lambda weight: 1.0,
    ),
    _objective_slip("α is on the wrong term: it is the share of the soft targets.", share=lambda alpha: 1 - alpha),
    _objective_slip("The feature weight multiplies the other terms as well.", on_all=True),
    _objective_slip(
        "The other terms are multiplied by 1 - weight. The feature term comes on top; its weight is no share.",
        rest=True,
    ),
    _objective_slip("Soft targets and labels are added without α and 1 - α.", unweighted=True),
    _objective_slip(
        "The regressor was left out: the student's features are compared as they are, which only works by chance of "
        "equal widths.",
        hint=lambda regressor, features, teacher: _hint_loss(features, teacher),
    ),
    _objective_slip(
        "The features are normalised first. That is another loss, blind to magnitudes (trap 18).",
        hint=lambda regressor, features, teacher: _hint_loss(
            F.normalize(regressor(features), dim=1), F.normalize(teacher, dim=1)
        ),
    ),
    _objective_slip(
        "The squared errors are summed over the features: the weight then depends on the layer's width.",
        hint=lambda regressor, features, teacher: teacher.shape[1] * _hint_loss(regressor(features), teacher),
    ),
    _objective_slip(
        "The squared errors are summed over batch and features: twice the images would mean twice the step.",
        hint=lambda regressor, features, teacher: teacher.numel() * _hint_loss(regressor(features), teacher),
    ),
    _objective_slip("T² is missing in the soft targets' term.", soft_factor=lambda t: 1 / t**2),
    _objective_slip(
        "No gradient of the feature term reaches the student: its features are detached, the regressor learns alone.",
        cut=True,
    ),
    _objective_slip(
        "The regressor does not learn: what it returns carries no gradient to its own parameters (trap 21).",
        hint=lambda regressor, features, teacher: _hint_loss(_frozen(regressor, features), teacher),
    ),
)


def _frozen(regressor: nn.Module, features: Tensor) -> Tensor:
    fixed = {name: parameter.detach() for name, parameter in regressor.named_parameters()}
    return torch.func.functional_call(regressor, fixed, (features,))


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
    data: tuple[Tensor, ...], *, seed: int, epochs: int, regressor_first: bool = False, frozen: bool = False,
    only_regressor: bool = False, order: int | None = None, seeded: bool = True, lr: float = 1e-2,
    batch_size: int = BATCH,
) -> nn.Module:  # fmt: skip
    if seeded:
        torch.manual_seed(seed)
    regressor = make_regressor() if regressor_first else None
    student = make_student()
    regressor = regressor or make_regressor()
    regressor.requires_grad_(not frozen)
    student.requires_grad_(not only_regressor)
    learned = [*student.parameters(), *regressor.parameters()]
    bound = partial(objective, regressor=regressor)
    optimizer = _make_adam(learned, lr=lr)
    order = seed if order is None else order
    _fit(student, data, bound, optimizer, epochs=epochs, batch_size=batch_size, seed=order, progress=False)
    return student


def _student_by(function: Callable, *, watch: bool = False, **changes: Any) -> Callable:
    """Run it on a small problem; the trained student's logits."""

    def outcome(*, seed: int) -> Tensor:
        if not callable(function):
            fail(f"a function is needed, got {type(function).__name__}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2 * seed + 1)
            data = torch.randn(SAMPLES, 6), torch.randint(0, 10, (SAMPLES,)), 2 * torch.randn(SAMPLES, 12)
            make_regressor = partial(losses.HintRegressor, 8, 12)
            student = function(_Student, make_regressor, _small_objective, data, seed=seed, epochs=EPOCHS, **changes)
        if type(student) is not _Student:
            fail(f"the trained student must come back, as make_student() made it, got {type(student).__name__}.")
        expected = EPOCHS * SAMPLES // BATCH
        if watch and student.steps != expected:
            fail(
                f"The student was trained for {student.steps} steps, {expected} were asked for. With unequal budgets "
                "the longer training may win, whatever the method."
            )
        with torch.no_grad():
            return student.eval()[2](student.features(data[0]))

    outcome.__name__ = name_of(function)
    return outcome


def _run_slip(message: str, **changes: Any) -> Slip:
    return Slip(message, _student_by(_run, **changes))


RUN_SLIPS = (
    _run_slip(
        "The regressor is not trained: it is frozen, or its parameters are not the optimizer's, and the student "
        "follows a random projection (trap 21).",
        frozen=True,
    ),
    _run_slip(
        "The regressor is drawn before the student: the student's start then depends on whether there is a regressor, "
        "and runs of one seed are no pair any more.",
        regressor_first=True,
    ),
    _run_slip("Only the regressor is trained; the student stays as it was drawn.", only_regressor=True),
    _run_slip("The order of the samples has seed 0 in every run; it should have the run's own.", order=0),
    _run_slip("torch.manual_seed(seed) is missing: the start is left to whatever was drawn before.", seeded=False),
    _run_slip("Neither the start nor the order of samples has the run's seed.", seeded=False, order=0),
    _run_slip("The learning rate is another one: 1e-2 was asked for, Adam's default is 1e-3.", lr=1e-3),
    _run_slip("The batches have another size: 100 samples were asked for, fit's default is 128.", batch_size=128),
)


class _Oracle(nn.Module):
    """A student that makes as many errors on each split as it is told to, and notes which splits it saw."""

    def __init__(self, errors: Sequence[int], seen: set[int]) -> None:
        super().__init__()
        self.errors, self.seen = torch.tensor(errors), seen

    def forward(self, images: Tensor) -> Tensor:
        labels, split, rank = images.long().T
        self.seen.update(split.tolist())
        return F.one_hot((labels + (rank < self.errors[split]).long()) % 10, 10).float()


def _search(
    candidates: list[dict[str, float]], run: Callable[..., nn.Module], data: dict[str, tuple], *, seeds: list[int],
    splits: Sequence[str] = ("held_out",), reduce: Callable[[Sequence[int]], float] = np.mean, worst: bool = False,
) -> dict[str, float]:  # fmt: skip
    def score(candidate: dict[str, float]) -> float:
        students = [run(seed=seed, **candidate) for seed in seeds]
        found = reduce([sum(_count_errors(student, *data[split]) for split in splits) for student in students])
        return float(-found if worst else found)

    return min(candidates, key=score)


def _candidate_by(function: Callable, seen: set[int] | None = None, **changes: Any) -> Callable:
    """Search among students whose errors are made up; the candidate that is found, as numbers."""

    def outcome(*, seed: int, turned: bool) -> Any:
        if not callable(function):
            fail(f"a function is needed, got {type(function).__name__}.")
        generator, splits_seen = np.random.default_rng(seed), set[int]()
        pairs = [(0.3, 1.0), (0.3, 10.0), (0.6, 1.0), (0.6, 10.0), (0.9, 1.0), (0.9, 10.0)]
        candidates = [{"alpha": alpha, "feature_weight": weight} for alpha, weight in pairs]
        seeds = generator.choice(100, size=4, replace=False).tolist()
        errors = {}
        for pair, rank in zip(pairs, generator.permutation(len(pairs)).tolist(), strict=True):
            held_out = 80 + 6 * rank + generator.integers(-1, 2, 4)
            if rank == 0:
                held_out += (16, -16, -12, 14)  # unlucky first and last seeds
            elif rank == 3:
                held_out += (0, 0, -40, 44)  # a lucky one
            test = 80 + (-9 * rank if turned else 3 * abs(rank - 2)) + generator.integers(-1, 2, 4)
            train = 20 + 2 * abs(rank - 4) + generator.integers(0, 2, 4)
            errors[pair] = np.stack([train, held_out, test])  # (3, 4)
        data = {
            name: (torch.stack([labels, torch.full((200,), split), torch.arange(200)], dim=1).float(), labels)
            for split, name in enumerate(SPLITS)
            for labels in [torch.from_numpy(generator.integers(0, 10, 200))]
        }

        def run(*, seed: int, alpha: float, feature_weight: float) -> _Oracle:
            return _Oracle(errors[alpha, feature_weight][:, seeds.index(seed)].tolist(), splits_seen)

        found = function(candidates, run, data, seeds=list(seeds), **changes)
        if type(found) is not dict:
            fail(f"the chosen candidate, a dict, must come back, got {type(found).__name__}.")
        if seen is not None:
            seen.update(splits_seen)
        return found

    outcome.__name__ = name_of(function)
    return outcome


def _search_slip(message: str, **changes: Any) -> Slip:
    return Slip(message, _candidate_by(_search, **changes))


SEARCH_SLIPS = (
    _search_slip(
        "The weights are chosen by test errors. What is then reported on the test images is the best of several tries, "
        "and flattered.",
        splits=["test"],
    ),
    _search_slip(
        "Test errors had a say beside the held-out ones. They must have none at all.",
        splits=["held_out", "test"],
    ),
    _search_slip(
        "The weights are chosen by errors on the training images, which the students know by heart.",
        splits=["train"],
    ),
    _search_slip("One lucky run decided. Compare means over all seeds.", reduce=min),
    _search_slip(
        "Only one of the seeds counts, the first or the last. Compare means over all of them.",
        reduce=lambda found: found[0],
    ),
    _search_slip(
        "Only one of the seeds counts, the first or the last. Compare means over all of them.",
        reduce=lambda found: found[-1],
    ),
    _search_slip("This candidate has the most errors on held-out images, not the fewest.", worst=True),
)
