"""Wrong answers to exercise 09: relations of values, and a map of blocks."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses import map_layers, value_relation_loss
from . import Slip


def relation_loss(student_values: Tensor, teacher_values: Tensor, real: Tensor, heads: int) -> Tensor:
    """Return MiniLM's loss of value relations, both sides split into as many heads as are asked for."""
    student, teacher = (_split(values, heads) for values in (student_values, teacher_values.detach()))
    return value_relation_loss(student, teacher, attention_mask=real)


def _split(values: Tensor, heads: int) -> Tensor:
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, L, D) -> (B, heads, L, d)


def _mean_of_rows(rows: Tensor, real: Tensor) -> Tensor:
    return (rows * real[:, None]).sum() / (real.sum() * rows.shape[1])


def _root_of_head(values: Tensor) -> float:
    return math.sqrt(values.shape[-1])


def _relations(
    *, split: Callable[[Tensor, int], Tensor] = _split, divide: Callable[[Tensor], float] = _root_of_head,
    masked: bool = True, zeroed: bool = False, change: Callable[[Tensor], Tensor] = lambda values: values,
    compare: Callable[[Tensor, Tensor], Tensor] = lambda p, q: (p.exp() * (p - q)).sum(dim=-1),
    reduce: Callable[[Tensor, Tensor], Tensor] = _mean_of_rows, again: bool = False, over: int = -1,
) -> Callable:  # fmt: skip
    """Return a loss of relations in which some step is another one."""

    def wrong(student_values: Tensor, teacher_values: Tensor, real: Tensor, heads: int) -> Tensor:
        sides = []
        for values in (teacher_values.detach(), student_values):
            split_values = change(split(values, heads))
            if zeroed:
                split_values = split_values * real[:, None, :, None]
            scores = split_values @ split_values.mT / divide(split_values)
            if masked:
                shown = real.bool()[:, None, None, :] if over == -1 else real.bool()[:, None, :, None]
                scores = scores.masked_fill(~shown, torch.finfo(scores.dtype).min)
            logs = scores.log_softmax(dim=over)
            sides.append(logs.exp().log_softmax(dim=-1) if again else logs)
        return reduce(compare(*sides), real)

    return wrong


def _mean_of_texts(rows: Tensor, real: Tensor) -> Tensor:
    return ((rows.mean(dim=1) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)).mean()


def _one_root(side: int) -> Callable:
    """Return a loss in which the width of one side's heads divides the scores of both."""

    def wrong(student_values: Tensor, teacher_values: Tensor, real: Tensor, heads: int) -> Tensor:
        width = (student_values, teacher_values)[side].shape[-1] // heads
        return _relations(divide=lambda values: math.sqrt(width))(student_values, teacher_values, real, heads)

    return wrong


