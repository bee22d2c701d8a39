"""What a learner's code must not change: held before it runs, put back before each check, and reported.

The inner half of the grader. A check runs in the learner's own process, so this is a fence and no wall. It undoes what
replaces a function, and notices what is replaced while a check runs. A determined attacker gets through; see
docs/teachers.md.
"""

import builtins
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from .private import PACKAGE, private_imports
from .settings import Settings
from .watching import Version, Watch, namespace_of, written_functions

_MODULES = (
    "collections", "copy", "functools", "inspect", "itertools", "json", "math", "numbers", "numpy", "operator",
    "pandas", "random", "statistics", "torch", "torch.functional", "torch.overrides", "torch.random", "torch._tensor",
    "torch._jit_internal", "torch._C", "torch._C._nn", "torch._C._VariableFunctions", "torch.library", "types",
    "typing", "warnings",
)  # fmt: skip
_FAMILIES = (
    "kdcourse", "numpy.core", "numpy._core", "numpy.lib", "numpy.linalg", "numpy.random", "numpy.testing",
    "torch.autograd", "torch.func", "torch.linalg", "torch.nn", "torch.optim", "torch.testing",
)  # fmt: skip
# With all that they inherit from, but for ``object``.
_CLASSES = (
    ("torch", "Tensor"), ("torch", "Generator"), ("torch._C", "TensorBase"), ("torch._C", "_VariableFunctions"),
    ("torch.library", "Library"), ("pandas", "DataFrame"), ("pandas", "Series"), ("pandas", "Index"),
    ("pandas.core.groupby", "DataFrameGroupBy"), ("pandas.core.groupby", "SeriesGroupBy"),
)  # fmt: skip
_setattr, _delattr, _vars, _type, _isinstance = setattr, delattr, vars, type, isinstance
_set_module = ModuleType.__setattr__
_HEAP_TYPE, _IMMUTABLE = 1 << 9, 1 << 8  # of a class's flags
_gettrace, _settrace, _getprofile, _setprofile = sys.gettrace, sys.settrace, sys.getprofile, sys.setprofile


class _Function(NamedTuple):
    """A function, and what can be replaced without replacing the function."""

    name: str
    value: FunctionType
    inside: tuple


class _Owner:
    """A module or class, what is held of it, and whether it was written to since the last look."""

    def __init__(self, owner: Any) -> None:
        self.owner, self.held = owner, dict(_worth_holding(owner))
        self.names = frozenset(_vars(owner)) if _isinstance(owner, type) else None
        self.version = Version(namespace_of(owner))
        self.seen = self.version.now()

    def restore(self) -> list[str]:
        """Put back what was replaced or, in a class, added; return the names of it."""
        if self.version.now() == self.seen:
            return []
        owner, changed = self.owner, []
        for name, value in self.held.items():
            if _vars(owner).get(name) is not value:
                _setattr(owner, name, value)
                changed.append(f"{owner.__name__}.{name}")
        if self.names is not None:
            for name in [name for name in _vars(owner) if name not in self.names and not _harmless(name)]:
                _delattr(owner, name)
                changed.append(f"{owner.__name__}.{name}")
        self.seen = self.version.now()
        return changed


class Trust:
    """Everything that checks rely on, as it was when this was made.

    Parameters
    ----------
    private : iterable of module
        Copies that only the checks use; see `private.private_imports`.
    """

    def __init__(self, private: Iterable[ModuleType] = ()) -> None:
        private = list(private)
        self.settings = Settings()  # first: it stands between torch and whoever gives it other kernels
        _wrap_steps()
        owners = list(_owners(private))
        self._torch = sys.modules.get("torch")
        Wrong.full = staticmethod(getattr(self._torch, "full", float))
        self._kinds = [(owner, _type(owner)) for owner in owners if _isinstance(owner, ModuleType)]
        self._owners = [_Owner(owner) for owner in owners]
        self._functions = {
            id(value): _Function(f"{held.owner.__name__}.{name}", value, _inside(value))
            for held in self._owners
            for name, value in held.held.items()
            if _type(value) is FunctionType
        }
        self._with_keywords = [
            (address, Version(keywords))
            for address, function in self._functions.items()
            if (keywords := getattr(function.value, "__kwdefaults__", None))
        ]
        self._keywords_seen = [version.now() for _, version in self._with_keywords]
        # The package's modules that learners import may keep notes in their names; they decide about no points. Whoever
        # catches warnings, as checks and recipes do, replaces functions of that module for a while.
        own = {id(module) for module in private}
        unwatched = {id(sys.modules.get("warnings"))}
        for module in owners:
            if _isinstance(module, ModuleType) and _is_ours(module.__name__) and id(module) not in own:
                classes = (part for part in _vars(module).values() if _isinstance(part, type))
                unwatched.update(id(part) for part in classes if _is_ours(part.__module__))
                unwatched.add(id(module))
        self.watch = Watch(owner for owner in owners if id(owner) not in unwatched)

    def restore(self) -> list[str]:
        """Put back what was changed; return the names of it, such as ``torch.allclose``."""
        changed = []
        for module, kind in self._kinds:  # first: a module of another class may answer anything when asked for a name
            if _type(module) is not kind:
                _set_module(module, "__class__", kind)
                changed.append(f"the class of {module.__name__}")
        for owner in self._owners:
            changed += owner.restore()
        changed += self._restore_functions()
        return changed + self.settings.straighten() + _watchers(self._torch)

    def _restore_functions(self) -> list[str]:
        versions = [version.now() for _, version in self._with_keywords]
        both = zip(self._with_keywords, versions, self._keywords_seen, strict=True)
        suspects = {address for (address, _), now, seen in both if now != seen}
        self._keywords_seen, changed = versions, []
        for address in suspects.union(written_functions(self._functions)):
            name, function, inside = self._functions[address]
            if not _same(function, inside):
                function.__code__, function.__defaults__, keywords, own = inside
                function.__kwdefaults__ = own  # the same dict again, whose version is watched
                if own:
                    own.clear()
                    own.update(keywords)
                changed.append(name)
        self._keywords_seen = [version.now() for _, version in self._with_keywords]
        _ = written_functions(self._functions)  # what this method wrote itself
        return changed


