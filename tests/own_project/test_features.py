"""Features inside a user's models: they are read, or the error says why not."""

import pytest
import torch
from made_data import make_network, make_pictures
from torch import nn
from uses import features

from kdcourse.models import capture
from kdcourse.recipes import fitnets


def images(count=4, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def loader(count=4, size=32):
    return [(images(count, size), torch.arange(count) % 3)] * 2


def make_resnet(seed=0):
    from torchvision.models import resnet18

    torch.manual_seed(seed)
    return resnet18(num_classes=3)


def make_vit(width, seed=0):
    from torchvision.models import VisionTransformer

    torch.manual_seed(seed)
    return VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=width, mlp_dim=16, num_classes=3
    )


def make_hugging_vit(width):
    transformers = pytest.importorskip("transformers")
    tiny = {"image_size": 32, "patch_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(hidden_size=width, num_hidden_layers=2, **tiny)
    )


def test_a_layer_of_torchvision_is_read():
    model = make_resnet().eval()
    read = features.read_a_layer(model, images(), "layer1")
    expected = model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(images())))))
    torch.testing.assert_close(read, expected)


def test_a_layer_of_a_vision_transformer_is_read_and_what_returns_a_pair_says_so():
    model = make_vit(8).eval()
    read = features.read_a_layer(model, images(), "encoder.layers.encoder_layer_0")
    assert read.shape == (4, 5, 8)  # a class token and four patches
    with pytest.raises(ValueError, match=r"self_attention' returns tuple, not a tensor\. Capture a layer inside"):
        features.read_a_layer(model, images(), "encoder.layers.encoder_layer_0.self_attention")


def test_fitnets_runs_on_networks_of_torchvision_from_a_loader():
    teacher, student = make_resnet(1), make_resnet(0)
    before = student.layer2[0].conv1.weight.detach().clone()
    history = features.fitnets_in_two_stages(student, teacher, loader())
    assert history.hint.steps == history.kd.steps == 2
    assert history.hint.terms["hint"][1] < history.hint.terms["hint"][0]
    assert not torch.equal(student.layer2[0].conv1.weight, before)


@pytest.mark.parametrize("kind", ["torchvision", "transformers"])
def test_fitnets_matches_the_tokens_of_vision_transformers(kind):
    if kind == "torchvision":
        student, teacher = make_vit(8), make_vit(16, seed=1)
        layer = "encoder.layers.encoder_layer_0"
    else:
        student, teacher = make_hugging_vit(8), make_hugging_vit(16)
        layer = next(name for name, _ in student.named_modules() if name.endswith("layernorm_after"))
    history = features.fitnets_of_transformers(student, teacher, loader(), layer, layer)
    assert history.hint.terms["hint"].isfinite().all()
    assert history.kd.steps == 2


def test_layers_of_different_kinds_are_refused_with_their_shapes():
    student, teacher = make_resnet(), make_vit(8)
    with pytest.raises(ValueError, match=r"'layer1' gives features of shape \(\d+, 64, 8, 8\).*hand over your own"):
        fitnets(student, teacher, loader(), student_layer="layer1", teacher_layer="encoder.layers.encoder_layer_0")


def test_a_compiled_model_is_refused_and_the_model_inside_it_is_not():
    model = make_network()
    compiled = torch.compile(model)
    for wrapped in (compiled, nn.Sequential(compiled)):
        with (
            pytest.raises(ValueError, match=r"cannot read a compiled model.*Capture the model that it was made of"),
            capture(wrapped, "_orig_mod.1"),
        ):
            pass
    pictures, _ = make_pictures(4)
    assert features.read_a_layer(compiled._orig_mod, pictures, "1").shape == (4, 8)


def test_an_objective_of_ones_own_learns_from_logits_and_features_in_one_stage():
    torch.manual_seed(0)
    student, teacher = make_resnet(0), make_resnet(1).train()
    before = teacher.bn1.running_mean.clone()
    history = features.your_own_objective(student, teacher, loader()[:1], (64, 64))
    assert list(history.terms) == ["kd", "ce", "hint"]
    assert history.terms["hint"][-1] < history.terms["hint"][0]
    assert torch.equal(teacher.bn1.running_mean, before)
