"""What of a detector is worth distilling: its classes, its boxes, or its feature pyramid?

``python -m experiments.detection`` trains every student and writes ``experiments/results/detection.json``, and a few
students for the chapter into ``kdcourse/records``. ``--processes 2`` shares the work; so does the same command started
a second time. A finished run leaves one file in ``runs/detection``, so a stopped experiment continues with the rest.
``--record`` writes the record from the runs that are there.

Written before the runs
-----------------------
Claim. *FPN features at all scales give the biggest gain*, in two parts: the pyramid's term gains more than the class
and the box term, and all levels together gain more than each level alone.
Arms. ``no_teacher`` (labels only), ``class``, ``box``, ``pyramid``, ``all`` (the three together), and the pyramid's
``level 8``, ``level 16``, ``level 32`` alone. A single level has the weight that all levels together have.
Pairs. Runs of one seed start from the same weights and see the same scenes in the same order. Five seeds. The start of
a seed is made once: its body learns single digits, then the whole student learns from labels for ``START`` steps. There
the arms part. Of every run the average of its weights is measured after a quarter, a half and all of its ``STEPS``
steps, at a constant learning rate after a warm-up.
Full size. 2,000 training scenes, ``START`` + ``STEPS`` steps of 16: what one core trains in an hour. It is far from
convergence, and a longer training may rank the terms otherwise.
Baselines. ``no_teacher`` after the same number of steps, and after twice as many.
Choice. Learning rate by ``no_teacher``, then each term's weight alone, by mAP on 300 held-out scenes after half of the
steps, with one seed that is not among the five. ``all`` takes the three weights as they are.
Measure. mAP in points (hundredths) on 1,000 test scenes, by torchmetrics. Sizes by the side of the box: small below 11
pixels, large from 33 on.
Verdict. ``kdcourse.results.verdict`` on paired differences with a 95 % interval; smallest effect of interest: 1 point.
The first part holds if ``pyramid`` is better than ``no_teacher``, and ``class`` and ``box`` are worse than ``pyramid``.
It does not hold if ``class`` or ``box`` is better than ``pyramid``, or ``pyramid`` is not better than ``no_teacher`` by
more than an effect too small to matter. The second part holds if each level alone is worse than ``pyramid``; it does
not hold if one is better, or differs by too little to matter. Otherwise the part is unclear. All after all steps.
"""

import argparse
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.detection import RetinaNet

from experiments._record import write_json
from kdcourse import zoo
from kdcourse._files import write_atomically
from kdcourse.data import load_mnist, minibatches
from kdcourse.data.batches import Minibatches
from kdcourse.data.scenes import Scenes, SceneSplits, load_scenes, make_scenes
from kdcourse.models.detection import LEVELS, detect, make_student_detector, mean_average_precision
from kdcourse.recipes.detection import detection_objective, make_adapters, remember_detector
from kdcourse.sweeps import compare
from kdcourse.training import choose_threads, train

ROOT = Path(__file__).resolve().parents[1]
STUDENTS = ROOT / "kdcourse" / "records" / "detection_students.safetensors"
START, STEPS, BATCH_SIZE, SCENES, SMALL = 1200, 600, 16, 2000, 11
START_RATE = 4e-3
BUDGETS = {"quarter": 0.25, "half": 0.5, "full": 1.0}
SEEDS, CHOICE_SEED, SMALLEST_EFFECT = range(5), 100, 1.0
RATES = (1e-3, 3e-3)
GRID = {"class_weight": (0.3, 1.0, 3.0), "box_weight": (0.5, 2.0, 8.0), "pyramid_weight": (0.1, 0.5, 2.0)}
TERMS = {"class": "class_weight", "box": "box_weight", "pyramid": "pyramid_weight"}
ARMS = ("no_teacher", *TERMS, "all", *(f"level {level}" for level in LEVELS))
SIZES = ("small", "medium", "large")
SHOWN: dict[str, tuple] = {"arms": ("no_teacher", "pyramid", "all"), "seeds": (0, 1, 2)}
Row = dict[str, float | int | str]


def settings_of(arm: str, weights: Mapping[str, float]) -> dict:
    """Return an arm's weights and the pyramid's levels that it listens to."""
    if arm.startswith("level "):
        return {"pyramid_weight": weights["pyramid_weight"], "levels": (arm.removeprefix("level "),)}
    names = list(TERMS) if arm == "all" else [arm] if arm in TERMS else []
    return {TERMS[name]: weights[TERMS[name]] for name in names}


