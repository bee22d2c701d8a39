"""Teachers that ship: each loads, is as good as its record says, and can be made again."""

import dataclasses
import json
from functools import partial
from importlib import resources
from pathlib import Path

import pytest
import torch
from torch import nn

from kdcourse import tasks, zoo
from kdcourse.data.definitions import load_definitions
from kdcourse.data.scenes import load_scenes
from kdcourse.data.tokens import encode, load_tokenizer
from kdcourse.models import count_parameters, make_mlp
from kdcourse.models.detection import detect, mean_average_precision
from kdcourse.models.language import count_kind_errors
from kdcourse.models.writer import start_with_kind, text_loss
from kdcourse.objectives import label_objective
from kdcourse.training import count_errors

WEIGHTS = Path(str(resources.files("kdcourse") / "weights"))
SHIPPED = sorted(path.stem for path in WEIGHTS.glob("*.json"))
OF_DIGITS = [name for name in SHIPPED if zoo.TEACHERS[name].task == "digits"]


def test_every_teacher_that_is_offered_ships_with_its_record():
    assert sorted(zoo.TEACHERS) == SHIPPED == sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def test_shipped_weights_take_at_most_25_megabytes():
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 25e6


@pytest.mark.trap(9)
@pytest.mark.parametrize("name", OF_DIGITS)
def test_a_shipped_teacher_makes_the_test_errors_that_its_record_says(name, mnist):
    teacher, record = zoo.load(name), zoo.provenance(name)
    errors = count_errors(teacher, *mnist.test)
    # Another processor adds in another order: a digit on the border may fall to the other side.
    assert abs(errors - record["test_errors"]) <= 1
    assert record["test_images"] == 10_000
    assert count_parameters(teacher) == record["parameters"]


@pytest.mark.slow
def test_the_detector_has_the_mean_average_precision_that_its_record_says():
    scenes, record = load_scenes(train=1, held_out=1).test, zoo.provenance("scenes_teacher")
    detector = zoo.load("scenes_teacher")
    measured = mean_average_precision(detect(detector, scenes.images), scenes.targets)
    assert abs(measured["mAP"] - record["mAP"]) <= 0.002
    assert record["mAP"] >= 0.65
    assert record["test_scenes"] == len(scenes.targets) == 1000
    assert count_parameters(detector) == record["parameters"]


@pytest.mark.slow
def test_the_classifier_of_definitions_makes_the_errors_that_its_record_says():
    test, record = load_definitions().test, zoo.provenance("definitions_teacher")
    classifier = zoo.load("definitions_teacher")
    errors = count_kind_errors(classifier, *encode(load_tokenizer(), test.texts), test.labels)
    assert abs(errors - record["test_errors"]) <= 5  # another processor adds in another order
    assert record["test_definitions"] == len(test.labels) == 8061
    assert record["test_errors"] <= 0.145 * 8061
    assert count_parameters(classifier) == record["parameters"]


@pytest.mark.slow
def test_the_writer_has_the_loss_that_its_record_says():
    test, record = load_definitions().test, zoo.provenance("writing_teacher")
    writer = zoo.load("writing_teacher")
    input_ids, real = encode(load_tokenizer(), test.texts)
    loss = text_loss(writer, start_with_kind(input_ids, test.labels), real)
    assert abs(loss - record["test_nats_per_token"]) <= 0.005
    assert record["test_texts"] == len(test.labels) == 8061
    assert loss < 4.5  # with equal probabilities it would be log(6,024) = 8.7
    assert count_parameters(writer) == record["parameters"]


@pytest.mark.trap(9)
@pytest.mark.parametrize("name", OF_DIGITS)
def test_a_shipped_teacher_is_trained(name):
    assert zoo.provenance(name)["test_errors"] < 200  # an untrained one makes about 9,000


def test_hintons_teacher_is_good_enough_for_his_experiment():
    assert zoo.provenance("hinton_teacher")["test_errors"] <= 75


@pytest.mark.parametrize("name", SHIPPED)
def test_a_record_says_how_to_make_the_teacher_again(name):
    record = zoo.provenance(name)
    recipe = zoo.TEACHERS[name]
    assert record["command"] == f"kdcourse zoo train {name} --seed {record['seed']} --epochs {record['epochs']}"
    assert (record["name"], record["about"]) == (name, recipe.about)
    assert record["epochs"] == recipe.epochs
    of_task = {"digits": 60_000, "scenes": 20_000, "definitions": 71_734, "writing": 71_734}
    samples = of_task[recipe.task] - recipe.held_out
    assert record["training_" + {"digits": "images", "writing": "texts"}.get(recipe.task, recipe.task)] == samples
    assert {"torch", "device", "threads", "date", "seconds"} <= record.keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_teacher_loads_in_eval_mode_in_float32_with_finite_trainable_weights(name):
    teacher = zoo.load(name)
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.dtype == torch.float32 for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.isfinite(tensor).all() for tensor in teacher.state_dict().values())


