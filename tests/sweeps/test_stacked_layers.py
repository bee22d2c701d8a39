"""Linear layers of many students: what leaves vmap for speed gives the same bits, and what cannot leave does not."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from kdcourse.sweeps import stacked_layers
from kdcourse.sweeps.stacked_layers import StackedLinear, linear


@pytest.fixture
def shortcuts(monkeypatch):
    """How often a layer was computed below vmap."""
    taken, whole = [], stacked_layers._below_the_only_level
    monkeypatch.setattr(
        stacked_layers, "_below_the_only_level", lambda tensors: taken.append(found := whole(tensors)) or found
    )
    return taken


def layers_of(count, bias=True):
    torch.manual_seed(0)
    layer = nn.Linear(5, 3, bias=bias)
    weights = {name: torch.randn(count, *weight.shape).requires_grad_() for name, weight in layer.named_parameters()}
    return layer, weights


def outputs_of(layer, forward):
    def one(weights, inputs):
        layer.forward = lambda inputs: forward(layer, inputs)
        return functional_call(layer, weights, (inputs,))

    return one


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 7, 5), (4, 2, 7, 5)], ids=["rows", "sequences"])
def test_a_layer_below_the_only_level_of_vmap_gives_the_same_bits(shortcuts, bias, shape):
    layer, weights = layers_of(shape[0], bias)
    inputs = torch.randn(shape, requires_grad=True)
    there = vmap(outputs_of(layer, lambda layer, x: StackedLinear.apply(x, layer.weight, layer.bias)))(weights, inputs)
    here = vmap(outputs_of(layer, linear))(weights, inputs)
    assert len(shortcuts) == 1
    assert shortcuts[0] is not None
    assert torch.equal(here, there)
    leaves = [inputs, *weights.values()]
    for one, other in zip(
        torch.autograd.grad(here.square().sum(), leaves), torch.autograd.grad(there.square().sum(), leaves), strict=True
    ):
        assert torch.equal(one, other)
    for student, outputs in enumerate(here):
        alone = {name: weight[student] for name, weight in weights.items()}
        torch.testing.assert_close(outputs, functional_call(nn.Linear(5, 3, bias=bias), alone, (inputs[student],)))


def test_a_batch_that_all_students_share_stays_inside_vmap(shortcuts):
    layer, weights = layers_of(4)
    vmap(outputs_of(layer, linear), in_dims=(0, None))(weights, torch.randn(7, 5))
    assert shortcuts == [None]


def test_two_levels_stay_inside_vmap(shortcuts):
    layer, weights = layers_of(4)
    weights = {name: weight[:, None].repeat(1, 2, *[1] * (weight.dim() - 1)) for name, weight in weights.items()}
    vmap(vmap(outputs_of(layer, linear)))(weights, torch.randn(4, 2, 7, 5))
    assert shortcuts == [None]


def test_a_gradient_inside_vmap_is_right(shortcuts):
    layer, weights = layers_of(4)
    inputs = torch.randn(4, 7, 5)
    one = outputs_of(layer, linear)
    found = vmap(grad(lambda x, w: one(w, x).square().sum()))(inputs, weights)
    expected = torch.stack(
        [
            grad(lambda x, n=n: (x @ weights["weight"][n].T + weights["bias"][n]).square().sum())(inputs[n])
            for n in range(4)
        ]
    )
    torch.testing.assert_close(found, expected)
