"""Checks of exercise 15, born-again networks: the generations, their ensemble, T by held-out images, verdicts."""

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
from .cases import Case, new_generator, seeded_cases, what_changed
from .comparing import check_edge, check_values
from .converting import as_numbers
from .documented import takes_answers, takes_function, takes_verdicts
from .failures import fail, not_answered, passed
from .questions import Question, check_answers
from .slips.born_again import CHOICE, ENSEMBLE, GENERATIONS
from .verdicts import check_verdicts

_kd_loss, _fit, _make_adam = losses.kd_loss, fit, make_adam
EPOCHS, SAMPLES, BATCH = 8, 200, 100
PAIRS = (
    ("generation 3", "no teacher"),
    ("generation 3", "label smoothing"),
    ("all generations", "generation 3"),
    ("all generations", "independent models"),
)
# Luck of the seeds by rank of a pair, with the mean 0: single seeds, medians and extremes choose another pair.
LUCK = (
    {0: (40, -14, -14, -12), 1: (0, 34, -34, 0), 2: (0, 0, -62, 62)},
    {0: (20, -64, 20, 24), 1: (0, 34, -34, 0), 2: (0, 0, -62, 62)},
    {0: (-20, 24, -30, 26), 1: (0, 34, -34, 0), 2: (0, 0, -62, 62)},
)
WRONG_MEAN = (
    "These are not the mean probabilities of all models: a softmax over the classes for each of them, then a mean over "
    "the models."
)
WRONG_GENERATIONS = (
    "The generations are not those that these steps give. Compare one by one: the seed (of weights and order), who "
    "teaches, at which T, α, the labels' term, the learning rate and the number of epochs."
)


