"""Results of a sweep on disk, one file per group, under a key that changes with everything that decides them.

Chapters 02 to 07. A long sweep that was stopped goes on with the groups that are not there yet.
"""

import functools
import hashlib
import json
import os
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._files import write_atomically


def fingerprint(*values: object) -> str:
    """Return a hash of values: numbers, tensors, modules, containers, functions with all that they refer to.

    A function counts by its bytecode, constants, defaults, closure and the globals it names; functions of installed
    libraries by their name. An object whose content cannot be read counts by its ``repr``: where that holds an
    address nothing is ever found again, which costs time and never gives a wrong result.
    """
    digest = hashlib.sha256()
    _feed(digest, values, {})
    return digest.hexdigest()[:24]


def read_rows(folder: str | os.PathLike, key: str) -> list[dict] | None:
    """Return the rows stored under a key, or None if there are none or the file is damaged."""
    try:
        rows = json.loads((Path(folder) / f"{key}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return rows if isinstance(rows, list) else None


def write_rows(folder: str | os.PathLike, key: str, rows: list[dict]) -> None:
    """Store rows under a key, whole or not at all."""
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    write_atomically(Path(folder) / f"{key}.json", lambda path: path.write_text(text, encoding="utf-8"))


def _feed(digest: Any, value: Any, seen: dict[int, tuple[int, Any]]) -> None:
    digest.update(type(value).__qualname__.encode() + b"|")
    if hasattr(value, "__dict__") and not isinstance(value, Tensor):
        first, _ = seen.setdefault(id(value), (len(seen), value))  # holds the value, or its id could serve twice
        digest.update(str(first).encode())
        if first != len(seen) - 1:
            return
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    elif isinstance(value, nn.Module):
        _feed(digest, [type(value), str(value), value.training, value.state_dict()], seen)
    elif isinstance(value, np.ndarray):
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
    elif isinstance(value, types.FunctionType) and not _installed(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        named = _named(value.__globals__, _names(value.__code__))
        _feed(digest, [value.__code__, value.__defaults__, value.__kwdefaults__, cells, named], seen)
    elif isinstance(value, type) and not _installed(value):
        members = [item for item in vars(value).values() if isinstance(item, types.FunctionType)]
        _feed(digest, [value.__qualname__, members, value.__bases__], seen)
    elif isinstance(value, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType):
        name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
        digest.update(f"{getattr(value, '__module__', '')}.{name}".encode())
    elif hasattr(value, "__dict__") and type(value).__repr__ is object.__repr__:
        _feed(digest, [type(value), vars(value)], seen)
    else:
        digest.update(repr(value).encode())
    digest.update(b";")


def _named(namespace: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return what names stand for; of a module that is not installed, what they stand for inside it."""
    found = {name: namespace[name] for name in names if name in namespace}
    inside = {name: _named(vars(m), names) for name, m in found.items() if _is_own_module(m)}
    return found | inside


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
