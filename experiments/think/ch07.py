"""Chapter 07: peers and smoothing together, a higher T for peers, a small and a large peer, and how long to train."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.think.sentences import Answer, difference, mean
from kdcourse.losses import mutual_learning_loss
from kdcourse.models import make_mlp
from kdcourse.objectives import mutual_objective, soft_target_objective, with_knobs
from kdcourse.recipes import Cohort
from kdcourse.sweeps import sweep
from kdcourse.training import count_errors
from kdcourse.training.schedules import constant

NEEDS = (
    "alone", "beginning", "few", "lesson", "lessons", "make_student", "measure_all", "mnist", "moving", "settings",
    "short", "ways",
)  # fmt: skip
FOLDER = Path("runs/think/07")
SEEDS = 8
SMALLEST = 15  # errors of 10,000, as the chapter names it
LABELS, SMOOTHED, BOTH, SUM = "alone", "smoothed labels", "peers and smoothing", "the two gains added"
SIZES = (64, 256)

errors_against = partial(difference, smallest_effect=SMALLEST)


# 1 and 2. Cohorts of four


def peers_and_smoothing(cohort: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Learn from peers at T = 4, and from smoothed labels in place of the labels."""
    all_logits = cohort(images)
    taught = mutual_learning_loss(all_logits, labels, temperature=4.0)
    terms = {}
    for number, (logits, loss) in enumerate(zip(all_logits, taught, strict=True)):
        smoothed = F.cross_entropy(logits, labels, label_smoothing=0.1)
        terms[f"student {number}"] = loss - F.cross_entropy(logits, labels) + smoothed
    return terms


def train_cohorts(
    ch: SimpleNamespace, make_cohort: Callable[[], Cohort], objectives: Mapping[str, Callable]
) -> pd.DataFrame:
    """Train a cohort for each objective and seed as the chapter does, and keep the models."""
    return sweep(
        make_student=make_cohort,
        data=tuple(ch.few),
        seeds=range(SEEDS),
        objective=objectives,
        baselines=(),
        keep_models=True,
        **ch.settings | {"executor": None},
    )


def fours(ch: SimpleNamespace) -> pd.DataFrame:
    """Train cohorts of four; two questions ask for the mean errors of one student."""
    if not hasattr(ch, "fours"):
        objectives = {
            LABELS: ch.alone,
            SMOOTHED: partial(ch.alone, label_smoothing=0.1),
            **{f"T = {t}": partial(mutual_objective, temperature=float(t)) for t in (1, 4, 8)},
            BOTH: peers_and_smoothing,
        }
        runs = train_cohorts(ch, lambda: Cohort([ch.make_student() for _ in range(4)]), objectives)
        ch.fours = ch.measure_all(runs)[["arm", "seed", "errors"]].rename(columns={"errors": "test_errors"})
    return ch.fours


def added(runs: pd.DataFrame, name: str, plus: tuple[str, str], minus: str) -> pd.DataFrame:
    """Add an arm: the errors of two arms, less those of a third, seed by seed."""
    errors = runs.pivot(index="seed", columns="arm", values="test_errors")
    total = errors[plus[0]] + errors[plus[1]] - errors[minus]
    return pd.concat([runs, total.rename("test_errors").reset_index().assign(arm=name)])


def answer_1(ch: SimpleNamespace) -> Answer:
    """Give a cohort of four smoothed labels as well."""
    arms = (LABELS, SMOOTHED, "T = 4", BOTH)
    runs = fours(ch)
    runs = added(runs[runs.arm.isin(arms)], SUM, plus=(SMOOTHED, "T = 4"), minus=LABELS)
    return Answer(say_1(runs), runs)


def say_1(runs: pd.DataFrame) -> str:
    apart = errors_against(runs, BOTH, SUM).is_("worse")
    peers = errors_against(runs, BOTH, "T = 4").is_("unclear")
    smoothed = errors_against(runs, BOTH, SMOOTHED).is_("unclear")
    return f"""No. In fours, with 500 images and {SEEDS} seeds, a student makes {mean(runs, BOTH)} errors with peers at
    $T = 4$ and smoothed labels together. It makes {mean(runs, "T = 4")} with peers alone, {mean(runs, SMOOTHED)} with
    smoothed labels alone, and {mean(runs, LABELS)} with neither. Both together are not clearly better than peers alone
    ({peers}), nor than smoothed labels alone ({smoothed}). If the two gains added up, a student would make
    {mean(runs, SUM)} errors. It makes {apart}. That agrees with the suspicion that both do the same thing: they soften
    the targets."""


