"""Masked words: what a masked language model has to guess. Chapter 09."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor


def mask_words(
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    mask_id: int,
    vocabulary_size: int,
    special_ids: Collection[int] = (),
    probability: float = 0.15,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Hide some words for the model to guess: BERT's masking, 80 % [MASK], 10 % another word, 10 % left in place.

    Parameters
    ----------
    input_ids, attention_mask : Tensor, shape (B, L)
        The tokenizer's.
    mask_id : int
        Id of the [MASK] token.
    vocabulary_size : int
        Random words are drawn from [0, vocabulary_size) without the special ids.
    special_ids : collection of int
        Ids that are never hidden and never drawn: [CLS], [SEP], [PAD] and so on. ``mask_id`` is always one of them.
    probability : float
        Chance of each real, ordinary token to be guessed.
    generator : torch.Generator, optional
        Source of the random choices, on the device of ``input_ids``.

    Returns
    -------
    masked_ids, labels : Tensor, shape (B, L)
        Input for the model, and what it has to guess: the word where one was chosen, -100 everywhere else.

    Raises
    ------
    ValueError
        If the shapes differ, the probability is outside [0, 1], or no ordinary word is left to draw.

    References
    ----------
    Devlin et al. (2019), arXiv:1810.04805, section 3.1.

    Examples
    --------
    >>> words, real = torch.tensor([[5, 6, 7, 0]]), torch.tensor([[1, 1, 1, 0]])
    >>> masked, labels = mask_words(words, real, mask_id=3, vocabulary_size=8, special_ids=[0], probability=1.0)
    >>> labels
    tensor([[   5,    6,    7, -100]])
    """
    if input_ids.shape != attention_mask.shape:
        raise ValueError(
            f"input_ids and attention_mask must have the same shape, got {tuple(input_ids.shape)} and "
            f"{tuple(attention_mask.shape)}: one entry per token."
        )
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability}. BERT hides 0.15 of the words.")
    special = torch.tensor(sorted({mask_id, *special_ids}), device=input_ids.device)
    ordinary = torch.arange(vocabulary_size, device=input_ids.device)
    ordinary = ordinary[torch.isin(ordinary, special, invert=True)]
    if len(ordinary) == 0:
        raise ValueError(f"all {vocabulary_size} words are special: there is none to draw at random.")

    chance, fate = torch.rand((2, *input_ids.shape), generator=generator, device=input_ids.device)  # (B, L) each
    drawn = torch.randint(len(ordinary), input_ids.shape, generator=generator, device=input_ids.device)
    chosen = (chance < probability) & attention_mask.bool() & torch.isin(input_ids, special, invert=True)
    labels = torch.where(chosen, input_ids, -100)
    masked = torch.where(chosen & (fate < 0.8), mask_id, input_ids)
    return torch.where(chosen & (fate >= 0.9), ordinary[drawn], masked), labels


class WordMasker:
    """``mask_words`` with a generator of its own; a checkpoint keeps its place, so a resumed run hides the same words.

    Parameters
    ----------
    device : torch.device
        Where the texts are.
    seed : int

    Examples
    --------
    >>> masker = WordMasker(torch.device("cpu"), 0)
    >>> words, real = torch.tensor([[5, 6, 7, 0]]), torch.tensor([[1, 1, 1, 0]])
    >>> masked, labels = masker(words, real, mask_id=3, vocabulary_size=8, special_ids=[0])
    >>> masked.shape
    torch.Size([1, 4])
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
        """Hide words, other ones at each call; arguments as in ``mask_words``."""
        return mask_words(input_ids, attention_mask, generator=self.generator, **settings)

    def state_dict(self) -> dict[str, Tensor]:
        """Return where the random choices stand."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from there."""
        self.generator.set_state(state["generator"])
