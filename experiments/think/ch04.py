"""Chapter 04: a Gram matrix far from the origin, relations of other images, centred Gram matrices, larger batches."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor

from experiments.think.sentences import Answer, Difference, difference, mean
from kdcourse.losses import gram_loss
from kdcourse.results import mean_interval
from kdcourse.sweeps import sweep

NEEDS = (
    *("LOSSES", "ask_teacher", "device", "embed", "for_comparing", "knobs", "make_student", "mnist", "movements"),
    *("objective", "s", "seeds", "select", "t"),
)
SMALLEST = 20  # errors of 10,000, as the chapter names it
FOLDER = Path("runs/think/04")
DRAWS = 8  # of a batch and an untrained student, for question 4


# 1. Far from the origin


def answer_1(ch: SimpleNamespace) -> Answer:
    """Move a copy of the teacher, and compare its matrix with the one of equal entries."""
    t = ch.t.double()
    moved = {step: float(gram_loss(t + step, t)) for step in (1, 10, 100, 1000)}
    limit = float(gram_loss(torch.ones_like(t), t))  # all embeddings are equal, and so are the products
    steps = list(moved.values())
    if steps != sorted(steps) or abs(steps[-1] - limit) > 0.001:
        raise ValueError(f"the loss does not grow towards {limit}: {moved}.")
    return Answer(
        f"""To a limit: {steps[0]:.2f}, {steps[1]:.2f}, {steps[2]:.2f}, and {steps[3]:.2f} for 1000, too. Far from the
        origin all embeddings point the same way, so the student's Gram matrix becomes a matrix of equal entries. It
        then says nothing about its images. The loss is the distance of the teacher's matrix from that one.""",
        other={"moved": moved, "limit": limit},
    )


# 2. Relations of other images


def answer_2(ch: SimpleNamespace) -> Answer:
    """Train with angles and similarities of other images, at the chosen weights and at other ones that were tried."""
    train = ch.for_comparing["train"]
    order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(0))  # the chapter's
    weights = {"angle": ch.knobs["angle"], "similarities": ch.knobs["similarity-preserving"]}
    weights |= {"heavy angle": 8 * weights["angle"], "light similarities": weights["similarities"] / 8}
    losses = {"angle": ch.LOSSES["angle"], "similarities": ch.LOSSES["similarity-preserving"]}
    arms = {arm: partial(ch.objective, relation=losses[arm.split()[-1]], weight=weights[arm]) for arm in weights}
    settings = ch.select.keywords | {
        "data": ch.for_comparing | {"train": (*train[:3], train[3][order])},
        "baselines": ("no_teacher",),
        "seeds": range(ch.seeds),
        "executor": None,
    }
    runs = sweep(**settings, objective=arms, cache=FOLDER / "q2")
    return Answer(say_2(runs, weights), runs[["arm", "seed", "test_errors"]], other={"weights": weights})


def say_2(runs: pd.DataFrame, weights: dict[str, float]) -> str:
    """Say what each relation of other images does, and what its weight changes."""

    def than_alone(arm: str, verdict: str) -> Difference:
        return difference(runs, arm, "no_teacher", smallest_effect=SMALLEST).is_(verdict)

    def errors(arm: str) -> str:
        return f"{mean(runs, arm)} errors"

    return f"""Angles gain nothing that shows. At their weight, {weights["angle"]:,.0f}, students with the angles of
        other images make {errors("angle")}. Without a teacher they make {errors("no_teacher")}. The difference is
        unclear, {than_alone("angle", "unclear")}. Similarities do harm. At their weight,
        {weights["similarities"]:,.0f}, there are {errors("similarities")},
        {than_alone("similarities", "worse")} than without a teacher.

        The weight decides how much harm is done. With 8 times the weight, {weights["heavy angle"]:,.0f}, angles do harm
        as well: {errors("heavy angle")}, {than_alone("heavy angle", "worse")} than without a teacher. With an eighth of
        the weight, {weights["light similarities"]:,.0f}, there are {errors("light similarities")} with similarities.
        The difference is unclear, {than_alone("light similarities", "unclear")}. No gain shows at any of these weights.

        All are errors on the 10,000 test images, means of {runs["seed"].nunique()} seeds with 95 % intervals."""


# 3. Both sides centred


