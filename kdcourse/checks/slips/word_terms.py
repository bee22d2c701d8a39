# mypy: disable-error-code="no-untyped-def"
"""Wrong answers to a turn of chapter 09: the divergence of the words of real tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import Slip, mapped
from .attention_rows import EMPTY_TEXT, INDEXED, INVERTED, STUDENT_DETACHED
from .padding import PADDED_KD
from .soft_targets import log_rows
from .triple_loss import KD_PADDING, TRIPLE

VOCABULARY = 7


def _words(
    mean: Callable[[Tensor, Tensor], Any], *, power: int = 2, cells: Callable | None = None, detach: bool = True
) -> Callable:
    """Return a term whose cells (B, L, V), whose mean or whose power of T are others."""

    def wrong(student, teacher, real, temperature):
        parts = (cells or _word_cells)(student, teacher.detach() if detach else teacher, temperature)
        return temperature**power * mean(parts.sum(dim=-1), real)

    return wrong


def _word_cells(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    log_q, log_p = log_rows(student, teacher, temperature)
    return log_p.exp() * (log_p - log_q)


def _again_cells(*sides: bool) -> Callable:
    """Return cells for which the logits of the student, the teacher, or both are probabilities already."""

    def cells(student, teacher, temperature):
        pair = [x / temperature for x in (student, teacher)]
        student, teacher = (x.softmax(dim=-1) if again else x for x, again in zip(pair, sides, strict=True))
        return _word_cells(student, teacher, 1.0)

    return cells


def _after(student: Tensor, teacher: Tensor, temperature: float, least: float) -> Tensor:
    q, p = ((x / temperature).softmax(dim=-1) for x in (student, teacher))
    return p * ((p + least).log() - (q + least).log())


def _over_real(values: Tensor, real: Tensor) -> Tensor:
    return values[real.bool()].mean()


def _safe(values: Tensor, real: Tensor) -> Tensor:
    return (values * real).sum() / real.sum().clamp(min=1)


def _over_all(values: Tensor, real: Tensor) -> Tensor:
    return values.mean()


def _by_texts(values: Tensor, real: Tensor) -> Tensor:
    return values.sum() / len(values)


def _over_words(mean: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda values, real: mean(values, real) / VOCABULARY


def _with_usual_means(cells: Callable) -> list[Callable]:
    """Return the term of these cells with each of the three usual means."""
    return [_words(mean, cells=cells) for mean in (_over_real, _over_all, _by_texts)]


def _of_padded(wrong: Callable) -> Callable:
    """Return a mistake of exercise 02 with the tokenizer's mask."""
    return lambda student, teacher, real, temperature: wrong(student, teacher, real.bool(), temperature=temperature)


WORDS = {
    "indexed": Slip(INDEXED, _words(lambda values, real: values[real].mean())),
    "padding": Slip(KD_PADDING, _words(_over_all), _words(_over_all, power=0)),
    "batchmean": Slip(
        "The sum is divided by the number of texts, B, as reduction='batchmean' does with (B, L, V): the loss grows "
        "with the length (trap 85). Divide by the number of real tokens.",
        *(_words(_by_texts, power=power) for power in (2, 0)),
        *(_words(lambda values, real: (values * real).sum() / len(values), power=power) for power in (2, 0)),
    ),
    "mean over the vocabulary": Slip(
        "Many times too small: the mean runs over the vocabulary too, as reduction='mean' does. A divergence is the "
        "sum over the words.",
        *(
            _words(_over_words(mean), power=power)
            for mean in (_over_real, _over_all, lambda values, real: (values * real).mean())
            for power in (2, 0)
        ),
    ),
    "T twice": Slip(TRIPLE["T twice"].message, _words(_over_real, power=4)),
    "T unused": Slip(
        TRIPLE["T unused"].message,
        *(_words(mean, power=power, cells=lambda s, t, temperature: _word_cells(s, t, 1.0))
          for mean in (_over_real, _over_all) for power in (2, 0)),
    ),
    "second softmax": Slip(
        "A softmax is taken twice: log_softmax got probabilities, which makes both sides nearly uniform. It takes "
        "logits, divided by T.",
        *_with_usual_means(_again_cells(True, True)),
        *_with_usual_means(_again_cells(True, False)),
        *_with_usual_means(_again_cells(False, True)),
        *_with_usual_means(lambda s, t, temperature: _word_cells(s.softmax(dim=-1), t.softmax(dim=-1), temperature)),
        *_with_usual_means(lambda s, t, temperature: _word_cells(s.softmax(dim=-1), t, temperature)),
    ),
    "reversed": Slip(
        PADDED_KD["reverse"].message, *_with_usual_means(lambda s, t, temperature: _word_cells(t, s, temperature))
    ),
    "cross-entropy": Slip(
        PADDED_KD["cross-entropy"].message,
        *_with_usual_means(lambda s, t, temperature: -(t / temperature).softmax(-1) * log_rows(s, t, temperature)[0]),
    ),
    "mask inverted": Slip(INVERTED, _words(lambda values, real: values[real == 0].mean())),
    **mapped(
        PADDED_KD, _of_padded, "padding in the count", "padding in the count, no T²", "per place", "mean of means",
        "one per sentence", "one per position", "sum", "sum, no T²", "softmax over positions", "one side masked",
        "no T²", "one T", "only teacher softened", "only student softened", "T multiplies", "no logarithm",
        "squared logits", "distance of probabilities", "Jensen-Shannon", "teacher's class only",
    ),
}  # fmt: skip
WORD_EDGES = {
    "a text of padding only": Slip(
        EMPTY_TEXT,
        _words(
            lambda values, real: ((values * real).sum(dim=1) / real.sum(dim=1) * real.sum(dim=1)).sum() / real.sum()
        ),
    ),
    "very sure logits": Slip(
        "For very sure logits the loss is not finite, or cut off: a probability was rounded to 0 before its logarithm "
        "was taken (trap 4). F.log_softmax takes the logits.",
        _words(_safe, cells=lambda s, t, temperature: _after(s, t, temperature, 0.0)),
        _words(_safe, cells=lambda s, t, temperature: _after(s, t, temperature, 1e-12)),
    ),
    "a batch without a real token": Slip(
        "Without a real token the loss must be 0. A mean over nothing is NaN, and one such batch makes every weight "
        "NaN. Divide by at least 1.",
        _words(_over_real),
        _words(lambda values, real: (values * real).sum() / real.sum()),
    ),
}
WORD_GRADIENTS = {
    "teacher learns": Slip(
        "A gradient reaches the teacher's logits. They are a fixed target: detach them.", _words(_safe, detach=False)
    ),
    "student detached": Slip(
        STUDENT_DETACHED,
        *(
            lambda s, t, real, temperature, detach=detach: _words(_safe, detach=detach)(
                s.detach(), t, real, temperature
            )
            for detach in (True, False)
        ),
    ),
    "outside the graph": Slip(
        "Without a real token the 0 belongs to no graph, and loss.backward() fails if nothing else is in the loss. "
        "Divide the sum by at least 1: 0 / 1 is part of the graph.",
        _words(lambda values, real: values[real.bool()].mean() if real.any() else torch.tensor(0.0)),
    ),
    "NaN in the gradient": Slip(
        "Without a real token the loss is 0 and its gradient NaN: 0 / 0 was computed and thrown away, and its gradient "
        "was not. Divide by at least 1.",
        _words(lambda values, real: torch.where(real.any(), (values * real).sum() / real.sum(), 0.0)),
        _words(lambda values, real: ((values * real).sum() / real.sum()).nan_to_num()),
    ),
}
