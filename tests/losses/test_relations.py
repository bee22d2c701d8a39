"""Relational losses against NumPy written from RKD and similarity-preserving distillation, three loops at a time."""

import itertools
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse.losses import gram_loss, rkd_angle_loss, rkd_distance_loss, similarity_preserving_loss
from kdcourse.losses import relations as module

LOSSES = [rkd_distance_loss, rkd_angle_loss, gram_loss, similarity_preserving_loss]
RKD = [rkd_distance_loss, rkd_angle_loss]
every_loss = pytest.mark.parametrize("loss", LOSSES)
every_rkd = pytest.mark.parametrize("loss", RKD)
shapes = st.tuples(st.integers(3, 7), st.integers(1, 5), st.integers(1, 5))
seeds = st.integers(0, 10_000)


def random_points(batch=6, student_width=4, teacher_width=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, width, generator=generator, dtype=dtype) for width in (student_width, teacher_width)]


def rotation(width, seed=0):
    return torch.from_numpy(np.atleast_2d(scipy.stats.ortho_group.rvs(width, random_state=seed)))


def huber(difference):
    size = np.abs(difference)
    return np.where(size < 1, size**2 / 2, size - 0.5)


def distance_oracle(student, teacher):
    """Equations 5 to 8 of arXiv:1904.05068, pair by pair."""
    scaled = []
    for points in (student.numpy(), teacher.numpy()):
        distances = np.array([[np.linalg.norm(x - y) for y in points] for x in points])
        scaled.append(distances / distances[distances > 0].mean())
    return huber(scaled[0] - scaled[1]).mean()


def angle_oracle(student, teacher):
    """Equations 9 and 10, triplet by triplet, over all B³."""
    cosines = []
    for points in (student.numpy(), teacher.numpy()):
        batch = range(len(points))
        cosines.append(np.zeros((len(points),) * 3))
        for i, j, k in itertools.product(batch, batch, batch):
            if i not in (j, k):
                a, b = points[j] - points[i], points[k] - points[i]
                cosines[-1][i, j, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return huber(cosines[0] - cosines[1]).mean()


def gram_oracle(student, teacher):
    grams = [np.array([[x @ y for y in points] for x in points]) for points in (student.numpy(), teacher.numpy())]
    s, t = (gram / np.sqrt((gram**2).sum()) for gram in grams)
    return ((s - t) ** 2).sum()


def similarity_oracle(student, teacher):
    """Equations 1 to 4 of arXiv:1907.09682, row by row."""
    rows = []
    for points in (student.numpy(), teacher.numpy()):
        gram = np.array([[x @ y for y in points] for x in points])
        rows.append(np.stack([row / np.linalg.norm(row) for row in gram]))
    return ((rows[0] - rows[1]) ** 2).sum() / len(student) ** 2


ORACLES = dict(zip(LOSSES, [distance_oracle, angle_oracle, gram_oracle, similarity_oracle], strict=True))


# Every relational loss


@every_loss
@given(shape=shapes, seed=seeds)
@settings(max_examples=30, deadline=None)
def test_the_loss_is_what_the_paper_writes_for_each_pair_or_triplet(loss, shape, seed):
    student, teacher = random_points(*shape, seed=seed)
    actual, expected = loss(student, teacher).item(), ORACLES[loss](student, teacher)
    assert actual == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert actual >= 0


@every_loss
def test_the_loss_is_zero_where_student_and_teacher_are_equal(loss):
    student, _ = random_points()
    assert loss(student, student.clone()).item() == pytest.approx(0, abs=1e-28)


@every_loss
@given(scale=st.floats(1e-3, 1e3), seed=seeds)
@settings(max_examples=25, deadline=None)
def test_the_loss_does_not_see_rotation_or_scale_of_either_side(loss, scale, seed):
    student, teacher = random_points(seed=seed)
    reference = loss(student, teacher)
    torch.testing.assert_close(loss(scale * student @ rotation(4, seed), teacher), reference, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(loss(student, teacher @ rotation(5, seed) / scale), reference, rtol=1e-6, atol=1e-10)
    # A student that is the teacher, turned and scaled, has learned everything that the loss asks for.
    assert loss(teacher @ rotation(5, seed) * scale, teacher).item() == pytest.approx(0, abs=1e-12)


@every_loss
def test_the_loss_does_not_depend_on_the_order_of_the_samples(loss):
    student, teacher = random_points()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))
    assert not torch.isclose(loss(student[order], teacher), loss(student, teacher))


