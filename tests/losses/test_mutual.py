"""Mutual learning against the formula of Deep Mutual Learning, written in NumPy."""

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse.losses import mutual_ensemble_loss, mutual_learning_loss

both = pytest.mark.parametrize("loss", [mutual_learning_loss, mutual_ensemble_loss])


def random_cohort(students=3, batch=6, classes=5, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = [scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64) for _ in range(students)]
    return logits, torch.randint(classes, (batch,), generator=generator)


def cross_entropy(z, labels):
    return -scipy.special.log_softmax(z, axis=1)[np.arange(len(labels)), labels.numpy()].mean()


def divergence(z_target, z_own, temperature):
    p, q = (scipy.special.softmax(z / temperature, axis=1) for z in (z_target, z_own))
    return temperature**2 * scipy.special.rel_entr(p, q).sum(axis=1).mean()


cohorts = {
    "students": st.integers(2, 5),
    "batch": st.integers(1, 5),
    "classes": st.integers(2, 6),
    "seed": st.integers(0, 10_000),
}


@given(**cohorts, temperature=st.floats(0.5, 10))
@settings(max_examples=40, deadline=None)
def test_each_student_learns_from_the_labels_and_the_mean_divergence_from_each_peer(temperature, **cohort):
    logits, labels = random_cohort(**cohort)
    arrays = [z.numpy() for z in logits]
    actual = mutual_learning_loss(logits, labels, temperature=temperature)
    for i, z in enumerate(arrays):
        peers = [divergence(other, z, temperature) for j, other in enumerate(arrays) if j != i]
        assert actual[i].item() == pytest.approx(cross_entropy(z, labels) + np.mean(peers), rel=1e-8, abs=1e-10)


@given(**cohorts, temperature=st.floats(0.5, 10))
@settings(max_examples=40, deadline=None)
def test_ensemble_target_is_the_mean_of_the_peers_logits(temperature, **cohort):
    logits, labels = random_cohort(**cohort)
    arrays = [z.numpy() for z in logits]
    actual = mutual_ensemble_loss(logits, labels, temperature=temperature)
    for i, z in enumerate(arrays):
        peers = np.mean([other for j, other in enumerate(arrays) if j != i], axis=0)
        expected = cross_entropy(z, labels) + divergence(peers, z, temperature)
        assert actual[i].item() == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_default_temperature_is_the_papers_one():
    logits, labels = random_cohort()
    torch.testing.assert_close(
        mutual_learning_loss(logits, labels), mutual_learning_loss(logits, labels, temperature=1)
    )


@pytest.mark.trap(51)
def test_pairwise_and_ensemble_targets_agree_for_two_students_and_differ_for_three():
    for students, agree in ((2, True), (3, False)):
        logits, labels = random_cohort(students)
        pairwise, ensemble = mutual_learning_loss(logits, labels), mutual_ensemble_loss(logits, labels)
        assert all(torch.isclose(a, b) for a, b in zip(pairwise, ensemble, strict=True)) is agree


@pytest.mark.trap(51)
def test_pairwise_peers_attract_to_their_arithmetic_mean_and_averaged_logits_to_their_geometric_mean():
    (own, first, second), labels = random_cohort()
    own.requires_grad_()
    q = own.detach().softmax(dim=1)
    p = torch.stack([first, second]).softmax(dim=-1)
    geometric = p.log().mean(dim=0).softmax(dim=-1)
    labels_part = torch.autograd.grad(F.cross_entropy(own, labels), own)[0]
    for loss, target in ((mutual_learning_loss, p.mean(dim=0)), (mutual_ensemble_loss, geometric)):
        (gradient,) = torch.autograd.grad(loss([own, first, second], labels)[0], own)
        torch.testing.assert_close(gradient - labels_part, (q - target) / len(labels))


