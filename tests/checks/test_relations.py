"""Exercise 04: right answers in several styles pass, and each typical mistake gets its own message."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_angle_loss,
    check_distance_loss,
    check_invariance_picture,
    check_relation_verdicts,
    check_similarity_loss,
)


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


NOTHING = [(lambda s, t: None, "got None"), (lambda s, t: torch.tensor(math.nan), "not finite"),
           (lambda s, t: AlwaysEqual(), "got AlwaysEqual"), (AlwaysEqual(), "a function is needed"),
           (lambda s: 0, "TypeError")]  # fmt: skip


def cdist(x):
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def norms(x):
    return (x[:, None] - x[None]).norm(dim=-1)


def mean_of_positive(d):
    return d[d > 0].mean()


def distance(student, teacher, *, distances=norms, scale=mean_of_positive, compare=F.smooth_l1_loss, detach=True):
    s, t = distances(student), distances(teacher.detach() if detach else teacher)
    return compare(s / scale(s), t / scale(t))


def with_pdist(student, teacher):
    s, t = F.pdist(student), F.pdist(teacher.detach())
    return 2 * F.smooth_l1_loss(s / s.mean(), t / t.mean(), reduction="sum") / len(student) ** 2


class WithHuber:
    def __call__(self, student, teacher):
        with torch.no_grad():
            t = cdist(teacher)
            t = t / t[t > 0].mean()
        s = cdist(student)
        return F.huber_loss(s / s[s > 0].mean(), t)


@pytest.mark.parametrize("right", [distance, with_pdist, WithHuber()])
def test_a_right_distance_loss_passes_however_it_is_written(right):
    for seed in range(5):
        check_distance_loss(right, seed=seed)


def with_(function, **changes):
    return lambda s, t: function(s, t, **changes)


def naive_root(x):
    return (x[:, None] - x[None]).square().sum(-1).sqrt()


def product_formula(x):
    squares = x.square().sum(1)
    return (squares[:, None] + squares[None] - 2 * x @ x.T).clamp(min=0).add(1e-12).sqrt()


def product_exact(x):
    squares = x.square().sum(1)
    d2 = (squares[:, None] + squares[None] - 2 * x @ x.T).clamp(min=0)
    return torch.where(d2 > 0, torch.where(d2 > 0, d2, 1).sqrt(), 0)


def one_scale(student, teacher):
    s, t = norms(student), norms(teacher.detach())
    return F.smooth_l1_loss(s / mean_of_positive(t), t / mean_of_positive(t))


def upper_half(student, teacher):
    s, t = F.pdist(student), F.pdist(teacher.detach())
    return F.smooth_l1_loss(s / s.mean(), t / t.mean(), reduction="sum") / len(student) ** 2


def over_pairs(student, teacher):
    s, t = F.pdist(student), F.pdist(teacher.detach())
    return F.smooth_l1_loss(s / s.mean(), t / t.mean())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (with_(distance, scale=torch.max), "divided by the largest"),
        (with_(distance, scale=torch.mean), "mean includes the B distances"),
        (with_(distance, scale=lambda d: 1), "Nothing is divided"),
        (one_scale, "teacher's mean"),
        (with_(distance, distances=lambda x: norms(x) ** 2), "Squared distances"),
        (with_(distance, compare=F.mse_loss), "Squared errors came"),
        (with_(distance, compare=lambda s, t: (s - t).square().mean() / 2), "Half the squared error"),
        (with_(distance, compare=F.l1_loss), "Absolute errors"),
        (over_pairs, r"B\(B-1\) pairs"),
        (upper_half, "Each pair counts once"),
        (with_(distance, compare=lambda s, t: F.smooth_l1_loss(s, t, reduction="sum")), "summed over the pairs"),
        (lambda s, t: distance(F.normalize(s), F.normalize(t)), "normalised first"),
        (with_(distance, detach=False), "gradient reaches the teacher"),
        (lambda s, t: distance(s.detach(), t), "No gradient reaches the student"),
        (with_(distance, distances=naive_root), "infinite slope at 0"),
        (with_(distance, distances=lambda x: torch.cdist(x, x)), "shortcut above 25"),
        (with_(distance, distances=product_exact), "shortcut above 25"),
        *NOTHING,
    ],
)
def test_each_wrong_distance_loss_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_distance_loss(wrong, seed=seed)


def rows(g):
    return F.normalize(g, dim=1)


def similarity(student, teacher, *, prepare=lambda x: x, rows=rows, compare=F.mse_loss, detach=True):
    teacher = teacher.detach() if detach else teacher
    s, t = prepare(student.flatten(1)), prepare(teacher.flatten(1))
    return compare(rows(s @ s.T), rows(t @ t.T))


def with_einsum(student, teacher):
    grams = [torch.einsum("ichw,jchw->ij", x, x) for x in (student, teacher.detach())]
    s, t = (g / g.norm(dim=1, keepdim=True) for g in grams)
    return ((s - t) ** 2).sum() / len(s) ** 2


class ByColumns:
    def __call__(self, student, teacher):  # the matrix is symmetric, so its columns serve as well
        s, t = student.reshape(len(student), -1), teacher.detach().reshape(len(teacher), -1)
        return (F.normalize(s @ s.T, dim=0) - F.normalize(t @ t.T, dim=0)).norm() ** 2 / len(s) ** 2


@pytest.mark.parametrize("right", [similarity, with_einsum, ByColumns()])
def test_a_right_similarity_loss_passes(right):
    for seed in range(5):
        check_similarity_loss(right, seed=seed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (with_(similarity, prepare=F.normalize, rows=lambda g: g), "cosine similarity"),
        (with_(similarity, prepare=F.normalize), "before the product as well"),
        (with_(similarity, rows=lambda g: g / g.norm()), "as a whole"),
        (with_(similarity, rows=lambda g: g), "rows of the product are not normalised"),
        (with_(similarity, rows=lambda g: g / g.abs().sum(1, keepdim=True)), "sum to 1"),
        (with_(similarity, rows=lambda g: g.softmax(1)), "sum to 1"),
        (with_(similarity, compare=lambda s, t: (s - t).square().sum()), "summed over all"),
        (with_(similarity, compare=lambda s, t: (s - t).square().sum(1).mean()), "B times too large"),
        (with_(similarity, compare=lambda s, t: (s - t).norm() / len(s) ** 2), "not its square"),
        (with_(similarity, compare=F.l1_loss), "Absolute differences"),
        (lambda s, t: similarity(s.mean((2, 3)), t.mean((2, 3))), "Positions were averaged"),
        (with_(similarity, detach=False), "gradient reaches the teacher"),
        (lambda s, t: similarity(s.detach(), t), "No gradient reaches the student"),
        *NOTHING,
    ],
)
def test_each_wrong_similarity_loss_is_told_its_own_mistake(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_similarity_loss(wrong, seed=seed)


def cosines(x):
    u = F.normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=-1)
    return torch.einsum("ijd,ikd->ijk", u, u)


def angle(student, teacher, *, measure=cosines, compare=F.smooth_l1_loss, detach=True):
    return compare(measure(student), measure(teacher.detach() if detach else teacher))


def by_vertex(student, teacher):
    total = 0
    for i in range(len(student)):
        s, t = (F.normalize(x - x[i], dim=1) for x in (student, teacher.detach()))
        total = total + F.smooth_l1_loss(s @ s.T, t @ t.T)
    return total / len(student)


class AngleAsClass:
    def __call__(self, student, teacher):
        return angle(student, teacher, compare=F.huber_loss)


@pytest.mark.parametrize("right", [angle, by_vertex, AngleAsClass()])
def test_a_right_angle_loss_passes(right):
    for seed in range(5):
        check_angle_loss(right, seed=seed)


def broken(student, teacher, *, compare=F.mse_loss, divide=True, unit=True):
    if unit:
        student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    s, t = student @ student.T, (teacher @ teacher.T).detach()
    return compare(s / s.max(), t / t.max()) if divide else compare(s, t)


def differences(x):
    d = x[None] - x[:, None]
    return d @ d.mT


def divided_by_length(x):
    d = x[None] - x[:, None]
    u = d / d.norm(dim=2, keepdim=True)
    return u @ u.mT


def distinct(student, teacher):
    b = len(student)
    i, j, k = torch.meshgrid(*[torch.arange(b)] * 3, indexing="ij")
    keep = (i != j) & (j != k) & (i != k)
    return F.smooth_l1_loss(cosines(student)[keep], cosines(teacher.detach())[keep], reduction="sum") / keep.sum()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (broken, "Gram matrix. An angle needs three"),
        (with_(broken, divide=False), "Gram matrix. An angle needs three"),
        (with_(broken, compare=F.smooth_l1_loss), "Gram matrix. An angle needs three"),
        (with_(broken, compare=F.smooth_l1_loss, divide=False, unit=False), "Gram matrix. An angle needs three"),
        (lambda s, t: angle(F.normalize(s), F.normalize(t)), "normalised first"),
        (with_(angle, measure=lambda x: cosines(x).clamp(-1, 1).acos()), "Angles in radians"),
        (with_(angle, compare=F.mse_loss), "Squared errors"),
        (with_(angle, measure=differences), "not of length 1"),
        (with_(angle, compare=lambda s, t: F.smooth_l1_loss(s, t, reduction="sum")), "eight times the step"),
        (with_(angle, measure=divided_by_length), "has length 0, and was divided by it"),
        (with_(angle, detach=False), "gradient reaches the teacher"),
        (lambda s, t: angle(s.detach(), t), "No gradient reaches the student"),
        *[pair for pair in NOTHING if pair[1] != "not finite"],
    ],
)
def test_each_mistake_left_in_the_angles_is_named(wrong, told):
    for seed in range(5):
        with pytest.raises(CheckFailed, match=told):
            check_angle_loss(wrong, seed=seed)


def test_triplets_of_three_different_samples_only_are_another_mean():
    with pytest.raises(CheckFailed):
        check_angle_loss(distinct, seed=0)


def test_answers_about_invariances(capsys):
    check_invariance_picture(["b", " A", "c"])
    assert capsys.readouterr().out.count("Passed") == 3
    for answers, told in [
        (["a", "a", "c"], "under these two"),
        (["c", "a", "c"], "whole row"),
        (["b", "b", "c"], "the two halves"),
        (["b", "c", "c"], "no loss is"),
        (["b", "a", "a"], "from end to end"),
        (["b", "a", "b"], "no 0 at all"),
        ([AlwaysEqual()] * 3, "one letter"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_invariance_picture(answers)


def test_verdicts_are_what_the_intervals_say():
    errors = {
        "no_teacher": [1300, 1320, 1310],
        "label_smoothing": [900, 930, 910],
        "weight=100": [1000, 1015, 1012],
        "weight=1": [1290, 1330, 1309],
    }
    right = {
        ("weight=100", "no_teacher"): "better",
        ("weight=100", "label_smoothing"): "worse",
        ("weight=1", "no_teacher"): "unclear",
    }
    check_relation_verdicts(right, errors)
    for pair in right:
        for other in {"better", "worse", "unclear"} - {right[pair]}:
            with pytest.raises(CheckFailed, match="the interval of the paired difference"):
                check_relation_verdicts({**right, pair: other}, errors)
        with pytest.raises(NotImplementedError):
            check_relation_verdicts({**right, pair: None}, errors)
        with pytest.raises(CheckFailed, match="a verdict is"):
            check_relation_verdicts({**right, pair: AlwaysEqual()}, errors)
        with pytest.raises(CheckFailed, match="there is no verdict"):
            check_relation_verdicts({key: word for key, word in right.items() if key != pair}, errors)
    with pytest.raises(CheckFailed, match="must be the dict"):
        check_relation_verdicts(AlwaysEqual(), errors)


def test_stubs_are_not_mistakes():
    def stub(*args):
        raise NotImplementedError("Task 1")

    for check in (check_distance_loss, check_similarity_loss, check_angle_loss):
        with pytest.raises(NotImplementedError, match="Task 1"):
            check(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_invariance_picture([None, None, None])
