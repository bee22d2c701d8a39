"""Networks with exits: every stage runs, every exit pools, the deepest exit is the network's own classifier."""

import pytest
import torch
from torch import nn

from kdcourse.losses import deep_supervision_loss
from kdcourse.models import ExitNet, make_cnn, make_exit_cnn, make_exit_head, predict_early
from kdcourse.training import train


@pytest.fixture
def network():
    torch.manual_seed(0)
    return make_exit_cnn(2, 4, 6)


@pytest.fixture
def images():
    return torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.trap(44)
def test_every_exit_pools_its_map_so_any_image_size_gives_logits(network):
    for size in (20, 28, 37):
        assert [z.shape for z in network(torch.rand(3, 1, size, size))] == [(3, 10)] * 3
    # Flattening the map instead fits no classifier that was made for its channels.
    features = network.stages[0](torch.rand(3, 1, 28, 28))
    with pytest.raises(RuntimeError):
        nn.Linear(2, 10)(features.flatten(1))


@pytest.mark.trap(45)
def test_every_stage_runs_and_a_stage_without_head_is_refused(network, images):
    calls = []
    for number, stage in enumerate(network.stages):
        stage.register_forward_hook(lambda module, args, out, number=number: calls.append(number))
    network(images)
    assert calls == [0, 1, 2]
    stages, heads = list(network.stages), list(network.heads)
    for bad_stages, bad_heads in ((stages, heads[:2]), (stages[:2], heads), ([], [])):
        with pytest.raises(ValueError, match=r"one head per stage, got .* zip would silently drop"):
            ExitNet(bad_stages, bad_heads)


@pytest.mark.trap(47)
def test_there_are_as_many_classifiers_as_stages_so_none_doubles_the_last(network, images):
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == len(network.stages) == len(network(images))
    plain = sum(p.numel() for p in make_cnn(2, 4, 6).parameters())
    shallow_heads = (2 + 1) * 10 + (4 + 1) * 10
    assert sum(p.numel() for p in network.parameters()) == plain + shallow_heads


def test_an_exit_taken_alone_gives_the_same_logits_and_costs_fewer_weights(network, images):
    network.eval()
    for number, logits in enumerate(network(images)):
        torch.testing.assert_close(network.up_to(number)(images), logits)
    torch.testing.assert_close(network.up_to(-1)(images), network(images)[-1])
    sizes = [sum(p.numel() for p in network.up_to(i).parameters()) for i in range(3)]
    assert sizes == sorted(sizes)
    assert next(network.up_to(0).parameters()) is next(network.parameters())
    for exit in (3, -4):
        with pytest.raises(ValueError, match="exit must be from 0 to 2"):
            network.up_to(exit)


def test_an_image_leaves_at_the_first_exit_that_is_sure_and_deeper_stages_see_only_the_rest(network, images):
    network.eval()
    all_logits = torch.stack(network(images))  # (3, 7, 10)
    certainty = all_logits.softmax(dim=-1).amax(dim=-1)  # (3, 7)
    confidence = certainty[0].sort().values[3:5].mean().item()  # between two images
    seen = []
    for stage in network.stages:
        stage.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    network.train()
    logits, exits = predict_early(network, images, confidence=confidence)
    assert network.training
    assert all(module.training for module in network.modules())
    for image in range(7):
        expected = next((e for e in range(2) if certainty[e, image] >= confidence), 2)
        assert exits[image] == expected
        torch.testing.assert_close(logits[image], all_logits[expected, image])
    assert seen == [7, int((exits > 0).sum()), int((exits > 1).sum())]
    assert 0 < seen[1] < 7


def test_at_confidence_zero_all_leave_first_and_at_one_all_reach_the_end(network, images):
    assert (predict_early(network, images, confidence=0)[1] == 0).all()
    logits, exits = predict_early(network, images, confidence=1)
    assert (exits == 2).all()
    torch.testing.assert_close(logits, network.eval()(images)[-1])


def test_exits_learn_together_in_the_one_loop(network, images):
    labels = torch.arange(7)

    def objective(student, images, labels):
        return {"exits": deep_supervision_loss(student(images), labels, temperature=3, alpha=0.3)}

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = [step.loss for step in train(network, [(images, labels)] * 20, objective, optimizer)]
    assert losses[-1] < 0.8 * losses[0]


def test_bad_input_is_refused_with_a_reason(network, images):
    with pytest.raises(ValueError, match=r"confidence must be in \[0, 1\], got 2"):
        predict_early(network, images, confidence=2)
    with pytest.raises(ValueError, match="at least one image"):
        predict_early(network, images[:0], confidence=0.5)
    assert make_exit_head(3, 5)(torch.rand(2, 3, 4, 4)).shape == (2, 5)
