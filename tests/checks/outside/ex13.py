"""Outside answers to exercise 13: temperature sweep."""

# ruff: noqa: B905, E501 (answers as learners write them)

import copy
import itertools

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from kdcourse.checks import check_accuracy_curve, check_find_optimum, check_sweep_objective, check_sweep_runs
from kdcourse.losses import kd_loss
from kdcourse.sweeps import mean_interval


def objective_by_hand(student, images, labels, teacher_logits, *, temperature, alpha):
    z = student(images)
    log_q, p = (z / temperature).log_softmax(1), (teacher_logits.detach() / temperature).softmax(1)
    kl = (torch.xlogy(p, p) - p * log_q).sum(1).mean()
    return {"ce": F.cross_entropy(z, labels) * (1 - alpha), "kd": kl * temperature * temperature * alpha}


def objective_two_calls(student, images, labels, teacher_logits, *, temperature, alpha):
    soft = kd_loss(student(images), teacher_logits, temperature=temperature)
    hard = F.nll_loss(F.log_softmax(student(images), -1), labels)
    return dict(kd=soft.mul(alpha), ce=hard.sub(alpha * hard))


def objective_one_hot(student, images, labels, teacher_logits, *, temperature, alpha):
    logits = student(images).double()
    target = F.one_hot(labels, logits.shape[1]).double()
    kd = kd_loss(logits, teacher_logits.double(), temperature=temperature)
    return {"kd": alpha * kd, "ce": (1 - alpha) * F.cross_entropy(logits, target)}


def obj(soft=kd_loss, hard=F.cross_entropy, a=lambda al: al, b=lambda al: 1 - al, out=lambda k, c: {"kd": k, "ce": c}):
    def f(student, images, labels, teacher_logits, *, temperature, alpha):
        z = student(images)
        return out(a(alpha) * soft(z, teacher_logits, temperature=temperature), b(alpha) * hard(z, labels))

    return f


def t2(power):
    return lambda s, t, temperature: temperature**power * kd_loss(s, t, temperature=temperature)


