"""What a student of experiment ``language`` can learn from its teacher: a cache of the teacher, terms of a loss.

Letters: N texts, B batch, L tokens, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data.masking import WordMasker
from kdcourse.data.tokens import SPECIAL, VOCABULARY, Tokens
from kdcourse.losses import (
    HiddenProjection,
    attention_loss,
    attention_scores_loss,
    distilbert_terms,
    embedding_loss,
    hidden_state_loss,
    kd_loss,
    map_layers,
    value_relation_loss,
)
from kdcourse.models import evaluating
from kdcourse.models.self_attention import SelfAttention, watch_attention

WORDS_WEIGHT = 0.3  # of the masked words, in every arm
TEMPERATURE = 2.0
SMOOTHING = 0.1


def hide_words(tokens: Tokens, mask_id: int, seed: int) -> tuple[Tensor, Tensor]:
    """Hide words once for all runs; return the masked ids and the hidden words, shape (N, L) each."""
    masker = WordMasker(torch.device("cpu"), seed)
    return masker(*tokens, mask_id=mask_id, vocabulary_size=VOCABULARY, special_ids=range(len(SPECIAL)))


@dataclass
class Taught:
    """What the teacher says about texts, in bfloat16; rows are texts.

    Attributes
    ----------
    kinds : Tensor, shape (N, 24)
    hidden : Tensor, shape (N, 1 + blocks, L, D)
        Embeddings, then the blocks that a student of two learns from.
    scores : Tensor, shape (N, blocks, heads, L, L)
    values : Tensor, shape (N, heads, L, d)
        Of the last block.
    """

    kinds: Tensor
    hidden: Tensor
    scores: Tensor
    values: Tensor

    def take(self, index: Tensor, length: int) -> "Taught":
        """Return some texts, cut to a length."""
        return Taught(
            self.kinds[index].float(), self.hidden[index, :, :length], self.scores[index, ..., :length, :length],
            self.values[index, :, :length],
        )  # fmt: skip


def teach(teacher: nn.Module, masked: Tensor, real: Tensor, *, blocks: int, batch_size: int = 256) -> Taught:
    """Ask the teacher about every text once; ``blocks`` is the student's depth."""
    depth = int(teacher.config.num_hidden_layers)
    places = list(map_layers(blocks, depth).values())
    parts: list[tuple[Tensor, ...]] = []
    with evaluating(teacher), torch.autocast("cpu", dtype=torch.bfloat16):
        for ids, mask in zip(masked.split(batch_size), real.split(batch_size), strict=True):
            with watch_attention(teacher, *places) as attention:
                output = teacher(ids, mask, output_hidden_states=True)
            hidden = torch.stack([output.hidden_states[place] for place in (0, *places)], dim=1)
            scores = torch.stack([attention.scores(place) for place in places], dim=1)
            parts.append((output.logits, hidden, scores, attention.values(depth)))
    return Taught(*(torch.cat(part).bfloat16() for part in zip(*parts, strict=True)))


@dataclass
class View:
    """One batch, seen from both sides, as the terms below need it."""

    output: Any
    attention: SelfAttention
    taught: Taught
    real: Tensor
    hidden_words: Tensor
    guessed: Tensor
    teacher: Any
    projection: HiddenProjection | None
    blocks: int


def _kd(view: View) -> Tensor:
    return kd_loss(view.output.logits.float(), view.taught.kinds, temperature=TEMPERATURE)


def _embedding(view: View) -> Tensor:
    return embedding_loss(
        view.output.hidden_states[0], view.taught.hidden[:, 0], attention_mask=view.real, projection=view.projection
    )


def _hidden(view: View) -> Tensor:
    student, teacher = view.output.hidden_states[1:], view.taught.hidden[:, 1:].unbind(dim=1)
    places = {place: place for place in range(view.blocks)}  # the teacher's blocks were chosen when it was asked
    return hidden_state_loss(student, teacher, attention_mask=view.real, layer_map=places, projection=view.projection)


