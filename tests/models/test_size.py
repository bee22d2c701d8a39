"""Parameters and bytes of models whose weights ``parameters`` does not see."""

import pytest
import torch
from torch import nn

from kdcourse.hashing import content_hash
from kdcourse.models import count_parameters, make_mlp, size_in_bytes

pytestmark = pytest.mark.filterwarnings("ignore")  # torch announces that its quantisation will move


def quantised(*hidden, seed=0):
    torch.manual_seed(seed)
    return torch.ao.quantization.quantize_dynamic(make_mlp(*hidden), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.trap(81)
def test_a_quantised_model_has_the_parameters_of_its_original_in_about_a_quarter_of_the_bytes():
    model = quantised(16)
    weights, biases = 784 * 16 + 16 * 10, 16 + 10
    assert sum(parameter.numel() for parameter in model.parameters()) == 0  # the mistake
    assert count_parameters(model) == weights + biases == count_parameters(make_mlp(16))
    assert size_in_bytes(model) == weights + 4 * biases


@pytest.mark.trap(81)
def test_the_state_of_a_quantised_model_can_be_hashed():
    assert content_hash(quantised(16)) == content_hash(quantised(16))
    assert content_hash(quantised(16)) != content_hash(quantised(16, seed=1))
    first, again, other = (
        torch.quantize_per_channel(torch.ones(2, 3), torch.tensor([1.0, scale]), torch.zeros(2), 0, torch.qint8)
        for scale in (0.5, 0.5, 0.25)
    )
    assert content_hash(first) == content_hash(again) != content_hash(other)
