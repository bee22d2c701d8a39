"""Exercise 15: right answers in several styles pass, and each typical mistake gets its own message."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_born_again,
    check_born_again_questions,
    check_born_again_verdicts,
    check_chosen,
    check_ensemble,
    check_temperature_choice,
)
from kdcourse.data import Minibatches
from kdcourse.losses import kd_loss
from kdcourse.recipes import make_adam
from kdcourse.recipes.generations import born_again
from kdcourse.training import fit, predict_logits


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


def train_one(model, data, objective, *, epochs, seed):
    optimizer = make_adam(list(model.parameters()), lr=7e-3)
    fit(model, data, objective, optimizer, epochs=epochs, batch_size=100, seed=seed, progress=False)


def logits_in_evaluation(model, images):
    return predict_logits(model, images)


def generations(
    make_model, images, labels, *, temperatures, alpha, seed, epochs, teacher=-1, start=lambda s, g: s + g,
    order=lambda s, g: s + g, schedule=lambda ts, g: ts[g - 1], teach=logits_in_evaluation, again=None, share=None,
    longer=1, freeze=False,
):  # fmt: skip
    models = []
    for g in range(len(temperatures) + 1):
        torch.manual_seed(start(seed, g))
        model = again(models) if again and models else make_model()
        if models:
            data, t = (images, labels, teach(models[teacher], images)), schedule(temperatures, g)
            a = alpha if share is None else share(alpha)
        else:
            data, t, a = (images, labels), None, None

        def objective(student, x, y, z=None, t=t, a=a):
            logits = student(x)
            ce = F.cross_entropy(logits, y)
            return {"ce": ce} if z is None else {"kd": a * kd_loss(logits, z, temperature=t), "ce": (1 - a) * ce}

        train_one(model, data, objective, epochs=longer * epochs, seed=order(seed, g))
        models.append(model.requires_grad_(not freeze))
    return models


def by_hand(make_model, images, labels, *, temperatures, alpha, seed, epochs):
    """A loop of its own, the teacher asked anew for every batch."""
    models = []
    for g, t in enumerate([None, *temperatures]):
        torch.manual_seed(seed + g)
        model = make_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=7e-3)
        order = torch.Generator().manual_seed(seed + g)
        for x, y in Minibatches(images, labels, batch_size=100, epochs=epochs, generator=order):
            model.train()
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            if models:
                teacher = models[-1].eval()
                with torch.no_grad():
                    p = (teacher(x) / t).softmax(-1)
                kd = F.kl_div((logits / t).log_softmax(-1), p, reduction="batchmean")
                loss = alpha * t**2 * kd + (1 - alpha) * loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        models.append(model)
    return tuple(models)


class FromTheRecipe:
    def __call__(self, make_model, images, labels, *, temperatures, alpha, seed, epochs):
        found = born_again(
            make_model, (images, labels), generations=len(temperatures) + 1, temperature=temperatures, alpha=alpha,
            epochs=epochs, batch_size=100, seed=seed, make_optimizer=lambda p: make_adam(p, lr=7e-3),
        )  # fmt: skip
        return found.generations


@pytest.mark.parametrize("right", [generations, by_hand, FromTheRecipe()])
def test_right_generations_pass_however_they_are_written(right):
    for seed in range(2):
        check_born_again(right, seed=seed)


def in_training_mode(model, images):
    with torch.no_grad():
        return model.train()(images)


def training_mode_in_the_loop(make_model, images, labels, *, temperatures, alpha, seed, epochs):
    models = []
    for g, t in enumerate([None, *temperatures]):
        torch.manual_seed(seed + g)
        model = make_model()

        def objective(student, x, y, teacher=models[-1] if models else None, t=t):
            logits = student(x)
            if teacher is None:
                return {"ce": F.cross_entropy(logits, y)}
            kd = kd_loss(logits, teacher(x), temperature=t)  # nobody called eval()
            return {"kd": alpha * kd, "ce": (1 - alpha) * F.cross_entropy(logits, y)}

        train_one(model, (images, labels), objective, epochs=epochs, seed=seed + g)
        for p in model.parameters():
            p.requires_grad_(False)
        models.append(model)
    for model in models:
        model.requires_grad_(True)
    return models


def one_object(make_model, images, labels, *, temperatures, alpha, seed, epochs):
    model = None

    def make_once():
        nonlocal model
        model = model or make_model()
        return model

    return generations(make_once, images, labels, temperatures=temperatures, alpha=alpha, seed=seed, epochs=epochs)


def with_(**changes):
    return lambda *args, **knobs: generations(*args, **knobs, **changes)


NOTHING = [(lambda *a, **k: None, "needed, got NoneType"), (lambda *a, **k: AlwaysEqual(), "needed, got AlwaysEqual"),
           (AlwaysEqual(), "a function is needed"), (lambda: 0, "TypeError"),
           (lambda *a, **k: math.nan, "needed, got float")]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (with_(teach=in_training_mode), "ran in training mode"),
        (training_mode_in_the_loop, "ran in training mode"),
        (with_(teacher=0), "taught by the first one"),
        (with_(share=lambda a: 0.0), "labels alone"),
        (with_(start=lambda s, g: s), "start from the same weights"),
        (with_(order=lambda s, g: s), "same order"),
        (with_(start=lambda s, g: s, order=lambda s, g: s), "All generations have one seed"),
        (one_object, "one object"),
        (with_(again=lambda models: models[-1]), "one object"),
        (with_(again=lambda models: copy.deepcopy(models[-1])), "starts from its teacher's weights"),
        (with_(schedule=lambda ts, g: ts[0]), "T of another generation"),
        (with_(schedule=lambda ts, g: ts[-1]), "T of another generation"),
        (with_(schedule=lambda ts, g: ts[min(g, len(ts) - 1)]), "T of another generation"),
        (with_(schedule=lambda ts, g: ts[-g]), "T of another generation"),
        (with_(schedule=lambda ts, g: ts[g]), "the first learns from the labels alone and has none"),
        (with_(share=lambda a: 1 - a), "α is on the wrong term"),
        (with_(longer=2), "twice as long"),
        (with_(freeze=True), "came back frozen"),
        (with_(teacher=0, share=lambda a: 1 - a), "taught by the first one|α is on the wrong"),
        (lambda *a, **k: generations(*a, **k)[-1], "One model came back"),
        (lambda *a, **k: generations(*a, **k)[1:], "the first included"),
        *NOTHING,
    ],
)
def test_each_wrong_way_to_raise_generations_is_told_its_own_mistake(wrong, told):
    with pytest.raises(CheckFailed, match=told):
        check_born_again(wrong, seed=1)


def stacked(models, images):
    return torch.stack([model.eval()(images) for model in models])


def added_up(models, images):
    total = 0
    for model in models:
        total = total + predict_logits(model, images).softmax(1) / len(models)
    return total


class EnsembleAsClass:
    def __call__(self, models, images):
        log_p = stacked(models, images).log_softmax(-1)
        return torch.einsum("mnk->nk", log_p.exp()) / len(models)


@pytest.mark.parametrize("right", [added_up, EnsembleAsClass(), lambda m, x: stacked(m, x).softmax(-1).mean(0)])
def test_a_right_ensemble_passes(right):
    for seed in range(3):
        check_ensemble(right, seed=seed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda m, x: stacked(m, x).argmax(-1).float().mean(0), "mean of class numbers"),
        (lambda m, x: stacked(m, x).argmax(-1).float().mean(0).round().long(), "mean of class numbers"),
        (lambda m, x: F.one_hot(stacked(m, x).argmax(-1), 10).float().mean(0), "votes with its class only"),
        (lambda m, x: stacked(m, x).argmax(-1).mode(0)[0], "votes with its class only"),
        (lambda m, x: stacked(m, x).mean(0).softmax(-1), "geometric mean"),
        (lambda m, x: stacked(m, x).mean(0), "averaged logits"),
        (lambda m, x: stacked(m, x).softmax(-1).sum(0), "not divided"),
        (lambda m, x: stacked(m, x)[-1].softmax(-1), "Only one model"),
        (lambda m, x: stacked(m, x).softmax(-1).max(0).values, "largest probability"),
        (lambda m, x: stacked(m, x).softmax(1).mean(0), "over models or images"),
        (lambda m, x: stacked(m, x).softmax(0).mean(0), "over models or images"),
        (lambda m, x: stacked(m, x).softmax(-1).mean(0).argmax(-1), "classes came back"),
        (lambda m, x: torch.stack([model(x) for model in m]).softmax(-1).mean(0), "ran in training mode"),
        (lambda m, x: None, "got None"),
        (lambda m, x: AlwaysEqual(), "got AlwaysEqual"),
        (lambda m, x: torch.full((20, 10), math.nan), "not finite"),
        (AlwaysEqual(), "a function is needed"),
    ],
)
def test_each_wrong_ensemble_is_told_its_own_mistake(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_ensemble(wrong, seed=seed)


def lowest_mean(held_out, test):
    means = {schedule: sum(errors) / len(errors) for schedule, errors in held_out.items()}
    return sorted(means, key=means.get)[0]


def in_a_loop(held_out, test):
    best, fewest = None, math.inf
    for schedule, errors in held_out.items():
        if sum(errors) < fewest:
            best, fewest = schedule, sum(errors)
    return list(best)


@pytest.mark.parametrize("right", [lowest_mean, in_a_loop])
def test_a_right_choice_passes(right):
    for seed in range(5):
        check_temperature_choice(right, seed=seed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda h, t: lowest_mean(t, h), "test images chose"),
        (lambda h, t: min(h, key=lambda s: sum(h[s]) + sum(t[s])), "added up"),
        (lambda h, t: max(h, key=lambda s: sum(h[s])), "most errors"),
        (lambda h, t: min(h, key=lambda s: min(h[s])), "lucky run"),
        (lambda h, t: min(h, key=h.get), "first seed"),
        (lambda h, t: min(h, key=lambda s: h[s][0]), "first seed"),
        (lambda h, t: min(sum(e) / len(e) for e in h.values()), "instead of the temperatures"),
        (lambda h, t: None, "got None"),
        (lambda h, t: (math.nan, math.nan), "not finite"),
        (lambda h, t: AlwaysEqual(), "got AlwaysEqual"),
        (AlwaysEqual(), "a function is needed"),
    ],
)
def test_each_wrong_choice_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_temperature_choice(wrong, seed=seed)


def test_what_was_chosen_is_compared_with_the_table():
    held_out = {(1.0, 1.0): [500, 510], (8.0, 2.0): [480, 490]}
    check_chosen((8.0, 2.0), held_out)
    check_chosen([8, 2], held_out)
    for wrong in ((1.0, 1.0), (2.0, 8.0), 8.0, math.nan, AlwaysEqual()):
        with pytest.raises(CheckFailed):
            check_chosen(wrong, held_out)
    with pytest.raises(NotImplementedError):
        check_chosen(None, held_out)


def test_verdicts_are_what_the_intervals_say():
    errors = {
        "generation 3": [1300, 1310, 1320],
        "no teacher": [1200, 1215, 1218],
        "label smoothing": [1310, 1305, 1318],
        "all generations": [1250, 1262, 1270],
        "independent models": [1240, 1270, 1268],
    }
    right = {
        ("generation 3", "no teacher"): "worse",
        ("generation 3", "label smoothing"): "unclear",
        ("all generations", "generation 3"): "better",
        ("all generations", "independent models"): "unclear",
    }
    check_born_again_verdicts(right, errors)
    for pair in right:
        for other in {"better", "worse", "unclear"} - {right[pair]}:
            with pytest.raises(CheckFailed, match="the interval of the paired difference"):
                check_born_again_verdicts({**right, pair: other}, errors)
        with pytest.raises(NotImplementedError):
            check_born_again_verdicts({**right, pair: None}, errors)
        with pytest.raises(CheckFailed, match="there is no verdict"):
            check_born_again_verdicts({key: word for key, word in right.items() if key != pair}, errors)
    for wrong in (AlwaysEqual(), None):
        with pytest.raises(CheckFailed, match="must be the dict"):
            check_born_again_verdicts(wrong, errors)


def test_answers_about_generations(capsys):
    check_born_again_questions(["b", " C"])
    assert capsys.readouterr().out.count("Passed") == 2
    for answers, told in [
        (["a", "c"], "what averaging gains"),
        (["c", "c"], "same mean of probabilities"),
        (["b", "a"], "one amount of data"),
        (["b", "b"], "not a bug by that"),
        ([AlwaysEqual()] * 2, "one letter"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_born_again_questions(answers)


def test_stubs_are_not_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 1")

    for check in (check_born_again, check_ensemble, check_temperature_choice):
        with pytest.raises(NotImplementedError, match="Task 1"):
            check(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_born_again_questions([None, None])