def _scores(view: View) -> Tensor:
    losses = [
        attention_scores_loss(view.attention.scores(block), view.taught.scores[:, block - 1], attention_mask=view.real)
        for block in range(1, view.blocks + 1)
    ]
    return torch.stack(losses).mean()


def _attention_of(view: View, block: int) -> Tensor:
    scores = view.taught.scores[:, block - 1].float()
    teacher = scores.masked_fill(~view.real.bool()[:, None, None], torch.finfo(torch.float32).min).softmax(dim=-1)
    return attention_loss(view.attention.probabilities(block, view.real), teacher, attention_mask=view.real)


def _probabilities(view: View) -> Tensor:
    return torch.stack([_attention_of(view, block) for block in range(1, view.blocks + 1)]).mean()


def _minilm(view: View) -> Tensor:
    values = value_relation_loss(view.attention.values(view.blocks), view.taught.values, attention_mask=view.real)
    return _attention_of(view, view.blocks) + values


def _triple(view: View) -> dict[str, Tensor]:
    """Return DistilBERT's three terms over the hidden words, 5 to 2 to 1, so that its words weigh as everyone's do."""
    real, scale = view.real.bool(), WORDS_WEIGHT / 2
    places = view.hidden_words != -100
    with torch.no_grad():
        taught = view.teacher.word_logits(view.taught.hidden[:, -1][places].to(view.guessed.dtype))
    return distilbert_terms(
        view.guessed[None], taught[None], view.hidden_words[places][None],
        view.output.hidden_states[-1][real][None], view.taught.hidden[:, -1][real][None],
        temperature=TEMPERATURE, kd_weight=5 * scale, mlm_weight=2 * scale, cosine_weight=scale,
    )  # fmt: skip


TERMS: dict[str, Callable[[View], Tensor]] = {
    "kd": _kd,
    "embedding": _embedding,
    "scores": _scores,
    "probabilities": _probabilities,
    "hidden": _hidden,
    "minilm": _minilm,
}


def language_objective(
    student: Any, masked: Tensor, real: Tensor, labels: Tensor, words: Tensor, index: Tensor, *,
    weights: Mapping[str, float], taught: Taught, teacher: Any, projection: HiddenProjection | None = None,
    label_smoothing: float = 0.0, bfloat16: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """Learn kinds and hidden words, and from the teacher what ``weights`` names.

    Labels of -100 are unknown: those texts give hidden words, and what the teacher says. The weight of ``"kd"`` is
    alpha, so the labels keep the rest. ``"triple"`` stands in the place of the masked words.
    """
    blocks = int(student.config.num_hidden_layers)
    words = words[:, : masked.shape[1]]  # batches of texts of similar length are cut, all but this
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        with watch_attention(student) as attention:
            output = student(masked, real, output_hidden_states=True)
        hidden = words != -100  # (B, L): only these go through the large decoder
        guessed = student.word_logits(output["last_hidden_state"][hidden])  # (hidden words, vocabulary)
        view = View(
            output, attention, taught.take(index, masked.shape[1]), real, words, guessed, teacher, projection, blocks
        )
        terms = {name: weight * TERMS[name](view) for name, weight in weights.items() if name != "triple"}
        if "triple" in weights:
            terms |= {f"triple {name}": weights["triple"] * term for name, term in _triple(view).items()}
        else:
            terms["words"] = WORDS_WEIGHT * _mean_cross_entropy(guessed, words[hidden])
    ce = _mean_cross_entropy(output.logits, labels, label_smoothing=label_smoothing)
    return terms | {"ce": (1 - weights.get("kd", 0.0)) * ce}


def _mean_cross_entropy(logits: Tensor, labels: Tensor, **settings: float) -> Tensor:
    """Mean over known labels; 0, and part of the graph, in a batch that has none."""
    total = F.cross_entropy(logits.float(), labels, reduction="sum", **settings)
    return total / max(1, int((labels != -100).sum()))
