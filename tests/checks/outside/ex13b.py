"""Outside answers to exercise 13b: your folder."""

# ruff: noqa: B905, E501, E731, RUF059 (answers as learners write them)

import math
import random
import statistics

import numpy as np
import torch
import torch.nn.functional as F

from kdcourse.checks import check_paired_differences, check_report, check_split, check_three_ways
from kdcourse.losses import kd_loss, soften
from kdcourse.results import mean_interval, verdict

# ---- task 1


def split_numpy(files, groups, *, seed):
    rng = np.random.default_rng(seed)
    names = np.unique(groups)
    rng.shuffle(names)
    n = round(len(names) / 5)
    held, test = set(names[:n]), set(names[n : 2 * n])
    out = [], [], []
    for f, g in zip(files, groups):
        out[1 if g in held else 2 if g in test else 0].append(f)
    return out


def split_torch(files, groups, *, seed):
    names = sorted(set(groups))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    n = round(len(names) / 5)
    place = {names[i]: k for k, i in enumerate(order)}
    train = [f for f, g in zip(files, groups) if place[g] >= 2 * n]
    held = [f for f, g in zip(files, groups) if place[g] < n]
    test = [f for f, g in zip(files, groups) if n <= place[g] < 2 * n]
    return train, held, test


def split_sample(files, groups, *, seed):
    r = random.Random(seed)
    left = sorted(set(groups))
    n = round(len(left) / 5)
    test = r.sample(left, n)
    left = [g for g in left if g not in test]
    held = r.sample(left, n)
    by = lambda names: [f for f, g in zip(files, groups) if g in names]
    return by([g for g in left if g not in held]), by(held), by(test)


def split(order=None, cut=None, by=None):
    """The parts of a split, each replaceable."""

    def run(files, groups, *, seed):
        names = sorted(set(groups))
        random.Random(seed).shuffle(names)
        names = order(names, seed) if order else names
        n = round(len(names) / 5)
        parts = cut(names, n) if cut else (names[2 * n :], names[:n], names[n : 2 * n])
        return by(files, groups, parts) if by else [[f for f, g in zip(files, groups) if g in p] for p in parts]

    return run


def of_files(files, groups, *, seed):
    mixed = list(files)
    random.Random(seed).shuffle(mixed)
    n = round(len(mixed) / 5)
    return mixed[2 * n :], mixed[:n], mixed[n : 2 * n]


def in_place(files, groups, *, seed):
    random.Random(seed).shuffle(files)
    return split()(files, groups, seed=seed)


def unseeded(files, groups, *, seed):
    return split()(files, groups, seed=random.SystemRandom().randrange(10**9))


def rotated(files, groups, *, seed):
    names = sorted(set(groups))
    k = random.Random(seed).randrange(len(names))
    names = names[k:] + names[:k]
    n = round(len(names) / 5)
    names = [g for g in sorted(set(groups)) if g not in names[:n]] and names
    test = sorted(set(groups))[k % (len(names) - n) : k % (len(names) - n) + n]
    rest = [g for g in names if g not in test]
    return [[f for f, g in zip(files, groups) if g in p] for p in (rest[n:], rest[:n], test)]


