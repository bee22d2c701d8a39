"""Distilling a writer: on given texts, on the teacher's texts, and on the student's own (on-policy). Chapter 11."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import generalized_jsd_loss
from ..models.writer import Texts, next_tokens, write
from ..training import Objective


def text_objective(student: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    """Cross-entropy of the next token on given texts: supervised learning, or sequence-level distillation.

    Parameters
    ----------
    student : nn.Module
        Returns an output with ``.logits`` (B, L, V).
    input_ids, attention_mask : Tensor, shape (B, L)

    Returns
    -------
    dict
        ``ce``, a mean over the real tokens of the batch, in nats.

    References
    ----------
    Kim, Rush (2016), Sequence-Level Knowledge Distillation, arXiv:1606.07947, where the texts are the teacher's.

    Examples
    --------
    >>> from kdcourse.models.writer import make_writer, write
    >>> student = make_writer(layers=1, width=16)
    >>> list(text_objective(student, *write(student, torch.tensor([0, 1]), max_length=4)))
    ['ce']
    """
    tokens, real = next_tokens(input_ids, attention_mask)
    return {"ce": F.cross_entropy(_logits(student, input_ids, attention_mask)[real], tokens[real])}


def make_writer_objective(teacher: nn.Module, *, beta: float = 0.0, temperature: float = 1.0) -> Objective:
    """Build an objective that compares student and teacher token by token, whoever wrote the texts.

    Parameters
    ----------
    teacher : nn.Module
        Frozen, with the student's vocabulary.
    beta : float
        0 is forward KL, 1 reverse KL, in between the generalised Jensen-Shannon divergence.
    temperature : float
        T of both sides.

    Returns
    -------
    callable
        ``objective(student, input_ids, attention_mask)``. Its term ``kd`` is a mean over the real tokens of the batch.

    Raises
    ------
    ValueError
        When it is called, if the vocabularies differ in size.

    References
    ----------
    Agarwal et al. (2024), arXiv:2306.13649, section 3: no gradient flows through the sampling.

    Examples
    --------
    >>> from kdcourse.models.writer import make_writer, write
    >>> student, teacher = make_writer(layers=1, width=16), make_writer(layers=1, width=32)
    >>> objective = make_writer_objective(teacher, beta=1)
    >>> list(objective(student, *write(student, torch.tensor([0, 1]), max_length=4)))
    ['kd']
    """

    def objective(student: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        _, real = next_tokens(input_ids, attention_mask)
        with torch.no_grad():
            teacher_logits = _logits(teacher, input_ids, attention_mask)[real]  # (real tokens, V)
        student_logits = _logits(student, input_ids, attention_mask)[real]  # (real tokens, V)
        student_size, teacher_size = student_logits.shape[-1], teacher_logits.shape[-1]
        if student_size != teacher_size:
            raise ValueError(
                f"student and teacher need one vocabulary, got {student_size} and {teacher_size} tokens: the same "
                "number means another token on the other side."
            )
        return {"kd": generalized_jsd_loss(student_logits, teacher_logits, beta=beta, temperature=temperature)}

    return objective


class WrittenTexts:
    """Batches that a writer writes while it is trained: give it the student, and training is on-policy.

    Each batch is written when it is asked for, by the writer as it is then.

    Parameters
    ----------
    writer : transformers.GPT2LMHeadModel
        The student; or the teacher, for sequence-level distillation.
    kinds : Tensor of int64, shape (N,)
        Kinds of the training texts: prompts are drawn from them, with replacement.
    steps, batch_size, max_length : int
    seed : int
        Seeds prompts and draws.

    Raises
    ------
    ValueError
        If there are no kinds, or a number is not positive.

    Examples
    --------
    >>> from kdcourse.models.writer import make_writer
    >>> student = make_writer(layers=1, width=16)
    >>> batches = WrittenTexts(student, torch.tensor([0, 1, 1]), steps=2, batch_size=3, max_length=4)
    >>> [len(input_ids) for input_ids, attention_mask in batches]
    [3, 3]
    """

    def __init__(
        self, writer: Any, kinds: Tensor, *, steps: int, batch_size: int = 64, max_length: int = 32, seed: int = 0
    ) -> None:
        if len(kinds) == 0 or steps < 1 or batch_size < 1:
            raise ValueError(
                f"a batch needs kinds to write about, and positive steps and batch_size, got {len(kinds)} kinds, "
                f"steps={steps}, batch_size={batch_size}."
            )
        self.writer, self.kinds, self.steps = writer, kinds, steps
        self.batch_size, self.max_length, self.seed = batch_size, max_length, seed

    def __len__(self) -> int:
        """Number of batches."""
        return self.steps

    def __iter__(self) -> Iterator[Texts]:
        """Yield ``input_ids`` and ``attention_mask`` of each batch."""
        generator = torch.Generator(self.kinds.device).manual_seed(self.seed)
        for _ in range(self.steps):
            drawn = torch.randint(len(self.kinds), (self.batch_size,), generator=generator, device=self.kinds.device)
            yield write(self.writer, self.kinds[drawn], max_length=self.max_length, generator=generator)


def _logits(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Logits for the next token at every place but the last: (B, L - 1, V)."""
    return model(input_ids[:, :-1], attention_mask=attention_mask[:, :-1]).logits