@takes_function
def check_born_again(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(make_model, images, labels, *, temperatures, alpha, seed, epochs)`` of exercise 15, task 1.

    Parameters
    ----------
    function : callable
        Returns a list of trained models: the first from the labels, each further one also from the one before, with
        the next of ``temperatures``. Generation g has ``seed`` + g for its weights and its order of samples, Adam with
        learning rate 7e-3 and batches of 100.
    """
    knobs = zip(([1.0, 12.0], [6.0, 2.0, 20.0]), (0.9, 0.7), strict=True)
    cases = [
        Case((), {**case.kwargs, "temperatures": temperatures, "alpha": alpha})
        for case, (temperatures, alpha) in zip(seeded_cases(seed, 2), knobs, strict=True)
    ]
    check_values(function, _generations, cases, slips=GENERATIONS, through=_logits_of, probing=False, diagnosing=False,
                 atol=2e-3, otherwise=WRONG_GENERATIONS)  # fmt: skip
    passed(
        "Every generation is a new model with its own seed, learns from the one before in evaluation mode, at its own "
        "T, and stays trainable."
    )


@takes_function
def check_mean_probabilities(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(models, images)`` of exercise 15, task 2.

    Parameters
    ----------
    function : callable
        Returns the mean of the models' probabilities, shape (N, K), models in evaluation mode.
    """
    cases = [
        Case((), {**case.kwargs, "members": members})
        for case, members in zip(seeded_cases(seed, 3), (2, 3, 5), strict=True)
    ]
    check_values(function, _mean_probabilities, cases, slips=ENSEMBLE, through=_answers_of, probing=False,
                 otherwise=WRONG_MEAN)  # fmt: skip
    one = Case((), {**cases[0].kwargs, "members": 1})
    message = "An ensemble of one model must give this model's own probabilities."
    check_edge(function, _mean_probabilities, [one], message, through=_answers_of, edge="an ensemble of one model")
    passed("One vote of probabilities for each model, all in evaluation mode.")


@takes_function
def check_temperature_choice(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(held_out_errors, test_errors)`` of exercise 15, task 3.

    Parameters
    ----------
    function : callable
        Takes two dicts from a tuple of temperatures to a list of errors, one number per seed; returns the tuple to use.
    """
    generator = new_generator(seed)
    test_levels = (lambda rank: -30 * rank, lambda rank: 8 * abs(rank - 2), lambda rank: -30 * rank)
    cases = [_choice_case(generator, level, luck) for level, luck in zip(test_levels, LUCK, strict=True)]
    check_values(function, _choose, cases, slips=CHOICE, probing=False, diagnosing=False,
                 otherwise="This pair does not have the smallest mean over seeds on held-out images.")  # fmt: skip
    one = Case(tuple({key: values[:1] for key, values in table.items()} for table in cases[0].args))
    check_edge(function, _choose, [one], "With a single seed another pair has fewer held-out errors.", edge="one seed")
    passed("The smallest mean over seeds on held-out images decides; the test images had no say.")


def check_chosen_temperatures(chosen: Any, held_out_errors: Mapping[tuple, Sequence[float]]) -> None:
    """Check that the temperatures chosen in exercise 15, task 3, are those with the fewest held-out errors.

    Parameters
    ----------
    chosen : tuple of float
        Temperatures that the learner chose.
    held_out_errors : mapping from tuple of float to list of float
        As measured in the notebook.

    Raises
    ------
    CheckFailed
        If it is another.
    """
    if chosen is None or chosen is ...:
        not_answered("Task 3: nothing is chosen yet.")
    right = _choose({key: list(values) for key, values in held_out_errors.items()}, {})
    found = as_numbers(chosen, "the choice").reshape(-1).tolist()
    if found != [float(value) for value in right]:
        fail(f"{found} has not the fewest errors on held-out images in your table.")
    passed(f"T = {found} by held-out images.")


@takes_verdicts
def check_born_again_verdicts(verdicts: Any, errors: Mapping[str, Sequence[float]]) -> None:
    """Check the four verdicts of exercise 15, task 4."""
    check_verdicts(verdicts, errors, {pair: pair for pair in PAIRS})


@takes_answers
def check_born_again_questions(answers: Any) -> None:
    """Check the two answers of exercise 15, task 5."""
    check_answers(answers, QUESTIONS)


QUESTIONS = (
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


def _generations(
    make_model: Callable[[], nn.Module], images: Tensor, labels: Tensor, *, temperatures: list[float], alpha: float,
    seed: int, epochs: int,
) -> list[nn.Module]:  # fmt: skip
    generations: list[nn.Module] = []
    for number, temperature in enumerate([None, *temperatures]):
        data: tuple[Tensor, ...] = (images, labels)
        if generations:
            with torch.no_grad():
                data = (images, labels, generations[-1].eval()(images))
        torch.manual_seed(seed + number)
        model = make_model()
        objective = partial(_objective, temperature=temperature, alpha=alpha)
        _fit(
            model, data, objective, _make_adam(list(model.parameters()), lr=7e-3), batch_size=BATCH, progress=False,
            epochs=epochs, seed=seed + number,
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


def _logits_of(function: Callable) -> Callable:
    """Run it on a small problem; the logits of every model that comes back, generation by generation."""

    def outcome(*, seed: int, temperatures: list[float], alpha: float) -> list:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            images, labels = torch.randn(SAMPLES, 6), torch.randint(0, 10, (SAMPLES,))
            knobs = {"temperatures": temperatures, "alpha": alpha, "seed": seed + 1, "epochs": EPOCHS}
            handed = list(temperatures)
            try:
                models = function(_Dropping, images, labels, **{**knobs, "temperatures": handed})
            except IndexError as error:
                fail(
                    f"IndexError: {error}. There are {len(temperatures)} temperatures for {len(temperatures) + 1} "
                    "generations: the first learns from the labels alone and has none."
                )
        change = what_changed(temperatures, handed, "temperatures")
        if change:
            fail(f"The function {change}. Whoever called it still needs it: work on a copy.")
        _check_models(models, len(temperatures) + 1)
        with torch.no_grad():
            return [model.eval()(images) for model in models]

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
        fail("A generation came back frozen: whoever trains on from it silently learns nothing (trap 14).")
    # The last one teaches nobody: what the others ran in training mode beyond it, they ran as teachers.
    if any(model.training_runs > models[-1].training_runs for model in models):
        fail(
            "A finished generation ran in training mode: its dropout makes another teacher of it at each call "
            "(trap 13). It teaches in evaluation mode."
        )


def _mean_probabilities(models: Sequence[nn.Module], images: Tensor) -> Tensor:
    return torch.stack([model.eval()(images).softmax(dim=1) for model in models]).mean(dim=0)


def _answers_of(function: Callable) -> Callable:
    def outcome(*, seed: int, members: int) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            models, images = [_Dropping().train() for _ in range(members)], 2 * torch.randn(20, 6)
            with torch.no_grad():
                for place, model in enumerate(models):  # sure, surer, unsure, …
                    model.head.weight.mul_(4 * (1.0, 4.0, 0.3)[place % 3])
            handed = list(models)
            found = function(handed, images)
        if len(handed) != members or any(a is not b for a, b in zip(models, handed, strict=True)):
            fail("The list of models was changed. Whoever called it still needs it: work on a copy.")
        if any(model.training_runs for model in models):
            fail("The models ran in training mode: with dropout each call gives another answer. Evaluate them first.")
        return found

    return outcome


def _choice_case(
    generator: np.random.Generator, test_level: Callable[[int], float], luck: Mapping[int, tuple[int, ...]]
) -> Case:
    schedules = [(1.0, 1.0), (2.0, 2.0), (8.0, 8.0), (2.0, 8.0), (8.0, 2.0)]
    held_out, test = {}, {}
    for schedule, rank in zip(schedules, generator.permutation(len(schedules)).tolist(), strict=True):
        seeds = 500 + 12 * rank + generator.normal(0, 2, 4)
        seeds += luck.get(rank, (0, 0, 0, 0))
        held_out[schedule] = seeds.round().tolist()
        test[schedule] = (1400 + test_level(rank) + generator.normal(0, 1, 4)).round().tolist()
    return Case((held_out, test))


def _choose(held_out: Mapping[tuple, Sequence[float]], test: Mapping[tuple, Sequence[float]]) -> tuple:
    return min(held_out, key=lambda schedule: float(np.mean(held_out[schedule])))
