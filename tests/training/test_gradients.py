"""The push of a term: one length over all parameters, and measuring changes nothing."""

import pytest
import torch
from torch import nn

from kdcourse.training import gradient_length


def test_the_length_is_the_root_of_all_squares_and_grows_with_the_weight():
    model, inputs = nn.Linear(3, 2), torch.randn(5, 3)
    loss = model(inputs).square().mean()
    length = gradient_length(loss, model.parameters())
    torch.testing.assert_close(gradient_length(7 * loss, model.parameters()), 7 * length)
    assert all(parameter.grad is None for parameter in model.parameters())
    loss.backward()  # the graph is still usable
    squares = sum(float(parameter.grad.square().sum()) for parameter in model.parameters())
    assert length.item() == pytest.approx(squares**0.5)


def test_a_parameter_that_the_loss_does_not_reach_counts_nothing():
    first, second = nn.Linear(3, 3), nn.Linear(3, 2)
    loss = first(torch.randn(4, 3)).mean()
    both = gradient_length(loss, [*first.parameters(), *second.parameters()])
    torch.testing.assert_close(both, gradient_length(loss, first.parameters()))


def test_a_loss_without_a_gradient_or_of_another_model_is_refused():
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    with pytest.raises(ValueError, match="requires_grad=False"):
        gradient_length(torch.tensor(1.0), model.parameters())
    with pytest.raises(ValueError, match=r"shape \(4, 2\)"):
        gradient_length(model(torch.randn(4, 3)), model.parameters())
    with pytest.raises(ValueError, match="reaches none of these parameters"):
        gradient_length(model(torch.randn(4, 3)).mean(), other.parameters())
