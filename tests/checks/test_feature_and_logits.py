"""Exercise 14: right answers in several styles pass, and each typical mistake gets its own message."""

import math
import statistics
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_candidates,
    check_combination_verdicts,
    check_combined_objective,
    check_run,
    check_search,
)
from kdcourse.data import Minibatches
from kdcourse.recipes import make_adam
from kdcourse.training import count_errors, fit


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


def kl(s, t, temperature):
    return F.kl_div(
        F.log_softmax(s / temperature, 1), F.log_softmax(t / temperature, 1), reduction="batchmean", log_target=True
    )


def objective(
    student, images, labels, teacher_logits, teacher_features, *, regressor, temperature, alpha, feature_weight,
    hint=F.mse_loss, detach=True, detach_features=True, t2=True, weight=None, total=1.0, ce_share=None, kd_share=None,
    use_regressor=True, cut=False,
):  # fmt: skip
    z, f = (teacher_logits.detach() if detach else teacher_logits), teacher_features
    f = f.detach() if detach_features else f
    features = student[:-1](images)
    logits = student[-1](features)
    features = features.detach() if cut else features
    guided = regressor(features) if use_regressor else features
    w = feature_weight if weight is None else weight
    others = total(w) if callable(total) else total
    a = alpha if kd_share is None else kd_share(alpha)
    b = 1 - alpha if ce_share is None else ce_share(alpha)
    return {
        "kd": others * a * (temperature**2 if t2 else 1) * kl(logits, z, temperature),
        "ce": others * b * F.cross_entropy(logits, labels),
        "feature": w * hint(guided, f),
    }


def two_passes(student, x, y, z, f, *, regressor, temperature, alpha, feature_weight):
    with torch.no_grad():
        p = (z / temperature).softmax(-1)
    q = (student(x) / temperature).log_softmax(-1)
    soft = temperature**2 * (torch.einsum("bk,bk->b", p, p.log() - q)).mean()
    hint = (regressor(student[:-1](x)) - f.detach()).pow(2).mean()
    return {"soft": alpha * soft, "hint": feature_weight * hint, "hard": (1 - alpha) * F.cross_entropy(student(x), y)}


class ObjectiveAsClass:
    def __call__(self, student, images, labels, teacher_logits, teacher_features, **knobs):
        terms = objective(student, images, labels, teacher_logits, teacher_features, **knobs)
        return {"loss": terms["kd"] + terms["ce"] + terms["feature"]}


@pytest.mark.parametrize("right", [objective, two_passes, ObjectiveAsClass()])
def test_a_right_objective_passes_however_it_is_written(right):
    for seed in range(4):
        check_combined_objective(right, seed=seed)


def frozen_regressor(student, x, y, z, f, *, regressor, **knobs):
    weight, bias = (p.detach() for p in regressor.parameters())
    return objective(student, x, y, z, f, regressor=lambda v: F.linear(v, weight[:, :, 0, 0], bias), **knobs)


NOTHING = [(lambda *a, **k: None, "got NoneType"), (lambda *a, **k: AlwaysEqual(), "got AlwaysEqual"),
           (lambda *a, **k: math.nan, "got float"), (AlwaysEqual(), "a function is needed"),
           (lambda: 0, "TypeError")]  # fmt: skip


def unit_mse(s, t):
    return F.mse_loss(F.normalize(s), F.normalize(t))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (partial(objective, weight=1.0), "feature term is not scaled"),
        (partial(objective, kd_share=lambda a: 1 - a, ce_share=lambda a: a), "α is on the wrong term"),
        (partial(objective, total=lambda w: w), "multiplies the other terms"),
        (partial(objective, total=lambda w: 1 - w), "multiplied by 1 - weight"),
        (partial(objective, kd_share=lambda a: 1, ce_share=lambda a: 1), "without α and 1 - α"),
        (partial(objective, use_regressor=False), "regressor was left out"),
        (partial(objective, hint=unit_mse), "normalised first"),
        (partial(objective, hint=lambda s, t: (s - t).pow(2).sum(1).mean()), "summed over the features"),
        (partial(objective, hint=lambda s, t: (s - t).pow(2).sum()), "summed over batch and features"),
        (partial(objective, t2=False), "T² is missing"),
        (partial(objective, cut=True), "reaches the student: its features are detached"),
        (frozen_regressor, "regressor does not learn"),
        (partial(objective, detach=False), "reaches the teacher's logits or features"),
        (partial(objective, detach_features=False), "reaches the teacher's logits or features"),
        (lambda *a, **k: sum(objective(*a, **k).values()), "dict of terms"),
        (lambda *a, **k: {"nothing": torch.tensor(math.nan)}, "No gradient reaches the student"),
        *NOTHING,
    ],
)
def test_each_wrong_objective_is_told_its_own_mistake(wrong, told):
    for seed in range(4):
        with pytest.raises(CheckFailed, match=told):
            check_combined_objective(wrong, seed=seed)


