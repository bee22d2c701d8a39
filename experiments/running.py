"""Run studies: every unit is stored as soon as it is done, so that a stopped run loses at most the units in progress.

Units go to processes of one thread each, to a Dask cluster, or, where there is a GPU, one after another to it. When the
last unit of a study is done, its record is written.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from experiments import measures, training
from experiments._record import RESULTS, write_json
from experiments.registry import CHOOSING, Rows, Study, Unit
from kdcourse.sweeps.stored_rows import read_rows, write_rows
from kdcourse.training import pick_device, threads_asked_for

FOLDER = Path("runs/evidence")
Say = Callable[[str], object]


def run_studies(
    studies: Sequence[Study],
    *,
    folder: Path = FOLDER,
    executor: str = "processes",
    say: Say = print,
    results: Path = RESULTS,
) -> list[Path]:
    """Run what is not stored yet, and write the record of each study as soon as it is complete.

    Parameters
    ----------
    studies : sequence of Study
        In the order in which they are to run.
    folder : Path
        Folder of finished units.
    executor : str
        ``"processes"``, or the address of a Dask scheduler, such as ``tcp://host:8786``.
    say : callable
        Gets a line for each finished unit.
    results : Path
        Folder of the records.

    Returns
    -------
    list of Path
        The records.
    """
    units = {(study.name, place): unit for study in studies for place, unit in enumerate(study.units())}
    keys = {which: key_of(unit) for which, unit in units.items()}
    done = {which: rows for which, key in keys.items() if (rows := read_rows(folder / which[0], key)) is not None}
    by_name = {study.name: study for study in studies}
    counts = {name: sum(which[0] == name for which in units) for name in by_name}
    records = []

    def write_if_complete(name: str) -> None:
        own = [rows for which, rows in sorted(done.items()) if which[0] == name]
        if len(own) == counts[name]:
            records.append(_write_record(by_name[name], own, list(by_name[name].units()), results))
            say(f"{name}: recorded in {records[-1]}")

    for name in by_name:
        write_if_complete(name)
    waiting = {which: unit for which, unit in units.items() if which not in done}
    say(f"{len(done)} units are stored, {len(waiting)} are left")
    with _pool(executor, len(waiting)) as pool:
        for which, rows in _finished(waiting, pool):
            name, place = which
            write_rows(folder / name, keys[which], rows)
            done[which] = rows
            say(f"{name}: unit {place + 1} of {counts[name]}, {_seconds(rows):.0f} s")
            write_if_complete(name)
    return records


def stored_rows(study: Study, *, folder: Path = FOLDER) -> Rows:
    """Return the rows of a study's finished units, in order."""
    stored = [read_rows(folder / study.name, key_of(unit)) for unit in study.units()]
    return [row for rows in stored if rows is not None for row in rows[1:]]


def run_unit(unit: Unit) -> Rows:
    """Run one unit in one thread; the seconds of the whole unit are in its first row."""
    torch.set_num_threads(1)
    start, before = time.perf_counter(), _processor_seconds()
    rows = unit.function(**unit.settings)
    spent = {"seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(_processor_seconds() - before, 1)}
    return [{"unit": spent}, *rows]


def key_of(unit: Unit) -> str:
    """Return a name for a unit's rows that changes with its settings, its module's code, and torch."""
    modules = [sys.modules[unit.function.__module__], training, measures]
    parts = [unit.function.__name__, json.dumps(dict(unit.settings)), *map(code_of, modules), torch.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


@cache
def code_of(module: ModuleType) -> str:
    """Return what a module computes: its code without docstrings, ``ENTRIES`` and ``STUDIES``."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_words(part)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_words(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
    return names in (["ENTRIES"], ["STUDIES"])


def _write_record(study: Study, stored: Sequence[Rows], units: Sequence[Unit], results: Path) -> Path:
    if study.writes_itself:
        return results / f"{study.name}.json"
    runs = [row for rows in stored for row in rows[1:]]
    record = {
        "about": study.about,
        "command": f"python -m experiments {study.name}",
        "commit": _commit(),
        "seeds": sorted({run["seed"] for run in runs} - set(CHOOSING)),
        "seeds_that_choose": sorted({run["seed"] for run in runs} & set(CHOOSING)),
        "settings": [dict(unit.settings) for unit in units],
        "seconds": round(sum(_seconds(rows) for rows in stored), 1),
        "cpu_seconds": round(sum(rows[0]["unit"]["cpu_seconds"] for rows in stored), 1),
        "versions": {name: metadata.version(name) for name in ("kdcourse", "numpy", "pandas")},
        "runs": runs,
    }
    return write_json(study.name, record, folder=results)


def _seconds(rows: Rows) -> float:
    return float(rows[0]["unit"]["seconds"])


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _commit() -> str:
    command = ["git", "rev-parse", "--short=10", "HEAD"]
    done = subprocess.run(command, cwd=RESULTS, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _finished(waiting: Mapping[Any, Unit], pool: Executor | None) -> Iterator[tuple[Any, Rows]]:
    if pool is None:
        yield from ((which, run_unit(unit)) for which, unit in waiting.items())
        return
    futures: dict[Future, Any] = {pool.submit(run_unit, unit): which for which, unit in waiting.items()}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _pool(executor: str, units: int) -> Iterator[Executor | None]:
    """Yield what runs the units; None means this process, one unit after another."""
    if executor != "processes":
        try:
            from distributed import Client
        except ImportError:
            raise ValueError("--executor with an address needs Dask: pip install 'kdcourse[cluster]'.") from None
        with Client(executor, timeout=20) as client:
            yield client.get_executor(pure=False)
        return
    workers = min(threads_asked_for() or os.cpu_count() or 1, units)
    if workers < 2 or pick_device().type != "cpu":
        yield None
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        yield pool


def _one_thread() -> None:
    os.environ["KDCOURSE_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # a unit starts no processes of its own
    torch.set_num_threads(1)
