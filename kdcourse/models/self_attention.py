"""Queries, keys and values of BERT-family models, read by hooks: attention before and after its softmax. Chapter 09."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .features import capture

# Names of the three linear layers of a block, in BERT and in DistilBERT
_FAMILIES = (
    (re.compile(r"(?:.*\.)?encoder\.layer\.(\d+)\.attention\.self"), ("query", "key", "value")),
    (re.compile(r"(?:.*\.)?transformer\.layer\.(\d+)\.attention"), ("q_lin", "k_lin", "v_lin")),
)


class SelfAttention:
    """What :func:`watch_attention` read in the last forward pass. Blocks count from 1."""

    def __init__(self, features: dict[str, Tensor], layers: dict[int, tuple[str, ...]], heads: int) -> None:
        self._features, self._layers, self.heads = features, layers, heads

    def scores(self, block: int) -> Tensor:
        r"""Return the scores :math:`QK^\top / \sqrt{d}` of a block, shape (B, heads, L, L), of padding too."""
        query, key = self._part(block, 0), self._part(block, 1)
        return query @ key.mT / math.sqrt(query.shape[-1])

    def probabilities(self, block: int, attention_mask: Tensor) -> Tensor:
        """Return the softmax of the scores over real keys, shape (B, heads, L, L), without attention dropout.

        Parameters
        ----------
        block : int
        attention_mask : Tensor, shape (B, L)
            The tokenizer's. A row of padding only gets a uniform attention.
        """
        scores = self.scores(block).float()
        real = attention_mask.bool()[:, None, None, :]  # (B, 1, 1, L)
        return scores.masked_fill(~real, torch.finfo(scores.dtype).min).softmax(dim=-1)

    def values(self, block: int) -> Tensor:
        """Return the value vectors of a block, shape (B, heads, L, d)."""
        return self._part(block, 2)

    def _part(self, block: int, place: int) -> Tensor:
        if block not in self._layers:
            raise ValueError(f"block {block} is not watched; these are: {', '.join(map(str, self._layers))}.")
        states = self._features[self._layers[block][place]]  # (B, L, D)
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, d)


@contextmanager
def watch_attention(model: nn.Module, *blocks: int) -> Iterator[SelfAttention]:
    """Read queries, keys and values of some blocks while a model runs, whatever way it computes attention.

    A fast attention kernel never forms the probabilities, and ``output_attentions=True`` returns them after dropout.
    From queries and keys both scores and probabilities follow, in training mode too.

    Parameters
    ----------
    model : nn.Module
        A BERT-family or DistilBERT model of ``transformers``, with any head; it is not changed.
    *blocks : int
        Blocks counted from 1; by default all.

    Yields
    ------
    SelfAttention

    Raises
    ------
    ValueError
        If the model has no such blocks.

    Examples
    --------
    >>> from kdcourse.models.language import make_bert
    >>> ids, real = torch.randint(5, 6000, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    >>> model = make_bert(layers=2, width=64, heads=4)
    >>> with watch_attention(model, 2) as attention:
    ...     output = model(ids, real)
    >>> attention.scores(2).shape, attention.values(2).shape
    (torch.Size([3, 4, 7, 7]), torch.Size([3, 4, 7, 16]))
    """
    layers: dict[int, tuple[str, ...]] = {}
    for name, _ in model.named_modules():
        for pattern, parts in _FAMILIES:
            if match := pattern.fullmatch(name):
                layers[int(match[1]) + 1] = tuple(f"{name}.{part}" for part in parts)
    if not layers:
        raise ValueError(
            f"a {type(model).__name__} has no blocks named encoder.layer.N or transformer.layer.N: only models built "
            "like BERT or DistilBERT can be watched."
        )
    wrong = [block for block in blocks if block not in layers]
    if wrong:
        raise ValueError(f"the model has no block {wrong[0]}; its blocks are 1 to {len(layers)}.")
    layers = {block: layers[block] for block in blocks or layers}
    config: Any = model.config
    with capture(model, *(name for names in layers.values() for name in names)) as features:
        yield SelfAttention(features, layers, int(config.num_attention_heads))
