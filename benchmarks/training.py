"""Distillation in five epochs, ours against the usual way; what bounds a step; the share of the matmul rate reached.

Run ``python -m benchmarks.training`` from the repository's root. Everything is measured in one run, in turn, at one
thread count, and recorded in ``benchmarks/results/training.json``.
"""

import argparse
import gzip
import json
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._timing import RESULTS, median, write_json
from kdcourse import zoo
from kdcourse.data import load_mnist
from kdcourse.models import make_student_mlp
from kdcourse.objectives import soft_target_objective
from kdcourse.recipes import distill, make_adam
from kdcourse.training import choose_threads, count_errors, predict_logits, train

TEMPERATURE, ALPHA = 4.0, 0.7


def make_items(folder: Path) -> torch.utils.data.Dataset:
    """MNIST as most scripts read it: a PIL image through transforms for each item."""
    from torchvision import datasets, transforms

    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for path in (resources.files("kdcourse.data") / "mnist").iterdir():
        if path.name.endswith(".gz"):
            (raw / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))
    # Mean 0 and deviation 1 cost what any other two numbers cost, and give both ways the same pixels.
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.0,), (1.0,))])
    return datasets.MNIST(str(folder), train=True, transform=transform)


def usual_way(items: torch.utils.data.Dataset, teacher: nn.Module, *, epochs: int, workers: int = 0) -> nn.Module:
    """Distil as most scripts do: items through a DataLoader, the teacher run in each step, three values read a step."""
    torch.manual_seed(0)
    student = make_student_mlp()
    loader = torch.utils.data.DataLoader(items, batch_size=128, shuffle=True, num_workers=workers)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    teacher.eval()
    for _ in range(epochs):
        total_loss = total_student = total_teacher = 0.0
        for images, labels in loader:
            student.train()
            optimizer.zero_grad()
            with torch.no_grad():
                teacher_logits = teacher(images)
            logits = student(images)
            soft = F.kl_div(
                F.log_softmax(logits / TEMPERATURE, dim=-1),
                F.softmax(teacher_logits / TEMPERATURE, dim=-1),
                reduction="batchmean",
            )
            loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            total_student += (logits.argmax(dim=-1) == labels).float().mean().item()
            total_teacher += (teacher_logits.argmax(dim=-1) == labels).float().mean().item()
    return student


def our_way(teacher: nn.Module, *, epochs: int) -> nn.Module:
    """Distil with the package: pixels to tensors once, the teacher's logits once, then the loop."""
    torch.manual_seed(0)
    student = make_student_mlp()
    data = load_mnist(held_out=0).train
    distill(student, teacher, data, temperature=TEMPERATURE, alpha=ALPHA, epochs=epochs, batch_size=128)
    return student


def threads_for_the_usual_way(items: torch.utils.data.Dataset, teacher: nn.Module, most: int) -> int:
    """Return which is faster for the usual way, one thread or all, in 4,000 of its samples."""
    few = torch.utils.data.Subset(items, range(4000))
    seconds = {}
    for threads in (1, most):
        torch.set_num_threads(threads)
        start = time.perf_counter()
        usual_way(few, teacher, epochs=1)
        seconds[threads] = time.perf_counter() - start
    return min(seconds, key=lambda threads: seconds[threads])


