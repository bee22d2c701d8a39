"""Deep supervision against the formula of Be Your Own Teacher, written in NumPy."""

import math

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcourse.losses import deep_supervision_loss


def random_exits(exits=3, batch=6, classes=5, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = [scale * torch.randn(batch, classes, generator=generator, dtype=torch.float64) for _ in range(exits)]
    return logits, torch.randint(classes, (batch,), generator=generator)


def oracle(exit_logits, labels, temperature, alpha):
    """Equation 5 of arXiv:1905.08094 without the hint, T² on the soft targets; deepest exit: labels alone."""
    arrays, rows = [logits.numpy() for logits in exit_logits], np.arange(len(labels))
    cross_entropies = [-scipy.special.log_softmax(z, axis=1)[rows, labels.numpy()].mean() for z in arrays]
    p = scipy.special.softmax(arrays[-1] / temperature, axis=1)
    total = cross_entropies[-1]
    for z, cross_entropy in zip(arrays[:-1], cross_entropies[:-1], strict=True):
        q = scipy.special.softmax(z / temperature, axis=1)
        soft = temperature**2 * scipy.special.rel_entr(p, q).sum(axis=1).mean()
        total += (1 - alpha) * cross_entropy + alpha * soft
    return total


@given(
    exits=st.integers(2, 5),
    batch=st.integers(1, 5),
    classes=st.integers(2, 6),
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.5, 20),
    alpha=st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_loss_is_the_labels_at_the_deepest_exit_and_a_weighted_mean_at_each_shallower_one(
    exits, batch, classes, seed, temperature, alpha
):
    logits, labels = random_exits(exits, batch, classes, seed=seed)
    actual = deep_supervision_loss(logits, labels, temperature=temperature, alpha=alpha)
    assert actual.item() == pytest.approx(oracle(logits, labels, temperature, alpha), rel=1e-9, abs=1e-12)


def test_at_alpha_zero_every_exit_learns_from_the_labels_and_nothing_else():
    logits, labels = random_exits()
    expected = sum(F.cross_entropy(z, labels) for z in logits)
    torch.testing.assert_close(deep_supervision_loss(logits, labels, temperature=4, alpha=0), expected)


def test_at_alpha_one_an_exit_that_equals_the_deepest_costs_nothing():
    (deepest, *_), labels = random_exits()
    loss = deep_supervision_loss([deepest.clone(), deepest.clone(), deepest], labels, temperature=3, alpha=1)
    torch.testing.assert_close(loss, F.cross_entropy(deepest, labels))


@pytest.mark.trap(47)
def test_the_deepest_exit_counts_once_and_learns_from_the_labels_alone():
    # An auxiliary head on the last layer repeats the final one: then labels act on that layer twice.
    logits, labels = random_exits()
    logits = [z.requires_grad_() for z in logits]
    deep_supervision_loss(logits, labels, temperature=4, alpha=0.5).backward()
    deepest = logits[-1].detach().requires_grad_()
    F.cross_entropy(deepest, labels).backward()
    torch.testing.assert_close(logits[-1].grad, deepest.grad)
    with_twin = [*(z.detach() for z in logits), logits[-1].detach()]
    assert deep_supervision_loss(with_twin, labels, temperature=4, alpha=0.5) > deep_supervision_loss(
        [z.detach() for z in logits], labels, temperature=4, alpha=0.5
    )


@pytest.mark.trap(46)
def test_the_teacher_is_the_deepest_exit_and_not_another_view_or_an_average_of_exits():
    # Be Your Own Teacher has no augmented views: one forward pass, and only the last exit's logits are the target.
    logits, labels = random_exits()
    shallow, middle, deepest = logits
    shallow.requires_grad_()
    loss = deep_supervision_loss([shallow, middle, deepest], labels, temperature=2, alpha=1)
    (gradient,) = torch.autograd.grad(loss, shallow)
    expected = 2 * (torch.softmax(shallow / 2, 1) - torch.softmax(deepest / 2, 1)) / len(labels)  # T (q - p) / B
    torch.testing.assert_close(gradient, expected.detach())
    other = deep_supervision_loss([shallow, middle + 1e-3 * torch.randn_like(middle), deepest], labels,
                                  temperature=2, alpha=1)  # fmt: skip
    torch.testing.assert_close(torch.autograd.grad(other, shallow)[0], gradient)


def test_the_order_of_the_shallower_exits_does_not_matter_but_which_is_last_does():
    (a, b, c), labels = random_exits()
    loss = deep_supervision_loss([a, b, c], labels, temperature=4, alpha=0.6)
    torch.testing.assert_close(deep_supervision_loss([b, a, c], labels, temperature=4, alpha=0.6), loss)
    assert not torch.isclose(deep_supervision_loss([c, b, a], labels, temperature=4, alpha=0.6), loss)


def test_hint_is_the_squared_distance_to_the_deepest_features_which_receive_no_gradient():
    logits, labels = random_exits()
    features = [torch.randn(6, 4, 2, 2, dtype=torch.float64, requires_grad=True) for _ in logits]
    plain = deep_supervision_loss(logits, labels, temperature=4, alpha=0.3)
    hinted = deep_supervision_loss(logits, labels, temperature=4, alpha=0.3, exit_features=features, hint_weight=0.01)
    arrays = [f.detach().numpy().reshape(6, -1) for f in features]
    expected = sum((np.linalg.norm(f - arrays[-1], axis=1) ** 2).mean() for f in arrays[:-1])
    assert (hinted - plain).item() == pytest.approx(0.01 * expected)
    hinted.backward()
    assert features[-1].grad is None
    torch.testing.assert_close(features[0].grad, 0.01 * 2 * (features[0] - features[-1]).detach() / 6)


def test_gradient_to_the_shallower_exits_agrees_with_finite_differences():
    (shallow, deepest), labels = random_exits(exits=2, batch=3)
    shallow.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: deep_supervision_loss([z, deepest], labels, temperature=3, alpha=0.4), (shallow,)
    )


