"""Small GPTs that write a definition of a given kind, and how they write. Chapter 11; needs ``transformers``.

A text is the token of its kind, the word pieces, and the closing token: [kind] a large cat [SEP] [PAD] …
"""

import inspect
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from .language import attention_heads
from .modes import evaluating

PAD, END = 0, 3  # of the course's tokenizer: two tokens, so that the end can be learned while padding is left out
VOCABULARY = 6000  # word pieces; the token of kind k is VOCABULARY + k


class Texts(NamedTuple):
    """Texts as numbers; unpack it as ``input_ids, attention_mask = texts``.

    Attributes
    ----------
    input_ids : Tensor of int64, shape (B, L)
        The kind's token first, then word pieces, the closing token, and padding.
    attention_mask : Tensor of int64, shape (B, L)
        1 up to the closing token, 0 for padding.

    Examples
    --------
    >>> Texts(torch.tensor([[6001, 9, 3, 0]]), torch.tensor([[1, 1, 1, 0]])).attention_mask.sum()
    tensor(3)
    """

    input_ids: Tensor
    attention_mask: Tensor


def make_writer(
    *,
    layers: int,
    width: int,
    heads: int | None = None,
    kinds: int = 24,
    vocabulary: int = VOCABULARY,
    length: int = 64,
) -> GPT2LMHeadModel:
    """Build a GPT that continues the token of a kind, with random weights; input and output share the word vectors.

    Parameters
    ----------
    layers, width : int
        Transformer blocks, and the size of a token's vector.
    heads : int, optional
        Attention heads; by default one for each 64 of the width, at least two.
    kinds, vocabulary : int
        Their sum is the number of tokens.
    length : int
        Longest text, in tokens.

    Raises
    ------
    ValueError
        If the width is not a multiple of the heads.

    Examples
    --------
    >>> writer = make_writer(layers=1, width=16)
    >>> writer(torch.tensor([[6000, 9, 3]])).logits.shape
    torch.Size([1, 3, 6024])
    """
    heads = attention_heads(width, heads)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary + kinds, n_positions=length, n_embd=width, n_layer=layers, n_head=heads,
            resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, bos_token_id=None, eos_token_id=END, pad_token_id=PAD,
        )
    )  # fmt: skip


def start_with_kind(input_ids: Tensor, kinds: Tensor, *, vocabulary: int = VOCABULARY) -> Tensor:
    """Put the token of the kind in place of the opening token of encoded texts.

    Parameters
    ----------
    input_ids : Tensor of int64, shape (N, L)
        From the course's tokenizer.
    kinds : Tensor of int64, shape (N,)

    Returns
    -------
    Tensor of int64, shape (N, L)

    Examples
    --------
    >>> start_with_kind(torch.tensor([[2, 9, 3]]), torch.tensor([5]))
    tensor([[6005,    9,    3]])
    """
    if kinds.shape != input_ids.shape[:1]:
        raise ValueError(f"kinds must be one number per text, got {tuple(kinds.shape)} for {len(input_ids)} texts.")
    return torch.cat([vocabulary + kinds[:, None], input_ids[:, 1:]], dim=1)


