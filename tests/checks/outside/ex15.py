"""Outside answers to exercise 15: born-again networks."""

# ruff: noqa: E501 (answers as learners write them)

import copy
import statistics

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import check_born_again, check_mean_probabilities, check_temperature_choice
from kdcourse.data import Minibatches
from kdcourse.losses import kd_loss
from kdcourse.training import fit, predict_logits


def train_one(model, data, objective, *, epochs, seed, lr=7e-3):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    fit(model, data, objective, optimizer, epochs=epochs, batch_size=100, seed=seed, progress=False)


def generations_recursive(make_model, images, labels, *, temperatures, alpha, seed, epochs):
    *earlier, last = temperatures if len(temperatures) else [None]
    before = []
    if last is not None:
        before = generations_recursive(
            make_model, images, labels, temperatures=earlier, alpha=alpha, seed=seed, epochs=epochs
        )
    g = len(before)
    torch.manual_seed(seed + g)
    model = make_model()

    def objective(student, x, y, *teacher):
        z = student(x)
        if not teacher:
            return {"ce": F.cross_entropy(z, y)}
        return {"ce": (1 - alpha) * F.cross_entropy(z, y), "kd": alpha * kd_loss(z, *teacher, temperature=last)}

    teacher = [predict_logits(before[-1], images)] if before else []
    train_one(model, (images, labels, *teacher), objective, epochs=epochs, seed=seed + g)
    return [*before, model]


def generations_own_loop(make_model, images, labels, *, temperatures, alpha, seed, epochs):
    models = []
    for g, T in enumerate([1.0, *temperatures]):
        torch.manual_seed(seed + g)
        model = make_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=7e-3)
        with torch.no_grad():
            teacher = models[-1].eval()(images) if models else torch.zeros(len(images), 10)
        generator = torch.Generator().manual_seed(seed + g)
        for x, y, t in Minibatches(images, labels, teacher, batch_size=100, epochs=epochs, generator=generator):
            z = model.train()(x)
            loss = F.cross_entropy(z, y)
            if models:
                loss = (1 - alpha) * loss + alpha * kd_loss(z, t, temperature=T)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        models.append(model)
    return models


def generations_asking(make_model, images, labels, *, temperatures, alpha, seed, epochs):
    """Ask a frozen copy of the last model in every batch."""
    models = []
    for g in range(1 + len(temperatures)):
        teacher = copy.deepcopy(models[-1]).eval().requires_grad_(False) if models else None

        def objective(student, x, y, teacher=teacher, g=g):
            z = student(x)
            if teacher is None:
                return {"ce": F.cross_entropy(z, y)}
            soft = kd_loss(z, teacher(x), temperature=temperatures[g - 1])
            return {"loss": alpha * soft + (1 - alpha) * F.cross_entropy(z, y)}

        torch.manual_seed(seed + g)
        models.append(make_model())
        train_one(models[-1], (images, labels), objective, epochs=epochs, seed=seed + g)
    return models


def generations(teacher=lambda m: m[-1], T=lambda ts, g: ts[g - 1], weights=lambda s, g: s + g, order=lambda s, g: s + g, a=lambda al: al, b=lambda al: 1 - al,
                soft=kd_loss, copied=None, epochs_of=lambda e, g: e, lr=7e-3, out=lambda m: m, mode="eval", freeze=False, ce=F.cross_entropy):  # fmt: skip
    def f(make_model, images, labels, *, temperatures, alpha, seed, epochs):
        models = []
        for g in range(len(temperatures) + 1):
            torch.manual_seed(weights(seed, g))
            model = make_model()
            data = (images, labels)
            if models:
                if copied:
                    model.load_state_dict(models[-1].state_dict())
                taught_by = teacher(models)
                with torch.no_grad():
                    data = (images, labels, taught_by.train(mode == "train")(images))
                if freeze:
                    taught_by.requires_grad_(False)

            def objective(student, x, y, *t, g=g):
                z = student(x)
                if not t:
                    return {"ce": F.cross_entropy(z, y)}
                return {"kd": a(alpha) * soft(z, *t, temperature=T(temperatures, g)), "ce": b(alpha) * ce(z, y)}

            train_one(model, data, objective, epochs=epochs_of(epochs, g), seed=order(seed, g), lr=lr)
            models.append(model)
        return out(models)

    return f


