"""Chapter 02, soft targets: the factor T², the other direction, a short budget, how many threes, a leap of T."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch.nn.functional as F
from torch import Tensor

from kdcourse.objectives import soft_target_objective, with_knobs
from kdcourse.training import Knobs, count_errors, make_adam, predict_logits, train
from kdcourse.widgets import LiveTrainer

from .sentences import Answer, Difference, difference, mean

NEEDS = (
    "mnist", "cache", "make_student_mlp", "objective", "kd_without_t2", "make_student", "epochs", "part",
    "raise_bias", "choose_bias", "candidates", "new_live_trainer", "quick_adam", "students",
)  # fmt: skip
CACHE = Path("runs/think/02")
SEEDS = range(8)
SMALLEST = 20  # test errors of 10,000, as in the chapter
COLUMNS = ["arm", "seed", "test_errors"]


def answer_1(ch: SimpleNamespace) -> Answer:
    """Does the factor T² matter at α = 1, and at α = 0.9?"""
    ways = {"with T²": ch.objective, "without T²": partial(ch.objective, loss=ch.kd_without_t2)}
    runs = ch.sweep(
        make_student=ch.make_student_mlp, data=_few(ch), objective=ways, temperature=8, alpha=[1.0, 0.9], seeds=SEEDS,
        epochs=20, lr=3e-3, baselines=(), cache=CACHE / "q1", progress=False,
    )  # fmt: skip
    names = {alpha: (f"with T², alpha={alpha}", f"without T², alpha={alpha}") for alpha in ("1", "0.9")}
    alone, mixed = (difference(runs, *pair, smallest_effect=SMALLEST) for pair in names.values())
    means = {arm: mean(runs, arm) for pair in names.values() for arm in pair}
    text = rf"""
At $\alpha = 1$ nothing: the factor multiplies every gradient, and Adam divides it out. On this chapter's 2,000 images
at $T = 8$, over {len(SEEDS)} seeds, students make {means["with T², alpha=1"]} test errors of 10,000 with the factor and
{means["without T², alpha=1"]} without it. The difference is too small to matter: it lies
{alone.is_("too small to matter")} with it.

At $\alpha = 0.9$ the labels' term is there to be compared with, and the factor matters:
{means["with T², alpha=0.9"]} errors with it, {means["without T², alpha=0.9"]} without it. That is
{mixed.is_("better")}. At $\alpha = 0.5$ it is what you saw in "Does $T^2$ matter for the student?".
"""
    return Answer(text, runs[COLUMNS])


def answer_2(ch: SimpleNamespace) -> Answer:
    """Does the reverse direction teach the digit 3, too?"""
    ways = {"forward": ch.objective, "reverse": partial(ch.objective, loss=_reverse_kd)}
    runs = ch.sweep(
        make_student=ch.make_student, data=_with_threes(ch, 0), objective=ways, temperature=[20, 1], alpha=1.0,
        seeds=SEEDS, epochs=ch.epochs, lr=3e-3, baselines=(), metrics={"threes": _count_threes},
        cache=CACHE / "q2", progress=False,
    )  # fmt: skip
    at_20, at_1 = (("reverse, temperature=" + t, "forward, temperature=" + t) for t in ("20", "1"))
    threes = replace(difference(runs, *at_20, metric="threes", smallest_effect=SMALLEST), unit="threes")
    errors, at_low = (difference(runs, *pair, smallest_effect=SMALLEST) for pair in (at_20, at_1))
    found_20 = [mean(runs, arm, metric="threes") for arm in at_20]
    found_1 = [mean(runs, arm, metric="threes", digits=1) for arm in at_1]
    text = rf"""
Yes, about as well. Over {len(SEEDS)} seeds, students trained with the reverse direction find {found_20[0]} of the
{_all_threes(ch):,} test threes on average, and those with the chapter's direction {found_20[1]}. The difference lies
{threes.is_("unclear")}. Of all 10,000 test images they get {mean(runs, at_20[0])} and {mean(runs, at_20[1])} wrong,
and the difference lies {errors.is_("unclear")}. The two may still differ by as much. At $T = 20$ both rows are nearly
level, and there both directions are nearly the squared error between logits.

