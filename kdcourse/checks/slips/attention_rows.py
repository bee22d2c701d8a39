"""Wrong answers to a turn of chapter 09: the divergence of attention, row by row, over real tokens."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Slip
from .language import RELATIONS

INDEXED = (
    "`real` holds whole numbers, so in [...] a 1 picks text 1 and a 0 picks text 0, for every token. Make it a mask "
    "first: real.bool()."
)
INVERTED = "The mask is turned round: padding counts, and real tokens do not. A 1 stands for a real token."
EMPTY_TEXT = (
    "A text of padding only changes the loss, or makes it NaN: a mean over its tokens is 0 divided by 0. Take one sum "
    "over all texts, and divide it once."
)
STUDENT_DETACHED = "No gradient reaches the student's side, so it learns nothing: is something detached?"


def _logs(*sides: Tensor) -> list[Tensor]:
    return [side.clamp(min=1e-30).log() for side in sides]


def _cells(student: Tensor, teacher: Tensor) -> Tensor:
    log_q, log_p = _logs(student, teacher)
    return teacher * (log_p - log_q)  # (B, heads, L, L)


def _reversed_cells(student: Tensor, teacher: Tensor) -> Tensor:
    return _cells(teacher, student)


def _soft_cells(student: Tensor, teacher: Tensor) -> Tensor:
    return -teacher * _logs(student)[0]


def _again(*sides: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Return cells for which a softmax was taken over the student's probabilities, the teacher's, or both."""
    return lambda s, t: _cells(*(x.softmax(dim=-1) if again else x for x, again in zip((s, t), sides, strict=True)))


def _real_rows(cells: Tensor, real: Tensor) -> Tensor:
    return cells.sum(dim=-1).transpose(1, 2)[real.bool()].mean()


def _all_rows(cells: Tensor, real: Tensor) -> Tensor:
    return cells.sum(dim=-1).mean()


def _all_cells(cells: Tensor, real: Tensor) -> Tensor:
    return cells.mean()


def _per_text(cells: Tensor, real: Tensor) -> Tensor:
    return cells.sum() / len(cells)


MEANS = (_real_rows, _all_rows, _all_cells, _per_text)


def _attention(mean: Callable[[Tensor, Tensor], Any], cells: Callable[[Tensor, Tensor], Tensor] = _cells) -> Callable:
    return lambda student, teacher, real: mean(cells(student, teacher.detach()), real)


def _with_means(cells: Callable[[Tensor, Tensor], Tensor]) -> list[Callable]:
    """Return the term of these cells with each of the four usual means."""
    return [_attention(mean, cells) for mean in MEANS]


def _of_keys(cells: Tensor, real: Tensor) -> Tensor:
    return cells * real[:, None, None, :]


def _of_rows(cells: Tensor, real: Tensor) -> Tensor:
    return cells * real[:, None, :, None]


def _text_means(cells: Tensor, real: Tensor) -> Tensor:
    of_tokens = _of_rows(cells, real).sum(dim=-1).mean(dim=1)  # (B, L)
    return of_tokens.sum(dim=1) / real.sum(dim=1)


def _said(name: str, *wrong: Callable) -> Slip:
    """Return a slip with the message of exercise 09, where the same mistake is made with relations."""
    return Slip(RELATIONS[name].message, *wrong)


