"""Where and with what a model trains: the device and the number of threads.

Chapters 00 and 01. Imported from ``kdcourse.training``.
"""

import math
import os
import time

import torch
from torch import nn


def pick_device(name: str | None = None) -> torch.device:
    """Return the device to train on: the named one, or the first there is of CUDA, Apple's MPS, CPU.

    Raises
    ------
    ValueError
        If the named device is unknown or not present on this machine.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    here = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    here += ["mps", "cpu"] if torch.backends.mps.is_available() else ["cpu"]
    first = here[0].partition(":")[0]
    if name is None or name == "auto":
        return torch.device(first)
    if name not in {*here, first, *(f"{kind}:0" for kind in here)}:  # torch takes "cpu:7" silently
        raise ValueError(f"device {name!r} is not on this machine; here: {', '.join(here)}.")
    return torch.device(name)


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's first parameter is; the CPU for a model without any.

    Examples
    --------
    >>> device_of(nn.Linear(2, 2))
    device(type='cpu')
    """
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def choose_threads(count: int | None = None) -> int:
    """Choose how many CPU threads torch uses: ``count``, or the environment's KDCOURSE_THREADS, or the faster of two.

    For the small models of the course more threads are not always faster. When another process wants the CPU,
    threads that wait for one another can be ten times slower than one alone. Without an explicit count a small
    forward and backward pass is timed with one thread and with all of them, in turn, and the faster is kept.

    Returns
    -------
    int
        The number of threads now in use.

    Raises
    ------
    ValueError
        If the count is not a positive integer.

    Examples
    --------
    >>> before = torch.get_num_threads()
    >>> choose_threads(1), choose_threads(before) == before
    (1, True)
    """
    asked = threads_asked_for() if count is None else _checked_threads(count)
    if asked is not None:
        torch.set_num_threads(asked)
        return asked
    most = torch.get_num_threads()
    if most > 1:
        timings = {threads: math.inf for threads in (1, most)}
        for _ in range(3):
            for threads in timings:
                torch.set_num_threads(threads)
                timings[threads] = min(timings[threads], _time_small_step())
        torch.set_num_threads(min(timings, key=lambda threads: timings[threads]))
    return torch.get_num_threads()


def threads_asked_for() -> int | None:
    """Return the environment's ``KDCOURSE_THREADS``, or None where it is not set.

    Raises
    ------
    ValueError
        If it is not a positive integer.

    Examples
    --------
    >>> os.environ.get("KDCOURSE_THREADS") == (None if threads_asked_for() is None else str(threads_asked_for()))
    True
    """
    asked = os.environ.get("KDCOURSE_THREADS")
    return _checked_threads(asked, source="KDCOURSE_THREADS: ") if asked else None


def _checked_threads(asked: int | str, source: str = "") -> int:
    text, most = str(asked), max(64, 2 * (os.cpu_count() or 1))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise ValueError(
            f"{source}the number of threads must be a positive integer, got {asked!r}; at most {most} here. More "
            f"threads than cores ({os.cpu_count()}) wait for one another, and too many end the process."
        )
    return int(text)


def _time_small_step() -> float:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        layer, inputs = nn.Linear(784, 256), torch.rand(128, 784)
    layer(inputs).sum().backward()
    start = time.perf_counter()
    for _ in range(10):
        layer(inputs).sum().backward()
    return time.perf_counter() - start