def run(
    make_student, make_regressor, objective, data, *, seed, epochs, regressor_first=False, learned="both", order=None,
    seeded=True, lr=1e-2, factor=1, batch_size=100,
):  # fmt: skip
    """A loop of its own, so that what the course's loop refuses can be tried."""
    if seeded:
        torch.manual_seed(seed)
    if regressor_first:
        regressor, student = make_regressor(), make_student()
    else:
        student, regressor = make_student(), make_regressor()
    parts = {"both": [student, regressor], "student": [student], "regressor": [regressor]}[learned]
    optimizer = torch.optim.Adam([p for part in parts for p in part.parameters()], lr=lr)
    generator = torch.Generator().manual_seed(seed if order is None else order)
    for batch in Minibatches(*data, batch_size=batch_size, epochs=int(factor * epochs), generator=generator):
        student.train()
        loss = sum(objective(student, *batch, regressor=regressor).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def with_fit(make_student, make_regressor, objective, data, *, seed, epochs, parameters=None, **changes):
    torch.manual_seed(seed)
    student = make_student()
    regressor = make_regressor()
    optimizer = make_adam([*student.parameters(), *([] if parameters else regressor.parameters())], lr=1e-2)
    bound = lambda *batch: objective(*batch, regressor=regressor)  # noqa: E731
    fit(student, data, bound, optimizer, epochs=epochs, batch_size=100, seed=seed, progress=False)
    return student


class RunAsClass:
    def __call__(self, *args, **knobs):
        return with_fit(*args, **knobs).eval()


@pytest.mark.parametrize("right", [run, with_fit, RunAsClass()])
def test_a_right_run_passes(right):
    for seed in range(3):
        check_run(right, seed=seed)


def hints_first(make_student, make_regressor, objective, data, *, seed, epochs):
    """Two stages: the second has the whole budget, the first comes on top."""
    torch.manual_seed(seed)
    student, regressor = make_student(), make_regressor()
    bound = partial(objective, regressor=regressor)
    for _ in range(2):
        optimizer = make_adam([*student.parameters(), *regressor.parameters()], lr=1e-2)
        fit(student, data, bound, optimizer, epochs=epochs, batch_size=100, seed=seed, progress=False)
    return student


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (partial(run, learned="student"), "regressor is not trained"),
        (partial(with_fit, parameters="student"), "the optimizer does not hold"),
        (partial(run, learned="regressor"), "Only the regressor is trained"),
        (partial(run, regressor_first=True), "drawn before the student"),
        (partial(run, order=0), "has seed 0 in every run"),
        (partial(run, seeded=False), "manual_seed"),
        (partial(run, seeded=False, order=0), "Neither the start"),
        (partial(run, lr=1e-3), "learning rate is another"),
        (partial(run, batch_size=128), "batches have another size"),
        (partial(run, batch_size=50), "unequal budgets"),
        (partial(run, factor=2), "unequal budgets"),
        (partial(run, factor=0.5), "unequal budgets"),
        (hints_first, "unequal budgets"),
        *NOTHING,
    ],
)
def test_each_wrong_run_is_told_its_own_mistake(wrong, told):
    for seed in range(2):
        with pytest.raises(CheckFailed, match=told):
            check_run(wrong, seed=seed)


def search(candidates, run, data, *, seeds, split="held_out", reduce=statistics.fmean, choose=min):
    def score(candidate):
        return reduce([count_errors(run(seed=seed, **candidate), *data[split]) for seed in seeds])

    return choose(candidates, key=score)


def in_a_loop(candidates, run, data, *, seeds):
    best, fewest = None, math.inf
    images, labels = data["held_out"]
    for candidate in candidates:
        errors = 0
        for seed in seeds:
            student = run(alpha=candidate["alpha"], feature_weight=candidate["feature_weight"], seed=seed).eval()
            errors += (student(images).argmax(1) != labels).sum().item()
        if errors < fewest:
            best, fewest = candidate, errors
    return dict(best)


class SearchAsClass:
    def __call__(self, candidates, run, data, *, seeds):
        return search(candidates, run, data, seeds=seeds, reduce=sum)


@pytest.mark.parametrize("right", [search, in_a_loop, SearchAsClass()])
def test_a_right_search_passes(right):
    for seed in range(5):
        check_search(right, seed=seed)


