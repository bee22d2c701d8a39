"""Checks of exercise 13, temperature sweep: objective, runs in pairs, accuracy, optimum, questions."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses, models
from .cases import Case, new_generator
from .comparing import check_edge, check_values
from .converting import as_number
from .documented import takes_answers, takes_function
from .failures import check_callable, fail, name_of, named_like, not_answered, passed
from .gradients import check_gradients
from .questions import Question, check_answers
from .slips.temperature_sweep import CURVE, OBJECTIVE, OPTIMUM
from .soft_targets import TERMS, labelled, logit_cases
from .sweep_tables import curve, make_table, neighbours, optimum, optimum_cases, read_runs, small_data
from .verdicts import is_near

_kd_loss, _make_mlp = losses.kd_loss, models.make_mlp
NO_OPTIMUM = "no clear optimum"
GRADIENTS = {
    "logits": (
        "One of the two terms sends no gradient to the student: its logits are detached there, and it learns nothing "
        "from that term.",
        "",
    ),
    "teacher_logits": ("", "A gradient reaches the teacher's logits: a fixed target."),
}
WRONG_OPTIMUM = (
    "On one of the tables the temperature is wrong, or whether it is clear. Their lowest mean lies inside the list, at "
    "an end, or there by luck alone. Compare step by step: held-out errors, their mean over seeds, the neighbours that "
    "there are, the differences seed by seed, the lower end of each interval."
)
TRAINS_ON = (
    "At the second temperature the errors depend on whether another temperature came before it. A student is trained "
    "on from one T to the next, or something else is carried over: every run needs a fresh student from its seed's "
    "start, and a fresh optimizer."
)


@takes_function
def check_sweep_objective(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, images, labels, teacher_logits, *, temperature, alpha)`` of exercise 13, task 1.

    Parameters
    ----------
    function : callable
        Returns the weighted terms ``{"kd": α T² KL, "ce": (1 - α) cross-entropy}``.
    """
    generator = new_generator(seed)
    cases = []
    for case in logit_cases(generator, (0.5, 3.0, 16.0)):
        alpha = float(generator.uniform(0.6, 0.9))
        (student, teacher, labels), knobs = labelled(case, generator, alpha=alpha)
        cases.append(Case((student, labels, teacher), knobs))
    check_values(function, _objective, cases, slips=OBJECTIVE, through=_on_logits, terms=TERMS)
    check_gradients(_on_logits(function), _on_logits(_objective), cases[0], messages=GRADIENTS)
    _check_vmap(_on_logits(function), cases[0])
    passed("Both terms have their weights, T² stands in front of the teacher's, and T may be an axis of the sweep.")


