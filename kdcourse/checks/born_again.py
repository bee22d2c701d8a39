"""Checks of exercise 15, born-again networks: the generations, their ensemble, T by held-out images, verdicts."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ..recipes import make_adam
from ..training import fit
from ._core import (
    Case,
    Question,
    Slip,
    as_numbers,
    check_answers,
    check_values,
    fail,
    name_of,
    new_generator,
    passed,
)
from ._verdicts import check_verdicts

_kd_loss, _fit, _make_adam = losses.kd_loss, fit, make_adam
EPOCHS, SAMPLES, BATCH = 8, 200, 100


def check_born_again(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(make_model, images, labels, *, temperatures, alpha, seed, epochs)`` of exercise 15, task 1.

    Parameters
    ----------
    function : callable
        Returns a list of trained models: the first from the labels, each further one also from the one before, with
        the next of ``temperatures``. Generation g has ``seed`` + g for its weights and its order of samples, Adam with
        learning rate 7e-3 and batches of 100.
    seed : int, optional
        Of the small problem; a fresh one without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    cases = [
        Case((), {"seed": int(number), "temperatures": temperatures, "alpha": alpha})
        for number, temperatures, alpha in zip(
            new_generator(seed).integers(0, 10_000, size=2), ([1.0, 12.0], [6.0, 2.0, 20.0]), (0.9, 0.7), strict=True
        )
    ]
    check_values(_logits_by(function, watch=True), _logits_by(_generations), cases, slips=GENERATION_SLIPS, atol=2e-3)
    passed(
        "Every generation is a new model with its own seed, learns from the one before in evaluation mode, at its own "
        "T, and stays trainable."
    )


def check_ensemble(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(models, images)`` of exercise 15, task 2.

    Parameters
    ----------
    function : callable
        Returns the mean of the models' probabilities, shape (N, K), models in evaluation mode.
    seed : int, optional
        Of the models and images; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    cases = [Case((), {"seed": int(number)}) for number in new_generator(seed).integers(0, 10_000, size=2)]
    check_values(_ensemble_by(function), _ensemble_by(_mean_probabilities), cases, slips=ENSEMBLE_SLIPS)
    passed("One vote of probabilities for each model, all in evaluation mode.")


def check_temperature_choice(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(held_out_errors, test_errors)`` of exercise 15, task 3.

    Parameters
    ----------
    function : callable
        Takes two dicts from a tuple of temperatures to a list of errors, one number per seed; returns the tuple to use.
    seed : int, optional
        Of the errors; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    schedules = [(1.0, 1.0), (2.0, 2.0), (8.0, 8.0), (2.0, 8.0), (8.0, 2.0)]
    cases = []
    for test_level in (lambda rank: -30 * rank, lambda rank: 8 * abs(rank - 2), lambda rank: -30 * rank):
        held_out, test = {}, {}
        for schedule, rank in zip(schedules, generator.permutation(len(schedules)).tolist(), strict=True):
            seeds = 500 + 12 * rank + generator.normal(0, 2, 4)
            if rank == 0:
                seeds += (40, -12, -14, -12)  # an unlucky first seed
            elif rank == 2:
                seeds += (0, 0, -60, 64)  # a lucky one
            held_out[schedule] = seeds.round().tolist()
            test[schedule] = (1400 + test_level(rank) + generator.normal(0, 1, 4)).round().tolist()
        cases.append(Case((held_out, test)))
    check_values(function, _choose, cases, slips=CHOICE_SLIPS)
    passed("The smallest mean over seeds on held-out images decides; the test images had no say.")


def check_chosen(chosen: Any, held_out_errors: Mapping[tuple, Sequence[float]]) -> None:
    """Check that the temperatures chosen in exercise 15, task 3, are those with the fewest held-out errors.

    Parameters
    ----------
    chosen : tuple of float
        The learner's.
    held_out_errors : mapping from tuple of float to list of float
        As measured in the notebook.

    Raises
    ------
    CheckFailed
        If it is another.
    """
    if chosen is None or chosen is ...:
        raise NotImplementedError("Task 3: nothing is chosen yet.")
    right = _choose({key: list(values) for key, values in held_out_errors.items()}, {})
    found = as_numbers(chosen, "the choice").reshape(-1).tolist()
    if found != [float(value) for value in right]:
        fail(f"{found} has not the fewest errors on held-out images in your table.")
    passed(f"T = {found} by held-out images.")


def check_born_again_verdicts(verdicts: Any, errors: Mapping[str, Sequence[float]]) -> None:
    """Check the four verdicts of exercise 15, task 4, against paired 95 % intervals.

    Parameters
    ----------
    verdicts : dict from (str, str) to str
        For each pair ``"better"``, ``"worse"`` or ``"unclear"``.
    errors : mapping from str to list of float
        Test errors by seed.

    Raises
    ------
    CheckFailed
        With what the interval of the first wrong verdict says.
    """
    check_verdicts(verdicts, errors, {pair: pair for pair in VERDICT_PAIRS})


def check_born_again_questions(answers: Any) -> None:
    """Check the two answers of exercise 15, task 5.

    Parameters
    ----------
    answers : sequence of two str
        Letters.

    Raises
    ------
    CheckFailed
        With what speaks against the first wrong letter.
    """
    check_answers(
        answers,
        Question(
            right="b",
            wrong={
                "a": "compare what averaging gains in both cases, mean of the members minus the ensemble, with the "
                "whole difference.",
                "c": "both ensembles are the same mean of probabilities, and both gain something by it.",
            },
            because="most of the difference is there between the members, before anything is averaged",
        ),
        Question(
            right="c",
            wrong={
                "a": "one network, one amount of data and one budget were tried. The paper had others, and gained.",
                "b": "a result that disagrees with a text is not a bug by that. Your function was checked.",
            },
            because="a measurement holds for what was measured: this network, these images, this budget and these T",
        ),
    )


VERDICT_PAIRS = (
    ("generation 3", "no teacher"),
    ("generation 3", "label smoothing"),
    ("all generations", "generation 3"),
    ("all generations", "independent models"),
)


class _Dropping(nn.Module):
    """A small classifier with dropout that counts how often it ran in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(0.4))
        self.head = nn.Linear(12, 10)
        self.training_runs = 0

    def forward(self, images: Tensor) -> Tensor:
        self.training_runs += self.training
        return self.head(self.body(4 * images))


