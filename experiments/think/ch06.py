"""Chapter 06: a smaller share for the deepest exit, a vote of logits, more time for a child, T with wrong labels."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor, nn

from experiments.think.sentences import Answer, difference, mean
from kdcourse.sweeps import sweep
from kdcourse.training import count_errors, evaluating, predict_logits

NEEDS = (
    "adam_2", "count_wrong", "data", "descend", "exit_epochs", "few", "label_objective", "make_model", "make_network",
    "make_optimizer", "mnist", "settings", "spoil", "taught", "train",
)  # fmt: skip
SEEDS = 8
SMALLEST, OF_GENERATIONS = 15, 50  # errors of 10,000, as the chapter says
ALONE, TAUGHT, GENTLY = "labels at every exit", "taught, α = 0.5", "taught, α = 0.1"
DEEPEST, PROBABILITIES, LOGITS = "the deepest exit", "probabilities vote", "logits vote"
CHILD, TWIN, SMOOTHED = "child", "no_teacher", "label_smoothing"
SHORT, LONG = 6, 20  # epochs

errors_against = partial(difference, smallest_effect=SMALLEST)
from_twin = partial(difference, smallest_effect=OF_GENERATIONS)


# 1 and 2. Exits that are taught at T = 4


def networks_with_exits(ch: SimpleNamespace) -> pd.DataFrame:
    """Train networks whose exits are taught at T = 4, or not, as the chapter does; two questions ask them."""
    if not hasattr(ch, "exit_runs"):
        shares = {ALONE: 0.0, TAUGHT: 0.5, GENTLY: 0.1}
        ch.exit_runs = sweep(
            make_student=ch.make_network,
            data=tuple(ch.few),
            seeds=range(SEEDS),
            objective={arm: partial(ch.taught, temperature=4.0, alpha=alpha) for arm, alpha in shares.items()},
            epochs=ch.exit_epochs,
            batch_size=100,
            make_optimizer=ch.make_optimizer,
            predict=lambda network, images: network(images)[-1],
            baselines=(),
            keep_models=True,
            progress=False,
        )
        ch.exit_logits = [ask_exits(network, ch.mnist.test.images) for network in ch.exit_runs.model]
    return ch.exit_runs[["arm", "seed"]].copy()


def ask_exits(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of all exits, shape (E, N, K)."""
    with evaluating(network):
        return torch.cat([torch.stack(network(part)) for part in images.split(500)], dim=1)


def answer_1(ch: SimpleNamespace) -> Answer:
    """Let the deepest exit teach at T = 4 with α = 0.1 in place of 0.5."""
    runs = networks_with_exits(ch)
    for exit in (1, 2):
        runs[f"exit_{exit}"] = [ch.count_wrong(logits[exit - 1]) for logits in ch.exit_logits]
    lines = []
    for exit in ("exit_1", "exit_2"):
        means = {arm: mean(runs, arm, metric=exit) for arm in (ALONE, TAUGHT, GENTLY)}
        harms = [errors_against(runs, arm, ALONE, metric=exit).is_("worse") for arm in (TAUGHT, GENTLY)]
        row = exit.replace("_", " "), means[ALONE], means[TAUGHT], harms[0], means[GENTLY], harms[1]
        lines.append(f"| {' | '.join(map(str, row))} |")
    table = "\n".join(lines)
    text = rf"""
A smaller harm remains, and a gain does not appear. Test errors of each exit, means of {SEEDS} seeds; differences are
those to labels alone at every exit:

| | labels alone | $\alpha = 0.5$ | difference | $\alpha = 0.1$ | difference |
|---|---|---|---|---|---|
{table}
"""
    return Answer(text, runs)


def answer_2(ch: SimpleNamespace) -> Answer:
    """Average the exits' logits in place of their probabilities."""
    networks = networks_with_exits(ch)
    rows = []
    for (_, network), logits in zip(networks.iterrows(), ch.exit_logits, strict=True):
        answers = {
            DEEPEST: logits[-1],
            PROBABILITIES: logits.softmax(dim=-1).mean(dim=0),
            LOGITS: logits.mean(dim=0),
        }  # (N, K) each
        rows += [
            {"network": network.arm, "arm": vote, "seed": network.seed, "test_errors": ch.count_wrong(answer)}
            for vote, answer in answers.items()
            if network.arm != GENTLY
        ]
    runs = pd.DataFrame(rows)
    alone, taught = (runs[runs.network == arm] for arm in (ALONE, TAUGHT))
    sizes = mean_sizes([logits for arm, logits in zip(networks.arm, ch.exit_logits, strict=True) if arm == ALONE])
    if sizes != sorted(sizes):
        raise ValueError(f"the answer says that deeper exits have larger logits, the runs say {sizes}.")
    above = "{:.1f}, {:.1f} and {:.1f}".format(*sizes)
    text = rf"""
Yes, a little, and that helps the vote. With labels alone at every exit the vote of logits makes
{errors_against(alone, LOGITS, PROBABILITIES).is_("better")} than the vote of probabilities; with teaching at $T = 4$
it makes {errors_against(taught, LOGITS, PROBABILITIES).is_("better")}. Deeper exits have larger logits: with labels
alone an image's largest logit lies {above} above the mean of its ten, at exits 1, 2 and 3. A probability cannot exceed
1; a logit has no such limit.

But this vote still makes {errors_against(alone, LOGITS, DEEPEST).is_("worse")} than the deepest exit alone, and
{errors_against(taught, LOGITS, DEEPEST).is_("worse")} where the deepest exit teaches.
"""
    return Answer(text, runs, {"largest logit above the mean, exits 1 to 3": sizes})


