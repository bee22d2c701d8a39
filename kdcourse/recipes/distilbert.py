"""DistilBERT's training: the student starts from the teacher's layers, then guesses hidden words beside the teacher.

Chapter 09.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Unpack

from torch import Tensor, nn

from ..data.masking import WordMasker
from ..data.masking import mask_words as mask_words  # notebooks of earlier imported it from here
from ..hashing import content_hash
from ..objectives import distilbert_objective
from ..training import History, TrainingOptions
from ..training.options import fit_with, takes_training_options
from .distillation import check_nothing_shared
from .student_layers import init_student_from_teacher


@takes_training_options(epochs=1, batch_size=32)
def distilbert(
    student: nn.Module,
    teacher: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    mask_id: int,
    vocabulary_size: int,
    special_ids: Collection[int] = (),
    probability: float = 0.15,
    initialize: bool = True,
    layer_map: Mapping[int, int] | None = None,
    temperature: float = 2.0,
    kd_weight: float = 5.0,
    mlm_weight: float = 2.0,
    cosine_weight: float = 1.0,
    **options: Unpack[TrainingOptions],
) -> History:
    """Distil a masked language model as DistilBERT was: layers copied, words hidden afresh in each batch, three terms.

    Parameters
    ----------
    student, teacher : nn.Module
        BERT-family masked language models of ``transformers``, equal in everything but depth. The student is trained
        in place, the teacher not changed.
    data : tuple of (input_ids, attention_mask)
        The tokenizer's, shape (N, L) each, on the device of both models.
    mask_id, vocabulary_size, special_ids, probability
        As in :func:`kdcourse.data.mask_words`.
    initialize : bool
        Copy the teacher's embeddings, blocks and head into the student first.
    layer_map : dict of int to int, optional
        Which blocks are copied, as in :func:`kdcourse.recipes.init_student_from_teacher`.
    temperature, kd_weight, mlm_weight, cosine_weight : float
        As in :func:`kdcourse.losses.distilbert_terms`.
    **options
        Any of :class:`kdcourse.training.TrainingOptions`. The seed also decides which words are hidden.

    Returns
    -------
    History
        With the terms ``kd``, ``mlm`` and ``cosine``, already weighted.

    Raises
    ------
    ValueError
        If the models share parameters or do not fit, the data are not two tensors of one shape, or a setting is out
        of range.

    Notes
    -----
    The teacher reads the masked text at every step, as the student does: its logits cannot be computed once.

    References
    ----------
    Sanh et al. (2019), DistilBERT, arXiv:1910.01108, sections 2 and 3.

    Examples
    --------
    >>> import torch
    >>> from transformers import BertConfig, BertForMaskedLM
    >>> tiny = {"vocab_size": 50, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    >>> teacher, student = (BertForMaskedLM(BertConfig(num_hidden_layers=n, **tiny)) for n in (4, 2))
    >>> data = torch.randint(5, 50, (4, 6)), torch.ones(4, 6, dtype=torch.long)
    >>> list(distilbert(student, teacher, data, mask_id=3, vocabulary_size=50, special_ids=[0, 1, 2]).terms)
    ['kd', 'mlm', 'cosine']
    """
    check_nothing_shared(student, teacher)
    if len(data) != 2:
        raise ValueError(f"data must be (input_ids, attention_mask), got {len(data)} tensors: words are hidden here.")
    if initialize:
        layer_map = init_student_from_teacher(student, teacher, layer_map)
    masker = WordMasker(data[0].device, options["seed"])
    triple = partial(
        distilbert_objective, teacher=teacher, temperature=temperature, kd_weight=kd_weight, mlm_weight=mlm_weight,
        cosine_weight=cosine_weight,
    )  # fmt: skip

    def objective(student: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        masked, labels = masker(
            input_ids, attention_mask, mask_id=mask_id, vocabulary_size=vocabulary_size, special_ids=special_ids,
            probability=probability,
        )  # fmt: skip
        return triple(student, masked, attention_mask, labels)

    return fit_with(
        options,
        student,
        data,
        objective,
        list(student.parameters()),
        parts={"masker": masker},
        settings={
            "temperature": temperature, "weights": f"{kd_weight:g} {mlm_weight:g} {cosine_weight:g}",
            "probability": probability, "layer_map": str(layer_map),
            "teacher": content_hash(teacher.state_dict()) if options["checkpoint"] else "",
        },
    )  # fmt: skip
