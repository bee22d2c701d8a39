"""Wrong answers to exercise 06, task 3: which image leaves at which exit."""

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
