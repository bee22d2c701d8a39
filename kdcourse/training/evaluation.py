"""What a model predicts and how often it is right, without changing it. Chapters 01 and 13."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data.parts import IGNORED, Unpack, as_tensor, is_array, to_device, unpack_batch
from ..models.modes import evaluating
from ..models.outputs import Outputs, logits_of
from .devices import device_of
from .loop import check_same_device

AT_ONCE = 500  # images per forward pass


def predict_logits(
    model: Callable[..., Any],
    images: Any,
    *,
    batch_size: int = AT_ONCE,
    outputs: Outputs | None = None,
    unpack: Unpack | None = None,
) -> Tensor:
    """Return a model's logits for many images, in evaluation mode and without gradients; the mode is restored.

    Parameters
    ----------
    model : nn.Module, or function of a batch's inputs
        Model to ask; the mode of each of its modules is the same afterwards.
    images : Tensor or NumPy array, shape (N, ...); or a DataLoader, Dataset, or iterable of batches
        Of a loader the rows come in its order: with ``shuffle=True`` they belong to no order that can be known.
    batch_size : int
        Images per forward pass, for tensors and data sets. Many more are slower: a CNN's maps of 2,000 images leave the
        cache.
    outputs : str, int or callable, optional
        As in :func:`kdcourse.models.logits_of`.
    unpack : callable, optional
        As in :class:`kdcourse.training.TrainingOptions`.

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
    with evaluating(*_modules(model)):
        logits = [logits_of(model, batch[0], outputs=outputs) for batch in _batches(model, images, batch_size, unpack)]
    if not logits:
        raise ValueError("predict_logits needs at least one image, got none.")
    return torch.cat(logits)


def accuracy(
    model: Callable[..., Any],
    images: Any,
    labels: Tensor | None = None,
    *,
    batch_size: int = AT_ONCE,
    outputs: Outputs | None = None,
    unpack: Unpack | None = None,
) -> float:
    """Return the share of images whose largest logit is the label's, in [0, 1], over all images at once.

    Parameters
    ----------
    model : nn.Module
        Model to ask, in evaluation mode; its own mode is restored afterwards.
    images : Tensor, shape (N, ...); or a DataLoader, Dataset, or iterable of batches that have the labels too
    labels : Tensor of int, shape (N,), optional
        Not with a loader. In a loader's batches also tokens (B, L) or class maps (B, H, W), of which each position
        counts as one, and none whose label is -100.
    batch_size : int
        Images per forward pass; it does not change the result.
    outputs, unpack
        As in ``predict_logits``.

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
    >>> accuracy(nn.Identity(), DataLoader([(row, label) for row, label in zip(logits, labels)], batch_size=3))
    0.75
    """
    errors, count = _count(model, images, labels, batch_size, outputs, unpack)
    return 1 - errors / count


def count_errors(
    model: Callable[..., Any],
    images: Any,
    labels: Tensor | None = None,
    *,
    batch_size: int = AT_ONCE,
    outputs: Outputs | None = None,
    unpack: Unpack | None = None,
) -> int:
    """Count the images whose largest logit is not the label's; see ``accuracy``.

    Examples
    --------
    >>> count_errors(nn.Identity(), torch.eye(4), torch.tensor([0, 1, 2, 0]))
    1
    """
    return _count(model, images, labels, batch_size, outputs, unpack)[0]


def _count(
    model: Callable[..., Any],
    images: Any,
    labels: Tensor | None,
    batch_size: int,
    outputs: Outputs | None,
    unpack: Unpack | None,
) -> tuple[int, int]:
    """The wrong answers, and the labels that count."""
    if labels is not None:
        labels = as_tensor(labels)
        if tuple(labels.shape) != tuple(images.shape[:1]):
            raise ValueError(f"one label per image is needed, got {tuple(labels.shape)} for {len(images)} images.")
        logits = predict_logits(model, images, batch_size=batch_size, outputs=outputs)
        return int((logits.argmax(dim=-1) != labels).sum()), len(labels)
    if is_array(images):
        raise ValueError("images in memory need their labels: accuracy(model, images, labels).")
    errors, count = torch.zeros((), dtype=torch.long), torch.zeros((), dtype=torch.long)
    with evaluating(*_modules(model)):
        for inputs, truth, *_ in _batches(model, images, batch_size, unpack):
            logits = logits_of(model, inputs, outputs=outputs)
            tokens = truth.shape == logits.shape[:-1]
            chosen, counts = logits.argmax(dim=-1 if tokens else 1), truth != IGNORED
            if chosen.shape != truth.shape:
                raise ValueError(f"labels {tuple(truth.shape)} do not fit logits {tuple(logits.shape)}.")
            errors, count = errors + ((chosen != truth) & counts).sum().cpu(), count + counts.sum().cpu()
    if not count:
        raise ValueError("there is no label to compare with: the loader gave none that counts.")
    return int(errors), int(count)


def _batches(model: Any, images: Any, batch_size: int, unpack: Unpack | None) -> Iterator[tuple[Any, ...]]:
    """Yield tuples of parts: slices of a tensor, or the batches of a loader on the model's device."""
    if is_array(images):
        images = as_tensor(images)
        if isinstance(model, nn.Module) and len(images):
            check_same_device(model, images)
        yield from ((part,) for part in images.split(batch_size) if len(part))
        return
    loader = DataLoader(images, batch_size=batch_size) if isinstance(images, Dataset) else images
    device = device_of(model) if isinstance(model, nn.Module) else "cpu"
    for batch in loader:
        yield tuple(to_device((unpack or unpack_batch)(batch), device))


def _modules(model: Any) -> list[nn.Module]:
    return [model] if isinstance(model, nn.Module) else []
