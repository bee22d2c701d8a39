"""What experiment ``modern`` runs: claims with their rules, written before the runs, and how a knob is chosen."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from experiments._rows import measured
from kdcourse.sweeps import compare

Rows = list[dict[str, Any]]
BASELINES = ("no_teacher", "label_smoothing")
CHOICE_SEEDS = (100, 101)  # not among the recorded ones

# Every rule is about paired differences over seeds with 95 % t intervals; "better" as in kdcourse.results.verdict. One
# interval in twenty leaves out 0 by chance, and there are about forty here.
Contrast = tuple[str, str, str, str, float, bool]  # block, arm, baseline, metric, smallest effect, lower is better
CLAIMS: list[dict[str, Any]] = [
    {
        "claim": f"In a {shape} student, forward, reverse and Jensen-Shannon divergence differ by less than 1 % of the "
        "definitions",
        "source": "arXiv:2306.13649 and 2306.08543 compare texts, not classes",
        "rule": "holds if both intervals lie within ±1 %; does not hold if one lies outside",
        "within": [(f"divergences, {shape}", arm, "forward", "test_errors", 20, True) for arm in ("reverse", "JS")],
    }
    for shape in ("narrow", "wide")
] + [
    {
        "claim": f"In a {shape} student, reverse KL gives {what} than forward KL",
        "source": "the mode-seeking argument of arXiv:2306.08543, section 2",
        "rule": f"holds if the {metric} is lower, by more than {smallest:g} at the interval's far end",
        "all": [(f"divergences, {shape}", "reverse", "forward", metric, smallest, True)],
    }
    for shape in ("narrow", "wide")
    for what, metric, smallest in (
        ("surer answers", "entropy", 0.02),
        ("less probability to what the teacher rules out", "tail", 0.002),
    )
] + [
    {
        "claim": f"{method} beats plain KD that was tuned as long, on {where}",
        "source": source,
        "rule": f"holds if it makes fewer errors; the smallest effect of interest is {smallest}",
        "all": [(f"newer, {where}", method, "KD", "test_errors", smallest, True)],
    }
    for where, smallest in (("ten digits", 20), ("24 kinds", 10))
    for method, source in (
        ("DKD", "arXiv:2203.08679, tables 6 and 7"),
        ("DIST", "arXiv:2205.10536"),
        ("standardised", "arXiv:2403.01427"),
    )
] + [
    {
        "claim": f"{what}, {shape}",
        "source": "arXiv:2106.05237, sections 3.1 and 3.2",
        "rule": "holds if it makes fewer errors; the smallest effect of interest is 30 of 10,000",
        "all": [(f"patience, {shape}", *pair, "test_errors", 30, True)],
    }
    for shape in ("2×800", "32 units")
    for what, pair in (
        ("A long schedule beats a short one if both see the same view", ("same view, long", "same view, short")),
        ("In a long run, the same view beats stale targets", ("same view, long", "stale targets, long")),
        ("In a long run, the same view beats another view", ("same view, long", "other view, long")),
        ("In a long run, the teacher beats smoothed labels", ("same view, long", "label_smoothing, long")),
    )
] + [
    {
        "claim": "Renormalised top-8 targets make a student surer than it is right, compared with all logits",
        "source": "arXiv:2503.16870, section 3",
        "rule": "holds if confidence minus accuracy is higher by more than 1 percentage point",
        "all": [("cached", "top-8 renormalised", "all logits", "overconfidence", 1, False)],
    },
    {
        "claim": "A bucket for the rest mends that",
        "source": "losses/cached.py",
        "rule": "holds if confidence minus accuracy is lower than renormalised, by more than 1 percentage point",
        "all": [("cached", "top-8 with a bucket", "top-8 renormalised", "overconfidence", 1, True)],
    },
    {
        "claim": "8 sampled classes teach as much as all logits",
        "source": "arXiv:2503.16870, abstract",
        "rule": "holds if the test loss differs by less than 0.05 nats a token",
        "within": [("cached", "8 sampled", "all logits", "test_loss", 0.05, True)],
    },
    {
        "claim": "8 sampled classes teach better than the top 8 renormalised",
        "source": "arXiv:2503.16870, abstract",
        "rule": "holds if the test loss is lower, by more than 0.05 nats a token at the interval's far end",
        "all": [("cached", "8 sampled", "top-8 renormalised", "test_loss", 0.05, True)],
    },
    {
        "claim": "Learning from its own texts makes a writer that its teacher finds likelier",
        "source": "arXiv:2306.13649, section 4",
        "rule": "holds if β = 1 on-policy is better than both runs on the teacher's texts",
        "all": [
            ("writers", "on-policy, β = 1", arm, "teacher_loss", 0.05, True)
            for arm in ("teacher's texts", "teacher's texts, KL")
        ],
    },
    {
        "claim": "Its texts are recognised more often as their kind",
        "source": "our question",
        "rule": "holds if β = 1 on-policy is better than both runs on the teacher's texts, by 1 percentage point",
        "all": [
            ("writers", "on-policy, β = 1", arm, "recognised", 1, False)
            for arm in ("teacher's texts", "teacher's texts, KL")
        ],
    },
    {
        "claim": "What it pays with is variety: distinct-2 falls",
        "source": "the mode-seeking argument of arXiv:2306.08543, section 2",
        "rule": "holds if distinct-2 is lower than after KL on the teacher's texts, by 1 percentage point",
        "all": [("writers", "on-policy, β = 1", "teacher's texts, KL", "distinct", 1, True)],
    },
    {
        "claim": "And it is a worse model of the dictionary",
        "source": "our question",
        "rule": "holds if the loss on test definitions is higher than after KL on the teacher's texts, by 0.05 nats",
        "all": [("writers", "on-policy, β = 1", "teacher's texts, KL", "dictionary_loss", 0.05, False)],
    },
    {
        "claim": "Sorted probabilities beside the labels help a student of another vocabulary",
        "source": "arXiv:2402.12030",
        "rule": "holds if it makes fewer errors than both baselines; the smallest effect of interest is 20 of 10,000",
        "all": [("sorted", "labels and sorted", baseline, "test_errors", 20, True) for baseline in BASELINES],
    },
    *(
        {
            "claim": f"{method} beats plain KD whose T went up to 160, on ten digits",
            "source": "added after the first results were seen",
            "rule": "holds if it makes fewer errors; the smallest effect of interest is 20",
            "all": [("newer, ten digits", method, "KD, higher T", "test_errors", 20, True)],
        }
        for method in ("DKD", "DIST", "standardised")
    ),
]  # fmt: skip
SORTED_ALONE = {
    "claim": "Sorted probabilities alone do not teach which class is which",
    "source": "losses/other_vocabularies.py",
    "rule": "holds if a student that learns from them alone makes at least 8,000 errors of 10,000 on average",
}


def choose(
    name: str,
    run: Callable[..., Mapping[str, Any]],
    settings: Iterable[Mapping[str, Any]],
    *,
    seeds: tuple[int, ...] = CHOICE_SEEDS,
    **fixed: Any,
) -> dict[str, Any]:
    """Return the setting with the fewest held-out errors on average over the choice seeds; earlier ones win ties."""
    settings = [dict(each) for each in settings]
    if len(settings) == 1:
        return settings[0]
    jobs = [{"stage": "choice", **fixed, **each, "seed": seed} for each in settings for seed in seeds]
    rows = measured(name, jobs, run)
    size = len(seeds)
    totals = [
        sum(row["held_out_errors"] for row in rows[size * place : size * (place + 1)]) for place in range(len(settings))
    ]
    return settings[totals.index(min(totals))]


def comparisons(rows: Rows) -> list[dict[str, Any]]:
    """Return every contrast that a claim names, once, and every arm of a block against the block's baselines."""
    table, found, seen = pd.DataFrame(rows), [], set()
    for claim in CLAIMS:
        for contrast in claim.get("all", claim.get("within")):
            if contrast not in seen:
                seen.add(contrast)
                found += _compared(table, contrast)
    return found


