"""Exercise 13: right answers in several styles pass, and each typical mistake gets its own message."""

import math
import statistics

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_accuracy_curve,
    check_find_optimum,
    check_optimum,
    check_sweep_objective,
    check_sweep_questions,
    check_sweep_runs,
)
from kdcourse.losses import kd_loss
from kdcourse.recipes import distill
from kdcourse.sweeps import mean_interval, sweep
from kdcourse.training import count_errors, fit


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


NOT_A_FUNCTION = [(AlwaysEqual(), "a function is needed"), (None, "a function is needed")]


def each_is_told(check, wrong, told, seeds=5):
    for seed in range(seeds):
        with pytest.raises(CheckFailed, match=told):
            check(wrong, seed=seed)


def with_kl_div(s, t, T):
    log_q, log_p = F.log_softmax(s / T, 1), F.log_softmax(t.detach() / T, 1)
    return T**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def written_out(s, t, T):
    log_q, log_p = F.log_softmax(s / T, 1), F.log_softmax(t.detach() / T, 1)
    return T * T * torch.einsum("bk,bk->", log_p.exp(), log_p - log_q) / len(s)


def from_the_course(s, t, T):
    return kd_loss(s, t, temperature=T)


def objective(kd=from_the_course, *, swap=False, soft_labels=False, weights=True, t2_on_labels=False):
    def my_objective(student, images, labels, teacher_logits, *, temperature, alpha):
        logits = student(images)
        hard = F.cross_entropy(logits / temperature if soft_labels else logits, labels)
        hard = hard * temperature**2 if t2_on_labels else hard
        a, b = (1 - alpha, alpha) if swap else (alpha, 1 - alpha)
        a, b = (a, b) if weights else (1, 1)
        return {"kd": a * kd(logits, teacher_logits, temperature), "ce": b * hard}

    return my_objective


class Objective:
    def __call__(self, student, images, labels, teacher_logits, *, temperature=4, alpha=0.9):
        return objective()(student, images, labels, teacher_logits, temperature=temperature, alpha=alpha)


@pytest.mark.parametrize("right", [objective(), objective(with_kl_div), objective(written_out), Objective()])
def test_a_right_objective_passes(right):
    for seed in [*range(5), None]:
        check_sweep_objective(right, seed=seed)


def not_detached(s, t, T):
    log_q, log_p = F.log_softmax(s / T, 1), F.log_softmax(t / T, 1)
    return T**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def careful(s, t, T):
    if T <= 0:
        raise ValueError("T must be positive")
    return written_out(s, t, T)


def one_number(student, images, labels, teacher_logits, *, temperature, alpha):
    return sum(objective()(student, images, labels, teacher_logits, temperature=temperature, alpha=alpha).values())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (objective(lambda s, t, T: written_out(s, t, T) / T**2), "factor T² is missing"),
        (objective(lambda s, t, T: written_out(s, t, T) / T), "T times too small"),
        (objective(lambda s, t, T: written_out(s, t, T) / s.shape[1]), "K times too small"),
        (objective(lambda s, t, T: written_out(s, t, T) * len(s)), "summed over the batch"),
        (objective(lambda s, t, T: written_out(t, s, T)), r"KL\(student‖teacher\)"),
        (objective(lambda s, t, T: written_out(s * T, t, T)), "Only the teacher is softened"),
        (objective(swap=True), "α is on the wrong term"),
        (objective(soft_labels=True), "sees softened logits"),
        (objective(t2_on_labels=True), "multiplies the labels' term"),
        (objective(weights=False), "no weights"),
        (objective(not_detached), "reaches the teacher"),
        (objective(careful), "inside vmap"),
        (objective(lambda s, t, T: written_out(s, t, float(T))), "inside vmap"),
        (one_number, "returns a dict"),
        (lambda *args, **knobs: None, "returns a dict"),
        (lambda *args, **knobs: {"kd": None, "ce": AlwaysEqual()}, "got AlwaysEqual"),
        (lambda *args, **knobs: {"kd": torch.tensor(math.nan), "ce": torch.tensor(1.0)}, "not finite"),
        (lambda student, images: 0, "TypeError"),
        *NOT_A_FUNCTION,
    ],
)
def test_each_wrong_objective_is_told_its_own_mistake(wrong, told):
    each_is_told(check_sweep_objective, wrong, told)


