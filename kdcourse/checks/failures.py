"""How a check speaks: one message when something is wrong, one line when all is right. All exercises."""

import linecache
import traceback
from collections.abc import Callable
from typing import Any, NoReturn


class CheckFailed(AssertionError):
    """A check found a mistake; the message says what was seen and what is probably behind it."""

    def _render_traceback_(self) -> list[str]:
        """Let Jupyter show the message alone: the frames are those of the check, not of the learner's code."""
        return [f"CheckFailed: {self}"]


def fail(message: str) -> NoReturn:
    """Raise with a message that teaches."""
    raise CheckFailed(message)


def passed(verified: str) -> None:
    """Say what a pass has verified."""
    print(f"Passed. {verified}")


def not_answered(message: str) -> NoReturn:
    """Raise for a stub; Jupyter shows the message alone."""
    raise shown_alone(NotImplementedError(message))


def shown_alone(error: Exception) -> Exception:
    """Let Jupyter show an error as one line, without the frames of the check."""
    lines = [f"{type(error).__name__}: {error}"]
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]
    return error


def name_of(function: Any) -> str:
    """Return a function's name for messages."""
    name = getattr(function, "__name__", None)
    return name if type(name) is str else type(function).__name__


def check_callable(function: Any) -> None:
    """Fail if something else came where a function is needed."""
    if not callable(function):
        fail(f"a function is needed, got {type(function).__name__}.")


def named_like(function: Callable, wrapper: Callable) -> Callable:
    """Give a wrapper the name of the learner's function, which messages use."""
    wrapper.__name__ = name_of(function)
    return wrapper


def line_of(error: BaseException, function: Any) -> str:
    """Return the line of the learner's function that raised an error, as " in the line `…`", or nothing."""
    code = getattr(function, "__code__", None)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code is not None and frame.filename == code.co_filename:
            line = " ".join((frame.line or linecache.getline(frame.filename, frame.lineno or 0)).split())
            return f" in the line `{line[:90]}`" if line else ""
    return ""
