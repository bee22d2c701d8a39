"""What the runs of experiment ``language`` show: paired differences, and the verdicts on two sentences."""

from collections.abc import Iterable

import pandas as pd

from kdcourse.sweeps import compare

BASELINES = ("no_teacher", "label_smoothing")
ATTENTION = ("attention scores", "attention probabilities", "MiniLM")
INSIDE = ("embedding", "hidden states")  # the other terms on what lies inside the network
OTHERS = ("logits", *INSIDE, "triple loss")
RIVALS = {"all terms": OTHERS, "terms on the inside of the network": INSIDE}


def summarise(rows: Iterable[dict], smallest_effect: float) -> dict:
    """Return means, comparisons with both baselines, and verdicts, of the seeds that every arm of a block has."""
    table = pd.DataFrame(rows)
    means, comparisons, best, verdicts = [], {}, {}, []
    for (block, start), group in table.groupby(["block", "start"], sort=False):
        runs = _complete(group)
        if runs.seed.nunique() < 2:
            continue
        averages = runs.groupby("arm", sort=False)[["test_errors", "perplexity"]].mean().reset_index()
        means += averages.assign(block=block, start=start, seeds=runs.seed.nunique()).to_dict("records")
        compared = compare(runs, baseline=list(BASELINES), smallest_effect=smallest_effect)
        comparisons[f"{block}, {start}"] = compared.to_dict("records")
        present = set(runs.arm)
        for rivals, others in RIVALS.items():
            if present.issuperset(ATTENTION + others):
                claim = f"attention matching is the most impactful of {rivals}"
                found = attention_verdict(runs, others, smallest_effect)
                best[f"best attention term, {rivals}, {block}, {start}"] = found.pop("rows")
                verdicts.append({"claim": claim, "block": block, "start": start, **found})
    for block, group in table.groupby("block", sort=False):
        if found := start_verdict(group, smallest_effect):
            best[f"start, {block}"] = found.pop("rows")
            claim = "the teacher's layers as a start do more than any single term"
            verdicts.append({"claim": claim, "block": block, **found})
    return {"means": means, "comparisons": comparisons, "best_terms": best, "verdicts": verdicts}


def attention_verdict(runs: pd.DataFrame, others: Iterable[str], smallest_effect: float) -> dict:
    """Compare the best attention term with the best other one, seed by seed.

    *holds* if the best attention term is better than the best other term and than both baselines; *does not hold* if it
    is worse than the best other term; *too small to matter* or *unclear* else. ``rows`` are the three comparisons.
    """
    averages = runs.groupby("arm").test_errors.mean()
    best, rival = averages[list(ATTENTION)].idxmin(), averages[list(others)].idxmin()
    table = compare(runs, baseline=[rival, *BASELINES], smallest_effect=smallest_effect)
    rows = [table[(table.arm == best) & (table.baseline == name)].iloc[0] for name in (rival, *BASELINES)]
    row, *baselines = rows
    word = row.verdict
    if word == "better":
        word = "holds" if all(other.verdict == "better" for other in baselines) else "unclear"
    names = ("best other term", *BASELINES)
    return {
        "best attention term": best,
        "best other term": rival,
        "difference": row.difference, "low": row.low, "high": row.high,
        "verdict": "does not hold" if word == "worse" else word,
        "rows": [
            {**other.to_dict(), "arm": "best attention term", "baseline": name}
            for name, other in zip(names, rows, strict=True)
        ],
    }  # fmt: skip


def start_verdict(rows: pd.DataFrame, smallest_effect: float) -> dict | None:
    """Compare the plain student that starts from the teacher's layers with the best term of a random start."""
    starts = {start: _complete(group) for start, group in rows.groupby("start")}
    if set(starts) != {"random start", "teacher's layers"}:
        return None
    random, copied = starts["random start"], starts["teacher's layers"]
    averages = random[~random.arm.isin([*BASELINES, "all together"])].groupby("arm").test_errors.mean()
    best = str(averages.idxmin())
    pair = pd.concat([copied[copied.arm == "no_teacher"].assign(arm="start"), random[random.arm == best]])
    if (pair := _complete(pair)).seed.nunique() < 2:
        return None
    (row,) = compare(pair, baseline=best, smallest_effect=smallest_effect).to_dict("records")
    words = {"better": "holds", "worse": "does not hold"}
    return {
        "best other term": best,
        "difference": row["difference"], "low": row["low"], "high": row["high"],
        "verdict": words.get(row["verdict"], row["verdict"]),
        "rows": [{**row, "arm": "teacher's layers, no_teacher", "baseline": "best single term"}],
    }  # fmt: skip


def _complete(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of those seeds that all arms have."""
    counts = runs.groupby("seed").arm.nunique()
    return runs[runs.seed.isin(counts[counts == runs.arm.nunique()].index)]
