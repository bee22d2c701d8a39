"""Grade one submission: lay it over the key, run it cell by cell, count points.

The grader. A cell that does not end costs what depends on it: it is left out, a fresh process runs the others.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .notebooks import parse_notebook
from .overlay import Plan, Step, answers_of, asked_of, imports_of, lay_over, shared_cells
from .results import CellResult, Result
from .sandbox import find_sandbox
from .session import START, Forged, Lost, Session, Stopped, Worker

TIMEOUT = 60.0  # seconds for one cell
BUDGET = 600.0  # seconds for a submission
MOST_RESTARTS = 8
REPLACED = "No points: something that this check relies on was replaced while it ran."
AGAIN = -1  # in place of a cell's number
LEAST_FOR_CANARY = 20.0  # seconds, even where a submission's time is over


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
    without_points = tuple(dataclasses.replace(cell, points=0.0) for cell in cells)
    result = Result("tampered", max=most, flags=flags, cells=without_points)
    if forged:
        return dataclasses.replace(result, reason="a reply was forged")
    if run.accepted_wrong:
        reason = f"wrong answers were accepted ({', '.join(run.accepted_wrong)}): the checks had been replaced"
        return dataclasses.replace(result, reason=reason)
    total = sum(cell.points for cell in cells)
    return dataclasses.replace(result, status="stopped" if run.stopped else "graded", total=total, cells=cells)


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


class _Outcome(NamedTuple):
    """What is believed of a reply.

    Attributes
    ----------
    ok : bool
        Whether the cell came to its end without an error; a reply must say so.
    confirmed : bool
        Of a check: whether it refused wrong answers right after it had passed, in the same process.
    hidden : bool
        Whether the text was a hidden test.
    """

    ok: bool = False
    error: str = ""
    output: str = ""
    seconds: float = 0.0
    hidden: bool = False
    confirmed: bool = False


class _Run:
    """One plan, run in as many processes as it takes."""

    def __init__(
        self, plan: Plan, key: Mapping[str, Any], worker: Worker, timeout: float, until: float, on_cell: Callable
    ) -> None:
        self.steps, self.key, self.worker = plan.steps, key, worker
        self.timeout, self.until, self.on_cell = timeout, until, on_cell
        self.outcomes: dict[int, _Outcome] = {}
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
            error = f"This cell {self.masked[at]}. It was left out, and the others were run without it."
            self.outcomes[at] = _Outcome(error=error)
            self.stopped = True
            if time.monotonic() > self.until:
                break
        else:
            self.flags.append(f"{MOST_RESTARTS} times a cell ended the process or took too long: the rest was not run")
        self._give_up()

    def _open(self) -> Session:
        """Return a session in which the key's imports are there and the learner's cells were looked at."""
        session = self._begun() or self._begun()
        if session is None:
            raise ValueError("the worker that runs cells does not start, or the key's imports end it.")
        if not self.scanned:
            self.scanned = True
            own = [step.source for step in self.steps if step.kind == "learner"]
            try:
                reply = session.ask("scan", timeout=START, sources=own, asked=asked_of(self.key))
            except Stopped:
                self.flags.append("a cell that Python's parser does not survive")
                return self._open()
            self._flag(reply.get("flags"), "{}")
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
                outcome = self._outcome(session, step, min(self.timeout, left))
            except Lost:
                return AGAIN
            except Stopped as stopped:
                self.masked[i] = str(stopped)
                return i
            if step.kind == "check" and outcome.ok:
                try:
                    outcome = outcome._replace(confirmed=self._refuses_wrong_answers(session, step))
                except Lost:
                    return AGAIN
                except Stopped:
                    if not self.tried_again:
                        self.tried_again = True
                        return AGAIN
                    self.accepted_wrong.append(step.name)
                if not outcome.confirmed:
                    self.flags.append(f"no points for {step.name}: it is not shown that it still refused wrong answers")
                if self.accepted_wrong:
                    self.outcomes[i] = outcome
                    return None
            self.outcomes[i] = outcome
            self.on_cell()
        return None

    def _outcome(self, session: Session, step: Step, timeout: float) -> _Outcome:
        """Run a cell, a check part by part, as far as the first that fails."""
        outcome = _Outcome()
        for source, hidden in step.parts or ((step.source, False),):
            reply = session.ask(step.kind, timeout=timeout, source=source, name=step.name)
            self._flag(reply.get("changed"), "changed {}")
            self._flag(reply.get("added"), f"added to {{}} while {step.name} ran")
            outcome = _believed(reply, hidden)
            if step.kind == "check" and reply.get("replaced") != []:
                self._flag(reply.get("replaced"), f"changed {{}} while {step.name} ran")
                outcome = outcome._replace(ok=False, error=outcome.error or REPLACED)
            if not outcome.ok:
                break
        return outcome

    def _refuses_wrong_answers(self, session: Session, step: Step) -> bool:
        """Give a check wrong answers: it must fail, or it is no check any more.

        Raises
        ------
        Stopped
            If the process ends instead.
        """
        timeout = max(LEAST_FOR_CANARY, min(self.timeout, self.until - time.monotonic()))
        reply = session.ask("canary", timeout=timeout, source=step.source, name=step.name, used=list(step.used))
        refused = reply.get("ok") is False and isinstance(reply.get("error"), str) and reply["error"] != ""
        if not refused:
            self.accepted_wrong.append(step.name)
        return refused

    def _flag(self, names: Any, text: str) -> None:
        if isinstance(names, list):
            self.flags += [text.format(name[:150]) for name in names if isinstance(name, str)]

    def _give_up(self) -> None:
        self.stopped = True
        for i, step in enumerate(self.steps):
            if step.kind == "check" and i not in self.outcomes:
                self.outcomes[i] = _Outcome(error="Not run: the time for the whole notebook was over.")

    def cells(self) -> tuple[CellResult, ...]:
        """Return what came of each cell, for a report."""
        return tuple(_cell_result(step, self.outcomes.get(i, _Outcome())) for i, step in enumerate(self.steps))


def _believed(reply: Mapping[str, Any], hidden: bool) -> _Outcome:
    """Return the fields of a reply that are what they should be; what is not clearly a success is none."""
    kinds = {"error": str, "output": str, "seconds": float}
    fields = {name: reply[name] for name, kind in kinds.items() if type(reply.get(name)) is kind}
    ok = reply.get("ok") is True and fields.get("error") == ""
    if not ok and not fields.get("error"):
        fields["error"] = "The cell failed, and said nothing."
    return _Outcome(ok=ok, hidden=hidden, **fields)


def _cell_result(step: Step, outcome: _Outcome) -> CellResult:
    counts = step.kind == "check" and outcome.ok and outcome.confirmed
    error = outcome.error
    if step.kind == "check" and outcome.ok and not outcome.confirmed:
        error = "No points: it is not shown that this check still refused wrong answers."
    return CellResult(
        kind=step.kind,
        name=step.name,
        source="" if step.kind == "check" else step.source,
        points=step.points if counts else 0.0,
        max=step.points,
        error=error,
        in_hidden_test=bool(outcome.error and outcome.hidden),
        output=outcome.output,
        seconds=outcome.seconds,
    )
