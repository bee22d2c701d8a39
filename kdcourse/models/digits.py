"""Teachers and students of the course: every model takes images (B, 1, 28, 28) and returns logits (B, 10).

Chapters 01 to 03.
"""

from collections import OrderedDict
from itertools import pairwise

from torch import nn


def make_mlp(*hidden: int, dropout: float = 0.0, input_dropout: float = 0.0) -> nn.Sequential:
    """Build a fully connected classifier of digits.

    Parameters
    ----------
    *hidden : int
        Units of each hidden layer, from the input on.
    dropout : float
        Share of hidden units dropped in training.
    input_dropout : float
        Share of pixels dropped in training.

    Returns
    -------
    nn.Sequential
        Images (B, 1, 28, 28) to logits (B, 10); flattening is part of the model.

    Raises
    ------
    ValueError
        If a width is not positive or a dropout share is not in [0, 1).

    Examples
    --------
    >>> import torch
    >>> make_mlp(32, dropout=0.5)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if any(width < 1 for width in hidden):
        raise ValueError(f"hidden layers need a positive number of units, got {hidden}.")
    for name, share in (("dropout", dropout), ("input_dropout", input_dropout)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be in [0, 1), got {share}: at 1 nothing passes.")
    layers: list[nn.Module] = [nn.Flatten()]
    if input_dropout:
        layers.append(nn.Dropout(input_dropout))
    widths = [784, *hidden]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def make_teacher_mlp() -> nn.Sequential:
    """Build the source text's teacher, 784-1024-512-256-10 with dropout .3 after the first two layers.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in make_teacher_mlp().parameters())
    1462538
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 1024), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(512, 256), nn.ReLU(),
        nn.Linear(256, 10),
    )  # fmt: skip


def make_student_mlp() -> nn.Sequential:
    """Build the source text's student, 784-128-10.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in make_student_mlp().parameters())
    101770
    """
    return make_mlp(128)


def make_hinton_teacher() -> nn.Sequential:
    """Build Hinton's MNIST teacher, two hidden layers of 1200 with dropout.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 3.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in make_hinton_teacher().parameters())
    2395210
    """
    return make_mlp(1200, 1200, dropout=0.3, input_dropout=0.1)


def make_hinton_student(hidden: int = 800) -> nn.Sequential:
    """Build Hinton's MNIST student, two hidden layers of 800 without any regularisation; or of another width.

    Examples
    --------
    >>> [tuple(layer.weight.shape) for layer in make_hinton_student(30) if isinstance(layer, nn.Linear)]
    [(30, 784), (30, 30), (10, 30)]
    """
    return make_mlp(hidden, hidden)


def make_cnn(*channels: int) -> nn.Sequential:
    """Build a convolutional classifier with named stages, ``stage1`` … ``stageN`` and ``head``.

    Each stage is convolution 3×3, batch normalisation, ReLU twice; every stage but the first halves height and
    width, so features are (B, C, 28, 28), (B, C, 14, 14), (B, C, 7, 7) and so on.

    Parameters
    ----------
    *channels : int
        Output channels of each stage, one to four stages.

    Returns
    -------
    nn.Sequential
        Images (B, 1, 28, 28) to logits (B, 10).

    Raises
    ------
    ValueError
        If there are no stages, more than four, or a width is not positive.

    Examples
    --------
    >>> import torch
    >>> model = make_cnn(4, 8)
    >>> [name for name, _ in model.named_children()], model(torch.rand(2, 1, 28, 28)).shape
    (['stage1', 'stage2', 'head'], torch.Size([2, 10]))
    """
    if not 1 <= len(channels) <= 4 or any(width < 1 for width in channels):
        raise ValueError(f"a CNN needs one to four stages of positive width, got {channels}: 28 pixels halve thrice.")
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    before = 1
    for number, width in enumerate(channels, start=1):
        stages[f"stage{number}"] = _make_stage(before, width, stride=1 if number == 1 else 2)
        before = width
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))
    return nn.Sequential(OrderedDict(**stages, head=head))


def make_teacher_cnn() -> nn.Sequential:
    """Build the course's CNN teacher: stages of 16, 32 and 64 channels, small enough to run live on a laptop.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in make_teacher_cnn().parameters())
    72666
    """
    return make_cnn(16, 32, 64)


def make_student_cnn() -> nn.Sequential:
    """Build the course's CNN student: stages of 4, 8 and 16 channels.

    Examples
    --------
    >>> [name for name, _ in make_student_cnn().named_children()]
    ['stage1', 'stage2', 'stage3', 'head']
    """
    return make_cnn(4, 8, 16)


def _make_stage(before: int, after: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
