"""Paired differences with intervals: is one method better than another, or only luckier?

Chapters 02 to 07. Two runs of one seed start from the same weights and see the same order of samples; what they still
differ by is the method. Differences within pairs vary less than the runs do, and their t interval says how much.
"""

import math
from collections.abc import Sequence

import pandas as pd


def compare(
    runs: pd.DataFrame,
    *,
    metric: str = "test_errors",
    pair_by: str = "seed",
    baseline: str | Sequence[str] = ("no_teacher", "label_smoothing"),
    level: float = 0.95,
    lower_is_better: bool = True,
) -> pd.DataFrame:
    r"""Compare every arm with each baseline, seed by seed.

    .. math:: \bar d \pm t_{n-1} \, s_d / \sqrt n

    Parameters
    ----------
    runs : DataFrame
        One row per student with the columns ``arm``, ``pair_by`` and ``metric``, as ``sweep`` returns.
    metric : str
        The column to compare.
    pair_by : str
        The column whose equal values make a pair.
    baseline : str or list of str
        Arms to compare with. A name such as ``"no_teacher"`` means, for each arm, the run of that name at the arm's
        own budget (epochs, student and so on).
    level : float
        Coverage of the interval, in (0, 1).
    lower_is_better : bool
        True for errors and losses, False for accuracies.

    Returns
    -------
    DataFrame
        One row per arm and baseline: ``arm, n, mean, baseline, baseline_mean, difference, low, high, verdict``.
        ``difference`` is arm minus baseline in units of the metric. ``verdict`` is ``"better"`` or ``"worse"`` where
        the interval leaves out 0, else ``"unclear"``.

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
    """
    _check_columns(runs, ("arm", pair_by, metric))
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}: it is the share of intervals that hold the truth.")
    values = _by_pair(runs, metric, pair_by)  # pairs × arms
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
            difference, low, high = mean_interval(differences, level=level)
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
                    "verdict": _verdict(low, high, lower_is_better=lower_is_better),
                }
            )
    if not rows:
        raise ValueError(f"there is no arm to compare with {names}: the table holds {list(values.columns)}.")
    table = pd.DataFrame(rows)
    table.attrs = {"metric": metric, "pair_by": pair_by, "level": level, "lower_is_better": lower_is_better}
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


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean and the ends of its t interval.

    Parameters
    ----------
    values : sequence of float
        At least two, independent of one another.
    level : float
        Coverage, in (0, 1).

    Raises
    ------
    ValueError
        If there are fewer than two values.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least two values, got {n}: one value says nothing about the spread.")
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = t_quantile(level, n - 1) * math.sqrt(variance / n)
    return mean, mean - half, mean + half


def t_quantile(level: float, degrees: int) -> float:
    """Return t with P(|T| < t) = ``level`` for Student's distribution with ``degrees`` degrees of freedom."""
    low, high = 0.0, 1.0
    while _t_inside(high, degrees) < level:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _t_inside(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def _t_inside(t: float, degrees: int) -> float:
    """P(|T| < t). For a whole number of degrees it is a finite sum (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


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


def _by_pair(runs: pd.DataFrame, metric: str, pair_by: str) -> pd.DataFrame:
    if runs.duplicated(["arm", pair_by]).any():
        twice = runs.loc[runs.duplicated(["arm", pair_by]), "arm"].iloc[0]
        raise ValueError(f"arm {twice!r} has one {pair_by} twice: which of the two makes the pair? Drop one.")
    values = runs.pivot(index=pair_by, columns="arm", values=metric)[list(runs["arm"].unique())]
    lacking = {str(arm): values.index[values[arm].isna()].tolist() for arm in values if values[arm].isna().any()}
    if lacking:
        raise ValueError(
            f"arms must have the same values of {pair_by}, these lack some: {lacking}. A difference is taken within "
            "a pair, so that luck of the start cancels; without its partner a run cannot be used."
        )
    if len(values) < 2:
        raise ValueError(
            f"a comparison needs at least two values of {pair_by}, got {len(values)}: one pair says nothing about "
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


def _verdict(low: float, high: float, *, lower_is_better: bool) -> str:
    if low <= 0 <= high:
        return "unclear"
    return "better" if (high < 0) == lower_is_better else "worse"


def _number(value: float, digits: int, sign: str = "") -> str:
    text = f"{value:{sign}.{digits}f}"
    zero = float(text) == 0
    return (text.lstrip("+-") if zero else text).replace("-", "−")