def with_sweep(make_student, data, *, temperatures, seeds, epochs, seed_of=lambda seed, place: seed):
    return sweep(
        make_student=make_student, data=data, seeds=seeds, epochs=epochs, lr=6e-3, objective={"distilled": objective()},
        temperature=list(temperatures), alpha=0.9, progress=False,
    )  # fmt: skip


def with_loop(
    make_student, data, *, temperatures, seeds, epochs, start=lambda seed, place: seed, split="held_out",
    columns=("temperature", "seed", "held_out_errors"), share=False, pass_on=True, reseed=True,
):  # fmt: skip
    rows = []
    for place, temperature in enumerate(temperatures):
        for seed in seeds:
            if reseed:
                torch.manual_seed(start(seed, place))
            student = make_student()

            def my_objective(student, *batch, temperature=temperature):
                return objective()(student, *batch, temperature=temperature if pass_on else 4, alpha=0.9)

            optimizer = torch.optim.Adam(student.parameters(), lr=6e-3)
            fit(student, data["train"], my_objective, optimizer, epochs=epochs, seed=seed, progress=False)
            images, labels = data[split][:2]
            errors = count_errors(student, images, labels)
            rows.append((temperature, seed, errors / len(labels) if share else errors))
    return pd.DataFrame(rows, columns=list(columns))


def loop(**changes):
    return lambda make_student, data, **settings: with_loop(make_student, data, **settings, **changes)


@pytest.mark.parametrize("right", [with_sweep, with_loop])
def test_right_runs_pass(right):
    for seed in [0, None]:
        check_sweep_runs(right, seed=seed)


def untrained(make_student, data, *, temperatures, seeds, epochs):
    torch.manual_seed(0)
    rows = []
    for temperature in temperatures:
        for seed in seeds:
            torch.manual_seed(seed)
            rows.append((temperature, seed, count_errors(make_student(), *data["held_out"]) + (temperature > 1)))
    return pd.DataFrame(rows, columns=["temperature", "seed", "held_out_errors"])


def one_seed(make_student, data, *, temperatures, seeds, epochs):
    return with_sweep(make_student, data, temperatures=temperatures, seeds=seeds[:1], epochs=epochs)


def as_dict(make_student, data, **settings):
    return dict(with_loop(make_student, data, **settings))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (loop(start=lambda seed, place: seed + 100 * place), "3 seeds gave 6 different starts"),
        (loop(start=lambda seed, place: 0), "All students start from the same weights"),
        (loop(reseed=False), "3 seeds gave 6 different starts"),
        (loop(pass_on=False), "does T reach the objective"),
        (loop(split="train"), "200 held-out images"),
        (loop(share=True), "counts of images"),
        (loop(columns=("T", "seed", "held_out_errors")), "no column 'temperature'"),
        (loop(columns=("temperature", "seed", "errors")), "no column 'held_out_errors'"),
        (untrained, "200 held-out images"),
        (one_seed, "Every arm needs every seed"),
        (as_dict, "must return a table"),
        (lambda make_student, data, **settings: None, "got None"),
        (lambda make_student, data, **settings: AlwaysEqual(), "got AlwaysEqual"),
        *NOT_A_FUNCTION,
    ],
)
def test_each_wrong_sweep_is_told_its_own_mistake(wrong, told):
    each_is_told(check_sweep_runs, wrong, told, seeds=2)


def curve(runs, *, images, column="held_out_errors", share=lambda x: x, ends=None):
    means, lows, highs = [], [], []
    for temperature in sorted(runs.temperature.unique()):
        values = [share(1 - e / images) for e in runs.loc[runs.temperature == temperature, column]]
        mean, low, high = mean_interval(values)
        if ends is not None:
            low, high = ends(values, mean)
        means.append(mean)
        lows.append(low)
        highs.append(high)
    return means, lows, highs