def centred(x: Tensor) -> Tensor:
    """Return embeddings without the mean of the batch."""
    return x - x.mean(dim=0)


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Return the alignment as Kornblith et al. write it, from products of coordinates, (D, D), not of images."""
    x, y = centred(x), centred(y)
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def answer_3(ch: SimpleNamespace) -> Answer:
    """Compute the column of the Gram matrix again, with both sides centred."""
    x, y = ch.s.cpu().double(), ch.t.cpu().double()

    def column(loss) -> dict[str, float]:
        return {movement: float(loss(*pair) / loss(x, y)) for movement, pair in ch.movements.items()}

    before, after = column(gram_loss), column(lambda a, b: gram_loss(centred(a), centred(b)))
    unseen = [{name for name, ratio in ratios.items() if abs(ratio - 1) < 1e-9} for ratios in (before, after)]
    if unseen[1] - unseen[0] != {"moved by 1"} or unseen[0] - unseen[1]:
        raise ValueError(f"other rows than 'moved by 1' became dots, or are none any more: {unseen}.")
    torch.testing.assert_close(1 - float(gram_loss(centred(x), centred(y))) / 2, linear_cka(x, y))
    scaled, shuffled = "each image scaled by its own factor", "only the student in another order"
    return Answer(
        f"""*Moved by 1* becomes a dot, and no other row does. *Each image scaled by its own factor* is now
        {after[scaled]:.2f} instead of {before[scaled]:.2f}. *Only the student in another order* is
        {after[shuffled]:.2f} instead of {before[shuffled]:.2f}. The result has a name: one minus half of this loss is
        the linear centred kernel alignment (CKA) of Kornblith et al. (2019).""",
        other={"before": before, "centred": after},
    )


# 4. Larger batches


def answer_4(ch: SimpleNamespace) -> Answer:
    """Compare losses and gradients of untrained students for 64 images and for 256, the 64 among them."""
    rows = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        student = ch.make_student().to(ch.device)
        images = ch.mnist.held_out.images[256 * seed : 256 * (seed + 1)]
        t = ch.ask_teacher(images)[1]
        for name, loss in ch.LOSSES.items():
            for count in (64, 256):
                student.zero_grad()
                value = loss(ch.embed(student, images[:count]), t[:count])
                value.backward()
                pull = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]).norm()
                rows.append({"loss": name, "images": count, "seed": seed, "value": value.item(), "pull": float(pull)})
    runs = pd.DataFrame(rows)
    return Answer(say_4(runs), runs)


def say_4(runs: pd.DataFrame) -> str:
    """Say by how many times loss and gradient shrink, and which weight makes up for it."""
    sides = runs.pivot(index=["seed", "loss"], columns="images", values=["value", "pull"])
    values, pulls = (sides[side][64] / sides[side][256] for side in ("value", "pull"))
    values, pulls = values.unstack("loss"), pulls.unstack("loss")  # a row for each seed
    ours = "similarity-preserving"
    others = pulls.drop(columns=ours).mean(axis=1)
    factor, low, high = mean_interval((pulls[ours] / others).tolist())
    if not (round(factor) == 4 and low > 3 and high < 5 and values.drop(columns=ours).mean().between(0.9, 1.1).all()):
        raise ValueError(f"the factor is {factor} ({low} to {high}), the losses shrink by {values.mean().to_dict()}.")
    before, after = runs[runs["loss"] == ours].groupby("images")["value"].mean()
    return f"""About four times the one that it had: 12,000 where it was 3000. This was measured with {len(others)}
        untrained students and 256 held-out images for each. From 64 of the images to all 256, the
        similarity-preserving loss falls from {before:.4f} to {after:.4f}, and its gradient on the student's weights
        becomes {_times_as_small(pulls[ours])}. The losses of the other three hardly change, so they keep their
        weights. Their gradients become {_times_as_small(others)}, because an average over more images is smoother. The
        first divided by the second is
        {factor:.1f} ({low:.1f} to {high:.1f})."""


def _times_as_small(ratios: pd.Series) -> str:
    middle, low, high = mean_interval(ratios.tolist())
    return f"{middle:.1f} times as small (95 % interval {low:.1f} to {high:.1f})"


ANSWERS = {1: answer_1, 2: answer_2, 3: answer_3, 4: answer_4}
