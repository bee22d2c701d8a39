"""Checks of exercise 13, temperature sweep: objective, runs in pairs, accuracy, optimum, questions."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses, models
from ..sweeps import mean_interval
from ._core import (
    Case,
    Question,
    Slip,
    as_number,
    as_numbers,
    check_answers,
    check_no_gradient,
    check_values,
    fail,
    name_of,
    new_generator,
    passed,
    random_labels,
    random_tensor,
)
from ._verdicts import is_near
from .soft_targets import KD_SLIPS

_kd_loss, _make_mlp, _mean_interval = losses.kd_loss, models.make_mlp, mean_interval
NO_OPTIMUM = "no clear optimum"


def check_sweep_objective(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, images, labels, teacher_logits, *, temperature, alpha)`` of exercise 13, task 1.

    Parameters
    ----------
    function : callable
        Returns the weighted terms ``{"kd": α T² KL, "ce": (1 - α) cross-entropy}``.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for temperature in (0.5, 3.0, 16.0):
        batch, classes = (int(n) for n in generator.integers((3, 4), (9, 12)))
        logits = [random_tensor(generator, batch, classes, scale=3) for _ in range(2)]
        knobs = {"temperature": temperature, "alpha": float(generator.uniform(0.6, 0.9))}
        cases.append(Case((logits[0], random_labels(generator, batch, classes), logits[1]), knobs))
    terms = _terms_of(function)
    check_values(terms, _terms, cases, slips=OBJECTIVE_SLIPS)
    check_no_gradient(terms, cases[0], argument=2, message="A gradient reaches the teacher's logits: a fixed target.")
    _check_vmap(terms, cases[0])
    passed("Both terms have their weights, T² stands in front of the teacher's, and T may be an axis of the sweep.")


def check_sweep_runs(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(make_student, data, *, temperatures, seeds, epochs)`` of exercise 13, task 2.

    Parameters
    ----------
    function : callable
        Trains a student for every temperature and seed; returns a table with a row each and at least the columns
        ``temperature``, ``seed`` and ``held_out_errors``.
    seed : int, optional
        Of the images; fresh ones without it.

    Raises
    ------
    CheckFailed
        With what is wrong with the runs, such as pairs that do not start from the same weights.
    """
    if not callable(function):
        fail(f"a function is needed, got {type(function).__name__}.")
    data, temperatures, seeds = _small_data(new_generator(seed)), (1, 16), (3, 5, 8)
    started: list[Tensor] = []

    def make_student() -> nn.Module:
        student = _make_mlp(8)
        started.append(next(student.parameters()).detach()[0, :20].clone())
        return student

    settings = {"temperatures": temperatures, "seeds": seeds, "epochs": 6}
    found = _read_runs(function(make_student, data, **settings), temperatures, seeds, name_of(function))
    distinct = len(torch.stack(started).unique(dim=0)) if started else 0
    if distinct == 1:
        fail("All students start from the same weights: with one seed nobody can tell an effect of T from luck.")
    if distinct != len(seeds):
        fail(
            f"{len(seeds)} seeds gave {distinct} different starts: runs of one seed must start from the same weights "
            "at every T, or their differences hold the luck of two starts and no pairs are left."
        )
    if (found.loc[1] == found.loc[16]).all():
        fail("T = 1 and T = 16 gave the same errors, seed by seed: does T reach the objective?")
    moved = {**data, "held_out": (data["held_out"][0], (data["held_out"][1] + 1) % 10)}
    again = _read_runs(function(make_student, moved, **settings), temperatures, seeds, name_of(function))
    means = found.to_numpy().mean(), again.to_numpy().mean()
    if not means[0] < 120 < means[1]:
        fail(
            "held_out_errors must count errors of the trained student on the 200 held-out images: with right labels "
            f"there were {means[0]:.1f} on average, with every label moved by one {means[1]:.1f}."
        )
    if not found.equals(_read_runs(function(make_student, data, **settings), temperatures, seeds, name_of(function))):
        fail("Called twice with the same seeds, the function gave different errors: something draws without a seed.")
    passed("A row for every T and seed, each seed starts from the same weights at every T, errors on held-out images.")