def answer_2(ch: SimpleNamespace) -> Answer:
    """Let the peers teach at T = 8."""
    runs = fours(ch)
    runs = runs[runs.arm.isin((LABELS, "T = 1", "T = 4", "T = 8"))]
    return Answer(say_2(runs), runs)


def say_2(runs: pd.DataFrame) -> str:
    higher = errors_against(runs, "T = 8", "T = 4").is_("unclear")
    for t in (4, 8):
        errors_against(runs, f"T = {t}", "T = 1").is_("better")
    return f"""We see no gain here. With 500 images and {SEEDS} seeds a student of four makes {mean(runs, "T = 8")}
    errors at $T = 8$ and {mean(runs, "T = 4")} at $T = 4$. The difference is unclear ({higher}). Both are better than
    $T = 1$, with its {mean(runs, "T = 1")} errors."""


# 3. A small and a large peer


def answer_3(ch: SimpleNamespace) -> Answer:
    """Train a student of 64 units beside one of 256, as peers at T = 4 and alone."""
    objectives = {LABELS: ch.alone, "peers": partial(mutual_objective, temperature=4.0)}
    made = train_cohorts(ch, lambda: Cohort([make_mlp(size, size) for size in SIZES]), objectives)
    runs = pd.DataFrame(
        {"arm": f"{size}, {run.arm}", "seed": run.seed, "test_errors": count_errors(student, *ch.mnist.test)}
        for run in made.itertuples()
        for size, student in zip(SIZES, run.model.students, strict=True)
    )
    return Answer(say_3(runs), runs)


def say_3(runs: pd.DataFrame) -> str:
    gains = {size: errors_against(runs, f"{size}, peers", f"{size}, alone").is_("better") for size in SIZES}
    # The larger student's errors if it gained what the smaller one gains.
    as_small = added(runs, "256, as much", plus=("256, alone", "64, peers"), minus="64, alone")
    more = errors_against(as_small, "256, peers", "256, as much").is_("unclear")
    alone = errors_against(runs, "256, alone", "64, alone").is_("unclear")
    return f"""Both gain. At $T = 4$, with 500 images and {SEEDS} seeds, the student of 64 units makes {gains[64]} than
    alone. The one of 256 units makes {gains[256]}. The larger one may gain more, but that is unclear: it makes {more}
    than if it had gained what the small one gains.

    Alone the larger one makes {mean(runs, "256, alone")} errors and the smaller one {mean(runs, "64, alone")}. Which of
    them is better alone is unclear, too: the larger one makes {alone}. So a peer need not be clearly better to be
    useful."""


# 4. How long to train


def answer_4(ch: SimpleNamespace) -> Answer:
    """Train nine steps at T = 20; train 20 epochs with knobs that rise or fall."""
    hot = {
        f"nine steps, α {name}": with_knobs(soft_target_objective, {"temperature": constant(20.0), "alpha": alpha})
        for name, alpha in ch.ways.items()
    }
    knobs = {"seeds": range(SEEDS), "baselines": (), "executor": None}
    short = sweep(objective=hot, data=ch.beginning, cache=FOLDER / "nine", **ch.short | knobs)
    ways = ("T falls to 1", "T rises from 1", "α falls to 0", "α rises from 0")
    longer = sweep(
        objective={name: ch.moving[name] for name in ways},
        data={"train": ch.lesson, "test": ch.mnist.test},
        cache=FOLDER / "20-epochs",
        **ch.lessons | knobs | {"epochs": 20},
    )
    runs = pd.concat([short, longer])[["arm", "seed", "test_errors"]]
    return Answer(say_4(runs), runs)


def say_4(runs: pd.DataFrame) -> str:
    falls = errors_against(runs, "nine steps, α falls", "nine steps, α stands still").is_("better")
    rises = errors_against(runs, "nine steps, α rises", "nine steps, α stands still").is_("worse")
    temperature = errors_against(runs, "T rises from 1", "T falls to 1").is_("better")
    alpha = errors_against(runs, "α rises from 0", "α falls to 0").is_("better")
    return f"""The order turns round at $T = 20$ as well. In nine steps, with {SEEDS} seeds, $\\alpha$ falling makes
    {falls} than the constant, and $\\alpha$ rising {rises}. Twenty epochs, 200 steps, are long enough for the other
    order: a knob that rises makes fewer errors than the same knob falling. For $T$ it makes {temperature}, for
    $\\alpha$ {alpha}."""


ANSWERS = {1: answer_1, 2: answer_2, 3: answer_3, 4: answer_4}
