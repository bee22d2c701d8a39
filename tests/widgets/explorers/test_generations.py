"""The generations explorer without a front end: errors of models and votes against the recipe's ensemble."""

import pytest
import torch

from kdcourse.data import load_mnist
from kdcourse.models import make_mlp
from kdcourse.recipes import Ensemble
from kdcourse.training import count_errors
from kdcourse.widgets import GenerationsExplorer


@pytest.fixture(scope="module")
def data():
    return load_mnist().test.take(400)


@pytest.fixture
def lineages():
    torch.manual_seed(0)
    return [[make_mlp(8) for _ in range(3)] for _ in range(2)]


def test_errors_are_those_of_the_models_and_of_their_ensembles(lineages, data):
    explorer = GenerationsExplorer(lineages, data)
    for line, alone, together in zip(
        lineages, explorer.generation_errors.tolist(), explorer.ensemble_errors.tolist(), strict=True
    ):
        assert alone == [count_errors(model, *data) for model in line]
        assert together == [count_errors(Ensemble(line[:count]), *data) for count in (1, 2, 3)]
    explorer.close()


def test_stepping_through_the_generations_changes_picture_and_sentence(lineages, data, frame_of):
    explorer = GenerationsExplorer(lineages, data)
    seen = {frame_of(explorer).tobytes()}
    for control, value in (
        (explorer.generation, 2), (explorer.shown, 1), (explorer.example, 2), (explorer.digit, 9),
    ):  # fmt: skip
        control.value = value
        seen.add(frame_of(explorer).tobytes())
    assert len(seen) == 5
    assert frame_of(explorer).text["generation"] == "2"
    assert "The vote of generations 0 to 2 makes" in explorer.status.value
    assert len(explorer.canvas.widget.value) < 60_000
    explorer.close()


def test_a_vote_is_called_a_vote_with_the_errors_of_the_vote_and_the_mean_of_probabilities(lineages, data):
    explorer = GenerationsExplorer(lineages, data)
    explorer.generation.value = 1
    alone = explorer.generation_errors[:, 1].float().mean()
    assert f"<b>Generation 1 alone makes {alone:.0f} errors</b>" in explorer.status.value
    explorer.shown.value = 1
    vote = explorer.ensemble_errors[:, 1].float().mean()
    assert f"<b>The vote of generations 0 to 1 makes {vote:.0f} errors</b>" in explorer.status.value
    label = int(data.labels[explorer.sample])
    image = data.images[explorer.sample][None]
    mean = Ensemble(lineages[0][:2])(image).softmax(dim=-1)[0, label]
    assert f"the mean of their probabilities gives this {label} {mean:.2f}" in explorer.status.value
    explorer.generation.value = 0
    assert "Generation 0 alone makes" in explorer.status.value
    assert "A vote needs two" in explorer.status.value


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda data: GenerationsExplorer([[make_mlp(2), make_mlp(2)]], data), "One lineage has no interval"),
        (lambda data: GenerationsExplorer([[make_mlp(2)], [make_mlp(2)]], data), "at least two generations"),
        (lambda data: GenerationsExplorer([[make_mlp(2)] * 2, [make_mlp(2)] * 3], data), "equal length"),
        (lambda data: GenerationsExplorer([[make_mlp(2)] * 2] * 2, data.take(3)), "no image of"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(data, make, told):
    with pytest.raises(ValueError, match=told):
        make(data)
