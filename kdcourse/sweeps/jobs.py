"""The groups of a sweep, each trained and evaluated as one job: here, in other processes, or read from disk.

Chapters 02 to 07.
"""

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import joblib
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import __version__
from .._files import check_writable
from ..hashing import content_hash
from ..objectives import with_knobs
from ..training import Objective, threads_asked_for
from ..training.progress import progress_bar
from .grid import Group
from .seeds import MakeModule, Orders, Program
from .sharing import Piece, cut, gpus_seen, put_in_order
from .stacking import Loop, Predict, Stack, stacks_well
from .stored_rows import read_rows, write_rows

Tensors = tuple[Tensor, ...]
Metric = Callable[[Tensor, Tensor], Tensor | float]
Rows = list[dict[str, Any]]
Where = Literal["processes", "gpus"] | Executor | None


@dataclass
class Job:
    """One group with all it needs, to be run here or in another process."""

    group: Group
    columns: list[str]
    train: Tensors
    evaluation: dict[str, Tensors]
    seeds: list[int]
    parts: dict[str, MakeModule]
    predict: Predict
    metrics: dict[str, Metric]
    stacked: bool | None
    keep_models: bool
    drop_last: bool
    parent: int

    @property
    def steps(self) -> int:
        """Steps of all its students."""
        choices = self.group.choices
        whole, rest = divmod(len(self.train[0]), choices["batch_size"])
        per_epoch = whole + (rest > 0 and not self.drop_last)
        return choices["epochs"] * per_epoch * len(self.seeds) * len(self.group.arms)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to another process: of a slice only its own samples, not all of the data it is from."""
        evaluation = {name: _own_samples(split) for name, split in self.evaluation.items()}
        return vars(self) | {"train": _own_samples(self.train), "evaluation": evaluation}

    @property
    def shape(self) -> tuple[int, int]:
        """Counts of seeds and arms."""
        return len(self.seeds), len(self.group.arms)

    def part(self, piece: Piece) -> "Job":
        """Return the job of some seeds and arms."""
        if piece.size == len(self.seeds) * len(self.group.arms):
            return self
        seeds, arms = (slice(numbers.start, numbers.stop) for numbers in (piece.seeds, piece.arms))
        choices = dict(self.group.choices)
        if isinstance(teacher := choices.get("teacher"), Tensor) and teacher.dim() == 3:  # a teacher for each seed
            choices["teacher"] = teacher[seeds]
        numbers = {name: values[arms] for name, values in self.group.numbers.items()}
        return replace(self, group=Group(choices, self.group.arms[arms], numbers), seeds=self.seeds[seeds])

    def to(self, device: torch.device) -> "Job":
        """Return the job with its tensors on a device."""
        choices = {
            name: value.to(device) if isinstance(value, Tensor) else value for name, value in self.group.choices.items()
        }
        train = tuple(tensor.to(device) for tensor in self.train)
        evaluation = {name: tuple(tensor.to(device) for tensor in split) for name, split in self.evaluation.items()}
        return replace(self, group=replace(self.group, choices=choices), train=train, evaluation=evaluation)

    def functions(self) -> list[Any]:
        """All that another process must be able to import."""
        return [self.group, self.parts, self.predict, self.metrics]


def _own_samples(split: Tensors) -> Tensors:
    return tuple(t.clone() if t.untyped_storage().nbytes() > t.nbytes else t for t in split)


def run_all(jobs: list[Job], *, cache: str | os.PathLike | None, executor: Where, progress: bool) -> Rows:
    """Run jobs, or read those that the cache holds; returns all rows, in the order of the jobs."""
    if cache is not None:  # before the work, so that no result is lost
        check_writable(Path(cache) / "rows.json", size=2**12)
    keys = [_key(job) for job in jobs] if cache is not None else []
    done: dict[int, Rows] = {}
    for number, key in enumerate(keys):
        rows = read_rows(str(cache), key)
        if rows is not None:
            done[number] = rows
    total, before = sum(job.steps for job in jobs), sum(jobs[number].steps for number in done)
    waiting = {number: job for number, job in enumerate(jobs) if number not in done}
    with progress_bar(total=total, done=before, show=progress) as bar:
        for number, rows in _finished(waiting, executor, bar.update):
            done[number] = rows
            if cache is not None:
                write_rows(cache, keys[number], rows)
    return [row for number in range(len(jobs)) for row in done[number]]


def _finished(waiting: dict[int, Job], executor: Where, tick: Callable[[int], object]) -> Iterator[tuple[int, Rows]]:
    """Run jobs wherever the executor says; yields each one's number and rows as soon as it has ended."""
    if isinstance(executor, Executor):
        futures = _submit(waiting, executor)
        try:
            for future in as_completed(futures):
                rows = future.result()
                tick(waiting[futures[future]].steps)
                yield futures[future], rows
        finally:
            for future in futures:
                future.cancel()
        return
    pieces, devices = _shared_out(waiting, executor)
    if len(devices) < 2:
        for number, job in waiting.items():
            rows = _run(job.to(devices[0]) if devices else job, tick)
            yield number, [row | _models_on(job.train[0].device, row) for row in rows]
        return
    home = next(iter(waiting.values())).train[0].device
    tasks = (
        joblib.delayed(_run_piece)(piece, waiting[piece.group].part(piece).to(torch.device("cpu")), device)
        for piece, device in pieces
    )
    parallel = joblib.Parallel(len(devices), backend="loky", batch_size=1, return_as="generator_unordered")
    done: dict[int, dict[Piece, Rows]] = {number: {} for number in waiting}
    for piece, rows in parallel(tasks):
        job = waiting[piece.group]
        tick(job.part(piece).steps)
        done[piece.group][piece] = [row | _models_on(home, row) for row in rows]
        if (whole := put_in_order(job.shape, done[piece.group])) is not None:
            yield piece.group, whole


