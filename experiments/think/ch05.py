"""Chapter 05: a learned temperature, positives of one class, filled memories, and the hardest negatives."""

import math
from functools import partial
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.losses import CRDLoss, info_nce_loss
from kdcourse.results import mean_interval
from kdcourse.training import count_errors, train

from .sentences import Answer, difference, mean

NEEDS = (
    "crd_objective", "epochs", "labels", "make_parts", "make_student", "negatives", "objective", "one_epoch", "select",
    "t", "training",
)  # fmt: skip
SEEDS = range(100, 108)  # held-out images judge, with seeds from 100 on, as where the chapter chooses settings
held_out_difference = partial(difference, metric="held_out_errors", smallest_effect=7.5)  # as in the chapter
CORNER, FROM_MEMORY, CENTRED = "in the corner", "in the corner, positive from memory", "centred"


def answer_1(ch: SimpleNamespace) -> Answer:
    """Train with a learned temperature, with false negatives in and without."""
    kept_in, left_out = "false negatives in", "left out"
    runs = pd.DataFrame(
        {"arm": arm, "seed": seed, **learn_temperature(ch, seed, mask_classes=arm == left_out)}
        for arm in (kept_in, left_out)
        for seed in SEEDS
    )
    difference(runs, kept_in, left_out, metric="temperature").is_("better")  # lower in every sense
    ends = {arm: interval(runs.loc[runs.arm == arm, "temperature"], digits=3) for arm in (kept_in, left_out)}
    errors = held_out_difference(runs, kept_in, left_out).is_("unclear")
    text = f"""
    It falls: smaller is sharper, and the student can tell most images apart. From $0.1$ it came to {ends[kept_in]} with
    false negatives in, and to {ends[left_out]} without ({errors.seeds} seeds, {ch.epochs} epochs, weight 2, no queue).
    With false negatives in, images of one class must be told apart as well, and that needs a sharper softmax.

    The errors on the {len(ch.mnist.held_out.labels):,} held-out images show no clear difference:
    {mean(runs, kept_in, metric="held_out_errors")} with false negatives in,
    {mean(runs, left_out, metric="held_out_errors")} without them. With them in, a student makes {errors}.
    """
    return Answer(text, runs)


