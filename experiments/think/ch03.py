"""Chapter 03: which stage a hint guides, what stage 1 adds to attention transfer, what images without labels give."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.think.sentences import Answer, difference, mean
from kdcourse.commands.when_it_helps import one_cycle
from kdcourse.losses import HintRegressor, attention_transfer_loss, hint_loss, kd_loss
from kdcourse.models import capture
from kdcourse.objectives import soft_target_objective
from kdcourse.sweeps import sweep
from kdcourse.training import count_errors, evaluating, fit

NEEDS = ("device", "few", "make_student_cnn", "mnist", "per_stage", "teacher")
SEEDS, EPOCHS, BATCH_SIZE, LEARNING_RATE = 5, 5, 25, 0.03
CHANNELS = {"stage1": (4, 16), "stage2": (8, 32), "stage3": (16, 64)}  # student's, teacher's
HINT_WEIGHT, ATTENTION_WEIGHT, ALPHA = 10.0, 10.0, 0.5
UNLABELLED = 5_000
SMALLEST = 15  # errors of 10,000, as the chapter says

errors_against = partial(difference, smallest_effect=SMALLEST)


def ask(model: nn.Module, images: Tensor, layers: tuple[str, ...] = tuple(CHANNELS)) -> list[Tensor]:
    """Return a model's logits and the outputs of some layers, 250 images at a time."""
    parts = []
    for part in images.split(250):
        with evaluating(model), capture(model, *layers) as features:
            parts.append((model(part), *(features[name] for name in layers)))
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def train_students(ch: SimpleNamespace, objective: dict, **settings) -> pd.DataFrame:
    """Train students on the chapter's few images, with the settings of its record of other images' maps."""
    return sweep(
        make_student=ch.make_student_cnn,
        data={"train": (*ch.few, *ask(ch.teacher, ch.few.images)), "test": ch.mnist.test},
        objective=objective,
        seeds=range(SEEDS),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        make_optimizer=one_cycle(EPOCHS * len(ch.few.labels) // BATCH_SIZE),
        lr=LEARNING_RATE,
        progress=False,
        **settings,
    )


# 1. Which stage a hint guides


def guided(student, images, labels, teacher_logits, *maps, stage, **regressors):
    """Labels and a hint at one stage."""
    with capture(student, stage) as features:
        logits = student(images)
    hint = hint_loss(regressors[stage](features[stage]), dict(zip(CHANNELS, maps, strict=True))[stage])
    return {"ce": F.cross_entropy(logits, labels), "hint": HINT_WEIGHT * hint}


def unexplained(student_maps: Tensor, teacher_maps: Tensor) -> float:
    """Return what the best regressor leaves of the variance of the teacher's maps, in per cent."""
    known, wanted = (maps.movedim(1, -1).flatten(0, 2).double() for maps in (student_maps, teacher_maps))
    known, wanted = known - known.mean(0), wanted - wanted.mean(0)  # (images × positions, channels); the bias
    left = wanted - known @ torch.linalg.lstsq(known, wanted).solution
    return (100 * left.square().sum() / wanted.square().sum()).item()


def answer_1(ch: SimpleNamespace) -> Answer:
    """Hints at three stages, and what regressors reach with and without them."""
    runs = train_students(
        ch,
        {stage: partial(guided, stage=stage) for stage in CHANNELS},
        parts={stage: partial(HintRegressor, *channels) for stage, channels in CHANNELS.items()},
        baselines=["no_teacher"],
        keep_models=True,
    )
    images = ch.mnist.held_out.images[:500]
    _, *wanted = ask(ch.teacher, images)
    left = [[unexplained(*maps) for maps in zip(ask(m, images)[1:], wanted, strict=True)] for m in runs["model"]]
    runs = pd.concat([runs[["arm", "seed", "test_errors"]], pd.DataFrame(left, columns=list(CHANNELS))], axis=1)
    # As rows of their own: of each stage what remains with a hint there, and what remains without a teacher.
    reached = pd.concat(
        pd.DataFrame({"arm": f"{arm} at {stage}", "seed": rows["seed"], "left": rows[stage]})
        for stage in CHANNELS
        for arm, rows in (("hint", runs[runs["arm"] == stage]), ("none", runs[runs["arm"] == "no_teacher"]))
    )

    def points(arm, baseline):
        return replace(difference(reached, arm, baseline, metric="left"), unit="percentage points")

    easy = points("hint at stage1", "hint at stage2").is_("better")
    also_easy = points("hint at stage3", "hint at stage2").is_("better")
    easiest = points("hint at stage1", "hint at stage3").is_("unclear")
    gain = {stage: errors_against(runs, stage, "no_teacher") for stage in CHANNELS}
    gain["stage2"].is_("better")
    direct = errors_against(runs, "stage2", "stage1").is_("unclear")
    table = "\n".join(
        f"| stage {stage[-1]} | {mean(reached, f'hint at {stage}', metric='left')} % "
        f"| {points(f'hint at {stage}', f'none at {stage}').is_('better')} | {gain[stage]} |"
        for stage in CHANNELS
    )
    text = f"""
These students learn from labels and from one hint at weight {HINT_WEIGHT:g}. How near do they come to it? On
{len(images)} held-out images we fit the best regressor, and take the share of the variance of the teacher's features
that it leaves. The errors are compared with those of students without a teacher, who make {mean(runs, "no_teacher")}.

| hint at | variance left | compared with no teacher | errors, compared with no teacher |
|---|---|---|---|
{table}

Stage 2 is the hardest to reach. The regressor leaves {easy} at stage 1, and {also_easy} at stage 3.
Which of these two is the easiest is unclear: at stage 1 the regressor leaves {easiest} than at stage 3.

Only the hint at stage 2 shows a gain, the one that is hardest to reach. Whether it is better than the hint at stage 1
is unclear, too: {direct}. So a hint that is easy to reach need not be one that helps. (The weight was not chosen anew
for each stage.)
"""
    gain["stage1"].is_("unclear")
    gain["stage3"].is_("unclear")
    return Answer(text.strip(), runs)


# 2. Attention transfer at stage 1 as well


def attention(student, images, labels, teacher_logits, *maps, weights):
    """Labels and attention transfer at some stages, each with a weight."""
    with capture(student, *CHANNELS) as features:
        logits = student(images)
    of_teacher = dict(zip(CHANNELS, maps, strict=True))
    terms = {stage: w * attention_transfer_loss(features[stage], of_teacher[stage]) for stage, w in weights.items()}
    return {"ce": F.cross_entropy(logits, labels), **terms}


def answer_2(ch: SimpleNamespace) -> Answer:
    """The pushes of the chapter's own run, then stage 1 at the same weight and at the weight that they ask for."""
    push, two = ch.per_stage, dict.fromkeys(("stage2", "stage3"), ATTENTION_WEIGHT)
    times = round(push["stage3"] / push["stage1"])
    arms = {
        "two stages": two,
        "same weight": two | {"stage1": ATTENTION_WEIGHT},
        "same push": two | {"stage1": times * ATTENTION_WEIGHT},
    }
    runs = train_students(
        ch,
        {name: partial(attention, weights=weights) for name, weights in arms.items()},
        baselines=[],
        cache=Path("runs/think/03/q2"),
    )[["arm", "seed", "test_errors"]]
    same_weight, same_push = (
        errors_against(runs, arm, "two stages").is_("unclear") for arm in ("same weight", "same push")
    )
    text = f"""
Above, the push of stage 1 was {push["stage1"]:.3f} of the cross-entropy's, and that of stage 3 was
{push["stage3"]:.3f}. So stage 1 needs about {times} times the weight of stage 3 to be felt as much. Its maps have 784
positions, and the loss is a mean over them.

Does stage 1 then help? With stages 2 and 3 at weight {ATTENTION_WEIGHT:g} the students make
{mean(runs, "two stages")} errors. Add stage 1 at the same weight, and they make {same_weight}. Add it at weight
{arms["same push"]["stage1"]:g}, and they make {same_push}. Neither shows a gain. The push says which weight makes a
term felt, not whether the term helps.
"""
    return Answer(text.strip(), runs, {"push": push})


# 3. Images without labels


def hint_only(student, images, maps, *, regressor):
    """Stage one of FitNets: no label, no soft target."""
    with capture(student, "stage2") as features:
        student(images)
    return {"hint": hint_loss(regressor(features["stage2"]), maps)}


def soft_only(student, images, teacher_logits):
    """Soft targets alone, which need no label either."""
    return {"kd": kd_loss(student(images), teacher_logits, temperature=4.0)}


def answer_3(ch: SimpleNamespace) -> Answer:
    """A pass over other images first, with the hint or with soft targets, and as many steps without other images."""
    count = len(ch.few.labels)
    others = ch.mnist.train.images[count : count + UNLABELLED]
    logits, maps = ask(ch.teacher, others, ("stage2",))
    labelled = (*ch.few, ask(ch.teacher, ch.few.images)[0])

    def errors(first, seed):
        torch.manual_seed(seed)
        student = ch.make_student_cnn().to(ch.device)
        regressor = HintRegressor(*CHANNELS["stage2"]).to(ch.device)

        def learn(data, objective, epochs, *parts):
            learned = [p for module in (student, *parts) for p in module.parameters()]
            optimizer = one_cycle(epochs * len(data[0]) // BATCH_SIZE)(learned, lr=LEARNING_RATE)
            fit(student, data, objective, optimizer, epochs=epochs, batch_size=BATCH_SIZE, seed=seed, progress=False)

        if first == "hint":
            learn((others, maps), partial(hint_only, regressor=regressor), 1, regressor)
        if first == "soft targets":
            learn((others, logits), soft_only, 1)
        more = UNLABELLED // count if first == "same images" else 0  # as many steps as the pass
        learn(labelled, partial(soft_target_objective, alpha=ALPHA), EPOCHS + more)
        return count_errors(student, *ch.mnist.test)

    arms = ("nothing", "same images", "hint", "soft targets")
    rows = [(first, seed, errors(first, seed)) for first in arms for seed in range(SEEDS)]
    runs = pd.DataFrame(rows, columns=["arm", "seed", "test_errors"])
    steps = UNLABELLED // BATCH_SIZE
    longer = errors_against(runs, "same images", "nothing").is_("better")
    hint = errors_against(runs, "hint", "nothing").is_("better")
    hint_for_its_steps = errors_against(runs, "hint", "same images").is_("worse")
    soft = errors_against(runs, "soft targets", "nothing").is_("better")
    soft_not_hint = errors_against(runs, "soft targets", "hint").is_("better")
    soft_for_its_steps = errors_against(runs, "soft targets", "same images").is_("unclear")
    text = f"""
Stage two alone, with soft targets and labels for {EPOCHS} epochs on the {count:,} images, makes {mean(runs, "nothing")}
errors. One pass over {UNLABELLED:,} other images before it, with the hint loss alone, makes {hint}. But the pass takes
{steps} steps. Give these steps to stage two instead, on the same {count:,} images, and it makes {longer} than before.
Against these students, who had as many steps, those with the hint pass make {hint_for_its_steps}. So as a stage of
its own the hint is not worth its steps.

Soft targets need no labels either. One pass over the same {UNLABELLED:,} images with soft targets alone makes {soft}
than no pass, and {soft_not_hint} than the pass with the hint. Whether it is better than as many more steps on the old
images is unclear: {soft_for_its_steps}.
"""
    return Answer(text.strip(), runs)


ANSWERS = {1: answer_1, 2: answer_2, 3: answer_3}
