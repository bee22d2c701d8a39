"""Tasks one after the other: what is kept, what is asked, and that the same loss has two very different scores."""

import copy

import pytest
import torch

from kdcourse.data import Split, pick_exemplars, split_into_tasks
from kdcourse.hashing import content_hash
from kdcourse.losses import lwf_loss
from kdcourse.models import make_mlp
from kdcourse.objectives import label_objective
from kdcourse.recipes import TaskHistory, learn_tasks, lwf_objective, make_adam
from kdcourse.training import fit, predict_logits


@pytest.fixture(scope="module")
def tasks(mnist):
    return split_into_tasks(mnist.train.take(3000))


def student(seed=0):
    torch.manual_seed(seed)
    return make_mlp(60)


OPTIONS = {"epochs": 2, "batch_size": 32}


@pytest.fixture(scope="module")
def histories(mnist, tasks):
    test = mnist.test.take(1000)
    settings = {
        "LwF, told": {"told": True}, "LwF": {"told": False}, "none": {"told": False, "old_weight": 0.0},
        "exemplars": {"told": False, "exemplars": 20},
    }  # fmt: skip
    return {name: learn_tasks(student(), tasks, test, **arm, **OPTIONS) for name, arm in settings.items()}


@pytest.mark.trap(97)
def test_the_same_loss_is_good_with_task_labels_and_useless_without(histories):
    assert histories["LwF, told"].accuracy(told=True) > 0.9
    assert histories["LwF"].accuracy(told=False) < 0.4
    assert histories["LwF"].accuracy(told=True) > 0.8  # the same network, told which pair it is


def test_a_few_exemplars_mend_what_old_answers_do_not(histories):
    assert histories["exemplars"].accuracy(told=False) > histories["LwF"].accuracy(told=False) + 0.2


def test_the_newest_task_is_known_and_the_first_forgotten_without_care(histories):
    table = histories["none"].accuracies(told=False)
    assert table.diagonal().min() > 0.8
    assert table[-1, 0] < 0.1
    assert table.isnan().tolist() == [[task > after for task in range(5)] for after in range(5)]


def test_answers_add_up_and_are_never_classes_that_were_not_seen(histories, mnist):
    counts = torch.bincount(mnist.test.take(1000).labels, minlength=10)
    for history in histories.values():
        for answers in (history.told, history.untold):
            assert torch.equal(answers.sum(dim=2), counts.expand(5, 10))
        assert history.untold[0][:, 2:].sum() == 0  # after the first task only 0 and 1 are answered
        other = [(true, answer) for true in range(10) for answer in range(10) if true // 2 != answer // 2]
        assert sum(int(history.told[-1][pair]) for pair in other) == 0


def test_errors_and_accuracies_are_those_of_the_network_itself(mnist, tasks):
    test = mnist.test.take(500)
    network = student()
    history = learn_tasks(network, tasks[:2], Split(*test.only(0, 1, 2, 3)), told=False, epochs=1)
    seen = test.only(0, 1, 2, 3)
    choices = predict_logits(network, seen.images)[:, :4].argmax(dim=1)
    assert history.errors(told=False) == int((choices != seen.labels).sum())
    assert history.tasks == ((0, 1), (2, 3))


def test_the_first_task_is_ordinary_training_and_the_old_answers_are_those_before_the_second(mnist, tasks):
    test = Split(*mnist.test.take(200).only(0, 1, 2, 3))
    network, by_hand = student(), student()
    learn_tasks(network, tasks[:2], test, told=False, old_weight=1.5, temperature=3.0, **OPTIONS)
    settings = {**OPTIONS, "progress": False}
    data = (*tasks[0], torch.zeros(len(tasks[0].labels), 10))
    first = lambda s, x, y, z: lwf_objective(s, x, y, z, heads=[(0, 1)])  # noqa: E731
    fit(by_hand, data, first, make_adam(list(by_hand.parameters())), seed=0, **settings)
    before = copy.deepcopy(by_hand)
    old = predict_logits(before, tasks[1].images)

    def second(s, images, labels, old_logits):
        logits = s(images)
        masked = logits.clone()
        masked[:, 4:] = -torch.inf
        kept = lwf_loss(logits, old_logits, heads=[(0, 1)], temperature=3.0)
        return {"ce": torch.nn.functional.cross_entropy(masked, labels), "old": 1.5 * kept}

    fit(by_hand, (*tasks[1], old), second, make_adam(list(by_hand.parameters())), seed=1, **settings)
    torch.testing.assert_close(predict_logits(network, test.images), predict_logits(by_hand, test.images))


def test_keeping_everything_is_training_on_everything(mnist, tasks):
    test = mnist.test.take(500)
    history = learn_tasks(student(), tasks, test, told=False, old_weight=0.0, exemplars=10_000, **OPTIONS)
    assert history.accuracy(told=False) > 0.85


def test_smoothed_labels_spread_over_the_own_head_only():
    logits = torch.zeros(2, 4)
    batch = torch.rand(2, 3), torch.tensor([0, 3]), torch.zeros(2, 4)
    terms = lwf_objective(lambda images: logits, *batch, heads=[(0, 1), (2, 3)], label_smoothing=0.2)
    assert float(terms["ce"]) == pytest.approx(0.6931, abs=1e-4)  # two equal classes, smoothed or not
    plain = lwf_objective(torch.nn.Linear(3, 4), *batch, heads=[range(4)], label_smoothing=0.0)
    assert list(plain) == ["ce"]


def test_with_one_head_the_labels_term_is_ordinary_cross_entropy():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 4)
    batch = torch.rand(6, 3), torch.tensor([0, 3, 1, 2, 0, 0])
    for smoothing in (0.0, 0.1):
        ours = lwf_objective(network, *batch, torch.zeros(6, 4), heads=[range(4)], label_smoothing=smoothing)["ce"]
        torch.testing.assert_close(ours, label_objective(network, *batch, label_smoothing=smoothing)["ce"])