@every_loss
def test_the_gradient_agrees_with_finite_differences(loss):
    student, teacher = random_points(5, 3, 4)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: 3 * loss(2 * x, teacher) ** 2, student)  # inside a larger graph


@every_loss
def test_a_step_against_the_gradient_makes_the_loss_smaller_and_the_teacher_receives_none(loss):
    student, teacher = (x.requires_grad_() for x in random_points())
    before = loss(student, teacher)
    before.backward()
    assert teacher.grad is None
    assert loss(student.detach() - 0.1 * student.grad, teacher) < before


@every_loss
def test_maps_are_flattened_to_one_row_for_each_sample(loss):
    student, teacher = random_points(6, 24, 36)
    maps = student.reshape(6, 2, 3, 4), teacher.reshape(6, 4, 3, 3)
    torch.testing.assert_close(loss(*maps), loss(student, teacher))


@every_loss
def test_collapsed_features_give_a_finite_loss_and_gradient(loss):
    _, teacher = random_points(dtype=torch.float32)
    for collapsed in (torch.zeros(6, 4), torch.ones(6, 4), torch.full((6, 4), 1e-20)):
        student = collapsed.requires_grad_()
        value = loss(student, teacher)
        value.backward()
        assert value.isfinite()
        assert student.grad.isfinite().all()
        assert loss(teacher, collapsed.detach()).isfinite()


@every_loss
@given(magnitude=st.floats(-4, 4), seed=seeds)
@settings(max_examples=25, deadline=None)
def test_single_precision_is_enough_for_features_of_any_usual_magnitude(loss, magnitude, seed):
    student, teacher = random_points(seed=seed, dtype=torch.float32)
    student = (10**magnitude * student).requires_grad_()
    value = loss(student, teacher)
    value.backward()
    exact = student.detach().double().requires_grad_()
    loss(exact, teacher.double()).backward()
    assert value.item() == pytest.approx(loss(exact, teacher.double()).item(), rel=1e-4, abs=1e-6)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-3, atol=1e-4 * exact.grad.abs().max().item())


@every_loss
def test_the_loss_is_computed_in_single_precision_under_autocast_and_for_half_precision(loss):
    student, teacher = random_points(16, 32, 48, dtype=torch.float32)
    expected = loss(student, teacher)
    student.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = loss(student, teacher)
    actual.backward()
    assert actual.dtype == student.grad.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=0)
    for dtype in (torch.float16, torch.bfloat16):
        halves = [x.detach().to(dtype) for x in (student, teacher)]
        halves[0].requires_grad_()
        value = loss(*halves)
        value.backward()
        torch.testing.assert_close(value, loss(*(x.float() for x in halves)))
        assert halves[0].grad.dtype == dtype


@every_loss
def test_half_precision_features_whose_products_overflow_give_a_finite_loss(loss):
    student, teacher = (200 * x for x in random_points(8, 512, 512, dtype=torch.float16))
    assert (student @ student.T).isinf().any()
    assert loss(student, teacher).isfinite()


