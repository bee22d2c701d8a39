"""``capture``: the features of any model's named layers, read while it runs. Chapter 03."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


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
        If no layers are named, a name is unknown (near matches are listed), the model is compiled or wrapped in
        ``nn.DataParallel`` (its replicas would overwrite one another), a layer's output is not a tensor, or one asks
        for the features of a layer that did not run in the last forward pass.

    Examples
    --------
    >>> import torch
    >>> from kdcourse.models import make_student_cnn
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
    if any(hasattr(module, "_orig_mod") for module in modules.values()):
        raise ValueError(
            "capture cannot read a compiled model, which runs its layers without their hooks. Capture the model that "
            "it was made of (compiled._orig_mod has the same weights), or compile the loss and not the model."
        )
    for layer in layers:
        if layer not in modules or layer == "":
            near = difflib.get_close_matches(layer, modules, n=3, cutoff=0.4) or [name for name in modules if name][:8]
            raise ValueError(
                f"the model has no layer {layer!r}. Did you mean one of {near}? See model.named_modules()."
            )
    features = _Features(layers)
    handles = [model.register_forward_pre_hook(lambda module, args: features.clear())]
    try:
        for layer in layers:
            handles.append(modules[layer].register_forward_hook(_make_hook(features, layer)))
        yield features
    finally:
        for handle in handles:
            handle.remove()


class _Features(dict[str, Tensor]):
    """Captured features by layer; asking for a layer that did not run says why that may be."""

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers

    def __missing__(self, layer: str) -> Tensor:
        if layer not in self.layers:
            raise ValueError(f"layer {layer!r} is not captured here; these are: {', '.join(self.layers)}.")
        raise ValueError(
            f"layer {layer!r} did not run as a module in the last forward pass, so that there is nothing to read. A "
            "compiled or traced model runs its layers without their hooks: capture the model that it was made of. A "
            "layer whose weights are used directly, as in F.linear(x, layer.weight), has to be called instead."
        )


def _make_hook(features: dict[str, Tensor], layer: str) -> Callable[[nn.Module, tuple, object], None]:
    def hook(module: nn.Module, args: tuple, output: object) -> None:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"layer {layer!r} returns {type(output).__name__}, not a tensor. Capture a layer inside it instead."
            )
        # A clone: a following ReLU(inplace=True) would rewrite the tensor that was handed on.
        features[layer] = output.clone()

    return hook