def _compared(table: pd.DataFrame, contrast: Contrast) -> list[dict[str, Any]]:
    block, arm, baseline, metric, smallest, lower = contrast
    runs = table[(table.block == block) & table.arm.isin([arm, baseline])]
    if set(runs.arm) != {arm, baseline} or metric not in runs or runs[metric].isna().all():
        return []  # a block that has not run
    two = compare(runs, baseline=baseline, metric=metric, smallest_effect=smallest, lower_is_better=lower)
    return [{"block": block, "metric": metric, **row} for row in two.to_dict("records")]


def verdicts(rows: Rows, compared: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Apply the rule of each claim that has its runs."""
    words = {(row["block"], row["arm"], row["baseline"], row["metric"]): row["verdict"] for row in compared}
    found = []
    for claim in CLAIMS:
        contrasts = claim.get("all", claim.get("within"))
        said = [words.get(contrast[:4]) for contrast in contrasts]
        if None in said:
            continue
        text = {key: claim[key] for key in ("claim", "source", "rule")}
        found.append({**text, "contrasts": [list(each[:4]) for each in contrasts], "verdict": _word(said, claim)})
    alone = [row["test_errors"] for row in rows if row["block"] == "sorted" and row["arm"] == "sorted alone"]
    if alone:
        word = "holds" if sum(alone) / len(alone) >= 8000 else "does not hold here"
        found.append({**SORTED_ALONE, "contrasts": [], "verdict": word})
    return found


def _word(said: list[str], claim: Mapping[str, Any]) -> str:
    wanted, opposite = ("better", "worse") if "all" in claim else ("too small to matter", None)
    if all(word == wanted for word in said):
        return "holds"
    if opposite is None:
        return "does not hold here" if {"better", "worse"} & set(said) else "unclear"
    if opposite in said:
        return "does not hold here"
    return "too small to matter" if "too small to matter" in said else "unclear"