def generations_one_object(make_model, images, labels, **knobs):
    models = generations()(make_model, images, labels, **knobs)
    return [models[-1]] * len(models)


BORN_AGAIN = {
    "first teaches": (generations(teacher=lambda m: m[0]), "Every generation is taught by the first one"),
    "T of the next": (generations(T=lambda ts, g: ts[min(g, len(ts) - 1)]), "The T of another generation was used"),
    "first T": (generations(T=lambda ts, g: ts[0]), "The T of another generation was used"),
    "T of generation, one too far": (
        generations(T=lambda ts, g: ts[g]),
        "IndexError: list index out of range. There are 2 temperature",
    ),
    "same weights": (generations(weights=lambda s, g: s), "All generations start from the same weights"),
    "same order": (generations(order=lambda s, g: s), "All generations see the samples in the same order"),
    "one seed": (generations(weights=lambda s, g: s, order=lambda s, g: s), "All generations have one seed"),
    "α swapped": (generations(a=lambda al: 1 - al, b=lambda al: al), "α is on the wrong term"),
    "labels with weight 1": (generations(b=lambda al: 1), ""),
    "no α": (generations(a=lambda al: 1, b=lambda al: 1), "The terms are added without α and 1 - α"),
    "no labels": (generations(b=lambda al: 0), "The labels are missing in the later generations"),
    "no teacher": (generations(a=lambda al: 0, b=lambda al: 1), "No generation learns from another"),
    "no T²": (
        generations(soft=lambda s, t, temperature: kd_loss(s, t, temperature=temperature) / temperature**2),
        "The factor T² is missing",
    ),
    "T unused": (generations(soft=lambda s, t, temperature: kd_loss(s, t, temperature=1.0)), ""),
    "starts from the teacher": (generations(copied=True), "A generation starts from its teacher's weights"),
    "longer": (generations(epochs_of=lambda e, g: 2 * e), ""),
    "later ones longer": (generations(epochs_of=lambda e, g: e * (1 + (g > 0))), ""),
    "rate": (generations(lr=1e-3), ""),
    "last only": (generations(out=lambda m: m[-1]), ""),
    "without the first": (generations(out=lambda m: m[1:]), ""),
    "reversed": (generations(out=lambda m: m[::-1]), ""),
    "teacher frozen": (generations(freeze=True), ""),
    "teacher trains": (generations(mode="train"), ""),
    "one object": (generations_one_object, ""),
    "classes": (generations(soft=lambda s, t, temperature: F.cross_entropy(s, t.argmax(1))), ""),
    "student detached": (
        generations(soft=lambda s, t, temperature: kd_loss(s.detach(), t, temperature=temperature)),
        "",
    ),
    "a dict": (generations(out=lambda m: dict(enumerate(m))), ""),
    "softmax before labels": (generations(ce=lambda z, y: F.cross_entropy(z.softmax(1), y)), ""),
    "reads off the end": (
        lambda mm, x, y, *, temperatures, **k: generations()(mm, x, y, temperatures=list(temperatures)[:-1], **k),
        "",
    ),
}


def ensemble_sum(models, images):
    total = 0
    for model in models:
        model.eval()
        with torch.no_grad():
            total = total + F.softmax(model(images), dim=-1)
    return total / len(models)


def ensemble_log_space(models, images):
    z = torch.stack([predict_logits(m, images).double() for m in models]).log_softmax(-1)
    return (z.logsumexp(0) - np.log(len(models))).exp()


