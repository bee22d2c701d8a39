"""A student leaves torch: ONNX, checked with onnxruntime. Chapter 13."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .modes import evaluating
from .outputs import Outputs, logits_of


def export_onnx(
    model: nn.Module, inputs: Any, path: str | os.PathLike, *, outputs: Outputs | None = None, tolerance: float = 1e-3
) -> float:
    """Write a model as ONNX, run it with onnxruntime, and return the largest difference of the logits.

    Needs the extra ``export``. The count of samples stays free.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode while it is exported; its own mode is restored.
    inputs : Tensor or mapping from argument to Tensor
        A batch of two samples or more, on the CPU. The names of a mapping are those of the ONNX inputs; a tensor is
        called ``inputs``.
    path : path
        File to write.
    outputs : str, int or callable, optional
        As in :func:`kdcourse.models.logits_of`.
    tolerance : float
        Largest allowed difference, as a share of the largest logit (of 1 if all are smaller).

    Returns
    -------
    float
        Largest absolute difference between torch's logits and those of onnxruntime, for these inputs and for the
        first sample alone.

    Raises
    ------
    ValueError
        If there are fewer than two samples, or the two disagree by more than ``tolerance``.

    Examples
    --------
    >>> import pytest
    >>> ort = pytest.importorskip("onnxruntime")
    >>> import tempfile
    >>> export_onnx(nn.Linear(3, 2), torch.rand(4, 3), f"{tempfile.mkdtemp()}/student.onnx") < 1e-5
    True
    """
    from onnxruntime import InferenceSession

    named = dict(inputs) if isinstance(inputs, Mapping) else {"inputs": inputs}
    if min(len(tensor) for tensor in named.values()) < 2:
        raise ValueError("export_onnx needs two samples or more: from one, the count of samples would be fixed to 1.")
    wrapped = _Positional(model, list(named) if isinstance(inputs, Mapping) else None, outputs)
    free = tuple({0: torch.export.Dim.DYNAMIC} for _ in named)
    with evaluating(wrapped):
        expected = wrapped(*named.values())
        torch.onnx.export(
            wrapped, tuple(named.values()), os.fspath(path), dynamo=True, input_names=list(named),
            output_names=["logits"], dynamic_shapes=(free,), external_data=False, verbose=False,
        )  # fmt: skip
    session = InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (len(expected), 1):
        feed = {name: tensor[:count].detach().cpu().numpy() for name, tensor in named.items()}
        logits = torch.as_tensor(session.run(None, feed)[0])
        worst = max(worst, float((logits - expected[:count]).abs().max()))
    if not worst <= tolerance * max(1.0, float(expected.abs().max())):
        raise ValueError(
            f"onnxruntime disagrees with torch by {worst:.2g}, more than {tolerance:g} of the largest logit. Does the "
            "model depend on random numbers, or on the other samples of a batch?"
        )
    return worst


class _Positional(nn.Module):
    """A model that takes its tensors by position and returns logits, which is what ONNX knows."""

    def __init__(self, model: nn.Module, names: list[str] | None, outputs: Outputs | None) -> None:
        super().__init__()
        self.model, self.names, self.outputs = model, names, outputs

    def forward(self, *tensors: Tensor) -> Tensor:
        inputs = tensors[0] if self.names is None else dict(zip(self.names, tensors, strict=True))
        return logits_of(self.model, inputs, outputs=self.outputs)