def check_accuracy_curve(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(runs, *, images)`` of exercise 13, task 3: mean accuracy against T with intervals.

    Parameters
    ----------
    function : callable
        Returns three lists, by rising T: mean held-out accuracy in [0, 1], and both ends of its 95 % interval.
    seed : int, optional
        Of the tables; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    valley = generator.uniform(0, 60, 5).tolist()
    table = _table(generator, valley, noise=8).sample(frac=1, random_state=7)
    cases = [Case((table,), {"images": images}) for images in (2000, 4000)]
    check_values(_on_copy(function), _curve, cases, slips=CURVE_SLIPS, rtol=1e-6)
    passed("Held-out accuracy, a mean over seeds for each T in rising order, with Student's intervals.")


def check_find_optimum(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(runs)`` of exercise 13, task 3: ``(temperature, clear)``.

    Parameters
    ----------
    function : callable
        Returns the T with the fewest held-out errors on average, and whether each neighbouring T of the table is
        clearly worse: the interval of the paired difference, neighbour minus best, lies above 0.
    seed : int, optional
        Of the tables; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    cases = _optimum_cases(new_generator(seed))
    check_values(_on_copy(function), _optimum, cases, slips=OPTIMUM_SLIPS)
    passed(
        "The T of the lowest mean on held-out images; clear only where the paired intervals against its neighbours say "
        "so, inside the list and at its ends."
    )


def check_optimum(optimum: Any, runs: Mapping[str, pd.DataFrame]) -> None:
    """Check the answers of exercise 13, task 4, against the runs that were measured.

    Parameters
    ----------
    optimum : dict from str to number or str
        For each size of student a temperature, or ``"no clear optimum"``.
    runs : mapping from str to DataFrame
        The runs of each size.

    Raises
    ------
    CheckFailed
        With what the intervals say.
    """
    if type(optimum) is not dict:
        fail(f"optimum must be the dict of the cell above, an answer for each size, got {type(optimum).__name__}.")
    for size, table in runs.items():
        answer = optimum.get(size)
        if answer is None or answer is ...:
            raise NotImplementedError(
                f"there is no answer for the {size} student yet: a temperature, or {NO_OPTIMUM!r}."
            )
        best, clear = _optimum(table)
        # Other machines count a few errors more or less: both answers are right where an interval only just decides.
        beside = _neighbours(table, best)
        near = [is_near(low, low, high) for _, low, high in beside]
        surely = clear and not any(near)
        nearly = all(low > 0 or close for (_, low, _), close in zip(beside, near, strict=True))
        said = ", ".join(
            f"T = {other:g} minus T = {best:g}: [{low:+.1f}, {high:+.1f}]"
            for other, low, high in _neighbours(table, best)
        )
        if type(answer) is str:
            if not str.__eq__(answer.strip(), NO_OPTIMUM):
                fail(f"{size}: an answer is a number or {NO_OPTIMUM!r}, got {answer[:30]!r}.")
            if surely:
                fail(
                    f"{size}: there is a clear one. The intervals of the neighbours' paired differences: {said} errors."
                )
        elif as_number(answer, f"the answer for the {size} student") != best:
            fail(f"{size}: T = {answer} does not have the fewest held-out errors on average.")
        elif not nearly:
            fail(f"{size}: T = {best:g} is ahead of its neighbours by no more than luck allows. {said} errors.")
        passed(f"{size}: {f'T = {best:g}' if clear else NO_OPTIMUM}. {said} errors.")


def check_sweep_questions(answers: Any) -> None:
    """Check the three answers of exercise 13, task 5.

    Parameters
    ----------
    answers : sequence of three str
        Letters.

    Raises
    ------
    CheckFailed
        With what speaks against the first wrong letter.
    """
    check_answers(
        answers,
        Question(
            right="b",
            wrong={
                "a": "that is true of all five students; ask what was done with their five numbers.",
                "c": "write down five noisy numbers around 100, and cross out all but the one that you would have "
                "kept.",
            },
            because="the smallest of several noisy numbers is small partly by luck; fresh images show how much of it",
        ),
        Question(
            right="c",
            wrong={
                "a": "to say so one needs a neighbour on the other side as well.",
                "b": "the interval against the one neighbour there is may well leave out 0.",
            },
            because="at an end of the list only one side was looked at: the sweep has to go on there",
        ),
        Question(
            right="a",
            wrong={
                "b": "T does not enter the count of parameters or steps.",
                "c": "both losses carry T²; and the larger student has the same targets.",
            },
            because="at a high T a student must match all ten logits on every image, right or wrong; few units cannot",
        ),
    )


def _terms_of(function: Callable) -> Callable:
    """Give the objective logits in the place of a student, so that every argument is a tensor."""
    if not callable(function):
        fail(f"a function is needed, got {type(function).__name__}.")

    def terms(logits: Tensor, labels: Tensor, teacher_logits: Tensor, **knobs: Any) -> Any:
        # The "images" are the logits already, and the student hands them on.
        found = function(nn.Identity(), logits, labels, teacher_logits, **knobs)
        if type(found) is not dict or sorted(map(str, found)) != ["ce", "kd"]:
            fail("An objective returns a dict with the two weighted terms 'kd' and 'ce'; the loop adds them.")
        return torch.stack([found["kd"], found["ce"]]) if all(type(x) is Tensor for x in found.values()) else found

    terms.__name__ = name_of(function)
    return terms


def _terms(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor, *, temperature: float, alpha: float,
    kd: Callable = _kd_loss, swapped: bool = False, softened_labels: bool = False, weighted: bool = True,
    factor_on_all: bool = False,
) -> Tensor:  # fmt: skip
    soft = kd(logits, teacher_logits.detach(), temperature=temperature)
    hard = F.cross_entropy(logits / temperature if softened_labels else logits, labels)
    hard = temperature**2 * hard if factor_on_all else hard
    share = 1 - alpha if swapped else alpha
    return torch.stack([share * soft, (1 - share) * hard] if weighted else [soft, hard])


def _terms_with(**changes: Any) -> Callable:
    return functools.partial(_terms, **changes)


NO_T2 = (
    "The factor T² is missing. A sweep over T then sweeps the teacher's weight as well: at T = 16 almost nothing of it "
    "is left, and you would call that the effect of T."
)
OBJECTIVE_SLIPS = (
    Slip(NO_T2, _terms_with(kd=KD_SLIPS[0].wrong)),
    *(Slip(slip.message, _terms_with(kd=slip.wrong)) for slip in KD_SLIPS[1:8]),
    Slip(
        "α is on the wrong term: it is the share of the teacher, 1 - α that of the labels.", _terms_with(swapped=True)
    ),
    Slip(
        "The labels' term sees softened logits, so that T would change it too. Cross-entropy takes them as they are.",
        _terms_with(softened_labels=True),
    ),
    Slip("T² multiplies the labels' term too. They are not softened.", _terms_with(factor_on_all=True)),
    Slip("The terms have no weights; the loop only adds them, so α has to be in them.", _terms_with(weighted=False)),
)


def _check_vmap(terms: Callable, case: Case) -> None:
    """The sweep trains all temperatures in one program, so that T is a tensor inside ``vmap``."""
    alpha = case.kwargs["alpha"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # F.kl_div is slow here, and right
        try:
            torch.func.vmap(lambda t: terms(*case.args, temperature=t, alpha=alpha))(torch.tensor([1.0, 4.0]))
        except Exception as error:
            fail(
                "The values are right for one T, but a sweep hands over T as a tensor inside vmap, and there it raised "
                f"{type(error).__name__}: {str(error)[:90]}. Don't compare T or turn it into a number (trap 5)."
            )


def _small_data(generator: np.random.Generator) -> dict[str, tuple[Tensor, ...]]:
    """Ten classes of noisy patterns; the teacher knows them, and confuses each with its neighbour."""
    patterns = random_tensor(generator, 10, 1, 28, 28)
    splits = {}
    for name, count in (("train", 300), ("held_out", 200), ("test", 100)):
        labels = random_labels(generator, count, 10)
        images = patterns[labels] + 2 * random_tensor(generator, count, 1, 28, 28)
        splits[name] = (images, labels)
    images, labels = splits["train"]
    teacher_logits = 8.0 * F.one_hot(labels, 10) + 5.0 * F.one_hot((labels + 1) % 10, 10)
    return {**splits, "train": (images, labels, teacher_logits)}


def _read_runs(runs: Any, temperatures: tuple, seeds: tuple, name: str) -> pd.DataFrame:
    if type(runs) is not pd.DataFrame:
        fail(f"{name} must return a table (DataFrame), got {'None' if runs is None else type(runs).__name__}.")
    missing = [column for column in ("temperature", "seed", "held_out_errors") if column not in runs]
    if missing:
        fail(f"The table has no column {missing[0]!r}; it has {list(runs)}.")
    runs = runs[pd.to_numeric(runs["temperature"], errors="coerce").notna()]  # without baselines, if there are any
    errors = runs.pivot_table(index="temperature", columns="seed", values="held_out_errors", aggfunc=list)
    if sorted(errors.index) != sorted(temperatures) or sorted(errors.columns) != sorted(seeds):
        fail(
            f"Temperatures {temperatures} and seeds {seeds} were asked for; the table has {list(errors.index)} and "
            f"{list(errors.columns)}. Every arm needs every seed."
        )
    if any(type(cell) is not list or len(cell) != 1 for cell in errors.to_numpy().ravel()):
        fail("Every temperature needs every seed exactly once.")
    numbers = errors.map(lambda cell: float(as_numbers(cell, "held_out_errors")[0]))
    if numbers.to_numpy().max() <= 1:
        fail("held_out_errors are counts of images, these are all at most 1. Shares? Multiply by the number of images.")
    return numbers


def _table(
    generator: np.random.Generator,
    valley: list[float],
    *,
    noise: float = 1.5,
    odd: Mapping | None = None,
    lucky: int = 3,
) -> pd.DataFrame:
    """Runs as a sweep returns them: what a seed's runs share, a valley in T, and luck; other columns mislead.

    ``odd`` moves single runs, by (place of T, seed); the runs of seed ``lucky`` are the best of all.
    """
    luck = 500 + 40.0 * generator.permutation([-1, 0, 1, 2])
    luck = np.insert(luck, lucky, 420)  # (5,)
    best, rows = int(np.argmin(valley)), []
    for place, temperature in enumerate((1.0, 2.0, 4.0, 8.0, 16.0)):
        for seed in range(5):
            # As many on both sides, so that the means are the valley's.
            wobble = noise * (-1) ** (place + seed) * (seed < 4) + (odd or {}).get((place, seed), 0)
            rows.append(
                {
                    "arm": f"temperature={temperature:g}", "temperature": temperature, "seed": seed,
                    "held_out_errors": round(luck[seed] + valley[place] + wobble),
                    "test_errors": round(2 * luck[seed] + 9 * abs(place - (best + 2) % 5) + generator.uniform(-3, 3)),
                    "held_out_loss": 0.4 + 0.02 * abs(place - (best + 3) % 5) + generator.uniform(-0.005, 0.005),
                    "train_loss": 0.1 + 0.02 * abs(place - (best + 1) % 5) + generator.uniform(-0.005, 0.005),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _optimum_cases(generator: np.random.Generator) -> list[Case]:
    """Tables of which each tells some slips apart."""
    step = float(generator.integers(28, 36))
    inside = [2 * step, step, 0, step, 2 * step]
    one_seed_differs = {(3, 0): -step - 4}
    flat = {(1, 0): -9.0, (2, 3): -9.0, (4, 1): -6.0, (4, 2): -6.0, (0, 4): 5.0}
    tables = [
        _table(generator, inside, odd=one_seed_differs, lucky=0),
        _table(generator, [0.0] * 5, odd=flat),
        _table(generator, [0, step, 2 * step, 3 * step, 4 * step]),
        _table(generator, [3 * step, 2 * step, step, 0, 1], noise=3),
        _table(generator, [10 * depth for depth in inside]),
    ]
    return [Case((table,)) for table in tables]


def _on_copy(function: Callable) -> Callable:
    if not callable(function):
        fail(f"a function is needed, got {type(function).__name__}.")

    def call(runs: pd.DataFrame, **settings: Any) -> Any:
        return function(runs.copy(), **settings)

    call.__name__ = name_of(function)
    return call


def _by_temperature(runs: pd.DataFrame, column: str = "held_out_errors") -> pd.DataFrame:
    return runs.pivot(index="temperature", columns="seed", values=column).sort_index()


def _curve(runs: pd.DataFrame, *, images: int, column: str = "held_out_errors") -> tuple[list[float], ...]:
    shares = 1 - _by_temperature(runs, column) / images
    return tuple(map(list, zip(*(_mean_interval(row.tolist()) for _, row in shares.iterrows()), strict=True)))


def _curve_with(change: Callable[[pd.Series], tuple[float, float, float]]) -> Callable:
    def wrong(runs: pd.DataFrame, *, images: int) -> tuple[list[float], ...]:
        shares = 1 - _by_temperature(runs) / images
        return tuple(map(list, zip(*(change(row) for _, row in shares.iterrows()), strict=True)))

    return wrong


def _around(mean: float, half: float) -> tuple[float, float, float]:
    return mean, mean - half, mean + half


CURVE_SLIPS = (
    Slip(
        "These are the test images. They are for the report at the end; what helps to choose T is no test any more.",
        lambda runs, *, images: _curve(runs, images=images, column="test_errors"),
    ),
    Slip("This is the share of errors, not of right answers.", _curve_with(lambda row: _student(1 - row))),
    Slip("This is in percent; shares in [0, 1] are asked for.", _curve_with(lambda row: _student(100 * row))),
    Slip("The ends are one standard deviation away: that is the spread of single runs, not the interval of their mean.",
         _curve_with(lambda row: _around(row.mean(), row.std()))),
    Slip("The ends are one standard error away; a 95 % interval needs Student's t on top.",
         _curve_with(lambda row: _around(row.mean(), row.std() / len(row) ** 0.5))),
    Slip("1.96 is for many seeds. With five, Student's t is needed.",
         _curve_with(lambda row: _around(row.mean(), 1.96 * row.std() / len(row) ** 0.5))),
    Slip("These are the worst and the best run, not an interval of the mean.",
         _curve_with(lambda row: (row.mean(), row.min(), row.max()))),
)  # fmt: skip


def _student(row: pd.Series) -> tuple[float, float, float]:
    return _mean_interval(row.tolist())


def _neighbours(runs: pd.DataFrame, best: float) -> list[tuple[float, float, float]]:
    """The paired intervals of the temperatures beside the best one, neighbour minus best."""
    errors = _by_temperature(runs)
    place = list(errors.index).index(best)
    beside = [errors.index[i] for i in (place - 1, place + 1) if 0 <= i < len(errors)]
    return [(float(t), *_mean_interval((errors.loc[t] - errors.loc[best]).tolist())[1:]) for t in beside]


def _optimum(runs: pd.DataFrame) -> tuple[float, bool]:
    best = float(_by_temperature(runs).mean(axis=1).idxmin())
    return best, all(low > 0 for _, low, _ in _neighbours(runs, best))


def _chosen_by(choose: Callable[[pd.DataFrame], float]) -> Callable:
    def wrong(runs: pd.DataFrame) -> tuple[float, bool]:
        best = float(choose(runs))
        return best, all(low > 0 for _, low, _ in _neighbours(runs, best))

    return wrong


def _lowest(column: str) -> Callable[[pd.DataFrame], float]:
    return lambda runs: runs.groupby("temperature")[column].mean().idxmin()


def _clear_if(judge: Callable[[pd.DataFrame, float], bool]) -> Callable:
    def wrong(runs: pd.DataFrame) -> tuple[float, bool]:
        best, _ = _optimum(runs)
        return best, judge(_by_temperature(runs), best)

    return wrong


def _beside(errors: pd.DataFrame, best: float) -> list[Any]:
    place = list(errors.index).index(best)
    return [errors.iloc[i] for i in (place - 1, place + 1) if 0 <= i < len(errors)]


def _unpaired(errors: pd.DataFrame, best: float) -> bool:
    own = _mean_interval(errors.loc[best].tolist())
    return all(_mean_interval(row.tolist())[1] > own[2] for row in _beside(errors, best))


def _all_differences(errors: pd.DataFrame, best: float) -> bool:
    return all(((row - errors.loc[best]) > 0).all() for row in _beside(errors, best))


TEST_CHOICE = (
    "T is chosen by test errors. Then the test images have helped to build the student, and nothing is left that could "
    "say how good it is. Choose on the held-out ones."
)
OPTIMUM_SLIPS = (
    Slip(TEST_CHOICE, _chosen_by(_lowest("test_errors"))),
    Slip(
        "T is chosen by the training loss. T is part of that loss: its values at two temperatures are of two different "
        "things and cannot be compared. Count errors.",
        _chosen_by(_lowest("train_loss")),
    ),
    Slip(
        "T is chosen by the loss on held-out images. It rewards being less sure, which T itself changes; the question "
        "was about errors.",
        _chosen_by(_lowest("held_out_loss")),
    ),
    Slip(
        "T is chosen from one seed. Another seed would choose another T: take the mean over seeds.",
        _chosen_by(lambda runs: runs[runs.seed == runs.seed.min()].set_index("temperature").held_out_errors.idxmin()),
    ),
    Slip(
        "T is that of the luckiest single run. Take the mean over seeds first, then the smallest.",
        _chosen_by(lambda runs: runs.set_index("temperature").held_out_errors.reset_index(drop=True).pipe(
            lambda errors: runs.temperature.iloc[errors.idxmin()])),
    ),
    Slip(
        "This is the T with most errors.",
        _chosen_by(lambda runs: runs.groupby("temperature").held_out_errors.mean().idxmax()),
    ),
    Slip(
        "Every optimum is called clear. The smallest of five means always exists, also where T does nothing at all.",
        _clear_if(lambda errors, best: True),
    ),
    Slip("No optimum is ever called clear.", _clear_if(lambda errors, best: False)),
    Slip(
        "Clear is asked of two intervals that do not overlap, each of one T alone. Runs of one seed are a pair: "
        "subtract first, and what both share falls out.",
        _clear_if(_unpaired),
    ),
    Slip(
        "Clear is asked of each single seed. An interval of the mean difference is needed; one seed may differ.",
        _clear_if(_all_differences),
    ),
    Slip(
        "An optimum at the end of the list has one neighbour, and counts as clear when that one is clearly worse.",
        _clear_if(lambda errors, best: len(_beside(errors, best)) == 2 and all(
            _mean_interval((row - errors.loc[best]).tolist())[1] > 0 for row in _beside(errors, best))),
    ),
    Slip(
        "One clearly worse neighbour is not enough where there are two.",
        _clear_if(lambda errors, best: any(
            _mean_interval((row - errors.loc[best]).tolist())[1] > 0 for row in _beside(errors, best))),
    ),
)  # fmt: skip