def test_the_same_seed_gives_the_same_bits(mnist, tasks):
    test = Split(*mnist.test.take(200).only(0, 1, 2, 3))
    networks = [student(), student()]
    for network in networks:
        learn_tasks(network, tasks[:2], test, told=True, exemplars=5, epochs=1, seed=3)
    assert content_hash(networks[0].state_dict()) == content_hash(networks[1].state_dict())


def test_tasks_cut_a_split_and_exemplars_are_as_many_as_asked_for(mnist):
    few = mnist.train.take(400)
    parts = split_into_tasks(few, [(8, 1), (0,)])
    assert [sorted(set(part.labels.tolist())) for part in parts] == [[1, 8], [0]]
    assert len(parts[1].labels) == int((few.labels == 0).sum())
    kept = pick_exemplars(parts[0], 7, generator=torch.Generator().manual_seed(0))
    assert torch.bincount(kept.labels).tolist()[1::7] == [7, 7]
    other = pick_exemplars(parts[0], 7, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(kept.images, other.images)
    every = pick_exemplars(parts[1], 10_000, generator=torch.Generator())
    assert len(every.labels) == len(parts[1].labels)
    assert all((few.images == image).flatten(1).all(dim=1).any() for image in kept.images)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [([], "at least one task"), ([(0, 1), (1, 2)], "belongs to one task"), ([(0,), (10,)], "digits must be")],
)
def test_tasks_that_overlap_or_do_not_exist_are_refused(mnist, tasks, message):
    with pytest.raises(ValueError, match=message):
        split_into_tasks(mnist.test.take(50), tasks)


def test_what_cannot_be_learned_in_a_row_is_refused(mnist, tasks):
    test = mnist.test.take(200)
    with pytest.raises(ValueError, match="must belong to one task"):
        learn_tasks(student(), tasks[:4], test, told=True)
    with pytest.raises(ValueError, match="must belong to one task"):
        learn_tasks(student(), [*tasks, tasks[0]], test, told=True)
    for wrong in ({"exemplars": -1}, {"old_weight": -0.5}):
        with pytest.raises(ValueError, match="must not be negative"):
            learn_tasks(student(), tasks, test, told=True, **wrong)
    with pytest.raises(ValueError, match="writes no checkpoint"):
        learn_tasks(student(), tasks, test, told=True, checkpoint="x.pt")
    with pytest.raises(ValueError, match="no image of the digits"):
        split_into_tasks(test.only(0, 1), [(0, 1), (2, 3)])
    with pytest.raises(ValueError, match="positive integer"):
        pick_exemplars(test, 0, generator=torch.Generator())
    with pytest.raises(ValueError, match="label_smoothing"):
        lwf_objective(lambda x: torch.zeros(1, 4), *(torch.zeros(1, dtype=torch.long),) * 2, None, heads=[range(4)],
                      label_smoothing=1.0)  # fmt: skip


def test_a_history_of_one_task_says_what_it_counts():
    counts = torch.tensor([[[3, 1], [0, 4]]])
    history = TaskHistory(((0, 1),), counts, counts)
    assert history.errors(told=False) == 1
    assert history.accuracies(told=True).item() == pytest.approx(7 / 8)
