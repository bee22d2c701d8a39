"""The teacher's pass over 10,000 images: one thread and all, float32 and bfloat16, and what bfloat16 does to it.

``python -m benchmarks.teacher_pass`` takes about half a minute on two cores.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks._timing import interleave, measure_units, median, ratio
from kdcourse import zoo
from kdcourse.data import load_mnist
from kdcourse.losses import kd_loss
from kdcourse.training import predict_logits

IMAGES = 10_000


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; without them it is emulated, and slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def logits_of(name: str, images: Tensor, *, threads: int, half: bool) -> Tensor:
    """Return a zoo teacher's logits as distillation computes them, or with its layers under bfloat16 autocast."""
    torch.set_num_threads(threads)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        return predict_logits(zoo.load(name), images).float()


def measure(name: str, *, repeats: int) -> dict:
    """Return each way's time against float32 on one thread, and how far bfloat16's answers are from float32's."""
    images = load_mnist(held_out=0).train.images[:IMAGES]
    threads = sorted({1, os.cpu_count() or 1})
    ways: dict[str, Callable[[], Tensor]] = {
        f"{'bfloat16' if half else 'float32'}, {count} thread{'s' if count > 1 else ''}": partial(
            logits_of, name, images, threads=count, half=half
        )
        for half in ((False, True) if has_bfloat16() else (False,))
        for count in threads
    }
    answers = {key: way() for key, way in ways.items()}
    seconds = interleave(ways, repeats=repeats)
    base = seconds["float32, 1 thread"]
    found = {
        "images": IMAGES,
        "seconds": {key: round(median(values), 4) for key, values in seconds.items()},
        "times_faster_than_float32_on_one_thread": {key: ratio(base, values) for key, values in seconds.items()},
        "has_bfloat16": has_bfloat16(),
    }
    if has_bfloat16():
        exact, half = answers["float32, 1 thread"], answers["bfloat16, 1 thread"]
        found["bfloat16"] = {
            "largest_difference": round(float((half - exact).abs().max()), 4),
            "standard_deviation_of_logits": round(float(exact.std()), 4),
            "another_class": int((half.argmax(1) != exact.argmax(1)).sum()),
            "kd_loss_at_temperature_4": float(f"{float(kd_loss(half, exact, temperature=4.0)):.3g}"),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--again", action="store_true", help="measure what the record has already, too")
    arguments = parser.parse_args()
    units = {name: partial(measure, name, repeats=arguments.repeats) for name in ("teacher_mlp", "teacher_cnn")}
    measure_units("teacher_pass", units, about="the zoo's teachers on MNIST", again=arguments.again)


if __name__ == "__main__":
    main()
