"""A user's teacher: anything that maps a batch to logits or probabilities."""

import math

import numpy as np
import pytest
import torch
from made_data import CLOSE, EXACT, Pictures, Wrapped, assert_same, make_network, make_pictures
from torch import nn
from torch.utils.data import DataLoader

from kdcourse.models import logits_of
from kdcourse.recipes import Ensemble, as_teacher, distill
from kdcourse.training import accuracy, predict_logits


@pytest.fixture
def teachers():
    pytest.importorskip("onnxruntime")  # the uses name it
    from uses import teachers

    return teachers


def colour_loader(size=32, count=6):
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return DataLoader([(image, index % 3) for index, image in enumerate(images)], batch_size=3)


def colour_student():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def assert_teaches(history, steps):
    assert history.steps == steps
    assert history.terms["kd"].isfinite().all()
    assert (history.terms["kd"] > 0).all()


def test_a_network_of_torchvision_teaches_and_stays_as_it_was(teachers):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    teacher = resnet18(num_classes=3).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    assert_teaches(teachers.module(colour_student(), teacher, colour_loader()), steps=4)
    torch.testing.assert_close(dict(teacher.state_dict()), before, **EXACT)  # batch normalisation's averages too
    assert teacher.training


def test_a_network_of_timm_teaches(teachers):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    teacher = timm.create_model("test_vit", num_classes=3, pretrained=False, img_size=32)
    assert_teaches(teachers.module(colour_student(), teacher, colour_loader()), steps=4)


def test_a_classifier_of_transformers_teaches_and_reads_its_attention_mask(teachers):
    transformers = pytest.importorskip("transformers")
    tiny = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
    torch.manual_seed(0)
    student, teacher = (
        transformers.BertForSequenceClassification(transformers.BertConfig(num_hidden_layers=n, **tiny)) for n in (1, 2)
    )
    ids = torch.randint(1, 30, (6, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 0, 0]] * 6)

    def run(ids):
        keys = ("input_ids", "attention_mask", "labels")
        rows = [dict(zip(keys, row, strict=True)) for row in zip(ids, mask, torch.arange(6) % 3, strict=True)]
        torch.manual_seed(3)  # dropout
        return teachers.transformers_classifier(student, teacher, DataLoader(rows, batch_size=3))

    state = {name: value.clone() for name, value in student.state_dict().items()}
    first = run(ids)
    assert_teaches(first, steps=4)
    student.load_state_dict(state)
    padding = torch.where(mask.bool(), ids, 7)
    torch.testing.assert_close(run(padding).terms, first.terms, **CLOSE)  # what stands in padding changes nothing


def test_an_ensemble_teaches_the_mean_of_its_members_probabilities(teachers):
    members = [make_network(16, seed=seed) for seed in (1, 2)]
    images, _ = make_pictures()
    mean = sum(member(images).softmax(dim=1) for member in members) / 2
    torch.testing.assert_close(as_teacher(Ensemble(members))(images).softmax(dim=1), mean.detach())
    assert_teaches(teachers.ensemble(make_network(), members, DataLoader(Pictures(), 32)), steps=6)
    inside = Ensemble([Wrapped(member, lambda logits: {"logits": logits}) for member in members])
    torch.testing.assert_close(inside(images=images).softmax(dim=1), mean)


@pytest.mark.parametrize("kind", ["forest", "boosting"])
def test_a_classifier_of_scikit_learn_teaches_on_a_table(kind, teachers):
    ensembles = pytest.importorskip("sklearn.ensemble")
    from sklearn.datasets import load_wine

    table, labels = load_wine(return_X_y=True)  # (178, 13), three classes; ships with scikit-learn
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    classifier = (
        ensembles.RandomForestClassifier(30, random_state=0)
        if kind == "forest"
        else ensembles.GradientBoostingClassifier(n_estimators=10, random_state=0)
    )
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
    history = teachers.scikit_learn(student, classifier, table, labels)
    assert_teaches(history, steps=5 * 2)
    rows = torch.as_tensor(table[:5]).float()
    expected = classifier.predict_proba(rows.numpy())
    assert (expected == 0).any() or kind == "boosting"  # a forest is often sure: log 0 must not reach the loss
    np.testing.assert_allclose(as_teacher(classifier)(rows).softmax(dim=1).numpy(), expected, atol=1e-6)
    distill(student, classifier, (table, labels), epochs=60, temperature=1, alpha=0.9)
    agreement = (predict_logits(student, table).argmax(dim=1).numpy() == classifier.predict(table)).mean()
    assert agreement > 0.9


