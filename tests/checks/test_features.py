"""Exercise 03: right answers in several styles pass, and each typical mistake gets its own message."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_attention_map,
    check_attention_picture,
    check_attention_transfer_loss,
    check_balancing_weight,
    check_hint_stage,
    check_hint_verdict,
    check_push,
)
from kdcourse.checks.slips.features import POOLED


class AlwaysEqual:
    """Compares true with everything."""

    def __eq__(self, other):
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


def stub(*args, **kwargs):
    raise NotImplementedError("Task 1")


def plain_map(features):
    a = (features**2).mean(1).view(len(features), -1)
    return a / a.norm(dim=1, keepdim=True)


def einsum_map(features):
    a = torch.einsum("bchw,bchw->bhw", features, features).flatten(1)
    return a / torch.einsum("bn,bn->b", a, a).sqrt()[:, None]


class MapAsClass:
    def __call__(self, features):
        return F.normalize(features.pow(2).sum(1).reshape(features.size(0), -1))


@pytest.mark.parametrize("right", [plain_map, einsum_map, MapAsClass()])
def test_a_right_map_passes_however_it_is_written(right):
    for seed in range(3):
        check_attention_map(right, seed=seed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda f: f.pow(2).mean(1).flatten(1), "maps are not normalised"),
        (lambda f: f.pow(2).sum(1).flatten(1), "maps are not normalised"),
        (lambda f: F.normalize(f.mean(1).pow(2).flatten(1)), "averaged first and squared afterwards"),
        (lambda f: F.normalize(f.sum(1).flatten(1)), "nothing is squared"),
        (lambda f: F.normalize(f.abs().sum(1).flatten(1)), "p = 1"),
        (lambda f: F.normalize(f.pow(2).max(1).values.flatten(1)), "strongest channel"),
        (lambda f: F.normalize(f.pow(2).mean((2, 3))), "Positions were averaged"),
        (lambda f: F.normalize(f.pow(2).mean(1).flatten(1), dim=0), "across the batch"),
        (lambda f: F.normalize(f.pow(2).mean(1)).flatten(1), "normalised by itself"),
        (lambda f: F.normalize(f.pow(2).mean(1), dim=-1).flatten(1), "normalised by itself"),
        (lambda f: f.pow(2).mean(1).flatten(1) / f.pow(2).mean(1).sum((1, 2))[:, None], "sum to 1"),
        (lambda f: f.pow(2).mean(1).flatten(1).softmax(-1), "softmax over positions"),
        (lambda f: plain_map(F.normalize(f)), "normalised over channels before"),
        (lambda f: plain_map(f).view(len(f), *f.shape[2:]), "still a picture"),
        (lambda f: plain_map(f.mul_(2)), "in place"),
        (lambda f: None, "got None"),
        (lambda f: plain_map(f) * math.nan, "not finite"),
        (lambda f: AlwaysEqual(), "got AlwaysEqual"),
        (AlwaysEqual(), "a function is needed"),
    ],
)
def test_each_wrong_map_is_told_its_own_mistake(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_attention_map(wrong, seed=seed)


def transfer(students, teachers, *, distance=lambda s, t: (s - t).pow(2).mean(), image=plain_map, detach=True):
    if len(students) != len(teachers):
        raise ValueError("as many layers on both sides are needed")
    terms = [distance(image(s), image(t.detach() if detach else t)) for s, t in zip(students, teachers, strict=True)]
    return torch.stack(terms).sum()


def in_a_loop(students, teachers):
    total = torch.zeros(())
    for s, t in zip(students, teachers, strict=True):
        with torch.no_grad():
            target = einsum_map(t)
        total = total + F.mse_loss(einsum_map(s), target)
    return total


class TransferAsClass:
    def __call__(self, students, teachers):
        return transfer(students, teachers, image=MapAsClass(), distance=F.mse_loss)


@pytest.mark.parametrize("right", [transfer, in_a_loop, TransferAsClass()])
def test_a_right_transfer_loss_passes(right):
    for seed in range(3):
        check_attention_transfer_loss(right, seed=seed)


def with_(**changes):
    return lambda s, t: transfer(s, t, **changes)


def zipped(students, teachers):
    return sum(F.mse_loss(plain_map(s), plain_map(t.detach())) for s, t in zip(students, teachers, strict=False))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda s, t: transfer(s, t) / len(s), "mean over layers"),
        (with_(distance=lambda s, t: (s - t).pow(2).sum(1).mean()), "summed over positions"),
        (with_(distance=lambda s, t: (s - t).pow(2).sum()), "Everything is summed"),
        (with_(distance=lambda s, t: (s - t).pow(2).mean(1).sum()), "summed over the batch"),
        (with_(distance=lambda s, t: (s - t).norm(dim=1).mean()), "norm of the difference"),
        (with_(distance=F.l1_loss), "Absolute differences"),
        (lambda s, t: transfer(s[:1], t[:1]), "Only the first layer"),
        (lambda s, t: transfer(s[-1:], t[-1:]), "Only the last layer"),
        (with_(image=lambda f: f.pow(2).mean(1).flatten(1)), "maps are not normalised"),
        (with_(image=lambda f: F.normalize(f.mean(1).pow(2).flatten(1))), "squared afterwards"),
        (with_(image=lambda f: F.normalize(f.abs().mean(1).flatten(1))), "p = 1"),
        (with_(detach=False), "gradient reaches the teacher"),
        (lambda s, t: transfer([x.detach() for x in s], t), "No gradient reaches the student"),
        (zipped, "zip stops"),
        (lambda s, t: None, "got None"),
        (lambda s, t: torch.tensor(math.nan), "not finite"),
        (lambda s, t: AlwaysEqual(), "got AlwaysEqual"),
    ],
)
def test_each_wrong_transfer_loss_is_told_its_own_mistake(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_attention_transfer_loss(wrong, seed=seed)


def stage(
    student, regressor, teacher, batches, *, lr, learned="both", scale=lambda f: f, evaluation=True, no_grad=True,
    clear=True, loss_function=F.mse_loss, make=torch.optim.SGD, student_mode=True,
):  # fmt: skip
    parts = {"both": [student, regressor], "student": [student], "regressor": [regressor]}[learned]
    optimizer = make([p for part in parts for p in part.parameters()], lr=lr)
    teacher.train(not evaluation)
    student.train(student_mode)
    losses = []
    for images in batches:
        with torch.set_grad_enabled(not no_grad):
            hint = scale(teacher(images))
        loss = loss_function(scale(regressor(student(images))), hint)
        if clear:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def two_optimizers(student, regressor, teacher, batches, *, lr):
    teacher.eval()
    optimizers = [torch.optim.SGD(part.parameters(), lr=lr) for part in (student, regressor)]
    losses = []
    for images in batches:
        loss = (regressor(student(images)) - teacher(images).detach()).pow(2).mean()
        student.zero_grad()
        regressor.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss)
    return torch.stack(losses)


class StageAsClass:
    def __call__(self, student, regressor, teacher, batches, *, lr):
        return tuple(stage(student, regressor, teacher, batches, lr=lr))


@pytest.mark.parametrize("right", [stage, two_optimizers, StageAsClass()])
def test_a_right_stage_passes(right):
    for seed in range(3):
        check_hint_stage(right, seed=seed)


def unit(features):
    return F.normalize(features, dim=1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"learned": "student"}, "regressor does not learn"),
        ({"scale": unit}, "blind to magnitudes"),
        ({"evaluation": False}, "training mode"),
        ({"learned": "student", "scale": unit}, "blind to magnitudes"),
        ({"learned": "student", "evaluation": False}, "training mode"),
        ({"learned": "student", "scale": unit, "evaluation": False}, "training mode"),
        ({"learned": "regressor"}, "Only the regressor learns"),
        ({"no_grad": False}, "gradient reaches the teacher"),
        ({"clear": False}, "never cleared"),
        ({"student_mode": False}, "student runs in evaluation mode"),
        ({"loss_function": lambda s, t: 0.5 * F.mse_loss(s, t)}, "half the mean squared error"),
        ({"make": torch.optim.Adam}, "Another optimizer"),
    ],
)
def test_each_mistake_left_in_the_stage_is_named(changes, told):
    for seed in range(2):
        with pytest.raises(CheckFailed, match=told):
            check_hint_stage(lambda *parts, lr: stage(*parts, lr=lr, **changes), seed=seed)


@pytest.mark.parametrize("returned", [None, math.nan, AlwaysEqual()])
def test_a_stage_must_return_its_losses(returned):
    with pytest.raises(CheckFailed):
        check_hint_stage(lambda *parts, lr: returned)


def push(loss, parameters):
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return math.sqrt(sum(float(g.square().sum()) for g in found if g is not None))


def push_with_backward(loss, parameters):
    for parameter in parameters:
        parameter.grad = None
    loss.backward(retain_graph=True)
    length = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()
    for parameter in parameters:
        parameter.grad = None
    return length


def left_behind(loss, parameters):
    for parameter in parameters:
        parameter.grad = None
    loss.backward(retain_graph=True)
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()


def accumulated(loss, parameters):
    loss.backward(retain_graph=True)
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()


def parts(loss, parameters):
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [g for g in found if g is not None]


def test_a_right_push_passes():
    check_push(push, seed=0)
    check_push(push_with_backward, seed=1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (accumulated, "second push contains the first"),
        (left_behind, "left behind in .grad"),
        (lambda loss, p: sum(g.norm() for g in parts(loss, p)), "lengths of the parts were added"),
        (lambda loss, p: sum(g.square().sum() for g in parts(loss, p)), "length was squared"),
        (lambda loss, p: parts(loss, p)[0].norm(), "Only the first parameter"),
        (lambda loss, p: torch.stack([g.norm() for g in parts(loss, p)]).mean(), "mean of the parts"),
        (lambda loss, p: sum(g.abs().sum() for g in parts(loss, p)), "Absolute values"),
        (lambda loss, p: torch.autograd.grad(loss, p)[0].norm(), "RuntimeError"),
        (lambda loss, p: None, "got None"),
        (lambda loss, p: math.nan, "not finite"),
        (lambda loss, p: AlwaysEqual(), "got AlwaysEqual"),
    ],
)
def test_each_wrong_push_is_told_its_own_mistake(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_push(wrong, seed=seed)


def test_the_balancing_weight_is_a_ratio_of_pushes():
    weights = [torch.tensor([1.0, 2.0], requires_grad=True)]
    labels, feature = 3 * weights[0].sum() + 5, 0.1 * weights[0].sum()
    check_balancing_weight(30, labels, feature, weights)
    check_balancing_weight(torch.tensor(30.0), labels, feature, weights)
    ratio_of_values = (labels / feature).item()
    for wrong, told in [
        (1 / 30, "upside down"),
        (ratio_of_values, "makes the two values equal"),
        (1, "feature term pushes"),
        (AlwaysEqual(), "got AlwaysEqual"),
        (math.nan, "At weight nan"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_balancing_weight(wrong, labels, feature, weights)
    with pytest.raises(NotImplementedError):
        check_balancing_weight(None, labels, feature, weights)


def test_answers_about_the_maps(capsys):
    check_attention_picture(["c", "A", " b"])
    assert capsys.readouterr().out.count("Passed") == 3
    for answers, told in [
        (["a", "a", "b"], "never trained"),
        (["b", "a", "b"], "look at its row"),
        (["c", "b", "b"], "both columns"),
        (["c", "c", "b"], "does not move"),
        (["c", "a", "a"], "nothing is learned yet"),
        (["c", "a", "c"], "fewer images"),
        ([AlwaysEqual()] * 3, "one letter"),
    ]:
        with pytest.raises(CheckFailed, match=told):
            check_attention_picture(answers)


@pytest.mark.parametrize(("shift", "right"), [(-0.1, "better"), (0.1, "worse"), (0, "unclear")])
def test_a_verdict_about_hints_is_what_the_interval_says(shift, right):
    baseline = [0.40, 0.44, 0.38]
    hints = [b + shift + wobble for b, wobble in zip(baseline, (0.01, -0.01, 0.005), strict=True)]
    check_hint_verdict(right, hints, baseline)
    for other in {"better", "worse", "unclear"} - {right}:
        with pytest.raises(CheckFailed, match="the interval of the paired difference"):
            check_hint_verdict(other, hints, baseline)
    with pytest.raises(CheckFailed, match="a verdict is"):
        check_hint_verdict(AlwaysEqual(), hints, baseline)
    with pytest.raises(NotImplementedError):
        check_hint_verdict(None, hints, baseline)


def test_stubs_are_not_mistakes():
    for check in (check_attention_map, check_attention_transfer_loss, check_hint_stage, check_push):
        with pytest.raises(NotImplementedError, match="Task 1"):
            check(stub)
    with pytest.raises(NotImplementedError, match="no answer yet"):
        check_attention_picture([None, None, None])


def blocks(features, size):
    return F.adaptive_avg_pool2d(features.square().sum(1), size)


def pooled(features, size):
    return F.normalize(blocks(features, size).flatten(1))


def in_reshaped_blocks(features, size):
    b, _, high, wide = features.shape
    h, w = size
    a = features.pow(2).mean(1).reshape(b, h, high // h, w, wide // w).mean((2, 4)).reshape(b, -1)
    return a / a.norm(dim=1, keepdim=True)


def in_numpy(features, size):
    h, w = size
    a = (features.numpy() ** 2).sum(1)
    rows = [block.mean(axis=1) for block in np.split(a, h, axis=1)]
    cells = np.stack([part.mean(axis=-1) for row in rows for part in np.split(row, w, axis=-1)], axis=1)
    return cells / np.linalg.norm(cells, axis=1, keepdims=True)


@pytest.mark.parametrize("right", [pooled, in_reshaped_blocks, in_numpy])
def test_a_right_map_of_another_size_passes(right):
    for seed in range(3):
        check_attention_map(right, pooled=True, seed=seed)


@pytest.mark.parametrize("name", POOLED)
def test_each_wrong_map_of_another_size_is_told_its_own_mistake(name):
    for wrong in POOLED[name].wrong:
        with pytest.raises(CheckFailed) as failed:
            check_attention_map(wrong, pooled=True, seed=1)
        assert str(failed.value) == POOLED[name].message


def resized(students, teachers, *, distance=F.mse_loss, image=pooled, detach=True):
    total = 0
    for s, t in zip(students, teachers, strict=True):
        size = s.shape[2:] if s.shape[2] < t.shape[2] else t.shape[2:]
        total = total + distance(image(s, size), image(t.detach() if detach else t, size))
    return total


def only_pools_the_teacher(students, teachers):
    return sum(
        F.mse_loss(pooled(s, s.shape[2:]), pooled(t.detach(), s.shape[2:]))
        for s, t in zip(students, teachers, strict=True)
    )


def test_a_right_transfer_between_sizes_passes():
    for seed in range(3):
        check_attention_transfer_loss(resized, pooled=True, seed=seed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (only_pools_the_teacher, "brought to the student's size"),
        (lambda s, t: resized(s, t) / len(s), "mean over layers"),
        (lambda s, t: resized(s, t, detach=False), "gradient reaches the teacher"),
        (lambda s, t: resized([x.detach() for x in s], t), "No gradient reaches the student"),
        (lambda s, t: resized(s, t, image=lambda f, size: blocks(f, size).flatten(1)), "maps are not normalised"),
        (
            lambda s, t: resized(s, t, image=lambda f, size: plain_map(F.adaptive_avg_pool2d(f, size))),
            "before they are",
        ),
        (lambda s, t: resized(s[: len(t)], t[: len(s)]), "zip stops"),
        (transfer, "raised RuntimeError"),
    ],
)
def test_each_wrong_transfer_between_sizes_is_told_its_own_mistake(wrong, told):
    for seed in range(3):
        with pytest.raises(CheckFailed, match=told):
            check_attention_transfer_loss(wrong, pooled=True, seed=seed)
