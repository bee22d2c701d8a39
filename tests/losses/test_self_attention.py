"""Attention losses against NumPy and SciPy written from the papers."""

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from kdcourse.losses import attention_loss, attention_scores_loss, value_relation_loss

seeds = st.integers(0, 10_000)
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
REAL = MASK.bool()
PAIRS = (REAL[:, None, :, None] & REAL[:, None, None, :]).expand(2, 3, 5, 5)


def scores(heads=3, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, heads, 5, 5, generator=generator, dtype=torch.float64)


def attend(scores, mask=MASK):
    """What a model does: padded keys get minus infinity, then the softmax."""
    return scores.masked_fill(~mask.bool()[:, None, None, :], -torch.inf).softmax(dim=-1)


def values(heads=3, width=4, seed=0):
    return torch.randn(2, heads, 5, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_row_kl(teacher, student, mask=MASK):
    """Row by row over real tokens and heads, each row over its real keys."""
    rows = []
    for b, i in np.argwhere(mask.numpy() > 0):
        keys = mask[b].numpy() > 0
        rows.extend(
            scipy.special.rel_entr(teacher[b, h, i].numpy()[keys], student[b, h, i].numpy()[keys]).sum()
            for h in range(teacher.shape[1])
        )
    return np.mean(rows)


# Probabilities


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_attention_loss_is_the_mean_divergence_of_the_rows_of_real_tokens(seed):
    student, teacher = attend(scores(seed=seed)), attend(scores(seed=seed + 1))
    actual = attention_loss(student, teacher, attention_mask=MASK)
    assert actual.item() == pytest.approx(mean_row_kl(teacher, student))
    unmasked = attention_loss(scores(seed=seed).softmax(-1), scores(seed=seed + 1).softmax(-1))
    everything = torch.ones_like(MASK)
    expected = mean_row_kl(scores(seed=seed + 1).softmax(-1), scores(seed=seed).softmax(-1), everything)
    assert unmasked.item() == pytest.approx(expected)


@pytest.mark.trap(63)
def test_a_second_softmax_would_hide_a_divergence_of_nearly_nine_nats():
    student, teacher = torch.full((1, 1, 64, 64), 1.5e-4), torch.full((1, 1, 64, 64), 1e-9)
    student[..., 1], teacher[..., 0] = 1 - 63 * 1.5e-4, 1.0
    assert attention_loss(student, teacher).item() == pytest.approx(8.8, abs=0.01)
    mistaken = F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="none").mean()
    assert mistaken < 1e-3


@given(seed=seeds, scale=st.floats(0.01, 300))
@settings(max_examples=30, deadline=None)
def test_attention_loss_is_never_negative_and_finite_when_rows_saturate(seed, scale):
    student = attend(scores(seed=seed, scale=scale)).float().requires_grad_()
    loss = attention_loss(student, attend(scores(seed=seed + 1, scale=scale)).float(), attention_mask=MASK)
    loss.backward()
    assert loss.item() >= -1e-6
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("mask", [None, MASK])
def test_equal_attention_costs_nothing(mask):
    teacher = attend(scores(scale=50.0))
    assert attention_loss(teacher, teacher, attention_mask=mask).item() == pytest.approx(0, abs=1e-15)
    assert attention_scores_loss(scores(), scores(), attention_mask=mask).item() == 0
    assert value_relation_loss(values(), values(), attention_mask=mask).item() == 0


