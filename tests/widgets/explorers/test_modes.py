"""The modes explorer without a front end: the best bump is the best, it covers at β = 0 and seeks at β = 1."""

import numpy as np
import pytest
import scipy.special
import torch

from kdcourse.widgets.explorers.modes import MEANS, PLACES, WIDTHS, ModesExplorer, gradient_sizes, teacher_logits


@pytest.fixture
def explorer():
    explorer = ModesExplorer()
    yield explorer
    explorer.close()


def divergence(gap, mean, width, beta):
    """The generalised Jensen-Shannon divergence, in NumPy."""
    x = PLACES.numpy().astype(float)
    p = 2 / 3 * np.exp(-((x + gap / 2) ** 2) / 0.72) + 1 / 3 * np.exp(-((x - gap / 2) ** 2) / 0.72)
    q = np.exp(-((x - mean) ** 2) / (2 * width**2))
    p, q = p / p.sum(), q / q.sum()
    if beta in (0, 1):
        return scipy.special.rel_entr(*((p, q) if beta == 0 else (q, p))).sum()
    m = beta * p + (1 - beta) * q
    return beta * scipy.special.rel_entr(p, m).sum() + (1 - beta) * scipy.special.rel_entr(q, m).sum()


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.97, 1.0])
def test_no_neighbour_on_the_grid_is_better_than_the_student_that_is_drawn(explorer, beta):
    explorer.beta.value = beta
    place = int((MEANS - explorer.mean).abs().argmin()), int((WIDTHS - explorer.width).abs().argmin())
    best = divergence(4.0, explorer.mean, explorer.width, beta)
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        i, j = place[0] + step[0], place[1] + step[1]
        if i < len(MEANS) and j < len(WIDTHS):
            assert best <= divergence(4.0, float(MEANS[i]), float(WIDTHS[j]), beta) + 1e-4


def test_forward_kl_covers_both_bumps_and_reverse_kl_takes_the_larger(explorer):
    assert explorer.beta.value == 0
    assert explorer.covered > 0.9
    assert explorer.between > 0.2
    middle = explorer.mean
    explorer.beta.value = 1.0
    assert explorer.mean == pytest.approx(-2, abs=0.15)
    assert explorer.width == pytest.approx(0.6, abs=0.1)
    assert explorer.covered < 0.75
    assert explorer.between < 0.1
    assert -2 < middle < 0


def test_one_bump_alone_is_found_by_every_divergence(explorer):
    explorer.gap.value = 0.0
    for beta in (0.0, 0.5, 1.0):
        explorer.beta.value = beta
        assert (explorer.mean, explorer.width) == pytest.approx((0, 0.6), abs=0.05)
    assert "its middle at 0.0 " in explorer.status.value  # not -0.0


def test_the_gradient_is_tiny_beside_the_ends_where_the_divergence_jumps():
    betas, sizes = gradient_sizes()
    assert len(betas) == 101
    assert sizes[99] < 0.1 * sizes[100]
    assert sizes[1] < 0.1 * sizes[0]


def test_the_status_says_what_is_seen(explorer):
    assert "forward KL" in explorer.status.value
    explorer.beta.value = 1.0
    assert "reverse KL" in explorer.status.value


def test_the_teacher_has_two_thirds_on_the_left():
    p = teacher_logits(4.0).softmax(dim=0)
    assert float(p[PLACES < 0].sum()) == pytest.approx(2 / 3, abs=0.01)
    assert torch.isfinite(p).all()


def test_a_beta_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\]"):
        ModesExplorer(beta=1.5)
