"""The unit of ``benchmarks.scale_out``, in a module of its own: a worker imports it by name."""

import os
from functools import cache
from pathlib import Path

import torch

from kdcourse.data import load_mnist
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective
from kdcourse.recipes import make_adam
from kdcourse.training import count_errors, fit


@cache
def digits(samples: int):
    mnist = load_mnist()
    return tuple(mnist.train.take(samples)), tuple(mnist.held_out.take(500))


def one_student(seed: int, samples: int, epochs: int, begun: str) -> list[dict]:
    """Train one student; a line in a file says that it was begun, and by which process."""
    with Path(begun).open("a", encoding="utf-8") as file:
        file.write(f"{seed} {os.getpid()}\n")
    train, held_out = digits(samples)
    torch.manual_seed(seed)
    student = make_mlp(32)
    optimizer = make_adam(list(student.parameters()))
    fit(student, train, label_objective, optimizer, epochs=epochs, batch_size=50, seed=seed, progress=False)
    errors = count_errors(student, *held_out)
    return [{"cell": "a", "arm": "labels", "seed": seed, "test_errors": errors}]
