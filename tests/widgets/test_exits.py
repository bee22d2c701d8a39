"""The explorers of exits and of generations, driven without a front end."""

import io

import pytest
import torch
from PIL import Image
from torch import nn

from kdcourse.data import load_mnist
from kdcourse.models import ExitNet, count_parameters, make_exit_cnn, make_mlp, predict_early
from kdcourse.recipes import Ensemble
from kdcourse.training import count_errors
from kdcourse.widgets import ExitsExplorer, GenerationsExplorer
from kdcourse.widgets.exits import count_exit_multiply_adds


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


@pytest.fixture
def lineages():
    torch.manual_seed(0)
    return [[make_mlp(8) for _ in range(3)] for _ in range(2)]


def frame(widget):
    return Image.open(io.BytesIO(widget.canvas.widget.value))


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


def test_each_control_changes_the_picture_which_stays_small_and_says_what_it_shows(explorer):
    before = frame(explorer).tobytes()
    explorer.digit.value = 7
    digit = frame(explorer)
    assert digit.tobytes() != before
    assert digit.text["digit"] == "7"
    explorer.confidence.value = 0.5
    assert frame(explorer).tobytes() != digit.tobytes()
    assert frame(explorer).text["confidence"] == "0.5"
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


def test_errors_are_those_of_the_models_and_of_their_ensembles(lineages, data):
    explorer = GenerationsExplorer(lineages, data)
    for line, alone, together in zip(
        lineages, explorer.generation_errors.tolist(), explorer.ensemble_errors.tolist(), strict=True
    ):
        assert alone == [count_errors(model, *data) for model in line]
        assert together == [count_errors(Ensemble(line[:count]), *data) for count in (1, 2, 3)]
    explorer.close()


def test_stepping_through_the_generations_changes_picture_and_sentence(lineages, data):
    explorer = GenerationsExplorer(lineages, data, examples=3)
    seen = {frame(explorer).tobytes()}
    for control, value in (
        (explorer.generation, 2), (explorer.shown, 1), (explorer.example, 2), (explorer.digit, 9),
    ):  # fmt: skip
        control.value = value
        seen.add(frame(explorer).tobytes())
    assert len(seen) == 5
    assert frame(explorer).text["generation"] == "2"
    assert "Mean of generations 0 to 2" in explorer.status.value
    assert len(explorer.canvas.widget.value) < 60_000
    explorer.close()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda data: ExitsExplorer(make_exit_cnn(2), data), "two to four exits, got 1"),
        (lambda data: ExitsExplorer(make_exit_cnn(2, 2), data, confidence=1.5), "compared with a probability"),
        (lambda data: ExitsExplorer(make_exit_cnn(2, 2), data.take(3)), "no image of"),
        (lambda data: GenerationsExplorer([[make_mlp(2), make_mlp(2)]], data), "One lineage has no interval"),
        (lambda data: GenerationsExplorer([[make_mlp(2)], [make_mlp(2)]], data), "at least two generations"),
        (lambda data: GenerationsExplorer([[make_mlp(2)] * 2, [make_mlp(2)] * 3], data), "equal length"),
        (lambda data: GenerationsExplorer([[make_mlp(2)] * 2] * 2, data.take(3)), "no image of"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(data, make, told):
    with pytest.raises(ValueError, match=told):
        make(data)
