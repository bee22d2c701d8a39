"""Whether anybody wrote to a namespace meanwhile, even if it was put back before anybody looked.

The inner half of the grader. A function that is replaced while a check runs can put the right one back itself. Python
counts every write to a dict, and reports every change of a function's code to its audit hooks; both are used here.
"""

import copyreg
import ctypes
import gc
import itertools
import sys
from collections.abc import Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any

_TAG = 24  # bytes from the beginning of a dict to its version: after count of references, type and length
# The lowest bits say who watches a dict, and change without a write.
_BITS_OF_WATCHERS = {(3, 12): 8, (3, 13): 12}.get(sys.version_info[:2], 0)
_never_the_same = itertools.count()
_written: set[int] = set()  # addresses of functions, modules and classes of which Python reported a change


def _hook(event: str, arguments: tuple) -> None:
    if event == "object.__setattr__":
        _written.add(id(arguments[0]))


sys.addaudithook(_hook)


def _tags_work() -> bool:
    """Try on a dict whether versions lie where they should; Python may lay out dicts in another way one day."""
    if sys.implementation.name != "cpython" or sys.maxsize < 2**32 or sys.version_info >= (3, 14):
        return False
    namespace = {"name": 1, "other": 2}
    tag = ctypes.c_uint64.from_address(id(namespace) + _TAG)
    seen = [tag.value >> _BITS_OF_WATCHERS]
    for value in (1, 3, 3, 1):
        namespace["name"] = value
        seen.append(tag.value >> _BITS_OF_WATCHERS)
    return seen[0] == seen[1] != seen[2] == seen[3] != seen[4] and seen[4] != seen[0]


TAGS_WORK = _tags_work()


def namespace_of(owner: Any) -> dict[str, Any]:
    """Return the dict behind a module or class; Python shows a class's dict for reading only."""
    return vars(owner) if isinstance(owner, ModuleType) else gc.get_referents(vars(owner))[0]


class Version:
    """The count of writes to a dict, where Python keeps one; otherwise a number that is never the same twice."""

    def __init__(self, namespace: dict) -> None:
        self._tag = ctypes.c_uint64.from_address(id(namespace) + _TAG) if TAGS_WORK else None

    def now(self) -> int:
        """Return the number."""
        return next(_never_the_same) if self._tag is None else self._tag.value >> _BITS_OF_WATCHERS


def written_functions(held: Mapping[int, Any]) -> list[int]:
    """Return the addresses of held functions of which Python reported a change since the last call; all if unknown."""
    if not TAGS_WORK:
        return list(held)
    written = [address for address in _written if address in held]
    _written.clear()
    return written


class Watch:
    """Notices writes to modules and classes.

    Parameters
    ----------
    owners : iterable of module or class
    """

    def __init__(self, owners: Iterable[Any]) -> None:
        self._names: list[str] = []
        self._dicts: list[dict] = []
        self._versions: list[Version] = []
        functions: dict[int, str] = {}  # and classes and modules: names by address
        for owner in owners:
            namespace = namespace_of(owner)
            if isinstance(owner, ModuleType):  # Python adds this to a module that warns for the first time
                namespace.setdefault("__warningregistry__", {})
            elif isinstance(owner, type):  # and this to a class when one of its objects is first copied or pickled
                copyreg._slotnames(owner)  # type: ignore[attr-defined]
            self._add(owner.__name__, namespace)
            functions[id(owner)] = owner.__name__
            for name, value in list(namespace.items()):
                if type(value) is FunctionType:
                    functions[id(value)] = f"{owner.__name__}.{name}"
                    if value.__kwdefaults__:
                        self._add(f"{owner.__name__}.{name}", value.__kwdefaults__)
        self._functions = functions
        self._before: list[tuple[int, int]] = []

    def _add(self, name: str, namespace: dict) -> None:
        self._names.append(name)
        self._dicts.append(namespace)
        self._versions.append(Version(namespace))

    def begin(self) -> None:
        """Remember how things are now; where Python does not count writes, nothing is noticed."""
        self._before = self._state()

    def changed(self) -> tuple[list[str], list[str]]:
        """Return where something was replaced since `begin`, and where something was only added."""
        replaced = [name for address, name in self._functions.items() if address in _written]
        added: list[str] = []
        for name, before, now in zip(self._names, self._before, self._state(), strict=True):
            if before != now:
                (replaced if before[1] == now[1] else added).append(name)
        return replaced, added

    def _state(self) -> list[tuple[int, int]]:
        if not TAGS_WORK:
            return [(0, 0)] * len(self._dicts)
        return [(version.now(), len(space)) for version, space in zip(self._versions, self._dicts, strict=True)]