def end_to_end(
    items: torch.utils.data.Dataset, *, epochs: int, repeats: int, workers: int, threads: int, threads_of_usual: int
) -> dict:
    """Time the ways in turn; every student is evaluated, so that no way is fast because it does less.

    Each way has the number of threads that is faster for it. Seconds of the process on its core stand beside those on
    the clock: other programs disturb them less.
    """
    mnist = load_mnist(held_out=0)  # reads and verifies the files: neither way is charged for it
    teacher = zoo.load("teacher_mlp")
    ways: dict[str, Callable[[], object]] = {
        "ours": partial(our_way, teacher, epochs=epochs),
        "usual": partial(usual_way, items, teacher, epochs=epochs),
    }
    if workers:
        ways[f"usual_{workers}_workers"] = partial(usual_way, items, teacher, epochs=epochs, workers=workers)
    ways["teacher_pass"] = lambda: predict_logits(teacher, mnist.train.images)
    clock: dict[str, list[float]] = {name: [] for name in ways}
    core: dict[str, list[float]] = {name: [] for name in ways}
    errors = {}
    for _ in range(repeats):
        for name, way in ways.items():
            torch.set_num_threads(threads_of_usual if name.startswith("usual") else threads)
            start, start_core = time.perf_counter(), time.process_time()
            result = way()
            clock[name].append(time.perf_counter() - start)
            core[name].append(time.process_time() - start_core)
            if isinstance(result, nn.Module):
                errors[name] = count_errors(result, *mnist.test)
    torch.set_num_threads(threads)
    steps = epochs * math.ceil(len(mnist.train.labels) / 128)
    return {
        "threads": {"ours": threads, "usual": threads_of_usual},
        "epochs": epochs,
        "batch_size": 128,
        "steps": steps,
        "seconds": {name: [round(value, 3) for value in values] for name, values in clock.items()},
        "median_seconds": {name: round(median(values), 3) for name, values in clock.items()},
        "median_core_seconds": {
            name: round(median(values), 3) for name, values in core.items() if "workers" not in name
        },
        "images_per_second": {name: round(steps * 128 / median(clock[name])) for name in errors},
        "times_faster": {name: _ratio(clock[name], clock["ours"]) for name in errors if name != "ours"},
        "times_faster_on_the_core": _ratio(core["usual"], core["ours"]),
        "test_errors": errors,
    }


def _ratio(slow: list[float], fast: list[float]) -> float:
    return round(median(slow) / median(fast), 2)


def what_bounds_a_step(batch_size: int, *, repeats: int) -> dict:
    """Return the microseconds of one step and of each of its parts, and the matmul rate that it reaches.

    The whole step exceeds the sum of its parts: they run alone, with their data still in the cache.
    """
    mnist = load_mnist(held_out=0).train
    torch.manual_seed(0)
    student, teacher = make_student_mlp(), zoo.load("teacher_mlp")
    data = (*mnist, predict_logits(teacher, mnist.images))
    optimizer = make_adam(list(student.parameters()))
    objective = partial(soft_target_objective, temperature=TEMPERATURE, alpha=ALPHA)
    order = torch.randperm(len(mnist.labels))
    steps = len(order) // batch_size
    batches = [tuple(tensor[order[i::steps][:batch_size]] for tensor in data) for i in range(steps)]
    labels, teacher_logits = batches[0][1:]
    fixed_logits = student(batches[0][0]).detach().requires_grad_()

    def whole() -> None:
        for _ in train(student, _slices(data, order, batch_size), objective, optimizer):
            pass

    def slice_batches() -> None:
        for _ in _slices(data, order, batch_size):
            pass

    def forward_and_backward() -> None:
        for batch in batches:
            optimizer.zero_grad()
            sum(objective(student, *batch).values()).backward()

    def model_alone() -> None:
        upstream = torch.ones_like(fixed_logits)
        for batch in batches:
            optimizer.zero_grad()
            student(batch[0]).backward(upstream)

    def loss_alone() -> None:
        for _ in range(steps):
            fixed_logits.grad = None
            sum(objective(lambda images: fixed_logits, batches[0][0], labels, teacher_logits).values()).backward()

    def optimizer_alone() -> None:
        for _ in range(steps):
            optimizer.step()

    def loop_alone() -> None:
        weight = nn.Parameter(torch.zeros(()))
        for _ in train(
            student, ((weight.detach(),) for _ in range(steps)), lambda *_: {"loss": 1.0 * weight}, _Idle(weight)
        ):
            pass

    def matmuls_alone() -> None:
        hidden, out = torch.rand(batch_size, 128), torch.rand(batch_size, 10)
        first, last = student[1].weight.detach(), student[3].weight.detach()
        for batch in batches:
            images = batch[0].flatten(1)
            (images @ first.T, hidden @ last.T, out.T @ hidden, out @ last, hidden.T @ images)

    size = 2048
    left, right, result = torch.rand(size, size), torch.rand(size, size), torch.empty(size, size)

    def big_matmul() -> None:
        torch.mm(left, right, out=result)

    forward_and_backward()  # gradients for the optimizer alone, and a warm start
    parts = {
        "whole_step": whole, "slice_batch": slice_batches, "forward_and_backward": forward_and_backward,
        "of_which_model": model_alone, "of_which_loss": loss_alone, "of_which_bare_matmuls": matmuls_alone,
        "optimizer": optimizer_alone, "loop": loop_alone, "big_matmul": big_matmul,
    }  # fmt: skip
    seconds = {name: median(values) for name, values in _interleave_on_the_core(parts, repeats=repeats).items()}
    big = 2 * size**3 / seconds.pop("big_matmul")
    micro = {name: round(value / steps * 1e6, 1) for name, value in seconds.items()}
    named = ("slice_batch", "forward_and_backward", "optimizer", "loop")
    micro["rest_such_as_cold_caches"] = round(micro["whole_step"] - sum(micro[name] for name in named), 1)
    with FlopCounterMode(display=False) as counter:
        sum(objective(student, *batches[0]).values()).backward()
    flops = counter.get_total_flops()
    rate = flops / (micro["whole_step"] * 1e-6)
    return {
        "batch_size": batch_size,
        "measured": "on the core" if torch.get_num_threads() == 1 else "on the clock",
        "microseconds": micro,
        "images_per_second": round(batch_size / (micro["whole_step"] * 1e-6)),
        "matmul_flops_per_step": flops,
        "machine_matmul_gflops": round(big / 1e9, 1),
        "reached_gflops": round(rate / 1e9, 1),
        "share_of_machine_matmul_rate": round(rate / big, 3),
    }


