"""Imports that a learner's code has no share in: fresh copies of modules, with built-in functions of their own.

The inner half of the grader. Python finds a module by its name, and a built-in function in the module ``builtins``.
Whoever writes there changes what other code does. What decides about points is therefore imported a second time: its
copy stands in no table, and nothing that a learner can name leads to it.
"""

import builtins
import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

PACKAGE = "kdcourse"
# Models and data go from a learner's cells to the checks and back, so there is one copy of their classes.
SHARED = ("kdcourse.models", "kdcourse.data")


class _Loader(SourceFileLoader):
    """Runs a module with a dict of built-in functions that belongs to this module alone."""

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = dict(vars(builtins))
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if _is_private(fullname) else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


@contextlib.contextmanager
def private_imports() -> Iterator[list[ModuleType]]:
    """Import modules of the package afresh within this block; afterwards the earlier ones are found again.

    Yields
    ------
    list of module
        Filled at the end with the copies that were made.
    """
    copies: list[ModuleType] = []
    earlier = {name: module for name, module in sys.modules.items() if _is_private(name)}
    finders = list(sys.meta_path)
    for name in earlier:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder())
    try:
        yield copies
    finally:
        for name in [name for name in sys.modules if _is_private(name)]:
            copies.append(sys.modules.pop(name))
        sys.modules.update(earlier)
        sys.meta_path[:] = finders


def _is_private(name: str) -> bool:
    if name in SHARED or name.startswith(tuple(f"{shared}." for shared in SHARED)):
        return False
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")
