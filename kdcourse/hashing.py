"""Hashes of what values hold: tensors, modules, functions with their code. Used by checkpoints and stored sweeps."""

import functools
import hashlib
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def content_hash(*values: object, addresses: bool = True) -> str:
    """Return a hash of values: numbers, tensors, modules, containers, functions with all that they refer to.

    A function counts by its bytecode, constants, defaults, closure and the globals it names; a function of an installed
    library by its name, defaults and closure. An object whose content cannot be read counts by its ``repr``.

    Parameters
    ----------
    *values : object
    addresses : bool
        Whether an address in such a ``repr`` counts. If it does, the hash is another one in each process: work is then
        done again, and no wrong result found. If not, two such objects of one type are taken for the same.

    Examples
    --------
    >>> content_hash(torch.zeros(2)) == content_hash(torch.zeros(2))
    True
    >>> content_hash(lambda x: 2 * x) == content_hash(lambda x: 3 * x)
    False
    """
    reader = _Reader(addresses=addresses)
    reader.feed(values)
    return reader.digest.hexdigest()[:24]


class _Reader:
    """Feeds values into a digest, each by what it holds."""

    def __init__(self, *, addresses: bool) -> None:
        self.digest, self.addresses = hashlib.sha256(), addresses
        self.seen: dict[int, tuple[int, Any]] = {}

    def feed(self, value: Any) -> None:
        """Add a value."""
        self.digest.update(type(value).__qualname__.encode() + b"|")
        if hasattr(value, "__dict__") and not isinstance(value, Tensor):
            known = id(value) in self.seen
            # The value is held, or its id could serve twice.
            first, _ = self.seen.setdefault(id(value), (len(self.seen), value))
            self.digest.update(str(first).encode())
            if known:
                return
        if isinstance(value, Tensor):
            for plain in _plain_tensors(value.detach().cpu()):
                self.digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
                flat = plain.contiguous().flatten()
                self.digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        elif isinstance(value, nn.Module):
            self.feed([type(value), str(value), value.training, value.state_dict()])
        elif type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
            self.digest.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        elif isinstance(value, Mapping):
            self.feed(list(value.items()))
        elif isinstance(value, list | tuple | set | frozenset | range):
            for item in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
                self.feed(item)
        elif isinstance(value, types.CodeType):
            self.digest.update(value.co_code + repr(value.co_names).encode())
            self.feed(value.co_consts)
        elif isinstance(value, functools.partial):
            self.feed((value.func, value.args, value.keywords))
        elif isinstance(value, types.MethodType):
            self.feed((value.__func__, value.__self__))
        elif isinstance(value, types.FunctionType):
            cells = [_content_of(cell) for cell in value.__closure__ or ()]
            code: list[Any] = [f"{value.__module__}.{value.__qualname__}"]
            if not _installed(value):
                code = [value.__code__, _named(value.__globals__, _names(value.__code__))]
            self.feed([*code, value.__defaults__, value.__kwdefaults__, cells])
        elif isinstance(value, type) and not _installed(value):
            members = [item for item in vars(value).values() if isinstance(item, types.FunctionType)]
            self.feed([value.__qualname__, members, value.__bases__])
        elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
            self.digest.update(f"{getattr(value, '__module__', '')}.{name}".encode())
        elif hasattr(value, "__dict__") and _is_record(value):
            self.feed([type(value), vars(value)])
        else:
            self.digest.update((repr(value) if self.addresses else _ADDRESS.sub("", repr(value))).encode())
        self.digest.update(b";")


def _is_record(value: Any) -> bool:
    """Whether an object's attributes say more than its ``repr``, or the same without addresses."""
    return type(value).__repr__ is object.__repr__ or is_dataclass(value) or isinstance(value, types.SimpleNamespace)


def _content_of(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return None


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