class Bench:
    """Scenes, what the teacher said about them, and the common start of each seed, kept in the folder."""

    def __init__(self, teacher: Any, folder: Path, *, start: int, scenes: int = SCENES, test: int = 1000) -> None:
        self.folder, self.start_steps = folder, start
        self.scenes: SceneSplits = load_scenes(train=scenes, held_out=300, test=test)
        self.data = (*self.scenes.train.packed(), *remember_detector(teacher, self.scenes.train.images))
        self.channels = dict.fromkeys(LEVELS, teacher.backbone.out_channels)

    def start(self, seed: int) -> RetinaNet:
        """Return the student with which every arm of a seed begins, from its file or newly made."""
        path, student = self.folder / f"start-{seed}.safetensors", make_student_detector()
        self.folder.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second waits and reads
            if not path.exists():
                state = self._make_start(seed).state_dict()
                write_atomically(path, lambda temporary: save_file(state, temporary))
        student.load_state_dict(load_file(path))
        return student

    def _make_start(self, seed: int) -> RetinaNet:
        torch.manual_seed(seed)
        student = make_student_detector()
        digits = make_scenes(load_mnist().train, 4000, objects=(1, 1), size=56, clutter=2, seed=3)
        teach_digits(student.backbone.body, digits, seed=seed)
        optimizer = torch.optim.Adam(student.parameters(), lr=START_RATE, fused=True)
        for _ in islice(train(student, self.batches(seed + 1000), detection_objective, optimizer), self.start_steps):
            pass
        return student

    def batches(self, seed: int, *, listens: bool = False) -> Minibatches:
        """Return shuffled batches without end: scenes, and what the teacher said about them if somebody listens."""
        data = self.data if listens else self.data[:3]
        return minibatches(*data, batch_size=BATCH_SIZE, epochs=10**6, generator=torch.Generator().manual_seed(seed))

    def run(
        self, seed: int, *, lr: float, steps: int, marks: Mapping[int, str], measure: Callable[[Any], Row],
        levels: Sequence[str] = LEVELS, keep: Path | None = None, **weights: float,
    ) -> list[Row]:  # fmt: skip
        """Train one student and measure its averaged weights at the marked steps."""
        student = self.start(seed)
        torch.manual_seed(seed)
        adapters = make_adapters(student, self.channels, levels=tuple(levels)) if "pyramid_weight" in weights else None
        learning = [*student.parameters(), *(adapters.parameters() if adapters else [])]
        optimizer = torch.optim.Adam(learning, lr=lr, fused=True)
        warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=max(1, steps // 12))
        average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
        objective = partial(detection_objective, adapters=adapters, **weights)
        batches = self.batches(seed, listens=bool(weights))
        rows: list[Row] = []
        start = time.process_time()
        for step in islice(train(student, batches, objective, optimizer), steps):
            warm_up.step()
            average.update_parameters(student)
            if step.index + 1 in marks:
                spent = time.process_time() - start
                row = {"budget": marks[step.index + 1], "steps": step.index + 1, "cpu_seconds": round(spent, 1)}
                rows.append({**row, **measure(average.module)})
                start = time.process_time() - spent  # measuring is not training
        if keep is not None:
            weights_now = average.module.state_dict().items()
            state = {name: value.half() if value.is_floating_point() else value for name, value in weights_now}
            write_atomically(keep, lambda path: save_file(state, path))
        return rows


def teach_digits(body: nn.Module, digits: Scenes, *, seed: int, epochs: int = 2) -> None:
    """Train a detector's body for a short time to say which digit a small scene shows."""
    labels = torch.cat([target["labels"] for target in digits.targets])
    head = nn.Linear(64, 10)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=4e-3)

    def objective(body: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        *_, last = body(images).values()  # (B, 64, 2, 2)
        return {"ce": F.cross_entropy(head(last.mean(dim=(2, 3))), labels)}

    generator = torch.Generator().manual_seed(seed)
    batches = minibatches(digits.images, labels, batch_size=64, epochs=epochs, generator=generator)
    for _ in train(body, batches, objective, optimizer):
        pass


def measure(student: Any, scenes: Scenes) -> Row:
    """Return mAP in points, over all digits and by size."""
    found = mean_average_precision(detect(student, scenes.images), scenes.targets, small=SMALL)
    return {name: round(100 * value, 2) for name, value in found.items()}


# One run, one file


def once(folder: Path, name: str, run: Callable[[], list[Row]]) -> list[Row] | None:
    """Return a run's rows: from its file, or by running it. None if another process is at it now."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, however it ends
        except BlockingIOError:
            return None
        if not path.exists():
            rows = run()
            text = json.dumps(rows)
            write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            print(f"{time.strftime('%H:%M:%S')} {name}: {text}", flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def choose(bench: Bench, folder: Path, steps: int) -> dict[str, float] | None:
    """Run the search for the learning rate and the weights; None while another process is at one of its runs."""
    half = steps // 2
    options = {"steps": half, "marks": {half: "half"}, "measure": partial(measure, scenes=bench.scenes.held_out)}
    chosen: dict[str, float] = {}
    for knob, values in {"lr": RATES, **GRID}.items():
        rate = {"lr": chosen["lr"]} if chosen else {}
        runs = {
            value: once(
                folder, f"choice-{knob}-{value:g}", partial(bench.run, CHOICE_SEED, **options, **rate, **{knob: value})
            )
            for value in values
        }  # fmt: skip
        if None in runs.values():
            return None
        scores = {f"{knob}-{value:g}": rows[0]["mAP"] for value, rows in runs.items() if rows}
        chosen |= chosen_from(scores)
    return chosen


def work(folder: Path, *, start: int, steps: int, seeds: Sequence[int], teachers: str | None, test: int) -> None:
    """Do every run that nobody has done and nobody is doing."""
    bench = Bench(zoo.load("scenes_teacher", folder=teachers), folder, start=start, test=test)
    while (chosen := choose(bench, folder, steps)) is None:
        time.sleep(5)  # another process is at a run of the search that decides what comes next
    lr, marks = chosen.pop("lr"), {round(share * steps): name for name, share in BUDGETS.items()}
    on_test = partial(measure, scenes=bench.scenes.test)
    waiting = [(arm, seed) for seed in seeds for arm in ARMS]
    while waiting:
        for arm, seed in list(waiting):
            keep = student_file(folder, arm, seed) if arm in SHOWN["arms"] and seed in SHOWN["seeds"] else None
            knobs = {"lr": lr, "steps": steps, "marks": marks, "measure": on_test, "keep": keep}
            if once(folder, name_of(arm, seed), partial(bench.run, seed, **knobs, **settings_of(arm, chosen))):
                waiting.remove((arm, seed))
        time.sleep(5 if waiting else 0)  # the rest is in other hands; one that is killed leaves its run to us


def name_of(arm: str, seed: int) -> str:
    """Return the name of a run's file."""
    return f"{arm.replace(' ', '_')}-{seed}"


def student_file(folder: Path, arm: str, seed: int) -> Path:
    """Return where a student is kept that the chapter shows."""
    return folder / f"{name_of(arm, seed)}.safetensors"


# The record


def read_runs(folder: Path, seeds: Sequence[int]) -> list[Row]:
    """Return the rows of all runs; raise if one is missing."""
    rows: list[Row] = []
    for seed in seeds:
        for arm in ARMS:
            path = folder / f"{name_of(arm, seed)}.json"
            if not path.exists():
                raise FileNotFoundError(f"{path} is missing: run python -m experiments.detection to the end first.")
            rows += [{"arm": arm, "seed": seed, **row} for row in json.loads(path.read_text(encoding="utf-8"))]
    return rows


def comparisons(rows: Sequence[Row]) -> dict[str, list[dict]]:
    """Return every paired difference that the record tells, in points of mAP."""
    runs = pd.DataFrame(rows)
    by = {budget: runs[runs.budget == budget] for budget in BUDGETS}
    points = partial(compare, lower_is_better=False, smallest_effect=SMALLEST_EFFECT)
    tables = {
        f"against no teacher, {budget}": points(part, metric="mAP", baseline="no_teacher")
        for budget, part in by.items()
    }
    tables["against the pyramid, full"] = points(by["full"], metric="mAP", baseline="pyramid")
    plain = by["full"][by["full"].arm == "no_teacher"]
    late = pd.concat([by["half"][by["half"].arm != "no_teacher"], plain])
    tables["at half the steps, against no teacher at full"] = points(late, metric="mAP", baseline="no_teacher")
    for size in SIZES:
        tables[f"{size} digits against no teacher, full"] = points(by["full"], metric=size, baseline="no_teacher")
    return {
        name: [
            {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
            for row in table.to_dict("records")
        ]
        for name, table in tables.items()
    }


def judge(against_no_teacher: Sequence[dict], against_pyramid: Sequence[dict]) -> dict[str, str]:
    """Say whether the sentence holds, by the rule in this module's first lines.

    Examples
    --------
    >>> names = ("no_teacher", "class", "box", "level 8", "level 16", "level 32")
    >>> judge([{"arm": "pyramid", "verdict": "better"}], [{"arm": name, "verdict": "worse"} for name in names])
    {'biggest gain': 'holds', 'all scales': 'holds'}
    """
    gain = next(row["verdict"] for row in against_no_teacher if row["arm"] == "pyramid")
    words = {row["arm"]: row["verdict"] for row in against_pyramid}
    others, levels = [words["class"], words["box"]], [words[f"level {level}"] for level in LEVELS]
    biggest = "unclear"
    if gain == "better" and set(others) == {"worse"}:
        biggest = "holds"
    elif gain in ("worse", "too small to matter") or "better" in others:
        biggest = "does not hold here"
    scales = "unclear"
    if set(levels) == {"worse"}:
        scales = "holds"
    elif {"better", "too small to matter"} & set(levels):
        scales = "does not hold here"
    return {"biggest gain": biggest, "all scales": scales}


def record(folder: Path, *, start: int, steps: int, seeds: Sequence[int], teachers: str | None, test: int) -> dict:
    """Return the record of all runs, and pack the students that the chapter shows."""
    rows = read_runs(folder, seeds)
    found = comparisons(rows)
    search = {
        path.stem.removeprefix("choice-"): json.loads(path.read_text(encoding="utf-8"))[0]["mAP"]
        for path in sorted(folder.glob("choice-*.json"))
    }
    runs = pd.DataFrame(rows)
    means = runs.groupby(["arm", "budget"], sort=False)[["mAP", "AP50", *SIZES]].mean().round(2)
    return {
        "about": "What of a detector is worth distilling: mAP in points on test scenes",
        "command": "python -m experiments.detection",
        "settings": {
            "start": start, "steps": steps, "batch_size": BATCH_SIZE, "training_scenes": SCENES, "test_scenes": test,
            "seeds": list(seeds), "smallest_effect": SMALLEST_EFFECT, "small_below": SMALL, "large_from": 3 * SMALL,
            "chosen": chosen_from(search),
        },
        "search": {"seed": CHOICE_SEED, "held_out_scenes": 300, "steps": steps // 2, "held_out_mAP": search},
        "teacher": zoo.provenance("scenes_teacher", folder=teachers),
        "means": means.reset_index().to_dict("records"),
        "runs": rows,
        "comparisons": found,
        "claims": judge(found["against no teacher, full"], found["against the pyramid, full"]),
        "cpu_minutes": round(float(runs[runs.budget == "full"].cpu_seconds.sum()) / 60, 1),
    }  # fmt: skip


def chosen_from(search: Mapping[str, float]) -> dict[str, float]:
    """Return the best value of each knob from the search's scores, named ``knob-value``.

    Examples
    --------
    >>> chosen_from({"lr-0.002": 10.0, "lr-0.005": 12.5})
    {'lr': 0.005}
    """
    chosen: dict[str, tuple[float, float]] = {}
    for name, score in search.items():
        knob, _, value = name.partition("-")
        if knob not in chosen or score > chosen[knob][1]:
            chosen[knob] = (float(value), score)
    return {knob: value for knob, (value, _) in chosen.items()}


def pack_students(folder: Path, path: Path = STUDENTS, *, seeds: Sequence[int] = SEEDS) -> None:
    """Put the students that the chapter shows into one file, half precision, keys ``arm/seed/parameter``."""
    state = {
        f"{arm}/{seed}/{name}": value
        for arm in SHOWN["arms"]
        for seed in sorted(set(seeds) & set(SHOWN["seeds"]))
        for name, value in load_file(student_file(folder, arm, seed)).items()
    }
    write_atomically(path, lambda temporary: save_file(state, temporary))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.detection", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/detection"), help="one file for each finished run")
    parser.add_argument("--start", type=int, default=START, help="steps on labels before the arms part")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each arm")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--test", type=int, default=1000, help="test scenes")
    parser.add_argument("--teachers", help="folder of the teacher, if it is not the package's own")
    parser.add_argument("--processes", type=int, default=1, help="how many processes share the work")
    parser.add_argument("--train-only", action="store_true", help="write no record at the end")
    parser.add_argument("--record", action="store_true", help="train nothing, write the record of finished runs")
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(arguments)
    choose_threads(1)
    size = {name: getattr(options, name) for name in ("start", "steps", "teachers", "test")}
    size["seeds"] = range(options.seeds)
    if not options.record:
        command = [sys.executable, "-m", "experiments.detection", *arguments, "--processes", "1", "--train-only"]
        others = [subprocess.Popen(command) for _ in range(options.processes - 1)]
        work(options.folder, **size)
        for other in others:
            other.wait()
    if not options.train_only:
        print(write_json("detection", record(options.folder, **size)))
        pack_students(options.folder, seeds=size["seeds"])


if __name__ == "__main__":
    main()
