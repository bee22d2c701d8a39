"""Wrong answers about early exit, chapter 06: which image leaves where; which confidence keeps to a budget."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import Slip


def _early_exit(
    exit_logits: list[Tensor], *, confidence: float, sureness: str = "softmax", among: str = "first",
    unsure: int = -1, predict: str = "taken", strict: bool = False, turned: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    logits = torch.stack(exit_logits)  # (E, N, K)
    scores = {
        "softmax": logits.softmax(dim=2), "logits": logits, "sigmoid": logits.sigmoid(), "batch": logits.softmax(dim=1),
        "exits": logits.softmax(dim=0), "logarithms": logits.log_softmax(dim=2),
    }[sureness].amax(dim=2)  # (E, N)  # fmt: skip
    sure = scores > confidence if strict else scores >= confidence
    sure = ~sure if turned else sure
    count = len(exit_logits)
    places = torch.arange(count)[:, None]
    if among == "first":
        exits = torch.where(sure, places, count).amin(dim=0)
    elif among == "last":
        exits = torch.where(sure, places, -1).amax(dim=0)
    else:  # the surest
        exits = torch.where(sure.any(dim=0), scores.argmax(dim=0), count)
    exits = torch.where(sure.any(dim=0), exits, unsure % count)
    chosen = {"taken": exits, "deepest": torch.full_like(exits, count - 1), "first": torch.zeros_like(exits)}[predict]
    return logits[chosen, torch.arange(logits.shape[1])].argmax(dim=1), exits


def _with(**changes: Any) -> Callable:
    return lambda exit_logits, *, confidence: _early_exit(exit_logits, confidence=confidence, **changes)


def _most_confident(exit_logits: list[Tensor], *, confidence: float) -> tuple[Tensor, Tensor]:
    logits = torch.stack(exit_logits)
    scores = logits.softmax(dim=2).amax(dim=2)
    sure = scores >= confidence
    exits = torch.where(sure.any(dim=0), sure.int().argmax(dim=0), scores.argmax(dim=0))
    return logits[exits, torch.arange(logits.shape[1])].argmax(dim=1), exits


def _by_batch(combine: Callable[[Tensor], Tensor]) -> Callable:
    """Let the whole batch leave at one exit."""

    def wrong(exit_logits: list[Tensor], *, confidence: float) -> tuple[Tensor, Tensor]:
        for number, logits in enumerate(exit_logits):
            if combine(logits.softmax(dim=1).amax(dim=1)) >= confidence or number == len(exit_logits) - 1:
                return logits.argmax(dim=1), torch.full((len(logits),), number)
        raise AssertionError("the deepest exit takes whoever is left")

    return wrong


def _moved(by: int) -> Callable:
    def wrong(exit_logits: list[Tensor], *, confidence: float) -> tuple[Tensor, Tensor]:
        classes, exits = _early_exit(exit_logits, confidence=confidence)
        return classes, exits + by

    return wrong


def _from_deepest(exit_logits: list[Tensor], *, confidence: float) -> tuple[Tensor, Tensor]:
    classes, exits = _early_exit(exit_logits, confidence=confidence)
    return classes, len(exit_logits) - 1 - exits


EARLY = {
    "last": Slip(
        "The last exit that is sure was taken. The first one saves the work of the others.", _with(among="last")
    ),
    "surest": Slip("The surest exit was taken. To know it, all exits must run, and nothing is saved.",
                   _with(among="surest")),
    "unsure at first": Slip(
        "An image of which no exit is sure left at the first one. It must reach the deepest.", _with(unsure=0)
    ),
    "unsure at surest": Slip(
        "An image of which no exit is sure left at the surest one. It must reach the deepest.", _most_confident
    ),
    "logits": Slip("Logits were compared with the confidence. It is a probability: softmax first.",
                   _with(sureness="logits")),
    "sigmoid": Slip("Each class was judged by itself (sigmoid). The probabilities of an image add up to 1.",
                    _with(sureness="sigmoid")),
    "never sure": Slip(
        "No image ever leaves early: what is compared with the confidence never reaches it. A softmax over the images "
        "gives each of them hardly anything, and a logarithm of a probability is never above 0.",
        _with(sureness="batch"),
        _with(sureness="logarithms"),
    ),
    "over exits": Slip("The softmax runs over the exits. A row of probabilities belongs to one exit's classes.",
                       _with(sureness="exits")),
    "whole batch": Slip(
        "All images leave at the same exit. Each image decides for itself.",
        _by_batch(torch.mean),
        _by_batch(torch.amin),
        _by_batch(torch.amax),
    ),
    "deepest predicts": Slip(
        "The predictions are those of the deepest exit, whatever exit was taken.", _with(predict="deepest")
    ),
    "first predicts": Slip("The predictions are those of the first exit, whatever exit was taken.",
                           _with(predict="first")),
    "turned": Slip("The comparison is turned round: images leave where the exit is unsure.", _with(turned=True)),
    "exits first": Slip("The exits came first. Asked for are the predicted classes, then the exits.",
                        lambda z, *, confidence: _early_exit(z, confidence=confidence)[::-1]),
    "classes only": Slip("Only the classes came back. The exits taken are needed too.",
                         lambda z, *, confidence: _early_exit(z, confidence=confidence)[0]),
    "exits only": Slip("Only the exits came back. The predicted classes are needed too.",
                       lambda z, *, confidence: _early_exit(z, confidence=confidence)[1]),
    "counted from 1": Slip("The exits are counted from 1. The shallowest has the number 0.", _moved(1)),
    "deepest first": Slip(
        "The exits are taken from deep to shallow: the list begins with the shallowest.",
        lambda z, *, confidence: _early_exit(z[::-1], confidence=confidence),
    ),
    "counted backwards": Slip(
        "The exits are counted from the deepest. The shallowest has the number 0.",
        _from_deepest,
    ),
}  # fmt: skip


def _mean_cost(exit_logits: list[Tensor], costs: list[float], confidence: float, **changes: Any) -> float:
    exits = _early_exit(exit_logits, confidence=confidence, **changes)[1]
    return float(torch.as_tensor(costs, dtype=torch.float64)[exits].mean())


def _fitting(fits: Callable[..., bool], among: Callable = max) -> Callable:
    """Take one of the confidences that fit; the first one where none does."""

    def wrong(exit_logits: list[Tensor], costs: list[float], *, budget: float) -> float:
        steps = [step / 100 for step in range(101)]
        return among([step for step in steps if fits(exit_logits, costs, step, budget)] or [0.0])

    return wrong


def _within(exit_logits: list[Tensor], costs: list[float], confidence: float, budget: float, **changes: Any) -> bool:
    return _mean_cost(exit_logits, costs, confidence, **changes) <= budget


def _costs_of(exit_logits: list[Tensor], costs: list[float], confidence: float) -> Tensor:
    return torch.as_tensor(costs, dtype=torch.float64)[_early_exit(exit_logits, confidence=confidence)[1]]


def _share_at_deepest(exit_logits: list[Tensor], confidence: float) -> float:
    return float((_early_exit(exit_logits, confidence=confidence)[1] == len(exit_logits) - 1).float().mean())


def _nearest(exit_logits: list[Tensor], costs: list[float], *, budget: float) -> float:
    steps = [step / 100 for step in range(101)]
    return min(steps, key=lambda step: abs(_mean_cost(exit_logits, costs, step) - budget))


def _its_cost(exit_logits: list[Tensor], costs: list[float], *, budget: float) -> float:
    return _mean_cost(exit_logits, costs, _fitting(_within)(exit_logits, costs, budget=budget))


def _added_up(costs: list[float]) -> list[float]:
    return [sum(costs[: place + 1]) for place in range(len(costs))]


BUDGET = {
    "smallest": Slip(
        "The smallest confidence that keeps to the budget is 0, where all images leave at the first exit. Asked for is "
        "the largest: whoever may compute more makes fewer errors.",
        _fitting(_within, min),
    ),
    "first over budget": Slip(
        "This is the first confidence that costs more than the budget. Asked for is the last one that does not.",
        _fitting(lambda z, c, step, budget: not _within(z, c, step, budget), min),
    ),
    "nearest": Slip(
        "The confidence whose cost is nearest to the budget was taken. It may cost more: a budget is an upper limit.",
        _nearest,
    ),
    "the most": Slip(
        "1 is the largest of all confidences, whatever it costs: is the budget compared with the mean cost? And does "
        "an image of which no exit is sure cost as much as the deepest?",
        lambda z, c, *, budget: 1.0,
        _fitting(lambda z, c, step, budget: _within(z, c, step, budget, unsure=0)),
    ),
    "every image": Slip(
        "The most expensive image was compared with the budget. The budget is for the mean over the images: some may "
        "cost more, because others cost less.",
        _fitting(lambda z, c, step, budget: float(_costs_of(z, c, step).max()) <= budget),
    ),
    "median": Slip(
        "The median cost was compared with the budget. Asked for is the mean.",
        _fitting(lambda z, c, step, budget: float(_costs_of(z, c, step).median()) <= budget),
    ),
    "added up": Slip(
        "The costs were added up over the exits. Each of them already holds all that ran before that exit.",
        _fitting(lambda z, c, step, budget: _within(z, _added_up(c), step, budget)),
    ),
    "share at the deepest": Slip(
        "The share of images at the deepest exit was compared with the budget. What counts is the mean cost, and the "
        "other exits are not free.",
        _fitting(lambda z, c, step, budget: _share_at_deepest(z, step) <= budget),
    ),
    "the cost": Slip("The mean cost came back. Asked for is the confidence that gives it.", _its_cost),
    "an index": Slip("The number of the step came back. Asked for is the confidence, such as 0.83.",
                     lambda z, c, *, budget: 100 * _fitting(_within)(z, c, budget=budget)),
}  # fmt: skip