def _shared_out(
    waiting: dict[int, Job], executor: Where
) -> tuple[list[tuple[Piece, torch.device]], list[torch.device]]:
    """Pieces of the jobs, the longest first, each with its device; and a device for each worker."""
    if executor == "gpus":
        devices = gpus_seen()
    elif executor == "processes" and all(job.train[0].device.type == "cpu" for job in waiting.values()):
        devices = [torch.device("cpu")] * (threads_asked_for() or joblib.cpu_count())
    else:
        devices = []
    if len(devices) < 2:
        return [], devices
    shapes = {number: job.shape for number, job in waiting.items()}
    steps = {number: job.steps for number, job in waiting.items()}
    pieces, busy = [], [0.0] * len(devices)
    for piece in cut(shapes, steps, workers=len(devices)):
        worker = busy.index(min(busy))
        busy[worker] += waiting[piece.group].part(piece).steps
        pieces.append((piece, devices[worker]))
    return pieces, devices[: len(pieces)]


def _run_piece(piece: Piece, job: Job, device: torch.device) -> tuple[Piece, Rows]:
    """In another process: train on a device, and bring back what any process can read."""
    return piece, [row | _models_on(torch.device("cpu"), row) for row in _run(job.to(device))]


def _models_on(device: torch.device, row: dict[str, Any]) -> dict[str, Any]:
    return {"model": row["model"].to(device)} if "model" in row else {}


_ONE_AT_A_TIME = threading.Lock()  # threads share torch's global generator, which draws weights and dropout masks


def _run(job: Job, tick: Callable[[int], object] = lambda steps: None) -> Rows:
    """Train and evaluate one group; returns one row per student."""
    if os.getpid() != job.parent:
        torch.set_num_threads(1)  # the groups already share the processors among them
    device = job.train[0].device
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _run_alone(job, tick, device)


