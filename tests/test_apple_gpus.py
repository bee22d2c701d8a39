"""Chapters and exercises on a device without float64, as Apple's GPUs are: a tensor goes to the CPU first."""

import ast
from pathlib import Path

import pytest
import torch

from kdcourse.data.mnist import MNIST, Split

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "notebooks" / "source").glob("*.py"), *(ROOT / "solutions").glob("*.py")])


class AppleTensor(torch.Tensor):
    """A tensor that refuses float64 as MPS does; what ``cpu`` returns is an ordinary one."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        result = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(result, AppleTensor) and result.dtype == torch.float64:
            raise TypeError("cannot convert an MPS tensor to float64")
        return result


def on_apple(*tensors):
    return tuple(tensor.as_subclass(AppleTensor) for tensor in tensors)


def names_on_device():
    """What the chapters call the tensors that they turn into float64."""
    s, t = on_apple(torch.rand(4, 3), torch.rand(4, 3))
    split = Split(*on_apple(torch.rand(20, 1, 28, 28), torch.arange(20) % 10))
    return {"s": s, "t": t, "mnist": MNIST(split, split, split), "torch": torch}


def float64_calls(source):
    """Expressions of a source that make float64 of a tensor: ``….double()`` and ``….to(torch.float64)``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="double" | "to" as name)):
                if name == "double" or "float64" in ast.unparse(node):
                    yield ast.unparse(node)


CALLS = [(path.stem, call) for path in SOURCES for call in float64_calls(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("source", "call"), CALLS, ids=lambda value: value)
def test_float64_is_made_on_the_cpu(source, call):
    assert eval(call, names_on_device()).dtype == torch.float64


def test_the_imitation_refuses_float64_and_float64_alone():
    (tensor,) = on_apple(torch.rand(4, 3))
    for mistake in (lambda: tensor.double(), lambda: tensor.to(torch.float64), lambda: tensor.double().cpu()):
        with pytest.raises(TypeError, match="MPS"):
            mistake()
    assert type(tensor.float() * 2) is AppleTensor
    assert tensor.cpu().double().dtype == torch.float64
    assert list(float64_calls("a.double()\nb.to(device)\nc.to(torch.float64)")) == ["a.double()", "c.to(torch.float64)"]
