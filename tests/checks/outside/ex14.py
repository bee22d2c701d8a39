"""Outside answers to exercise 14: features and logits together."""

# ruff: noqa: E501 (answers as learners write them)

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import check_combined_objective, check_training_run, check_weight_search
from kdcourse.data import Minibatches
from kdcourse.losses import hint_loss, kd_loss
from kdcourse.training import count_errors, fit


def objective_by_hand(
    student, images, labels, teacher_logits, teacher_features, *, regressor, temperature, alpha, feature_weight
):
    f = images
    for layer in student[:-1]:
        f = layer(f)
    z = student[-1](f)
    p = (teacher_logits.detach() / temperature).softmax(1)
    kl = (torch.xlogy(p, p) - p * (z / temperature).log_softmax(1)).sum(1).mean()
    return {
        "ce": (1 - alpha) * F.cross_entropy(z, labels),
        "kd": alpha * temperature**2 * kl,
        "feature": feature_weight * (regressor(f) - teacher_features.detach()).pow(2).mean(),
    }


def objective_two_passes(student, x, y, tz, tf, *, regressor, temperature, alpha, feature_weight):
    with torch.no_grad():
        tz, tf = tz.clone(), tf.clone()
    return {
        "kd": kd_loss(student(x), tz, temperature=temperature) * alpha,
        "ce": F.nll_loss(student(x).log_softmax(1), y) * (1 - alpha),
        "feature": F.mse_loss(regressor(student[:-1](x)), tf) * feature_weight,
    }


