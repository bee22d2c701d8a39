"""What a model predicts and how often it is right, without changing it. Chapter 01."""

import torch
from torch import Tensor, nn

from ..models.modes import evaluating
from .loop import check_same_device


def predict_logits(model: nn.Module, images: Tensor, *, batch_size: int = 2000) -> Tensor:
    """Return a model's logits for many images, in evaluation mode and without gradients; the mode is restored.

    Parameters
    ----------
    model : nn.Module
        Model to ask; the mode of each of its modules is the same afterwards.
    images : Tensor, shape (N, ...)
    batch_size : int
        Images per forward pass.

    Returns
    -------
    Tensor, shape (N, K)
        Row i belongs to image i: aligned with ``images``, so that it can be batched beside them.

    Raises
    ------
    ValueError
        If there are no images, or they are on another device than the model.

    Examples
    --------
    >>> predict_logits(nn.Linear(3, 10), torch.rand(5, 3), batch_size=2).shape
    torch.Size([5, 10])
    """
    if len(images) == 0:
        raise ValueError("predict_logits needs at least one image, got none.")
    check_same_device(model, images)
    with evaluating(model):
        return torch.cat([model(part) for part in images.split(batch_size)])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 2000) -> float:
    """Return the share of images whose largest logit is the label's, in [0, 1], over all images at once.

    Parameters
    ----------
    model : nn.Module
        Model to ask, in evaluation mode; its own mode is restored afterwards.
    images : Tensor, shape (N, ...)
    labels : Tensor of int, shape (N,)
    batch_size : int
        Images per forward pass; it does not change the result.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no images or another number of labels.

    Examples
    --------
    >>> logits, labels = torch.eye(4), torch.tensor([0, 1, 2, 0])
    >>> accuracy(nn.Identity(), logits, labels)
    0.75
    """
    return 1 - count_errors(model, images, labels, batch_size=batch_size) / len(labels)


def count_errors(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 2000) -> int:
    """Count the images whose largest logit is not the label's; see ``accuracy``.

    Examples
    --------
    >>> count_errors(nn.Identity(), torch.eye(4), torch.tensor([0, 1, 2, 0]))
    1
    """
    if labels.shape != images.shape[:1]:
        raise ValueError(f"one label per image is needed, got {tuple(labels.shape)} for {len(images)} images.")
    return int((predict_logits(model, images, batch_size=batch_size).argmax(dim=-1) != labels).sum())
