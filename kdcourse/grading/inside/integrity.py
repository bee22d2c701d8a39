"""What a learner's code must not change: held before it runs, put back before each check, and reported.

The inner half of the grader. A check runs in the learner's own process, so this is a fence and no wall: it undoes what
replaces a function, and a canary at the end finds what it misses. A determined attacker gets through; see
docs/teachers.md.
"""

import ast
import builtins
import math
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

_MODULES = (
    "torch", "torch.nn", "torch.nn.functional", "torch.nn.modules.module", "torch.autograd", "torch.linalg",
    "torch.func", "torch.testing", "numpy", "numpy.linalg", "numpy.testing", "pandas", "json", "random", "inspect",
    "statistics",
)  # fmt: skip
_CLASSES = (("torch", "Tensor"), ("torch.nn", "Module"), ("torch.nn", "Parameter"), ("torch", "Generator"))
_setattr, _delattr, _vars, _type, _isinstance, _callable = setattr, delattr, vars, type, isinstance, callable
_set_module, _Function = ModuleType.__setattr__, FunctionType
_gettrace, _settrace, _getprofile, _setprofile = sys.gettrace, sys.settrace, sys.getprofile, sys.setprofile


class _Held(NamedTuple):
    owner: Any
    name: str
    value: Any
    inside: tuple  # of a function: what can be replaced without replacing the function


class Trust:
    """Everything that checks rely on, as it was when this was made."""

    def __init__(self) -> None:
        self._torch = sys.modules.get("torch")
        self._kinds = [(owner, _type(owner)) for owner in _owners() if _isinstance(owner, ModuleType)]
        self._held = [
            _Held(owner, name, value, _inside(value)) for owner in _owners() for name, value in _worth_holding(owner)
        ]
        self._names = {owner: frozenset(_vars(owner)) for owner in _owners() if _isinstance(owner, type)}

    def restore(self) -> list[str]:
        """Put back what was changed; return the names of it, such as ``torch.allclose``."""
        changed = []
        for module, kind in self._kinds:  # first: a module of another class may answer anything when asked for a name
            if _type(module) is not kind:
                _set_module(module, "__class__", kind)
                changed.append(f"the class of {module.__name__}")
        for owner, name, value, inside in self._held:
            if _vars(owner).get(name) is not value:
                _setattr(owner, name, value)
                changed.append(f"{owner.__name__}.{name}")
            if inside and not _same(value, inside):
                value.__code__, value.__defaults__, keywords = inside[:3]
                value.__kwdefaults__ = dict(keywords) or None
                changed.append(f"{owner.__name__}.{name}")
        for owner, names in self._names.items():
            for name in [name for name in _vars(owner) if name not in names and not _harmless(name)]:
                _delattr(owner, name)
                changed.append(f"{owner.__name__}.{name}")
        return changed + _watchers(self._torch)


def trusted_names(imports: str) -> dict[str, Any]:
    """Return what import statements give, run before any code of a learner's."""
    names: dict[str, Any] = {}
    exec(compile(imports, "<imports>", "exec"), names)
    names.pop("__builtins__", None)
    return names


class Wrong:
    """A wrong answer to every task: a check that accepts it is no longer a check."""

    __name__ = "answer"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a number that no task asks for, with a gradient, so that only its value is wrong."""
        import torch

        return torch.full((), 1234.5, requires_grad=True)


def wrong_namespace(source: str, imports: Mapping[str, Any]) -> dict[str, Any]:
    """Return globals for a check in which everything that the key does not import is a wrong answer."""
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    wrong = {name: Wrong() for name in used if name not in imports and not hasattr(builtins, name)}
    return {**wrong, **imports}


def _owners() -> Iterator[Any]:
    """Yield the modules and classes whose parts are held."""
    yield builtins
    yield math
    for name, module in sorted(sys.modules.items()):
        if module is not None and (name in _MODULES or name.split(".")[0] == "kdcourse"):
            if name.startswith("kdcourse.grading"):
                continue
            yield module
            if name.split(".")[0] == "kdcourse":
                parts = dict.fromkeys(part for part in _vars(module).values() if isinstance(part, type))
                yield from (part for part in parts if part.__module__ == name)
    for name, attribute in _CLASSES:
        if name in sys.modules:
            yield getattr(sys.modules[name], attribute)
    if "torch.nn" in sys.modules:
        layers = dict.fromkeys(part for part in _vars(sys.modules["torch.nn"]).values() if isinstance(part, type))
        yield from (part for part in layers if part not in [getattr(sys.modules[m], a) for m, a in _CLASSES])


def _worth_holding(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield functions, classes and modules; of the checks also their data, such as slips and tolerances."""
    everything = isinstance(owner, type) or owner.__name__.startswith("kdcourse.checks")
    for name, value in list(_vars(owner).items()):
        if name in ("__builtins__", "__dict__", "__weakref__", "__doc__", "_") or _harmless(name):
            continue
        if everything or callable(value) or isinstance(value, ModuleType):
            yield name, value


def _harmless(name: str) -> bool:
    """Whether Python or torch writes this by itself."""
    if name == "manual_seed":  # torch wraps it when an optimizer is first used
        return True
    return name.startswith(("__abstractmethods", "_abc_", "__annotations", "__annotate", "__static", "__firstline"))


def _inside(value: Any) -> tuple:
    if _type(value) is not _Function:
        return ()
    return value.__code__, value.__defaults__, dict(value.__kwdefaults__ or {})


def _same(function: FunctionType, before: tuple) -> bool:
    code, defaults, keywords = before
    now = function.__kwdefaults__
    if function.__code__ is not code or function.__defaults__ is not defaults:
        return False
    if not keywords or not now:
        return not keywords and not now
    return now.keys() == keywords.keys() and all(now[name] is value for name, value in keywords.items())


def _watchers(torch: ModuleType | None) -> list[str]:
    """Stop what watches or bends every call; return what there was of it."""
    found = []
    if _gettrace() is not None:
        _settrace(None)
        found.append("sys.settrace")
    if _getprofile() is not None:
        _setprofile(None)
        found.append("sys.setprofile")
    for kind in ("function", "dispatch"):
        depth, pop = (getattr(torch and torch._C, f"_{what}_torch_{kind}_stack", None) for what in ("len", "pop"))
        if depth is not None and pop is not None and depth() > 0:
            found.append("a mode that bends every torch call")
            while depth() > 0:
                pop()
    return found