At $T = 1$ the direction matters: the reverse one makes {at_low.is_("worse")}. But at that temperature there is next to
nothing of a 3 in the soft targets: the two find {found_1[0]} and {found_1[1]} threes on average.
"""
    return Answer(text, runs[[*COLUMNS, "threes"]])


def answer_3(ch: SimpleNamespace) -> Answer:
    """Does the teacher help within 10 epochs at a third of the learning rate, and later?"""
    budgets = [10, 20, 40, 80]
    runs = ch.sweep(
        make_student=ch.make_student_mlp, data=_few(ch), objective={"distilled": ch.objective}, temperature=8,
        alpha=0.5, seeds=SEEDS, epochs=budgets, lr=1e-3, cache=CACHE / "q3", progress=False,
    )  # fmt: skip

    def against(epochs: int, baseline: str) -> Difference:
        arms = (f"{name}, epochs={epochs}" for name in ("distilled", baseline))
        return difference(runs, *arms, smallest_effect=SMALLEST)

    rows = []
    for epochs in budgets:
        errors = [mean(runs, f"{name}, epochs={epochs}") for name in ("no_teacher", "label_smoothing", "distilled")]
        rows.append(f"| {epochs} | {' | '.join(errors)} | {against(epochs, 'no_teacher')} |")
    table = "\n".join(rows)
    late = against(80, "no_teacher").is_("better")
    text = rf"""
No: with the factor, at $T = 8$ and $\alpha = 0.5$, the distilled student makes
{against(10, "no_teacher").is_("worse")} than the one without a teacher. With more epochs it overtakes that one. Test
errors of 10,000, means over {len(SEEDS)} seeds, all at `lr=1e-3`:

| epochs | no teacher | label smoothing | distilled | distilled against no teacher |
|---|---|---|---|---|
{table}

After 80 epochs the distilled student makes {late} than the one without a teacher, and
{against(80, "label_smoothing").is_("better")} than the one with smoothed labels. Soft targets are a slower start and a
better end. An equal number of steps is fair only if both have had enough of them, so the budget belongs to the
question.
"""
    return Answer(text, runs[COLUMNS])


def answer_4(ch: SimpleNamespace) -> Answer:
    """How many threes make the bias superfluous?"""
    runs = _runs_with_threes(ch, COUNTS)
    saved = {n: difference(runs, f"{n}, bias", f"{n}", smallest_effect=SMALLEST) for n in COUNTS}
    missed = replace(difference(runs, "10", "0", metric="missed"), unit="threes")
    lines = []
    for n in COUNTS:
        numbers = [mean(runs, f"{n}", metric="threes"), mean(runs, f"{n}"), mean(runs, f"{n}, bias")]
        lines.append(f"| {n} | {' | '.join(numbers)} | {saved[n]} |")
    table = "\n".join(lines)
    text = rf"""
At most 300 of the {int((ch.part.labels == 3).sum())}; 100 may be enough. As before, fewer than {SMALLEST} errors would
be too small to matter. With 100 threes the best bias still makes {saved[100].is_("better")}, so it may matter a little.
With 300 threes it does not: the difference lies {saved[300].is_("too small to matter")}. All other digits of the 8,000
images stay, and the bias is chosen on held-out images. Errors of 10,000 test images, means over
{runs["seed"].nunique()} seeds:

| threes among the images | threes found of {_all_threes(ch):,} | errors | errors with the best bias | the bias makes |
|---|---|---|---|---|
{table}

Ten threes already change most, although each is seen only once in an epoch: with them the student misses
{missed.is_("better")}.
"""
    return Answer(text, runs)


COUNTS = (0, 10, 30, 100, 300)  # threes among the images


def _runs_with_threes(ch: SimpleNamespace, counts: Sequence[int]) -> pd.DataFrame:
    """Train students with some threes; count each twice, as it is and with the bias that held-out images choose."""
    rows = []
    for count in counts:
        runs = ch.sweep(
            make_student=ch.make_student, data=_with_threes(ch, count), objective={"distilled": ch.objective},
            temperature=20, alpha=1.0, seeds=range(6), epochs=ch.epochs, lr=3e-3, baselines=(),
            metrics={"threes": _count_threes}, keep_models=True, progress=False,
        )  # fmt: skip
        for row in runs.itertuples():
            bias = ch.choose_bias(row.model, [3], ch.candidates)
            answers = ch.raise_bias(predict_logits(row.model, ch.mnist.test.images), bias, [3]).argmax(dim=1)
            common = {"count": count, "seed": row.seed, "threes": row.threes, "missed": _all_threes(ch) - row.threes}
            rows.append(common | {"arm": f"{count}", "bias": 0.0, "test_errors": row.test_errors})
            wrong = int((answers != ch.mnist.test.labels).sum())
            rows.append(common | {"arm": f"{count}, bias", "bias": bias, "test_errors": wrong})
    return pd.DataFrame(rows)


def answer_5(ch: SimpleNamespace) -> Answer:
    """Why do the errors go up first when T goes from 1 to 20?"""
    runs = pd.DataFrame([row for seed in SEEDS for row in _after_the_leap(ch, seed)])
    images = len(ch.new_live_trainer(0).race.track.held_out[1])
    small = SMALLEST * images / 10_000  # the same share of the images

    def against(arm: str, baseline: str = "kept", *, metric: str = "most") -> Difference:
        return difference(runs, arm, baseline, metric=metric, smallest_effect=small)

    def share(arm: str, metric: str = "most") -> str:
        errors = runs.loc[runs["arm"] == arm, metric].mean()
        return f"{errors:.0f} ({100 * errors / images:.1f} %)"

    rows = {
        "one leap to 20": against("leap").is_("worse"),
        "2, 4 and 8 for ten steps each, then 20": against("drag").is_("worse"),
        "one leap, Adam's memory cleared": against("cleared").is_("worse"),
        "one leap, memory cleared, a tenth of the learning rate": against("cleared and slow").is_("worse"),
        "one leap, with `quick_adam` from the start": against("quick leap", "quick kept"),
    }
    shown = [way for way in WAYS if way != "quick kept"]
    lines = zip(shown, {"stays at 1": "", **rows}.items(), strict=True)
    table = "\n".join(f"| {words} | {share(way)} | {change} |" for way, (words, change) in lines)
    text = rf"""
