"""Contrastive losses: pick the teacher's embedding of this sample from among those of others (InfoNCE).

Chapters 03 and 05. Letters: B batch, D embedding width.
"""

import math

import torch
from torch import Tensor, nn

from .._arguments import check_count, check_floating, check_one_per_sample, check_same_shape, check_temperature
from ._numerics import in_one_precision, unit
from ._precision import full_precision


class EmbeddingQueue(nn.Module):
    """The teacher's most recent embeddings, first in, first out: more negatives than one batch holds.

    Parameters
    ----------
    dim : int
        Width D of the embeddings.
    size : int
        Number of embeddings that are kept.

    Attributes
    ----------
    vectors : Tensor, shape (size, D)
        Unit vectors. Rows not yet filled are 0.
    labels : Tensor of int, shape (size,)
        Classes, -1 where none was given.
    count : Tensor, shape ()
        Number of embeddings pushed since the start. It stays on the device, because reading it makes a GPU wait.

    Raises
    ------
    ValueError
        If ``dim`` or ``size`` is not positive.

    References
    ----------
    He et al. (2020), Momentum Contrast, arXiv:1911.05722, section 3.2.

    Examples
    --------
    >>> queue = EmbeddingQueue(dim=2, size=3)
    >>> queue.push(torch.tensor([[3.0, 4.0]]))
    >>> queue.vectors[queue.filled]
    tensor([[0.6000, 0.8000]])
    """

    vectors: Tensor
    labels: Tensor
    count: Tensor

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        dim = check_count(dim, "dim", "It is the width of the embeddings.")
        size = check_count(size, "size", "It is the number of embeddings that the queue keeps.")
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @property
    def filled(self) -> Tensor:
        """Which rows hold an embedding: Tensor of bool, shape (size,)."""
        return torch.arange(len(self.vectors), device=self.count.device) < self.count

    @torch.no_grad()
    def push(self, embeddings: Tensor, labels: Tensor | None = None) -> None:
        """Add a batch in place of the oldest embeddings; in evaluation mode, do nothing.

        Push after the loss: a sample that is already in the queue would be its own negative.

        Parameters
        ----------
        embeddings : Tensor, shape (B, D)
            Embeddings, stored at unit length. Of a batch larger than the queue the last ones are kept.
        labels : Tensor of int, shape (B,), optional
            Classes, for a loss that leaves out negatives of the same class.

        Raises
        ------
        ValueError
            If the embeddings are not (B, D) with the queue's width, or there is not one label for each.
        """
        size, dim = self.vectors.shape
        check_floating(embeddings, "embeddings")
        if embeddings.dim() != 2 or embeddings.shape[1] != dim:
            raise ValueError(f"this queue holds embeddings of shape (B, {dim}), got {tuple(embeddings.shape)}.")
        if labels is not None:
            check_one_per_sample(labels, len(embeddings), "labels")
        if not self.training:
            return
        kept = min(len(embeddings), size)
        newest = torch.arange(len(embeddings) - kept, len(embeddings), device=self.count.device)  # (kept,)
        slots = (self.count + newest) % size  # (kept,) wraps around
        self.vectors[slots] = unit(embeddings[newest].to(self.vectors.dtype))
        self.labels[slots] = self.labels.new_full((kept,), -1) if labels is None else labels[newest].to(torch.long)
        self.count += len(embeddings)