RELATIONS = {
    "columns of padding": Slip(
        "Padding is among the tokens that a token is compared with: the softmax gives it weight. Set its scores to a "
        "very small number before the softmax.",
        _relations(masked=False),
        _relations(masked=False, reduce=lambda rows, real: rows.mean()),
        _relations(masked=False, reduce=lambda rows, real: (rows * real[:, None]).mean()),
    ),
    "zeroed": Slip(
        "The values of padding were set to 0. Their scores are then 0, and a score of 0 gets weight in a softmax. The "
        "scores must be very small.",
        _relations(masked=False, zeroed=True),
        _relations(masked=False, zeroed=True, reduce=lambda rows, real: rows.mean()),
    ),
    "rows of padding": Slip(
        "Rows of padding count: behind the end of a text every relation is noise (trap 64).",
        _relations(reduce=lambda rows, real: rows.mean()),
        _relations(reduce=lambda rows, real: rows.sum() / len(rows)),
        _relations(reduce=lambda rows, real: rows.sum()),
    ),
    "padding in the count": Slip(
        "The sum leaves rows of padding out, and the count does not: a longer neighbour makes the loss of a text "
        "smaller (trap 64).",
        _relations(reduce=lambda rows, real: (rows * real[:, None]).mean()),
    ),
    "mean of means": Slip(
        "Each text is averaged first, and then the texts: a token of a short text weighs more. Asked for is one mean "
        "over all real rows.",
        _relations(reduce=_mean_of_texts),
    ),
    "sum over heads": Slip(
        "The heads are added up: twice the heads would mean twice the loss. Take their mean.",
        _relations(reduce=lambda rows, real: (rows * real[:, None]).sum() / real.sum()),
    ),
    "per text": Slip(
        "The sum is divided by the number of texts, so a long text weighs more. Divide by the number of real rows.",
        _relations(reduce=lambda rows, real: (rows * real[:, None]).sum() / len(rows)),
        _relations(reduce=lambda rows, real: (rows * real[:, None]).sum() / (len(rows) * rows.shape[1])),
    ),
    "sum": Slip(
        "Everything is added up: twice the texts would mean twice the loss.",
        _relations(reduce=lambda rows, real: (rows * real[:, None]).sum()),
    ),
    "mean over cells": Slip(
        "The mean runs over the columns of a row too. A divergence is the sum over a row.",
        _relations(compare=lambda p, q: (p.exp() * (p - q)).mean(dim=-1)),
        _relations(compare=lambda p, q: (p.exp() * (p - q)).mean(dim=-1), reduce=lambda rows, real: rows.mean()),
    ),
    "reversed": Slip(
        "The direction is turned round: this is KL(student‖teacher). The teacher's relations give the weights.",
        _relations(compare=lambda p, q: (q.exp() * (q - p)).sum(dim=-1)),
    ),
    "cross-entropy": Slip(
        "This is the cross-entropy: it is not 0 when student and teacher agree. Take the teacher's own entropy away.",
        _relations(compare=lambda p, q: -(p.exp() * q.clamp(min=-1e4)).sum(dim=-1)),
    ),
    "squares": Slip(
        "Squared differences were taken. Asked for is the divergence of the rows.",
        _relations(compare=lambda p, q: (p.exp() - q.exp()).square().sum(dim=-1)),
        _relations(compare=lambda p, q: (p.exp() - q.exp()).square().mean(dim=-1)),
    ),
    "no root": Slip(
        "The scores are not divided by √d: long vectors make a softmax that is sure of one token.",
        _relations(divide=lambda values: 1.0),
    ),
    "d without root": Slip(
        "The scores are divided by d. Asked for is √d.", _relations(divide=lambda values: float(values.shape[-1]))
    ),
    "root of D": Slip(
        "The scores are divided by the root of the width of the whole vector. Asked for is √d, with the d features of "
        "a head.",
        _relations(divide=lambda values: math.sqrt(values.shape[1] * values.shape[-1])),
    ),
    "one root": Slip(
        "Both sides are divided by the same √d. Each side has a d of its own.", _one_root(0), _one_root(1)
    ),
    "first head": Slip(
        "Only the first head counts, or the last one. Take the mean over all.",
        _relations(reduce=lambda rows, real: _mean_of_rows(rows[:, :1], real)),
        _relations(reduce=lambda rows, real: _mean_of_rows(rows[:, -1:], real)),
    ),
    "one head": Slip(
        "The vectors were not split: every token has one relation instead of one in each head.",
        _relations(split=lambda values, heads: values.unsqueeze(1)),
    ),
    "averaged heads": Slip(
        "The heads were averaged, or added up, before the relation was taken. Each head has a relation of its own.",
        _relations(split=lambda values, heads: _split(values, heads).mean(dim=1, keepdim=True)),
        _relations(split=lambda values, heads: _split(values, heads).sum(dim=1, keepdim=True)),
    ),
    "no transpose": Slip(
        "(B, L, D) was reshaped to (B, heads, L, d) at once, which mixes tokens and heads. Split D first, then "
        "exchange the axes.",
        _relations(split=lambda values, heads: values.reshape(len(values), heads, values.shape[1], -1)),
    ),
    "interleaved": Slip(
        "The features of a head are taken apart from one another: with D = heads · d, head 0 has the first d features. "
        "Split into (heads, d), in this order.",
        _relations(split=lambda values, heads: values.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)),
    ),
    "cosines": Slip(
        "The vectors were scaled to length 1 first. MiniLM takes inner products as they are.",
        _relations(change=lambda values: F.normalize(values, dim=-1)),
        _relations(change=lambda values: F.normalize(values, dim=-1), divide=lambda values: 1.0),
    ),
    "second softmax": Slip(
        "A softmax was taken twice: relations that are nearly uniform differ in nothing (trap 63).",
        _relations(again=True),
    ),
    "other axis": Slip(
        "The softmax runs over the asking tokens. Each row of (B, heads, L, L) must sum to 1.",
        _relations(over=-2),
        _relations(over=-2, compare=lambda p, q: (p.exp() * (p - q)).nan_to_num().sum(dim=-1)),
    ),
}  # fmt: skip