def trusted_names(imports: str) -> tuple[dict[str, Any], list[ModuleType]]:
    """Run import statements with private copies of the package; return the names they give, and the copies."""
    names: dict[str, Any] = {}
    with private_imports() as copies:
        exec(compile(imports, "<imports>", "exec"), names)
    names.pop("__builtins__", None)
    return names, copies


class Wrong:
    """A wrong answer to every task: a check that accepts it is no longer a check."""

    __name__ = "answer"

    full: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a number that no task asks for, with a gradient, so that only its value is wrong."""
        return type(self).full((), 1234.5, requires_grad=True)


def wrong_names(used: Iterable[str], imports: Mapping[str, Any]) -> dict[str, Any]:
    """Return globals for a check in which everything that the key does not import is a wrong answer."""
    return {**{name: Wrong() for name in used}, **imports}


def _owners(private: Iterable[ModuleType]) -> Iterator[Any]:
    """Yield the modules and classes whose parts are held."""
    modules: dict[int, ModuleType] = {id(builtins): builtins}
    for name, module in sorted(sys.modules.items()):
        if _isinstance(module, ModuleType) and (name in _MODULES or _in_a_family(name)):
            modules[id(module)] = module
    modules.update({id(module): module for module in private})
    classes: dict[int, type] = {}
    for module in modules.values():
        if _in_a_family(module.__name__) and not module.__name__.startswith("numpy"):
            own = (part for part in _vars(module).values() if _isinstance(part, type))
            classes.update({id(part): part for part in own if part.__module__ == module.__name__})
    for name, attribute in _CLASSES:
        known: Any = getattr(sys.modules.get(name), attribute, None)
        if _isinstance(known, type):
            classes.update({id(part): part for part in known.__mro__ if part is not object and _is_writable(part)})
    yield from modules.values()
    yield from classes.values()


def _wrap_steps() -> None:
    """Have torch wrap each optimizer's ``step`` now; it does so when one is first made, and writes to the class."""
    known = sys.modules.get("torch.optim")
    for kind in list(_vars(known).values()) if known is not None else ():
        wrap = getattr(kind, "_patch_step_function", None)
        if _isinstance(kind, type) and wrap is not None:
            wrap(kind.__new__(kind))


def _is_writable(kind: type) -> bool:
    """Whether attributes of a class can be set; classes written in C refuse it, and need not be held."""
    return kind.__module__ != "builtins" and bool(kind.__flags__ & _HEAP_TYPE) and not kind.__flags__ & _IMMUTABLE


def _is_ours(name: str) -> bool:
    return name.split(".")[0] == PACKAGE


def _in_a_family(name: str) -> bool:
    return any(name == family or name.startswith(f"{family}.") for family in _FAMILIES)


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
    if name == "__slotnames__":  # kept in a class when one of its objects is first copied or pickled
        return True
    return name.startswith(("__abstractmethods", "_abc_", "__annotations", "__annotate", "__static", "__firstline"))


def _inside(value: Any) -> tuple:
    return value.__code__, value.__defaults__, dict(value.__kwdefaults__ or {}), value.__kwdefaults__


def _same(function: FunctionType, before: tuple) -> bool:
    code, defaults, keywords, own = before
    now = function.__kwdefaults__
    if function.__code__ is not code or function.__defaults__ is not defaults or now is not own:
        return False
    return not now or (now.keys() == keywords.keys() and all(now[name] is value for name, value in keywords.items()))


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
