"""The exits explorer without a front end: shares, accuracy and compute against ``predict_early``."""

import pytest
import torch
from torch import nn

from kdcourse.data import load_mnist
from kdcourse.models import ExitNet, count_parameters, make_exit_cnn, predict_early
from kdcourse.widgets import ExitsExplorer, count_exit_multiply_adds


@pytest.fixture(scope="module")
def data():
    return load_mnist().test.take(400)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = make_exit_cnn(2, 3, 4)
    with torch.no_grad():
        for head, factor in zip(network.heads, (2e3, 2e4, 6e4), strict=True):
            head[-1].weight.mul_(factor)  # an untrained network is never sure; this one has opinions
    return network


@pytest.fixture
def explorer(network, data):
    return ExitsExplorer(network, data)


@pytest.mark.parametrize("confidence", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_shares_and_accuracy_are_those_of_predict_early(explorer, network, data, confidence):
    explorer.confidence.value = confidence
    logits, exits = predict_early(network, data.images, confidence=confidence)
    assert explorer.shares == pytest.approx((torch.bincount(exits, minlength=3) / len(exits)).tolist(), abs=0.006)
    assert explorer.accuracy == pytest.approx(float((logits.argmax(dim=1) == data.labels).float().mean()), abs=0.006)
    if confidence in (0.3, 0.6):
        assert min(explorer.shares[:2]) > 0.01  # there is something to compare
    explorer.close()


def test_a_linear_network_costs_its_weights():
    stages = [nn.Sequential(nn.Flatten(), nn.Linear(784, 5, bias=False)), nn.Linear(5, 7, bias=False)]
    heads = [nn.Linear(5, 10, bias=False), nn.Linear(7, 10, bias=False)]
    network = ExitNet(stages, heads)
    leaving, alone = count_exit_multiply_adds(network, torch.rand(3, 1, 28, 28))
    assert leaving == [784 * 5 + 5 * 10, count_parameters(network)]
    assert alone == count_parameters(network) - 5 * 10


def test_at_confidence_0_all_leave_at_once_and_above_all_certainty_nobody_does(explorer):
    explorer.confidence.value = 0
    assert explorer.shares == [1, 0, 0]
    assert explorer.compute < 0.9
    explorer._certainty.clamp_(max=0.999)
    explorer.confidence.value = 1
    assert explorer.shares == [0, 0, 1]
    assert explorer.compute > 1  # the shallow classifiers were asked in vain


def test_more_confidence_never_costs_less(explorer):
    found = []
    for step in range(0, 101, 5):
        explorer.confidence.value = step / 100
        found.append(explorer.compute)
    assert found == sorted(found)


def test_each_control_changes_the_picture_which_stays_small_and_says_what_it_shows(explorer, frame_of):
    before = frame_of(explorer).tobytes()
    explorer.digit.value = 7
    digit = frame_of(explorer)
    assert digit.tobytes() != before
    assert digit.text["digit"] == "7"
    explorer.confidence.value = 0.5
    assert frame_of(explorer).tobytes() != digit.tobytes()
    assert frame_of(explorer).text["confidence"] == "0.5"
    assert "0.50" in explorer.status.value
    assert len(explorer.canvas.widget.value) < 60_000


def test_the_network_and_its_mode_stay_as_they_were(network, data):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ExitsExplorer(network, data)
    assert network.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda data: ExitsExplorer(make_exit_cnn(2), data), "two to four exits, got 1"),
        (lambda data: ExitsExplorer(make_exit_cnn(2, 2), data, confidence=1.5), "compared with a probability"),
        (lambda data: ExitsExplorer(make_exit_cnn(2, 2), data.take(3)), "no image of"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(data, make, told):
    with pytest.raises(ValueError, match=told):
        make(data)
