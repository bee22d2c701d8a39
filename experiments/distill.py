"""When does a teacher help? What ``kdcourse distill`` shows, and how its settings were chosen.

Run ``python -m experiments.distill``, then ``python tools/update_docs.py``, which puts the tables into docs/results.md.

Written before the runs: one setting for all students, chosen on held-out images at ``GRID_IMAGES`` images, in two
stages. First the learning rate of ``RATES`` that suits the two *baselines* best: the held-out errors have the smallest
geometric mean over both baselines and both shapes. Then, at that rate, the temperature and alpha of ``GRID`` whose
distilled students have the smallest geometric mean over both shapes. The two seeds are not those of the command. The
test errors are recorded too; nothing was chosen by them.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import Any

import pandas as pd
from joblib.externals.loky import get_reusable_executor

from experiments._record import write_json
from kdcourse import zoo
from kdcourse.commands import when_it_helps
from kdcourse.commands.when_it_helps import (
    BATCH_SIZE,
    IMAGES,
    LEARNING_RATE,
    METHODS,
    SEEDS,
    STEPS,
    STUDENTS,
    TEACHER,
    one_cycle,
    whole_passes,
)
from kdcourse.data import load_mnist
from kdcourse.sweeps import sweep
from kdcourse.training import predict_logits

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "when-a-teacher-helps.png"
RATES = [4e-3, 8e-3, 1.6e-2, 3.2e-2]
GRID = {"temperature": [1, 4, 20], "alpha": [0.5, 0.9]}
GRID_SEEDS, GRID_IMAGES = (100, 101), 2_000


def choose() -> None:
    """Train both baselines at every rate, then every setting of the grid, and record errors on held-out images."""
    mnist, epochs = load_mnist(), whole_passes(STEPS, GRID_IMAGES)
    images = mnist.train.take(GRID_IMAGES)
    logits = predict_logits(zoo.load(TEACHER), images.images)

    def rows_of(rates: list[float], **method: Any) -> pd.DataFrame:
        runs = sweep(
            make_student=dict(STUDENTS), data={**mnist._asdict(), "train": images}, teacher=logits, seeds=GRID_SEEDS,
            epochs=epochs, batch_size=BATCH_SIZE, lr=rates, stacked=False, executor="processes", progress=False,
            make_optimizer=one_cycle(epochs * -(-GRID_IMAGES // BATCH_SIZE)), **method,
        )  # fmt: skip
        runs["method"] = runs["method"].replace(METHODS)
        return runs

    def means(runs: pd.DataFrame, *names: str) -> list[dict]:
        table = runs.groupby(["student", *names], sort=False)[["held_out_errors", "test_errors"]].mean()
        return table.reset_index().assign(images=GRID_IMAGES).to_dict("records")

    baselines = rows_of(RATES, temperature=20.0, alpha=0.9)
    baselines = baselines[baselines["method"].isin(["plain", "smoothed"])]
    baselines = baselines.assign(setting=[f"lr={rate:g}" for rate in baselines["lr"]])
    of_rates = means(baselines, "method", "setting")
    rates = _scores(of_rates, [f"lr={rate:g}" for rate in RATES])
    chosen_rate = min(rates, key=lambda setting: rates[setting])
    print(rates, f"chosen: {chosen_rate}", sep="\n", flush=True)

    runs = rows_of([float(chosen_rate.removeprefix("lr="))], **GRID)
    runs["setting"] = runs["method"]
    rows = means(runs, "setting")
    settings = [setting for setting in dict.fromkeys(row["setting"] for row in rows) if "=" in setting]
    scores = _scores(rows, settings)
    chosen = min(scores, key=lambda setting: scores[setting])
    print(scores, f"chosen: {chosen}", sep="\n")
    record = {
        "command": "python -m experiments.distill settings",
        "commit": _commit(),
        "rule": "smallest geometric mean of held-out errors over both shapes",
        "seeds": list(GRID_SEEDS),
        "rates": {"scores": rates, "chosen": chosen_rate, "rows": of_rates},
        "scores": scores,
        "chosen": chosen,
        "rows": rows,
    }
    print(f"recorded in {write_json('distill_settings', record)}")


def _scores(rows: list[dict], settings: Sequence[str]) -> dict[str, float]:
    """Return the geometric mean of the held-out errors of every setting, over the rows that have it."""
    logs = {name: [log(row["held_out_errors"]) for row in rows if row["setting"] == name] for name in settings}
    return {name: exp(sum(values) / len(values)) for name, values in logs.items()}


def command() -> None:
    """Run the command's question and record what it says, its runs, and what it costs."""
    record = _run(IMAGES, STEPS, dict(STUDENTS), picture=PICTURE)
    print(record["table"], f"{record['seconds']:.0f} s, of the processors {record['cpu_seconds']:.0f} s", sep="\n")
    print(f"recorded in {write_json('distill', {'command': 'kdcourse distill', **record})}")


def _run(images: tuple[int, ...], steps: int, students: dict, *, picture: Path | None = None) -> dict:
    start, before = time.perf_counter(), _processor_seconds()
    study = when_it_helps.study(
        zoo.load(TEACHER), students=students, images=images, steps=steps, seeds=SEEDS, progress=False
    )
    if picture is not None:
        study.draw(picture)
    seconds = time.perf_counter() - start
    get_reusable_executor().shutdown(wait=True)  # a process that has ended is counted
    return {
        "commit": _commit(),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(_processor_seconds() - before, 1),
        "settings": {
            "teacher": TEACHER, "temperature": when_it_helps.TEMPERATURE, "alpha": when_it_helps.ALPHA,
            "lr": LEARNING_RATE, "batch_size": BATCH_SIZE, "steps": steps,
            "seeds": {shape: list(seeds) for shape, seeds in SEEDS.items()},
            "smallest_effect": when_it_helps.SMALLEST_EFFECT,
        },
        "table": study.to_text(),
        "verdicts": [
            {"student": student, "images": int(count), "verdict": word}
            for (student, count), word in study.verdicts().items()
        ],
        "comparison": study.comparison().to_dict("records"),
        "teacher_errors": study.teacher_errors,
        "runs": study.runs.to_dict("records"),
    }  # fmt: skip


def _commit() -> str:
    command = ["git", "rev-parse", "--short=10", "HEAD"]
    return subprocess.run(command, cwd=PICTURE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


PARTS = {"settings": choose, "command": command}


def main() -> None:
    """Run the parts that are asked for, by default all."""
    parser = argparse.ArgumentParser(prog="python -m experiments.distill")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    for name in parser.parse_args().parts or PARTS:
        print(f"== {name}", flush=True)
        PARTS[name]()


if __name__ == "__main__":
    main()
