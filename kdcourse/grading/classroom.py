"""Grade a class: every file of a folder, several at once, a result file each, a table and pages of feedback.

The grader. A run that is cut off continues where it was: a result is kept under the hash of all that it depends on.
"""

import concurrent.futures
import contextlib
import csv
import dataclasses
import io
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._files import check_writable
from .escaping import visible_line
from .feedback import feedback_page
from .grader import BUDGET, TIMEOUT, grade, make_worker
from .notebooks import points_of, read_notebook, write_text
from .points import row_of
from .result_files import digest_of, read_result, write_result
from .results import Result
from .session import Worker
from .submissions import Submission, collect, exercise_by_name, find_keys, identify, read_bytes

TABLE = "grades.csv"
_HEAD = ("learner", "exercise", "total", "max", "status", "flags", "reason", "file")
_LAST_UID = 65534  # one user per process at a time: limits on their processes then count nobody else's
_mine = threading.local()
_workers: list[Worker] = []
_lock = threading.Lock()


def grade_class(
    folder: Path,
    out: Path,
    *,
    jobs: int | None = None,
    keys: Path | None = None,
    timeout: float = TIMEOUT,
    budget: float = BUDGET,
    sandboxed: bool = True,
    show_hidden: bool = False,
    executor: str | None = None,
    progress: bool = True,
) -> list[Result]:
    """Grade every notebook in a folder.

    Parameters
    ----------
    folder : Path
        What learners handed in; see `submissions`.
    out : Path
        Gets ``grades.csv``, ``feedback/`` and ``results/``, each file written atomically.
    jobs : int, optional
        How many at once; as many as there are cores by default.
    keys : Path, optional
        Where the keys lie; see `submissions.find_keys`.
    timeout, budget : float
        Seconds for a cell, and for a submission.
    sandboxed : bool
        False runs other people's code as yourself.
    show_hidden : bool
        Tell learners what hidden tests say.
    executor : str, optional
        Address of a Dask scheduler, ``tcp://…``, whose workers have the package installed.
    progress : bool
        Show a bar.

    Returns
    -------
    list of Result
        The results, sorted by learner and exercise.

    Raises
    ------
    ValueError
        If there is nothing to grade, no key, or no sandbox.
    NotWritten
        If the table cannot be written; it is part of the error then.
    OSError
        If a page of feedback cannot be written, or it is clear before the work that something cannot.
    """
    submissions = collect(folder)
    found = find_keys(folder, folder=keys)
    if not found:
        raise ValueError(f"there are no keys in or above {folder}: give their folder with --key.")
    contents = {name: read_notebook(path) for name, path in found.items()}
    settings = {"timeout": timeout, "budget": budget, "sandboxed": sandboxed}
    if executor is None and sandboxed:
        make_worker(sandboxed=True)  # refuses here, before any work
    results: list[Result] = []
    with _pool(executor, jobs, len(submissions)) as submit:
        find_out_what_cannot_be_written(out)
        waiting: list[tuple[Submission, str, bytes, str]] = []
        for submission in submissions:
            task = _task_of(submission, found, contents)
            if isinstance(task, Result):
                results.append(task)
                continue
            exercise, data = task
            digest = digest_of(data, contents[exercise], **settings)
            result = read_result(_place_of(out, submission.stem), digest)
            if result is None:
                waiting.append((submission, exercise, data, digest))
            else:
                results.append(result)
        with _Bar(len(submissions), len(results), progress) as bar:
            futures = {}
            for submission, exercise, data, digest in waiting:
                name = visible_line(submission.path.name)
                future = submit(grade_one, data, name, contents[exercise], settings)
                futures[future] = (submission, exercise, digest)
            for future in concurrent.futures.as_completed(futures):
                submission, exercise, digest = futures[future]
                try:
                    result = _with_its_names(future.result(), submission, exercise, digest)
                except Exception as error:  # of this submission only: a later run tries it again
                    failed = Result(reason=f"the grader failed: {error}", max=_most(contents[exercise]))
                    results.append(_with_its_names(failed, submission, exercise, ""))
                    bar.update()
                    continue
                # If the disk is full, the next files may still find room; what is told at the end is the table.
                with contextlib.suppress(OSError):
                    write_result(_place_of(out, submission.stem), result)
                results.append(result)
                bar.update()
    results = _flag_twice(results)
    results.sort(key=lambda result: (result.learner.casefold(), result.exercise, result.file))
    _write_out(out, results, contents, show_hidden)
    return results


class NotWritten(OSError):
    """A table of grades that could not be written.

    Attributes
    ----------
    table : str
        What ``grades.csv`` would hold.
    """

    table = ""


def find_out_what_cannot_be_written(out: Path) -> None:
    """Try to write wherever results will go; nothing is left behind.

    Raises
    ------
    OSError
        That names what cannot be written.
    """
    table = out / TABLE
    for path in (table, out / "results" / "one.json", out / "feedback" / "one.html"):
        check_writable(path, size=2**16)
    if table.exists():
        with table.open("r+b"):  # on Windows a spreadsheet may hold it open
            pass


