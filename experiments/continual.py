"""Learning without forgetting on split MNIST: with and without task labels, and with twenty exemplars a class.

``python -m experiments.continual`` from the repository's root; a stopped run continues. Claims, arms and rules were
written before the run. The record is ``experiments/results/continual.json``, which chapter 12 shows.
"""

import argparse
import time
from typing import Any

import pandas as pd
import torch

from experiments._record import write_json
from experiments._rows import measured
from kdcourse.data import load_mnist, split_into_tasks
from kdcourse.models import make_mlp
from kdcourse.recipes import learn_tasks
from kdcourse.sweeps import compare
from kdcourse.training import choose_threads

# Everything: each task is trained on all images so far, the upper bound that continual learning cannot have.
ALL = 100_000
ARMS: dict[str, dict[str, Any]] = {
    "task told: trained on": {"told": True, "old_weight": 0.0},
    "task told: trained on, smoothed labels": {"told": True, "old_weight": 0.0, "label_smoothing": 0.1},
    "task told: LwF": {"told": True},
    "not told: trained on": {"told": False, "old_weight": 0.0},
    "not told: trained on, smoothed labels": {"told": False, "old_weight": 0.0, "label_smoothing": 0.1},
    "not told: LwF": {"told": False},
    "not told: 20 exemplars": {"told": False, "old_weight": 0.0, "exemplars": 20},
    "not told: LwF and 20 exemplars": {"told": False, "exemplars": 20},
    "not told: all images kept": {"told": False, "old_weight": 0.0, "exemplars": ALL},
}
# A ceiling, three times as long to train as the others: three seeds, and it is compared with nothing.
CEILING, CEILING_SEEDS = "not told: all images kept", 3

# Test errors of 10,000 after the last task, answered as the arm was trained. An effect counts from 50 errors on.
SMALLEST_EFFECT = 50
PAIRS = [
    ("task told: LwF", "task told: trained on"),
    ("task told: LwF", "task told: trained on, smoothed labels"),
    ("not told: LwF", "not told: trained on"),
    ("not told: LwF", "not told: trained on, smoothed labels"),
    ("not told: LwF and 20 exemplars", "not told: LwF"),
    ("not told: LwF and 20 exemplars", "not told: 20 exemplars"),
]
CLAIMS = [
    {
        "claim": "With task labels, LwF forgets less than a network that is only trained on",
        "source": "arXiv:1606.09282",
        "rule": "holds if LwF is better than both baselines, trained on and trained on with smoothed labels",
    },
    {
        "claim": "Without task labels, the same loss forgets nearly everything",
        "source": "arXiv:1904.07734, table 4",
        "rule": "holds if LwF makes at least 5,000 errors of 10,000 in every seed",
    },
    {
        "claim": "Twenty exemplars a class mend it",
        "source": "arXiv:1611.07725; arXiv:1904.07734, table 4",
        "rule": "holds if LwF with exemplars is better than LwF, by 1,000 errors or more at the interval's nearer end",
    },
    {
        "claim": "Beside exemplars the old answers still help",
        "source": "arXiv:1904.07734, table 4 (91.79 % against 90.79 %)",
        "rule": "holds if LwF with exemplars is better than the same exemplars alone",
    },
]


def run(*, arm: str, seed: int, images: int, epochs: int, batch_size: int, width: int) -> dict[str, Any]:
    """Train one network on five tasks, and return its errors and its accuracies by task."""
    mnist, start = load_mnist(), time.process_time()
    torch.manual_seed(seed)
    told = ARMS[arm]["told"]
    history = learn_tasks(
        make_mlp(width, width), split_into_tasks(mnist.train.take(images)), mnist.test, seed=seed, epochs=epochs,
        batch_size=batch_size, **ARMS[arm],
    )  # fmt: skip
    table = history.accuracies(told=told).tolist()
    return {
        "test_errors": history.errors(told=told),
        "errors_told": history.errors(told=True),  # the same network, asked in both ways
        "errors_not_told": history.errors(told=False),
        # Each row ends with its own task: what is not there yet would be NaN, which JSON does not have.
        "accuracies": [[round(value, 4) for value in row[: place + 1]] for place, row in enumerate(table)],
        "seconds": round(time.process_time() - start, 1),
    }


def comparisons(rows: list[dict[str, Any]], pairs: list[tuple[str, str]] = PAIRS) -> list[dict[str, Any]]:
    """Return each pair's paired difference in errors with its interval and verdict."""
    table = pd.DataFrame(rows)[["arm", "seed", "test_errors"]]
    found = []
    for arm, baseline in pairs:
        two = compare(table[table.arm.isin([arm, baseline])], baseline=baseline, smallest_effect=SMALLEST_EFFECT)
        found += two.to_dict("records")
    return found


def verdicts(rows: list[dict[str, Any]], compared: list[dict[str, Any]]) -> list[str]:
    """Apply the rule of each claim, in the order of ``CLAIMS``."""
    of = {(row["arm"], row["baseline"]): row for row in compared}
    both = [of["task told: LwF", baseline]["verdict"] for baseline in (PAIRS[0][1], PAIRS[1][1])]
    forgotten = [row["test_errors"] >= 5000 for row in rows if row["arm"] == "not told: LwF"]
    mended = of["not told: LwF and 20 exemplars", "not told: LwF"]
    beside = of["not told: LwF and 20 exemplars", "not told: 20 exemplars"]["verdict"]
    return [
        "holds" if both == ["better", "better"] else "does not hold here" if "worse" in both else "unclear",
        "holds" if all(forgotten) else "does not hold here",
        "holds" if mended["high"] <= -1000 else "does not hold here",
        {"better": "holds", "worse": "does not hold here"}.get(beside, beside),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Run all arms and write the record."""
    parser = argparse.ArgumentParser(prog="python -m experiments.continual", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=55_000)
    parser.add_argument("--epochs", type=int, default=1, help="passes over each task's images")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=200, help="units in each of the two hidden layers")
    options = parser.parse_args(arguments)
    settings = {key: getattr(options, key) for key in ("images", "epochs", "batch_size", "width")}
    jobs = [
        {"arm": arm, "seed": seed, **settings}
        for seed in range(options.seeds)
        for arm in ARMS
        if arm != CEILING or seed < CEILING_SEEDS
    ]
    rows = measured("continual", jobs, run)
    compared = comparisons(rows)
    write_json(
        "continual",
        {
            "command": "python -m experiments.continual",
            "about": f"784-{options.width}-{options.width}-10, {options.images:,} images in five tasks of two digits, "
            f"{options.epochs} epoch(s) each in batches of {options.batch_size}, Adam at 0.001, {options.seeds} seeds, "
            "errors of 10,000 test images after the last task; LwF with weight 1 and T = 2",
            "settings": settings,
            "smallest_effect": SMALLEST_EFFECT,
            "claims": [
                {**claim, "verdict": word} for claim, word in zip(CLAIMS, verdicts(rows, compared), strict=True)
            ],
            "runs": rows,
            "comparisons": {"after the last task": compared},
            "minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
        },
    )


if __name__ == "__main__":
    choose_threads()
    main()
