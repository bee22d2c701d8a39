"""Settings that bend what torch, NumPy and Python compute without replacing any function of theirs.

The inner half of the grader. A default type, a hook on every module, another kernel for an operation: none of these is
a name that changes. Locked cells and checks run with the settings that hold when Python starts; a learner's own cells
keep theirs. What no ordinary code does, and what could make a wrong answer look right, is undone for good and told.
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

_getframe, _getrecursionlimit, _setrecursionlimit = sys._getframe, sys.getrecursionlimit, sys.setrecursionlimit
_KERNELS = frozenset({"_", "aten", "prim", "prims", "quantized"})  # torch's own operations, and what stands for all
_MOST_TOOLS = 6  # that Python lets watch at once
_taken: list[Any] = []  # libraries that give an operation of torch another kernel

EVERY_MODULE, EVERY_GRADIENT = "a hook on every module", "a hook on every gradient"
KERNEL, WATCHING = "an operation of torch", "sys.monitoring"


class Settings:
    """What holds now, before any code of a learner's has run."""

    def __init__(self) -> None:
        self.torch, self.numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        self.warnings_filters = list(warnings.filters)
        self.recursion = _getrecursionlimit()
        self.tools = [_tool(number) for number in range(_MOST_TOOLS)]
        self.hooks: list[tuple[dict, dict]] = []
        self.top: Any = None
        self.pop: Any = None
        if self.torch is not None:
            self.dtype = self.torch.get_default_dtype()
            self.hooks = [(hooks, dict(hooks)) for hooks in _hooks_on_everything()]
            self.top = getattr(getattr(self.torch._C, "_autograd", None), "_top_saved_tensors_default_hooks", None)
            self.pop = getattr(getattr(self.torch._C, "_autograd", None), "_pop_saved_tensors_default_hooks", None)
            self.get_dtype, self.set_dtype = self.torch.get_default_dtype, self.torch.set_default_dtype
            self.get_threads, self.set_threads = self.torch.get_num_threads, self.torch.set_num_threads
            self.threads = self.get_threads()
            _tell_of_kernels(sys.modules["torch.library"])
        self.forget_seen = getattr(warnings, "_filters_mutated", lambda: None)

    def bent(self) -> list[str]:
        """Return which of the things are there that no ordinary code does."""
        found = [EVERY_MODULE] if any(hooks != before for hooks, before in self.hooks) else []
        found += [EVERY_GRADIENT] if self._hooked_gradients() else []
        found += [KERNEL] if _taken else []
        return found + ([WATCHING] if [_tool(number) for number in range(_MOST_TOOLS)] != self.tools else [])

    def straighten(self) -> list[str]:
        """Undo these things; return which there were."""
        found = self.bent()
        for hooks, before in self.hooks:
            if hooks != before:
                hooks.clear()
                hooks.update(before)
        while self._hooked_gradients():
            self.pop()
        while _taken:
            _taken.pop()._destroy()
        for number in range(_MOST_TOOLS):
            if _tool(number) != self.tools[number]:
                sys.monitoring.set_events(number, 0)  # type: ignore[attr-defined]
                sys.monitoring.free_tool_id(number)  # type: ignore[attr-defined]
        return found

    def _hooked_gradients(self) -> bool:
        return self.torch is not None and self.top is not None and self.top(True) is not None

    @contextlib.contextmanager
    def as_at_first(self) -> Iterator[None]:
        """Have the settings of the beginning within this block, and those of a learner's cells again after it."""
        limit, filters = _getrecursionlimit(), list(warnings.filters)
        _setrecursionlimit(self.recursion)
        self._filter_warnings(self.warnings_filters)
        with contextlib.ExitStack() as stack:
            torch = self.torch
            if torch is not None:
                dtype = self.get_dtype()
                if dtype is not self.dtype:
                    self.set_dtype(self.dtype)
                    stack.callback(self.set_dtype, dtype)
                if self.get_threads() != self.threads:
                    self.set_threads(self.threads)  # for good: so many may be more than a process may have
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.enable_grad())
                if torch.is_autocast_enabled("cpu"):
                    stack.enter_context(torch.autocast("cpu", enabled=False))
            if self.numpy is not None:
                stack.enter_context(self.numpy.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
            try:
                yield
            finally:
                _setrecursionlimit(limit)
                self._filter_warnings(filters)

    def _filter_warnings(self, filters: list) -> None:
        warnings.filters[:] = filters  # type: ignore[index]
        self.forget_seen()


def _hooks_on_everything() -> Iterator[dict]:
    """Yield the dicts in which torch keeps hooks on all modules and all optimizers."""
    for name in ("torch.nn.modules.module", "torch.optim.optimizer"):
        for key, value in vars(sys.modules[name]).items():
            if key.startswith("_global_") and isinstance(value, dict):
                yield value


def _tool(number: int) -> str | None:
    watching = getattr(sys, "monitoring", None)
    return None if watching is None else watching.get_tool(number)


def _tell_of_kernels(library: ModuleType) -> None:
    """Remember whoever gives torch's own operations other kernels; torch itself does, in modules that it loads late."""
    real = library.Library.__init__
    if getattr(real, "__module__", "") == __name__:
        return

    def __init__(self: Any, ns: str, kind: str, dispatch_key: str = "") -> None:
        real(self, ns, kind, dispatch_key)
        if ns in _KERNELS and not _is_torchs_own(_getframe(1)):
            _taken.append(self)

    library.Library.__init__ = __init__


def _is_torchs_own(frame: FrameType) -> bool:
    file = frame.f_code.co_filename.replace("\\", "/")
    folder = sys.modules["torch"].__file__.replace("\\", "/").rpartition("/")[0]  # type: ignore[union-attr]
    return file.startswith(f"{folder}/") and file != f"{folder}/library.py"