@torch.no_grad()
def write(
    writer: GPT2LMHeadModel,
    kinds: Tensor,
    *,
    max_length: int = 32,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Texts:
    """Write one text for each kind, drawn token by token from the writer's own distribution.

    Nothing is cut off from the distribution (no top-k, no top-p): what is learned from such texts is learned about the
    writer itself. Keys and values of earlier tokens are kept, so that a step asks for one new token only.

    Parameters
    ----------
    writer : transformers.GPT2LMHeadModel
        From `make_writer`. In evaluation mode meanwhile; its own mode is restored.
    kinds : Tensor of int64, shape (B,)
    max_length : int
        Most tokens of a text, the kind's included. A text that has not ended by then has no closing token.
    temperature : float
        Positive number that divides the logits.
    generator : torch.Generator, optional
        Makes the draws repeatable.

    Returns
    -------
    Texts
        On the device of ``kinds``.

    Raises
    ------
    ValueError
        If ``kinds`` has another shape or a number out of range, or ``max_length`` is not from 2 to the writer's length.

    Examples
    --------
    >>> texts = write(make_writer(layers=1, width=16), torch.tensor([0, 23]), max_length=5)
    >>> texts.input_ids[:, 0], texts.input_ids.shape[1] <= 5
    (tensor([6000, 6023]), True)
    """
    known = writer.config.vocab_size - VOCABULARY
    if kinds.dim() != 1 or len(kinds) == 0 or kinds.min() < 0 or kinds.max() >= known:
        raise ValueError(f"kinds must have shape (B,), from 0 to {known - 1}, got {kinds.tolist()!r:.80}.")
    if not 2 <= max_length <= writer.config.n_positions or not temperature > 0:
        raise ValueError(
            f"max_length must be from 2 to {writer.config.n_positions} and temperature positive, got {max_length} and "
            f"{temperature}."
        )
    token, rows = VOCABULARY + kinds, [VOCABULARY + kinds]
    cache = {_cache_name(writer): DynamicCache()}  # keys and values of what was read; the model adds to it
    open_ = torch.ones_like(kinds, dtype=torch.bool)  # (B,): texts that have not ended
    with evaluating(writer):
        while len(rows) < max_length and open_.any():
            logits = writer(token[:, None], use_cache=True, **cache).logits[:, -1]  # (B, V)
            token = torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=generator)[:, 0]
            token = token.where(open_, PAD)  # (B,)
            rows.append(token)
            open_ = open_ & (token != END)
    input_ids = torch.stack(rows, dim=1)  # (B, L)
    ended = (input_ids == END).cumsum(dim=1) - (input_ids == END).int()  # (B, L): 0 up to the closing token
    return Texts(input_ids, (ended == 0).long())


def _cache_name(writer: nn.Module) -> str:
    """Newer versions of ``transformers`` call the argument ``cache``."""
    return "cache" if "cache" in inspect.signature(writer.forward).parameters else "past_key_values"


def next_tokens(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a writer should say at each place, and where that counts: the next token, if it is real.

    Parameters
    ----------
    input_ids, attention_mask : Tensor, shape (B, L)

    Returns
    -------
    tokens : Tensor of int64, shape (B, L - 1)
    real : Tensor of bool, shape (B, L - 1)
        The closing token counts, padding does not.

    Examples
    --------
    >>> next_tokens(torch.tensor([[6001, 9, 3, 0]]), torch.tensor([[1, 1, 1, 0]]))
    (tensor([[9, 3, 0]]), tensor([[ True,  True, False]]))
    """
    return input_ids[:, 1:], attention_mask[:, 1:].bool()


@torch.no_grad()
def text_loss(writer: nn.Module, input_ids: Tensor, attention_mask: Tensor, *, batch_size: int = 250) -> float:
    """Return the mean cross-entropy of the next token over many texts, in nats, in evaluation mode.

    Parameters
    ----------
    writer : nn.Module
        Returns an output with ``.logits``. Its own mode is restored.
    input_ids, attention_mask : Tensor, shape (N, L)
    batch_size : int
        Texts in one pass. Short ones are asked first.

    Examples
    --------
    >>> writer = make_writer(layers=1, width=16)
    >>> 5 < text_loss(writer, *write(writer, torch.tensor([0, 1]), max_length=6)) < 12  # log(6024) is 8.7
    True
    """
    total, count = 0.0, 0
    order = attention_mask.sum(dim=1).argsort()
    with evaluating(writer):
        for rows in order.split(batch_size):
            longest = int(attention_mask[rows].sum(dim=1).max())
            ids, mask = input_ids[rows, :longest], attention_mask[rows, :longest]
            tokens, real = next_tokens(ids, mask)
            logits = writer(ids[:, :-1], attention_mask=mask[:, :-1]).logits[real]  # (real tokens, V)
            total += float(F.cross_entropy(logits.float(), tokens[real], reduction="sum"))
            count += int(real.sum())
    return total / count