def attached(s, t, *, temperature):
    log_q, log_p = (s / temperature).log_softmax(1), (t / temperature).log_softmax(1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def branches(s, t, *, temperature):
    return kd_loss(s, t, temperature=temperature) if temperature > 0 else 0 * s.sum()


OBJECTIVE = {
    "no T²": (obj(soft=t2(-2)), "The factor T² is missing"),
    "T once": (obj(soft=t2(-1)), "The loss is T times too small"),
    "T⁴": (obj(soft=t2(2)), "The teacher's term has the weight α · T²"),
    "T unused": (obj(soft=lambda s, t, temperature: kd_loss(s, t, temperature=1.0)), "has no effect"),
    "swapped": (obj(a=lambda al: 1 - al, b=lambda al: al), "α is on the wrong term"),
    "α on both": (obj(b=lambda al: al), "The labels' term has the weight α"),
    "labels with weight 1": (obj(b=lambda al: 1), "The labels' term has the weight 1, asked for is 1 − α"),
    "no weights": (obj(a=lambda al: 1, b=lambda al: 1), "The terms have no weights"),
    "reverse": (obj(soft=lambda s, t, temperature: kd_loss(t, s, temperature=temperature)), "This is KL(student‖teacher)"),
    "attached": (obj(soft=attached), "A gradient reaches the teacher's logits"),
    "student detached in the teacher's term": (obj(soft=lambda s, t, temperature: kd_loss(s.detach(), t, temperature=temperature)), "One of the two terms sends no gradient to the student"),
    "student detached in the labels' term": (obj(hard=lambda z, y: F.cross_entropy(z.detach(), y)), "One of the two terms sends no gradient to the student"),
    "softened labels' term": (
        lambda s, x, y, t, *, temperature, alpha: obj(hard=lambda z, y: F.cross_entropy(z / temperature, y))(
            s, x, y, t, temperature=temperature, alpha=alpha), "The labels' term sees softened logits"),
    "softmax before": (obj(hard=lambda z, y: F.cross_entropy(z.softmax(1), y)), "In the labels' term"),
    "sum": (obj(hard=lambda z, y: F.cross_entropy(z, y, reduction="sum")), "The labels' term has the weight (1 − α) · B, asked for is 1 − α"),
    "one number": (obj(out=lambda k, c: k + c), "An objective returns a dict with the two weighted terms 'kd' and 'ce';"),
    "other names": (obj(out=lambda k, c: {"soft": k, "hard": c}), "An objective returns a dict with the two weighted terms 'kd' and 'ce';"),
    "names exchanged": (obj(out=lambda k, c: {"kd": c, "ce": k}), "The names of the two terms are exchanged"),
    "a third term": (obj(out=lambda k, c: {"kd": k, "ce": c, "loss": k + c}), "An objective returns a dict with the two weighted terms 'kd' and 'ce';"),
    "numbers": (obj(out=lambda k, c: {"kd": k.item(), "ce": c.item()}), "One of the two terms sends no gradient to the student"),
    "branches on T": (obj(soft=branches), ""),
    "float(T)": (obj(soft=lambda s, t, temperature: kd_loss(s, t, temperature=float(temperature))), ""),
    "teacher's class": (obj(soft=lambda s, t, temperature: F.cross_entropy(s, t.argmax(1))), "`temperature` has no effect on what f returns"),
    "labels from the teacher": (lambda s, x, y, t, **k: obj()(s, x, t.argmax(1), t, **k), "`images` has no effect on what <lambda> returns"),
    "half": (obj(out=lambda k, c: {"kd": k / 2, "ce": c / 2}), "The result is 2 times too small"),
    "mean over classes": (obj(soft=lambda s, t, temperature: kd_loss(s, t, temperature=temperature) / s.shape[1]), "The loss is K times too small"),
    "one side": (obj(soft=lambda s, t, temperature: kd_loss(s * temperature, t, temperature=temperature)), "Only the teacher is softened"),
}  # fmt: skip


def train(student, data, T, seed, epochs, *, lr=1e-2, batch=100, optimizer=None):
    images, labels, teacher = data["train"]
    optimizer = optimizer or torch.optim.Adam(student.parameters(), lr=lr)
    order = torch.Generator().manual_seed(seed)
    student.train()
    for _ in range(epochs):
        for part in torch.randperm(len(labels), generator=order).split(batch):
            terms = obj()(student, images[part], labels[part], teacher[part], temperature=float(T), alpha=0.9)
            optimizer.zero_grad()
            sum(terms.values()).backward()
            optimizer.step()
    return student


def errors(student, data, split="held_out"):
    images, labels = data[split][:2]
    with torch.no_grad():
        return int((student.eval()(images).argmax(1) != labels).sum())


def row(T, seed, count):
    return {"temperature": T, "seed": seed, "held_out_errors": count}


def runs_by_product(make_student, data, *, temperatures, seeds, epochs):
    rows = []
    for T, seed in itertools.product(temperatures, seeds):
        torch.manual_seed(seed)
        rows.append(row(T, seed, errors(train(make_student(), data, T, seed, epochs), data)))
    return pd.DataFrame(rows)


def runs_from_copies(make_student, data, *, temperatures, seeds, epochs):
    rows = []
    for seed in seeds:
        torch.manual_seed(seed)
        start = make_student()
        for T in reversed(list(temperatures)):
            rows.append(
                {**row(float(T), seed, errors(train(copy.deepcopy(start), data, T, seed, epochs), data)), "arm": "kd"}
            )
    return pd.DataFrame(rows).sort_values(["temperature", "seed"])


def runs_from_states(make_student, data, *, temperatures, seeds, epochs):
    table = []
    for seed in seeds:
        torch.manual_seed(seed)
        student = make_student()
        state = copy.deepcopy(student.state_dict())
        for T in temperatures:
            student.load_state_dict(state)
            train(student, data, T, seed, epochs)
            table.append((T, seed, errors(student, data)))
    return pd.DataFrame(table, columns=["temperature", "seed", "held_out_errors"])


def runs(start=lambda seed, T: seed, order=lambda seed, T: seed, count=errors, out=lambda t: t, one_t=None, **knobs):
    def f(make_student, data, *, temperatures, seeds, epochs):
        rows = []
        for T in temperatures:
            for seed in seeds:
                torch.manual_seed(start(seed, T))
                student = train(make_student(), data, one_t or T, order(seed, T), epochs, **knobs)
                rows.append(row(T, seed, count(student, data)))
        return out(pd.DataFrame(rows))

    return f


def runs_train_on(make_student, data, *, temperatures, seeds, epochs):
    rows = []
    for seed in seeds:
        torch.manual_seed(seed)
        student = make_student()
        for T in temperatures:
            rows.append(row(T, seed, errors(train(student, data, T, seed, epochs), data)))
    return pd.DataFrame(rows)


def runs_one_start(make_student, data, *, temperatures, seeds, epochs):
    start = make_student()
    return runs()(lambda: copy.deepcopy(start), data, temperatures=temperatures, seeds=seeds, epochs=epochs)


def runs_unseeded_start(make_student, data, *, temperatures, seeds, epochs):
    return pd.DataFrame(
        [row(T, s, errors(train(make_student(), data, T, s, epochs), data)) for T in temperatures for s in seeds]
    )


def runs_unseeded_order(make_student, data, *, temperatures, seeds, epochs):
    return runs(order=lambda seed, T: int(torch.randint(0, 2**31, ()) + np.random.default_rng().integers(1000)))(
        make_student, data, temperatures=temperatures, seeds=seeds, epochs=epochs
    )


def runs_seeded_once(make_student, data, *, temperatures, seeds, epochs):
    rows = []
    for seed in seeds:
        torch.manual_seed(seed)
        for T in temperatures:
            rows.append(row(T, seed, errors(train(make_student(), data, T, seed, epochs), data)))
    return pd.DataFrame(rows)


RUNS = {
    "trains on at the next T": (
        runs_train_on,
        "At the second temperature the errors depend on whether another tempera",
    ),
    "one start for all": (runs_one_start, "All students start from the same weights"),
    "starts unseeded": (runs_unseeded_start, "3 seeds gave 6 different starts"),
    "order unseeded": (runs_unseeded_order, "Called twice with the same seeds"),
    "seeded once per seed": (runs_seeded_once, "3 seeds gave 6 different starts"),
    "another start at each T": (runs(start=lambda seed, T: 100 * seed + int(T)), "3 seeds gave 6 different starts"),
    "T not used": (runs(one_t=4), "T = 1 and T = 16 gave the same errors"),
    "test errors": (
        runs(count=lambda s, d: errors(s, d, "test")),
        "held_out_errors must count errors of the trained student on the 200 he",
    ),
    "train errors": (
        runs(count=lambda s, d: errors(s, d, "train")),
        "held_out_errors must count errors of the trained student on the 200 he",
    ),
    "right answers": (
        runs(count=lambda s, d: len(d["held_out"][1]) - errors(s, d)),
        "held_out_errors must count errors of the trained student on the 200 he",
    ),
    "shares": (runs(count=lambda s, d: errors(s, d) / len(d["held_out"][1])), "held_out_errors are counts of images"),
    "untrained": (runs(lr=0.0), "T = 1 and T = 16 gave the same errors"),
    "means": (
        runs(out=lambda t: t.groupby("temperature", as_index=False).held_out_errors.mean()),
        "The table has no column 'seed'; it has ['temperature', 'held_out_error",
    ),
    "pivoted": (
        runs(out=lambda t: t.pivot(index="temperature", columns="seed", values="held_out_errors")),
        "The table has no column 'temperature'; it has [3, 5, 8]",
    ),
    "a dict": (runs(out=lambda t: t.to_dict()), "f must return a table (DataFrame)"),
    "one row missing": (runs(out=lambda t: t.iloc[:-1]), "Every temperature needs every seed exactly once"),
    "twice": (runs(out=lambda t: pd.concat([t, t])), "Every temperature needs every seed exactly once"),
    "other column name": (
        runs(out=lambda t: t.rename(columns={"held_out_errors": "errors"})),
        "The table has no column 'held_out_errors'; it has ['temperature', 'see",
    ),
    "tensors": (
        runs(count=lambda s, d: torch.tensor([errors(s, d)] * 2)),
        "a number of held_out_errors must be one number",
    ),
    "none": (runs(out=lambda t: None), "f must return a table (DataFrame)"),
}


def curve_by_group(runs, *, images):
    means, lows, highs = [], [], []
    for _, group in sorted(runs.groupby("temperature")):
        m, low, high = mean_interval([1 - e / images for e in group["held_out_errors"]])
        means.append(m), lows.append(low), highs.append(high)
    return means, lows, highs


def curve_in_numpy(runs, *, images):
    table = runs.pivot(index="temperature", columns="seed", values="held_out_errors").sort_index()
    a = 1 - table.to_numpy(float) / images
    h = 2.7764451 * a.std(1, ddof=1) / np.sqrt(a.shape[1])
    return np.stack([a.mean(1), a.mean(1) - h, a.mean(1) + h])


def curve_from_errors(runs, *, images):
    out = [[], [], []]
    for T in np.sort(runs.temperature.unique()):
        m, low, high = mean_interval(runs.held_out_errors[runs.temperature == T].tolist())
        for column, value in zip(out, (1 - m / images, 1 - high / images, 1 - low / images)):
            column.append(value)
    return out


def curve(column="held_out_errors", share=lambda e, n: 1 - e / n, ends=mean_interval, sort=True, out=lambda t: t):
    def f(runs, *, images):
        three = [ends([share(e, images) for e in g[column]]) for _, g in runs.groupby("temperature", sort=sort)]
        return out([list(x) for x in zip(*three)])

    return f


CURVE = {
    "test": (curve(column="test_errors"), "These are the test images"),
    "errors": (curve(share=lambda e, n: e / n), "This is the share of errors"),
    "counts": (curve(share=lambda e, n: n - e), "The result is `images` times too large"),
    "percent": (curve(share=lambda e, n: 100 - 100 * e / n), "This is in percent"),
    "fixed images": (curve(share=lambda e, n: 1 - e / 5000), ""),
    "deviation": (
        curve(ends=lambda a: (np.mean(a), np.mean(a) - np.std(a, ddof=1), np.mean(a) + np.std(a, ddof=1))),
        "The ends are one standard deviation away",
    ),
    "standard error": (
        curve(
            ends=lambda a: (
                np.mean(a),
                np.mean(a) - np.std(a, ddof=1) / len(a) ** 0.5,
                np.mean(a) + np.std(a, ddof=1) / len(a) ** 0.5,
            )
        ),
        "The ends are one standard error away",
    ),
    "normal": (
        curve(
            ends=lambda a: (
                np.mean(a),
                np.mean(a) - 1.96 * np.std(a, ddof=1) / len(a) ** 0.5,
                np.mean(a) + 1.96 * np.std(a, ddof=1) / len(a) ** 0.5,
            )
        ),
        "1.96 is for many seeds",
    ),
    "min and max": (curve(ends=lambda a: (np.mean(a), min(a), max(a))), "These are the worst and the best run"),
    "median": (curve(ends=lambda a: (np.median(a), *mean_interval(a)[1:])), "The median was taken"),
    "ends exchanged": (curve(out=lambda t: [t[0], t[2], t[1]]), "The two ends are exchanged"),
    "low first": (curve(out=lambda t: [t[1], t[0], t[2]]), "These are the right numbers in another order"),
    "table order": (curve(sort=False), "The temperatures are in the order of the table"),
    "falling": (curve(out=lambda t: [x[::-1] for x in t]), "These are the right numbers in another order"),
    "triples": (curve(out=lambda t: list(zip(*t))), "One triple for each temperature came"),
    "means only": (curve(out=lambda t: t[0]), ""),
    "two lists": (curve(out=lambda t: t[:2]), ""),
    "half widths": (
        curve(out=lambda t: [t[0], [a - b for a, b in zip(t[0], t[1])], [b - a for a, b in zip(t[0], t[2])]]),
        "These are the interval's half widths",
    ),
    "rounded": (curve(out=lambda t: [[round(v, 2) for v in x] for x in t]), ""),
    "by loss": (curve(column="held_out_loss"), ""),
    "one list of all": (lambda runs, *, images: (1 - runs.held_out_errors / images).tolist(), ""),
    "clipped": (curve(out=lambda t: [[min(v, 0.75) for v in x] for x in t]), ""),
}


def optimum_by_group(runs):
    table = {T: g.sort_values("seed").held_out_errors.tolist() for T, g in runs.groupby("temperature")}
    order = sorted(table)
    best = min(order, key=lambda T: sum(table[T]))
    i = order.index(best)
    clear = True
    for j in (i - 1, i + 1):
        if j < 0 or j == len(order):
            continue
        clear = clear and mean_interval([a - b for a, b in zip(table[order[j]], table[best])])[1] > 0
    return best, clear


def optimum_in_numpy(runs):
    table = runs.pivot(index="temperature", columns="seed", values="held_out_errors").sort_index()
    x, i = table.to_numpy(float), int(np.argmin(table.mean(axis=1)))
    near = [x[j] - x[i] for j in range(max(0, i - 1), min(len(x), i + 2)) if j != i]
    return np.float64(table.index[i]), np.all(
        [d.mean() - 2.7764451 * d.std(ddof=1) / np.sqrt(len(d)) > 0 for d in near]
    )


def optimum_by_shift(runs):
    table = runs.pivot_table(index="seed", columns="temperature", values="held_out_errors")[
        sorted(runs.temperature.unique())
    ]
    best = table.mean().idxmin()
    difference = table.sub(table[best], axis=0)
    lows = difference.apply(lambda column: mean_interval(column.tolist())[1])
    at = list(table).index(best)
    beside = [T for i, T in enumerate(table) if abs(i - at) == 1]
    return [float(best), bool((lows[beside] > 0).all())]


def opt(column="held_out_errors", how="mean", beside=lambda i, n: [j for j in (i - 1, i + 1) if 0 <= j < n], judge=lambda row, best: mean_interval((row - best).tolist())[1] > 0,
        combine=all, pick="idxmin", out=lambda T, c, i: (T, c)):  # fmt: skip
    def f(runs):
        e = runs.pivot(index="temperature", columns="seed", values="held_out_errors").sort_index()
        T = getattr(runs.groupby("temperature")[column].agg(how), pick)()
        i = list(e.index).index(T)
        return out(float(T), bool(combine(judge(e.iloc[j], e.iloc[i]) for j in beside(i, len(e)))), i)

    return f


OPTIMUM = {
    "test errors": (opt(column="test_errors"), "T is chosen by test errors"),
    "train loss": (opt(column="train_loss"), "T is chosen by the training loss"),
    "held-out loss": (opt(column="held_out_loss"), "T is chosen by the loss on held-out images"),
    "lowest single": (opt(how="min"), "T is that of the luckiest single run"),
    "median": (opt(how="median"), "T is chosen by the median over seeds"),
    "most": (opt(pick="idxmax"), "This is the T with most errors"),
    "-1 wraps": (
        opt(beside=lambda i, n: [j for j in (i - 1, i + 1) if j < n]),
        "At an end of the list the other end is taken for a neighbour",
    ),
    "modulo": (
        opt(beside=lambda i, n: [(i - 1) % n, (i + 1) % n]),
        "At an end of the list the other end is taken for a neighbour",
    ),
    "no lower neighbour": (
        opt(beside=lambda i, n: [j for j in (i + 1,) if j < n]),
        "Only the neighbour on one side is looked at",
    ),
    "no upper neighbour": (
        opt(beside=lambda i, n: [j for j in (i - 1,) if j >= 0]),
        "Only the neighbour on one side is looked at",
    ),
    "lower neighbour only above 1": (opt(beside=lambda i, n: [j for j in (i - 1, i + 1) if 0 < j < n]), ""),
    "upper neighbour never the last": (opt(beside=lambda i, n: [j for j in (i - 1, i + 1) if 0 <= j < n - 1]), ""),
    "all others": (
        opt(beside=lambda i, n: [j for j in range(n) if j != i]),
        "Every other T has to be clearly worse here",
    ),
    "any": (opt(combine=any), "One clearly worse neighbour is not enough where there are two"),
    "ends never clear": (
        opt(combine=lambda x: (lambda y: len(y) == 2 and all(y))(list(x))),
        "An optimum at the end of the list has one neighbour",
    ),
    "always": (opt(judge=lambda r, b: True), "Every optimum is called clear"),
    "never": (opt(judge=lambda r, b: False), "No optimum is ever called clear"),
    "means differ": (opt(judge=lambda r, b: r.mean() > b.mean()), "Every optimum is called clear"),
    "unpaired": (
        opt(judge=lambda r, b: mean_interval(r.tolist())[1] > mean_interval(b.tolist())[2]),
        "Clear is asked of two intervals that do not overlap",
    ),
    "each seed": (opt(judge=lambda r, b: bool((r > b).all())), "Clear is asked of each single seed"),
    "sign": (opt(judge=lambda r, b: mean_interval((b - r).tolist())[1] > 0), "No optimum is ever called clear"),
    "high end": (opt(judge=lambda r, b: mean_interval((r - b).tolist())[2] > 0), "Every optimum is called clear"),
    "mean above 0": (opt(judge=lambda r, b: mean_interval((r - b).tolist())[0] > 0), "Every optimum is called clear"),
    "place": (opt(out=lambda T, c, i: (i, c)), "This is the place of the best T in the list"),
    "T only": (opt(out=lambda T, c, i: T), ""),
    "clear only": (opt(out=lambda T, c, i: c), ""),
    "swapped": (opt(out=lambda T, c, i: (c, T)), ""),
    "text": (opt(out=lambda T, c, i: (T, "clear" if c else "unclear")), "f must be a tensor or a number"),
    "sorts in place": (
        lambda runs: (runs.sort_values("held_out_errors", inplace=True), opt()(runs))[1],
        "changes the table `runs` in place",
    ),
}
TASKS = {
    "objective": (check_sweep_objective, OBJECTIVE, [objective_by_hand, objective_two_calls, objective_one_hot]),
    "runs": (check_sweep_runs, RUNS, [runs_by_product, runs_from_copies, runs_from_states]),
    "curve": (check_accuracy_curve, CURVE, [curve_by_group, curve_in_numpy, curve_from_errors]),
    "optimum": (check_find_optimum, OPTIMUM, [optimum_by_group, optimum_in_numpy, optimum_by_shift]),
}