def learn_temperature(ch: SimpleNamespace, seed: int, *, mask_classes: bool) -> dict[str, float]:
    """Train one student by labels and InfoNCE; return where the temperature ended, and the held-out errors."""
    torch.manual_seed(seed)
    student, projection = ch.make_student().to(ch.device), nn.Linear(32, 64).to(ch.device)
    log_temperature = nn.Parameter(torch.tensor(math.log(0.1), device=ch.device))

    def objective(student, images, labels, logits_t, index, t):
        embeddings = student[:-1](images)  # (B, 32)
        classes = labels if mask_classes else None
        contrast = info_nce_loss(projection(embeddings), t, temperature=log_temperature.exp(), labels=classes)
        return {"ce": F.cross_entropy(student[-1](embeddings), labels), "InfoNCE": 2 * contrast}

    optimizer = torch.optim.Adam([*student.parameters(), *projection.parameters(), log_temperature], lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    batches = ch.minibatches(*ch.training["train"], batch_size=64, epochs=ch.epochs, generator=generator)
    for _ in train(student, batches, objective, optimizer):
        pass
    return {"temperature": log_temperature.exp().item(), "held_out_errors": count_errors(student, *ch.mnist.held_out)}


def answer_2(ch: SimpleNamespace) -> Answer:
    """Compute what the teacher itself pays if all images of a class are positives."""
    unit, same = F.normalize(ch.t, dim=1), ch.labels[:, None] == ch.labels  # (64, 64) each
    positives = same.sum(dim=1)  # (64,)
    minus_log = -(unit @ unit.T / 0.1).log_softmax(dim=1)  # (64, 64)
    values = {
        "positives": positives.double().mean().item(),
        "least": positives.double().log().mean().item(),
        "teacher": ((minus_log * same).sum(dim=1) / positives).mean().item(),
        "class left out": info_nce_loss(ch.t, ch.t, temperature=0.1, labels=ch.labels, symmetric=False).item(),
    }
    text = f"""
    Not 0. The positives of an anchor share one softmax. If there are seven of them, they cannot have more than a
    seventh each on average. So the loss is at least the logarithm of their number. In our batch of {len(ch.labels)} an
    anchor has {values["positives"]:.1f} positives, itself included, and the mean of the logarithms is
    {values["least"]:.2f}. The teacher itself pays {values["teacher"]:.2f} at $\\tau = 0.1$. With its class left out, as
    in this chapter, it pays {values["class left out"]:.2f}.
    """
    return Answer(text, other=values)


def answer_3(ch: SimpleNamespace) -> Answer:
    """Watch the mean cosine in the memory, which starts as noise or is filled before training."""
    curves = {CORNER: (ch.corner_t, False), FROM_MEMORY: (ch.corner_t, True), CENTRED: (ch.embeddings_t, False)}
    runs = pd.DataFrame(
        {"arm": f"{curve}; {start}", "seed": seed, **watch(ch, seed, *how, filled=start == "filled")}
        for curve, how in curves.items()
        for start in ("noise", "filled")
        for seed in SEEDS
    )
    pairs = {curve: (f"{curve}; filled", f"{curve}; noise") for curve in curves}
    for curve in (CORNER, FROM_MEMORY):
        difference(runs, *pairs[curve], metric="epoch 1").is_("worse")  # higher
    for curve in curves:  # closer than 0.1, by the whole interval
        difference(runs, *pairs[curve], metric="last epoch", smallest_effect=0.1).is_("too small to matter")
    difference(runs, *pairs[FROM_MEMORY], metric="highest").is_("better")  # lower
    errors = {curve: held_out_difference(runs, *pairs[curve]) for curve in curves}
    before = mean(runs, pairs[CORNER][0], metric="before training", digits=2)
    columns = ["epoch 1", "highest", "last epoch"]
    rows = [
        f"| {curve} | {start} | "
        + " | ".join(interval(runs.loc[runs.arm == f"{curve}; {start}", column]) for column in columns)
        + f" | {mean(runs, f'{curve}; {start}', metric='held_out_errors')} |"
        for curve in curves
        for start in ("noise", "filled")
    ]
    table = "\n".join(["| curve | memory begins | " + " | ".join(columns) + " | errors |", "|---" * 6 + "|", *rows])
    text = f"""
    The first two begin higher, because the head's own answers lie in the memory now, and no noise. In the corner these
    answers are alike before the first step: their mean cosine is {before}. The second curve then rises less before it
    turns back. But all three end where they ended before, within 0.1. So the collapse does not come from the noise in
    the memory.

    Mean cosines in the memory, with 95 % intervals, and errors on the {len(ch.mnist.held_out.labels):,} held-out
    images; {errors[CORNER].seeds} seeds:

    TABLE

    The errors do change. In the corner a student with filled memories makes {errors[CORNER].is_("better")}, and with
    the positive from memory {errors[FROM_MEMORY].is_("better")}. Centred, the difference is unclear:
    {errors[CENTRED].is_("unclear")}.
    """
    return Answer(dedent(text).replace("TABLE", table), runs)


def watch(ch: SimpleNamespace, seed: int, embeddings_t: Tensor, from_memory: bool, *, filled: bool) -> dict[str, float]:
    """Do what the chapter's ``watch_memory`` does, with a seed, and with memories that may be filled before."""
    torch.manual_seed(seed)
    ch.generator.manual_seed(seed)  # the order of the images in ``one_epoch``
    student = ch.make_student().to(ch.device)
    crd = CRDLoss(32, 64, ch.samples, embedding_dim=64, num_negatives=ch.negatives).to(ch.device)
    if filled:  # Z is set by the first batch, so after this
        with torch.no_grad():
            crd.student_memory.copy_(F.normalize(crd.student_head(student[:-1](ch.split.images)), dim=1))
            crd.teacher_memory.copy_(F.normalize(crd.teacher_head(embeddings_t), dim=1))
            crd.labels.copy_(ch.split.labels)
    optimizer = torch.optim.Adam([*student.parameters(), *crd.parameters()], lr=3e-3)
    cosines = [mean_cosine(crd.teacher_memory)]
    for _ in range(ch.epochs):
        ch.one_epoch(student, crd, optimizer, embeddings_t, from_memory)
        cosines.append(mean_cosine(crd.teacher_memory))
    values = {"before training": cosines[0], "epoch 1": cosines[1], "highest": max(cosines), "last epoch": cosines[-1]}
    return values | {"held_out_errors": count_errors(student, *ch.mnist.held_out)}


def mean_cosine(memory: Tensor) -> float:
    """Return the mean cosine of all pairs of rows."""
    return memory.mean(dim=0).square().sum().item()


def answer_4(ch: SimpleNamespace) -> Answer:
    """Train CRD with the most similar rows as negatives, and with random ones."""
    random = partial(ch.crd_objective, weights={"CRD": 0.8})
    many, few, hardest = f"{ch.negatives} random", "16 random", "16 hardest"
    arms = {many: (ch.negatives, random), few: (16, random), hardest: (16, partial(hardest_crd, plain=ch.objective))}
    tables = [
        ch.select(
            objective={arm: objective}, seeds=SEEDS, parts=ch.make_parts(count), executor=None,
            cache=Path("runs/think/05/q4"),
        )
        for arm, (count, objective) in arms.items()
    ]  # fmt: skip
    runs = pd.concat(tables)[["arm", "seed", "held_out_errors"]]
    against_many, against_few = (held_out_difference(runs, hardest, other).is_("worse") for other in (many, few))
    errors = {arm: mean(runs, arm, metric="held_out_errors") for arm in arms}
    text = f"""
    They are worth less. With the hardest 16 a student makes {errors[hardest]} errors on the
    {len(ch.mnist.held_out.labels):,} held-out images. With {many} ones it makes {errors[many]}, and with {few} ones
    {errors[few]} ({against_many.seeds} seeds, weight 0.8, and $N = 16$ in $h$ for the 16). So the hardest make
    {against_many} than {many} ones, and {against_few} than {few} ones.

    A likely reason: $h$ is meant for negatives that are drawn at random. The hardest ones are not, and on MNIST many of
    them look like the anchor for a good reason.

    They cost more, too. To find them, each anchor is compared with all $M$ rows, here {ch.samples:,} instead of
    {ch.negatives}. With a large $M$ that is far more.
    """
    return Answer(text, runs)


def hardest_crd(student, images, labels, logits_t, index, t, *, crd, plain, **others):
    """Return the terms of the chapter's ``crd_objective`` at weight 0.8, with the hardest negatives."""
    terms = plain(student, images, labels, logits_t, index, t, weights={}, **others)
    return terms | {"CRD": 0.8 * crd_with_hardest(crd, student[:-1](images), t, index, labels)}


def crd_with_hardest(crd: CRDLoss, x: Tensor, embeddings_t: Tensor, index: Tensor, labels: Tensor) -> Tensor:
    """Return CRD's loss with each anchor's N most similar rows of other classes as negatives."""
    other_class = labels.unsqueeze(1) != crd.labels  # (B, M)
    rows = crd.teacher_memory.clone(), crd.student_memory.clone()  # (M, D) each, as of now
    with torch.no_grad():
        crd(x, embeddings_t, index, labels)  # refreshes the batch's rows, and sets Z the first time
    s = F.normalize(crd.student_head(x), dim=1)  # (B, D)
    t = F.normalize(crd.teacher_head(embeddings_t), dim=1)  # (B, D)
    loss = x.new_zeros(())
    for anchors, partners, memory, log_z in zip((s, t), (t, s), rows, crd.log_normalizers, strict=True):
        shift = log_z + math.log(crd.num_negatives)  # h is the sigmoid of cosine / τ - shift
        cosines = (anchors @ memory.T).masked_fill(~other_class, -1.0)  # (B, M)
        hardest = cosines.topk(crd.num_negatives, dim=1).values  # (B, N)
        positive = (anchors * partners.detach()).sum(dim=1)  # (B,)
        against_noise = F.softplus(hardest / crd.temperature - shift).sum(dim=1)  # (B,)
        loss = loss + (F.softplus(shift - positive / crd.temperature) + against_noise).mean()
    return loss


def interval(values: pd.Series, *, digits: int = 2) -> str:
    """Return the mean of an arm with its 95 % interval, as text: ``0.25 (0.24 to 0.26)``."""
    center, low, high = (f"{value:.{digits}f}" for value in mean_interval(values.tolist()))
    return f"{center} ({low} to {high})"


ANSWERS = {1: answer_1, 2: answer_2, 3: answer_3, 4: answer_4}