def with_groupby(runs, *, images):
    groups = (1 - runs.set_index("temperature").held_out_errors / images).groupby(level=0)
    mean, half = groups.mean(), 2.7764451 * groups.std() / groups.count() ** 0.5
    return [list(mean), (mean - half).to_numpy(), torch.tensor((mean + half).to_numpy())]


@pytest.mark.parametrize("right", [curve, with_groupby])
def test_a_right_curve_passes(right):
    for seed in [*range(5), None]:
        check_accuracy_curve(right, seed=seed)


def around(half):
    return lambda values, mean: (mean - half(values), mean + half(values))


def curve_with(**changes):
    return lambda runs, *, images: curve(runs, images=images, **changes)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (curve_with(column="test_errors"), "test images"),
        (curve_with(share=lambda x: 1 - x), "share of errors"),
        (curve_with(share=lambda x: 100 * x), "in percent"),
        (curve_with(ends=around(statistics.stdev)), "one standard deviation"),
        (curve_with(ends=around(lambda v: statistics.stdev(v) / len(v) ** 0.5)), "one standard error"),
        (curve_with(ends=around(lambda v: 1.96 * statistics.stdev(v) / len(v) ** 0.5)), "1.96 is for many"),
        (curve_with(ends=lambda values, mean: (min(values), max(values))), "worst and the best run"),
        (lambda runs, *, images: None, "got None"),
        (lambda runs, *, images: [AlwaysEqual()] * 3, "got AlwaysEqual"),
        (lambda runs, *, images: [[math.nan] * 5] * 3, "not finite"),
        *NOT_A_FUNCTION,
    ],
)
def test_each_wrong_curve_is_told_its_own_mistake(wrong, told):
    each_is_told(check_accuracy_curve, wrong, told)


def rows_by_seed(runs):
    return {t: group.sort_values("seed").held_out_errors.tolist() for t, group in runs.groupby("temperature")}


def optimum(runs, *, choose=None, judge=None):
    errors = rows_by_seed(runs)
    temperatures = sorted(errors)
    best = min(temperatures, key=lambda t: statistics.fmean(errors[t])) if choose is None else choose(runs)
    place = temperatures.index(best)
    beside = [temperatures[i] for i in (place - 1, place + 1) if 0 <= i < len(temperatures)]
    if judge is not None:
        return best, judge([errors[t] for t in beside], errors[best])
    lows = [mean_interval([a - b for a, b in zip(errors[t], errors[best], strict=True)])[1] for t in beside]
    return best, all(low > 0 for low in lows)


def with_pandas(runs):
    table = runs.pivot(index="seed", columns="temperature", values="held_out_errors")
    best = table.mean().idxmin()
    differences = table.sub(table[best], axis=0)
    low = differences.mean() - 2.7764451 * differences.std() / len(table) ** 0.5
    beside = [t for t in table.columns if t in (best / 2, best * 2)]
    return [best, bool((low[beside] > 0).all())]


@pytest.mark.parametrize("right", [optimum, with_pandas, lambda runs: torch.tensor([float(x) for x in optimum(runs)])])
def test_a_right_choice_passes(right):
    for seed in [*range(4), None]:
        check_find_optimum(right, seed=seed)


def lowest(column, by=pd.Series.idxmin):
    return lambda runs: by(runs.groupby("temperature")[column].mean())