@pytest.mark.trap(1)
def test_direction_is_from_the_peer_to_the_student_itself():
    (own, peer), labels = random_cohort(2)
    kl = mutual_learning_loss([own, peer], labels)[0] - F.cross_entropy(own, labels)
    p, q = peer.softmax(dim=1), own.softmax(dim=1)
    torch.testing.assert_close(kl, (p * (p / q).log()).sum(dim=1).mean())  # KL(peer ‖ own), written out
    assert not torch.isclose(kl, (q * (q / p).log()).sum(dim=1).mean())


@both
def test_a_students_loss_sends_no_gradient_to_its_peers(loss):
    logits, labels = random_cohort()
    logits = [z.requires_grad_() for z in logits]
    for i, value in enumerate(loss(logits, labels)):
        gradients = torch.autograd.grad(value, logits, allow_unused=True)
        assert [g is not None for g in gradients] == [j == i for j in range(3)]


@both
def test_a_cohort_that_agrees_learns_from_the_labels_alone(loss):
    (logits, *_), labels = random_cohort()
    for value in loss([logits.clone() for _ in range(3)], labels, temperature=3):
        torch.testing.assert_close(value, F.cross_entropy(logits, labels))


@both
def test_permuting_the_students_permutes_their_losses(loss):
    (a, b, c), labels = random_cohort()
    first, second, third = loss([a, b, c], labels)
    torch.testing.assert_close(loss([c, a, b], labels), [third, first, second])


@both
def test_gradient_agrees_with_finite_differences(loss):
    (own, *peers), labels = random_cohort(batch=3, classes=4)
    own.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss([z, *peers], labels, temperature=2)[0], (own,))


@both
def test_saturated_peers_give_finite_losses_and_gradients(loss):
    logits, labels = random_cohort(scale=1e4)
    logits = [z.float().requires_grad_() for z in logits]
    sum(loss(logits, labels)).backward()
    assert all(torch.isfinite(z.grad).all() for z in logits)


@both
def test_losses_map_over_temperature(loss):
    logits, labels = random_cohort()
    temperatures = torch.tensor([1.0, 3.0], dtype=torch.float64)
    mapped = torch.func.vmap(lambda t: torch.stack(loss(logits, labels, temperature=t)))(temperatures)
    single = torch.stack([torch.stack(loss(logits, labels, temperature=float(t))) for t in temperatures])
    torch.testing.assert_close(mapped, single)


@both
@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_logits_lose_no_more_than_their_own_rounding(loss, autocast):
    logits, labels = random_cohort()
    low, labels = [z.bfloat16() for z in logits], labels.int()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        values = loss(low, labels, temperature=2)
    for value, expected in zip(values, loss([z.double() for z in low], labels.long(), temperature=2), strict=True):
        assert value.item() == pytest.approx(expected.item(), rel=1e-4)


@both
@pytest.mark.trap(52)
def test_one_student_or_none_is_refused_because_it_has_no_peers(loss):
    logits, labels = random_cohort()
    for few in ([], logits[:1]):
        with pytest.raises(ValueError, match=rf"at least two students, got {len(few)}: one has none to learn from"):
            loss(few, labels)


@both
def test_other_bad_input_is_refused_with_a_reason(loss):
    logits, labels = random_cohort()
    with pytest.raises(ValueError, match=r"one tensor of shape \(3, 6, 5\).*list\(all_logits\)"):
        loss(torch.stack(logits), labels)
    with pytest.raises(ValueError, match=r"all students need logits of the same shape .*\(6, 5\) .*\(6, 3\)"):
        loss([logits[0], logits[1][:, :3]], labels)
    for place in (0, 1):
        with pytest.raises(ValueError, match=r"^student logits must be floating point, got torch.int64. Class indices"):
            loss([z.long() if i == place else z for i, z in enumerate(logits)], labels)
    with pytest.raises(ValueError, match=r"^student logits must be a torch.Tensor, got list"):
        loss([logits[0], logits[1].tolist()], labels)
    with pytest.raises(ValueError, match=r"shape \(B, K\), got \(6,\)"):
        loss([logits[0][:, 0], logits[1]], labels)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 5\)"):
        loss(logits, labels + 5)
    with pytest.raises(ValueError, match="temperature must be positive"):
        loss(logits, labels, temperature=0)
