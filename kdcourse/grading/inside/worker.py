"""The process that runs a learner's cells: how it starts, and how it forks for each submission.

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
from collections.abc import Mapping
from typing import Any

from . import isolation
from .private import private_imports

with private_imports():
    from .bench import Shared
    from .serving import forget_the_grader, serve

PRELOADED = (
    "torch", "torch._dynamo", "numpy", "numpy.testing", "matplotlib.pyplot", "pandas", "IPython.display",
    "kdcourse.checks", "kdcourse.losses", "kdcourse.plots", "kdcourse.recipes", "kdcourse.sweeps",
    "kdcourse.training", "kdcourse.zoo", "kdcourse.data",
)  # fmt: skip
MOST_MESSAGE = 150_000  # bytes


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
    forget_the_grader()
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
