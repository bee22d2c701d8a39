"""Exercise 12: right answers in several styles pass, and each typical mistake gets its own message."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_forgetting,
    check_group_quantise,
    check_group_verdict,
    check_tasks_in_a_row,
    check_whats_next_questions,
)
from kdcourse.checks.slips.tasks_in_a_row import TASKS_IN_A_ROW
from kdcourse.checks.slips.whats_next import FORGETTING, GROUP_GRADIENTS, GROUPS
from kdcourse.losses import lwf_loss

CATALOGUES = {
    "forgetting": (check_forgetting, FORGETTING),
    "groups": (check_group_quantise, GROUPS | GROUP_GRADIENTS),
    "tasks": (check_tasks_in_a_row, TASKS_IN_A_ROW),
}
SLIPS = [
    pytest.param(check, slip.message, wrong, id=f"{task}-{name}-{number}")
    for task, (check, slips) in CATALOGUES.items()
    for name, slip in slips.items()
    for number, wrong in enumerate(slip.wrong)
]


def by_loops(accuracies):
    table, total = accuracies.tolist(), 0.0
    for task in range(len(table) - 1):
        total += max(table[row][task] for row in range(task, len(table) - 1)) - table[-1][task]
    return total / (len(table) - 1)


def by_numpy(accuracies):
    import numpy as np

    table = accuracies.numpy()
    return float((np.nanmax(table[:-1, :-1], axis=0) - table[-1, :-1]).mean())


def groups_by_loops(weights, *, bits, group):
    n, rounded = 2 ** (bits - 1) - 1, weights.detach().clone()
    for row in rounded:
        for start in range(0, len(row), group):
            part = row[start : start + group]
            largest = part.abs().max()
            if largest > 0:
                part.copy_((part / largest * n).round() * largest / n)
    return weights + (rounded - weights).detach()


class Round(torch.autograd.Function):
    @staticmethod
    def forward(context, weights, bits, group):
        blocks = weights.reshape(-1, group)
        scale = blocks.abs().max(dim=1, keepdim=True).values / (2 ** (bits - 1) - 1)
        scale[scale == 0] = 1
        return (torch.round(blocks / scale) * scale).reshape(weights.shape)

    @staticmethod
    def backward(context, gradient):
        return gradient, None, None


def a_copy_as_teacher(network, tasks, heads, *, steps, lr, weight):
    optimizer, losses = torch.optim.SGD(network.parameters(), lr), []
    for number, (images, labels) in enumerate(tasks):
        old = copy.deepcopy(network).requires_grad_(False)
        own = heads[number]
        position = torch.tensor([own.index(int(label)) for label in labels])
        for _ in range(steps):
            optimizer.zero_grad()
            logits = network(images)
            loss = F.cross_entropy(logits[:, own], position)
            if number:
                loss = loss + weight * lwf_loss(logits, old(images), heads=heads[:number])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return losses


@pytest.mark.parametrize("right", [by_loops, by_numpy])
def test_a_right_measure_of_forgetting_passes(right):
    for seed in range(4):
        check_forgetting(right, seed=seed)


@pytest.mark.parametrize("right", [groups_by_loops, lambda w, *, bits, group: Round.apply(w, bits, group)])
def test_groups_rounded_in_another_style_pass(right):
    for seed in range(4):
        check_group_quantise(right, seed=seed)


def test_a_frozen_copy_is_as_good_as_kept_logits():
    for seed in range(3):
        check_tasks_in_a_row(a_copy_as_teacher, seed=seed)


@pytest.mark.parametrize(("check", "message", "wrong"), SLIPS)
def test_each_slip_gets_its_own_message(check, message, wrong):
    for seed in (0, 3):
        with pytest.raises(CheckFailed, match=re.escape(message)):
            check(wrong, seed=seed)


def test_a_group_of_zeros_is_an_edge_of_its_own():
    def nothing_for_zeros(weights, *, bits, group):
        blocks = weights.unflatten(1, (-1, group))
        scale = blocks.abs().amax(dim=2, keepdim=True) / (2 ** (bits - 1) - 1)
        return ((blocks / scale).round() * scale).detach().flatten(1) + (weights - weights.detach())

    with pytest.raises(CheckFailed, match="A group of zeros must stay 0"):
        check_group_quantise(nothing_for_zeros, seed=0)


def test_rounding_without_a_slope_is_told():
    with pytest.raises(CheckFailed, match="no gradient reaches the weights"):
        check_group_quantise(lambda w, *, bits, group: groups_by_loops(w, bits=bits, group=group).detach(), seed=0)


def test_stubs_are_told_apart_from_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("not yet")

    for check in (check_forgetting, check_group_quantise, check_tasks_in_a_row):
        with pytest.raises(NotImplementedError):
            check(stub)
    with pytest.raises(NotImplementedError):
        check_whats_next_questions([None] * 4)
    with pytest.raises(NotImplementedError):
        check_group_verdict(None, [1, 2, 3], [4, 5, 6])


def test_the_questions_know_their_letters():
    check_whats_next_questions(["b", "c", "a", "c"])
    for place, right in enumerate("bcac"):
        for letter in set("abc") - {right}:
            answers = list("bcac")
            answers[place] = letter
            with pytest.raises(CheckFailed, match=rf"\({letter}\) is not it"):
                check_whats_next_questions(answers)


def test_the_verdict_is_that_of_the_interval():
    groups, rows = [700, 720, 690, 710, 705], [800, 830, 780, 815, 810]
    check_group_verdict("better", groups, rows)
    for wrong in ("worse", "unclear"):
        with pytest.raises(CheckFailed, match="interval"):
            check_group_verdict(wrong, groups, rows)
