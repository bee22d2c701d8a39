"""Words as numbers: a WordPiece tokenizer of the definitions, and batches of texts of similar length. Chapter 09.

The tokenizer was trained on the training definitions by ``python -m kdcourse.data.tokens``.
"""

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .batches import Minibatches

VOCABULARY = 6000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokens(NamedTuple):
    """Encoded texts, padded on the right; unpack it as ``input_ids, attention_mask = tokens``.

    Attributes
    ----------
    input_ids : Tensor of int64, shape (N, L)
        Number of each word piece.
    attention_mask : Tensor of int64, shape (N, L)
        1 where a token is real, 0 where it is padding.

    Examples
    --------
    >>> Tokens(torch.tensor([[2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 0]])).attention_mask.sum()
    tensor(3)
    """

    input_ids: Tensor
    attention_mask: Tensor


def load_tokenizer() -> Any:
    """Return the course's tokenizer: lower-case WordPiece of 6,000 pieces, trained on the training definitions.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
        Used as any tokenizer of ``transformers``.

    Examples
    --------
    >>> tokenizer = load_tokenizer()
    >>> tokenizer.tokenize("A large cat")
    ['a', 'large', 'cat']
    """
    from transformers import PreTrainedTokenizerFast

    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    with resources.as_file(resources.files(__package__) / "wordnet" / "tokenizer.json") as path:
        return PreTrainedTokenizerFast(tokenizer_file=str(path), model_max_length=64, **names)


def encode(tokenizer: Any, texts: Sequence[str], *, max_length: int = 64) -> Tokens:
    """Encode texts as one pair of tensors, padded to the longest of them.

    Parameters
    ----------
    tokenizer : tokenizer of ``transformers``
    texts : sequence of str
    max_length : int
        Longer texts are cut, with the closing token kept.

    Returns
    -------
    Tokens

    Raises
    ------
    ValueError
        If there are no texts, or one string came instead of a list of them.

    Examples
    --------
    >>> encode(load_tokenizer(), ["a large cat", "an act of kindness"]).attention_mask.sum(dim=1)
    tensor([5, 7])
    """
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError(f"texts must be a list of at least one string, got {texts!r:.60}.")
    out = tokenizer(list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    return Tokens(out["input_ids"], out["attention_mask"])


class LengthBatches(Minibatches):
    """Batches of texts of similar length, cut to the longest of the batch; used as ``fit(make_batches=LengthBatches)``.

    The first two tensors are ``input_ids`` and ``attention_mask``, shape (N, L); others are sliced alike. Samples are
    shuffled, then sorted by length within groups of 50 batches, and the batches are shuffled: a short text is
    not padded to the length of a long one, which saves about two fifths of the time.

    Parameters
    ----------
    *tensors, batch_size, epochs, drop_last, generator, augment
        As in ``Minibatches``.

    Examples
    --------
    >>> ids, real = torch.ones(4, 9, dtype=torch.long), torch.tensor([[1] * n + [0] * (9 - n) for n in (2, 9, 3, 8)])
    >>> sorted(tuple(batch[0].shape) for batch in LengthBatches(ids, real, batch_size=2))
    [(2, 3), (2, 9)]
    """

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the remaining batches."""
        for input_ids, attention_mask, *others in super().__iter__():
            longest = int(attention_mask.sum(dim=1).max())
            yield input_ids[:, :longest], attention_mask[:, :longest], *others

    def _draw_order(self) -> Tensor:
        if self._order is None:
            order = super()._draw_order()
            lengths = self.tensors[1].sum(dim=1)
            group = 50 * self.batch_size
            whole = len(order) // self.batch_size * self.batch_size
            sorted_groups = [part[lengths[part].argsort(stable=True)] for part in order[:whole].split(group)]
            batches = torch.cat(sorted_groups).view(-1, self.batch_size) if sorted_groups else order[:0].view(0, 1)
            places = torch.randperm(len(batches), generator=self.generator).to(order.device)
            self._order = torch.cat([batches[places].flatten(), order[whole:]])
        return self._order


def train_tokenizer(texts: Sequence[str], path: Path, *, vocabulary: int = VOCABULARY) -> None:
    """Train a lower-case WordPiece tokenizer and write it as JSON.

    Parameters
    ----------
    texts : sequence of str
    path : Path
    vocabulary : int
        Pieces, the five special ones included.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    >>> train_tokenizer(["a large cat", "a small cat"], path, vocabulary=40)
    >>> path.exists()
    True
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    start, end = (("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]")))
    tokenizer.post_processor = processors.BertProcessing(end, start)
    tokenizer.save(str(path))


if __name__ == "__main__":
    from .definitions import load_definitions

    train_tokenizer(load_definitions(held_out=0).train.texts, Path(__file__).with_name("wordnet") / "tokenizer.json")