def mean_sizes(networks: list[Tensor]) -> list[float]:
    """Return how far an image's largest logit lies above the mean of its K, for each exit of logits (E, N, K)."""
    return torch.stack([(z.amax(dim=-1) - z.mean(dim=-1)).mean(dim=1) for z in networks]).mean(dim=0).tolist()


# 3. A child with less time, and with more


def answer_3(ch: SimpleNamespace) -> Answer:
    """Train parents, children at T = 4 and the children's twins for 6 epochs and for 20."""
    runs = pd.concat(generation_1(ch, epochs) for epochs in (SHORT, LONG))
    lines = []
    for epochs, part in runs.groupby("epochs"):
        means = [mean(part, arm) for arm in (CHILD, TWIN, SMOOTHED)]
        lines.append(f"| {epochs} | {' | '.join(means)} | {from_twin(part, CHILD, TWIN).is_('worse')} |")
        errors_against(part, SMOOTHED, TWIN).is_("better")
    table = "\n".join(lines)
    harms = harm_by_epochs(runs)
    text = rf"""
More time does not take the harm away: after {LONG} epochs the child still makes more errors than its twin. Is the harm
at least smaller than after {SHORT}? On average it is, but {SEEDS} seeds do not decide it:
{errors_against(harms, str(LONG), str(SHORT)).is_("unclear")}. Test errors, means:

| epochs | child | twin | smoothed labels | child against its twin |
|---|---|---|---|---|
{table}

Smoothed labels need neither a parent nor the time: they make fewer errors than the twin at both.
"""
    return Answer(text, runs)


def harm_by_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the child's errors minus its twin's, a row for each seed, with the number of epochs as the arm."""
    errors = runs.pivot(index=["epochs", "seed"], columns="arm", values="test_errors")
    harms = (errors[CHILD] - errors[TWIN]).reset_index(name="test_errors")
    return harms.assign(arm=harms.epochs.astype(str))


def generation_1(ch: SimpleNamespace, epochs: int) -> pd.DataFrame:
    """Train children at T = 4, their twins, and networks with smoothed labels, for some epochs as their parents."""
    settings = ch.settings | {"epochs": epochs, "executor": None}
    seeds = range(0, 10 * SEEDS, 10)
    parents = sweep(
        data={"train": ch.few},
        seeds=seeds,
        objective={"labels": ch.label_objective},
        baselines=(),
        keep_models=True,
        **settings,
    )
    children = sweep(
        data=ch.data,
        seeds=[seed + 1 for seed in seeds],
        teacher=torch.stack([predict_logits(parent, ch.few.images) for parent in parents.model]),  # (S, N, K)
        temperature=4.0,
        alpha=0.7,
        cache=Path("runs/think/06") / f"{epochs}-epochs",
        **settings,
    )
    arms = children.arm.where(children.arm.isin([TWIN, SMOOTHED]), CHILD)
    return children[["seed", "test_errors"]].assign(arm=arms, epochs=epochs)


# 4. The temperature where labels are wrong


def answer_4(ch: SimpleNamespace) -> Answer:
    """Where 18 % of the labels are wrong, train a child at T = 1, 4 and 20, and its twin."""
    rows = []
    for lineage in range(SEEDS):
        data, seed = (ch.few.images, ch.spoil(ch.few.labels, lineage)), 10 * lineage
        parent = ch.train(ch.label_objective, data, seed)
        networks = {
            f"T = {t}": ch.descend(parent, data, seed, temperature=float(t), alpha=0.7, generations=1)[1]
            for t in (1, 4, 20)
        }
        networks[TWIN] = ch.train(ch.label_objective, data, seed + 1)
        networks[SMOOTHED] = ch.train(partial(ch.label_objective, label_smoothing=0.1), data, seed + 1)
        rows += [
            {"arm": arm, "seed": lineage, "test_errors": count_errors(network, *ch.mnist.test)}
            for arm, network in networks.items()
        ]
    runs = pd.DataFrame(rows)
    names = {
        "T = 1": "child, $T = 1$",
        "T = 4": "child, $T = 4$",
        "T = 20": "child, $T = 20$",
        SMOOTHED: "smoothed labels",
    }
    table = "\n".join(
        f"| {name} | {mean(runs, arm)} | {from_twin(runs, arm, TWIN).is_('better', 'unclear')} |"
        for arm, name in names.items()
    )
    text = rf"""
No. The child at $T = 1$ makes {errors_against(runs, "T = 1", "T = 4").is_("better")} than the child at $T = 4$. Against
the child at $T = 20$ the runs do not decide: it makes {errors_against(runs, "T = 1", "T = 20").is_("unclear")}. Test
errors with $\alpha = 0.7$, means of {SEEDS} lineages; the twin has the same seed and the same wrong labels, and makes
{mean(runs, TWIN)}:

| | errors | against the twin |
|---|---|---|
{table}

Smoothed labels need no parent. Against the child at $T = 1$ no difference shows: with them a network makes
{errors_against(runs, SMOOTHED, "T = 1").is_("unclear")}.
"""
    return Answer(text, runs)


ANSWERS = {1: answer_1, 2: answer_2, 3: answer_3, 4: answer_4}