def both_splits(candidates, run, data, *, seeds):
    def score(candidate):
        students = [run(seed=seed, **candidate) for seed in seeds]
        return sum(count_errors(s, *data["held_out"]) + count_errors(s, *data["test"]) for s in students)

    return min(candidates, key=score)


def peeks(candidates, run, data, *, seeds):
    count_errors(run(seed=seeds[0], **candidates[0]), *data["test"])
    return search(candidates, run, data, seeds=seeds)


def overwrites(candidates, run, data, *, seeds):
    scores = []
    for candidate in candidates:
        for seed in seeds:
            errors = count_errors(run(seed=seed, **candidate), *data["held_out"])
        scores.append(errors)
    return candidates[scores.index(min(scores))]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (partial(search, split="test"), "chosen by test errors"),
        (both_splits, "had a say"),
        (partial(search, split="train"), "know by heart"),
        (partial(search, reduce=min), "lucky run"),
        (partial(search, reduce=lambda found: found[0]), "Only one of the seeds"),
        (overwrites, "Only one of the seeds"),
        (partial(search, choose=max), "most held-out errors"),
        (peeks, "looked at during the search"),
        (lambda c, run, data, *, seeds: c.index(search(c, run, data, seeds=seeds)), "got int"),
        *NOTHING,
    ],
)
def test_each_wrong_search_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_search(wrong, seed=seed)


def tries(*pairs):
    return [{"alpha": alpha, "feature_weight": weight} for alpha, weight in pairs]


GOOD = {
    "logits": tries((0.3, 0), (0.6, 0), (0.9, 0)),
    "features": tries((0, 1), (0, 10), (0, 100)),
    "both": tries((0.5, 1), (0.5, 10), (0.9, 10)),
}


def test_every_arm_is_searched_equally_long():
    check_candidates(GOOD)
    for wrong, told in [
        ({**GOOD, "both": [*GOOD["both"], *tries((0.9, 1))]}, "unequal search"),
        ({**GOOD, "both": tries((0.5, 1), (0.5, 1), (0.9, 10))}, "unequal search"),
        ({arm: found[:2] for arm, found in GOOD.items()}, "no search"),
        ({**GOOD, "both": [*GOOD["both"][:2], *tries((0.9, 0))]}, "another arm"),
        ({**GOOD, "logits": GOOD["both"]}, "another arm"),
        ({**GOOD, "features": GOOD["both"]}, "another arm"),
        ({**GOOD, "both": tries((0.5, 1), (1.5, 10), (0.9, 10))}, "alpha must be in"),
        ({**GOOD, "both": tries((0.5, 1), (math.nan, 10), (0.9, 10))}, "alpha must be in"),
        ({**GOOD, "both": tries((0.5, 1), (AlwaysEqual(), 10), (0.9, 10))}, "got AlwaysEqual"),
        ({**GOOD, "both": [0.5, 0.6, 0.7]}, "list of dicts"),
        ({"both": GOOD["both"]}, "with the keys"),
        (AlwaysEqual(), "with the keys"),
        (None, "with the keys"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_candidates(wrong)
    with pytest.raises(NotImplementedError):
        check_candidates({"logits": [], "features": [], "both": []})


def test_verdicts_are_what_the_intervals_say():
    errors = {
        "both": [970, 985, 960],
        "logits": [975, 980, 968],
        "features": [1010, 1030, 1002],
        "no_teacher": [1300, 1310, 1290],
        "label_smoothing": [900, 910, 893],
    }
    right = {"logits": "unclear", "features": "better", "no_teacher": "better", "label_smoothing": "worse"}
    check_combination_verdicts(right, errors)
    for name in right:
        for other in {"better", "worse", "unclear"} - {right[name]}:
            with pytest.raises(CheckFailed, match="the interval of the paired difference"):
                check_combination_verdicts({**right, name: other}, errors)
        with pytest.raises(NotImplementedError):
            check_combination_verdicts({**right, name: None}, errors)
        with pytest.raises(CheckFailed, match="a verdict is"):
            check_combination_verdicts({**right, name: AlwaysEqual()}, errors)
        with pytest.raises(CheckFailed, match="there is no verdict"):
            check_combination_verdicts({key: word for key, word in right.items() if key != name}, errors)
    for wrong in (AlwaysEqual(), None):
        with pytest.raises(CheckFailed, match="must be the dict"):
            check_combination_verdicts(wrong, errors)


def test_stubs_are_not_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 1")

    for check in (check_combined_objective, check_run, check_search):
        with pytest.raises(NotImplementedError, match="Task 1"):
            check(stub)
