"""The names among which one submission runs: the learner's, those of the key, and what checks see of both.

The inner half of the grader. Locked cells that use nothing of a learner's are run once, for all submissions.
"""

import builtins
import sys
from types import ModuleType
from typing import Any, NamedTuple

from .cells import run_cell
from .integrity import Trust, trusted_names, wrong_names
from .surroundings import fresh_names

MOST_COPIED = 1_000_000  # numbers; results have some dozens, images many millions


class Bench:
    """One submission's names, and what its code must not change.

    Parameters
    ----------
    imports : str
        The key's import statements.
    answers : list of str
        Names that solution cells assign: the learner's, wherever else they appear.
    shared : Shared, optional
        What was run before, for all submissions.
    """

    def __init__(self, imports: str, answers: list[str], shared: "Shared | None" = None) -> None:
        shared = shared or Shared(imports, [])
        self.module = _new_main()
        self.names = self.module.__dict__
        sys.modules["__main__"] = self.module
        self.shared, self.trust = shared.cells, shared.trust
        self.imports = dict(shared.imports)
        self.trusted = dict(self.imports)  # by name in the checks' globals: these, and what locked cells assign
        self.answers = frozenset(answers)
        self.keys_own: dict[str, Any] = {}  # what locked cells have assigned, as a learner's code got it
        self.checking, self.checked = "", self.names
        self.builtins = dict(vars(builtins))  # for the text of checks; taken before any code of the learner's

    def learner(self, source: str, name: str) -> dict[str, Any]:
        """Run a cell of the learner's."""
        return run_cell(source, self.names, name)._asdict()

    def locked(self, source: str, name: str) -> dict[str, Any]:
        """Run a cell of the key's among the learner's names; what it assigns, checks will see unchanged."""
        changed = self.trust.restore()
        theirs, replaced = self._lay_out_the_keys_names()
        before = dict(self.names)
        known = self.shared.get(name)
        if known is not None and known.source == source:
            self.names.update(known.values)
            outcome = {**known.outcome, "seconds": 0.0}  # it took none of this submission's time
        else:
            with self.trust.settings.as_at_first():
                outcome = run_cell(source, self.names, name)._asdict()
        fresh = {key: value for key, value in self.names.items() if key not in before or before[key] is not value}
        if known is not None:
            fresh.update(known.values)
        for key, value in theirs.items():
            if self.names.get(key) is self.keys_own[key]:
                self.names[key] = value
        fresh = {key: value for key, value in fresh.items() if key not in self.answers}
        self.keys_own.update(fresh)
        # Imported names stay the private copies.
        self.trusted.update({key: own_copy(value) for key, value in fresh.items() if key not in self.imports})
        return outcome | {"changed": changed + replaced}

    def _lay_out_the_keys_names(self) -> tuple[dict[str, Any], list[str]]:
        """Give the names that locked cells have assigned their values again, for the next locked cell.

        Returns
        -------
        tuple of dict and list
            The learner's values, to be put back afterwards; and what to tell, which is about functions and imports
            only, because numbers and tables may well be called the same.
        """
        self.names["__builtins__"] = builtins
        theirs, told = {}, []
        for key, value in self.keys_own.items():
            if self.names.get(key, self) is not value:
                if key in self.names:
                    theirs[key] = self.names[key]
                self.names[key] = value
                if callable(value) or isinstance(value, ModuleType):
                    told.append(f"{key}, a name of the exercise's own cells")
        return theirs, told

    def check(self, source: str, name: str) -> dict[str, Any]:
        """Run a check, or its next part, in globals of its own: the learner's names, the trusted ones over them."""
        changed = self.trust.restore()
        if name != self.checking:  # a check's hidden part sees what its visible part assigned
            self.checking, self.checked = name, dict(self.names)
        self.checked.update(self.trusted, __builtins__=dict(self.builtins))
        with self.trust.settings.as_at_first():
            self.trust.watch.begin()
            outcome = run_cell(source, self.checked, name, quotable=False)._asdict()
            replaced, added = self.trust.watch.changed()
            replaced += self.trust.settings.bent()
        return outcome | {"changed": changed, "replaced": replaced, "added": added}

    def canary(self, source: str, name: str, used: list[str]) -> dict[str, Any]:
        """Run a check on wrong answers: it must fail. Nothing is put back first, so it sees what the check saw."""
        names = {**wrong_names(used, self.imports), "__builtins__": dict(self.builtins)}
        with self.trust.settings.as_at_first():
            return run_cell(source, names, name, quotable=False)._asdict()


class SharedCell(NamedTuple):
    """A cell that was run before all forks: its text, what it assigned, and what came of it."""

    source: str
    values: dict[str, Any]
    outcome: dict[str, Any]


class Shared:
    """What is the same for every submission to one key: imports, cells without anything of a learner's, and trust."""

    def __init__(self, imports: str, cells: list[tuple[str, str]]) -> None:
        self.imports, copies = trusted_names(imports)
        self.cells: dict[str, SharedCell] = {}
        module = _new_main()
        names = module.__dict__
        main, sys.modules["__main__"] = sys.modules["__main__"], module
        for name, source in cells:
            before = dict(names)
            outcome = run_cell(source, names, name)._asdict()
            if not outcome["ok"]:
                break  # it and what follows is run, and fails, in each submission
            values = {key: value for key, value in names.items() if key not in before or before[key] is not value}
            self.cells[name] = SharedCell(source, values, outcome)
        sys.modules["__main__"] = main
        self.trust = Trust(copies)


def _new_main() -> ModuleType:
    module = ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, **fresh_names())
    return module


def own_copy(value: Any) -> Any:
    """Return a copy of results, which a learner's cell could change in place; what cannot be copied stays as it is."""
    try:
        return _copied(value)
    except RecursionError:
        return value


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in (list, tuple):
        return kind(map(_copied, value))
    if kind is dict:
        return {_copied(key): _copied(part) for key, part in value.items()}
    module, name = kind.__module__.split(".")[0], kind.__name__
    if (module, name) in (("numpy", "ndarray"), ("pandas", "DataFrame")) and value.size < MOST_COPIED:
        return value.copy()
    if (module, name) == ("torch", "Tensor") and not value.requires_grad and value.numel() < MOST_COPIED:
        return value.clone()
    return value
