"""The process that runs a learner's cells: one request, one reply, a line of JSON each.

The inner half of the grader: ``python -m kdcourse.grading.inside.worker``. Alone it serves one submission over its
standard streams. With ``nest FD`` it imports torch once, and forks into namespaces of its own for each submission.
"""

import contextlib
import importlib
import json
import os
import select
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from . import isolation
from .cells import Shell, run_cell
from .integrity import Trust, trusted_names, wrong_namespace
from .scan import borrowed, suspicious

PRELOADED = (
    "torch", "torch._dynamo", "numpy", "matplotlib.pyplot", "pandas", "IPython.display", "kdcourse.checks",
    "kdcourse.losses", "kdcourse.plots", "kdcourse.recipes", "kdcourse.sweeps", "kdcourse.training", "kdcourse.zoo",
    "kdcourse.data",
)  # fmt: skip
MOST_MESSAGE = 150_000  # bytes
MOST_COPIED = 1_000_000  # numbers; results have some dozens, images many millions
_dumps, _loads, _write = json.dumps, json.loads, os.write


class Bench:
    """One submission's namespace, and what its code must not change."""

    def __init__(self, imports: str, answers: list[str], shared: "Shared | None" = None) -> None:
        self.module = ModuleType("__main__")
        self.names = self.module.__dict__
        self.names.update(__builtins__=__builtins__, get_ipython=Shell, display=lambda *args, **kwargs: None)
        sys.modules["__main__"] = self.module
        self.shared = shared.cells if shared else {}
        self.imports = dict(shared.imports) if shared else trusted_names(imports)
        self.trusted = dict(self.imports)  # by name in the checks' globals: these, and what locked cells assign
        self.answers = frozenset(answers)  # names that solution cells assign: the learner's, wherever else they appear
        self.trust = shared.trust if shared else Trust()
        self.checking, self.checked = "", self.names

    def learner(self, source: str, name: str) -> dict[str, Any]:
        """Run a cell of the learner's."""
        return run_cell(source, self.names, name)._asdict()

    def locked(self, source: str, name: str) -> dict[str, Any]:
        """Run a cell of the key's among the learner's names; what it assigns, checks will see unchanged."""
        changed = self.trust.restore()
        before = dict(self.names)
        known = self.shared.get(name)
        if known is not None and known.source == source:
            self.names.update(known.values)
            outcome = {**known.outcome, "seconds": 0.0}  # it took none of this submission's time
        else:
            outcome = run_cell(source, self.names, name)._asdict()
        fresh = {key: value for key, value in self.names.items() if key not in before or before[key] is not value}
        if known is not None:
            fresh.update(known.values)
        self.trusted.update({key: own_copy(value) for key, value in fresh.items() if key not in self.answers})
        return outcome | {"changed": changed}

    def check(self, source: str, name: str) -> dict[str, Any]:
        """Run a check, or its next part, in globals of its own: the learner's names, the trusted ones over them."""
        changed = self.trust.restore()
        if name != self.checking:  # a check's hidden part sees what its visible part assigned
            self.checking, self.checked = name, dict(self.names)
        self.checked.update(self.trusted)
        return run_cell(source, self.checked, name, quotable=False)._asdict() | {"changed": changed}

    def canary(self, source: str, name: str) -> dict[str, Any]:
        """Run a check on wrong answers, as a check is run: it must fail."""
        self.trust.restore()
        return run_cell(source, wrong_namespace(source, self.imports), name, quotable=False)._asdict()


class SharedCell(NamedTuple):
    """A cell that was run before all forks: its text, what it assigned, and what came of it."""

    source: str
    values: dict[str, Any]
    outcome: dict[str, Any]


class Shared:
    """What is the same for every submission to one key: imports, cells without anything of a learner's, and trust."""

    def __init__(self, imports: str, cells: list[tuple[str, str]]) -> None:
        self.imports = trusted_names(imports)
        self.cells: dict[str, SharedCell] = {}
        module = ModuleType("__main__")
        names = module.__dict__
        names.update(__builtins__=__builtins__, get_ipython=Shell, display=lambda *args, **kwargs: None)
        main, sys.modules["__main__"] = sys.modules["__main__"], module
        for name, source in cells:
            before = dict(names)
            outcome = run_cell(source, names, name)._asdict()
            if outcome["error"]:
                break  # it and what follows is run, and fails, in each submission
            values = {key: value for key, value in names.items() if key not in before or before[key] is not value}
            self.cells[name] = SharedCell(source, values, outcome)
        sys.modules["__main__"] = main
        self.trust = Trust()


def own_copy(value: Any) -> Any:
    """Return a copy of a table of results, which a learner's cell could change in place; anything else as it is."""
    try:
        return _copied(value)
    except (TypeError, RecursionError):
        return value


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in (str, int, float, bool, type(None)):
        return value
    if kind in (list, tuple):
        return kind(map(_copied, value))
    if kind is dict:
        return {_copied(key): _copied(part) for key, part in value.items()}
    module, name = kind.__module__.split(".")[0], kind.__name__
    if (module, name) in (("numpy", "ndarray"), ("pandas", "DataFrame")) and value.size < MOST_COPIED:
        return value.copy()
    if (module, name) == ("torch", "Tensor") and not value.requires_grad and value.numel() < MOST_COPIED:
        return value.clone()
    raise TypeError(f"a {name} is not copied")