def ensemble_in_numpy(models, images):
    mean = None
    for k, m in enumerate(models, 1):
        p = predict_logits(m, images).softmax(-1).numpy().astype(np.float64)
        mean = p if mean is None else mean + (p - mean) / k
    return mean


def ens(combine, prepare=lambda z: z.softmax(-1), logits=predict_logits):
    return lambda models, images: combine(prepare(torch.stack([logits(m, images) for m in models])))


def raw(model, images):
    with torch.no_grad():
        return model(images)


def ensemble_running(models, images):
    mean = predict_logits(models[0], images).softmax(1)
    for m in models[1:]:
        mean = (mean + predict_logits(m, images).softmax(1)) / 2
    return mean


def ensemble_pops(models, images):
    n, total = len(models), 0
    while models:
        total = total + predict_logits(models.pop(), images).softmax(1)
    return total / n


ENSEMBLE = {
    "divided by 3": (ens(lambda p: p.sum(0) / 3), "The sum is divided by a fixed number"),
    "divided by 4": (ens(lambda p: p.sum(0) / 4), "The sum is divided by a fixed number"),
    "sum": (ens(lambda p: p.sum(0)), "The probabilities are added and not divided by the number of models"),
    "logits": (ens(lambda z: z.mean(0), prepare=lambda z: z), "These are averaged logits"),
    "softmax of mean logits": (ens(lambda z: z.mean(0).softmax(-1), prepare=lambda z: z), "Logits were averaged"),
    "geometric": (
        ens(lambda z: z.mean(0).exp(), prepare=lambda z: z.log_softmax(-1)),
        "This is the geometric mean of the probabilities",
    ),
    "training mode": (ens(lambda p: p.mean(0), logits=raw), "The models ran in training mode"),
    "largest": (ens(lambda p: p.amax(0)), "The largest probability over the models was taken"),
    "median": (ens(lambda p: p.median(0).values), "The median over the models was taken"),
    "product": (
        ens(lambda p: F.normalize(p.prod(0), p=1, dim=1)),
        "Logits were added, and then softened: that multiplies the mo",
    ),
    "votes": (ens(lambda p: F.one_hot(p.argmax(-1), 10).float().mean(0)), "Each model votes with its class only"),
    "classes": (ens(lambda p: p.mean(0).argmax(-1)), "The classes came back"),
    "mean of classes": (ens(lambda p: p.argmax(-1).float().mean(0)), "The models' classes were averaged"),
    "over images": (ens(lambda p: p.mean(1)), "The mean runs over the images"),
    "all of them": (ens(lambda p: p), "The probabilities of every model came back"),
    "running": (ensemble_running, "The mean is taken step by step"),
    "pops": (ensemble_pops, "The list of models was changed"),
    "softmax twice": (ens(lambda p: p.mean(0).softmax(-1)), "A softmax is taken twice"),
    "softmax over models": (
        ens(lambda p: p.mean(0), prepare=lambda z: z.softmax(0)),
        "The softmax runs over models or images instead of classes",
    ),
    "sigmoid": (
        ens(lambda p: p.mean(0), prepare=lambda z: z.sigmoid()),
        "The rows no longer sum to 1, so they are no probabilities",
    ),
    "first": (ens(lambda p: p[0]), "Only one model answers"),
    "without the first": (ens(lambda p: p[1:].mean(0)), "One of the models is left out"),
    "weighted by sureness": (
        ens(lambda p: (p * p.amax(-1, keepdim=True)).sum(0) / p.amax(-1, keepdim=True).sum(0)),
        "",
    ),
    "log": (ens(lambda p: p.mean(0).log()), "These are logarithms of the mean probabilities"),
    "T = 2": (ens(lambda p: p.mean(0), prepare=lambda z: (z / 2).softmax(-1)), ""),
    "transposed": (ens(lambda p: p.mean(0).T), "The numbers are right"),
    "a return in the loop": (
        lambda models, images: next(predict_logits(m, images).softmax(1) for m in models),
        "Only one model answers",
    ),
}