def test_saturated_exits_give_finite_loss_and_gradient():
    logits, labels = random_exits(scale=1e4)
    logits = [z.float().requires_grad_() for z in logits]
    loss = deep_supervision_loss(logits, labels, temperature=1, alpha=0.5)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(z.grad).all() for z in logits)


def test_loss_maps_over_temperature_and_alpha():
    logits, labels = random_exits()
    temperatures, alphas = torch.tensor([1.0, 4.0]).double(), torch.tensor([0.0, 0.9]).double()
    call = lambda t, a: deep_supervision_loss(logits, labels, temperature=t, alpha=a)  # noqa: E731
    single = [call(t, a) for t, a in zip(temperatures.tolist(), alphas.tolist(), strict=True)]
    torch.testing.assert_close(torch.func.vmap(call)(temperatures, alphas), torch.stack(single))


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_exits_lose_no_more_than_their_own_rounding(autocast):
    logits, labels = random_exits()
    low, labels = [z.bfloat16() for z in logits], labels.int()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = deep_supervision_loss(low, labels, temperature=4, alpha=0.5)
    assert loss.item() == pytest.approx(oracle([z.double() for z in low], labels, 4, 0.5), rel=1e-4)


def test_a_hint_in_float16_does_not_leave_its_range():
    logits, labels = random_exits()
    features = [300 * torch.randn(6, 64, generator=torch.Generator().manual_seed(seed)).half() for seed in range(3)]
    loss = deep_supervision_loss(
        [z.half() for z in logits], labels, temperature=4, alpha=0.5, exit_features=features, hint_weight=1
    )
    arrays = [f.double().numpy() for f in features]
    expected = sum((np.linalg.norm(f - arrays[-1], axis=1) ** 2).mean() for f in arrays[:-1])
    assert expected > 65_504  # the largest float16
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_bad_input_is_refused_with_a_reason():
    logits, labels = random_exits()
    knobs = {"temperature": 4.0, "alpha": 0.5}
    with pytest.raises(ValueError, match=r"one tensor of shape .* return only its last exit"):
        deep_supervision_loss(logits[0], labels, **knobs)
    for few in ([], logits[:1]):
        with pytest.raises(ValueError, match=r"at least two exits, got .*one has none to learn from"):
            deep_supervision_loss(few, labels, **knobs)
    with pytest.raises(ValueError, match=r"all exits need logits of the same shape"):
        deep_supervision_loss([logits[0][:, :3], logits[1]], labels, **knobs)
    for exits in ([logits[0].long(), logits[1]], [logits[0], logits[1].long()]):
        with pytest.raises(ValueError, match=r"exit logits( \(.*\))? must be floating point, got torch.int64"):
            deep_supervision_loss(exits, labels, **knobs)
    with pytest.raises(ValueError, match=r"shape \(B, K\), got \(6,\)"):
        deep_supervision_loss([logits[0][:, 0], logits[1]], labels, **knobs)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 5\)"):
        deep_supervision_loss(logits, labels + 5, **knobs)
    with pytest.raises(ValueError, match="temperature must be positive"):
        deep_supervision_loss(logits, labels, temperature=0, alpha=0.5)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        deep_supervision_loss(logits, labels, temperature=4, alpha=2)
    with pytest.raises(ValueError, match="needs exit_features"):
        deep_supervision_loss(logits, labels, **knobs, hint_weight=1)
    with pytest.raises(ValueError, match="hint_weight above 0"):
        deep_supervision_loss(logits, labels, **knobs, exit_features=logits)
    with pytest.raises(ValueError, match=r"equally many tensors .features of each exit, and its logits., got 2 and 3"):
        deep_supervision_loss(logits, labels, **knobs, exit_features=logits[:2], hint_weight=1)
    with pytest.raises(ValueError, match=r"features \(a shallower exit's and .* must have the same shape"):
        deep_supervision_loss(logits, labels, **knobs, exit_features=[logits[0][:1], *logits[1:]], hint_weight=1)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("with_features", [True, False])
def test_a_hint_weight_that_would_reward_error_or_is_no_number_is_refused(weight, with_features):
    logits, labels = random_exits()
    with pytest.raises(ValueError, match=r"hint_weight must be finite and not negative, got .* would reward error"):
        deep_supervision_loss(logits, labels, temperature=4, alpha=0.5, hint_weight=weight,
                              exit_features=logits if with_features else None)  # fmt: skip