def _run_alone(job: Job, tick: Callable[[int], object], device: torch.device) -> Rows:
    choices = dict(job.group.choices)
    make_student, make_optimizer, epochs, batch_size, augment = (
        choices.pop(name) for name in ("student", "optimizer", "epochs", "batch_size", "augment")
    )
    lr, teacher_logits = choices.pop("lr", None), choices.pop("teacher", None)
    objective: Objective = choices.pop("objective")
    schedules = {name: choices.pop(name) for name in ("temperature", "alpha") if callable(choices.get(name))}
    if schedules:
        objective = with_knobs(objective, schedules)

    tensors = job.train if teacher_logits is None else (*job.train[:2], teacher_logits, *job.train[2:])
    orders = Orders(
        tensors,
        per_seed=[tensor is teacher_logits and tensor.dim() == 3 for tensor in tensors],
        seeds=job.seeds,
        batch_size=batch_size,
        epochs=epochs,
        drop_last=job.drop_last,
        augment=augment,
    )
    programs = [Program(make_student, job.parts, seed=seed, device=device) for seed in job.seeds]
    stacked = stacks_well(programs[0], device) if job.stacked is None else job.stacked
    engine = (Stack if stacked else Loop)(programs, arms=len(job.group.arms))
    knobs = choices | job.group.knobs(like=next(programs[0].parameters()))
    make_optimizer = make_optimizer if lr is None else partial(make_optimizer, lr=lr)

    start = time.perf_counter()
    with _explained(stacked):
        train_loss = engine.train(orders, objective, make_optimizer, knobs, tick=tick).cpu()  # (S, A)
    seconds = (time.perf_counter() - start) / train_loss.numel()
    results = {name: _evaluate(engine, split, job.predict) for name, split in job.evaluation.items()}
    extra = _measure(engine, job)
    models = engine.students() if job.keep_models else None

    rows = []
    for a, arm in enumerate(job.group.arms):
        for s, seed in enumerate(job.seeds):
            row: dict[str, Any] = {"arm": arm.label, "method": arm.method, "budget": arm.budget}
            row |= {name: arm.shown[name] for name in job.columns if name in arm.shown}
            row["seed"] = seed
            for name, (errors, losses) in results.items():
                row |= {f"{name}_errors": int(errors[s, a]), f"{name}_loss": float(losses[s, a])}
            row |= {name: values[s * len(job.group.arms) + a] for name, values in extra.items()}
            row |= {"train_loss": float(train_loss[s, a]), "steps": orders.steps, "seconds": round(seconds, 4)}
            if models is not None:
                row["model"] = models[s * len(job.group.arms) + a]
            rows.append(row)
    return rows


def _evaluate(engine: Stack | Loop, split: Tensors, predict: Predict) -> tuple[Tensor, Tensor]:
    """Errors and mean cross-entropy of every student, each of shape (S, A), on the CPU."""
    images, labels = split[:2]
    errors = torch.zeros(engine.shape, dtype=torch.long, device=labels.device)
    losses = torch.zeros(engine.shape, device=labels.device)
    start = 0
    for logits in engine.logits(images, predict):  # (S, A, B, K)
        part = labels[start : start + logits.shape[2]]  # (B,)
        start += len(part)
        errors += (logits.argmax(dim=-1) != part).sum(dim=-1)
        index = part.expand(*logits.shape[:3]).unsqueeze(-1)  # (S, A, B, 1)
        losses -= F.log_softmax(logits.float(), dim=-1).gather(-1, index).sum(dim=(-2, -1))
    return errors.cpu(), losses.cpu() / len(labels)


def _measure(engine: Stack | Loop, job: Job) -> dict[str, list[float]]:
    """Return the caller's own metrics, one value per student."""
    if not job.metrics or not job.evaluation:
        return {}
    images, labels = (job.evaluation.get("test") or job.evaluation["held_out"])[:2]
    logits = torch.cat(list(engine.logits(images, job.predict)), dim=2).flatten(0, 1)  # (S * A, N, K)
    return {name: [float(metric(each, labels)) for each in logits] for name, metric in job.metrics.items()}


def _submit(waiting: dict[int, Job], executor: Executor) -> dict[Future, int]:
    if isinstance(executor, ProcessPoolExecutor):
        for job in waiting.values():
            try:
                pickle.dumps(job.functions())
            except Exception as error:
                raise ValueError(
                    f"a process can only be sent what another can import, and this cannot be: {error}. Define "
                    "make_student, objective and the rest at the top of a module, not as a lambda or inside a "
                    "function; or pass executor='processes', which sends functions along."
                ) from None
    return {executor.submit(_run, job): number for number, job in waiting.items()}


def _key(job: Job) -> str:
    return content_hash(
        job.group.choices, job.group.numbers, [arm.shown for arm in job.group.arms], job.columns, job.train,
        job.evaluation, job.seeds, job.parts, job.predict, job.metrics, job.stacked, job.drop_last, torch.__version__,
        __version__,
    )  # fmt: skip


@contextmanager
def _explained(stacked: bool) -> Iterator[None]:
    """Add to what ``vmap`` says of an objective it cannot stack what to do about it."""
    try:
        yield
    except RuntimeError as error:
        if not stacked or "vmap" not in str(error):
            raise
        raise ValueError(
            "the objective or the student decides by the value of a tensor (an if, an int(), an .item()), and in a "
            "stack each student has its own value. Pass stacked=False to train one after the other, or pass that knob "
            f'as named choices, k={{"1": 1, "2": 2}}, which stay plain numbers. torch says: {error}'
        ) from error
