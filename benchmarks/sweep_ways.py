"""25 students, five temperatures and five seeds: one by one, stacked, in processes, and in processes of stacks.

``python -m benchmarks.sweep_ways`` takes about three minutes on two cores. Each way is the whole call of ``sweep``;
processes have been started before, as they have after the first sweep of a chapter.
"""

import argparse
import os
from functools import partial

import pandas as pd
import torch

from benchmarks._timing import interleave, measure_units, median, ratio
from kdcourse.data import load_mnist
from kdcourse.models import make_student_mlp
from kdcourse.sweeps import sweep

SEEDS, TEMPERATURES = range(5), [1, 2, 4, 8, 16]
WAYS = {
    "one by one": {"stacked": False},
    "stacked": {"stacked": True},
    "processes": {"stacked": False, "executor": "processes"},
    "processes of stacks": {"stacked": True, "executor": "processes"},
    "as sweep chooses": {"executor": "processes"},
}


def run(way: dict, *, samples: int, epochs: int, batch_size: int) -> pd.DataFrame:
    """Train 25 students on one thread in each process."""
    torch.set_num_threads(1)
    train = load_mnist(held_out=0).train.take(samples)
    teacher_logits = 3 * torch.randn(samples, 10, generator=torch.Generator().manual_seed(0))
    return sweep(
        make_student=make_student_mlp, data={"train": train, "test": train.take(1000)}, teacher=teacher_logits,
        temperature=TEMPERATURES, seeds=SEEDS, epochs=epochs, batch_size=batch_size, baselines=[], progress=False,
        **way,
    )  # fmt: skip


def measure(*, samples: int = 10_240, epochs: int = 3, batch_size: int = 128, repeats: int = 3) -> dict:
    """Return each way's seconds, how many times faster it is than one by one, and whether its numbers are the same."""
    settings = {"samples": samples, "epochs": epochs, "batch_size": batch_size}
    ways = {name: partial(run, way, **settings) for name, way in WAYS.items()}
    tables = {name: way() for name, way in ways.items()}  # also starts the processes
    seconds = interleave(ways, repeats=repeats)
    alone = tables["one by one"]
    return {
        "students": len(alone),
        "cores": os.cpu_count(),
        "seconds": {name: round(median(values), 2) for name, values in seconds.items()},
        "times_faster": {name: ratio(seconds["one by one"], values) for name, values in seconds.items()},
        "largest_difference_of_training_loss": {
            name: float(f"{(table.train_loss - alone.train_loss).abs().max():.3g}") for name, table in tables.items()
        },
        "most_test_answers_that_differ": {
            name: int((table.test_errors - alone.test_errors).abs().max()) for name, table in tables.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="measure what the record has already, too")
    arguments = parser.parse_args()
    units = {
        "batch 128": partial(measure, repeats=arguments.repeats),
        "batch 32": partial(measure, samples=5_120, epochs=2, batch_size=32, repeats=arguments.repeats),
    }
    about = "784-128-10 on MNIST, five temperatures, five seeds, one thread in each process"
    measure_units("sweep_ways", units, about=about, again=arguments.again)


if __name__ == "__main__":
    main()
