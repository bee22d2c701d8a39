"""Hashes of what values hold: tensors, modules, functions with their code. Used by checkpoints and stored sweeps."""

import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def content_hash(*values: object) -> str:
    """Return a hash of values: numbers, tensors, modules, containers, functions with all that they refer to.

    A function counts by its bytecode, constants, defaults, closure and the globals it names; a function of an installed
    library by its name, defaults and closure. An object whose content cannot be read counts by its ``repr``. Where
    that holds an address, the hash is another one in each process: work is then done again, and no wrong result found.

    Examples
    --------
    >>> content_hash(torch.zeros(2)) == content_hash(torch.zeros(2))
    True
    >>> content_hash(lambda x: 2 * x) == content_hash(lambda x: 3 * x)
    False
    """
    digest = hashlib.sha256()
    _feed(digest, values, {})
    return digest.hexdigest()[:24]


def _feed(digest: Any, value: Any, seen: dict[int, tuple[int, Any]]) -> None:
    digest.update(type(value).__qualname__.encode() + b"|")
    if hasattr(value, "__dict__") and not isinstance(value, Tensor):
        first, _ = seen.setdefault(id(value), (len(seen), value))  # holds the value, or its id could serve twice
        digest.update(str(first).encode())
        if first != len(seen) - 1:
            return
    if isinstance(value, Tensor):
        for plain in _plain_tensors(value.detach().cpu()):
            digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
            flat = plain.contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    elif isinstance(value, nn.Module):
        _feed(digest, [type(value), str(value), value.training, value.state_dict()], seen)
    elif type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
        digest.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        _feed(digest, list(value.items()), seen)
    elif isinstance(value, list | tuple | set | frozenset | range):
        for item in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
            _feed(digest, item, seen)
    elif isinstance(value, types.CodeType):
        digest.update(value.co_code + repr(value.co_names).encode())
        _feed(digest, value.co_consts, seen)
    elif isinstance(value, functools.partial):
        _feed(digest, (value.func, value.args, value.keywords), seen)
    elif isinstance(value, types.MethodType):
        _feed(digest, (value.__func__, value.__self__), seen)
    elif isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        code: list[Any] = [f"{value.__module__}.{value.__qualname__}"]
        if not _installed(value):
            code = [value.__code__, _named(value.__globals__, _names(value.__code__))]
        _feed(digest, [*code, value.__defaults__, value.__kwdefaults__, cells], seen)
    elif isinstance(value, type) and not _installed(value):
        members = [item for item in vars(value).values() if isinstance(item, types.FunctionType)]
        _feed(digest, [value.__qualname__, members, value.__bases__], seen)
    elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
        name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
        digest.update(f"{getattr(value, '__module__', '')}.{name}".encode())
    elif hasattr(value, "__dict__") and type(value).__repr__ is object.__repr__:
        _feed(digest, [type(value), vars(value)], seen)
    else:
        digest.update(repr(value).encode())
    digest.update(b";")


def _plain_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the tensors whose bytes say all that a tensor holds; a quantised one has its scales beside its integers."""
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if not tensor.is_quantized:
        yield tensor.resolve_conj().resolve_neg()
    elif tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        yield from (tensor.int_repr(), torch.tensor([tensor.q_scale(), tensor.q_zero_point()], dtype=torch.float64))
    else:
        yield from (tensor.int_repr(), tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points())


def _named(namespace: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return what names stand for; of a module that is not installed, what they stand for inside it."""
    values = {name: namespace[name] for name in names if name in namespace}
    inside = {name: _named(vars(module), names) for name, module in values.items() if _is_own_module(module)}
    return values | inside


def _is_own_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and not _in_library(getattr(value, "__file__", None) or "<frozen")


def _names(code: types.CodeType) -> list[str]:
    """Globals that a function, or one defined inside it, may name."""
    inner = [name for const in code.co_consts if isinstance(const, types.CodeType) for name in _names(const)]
    return sorted({*code.co_names, *inner})


def _installed(value: types.FunctionType | type) -> bool:
    """Whether a function or class belongs to Python or an installed library, which its name identifies."""
    if isinstance(value, types.FunctionType):
        return _in_library(value.__code__.co_filename)
    module = sys.modules.get(value.__module__)
    return value.__module__ == "builtins" or _in_library(getattr(module, "__file__", None) or "")


def _in_library(path: str) -> bool:
    return path.startswith(("<frozen", sysconfig.get_path("stdlib"))) or "site-packages" in path
