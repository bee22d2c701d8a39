"""The student leaves: files of weights, torch.export, ONNX; and what it costs beside its teacher."""

import pytest
import torch
from made_data import assert_same, make_network, make_pictures
from torch import nn
from uses import out

from kdcourse.models import export_onnx, measure_models

IMAGES = make_pictures(4)[0]


@pytest.fixture
def student():
    return make_network(seed=3, dropout=0.5)


@pytest.mark.parametrize("write", [out.state_dict, out.safetensors])
def test_weights_come_back_from_a_file(write, student, tmp_path):
    again = write(student, lambda: make_network(seed=9, dropout=0.5), tmp_path / "student")
    assert_same(again, student, rtol=0, atol=0)


@pytest.mark.slow
def test_an_exported_program_answers_as_the_student_for_any_count_of_images(student, tmp_path):
    program = out.torch_export(student, IMAGES, tmp_path / "student.pt2")
    for count in (4, 2):
        torch.testing.assert_close(program(IMAGES[:count]), student.eval()(IMAGES[:count]))


@pytest.mark.slow
def test_onnx_answers_as_the_student_and_the_students_mode_comes_back(student, tmp_path):
    pytest.importorskip("onnxruntime")
    student.train()
    assert out.onnx(student, IMAGES, tmp_path / "student.onnx") < 1e-5
    assert student.training
    assert (tmp_path / "student.onnx").stat().st_size > 1000


@pytest.mark.slow
def test_onnx_takes_the_arguments_of_a_classifier_of_transformers(tmp_path):
    pytest.importorskip("onnxruntime")
    transformers = pytest.importorskip("transformers")
    tiny = {"vocab_size": 30, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(num_hidden_layers=1, **tiny))
    inputs = {"input_ids": torch.randint(1, 30, (3, 5)), "attention_mask": torch.tensor([[1, 1, 1, 0, 0]] * 3)}
    assert export_onnx(model, inputs, tmp_path / "student.onnx") < 1e-5


def test_one_sample_is_too_few_for_onnx(student, tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="needs two samples or more"):
        export_onnx(student, IMAGES[:1], tmp_path / "student.onnx")


@pytest.mark.slow
def test_a_model_that_answers_by_chance_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")

    class Chance(nn.Module):
        def forward(self, images):
            return images.flatten(1) + torch.rand_like(images.flatten(1))

    with pytest.raises(ValueError, match="onnxruntime disagrees with torch"):
        export_onnx(Chance(), IMAGES, tmp_path / "chance.onnx")


def test_the_costs_of_teacher_student_and_quantised_student_are_measured_alike():
    teacher, student = make_network(512, seed=1).train(), make_network(64)
    costs = out.costs(teacher, student, IMAGES)
    assert list(costs) == ["teacher", "student", "quantised"]
    assert costs["teacher"].parameters == 512 * 37 + 3 * 513
    assert costs["quantised"].parameters == costs["student"].parameters == 64 * 37 + 3 * 65
    assert costs["student"].bytes == 4 * costs["student"].parameters
    assert costs["quantised"].bytes < 0.4 * costs["student"].bytes  # one byte a weight, four a bias
    assert min(cost.milliseconds for cost in costs.values()) > 0
    assert min(cost.spread for cost in costs.values()) >= 0
    assert teacher.training


def test_a_slower_model_measures_as_slower():
    class Slow(nn.Module):
        def forward(self, inputs):
            for _ in range(200):
                inputs = inputs.sin()
            return inputs

    costs = measure_models({"slow": Slow(), "fast": nn.Identity()}, torch.rand(100, 100), repeats=5)
    assert costs["slow"].milliseconds > 3 * costs["fast"].milliseconds


@pytest.mark.parametrize(("models", "repeats"), [({}, 5), ({"one": nn.Identity()}, 1)])
def test_nothing_to_measure_is_refused(models, repeats):
    with pytest.raises(ValueError, match="needs a model and two repeats or more"):
        measure_models(models, torch.rand(1), repeats=repeats)