def _task_of(
    submission: Submission, keys: Mapping[str, Path], contents: Mapping[str, Mapping]
) -> tuple[str, bytes] | Result:
    """Return the exercise and the bytes of a submission, or the result of one that cannot be read."""
    try:
        if submission.problem:
            raise ValueError(submission.problem)
        data = read_bytes(submission.path)
        return identify(submission.path, data, keys), data
    except ValueError as error:
        exercise = exercise_by_name(submission.path, keys) or ""
        most = _most(contents[exercise]) if exercise else 0.0
        return _with_its_names(Result(reason=str(error), max=most), submission, exercise, "")


def _with_its_names(result: Result, submission: Submission, exercise: str, digest: str) -> Result:
    return dataclasses.replace(
        result,
        learner=submission.learner,
        file=submission.file,
        exercise=exercise,
        stem=submission.stem,
        digest=digest,
    )


def _most(key: Mapping[str, Any]) -> float:
    return sum(map(points_of, key["cells"]))


def _place_of(out: Path, stem: str) -> Path:
    return out / "results" / f"{stem}.json"


def grade_one(data: bytes, name: str, key: Mapping[str, Any], settings: Mapping[str, Any]) -> Result:
    """Grade one submission in this thread's worker; runs here or on another machine."""
    if getattr(_mine, "settings", None) != settings["sandboxed"]:
        with _lock:
            # None outside a class means "if it works"; here it is yes or no.
            uid = _LAST_UID - (31 * os.getpid() + len(_workers)) % 1000
            worker = make_worker(sandboxed=settings["sandboxed"], limits={"uid": uid})
            _workers.append(worker)
        _mine.worker, _mine.settings = worker, settings["sandboxed"]
    return grade(data, name, key, worker=_mine.worker, timeout=settings["timeout"], budget=settings["budget"])


class _pool:
    """Threads here, each with a worker process of its own, or a Dask cluster; gives its ``submit``."""

    def __init__(self, address: str | None, jobs: int | None, count: int) -> None:
        self.address, self.jobs = address, max(1, min(jobs or os.cpu_count() or 1, count or 1))
        self.client: Any = None

    def __enter__(self) -> Callable[..., concurrent.futures.Future]:
        if self.address is None:
            self.executor: Any = concurrent.futures.ThreadPoolExecutor(self.jobs, thread_name_prefix="grade")
        else:
            try:
                from distributed import Client
            except ImportError:
                raise ValueError("--executor needs Dask: pip install 'kdcourse[cluster]'.") from None
            try:
                self.client = Client(self.address, timeout="20s")
            except (OSError, TimeoutError, ValueError) as error:
                raise ValueError(f"no Dask scheduler answers at {self.address} ({error}).") from None
            self.executor = self.client.get_executor(pure=False)
        return self.executor.submit

    def __exit__(self, kind: Any, *rest: object) -> None:
        if self.client is not None:
            self.client.close()
            return
        if kind is not None:  # an interrupt: do not wait for what has not begun, end what runs
            self.executor.shutdown(wait=False, cancel_futures=True)
        else:
            self.executor.shutdown()
        with _lock:
            while _workers:
                _workers.pop().close()
        _mine.__dict__.clear()


class _Bar:
    """A progress bar, or none."""

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self.bar: Any = None
        if shown:
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, unit="file", desc="grading")

    def __enter__(self) -> "_Bar":
        return self

    def update(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def _flag_twice(results: list[Result]) -> list[Result]:
    """Flag results of one learner for one exercise; which one counts is for the teacher to decide."""
    count = Counter((result.learner.casefold(), result.exercise) for result in results if result.exercise)
    flagged = []
    for result in results:
        others = count[result.learner.casefold(), result.exercise] - 1
        more = (f"{others} more by this learner for this exercise",) if others > 0 else ()
        flagged.append(dataclasses.replace(result, flags=result.flags + more))
    return flagged


def _write_out(out: Path, results: list[Result], keys: Mapping[str, Mapping], show_hidden: bool) -> None:
    """Write the table, then the pages: if a disk is nearly full, the table matters more."""
    text = _table_of(results)
    try:
        write_text(out / TABLE, text)
    except OSError as error:
        lost = NotWritten(error.errno, error.strerror, error.filename)
        lost.table = text
        raise lost from None
    for result in results:
        page = feedback_page(result, keys.get(result.exercise), show_hidden=show_hidden)
        write_text(out / "feedback" / f"{result.stem}.html", page)


def _table_of(results: list[Result]) -> str:
    rows = [row_of(result) for result in results]
    tasks = sorted({name for row in rows for name in row} - set(_HEAD), key=lambda name: (len(name), name))
    text = io.StringIO()
    table = csv.DictWriter(text, [*_HEAD[:-1], *tasks, _HEAD[-1]], restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
