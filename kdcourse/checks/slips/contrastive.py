"""Wrong answers to exercise 05, contrastive distillation."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Slip


def unit_rows(x: Tensor) -> Tensor:
    """Scale every row to length 1."""
    return F.normalize(x, dim=1)


def _cross_entropy(scores: Tensor) -> Tensor:
    return scores.logsumexp(dim=1) - scores.diagonal()  # (B,)


def _info_nce(
    student: Tensor, teacher: Tensor, *, temperature: float, scale: Callable[[Tensor], Tensor] = unit_rows,
    row_loss: Callable[[Tensor], Tensor] = _cross_entropy, there: float = 0.5, back: float = 0.5,
    divide: Callable[[Tensor, float], Tensor] = torch.div,
) -> Tensor:  # fmt: skip
    scores = divide(scale(student) @ scale(teacher).T, temperature)
    return there * row_loss(scores).mean() + back * row_loss(scores.T).mean()


def _with(**changes: Any) -> Callable:
    return lambda s, t, *, temperature: _info_nce(s, t, temperature=temperature, **changes)


def _without_positive(scores: Tensor) -> Tensor:
    itself = torch.eye(len(scores), dtype=torch.bool)
    return scores.masked_fill(itself, -math.inf).logsumexp(dim=1) - scores.diagonal()


def _within_one_side(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    alike = [unit_rows(x) @ unit_rows(x).T / temperature for x in (s, t)]
    positives = (unit_rows(s) * unit_rows(t)).sum(dim=1) / temperature
    return torch.stack([scores.logsumexp(dim=1) - positives for scores in alike]).mean()


def _one_softmax(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    scores = unit_rows(s) @ unit_rows(t).T / temperature
    return (scores.flatten().logsumexp(dim=0) - scores.diagonal()).mean()


def _softmax_first(scores: Tensor) -> Tensor:
    return _cross_entropy(scores.softmax(dim=1))


def _first_class(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    scores, zeros = unit_rows(s) @ unit_rows(t).T / temperature, torch.zeros(len(s), dtype=torch.long)
    return (F.cross_entropy(scores, zeros) + F.cross_entropy(scores.T, zeros)) / 2


def _wrong_positive(move: Callable[[Tensor], Tensor]) -> Callable:
    return lambda s, t, *, temperature: _info_nce(s, move(t), temperature=temperature)


NOT_UNIT = (
    "The embeddings are not scaled to length 1: these are inner products, and a student lowers its loss by making its "
    "vectors longer."
)
_ONE_WAY = "Only one direction came: {}. The mean of both is asked for (trap 30)."
INFO_NCE = {
    "not unit": Slip(NOT_UNIT, _with(scale=lambda x: x)),
    "one side unit": Slip(
        "Only one of the two sides is scaled to length 1: the other one still lowers the loss by being long.",
        lambda s, t, *, temperature: _info_nce(unit_rows(s), t, temperature=temperature, scale=lambda x: x),
        lambda s, t, *, temperature: _info_nce(s, unit_rows(t), temperature=temperature, scale=lambda x: x),
    ),
    "columns": Slip(
        "Columns were scaled to length 1, dim=0. An embedding is a row.",
        _with(scale=lambda x: F.normalize(x, dim=0)),
    ),
    "matrix": Slip("Each whole matrix was scaled, instead of each of its rows.", _with(scale=lambda x: x / x.norm())),
    "sum 1": Slip(
        "The rows are divided by the sum of their entries, or by a softmax. The Euclidean length has to be 1.",
        _with(scale=lambda x: F.normalize(x, p=1, dim=1)),
        _with(scale=lambda x: x.softmax(dim=1)),
    ),
    "one way": Slip(_ONE_WAY.format("the student finds its teacher"), _with(there=1.0, back=0.0)),
    "other way": Slip(_ONE_WAY.format("the teacher finds its student"), _with(there=0.0, back=1.0)),
    "added": Slip("Both directions are added. Asked for is their mean.", _with(there=1.0, back=1.0)),
    "half of one": Slip("Only one direction came, and it is halved as if there were two.",
                        _with(there=0.5, back=0.0), _with(there=0.0, back=0.5)),
    "τ multiplies": Slip(
        "The temperature multiplies. It divides: a small τ makes the softmax sharper.", _with(divide=torch.mul)
    ),
    "no τ": Slip("The temperature is not used.", _with(divide=lambda x, temperature: x)),
    "τ²": Slip(
        "There is a factor τ² (or τ) in front. That belongs to soft targets; InfoNCE has none.",
        lambda s, t, *, temperature: temperature**2 * _info_nce(s, t, temperature=temperature),
        lambda s, t, *, temperature: temperature * _info_nce(s, t, temperature=temperature),
    ),
    "no positive": Slip(
        "The positive is missing in the denominator: the share of the push no longer adds up, and the loss can be "
        "negative.",
        _with(row_loss=_without_positive),
    ),
    "summed": Slip(
        "The loss is summed over the batch: twice the images would mean twice the step.",
        _with(row_loss=lambda scores: _cross_entropy(scores).sum()),
    ),
    "sign": Slip(
        "The sign is wrong: this grows as the positives are found.",
        _with(row_loss=lambda scores: -_cross_entropy(scores)),
    ),
    "mean denominator": Slip(
        "The denominator is a mean over the candidates, not their sum: guessing would cost 0.",
        _with(row_loss=lambda scores: _cross_entropy(scores) - math.log(len(scores))),
    ),
    "positives alone": Slip(
        "The positives' scores alone, without a softmax: nothing keeps all embeddings from becoming the same.",
        _with(row_loss=lambda scores: -scores.diagonal()),
    ),
    "no logarithm": Slip(
        "This is one minus the positive's share. Asked for is minus its logarithm.",
        _with(row_loss=lambda scores: 1 - scores.softmax(dim=1).diagonal()),
        _with(row_loss=lambda scores: -scores.softmax(dim=1).diagonal()),
    ),
    "log of mean": Slip(
        "The logarithm of the mean share was taken. Asked for is the mean of the logarithms.",
        _with(row_loss=lambda scores: -scores.softmax(dim=1).diagonal().mean().log()),
    ),
    "softmax twice": Slip(
        "A softmax is taken twice: cross_entropy takes scores, and takes their softmax by itself.",
        _with(row_loss=_softmax_first),
    ),
    "one softmax": Slip(
        "One softmax runs over all pairs of the batch. Each row (and each column) has a softmax of its own.",
        _one_softmax,
    ),
    "own network": Slip(
        "The candidates come from the anchor's own network. The student looks among the teacher's embeddings, and the "
        "other way round.",
        _within_one_side,
    ),
    "distances": Slip(
        "The embeddings are compared by a squared difference or a cosine alone: no other image has a say.",
        lambda s, t, *, temperature: (unit_rows(s) - unit_rows(t)).square().sum(dim=1).mean(),
        lambda s, t, *, temperature: (unit_rows(s) - unit_rows(t)).square().mean(),
        lambda s, t, *, temperature: (1 - (unit_rows(s) * unit_rows(t)).sum(dim=1)).mean(),
    ),
    "first row": Slip("Only the first image is classified. Every row and every column has its positive.",
                      _with(row_loss=lambda scores: _cross_entropy(scores)[0])),
    "wrong positive": Slip("The positive of a row is another row's: row i of both sides is from image i.",
                           _wrong_positive(lambda t: t.roll(1, dims=0)), _wrong_positive(lambda t: t.flip(0)),
                           _first_class),
}  # fmt: skip


def _write(
    bank: Tensor, count: int, rows: Tensor, *, go_on: Callable[[], Any], first: bool = False
) -> tuple[Tensor, Any]:
    bank, kept = bank.clone(), min(len(rows), len(bank))
    offset = 0 if first else len(rows) - kept
    for number in range(kept):
        bank[(count + offset + number) % len(bank)] = rows[offset + number]
    return bank, go_on()


def _push(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return _write(bank, count, unit_rows(embeddings), go_on=lambda: count + len(embeddings))


def _wraps_to_zero(bank: Tensor, pointer: int, embeddings: Tensor) -> tuple[Tensor, int]:
    start = pointer % len(bank)
    if start + len(embeddings) > len(bank):
        start = 0
    bank = bank.clone()
    bank[start : start + len(embeddings)] = embeddings
    return bank, (start + len(embeddings)) % len(bank)


def _wraps_to_zero_counting(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return _wraps_to_zero(bank, count, embeddings)[0], count + len(embeddings)


def _normalised(push: Callable) -> Callable:
    return lambda bank, count, embeddings: push(bank, count, unit_rows(embeddings))


def _shifted(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return torch.cat([bank, unit_rows(embeddings)])[-len(bank) :], count + len(embeddings)


def _in_front(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return torch.cat([unit_rows(embeddings), bank])[: len(bank)], count + len(embeddings)


def _cut_off(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    start = count % len(bank)
    fits = min(len(embeddings), len(bank) - start)
    bank = bank.clone()
    bank[start : start + fits] = unit_rows(embeddings[:fits])
    return bank, count + len(embeddings)


def _off_by_one(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return _push(bank, count + 1, embeddings)[0], count + len(embeddings)


def _backwards(bank: Tensor, count: int, embeddings: Tensor) -> tuple[Tensor, int]:
    return _push(bank, count, embeddings.flip(0))


QUEUE_PUSH = {
    "wraps to row 0": Slip(
        "When a batch does not fit, it starts at row 0: the rows at the end keep what they had for ever (trap 39).",
        _wraps_to_zero,
        _wraps_to_zero_counting,
        _normalised(_wraps_to_zero),
        _normalised(_wraps_to_zero_counting),
    ),
    "not unit": Slip(
        "The rows are right, but not scaled to length 1: a longer one would be a 'cosine' above 1 (trap 38).",
        lambda bank, count, x: _write(bank, count, x, go_on=lambda: count + len(x)),
    ),
    "columns": Slip(
        "Columns were scaled to length 1, dim=0. An embedding is a row.",
        lambda bank, count, x: _write(bank, count, F.normalize(x, dim=0), go_on=lambda: count + len(x)),
    ),
    "matrix": Slip(
        "The whole batch was scaled by one number. Each row gets length 1.",
        lambda bank, count, x: _write(bank, count, x / x.norm(), go_on=lambda: count + len(x)),
    ),
    "pointer": Slip(
        "The second number is the next row. Asked for is the count since the start: it also tells whether the bank has "
        "ever been full.",
        lambda bank, count, x: _write(bank, count, unit_rows(x), go_on=lambda: (count + len(x)) % len(bank)),
    ),
    "no count": Slip(
        "The count did not go on: the next batch would overwrite this one.",
        lambda bank, count, x: _write(bank, count, unit_rows(x), go_on=lambda: count),
    ),
    "counts batches": Slip(
        "The count went on by 1, or by the batch alone. It counts all embeddings since the start.",
        lambda bank, count, x: _write(bank, count, unit_rows(x), go_on=lambda: count + 1),
        lambda bank, count, x: _write(bank, count, unit_rows(x), go_on=lambda: len(x)),
        lambda bank, count, x: _write(bank, count, unit_rows(x), go_on=lambda: count + len(bank)),
    ),
    "count stops": Slip(
        "The count stops at the size of the bank. It is that of all embeddings since the start.",
        lambda bank, count, x: _write(bank, count, unit_rows(x), go_on=lambda: min(count + len(x), len(bank))),
    ),
    "cut off": Slip("What is beyond the last row is cut off. It belongs to the first rows.", _cut_off),
    "shifted": Slip(
        "The rows were shifted, so that the newest stand at one end. Asked for are fixed rows: number n goes to row n "
        "modulo size.",
        _shifted,
        _in_front,
    ),
    "always row 0": Slip(
        "The batch always starts at row 0: the count has no effect on where it is written.",
        lambda bank, count, x: (_push(bank, 0, x)[0], count + len(x)),
    ),
    "off by one": Slip("The rows are off by one: embedding number n, counted from 0, goes to row n modulo size.",
                       _off_by_one, lambda bank, count, x: (_push(bank, count - 1, x)[0], count + len(x))),
    "backwards": Slip("The batch is written from its last row to its first.", _backwards),
    "old bank": Slip(
        "The bank came back as it was: the batch is not in it.", lambda bank, count, x: (bank, count + len(x))
    ),
    "bank only": Slip("Only the bank came back. The new count is needed too.", lambda bank, count, x: _push(
        bank, count, x)[0]),
    "count only": Slip("Only the count came back. The new bank is needed too.", lambda bank, count, x: count + len(x)),
    "swapped": Slip("The count came first. Asked for are the bank, then the count.", lambda *args: _push(*args)[::-1]),
}  # fmt: skip
LARGE_BATCH = {
    "error": Slip("A batch larger than the bank raises an error (trap 39).", lambda bank, count, x: math.inf),
    "first stay": Slip(
        "Of a batch larger than the bank the first embeddings stayed. The last ones are the newest.",
        lambda bank, count, x: _write(bank, count, unit_rows(x), go_on=lambda: count + len(x), first=True),
    ),
    "wrong rows": Slip(
        "Of a batch larger than the bank the right embeddings stay, but not in their rows: those before them count.",
        lambda bank, count, x: _write(bank, count, unit_rows(x[-len(bank) :]), go_on=lambda: count + len(x)),
        lambda bank, count, x: (unit_rows(x[-len(bank) :]), count + len(x)),
    ),
    "count of those that stay": Slip(
        "Of a batch larger than the bank only those that stay were counted. All that were pushed count.",
        lambda bank, count, x: _write(bank, count, unit_rows(x), go_on=lambda: count + len(bank)),
    ),
    "counted and placed": Slip(
        "Of a batch larger than the bank only those that stay were counted and placed. All that were pushed count.",
        lambda bank, count, x: _write(bank, count, unit_rows(x[-len(bank) :]), go_on=lambda: count + len(bank)),
    ),
}
