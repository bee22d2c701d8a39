"""Feature losses against NumPy written from FitNets and attention transfer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdcourse.losses import HintRegressor, attention_map, attention_transfer_loss, hint_loss

seeds = st.integers(0, 10_000)
sizes = st.integers(1, 5)


def random_maps(batch=4, student_channels=3, teacher_channels=5, height=4, width=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, channels, height, width, generator=generator, dtype=dtype)
        for channels in (student_channels, teacher_channels)
    ]


def attention_of(features):
    """One sample and one position at a time: the mean square over channels, then a unit vector."""
    maps = []
    for sample in features.numpy():
        _, height, width = sample.shape
        energy = np.array([[np.mean(sample[:, h, w] ** 2) for w in range(width)] for h in range(height)]).reshape(-1)
        maps.append(energy / np.linalg.norm(energy))
    return np.stack(maps)


# FitNets: the regressor


def test_the_regressor_is_one_linear_map_of_channels_applied_at_every_position():
    student, _ = random_maps()
    regressor = HintRegressor(3, 5).double()
    weight = regressor.projection.weight.detach().numpy().reshape(5, 3)
    expected = np.einsum("tc,bchw->bthw", weight, student.numpy())
    expected += regressor.projection.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(regressor(student).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.trap(19)
@pytest.mark.parametrize("size", [2, (2, 3), (4, 6), (3, 5)])
def test_a_larger_student_map_is_averaged_down_to_the_teachers_positions(size):
    student, _ = random_maps()
    height, width = (size, size) if isinstance(size, int) else size
    regressor = HintRegressor(3, 5, size=size).double()
    actual = regressor(student)
    assert actual.shape == (4, 5, height, width)
    projected = HintRegressor.forward(_same(regressor), student)  # projecting, then pooling, is the same
    torch.testing.assert_close(actual, F.adaptive_avg_pool2d(projected, (height, width)))
    if size == (2, 3):  # blocks of 2×2 exactly
        blocks = projected.detach().numpy().reshape(4, 5, 2, 2, 3, 2).mean(axis=(3, 5))
        np.testing.assert_allclose(actual.detach().numpy(), blocks, rtol=1e-10)


def _same(regressor):
    """The same projection without pooling."""
    copy = HintRegressor(3, 5).double()
    copy.load_state_dict(regressor.state_dict())
    return copy


@pytest.mark.trap(19)
@pytest.mark.parametrize("shape", [(2, 3, 3, 8), (2, 3, 8, 3)])
def test_a_student_map_smaller_than_the_hint_is_refused_with_what_to_do(shape):
    with pytest.raises(ValueError, match=r"3×8|8×3.*smaller than the teacher's 4×4. Guide an earlier student layer"):
        HintRegressor(3, 5, size=4)(torch.zeros(shape))


@pytest.mark.trap(19)
def test_a_regressor_without_a_size_leads_to_an_error_that_names_the_size_it_needs():
    student, teacher = torch.randn(2, 3, 14, 14), torch.randn(2, 5, 7, 7)
    with pytest.raises(ValueError, match=r"\(2, 5, 14, 14\).*\(2, 5, 7, 7\).*size=\(H, W\) of the teacher"):
        hint_loss(HintRegressor(3, 5)(student), teacher)
    assert hint_loss(HintRegressor(3, 5, size=7)(student), teacher).isfinite()


def test_the_regressor_takes_vectors_as_maps_of_one_position():
    student = torch.randn(4, 3, dtype=torch.float64)
    regressor = HintRegressor(3, 5, size=1).double()
    torch.testing.assert_close(regressor(student), regressor(student[:, :, None, None]).flatten(1))
    assert regressor(student).shape == (4, 5)


@pytest.mark.trap(21)
def test_the_regressor_learns_and_without_its_parameters_in_the_optimizer_the_hint_stays_out_of_reach():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(64, 6, 2, 2, generator=generator)
    mix = torch.randn(4, 6, generator=generator)
    student = torch.einsum("bchw,dc->bdhw", teacher, mix)  # what a student with 4 channels could know of 6

    def train(trained):
        torch.manual_seed(0)
        regressor = HintRegressor(4, 6)
        optimizer = torch.optim.Adam([*regressor.parameters()] if trained else [torch.zeros(1)], lr=0.05)
        losses = []
        for _ in range(150):
            loss = hint_loss(regressor(student), teacher)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    assert [name for name, _ in HintRegressor(4, 6).named_parameters()] == ["projection.weight", "projection.bias"]
    learning, forgotten = train(trained=True), train(trained=False)
    assert learning[-1] < 0.4 * learning[0]
    assert forgotten[-1] == forgotten[0]


@pytest.mark.trap(21)
def test_the_training_loop_refuses_an_optimizer_that_forgot_the_regressor():
    from kdcourse.training import train

    student = nn.Conv2d(1, 3, 3)
    regressor = HintRegressor(3, 5)
    batches = [(torch.randn(2, 1, 6, 6), torch.randn(2, 5, 4, 4))] * 2

    def objective(student, images, hints):
        return {"hint": hint_loss(regressor(student(images)), hints)}

    with pytest.raises(ValueError, match=r"optimizer does not hold.*\(5, 3, 1, 1\)"):
        next(train(student, batches, objective, torch.optim.SGD(student.parameters(), lr=0.1)))
    both = torch.optim.SGD([*student.parameters(), *regressor.parameters()], lr=0.1)
    assert len(list(train(student, batches, objective, both))) == 2


@pytest.mark.parametrize("channels", [(0, 4), (4, 0), (-1, 4)])
def test_a_regressor_needs_channels(channels):
    with pytest.raises(ValueError, match=r"_channels must be a positive integer, got (0|-1)"):
        HintRegressor(*channels)


@pytest.mark.parametrize("size", [0, (0, 3), (3, -1), (3, 3, 3), 2.5, "ab", True])
def test_a_regressor_needs_a_positive_size(size):
    with pytest.raises(ValueError, match=r"size must be a positive integer, got .*height and width of the hint"):
        HintRegressor(3, 4, size=size)


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (2, 4), (3, 5, 5), (2, 3, 5)])
def test_a_regressor_refuses_other_features_than_it_was_made_for(shape):
    with pytest.raises(ValueError, match=r"must have shape \(B, 3, H, W\) or \(B, 3\), got .*made for 3 student"):
        HintRegressor(3, 5)(torch.zeros(shape))


def test_a_regressor_refuses_integers():
    with pytest.raises(ValueError, match=r"student features must be floating point, got torch.int64"):
        HintRegressor(3, 5)(torch.zeros(2, 3, 4, 4, dtype=torch.long))


# FitNets: the loss


@given(batch=sizes, channels=sizes, height=sizes, width=sizes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_hint_loss_is_the_mean_squared_difference_of_the_raw_features(batch, channels, height, width, seed):
    student, teacher = random_maps(batch, channels, channels, height, width, seed)
    expected = np.mean((student.numpy() - teacher.numpy()) ** 2)
    assert hint_loss(student, teacher).item() == pytest.approx(expected, rel=1e-10)
    # The paper's half squared norm, averaged over samples, is CHW/2 times as much.
    paper = np.mean([0.5 * np.linalg.norm(s - t) ** 2 for s, t in zip(student.numpy(), teacher.numpy(), strict=True)])
    assert paper == pytest.approx(hint_loss(student, teacher).item() * channels * height * width / 2)


def test_hint_loss_is_zero_only_at_equality():
    student, _ = random_maps()
    assert hint_loss(student, student.clone()).item() == 0
    assert hint_loss(student, 2 * student).item() > 0  # magnitudes count


@pytest.mark.trap(18)
@pytest.mark.parametrize("channels", [8, 32, 128])
def test_normalising_channels_first_is_another_loss_blind_to_magnitude_and_c_times_smaller(channels):
    student, teacher = random_maps(16, channels, channels)
    ours, mistaken = hint_loss(student, teacher), F.mse_loss(F.normalize(student, dim=1), F.normalize(teacher, dim=1))
    # Independent standard normal features differ by 2 on average, unit vectors of C entries by 2/C.
    assert ours.item() == pytest.approx(2, rel=0.15)
    assert mistaken.item() == pytest.approx(2 / channels, rel=0.15)
    torch.testing.assert_close(hint_loss(3 * student, 3 * teacher), 9 * ours)


def test_hint_gradient_agrees_with_finite_differences_and_reaches_regressor_and_student_but_not_teacher():
    student, teacher = (x.requires_grad_() for x in random_maps(2, 3, 4, 2, 2))
    regressor = HintRegressor(3, 4).double()
    assert torch.autograd.gradcheck(lambda s: hint_loss(regressor(s), teacher.detach()), student)
    hint_loss(regressor(student), teacher).backward()
    assert teacher.grad is None
    assert all(x.grad.abs().sum() > 0 for x in (student, *regressor.parameters()))


@pytest.mark.parametrize("shape", [(4, 1, 4, 6), (4, 3, 1, 1), (4, 3, 4, 1), (4, 3), (4, 5, 4, 6)])
def test_hint_loss_refuses_shapes_that_differ_and_does_not_broadcast(shape):
    student, _ = random_maps()
    with pytest.raises(ValueError, match=r"must have the same shape. HintRegressor\(3, \d, size.*broadcasting"):
        hint_loss(student, torch.zeros(shape))


def test_hint_loss_refuses_batches_that_differ_empty_or_unbatched_features_and_integers():
    with pytest.raises(ValueError, match=r"features must come from the same batch, got 4 and 1 samples"):
        hint_loss(torch.zeros(4, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"features must not be empty, got \(0, 3\)"):
        hint_loss(torch.zeros(0, 3), torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"features need a batch dimension and at least one more"):
        hint_loss(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"teacher features must be floating point"):
        hint_loss(torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.int32))


# Attention transfer


@given(batch=sizes, channels=sizes, height=sizes, width=sizes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_attention_is_the_mean_square_over_channels_as_a_unit_vector_over_positions(
    batch, channels, height, width, seed
):
    features, _ = random_maps(batch, channels, 1, height, width, seed)
    actual = attention_map(features).numpy()
    np.testing.assert_allclose(actual, attention_of(features), rtol=1e-9, atol=1e-12)
    assert (actual >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(actual, axis=1), 1, rtol=1e-9)


@given(scale=st.floats(1e-3, 1e3), seed=seeds)
@settings(max_examples=30, deadline=None)
def test_attention_does_not_see_scale_sign_or_order_of_channels(scale, seed):
    features, _ = random_maps(student_channels=4, seed=seed, dtype=torch.float32)
    reference = attention_map(features)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0])[:, None, None]
    for other in (scale * features, features * signs, features[:, [2, 0, 3, 1]]):
        torch.testing.assert_close(attention_map(other), reference)


def test_attention_is_row_major_so_that_it_unflattens_to_a_picture():
    features = torch.zeros(1, 2, 3, 4)
    features[0, 1, 2, 1] = 5.0
    picture = attention_map(features).unflatten(1, (3, 4))
    assert picture[0, 2, 1] == 1
    assert picture.sum() == 1


def test_a_map_without_any_activation_has_no_attention_and_a_finite_gradient():
    features = torch.zeros(2, 3, 4, 4, requires_grad=True)
    assert (attention_map(features) == 0).all()
    attention_transfer_loss(features, torch.randn(2, 5, 4, 4)).backward()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 4), (2, 3, 4, 4, 4)])
def test_attention_needs_positions(shape):
    with pytest.raises(ValueError, match=r"must have shape \(B, C, H, W\), got .*one value per position"):
        attention_map(torch.zeros(shape))


def test_attention_of_integers_is_refused():
    with pytest.raises(ValueError, match=r"features must be floating point, got torch.uint8"):
        attention_map(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


@given(batch=sizes, height=sizes, width=sizes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_attention_transfer_is_the_mean_over_positions_of_squared_differences_of_maps(batch, height, width, seed):
    student, teacher = random_maps(batch, 3, 5, height, width, seed)
    expected = np.mean((attention_of(student) - attention_of(teacher)) ** 2)
    actual = attention_transfer_loss(student, teacher).item()
    assert actual == pytest.approx(expected, rel=1e-8, abs=1e-14)
    assert 0 <= actual <= 2 / (height * width) + 1e-12


def test_attention_transfer_sums_over_layers():
    layers = [random_maps(4, 2 + i, 7 - i, 6 - i, 6 - i, seed=i) for i in range(3)]
    students, teachers = map(list, zip(*layers, strict=True))
    expected = sum(np.mean((attention_of(s) - attention_of(t)) ** 2) for s, t in layers)
    assert attention_transfer_loss(students, teachers).item() == pytest.approx(expected, rel=1e-9)
    assert attention_transfer_loss(tuple(students), teachers).item() == pytest.approx(expected, rel=1e-9)
    one = attention_transfer_loss(students[:1], teachers[:1])
    torch.testing.assert_close(one, attention_transfer_loss(students[0], teachers[0]))


def test_attention_transfer_is_zero_where_maps_agree_though_the_features_do_not():
    _, teacher = random_maps()
    student = 7 * torch.cat([teacher, -teacher], dim=1)  # other channels, scale and signs; same attention
    assert attention_transfer_loss(student, teacher).item() == pytest.approx(0, abs=1e-25)


def test_attention_transfer_does_not_grow_with_a_duplicated_batch_nor_depend_on_its_order():
    student, teacher = random_maps()
    reference = attention_transfer_loss(student, teacher)
    torch.testing.assert_close(
        attention_transfer_loss(student.repeat(2, 1, 1, 1), teacher.repeat(2, 1, 1, 1)), reference
    )
    torch.testing.assert_close(attention_transfer_loss(student.flip(0), teacher.flip(0)), reference)


def test_attention_transfer_gradient_agrees_with_finite_differences_and_stops_at_the_teacher():
    student, teacher = (x.requires_grad_() for x in random_maps(2, 3, 4, 2, 3))
    assert torch.autograd.gradcheck(lambda s: attention_transfer_loss(s, teacher.detach()), student)
    attention_transfer_loss(student, teacher).backward()
    assert teacher.grad is None


@pytest.mark.trap(20)
def test_attention_transfer_forgives_channels_and_nothing_else():
    student, teacher = random_maps(student_channels=2, teacher_channels=64)
    assert attention_transfer_loss(student, teacher).isfinite()
    for pooled in (F.avg_pool2d(teacher, 2), teacher.transpose(2, 3)):  # 24 positions again, but other ones
        with pytest.raises(ValueError, match=r"same height and width, got \(4, 6\) and .*Only the channels may differ"):
            attention_transfer_loss(student, pooled)
    with pytest.raises(ValueError, match=r"must come from the same batch, got 4 and 3"):
        attention_transfer_loss(student, teacher[:3])


@pytest.mark.trap(22)
def test_lists_of_unequal_length_empty_lists_and_a_list_beside_a_tensor_are_refused():
    student, teacher = random_maps()
    with pytest.raises(ValueError, match=r"equally many feature maps, got 2 and 3. zip would silently drop the rest"):
        attention_transfer_loss([student] * 2, [teacher] * 3)
    with pytest.raises(ValueError, match=r"empty lists of feature maps: .*divides by zero"):
        attention_transfer_loss([], [])
    for pair in ((student, [teacher]), ([student], teacher)):
        with pytest.raises(ValueError, match=r"both be tensors or both be lists of tensors, got (Tensor|list) and"):
            attention_transfer_loss(*pair)


@pytest.mark.trap(22)
def test_there_is_no_method_name_to_misspell():
    with pytest.raises(ImportError):
        from kdcourse.losses import atention_transfer_loss  # noqa: F401
    student, teacher = random_maps()
    with pytest.raises(TypeError):
        attention_transfer_loss(student, teacher, method="atention")


@pytest.mark.trap(23)
def test_attention_transfer_at_weight_one_does_nothing_beside_cross_entropy_and_at_a_thousand_does():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(64, 1, 28, 28, generator=generator), torch.arange(64) % 4
    images[:, :, :14] *= labels[:, None, None, None] / 3  # the class is the brightness of the upper half
    teacher = torch.zeros(64, 1, 14, 14).index_fill_(2, torch.arange(7, 14), 1.0)  # the teacher looks below

    def attention_left_after_training(weight):
        torch.manual_seed(1)
        stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        )
        head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
        optimizer = torch.optim.SGD([*stem.parameters(), *head.parameters()], lr=0.05)
        for _ in range(30):
            features = stem(images)
            attention = attention_transfer_loss(features, teacher)
            loss = F.cross_entropy(head(features), labels) + weight * attention
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return attention.item()

    without, weak, usual = (attention_left_after_training(weight) for weight in (0, 1, 1000))
    assert weak > 0.9 * without
    assert usual < 0.6 * without


@pytest.mark.trap(23)
def test_the_worst_attention_possible_costs_two_over_the_number_of_positions():
    student, teacher = torch.zeros(2, 3, 14, 14), torch.zeros(2, 5, 14, 14)
    student[:, :, 0, 0], teacher[:, :, 13, 13] = 1.0, 1.0
    worst = attention_transfer_loss(student, teacher).item()
    assert worst == pytest.approx(2 / 196)
    assert worst < 0.005 * np.log(10)  # beside the cross-entropy of a fresh student of ten classes
    assert 1000 * worst > np.log(10)


# Precision


@pytest.mark.parametrize("loss", [hint_loss, attention_transfer_loss])
def test_feature_losses_are_computed_in_single_precision_under_autocast_and_for_half_precision(loss):
    student, teacher = random_maps(student_channels=5, dtype=torch.float32)
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = loss(student, teacher)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0)
    for dtype in (torch.float16, torch.bfloat16):
        half = [x.to(dtype) for x in (student, teacher)]
        assert loss(*half).dtype == torch.float32
        torch.testing.assert_close(loss(*half), loss(*(x.float() for x in half)))


def test_half_precision_features_whose_squares_overflow_keep_their_attention():
    student, teacher = (300 * x for x in random_maps(dtype=torch.float16))
    assert (student.square().sum(dim=1) > 65504).any()
    torch.testing.assert_close(attention_map(student), attention_map(student.double()).float(), rtol=1e-4, atol=1e-6)
    assert attention_transfer_loss(student, teacher).isfinite()


def test_the_regressor_trains_under_autocast():
    student, teacher = random_maps(dtype=torch.float32)
    regressor = HintRegressor(3, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = regressor(student)
        loss = hint_loss(projected, teacher)
    loss.backward()
    assert projected.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert regressor.projection.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("loss", [hint_loss, attention_transfer_loss])
def test_feature_losses_map_over_stacked_students(loss):
    _, teacher = random_maps()
    students = torch.randn(3, *teacher.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mapped = torch.vmap(lambda student: loss(student, teacher))(students)
    torch.testing.assert_close(mapped, torch.stack([loss(student, teacher) for student in students]))
