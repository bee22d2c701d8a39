"""The bias explorer without a front end: its counts are those of a student whose bias was really raised."""

import copy

import pytest
import torch
from torch import nn

from kdcourse.data import load_mnist
from kdcourse.models import make_mlp
from kdcourse.training import count_errors, predict_logits
from kdcourse.widgets import BiasExplorer
from kdcourse.widgets.explorers.bias import tell_share


@pytest.fixture(scope="module")
def data():
    return load_mnist().held_out.take(400)


@pytest.fixture(scope="module")
def student(data):
    """A student that never saw a 3, after a moment of training."""
    torch.manual_seed(0)
    model = make_mlp(32)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train = load_mnist().train.take(2000)
    kept = train.labels != 3
    for _ in range(3):
        for images, labels in zip(train.images[kept].split(64), train.labels[kept].split(64), strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture
def explorer(student, data):
    explorer = BiasExplorer(student, data)
    yield explorer
    explorer.close()


def raised(student, amount):
    model = copy.deepcopy(student)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[3] += amount
    return model


@pytest.mark.parametrize("amount", [0.0, 2.5, 5.25, 12.0])
def test_counts_are_those_of_a_student_with_that_bias(explorer, student, data, frame_of, amount):
    explorer.bias.value = amount
    answers = predict_logits(raised(student, amount), data.images).argmax(dim=1)
    assert explorer.found == int(((answers == 3) & (data.labels == 3)).sum())
    assert explorer.taken == int(((answers == 3) & (data.labels != 3)).sum())
    assert explorer.wrong == count_errors(raised(student, amount), *data)
    shown = frame_of(explorer).text
    assert (float(shown["bias"]), int(shown["errors"])) == (amount, explorer.wrong)
    assert int(shown["shown"]) == int((answers[explorer.shown] == 3).sum())


def test_a_larger_bias_only_turns_missed_threes_into_found_ones(explorer):
    counts = []
    for amount in (0, 2, 4, 8, 12):
        explorer.bias.value = amount
        counts.append((explorer.found, explorer.taken))
    assert counts == sorted(counts)
    assert counts[-1][0] > counts[0][0]
    assert counts[-1][1] > counts[0][1]  # the price: other digits are taken for a 3


def test_twenty_threes_are_shown_the_found_ones_first(explorer, student, data):
    answers = predict_logits(student, data.images).argmax(dim=1)[explorer.shown]
    assert len(explorer.shown) == len(explorer.shown.unique()) == 20
    assert (data.labels[explorer.shown] == 3).all()
    assert ((answers == 3).int().diff() <= 0).all()


def test_a_class_with_few_images_shows_them_all(student, data):
    threes = torch.nonzero(data.labels == 3)[:7, 0]
    few = torch.cat([threes, torch.nonzero(data.labels == 8)[:, 0]])
    explorer = BiasExplorer(student, type(data)(data.images[few], data.labels[few]), bias=4.0)
    assert sorted(explorer.shown.tolist()) == list(range(7))
    assert "of the 7 shown" in explorer.status.value
    explorer.close()


def test_what_cannot_be_shown_is_refused(student, data):
    others = data.labels != 3
    with pytest.raises(ValueError, match="no image of a 3"):
        BiasExplorer(student, type(data)(data.images[others], data.labels[others]))
    with pytest.raises(ValueError, match="on the slider"):
        BiasExplorer(student, data, bias=12.5)


def test_the_probability_below_a_digit_is_that_of_the_raised_student(explorer, student, data):
    explorer.bias.value = 2.5
    logits = predict_logits(raised(student, 2.5), data.images[explorer.shown])
    torch.testing.assert_close(explorer.probabilities(), logits.softmax(dim=1)[:, 3], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("share", "words"), [(0.0004, "<1 %"), (0.314, "31 %"), (0.999, ">99 %")])
def test_a_probability_is_said_in_per_cent(share, words):
    assert tell_share(share) == words
