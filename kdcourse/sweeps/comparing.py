"""Paired differences with intervals: is one method better than another, or only luckier?

Chapters 02 to 07. Two runs of one seed start from the same weights and see the same order of samples; what they still
differ by is the method. Differences within pairs vary less than the runs do, and their t interval says how much.
"""

from collections.abc import Sequence

import pandas as pd

from ..results import mean_interval, verdict


def compare(
    runs: pd.DataFrame,
    *,
    metric: str = "test_errors",
    baseline: str | Sequence[str] = ("no_teacher", "label_smoothing"),
    lower_is_better: bool = True,
    smallest_effect: float = 0.0,
) -> pd.DataFrame:
    r"""Compare every arm with each baseline, seed by seed.

    .. math:: \bar d \pm t_{n-1} \, s_d / \sqrt n

    Parameters
    ----------
    runs : DataFrame
        One row per student with the columns ``arm``, ``seed`` and ``metric``, as ``sweep`` returns.
    metric : str
        The column to compare.
    baseline : str or list of str
        Arms to compare with. A name such as ``"no_teacher"`` means, for each arm, the run of that name at the arm's
        own budget (epochs, student and so on).
    lower_is_better : bool
        True for errors and losses, False for accuracies.
    smallest_effect : float
        Smallest effect of interest, as in :func:`kdcourse.results.verdict`.

    Returns
    -------
    DataFrame
        One row per arm and baseline: ``arm, n, mean, baseline, baseline_mean, difference, low, high, verdict``.
        ``difference`` is arm minus baseline in units of the metric. ``verdict`` is the word that
        :func:`kdcourse.results.verdict` gives.

    Raises
    ------
    ValueError
        If a column or baseline is not there, the arms do not have the same seeds, there are fewer than two seeds, or
        a value is missing.

    Notes
    -----
    The interval holds for differences that are close to normal, and for one comparison: of twenty comparisons
    without any effect, one leaves out 0 at 95 %. ``"unclear"`` is no proof of equality; the interval's ends say how
    large a difference may still be.

    References
    ----------
    Student (1908), "The probable error of a mean", Biometrika 6.

    Examples
    --------
    >>> errors = {"distilled": [170, 181, 176], "no_teacher": [199, 215, 204]}
    >>> rows = [{"arm": arm, "seed": s, "test_errors": e} for arm, es in errors.items() for s, e in enumerate(es)]
    >>> (row,) = compare(pd.DataFrame(rows), baseline="no_teacher").itertuples()
    >>> row.arm, round(row.difference, 1), row.verdict
    ('distilled', -30.3, 'better')
    """
    _check_columns(runs, ("arm", "seed", metric))
    values = _by_seed(runs, metric)  # seeds × arms
    names = [baseline] if isinstance(baseline, str) else list(baseline)
    methods = runs.drop_duplicates("arm").set_index("arm").reindex(columns=["method", "budget"])
    rows, done = [], set()
    for name in names:
        for arm in values.columns:
            other = _baseline_of(arm, name, methods)
            if other == arm or (other, arm) in done:  # the other way round says the same with the other sign
                continue
            done.add((arm, other))
            differences = (values[arm] - values[other]).tolist()
            difference, low, high = mean_interval(differences)
            rows.append(
                {
                    "arm": arm,
                    "n": len(differences),
                    "mean": values[arm].mean(),
                    "baseline": other,
                    "baseline_mean": values[other].mean(),
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "verdict": verdict(low, high, lower_is_better=lower_is_better, smallest_effect=smallest_effect),
                }
            )
    if not rows:
        raise ValueError(f"there is no arm to compare with {names}: the table holds {list(values.columns)}.")
    table = pd.DataFrame(rows)
    table.attrs = {"metric": metric, "lower_is_better": lower_is_better, "smallest_effect": smallest_effect}
    return table


def format_comparison(table: pd.DataFrame, *, digits: int = 1) -> pd.DataFrame:
    """Write a table of ``compare`` for reading: one row per arm, ``−3.2 [−5.1, −1.3] better`` against each baseline.

    Parameters
    ----------
    table : DataFrame
        From ``compare``.
    digits : int
        Digits after the point.

    Returns
    -------
    DataFrame of str
        Indexed by arm, with the arm's own mean first.

    Examples
    --------
    >>> arms = ["kd", "kd", "no_teacher", "no_teacher"]
    >>> runs = pd.DataFrame({"arm": arms, "seed": [0, 1, 0, 1], "test_errors": [3, 4, 9, 11]})
    >>> format_comparison(compare(runs, baseline="no_teacher")).loc["kd", "minus no_teacher"]
    '−6.5 [−12.9, −0.1] better'
    """
    metric = table.attrs.get("metric", "mean")
    means = dict(zip(table["baseline"], table["baseline_mean"], strict=True))
    means |= dict(zip(table["arm"], table["mean"], strict=True))
    cells: dict[str, dict[str, str]] = {arm: {metric: _number(mean, digits)} for arm, mean in means.items()}
    for row in table.to_dict("records"):
        signed = [_number(row[key], digits, sign="+") for key in ("difference", "low", "high")]
        text = "{} [{}, {}] {}".format(*signed, row["verdict"])
        cells[row["arm"]][f"minus {row['baseline']}"] = text
    return pd.DataFrame.from_dict(cells, orient="index").fillna("").rename_axis("arm")


