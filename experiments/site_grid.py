"""Many students for one question: what do T and α do, with few images and with many? Numbers for the site's explorer.

Run ``python -m experiments.site_grid``; it goes on where it was stopped, and writes ``site/recorded/train.json``.
``--fast`` trains fewer steps, to try the command.

Written before the run: student and teacher are those of ``kdcourse distill`` (784-300-300-10, the 2×1200 teacher), with
Adam at 2e-3 and about 800 steps of 64 images. All students of one seed begin with
the same weights and see the same order. Nothing is chosen by these numbers; every cell of the grid is shown.
"""

import argparse
import os
from pathlib import Path

import pandas as pd

from kdcourse import zoo
from kdcourse.commands.when_it_helps import STUDENTS, TEACHER
from kdcourse.data import load_mnist
from kdcourse.records import write_record
from kdcourse.sweeps import sweep
from kdcourse.training import predict_logits

SHAPE = "784-300-300-10"
BATCH_SIZE, LEARNING_RATE, STEPS = 64, 2e-3, 800
TEMPERATURES, ALPHAS = [1.0, 2.0, 4.0, 8.0, 20.0], [0.1, 0.5, 0.9, 1.0]
IMAGES, SEEDS = [300, 2_000, 10_000], [0, 1, 2]
FOLDER = Path(__file__).resolve().parents[1] / "site" / "recorded"


def rows_of(runs: pd.DataFrame, images: int) -> list[dict]:
    """Return a row for each cell of the grid and for each baseline, with the test errors of every seed."""
    rows = []
    for (method, temperature, alpha), group in runs.groupby(["arm", "temperature", "alpha"], dropna=False, sort=False):
        errors = group.sort_values("seed")["test_errors"].astype(int).tolist()
        row = {"images": images, "errors": errors}
        if method in ("no_teacher", "label_smoothing"):
            row["baseline"] = method
        else:
            row |= {"temperature": temperature, "alpha": alpha}
        rows.append(row)
    return rows


def main() -> None:
    """Train the grid and write its record."""
    parser = argparse.ArgumentParser(prog="python -m experiments.site_grid")
    parser.add_argument("--cache", type=Path, default=Path("runs/site_grid"), help="folder of what is done already")
    parser.add_argument("--fast", action="store_true", help="a tenth of the steps, into the cache's folder")
    options = parser.parse_args()
    mnist, teacher = load_mnist(), zoo.load(TEACHER)
    logits = predict_logits(teacher, mnist.train.images[: max(IMAGES)])  # (N, 10), once
    steps, rows = STEPS // 10 if options.fast else STEPS, []
    for count in IMAGES:
        runs = sweep(
            make_student=STUDENTS[SHAPE], data={**mnist._asdict(), "train": mnist.train.take(count)},
            teacher=logits[:count], seeds=SEEDS, temperature=TEMPERATURES, alpha=ALPHAS,
            epochs=max(1, round(steps / -(-count // BATCH_SIZE))), batch_size=BATCH_SIZE, lr=LEARNING_RATE,
            cache=options.cache, progress=False,
        )  # fmt: skip
        rows += rows_of(runs, count)
        print(f"{count:,} images: {len(runs)} students", flush=True)
    record = {
        "command": "python -m experiments.site_grid", "shape": SHAPE, "teacher": TEACHER, "steps": steps,
        "temperatures": TEMPERATURES, "alphas": ALPHAS, "images": IMAGES, "seeds": SEEDS, "rows": rows,
    }  # fmt: skip
    print(f"recorded in {write_record(options.cache if options.fast else FOLDER, 'train', record)}")


if __name__ == "__main__":
    os.environ.setdefault("KDCOURSE_THREADS", "1")
    main()