@pytest.mark.trap(7)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_teacher_loads_onto_the_device_that_was_asked_for(name):
    assert {tensor.device.type for tensor in zoo.load(name, device="meta").state_dict().values()} == {"meta"}


def test_loading_does_not_share_weights_between_calls():
    name = SHIPPED[0]
    first = zoo.load(name)
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert next(zoo.load(name).parameters()).abs().sum() > 0


def test_an_unknown_teacher_is_refused_and_the_known_ones_listed(tmp_path):
    for call in (zoo.load, zoo.provenance, lambda name: zoo.train_teacher(name, folder=tmp_path)):
        with pytest.raises(
            ValueError, match=r"there is no teacher 'resnet'\. The package ships hinton_teacher, .*teacher_cnn"
        ):
            call("resnet")


@pytest.mark.parametrize("content", [None, b"", b"not safetensors", "cut", "other"])
def test_a_missing_or_damaged_file_is_named(tmp_path, monkeypatch, content):
    whole = (WEIGHTS / "teacher_mlp.safetensors").read_bytes()
    if content == "other":
        content = (WEIGHTS / "teacher_cnn.safetensors").read_bytes()
    path = tmp_path / "weights" / "teacher_mlp.safetensors"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "cut" else content)
    monkeypatch.setattr(zoo.resources, "files", lambda package: tmp_path)
    with pytest.raises(
        ValueError, match=r"(?s)teacher_mlp\.safetensors is missing or damaged .* kdcourse zoo train teacher_mlp"
    ):
        zoo.load("teacher_mlp")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_single_flipped_bit_in_a_teachers_weights_is_found(name, tmp_path):
    for suffix in (".json", ".safetensors"):
        (tmp_path / f"{name}{suffix}").write_bytes((WEIGHTS / f"{name}{suffix}").read_bytes())
    zoo.load(name, folder=tmp_path)
    content = bytearray((tmp_path / f"{name}.safetensors").read_bytes())
    content[-1001] ^= 0b0100_0000  # a weight's exponent: the file still loads, with another number
    (tmp_path / f"{name}.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"safetensors is missing or damaged \(its SHA-256 is \w+, its record says"):
        zoo.load(name, folder=tmp_path)


# Making one


@pytest.fixture
def small_recipe(monkeypatch, digits, mnist):
    """A recipe with everything a teacher may use, on 500 digits."""
    small = type(mnist)(train=digits, held_out=mnist.held_out.take(10), test=mnist.test.take(500))
    monkeypatch.setattr(tasks, "load_mnist", lambda **options: small)

    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))

    recipe = zoo.Teacher(make, "small", epochs=8, batch_size=50, learning_rate=5e-3, average=0.9, max_norm=1.0)
    monkeypatch.setitem(zoo.TEACHERS, "small", recipe)
    return recipe


def test_training_writes_weights_and_a_record_that_agree(small_recipe, tmp_path, monkeypatch, mnist):
    record = zoo.train_teacher("small", folder=tmp_path / "weights", progress=False)
    assert json.loads((tmp_path / "weights" / "small.json").read_text(encoding="utf-8")) == record
    monkeypatch.setattr(zoo.resources, "files", lambda package: tmp_path)
    teacher = zoo.load("small")
    assert count_errors(teacher, *mnist.test.take(500)) == record["test_errors"] < 150
    assert record["training_images"] == 500


def test_a_task_may_keep_the_epoch_that_held_out_samples_prefer(small_recipe, tmp_path, monkeypatch, digits):
    held_out_errors, seen = iter([40, 20, 30]), []

    def task(held_out, device, seed):
        def choose(model):
            seen.append(model[1].weight.detach().clone())
            return next(held_out_errors)

        return tasks.Task(tuple(digits), label_objective, lambda model: {"test_errors": 1}, choose=choose)

    monkeypatch.setitem(zoo.TASKS, "chosen", task)
    monkeypatch.setitem(zoo.TEACHERS, "small", dataclasses.replace(small_recipe, task="chosen", epochs=3))
    record = zoo.train_teacher("small", folder=tmp_path, progress=False)
    assert (record["chosen_epoch"], record["held_out_errors"]) == (2, 20)
    stored = zoo.load("small", folder=tmp_path)[1].weight
    assert torch.allclose(stored, seen[1], atol=1e-3)
    assert not torch.allclose(stored, seen[2], atol=1e-3)


