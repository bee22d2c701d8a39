"""Teachers and students of the course, and ``capture``, which reads the features of any model.

Chapters 01 to 03. Every model takes images (B, 1, 28, 28) and returns logits (B, 10).
"""

import difflib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from torch import Tensor, nn


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
    """Build the source text's teacher, 784-1024-512-256-10 with dropout .3 after the first two layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 1024), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(512, 256), nn.ReLU(),
        nn.Linear(256, 10),
    )  # fmt: skip


def make_student_mlp() -> nn.Sequential:
    """Build the source text's student, 784-128-10."""
    return make_mlp(128)


def make_hinton_teacher() -> nn.Sequential:
    """Build Hinton's MNIST teacher, two hidden layers of 1200 with dropout.

    References
    ----------
    Hinton, Vinyals, Dean (2015), arXiv:1503.02531, section 3.
    """
    return make_mlp(1200, 1200, dropout=0.3, input_dropout=0.1)


def make_hinton_student(hidden: int = 800) -> nn.Sequential:
    """Build Hinton's MNIST student, two hidden layers of 800 without any regularisation; or of another width."""
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
    """Build the course's CNN teacher: stages of 16, 32 and 64 channels, small enough to run live on a laptop."""
    return make_cnn(16, 32, 64)


def make_student_cnn() -> nn.Sequential:
    """Build the course's CNN student: stages of 4, 8 and 16 channels."""
    return make_cnn(4, 8, 16)


def count_parameters(model: nn.Module) -> int:
    """Return the number of weights and biases."""
    return sum(parameter.numel() for parameter in model.parameters())


def size_in_bytes(model: nn.Module) -> int:
    """Return the bytes that parameters and buffers take as they are stored now."""
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])


@contextmanager
def capture(model: nn.Module, *layers: str) -> Iterator[dict[str, Tensor]]:
    """Read the outputs of named layers while a model runs, and leave no hook behind.

    Parameters
    ----------
    model : nn.Module
        Any model; it is not changed.
    *layers : str
        Names as in ``model.named_modules()``, such as ``"stage1"`` or ``"stage1.3"``.

    Yields
    ------
    dict from str to Tensor
        Filled by each forward pass, emptied at the start of the next. Tensors keep their graph, so a loss on them
        trains the model. They are copies, which a following in-place operation cannot rewrite. A layer that runs
        several times in one pass leaves its last output.

    Raises
    ------
    ValueError
        If no layers are named, a name is unknown (near matches are listed), the model is wrapped in
        ``nn.DataParallel`` (its replicas would overwrite one another), or a layer's output is not a tensor.

    Examples
    --------
    >>> import torch
    >>> model = make_student_cnn()
    >>> with capture(model, "stage2") as features:
    ...     logits = model(torch.rand(4, 1, 28, 28))
    >>> features["stage2"].shape
    torch.Size([4, 8, 14, 14])
    """
    if not layers:
        raise ValueError("capture needs the name of at least one layer, as listed by model.named_modules().")
    modules = dict(model.named_modules())
    if any(isinstance(module, nn.DataParallel) for module in modules.values()):
        raise ValueError(
            "capture cannot read a model under nn.DataParallel: its replicas run on several devices and would all "
            "write to one place. Capture the inner model (model.module), or use DistributedDataParallel."
        )
    for layer in layers:
        if layer not in modules or layer == "":
            near = difflib.get_close_matches(layer, modules, n=3, cutoff=0.4) or [name for name in modules if name][:8]
            raise ValueError(
                f"the model has no layer {layer!r}. Did you mean one of {near}? See model.named_modules()."
            )
    features: dict[str, Tensor] = {}
    handles = [model.register_forward_pre_hook(lambda module, args: features.clear())]
    try:
        for layer in layers:
            handles.append(modules[layer].register_forward_hook(_make_hook(features, layer)))
        yield features
    finally:
        for handle in handles:
            handle.remove()


def _make_hook(features: dict[str, Tensor], layer: str) -> Callable[[nn.Module, tuple, object], None]:
    def hook(module: nn.Module, args: tuple, output: object) -> None:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"layer {layer!r} returns {type(output).__name__}, not a tensor. Capture a layer inside it instead."
            )
        # A clone: a following ReLU(inplace=True) would rewrite the tensor that was handed on.
        features[layer] = output.clone()

    return hook


def _make_stage(before: int, after: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