def _interleave_on_the_core(parts: dict[str, Callable[[], None]], *, repeats: int) -> dict[str, list[float]]:
    """Time each part in turn: CPU seconds of the process if it has one thread, else seconds on the clock."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            start = clock()
            part()
            seconds[name].append(clock() - start)
    return seconds


class _Idle:
    """An optimizer that does nothing: what remains of a step is the loop and the least that autograd can do."""

    def __init__(self, weight: nn.Parameter) -> None:
        self.param_groups = [{"params": [weight]}]

    def zero_grad(self) -> None:
        pass

    def step(self) -> None:
        pass


def _slices(data: tuple[Tensor, ...], order: Tensor, batch_size: int):
    for start in range(0, len(order) // batch_size * batch_size, batch_size):
        index = order[start : start + batch_size]
        yield tuple(tensor.index_select(0, index) for tensor in data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers of a second usual way; 0: none")
    parser.add_argument("--threads", type=int, help="torch threads; by default the faster of one and all")
    parser.add_argument("--steps-only", action="store_true", help="measure the step and its parts; keep the rest")
    arguments = parser.parse_args()
    most = torch.get_num_threads()
    path = RESULTS / "training.json"
    if arguments.steps_only and path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        threads, whole = stored["threads"], stored["end_to_end"]
    else:
        threads = choose_threads(arguments.threads)
        with tempfile.TemporaryDirectory() as folder:
            items = make_items(Path(folder))
            threads_of_usual = threads_for_the_usual_way(items, zoo.load("teacher_mlp"), most)
            whole = end_to_end(
                items, epochs=arguments.epochs, repeats=arguments.repeats, workers=arguments.workers,
                threads=threads, threads_of_usual=threads_of_usual,
            )  # fmt: skip
    torch.set_num_threads(1)  # a step is timed on one core, whose products are its limit
    steps = {batch_size: what_bounds_a_step(batch_size, repeats=5) for batch_size in (128, 512)}
    matmuls = steps[128]["microseconds"]["of_which_bare_matmuls"] * whole["steps"] / 1e6
    # What no loop can avoid: the teacher's pass, and the student's matrix products. The usual way does the first anew
    # in each epoch, so even a loop that cost nothing else would be faster by this much and no more.
    seconds = whole["median_seconds"]
    floor = seconds["teacher_pass"] + matmuls
    record = {
        "about": "source text's two MLPs, batch 128, teacher pass included; MNIST's files read before the clock starts",
        "threads": threads,
        "end_to_end": whole,
        "bound": {
            "teacher_pass_seconds": seconds["teacher_pass"],
            "student_matmul_seconds": round(matmuls, 3),
            "times_faster_if_nothing_else_took_time": round(seconds["usual"] / floor, 2),
            "share_of_our_time": round(floor / seconds["ours"], 2),
        },
        "step_at_128": steps[128],
        "step_at_512": steps[512],
    }
    path = write_json("training", record)
    ratio, step = record["end_to_end"]["times_faster"], record["step_at_512"]
    print(f"{threads} thread(s); times faster than: {ratio} (goal 10); bound: {record['bound']}")
    print(f"student step at batch 512: {step['share_of_machine_matmul_rate']:.0%} of the matmul rate (goal 60 %)")
    print(f"at 128, microseconds: {record['step_at_128']['microseconds']}")
    print(f"recorded in {path}")


if __name__ == "__main__":
    main()
