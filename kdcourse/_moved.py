"""Old names: modules that moved still import under them, and a renamed argument is answered with its new name.

A notebook that was downloaded long ago keeps working, or says what to change.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Old name to new name, both inside the package.
MOVED = {
    "devices": "training.devices",
    "doctor": "commands.doctor",
    "grading.cells": "grading.inside.cells",
    "grading.collect": "grading.submissions",
    "grading.course": "grading.classroom",
    "grading.isolation": "grading.inside.isolation",
    "grading.scan": "grading.inside.scan",
    "language": "recipes.distilbert",
    "losses.modern": "losses.divergences",
    "models_exits": "models.exits",
    "report": "commands.distill",
    "schedules": "training.schedules",
    "widgets.exits": "widgets.explorers.exits",
}


class MovedModules(MetaPathFinder, Loader):
    """Finds a moved module under its old name and hands over the module that stands under the new one."""

    def __init__(self, package: str, moved: Mapping[str, str]) -> None:
        self.new_names = {f"{package}.{old}": f"{package}.{new}" for old, new in moved.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for an old name, None for every other."""
        return ModuleSpec(fullname, self) if fullname in self.new_names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module under its new name."""
        module = importlib.import_module(self.new_names[spec.name])
        spec.loader_state = module.__spec__  # Python is about to replace it by the old name's
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back; it ran when it was imported under its new name."""
        old_name = module.__spec__
        assert old_name is not None
        module.__spec__ = old_name.loader_state


def keep_old_names(package: str) -> None:
    """Let the old names of ``MOVED`` be imported from a package."""
    sys.meta_path.append(MovedModules(package, MOVED))


def renamed(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function answer to the old name of an argument with an error that names the new one.

    Examples
    --------
    >>> @renamed(seed="seeds")
    ... def sweep(*, seeds):
    ...     return list(seeds)
    >>> sweep(seed=range(3))
    Traceback (most recent call last):
    ...
    TypeError: sweep() takes no argument 'seed': it is called 'seeds'.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in new_names.items():
                if old in kwargs:
                    raise TypeError(f"{function.__name__}() takes no argument {old!r}: it is called {new!r}.")
            return function(*args, **kwargs)

        return checked

    return decorate