def objective_with_hook(student, x, y, tz, tf, *, regressor, temperature, alpha, feature_weight):
    seen = []
    handle = student[-1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    z = student(x)
    handle.remove()
    soft = F.cross_entropy(z / temperature, (tz.detach() / temperature).softmax(1)) - torch.special.entr(
        (tz.detach() / temperature).softmax(1)).sum(1).mean()  # fmt: skip
    hint = hint_loss(regressor(seen[0]), tf)
    return dict(kd=alpha * temperature**2 * soft, ce=(1 - alpha) * F.cross_entropy(z, y), feature=feature_weight * hint)


def obj(soft=kd_loss, hard=F.cross_entropy, hint=hint_loss, a=lambda al, w: al, b=lambda al, w: 1 - al, c=lambda al, w: w, reg=lambda r, f: r(f), out=lambda t: t,
        cut=lambda f: f, features=lambda s, x: s[:-1](x)):  # fmt: skip
    def f(student, x, y, tz, tf, *, regressor, temperature, alpha, feature_weight):
        h = features(student, x)
        z = student[-1](cut(student[:-1](x)))
        al, w = alpha, feature_weight
        return out(
            {
                "kd": a(al, w) * soft(z, tz, temperature=temperature),
                "ce": b(al, w) * hard(z, y),
                "feature": c(al, w) * hint(reg(regressor, h), tf),
            }
        )

    return f


def attached(s, t, *, temperature):
    log_q, log_p = (s / temperature).log_softmax(1), (t / temperature).log_softmax(1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


OBJECTIVE = {
    "feature weight missing": (obj(c=lambda al, w: 1), "The feature term is not scaled"),
    "feature weight α": (obj(c=lambda al, w: al), "The feature term has α"),
    "feature weight on all": (obj(a=lambda al, w: w * al, b=lambda al, w: w * (1 - al)), "The feature weight multiplies the other terms as well"),
    "1 - w": (obj(a=lambda al, w: (1 - w) * al, b=lambda al, w: (1 - w) * (1 - al)), "The other terms are multiplied by 1 - weight"),
    "w squared": (obj(c=lambda al, w: w**2), "The result is `feature_weight` times too large"),
    "α swapped": (obj(a=lambda al, w: 1 - al, b=lambda al, w: al), "α is on the wrong term"),
    "labels with weight 1": (obj(b=lambda al, w: 1), "The labels' term has the weight 1, asked for is 1 − α"),
    "no α": (obj(a=lambda al, w: 1, b=lambda al, w: 1), "Soft targets and labels are added without α and 1 - α"),
    "no regressor": (obj(reg=lambda r, f: f), "The regressor was left out"),
    "regressor detached": (obj(reg=lambda r, f: r(f.detach())), "No gradient of the feature term reaches the student"),
    "regressed under no_grad": (obj(reg=lambda r, f: torch.no_grad()(r)(f)), "The feature term carries no gradient at all"),
    "student detached in front of logits": (obj(cut=lambda f: f.detach()), "Labels and soft targets train only the student's last layer"),
    "features of the logits": (obj(features=lambda s, x: s[:-2](x)[:, :6]), ""),
    "normalised": (obj(hint=lambda a, b: hint_loss(F.normalize(a, dim=1), F.normalize(b, dim=1))), "The features are normalised first"),
    "cosine": (obj(hint=lambda a, b: 1 - F.cosine_similarity(a, b).mean()), "A gradient reaches the teacher's logits or features"),
    "l1": (obj(hint=F.l1_loss), "A gradient reaches the teacher's logits or features"),
    "sum": (obj(hint=lambda a, b: F.mse_loss(a, b, reduction="sum")), "A gradient reaches the teacher's logits or features"),
    "sum over features": (obj(hint=lambda a, b: (a - b).pow(2).sum(1).mean()), "A gradient reaches the teacher's logits or features"),
    "half": (obj(hint=lambda a, b: F.mse_loss(a, b) / 2), "A gradient reaches the teacher's logits or features"),
    "root": (obj(hint=lambda a, b: F.mse_loss(a, b).sqrt()), "A gradient reaches the teacher's logits or features"),
    "no T²": (obj(soft=lambda s, t, temperature: kd_loss(s, t, temperature=temperature) / temperature**2), "T² is missing in the soft targets' term"),
    "T⁴": (obj(soft=lambda s, t, temperature: kd_loss(s, t, temperature=temperature) * temperature**2), "The teacher's term has the weight α · T²"),
    "T = 1": (obj(soft=lambda s, t, temperature: kd_loss(s, t, temperature=1.0)), "has no effect"),
    "reverse": (obj(soft=lambda s, t, temperature: kd_loss(t, s, temperature=temperature)), "A gradient reaches the teacher's logits or features"),
    "teacher's logits attached": (obj(soft=attached), "A gradient reaches the teacher's logits or features"),
    "teacher's features attached": (obj(hint=F.mse_loss), "A gradient reaches the teacher's logits or features"),
    "labels' term without gradient": (obj(hard=lambda z, y: F.cross_entropy(z.detach(), y)), ""),
    "one number": (obj(out=lambda t: sum(t.values())), "the objective must return a dict of terms"),
    "two terms": (obj(out=lambda t: {"kd": t["kd"], "ce": t["ce"]}), "The term 'feature' is missing"),
    "kd missing": (obj(out=lambda t: {"ce": t["ce"], "feature": t["feature"]}), "The term 'kd' is missing"),
    "items": (obj(out=lambda t: {k: v.item() for k, v in t.items()}), "the objective must return a dict of terms"),
    "negative feature": (obj(out=lambda t: {**t, "feature": -t["feature"]}), "The sign is turned round"),
}  # fmt: skip


def run_by_hand(make_student, make_regressor, objective, data, *, seed, epochs):
    torch.manual_seed(seed)
    student = make_student()
    regressor = make_regressor()
    optimizer = torch.optim.Adam([{"params": student.parameters()}, {"params": regressor.parameters()}], lr=0.01)
    batches = Minibatches(*data, batch_size=100, epochs=epochs, generator=torch.Generator().manual_seed(seed))
    for batch in batches:
        student.train()
        optimizer.zero_grad()
        torch.stack(list(objective(student, *batch, regressor=regressor).values())).sum().backward()
        optimizer.step()
    return student


def run_with_closure(make_student, make_regressor, objective, data, *, seed, epochs):
    torch.manual_seed(seed)
    student, regressor = make_student(), make_regressor()

    def bound(student, *batch):
        return objective(student, *batch, regressor=regressor)

    parameters = list(student.parameters()) + list(regressor.parameters())
    fit(
        student,
        data,
        bound,
        torch.optim.Adam(parameters, 1e-2),
        epochs=epochs,
        batch_size=100,
        seed=seed,
        progress=False,
    )
    return student.eval()


def run_two_optimizers(make_student, make_regressor, objective, data, *, seed, epochs):
    torch.manual_seed(seed)
    student, regressor = make_student(), make_regressor()
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-2) for m in (student, regressor)]
    for batch in Minibatches(*data, batch_size=100, epochs=epochs, generator=torch.Generator().manual_seed(seed)):
        loss = sum(objective(student.train(), *batch, regressor=regressor).values())
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return student


