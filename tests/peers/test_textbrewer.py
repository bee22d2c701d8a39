"""Language losses against TextBrewer's, with the settings under which the two formulas agree.

Where they differ on purpose a test says how: TextBrewer's attention cross-entropy is not 0 at equality, attends to
padded keys, and its mean squared error on attention treats every number below -0.001 as 0 when it gets no mask.
"""

import math

import pytest
import torch

from kdcourse.losses import (
    attention_loss,
    attention_scores_loss,
    hidden_cosine_loss,
    hidden_state_loss,
    kd_loss,
)

pytestmark = pytest.mark.peers
peer = pytest.importorskip("textbrewer.losses")

MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def entropy(probabilities):
    return -torch.xlogy(probabilities, probabilities).sum(-1)


@pytest.fixture
def hidden():
    return normal(3, 5, 8, seed=1), normal(3, 5, 8, seed=2)


@pytest.fixture
def scores():
    return normal(3, 2, 5, 5, seed=3), normal(3, 2, 5, 5, seed=4)


@pytest.mark.parametrize("mask", [None, MASK])
def test_hidden_mse_agrees_with_and_without_padding(hidden, mask):
    torch.testing.assert_close(hidden_state_loss(*hidden, attention_mask=mask), peer.hid_mse_loss(*hidden, mask))


@pytest.mark.parametrize("mask", [None, MASK])
def test_cosine_agrees_with_and_without_padding(hidden, mask):
    torch.testing.assert_close(hidden_cosine_loss(*hidden, attention_mask=mask), peer.cos_loss(*hidden, mask))


def test_their_cosine_refuses_a_transposed_tensor_and_ours_does_not(hidden):
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in hidden]
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        peer.cos_loss(*strided)
    torch.testing.assert_close(hidden_cosine_loss(*strided), peer.cos_loss(*hidden))


def test_attention_mse_agrees_over_pairs_of_real_tokens(scores):
    torch.testing.assert_close(attention_scores_loss(*scores, attention_mask=MASK), peer.att_mse_loss(*scores, MASK))


def test_attention_mse_without_a_mask_agrees_on_positive_scores_only(scores):
    positive = [x.abs() for x in scores]
    torch.testing.assert_close(attention_scores_loss(*positive), peer.att_mse_loss(*positive))
    # below -0.001 it sees padding, and unpadded scores are mostly that
    assert peer.att_mse_loss(*scores) < 0.8 * attention_scores_loss(*scores)


def test_attention_cross_entropy_is_our_divergence_and_the_teachers_entropy(scores):
    # it takes scores and applies the softmax itself; ours takes what a model returns, probabilities
    student, teacher = scores[0], scores[1].abs()  # positive: see the next test
    ours = attention_loss(student.softmax(-1), teacher.softmax(-1))
    torch.testing.assert_close(ours + entropy(teacher.softmax(-1)).mean(), peer.att_ce_loss(student, teacher))


def test_attention_cross_entropy_agrees_under_a_mask_once_the_model_has_closed_padded_keys(scores):
    closed = [x.masked_fill(MASK[:, None, None, :] == 0, -1e9) for x in scores]
    student, teacher = (x.softmax(-1) for x in closed)
    ours = attention_loss(student, teacher, attention_mask=MASK)
    real_rows = MASK.bool()[:, None, :].expand(3, 2, 5)
    torch.testing.assert_close(ours + entropy(teacher)[real_rows].mean(), peer.att_ce_loss(*closed, MASK))


def test_their_attention_cross_entropy_depends_on_padded_scores_and_ours_does_not(scores):
    other = [torch.where(MASK[:, None, None, :] == 0, 3.0, x) for x in scores]
    assert abs(peer.att_ce_loss(*other, MASK) / peer.att_ce_loss(*scores, MASK) - 1) > 0.05
    ours = [attention_loss(*(x.softmax(-1) for x in pair), attention_mask=MASK) for pair in (scores, other)]
    torch.testing.assert_close(*ours)


def test_their_attention_cross_entropy_given_probabilities_hides_what_differs():
    student, teacher = torch.full((1, 1, 64, 64), 1.5e-4), torch.zeros(1, 1, 64, 64)
    student[..., 1], teacher[..., 0] = 1 - 63 * 1.5e-4, 1.0
    assert attention_loss(student, teacher).item() == pytest.approx(8.8, abs=0.01)
    gap = peer.att_ce_loss(student, teacher) - peer.att_ce_loss(teacher, teacher)
    assert gap < 0.1


def test_averaged_heads_agree_with_their_mean_loss(scores):
    student, teacher = scores[0], scores[1].abs()
    averaged = [x.mean(1, keepdim=True).softmax(-1) for x in (student, teacher)]  # theirs averages scores
    ours = attention_loss(*averaged) + entropy(averaged[1]).mean()
    torch.testing.assert_close(ours, peer.att_ce_mean_loss(student, teacher))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_soft_targets_agree_up_to_the_teachers_entropy_and_t_squared(temperature):
    student, teacher = normal(4, 7, seed=5), normal(4, 7, seed=6)
    ours = kd_loss(student, teacher, temperature=temperature) / temperature**2
    constant = entropy((teacher / temperature).softmax(-1)).mean()
    torch.testing.assert_close(ours + constant, peer.kd_ce_loss(student, teacher, temperature))
    assert math.isclose(kd_loss(teacher, teacher, temperature=temperature), 0, abs_tol=1e-15)
