"""Layer maps, embeddings and hidden states against NumPy written from the papers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from kdcourse.losses import HiddenProjection, embedding_loss, hidden_state_loss, map_layers

seeds = st.integers(0, 10_000)
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 0]])


def states(layers=1, batch=3, tokens=5, width=4, seed=0):
    """Hidden states of ``layers`` layers, float64."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, tokens, width, generator=generator, dtype=torch.float64) for _ in range(layers)]


def with_padding(tensor, content):
    """The same states with other content where MASK says padding."""
    return torch.where(MASK.bool().unsqueeze(-1), tensor, content)


def token_mse(student, teacher, mask):
    """Token by token, over real tokens alone."""
    errors = [np.mean((student[b, i].numpy() - teacher[b, i].numpy()) ** 2) for b, i in np.argwhere(mask.numpy() > 0)]
    return np.mean(errors)


# Layer maps


@given(student=st.integers(1, 40), extra=st.integers(0, 60))
@pytest.mark.trap(66)
def test_the_last_block_learns_from_the_last_and_no_two_from_the_same(student, extra):
    mapping = map_layers(student, student + extra)
    assert list(mapping) == list(range(1, student + 1))
    assert mapping[student] == student + extra
    assert list(mapping.values()) == sorted(set(mapping.values()))
    # never further from the even spacing i·k than half a block
    assert all(abs(t - s * (student + extra) / student) <= 0.5 for s, t in mapping.items())


@pytest.mark.trap(66)
def test_half_depth_maps_every_block_to_twice_its_number():
    assert map_layers(6, 12) == {1: 2, 2: 4, 3: 6, 4: 8, 5: 10, 6: 12}
    # the two tuples of transformers hold 7 and 13 states: their whole quotient is 1, and half the teacher is unused
    mistaken = {i: i * (13 // 7) for i in range(7)}
    assert max(mistaken.values()) == 6


def test_depths_that_do_not_divide_are_rounded_with_halves_upwards():
    assert map_layers(4, 6) == {1: 2, 2: 3, 3: 5, 4: 6}
    assert map_layers(3, 3) == {1: 1, 2: 2, 3: 3}


@pytest.mark.trap(66)
def test_a_deeper_student_is_refused_where_the_quotient_would_map_all_to_the_embeddings():
    assert {i * (6 // 12) for i in range(12)} == {0}
    with pytest.raises(ValueError, match=r"student has 12 blocks, the teacher only 6.*Write the map"):
        map_layers(12, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 12), "student_layers must be a positive integer, got 0"),
        ((6, -1), "teacher_layers must be a positive integer, got -1"),
        ((6.0, 12), "got 6.0"),
        (((1,) * 7, (1,) * 13), "got a tuple of 7.*one entry more than there are blocks"),
    ],
)
def test_map_layers_takes_counts_of_blocks(arguments, message):
    with pytest.raises(ValueError, match=message):
        map_layers(*arguments)


# Hidden states


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_hidden_loss_is_the_mean_over_real_tokens_of_each_mapped_pair(seed):
    student, teacher = states(3, seed=seed), states(5, seed=seed + 1)
    expected = np.mean([token_mse(student[s], teacher[t], MASK) for s, t in ((0, 0), (1, 2), (2, 4))])
    assert hidden_state_loss(student, teacher, attention_mask=MASK).item() == pytest.approx(expected)


@pytest.mark.trap(66)
def test_default_map_sends_embeddings_to_embeddings_and_last_to_last():
    student, teacher = states(3, seed=0), states(7, seed=1)
    by_hand = hidden_state_loss(student, teacher, layer_map={0: 0, **map_layers(2, 6)})
    torch.testing.assert_close(hidden_state_loss(student, teacher), by_hand)
    moved = [*teacher[:-1], teacher[-1] + 1]
    assert hidden_state_loss(student, moved) != by_hand


def test_a_map_of_blocks_alone_leaves_the_embeddings_out():
    student, teacher = states(3, seed=0), states(5, seed=1)
    actual = hidden_state_loss(student, teacher, layer_map=map_layers(2, 4))
    expected = (F.mse_loss(student[1], teacher[2]) + F.mse_loss(student[2], teacher[4])) / 2
    torch.testing.assert_close(actual, expected)


def test_equal_states_cost_nothing_and_one_tensor_is_one_layer():
    teacher = states(4)
    assert hidden_state_loss(teacher, teacher, attention_mask=MASK).item() == 0
    student = states(1, seed=3)[0]
    torch.testing.assert_close(hidden_state_loss(student, teacher[0]), F.mse_loss(student, teacher[0]))


@pytest.mark.parametrize("content", [7.0, 1e30, torch.nan, torch.inf])
@pytest.mark.trap(64)
def test_padding_content_changes_neither_hidden_loss_nor_gradients(content):
    projection = HiddenProjection(4, 6).double()
    gradients, losses = [], []
    for fill in (0.0, content):
        student = with_padding(states()[0], fill).requires_grad_()
        teacher = with_padding(states(width=6, seed=1)[0], fill)
        loss = hidden_state_loss(student, teacher, attention_mask=MASK, projection=projection)
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, [student, projection.linear.weight]))
    assert losses[0] == losses[1]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
    assert not gradients[0][0][MASK == 0].any()