def test_a_classifier_whose_columns_are_other_classes_is_refused():
    trees = pytest.importorskip("sklearn.tree")
    tree = trees.DecisionTreeClassifier().fit(np.eye(3), ["cat", "dog", "cow"])
    with pytest.raises(ValueError, match=r"classes of DecisionTreeClassifier are \['cat', 'cow', 'dog'\].*0, 1, 2"):
        as_teacher(tree)
    several = trees.DecisionTreeClassifier().fit(np.eye(3), np.eye(3, dtype=int))
    several.classes_ = [0, 1]
    with pytest.raises(ValueError, match="answers 3 questions at once"):
        as_teacher(several)(torch.eye(3))


def test_an_onnx_file_teaches_as_the_network_that_it_was_made_of(teachers, tmp_path):
    from kdcourse.models import export_onnx

    network = make_network(16, seed=1)
    export_onnx(network, make_pictures()[0][:4], tmp_path / "teacher.onnx")
    one, other = make_network(), make_network()
    loader = DataLoader(Pictures(), 32)
    assert_teaches(teachers.onnx_session(one, tmp_path / "teacher.onnx", loader), steps=6)
    teachers.module(other, network, loader)
    assert_same(one, other, rtol=1e-4, atol=1e-5)


def test_a_function_that_returns_probabilities_teaches_as_the_network_behind_it(teachers):
    network, loader = make_network(16, seed=1), DataLoader(Pictures(), 32)
    one, other = make_network(), make_network()
    teachers.function(one, lambda images: network(images).softmax(dim=1).detach().numpy(), loader)
    teachers.module(other, network, loader)
    assert_same(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "wrap",
    [lambda logits: {"scores": logits, "logits": -logits}, lambda logits: type("Output", (), {"scores": logits})()],
)
def test_logits_are_taken_from_where_the_user_says_on_both_sides(wrap, teachers):
    loader, expected = DataLoader(Pictures(), 32), make_network()
    teachers.module(expected, make_network(16, seed=1), loader)
    student = Wrapped(make_network(), wrap)
    teachers.outputs_that_are_no_tensor(student, Wrapped(make_network(16, seed=1), wrap), loader)
    assert_same(student.network, expected, **EXACT)
    other = Wrapped(make_network(), wrap)
    teachers.outputs_that_differ(other, Wrapped(make_network(16, seed=1), lambda logits: (logits, 0)), loader)
    assert_same(other.network, expected, **EXACT)
    assert accuracy(student, loader, outputs="scores") == accuracy(expected, loader)


@pytest.mark.parametrize("key", ["logits", "out"])
def test_the_usual_names_of_logits_need_no_word(key, teachers):
    loader, expected = DataLoader(Pictures(), 32), make_network()
    teachers.module(expected, make_network(16, seed=1), loader)
    wrap = lambda logits: {"loss": None, key: logits}
    student = Wrapped(make_network(), wrap)
    teachers.module(student, Wrapped(make_network(16, seed=1), wrap), loader)
    assert_same(student.network, expected, **EXACT)


@pytest.mark.parametrize(
    ("output", "outputs", "message"),
    [
        ((torch.zeros(2), torch.zeros(2)), None, r"returns a tuple of 2, in which no logits are known.*outputs=0"),
        ({"a": torch.zeros(2)}, None, r"dict with the keys \['a'\], in which no logits are known"),
        ({"a": torch.zeros(2)}, "b", "in which 'b' is no tensor"),
        ((torch.zeros(2),), 3, "in which 3 is no tensor"),
        ("text", None, "one str"),
        (torch.zeros(2), lambda output: None, "is no tensor"),
    ],
)
def test_logits_that_are_not_there_are_named(output, outputs, message):
    with pytest.raises(ValueError, match=message):
        logits_of(lambda inputs: output, torch.zeros(1), outputs=outputs)


def test_a_probability_of_zero_stays_finite_and_stays_nothing_at_a_high_temperature():
    teacher = as_teacher(lambda inputs: torch.tensor([[1.0, 0.0]]), probabilities=True)
    logits = teacher(torch.zeros(1, 1))
    assert logits.isfinite().all()
    assert (logits / 4).softmax(dim=1)[0, 1] < math.exp(-20)


def test_what_cannot_answer_is_no_teacher():
    with pytest.raises(ValueError, match=r"a teacher is a module, a function .*got int"):
        as_teacher(3)
    tree = pytest.importorskip("sklearn.tree").DecisionTreeClassifier().fit(np.eye(2), [0, 1])
    with pytest.raises(ValueError, match="takes one row of numbers for each sample, got inputs of type dict"):
        as_teacher(tree)({"ids": torch.eye(2), "mask": torch.eye(2)})
