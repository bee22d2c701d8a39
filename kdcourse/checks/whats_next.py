"""Checks of exercise 12, what's next: forgetting measured, groups of weights rounded, tasks learned in a row."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .cases import Case, new_generator, random_tensor, seeded_cases
from .comparing import check_edge, check_values
from .documented import takes_answers, takes_function
from .failures import fail, passed
from .gradients import check_gradients
from .questions import Question, check_answers
from .slips.tasks_in_a_row import TASKS_IN_A_ROW, tasks_in_a_row
from .slips.whats_next import FORGETTING, GROUP_GRADIENTS, GROUPS
from .verdicts import check_verdict

NO_GRADIENT = "The value is right, but no gradient reaches the weights: rounding has no slope (trap 98)."
ZEROS = "A group of zeros must stay 0. Its largest weight is 0, and 0 / 0 is NaN: give such a group the scale 1."
ONE_STEP = "With two tasks there is one earlier task and one row before the last: its difference is the answer."
STAGES = (
    "The {} are not those of the right loop. Compare, in this order: when the old answers are computed, which classes "
    "the labels' term sees, and which heads are held."
)


@takes_function
def check_forgetting(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(accuracies)`` of exercise 12, task 1.

    Parameters
    ----------
    function : callable
        Takes accuracies (n, n), row i after task i, NaN where a task was not learned yet; returns the mean over all
        tasks but the last of the best accuracy in the rows before the last, minus the accuracy in the last row.
    """
    generator = new_generator(seed)
    check_values(function, _forgetting, [Case((_accuracies(generator, n),)) for n in (5, 4, 6)], slips=FORGETTING,
                 probing=False, diagnosing=False, otherwise=_what_is_asked())  # fmt: skip
    check_edge(function, _forgetting, [Case((_accuracies(generator, 2),))], ONE_STEP, edge="two tasks")
    passed("Best accuracy before the last task minus the accuracy at the end, as a mean over all tasks but the last.")