@every_loss
def test_the_loss_and_its_gradient_map_over_stacked_students_without_a_slow_fallback(loss):
    _, teacher = random_points()
    students = torch.randn(3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = torch.vmap(loss, in_dims=(0, None))(students, teacher)
        gradients = torch.vmap(torch.func.grad(loss), in_dims=(0, None))(students, teacher)
    for student, value, gradient in zip(students, mapped, gradients, strict=True):
        student = student.clone().requires_grad_()
        alone = loss(student, teacher)
        alone.backward()
        torch.testing.assert_close(value, alone.detach())
        torch.testing.assert_close(gradient, student.grad)


@every_loss
def test_the_value_is_the_same_without_gradients(loss):
    student, teacher = random_points()
    with torch.no_grad():
        silent = loss(student.requires_grad_(), teacher)
    assert not silent.requires_grad
    torch.testing.assert_close(silent, loss(student, teacher).detach())


@every_loss
def test_batches_that_differ_are_refused_and_not_broadcast(loss):
    with pytest.raises(ValueError, match=r"must come from the same batch, got 6 and 1 samples. Row i of one"):
        loss(torch.zeros(6, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"need a batch dimension and at least one more, got shapes \(4,\)"):
        loss(torch.zeros(4), torch.zeros(4))
    with pytest.raises(ValueError, match=r"must not be empty, got \(0, 4\)"):
        loss(torch.zeros(0, 4), torch.zeros(0, 4))
    with pytest.raises(ValueError, match=r"student features must be floating point, got torch.int64"):
        loss(torch.zeros(6, 4, dtype=torch.long), torch.zeros(6, 4))


@pytest.mark.parametrize(
    ("loss", "samples", "relation"), [(rkd_distance_loss, 2, "distances"), (rkd_angle_loss, 3, "angles")]
)
def test_a_batch_too_small_for_a_relation_is_refused(loss, samples, relation):
    few = torch.randn(samples - 1, 4)
    with pytest.raises(
        ValueError, match=rf"relations of {relation} need at least {samples} samples, got {samples - 1}"
    ):
        loss(few, few)
    assert loss(torch.randn(samples, 4), torch.randn(samples, 4)).isfinite()


# Relational distillation: what it sees


@every_rkd
@given(seed=seeds, shift=st.floats(-10, 10))
@settings(max_examples=25, deadline=None)
def test_relational_losses_do_not_see_a_translation(loss, seed, shift):
    student, teacher = random_points(seed=seed)
    moved = loss(student + shift, teacher - shift)
    torch.testing.assert_close(moved, loss(student, teacher), rtol=1e-7, atol=1e-10)


@pytest.mark.trap(34)
def test_the_gram_loss_sees_a_translation_so_it_is_not_the_papers_angles():
    _, teacher = random_points()
    moved = teacher + 3
    assert rkd_angle_loss(moved, teacher).item() == pytest.approx(0, abs=1e-25)
    assert gram_loss(moved, teacher).item() > 0.1
    assert similarity_preserving_loss(moved, teacher).item() > 0.01


@pytest.mark.trap(34)
def test_the_angle_at_each_vertex_counts():
    right = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    equilateral = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    # Angles 90°, 45°, 45° against 60° three times; each occurs twice among the 27 triplets.
    differences = np.array([0 - 0.5, 0.5**0.5 - 0.5, 0.5**0.5 - 0.5])
    assert rkd_angle_loss(right, equilateral).item() == pytest.approx(2 * (differences**2 / 2).sum() / 27, rel=1e-6)


@pytest.mark.trap(31)
def test_one_outlier_does_not_set_the_scale_of_all_other_distances():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(32, 4, generator=generator)
    student = torch.randn(32, 4, generator=generator)  # agrees with the teacher in nothing
    far = torch.zeros(32, 4)
    far[0, 0] = 1000.0

    def divided_by_largest(x, y):
        return F.smooth_l1_loss(
            torch.cdist(x, x) / torch.cdist(x, x).max(), torch.cdist(y, y) / torch.cdist(y, y).max()
        )

    # Both sides have the same outlier, and still disagree about all other pairs.
    kept = rkd_distance_loss(student + far, teacher + far) / rkd_distance_loss(student, teacher)
    lost = divided_by_largest(student + far, teacher + far) / divided_by_largest(student, teacher)
    assert kept > 50 * lost
    same = torch.ones(4, 3)
    assert divided_by_largest(same, torch.randn(4, 3)).isnan()  # 0 / 0
    assert rkd_distance_loss(same, torch.randn(4, 3)).isfinite()


@pytest.mark.trap(31)
def test_the_scale_is_the_mean_over_pairs_that_are_apart():
    # Four points on two places: 4 of 6 pairs are 1 apart, the others 0. The mean over all would be 2/3.
    student = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    teacher = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    apart = np.array([0, 1, 1, 1, 1, 0.0])
    line = np.array([1, 2, 3, 1, 2, 1]) / (10 / 6)
    assert rkd_distance_loss(student, teacher).item() == pytest.approx(2 * huber(apart - line).sum() / 16, rel=1e-6)


@pytest.mark.trap(32)
def test_equal_points_have_distance_zero_also_in_large_batches_far_from_the_origin():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(128, 64, generator=generator) + 30
    points[64:] = points[:64]  # each sample twice
    by_product = torch.cdist(points, points, compute_mode="use_mm_for_euclid_dist")
    assert by_product.diagonal(64).max() > 0.01  # the mistake: equal points, apart
    distances = module._PairDistances.apply(points)
    i, j = torch.triu_indices(128, 128, 1)
    assert (distances[j == i + 64] == 0).all()
    exact = np.linalg.norm(points.numpy()[:, None].astype(np.float64) - points.numpy()[None], axis=2)
    np.testing.assert_allclose(distances.numpy(), exact[i, j], rtol=1e-5)


@pytest.mark.trap(32)
def test_a_batch_far_from_the_origin_loses_no_digits_of_its_relations():
    student, teacher = random_points(64, 16, 16, dtype=torch.float32)
    for loss in RKD:
        expected = loss(student, teacher)
        torch.testing.assert_close(loss(student + 64, teacher - 64), expected, rtol=1e-3, atol=0)


@pytest.mark.trap(33)
@every_rkd
def test_repeated_samples_give_a_finite_gradient_of_the_usual_size(loss):
    student, teacher = random_points(dtype=torch.float32)
    student, teacher = torch.cat([student, student[:3]]), torch.cat([teacher, teacher.flip(0)[:3]])
    student.requires_grad_()
    naive = torch.sqrt((student[:, None] - student[None]).square().sum(-1)).sum()
    assert torch.autograd.grad(naive, student)[0].isnan().any()  # the mistake
    loss(student, teacher).backward()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1


@pytest.mark.trap(33)
@every_rkd
def test_the_gradient_at_repeated_samples_is_that_of_the_pairs_that_are_apart(loss):
    student, teacher = random_points(5, 3, 4)
    student = torch.cat([student, student[:1]]).requires_grad_()
    teacher = torch.cat([teacher, teacher[:1]])  # the teacher agrees that they coincide
    loss(student, teacher).backward()
    # Nothing tells the two copies apart, so nothing pulls them apart.
    torch.testing.assert_close(student.grad[0], student.grad[5])
    direction = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    direction[5] = direction[0]  # move the copies together: the loss is smooth along it
    with torch.no_grad():
        slope = (loss(student + 1e-6 * direction, teacher) - loss(student - 1e-6 * direction, teacher)) / 2e-6
    assert (student.grad * direction).sum().item() == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.trap(36)
@pytest.mark.parametrize("batch", [3, 17, 40])
def test_angles_taken_a_few_vertices_at_a_time_are_those_taken_at_once(batch, monkeypatch):
    student, teacher = random_points(batch, 8, 8)
    at_once = student.clone().requires_grad_()
    u, v = (F.normalize(x[None] - x[:, None], dim=2) for x in (at_once, teacher))  # (B, B, D)
    whole = F.smooth_l1_loss(torch.einsum("ijd,ikd->ijk", u, u), torch.einsum("ijd,ikd->ijk", v, v))  # all B³
    whole.backward()
    chunks = []
    split = torch.Tensor.split
    for vertices in (1, 2, batch - 1, batch):
        monkeypatch.setattr(torch.Tensor, "split", lambda x, _, v=vertices: chunks.append(v) or split(x, v))
        student.grad = None
        value = rkd_angle_loss(student.requires_grad_(), teacher)
        value.backward()
        torch.testing.assert_close(value, whole)
        torch.testing.assert_close(student.grad, at_once.grad, rtol=1e-9, atol=1e-15)
    assert len(chunks) == 4  # the chunks were really used


@pytest.mark.trap(36)
def test_no_tensor_of_all_triplets_is_ever_made():
    student, teacher = random_points(128, 16, 16, dtype=torch.float32)
    student.requires_grad_()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            output = function(*args, **(kwargs or {}))
            if isinstance(output, torch.Tensor):
                largest = max(largest, output.numel())
            return output

    with Watch():
        rkd_angle_loss(student, teacher).backward()
    assert largest < 128**3 / 2  # 2²⁰ numbers at most; at B = 512 all triplets are 2²⁷
    assert largest > 0


@pytest.mark.parametrize("loss", RKD)
@pytest.mark.trap(78)
def test_second_derivatives_agree_with_finite_differences(loss):
    student, teacher = random_points(batch=5)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, teacher), student.requires_grad_())


