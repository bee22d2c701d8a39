"""The grader's end of the line to a worker: start it, send a cell, wait for no longer than is given, end it.

What comes back was written by a process that ran a learner's code. It is read as far as a limit, and believed only
where it is signed with the key that was sent before any of this code, and carries the nonce of the cell that was sent.
"""

import contextlib
import hashlib
import hmac
import io
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from .inside.isolation import DEFAULT_LIMITS
from .sandbox import PACKAGE, SETTINGS, Sandbox, environment

MOST_REPLY = 100_000  # bytes; an honest reply has below 20,000
MOST_MESSAGE = 150_000  # bytes; a packet's size is limited by the system
SHARING = 600.0  # seconds for the cells that are the same for everybody
LOST = "lost"
ENDING = 20.0  # seconds until the end of a process is told
START = 120.0  # seconds that a worker may take to import torch on a busy machine


class Stopped(Exception):
    """The process was ended, by us or by itself; the text says why."""


class Lost(Stopped):
    """The process that forks was ended from outside, which no learner's code can do."""


class Forged(Exception):
    """A reply that the worker did not write."""


class Session:
    """One submission's process."""

    def __init__(self, send: Callable[[bytes], object], replies: IO[bytes], end: Callable[[], str]) -> None:
        self._end = end
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=64)
        self._why: str | None = None
        self._key = secrets.token_hex(32)
        # Threads write and read, so that nobody waits for a process that does neither.
        threading.Thread(target=self._write, args=(send,), daemon=True).start()
        threading.Thread(target=self._read, args=(replies,), daemon=True).start()

    def _write(self, send: Callable[[bytes], object]) -> None:
        while (line := self._requests.get()) is not None:
            try:
                send(line)
            except (OSError, ValueError):
                with contextlib.suppress(queue.Full):
                    self._lines.put_nowait(None)
                return

    def _read(self, replies: IO[bytes]) -> None:
        # One question, one answer: whoever writes more than there is room for is not read any further.
        with contextlib.suppress(OSError, ValueError, queue.Full):
            while line := replies.readline(MOST_REPLY):
                self._lines.put_nowait(line)
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)

    def ask(self, action: str, *, timeout: float, **request: Any) -> dict[str, Any]:
        """Send a request and return its reply.

        Raises
        ------
        Stopped
            If none comes in time, or the process is gone.
        Forged
            If something else comes.
        """
        nonce = secrets.token_hex(16)
        if action == "begin":
            request["key"] = self._key
        line = json.dumps({"nonce": nonce, "action": action, **request}).encode() + b"\n"
        self._requests.put(line)
        try:
            answer = self._lines.get(timeout=timeout)
        except queue.Empty:
            self.end()
            raise Stopped(f"took longer than {timeout:.0f} seconds") from None
        if answer is None:
            why = self.end()
            if why == LOST:
                raise Lost("was run in a process that somebody ended")
            raise Stopped("took more memory than is allowed" if why == "memory" else why or "ended its process")
        return _believed(answer, nonce, self._key.encode())

    def end(self) -> str:
        """End the process and all that it started; return why it had ended, if that is known."""
        if self._why is None:
            self._requests.put(None)
            self._why = self._end()
        return self._why


def _believed(answer: bytes, nonce: str, key: bytes) -> dict[str, Any]:
    signature, _, answer = answer.rstrip(b"\n").partition(b" ")
    if not hmac.compare_digest(signature, hmac.digest(key, answer, "sha256").hex().encode()):
        raise Forged
    try:
        reply = json.loads(answer)
    except (ValueError, RecursionError):
        raise Forged from None
    if not isinstance(reply, dict) or not secrets.compare_digest(str(reply.get("nonce")).encode(), nonce.encode()):
        raise Forged
    return {name: _plain(value) for name, value in reply.items()}


