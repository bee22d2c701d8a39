"""Imitation of feature pyramids against NumPy written from the papers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse.losses import FPNAdapters, fpn_feature_loss

seeds = st.integers(0, 10_000)


def normal(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pyramid(channels=3, batch=2, seed=0):
    return {name: normal(batch, channels, s, s + 1, seed=seed + s) for name, s in (("p3", 4), ("p4", 2), ("p5", 1))}


def importance_of(teacher):
    return {name: level.abs().mean(dim=1) for name, level in teacher.items()}


def weighted_error(student, teacher, importance):
    losses = []
    for name in student:
        s, t, w = student[name].numpy(), teacher[name].numpy(), importance[name].numpy()
        for b in range(len(s)):
            losses.append(np.average(((s[b] - t[b]) ** 2).mean(0), weights=w[b]) if w[b].any() else 0.0)
    return np.mean(losses)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_pyramid_loss_is_the_weighted_mean_of_squared_differences_per_sample_and_level(seed):
    student, teacher = pyramid(seed=seed), pyramid(seed=seed + 100)
    expected = weighted_error(student, teacher, importance_of(teacher))
    assert fpn_feature_loss(student, teacher).item() == pytest.approx(expected)
    as_lists = fpn_feature_loss(list(student.values()), list(teacher.values()))
    assert as_lists.item() == pytest.approx(expected)


def test_a_mask_confines_the_pyramid_loss_and_a_sample_without_foreground_adds_zero():
    student, teacher = pyramid(), pyramid(seed=50)
    mask = {name: torch.zeros(level[:, 0].shape, dtype=torch.bool) for name, level in teacher.items()}
    mask["p3"][0, 1, 2] = mask["p4"][0, 0, 0] = True  # nothing in sample 1, nothing on p5
    actual = fpn_feature_loss(student, teacher, importance=mask)
    assert actual.item() == pytest.approx(weighted_error(student, teacher, mask))
    elsewhere = {name: torch.where(mask[name].unsqueeze(1), level, level + 5) for name, level in student.items()}
    torch.testing.assert_close(fpn_feature_loss(elsewhere, teacher, importance=mask), actual)


def test_equal_pyramids_cost_nothing():
    assert fpn_feature_loss(pyramid(), pyramid()).item() == 0


@pytest.mark.trap(62)
def test_a_bright_image_in_the_batch_leaves_the_other_images_loss_alone():
    student, teacher = pyramid(batch=1), pyramid(batch=1, seed=50)
    dull = fpn_feature_loss(student, teacher)
    bright = {name: 1000 * level for name, level in teacher.items()}
    both = fpn_feature_loss(
        {name: torch.cat([student[name], bright[name]]) for name in student},
        {name: torch.cat([teacher[name], bright[name]]) for name in student},
    )
    torch.testing.assert_close(both, dull / 2)  # the bright image is matched exactly: half of a mean over two

    def mistaken(students, teachers):
        importance = teachers.abs().mean(dim=1, keepdim=True)
        importance = importance / importance.max()
        return F.mse_loss(students * importance, teachers * importance)

    s, t, b = student["p3"], teacher["p3"], bright["p3"]
    muted = mistaken(torch.cat([s, b]), torch.cat([t, b])) / (mistaken(s, t) / 2)
    assert muted < 1e-5


@pytest.mark.trap(62)
def test_importance_enters_once_not_squared():
    teacher = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    student = torch.tensor([1.0, 5.0]).view(1, 1, 1, 2)
    # weights 1/4 and 3/4 of squared errors 0 and 4; squared importance (1/9 and 1 of the maximum) would give 3.6
    assert fpn_feature_loss([student], [teacher]).item() == pytest.approx(3.0)


@pytest.mark.parametrize("kind", ["dict", "list"])
@pytest.mark.trap(61)
def test_adapters_bring_every_level_to_the_teachers_channels_and_learn(kind):
    torch.manual_seed(0)
    student = {name: level.float() for name, level in pyramid(channels=3).items()}
    teacher = {name: level.float() for name, level in pyramid(channels=8, seed=50).items()}
    widths = dict.fromkeys(student, 3), dict.fromkeys(teacher, 8)
    if kind == "list":
        student, teacher = list(student.values()), list(teacher.values())
        widths = [3, 3, 3], [8, 8, 8]
    adapters = FPNAdapters(*widths)
    assert len(list(adapters.parameters())) == 2 * 3
    optimizer = torch.optim.SGD(adapters.parameters(), lr=0.1)
    first = fpn_feature_loss(adapters(student), teacher)
    first.backward()
    assert all(bool(p.grad.any()) for p in adapters.parameters())
    optimizer.step()
    assert type(adapters(student)) is (dict if kind == "dict" else list)
    assert fpn_feature_loss(adapters(student), teacher) < first


def test_adapters_accept_level_names_with_dots_and_in_any_order():
    adapters = FPNAdapters({"layer1.out": 2, "p4": 3}, {"p4": 5, "layer1.out": 4})
    adapted = adapters({"p4": torch.rand(1, 3, 2, 2), "layer1.out": torch.rand(1, 2, 4, 4)})
    assert {name: level.shape[1] for name, level in adapted.items()} == {"layer1.out": 4, "p4": 5}


@pytest.mark.parametrize("dimension", [0, 1, 2, 3])
@pytest.mark.trap(61)
def test_a_dimension_of_one_is_never_broadcast(dimension):
    shape = [2, 3, 4, 4]
    teacher = torch.rand(shape)
    shape[dimension] = 1
    student = torch.rand(shape)
    F.mse_loss(student.expand(2, 3, 4, 4), teacher)  # broadcasting would have worked silently
    with pytest.raises(ValueError, match=r"features of level 0 must have the same shape.*Broadcasting"):
        fpn_feature_loss([student], [teacher])


def test_pyramid_gradient_agrees_with_finite_differences_and_never_reaches_the_teacher():
    student, teacher = (normal(2, 3, 2, 2, seed=seed).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(lambda x: fpn_feature_loss([x], [teacher]), student)
    fpn_feature_loss([student], [teacher]).backward()
    assert teacher.grad is None


def test_pyramid_loss_of_bf16_features_is_computed_in_float32():
    student, teacher = ([level.bfloat16() for level in pyramid(seed=s).values()] for s in (0, 50))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = fpn_feature_loss(student, teacher)
    torch.testing.assert_close(actual, fpn_feature_loss([s.float() for s in student], [t.float() for t in teacher]))


# Bad input


LEVEL = torch.rand(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("student", "teacher", "importance", "message"),
    [
        (
            {"p3": LEVEL},
            {"p3": LEVEL, "p4": LEVEL},
            None,
            r"same levels, got \['p3'\] and \['p3', 'p4'\].*never taught",
        ),
        ([LEVEL], [LEVEL, LEVEL], None, "equally many pyramid levels, got 1 and 2"),
        ([], [], None, "empty lists of pyramid levels"),
        ({}, {}, None, "empty lists of pyramid levels"),
        ({"p3": LEVEL}, [LEVEL], None, "both be dicts or both be lists"),
        (LEVEL, LEVEL, None, "got one Tensor"),
        ([LEVEL[0]], [LEVEL[0]], None, "at least 4 dimensions"),
        ([LEVEL], [LEVEL], [LEVEL], r"importance of level 0 must have shape \(2, 4, 4\).*got \(2, 3, 4, 4\)"),
        ([LEVEL], [LEVEL], [3.0], "got float"),
        ([LEVEL], [LEVEL], [-LEVEL[:, 0]], "must not be negative"),
        ([LEVEL], [LEVEL], [], "importance and features must have the same levels"),
    ],
)
@pytest.mark.trap(61)
def test_pyramid_loss_refuses_missing_levels_and_wrong_shapes(student, teacher, importance, message):
    with pytest.raises(ValueError, match=message):
        fpn_feature_loss(student, teacher, importance=importance)


def test_adapters_refuse_other_levels_and_other_channels():
    with pytest.raises(ValueError, match="equally many pyramid levels, got 2 and 1"):
        FPNAdapters([3, 3], [8])
    adapters = FPNAdapters([3, 3], [8, 8])
    with pytest.raises(ValueError, match="features and adapters must have the same levels"):
        adapters([LEVEL])
    with pytest.raises(ValueError, match=r"level 1 takes features of shape \(B, 3, H, W\), got \(2, 1, 4, 4\)"):
        adapters([LEVEL, LEVEL[:, :1]])
