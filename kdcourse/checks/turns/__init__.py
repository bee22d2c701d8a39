"""Your turn: the lines that a learner writes inside a chapter, checked at once. All chapters.

One module a chapter, such as ``chapter02.py``. A chapter says ``kl = check("02.kl", kl)``. The right function stands
here, and the builder of the notebooks prints it below the cell, folded. An untouched cell stops nothing.
"""

import ast
import dis
import importlib
import inspect
import textwrap
from collections.abc import Callable, Mapping
from html import escape
from importlib import resources
from types import MappingProxyType
from typing import Any, NamedTuple

from ..comparing import check_values
from ..failures import CheckFailed
from ..slips import Slips

WRITTEN, WRONG, OPEN = "#1c7a43", "#d1242f", "#8a5a00"


class Turn(NamedTuple):
    """A function that a learner writes in a chapter.

    Attributes
    ----------
    right : callable
        The right one, under the name and with the arguments of the chapter's stub. Its source is the folded solution,
        so it is written as a learner would write it.
    verify : callable
        Takes the learner's function. Raises `CheckFailed` with the name of the mistake, returns what was verified.
    note : str
        One or two sentences below the solution: the mistake that is made most often, and what it does.
    slips : mapping from str to Slip
        Mistakes that ``verify`` knows by name.
    """

    right: Callable
    verify: Callable[[Callable], str]
    note: str
    slips: Slips = MappingProxyType({})


class Reply:
    """What a check says: a word in colour and a sentence, in HTML and as text.

    Parameters
    ----------
    word, text : str
    color : str
    """

    def __init__(self, word: str, text: str, color: str) -> None:
        self.word, self.text, self.color = word, text, color

    def __repr__(self) -> str:
        """Return both as text."""
        return f"{self.word} {self.text}"

    def _repr_html_(self) -> str:
        border = f"border-left: 4px solid {self.color}; padding: 0.3em 0.8em"
        return f'<p role="status" style="{border}"><strong>{escape(self.word)}</strong> {escape(self.text)}</p>'


def check(key: str, function: Callable) -> Callable:
    """Check what a learner wrote in a chapter, say what was verified or what is wrong, and stop nothing.

    Parameters
    ----------
    key : str
        Chapter and name, such as ``"02.kl"``.
    function : callable
        The learner's.

    Returns
    -------
    callable
        The learner's function if it is right, or else the course's own, so that the chapter goes on.

    Raises
    ------
    ValueError
        If there is nothing to write under this key.

    Examples
    --------
    >>> def kl(p, q):
    ...     return (p * (p.log() - q.log())).sum()
    >>> kl = check("02.kl", kl)
    Not yet. .sum() without dim adds up the whole batch: one number, where each image needs its own.
    """
    from IPython.display import display

    turn = find_turn(key)
    goes_on = f"The chapter goes on with the course's own {turn.right.__name__}."
    try:
        verified = turn.verify(function)
    except (NotImplementedError, CheckFailed) as error:
        if isinstance(error, NotImplementedError) or is_open(function):
            display(Reply("Not written yet.", f"Replace the `...` in {turn.right.__name__}. {goes_on}", OPEN))
        else:
            display(Reply("Not yet.", str(error), WRONG))
    else:
        display(Reply("Right.", verified, WRITTEN))
        return function
    return turn.right


def is_open(function: Any) -> bool:
    """Return whether a function is still a stub: a ``...`` stands in it as a statement or as a value."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (TypeError, OSError, SyntaxError):  # not a function, or one without a source
        code = getattr(function, "__code__", None)
        nothing = {"RESUME", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
        return code is not None and {step.opname for step in dis.get_instructions(code)} <= nothing
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Expr | ast.Assign | ast.Return)]
    return any(isinstance(node.value, ast.Constant) and node.value.value is ... for node in nodes)


def find_turn(key: str) -> Turn:
    """Return what is to be written under a key.

    Raises
    ------
    ValueError
        If there is nothing.
    """
    turns = read_turns(key.split(".")[0])
    if key not in turns:
        known = ", ".join(turns) or "none in this chapter"
        raise ValueError(f"there is nothing to write under {key!r}. Known: {known}.")
    return turns[key]


def chapters_with_turns() -> list[str]:
    """Return the numbers of the chapters in which something is written, such as ``"02"``, in order."""
    names = [entry.name for entry in resources.files(__name__).iterdir()]
    return sorted(name[7:9] for name in names if name.startswith("chapter") and name.endswith(".py"))


def read_turns(chapter: str) -> Mapping[str, Turn]:
    """Return what is written in a chapter, by key, in order; nothing if there is no such chapter."""
    if chapter not in chapters_with_turns():
        return {}
    return importlib.import_module(f"{__name__}.chapter{chapter}").TURNS


def solution_of(turn: Turn) -> str:
    """Return the source of the right function, without its docstring."""
    lines = textwrap.dedent(inspect.getsource(turn.right)).splitlines()
    if turn.right.__doc__:
        start = next(place for place, line in enumerate(lines) if '"""' in line)
        end = next(place for place in range(start, len(lines)) if lines[place].rstrip().endswith('"""'))
        del lines[start : end + 1]
    return "\n".join(lines)


def compared(
    right: Callable, cases: Callable[[], Any], *, verified: str, note: str, slips: Slips, **settings: Any
) -> Turn:
    """Return a turn whose check compares with the right function on random cases.

    Parameters
    ----------
    right : callable
        The right function.
    cases : callable
        Returns a list of `Case`, new ones each time.
    verified : str
        What a pass has verified.
    note : str
        As in `Turn`.
    slips : mapping from str to Slip
        Mistakes that are known by name.
    **settings
        Other arguments of `check_values`.
    """

    def verify(function: Callable) -> str:
        check_values(function, right, cases(), slips=slips, **settings)
        return verified

    return Turn(right, verify, note, slips)