@takes_function
def check_sweep_runs(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(make_student, data, *, temperatures, seeds, epochs)`` of exercise 13, task 2.

    Parameters
    ----------
    function : callable
        Trains a student for every temperature and seed; returns a table with a row each and at least the columns
        ``temperature``, ``seed`` and ``held_out_errors``.
    """
    check_callable(function)
    data, temperatures, seeds, name = small_data(new_generator(seed)), (1, 16), (3, 5, 8), name_of(function)
    started: list[Tensor] = []

    def make_student() -> nn.Module:
        student = _make_mlp(8)
        started.append(next(student.parameters()).detach()[0, :20].clone())
        return student

    def run(data: dict, temperatures: tuple) -> pd.DataFrame:
        settings = {"temperatures": temperatures, "seeds": seeds, "epochs": 6}
        return read_runs(function(make_student, data, **settings), temperatures, seeds, name)

    found = run(data, temperatures)
    distinct = len(torch.stack(started).unique(dim=0)) if started else 0
    if distinct == 1:
        fail("All students start from the same weights: with one seed nobody can tell an effect of T from luck.")
    if distinct != len(seeds):
        fail(
            f"{len(seeds)} seeds gave {distinct} different starts: runs of one seed must start from the same weights "
            "at every T, or their differences hold the luck of two starts and no pairs are left."
        )
    if (found.loc[1] == found.loc[16]).all():
        fail("T = 1 and T = 16 gave the same errors, seed by seed: does T reach the objective?")
    moved = {**data, "held_out": (data["held_out"][0], (data["held_out"][1] + 1) % 10)}
    _check_counts(found.to_numpy().mean(), run(moved, temperatures).to_numpy().mean())
    if not found.equals(run(data, temperatures)):
        fail("Called twice with the same seeds, the function gave different errors: something draws without a seed.")
    alone = run(data, (16,))
    if (found.loc[16] - alone.loc[16]).abs().mean() > 3:
        fail(TRAINS_ON)
    passed("A row for every T and seed, each seed starts from the same weights at every T, errors on held-out images.")


def _check_counts(errors: float, errors_of_moved_labels: float) -> None:
    """Compare mean errors with those for held-out labels that are all moved to the next class."""
    must = "held_out_errors must count errors of the trained student on the 200 held-out images"
    if errors == errors_of_moved_labels:
        fail(f"{must}: these do not depend on the held-out labels, so other images were counted.")
    if errors > errors_of_moved_labels:
        fail(f"{must}: these grow as labels get right, so right answers were counted.")
    if errors >= 120:
        fail(f"{must}: these are nearly as many as a guess makes. Is the student that was trained the one that counts?")


@takes_function
def check_accuracy_curve(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(runs, *, images)`` of exercise 13, task 3: mean accuracy against T with intervals.

    Parameters
    ----------
    function : callable
        Returns three lists, by rising T: mean held-out accuracy in [0, 1], and both ends of its 95 % interval.
    """
    generator = new_generator(seed)
    valley = generator.uniform(0, 60, 5).tolist()
    table = make_table(generator, valley, noise=8).sample(frac=1, random_state=7)
    cases = [Case((table,), {"images": images}) for images in (2000, 4000)]
    check_values(function, curve, cases, slips=CURVE, through=_as_lists, rtol=1e-6)
    passed("Held-out accuracy, a mean over seeds for each T in rising order, with Student's intervals.")


@takes_function
def check_find_optimum(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(runs)`` of exercise 13, task 3: ``(temperature, clear)``.

    Parameters
    ----------
    function : callable
        Returns the T with the fewest held-out errors on average, and whether each neighbouring T of the table is
        clearly worse: the interval of the paired difference, neighbour minus best, lies above 0.
    """
    cases = optimum_cases(new_generator(seed))
    check_values(function, optimum, cases, slips=OPTIMUM, probing=False, diagnosing=False, otherwise=WRONG_OPTIMUM)
    mixed = [Case((case.args[0].sample(frac=1, random_state=3),)) for case in cases]
    message = "The result depends on the order of the rows in the table: sort by temperature before looking beside one."
    check_edge(function, optimum, mixed, message, edge="rows in another order")
    passed(
        "The T of the lowest mean on held-out images; clear only where the paired intervals against its neighbours say "
        "so, inside the list and at its ends."
    )


def check_best_temperatures(optimum_by_size: Any, runs: Mapping[str, pd.DataFrame]) -> None:
    """Check the answers of exercise 13, task 4, against the runs that were measured.

    Parameters
    ----------
    optimum_by_size : dict from str to number or str
        For each size of student a temperature, or ``"no clear optimum"``.
    runs : mapping from str to DataFrame
        The runs of each size.

    Raises
    ------
    CheckFailed
        With what the intervals say.
    """
    if type(optimum_by_size) is not dict:
        got = type(optimum_by_size).__name__
        fail(f"optimum must be the dict of the cell above, an answer for each size, got {got}.")
    for size, table in runs.items():
        answer = optimum_by_size.get(size)
        if answer is None or answer is ...:
            not_answered(f"there is no answer for the {size} student yet: a temperature, or {NO_OPTIMUM!r}.")
        _check_best(answer, size, table)


def _check_best(answer: Any, size: str, table: pd.DataFrame) -> None:
    best, clear = optimum(table)
    # Other machines count a few errors more or less: both answers are right where an interval only just decides.
    beside = neighbours(table, best)
    near = [is_near(low, low, high) for _, low, high in beside]
    surely = clear and not any(near)
    nearly = all(low > 0 or close for (_, low, _), close in zip(beside, near, strict=True))
    said = ", ".join(f"T = {other:g} minus T = {best:g}: [{low:+.1f}, {high:+.1f}]" for other, low, high in beside)
    if type(answer) is str:
        if not str.__eq__(answer.strip(), NO_OPTIMUM):
            fail(f"{size}: an answer is a number or {NO_OPTIMUM!r}, got {answer[:30]!r}.")
        if surely:
            fail(f"{size}: there is a clear one. The intervals of the neighbours' paired differences: {said} errors.")
    elif as_number(answer, f"the answer for the {size} student") != best:
        fail(f"{size}: T = {answer} does not have the fewest held-out errors on average.")
    elif not nearly:
        fail(f"{size}: T = {best:g} is ahead of its neighbours by no more than luck allows. {said} errors.")
    passed(f"{size}: {f'T = {best:g}' if clear else NO_OPTIMUM}. {said} errors.")


@takes_answers
def check_sweep_questions(answers: Any) -> None:
    """Check the three answers of exercise 13, task 5."""
    check_answers(answers, QUESTIONS)


QUESTIONS = (
    Question(
        right="b",
        wrong={
            "a": "that is true at all four temperatures; ask what was done with the four numbers.",
            "c": "write down four noisy numbers around 100, and cross out all but the one that you would have kept.",
        },
        because="the smallest of several noisy numbers is small partly by luck; fresh images show how much of it",
    ),
    Question(
        right="c",
        wrong={
            "a": "to say so one needs a neighbour on the other side as well.",
            "b": "the interval against the one neighbour there is may well leave out 0.",
        },
        because="at an end of the list only one side was looked at: the sweep has to go on there",
    ),
    Question(
        right="a",
        wrong={
            "b": "T does not enter the count of parameters or steps.",
            "c": "both losses carry T²; and the larger student has the same targets.",
        },
        because="at a high T a student must match all ten logits on every image, right or wrong; few units cannot",
    ),
)


def _objective(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, temperature: float, alpha: float
) -> dict[str, Tensor]:
    logits = student(images)
    kd = _kd_loss(logits, teacher_logits, temperature=temperature)
    return {"kd": alpha * kd, "ce": (1 - alpha) * F.cross_entropy(logits, labels)}


def _on_logits(function: Callable) -> Callable:
    """Give the objective logits in the place of a student, so that every argument is a tensor."""
    check_callable(function)

    def terms(logits: Tensor, labels: Tensor, teacher_logits: Tensor, **knobs: Any) -> Any:
        # The "images" are the logits already, and the student hands them on.
        found = function(nn.Identity(), logits, labels, teacher_logits, **knobs)
        if type(found) is not dict or sorted(map(str, found)) != ["ce", "kd"]:
            fail("An objective returns a dict with the two weighted terms 'kd' and 'ce'; the loop adds them.")
        return found

    return named_like(function, terms)


def _as_lists(function: Callable) -> Callable:
    """Take an array with three rows for three lists."""

    def lists(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        return list(value) if isinstance(value, np.ndarray | Tensor) and value.ndim == 2 else value

    return named_like(function, lists)


def _check_vmap(terms: Callable, case: Case) -> None:
    """The sweep trains all temperatures in one program, so that T is a tensor inside ``vmap``."""
    alpha = case.kwargs["alpha"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # F.kl_div is slow here, and right
        try:
            torch.func.vmap(lambda t: terms(*case.args, temperature=t, alpha=alpha))(torch.tensor([1.0, 4.0]))
        except Exception as error:
            fail(
                "The values are right for one T, but a sweep hands over T as a tensor inside vmap, and there it raised "
                f"{type(error).__name__}: {str(error)[:90]}. Don't compare T or turn it into a number (trap 5)."
            )
