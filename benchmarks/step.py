"""One training step: written by hand, the shortest loop with autograd, ours, and the usual loop, on 1 and 2 threads.

``python -m benchmarks.step`` takes about a minute on two cores. The step by hand is the practical limit: the same
matrix products, loss values, gradients and fused Adam update on tensors made beforehand, and nothing else. The shortest
loop has the same formula in torch's functions and no check, name or choice: what it takes more is autograd's own part.
"""

import argparse
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks._timing import interleave, measure_units, median, ratio
from kdcourse.data import Minibatches, load_mnist
from kdcourse.models import make_student_mlp
from kdcourse.objectives import soft_target_objective
from kdcourse.recipes import make_adam
from kdcourse.training import train

TEMPERATURE, ALPHA = 4.0, 0.7
SAMPLES = 10_240
Data = tuple[Tensor, Tensor, Tensor]


def by_hand(student: nn.Sequential, batches: Iterator[tuple[Tensor, ...]], optimizer: torch.optim.Optimizer) -> Tensor:
    """Train 784-128-10 on soft targets and labels without autograd; return the last step's two terms."""
    first, last = student[1], student[3]
    w1, b1, w2, b2 = (parameter.detach() for parameter in student.parameters())
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    g1, c1, g2, c2 = (parameter.grad for parameter in (first.weight, first.bias, last.weight, last.bias))
    terms = torch.zeros(2)
    for images, labels, teacher_logits in batches:
        samples = len(labels)
        x = images.flatten(1)  # (B, 784)
        hidden = torch.addmm(b1, x, w1.T).relu_()  # (B, 128)
        logits = torch.addmm(b2, hidden, w2.T)  # (B, 10)
        log_q, log_p = F.log_softmax(logits / TEMPERATURE, 1), F.log_softmax(teacher_logits / TEMPERATURE, 1)
        p, log_q1 = log_p.exp(), F.log_softmax(logits, 1)  # (B, 10)
        kd = (p * (log_p - log_q)).sum() * (ALPHA * TEMPERATURE**2 / samples)
        cross_entropy = -(1 - ALPHA) * log_q1.gather(1, labels.unsqueeze(1)).mean()
        terms = torch.stack([kd, cross_entropy])
        upstream = log_q.exp_().sub_(p).mul_(ALPHA * TEMPERATURE / samples)  # (B, 10)
        q1 = log_q1.exp_()
        q1.scatter_add_(1, labels.unsqueeze(1), q1.new_full((samples, 1), -1.0))
        upstream.add_(q1, alpha=(1 - ALPHA) / samples)
        torch.mm(upstream.T, hidden, out=g2)
        torch.sum(upstream, 0, out=c2)
        below = torch.mm(upstream, w2).mul_(hidden > 0)  # (B, 128)
        torch.mm(below.T, x, out=g1)
        torch.sum(below, 0, out=c1)
        optimizer.step()
    return terms


def shortest(student: nn.Module, batches: Iterator[tuple[Tensor, ...]], optimizer: torch.optim.Optimizer) -> Tensor:
    """Train with autograd and nothing else; return the last step's two terms."""
    terms = torch.zeros(2)
    for images, labels, teacher_logits in batches:
        optimizer.zero_grad()
        logits = student(images)
        log_q, log_p = F.log_softmax(logits / TEMPERATURE, 1), F.log_softmax(teacher_logits / TEMPERATURE, 1)
        kd = (log_p.exp() * (log_p - log_q)).sum() * (ALPHA * TEMPERATURE**2 / len(labels))
        cross_entropy = (1 - ALPHA) * F.cross_entropy(logits, labels)
        (kd + cross_entropy).backward()
        optimizer.step()
        terms = torch.stack([kd.detach(), cross_entropy.detach()])
    return terms


def ours(student: nn.Module, batches: Iterator[tuple[Tensor, ...]], optimizer: torch.optim.Optimizer) -> Tensor:
    """Train with the package's loop; return the last step's two terms."""
    objective = partial(soft_target_objective, temperature=TEMPERATURE, alpha=ALPHA)
    (last,) = deque(train(student, batches, objective, optimizer), maxlen=1)
    return torch.stack(list(last.terms.values()))


def usual(student: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    """Train as most scripts do, with the teacher's logits given: zero_grad, forward, backward, step, one value read."""
    for images, labels, teacher_logits in loader:
        optimizer.zero_grad()
        logits = student(images)
        soft = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, 1), F.softmax(teacher_logits / TEMPERATURE, 1), reduction="batchmean"
        )
        loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        loss.item()


def products(batches: list[tuple[Tensor, ...]], student: nn.Sequential) -> None:
    """Do the five matrix products of each step and nothing else."""
    w1, w2 = student[1].weight.detach(), student[3].weight.detach()
    hidden, out = torch.rand(len(batches[0][0]), 128), torch.rand(len(batches[0][0]), 10)
    for images, *_ in batches:
        x = images.flatten(1)
        (x @ w1.T, hidden @ w2.T, out.T @ hidden, out @ w2, hidden.T @ x)


def make_data(samples: int = SAMPLES) -> Data:
    images, labels = load_mnist(held_out=0).train.take(samples)
    return images, labels, 3 * torch.randn(samples, 10, generator=torch.Generator().manual_seed(0))


def measure(batch_size: int, threads: int, *, repeats: int) -> dict:
    """Return microseconds a step of each way, and its ratio to the step by hand in the same turn."""
    torch.set_num_threads(threads)
    data = make_data()
    steps = len(data[1]) // batch_size

    def way(run: Callable, make_adam: Callable = make_adam, loader: bool = False) -> Callable[[], object]:
        torch.manual_seed(0)
        student = make_student_mlp()
        optimizer = make_adam(list(student.parameters()))
        make = partial(DataLoader, TensorDataset(*data), batch_size, shuffle=True) if loader else partial(
            Minibatches, *data, batch_size=batch_size
        )  # fmt: skip
        return lambda: run(student, make(drop_last=True), optimizer)

    ways = {
        "by_hand": way(by_hand),
        "shortest": way(shortest),
        "ours": way(ours),
        "usual": way(usual, lambda parameters: torch.optim.Adam(parameters, lr=1e-3), loader=True),
        "matrix_products": partial(
            products, list(Minibatches(*data, batch_size=batch_size, drop_last=True)), make_student_mlp()
        ),
    }
    interleave(ways, repeats=1)
    seconds = interleave(ways, repeats=repeats)
    return {
        "microseconds_a_step": {name: round(median(values) / steps * 1e6, 1) for name, values in seconds.items()},
        "over_by_hand": {name: ratio(values, seconds["by_hand"]) for name, values in seconds.items()},
        "ours_over_shortest": ratio(seconds["ours"], seconds["shortest"]),
        "usual_over_ours": ratio(seconds["usual"], seconds["ours"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--again", action="store_true", help="measure what the record has already, too")
    arguments = parser.parse_args()
    units = {
        f"batch {batch_size}, {threads} thread{'s' if threads > 1 else ''}": partial(
            measure, batch_size, threads, repeats=arguments.repeats
        )
        for batch_size in (128, 512)
        for threads in (1, 2)
    }
    about = "784-128-10 on MNIST, soft targets and labels, fused Adam; the usual loop reads a DataLoader of tensors"
    measure_units("step", units, about=about, again=arguments.again)


if __name__ == "__main__":
    main()