# Gram and similarity


@pytest.mark.trap(35)
@given(batch=st.integers(2, 64), seed=seeds)
@settings(max_examples=25, deadline=None)
def test_the_gram_loss_is_not_made_inert_by_the_size_of_the_batch(batch, seed):
    student, teacher = random_points(batch, 4, 4, seed=seed)
    ours = gram_loss(student, teacher).item()
    s, t = student @ student.T, teacher @ teacher.T
    mistaken = F.mse_loss(s / s.norm(), t / t.norm()).item()
    assert mistaken <= 4 / batch**2
    assert ours == pytest.approx(batch**2 * mistaken)
    assert ours <= 2 + 1e-12


def test_the_gram_loss_reaches_its_bound_of_two_where_the_teacher_sees_no_relation_of_the_students():
    student = torch.tensor([[1.0], [0.0]])
    teacher = torch.tensor([[0.0], [1.0]])
    assert gram_loss(student, teacher).item() == pytest.approx(2)


def test_the_gram_loss_is_two_minus_twice_the_kernel_alignment():
    student, teacher = (x.numpy() for x in random_points())
    alignment = np.linalg.norm(student.T @ teacher) ** 2
    alignment /= np.linalg.norm(student.T @ student) * np.linalg.norm(teacher.T @ teacher)
    assert gram_loss(torch.from_numpy(student), torch.from_numpy(teacher)).item() == pytest.approx(2 - 2 * alignment)