@takes_function
def check_group_quantise(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(weights, *, bits, group)`` of exercise 12, task 2.

    Parameters
    ----------
    function : callable
        Takes weights (R, C), bits and the size of a group, of which C is a multiple; returns the weights rounded with a
        scale for each group of neighbours in a row, with the gradient of the identity.
    """
    generator = new_generator(seed)
    cases = [
        Case((_uneven(generator, rows, groups * group, group),), {"bits": bits, "group": group})
        for rows, groups, group, bits in ((4, 3, 4, 4), (3, 5, 3, 3), (6, 2, 6, 2))
    ]
    check_values(function, _group_quantise, cases, slips=GROUPS)
    weights = _uneven(generator, 3, 8, 4)
    weights[1, 4:] = 0.0
    check_edge(function, _group_quantise, [Case((weights,), {"bits": 3, "group": 4})], ZEROS, edge="a group of zeros")
    check_gradients(function, _group_quantise, cases[0], messages={"weights": (NO_GRADIENT, "")}, slips=GROUP_GRADIENTS)
    passed("A scale for each group of neighbours, zeros stay 0, and the gradient passes straight through.")


@takes_function
def check_tasks_in_a_row(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(network, tasks, heads, *, steps, lr, weight)`` of exercise 12, task 3.

    Parameters
    ----------
    function : callable
        Takes a network, a list of (images, labels), the classes of each task, the steps of each task, a learning rate
        and the weight of the old answers; trains by plain gradient descent and returns the losses of all steps.
    """
    cases = seeded_cases(seed, 2)
    check_values(function, tasks_in_a_row, cases, slips=TASKS_IN_A_ROW, through=_losses_and_weights, probing=False,
                 diagnosing=False, otherwise=STAGES.format("losses or the trained weights"))  # fmt: skip
    passed(
        "Losses and trained weights agree with the right loop: the old answers are those before each task, and each "
        "task has a softmax of its own."
    )


@takes_answers
def check_whats_next_questions(answers: Any) -> None:
    """Check the four answers of exercise 12, task 4."""
    check_answers(answers, QUESTIONS)


def check_group_verdict(verdict: Any, groups: Sequence[float], rows: Sequence[float]) -> None:
    """Check ``"better"``, ``"worse"`` or ``"unclear"`` against the paired 95 % interval; exercise 12, task 5.

    Parameters
    ----------
    verdict : str
        Word that the learner chose.
    groups, rows : sequence of float
        Test errors by seed, in the same order, with a scale for each group and for each row; fewer are better.

    Raises
    ------
    CheckFailed
        With what the interval says.
    """
    check_verdict(verdict, groups, rows)


QUESTIONS = (
    Question(
        right="b",
        wrong={
            "a": "told the pair, it tells the two digits apart nearly always: look at the first column.",
            "c": "the two columns are of the same network and the same images, and 60 points apart.",
        },
        because="labels never compared old digits with new ones, so the newest always win; within a pair all is there",
    ),
    Question(
        right="c",
        wrong={
            "a": "the table's second column says what the same loss reaches without it.",
            "b": "one of the two columns of the table is far from that number.",
        },
        because="97 % is an answer among two digits; a number without its question says little (trap 97)",
    ),
    Question(
        right="a",
        wrong={
            "b": "scales take four bytes for each row, and there are few rows.",
            "c": "torch.save writes a tensor as it is: a tensor of int8 takes one byte for each number.",
        },
        because="training moves floating-point weights and rounds them anew at each step: pack them first (trap 99)",
    ),
    Question(
        right="c",
        wrong={
            "a": "the codes take 2 bits, but each group has a scale as well.",
            "b": "count again: a scale of 32 bits, shared by 16 weights, is how many bits for each?",
        },
        because="32 bits of scale for 16 weights are 2 bits for each, as many as the code; so real formats use larger "
        "groups and shorter scales",
    ),
)


def _forgetting(accuracies: Tensor) -> Tensor:
    best = accuracies[:-1, :-1].nan_to_num(nan=-torch.inf).amax(dim=0)  # (n - 1,)
    return (best - accuracies[-1, :-1]).mean()


def _what_is_asked() -> str:
    return (
        "This is not the mean, over all tasks but the last, of the largest entry of its column above the last row "
        "minus its entry in the last row. Entries that are NaN do not count."
    )


def _accuracies(generator: np.random.Generator, count: int) -> Tensor:
    """Return accuracies with NaN above the diagonal, a best one that is not the first, and a task that gains."""
    table = torch.from_numpy(generator.uniform(0.3, 0.9, size=(count, count)).astype(np.float32))
    if count > 2:
        table[1, 0] = 0.97  # better after the second task than after its own
        table[-1, 1] = 0.98  # gains at the end
        table[-1, 0], table[-1, 2] = 0.5, 0.05  # the first task is not the one that was forgotten most
        table[2, 2] = 0.85
    later = torch.ones(count, count, dtype=torch.bool).triu(diagonal=1)
    return table.masked_fill(later, torch.nan)


def _group_quantise(weights: Tensor, *, bits: int, group: int) -> Tensor:
    blocks = weights.detach().unflatten(1, (-1, group))  # (R, C / group, group)
    largest = blocks.abs().amax(dim=2, keepdim=True)  # (R, C / group, 1)
    scale = torch.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1.0)
    rounded = ((blocks / scale).round() * scale).flatten(1)  # (R, C)
    return rounded + (weights - weights.detach())


def _uneven(generator: np.random.Generator, rows: int, columns: int, group: int) -> Tensor:
    """Return weights whose groups differ in size, and whose largest weight is often negative."""
    sizes = torch.from_numpy(generator.uniform(0.02, 3.0, size=(rows, columns // group)).astype(np.float32))
    weights = random_tensor(generator, rows, columns) * sizes.repeat_interleave(group, dim=1)
    weights[0, 0] = -1.7 * weights[0, :group].abs().max()
    weights[1, -1] = -1.7 * weights[1, -group:].abs().max()
    return weights


def _losses_and_weights(function: Callable) -> Callable:
    def outcome(*, seed: int) -> list:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            network = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 7))
            heads = [[0, 1], [2, 3, 4], [5, 6]]
            tasks = [(torch.randn(9, 5), torch.tensor(head)[torch.randint(0, len(head), (9,))]) for head in heads]
            returned = function(network, tasks, heads, steps=4, lr=0.4, weight=1.5)
        if type(returned) not in (list, tuple, Tensor, np.ndarray):
            fail(f"the losses of all 12 steps are needed, in a list, got {type(returned).__name__}.")
        if len(returned) < 12:  # a loop that stopped early: padded, so that its slip can be found
            returned = [*returned, *[0.0] * (12 - len(returned))]
        losses = [part.detach() if type(part) is Tensor else part for part in returned]
        return [losses, *(weight.detach() for weight in network.state_dict().values())]

    return outcome
