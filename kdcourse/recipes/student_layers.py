"""A student that starts from its teacher's layers, for models built like BERT. Chapter 09.

Works on the names of the modules of ``transformers``' BertForMaskedLM and DistilBertForMaskedLM, and does not import
it.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..losses import map_layers


@torch.no_grad()
def init_student_from_teacher(
    student: nn.Module, teacher: nn.Module, layer_map: Mapping[int, int] | None = None
) -> dict[int, int]:
    """Copy the teacher's embeddings, some of its blocks and its masked-word head into a shallower student.

    Parameters
    ----------
    student, teacher : nn.Module
        BERT-family models of ``transformers``, such as ``DistilBertForMaskedLM`` and ``BertForMaskedLM``, equal in
        everything but depth. The student changes in place.
    layer_map : dict of int to int, optional
        Student block to teacher block, counted from 1; :func:`kdcourse.losses.map_layers` if not given.

    Returns
    -------
    dict of int to int
        The map that was used.

    Raises
    ------
    ValueError
        If a model has no BERT-like blocks, the map does not name each student block once or names a teacher block
        that does not exist, or widths, vocabulary, positions, heads or tying of embeddings differ. Nothing is copied
        then.

    Notes
    -----
    DistilBERT has no token-type embeddings. They are not just dropped: the teacher's row for type 0, which BERT adds
    to every token of a single text, is added to the student's positions instead. A student of full depth then gives
    the teacher's outputs exactly. In the other direction the student's token types become 0. A head that the teacher
    lacks, such as a new classifier, stays as it is.

    DistilBERT was trained from teacher blocks 1, 3, 5, 8, 10 and 12 of 12; for that, give
    ``dict(zip(range(1, 7), [1, 3, 5, 8, 10, 12]))``.

    References
    ----------
    Sanh et al. (2019), arXiv:1910.01108, section 3.

    Examples
    --------
    >>> from transformers import BertConfig, BertForMaskedLM
    >>> tiny = {"vocab_size": 50, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    >>> teacher, student = (BertForMaskedLM(BertConfig(num_hidden_layers=n, **tiny)) for n in (4, 2))
    >>> init_student_from_teacher(student, teacher)
    {1: 2, 2: 4}
    """
    theirs, ours = _bert_parameters(teacher, "teacher"), _bert_parameters(student, "student")
    depths = _count_blocks(ours), _count_blocks(theirs)
    layer_map = map_layers(*depths) if layer_map is None else dict(layer_map)
    _check_layer_map(layer_map, *depths)
    _check_heads(student, teacher)

    sources = dict(theirs)
    if _TOKEN_TYPES in theirs and _TOKEN_TYPES not in ours:
        sources[_POSITIONS] = theirs[_POSITIONS] + theirs[_TOKEN_TYPES][0]  # (positions, D)
    elif _TOKEN_TYPES in ours and _TOKEN_TYPES not in theirs:
        sources[_TOKEN_TYPES] = torch.zeros_like(ours[_TOKEN_TYPES])

    copies: dict[Tensor, Tensor] = {}
    for name, parameter in ours.items():
        origin = _BLOCK.sub(lambda match: f"encoder.layer.{layer_map[int(match[1]) + 1] - 1}.", name)
        if origin not in sources:
            if name.startswith(("embeddings.", "encoder.")):
                raise ValueError(f"the student has {name}, the teacher has no {origin}: they are not of one family.")
            continue
        source = sources[origin]
        if source.shape != parameter.shape:
            raise ValueError(
                f"{name} has shape {tuple(parameter.shape)} in the student and {tuple(source.shape)} in the teacher. "
                "Weights can be copied only between equal widths, vocabularies and numbers of positions: make the "
                "student shallower, not narrower, or train it from scratch with a HiddenProjection."
            )
        if parameter in copies and not torch.equal(copies[parameter], source):
            raise ValueError(
                f"the student ties {name} to another weight, the teacher does not: one of the two would be lost. "
                "Set tie_word_embeddings alike in both configurations."
            )
        copies[parameter] = source
    for parameter, source in copies.items():
        parameter.copy_(source)
    return layer_map


_TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.")

# DistilBERT's names for what BERT has, after the model's own prefix is gone
_BERT_NAMES = {
    "transformer.layer.": "encoder.layer.",
    ".attention.q_lin.": ".attention.self.query.",
    ".attention.k_lin.": ".attention.self.key.",
    ".attention.v_lin.": ".attention.self.value.",
    ".attention.out_lin.": ".attention.output.dense.",
    ".sa_layer_norm.": ".attention.output.LayerNorm.",
    ".ffn.lin1.": ".intermediate.dense.",
    ".ffn.lin2.": ".output.dense.",
    ".output_layer_norm.": ".output.LayerNorm.",
    "vocab_transform.": "cls.predictions.transform.dense.",
    "vocab_layer_norm.": "cls.predictions.transform.LayerNorm.",
    "vocab_projector.": "cls.predictions.decoder.",
}


def _bert_parameters(model: nn.Module, side: str) -> dict[str, Tensor]:
    """Parameters under the names that BERT gives them, a tied one under each of its names."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    parameters: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        name = name.removeprefix(prefix)
        for distilbert, bert in _BERT_NAMES.items():
            name = name.replace(distilbert, bert)
        parameters[name] = parameter
    if not _count_blocks(parameters):
        raise ValueError(
            f"the {side}, a {type(model).__name__}, has no blocks named encoder.layer.N or transformer.layer.N: only "
            "models built like BERT or DistilBERT can be copied block by block."
        )
    return parameters


def _count_blocks(parameters: Mapping[str, Tensor]) -> int:
    return len({match[1] for match in map(_BLOCK.match, parameters) if match})


def _check_layer_map(layer_map: Mapping[int, int], student_depth: int, teacher_depth: int) -> None:
    if set(layer_map) != set(range(1, student_depth + 1)):
        raise ValueError(
            f"layer_map must name each of the student's {student_depth} blocks once, counted from 1, got "
            f"{sorted(layer_map)}. A block left out would start at random among trained ones."
        )
    wrong = [block for block in layer_map.values() if not 1 <= block <= teacher_depth]
    if wrong:
        raise ValueError(f"layer_map names teacher block {wrong[0]}, but its blocks are 1 to {teacher_depth}.")


def _check_heads(student: nn.Module, teacher: nn.Module) -> None:
    ours, theirs = (getattr(model.config, "num_attention_heads", None) for model in (student, teacher))
    if ours != theirs:
        raise ValueError(
            f"the student has {ours} attention heads, the teacher {theirs}: the weights have equal shapes, but each "
            "head would read a different slice of them."
        )
