"""Contrastive representation distillation: a memory of the whole data set on both sides (CRD).

Chapter 05. Letters: B batch, D embedding width; as in the paper, M samples of the data set and N negatives of a step.
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._arguments import can_look, check_count, check_number, check_one_per_sample, check_same_batch, check_temperature
from ._numerics import unit
from ._precision import fit_to_layer, full_precision


class CRDLoss(nn.Module):
    r"""Contrastive representation distillation: noise-contrastive estimation against a memory of the data set.

    Heads project student and teacher to unit vectors in one space. Two memories hold, for each sample, a running
    average of its vector in the student's and in the teacher's space. Each network's vector of a sample is compared
    with the other network's vector of the same sample, and with its memory of samples of *other* classes:

    .. math:: L = \sum_{\text{2 directions}} -\frac1B \sum_i \Big[ \log h(x_i, y_i) +
              \sum_{j=1}^{N} \log\big(1 - h(x_i, m_{ij})\big) \Big], \qquad
              h(x, y) = \frac{e^{\langle x, y\rangle / \tau} / Z}{e^{\langle x, y\rangle / \tau} / Z + N / M}

    Both heads are learned: give the optimizer ``crd.parameters()`` beside the student's.

    Parameters
    ----------
    student_dim, teacher_dim : int
        Widths of the embeddings that are passed in.
    num_samples : int
        Size M of the data set that ``index`` counts.
    embedding_dim : int
        Width D of the common space.
    num_negatives : int
        Number N of negatives. The paper takes 16,384 on ImageNet and CIFAR; small data sets need fewer.
    temperature : float
        Positive number τ that divides the similarities.
    momentum : float
        Share of the old vector when a memory is refreshed, in [0, 1).
    generator : torch.Generator, optional
        Source of the memories' start and of the negatives. By default the loss has its own, seeded from torch's
        global generator when the loss is made, and saved in ``state_dict()``.

    Attributes
    ----------
    student_memory, teacher_memory : Tensor, shape (M, D)
        Unit vectors.
    labels : Tensor of int, shape (M,)
        Class of each sample seen so far, else -1. The memory of a sample not seen yet is noise, so it is a fair
        negative for every class.
    log_normalizers : Tensor, shape (2,)
        Logarithms of Z / M of both directions, fixed by the first batch in training mode.

    Raises
    ------
    ValueError
        If a size is not positive, the temperature is not positive and finite, or the momentum is not in [0, 1).

    Notes
    -----
    Where we leave the paper and its published code:

    - The N negatives are drawn once for the batch, not anew for each sample: N·D numbers a direction instead of
      B·N·D, which is half a gigabyte for 64 samples at the paper's settings. A sample's negatives of its own class
      are left out, and its sum over the others is scaled up to N of them; the expectation is the same.
    - The positive is the other network's vector of this batch, as in the paper's equation, held constant like a
      memory. The code reads it from the memory, which is noise until a sample was seen once. This has a
      price, because the positive is newer than the negatives. In chapter 05 features that lie in one corner, as they
      do behind a ReLU, drift together until all vectors are alike. Subtract the mean of the features first.
    - The paper's h has no Z. It comes from the authors' code, which sets it once, from the first batch, as we do.
    - h is evaluated in log space. It cannot overflow at small τ.

    Memories, labels and Z change in training mode only, and no value is ever read back from the device.
    The usual weight is 0.8.

    References
    ----------
    Tian, Krishnan, Isola (2020), Contrastive Representation Distillation, arXiv:1910.10699, section 3 and
    equation 19.

    Examples
    --------
    >>> crd = CRDLoss(16, 32, num_samples=100, num_negatives=20)
    >>> loss = crd(torch.rand(4, 16), torch.rand(4, 32), index=torch.arange(4))
    >>> loss.shape, crd.teacher_memory.shape
    (torch.Size([]), torch.Size([100, 128]))
    >>> bool(torch.isclose(crd.teacher_memory.norm(dim=1), torch.ones(100)).all())  # unit vectors, from the start
    True
    """

    student_memory: Tensor
    teacher_memory: Tensor
    labels: Tensor
    log_normalizers: Tensor

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_samples: int,
        *,
        embedding_dim: int = 128,
        num_negatives: int = 4096,
        temperature: float = 0.07,
        momentum: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        student_dim = check_count(student_dim, "student_dim", "It is the width of the student's embeddings.")
        teacher_dim = check_count(teacher_dim, "teacher_dim", "It is the width of the teacher's embeddings.")
        num_samples = check_count(num_samples, "num_samples", "It is the size of the data set: one memory per sample.")
        embedding_dim = check_count(embedding_dim, "embedding_dim", "It is the width of the common space.")
        num_negatives = check_count(num_negatives, "num_negatives", "Without negatives there is nothing to contrast.")
        self.num_negatives, self.temperature = num_negatives, check_temperature(temperature)
        self.momentum = check_number(momentum, "momentum")
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"momentum must be in [0, 1), got {momentum}. It is the share of the old vector that a memory keeps: "
                "at 1 the memories would stay the noise that they start as."
            )
        self.generator = generator or torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self.student_head = nn.Linear(student_dim, embedding_dim)
        self.teacher_head = nn.Linear(teacher_dim, embedding_dim)
        for name in ("student_memory", "teacher_memory"):
            noise = torch.randn(num_samples, embedding_dim, generator=self.generator, device=self.generator.device)
            self.register_buffer(name, unit(noise).cpu())
        self.register_buffer("labels", torch.full((num_samples,), -1))
        self.register_buffer("log_normalizers", torch.zeros(2))
        self.normalized = False

    def forward(
        self, student_embeddings: Tensor, teacher_embeddings: Tensor, index: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Compare a batch with the memories, then refresh the batch's rows in them.

        Parameters
        ----------
        student_embeddings : Tensor, shape (B, student_dim)
            Input of the last linear layer, usually.
        teacher_embeddings : Tensor, shape (B, teacher_dim)
            Embeddings of the same samples. They receive no gradient; the teacher's head does.
        index : Tensor of int, shape (B,)
            Number of each sample in the data set, in [0, M).
        labels : Tensor of int, shape (B,), optional
            Classes. Without them a sample's negatives leave out only the sample itself.

        Returns
        -------
        Tensor, shape ()
            Sum of both directions, in nats.

        Raises
        ------
        ValueError
            If batch sizes or widths do not fit, or ``index`` is not one integer in [0, M) for each sample.
        """
        self._check_input(student_embeddings, teacher_embeddings, index, labels)
        index = index.long()  # a tensor of uint8 would be taken for a mask of the memories' rows
        student, teacher = (
            head(fit_to_layer(embeddings, head))  # (B, D)
            for head, embeddings in (
                (self.student_head, student_embeddings),
                (self.teacher_head, teacher_embeddings.detach()),
            )
        )
        return self._compare(student, teacher, index, labels)

    @full_precision
    def _compare(self, student: Tensor, teacher: Tensor, index: Tensor, labels: Tensor | None) -> Tensor:
        student, teacher = unit(student), unit(teacher)  # (B, D)
        drawn = self._draw().to(index.device, non_blocking=True)  # (N,) a blocking copy would wait for a GPU
        valid = index.unsqueeze(1) != drawn  # (B, N) a sample is not its own negative
        if labels is not None:
            valid &= labels.unsqueeze(1) != self.labels[drawn]  # (B, N) nor is one of its class
        # The negatives that remain are scaled up, so that together they weigh as much as N.
        weights = valid.to(student.dtype)  # (B, N)
        weights = weights * (self.num_negatives / weights.sum(dim=1, keepdim=True).clamp(min=1))  # (B, N)
        scores = [
            self._scores(student, teacher, self.teacher_memory[drawn]),
            self._scores(teacher, student, self.student_memory[drawn]),
        ]
        log_normalizers = self.log_normalizers
        if not self.normalized:
            log_normalizers = torch.stack([_log_mean_exp(*pair, weights) for pair in scores])  # (2,)
        if self.training:
            self._remember(student.detach(), teacher.detach(), index, labels, log_normalizers)
        loss = student.new_zeros(())
        for (positive, negative), log_normalizer in zip(scores, log_normalizers, strict=True):
            offset = log_normalizer + math.log(self.num_negatives)
            # h is the sigmoid of score - offset, so -log h and -log(1 - h) are softplus.
            against_noise = (weights * F.softplus(negative - offset)).sum(dim=1)  # (B,)
            loss = loss + (F.softplus(offset - positive) + against_noise).mean()
        return loss

    def _draw(self) -> Tensor:
        """Draw N rows of the memories, with replacement."""
        # From a copy in evaluation mode: evaluating the loss must not change the training that follows.
        generator = self.generator if self.training else copy.deepcopy(self.generator)
        return torch.randint(len(self.labels), (self.num_negatives,), generator=generator, device=generator.device)

    def _scores(self, anchors: Tensor, partners: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities over τ to the positives, shape (B,), and to the negatives, shape (B, N)."""
        positive = (anchors * partners.detach()).sum(dim=1) / self.temperature  # (B,)
        return positive, anchors @ negatives.to(anchors.dtype).T / self.temperature

    @torch.no_grad()
    def _remember(
        self, student: Tensor, teacher: Tensor, index: Tensor, labels: Tensor | None, log_normalizers: Tensor
    ) -> None:
        for memory, vectors in ((self.student_memory, student), (self.teacher_memory, teacher)):
            blend = self.momentum * memory[index] + (1 - self.momentum) * vectors  # (B, D)
            memory[index] = unit(blend).to(memory.dtype)
        if labels is not None:
            self.labels[index] = labels.to(self.labels.dtype)
        self.log_normalizers.copy_(log_normalizers)
        self.normalized = True

    def get_extra_state(self) -> dict[str, object]:
        """Return what is not a buffer: the generator's state, so that a resumed run draws the same negatives."""
        return {"generator": self.generator.get_state(), "normalized": self.normalized}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue from what ``get_extra_state`` returned."""
        self.generator.set_state(state["generator"].cpu())
        self.normalized = state["normalized"]

    def _check_input(
        self, student_embeddings: Tensor, teacher_embeddings: Tensor, index: Tensor, labels: Tensor | None
    ) -> None:
        check_same_batch(student_embeddings, teacher_embeddings, "embeddings")
        heads = {"student": (student_embeddings, self.student_head), "teacher": (teacher_embeddings, self.teacher_head)}
        for name, (embeddings, head) in heads.items():
            if embeddings.dim() != 2 or embeddings.shape[1] != head.in_features:
                raise ValueError(
                    f"{name} embeddings must have shape (B, {head.in_features}), as this loss was made for, got "
                    f"{tuple(embeddings.shape)}. Pool or flatten feature maps first."
                )
        check_one_per_sample(index, len(student_embeddings), "index")
        if labels is not None:
            check_one_per_sample(labels, len(student_embeddings), "labels")
        if can_look(index) and not bool(((index >= 0) & (index < len(self.labels))).all()):
            raise ValueError(
                f"index must be in [0, {len(self.labels)}), got {index.min().item()} to {index.max().item()}. It is "
                "the sample's number in the data set, not in the batch: the memories have one row for each."
            )


def _log_mean_exp(positive: Tensor, negative: Tensor, weights: Tensor) -> Tensor:
    """Log of the mean of exp(score) over the batch's positives and weighted negatives, as a constant."""
    scores = torch.cat([positive.unsqueeze(1), negative + weights.log()], dim=1).detach()  # (B, 1 + N)
    return scores.logsumexp(dim=(0, 1)) - math.log(scores.numel())