def _logits_by(function: Callable, *, watch: bool = False, **changes: Any) -> Callable:
    """Run it on a small problem; the logits of every model that comes back, generation by generation."""

    def outcome(*, seed: int, temperatures: list[float], alpha: float) -> list:
        if not callable(function):
            fail(f"a function is needed, got {type(function).__name__}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            images, labels = torch.randn(SAMPLES, 6), torch.randint(0, 10, (SAMPLES,))
            knobs = {"temperatures": temperatures, "alpha": alpha, "seed": seed + 1, "epochs": EPOCHS}
            try:
                models = function(_Dropping, images, labels, **knobs, **changes)
            except IndexError as error:
                fail(
                    f"IndexError: {error}. There are {len(temperatures)} temperatures for {len(temperatures) + 1} "
                    "generations: the first learns from the labels alone and has none."
                )
        if watch:
            _check_models(models, len(temperatures) + 1)
        with torch.no_grad():
            return [model.eval()(images) for model in models]

    outcome.__name__ = name_of(function)
    return outcome


def _check_models(models: Any, count: int) -> None:
    if isinstance(models, nn.Module):
        fail("One model came back. All generations are needed, in a list: to compare them, and to build an ensemble.")
    if type(models) not in (list, tuple) or not all(isinstance(model, _Dropping) for model in models):
        fail(f"a list of what make_model() returned is needed, got {type(models).__name__}.")
    if len({id(model) for model in models}) < len(models):
        fail(
            "The same model stands in the list more than once: student and teacher are one object, and the divergence "
            "between them is 0 (trap 50). Each generation needs a model of its own."
        )
    if len(models) != count:
        fail(f"{len(models)} models came back; {count - 1} temperatures make {count} generations, the first included.")
    if not all(parameter.requires_grad for model in models for parameter in model.parameters()):
        fail("A generation came back frozen: whoever trains on from it learns nothing, without a word (trap 14).")
    # The last one teaches nobody: what the others ran in training mode beyond it, they ran as teachers.
    if any(model.training_runs > models[-1].training_runs for model in models):
        fail(
            "A finished generation ran in training mode: its dropout makes another teacher of it at each call "
            "(trap 13). It teaches in evaluation mode."
        )


def _generations(
    make_model: Callable[[], nn.Module], images: Tensor, labels: Tensor, *, temperatures: list[float], alpha: float,
    seed: int, epochs: int, teacher: str = "previous", weights: str = "own", order: str = "own", which: str = "own",
    swapped: bool = False, copied: str = "no", longer: bool = False,
) -> list[nn.Module]:  # fmt: skip
    generations: list[nn.Module] = []
    for number in range(len(temperatures) + 1):
        torch.manual_seed(seed if weights == "same" else seed + number)
        model = copy.deepcopy(generations[-1]) if generations and copied == "object" else make_model()
        if generations and copied == "weights":
            model.load_state_dict(generations[-1].state_dict())
        data: tuple[Tensor, ...] = (images, labels)
        temperature = None
        if generations and teacher != "none":
            source = generations[0] if teacher == "first" else generations[-1]
            with torch.no_grad():
                data = (images, labels, source.eval()(images))
            place = {"own": number - 1, "first": 0, "last": -1, "next": min(number, len(temperatures) - 1),
                     "reversed": -number}[which]  # fmt: skip
            temperature = temperatures[place]
        share = 1 - alpha if swapped else alpha
        objective = partial(_objective, temperature=temperature, alpha=share)
        _fit(
            model, data, objective, _make_adam(list(model.parameters()), lr=7e-3), batch_size=BATCH, progress=False,
            epochs=epochs * (2 if longer else 1), seed=seed if order == "same" else seed + number,
        )  # fmt: skip
        generations.append(model)
    return generations


def _objective(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor | None = None, *,
    temperature: float | None, alpha: float,
) -> dict[str, Tensor]:  # fmt: skip
    logits = student(images)
    ce = F.cross_entropy(logits, labels)
    if temperature is None or teacher_logits is None:
        return {"ce": ce}
    return {"kd": alpha * _kd_loss(logits, teacher_logits, temperature=temperature), "ce": (1 - alpha) * ce}


_WRONG_TEMPERATURE = "The T of another generation was used: generation g + 1 has the g-th of the temperatures."
_COPIED = "A generation starts from its teacher's weights. A born-again network starts anew."
_MISTAKES: dict[tuple[str, Any], str] = {
    ("teacher", "first"): "Every generation is taught by the first one. Each is the student of the one before it.",
    ("teacher", "none"): "No generation learns from another: all of them see the labels alone.",
    (
        "weights",
        "same",
    ): "All generations start from the same weights: the seed of the weights is seed + g, so that the "
    "generations differ by more than their teacher.",
    ("order", "same"): "All generations see the samples in the same order: the order's seed is seed + g.",
    ("which", "first"): _WRONG_TEMPERATURE,
    ("which", "last"): _WRONG_TEMPERATURE,
    ("which", "next"): _WRONG_TEMPERATURE,
    ("which", "reversed"): _WRONG_TEMPERATURE,
    ("swapped", True): "α is on the wrong term: it is the share of the teacher, 1 - α that of the labels.",
    ("copied", "weights"): _COPIED,
    ("copied", "object"): _COPIED,
    ("longer", True): "The generations are trained twice as long as asked: another budget, another comparison.",
}
_OFTEN_TOGETHER: list[tuple[str, Any]] = [("teacher", "first"), ("which", "first"), ("swapped", True)]
GENERATION_SLIPS = (
    *(Slip(message, _logits_by(_generations, **{name: value})) for (name, value), message in _MISTAKES.items()),
    Slip(
        "All generations have one seed: the same weights and the same order of samples each time. Generation g has "
        "seed + g for both.",
        _logits_by(_generations, weights="same", order="same"),
    ),
    *(
        Slip(_MISTAKES[one], _logits_by(_generations, **{one[0]: one[1], other[0]: other[1]}))
        for one, other in itertools.permutations(_OFTEN_TOGETHER, 2)
    ),
)


def _mean_probabilities(models: Sequence[nn.Module], images: Tensor) -> Tensor:
    return torch.stack([model.eval()(images).softmax(dim=1) for model in models]).mean(dim=0)


def _ensemble_by(function: Callable) -> Callable:
    def outcome(*, seed: int) -> Any:
        if not callable(function):
            fail(f"a function is needed, got {type(function).__name__}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            models, images = [_Dropping().train() for _ in range(3)], 2 * torch.randn(20, 6)
            with torch.no_grad():
                for scale, model in zip((1.0, 4.0, 0.3), models, strict=True):  # sure, surer, unsure
                    model.head.weight.mul_(4 * scale)
            found = function(models, images)
        if any(model.training_runs for model in models):
            fail("The models ran in training mode: with dropout each call gives another answer. Evaluate them first.")
        return found

    outcome.__name__ = name_of(function)
    return outcome


def _stacked(models: Sequence[nn.Module], images: Tensor) -> Tensor:
    return torch.stack([model.eval()(images) for model in models])  # (M, N, K)


def _votes(models: Sequence[nn.Module], images: Tensor) -> Tensor:
    logits = _stacked(models, images)
    return F.one_hot(logits.argmax(dim=2), logits.shape[2]).float().mean(dim=0)


_CLASSES_AVERAGED = (
    "The models' classes were averaged. A mean of class numbers is no class: half-way between 3 and 9 is not 6. "
    "Average probabilities."
)
ENSEMBLE_SLIPS = (
    Slip(_CLASSES_AVERAGED, _ensemble_by(lambda m, x: _stacked(m, x).argmax(dim=2).float().mean(dim=0))),
    Slip(_CLASSES_AVERAGED, _ensemble_by(lambda m, x: _stacked(m, x).argmax(dim=2).float().mean(dim=0).round())),
    Slip(
        "Each model votes with its class only; how sure it is gets lost. Average probabilities.",
        _ensemble_by(_votes),
    ),
    Slip(
        "Each model votes with its class only; how sure it is gets lost. Average probabilities.",
        _ensemble_by(lambda m, x: _stacked(m, x).argmax(dim=2).mode(dim=0).values),
    ),
    Slip(
        "Logits were averaged, and then softened: a geometric mean, in which the surest model outvotes the others.",
        _ensemble_by(lambda m, x: _stacked(m, x).mean(dim=0).softmax(dim=1)),
    ),
    Slip(
        "These are averaged logits. Asked for are probabilities.",
        _ensemble_by(lambda m, x: _stacked(m, x).mean(dim=0)),
    ),
    Slip(
        "The probabilities are added and not divided by the number of models.",
        _ensemble_by(lambda m, x: _stacked(m, x).softmax(dim=2).sum(dim=0)),
    ),
    Slip(
        "Only one model answers. All of them belong to the ensemble.",
        _ensemble_by(lambda m, x: _stacked(m, x).softmax(dim=2)[-1]),
    ),
    Slip(
        "The largest probability over the models was taken. Asked for is their mean.",
        _ensemble_by(lambda m, x: _stacked(m, x).softmax(dim=2).amax(dim=0)),
    ),
    Slip(
        "The softmax runs over models or images instead of classes.",
        _ensemble_by(lambda m, x: _stacked(m, x).softmax(dim=1).mean(dim=0)),
    ),
    Slip(
        "The softmax runs over models or images instead of classes.",
        _ensemble_by(lambda m, x: _stacked(m, x).softmax(dim=0).mean(dim=0)),
    ),
    Slip(
        "The classes came back. Asked for are the mean probabilities, (N, K); their largest gives the class.",
        _ensemble_by(lambda m, x: _mean_probabilities(m, x).argmax(dim=1)),
    ),
)  # fmt: skip


def _choose(held_out: dict[tuple, list[float]], test: dict[tuple, list[float]]) -> tuple:
    return min(held_out, key=lambda schedule: float(np.mean(held_out[schedule])))


CHOICE_SLIPS = (
    Slip(
        "The test images chose. What is then reported on them is the best of several tries, and flattered.",
        lambda held_out, test: _choose(test, held_out),
    ),
    Slip(
        "Held-out and test errors were added up. The test images must have no say at all.",
        lambda held_out, test: min(held_out, key=lambda s: sum(held_out[s]) + sum(test[s])),
    ),
    Slip(
        "This has the most errors on held-out images. These are errors, not accuracies.",
        lambda held_out, test: max(held_out, key=lambda s: sum(held_out[s])),
    ),
    Slip(
        "One lucky run decided. Compare means over all seeds.",
        lambda held_out, test: min(held_out, key=lambda s: min(held_out[s])),
    ),
    Slip(
        "Only the first seed was looked at. Compare means over all seeds.",
        lambda held_out, test: min(held_out, key=lambda s: held_out[s][0]),
    ),
    Slip(
        "The smallest error came back instead of the temperatures that gave it.",
        lambda held_out, test: min(sum(errors) / len(errors) for errors in held_out.values()),
    ),
)
