"""Many students at once: stacked in one program against one by one, in one run.

``python -m benchmarks.sweeps`` writes ``benchmarks/results/sweeps.json``. Times are of training alone, in milliseconds
per step and student; ``ratio`` is one by one over stacked, so above 1 stacking is faster. The data is MNIST, the
teacher's logits are random: they cost the same.
"""

import argparse
from functools import partial

import torch

from benchmarks._timing import interleave, median, write_json
from kdcourse import models
from kdcourse.data import load_mnist
from kdcourse.recipes import make_adam
from kdcourse.sweeps import soft_target_objective
from kdcourse.sweeps.seeds import Orders, Program
from kdcourse.sweeps.stacking import Loop, Stack, stacks_well

# name, student, batch size, samples, seeds, temperatures
CASES = [
    ("student_mlp, 784-128-10", models.make_student_mlp, 128, 5120, 5, 4),
    ("student_mlp, batch 32", models.make_student_mlp, 32, 1280, 5, 4),
    ("small MLP, 784-32-10", partial(models.make_mlp, 32), 128, 5120, 5, 4),
    ("small MLP, batch 32", partial(models.make_mlp, 32), 32, 1280, 5, 4),
    ("student_mlp, seeds only", models.make_student_mlp, 128, 5120, 20, 1),
    ("student_cnn", models.make_student_cnn, 128, 512, 2, 2),
]


def measure(name: str, student, batch_size: int, samples: int, seeds: int, arms: int, *, device, repeats: int) -> dict:
    images, labels = load_mnist(device=device).train.take(samples)
    teacher_logits = torch.randn(samples, 10, device=device)
    programs = [Program(student, {}, seed=seed, device=device) for seed in range(seeds)]
    temperature = torch.linspace(2, 8, arms, device=device)

    def way(engine) -> None:
        orders = Orders(
            (images, labels, teacher_logits), per_seed=(False,) * 3, seeds=range(seeds), batch_size=batch_size, epochs=1
        )
        loss = engine(programs, arms=arms).train(
            orders, soft_target_objective, make_adam, {"temperature": temperature}, tick=lambda steps: None
        )
        loss.sum().item()  # waits for a GPU

    ways = {"one_by_one": lambda: way(Loop), "stacked": lambda: way(Stack)}
    interleave(ways, repeats=1)
    seconds = interleave(ways, repeats=repeats)
    steps = seeds * arms * -(-samples // batch_size)
    each = {key: round(1e3 * median(values) / steps, 4) for key, values in seconds.items()}
    ratios = [one / stacked for one, stacked in zip(seconds["one_by_one"], seconds["stacked"], strict=True)]
    return {
        "case": name, "students": seeds * arms, "seeds": seeds, "arms": arms, "batch_size": batch_size,
        "ms_per_student_step": each, "ratio": round(median(ratios), 2), "ratios": [round(ratio, 2) for ratio in ratios],
        "sweep_would_stack": stacks_well(programs[0], device),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    records = []
    for case in CASES:
        records.append(measure(*case, device=device, repeats=arguments.repeats))
        print(records[-1])
    suffix = "" if device.type == "cpu" else f"_{device.type}"
    print(write_json(f"sweeps{suffix}", {"device": str(device), "cases": records}))


if __name__ == "__main__":
    main()
