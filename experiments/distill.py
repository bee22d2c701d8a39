"""When does a teacher help? What ``kdcourse distill`` shows, and how its settings were chosen.

Run ``python -m experiments.distill``, then ``python tools/update_docs.py``, which puts the tables into docs/results.md.

Written before the runs: one setting for all students, the temperature and alpha of ``GRID`` whose held-out errors have
the smallest geometric mean over both shapes, at ``GRID_IMAGES`` images. Its two seeds are not those of the command. The
test errors of the grid are recorded too; nothing was chosen by them.
"""

import argparse
import os
import subprocess
import time
from math import exp, log
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

from experiments._record import write_json
from kdcourse import zoo
from kdcourse.commands import when_it_helps
from kdcourse.commands.when_it_helps import BATCH_SIZE, IMAGES, LEARNING_RATE, METHODS, SEEDS, STEPS, STUDENTS, TEACHER
from kdcourse.data import load_mnist
from kdcourse.sweeps import sweep
from kdcourse.training import predict_logits

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "when-a-teacher-helps.png"
GRID = {"temperature": [1, 4, 20], "alpha": [0.5, 0.9]}
GRID_SEEDS, GRID_IMAGES = (100, 101), (2_000,)


def choose() -> None:
    """Train every setting of the grid on both shapes, and record errors on held-out images."""
    mnist, teacher = load_mnist(), zoo.load(TEACHER)
    logits = predict_logits(teacher, mnist.train.images)
    rows = []
    for images in GRID_IMAGES:
        runs = sweep(
            make_student=dict(STUDENTS), data={**mnist._asdict(), "train": mnist.train.take(images)},
            teacher=logits[:images], seeds=GRID_SEEDS, epochs=max(1, round(STEPS / -(-images // BATCH_SIZE))),
            batch_size=BATCH_SIZE, lr=LEARNING_RATE, executor="processes", progress=False, **GRID,
        )  # fmt: skip
        runs["setting"] = runs["method"].replace(METHODS)
        means = runs.groupby(["student", "setting"], sort=False)[["held_out_errors", "test_errors"]].mean()
        rows += means.reset_index().assign(images=images).to_dict("records")
        print(means, flush=True)
    settings = [setting for setting in dict.fromkeys(row["setting"] for row in rows) if "=" in setting]
    scores = {
        setting: exp(
            sum(logs := [log(row["held_out_errors"]) for row in rows if row["setting"] == setting]) / len(logs)
        )
        for setting in settings
    }
    chosen = min(scores, key=lambda setting: scores[setting])
    print(scores, f"chosen: {chosen}", sep="\n")
    record = {
        "command": "python -m experiments.distill settings",
        "commit": _commit(),
        "rule": "smallest geometric mean of held-out errors over both shapes",
        "seeds": list(GRID_SEEDS),
        "scores": scores,
        "chosen": chosen,
        "rows": rows,
    }
    print(f"recorded in {write_json('distill_settings', record)}")


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
            "lr": LEARNING_RATE, "batch_size": BATCH_SIZE, "steps": steps, "seeds": list(SEEDS),
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