def run(
    seeded=True, first="student", learn=("student", "regressor"), order=lambda s: s, lr=1e-2, make=torch.optim.Adam, batch=100,
    epochs_factor=1, clear=True, out=lambda s, r: s, between=lambda s: None, use=lambda t: sum(t.values()),
):  # fmt: skip
    def f(make_student, make_regressor, objective, data, *, seed, epochs):
        if seeded:
            torch.manual_seed(seed)
        regressor = make_regressor() if first == "regressor" else None
        student = make_student()
        between(seed)
        regressor = regressor or make_regressor()
        modules = {"student": student, "regressor": regressor}
        optimizer = make([p for name in learn for p in modules[name].parameters()], lr=lr)
        for part in Minibatches(
            *data,
            batch_size=batch,
            epochs=int(epochs * epochs_factor),
            generator=torch.Generator().manual_seed(order(seed)),
        ):
            terms = objective(student.train(), *part, regressor=regressor)
            if clear:
                optimizer.zero_grad()
            use(terms).backward()
            optimizer.step()
        return out(student, regressor)

    return f


RUN = {
    "not seeded": (run(seeded=False), "torch.manual_seed(seed) is missing"),
    "regressor first": (run(first="regressor"), "The regressor is drawn before the student"),
    "regressor forgotten": (run(learn=("student",)), "The regressor is not trained"),
    "student forgotten": (run(learn=("regressor",)), "Only the regressor is trained"),
    "order of seed 0": (run(order=lambda s: 0), "The order of the samples has seed 0 in every run"),
    "order of seed + 1": (run(order=lambda s: s + 1), ""),
    "rate": (run(lr=1e-3), "The learning rate is another one"),
    "SGD": (run(make=torch.optim.SGD), "Another optimizer came"),
    "AdamW": (run(make=partial(torch.optim.AdamW, weight_decay=0.1)), ""),
    "batches of 50": (run(batch=50), "The student was trained for 32 steps"),
    "twice as long": (run(epochs_factor=2), "The student was trained for 32 steps"),
    "half as long": (run(epochs_factor=0.5), "The student was trained for 8 steps"),
    "not cleared": (run(clear=False), ""),
    "both returned": (run(out=lambda s, r: (s, r)), "the trained student must come back"),
    "regressor returned": (run(out=lambda s, r: r), "the trained student must come back"),
    "nothing returned": (run(out=lambda s, r: None), "the trained student must come back"),
    "seeded again": (run(between=torch.manual_seed), "The seed is set again between student and regressor"),
    "draws between": (run(between=lambda s: torch.rand(3)), ""),
    "labels only": (run(use=lambda t: t["ce"]), ""),
    "feature only": (run(use=lambda t: t["feature"]), ""),
    "data not used": (lambda ms, mr, o, d, *, seed, epochs: ms(), "The student was trained for 0 steps"),
}


def search_by_table(candidates, run, data, *, seeds):
    table = np.array([[count_errors(run(seed=s, **c), *data["held_out"]) for s in seeds] for c in candidates])
    return candidates[int(table.mean(1).argmin())]


