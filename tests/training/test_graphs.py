"""Recorded steps: a recorder that stands for the GPU's holds the same to what a CUDA graph can and cannot do."""

import copy

import pytest
import torch
from torch import nn

from kdcourse.data import Minibatches
from kdcourse.objectives import label_objective
from kdcourse.training import graphs, loop, train


class FakeRecorder:
    """Recording runs nothing; a replay reads the tensors that the function read, and fills those that it returned."""

    def __init__(self, student, optimizer):
        self.student, self.optimizer = student, optimizer
        self.calls = {"warm_up": 0, "record": 0, "replay": 0}

    def warm_up(self, function):
        self.calls["warm_up"] += 1
        return function()

    def record(self, function):
        self.calls["record"] += 1
        weights = copy.deepcopy(self.student.state_dict())
        state = copy.deepcopy(self.optimizer.state_dict())
        filled = function()
        self.student.load_state_dict(weights)
        self.optimizer.load_state_dict(state)

        def replay():
            self.calls["replay"] += 1
            for name, term in function().items():
                filled[name].copy_(term)

        return replay, filled


@pytest.fixture
def start(monkeypatch):
    """Return the student, its optimizer, batches of 8, 8, … and 4, and the recorder in the GPU's place."""

    def start(make_optimizer, *, recording):
        torch.manual_seed(0)
        student = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
        generator = torch.Generator().manual_seed(1)
        images, labels = torch.randn(60, 3, 4, generator=generator), torch.arange(60) % 3
        optimizer = make_optimizer(student.parameters())
        recorder = FakeRecorder(student, optimizer) if recording else None
        monkeypatch.setattr(loop, "recorder_for", lambda student, scaler: recorder)
        return student, optimizer, Minibatches(images, labels, batch_size=8, epochs=3), recorder

    return start


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=torch.tensor(0.01), capturable=True, foreach=False)


def run(start, make_optimizer, *, recording, **settings):
    student, optimizer, batches, recorder = start(make_optimizer, recording=recording)
    steps = list(train(student, batches, label_objective, optimizer, graph=recording, **settings))
    return student, steps, recorder


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.5}, {"autocast": torch.bfloat16}], ids=str)
def test_replayed_steps_are_the_ordinary_ones_in_every_bit(start, settings):
    student, steps, recorder = run(start, sgd, recording=True, **settings)
    plain, plain_steps, _ = run(start, sgd, recording=False, **settings)
    for name, weight in plain.state_dict().items():
        assert torch.equal(student.state_dict()[name], weight), name
    assert [step.index for step in steps] == list(range(24))
    assert torch.equal(torch.stack([s.loss for s in steps]), torch.stack([s.loss for s in plain_steps]))
    # 21 batches of 8, of which the first is an ordinary step and three warm up; three batches of 4.
    assert recorder.calls == {"warm_up": 3 + 3, "record": 1, "replay": 17}


def test_terms_of_a_step_are_not_changed_by_the_next_one(start):
    student, optimizer, batches, _ = start(sgd, recording=True)
    seen = [(step, float(step.loss)) for step in train(student, batches, label_objective, optimizer, graph=True)]
    assert [float(step.loss) for step, _ in seen] == [loss for _, loss in seen]
    assert len({loss for _, loss in seen}) == len(seen)


def test_a_learning_rate_that_changes_is_refused(start):
    student, optimizer, batches, _ = start(sgd, recording=True)
    steps = train(student, batches, label_objective, optimizer, graph=True)
    for _ in range(6):
        next(steps)
    optimizer.param_groups[0]["lr"] = 0.05
    with pytest.raises(ValueError, match="lr, has changed since the step was recorded"):
        next(steps)


def test_an_optimizer_that_counts_on_the_cpu_is_refused_where_steps_are_recorded(start):
    student, optimizer, batches, _ = start(torch.optim.Adam, recording=True)
    with pytest.raises(ValueError, match="capturable=True"):
        next(train(student, batches, label_objective, optimizer, graph=True))
    graphs.check_capturable(adam(student.parameters()))


def test_a_batch_with_a_list_is_refused(start):
    _, optimizer, _, recorder = start(sgd, recording=True)
    replayed = graphs.Replayed(lambda batch: {}, optimizer, recorder=recorder)
    with pytest.raises(ValueError, match="needs batches of tensors"):
        replayed((torch.ones(2), [1, 2]))


def test_a_scaler_is_refused():
    with pytest.raises(ValueError, match="cannot record a scaler"):
        loop.recorder_for(nn.Linear(2, 2), torch.amp.GradScaler("cpu"))


def test_on_a_cpu_every_step_is_an_ordinary_one(monkeypatch):
    monkeypatch.setattr(graphs, "WARM_UP", 0)
    assert loop.recorder_for(nn.Linear(2, 2), None) is None
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    twin = copy.deepcopy(student)
    batches = [(torch.rand(6, 4), torch.arange(6) % 2)] * 5
    for model, graph in ((student, True), (twin, False)):
        optimizer = torch.optim.Adam(model.parameters())  # not capturable, which does not matter here
        assert len(list(train(model, batches, label_objective, optimizer, graph=graph))) == 5
    assert torch.equal(student[1].weight, twin[1].weight)
