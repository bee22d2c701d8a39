"""Chapter 01: images that the teacher has not learned, fewer and more images, one set for all five, and digits only."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.think.sentences import Answer, difference, mean
from kdcourse.losses import soften
from kdcourse.models import make_student_mlp
from kdcourse.results import mean_interval
from kdcourse.sweeps import sweep
from kdcourse.training import predict_logits

NEEDS = ("cnn", "make_middle", "mean_answers", "mnist", "part_of_train", "teacher", "train_alone", "vote")
SEEDS, MEMBERS = 8, 5
ARMS = {"distilled": "MLP", "teacher=MLP": "MLP", "teacher=CNN": "CNN"}  # one teacher; two
SMALLEST = 15  # errors of 10,000, as the chapter says
CACHE = Path("runs/think/01")

errors_against = partial(difference, smallest_effect=SMALLEST)


def train_students(ch: SimpleNamespace, images: Tensor, labels: Tensor, teacher: dict, **settings) -> pd.DataFrame:
    """Train students of some teachers and both baselines as the chapter does; settings replace its own."""
    runs = sweep(
        make_student=make_student_mlp,
        data={"train": (images, labels), "test": ch.mnist.test},
        teacher=teacher,
        **{"temperature": 8, "alpha": 0.9, "epochs": 20, "lr": 3e-3} | settings,
        seeds=range(SEEDS),
        progress=False,
    )
    return runs[["arm", "seed", "test_errors"]].replace({"arm": ARMS})


def answer_1(ch: SimpleNamespace) -> Answer:
    """Compare the teacher's doubts on images that it has learned and on others, and train its student on others."""
    splits = {"training": ch.mnist.train.take(5000), "held-out": ch.mnist.held_out}
    doubt = {}  # the wrong digits' share, in per cent
    for name, (images, labels) in splits.items():
        logits = predict_logits(ch.teacher, images)
        for t in (1, 4):
            rows = ch.mean_answers(soften(logits, temperature=t), labels)  # (10, 10)
            doubt[f"{name}, T = {t}"] = 100 * (1 - rows.diagonal().mean().item())
    learned_1, learned_4, new_1, new_4 = doubt.values()
    runs = train_students(ch, *splits["held-out"].take(2000), {"MLP": ch.teacher}, cache=CACHE / "q1")
    return Answer(
        f"At $T = 1$ all wrong digits together get {learned_1:.2f} % on training images and {new_1:.1f} % on held-out "
        f"ones, {new_1 / learned_1:.0f} times as much. At $T = 4$ it is {learned_4:.1f} % and {new_4:.1f} %, only "
        f"{new_4 / learned_4:.1f} times as much. So the temperature brings back what is hidden.\n\n"
        f"On held-out images the student makes {errors_against(runs, 'MLP', 'no_teacher').is_('better')} than without "
        f"a teacher, and {errors_against(runs, 'MLP', 'label_smoothing').is_('worse')} than with label smoothing. So "
        "this is not why the first teacher helps little.",
        runs,
        {"doubt": doubt},
    )


def answer_2(ch: SimpleNamespace) -> Answer:
    """Train with other numbers of images, in about as many steps."""

    def students(images: int, **settings) -> pd.DataFrame:
        both = {"MLP": ch.teacher, "CNN": ch.cnn}
        runs = train_students(ch, *ch.mnist.train.take(images), both, cache=CACHE / "q2", **settings)
        return runs.assign(images=images)

    more, few, many = students(4000, epochs=8, temperature=4), students(500, epochs=80), students(8000, epochs=5)
    for arm in ("MLP", "CNN"):
        errors_against(few, arm, "no_teacher").is_("better")
    return Answer(
        f"With 4,000 images, 8 epochs and $T = 4$ the first teacher hurts. Its student makes "
        f"{errors_against(more, 'MLP', 'no_teacher').is_('worse')} than without a teacher, and "
        f"{errors_against(more, 'MLP', 'label_smoothing').is_('worse')} than with label smoothing. The CNN's student "
        f"makes {errors_against(more, 'CNN', 'no_teacher').is_('better')} than without a teacher, and "
        f"{errors_against(more, 'CNN', 'label_smoothing').is_('worse')} than with label smoothing.\n\n"
        f"With 500 images both teachers beat both baselines. Compared with label smoothing the student makes "
        f"{errors_against(few, 'MLP', 'label_smoothing').is_('better')} with the first teacher, and "
        f"{errors_against(few, 'CNN', 'label_smoothing').is_('better')} with the CNN. With 8,000 images label "
        "smoothing beats both: the student makes "
        f"{errors_against(many, 'MLP', 'label_smoothing').is_('worse')} with the first teacher, and "
        f"{errors_against(many, 'CNN', 'label_smoothing').is_('worse')} with the CNN. So these teachers help this "
        "student where images are few.",
        pd.concat([more, few, many]),
    )