def search_in_loop(candidates, run, data, *, seeds):
    best, lowest = None, float("inf")
    images, labels = data["held_out"]
    for c in candidates:
        total = 0
        for s in seeds:
            with torch.no_grad():
                total += int((run(seed=s, **c)(images).argmax(1) != labels).sum())
        if total < lowest:
            best, lowest = c, total
    return dict(best)


def search_by_accuracy(candidates, run, data, *, seeds):
    def accuracy(c):
        return np.mean([1 - count_errors(run(seed=s, **c), *data["held_out"]) / 200 for s in seeds])

    return max(candidates, key=accuracy)


def search(split="held_out", reduce=np.mean, choose=min, seeds_used=lambda s: s, out=lambda c, e: c, extra=None):
    def f(candidates, run, data, *, seeds):
        def score(c):
            if extra:
                count_errors(run(seed=seeds[0], **c), *data[extra])
            return reduce([count_errors(run(seed=s, **c), *data[split]) for s in seeds_used(seeds)])

        best = choose(candidates, key=score)
        return out(best, score(best))

    return f


def search_overwrites(candidates, run, data, *, seeds):
    lowest = float("inf")
    for c in candidates:
        for s in seeds:
            errors = count_errors(run(seed=s, **c), *data["held_out"])
        if errors < lowest:
            best, lowest = c, errors
    return best


def search_pops(candidates, run, data, *, seeds):
    candidates.sort(key=lambda c: sum(count_errors(run(seed=s, **c), *data["held_out"]) for s in seeds))
    return candidates[0]


SEARCH = {
    "test": (search(split="test"), "The weights are chosen by test errors"),
    "train": (search(split="train"), "The weights are chosen by errors on the training images"),
    "looks at test too": (search(extra="test"), "The test images were looked at during the search"),
    "most errors": (search(choose=max), "This candidate has the most held-out errors"),
    "min over seeds": (search(reduce=min), "One lucky run decided"),
    "max over seeds": (search(reduce=max), "The worst run decided"),
    "median": (search(reduce=np.median), "The median over seeds decided"),
    "first seed": (search(seeds_used=lambda s: s[:1]), "Only one of the seeds counts"),
    "last seed": (search(seeds_used=lambda s: s[-1:]), "Only one of the seeds counts"),
    "two seeds": (search(seeds_used=lambda s: s[:2]), ""),
    "other seeds": (
        search(seeds_used=lambda s: range(4)),
        "run was called with seed=0, alpha=0.3, feature_weight=1.0: nobody gave",
    ),
    "overwrites": (search_overwrites, "Only one of the seeds counts"),
    "sorts in place": (search_pops, "The search changes the order of the list `candidates`"),
    "errors returned": (search(out=lambda c, e: e), "the chosen candidate"),
    "both returned": (search(out=lambda c, e: (c, e)), "the chosen candidate"),
    "a tuple": (search(out=lambda c, e: tuple(c.values())), "the chosen candidate"),
    "first": (lambda candidates, run, data, *, seeds: candidates[0], "The first candidate came back"),
    "last": (lambda candidates, run, data, *, seeds: candidates[-1], "The last candidate came back"),
    "spread": (search(reduce=np.std), ""),
    "index": (lambda candidates, *a, **k: candidates.index(search()(candidates, *a, **k)), "the chosen candidate"),
    "seeds removed": (
        lambda c, r, d, *, seeds: (search()(c, r, d, seeds=seeds), seeds.pop())[0],
        "The search makes the list `seeds` shorter",
    ),
}
TASKS = {
    "objective": (check_combined_objective, OBJECTIVE, [objective_by_hand, objective_two_passes, objective_with_hook]),
    "run": (check_training_run, RUN, [run_by_hand, run_with_closure, run_two_optimizers]),
    "search": (check_weight_search, SEARCH, [search_by_table, search_in_loop, search_by_accuracy]),
}