@pytest.mark.trap(64)
def test_longer_padding_changes_nothing():
    student, teacher = states(3), states(3, seed=1)
    longer = [[F.pad(state, (0, 0, 0, 11), value=3.0) for state in side] for side in (student, teacher)]
    torch.testing.assert_close(
        hidden_state_loss(*longer, attention_mask=F.pad(MASK, (0, 11))),
        hidden_state_loss(student, teacher, attention_mask=MASK),
    )


@pytest.mark.trap(64)
def test_no_real_token_gives_zero_within_the_graph():
    student = states()[0].requires_grad_()
    loss = hidden_state_loss(student, states(seed=1)[0], attention_mask=torch.zeros_like(MASK))
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64])
def test_the_mask_may_be_of_any_type(dtype):
    student, teacher = states()[0], states(seed=1)[0]
    actual = hidden_state_loss(student, teacher, attention_mask=MASK.to(dtype))
    assert actual.item() == pytest.approx(token_mse(student, teacher, MASK))


def test_projected_loss_is_the_papers_matrix_product_and_both_sides_learn_as_they_should():
    student, teacher = states()[0].requires_grad_(), states(width=6, seed=1)[0].requires_grad_()
    projection = HiddenProjection(4, 6).double()
    loss = hidden_state_loss(student, teacher, projection=projection)
    product = student.detach().numpy() @ projection.linear.weight.detach().numpy().T
    assert loss.item() == pytest.approx(np.mean((product - teacher.detach().numpy()) ** 2))
    loss.backward()
    assert student.grad.any()
    assert projection.linear.weight.grad.any()
    assert teacher.grad is None


def test_hidden_gradients_agree_with_finite_differences():
    student, teacher = states(3), states(5, seed=1)
    loss = lambda *layers: hidden_state_loss(layers, teacher, attention_mask=MASK)  # noqa: E731
    assert torch.autograd.gradcheck(loss, [state.requires_grad_() for state in student])


def test_bf16_states_are_compared_in_float32_under_autocast():
    student, teacher = states()[0].bfloat16(), states(seed=1)[0].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = hidden_state_loss(student, teacher, attention_mask=MASK)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, hidden_state_loss(student.float(), teacher.float(), attention_mask=MASK))


def test_stacked_students_under_vmap():
    students, teacher = torch.stack(states(4)), states(seed=9)[0]
    stacked = vmap(lambda s: hidden_state_loss(s, teacher, attention_mask=MASK))(students)
    one = hidden_state_loss(students[3], teacher, attention_mask=MASK)
    torch.testing.assert_close(stacked[3], one)


# Embeddings


