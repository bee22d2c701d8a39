"""Exercise 07: right answers in several styles pass, and each typical mistake gets its own message."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_cohort_picture,
    check_curriculum,
    check_mutual_learning_loss,
    check_mutual_verdicts,
    check_schedule,
)
from kdcourse.sweeps import mean_interval


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


NOTHING = [(lambda *a, **k: None, "got None"), (lambda *a, **k: torch.tensor(math.nan), "not finite|shape"),
           (lambda *a, **k: AlwaysEqual(), "got AlwaysEqual"), (AlwaysEqual(), "a function is needed"),
           (lambda: 0, "TypeError")]  # fmt: skip


def kd(student, teacher, t):
    log_q, log_p = F.log_softmax(student / t, 1), F.log_softmax(teacher / t, 1)
    return t**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def refuse_one(z):
    if len(z) < 2:
        raise ValueError("a student needs a peer")


def plain(all_logits, labels, *, temperature, divergence=kd, share=lambda s: 1 / (s - 1)):
    refuse_one(all_logits)
    losses = []
    for i in range(len(all_logits)):
        loss = F.cross_entropy(all_logits[i], labels)
        for j in range(len(all_logits)):
            if i != j:
                term = divergence(all_logits[i], all_logits[j].detach(), temperature)
                loss = loss + share(len(all_logits)) * term
        losses.append(loss)
    return losses


def stacked(all_logits, labels, *, temperature):
    refuse_one(all_logits)
    z = torch.stack(list(all_logits))  # (S, B, K)
    log_q, p = (z / temperature).log_softmax(-1), (z.detach() / temperature).softmax(-1)
    kl = torch.einsum("jbk,ijbk->ij", p, p.log()[None] - log_q[:, None]) / z.shape[1]
    hard = torch.stack([F.cross_entropy(one, labels) for one in z])
    return hard + temperature**2 * kl.sum(1) / (len(z) - 1)  # the diagonal is 0, in value as in gradient


class AsClass:
    def __call__(self, all_logits, labels, *, temperature):
        refuse_one(all_logits)
        with torch.no_grad():
            targets = [(z / temperature).softmax(1) for z in all_logits]
        found = ()
        for i, z in enumerate(all_logits):
            log_q = (z / temperature).log_softmax(1)
            others = [p for j, p in enumerate(targets) if j != i]
            kl = sum(F.kl_div(log_q, p, reduction="batchmean") for p in others) / len(others)
            found += (F.cross_entropy(z, labels) + temperature**2 * kl,)
        return found


@pytest.mark.parametrize("right", [plain, stacked, AsClass()])
def test_a_right_loss_passes_however_it_is_written(right):
    for seed in range(5):
        check_mutual_learning_loss(right, seed=seed)


def as_the_text(z, y, *, temperature):
    found = []
    for i, own in enumerate(z):
        average = torch.stack([z[j] for j in range(len(z)) if j != i]).mean(dim=0)
        found.append(F.cross_entropy(own, y) + kd(own, average.detach(), temperature))
    return found


def averaged_predictions(z, y, *, temperature):
    found = []
    for i, own in enumerate(z):
        p = torch.stack([(z[j] / temperature).softmax(1) for j in range(len(z)) if j != i]).mean(0).detach()
        kl = F.kl_div((own / temperature).log_softmax(1), p, reduction="batchmean")
        found.append(F.cross_entropy(own, y) + temperature**2 * kl)
    return found


def without_labels(z, y, *, temperature):
    both = plain(z, y, temperature=temperature)
    return [loss - F.cross_entropy(own, y) for loss, own in zip(both, z, strict=True)]


def neighbour(z, y, *, temperature, step=1):
    peers = z[step:] + z[:step]
    return [F.cross_entropy(a, y) + kd(a, b.detach(), temperature) for a, b in zip(z, peers, strict=True)]


def softened_labels(z, y, *, temperature):
    both = without_labels(z, y, temperature=temperature)
    return [loss + F.cross_entropy(own / temperature, y) for loss, own in zip(both, z, strict=True)]


def cross_entropies(s, t, temperature):
    return temperature**2 * F.cross_entropy(s / temperature, (t / temperature).softmax(1))


def not_detached(z, y, *, temperature):
    refuse_one(z)
    found = []
    for i, own in enumerate(z):
        terms = [kd(own, z[j], temperature) for j in range(len(z)) if j != i]
        found.append(F.cross_entropy(own, y) + sum(terms) / len(terms))
    return found


def own_detached(z, y, *, temperature):
    refuse_one(z)
    found = []
    for i, own in enumerate(z):
        terms = [kd(own.detach(), z[j].detach(), temperature) for j in range(len(z)) if j != i]
        found.append(F.cross_entropy(own, y) + sum(terms) / len(terms))
    return found


def accepts_one(z, y, *, temperature):
    return [F.cross_entropy(z[0], y)] if len(z) == 1 else plain(z, y, temperature=temperature)


def divides_by_zero(z, y, *, temperature):
    if len(z) == 1:
        return [1 / (len(z) - 1)]
    return plain(z, y, temperature=temperature)


def with_divergence(divergence, **more):
    return lambda z, y, *, temperature: plain(z, y, temperature=temperature, divergence=divergence, **more)


def at(function, change):
    return lambda z, y, *, temperature: change(function(z, y, temperature=temperature))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (as_the_text, "logits are averaged first"),
        (averaged_predictions, "predictions are averaged first"),
        (with_divergence(kd, share=lambda s: 1), "added up"),
        (with_divergence(kd, share=lambda s: 1 / s), "divided by S"),
        (without_labels, "labels are missing"),
        (with_divergence(lambda s, t, T: kd(s, t, T) / T**2), "factor T² is missing"),
        (with_divergence(lambda s, t, T: kd(t, s, T)), r"KL\(student‖peer\)"),
        (with_divergence(lambda s, t, T: kd(s, t, T) / s.shape[1]), "K times too small"),
        (with_divergence(lambda s, t, T: kd(s, t, T) * len(s)), "summed over the batch"),
        (with_divergence(cross_entropies), "entropy is still in it"),
        (softened_labels, "sees softened logits"),
        (neighbour, "its neighbour"),
        (lambda z, y, *, temperature: neighbour(z, y, temperature=temperature, step=-1), "its neighbour"),
        (at(plain, sum), "One number came"),
        (at(stacked, torch.mean), "One number came"),
        (at(plain, lambda losses: losses[0]), "Only the first"),
        (not_detached, "pulls at its peers"),
        (own_detached, "own logits are detached in it"),
        (at(plain, lambda losses: [loss.item() for loss in losses]), "plain number"),
        (accepts_one, "cohort of one was accepted"),
        (divides_by_zero, "ZeroDivisionError"),
        *NOTHING,
    ],
)
def test_each_wrong_loss_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_mutual_learning_loss(wrong, seed=seed)


def knobs(epoch, epochs, *, progress=None, t=(10, 1), a=(0.9, 0.5)):
    if progress is None:
        progress = 1 if epochs == 1 else epoch / (epochs - 1)
    return t[0] * (t[1] / t[0]) ** progress, a[0] + (a[1] - a[0]) * progress


def by_logspace(epoch, epochs):
    if epochs == 1:
        return [1, 0.5]
    return torch.logspace(1, 0, epochs)[epoch], torch.linspace(0.9, 0.5, epochs)[epoch]


class KnobsAsClass:
    def __call__(self, epoch, epochs):
        left = (epochs - 1 - epoch) / max(epochs - 1, 1)
        return torch.tensor([10**left, 0.5 + 0.4 * left])


@pytest.mark.parametrize("right", [knobs, by_logspace, KnobsAsClass()])
def test_a_right_schedule_passes(right):
    for seed in range(3):
        check_schedule(right, seed=seed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda e, n: (10 * 0.1 ** (e / n), 0.5 + 0.5 * (e / n)), "epoch that never comes.*still grows"),
        (lambda e, n: (10 - 9 * (e / n), 0.5 + 0.5 * (e / n)), "epoch that never comes.*still grows"),
        (lambda e, n: (10 - 9 * (e / n), 0.5 + 0.4 * (e / n)), "epoch that never comes.*still grows"),
        (lambda e, n: (10 - 9 * (e / n), 0.9 - 0.4 * (e / n)), "epoch that never comes"),
        (lambda e, n: (10 - 9 * e / max(n - 1, 1), knobs(e, n)[1]), "T goes in a straight line"),
        (lambda e, n: (knobs(e, n)[0], 0.9 * (5 / 9) ** (e / max(n - 1, 1))), "α is multiplied"),
        (lambda e, n: knobs(e, n, progress=(e + 1) / n), "start too late"),
        (lambda e, n: knobs(e, n, a=(0.5, 1)), "α ends at 1"),
        (lambda e, n: knobs(e, n, a=(0.5, 0.9)), "α grows"),
        (lambda e, n: knobs(e, n, t=(1, 10)), "T grows"),
        (lambda e, n: knobs(n - 1 - e, n), "backwards"),
        (lambda e, n: knobs(e, n, progress=e // (n - 1)), "jump at the end"),
        (lambda e, n: knobs(e, n, progress=min(1, (e + 1) / (n - 1))), "epoch too early"),
        (lambda e, n: knobs(e, n)[::-1], "α came first"),
        (lambda e, n: knobs(e, n, progress=e / (n - 1)), "ZeroDivisionError"),
        (lambda e, n: knobs(e, n, progress=e / max(n - 1, 1)), "got the first values"),
        *NOTHING,
    ],
)
def test_each_mistake_left_in_the_schedule_is_named(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_schedule(wrong, seed=seed)


def losses(z, y):
    return F.cross_entropy(z, y, reduction="none")


def easiest(z, y, *, share, hard=losses):
    return hard(z, y).argsort()[: math.ceil(share * len(y))]


def easiest_by_list(z, y, *, share):
    hard = [float(z[i].logsumexp(0) - z[i][y[i]]) for i in range(len(y))]
    return sorted(range(len(y)), key=hard.__getitem__)[: math.ceil(share * len(y))]


class EasiestAsClass:
    def __call__(self, z, y, *, share):
        hard = F.nll_loss(z.log_softmax(-1), y, reduction="none")
        return hard.topk(math.ceil(share * len(z)), largest=False, sorted=True).indices.numpy()


@pytest.mark.parametrize("right", [easiest, easiest_by_list, EasiestAsClass()])
def test_a_right_curriculum_passes(right):
    for seed in range(5):
        check_curriculum(right, seed=seed)


def probabilities(z, y):
    return -z.softmax(1)[torch.arange(len(y)), y]


def entropy(z, y):
    return -(z.softmax(1) * z.log_softmax(1)).sum(1)


def mask(z, y, *, share):
    hard = losses(z, y)
    return hard <= hard.sort().values[math.ceil(share * len(y)) - 1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda z, y, *, share: easiest(z, y, share=share, hard=lambda z, y: -losses(z, y)), "hardest come first"),
        (lambda z, y, *, share: losses(z, y).argsort()[-math.ceil(share * len(y)) :], "hardest share was kept"),
        (lambda z, y, *, share: easiest(z, y, share=share, hard=lambda z, y: -z.softmax(1).max(1).values), "how sure"),
        (lambda z, y, *, share: easiest(z, y, share=share, hard=entropy), "entropy"),
        (lambda z, y, *, share: easiest(z, y, share=share, hard=lambda z, y: -z[range(len(y)), y]), "label's logit"),
        (lambda z, y, *, share: losses(z, y).argsort()[: int(share * len(y))], "rounded down"),
        (lambda z, y, *, share: losses(z, y).sort().values[: math.ceil(share * len(y))], "These are losses"),
        (lambda z, y, *, share: losses(z, y).argsort().argsort()[: math.ceil(share * len(y))], "These are ranks"),
        (lambda z, y, *, share: mask(z, y, share=share).nonzero()[:, 0], "order of the data"),
        (mask, "mask came"),
        (lambda z, y, *, share: losses(z, y).argsort(), "share was not used"),
        (lambda z, y, *, share: torch.arange(len(y))[: math.ceil(share * len(y))], "nothing was sorted"),
        (lambda z, y, *, share: easiest(z, y, share=share, hard=probabilities), "Stay in log space"),
        (lambda z, y, *, share: F.cross_entropy(z, y).argsort()[: math.ceil(share * len(y))], "shape|IndexError"),
        *NOTHING,
    ],
)  # fmt: skip
def test_each_wrong_curriculum_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_curriculum(wrong, seed=seed)


def test_answers_about_peers_that_disagree(capsys):
    check_cohort_picture(["a", "C", " b"])
    assert capsys.readouterr().out.count("Passed") == 3
    for answers, told in [
        (["b", "c", "b"], "smallest of the five"),
        (["c", "c", "b"], "smallest of the five"),
        (["a", "a", "b"], "no label enters"),
        (["a", "b", "b"], "flatter, not sharper"),
        (["a", "c", "a"], "trained or not"),
        (["a", "c", "c"], "still three"),
        ([AlwaysEqual()] * 3, "one letter"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_cohort_picture(answers)


def test_the_experiment_is_judged_by_its_intervals():
    errors = {"mutual": [100.0, 125.5, 105.0], "alone": [109, 109, 94], "label_smoothing": [200, 227, 204],
              "twice as long": [50, 76, 54]}  # fmt: skip
    right = {"alone": "unclear", "label_smoothing": "better", "twice as long": "worse"}
    _, low, high = mean_interval([a - b for a, b in zip(errors["mutual"], errors["alone"], strict=True)])
    check_mutual_verdicts(right, -low, errors)
    check_mutual_verdicts(right, round(-low), errors)
    for wrong in ({**right, "alone": "better"}, {**right, "label_smoothing": "unclear"}, dict.fromkeys(right, "worse")):
        with pytest.raises(CheckFailed, match="the interval of the paired difference"):
            check_mutual_verdicts(wrong, -low, errors)
    with pytest.raises(CheckFailed, match="must be the dict"):
        check_mutual_verdicts(AlwaysEqual(), -low, errors)
    with pytest.raises(CheckFailed, match="no verdict for 'mutual' against 'twice as long'"):
        check_mutual_verdicts({"alone": "unclear", "label_smoothing": "better"}, -low, errors)
    with pytest.raises(CheckFailed, match="a verdict is"):
        check_mutual_verdicts({**right, "alone": AlwaysEqual()}, -low, errors)
    for wrong, told in [(low, "mind the sign"), (high, "worst case"), ((high - low) / 2, "half the interval"),
                        ((low + high) / 2, "mean difference"), (99, "not where the interval ends"),
                        (math.nan, "not where the interval"), (AlwaysEqual(), "got AlwaysEqual")]:  # fmt: skip
        with pytest.raises(CheckFailed, match=told):
            check_mutual_verdicts(right, wrong, errors)
    with pytest.raises(NotImplementedError):
        check_mutual_verdicts(dict.fromkeys(right), None, errors)
    with pytest.raises(NotImplementedError, match="may_save"):
        check_mutual_verdicts(right, None, errors)


def test_stubs_are_not_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 1")

    for check in (check_mutual_learning_loss, check_schedule, check_curriculum):
        with pytest.raises(NotImplementedError, match="Task 1"):
            check(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_cohort_picture([None, None, None])
