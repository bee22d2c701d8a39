"""Calls of one function on all cores: for what is no sweep, such as chains of generations, or images in an order.

Chapters 06 and 07.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

import joblib
import torch

from ..training import threads_asked_for


def on_all_cores(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], *, device: str | torch.device = "cpu"
) -> list[Any]:
    """Call a function with each tuple of arguments, in a process for each core.

    Parameters
    ----------
    function : callable
        It decides its own seeds: nothing random is shared between calls. One that is defined in a notebook is sent with
        the variables that it reads, so it should read no large ones.
    calls : iterable of tuple
        The positional arguments of each call.
    device : str or torch.device
        Where the calls compute. On a GPU, and with ``KDCOURSE_THREADS=1``, they run here, one after the other.

    Returns
    -------
    list
        What the calls return, in their order.

    Raises
    ------
    ValueError
        If ``calls`` holds something that is no tuple.

    Examples
    --------
    >>> on_all_cores(pow, [(2, 3), (3, 2)], device="meta")
    [8, 9]
    """
    calls = list(calls)
    for place, arguments in enumerate(calls):
        if not isinstance(arguments, tuple):
            raise ValueError(
                f"calls must hold a tuple of arguments for each call, got {type(arguments).__name__} at place {place}. "
                "One argument alone is (argument,)."
            )
    workers = min(threads_asked_for() or joblib.cpu_count(), len(calls))
    if torch.device(device).type != "cpu" or workers < 2:
        return [function(*arguments) for arguments in calls]
    parent = os.getpid()
    return joblib.Parallel(workers, backend="loky", batch_size=1)(
        joblib.delayed(_with_one_thread)(parent, function, arguments) for arguments in calls
    )


def _with_one_thread(parent: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    if os.getpid() != parent:
        torch.set_num_threads(1)  # the calls already share the processors among them
    return function(*arguments)