def layer_map(student_blocks: int, teacher_blocks: int) -> dict[int, int]:
    """Return ``kdcourse.losses.map_layers``; deeper students are refused."""
    return map_layers(student_blocks, teacher_blocks)


def _map(place: Callable[[int, int, int], float], *, start: int = 1) -> Callable:
    """Return a map whose teacher block is a function of block, student's and teacher's depth."""

    def wrong(student_blocks: int, teacher_blocks: int) -> dict[int, int]:
        blocks = range(start, student_blocks + start)
        return {block: int(place(block, student_blocks, teacher_blocks)) for block in blocks}

    return wrong


LAYER_MAP = {
    "whole quotient": Slip(
        "The quotient was made whole before it was multiplied: where the depth does not divide, the teacher's last "
        "blocks teach nobody (trap 66).",
        _map(lambda i, s, t: i * (t // s)),
    ),
    "rounded quotient": Slip(
        "The quotient was rounded before it was multiplied. Round i · k, not k.",
        _map(lambda i, s, t: min(t, i * round(t / s))),
        _map(lambda i, s, t: i * round(t / s)),
        _map(lambda i, s, t: i * math.ceil(t / s)),
        _map(lambda i, s, t: min(t, i * math.ceil(t / s))),
    ),
    "rounded down": Slip("i · k is rounded down. Asked for is the nearest block.", _map(lambda i, s, t: i * t // s)),
    "rounded up": Slip("i · k is rounded up. Asked for is the nearest block.", _map(lambda i, s, t: -(-i * t // s))),
    "halves to even": Slip(
        "Halves are rounded to the nearest even number, as Python's round() does: 2.5 gives 2. Asked for is upwards.",
        _map(lambda i, s, t: round(i * t / s)),
    ),
    "embeddings counted": Slip(
        "The embeddings are counted as a block, so every place is moved and the last blocks do not meet (trap 66).",
        _map(lambda i, s, t: i * ((t + 1) // (s + 1))),
        _map(lambda i, s, t: math.floor(i * (t + 1) / (s + 1) + 0.5)),
    ),
    "counted from 0": Slip(
        "The blocks are counted from 0. They count from 1, so that the numbers are places in hidden_states.",
        _map(lambda i, s, t: math.floor((i + 1) * t / s + 0.5) - 1, start=0),
        _map(lambda i, s, t: math.floor((i + 1) * t / s + 0.5), start=0),
        _map(lambda i, s, t: math.floor(i * t / s + 0.5), start=0),
        _map(lambda i, s, t: i * t // s, start=0),
        _map(lambda i, s, t: i * (t // s), start=0),
    ),
    "first to first": Slip(
        "The first blocks meet, and the rest is spread between: block 1 learns from block 1. Asked for is i · k.",
        _map(lambda i, s, t: math.floor(1 + (i - 1) * (t - 1) / max(1, s - 1) + 0.5)),
        _map(lambda i, s, t: round(1 + (i - 1) * (t - 1) / max(1, s - 1))),
        _map(lambda i, s, t: 1 + (i - 1) * (t - 1) // max(1, s - 1)),
        _map(lambda i, s, t: math.floor((i - 1) * t / s) + 1),
    ),
    "first blocks": Slip("These are the teacher's first blocks.", _map(lambda i, s, t: i)),
    "last blocks": Slip("These are the teacher's last blocks. Asked for is a map over its whole depth.",
                        _map(lambda i, s, t: t - s + i)),
    "all last": Slip("Every student block learns from the teacher's last.", _map(lambda i, s, t: t)),
    "turned round": Slip(
        "Keys and values are exchanged: the key is the student's block.",
        lambda s, t: {teacher: student for student, teacher in map_layers(s, t).items()},
    ),
    "with the embeddings": Slip("Place 0, the embeddings, is in the map. Asked for are the blocks.",
                                lambda s, t: {0: 0, **map_layers(s, t)}),
    "a list": Slip("A list came. Asked for is a dict from the student's block to the teacher's.",
                   lambda s, t: list(map_layers(s, t).values())),
}  # fmt: skip