def answer_3(ch: SimpleNamespace) -> Answer:
    """Let five networks vote that saw the same images, and five that saw different ones."""
    images, labels = ch.mnist.test
    logits = {}
    for part in range(SEEDS):  # a set of 1,000 images, on which a network is trained from each seed
        trained = ch.train_alone(ch.part_of_train(1000 * part, 1000 * (part + 1)), seeds=range(SEEDS))
        for seed, model in zip(trained["seed"], trained["model"], strict=True):
            logits[part, seed] = predict_logits(model, images)
    rows, shared = [], {"same": [], "different": []}
    for number in range(SEEDS):
        same = [logits[number, seed] for seed in range(MEMBERS)]
        different = [logits[part, number] for part in range(MEMBERS)]
        for kind, members in {"same": torch.stack(same), "different": torch.stack(different)}.items():
            wrong = members.argmax(dim=2) != labels  # (5, 10000)
            alone = wrong.sum(dim=1).double().mean().item()
            voting = int((ch.vote(members).argmax(dim=1) != labels).sum())
            rows += [(f"vote, {kind}", number, voting), (f"members, {kind}", number, alone)]
            shared[kind].append(100 * int(wrong.all(dim=0).sum()) / alone)
    runs = pd.DataFrame(rows, columns=["arm", "seed", "test_errors"])

    def share(kind: str) -> str:
        middle, low, high = mean_interval(shared[kind])
        return f"{middle:.0f} % ({low:.0f} to {high:.0f})"

    gain = {kind: errors_against(runs, f"vote, {kind}", f"members, {kind}").is_("better") for kind in shared}
    if gain["different"].high > gain["same"].low:
        raise ValueError(f"the sentence says that voting helps less on the same images, the runs say {gain}.")
    return Answer(
        f"On the same images the vote makes {gain['same']} than its members do on average, measured for {SEEDS} sets "
        f"of 1,000 images. With five different sets it makes {gain['different']}, measured for {SEEDS} seeds. Networks "
        f"that saw the same images make many of the same errors, and what all members get wrong, a vote cannot mend: "
        f"{share('same')} of a member's errors if all saw the same images, {share('different')} if each saw its own.",
        runs,
        {"errors of all five, in % of a member's": shared},
    )


def answer_4(ch: SimpleNamespace) -> Answer:
    """Let the hospital's teacher answer with its most likely digit only."""
    public = ch.part_of_train(2000, 4000)
    inside = ch.train_alone(ch.part_of_train(0, 2000), make=ch.make_middle, epochs=20, seeds=range(SEEDS))
    whole = torch.stack([predict_logits(model, public["train"][0]) for model in inside["model"]])
    answers = {"whole answers": whole, "digits only": 12.0 * F.one_hot(whole.argmax(dim=2), 10)}
    runs = [
        sweep(
            make_student=ch.make_middle, data=public, seeds=range(SEEDS), epochs=20, lr=3e-3,
            teacher=logits, temperature=4, alpha=1.0, baselines=(), cache=CACHE / "q4", progress=False,
        ).assign(arm=arm)
        for arm, logits in answers.items()
    ]  # fmt: skip
    runs = pd.concat([inside.assign(arm="teacher inside"), *runs])[["arm", "seed", "test_errors"]]
    return Answer(
        f"The student makes {errors_against(runs, 'digits only', 'whole answers').is_('worse')} than with the whole "
        f"answers: {mean(runs, 'digits only')} and {mean(runs, 'whole answers')} on average. The hospital still gives "
        "away an answer for each image, and each depends on its private images.",
        runs,
    )


ANSWERS = {1: answer_1, 2: answer_2, 3: answer_3, 4: answer_4}