def test_tied_weights_are_stored_once_and_load_tied(small_recipe, tmp_path, monkeypatch):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.out = nn.Linear(784, 784), nn.Linear(784, 784), nn.Linear(784, 10)
            self.second.weight = self.first.weight

        def forward(self, images):
            return self.out(self.second(self.first(images.flatten(1)).relu()).relu())

    monkeypatch.setitem(zoo.TEACHERS, "small", dataclasses.replace(small_recipe, make=Tied, epochs=1, max_norm=None))
    record = zoo.train_teacher("small", folder=tmp_path, progress=False)
    assert (tmp_path / "small.safetensors").stat().st_size < 1.1 * 2 * record["parameters"]
    teacher = zoo.load("small", folder=tmp_path)
    assert teacher.second.weight is teacher.first.weight
    monkeypatch.setitem(zoo.TEACHERS, "small", dataclasses.replace(small_recipe, make=lambda: nn.Linear(784, 10)))
    with pytest.raises(ValueError, match="it is of another model"):
        zoo.load("small", folder=tmp_path)


def test_averaged_weights_have_batch_statistics_of_their_own(small_recipe, tmp_path, monkeypatch, digits):
    zoo.train_teacher("small", folder=tmp_path / "weights", progress=False)
    monkeypatch.setattr(zoo.resources, "files", lambda package: tmp_path)
    teacher = zoo.load("small")
    hidden = teacher[1](digits.images.flatten(1))
    torch.testing.assert_close(teacher[2].running_mean, hidden.mean(dim=0), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(teacher[2].running_var, hidden.var(dim=0), rtol=0.1, atol=1e-2)


def test_the_weight_constraint_bounds_each_hidden_units_incoming_weights(small_recipe, tmp_path, monkeypatch):
    zoo.train_teacher("small", folder=tmp_path / "weights", progress=False)
    monkeypatch.setattr(zoo.resources, "files", lambda package: tmp_path)
    hidden, output = (layer.weight.norm(dim=1) for layer in zoo.load("small") if isinstance(layer, nn.Linear))
    assert hidden.max() <= 1 + 1e-3
    assert output.max() > 1 + 1e-3  # the constraint is not on the output layer


def test_a_seed_makes_the_same_teacher_again(small_recipe, tmp_path):
    for folder in ("one", "two"):
        zoo.train_teacher("small", seed=3, epochs=2, folder=tmp_path / folder, progress=False)
    one, two = ((tmp_path / folder / "small.safetensors").read_bytes() for folder in ("one", "two"))
    assert one == two


def test_a_teacher_says_what_its_settings_were_chosen_by():
    assert "test errors" in zoo.provenance("hinton_teacher")["settings_chosen"]
    assert zoo.provenance("teacher_cnn")["settings_chosen"] == "the first that were tried"


def test_a_teacher_is_not_overwritten_unless_that_is_asked_for(small_recipe, tmp_path, monkeypatch):
    (tmp_path / "small.safetensors").write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"small\.safetensors exists: choose another folder, or replace it with force"):
        zoo.train_teacher("small", folder=tmp_path)
    assert (tmp_path / "small.safetensors").read_bytes() == b"precious"
    zoo.train_teacher("small", folder=tmp_path, epochs=1, force=True, progress=False)
    assert zoo.load("small", folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    zoo.train_teacher("small", epochs=1, progress=False)
    assert sorted(path.name for path in (tmp_path / "teachers").iterdir()) == ["small.json", "small.safetensors"]


def test_a_folder_that_cannot_be_written_is_found_before_the_training(small_recipe, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(zoo, "fit", lambda *args, **options: pytest.fail("it trained"))
    with pytest.raises(OSError, match=r"small\.safetensors"):
        zoo.train_teacher("small", folder=tmp_path / "file", progress=False)


def test_a_second_training_starts_from_the_averaged_weights_and_resumes(tmp_path):
    recipe = zoo.Teacher(partial(make_mlp, 4), "a trial", epochs=1, batch_size=100, held_out=59_000)
    once = zoo.fit_teacher(recipe, progress=False)
    still = zoo.fit_teacher(dataclasses.replace(recipe, again=(1, 1e-12)), progress=False)
    for first, second in zip(once.parameters(), still.parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=0)  # at a rate of nothing it stays where it began

    twice = dataclasses.replace(recipe, again=(2, 1e-3))
    whole = zoo.fit_teacher(twice, progress=False)
    assert any(not torch.equal(a, b) for a, b in zip(once.parameters(), whole.parameters(), strict=True))
    for _ in range(2):  # the second time both checkpoints are finished
        resumed = zoo.fit_teacher(twice, checkpoint=tmp_path / "trial.pt", progress=False)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_teacher_that_needs_a_library_names_it(monkeypatch):
    def make():
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")

    name = "definitions_teacher"
    monkeypatch.setitem(zoo.TEACHERS, name, dataclasses.replace(zoo.TEACHERS[name], make=make))
    with pytest.raises(ValueError, match=r'needs transformers, .*"kdcourse\[language\]"'):
        zoo.load(name)
