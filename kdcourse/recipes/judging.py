"""How good are texts that a model wrote? Four numbers, of which no single one is enough. Chapter 11."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..models.writer import END, VOCABULARY, Texts, text_loss

UNK, CLS = 1, 2  # pieces of the course's tokenizer


class Judgement(NamedTuple):
    """What was measured of many texts.

    Attributes
    ----------
    teacher_loss : float
        The teacher's mean cross-entropy for a token, in nats: low where it would have written such texts itself.
    recognised : float
        Share of the texts that a classifier takes for the kind that was asked for, in [0, 1].
    distinct : float
        *distinct-2*: share of pairs of neighbouring tokens that are different from all pairs before, in [0, 1]. It
        falls with the number of texts, so only equal numbers can be compared.
    ended : float
        Share of the texts that end with a closing token, in [0, 1].

    Examples
    --------
    >>> Judgement(3.1, 0.5, 0.7, 1.0).recognised
    0.5
    """

    teacher_loss: float
    recognised: float
    distinct: float
    ended: float


def judge_texts(
    texts: Texts, kinds: Tensor, *, teacher: nn.Module, classifier: Callable[[Tensor, Tensor], Tensor]
) -> Judgement:
    """Measure texts by the teacher's likelihood, a classifier, their variety, and how many have an end.

    Parameters
    ----------
    texts : Texts
        From ``write``: the first token is the kind's.
    kinds : Tensor of int64, shape (N,)
        What each text should be about.
    teacher : nn.Module
        A writer; returns an output with ``.logits`` (N, L, V).
    classifier : callable
        ``classifier(input_ids, attention_mask) -> logits``, (N, L), (N, L) -> (N, kinds), trained on texts that open
        with ``[CLS]`` and close with ``[SEP]``. It has not learned from what models write, so its word is a measure
        and no truth.

    Raises
    ------
    ValueError
        If there is not one kind for each text.

    References
    ----------
    Li, Galley, Brockett, Gao, Dolan (2016), arXiv:1510.03055, for distinct-2.

    Examples
    --------
    >>> from kdcourse.models.words import BagOfWords
    >>> from kdcourse.models.writer import make_writer, write
    >>> teacher, bag, kinds = make_writer(layers=1, width=16), BagOfWords(4), torch.tensor([0, 1, 2])
    >>> texts = write(teacher, kinds)
    >>> judged = judge_texts(texts, kinds, teacher=teacher, classifier=lambda ids, mask: bag(ids))
    >>> 0 <= judged.distinct <= 1
    True
    """
    ids, mask = texts
    if kinds.shape != ids.shape[:1]:
        raise ValueError(f"kinds must be one number per text, got {tuple(kinds.shape)} for {len(ids)} texts.")
    return Judgement(
        text_loss(teacher, ids, mask),
        float((classifier(*as_read(texts)).argmax(dim=1) == kinds).float().mean()),
        distinct_pairs(texts),
        float((ids == END).any(dim=1).float().mean()),
    )


def as_read(texts: Texts) -> Texts:
    """Return written texts as the classifier reads them: an opening token instead of the kind, and a closing one.

    A token of a kind inside a text, which a writer that knows little may choose, is read as an unknown word.

    Examples
    --------
    >>> as_read(Texts(torch.tensor([[6001, 9, 3], [6001, 9, 8]]), torch.ones(2, 3, dtype=torch.long))).input_ids
    tensor([[2, 9, 3, 0],
            [2, 9, 8, 3]])
    """
    ids, mask = texts
    column = torch.full_like(ids[:, :1], CLS)
    ids = torch.cat([column, ids[:, 1:], torch.zeros_like(column)], dim=1)  # (N, L + 1)
    mask = torch.cat([mask, torch.zeros_like(column)], dim=1)
    ids[ids >= VOCABULARY] = UNK
    open_ = ~(ids == END).any(dim=1)  # (N,): cut off at the longest length
    ids[open_, mask[open_].sum(dim=1)] = END
    return Texts(ids, (ids != 0).long())


def distinct_pairs(texts: Texts) -> float:
    """Return the share of different pairs among all pairs of neighbouring tokens, without the token of the kind.

    Examples
    --------
    >>> distinct_pairs(Texts(torch.tensor([[6001, 9, 8, 9, 8, 3]]), torch.ones(1, 6, dtype=torch.long)))  # 9 8 twice
    0.75
    """
    rows = [row[real.bool()][1:].tolist() for row, real in zip(*texts, strict=True)]
    pairs = [pair for row in rows for pair in pairwise(row)]
    return len(set(pairs)) / max(1, len(pairs))


def as_words(texts: Texts, tokenizer: Any) -> list[str]:
    """Return written texts as readable strings; one that was cut off ends with three dots.

    Examples
    --------
    >>> from kdcourse.data.tokens import load_tokenizer
    >>> ids = torch.tensor([[6001, 40, 348, 1090, 3]])
    >>> as_words(Texts(ids, torch.ones_like(ids)), load_tokenizer())
    ['a large cat']
    """
    words = []
    for row, real in zip(*texts, strict=True):
        pieces = row[real.bool()][1:]  # without the kind
        words.append(tokenizer.decode(pieces.where(pieces < VOCABULARY, UNK), skip_special_tokens=False))
    return [text.removesuffix("[SEP]").rstrip() if text.endswith("[SEP]") else f"{text} …" for text in words]
