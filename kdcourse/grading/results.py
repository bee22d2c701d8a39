"""What grading gives: one result for each submission, with what came of each cell.

The grader. A result is written as JSON, and read again by a later run.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["graded", "stopped", "tampered", "ungraded"]


@dataclass(frozen=True)
class CellResult:
    """What came of one cell.

    Attributes
    ----------
    kind : str
        ``"locked"`` or ``"check"`` if the key's text was run, ``"learner"`` if the submission's.
    name : str
    source : str
        Empty for a check.
    points, max : float
        Of a check; 0 for other cells.
    error : str
        Empty if there was none.
    in_hidden_test : bool
        Whether the error came from a hidden test.
    output : str
        What was printed, cut off.
    seconds : float
    """

    kind: str
    name: str
    source: str = ""
    points: float = 0.0
    max: float = 0.0
    error: str = ""
    in_hidden_test: bool = False
    output: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """What came of one submission.

    Attributes
    ----------
    status : str
        ``"graded"``, ``"stopped"`` (a cell did not come to an end), ``"tampered"`` (a reply was forged, or checks no
        longer checked) or ``"ungraded"`` (it could not be read).
    reason : str
        Why it is not simply graded.
    total, max : float
        Points.
    flags : tuple of str
        What a teacher should look at.
    cells : tuple of CellResult
        In the order in which they ran.
    learner, file, exercise : str
        Whose submission it is, where it lay, and which key it was laid over; empty outside a class.
    stem : str
        Beginning of the names of its files: its page of feedback, and this result.
    digest : str
        Of all that the result depends on; a later run uses the result again if it is the same.
    """

    status: Status = "ungraded"
    reason: str = ""
    total: float = 0.0
    max: float = 0.0
    flags: tuple[str, ...] = ()
    cells: tuple[CellResult, ...] = ()
    learner: str = ""
    file: str = ""
    exercise: str = ""
    stem: str = ""
    digest: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)


def result_from_json(fields: Mapping[str, Any]) -> Result:
    """Return the result that `Result.as_json` has written.

    Raises
    ------
    ValueError
        If something is missing or unknown.
    """
    try:
        cells = tuple(CellResult(**cell) for cell in fields["cells"])
        return Result(**{**fields, "flags": tuple(fields["flags"]), "cells": cells})
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is not a result of grading: {error}.") from None