def _plain(value: Any) -> Any:
    """Return text that can be written to a file; whatever else as it is."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return [_plain(part) for part in value[:100]] if isinstance(value, list) else value


class Worker:
    """Opens sessions, one after the other.

    Parameters
    ----------
    sandbox : Sandbox or None
        None: a plain process of ours, for one's own work.
    limits : dict, optional
        As `isolation.limit` takes them.
    """

    def __init__(self, sandbox: Sandbox | None, limits: dict[str, int] | None = None) -> None:
        self.sandbox = sandbox
        self.limits = {**DEFAULT_LIMITS, **(limits or {})}
        self._nest: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._log: Any = None
        self._shared = ""
        self._closed = False

    def open(self) -> Session:
        """Return a session with a fresh process.

        Raises
        ------
        ValueError
            If no process can be started.
        """
        if self._closed:
            raise ValueError("this worker is closed.")
        if self.sandbox is None or not self.sandbox.nested:
            return self._alone()
        self._ensure_nest()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        message = {"limits": self.limits, "shared": self._shared}
        try:
            self._control.settimeout(START)
            socket.send_fds(self._control, [json.dumps(message).encode()], [theirs.fileno()])
        except OSError:
            self._end_nest()  # the session finds nobody at the other end, and a new one is begun
        theirs.close()

        def end() -> str:
            why = self._end_of_fork()
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)  # wakes the threads that write and read
            ours.close()
            return why

        return Session(ours.sendall, ours.makefile("rb"), end)

    def share(self, imports: str, cells: list[tuple[str, str]]) -> None:
        """Run cells of a key once, for all sessions opened from now on; only where sessions are forks of one process.

        Parameters
        ----------
        imports : str
            The key's import statements.
        cells : list of (str, str)
            Names and sources of locked cells that use nothing of a learner's.
        """
        if self._closed or self.sandbox is None or not self.sandbox.nested:
            return
        text = json.dumps([imports, cells])
        name = hashlib.sha256(text.encode()).hexdigest()
        self._ensure_nest()
        assert self._control is not None
        if name == self._shared:
            return
        self._shared = ""
        message = json.dumps({"share": name, "imports": imports, "cells": cells}).encode()
        if len(message) > MOST_MESSAGE:
            return  # each session runs them, then
        try:
            self._control.settimeout(START)
            self._control.sendall(message)
            told = self._told(SHARING)
        except OSError:
            told = None
        if told == {"shared": name}:
            self._shared = name
        else:
            self._end_nest()

    def _ensure_nest(self) -> None:
        if self._nest is None or self._nest.poll() is not None:
            self._end_nest()
            self._start_nest()

    def close(self) -> None:
        """End the worker's process; it opens no session any more."""
        self._closed = True
        self._end_nest()

    def _end_nest(self) -> None:
        if self._nest is not None:
            self._nest.kill()
            self._nest.wait()
        if self._control is not None:
            self._control.close()
        if self._log is not None:
            self._log.close()
        self._nest = self._control = self._log = None
        self._shared = ""

    def _start_nest(self) -> None:
        assert self.sandbox is not None
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        handle = theirs.fileno()
        command = self.sandbox.command(["-m", "kdcourse.grading.inside.worker", "nest", str(handle)])
        self._nest = subprocess.Popen(
            command, pass_fds=[handle], env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=self._log,
        )  # fmt: skip
        theirs.close()
        if self._told(START) != {"ready": True}:
            self._log.seek(0)
            told = self._log.read()[-1000:].decode("utf-8", "replace").strip()
            self._end_nest()
            raise ValueError(f"the sandbox does not start: {told or 'no word from it'}")

    def _told(self, timeout: float) -> dict[str, Any] | None:
        assert self._control is not None
        self._control.settimeout(timeout)
        try:
            message = self._control.recv(4096)
        except OSError:
            return None
        return json.loads(message) if message else None

    def _end_of_fork(self) -> str:
        """Have the fork killed; if its end is not told, the whole worker goes."""
        try:
            if self._control is None or self._nest is None:
                return LOST
            self._control.settimeout(ENDING)
            self._control.send(b"end")
            told = self._told(ENDING)
        except OSError:
            told = None
        if told is None and self._nest is not None and self._is_dead(self._nest):
            self._end_nest()
            return LOST
        if told is None or "ended" not in told:
            self._end_nest()
            return ""
        return str(told["ended"])

    @staticmethod
    def _is_dead(process: subprocess.Popen) -> bool:
        try:
            return process.wait(timeout=1.0) is not None
        except subprocess.TimeoutExpired:
            return False

    def _alone(self) -> Session:
        limits = json.dumps({**self.limits, "sandboxed": self.sandbox is not None})
        arguments = ["-m", "kdcourse.grading.inside.worker", "alone", limits]
        if self.sandbox is None:
            command = [sys.executable, "-P", *arguments]
            variables = {**os.environ, **SETTINGS, "MPLBACKEND": "Agg"}
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
        else:
            command, variables = self.sandbox.command(arguments), environment()
        folder = tempfile.TemporaryDirectory(prefix="kdcourse-", ignore_cleanup_errors=True)
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=folder.name, start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        requests = process.stdin

        def send(line: bytes) -> None:
            while line:
                line = line[os.write(requests.fileno(), line) :]

        def end() -> str:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                requests.close()
            time.sleep(0)  # let the reading thread see the end
            folder.cleanup()
            return ""

        return Session(send, io.BufferedReader(process.stdout), end)  # type: ignore[type-var]
