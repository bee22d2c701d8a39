"""Run one cell in plain Python, as Jupyter would as far as exercises need it: magics, await, output, errors in words.

The inner half of the grader. Nothing that a cell does may stop the reply to it: every exception is caught and
described, output is cut off at a size.
"""

import ast
import asyncio
import inspect
import io
import linecache
import re
import sys
import time
from types import TracebackType
from typing import Any, NamedTuple

MOST_OUTPUT = 4_000  # characters kept of what a cell prints
MOST_ERROR = 1_500
_UNWRAPPED = ("time", "timeit", "capture", "prun", "python", "python3")
_TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_compile, _exec, _eval, _str, _type, _isinstance = compile, exec, eval, str, type, isinstance


class Outcome(NamedTuple):
    """What came of a cell.

    Attributes
    ----------
    error : str
        Empty if there was none.
    kind : str
        Name of the error's class.
    line : int
        Of the cell, in which the error arose; 0 if unknown.
    output : str
        What was printed, cut off.
    seconds : float
    """

    error: str
    kind: str
    line: int
    output: str
    seconds: float


class Printed(io.TextIOBase):
    """A stream that keeps the beginning of what is written and counts the rest."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._size = 0

    def write(self, text: str) -> int:
        """Keep the text while there is room."""
        if self._size < MOST_OUTPUT:
            self._kept.append(str(text)[: MOST_OUTPUT - self._size])
        self._size += len(text)
        return len(text)

    def writable(self) -> bool:
        """Answer what libraries ask of a stream."""
        return True

    def text(self) -> str:
        """Return what was kept."""
        text = "".join(self._kept)
        return text if self._size <= MOST_OUTPUT else f"{text}\n… {self._size:,} characters in all"


class Shell:
    """Stands for IPython's shell in ``get_ipython().…``: every method does nothing."""

    def __getattr__(self, name: str) -> Any:
        """Return something that can be called."""
        return lambda *args, **kwargs: None


def run_cell(source: str, namespace: dict[str, Any], name: str, *, quotable: bool = True) -> Outcome:
    """Run a cell and say what came of it.

    Parameters
    ----------
    source : str
        As in the notebook, with magics or not.
    namespace : dict
        Its globals; changed by it.
    name : str
        For tracebacks.
    quotable : bool
        Whether tracebacks and ``inspect`` may show its text; hidden tests may not be shown.
    """
    printed, streams = Printed(), (sys.stdin, sys.stdout, sys.stderr)
    file = f"<{name}>"
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(""), printed, printed  # input() gets EOFError
    start = time.perf_counter()
    error, kind, line = "", "", 0
    try:
        source = plain_python(source)
        if quotable:
            linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        code = _compile(source, file, "exec", flags=_TOP_LEVEL_AWAIT, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(_eval(code, namespace))
        else:
            _exec(code, namespace)
    except BaseException as caught:  # SystemExit and KeyboardInterrupt too: the next cells are still to run
        kind = _type(caught).__name__
        line = _line_of(caught, file)
        error = describe(caught, source if quotable else "", line)
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
    return Outcome(error, kind, line, printed.text(), time.perf_counter() - start)


def describe(error: BaseException, source: str, line: int) -> str:
    """Return an error in words: its message, and the line of the cell where it arose."""
    try:
        message = _str(error)[:MOST_ERROR]
    except BaseException:  # its __str__ is the learner's
        message = "(its message cannot be shown)"
    kind = _type(error).__name__
    if kind in ("CheckFailed", "NotImplementedError", "AssertionError") and message:
        text = message
    elif kind == "SystemExit":
        text = "the cell ends Python (SystemExit)."
    elif kind == "EOFError":
        text = "input() has nobody to ask while a notebook is graded (EOFError)."
    else:
        text = f"{kind}: {message}" if message else kind
    lines = source.splitlines()
    if 0 < line <= len(lines) and kind != "CheckFailed":
        text += f"\n  line {line}: {lines[line - 1].strip()[:200]}"
    return text


def plain_python(source: str) -> str:
    """Return a cell without IPython's own syntax; a cell that is plain Python stays as it is.

    ``%%time`` and the like are unwrapped, a cell of another language (``%%bash``, ``%%writefile``) becomes nothing,
    lines with ``%``, ``!`` or ``?`` become nothing, ``%time f(x)`` becomes ``f(x)``.
    """
    while source.lstrip().startswith("%%"):
        head, _, rest = source.lstrip().partition("\n")
        if re.split(r"\s", head[2:])[0] not in _UNWRAPPED:
            return ""
        source = "\n" + rest  # the empty line keeps the numbers of the lines
    try:
        _compile(source, "<cell>", "exec", flags=_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST, dont_inherit=True)
        return source
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return "\n".join(_plain_line(line) for line in source.split("\n"))


def _plain_line(line: str) -> str:
    indent, text = re.match(r"(\s*)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
    if text.startswith(("%time ", "%prun ")):
        return indent + text.split(" ", 1)[1]
    if text.startswith(("%", "!", "?")) or re.fullmatch(r"[\w.]+\?{1,2}\s*", text):
        return indent + "pass"
    assigned = re.match(r"([\w ,]+=\s*)(%time\s+|[%!])", text)
    if assigned:
        rest = text[assigned.end() :] if assigned[2].startswith("%time") else "None"
        return indent + assigned[1] + rest
    return line


def _line_of(error: BaseException, file: str) -> int:
    """Return the innermost line of the cell in an error's traceback."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno or 0
    line, step = 0, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == file:
            line = step.tb_lineno
        step = _next(step)
    return line


def _next(step: TracebackType) -> TracebackType | None:
    return step.tb_next
