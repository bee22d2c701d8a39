"""BERT-family classifiers of definitions, with a head that guesses hidden words. Chapter 09; needs ``transformers``."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertOnlyMLMHead

from .modes import evaluating


class BertForDefinitions(BertPreTrainedModel):
    """A BERT encoder with two heads: the kind of the definition, from the mean of its tokens, and hidden words.

    Parameters
    ----------
    config : transformers.BertConfig
        With ``num_labels``, the number of kinds.

    Examples
    --------
    >>> model = make_bert(layers=2, width=16, heads=2)
    >>> ids, real = torch.randint(5, 6000, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    >>> model(ids, real).logits.shape
    torch.Size([3, 24])
    """

    _tied_weights_keys = {"words.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, int(config.num_labels or 2))
        self.words = BertOnlyMLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the layer whose weights are those of the word embeddings."""
        return self.words.predictions.decoder

    def set_output_embeddings(self, layer: nn.Linear) -> None:
        """Replace that layer."""
        self.words.predictions.decoder = layer

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **outputs: Any) -> SequenceClassifierOutput:
        """Return logits (B, kinds) and whatever is asked for, such as ``output_attentions=True``.

        Parameters
        ----------
        input_ids, attention_mask : Tensor, shape (B, L)
        **outputs
            ``output_hidden_states``, ``output_attentions``.

        Returns
        -------
        SequenceClassifierOutput
            ``logits``, ``hidden_states`` and ``attentions`` if asked for, and under the key ``"last_hidden_state"``
            the states (B, L, D) that :meth:`word_logits` takes.
        """
        encoded = self.bert(input_ids, attention_mask=attention_mask, **outputs)
        last = encoded.last_hidden_state  # (B, L, D)
        real = attention_mask.unsqueeze(-1).to(last.dtype)
        mean = (last * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)  # (B, D): padding counts nothing
        logits = self.classifier(self.dropout(mean))  # (B, kinds)
        result = SequenceClassifierOutput(
            logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )
        result["last_hidden_state"] = last
        return result

    def word_logits(self, hidden: Tensor) -> Tensor:
        """Return logits over the vocabulary for hidden states of shape (..., D); pick the masked places first."""
        return self.words(hidden)


def make_bert(
    *, layers: int, width: int, heads: int | None = None, kinds: int = 24, vocabulary: int = 6000, dropout: float = 0.1
) -> BertForDefinitions:
    """Build a BERT classifier of definitions with random weights.

    Parameters
    ----------
    layers, width : int
        Transformer blocks, and the size of a token's vector.
    heads : int, optional
        Attention heads; by default one for each 64 of the width, at least two.
    kinds, vocabulary : int
        Sizes of the two heads' outputs.
    dropout : float
        In the encoder and before the classifier.

    Raises
    ------
    ValueError
        If the width is not a multiple of the heads.

    Examples
    --------
    >>> count = lambda model: sum(p.numel() for p in model.parameters())
    >>> count(make_bert(layers=2, width=64)) < count(make_bert(layers=4, width=256)) / 9
    True
    """
    heads = attention_heads(width, heads)
    return BertForDefinitions(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=64,
            type_vocab_size=1,
            num_labels=kinds,  # type: ignore[call-arg]
            pad_token_id=0,
        )
    )


def attention_heads(width: int, heads: int | None = None) -> int:
    """Return a number of attention heads that share a width equally.

    Parameters
    ----------
    width : int
        Size of a token's vector.
    heads : int, optional
        By default one for each 64 of the width, at least two.

    Raises
    ------
    ValueError
        If the width is not a multiple of the heads.

    Examples
    --------
    >>> attention_heads(256), attention_heads(64), attention_heads(64, 1)
    (4, 2, 1)
    """
    heads = max(2, width // 64) if heads is None else heads
    if width % heads:
        raise ValueError(f"width must be a multiple of heads, got {width} and {heads}: each head takes an equal part.")
    return heads


def body_and_embedding_parameters(model: nn.Module) -> tuple[int, int]:
    """Count the parameters of the blocks and heads, and those of the embeddings: a small student is mostly vocabulary.

    Examples
    --------
    >>> body_and_embedding_parameters(make_bert(layers=2, width=64))
    (117816, 388288)
    """
    embeddings = sum(p.numel() for name, p in model.named_parameters() if ".embeddings." in name)
    return sum(p.numel() for p in model.parameters()) - embeddings, embeddings


def count_kind_errors(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> int:
    """Count the definitions whose largest logit is not their kind's, in evaluation mode; the mode is restored.

    Parameters
    ----------
    model : nn.Module
        Returns an output with ``.logits``.
    input_ids, attention_mask : Tensor, shape (N, L)
    labels : Tensor of int, shape (N,)

    Examples
    --------
    >>> ids, real = torch.randint(5, 6000, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    >>> 0 <= count_kind_errors(make_bert(layers=1, width=16), ids, real, torch.tensor([0, 1, 2])) <= 3
    True
    """
    return int((predict_kinds(model, input_ids, attention_mask).argmax(dim=1) != labels).sum())


def predict_kinds(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, *, batch_size: int = 64) -> Tensor:
    """Return the logits (N, kinds) of many texts, in the order of the texts; short ones are asked first.

    Parameters
    ----------
    model : nn.Module
        Returns an output with ``.logits``. In evaluation mode meanwhile; its own mode is restored.
    input_ids, attention_mask : Tensor, shape (N, L)
    batch_size : int
        Texts in one pass, padded to the longest of them: small passes of sorted texts waste little on padding.

    Returns
    -------
    Tensor, shape (N, kinds)

    Examples
    --------
    >>> ids, real = torch.randint(5, 6000, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    >>> predict_kinds(make_bert(layers=1, width=16), ids, real).shape
    torch.Size([3, 24])
    """
    order = attention_mask.sum(dim=1).argsort()
    parts = []
    with evaluating(model):
        for index in order.split(batch_size):
            longest = int(attention_mask[index].sum(dim=1).max())
            parts.append(model(input_ids[index, :longest], attention_mask[index, :longest]).logits)
    logits = torch.cat(parts)
    return torch.empty_like(logits).index_copy_(0, order, logits)