@pytest.mark.trap(64)
def test_embedding_loss_is_mse_of_real_tokens_or_of_whole_tables():
    student, teacher = states()[0], states(seed=1)[0]
    actual = embedding_loss(student, teacher, attention_mask=MASK)
    assert actual.item() == pytest.approx(token_mse(student, teacher, MASK))
    torch.testing.assert_close(embedding_loss(student[0], teacher[0]), F.mse_loss(student[0], teacher[0]))
    assert embedding_loss(teacher, teacher).item() == 0


def test_embedding_loss_projects_the_student():
    table, wide = states()[0][0], states(width=6, seed=1)[0][0].requires_grad_()
    projection = HiddenProjection(4, 6).double()
    loss = embedding_loss(table, wide, projection=projection)
    torch.testing.assert_close(loss, F.mse_loss(projection(table), wide))
    loss.backward()
    assert wide.grad is None
    assert projection.linear.weight.grad.any()


# Bad input

H = torch.rand(3, 5, 4)


@pytest.mark.parametrize(
    ("student", "teacher", "arguments", "message"),
    [
        (H, torch.rand(3, 5, 6), {}, r"widths 4 and 6: give a learned projection=HiddenProjection\(4, 6\)"),
        (H, H[:1], {}, "same shape.*Broadcasting"),
        (
            H,
            H,
            {"projection": HiddenProjection(4, 6)},
            r"projected, must have the same shape, got \(15, 6\) and \(15, 4\)",
        ),
        (torch.rand(3, 5, 6), H, {"projection": HiddenProjection(4, 6)}, "takes the student's 4 features.*got shape"),
        (H, H, {"attention_mask": torch.ones(3, 1, 1, 5)}, r"attention_mask must have shape \(3, 5\).*tokenizer"),
        (H, H, {"attention_mask": torch.full((3, 5), -1e9)}, "attention_mask must hold only 0 and 1, got -1e"),
        ([H, H[:1]], [H, H[:1]], {}, r"same tokens, got \(B, L\) = \[\(1, 5\), \(3, 5\)\]"),
        (H[:1], H, {"projection": HiddenProjection(4, 4)}, r"same shape, got \(1, 5, 1\) and \(3, 5, 1\)"),
        ([H] * 3, [H] * 2, {}, "student has 2 blocks, the teacher only 1"),
        ([H], [H] * 2, {}, "student_layers must be a positive integer, got 0"),
        ([H] * 3, [H] * 3, {"layer_map": {}}, "layer_map is empty"),
        ([H] * 3, [H] * 3, {"layer_map": {3: 1}}, "names student layer 3, but there are only places 0 to 2"),
        ([H] * 3, [H] * 3, {"layer_map": {2: -1}}, "names teacher layer -1"),
        ([H.long()], [H], {}, "student hidden states must be floating point"),
        ([H], [H.tolist()], {}, "teacher hidden states 0 → 0 must be a torch.Tensor, got list"),
    ],
)
def test_hidden_loss_refuses_what_it_cannot_mean(student, teacher, arguments, message):
    with pytest.raises(ValueError, match=message):
        hidden_state_loss(student, teacher, **arguments)


def test_embedding_loss_refuses_other_vocabularies():
    with pytest.raises(ValueError, match=r"embeddings must have the same shape, got \(7, 4\) and \(8, 4\)"):
        embedding_loss(torch.rand(7, 4), torch.rand(8, 4))


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            torch.ones(7, 4, dtype=torch.long),
            torch.rand(7, 4),
            "^student embeddings must be floating point, got .*int64",
        ),
        (
            torch.rand(7, 4),
            torch.ones(7, 4, dtype=torch.long),
            "^teacher embeddings must be floating point, got .*int64",
        ),
        (torch.nn.Embedding(7, 4), torch.rand(7, 4), "^student embeddings must be a torch.Tensor, got Embedding"),
        (torch.rand(7, 4), torch.rand(7, 6), r"embeddings have widths 4 and 6: give .*HiddenProjection\(4, 6\)"),
    ],
)
def test_embedding_loss_compares_vectors_not_token_numbers_or_layers(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        embedding_loss(student, teacher)
