"""Wrong answers to exercise 13, temperature sweep."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import kd_loss
from ...results import mean_interval
from . import Slip, mapped
from .soft_targets import KD, TEACHER_TERM, no_t2


def _terms(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, temperature: float, alpha: float,
    kd: Callable = kd_loss, swapped: bool = False, softened_labels: bool = False, weighted: bool = True,
    factor_on_all: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    logits = student(images)
    soft = kd(logits, teacher_logits.detach(), temperature=temperature)
    hard = F.cross_entropy(logits / temperature if softened_labels else logits, labels)
    hard = temperature**2 * hard if factor_on_all else hard
    share = 1 - alpha if swapped else alpha
    return {"kd": share * soft, "ce": (1 - share) * hard} if weighted else {"kd": soft, "ce": hard}


def _with(**changes: Any) -> Callable:
    return partial(_terms, **changes)


def _names_exchanged(*args: Any, **knobs: Any) -> dict[str, Tensor]:
    terms = _terms(*args, **knobs)
    return {"kd": terms["ce"], "ce": terms["kd"]}


OBJECTIVE = {
    "no T²": Slip(
        "The factor T² is missing. A sweep over T then sweeps the teacher's weight as well: at T = 16 almost nothing "
        "of it is left, and you would call that the effect of T.",
        _with(kd=no_t2),
    ),
    **mapped(KD, lambda kd: _with(kd=kd), *(name for name in TEACHER_TERM if name != "no T²")),
    "α swapped": Slip(
        "α is on the wrong term: it is the share of the teacher, 1 - α that of the labels.", _with(swapped=True)
    ),
    "softened labels": Slip(
        "The labels' term sees softened logits, so that T would change it too. Cross-entropy takes them as they are.",
        _with(softened_labels=True),
    ),
    "T² on labels": Slip("T² multiplies the labels' term too. They are not softened.", _with(factor_on_all=True)),
    "no weights": Slip(
        "The terms have no weights; the loop only adds them, so α has to be in them.", _with(weighted=False)
    ),
    "names": Slip(
        "The names of the two terms are exchanged: 'kd' is the teacher's, 'ce' the labels'.", _names_exchanged
    ),
}


def _by_temperature(runs: pd.DataFrame, column: str = "held_out_errors") -> pd.DataFrame:
    return runs.pivot(index="temperature", columns="seed", values=column).sort_index()


def _curve_with(change: Callable[[pd.Series], tuple[float, float, float]], column: str = "held_out_errors") -> Callable:
    def wrong(runs: pd.DataFrame, *, images: int) -> tuple[list[float], ...]:
        shares = 1 - _by_temperature(runs, column) / images
        return tuple(map(list, zip(*(change(row) for _, row in shares.iterrows()), strict=True)))

    return wrong


def _student(row: pd.Series) -> tuple[float, float, float]:
    return mean_interval(row.tolist())


def _around(mean: float, half: float) -> tuple[float, float, float]:
    return mean, mean - half, mean + half


def _in_table_order(runs: pd.DataFrame, *, images: int) -> tuple[list[float], ...]:
    shares = [1 - group.held_out_errors / images for _, group in runs.groupby("temperature", sort=False)]
    return tuple(map(list, zip(*map(_student, shares), strict=True)))


def _one_row_each(runs: pd.DataFrame, *, images: int) -> list[tuple[float, ...]]:
    return list(zip(*_curve_with(_student)(runs, images=images), strict=True))


CURVE = {
    "test images": Slip(
        "These are the test images. They are for the report at the end; what helps to choose T is no test any more.",
        _curve_with(_student, "test_errors"),
    ),
    "errors": Slip("This is the share of errors, not of right answers.", _curve_with(lambda row: _student(1 - row))),
    "percent": Slip("This is in percent; shares in [0, 1] are needed.", _curve_with(lambda row: _student(100 * row))),
    "deviation": Slip(
        "The ends are one standard deviation away: that is the spread of single runs, not the interval of their mean.",
        _curve_with(lambda row: _around(row.mean(), row.std())),
        _curve_with(lambda row: _around(row.mean(), row.std(ddof=0))),
        _curve_with(lambda row: _around(row.mean(), 2 * row.std())),
    ),
    "standard error": Slip("The ends are one standard error away; a 95 % interval needs Student's t on top.",
                           _curve_with(lambda row: _around(row.mean(), row.std() / len(row) ** 0.5))),
    "1.96": Slip("1.96 is for many seeds. With five, Student's t is needed.",
                 _curve_with(lambda row: _around(row.mean(), 1.96 * row.std() / len(row) ** 0.5)),
                 _curve_with(lambda row: _around(row.mean(), 2 * row.std() / len(row) ** 0.5))),
    "worst and best": Slip("These are the worst and the best run, not an interval of the mean.",
                           _curve_with(lambda row: (row.mean(), row.min(), row.max()))),
    "median": Slip("The median was taken. Asked for is the mean over seeds.",
                   _curve_with(lambda row: (row.median(), *_student(row)[1:]))),
    "ends exchanged": Slip("The two ends are exchanged: the lower one comes first.",
                           _curve_with(lambda row: (_student(row)[0], *_student(row)[:0:-1]))),
    "half widths": Slip("These are the interval's half widths. Asked for are its two ends.",
                        _curve_with(lambda row: (row.mean(), *2 * [_student(row)[2] - row.mean()]))),
    "table order": Slip("The temperatures are in the order of the table. Asked for is rising order.", _in_table_order),
    "by temperature": Slip("One triple for each temperature came. Asked for are three lists: means, lower, upper ends.",
                           _one_row_each),
}  # fmt: skip


def _chosen_by(choose: Callable[[pd.DataFrame], float]) -> Callable:
    def wrong(runs: pd.DataFrame) -> tuple[float, bool]:
        errors, best = _by_temperature(runs), float(choose(runs))
        return best, all(_low(row, errors.loc[best]) > 0 for row in _beside(errors, best))

    return wrong


def _best(runs: pd.DataFrame) -> float:
    return float(_by_temperature(runs).mean(axis=1).idxmin())


def _lowest(column: str, how: str = "mean") -> Callable[[pd.DataFrame], float]:
    return lambda runs: runs.groupby("temperature")[column].agg(how).idxmin()


def _clear_if(judge: Callable[[pd.DataFrame, float], bool]) -> Callable:
    return lambda runs: (_best(runs), bool(judge(_by_temperature(runs), _best(runs))))


def _low(row: pd.Series, other: pd.Series) -> float:
    return mean_interval((row - other).tolist())[1]


def _beside(errors: pd.DataFrame, best: float, steps: tuple[int, ...] = (-1, 1)) -> list[pd.Series]:
    place = list(errors.index).index(best)
    return [errors.iloc[place + i] for i in steps if 0 <= place + i < len(errors)]


def _around_the_corner(errors: pd.DataFrame, best: float) -> bool:
    place, count = list(errors.index).index(best), len(errors)
    return all(_low(errors.iloc[(place + i) % count], errors.loc[best]) > 0 for i in (-1, 1))


def _from_the_other_end(errors: pd.DataFrame, best: float) -> bool:
    """Let the index -1 mean the last row, and stop at the last one."""
    place = list(errors.index).index(best)
    rows = [errors.iloc[i] for i in (place - 1, place + 1) if i < len(errors)]
    return all(_low(row, errors.loc[best]) > 0 for row in rows)


def _one_side(step: int) -> Callable:
    return _clear_if(lambda errors, best: all(_low(r, errors.loc[best]) > 0 for r in _beside(errors, best, (step,))))


def _clear_of(others: Callable[[pd.DataFrame, float], list[pd.Series]]) -> Callable:
    return _clear_if(lambda errors, best: all(_low(row, errors.loc[best]) > 0 for row in others(errors, best)))


def _second(errors: pd.DataFrame, best: float) -> list[pd.Series]:
    return [errors.loc[errors.drop(best).mean(axis=1).idxmin()]]


def _unpaired(errors: pd.DataFrame, best: float) -> bool:
    best_high = mean_interval(errors.loc[best].tolist())[2]
    return all(mean_interval(row.tolist())[1] > best_high for row in _beside(errors, best))


def _all_differences(errors: pd.DataFrame, best: float) -> bool:
    return all(((row - errors.loc[best]) > 0).all() for row in _beside(errors, best))


def _mean_worse(errors: pd.DataFrame, best: float) -> bool:
    return all(row.mean() > errors.loc[best].mean() for row in _beside(errors, best))


def _single_lowest(runs: pd.DataFrame) -> float:
    return runs.temperature.iloc[int(np.argmin(runs.held_out_errors.to_numpy()))]


OPTIMUM = {
    "test images": Slip(
        "T is chosen by test errors. Then the test images have helped to build the student, and nothing is left that "
        "could say how good it is. Choose on the held-out ones.",
        _chosen_by(_lowest("test_errors")),
    ),
    "training loss": Slip(
        "T is chosen by the training loss. T is part of that loss: its values at two temperatures are of two different "
        "things and cannot be compared. Count errors.",
        _chosen_by(_lowest("train_loss")),
    ),
    "held-out loss": Slip(
        "T is chosen by the loss on held-out images. It rewards being less sure, which T itself changes; the question "
        "was about errors.",
        _chosen_by(_lowest("held_out_loss")),
    ),
    "one seed": Slip(
        "T is chosen from one seed. Another seed would choose another T: take the mean over seeds.",
        _chosen_by(lambda runs: runs[runs.seed == runs.seed.min()].set_index("temperature").held_out_errors.idxmin()),
        _chosen_by(lambda runs: runs[runs.seed == runs.seed.max()].set_index("temperature").held_out_errors.idxmin()),
    ),
    "luckiest run": Slip(
        "T is that of the luckiest single run. Take the mean over seeds first, then the smallest.",
        _chosen_by(_single_lowest),
    ),
    "median": Slip("T is chosen by the median over seeds. The mean is asked for.",
                   _chosen_by(_lowest("held_out_errors", "median"))),
    "most errors": Slip("This is the T with most errors.", _chosen_by(
        lambda runs: runs.groupby("temperature").held_out_errors.mean().idxmax())),
    "always clear": Slip(
        "Every optimum is called clear. The smallest of five means always exists, also where T does nothing at all.",
        _clear_if(lambda errors, best: True),
        _clear_if(_mean_worse),
    ),
    "never clear": Slip(
        "No optimum is ever called clear. Is the difference taken the other way round, best minus neighbour?",
        _clear_if(lambda errors, best: False),
    ),
    "unpaired": Slip(
        "Clear is asked of two intervals that do not overlap, each of one T alone. Runs of one seed are a pair: "
        "subtract first, and what both share falls out.",
        _clear_if(_unpaired),
    ),
    "every seed": Slip(
        "Clear is asked of each single seed. An interval of the mean difference is needed; one seed may differ.",
        _clear_if(_all_differences),
    ),
    "wraps round": Slip(
        "At an end of the list the other end is taken for a neighbour: an index of -1 is the last row, and a remainder "
        "leads back to the first. There is only one neighbour there.",
        _clear_if(_around_the_corner),
        _clear_if(_from_the_other_end),
    ),
    "one side": Slip(
        "Only the neighbour on one side is looked at: T has one below and one above, except at an end of the list.",
        _one_side(-1),
        _one_side(1),
    ),
    "all others": Slip(
        "Every other T has to be clearly worse here. Asked for are the neighbours in the list of temperatures.",
        _clear_of(lambda errors, best: [row for t, row in errors.iterrows() if t != best]),
    ),
    "second best": Slip(
        "The second best T is looked at. Asked for are the neighbours in the list of temperatures.", _clear_of(_second)
    ),
    "end never clear": Slip(
        "An optimum at the end of the list has one neighbour, and counts as clear when that one is clearly worse.",
        _clear_if(lambda errors, best: len(_beside(errors, best)) == 2 and all(
            _low(row, errors.loc[best]) > 0 for row in _beside(errors, best))),
    ),
    "one is enough": Slip(
        "One clearly worse neighbour is not enough where there are two.",
        _clear_if(lambda errors, best: any(_low(row, errors.loc[best]) > 0 for row in _beside(errors, best))),
    ),
    "place": Slip("This is the place of the best T in the list. Asked for is the temperature itself.",
                  lambda runs: (list(_by_temperature(runs).index).index(_best(runs)), _chosen_by(_best)(runs)[1])),
    "errors": Slip("The smallest mean error came back. Asked for is the temperature that has it.",
                   lambda runs: (_by_temperature(runs).mean(axis=1).min(), _chosen_by(_best)(runs)[1])),
}  # fmt: skip