A part of it is Adam. It divides each gradient by its own running size, and at first these are still the small sizes of
$T = 1$, so the steps are too large. We measured {len(SEEDS)} starts. At step {BEFORE} the students get
{share("kept", "before")} of the {images:,} held-out images wrong, on average. From there on we counted the errors every
{GAP} steps, for {AFTER} steps. The table has the mean of each start's highest count, and its difference from the
highest count of a copy whose $T$ stays at 1.

| $T$ after step {BEFORE} | most errors of {images:,} | against $T = 1$ |
|---|---|---|
{table}

At the worst moment the slow drag makes {against("drag", "leap").is_("better")} than the leap, and the leap with a
cleared memory {against("cleared", "leap").is_("better")}. The rest is not this memory. With a cleared memory *and* a
tenth of the learning rate the errors still rise, and for longer: after {AFTER} steps this student makes
{against("cleared and slow", metric="end").is_("worse")} than the one whose $T$ stays at 1. After one leap alone it
makes by then {against("leap", metric="end").is_("better")}. On its way from one set of targets to another, this student
gets worse before it gets better. The opening's `quick_adam` forgets the old sizes within a hundred steps. With it the
worst moment is no worse than that of its own copy at $T = 1$: it makes
{against("quick leap", "quick kept").is_("unclear", "too small to matter", "better")}.
"""
    return Answer(text, runs)


# T for ten steps each, the last one to the end; whether Adam's memory is cleared; what the learning rate is divided by.
# The quick ways have trained with the chapter's own optimizer, the others with Adam as it is usually set.
WAYS = {
    "kept": ((1,), False, 1),
    "leap": ((20,), False, 1),
    "drag": ((2, 4, 8, 20), False, 1),
    "cleared": ((20,), True, 1),
    "cleared and slow": ((20,), True, 10),
    "quick kept": ((1,), False, 1),
    "quick leap": ((20,), False, 1),
}
BEFORE, AFTER, GAP = 400, 200, 5  # steps; the errors are counted every GAP steps


def _after_the_leap(ch: SimpleNamespace, seed: int) -> list[dict]:
    """Train the opening's student up to the leap, then copies of it in all ways on the same batches."""
    raced = {}
    for quick, make_optimizer in ((False, make_adam), (True, ch.quick_adam)):
        live = ch.new_live_trainer(seed, make_optimizer)
        raced[quick] = live.race, live.arms["distilled"]
        del live.race.arms["no teacher"]
        live.race.run_to(BEFORE, seconds=math.inf)
        live.close()
    rows = []
    for way, (temperatures, cleared, divisor) in WAYS.items():
        race, arm = raced[way.startswith("quick")]
        student, knobs = copy.deepcopy(arm.student), Knobs(temperatures[0], 0.9)
        optimizer = race.optimize(student)
        optimizer.load_state_dict(copy.deepcopy(arm.optimizer.state_dict()))
        if cleared:
            optimizer.state.clear()
        for group in optimizer.param_groups:
            group["lr"] /= divisor
        errors = [count_errors(student, *race.track.held_out)]
        batches = islice(race.track.make_batches(), BEFORE, BEFORE + AFTER)
        for step in train(student, batches, with_knobs(soft_target_objective, knobs), optimizer):
            done = step.index + 1
            knobs.temperature = temperatures[min(done // 10, len(temperatures) - 1)]
            if done % GAP == 0:
                errors.append(count_errors(student, *race.track.held_out))
        rows.append(
            {"arm": way, "seed": seed, "before": errors[0], "most": max(errors[1:]), "end": errors[-1]}
            | {"steps_to_most": GAP * errors.index(max(errors[1:]), 1)}
        )
    return rows


def answer_6(ch: SimpleNamespace) -> Answer:
    """What does the opening's student do when the sliders move on, and with all images?"""
    seeds, rows = range(5), []
    for seed in seeds:
        rows += _moved_on(ch, seed, "T = 0.5", "temperature", 0.5)
        rows += _moved_on(ch, seed, "α = 1", "alpha", 1.0)
        for shape in ch.students:
            rows += _with_all_images(ch, seed, shape)
    runs = pd.DataFrame(rows)
    images = len(ch.new_live_trainer(0).race.track.held_out[1])
    small = SMALLEST * images / 10_000

    def against(arm: str, baseline: str) -> Difference:
        return difference(runs, arm, baseline, metric="errors", smallest_effect=small)

    def share(arm: str) -> str:
        return f"{100 * runs.loc[runs['arm'] == arm, 'errors'].mean() / images:.1f} %"

    one, two = (
        against(f"all images, {shape}: distilled", f"all images, {shape}: no teacher")
        for shape in ("one hidden layer", "two hidden layers")
    )
    text = rf"""
Means of {len(seeds)} starts, in % of the {images:,} held-out images.

- With $T$ at 0.5 for another 400 steps the errors stay low: {share("T = 0.5: distilled")}, where the student without a
  teacher makes {share("T = 0.5: no teacher")}. What was learned at $T = 20$ is not lost so soon.
- With $\alpha = 1$, the errors after another 400 steps are {share("α = 1: distilled")}. This student needs no labels.
- With all images and 800 steps, a student of two hidden layers gets {share("all images, two hidden layers: distilled")}
  wrong with the teacher and {share("all images, two hidden layers: no teacher")} without, which is {two.is_("better")}.
  With one hidden layer it is {share("all images, one hidden layer: distilled")} against
  {share("all images, one hidden layer: no teacher")}, {one.is_("better", "unclear")}. So the shape of the student
  matters. Why? A likely reason is that one hidden layer cannot follow this teacher; we did not measure that.
"""
    return Answer(text, runs)


def _moved_on(ch: SimpleNamespace, seed: int, words: str, knob: str, value: float) -> list[dict]:
    """Train the opening's two students through its leap, move one more knob, and train on."""
    live = ch.new_live_trainer(seed)
    for knobs, until in (({}, 400), ({"temperature": 20.0}, 800), ({knob: value}, 1_200)):
        for name, number in knobs.items():
            setattr(live.knobs, name, number)
        live.race.run_to(until, seconds=math.inf)
    return _errors_of(live, seed, words)


def _with_all_images(ch: SimpleNamespace, seed: int, shape: str) -> list[dict]:
    """Train both students of one shape on all images for 800 steps, T = 20 from the start."""
    live = ch.new_live_trainer(seed)
    live.knobs.temperature = 20.0
    live.images_choice.index, live.student_choice.value = 1, shape
    live.race.run_to(800, seconds=math.inf)
    return _errors_of(live, seed, f"all images, {shape}")


def _errors_of(live: LiveTrainer, seed: int, words: str) -> list[dict]:
    held_out = live.race.track.held_out
    live.close()
    return [
        {"arm": f"{words}: {name}", "seed": seed, "errors": count_errors(arm.student, *held_out)}
        for name, arm in live.arms.items()
    ]


def _few(ch: SimpleNamespace) -> dict:
    """Return the 2,000 images of "Does T² matter for the student?", with their logits."""
    return {"train": (*ch.mnist.train.take(2000), ch.cache[:2000]), "test": ch.mnist.test}


def _with_threes(ch: SimpleNamespace, count: int) -> dict:
    """Return the 8,000 images of "The digit 3, never seen" with the first ``count`` of their threes."""
    is_3 = ch.part.labels == 3
    kept = ~is_3 | (is_3 & (is_3.cumsum(dim=0) <= count))
    train_split = (ch.part.images[kept], ch.part.labels[kept], ch.cache[: len(kept)][kept])
    return {"train": train_split, "test": ch.mnist.test}


def _all_threes(ch: SimpleNamespace) -> int:
    return int((ch.mnist.test.labels == 3).sum())


def _count_threes(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=1)[labels == 3] == 3).sum()


def _reverse_kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Return KL(student‖teacher) of softened rows times T², in log space."""
    log_q = F.log_softmax(student_logits / temperature, dim=-1)  # (B, K) student
    log_p = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)  # (B, K) teacher
    return temperature**2 * (log_q.exp() * (log_q - log_p)).sum(dim=-1).mean()


ANSWERS = {1: answer_1, 2: answer_2, 3: answer_3, 4: answer_4, 5: answer_5, 6: answer_6}