def choose_by_fmean(held_out_errors, test_errors):
    best = None
    for pair, errors in held_out_errors.items():
        if best is None or statistics.fmean(errors) < statistics.fmean(held_out_errors[best]):
            best = pair
    return best


def choose_in_numpy(held_out_errors, test_errors):
    pairs = list(held_out_errors)
    return np.array(pairs[int(np.argmin([np.mean(held_out_errors[p]) for p in pairs]))])


def choose_sorted(held_out_errors, test_errors):
    return list(sorted((sum(v) / len(v), k) for k, v in held_out_errors.items())[0][1])


def choose(score=lambda h, t: np.mean(h), pick=min, out=lambda k, h: k):
    def f(held_out_errors, test_errors):
        k = pick(held_out_errors, key=lambda k: score(held_out_errors[k], test_errors[k]))
        return out(k, held_out_errors)

    return f


def choose_pops(held_out_errors, test_errors):
    best = choose()(held_out_errors, test_errors)
    held_out_errors.pop(best)
    return best


def choose_sorts(held_out_errors, test_errors):
    for v in held_out_errors.values():
        v.sort()
    return choose()(held_out_errors, test_errors)


CHOICE = {
    "test": (choose(score=lambda h, t: np.mean(t)), "The test images chose"),
    "both": (choose(score=lambda h, t: np.mean(h) + np.mean(t)), "Held-out and test errors were added up"),
    "concatenated": (choose(score=lambda h, t: np.mean([*h, *t])), "Held-out and test errors were added up"),
    "max": (choose(pick=max), "has the most errors on held-out images"),
    "luckiest": (choose(score=lambda h, t: min(h)), "One lucky run decided"),
    "worst": (choose(score=lambda h, t: max(h)), "The worst run decided"),
    "first seed": (choose(score=lambda h, t: h[0]), "Only the first seed was looked at"),
    "last seed": (choose(score=lambda h, t: h[-1]), "Only the last seed was looked at"),
    "second seed": (choose(score=lambda h, t: h[1]), ""),
    "median": (choose(score=lambda h, t: np.median(h)), "The median over seeds decided"),
    "spread": (choose(score=lambda h, t: np.std(h)), "has the most errors on held-out images"),
    "gap": (choose(score=lambda h, t: abs(np.mean(h) - np.mean(t))), "has the most errors on held-out images"),
    "product": (choose(score=lambda h, t: np.mean(h) * np.mean(t)), ""),
    "error": (
        choose(out=lambda k, h: np.mean(h[k])),
        "The smallest error came back instead of the temperatures that gave it",
    ),
    "errors": (choose(out=lambda k, h: h[k]), ""),
    "place": (choose(out=lambda k, h: list(h).index(k)), ""),
    "first T": (choose(out=lambda k, h: k[0]), ""),
    "turned": (choose(out=lambda k, h: k[::-1]), ""),
    "first pair": (lambda h, t: next(iter(h)), "The first pair came back"),
    "pops": (choose_pops, "changes the keys of the dict `held_out_errors`"),
    "sorts": (choose_sorts, "changes the order of the list `held_out_errors[(1.0, 1.0)]`"),
    "lists compared": (choose(score=lambda h, t: h), "Only the first seed was looked at"),
    "text": (choose(out=lambda k, h: str(k)), "f must be a tensor or a number"),
}
TASKS = {
    "born_again": (check_born_again, BORN_AGAIN, [generations_recursive, generations_own_loop, generations_asking]),
    "ensemble": (check_mean_probabilities, ENSEMBLE, [ensemble_sum, ensemble_log_space, ensemble_in_numpy]),
    "choice": (check_temperature_choice, CHOICE, [choose_by_fmean, choose_in_numpy, choose_sorted]),
}