@pytest.mark.trap(37)
def test_similarity_preserving_normalises_rows_of_the_product_and_is_not_a_cosine_of_samples():
    student, teacher = random_points()
    cosine = F.mse_loss(*(F.normalize(x, dim=1) @ F.normalize(x, dim=1).T for x in (student, teacher)))
    assert similarity_preserving_loss(student, teacher).item() != pytest.approx(cosine.item(), rel=0.1)
    # The cosine ignores how long one sample is against the others; the product does not.
    longer = student * torch.tensor([5.0, 1, 1, 1, 1, 1])[:, None]
    assert not torch.isclose(similarity_preserving_loss(longer, teacher), similarity_preserving_loss(student, teacher))


@pytest.mark.trap(37)
def test_similarity_preserving_builds_nothing_larger_than_its_input_and_b_by_b():
    student, teacher = random_points(32, 400, 500, dtype=torch.float32)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            output = function(*args, **(kwargs or {}))
            if isinstance(output, torch.Tensor):
                sizes.append(output.numel())
            return output

    with Watch():
        similarity_preserving_loss(student.requires_grad_(), teacher).backward()
    assert max(sizes) == 32 * 500  # and not 32·32·500


@pytest.mark.trap(37)
def test_similarity_of_maps_compares_whole_samples_not_one_axis_of_them():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, c, 3, 2, generator=generator, dtype=torch.float64) for c in (4, 7))
    expected = similarity_oracle(student.flatten(1), teacher.flatten(1))
    assert similarity_preserving_loss(student, teacher).item() == pytest.approx(expected)


def test_similarity_preserving_stays_below_four_over_the_batch():
    student, teacher = torch.randn(8, 1), torch.randn(8, 1)
    assert similarity_preserving_loss(student, teacher) <= 4 / 8
