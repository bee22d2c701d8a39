"""Grade one submission: lay it over the key, run it cell by cell, count points.

The grader. A cell that does not end costs what depends on it: it is left out, a fresh process runs the others.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from .notebooks import parse_notebook
from .overlay import Plan, Step, answers_of, imports_of, lay_over, shared_cells, words_of
from .results import CellResult, Result
from .sandbox import find_sandbox
from .session import START, Forged, Session, Stopped, Worker

TIMEOUT = 60.0  # seconds for one cell
BUDGET = 600.0  # seconds for a submission
MOST_RESTARTS = 8
AGAIN = -1  # in place of a cell's number


def grade(
    data: bytes,
    name: str,
    key: Mapping[str, Any],
    *,
    worker: Worker,
    timeout: float = TIMEOUT,
    budget: float = BUDGET,
    on_cell: Callable[[], object] | None = None,
) -> Result:
    """Grade the bytes of a notebook.

    Parameters
    ----------
    data : bytes
        Of the submitted file, whatever it holds.
    name : str
        Its name, for messages.
    key : dict
        With hidden tests.
    worker : Worker
        Runs it.
    timeout, budget : float
        Seconds for one cell, and for all of them.
    on_cell : callable, optional
        Called after each cell.

    Returns
    -------
    Result
        Without learner, file and exercise, which this function does not know.
    """
    most = sum(step.points for step in lay_over(key, key).steps)
    try:
        plan = lay_over(parse_notebook(data, name), key)
    except ValueError as error:
        return Result(reason=str(error), max=most)
    worker.share(imports_of(key), shared_cells(key))
    run = _Run(plan, key, worker, timeout, time.monotonic() + budget, on_cell or (lambda: None))
    forged = False
    try:
        run.to_the_end()
    except Forged:
        forged = True
    flags, cells = tuple(dict.fromkeys([*plan.notes, *run.flags])), run.cells()
    result = Result("tampered", max=most, flags=flags, cells=cells)
    if forged:
        return dataclasses.replace(result, reason="a reply was forged")
    if run.accepted_wrong:
        reason = f"wrong answers were accepted ({', '.join(run.accepted_wrong)}): the checks had been replaced"
        return dataclasses.replace(result, reason=reason)
    total = sum(cell.points for cell in cells)
    return dataclasses.replace(result, status="stopped" if run.stopped else "graded", total=total)


def make_worker(*, sandboxed: bool | None = None, limits: dict[str, int] | None = None) -> Worker:
    """Return a worker.

    Parameters
    ----------
    sandboxed : bool, optional
        True: refuse without a sandbox. False: none. By default one if it works here.
    limits : dict, optional
        See `isolation.limit`.

    Raises
    ------
    ValueError
        If a sandbox is wanted and none works here.
    """
    sandbox = None if sandboxed is False else find_sandbox()
    if sandboxed and sandbox is None:
        raise ValueError(
            "other people's code is run in a sandbox, and none works here: install bubblewrap (apt install bubblewrap; "
            "docs/teachers.md tells more), or say --no-sandbox if you trust all of them."
        )
    return Worker(sandbox, limits)


class _Run:
    """One plan, run in as many processes as it takes."""

    def __init__(
        self, plan: Plan, key: Mapping[str, Any], worker: Worker, timeout: float, until: float, on_cell: Callable
    ) -> None:
        self.steps, self.key, self.worker = plan.steps, key, worker
        self.timeout, self.until, self.on_cell = timeout, until, on_cell
        self.outcomes: dict[int, dict[str, Any]] = {}
        self.masked: dict[int, str] = {}
        self.flags: list[str] = []
        self.accepted_wrong: list[str] = []
        self.stopped = self.scanned = self.tried_again = False

    def to_the_end(self) -> None:
        """Run everything that runs; after a stop once more without the cell that caused it."""
        for _ in range(MOST_RESTARTS):
            session = self._open()
            try:
                at = self._through(session)
            finally:
                session.end()
            if at is None:
                return
            if at == AGAIN:
                self.outcomes = {}
                continue
            # What was checked after this cell was checked while its effects were there.
            self.outcomes = {i: outcome for i, outcome in self.outcomes.items() if i < at}
            told = f"This cell {self.masked[at]}. It was left out, and the others were run without it."
            self.outcomes[at] = {"error": told}
            self.stopped = True
            if time.monotonic() > self.until:
                break
        self._give_up()

    def _open(self) -> Session:
        """Return a session in which the key's imports are there and the learner's cells were looked at."""
        session = self._begun() or self._begun()
        if session is None:
            raise ValueError("the worker that runs cells does not start, or the key's imports end it.")
        if not self.scanned:
            self.scanned = True
            own = [step for step in self.steps if step.kind == "learner"]
            answers = [step.source for step in own if not step.name.startswith("cell ")]
            texts = {"sources": [step.source for step in own], "answers": answers, "known": words_of(self.key)}
            try:
                found = session.ask("scan", timeout=START, **texts)
            except Stopped:
                self.flags.append("a cell that Python's parser does not survive")
                return self._open()
            self._flag(found.get("flags"), "")
        return session

    def _begun(self) -> Session | None:
        session = self.worker.open()
        try:
            session.ask("begin", timeout=START, imports=imports_of(self.key), answers=answers_of(self.key))
        except Stopped:
            return None
        return session

    def _through(self, session: Session) -> int | None:
        """Run all cells in one process; return the place of the cell that ended it, or None."""
        for i, step in enumerate(self.steps):
            if i in self.masked or (step.kind == "check" and i in self.outcomes):
                continue
            left = self.until - time.monotonic()
            if left <= 0:
                self._give_up()
                return None
            try:
                self.outcomes[i] = self._outcome(session, step, min(self.timeout, left))
            except Stopped as stopped:
                self.masked[i] = str(stopped)
                return i
            self.on_cell()
        return self._canaries(session)

    def _outcome(self, session: Session, step: Step, timeout: float) -> dict[str, Any]:
        """Run a cell, a check part by part, as far as the first that fails."""
        outcome: dict[str, Any] = {}
        for source, hidden in step.parts or ((step.source, False),):
            reply = session.ask(step.kind, timeout=timeout, source=source, name=step.name)
            self._flag(reply.get("changed"), "changed ")
            outcome = _tidy(reply) | {"hidden": hidden}
            if outcome.get("error") != "":
                break
        return outcome

    def _canaries(self, session: Session) -> int | None:
        """Give every check wrong answers, at the end: each must fail. If the process ends instead, try again once."""
        for step in self.steps:
            if step.kind != "check":
                continue
            try:
                reply = session.ask("canary", timeout=self.timeout, source=step.source, name=step.name)
            except Stopped:
                if not self.tried_again:
                    self.tried_again = True
                    return AGAIN
                reply = {}
            if not isinstance(reply.get("error"), str) or not reply["error"]:
                self.accepted_wrong.append(step.name)
                return None
        return None

    def _flag(self, names: Any, before: str) -> None:
        if isinstance(names, list):
            self.flags += [f"{before}{name}"[:200] for name in names if isinstance(name, str)]

    def _give_up(self) -> None:
        self.stopped = True
        for i, step in enumerate(self.steps):
            if step.kind == "check" and i not in self.outcomes:
                self.outcomes[i] = {"error": "Not run: the time for the whole notebook was over."}

    def cells(self) -> tuple[CellResult, ...]:
        """Return what came of each cell, for a report."""
        return tuple(_cell_result(step, self.outcomes.get(i)) for i, step in enumerate(self.steps))


def _tidy(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a reply that are what they should be."""
    kinds = {"error": str, "kind": str, "line": int, "output": str, "seconds": float}
    return {name: reply[name] for name, kind in kinds.items() if type(reply.get(name)) is kind}


def _cell_result(step: Step, outcome: Mapping[str, Any] | None) -> CellResult:
    passed = step.kind == "check" and outcome is not None and outcome.get("error") == ""
    outcome = outcome or {}
    return CellResult(
        kind=step.kind,
        name=step.name,
        source="" if step.kind == "check" else step.source,
        points=step.points if passed else 0.0,
        max=step.points,
        error=outcome.get("error", ""),
        in_hidden_test=bool(outcome.get("error") and outcome.get("hidden")),
        output=outcome.get("output", ""),
        seconds=outcome.get("seconds", 0.0),
    )