def in_words(table: pd.DataFrame, arms: str | Sequence[str] | None = None, *, unit: str = "") -> str:
    """Say what a comparison found in this run: one line per arm and baseline.

    Parameters
    ----------
    table : DataFrame
        From ``compare``.
    arms : str or list of str, optional
        The arms to speak of, in this order; by default all but the two baselines of ``sweep``.
    unit : str
        What is counted; by default the last word of the metric, such as "errors".

    Returns
    -------
    str
        A first line with the number of seeds, then a line for each comparison.

    Raises
    ------
    ValueError
        If the table has no such arm.

    Examples
    --------
    >>> arms = ["kd", "kd", "no_teacher", "no_teacher"]
    >>> runs = pd.DataFrame({"arm": arms, "seed": [0, 1, 0, 1], "test_errors": [3, 4, 9, 11]})
    >>> print(in_words(compare(runs, baseline="no_teacher")))
    In this run, 2 seeds:
      kd against no teacher: better, 6.5 errors fewer, 95 % interval 0.1 to 12.9
    """
    unit = unit or str(table.attrs.get("metric", "mean")).replace("_", " ").split()[-1]
    known = [arm for arm in dict.fromkeys(table["arm"]) if arm not in ("no_teacher", "label_smoothing")]
    wanted = known if arms is None else [arms] if isinstance(arms, str) else list(arms)
    lacking = [arm for arm in wanted if arm not in set(table["arm"])]
    if lacking:
        raise ValueError(f"the table has no arm {lacking[0]!r}; it has {sorted(set(table['arm']))}.")
    rows = [row for arm in wanted for row in table[table["arm"] == arm].to_dict("records")]
    seeds = " or ".join(map(str, sorted({row["n"] for row in rows})))
    # One number of decimal places for the whole list: none if its numbers are large and no end would be rounded to 0.
    ends = [abs(row[end]) for row in rows for end in ("low", "high")]
    digits = 0 if any(abs(row["difference"]) >= 100 for row in rows) and min(ends) >= 0.5 else 1
    return "\n".join([f"In this run, {seeds} seeds:", *(f"  {_sentence(row, unit, digits)}" for row in rows)])


def _sentence(row: dict, unit: str, digits: int) -> str:
    """Return one comparison in words, with both ends of its interval."""
    names = f"{row['arm']} against {row['baseline']}".replace("_", " ")
    low, high = (f"{abs(row[end]):.{digits}f}" for end in ("low", "high"))
    if row["low"] < 0 < row["high"]:
        return f"{names}: {row['verdict']}, between {low} {unit} fewer and {high} more"
    side = "fewer" if row["difference"] < 0 else "more"
    small, large = (high, low) if side == "fewer" else (low, high)
    difference = f"{abs(row['difference']):.{digits}f} {unit} {side}"
    return f"{names}: {row['verdict']}, {difference}, 95 % interval {small} to {large}"


def _check_columns(runs: pd.DataFrame, needed: Sequence[str]) -> None:
    for column in needed:
        if column not in runs.columns:
            raise ValueError(f"the table has no column {column!r}; it has {list(runs.columns)}.")
        if runs[column].isna().any():
            arms = sorted(set(runs.loc[runs[column].isna(), "arm"].astype(str)))
            raise ValueError(
                f"column {column!r} has missing values, in {arms}. A student whose loss became NaN has diverged: "
                "leave that arm out and say so."
            )


def _by_seed(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    if runs.duplicated(["arm", "seed"]).any():
        twice = runs.loc[runs.duplicated(["arm", "seed"]), "arm"].iloc[0]
        raise ValueError(f"arm {twice!r} has one seed twice: which of the two makes the pair? Drop one.")
    values = runs.pivot(index="seed", columns="arm", values=metric)[list(runs["arm"].unique())]
    lacking = {str(arm): values.index[values[arm].isna()].tolist() for arm in values if values[arm].isna().any()}
    if lacking:
        raise ValueError(
            f"arms must have the same values of seed, these lack some: {lacking}. A difference is taken within "
            "a pair, so that luck of the start cancels; without its partner a run cannot be used."
        )
    if len(values) < 2:
        raise ValueError(
            f"a comparison needs at least two values of seed, got {len(values)}: one pair says nothing about "
            "how much the difference varies. Three are the least that this course shows."
        )
    return values


def _baseline_of(arm: str, name: str, methods: pd.DataFrame) -> str:
    if name in methods.index:
        return name
    same = methods[(methods["method"] == name) & (methods["budget"] == methods.loc[arm, "budget"])]
    if len(same) != 1:
        known = list(dict.fromkeys([*methods["method"].dropna(), *methods.index]))
        raise ValueError(f"there is no baseline {name!r} for arm {arm!r}. The table holds {known}.")
    return str(same.index[0])


def _number(value: float, digits: int, sign: str = "") -> str:
    text = f"{value:{sign}.{digits}f}"
    zero = float(text) == 0
    return (text.lstrip("+-") if zero else text).replace("-", "−")
