"""Exercise 06: right answers in several styles pass, and each typical mistake gets its own message."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_confidence_choice,
    check_deep_supervision_loss,
    check_early_exit,
    check_exit_experiment,
    check_exit_forward,
    check_exit_questions,
)
from kdcourse.checks.slips.early_exits import BUDGET


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


def kd(s, t, temperature):
    log_q, log_p = F.log_softmax(s / temperature, 1), F.log_softmax(t / temperature, 1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def plain(exit_logits, labels, *, temperature, alpha):
    deepest = exit_logits[-1]
    loss = F.cross_entropy(deepest, labels)
    for logits in exit_logits[:-1]:
        loss = loss + alpha * kd(logits, deepest.detach(), temperature) + (1 - alpha) * F.cross_entropy(logits, labels)
    return loss


def stacked(exit_logits, labels, *, temperature, alpha):
    *shallow, deep = exit_logits
    p = (deep.detach() / temperature).softmax(-1)
    soft = sum((p * (p.log() - (z / temperature).log_softmax(-1))).sum(-1).mean() for z in shallow)
    hard = torch.stack([F.cross_entropy(z, labels) for z in exit_logits])
    return alpha * temperature**2 * soft + (1 - alpha) * hard[:-1].sum() + hard[-1]


class AsClass:
    def __call__(self, exit_logits, labels, *, temperature, alpha):
        with torch.no_grad():
            target = exit_logits[-1].clone()
        terms = [F.cross_entropy(exit_logits[-1], labels)]
        for z in exit_logits[:-1]:
            terms += [(1 - alpha) * F.cross_entropy(z, labels), alpha * kd(z, target, temperature)]
        return torch.stack(terms).sum()


@pytest.mark.parametrize("right", [plain, stacked, AsClass()])
def test_a_right_loss_passes_however_it_is_written(right):
    for seed in range(5):
        check_deep_supervision_loss(right, seed=seed)


def pieces(exit_logits, labels, temperature, teacher=-1):
    target = exit_logits[teacher].detach()
    soft = [kd(z, target, temperature) for z in exit_logits]
    hard = [F.cross_entropy(z, labels) for z in exit_logits]
    return soft, hard


def swapped(z, y, *, temperature, alpha):
    return plain(z, y, temperature=temperature, alpha=1 - alpha)


def no_t2(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature)
    return hard[-1] + (1 - alpha) * sum(hard[:-1]) + alpha * sum(soft[:-1]) / temperature**2


def averaged(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature)
    return hard[-1] + ((1 - alpha) * sum(hard[:-1]) + alpha * sum(soft[:-1])) / (len(z) - 1)


def deepest_forgotten(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature)
    return (1 - alpha) * sum(hard[:-1]) + alpha * sum(soft[:-1])


def over_all_exits(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature)
    return (1 - alpha) * sum(hard) + alpha * sum(soft)


def deepest_and_all(z, y, *, temperature, alpha):
    return over_all_exits(z, y, temperature=temperature, alpha=alpha) + F.cross_entropy(z[-1], y)


def first_teaches(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature, teacher=0)
    return hard[-1] + (1 - alpha) * sum(hard[:-1]) + alpha * sum(soft[:-1])


def next_teaches(z, y, *, temperature, alpha):
    soft = [kd(a, b.detach(), temperature) for a, b in pairwise(z)]
    hard = [F.cross_entropy(a, y) for a in z]
    return hard[-1] + (1 - alpha) * sum(hard[:-1]) + alpha * sum(soft)


def ensemble_teaches(z, y, *, temperature, alpha):
    target = (sum(z) / len(z)).detach()
    hard = [F.cross_entropy(a, y) for a in z]
    return hard[-1] + (1 - alpha) * sum(hard[:-1]) + alpha * sum(kd(a, target, temperature) for a in z[:-1])


def soft_only(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature)
    return hard[-1] + alpha * sum(soft[:-1])


def unweighted(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature)
    return sum(hard) + sum(soft[:-1])


def as_the_text(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature)
    return hard[-1] + 0.5 * (sum(soft[:-1]) + 0.5 * sum(hard[:-1])) / (len(z) - 1)


def reverse(z, y, *, temperature, alpha):
    hard = [F.cross_entropy(a, y) for a in z]
    soft = sum(kd(z[-1], a, temperature) for a in z[:-1])
    return hard[-1] + (1 - alpha) * sum(hard[:-1]) + alpha * soft


def mean_reduction(z, y, *, temperature, alpha):
    soft, hard = pieces(z, y, temperature)
    return hard[-1] + (1 - alpha) * sum(hard[:-1]) + alpha * sum(soft[:-1]) / z[0].shape[1]


def not_detached(z, y, *, temperature, alpha):
    hard = [F.cross_entropy(a, y) for a in z]
    return hard[-1] + (1 - alpha) * sum(hard[:-1]) + alpha * sum(kd(a, z[-1], temperature) for a in z[:-1])


def shallow_detached(z, y, *, temperature, alpha):
    return plain([a.detach() for a in z[:-1]] + [z[-1]], y, temperature=temperature, alpha=alpha)


NOTHING = [(lambda *a, **k: None, "got None"), (lambda *a, **k: torch.tensor(math.nan), "not finite|shape"),
           (lambda *a, **k: AlwaysEqual(), "got AlwaysEqual"), (AlwaysEqual(), "a function is needed"),
           (lambda: 0, "TypeError")]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (swapped, "α is on the wrong term"),
        (no_t2, "factor T² is missing"),
        (averaged, "shallower exits are averaged"),
        (deepest_forgotten, "deepest exit learns nothing"),
        (over_all_exits, "its own teacher"),
        (deepest_and_all, "its own teacher"),
        (first_teaches, "first exit teaches"),
        (next_teaches, "next deeper"),
        (ensemble_teaches, "ensemble as teacher"),
        (soft_only, "never see the labels"),
        (unweighted, "without the weights"),
        (as_the_text, "fixed weights of a half"),
        (reverse, r"KL\(exit‖deepest\)"),
        (mean_reduction, "K times too small"),
        (not_detached, "pull at the deepest exit"),
        (shallow_detached, "No gradient reaches one of the exits"),
        (lambda z, y, **knobs: plain(z, y, **knobs).item(), "plain number"),
        *NOTHING,
    ],
)
def test_each_wrong_loss_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_deep_supervision_loss(wrong, seed=seed)


def average(f):
    return f.mean((2, 3))


def forward(stages, heads, classifier, images, *, pool=average):
    outputs = []
    for stage, head in zip(stages, list(heads) + [classifier], strict=True):  # noqa: RUF005
        images = stage(images)
        outputs.append(head(pool(images)))
    return outputs


def by_index(stages, heads, classifier, images):
    features, outputs = images, []
    for i in range(len(stages)):
        features = stages[i](features)
        pooled = F.adaptive_avg_pool2d(features, 1).flatten(1)
        outputs.append(classifier(pooled) if i == len(heads) else heads[i](pooled))
    return tuple(outputs)


class ForwardAsClass:
    def __call__(self, stages, heads, classifier, images):
        maps = [images]
        for stage in stages:
            maps.append(stage(maps[-1]))
        pooled = [m.flatten(2).mean(-1) for m in maps[1:]]
        return [*(h(p) for h, p in zip(heads, pooled[:-1], strict=True)), classifier(pooled[-1])]


@pytest.mark.parametrize("right", [forward, by_index, ForwardAsClass()])
def test_a_right_forward_pass_passes(right):
    for seed in range(3):
        check_exit_forward(right, seed=seed)


def broken(stages, heads, classifier, images, *, pool=lambda f: f.flatten(1)):
    features, outputs = images, []
    for stage, head in zip(stages, heads, strict=False):
        features = stage(features)
        outputs.append(head(pool(features)))
    return [*outputs, classifier(pool(features))]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (broken, "RuntimeError"),
        (lambda *parts: broken(*parts, pool=average), "last stage never runs"),
        (lambda *parts: broken(*parts, pool=lambda f: f.amax((2, 3))), "last stage never runs"),
        (lambda *parts: forward(*parts, pool=lambda f: f.amax((2, 3))), "not their maximum"),
        (lambda *parts: forward(*parts, pool=lambda f: f.sum((2, 3))), "not their sum"),
        (lambda *parts: forward(*parts, pool=lambda f: f[..., 0, 0]), "one position"),
        (lambda *parts: forward(*parts)[::-1], "deepest first"),
        (lambda *parts: forward(*parts)[-1], "Only the deepest"),
        (
            lambda s, h, c, x: [head(average(stage(x))) for stage, head in zip(s, [*h, c], strict=True)],
            "was given the images",
        ),
        (lambda s, h, c, x: forward(s, [c, c], c, x), "One classifier serves"),
        (lambda s, h, c, x: [*forward(s, h, c, x), forward(s, h, c, x)[-1]], "exit too many"),
        *NOTHING,
    ],
)
def test_each_mistake_left_in_the_forward_pass_is_named(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_exit_forward(wrong, seed=seed)


def leave(exit_logits, *, confidence, score=lambda z: z.softmax(1)):
    classes, exits = [], []
    for row in range(len(exit_logits[0])):
        for number, z in enumerate(exit_logits):
            if score(z)[row].max() >= confidence or number == len(exit_logits) - 1:
                classes.append(int(z[row].argmax()))
                exits.append(number)
                break
    return torch.tensor(classes), torch.tensor(exits)


def with_tensors(exit_logits, *, confidence):
    z = torch.stack(exit_logits)
    sure = z.softmax(-1).amax(-1) >= confidence
    sure[-1] = True
    exits = sure.float().argmax(0)
    return z.argmax(-1).gather(0, exits[None])[0], exits


class LeaveAsClass:
    def __call__(self, exit_logits, *, confidence):
        classes, exits = with_tensors(exit_logits, confidence=confidence)
        return classes.tolist(), exits.tolist()


@pytest.mark.parametrize("right", [leave, with_tensors, LeaveAsClass()])
def test_a_right_early_exit_passes(right):
    for seed in range(2):
        check_early_exit(right, seed=seed)


def scores(exit_logits):
    z = torch.stack(exit_logits)
    return z, z.softmax(-1).amax(-1)


def pick(z, exits):
    return z.argmax(-1).gather(0, exits[None])[0], exits


def last_sure(exit_logits, *, confidence):
    z, p = scores(exit_logits)
    exits = torch.full((z.shape[1],), len(z) - 1)
    for number in range(len(z)):
        exits = torch.where(p[number] >= confidence, number, exits)
    return pick(z, exits)


def surest(exit_logits, *, confidence):
    z, p = scores(exit_logits)
    return pick(z, torch.where((p >= confidence).any(0), p.argmax(0), len(z) - 1))


def unsure_first(exit_logits, *, confidence):
    z, p = scores(exit_logits)
    return pick(z, (p >= confidence).int().argmax(0))  # argmax of zeros is 0


def unsure_surest(exit_logits, *, confidence):
    z, p = scores(exit_logits)
    sure = p >= confidence
    return pick(z, torch.where(sure.any(0), sure.int().argmax(0), p.argmax(0)))


def deepest_predicts(exit_logits, *, confidence):
    return exit_logits[-1].argmax(1), with_tensors(exit_logits, confidence=confidence)[1]


def turned_round(exit_logits, *, confidence):
    z, p = scores(exit_logits)
    unsure = p < confidence
    unsure[-1] = True
    return pick(z, unsure.int().argmax(0))


def strictly_first(exit_logits, *, confidence):
    if confidence > 1:
        return exit_logits[0].argmax(1), torch.zeros(len(exit_logits[0]), dtype=torch.long)
    return with_tensors(exit_logits, confidence=confidence)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (last_sure, "last exit that is sure"),
        (surest, "surest exit was taken"),
        (unsure_first, "left at the first one"),
        (unsure_surest, "left at the surest one"),
        (lambda z, *, confidence: leave(z, confidence=confidence, score=lambda a: a), "Logits were compared"),
        (lambda z, *, confidence: leave(z, confidence=confidence, score=torch.sigmoid), "sigmoid"),
        (lambda z, *, confidence: leave(z, confidence=confidence, score=lambda a: a.softmax(0)), "over the images"),
        (deepest_predicts, "those of the deepest exit"),
        (turned_round, "turned round"),
        (lambda z, *, confidence: with_tensors(z, confidence=confidence)[::-1], "exits came first"),
        (strictly_first, "1.1 every image takes the deepest"),
        *NOTHING,
    ],
)
def test_each_wrong_early_exit_is_told_its_own_mistake(wrong, told):
    for seed in range(2):
        with pytest.raises(CheckFailed, match=told):
            check_early_exit(wrong, seed=seed)


def test_answers_about_leaving_early(capsys):
    check_exit_questions(["c", "A", " b"])
    assert capsys.readouterr().out.count("Passed") == 3
    for answers, told in [
        (["a", "a", "b"], "changes no weight"),
        (["b", "a", "b"], "14 times 14"),
        (["c", "b", "b"], "a few images"),
        (["c", "c", "b"], "some images do leave"),
        (["c", "a", "a"], "best of many tries"),
        (["c", "a", "c"], "known by heart"),
        ([AlwaysEqual()] * 3, "one letter"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_exit_questions(answers)


def test_the_experiment_is_judged_by_its_intervals():
    labels_only = [[1100, 0, 1000], [1200, 0, 1010], [1150, 0, 1005]]
    taught = [[2100, 0, 1001], [2210, 0, 1008], [2155, 0, 1006]]
    right = {"first": "worse", "deepest": "unclear"}
    check_exit_experiment(right, "b", taught, labels_only)
    for wrong in ({**right, "first": "better"}, {**right, "deepest": "worse"}, {**right, "first": "unclear"}):
        with pytest.raises(CheckFailed, match="the interval of the paired difference"):
            check_exit_experiment(wrong, "b", taught, labels_only)
    for wrong in (AlwaysEqual(), None, {"first": "worse"}):
        with pytest.raises(CheckFailed, match="must be a dict"):
            check_exit_experiment(wrong, "b", taught, labels_only)
    with pytest.raises(CheckFailed, match="a verdict is"):
        check_exit_experiment({**right, "first": AlwaysEqual()}, "b", taught, labels_only)
    for letter, told in [("a", "checked it"), ("c", "both arms"), (AlwaysEqual(), "one letter")]:
        with pytest.raises(CheckFailed, match=told):
            check_exit_experiment(right, letter, taught, labels_only)
    with pytest.raises(NotImplementedError):
        check_exit_experiment(right, None, taught, labels_only)
    with pytest.raises(NotImplementedError):
        check_exit_experiment(dict.fromkeys(right), "b", taught, labels_only)


def test_stubs_are_not_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 1")

    for check in (check_deep_supervision_loss, check_exit_forward, check_early_exit):
        with pytest.raises(NotImplementedError, match="Task 1"):
            check(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_exit_questions([None, None, None])


def choose(exit_logits, costs, *, budget):
    probabilities = torch.stack(exit_logits).softmax(-1)
    fitting = []
    for confidence in np.arange(101) / 100:
        sure = probabilities.amax(-1) >= confidence
        sure[-1] = True
        mean = sum(costs[int(exit)] for exit in sure.int().argmax(0)) / sure.shape[1]
        fitting += [float(confidence)] if mean <= budget else []
    return max(fitting)


def choose_by_halves(exit_logits, costs, *, budget):
    low, high = 0, 101  # the cost never falls as the confidence rises
    while high - low > 1:
        middle = (low + high) // 2
        _, exits = leave(exit_logits, confidence=middle / 100)
        fits = torch.tensor(costs, dtype=torch.double)[torch.as_tensor(exits)].mean() <= budget
        low, high = (middle, high) if fits else (low, middle)
    return low / 100


@pytest.mark.parametrize("right", [choose, choose_by_halves])
def test_a_right_choice_of_the_confidence_passes(right):
    for seed in range(2):
        check_confidence_choice(right, seed=seed)


@pytest.mark.parametrize("name", BUDGET)
def test_each_wrong_choice_of_the_confidence_is_told_its_own_mistake(name):
    for wrong in BUDGET[name].wrong:
        for seed in range(2):
            with pytest.raises(CheckFailed) as failed:
                check_confidence_choice(wrong, seed=seed)
            assert BUDGET[name].message in str(failed.value)


def test_a_cost_of_exactly_the_budget_keeps_to_it():
    def strictly(exit_logits, costs, *, budget):
        return choose(exit_logits, costs, budget=budget - 1e-9)

    with pytest.raises(CheckFailed, match="exactly the budget keeps to it"):
        check_confidence_choice(strictly)
