"""On a GPU, in at most eight minutes: its tests, the rate of one student plain and recorded, 25 students, large losses.

``python -m benchmarks.gpu`` writes ``results/gpu.json`` after each part, and begins no part after ``--budget`` seconds.
``--tiny`` runs every part at a small size on whatever device there is, and records nothing: to try the script itself.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks._timing import interleave, measure_units, median, ratio
from kdcourse import losses
from kdcourse.data import Minibatches, load_mnist
from kdcourse.models import make_student_mlp
from kdcourse.objectives import soft_target_objective
from kdcourse.sweeps.seeds import Orders, Program
from kdcourse.sweeps.stacking import Loop, Stack
from kdcourse.training import pick_device, train

TESTS = ["tests/test_gpu.py", "tests/losses/test_devices.py"]
Part = Callable[[], dict]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def make_data(samples: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    images, labels = load_mnist(held_out=0, device=device).train.take(samples)
    return images, labels, 3 * torch.randn(samples, 10, device=device)


def run_tests(*, seconds: int, files: list[str]) -> dict:
    """Run the tests that need a GPU; what failed is named."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-rf", *files]
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"finished": False, "seconds": seconds}
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", outcome.stdout)
    }
    return {"finished": True, **counts, "names_of_failed": re.findall(r"(?m)^FAILED (\S+)", outcome.stdout)[:20]}


def one_student(device: torch.device, *, batch_size: int, samples: int, repeats: int) -> dict:
    """Return the rate of one student's steps: with a plain loop, ours, and ours recorded as a CUDA graph."""
    data = make_data(samples, device)
    objective = partial(soft_target_objective, temperature=4.0, alpha=0.7)

    def make(graph: bool) -> Callable[[], None]:
        student = make_student_mlp().to(device)
        optimizer = torch.optim.Adam(student.parameters(), fused=True, capturable=device.type == "cuda")

        def run() -> None:
            batches = Minibatches(*data, batch_size=batch_size, drop_last=True)
            for _ in train(student, batches, objective, optimizer, graph=graph):
                pass
            wait(device)

        return run

    def plain() -> None:
        student = make_student_mlp().to(device)
        optimizer = torch.optim.Adam(student.parameters())
        for images, labels, teacher_logits in Minibatches(*data, batch_size=batch_size, drop_last=True):
            optimizer.zero_grad()
            sum(objective(student, images, labels, teacher_logits).values()).backward()
            optimizer.step()
        wait(device)

    ways = {"plain loop": plain, "ours": make(False), "ours, recorded": make(True)}
    interleave(ways, repeats=1)
    seconds = interleave(ways, repeats=repeats)
    images = samples // batch_size * batch_size
    return {
        "images_per_second": {name: round(images / median(values)) for name, values in seconds.items()},
        "times_faster_than_plain": {name: ratio(seconds["plain loop"], values) for name, values in seconds.items()},
    }


def many_students(device: torch.device, *, samples: int, seeds: int, arms: int, repeats: int) -> dict:
    """Return how many times faster S · A students are in one program than one by one."""
    data = make_data(samples, device)
    programs = [Program(make_student_mlp, {}, seed=seed, device=device) for seed in range(seeds)]
    knobs = {"temperature": torch.linspace(1, 16, arms, device=device), "alpha": 0.7}

    def way(engine: type) -> None:
        orders = Orders(data, per_seed=(False,) * 3, seeds=range(seeds), batch_size=128, epochs=1)
        make_optimizer = partial(torch.optim.Adam, fused=True)
        engine(programs, arms=arms).train(orders, soft_target_objective, make_optimizer, knobs, tick=lambda steps: None)
        wait(device)

    ways = {"one by one": partial(way, Loop), "at once": partial(way, Stack)}
    interleave(ways, repeats=1)
    seconds = interleave(ways, repeats=repeats)
    images = samples * seeds * arms
    return {
        "students": seeds * arms,
        "images_per_second": {name: round(images / median(values)) for name, values in seconds.items()},
        "times_faster": ratio(seconds["one by one"], seconds["at once"]),
    }


def one_loss(device: torch.device, loss: Callable[[Tensor, Tensor], Tensor], rows: int, width: int) -> dict:
    """Return seconds and peak memory of one forward and backward pass, memory over the student's tensor."""
    student, teacher = (torch.randn(rows, width, device=device) for _ in range(2))
    student.requires_grad_()
    loss(student, teacher).backward()  # kernels are loaded
    student.grad = None
    wait(device)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    loss(student, teacher).backward()
    wait(device)
    found: dict = {"seconds": round(time.perf_counter() - start, 4)}
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) - before
        found["peak_over_student"] = round(peak / student.nbytes, 2)
    return found


def explained(part: Part) -> dict:
    """Run a part; one that fails says how, and the others still run."""
    try:
        return part()
    except Exception as error:  # whatever it is: the time on a GPU is short, and the record must say it
        return {"failed": f"{type(error).__name__}: {error}"[:500]}


def parts(device: torch.device, *, tiny: bool) -> dict[str, Part]:
    """Return the parts by name, the most important first."""
    samples, repeats = (512, 1) if tiny else (25_600, 5)
    vocabulary, tokens, batch, width = (5000, 1024, 16, 700) if tiny else (128_000, 4096, 1024, 2048)
    kd = partial(losses.kd_loss, temperature=2.0)
    return {
        "one student, batch 128": partial(one_student, device, batch_size=128, samples=samples, repeats=repeats),
        "one student, batch 512": partial(one_student, device, batch_size=512, samples=samples, repeats=repeats),
        "25 students": partial(
            many_students, device, samples=samples // 5, seeds=2 if tiny else 5, arms=5, repeats=1 if tiny else 3
        ),
        f"soft targets, {tokens:,} × {vocabulary:,}": partial(one_loss, device, kd, tokens, vocabulary),
        f"RKD angles, {batch:,} × {width:,}": partial(one_loss, device, losses.rkd_angle_loss, batch, width),
        f"similarity-preserving, {batch:,} × {width:,}": partial(
            one_loss, device, losses.similarity_preserving_loss, batch, width
        ),
        "tests": partial(run_tests, seconds=5 if tiny else 270, files=["--version"] if tiny else TESTS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=420, help="seconds after which no further part begins")
    parser.add_argument("--again", action="store_true", help="measure what the record has already, too")
    parser.add_argument("--tiny", action="store_true", help="try every part at a small size, and record nothing")
    arguments = parser.parse_args()
    device = pick_device()
    if arguments.tiny:
        for name, part in parts(device, tiny=True).items():
            print(name, part())
        return
    if device.type != "cuda":
        raise SystemExit("there is no GPU here; --tiny tries the script without one")
    units = {name: partial(explained, part) for name, part in parts(device, tiny=False).items()}
    about = "one GPU; a part that failed says how, and is measured again by the next run"
    measure_units("gpu", units, about=about, again=arguments.again, budget=arguments.budget)


if __name__ == "__main__":
    main()