def serve(requests: BinaryIO, replies: int, shared: Shared | None = None) -> None:
    """Answer requests until there are no more; each reply carries the nonce of its request."""
    bench: Bench | None = None
    actions: dict[str, Callable[..., Any]] = {}
    for line in requests:
        request = _loads(line)
        nonce, action = request.pop("nonce"), request.pop("action")
        if action == "begin":
            bench = Bench(request["imports"], request["answers"], shared)
            actions = {kind: getattr(bench, kind) for kind in ("learner", "locked", "check", "canary")}
            reply: dict[str, Any] = {}
        elif action == "scan":
            reply = {"flags": suspicious(request["sources"]) + borrowed(request["answers"], request["known"])}
        else:
            reply = actions[action](request["source"], request["name"])
        del request, line
        _send(replies, {"nonce": nonce, **reply})


def _send(replies: int, message: Mapping[str, Any]) -> None:
    data = _dumps(message).encode() + b"\n"  # ASCII, so half a surrogate pair is no trouble
    while data:
        data = data[_write(replies, data) :]


def alone() -> None:
    """Serve one submission over the standard streams, which its code does not get to see as such."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    _close_streams()
    limits = json.loads(sys.argv[2]) if len(sys.argv) > 2 else isolation.DEFAULT_LIMITS
    _preload(only_torch=True)
    if os.name == "posix":
        isolation.limit(limits, processes=bool(limits.get("sandboxed")))
    if limits.get("sandboxed"):
        isolation.drop_rights(limits["uid"] if os.getuid() == 0 else None)
    serve(requests, replies)


def nest(control: socket.socket) -> None:
    """Fork for each submission: a message with limits and a socket comes in, its end is told.

    A message with cells and no socket asks to run them here, once; forks find what came of them.
    """
    _preload()
    shared: dict[str, Shared] = {}
    _tell(control, {"ready": True})
    while True:
        message, handles, _, _ = socket.recv_fds(control, MOST_MESSAGE + 1, 1)
        if not message:
            return
        if message == b"end":
            continue  # it came after the end
        request = json.loads(message)
        if "share" in request:
            shared = {request["share"]: Shared(request["imports"], request["cells"])}  # one key at a time
            _tell(control, {"shared": request["share"]})
            continue
        limits, handle, common = request["limits"], handles[0], shared.get(request["shared"])

        def run(handle: int = handle, common: Shared | None = common) -> None:
            control.close()
            _close_streams()
            serve(os.fdopen(os.dup(handle), "rb"), handle, common)

        try:
            keeper, first = isolation.fork_isolated(run, limits)
        except OSError as error:
            os.close(handle)
            _tell(control, {"ended": f"the sandbox failed: {error}"})
            continue
        os.close(handle)
        _tell(control, {"ended": _watch(control, keeper, first, limits["memory"])})


def _watch(control: socket.socket, keeper: int, first: int, most: int) -> str:
    """Wait for the end of a submission, or make an end of it; return why, empty if it ended by itself."""
    own, reason, looked = _private_memory("self"), "", time.monotonic()
    while os.waitpid(keeper, os.WNOHANG)[0] == 0:
        if select.select([control], [], [], 0.02)[0]:
            control.recv(4096)  # a request to kill, or the end of the one who asks
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, 9)
            os.waitpid(keeper, 0)
            break
        if time.monotonic() - looked > 0.2:
            looked = time.monotonic()
            used = sum(max(0, _private_memory(pid) - own) for pid in os.listdir("/proc") if pid.isdigit())
            if used > most:
                reason = "memory"
                with contextlib.suppress(ProcessLookupError):
                    os.kill(first, 9)
    return reason


def _private_memory(process: str) -> int:
    """Return the bytes of memory that a process holds beyond what it reads from files; 0 if it is gone."""
    try:
        with open(f"/proc/{process}/status") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon", "RssShmem")))
    except (OSError, ValueError):
        return 0


def _tell(control: socket.socket, message: Mapping[str, Any]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


def _close_streams() -> None:
    """Point the three standard streams at nothing; what cells print is kept in Python."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    if nothing > 2:
        os.close(nothing)


def _preload(*, only_torch: bool = False) -> None:
    for name in PRELOADED[:1] if only_torch else PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    if not only_torch:
        # Forks share what is read once: the digits, and the fonts that matplotlib looks for.
        sys.modules["kdcourse.data"].load_mnist()


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["nest"]:
            nest(socket.socket(fileno=int(sys.argv[2])))
        else:
            alone()
    except Exception:
        traceback.print_exc()
        os._exit(70)
    os._exit(0)