SPLIT = {
    "files": (of_files, "Files of one group are nearly copies"),
    "always 0": (lambda f, g, *, seed: split()(f, g, seed=0), "Nine seeds gave the same test set"),
    "unseeded": (unseeded, "same seed gave another split"),
    "sorted": (split(order=lambda names, seed: sorted(names)), "Nine seeds gave the same test set"),
    "rotated": (rotated, "side by side"),
    "test is held out": (split(cut=lambda p, n: (p[2 * n :], p[:n], p[:n])), "twice"),
    "test in train": (split(cut=lambda p, n: (p[n:], p[:n], p[n : 2 * n])), "twice"),
    "everything in train": (split(cut=lambda p, n: (p, p[:n], p[n : 2 * n])), "twice"),
    "lost": (split(cut=lambda p, n: (p[2 * n + 1 :], p[:n], p[n : 2 * n])), "in no part"),
    "one file a group": (
        split(by=lambda f, g, parts: [[f[g.index(name)] for name in part] for part in parts]), "in no part",
    ),
    "a quarter": (
        split(cut=lambda p, n: (p[2 * (len(p) // 4) :], p[: len(p) // 4], p[len(p) // 4 : 2 * (len(p) // 4)])), "groups",
    ),
    "a tenth": (split(cut=lambda p, n: (p[2 : ], p[:1], p[1:2])), "groups"),
    "no held-out": (split(cut=lambda p, n: (p[n:], [], p[:n])), "groups"),
    "another order": (split(cut=lambda p, n: (p[:n], p[n : 2 * n], p[2 * n :])), "train has"),
    "groups": (split(by=lambda f, g, parts: parts), "hold names of files"),
    "places": (split(by=lambda f, g, parts: [[i for i, x in enumerate(g) if x in p] for p in parts]), "names of files"),
    "two lists": (split(by=lambda f, g, parts: [f, f]), "three lists"),
    "a float": (lambda f, g, *, seed: 0.6, "three lists"),
    "caller's list": (in_place, "work on a copy"),
    "ignores the last": (lambda f, g, *, seed: split()(f[:-1], g[:-1], seed=seed), "in no part"),
}  # fmt: skip

# ---- task 2


def ways_if(logits, labels, teacher_logits, *, way, temperature, alpha):
    hard = F.cross_entropy(logits, labels, label_smoothing=0.1 if way == "smoothed" else 0)
    if way != "distilled":
        return hard
    soft = F.kl_div(
        (logits / temperature).log_softmax(1),
        soften(teacher_logits.detach(), temperature=temperature),
        reduction="batchmean",
    )
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def ways_match(logits, labels, teacher_logits, *, way, temperature, alpha):
    match way:
        case "plain":
            return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()
        case "smoothed":
            k = logits.shape[1]
            target = 0.9 * F.one_hot(labels, k) + 0.1 / k
            return -(target * logits.log_softmax(1)).sum(1).mean()
        case _:
            return alpha * kd_loss(logits, teacher_logits, temperature=temperature) + F.cross_entropy(
                logits, labels
            ) * (1 - alpha)


def ways_dict(logits, labels, teacher_logits, *, way, temperature, alpha):
    table = {
        "plain": lambda: F.cross_entropy(logits, labels),
        "smoothed": lambda: F.cross_entropy(logits, labels, label_smoothing=0.1),
        "distilled": lambda: (
            alpha * kd_loss(logits, teacher_logits, temperature=temperature)
            + (1 - alpha) * F.cross_entropy(logits, labels)
        ),
    }
    return table[way]()


def ways(plain=None, smoothed=None, kd=None, hard=None, mix=None):
    def run(z, y, t, *, way, temperature, alpha):
        ce = F.cross_entropy
        if way == "plain":
            return plain(z, y) if plain else ce(z, y)
        if way == "smoothed":
            return smoothed(z, y) if smoothed else ce(z, y, label_smoothing=0.1)
        soft = kd(z, t, temperature) if kd else kd_loss(z, t, temperature=temperature)
        label = hard(z, y) if hard else ce(z, y)
        return mix(soft, label, alpha) if mix else alpha * soft + (1 - alpha) * label

    return run


def kl(z, t, T, reduction="batchmean"):
    return F.kl_div((z / T).log_softmax(1), (t / T).softmax(1), reduction=reduction)


WAYS = {
    "smoothing everywhere": (ways(plain=lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)), "plain way has smoothed"),
    "no smoothing": (ways(smoothed=F.cross_entropy), "label_smoothing=0.1 is missing"),
    "smoothing .2": (ways(smoothed=lambda z, y: F.cross_entropy(z, y, label_smoothing=0.2)), ""),
    "smoothed teacher": (ways(hard=lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)), "smooths the labels as well"),
    "no T2": (ways(kd=lambda z, t, T: kl(z, t.detach(), T)), "T²"),
    "T once": (ways(kd=lambda z, t, T: T * kl(z, t.detach(), T)), ""),
    "mean": (ways(kd=lambda z, t, T: T * T * kl(z, t.detach(), T, "mean")), ""),
    "sum": (ways(kd=lambda z, t, T: T * T * kl(z, t.detach(), T, "sum")), ""),
    "attached": (ways(kd=lambda z, t, T: T * T * kl(z, t, T)), "gradient reaches the teacher"),
    "alpha turned": (ways(mix=lambda s, h, a: (1 - a) * s + a * h), "exchanged"),
    "no alpha": (ways(mix=lambda s, h, a: s + h), ""),
    "alpha on one": (ways(mix=lambda s, h, a: a * s + h), "1 - α is missing"),
    "teacher alone": (ways(mix=lambda s, h, a: a * s), "labels' term is missing"),
    "labels alone": (ways(mix=lambda s, h, a: h), ""),
    "reversed": (ways(kd=lambda z, t, T: kd_loss(t, z, temperature=T)), "exchanged"),
    "T = 1": (ways(kd=lambda z, t, T: kd_loss(z, t, temperature=1.0)), "temperature is not used"),
    "detached": (ways(kd=lambda z, t, T: kd_loss(z.detach(), t, temperature=T), hard=lambda z, y: F.cross_entropy(z.detach(), y)), ""),
    "item": (lambda *a, **k: ways()(*a, **k).item(), ""),
    "hard answers": (ways(kd=lambda z, t, T: F.cross_entropy(z, t.argmax(1))), "turned into labels"),
    "softmax twice": (ways(plain=lambda z, y: F.cross_entropy(z.softmax(1), y)), ""),
    "per sample": (ways(plain=lambda z, y: F.cross_entropy(z, y, reduction="none")), ""),
    "one for all": (lambda z, y, t, *, way, temperature, alpha: ways()(z, y, t, way="distilled", temperature=temperature, alpha=alpha), "all three have the same loss"),
}  # fmt: skip

# ---- task 3


def pairs_numpy(errors):
    out = {}
    for other in ["plain", "smoothed"]:
        d = np.array(errors["distilled"]) - np.array(errors[other])
        out[other] = mean_interval(d.tolist())
    return out


def pairs_by_hand(errors):
    from scipy import stats

    out = {}
    for other in ("plain", "smoothed"):
        d = [a - b for a, b in zip(errors["distilled"], errors[other])]
        half = stats.t.ppf(0.975, len(d) - 1) * statistics.stdev(d) / math.sqrt(len(d))
        m = statistics.mean(d)
        out[other] = (m, m - half, m + half)
    return out


def pairs_tensor(errors):
    base = torch.tensor(errors["distilled"])
    return {k: mean_interval((base - torch.tensor(errors[k])).tolist()) for k in errors if k != "distilled"}


def pairs(change):
    """Differences, changed; then the interval."""
    return lambda errors: {
        o: change([a - b for a, b in zip(errors["distilled"], errors[o])], errors, o) for o in ("plain", "smoothed")
    }


def around(d, half):
    m = statistics.mean(d)
    return m, m - half, m + half


PAIRS = {
    "turned": (pairs(lambda d, e, o: mean_interval([-x for x in d])), "Baseline minus distilled"),
    "stdev": (pairs(lambda d, e, o: around(d, statistics.stdev(d))), "standard deviation"),
    "population": (pairs(lambda d, e, o: around(d, statistics.pstdev(d))), ""),
    "standard error": (pairs(lambda d, e, o: around(d, statistics.stdev(d) / math.sqrt(len(d)))), "t distribution"),
    "1.96": (pairs(lambda d, e, o: around(d, 1.96 * statistics.stdev(d) / math.sqrt(len(d)))), "t distribution"),
    "range": (pairs(lambda d, e, o: (statistics.mean(d), min(d), max(d))), "smallest and the largest"),
    "sorted": (lambda e: pairs_numpy({k: sorted(v) for k, v in e.items()}), "sorted first"),
    "own": (pairs(lambda d, e, o: mean_interval(e["distilled"])), "the distilled student's errors"),
    "baselines": (pairs(lambda d, e, o: mean_interval(e[o])), "the distilled student's errors"),
    "swapped": (lambda e: dict(zip(("smoothed", "plain"), pairs_numpy(e).values())), "exchanged"),
    "plain twice": (lambda e: dict.fromkeys(("plain", "smoothed"), pairs_numpy(e)["plain"]), "same baseline"),
    "low mean high": (pairs(lambda d, e, o: tuple(sorted(mean_interval(d)))), "Mean, low, high"),
    "per cent": (pairs(lambda d, e, o: mean_interval([100 * x / b for x, b in zip(d, e[o])])), "divided by the baseline"),
    "90 per cent": (pairs(lambda d, e, o: mean_interval(d, level=0.9)), ""),
    "mean alone": (pairs(lambda d, e, o: statistics.mean(d)), ""),
    "median": (pairs(lambda d, e, o: (statistics.median(d), *mean_interval(d)[1:])), ""),
    "absolute": (pairs(lambda d, e, o: mean_interval([abs(x) for x in d])), ""),
    "one baseline": (lambda e: {"plain": pairs_numpy(e)["plain"]}, ""),
    "unpaired": (pairs(lambda d, e, o: around(d, 1.96 * math.sqrt((statistics.variance(e["distilled"]) + statistics.variance(e[o])) / len(d)))), ""),
}  # fmt: skip

# ---- task 5


def report_plain(facts):
    text = f"Tested on {facts['test_images']} images with {facts['seeds']} seeds.\n"
    for name in facts["differences"]:
        m, lo, hi = facts["differences"][name]
        word = "unclear"
        if hi < 0:
            word = "better"
        elif lo > 0:
            word = "worse"
        text += f"The distilled student against {name}: {word} ({lo:.2f} to {hi:.2f} errors)\n"
    return text + f"Size: {facts['student_bytes'] / facts['teacher_bytes']:.1%} of the teacher"


def report_short(facts):
    d = facts["differences"]
    say = lambda k: f"{k.upper()} {verdict(*d[k][1:])} [{d[k][1]:.1f}, {d[k][2]:.1f}]"
    share = facts["student_bytes"] / facts["teacher_bytes"] * 100
    return f"n={facts['test_images']}, seeds={facts['seeds']}\n{say('smoothed')}\n{say('plain')}\n{share:.0f} per cent of the bytes"


def report_table(facts):
    rows = ["baseline | verdict | low | high"]
    for k, (_, low, high) in facts["differences"].items():
        rows.append(f"{k} | {verdict(low, high)} | {round(low, 1)} | {round(high, 1)}")
    share = round(100 * facts["student_bytes"] / facts["teacher_bytes"], 2)
    return "\n".join([*rows, f"{facts['seeds']} seeds; {facts['test_images']} test images; {share} % of the size"])


def report(word=None, ends=True, head=None, share=None, names=("plain", "smoothed"), line=None):
    def run(facts):
        lines = [head(facts) if head else f"{facts['test_images']} test images, {facts['seeds']} seeds"]
        for k in names:
            m, low, high = facts["differences"][k]
            w = word(m, low, high) if word else verdict(low, high)
            lines.append(
                line(k, w, m, low, high)
                if line
                else f"{k}: {w} {m:.1f}" + (f" [{low:.1f}, {high:.1f}]" if ends else "")
            )
        lines.append(share(facts) if share else f"{100 * facts['student_bytes'] / facts['teacher_bytes']:.1f} %")
        return "\n".join(lines)

    return run


REPORT = {
    "by the mean": (report(word=lambda m, lo, hi: "better" if m < 0 else "worse"), "Look at both ends"),
    "always better": (report(word=lambda *a: "better"), "Look at both ends"),
    "turned": (report(word=lambda m, lo, hi: {"better": "worse", "worse": "better"}.get(verdict(lo, hi), "unclear")), "Look at both ends"),
    "no word": (report(word=lambda *a: ""), "has no verdict"),
    "equal": (report(word=lambda m, lo, hi: {"unclear": "equal"}.get(verdict(lo, hi), verdict(lo, hi))), "unclear is not equal"),
    "no difference": (report(word=lambda m, lo, hi: {"unclear": "unclear, so there is no difference"}.get(verdict(lo, hi), verdict(lo, hi))), "unclear is not equal"),
    "no ends": (report(ends=False), "end of the interval"),
    "no seeds": (report(head=lambda f: f"{f['test_images']} test images"), "number of seeds"),
    "no images": (report(head=lambda f: f"{f['seeds']} seeds"), "number of test images"),
    "no share": (report(share=lambda f: "small"), "share of the teacher's bytes"),
    "teacher by student": (report(share=lambda f: f"{100 * f['teacher_bytes'] / f['student_bytes']:.1f} %"), "share of the teacher's bytes"),
    "not per cent": (report(share=lambda f: f"{f['student_bytes'] / f['teacher_bytes']:.3f}"), "share of the teacher's bytes"),
    "one baseline": (report(names=("plain",)), ""),
    "baselines unnamed": (report(line=lambda k, w, m, lo, hi: f"{w} [{lo:.1f}, {hi:.1f}]"), "names the baseline"),
    "all words": (report(word=lambda *a: "better/worse/unclear"), "line of its own"),
    "printed": (lambda facts: print(report()(facts)), "printing it returns None"),
    "list": (lambda facts: report()(facts).splitlines(), "a report is a text"),
    "empty": (lambda facts: "", "at most eight"),
    "long": (lambda facts: report()(facts) + "\n." * 9, "at most eight"),
    "half width": (report(line=lambda k, w, m, lo, hi: f"{k}: {w} {m:.1f} ± {(hi - lo) / 2:.1f}"), "end of the interval"),
}  # fmt: skip

TASKS = {
    "split": (check_split, SPLIT, [split_numpy, split_torch, split_sample]),
    "ways": (check_three_ways, WAYS, [ways_if, ways_match, ways_dict]),
    "pairs": (check_paired_differences, PAIRS, [pairs_numpy, pairs_by_hand, pairs_tensor]),
    "report": (check_report, REPORT, [report_plain, report_short, report_table]),
}
