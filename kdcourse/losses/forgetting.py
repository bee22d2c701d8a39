"""Learning without forgetting: a network's old answers as soft targets for its new self. Chapter 12.

Letters: B samples in a batch, K classes. A *head* is a group of classes with a softmax of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .._arguments import check_labels, check_same_shape
from .soft_targets import kd_loss

Heads = Sequence[Sequence[int]]


def lwf_loss(student_logits: Tensor, old_logits: Tensor, *, heads: Heads, temperature: float = 2.0) -> Tensor:
    r"""Return how far the student's answers on old classes are from those that it gave before.

    .. math:: \sum_h T^2 \, \mathrm{KL}\bigl(\mathrm{softmax}(z^{old}_h / T) \,\|\, \mathrm{softmax}(z_h / T)\bigr)

    Parameters
    ----------
    student_logits : Tensor, shape (B, K)
        Logits of the network that learns.
    old_logits : Tensor, shape (B, K)
        Logits of the same network before the new task, for the same images. A fixed target.
    heads : sequence of sequence of int
        Old classes, in groups h that have a softmax each: one group for each old task where the task is told, a single
        group where it is not. Classes that are in no group do not count.
    temperature : float
        T > 0.

    Returns
    -------
    Tensor, shape ()
        Sum over the groups of the mean over the batch.

    Raises
    ------
    ValueError
        If shapes differ, T is not positive, there is no group, a group has fewer than two classes, or a class is in two
        groups or in none of the K.

    Notes
    -----
    Implementations often take the cross-entropy without the factor :math:`T^2`, for example mammoth's ``Lwf``. The KL
    divergence has the same gradient, and the factor is the course's convention (chapter 02): at T = 2 a weight of 1
    here is a weight of 4 there. T = 2 is the default of Avalanche's ``LearningWithoutForgetting``.

    References
    ----------
    Li, Hoiem (2016), "Learning without forgetting", arXiv:1606.09282, section 3.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    >>> old_logits = torch.tensor([[2.0, 0.0, 9.0, 0.0]])
    >>> lwf_loss(logits, old_logits, heads=[(0, 1)]).item()  # nothing has changed between classes 0 and 1
    0.0
    >>> round(lwf_loss(logits, old_logits, heads=[(0, 1), (2, 3)]).item(), 3)
    2.531
    """
    check_same_shape(student_logits, old_logits)
    check_heads(heads, student_logits.shape[-1])
    groups = [torch.as_tensor(head, device=student_logits.device) for head in heads]
    terms = [kd_loss(student_logits[:, h], old_logits[:, h], temperature=temperature) for h in groups]
    return torch.stack(terms).sum()


def only_own_head(logits: Tensor, labels: Tensor, *, heads: Heads) -> Tensor:
    """Return logits in which each sample can only be taken for a class of its label's head.

    With a head for each task this is what a *task label* does: whoever asks says which task the image is from. With one
    head that holds every class, nothing changes.

    Parameters
    ----------
    logits : Tensor, shape (B, K)
    labels : Tensor of int, shape (B,)
        The label, of which only its head is used.
    heads : sequence of sequence of int
        Classes in groups.

    Returns
    -------
    Tensor, shape (B, K)
        Minus infinity outside the head.

    Raises
    ------
    ValueError
        If labels do not fit the logits, a group has fewer than two classes, or a class is in two groups.

    Examples
    --------
    >>> only_own_head(torch.zeros(2, 4), torch.tensor([1, 2]), heads=[(0, 1), (2, 3)])
    tensor([[0., 0., -inf, -inf],
            [-inf, -inf, 0., 0.]])
    """
    classes = logits.shape[-1]
    check_labels(labels, logits)
    check_heads(heads, classes)
    together = torch.zeros(classes, classes, dtype=torch.bool, device=logits.device)  # (K, K)
    for head in heads:
        group = torch.as_tensor(head, device=logits.device)
        together[group[:, None], group] = True
    return logits.masked_fill(~together[labels], -torch.inf)


def check_heads(heads: Heads, classes: int) -> None:
    """Raise unless heads are groups of two or more of the classes, and no class is in two of them.

    Examples
    --------
    >>> check_heads([(0, 1), (2, 3)], 10)
    """
    members = [member for head in heads for member in head]
    if not members or min(map(len, heads)) < 2:
        raise ValueError(
            f"each head needs two classes or more, and there must be one head or more, got {list(heads)}: a softmax "
            "over one class is always 1."
        )
    if len(set(members)) != len(members) or any(member not in range(classes) for member in members):
        raise ValueError(f"each of the {classes} classes may be in one head at most, got {list(heads)}.")