ATTENTION = {
    "log of 0": Slip(
        "This is NaN or infinite. A real token gives padding exactly 0, and 0 · log 0 is NaN for a computer. Clamp the "
        "probabilities at something tiny before the logarithm.",
        _attention(_real_rows, lambda s, t: t * (t.log() - s.log())),
        _attention(_all_cells, lambda s, t: F.kl_div(s.log(), t, reduction="none")),
        _attention(_real_rows, lambda s, t: t.clamp(min=1e-30) * (_logs(t)[0] - s.log())),
    ),
    "indexed": Slip(INDEXED, _attention(lambda cells, real: cells.sum(dim=-1).transpose(1, 2)[real].mean())),
    "all cells": Slip(
        "The mean runs over all cells, and padding is among them: a longer neighbour makes the loss of a text smaller "
        "(trap 64). Add up each row, then take the mean over the rows of real tokens.",
        _attention(_all_cells),
        _attention(lambda cells, real: _of_keys(cells, real).mean()),
        _attention(lambda cells, real: _of_rows(cells, real).mean()),
        _attention(lambda cells, real: _of_keys(_of_rows(cells, real), real).mean()),
    ),
    "rows of padding": Slip(
        "Rows of padding count. What a padded token looks at is noise, and masking its columns does not remove the row "
        "(trap 64). Take the rows of real tokens.",
        _attention(_all_rows),
        _attention(lambda cells, real: _of_keys(cells, real).sum(dim=-1).mean()),
    ),
    "padding in the count": _said(
        "padding in the count", _attention(lambda cells, real: _of_rows(cells, real).sum(dim=-1).mean())
    ),
    "per text": Slip(
        "The sum is divided by the number of texts, B, as reduction='batchmean' does with (B, heads, L, L): the loss "
        "grows with the length and with the heads. Divide by the number of real rows in all heads.",
        _attention(_per_text),
        _attention(lambda cells, real: _of_keys(cells, real).sum() / len(cells)),
        _attention(lambda cells, real: _of_rows(cells, real).sum() / len(cells)),
        _attention(lambda cells, real: _of_rows(cells, real).sum() / (len(cells) * cells.shape[1])),
    ),
    "second softmax": Slip(
        "A softmax is taken over attention, which has been through one already: both sides become nearly uniform, and "
        "large differences all but vanish (trap 63). Take the logarithm of the probabilities as they are.",
        *_with_means(_again(True, True)),
        *_with_means(_again(True, False)),
        *_with_means(_again(False, True)),
    ),
    "reversed": _said("reversed", *_with_means(_reversed_cells)),
    "cross-entropy": _said("cross-entropy", *_with_means(_soft_cells)),
    "squares": _said("squares", *_with_means(lambda s, t: (s - t).square())),
    "mean of means": _said(
        "mean of means",
        _attention(lambda cells, real: _text_means(cells, real).mean()),
    ),
    "sum": _said(
        "sum",
        _attention(lambda cells, real: _of_rows(cells, real).sum()),
        _attention(lambda cells, real: _of_keys(cells, real).sum()),
        _attention(lambda cells, real: cells.sum()),
    ),
    "sum over heads": _said(
        "sum over heads", _attention(lambda cells, real: _of_rows(cells, real).sum() / real.sum())
    ),
    "mean over keys": Slip(
        "Many times too small: the mean runs along each row too. A divergence is the sum over a row.",
        _attention(lambda cells, real: _real_rows(cells, real) / cells.shape[-1]),
        _attention(lambda cells, real: _real_rows(cells / real.sum(dim=1)[:, None, None, None].clamp(min=1), real)),
        _attention(lambda cells, real: _of_rows(cells, real).sum() / (cells.shape[1] * real.sum(dim=1).square().sum())),
    ),
    "columns": Slip(
        "The sum runs over dim=-2, the tokens that look. A row is what one token looks at: dim=-1.",
        _attention(lambda cells, real: cells.sum(dim=-2).transpose(1, 2)[real.bool()].mean()),
    ),
    "mask inverted": Slip(
        INVERTED, _attention(lambda cells, real: cells.sum(dim=-1).transpose(1, 2)[real == 0].mean())
    ),
    "averaged heads": Slip(
        "The heads were averaged before they were compared. Each head of the student has a partner: compare first, "
        "then take the mean.",
        *_with_means(lambda s, t: _cells(s.mean(dim=1, keepdim=True), t.mean(dim=1, keepdim=True))),
    ),
    "first head": _said(
        "first head",
        _attention(lambda cells, real: _real_rows(cells[:, :1], real)),
        _attention(lambda cells, real: _real_rows(cells[:, -1:], real)),
    ),
    "one per row": Slip(
        "A value for each row came where one loss is needed: take the mean over heads and rows of real tokens.",
        _attention(lambda cells, real: cells.sum(dim=-1).transpose(1, 2)[real.bool()]),
        _attention(lambda cells, real: _of_rows(cells, real).sum(dim=-1)),
        _attention(lambda cells, real: cells.sum(dim=-1)),
    ),
}  # fmt: skip
ATTENTION_EDGES = {
    "a text of padding only": Slip(
        EMPTY_TEXT,
        _attention(lambda cells, real: (_text_means(cells, real) * real.sum(dim=1)).sum() / real.sum()),
    )
}


def _attached(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    return _real_rows(_cells(student, teacher), real)


def _divided(side: Tensor, real: Tensor) -> Tensor:
    shown = _of_keys(side, real)
    return shown / shown.sum(dim=-1, keepdim=True)


ATTENTION_GRADIENTS = {
    "log of 0 in the gradient": Slip(
        "The loss is right, and its gradient is NaN: the logarithm of exactly 0 was taken and its result thrown away, "
        "but its gradient is 0 · ∞. Clamp the probabilities before the logarithm.",
        _attention(_real_rows, lambda s, t: torch.where(t > 0, t * (t.log() - s.log()), 0.0)),
        _attention(_real_rows, lambda s, t: (t * (t.log() - s.log())).nan_to_num()),
        _attention(_real_rows, lambda s, t: torch.xlogy(t, t) - torch.xlogy(t, s)),
    ),
    "0 / 0 in the gradient": Slip(
        "With a text of padding only the gradient is NaN: its rows are divided by their sum over real tokens, which is "
        "0. The rows of real tokens sum to 1 already.",
        lambda s, t, real: _attached(_divided(s, real), t.detach(), real),
        lambda s, t, real: _attached(_divided(s, real), _divided(t.detach(), real), real),
    ),
    "teacher learns": Slip("A gradient reaches the teacher's attention. It is a fixed target: detach it.", _attached),
    "student detached": Slip(
        STUDENT_DETACHED,
        lambda s, t, real: _attached(s.detach(), t, real),
        lambda s, t, real: _attached(s.detach(), t.detach(), real),
    ),
}
