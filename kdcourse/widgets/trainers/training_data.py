"""Data of live trainers: checked, and cut to the images that they learn from and are measured on.

Chapters 02 and 07.
"""

from torch import Tensor, nn

from ...data.mnist import MNIST, Split
from ...training import predict_logits


def take_measured(data: MNIST, held_out: int) -> Split:
    """Return the first held-out images, those that errors are counted on while training.

    Parameters
    ----------
    data : MNIST
    held_out : int
        Count of images; all of them if there are fewer.

    Raises
    ------
    ValueError
        If the number is not positive, or the data lack a split or held-out images.
    """
    if held_out < 1:
        raise ValueError(f"held_out must be a positive number of images, got {held_out}.")
    if not all(hasattr(data, split) for split in ("train", "held_out", "test")):
        raise ValueError(f"data must have train, held_out and test, as load_mnist gives, got {type(data).__name__}.")
    if len(data.held_out.labels) == 0:
        raise ValueError("the data hold no held-out images to count errors on: load_mnist(held_out=5000).")
    return data.held_out.take(min(held_out, len(data.held_out.labels)))


def add_teacher_logits(
    student: nn.Module, teacher: nn.Module, data: MNIST, teacher_logits: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return training images, labels and the teacher's logits, aligned by sample.

    Parameters
    ----------
    student, teacher : nn.Module
        Not changed.
    data : MNIST
    teacher_logits : Tensor, shape (N, K), optional
        Logits for ``data.train``, if they are known already; by default they are computed here, once.

    Raises
    ------
    ValueError
        If there is not a row of logits per training image, or student and teacher have different classes.
    """
    images, labels = data.train
    if teacher_logits is not None and len(teacher_logits) != len(labels):
        raise ValueError(
            f"teacher_logits must have a row for each of the {len(labels)} training images, got "
            f"{len(teacher_logits)}. Row i of one belongs to image i of the other."
        )
    check_same_classes(student, teacher, names="student and teacher", images=images)
    if teacher_logits is None:
        teacher_logits = predict_logits(teacher, images)  # (N, K), once: nothing augments the images
    return images, labels, teacher_logits


def check_same_classes(one: nn.Module, other: nn.Module, *, names: str, images: Tensor) -> None:
    """Raise unless two models give logits of the same shape."""
    shapes = [tuple(predict_logits(model, images[:2]).shape) for model in (one, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{names} must have the same classes, got logits {shapes[0]} and {shapes[1]}.")