@full_precision
def info_nce_loss(
    student_embeddings: Tensor,
    teacher_embeddings: Tensor,
    *,
    temperature: float | Tensor,
    labels: Tensor | None = None,
    queue: EmbeddingQueue | None = None,
    symmetric: bool = True,
) -> Tensor:
    r"""InfoNCE: pick the teacher's embedding of the same sample out of the batch.

    .. math:: -\frac1B \sum_i \log \frac{\exp(\langle s_i, t_i \rangle / \tau)}
              {\sum_{j} \exp(\langle s_i, t_j \rangle / \tau)}

    with s, t scaled to unit length and τ the temperature.

    Parameters
    ----------
    student_embeddings, teacher_embeddings : Tensor, shape (B, D)
        Embeddings of the same samples, B at least 2 unless there is a queue. If the widths differ, project the
        student: ``nn.Linear(student_dim, teacher_dim)``, trained with it. The teacher's side receives no gradient.
    temperature : float
        Positive number τ that divides the similarities; 0.07 to 0.5 is usual.
    labels : Tensor of int, shape (B,), optional
        Classes. With them, other samples of the same class do not count as negatives. Among ten equally frequent
        classes a tenth of all negatives would be false.
    queue : EmbeddingQueue, optional
        Further embeddings of the teacher, as negatives for the student's. The queue is only read.
    symmetric : bool
        Whether to average with the other direction, in which the teacher's embedding picks out the student's.

    Returns
    -------
    Tensor, shape ()
        Value in nats. It is above 0 even if student and teacher are equal, because other samples are never infinitely
        far away. It is log B if all embeddings are alike.

    Raises
    ------
    ValueError
        If the shapes differ, are not (B, D), the temperature is not positive and finite, there is not one label for
        each sample, or a batch of one has no queue.

    Notes
    -----
    With a queue this is the objective of momentum contrast, with the teacher in place of the slow encoder. CRD is
    another loss: its negatives come from a memory of the whole data set (``CRDLoss``).

    References
    ----------
    van den Oord et al. (2018), arXiv:1807.03748, equation 4. He et al. (2020), arXiv:1911.05722, equation 1.

    Examples
    --------
    >>> alike = torch.ones(4, 8)
    >>> info_nce_loss(alike, alike, temperature=0.1)  # four samples that nothing tells apart: log(4)
    tensor(1.3863)
    """
    check_same_shape(student_embeddings, teacher_embeddings, "embeddings")
    temperature = check_temperature(temperature)
    if student_embeddings.dim() != 2:
        raise ValueError(f"embeddings must have shape (B, D), got {tuple(student_embeddings.shape)}. Pool or flatten.")
    if labels is not None:
        check_one_per_sample(labels, len(student_embeddings), "labels")
    if queue is not None and not isinstance(queue, EmbeddingQueue):
        raise ValueError(f"queue must be an EmbeddingQueue, got {type(queue).__name__}.")
    if len(student_embeddings) == 1 and queue is None:
        raise ValueError("a batch of one has no negatives: give at least 2 samples, or a queue.")
    student, teacher = map(unit, in_one_precision(student_embeddings, teacher_embeddings))  # (B, D)
    similarity = student @ teacher.T / temperature  # (B, B) positives on the diagonal
    if labels is not None:
        other_class = labels.unsqueeze(1) != labels  # (B, B)
        itself = torch.eye(len(student), dtype=torch.bool, device=student.device)  # (B, B)
        similarity = similarity.masked_fill(~(other_class | itself), -math.inf)
    positives = similarity.diagonal()  # (B,)
    candidates = similarity if queue is None else _append_queue(similarity, student, temperature, labels, queue)
    loss = (candidates.logsumexp(dim=1) - positives).mean()
    if not symmetric:
        return loss
    return (loss + (similarity.logsumexp(dim=0) - positives).mean()) / 2


def _append_queue(
    similarity: Tensor, student: Tensor, temperature: float | Tensor, labels: Tensor | None, queue: EmbeddingQueue
) -> Tensor:
    """Put the similarities to the queue beside those to the batch: (B, B) -> (B, B + size)."""
    if student.shape[1] != queue.vectors.shape[1]:
        raise ValueError(f"the queue holds embeddings of width {queue.vectors.shape[1]}, got {student.shape[1]}.")
    usable = queue.filled  # (size,)
    if labels is not None:
        usable = usable & (labels.unsqueeze(1) != queue.labels)  # (B, size)
    # A copy: an objective pushes right after the loss, before the backward pass reads what was in the queue.
    extra = student @ queue.vectors.to(student.dtype, copy=True).T / temperature  # (B, size)
    return torch.cat([similarity, extra.masked_fill(~usable, -math.inf)], dim=1)  # (B, B + size)