def low_of(row, best):
    return mean_interval([a - b for a, b in zip(row, best, strict=True)])[1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"choose": lowest("test_errors")}, "chosen by test errors"),
        ({"choose": lowest("train_loss")}, "chosen by the training loss"),
        ({"choose": lowest("held_out_loss")}, "loss on held-out images"),
        ({"choose": lambda r: r[r.seed == 0].sort_values("held_out_errors").temperature.iloc[0]}, "from one seed"),
        ({"choose": lambda r: r.loc[r.held_out_errors.idxmin(), "temperature"]}, "luckiest single run"),
        ({"choose": lowest("held_out_errors", pd.Series.idxmax)}, "most errors"),
        ({"judge": lambda beside, best: True}, "Every optimum is called clear"),
        ({"judge": lambda beside, best: False}, "No optimum is ever"),
        (
            {"judge": lambda beside, best: all(mean_interval(r)[1] > mean_interval(best)[2] for r in beside)},
            "do not overlap",
        ),
        (
            {"judge": lambda beside, best: all(a > b for r in beside for a, b in zip(r, best, strict=True))},
            "each single seed",
        ),
        ({"judge": lambda beside, best: len(beside) == 2 and all(low_of(r, best) > 0 for r in beside)}, "end of the"),
        ({"judge": lambda beside, best: any(low_of(r, best) > 0 for r in beside)}, "not enough where there are two"),
    ],
)
def test_each_wrong_choice_is_told_its_own_mistake(changes, told):
    each_is_told(check_find_optimum, lambda runs: optimum(runs, **changes), told, seeds=2)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda runs: None, "got None"),
        (lambda runs: (AlwaysEqual(), True), "got AlwaysEqual"),
        (lambda runs: (math.nan, True), "not finite"),
        (lambda runs: runs.no_such_column, "AttributeError"),
        *NOT_A_FUNCTION,
    ],
)
def test_what_is_no_choice_is_refused(wrong, told):
    each_is_told(check_find_optimum, wrong, told)


def made(curve, wobble):
    rows = [
        (t, seed, e + 10 * seed + wobble * (-1) ** (seed + place))
        for place, (t, e) in enumerate(curve.items())
        for seed in range(5)
    ]
    return pd.DataFrame(rows, columns=["temperature", "seed", "held_out_errors"])


def test_an_answer_is_what_the_runs_say(capsys):
    runs = {
        "small": made({1: 100, 2: 80, 4: 90, 8: 95, 16: 99}, wobble=1),
        "large": made({1: 90, 2: 84, 4: 82, 8: 80, 16: 81}, wobble=8),
    }
    right = {"small": 2, "large": "no clear optimum"}
    check_optimum(right, runs)
    assert capsys.readouterr().out.count("Passed") == 2
    for wrong, told in [
        ({"small": 4}, "does not have the fewest"),
        ({"small": "no clear optimum"}, "there is a clear one"),
        ({"large": 8}, "no more than luck allows"),
        ({"large": 1}, "does not have the fewest"),
        ({"small": "two"}, "an answer is a number or"),
        ({"small": AlwaysEqual()}, "got AlwaysEqual"),
        ({"small": [2, 2]}, "must be one number"),
        ({"small": math.nan}, "does not have the fewest"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_optimum({**right, **wrong}, runs)
    with pytest.raises(NotImplementedError, match="small"):
        check_optimum({"small": None, "large": None}, runs)
    with pytest.raises(CheckFailed, match="must be the dict"):
        check_optimum(AlwaysEqual(), runs)


def test_a_stub_is_not_a_mistake():
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 0")

    for check in (check_sweep_objective, check_sweep_runs, check_accuracy_curve, check_find_optimum):
        with pytest.raises(NotImplementedError, match="Task 0"):
            check(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_sweep_questions([None, None, None])


def test_answers_to_the_questions(capsys):
    check_sweep_questions(["B", " c", "a"])
    assert capsys.readouterr().out.count("Passed") == 3
    for answers, told in [
        ("aca", "true at all four"),
        ("cca", "four noisy numbers around"),
        ("baa", "on the other side"),
        ("bba", "leave out 0"),
        ("bcb", "count of parameters"),
        ("bcc", "both losses"),
        ("bcx", "none of them"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_sweep_questions(list(answers))
    with pytest.raises(CheckFailed, match="one letter"):
        check_sweep_questions([AlwaysEqual()] * 3)


def test_distill_with_a_recipe_passes_too():
    def with_recipe(make_student, data, *, temperatures, seeds, epochs):
        class Cached(torch.nn.Module):
            def forward(self, images):
                return data["train"][2]

        rows = []
        for temperature in temperatures:
            for seed in seeds:
                torch.manual_seed(seed)
                student = make_student()
                split = data["train"][:2]
                distill(student, Cached(), split, temperature=temperature, alpha=0.9, epochs=3 * epochs, seed=seed)
                rows.append((temperature, seed, count_errors(student, *data["held_out"])))
        return pd.DataFrame(rows, columns=["temperature", "seed", "held_out_errors"])

    check_sweep_runs(with_recipe, seed=0)