@pytest.mark.parametrize("content", [0.3, 1e30, torch.nan, -1.0])
@pytest.mark.trap(64)
def test_padding_content_changes_neither_attention_loss_nor_gradient(content):
    results = []
    for fill in (0.0, content):
        student = torch.where(PAIRS, attend(scores()), fill).requires_grad_()
        loss = attention_loss(student, torch.where(PAIRS, attend(scores(seed=1)), fill), attention_mask=MASK)
        results.append((loss, torch.autograd.grad(loss, student)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not results[0][1][~PAIRS].any()
    assert results[0][1][PAIRS].any()


@pytest.mark.trap(64)
def test_longer_padding_leaves_attention_alone_where_masked_keys_and_a_mean_over_cells_do_not():
    def padded(cells, extra):
        mask = F.pad(MASK, (0, extra))
        return attend(F.pad(cells, (0, extra, 0, extra), value=0.7), mask), mask

    def mistaken(student, teacher, mask):
        divergence = torch.xlogy(teacher, teacher) - torch.xlogy(teacher, student.clamp(min=1e-300))
        return (divergence * mask[:, None, None, :]).mean()

    ours, theirs = [], []
    for extra in (0, 5, 11):
        student, mask = padded(scores(), extra)
        teacher, _ = padded(scores(seed=1), extra)
        ours.append(attention_loss(student, teacher, attention_mask=mask).item())
        theirs.append(mistaken(student, teacher, mask).item())
    assert ours == pytest.approx([ours[0]] * 3, rel=1e-12)
    assert theirs[2] < 0.5 * theirs[0]


@pytest.mark.trap(64)
def test_leaving_padded_keys_out_renormalises_a_model_that_forgot_its_mask():
    # softmax over all keys, then over real keys alone, is the softmax over real keys
    forgot = [scores(seed=s).softmax(dim=-1) for s in (0, 1)]
    masked = [attend(scores(seed=s)) for s in (0, 1)]
    torch.testing.assert_close(
        attention_loss(*forgot, attention_mask=MASK), attention_loss(*masked, attention_mask=MASK)
    )


@pytest.mark.parametrize("loss", [attention_loss, attention_scores_loss, value_relation_loss])
@pytest.mark.trap(64)
def test_no_real_token_gives_zero_within_the_graph(loss):
    student = torch.rand(2, 3, 5, 5, requires_grad=True)
    result = loss(student, torch.rand(2, 3, 5, 5), attention_mask=torch.zeros_like(MASK))
    result.backward()
    assert result.item() == 0
    assert not student.grad.any()


@pytest.mark.parametrize("loss", [attention_loss, attention_scores_loss])
@pytest.mark.trap(65)
def test_different_numbers_of_heads_are_refused_or_averaged_on_request(loss):
    student, teacher = attend(scores(heads=3)), attend(scores(heads=12, seed=1))
    with pytest.raises(ValueError, match=r"3 attention heads, the teacher 12.*average_heads=True"):
        loss(student, teacher, attention_mask=MASK)
    by_hand = loss(student.mean(1, keepdim=True), teacher.mean(1, keepdim=True), attention_mask=MASK)
    torch.testing.assert_close(loss(student, teacher, attention_mask=MASK, average_heads=True), by_hand)


@pytest.mark.trap(65)
def test_one_head_is_not_broadcast_over_many():
    with pytest.raises(ValueError, match="1 attention heads, the teacher 3"):
        attention_loss(attend(scores(heads=1)), attend(scores(heads=3)))
    with pytest.raises(ValueError, match="value relations must have the same shape"):
        value_relation_loss(values(heads=1), values(heads=3))


def test_order_of_samples_and_of_heads_does_not_matter():
    student, teacher = attend(scores()), attend(scores(seed=1))
    expected = attention_loss(student, teacher, attention_mask=MASK)
    swapped = attention_loss(student.flip(0), teacher.flip(0), attention_mask=MASK.flip(0))
    torch.testing.assert_close(swapped, expected)
    torch.testing.assert_close(attention_loss(student.flip(1), teacher.flip(1), attention_mask=MASK), expected)


def test_rows_thinned_by_dropout_are_compared_as_distributions():
    student, teacher = attend(scores()), attend(scores(seed=1))
    torch.testing.assert_close(attention_loss(student / 0.9, teacher), attention_loss(student, teacher))


# Scores


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
@pytest.mark.trap(64)
def test_scores_loss_is_the_mean_square_over_heads_and_pairs_of_real_tokens(seed):
    student, teacher = scores(seed=seed), scores(seed=seed + 1)
    expected = np.mean((student - teacher).numpy()[PAIRS.numpy()] ** 2)
    assert attention_scores_loss(student, teacher, attention_mask=MASK).item() == pytest.approx(expected)
    torch.testing.assert_close(attention_scores_loss(student, teacher), F.mse_loss(student, teacher))


@pytest.mark.parametrize("content", [0.3, 1e10, -1e10])
@pytest.mark.trap(64)
def test_padding_content_changes_neither_scores_loss_nor_gradient(content):
    results = []
    for fill in (0.0, content):
        student = torch.where(PAIRS, scores(), fill).requires_grad_()
        loss = attention_scores_loss(student, torch.where(PAIRS, scores(seed=1), -fill), attention_mask=MASK)
        results.append((loss, torch.autograd.grad(loss, student)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not results[0][1][~PAIRS].any()


# Value relations


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
@pytest.mark.trap(64)
def test_value_relation_is_the_divergence_of_scaled_products_even_between_different_widths(seed):
    student, teacher = values(width=4, seed=seed), values(width=9, seed=seed + 1)
    relations = []
    for side in (student, teacher):
        products = np.einsum("bhid,bhjd->bhij", side.numpy(), side.numpy()) / np.sqrt(side.shape[-1])
        products[~np.broadcast_to(REAL.numpy()[:, None, None, :], products.shape)] = -np.inf
        relations.append(torch.from_numpy(scipy.special.softmax(products, axis=-1)))
    actual = value_relation_loss(student, teacher, attention_mask=MASK)
    assert actual.item() == pytest.approx(mean_row_kl(relations[1], relations[0]))


@pytest.mark.parametrize("content", [50.0, torch.nan])
@pytest.mark.trap(64)
def test_padding_content_changes_neither_value_relation_nor_gradient(content):
    results = []
    for fill in (0.0, content):
        student = torch.where(REAL[:, None, :, None], values(), fill).requires_grad_()
        teacher = torch.where(REAL[:, None, :, None], values(width=9, seed=1), fill)
        loss = value_relation_loss(student, teacher, attention_mask=MASK)
        results.append((loss, torch.autograd.grad(loss, student)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not results[0][1][0, :, 3:].any()


def test_value_relation_ignores_a_rotation_of_the_values():
    student, teacher = values(), values(seed=1)
    rotation = torch.linalg.qr(values(heads=1, width=5, seed=3)[0, 0, :4, :4])[0]
    torch.testing.assert_close(value_relation_loss(student @ rotation, teacher), value_relation_loss(student, teacher))


# All three


def test_attention_gradients_agree_with_finite_differences_and_never_reach_the_teacher():
    teacher = scores(seed=1).requires_grad_()
    cases = [
        (lambda x: attention_loss(x, teacher.softmax(-1), attention_mask=MASK), attend(scores()) + 0.01),
        (lambda x: attention_scores_loss(x, teacher, attention_mask=MASK), scores()),
        (lambda x: value_relation_loss(x, teacher, attention_mask=MASK), values()),
    ]
    for loss, student in cases:
        student = student.detach().requires_grad_()
        assert torch.autograd.gradcheck(loss, student)
        loss(student).backward()
    assert teacher.grad is None


def test_half_precision_is_raised_to_float32_under_autocast():
    half = [attend(scores(seed=s)).bfloat16() for s in (0, 1)], [values(seed=s).bfloat16() for s in (0, 1)]
    for loss, (student, teacher) in zip((attention_loss, value_relation_loss), half, strict=True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual = loss(student, teacher, attention_mask=MASK)
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, loss(student.float(), teacher.float(), attention_mask=MASK))


def test_stacked_students_under_vmap():
    students = torch.stack([attend(scores(seed=s)) for s in range(3)])
    teacher = attend(scores(seed=9))
    stacked = vmap(lambda s: attention_loss(s, teacher, attention_mask=MASK))(students)
    torch.testing.assert_close(stacked[1], attention_loss(students[1], teacher, attention_mask=MASK))


# Bad input

A = torch.rand(2, 3, 5, 5)


@pytest.mark.parametrize(
    ("student", "teacher", "arguments", "message"),
    [
        (A - 1, A, {}, "student attention must hold probabilities, got -.*attention_scores_loss"),
        (A, A - 1, {}, "teacher attention must hold probabilities"),
        (A[0], A[0], {}, r"must have shape \(B, heads, L, L\), got \(3, 5, 5\)"),
        (A, A[:, :, :4, :4], {}, "attention must have the same shape"),
        (A[:1], A, {}, "same shape.*Broadcasting"),
        (A, A, {"attention_mask": torch.ones(2, 1, 1, 5)}, r"attention_mask must have shape \(2, 5\)"),
        (A, A, {"attention_mask": torch.full((2, 5), 2)}, "attention_mask must hold only 0 and 1, got 2"),
        (A.long(), A, {}, "student attention must be floating point"),
        (A, None, {}, "teacher attention must be a torch.Tensor, got NoneType"),
    ],
)
def test_attention_loss_refuses_what_it_cannot_mean(student, teacher, arguments, message):
    with pytest.raises(ValueError, match=message):
        attention_loss(student, teacher, **arguments)


def test_value_relation_refuses_values_not_split_into_heads():
    with pytest.raises(ValueError, match=r"student values must have shape \(B, heads, L, d\), got \(2, 5, 12\)"):
        value_relation_loss(torch.rand(2, 5, 12), torch.rand(2, 5, 12))
    with pytest.raises(ValueError, match="student values must be floating point"):
        value_relation_loss(torch.ones(2, 3, 5, 4, dtype=torch.long), values())


@pytest.mark.parametrize("loss", [attention_loss, attention_scores_loss, value_relation_loss])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 1, 1, 5), r"attention_mask must have shape \(2, 5\), got \(2, 1, 1, 5\)\. .*tokenizer"),
        (torch.full((2, 5), -1e9), "attention_mask must hold only 0 and 1, got -1e.*tokenizer"),
        ([[1] * 5] * 2, "attention_mask must be a torch.Tensor of 0 and 1, got list"),
    ],
)
def test_every_attention_loss_takes_the_mask_of_the_tokenizer_and_no_other(loss, mask, message):
    with pytest.raises(ValueError, match=message):
        loss(A, A, attention_mask=mask)
