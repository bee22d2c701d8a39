"""Exercise 02: right answers in several styles pass, and each typical mistake gets its own message."""

import math
import statistics

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_kd_loss,
    check_padded_kd_loss,
    check_paired_interval,
    check_picture,
    check_repaired_loss,
    check_verdict,
)
from kdcourse.checks.slips.padding import PADDED_KD
from kdcourse.results import t_quantile


class AlwaysEqual:
    """Compares true with everything, and is at home in arithmetic."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None

    def __sub__(self, other):
        return self

    __rsub__ = __abs__ = __mul__ = lambda self, *other: self

    def __float__(self):
        return 0.0


def with_kl_div(student_logits, teacher_logits, *, temperature):
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


def with_einsum(student_logits, teacher_logits, *, temperature):
    s, t = student_logits / temperature, teacher_logits.detach() / temperature
    log_q, log_p = s - s.logsumexp(1, keepdim=True), t - t.logsumexp(1, keepdim=True)
    return temperature**2 * torch.einsum("bk,bk->", log_p.exp(), log_p - log_q) / len(s)


class AsClass:
    def __call__(self, student_logits, teacher_logits, *, temperature=1.0):
        with torch.no_grad():
            log_p = F.log_softmax(teacher_logits / temperature, -1)
        log_q = F.log_softmax(student_logits / temperature, -1)
        return ((log_p - log_q) * log_p.exp()).sum(-1).mean().mul(temperature).mul(temperature)


@pytest.mark.parametrize("right", [with_kl_div, with_einsum, AsClass()])
def test_a_right_loss_passes_however_it_is_written(right, capsys):
    for seed in range(5):
        check_kd_loss(right, seed=seed)
    check_kd_loss(right)
    assert "Passed" in capsys.readouterr().out


def rows(s, t, temperature):
    return F.log_softmax(s / temperature, -1), F.log_softmax(t / temperature, -1)


def no_t2(s, t, *, temperature):
    return F.kl_div(*rows(s, t, temperature), reduction="batchmean", log_target=True)


def one_t(s, t, *, temperature):
    return temperature * no_t2(s, t, temperature=temperature)


def mean(s, t, *, temperature):
    return temperature**2 * F.kl_div(*rows(s, t, temperature), reduction="mean", log_target=True)


def summed(s, t, *, temperature):
    return temperature**2 * F.kl_div(*rows(s, t, temperature), reduction="sum", log_target=True)


def swapped(s, t, *, temperature):
    return with_kl_div(t, s, temperature=temperature)


def soft_cross_entropy(s, t, *, temperature):
    return temperature**2 * F.cross_entropy(s / temperature, (t / temperature).softmax(1))


def only_the_teacher(s, t, *, temperature):
    return temperature**2 * F.kl_div(F.log_softmax(s, 1), (t / temperature).softmax(1).detach(), reduction="batchmean")


def over_the_batch(s, t, *, temperature):
    log_q, log_p = F.log_softmax(s / temperature, 0), F.log_softmax(t / temperature, 0)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def per_image(s, t, *, temperature):
    log_q, log_p = rows(s, t, temperature)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)


def not_detached(s, t, *, temperature):
    return temperature**2 * no_t2(s, t, temperature=temperature)


def not_in_log_space(s, t, *, temperature):
    q, p = (s / temperature).softmax(-1), (t.detach() / temperature).softmax(-1)
    return temperature**2 * (p * (p.log() - q.log())).sum(-1).mean()


def detached_student(s, t, *, temperature):
    return with_kl_div(s.detach(), t, temperature=temperature)


def forgot_log_target(s, t, *, temperature):
    return temperature**2 * F.kl_div(*rows(s, t, temperature), reduction="batchmean")


def no_logarithm(s, t, *, temperature):
    q, p = (s / temperature).softmax(1), (t / temperature).softmax(1)
    return temperature**2 * F.kl_div(q, p, reduction="batchmean")


def multiplies(s, t, *, temperature):
    return temperature**2 * F.kl_div(*rows(s, t, 1 / temperature), reduction="batchmean", log_target=True)


def half_detached(s, t, *, temperature):
    s = torch.cat([s[:1], s[1:].detach()])
    return with_kl_div(s, t, temperature=temperature)


def in_place(s, t, *, temperature):
    return with_kl_div(s.div_(temperature) * temperature, t, temperature=temperature)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (no_t2, "T² times too small"),
        (one_t, "T times too small"),
        (mean, "K times too small"),
        (summed, "summed over the batch"),
        (swapped, r"KL\(student‖teacher\)"),
        (soft_cross_entropy, "cross-entropy with the teacher"),
        (only_the_teacher, "Only the teacher is softened"),
        (over_the_batch, "over the batch, dim=0"),
        (per_image, "One value per image"),
        (not_detached, "reaches the teacher"),
        (not_in_log_space, "Stay in log space"),
        (detached_student, "No gradient reaches the student"),
        (in_place, "in place"),
        (lambda s, t, *, temperature: None, "got None"),
        (lambda s, t, *, temperature: torch.tensor(math.inf), "not finite"),
        (forgot_log_target, "log_target=True"),
        (no_logarithm, "wants their logarithms"),
        (multiplies, "logits are multiplied by T"),
        (lambda s, t, *, temperature: F.mse_loss(s, t.detach()), "squared difference of the logits"),
        (half_detached, "right value and a wrong gradient"),
        (lambda s, t, *, temperature: torch.tensor(1.0), "none of what comes in has an effect"),
        (lambda s, t, *, temperature: AlwaysEqual(), "got AlwaysEqual"),
        (lambda s, t: 0, "TypeError"),
        (AlwaysEqual(), "a function is needed"),
    ],
)
def test_each_wrong_loss_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_kd_loss(wrong, seed=seed)


def test_a_stub_is_not_a_mistake():
    def stub(*args, **kwargs):
        raise NotImplementedError("Task 1")

    with pytest.raises(NotImplementedError, match="Task 1"):
        check_kd_loss(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_picture([None, None])


def padded_by_indexing(s, t, mask, *, temperature):
    return with_kl_div(s[mask], t[mask], temperature=temperature)


def padded_by_where(s, t, mask, *, temperature):
    log_q, log_p = rows(s, t.detach(), temperature)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)  # (B, L)
    return temperature**2 * torch.where(mask, kl, 0.0).sum() / mask.sum()


def padded_in_a_loop(s, t, mask, *, temperature):
    total = torch.zeros(())
    for b, length in enumerate(mask.sum(1).tolist()):
        if length:
            total = total + length * with_einsum(s[b, :length], t[b, :length], temperature=temperature)
    return total / mask.sum()


def padded_flat(s, t, mask, *, temperature):
    keep = mask.flatten()
    return AsClass()(s.flatten(0, 1)[keep], t.flatten(0, 1)[keep], temperature=temperature)


@pytest.mark.parametrize("right", [padded_by_indexing, padded_by_where, padded_in_a_loop, padded_flat])
def test_a_right_loss_of_sentences_passes_however_it_is_written(right, capsys):
    for seed in range(5):
        check_padded_kd_loss(right, seed=seed)
    assert "Passed" in capsys.readouterr().out


PADDED_SLIPS = [(name, wrong) for name, slip in PADDED_KD.items() for wrong in slip.wrong]


@pytest.mark.parametrize(("name", "wrong"), PADDED_SLIPS, ids=[name for name, _ in PADDED_SLIPS])
def test_each_wrong_loss_of_sentences_is_named(name, wrong):
    for seed in range(3):
        with pytest.raises(CheckFailed) as failed:
            check_padded_kd_loss(wrong, seed=seed)
        assert str(failed.value) == PADDED_KD[name].message


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda s, t, m, *, temperature: no_t2(s[m], t.detach()[m], temperature=temperature), "T² times too small"),
        (lambda s, t, m, *, temperature: not_detached(s[m], t[m], temperature=temperature), "reaches the teacher"),
        (lambda s, t, m, *, temperature: not_in_log_space(s[m], t[m], temperature=temperature), "Stay in log space"),
        (lambda s, t, m, *, temperature: detached_student(s[m], t[m], temperature=temperature), "No gradient reaches"),
        (
            lambda s, t, m, *, temperature: padded_by_where(s.mul_(m[..., None]), t, m, temperature=temperature),
            "in place",
        ),
    ],
)
def test_an_old_mistake_in_the_loss_of_sentences_is_named(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_padded_kd_loss(wrong, seed=seed)


def test_a_loss_that_divides_by_the_length_of_each_sentence_meets_one_that_is_padding_only():
    def masked_means(s, t, mask, *, temperature):
        log_q, log_p = rows(s, t.detach(), temperature)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1) * mask
        share = mask.sum(1) / mask.sum()  # right but where a sentence holds padding only: 0/0
        return temperature**2 * (kl.sum(1) / mask.sum(1) * share).sum()

    with pytest.raises(CheckFailed, match="a sentence of padding only"):
        check_padded_kd_loss(masked_means, seed=0)


def mixed(kd, *, swap=False, t2_on_labels=False, soft_labels=False):
    def loss(s, t, labels, *, temperature, alpha):
        hard = F.cross_entropy(s / (temperature if soft_labels else 1), labels)
        hard = hard * temperature**2 if t2_on_labels else hard
        share = 1 - alpha if swap else alpha
        return share * kd(s, t, temperature=temperature) + (1 - share) * hard

    return loss


def unweighted(s, t, labels, *, temperature, alpha):
    return with_kl_div(s, t, temperature=temperature) + F.cross_entropy(s, labels)


@pytest.mark.parametrize("right", [mixed(with_kl_div), mixed(with_einsum), mixed(AsClass())])
def test_a_right_repair_passes(right):
    for seed in range(5):
        check_repaired_loss(right, seed=seed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (mixed(with_kl_div, swap=True), "α is on the wrong term"),
        (mixed(no_t2), "T² times too small"),
        (mixed(mean), "K times too small"),
        (mixed(mean, swap=True), "K times too small in its teacher's term"),
        (mixed(swapped), r"KL\(student‖teacher\)"),
        (mixed(with_kl_div, t2_on_labels=True), "multiplies the labels' term"),
        (mixed(with_kl_div, soft_labels=True), "labels' term sees softened"),
        (mixed(not_detached), "reaches the teacher"),
        (unweighted, "without weights"),
        (lambda s, t, y, **knobs: len(s) * mixed(with_kl_div)(s, t, y, **knobs), "Both terms are summed"),
        (lambda s, t, y, **knobs: mixed(with_kl_div)(s.detach(), t, y, **knobs), "No gradient reaches the student"),
    ],
)
def test_each_mistake_left_in_the_repair_is_named(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_repaired_loss(wrong, seed=seed)


def interval(errors, baseline_errors, *, t=t_quantile, spread=statistics.stdev, sign=1, root=True):
    differences = [sign * (a - b) for a, b in zip(errors, baseline_errors, strict=True)]
    half = t(0.95, len(differences) - 1) * spread(differences)
    half = half / math.sqrt(len(differences)) if root else half
    centre = statistics.fmean(differences)
    return centre, centre - half, centre + half


def unpaired(errors, baseline_errors):
    spread = math.sqrt((statistics.variance(errors) + statistics.variance(baseline_errors)) / len(errors))
    half = t_quantile(0.95, len(errors) - 1) * spread
    centre = statistics.fmean(errors) - statistics.fmean(baseline_errors)
    return centre, centre - half, centre + half


def test_a_right_interval_passes_as_tuple_list_or_tensor():
    check_paired_interval(interval)
    check_paired_interval(lambda *columns: list(interval(*columns)))
    check_paired_interval(lambda *columns: torch.tensor(interval(*columns)))
    for seed in range(200):  # a table's t has five digits; an end near 0 must not ask for more
        check_paired_interval(lambda *columns: interval(*columns, t=lambda *a: round(t_quantile(*a), 4)), seed=seed)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sign": -1}, "sign is turned round"),
        ({"t": lambda level, degrees: 1.96}, "1.96 is for many seeds"),
        ({"root": False}, "divided by √n"),
        ({"spread": statistics.pstdev}, "n - 1 is needed"),
        ({"t": lambda level, degrees: t_quantile(level, degrees - 1)}, "one seed fewer"),
    ],
)
def test_each_wrong_interval_is_told_its_own_mistake(changes, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_paired_interval(lambda *columns: interval(*columns, **changes), seed=seed)


def test_an_unpaired_interval_is_told_to_pair():
    with pytest.raises(CheckFailed, match="nothing to do with each other"):
        check_paired_interval(unpaired)


def test_answers_about_the_picture(capsys):
    check_picture(["b", " C "])
    assert capsys.readouterr().out.count("Passed") == 2
    for answers, told in [(["a", "c"], "lower curve"), (["b", "a"], "upper curve"), (["b", "x"], "none of them")]:
        with pytest.raises(CheckFailed, match=told):
            check_picture(answers)
    with pytest.raises(CheckFailed, match="one letter"):
        check_picture([AlwaysEqual(), AlwaysEqual()])


@pytest.mark.parametrize(
    ("shift", "right"), [(-20, "better"), (20, "worse"), (0, "unclear")], ids=["better", "worse", "unclear"]
)
def test_a_verdict_is_what_the_interval_says(shift, right):
    baseline = [300.0, 340.0, 280.0, 310.0]
    errors = [b + shift + wobble for b, wobble in zip(baseline, (3, -3, 2, -2), strict=True)]
    check_verdict(right, errors, baseline)
    for other in {"better", "worse", "unclear"} - {right}:
        with pytest.raises(CheckFailed, match="the interval of the paired difference"):
            check_verdict(other, errors, baseline)
    with pytest.raises(CheckFailed, match="a verdict is"):
        check_verdict(AlwaysEqual(), errors, baseline)
    with pytest.raises(NotImplementedError):
        check_verdict(None, errors, baseline)
