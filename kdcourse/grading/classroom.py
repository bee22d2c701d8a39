"""Grade a class: every file of a folder, several at once, a result file each, a table and pages of feedback.

The grader. A run that is cut off continues where it was: a result is kept under the hash of all that it depends on.
"""

import concurrent.futures
import csv
import dataclasses
import io
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .feedback import feedback_page
from .grader import BUDGET, TIMEOUT, grade, make_worker
from .notebooks import read_notebook, write_text
from .points import row_of
from .result_files import digest_of, file_stem, read_result, write_result
from .results import Result
from .session import Worker
from .submissions import Submission, collect, find_keys, identify, read_bytes

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
    waiting: list[tuple[Submission, str, bytes, Path, str]] = []
    for submission in submissions:
        try:
            data = read_bytes(submission.path)
            exercise = identify(submission.path, data, found)
        except ValueError as error:
            results.append(Result(reason=str(error), learner=submission.learner, file=submission.file))
            continue
        digest = digest_of(data, contents[exercise], **settings)
        place = out / "results" / f"{file_stem(submission.learner, submission.file)}.json"
        result = read_result(place, digest)
        if result is None:
            waiting.append((submission, exercise, data, place, digest))
        else:
            results.append(result)
    with _pool(executor, jobs, len(waiting)) as submit, _Bar(len(submissions), len(results), progress) as bar:
        futures = {}
        for submission, exercise, data, place, digest in waiting:
            future = submit(grade_one, data, submission.path.name, contents[exercise], settings)
            futures[future] = (submission, exercise, place, digest)
        for future in concurrent.futures.as_completed(futures):
            submission, exercise, place, digest = futures[future]
            result = dataclasses.replace(
                future.result(), learner=submission.learner, file=submission.file, exercise=exercise, digest=digest
            )
            write_result(place, result)
            results.append(result)
            bar.update()
    results = _flag_twice(results)
    results.sort(key=lambda result: (result.learner.casefold(), result.exercise, result.file))
    _write_out(out, results, contents, show_hidden)
    return results


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
            except (OSError, TimeoutError) as error:
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
    rows = [row_of(result) for result in results]
    tasks = sorted({name for row in rows for name in row} - set(_HEAD), key=lambda name: (len(name), name))
    text = io.StringIO()
    table = csv.DictWriter(text, [*_HEAD[:-1], *tasks, _HEAD[-1]], restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    for result in results:
        page = feedback_page(result, keys.get(result.exercise), show_hidden=show_hidden)
        write_text(out / "feedback" / f"{file_stem(result.learner, result.file)}.html", page)
    write_text(out / "grades.csv", text.getvalue())
