"""Run one cell in plain Python, as Jupyter would as far as exercises need it: magics, await, output, errors in words.

The inner half of the grader. Nothing that a cell does may stop the reply to it: every exception is caught and
described, output is cut off at a size. Success is said and never inferred: an exception may have no name and no text.
"""

import ast
import asyncio
import inspect
import io
import linecache
import re
import sys
import time
from types import CodeType, TracebackType
from typing import Any, NamedTuple

from .surroundings import MOST_OUTPUT, Printed

MOST_ERROR = 1_500  # characters kept of an error's message
_UNWRAPPED = ("time", "timeit", "capture", "prun", "python", "python3")
_TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_PLAIN_MESSAGES = ("CheckFailed", "NotImplementedError", "AssertionError")  # whose text needs no class name before it
# Read from the types themselves: a class can answer for its objects, and a class of classes for its classes.
_name_of_class = vars(type)["__name__"].__get__
_traceback_of = vars(BaseException)["__traceback__"].__get__
_clock = time.perf_counter


class Outcome(NamedTuple):
    """What came of a cell.

    Attributes
    ----------
    ok : bool
        Whether the cell came to its end without an error.
    error : str
        Empty if it did, never empty if not.
    kind : str
        Name of the error's class.
    line : int
        Of the cell, in which the error arose; 0 if unknown.
    output : str
        What was printed, cut off.
    seconds : float
    """

    ok: bool
    error: str
    kind: str
    line: int
    output: str
    seconds: float


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
    start = _clock()
    ok, error, kind, line = False, "", "", 0
    try:
        _run(_compiled(source, file, quotable), namespace)
        ok = True
    except BaseException as caught:  # SystemExit and KeyboardInterrupt too: the next cells are still to run
        kind, line, error = _described(caught, source if quotable else "", file)
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
    return Outcome(ok, error, kind, line, _output_of(printed), _clock() - start)


def _compiled(source: str, file: str, quotable: bool) -> CodeType:
    if quotable:
        source = plain_python(source)
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    return compile(source, file, "exec", flags=_TOP_LEVEL_AWAIT, dont_inherit=True)


def _run(code: CodeType, namespace: dict[str, Any]) -> None:
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, namespace))
    else:
        exec(code, namespace)


def _described(error: BaseException, source: str, file: str) -> tuple[str, int, str]:
    """Return the name of an error's class, the line of the cell where it arose, and the error in words.

    The error may be of a class that the cell has made, so each of its parts may do anything when it is read.
    """
    kind = exact(_name_of_class(type(error)))[:100]
    try:
        line = _line_of(error, file)
    except BaseException:
        line = 0
    try:
        message = exact(str(error))[:MOST_ERROR]
    except BaseException:
        message = "(its message cannot be shown)"
    return kind, line, _in_words(kind, message, line, source)


def _in_words(kind: str, message: str, line: int, source: str) -> str:
    if kind in _PLAIN_MESSAGES and message.strip():
        text = message
    elif kind == "SystemExit":
        text = "the cell ends Python (SystemExit)."
    elif kind == "EOFError":
        text = "input() has nobody to ask while a notebook is graded (EOFError)."
    else:
        kind = kind if kind.strip() else "an error whose class has no name"
        text = f"{kind}: {message}" if message else kind
    lines = source.splitlines()
    if 0 < line <= len(lines) and kind != "CheckFailed":
        text += f"\n  line {line}: {lines[line - 1].strip()[:200]}"
    return text


def exact(text: Any) -> str:
    """Return a string of Python's own class; a subclass could answer for its content.

    Raises
    ------
    TypeError
        If it is no string at all.
    """
    return str.__add__("", text)


def _output_of(printed: Printed) -> str:
    """Return what was kept; a cell may have replaced any part of the stream that it printed to."""
    try:
        text = exact("".join(printed.kept))[:MOST_OUTPUT]
        return text if printed.size <= MOST_OUTPUT else f"{text}\n… {int(printed.size):,} characters in all"
    except BaseException:
        return ""


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
        compile(source, "<cell>", "exec", flags=_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST, dont_inherit=True)
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
    if type(error) in (SyntaxError, IndentationError, TabError) and exact(error.filename or "") == file:  # type: ignore[attr-defined]
        line = error.lineno  # type: ignore[attr-defined]
        return line if type(line) is int else 0
    line, step = 0, _traceback_of(error)
    while type(step) is TracebackType:
        if step.tb_frame.f_code.co_filename == file:
            line = step.tb_lineno
        step = step.tb_next
    return line
