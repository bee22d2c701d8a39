"""The heads explorer without a front end: maps and answers are those of the models, for any text, layer and head."""

import pytest
import torch

pytest.importorskip("transformers")

from kdcourse.data.tokens import encode, load_tokenizer
from kdcourse.models.language import make_bert
from kdcourse.widgets.explorers.heads import LONGEST, HeadsExplorer

KINDS = [f"kind {place}" for place in range(24)]


def small(layers, **settings):
    torch.manual_seed(layers)
    model = make_bert(layers=layers, width=32, **settings)
    model.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


@pytest.fixture
def models():
    return small(4), small(2)


@pytest.fixture
def explorer(models, tokenizer):
    return HeadsExplorer(*models, tokenizer, KINDS, text="a large wild cat")


def test_maps_and_answers_are_those_of_the_models(explorer, models, tokenizer):
    explorer.layer.value, explorer.head.value, explorer.temperature.value = 1, 2, 4.0
    ids, real = encode(tokenizer, ["a large wild cat"])
    for name, model, block in (("teacher", models[0], 2), ("student", models[1], 1)):
        with torch.no_grad():
            output = model.eval()(ids, real, output_attentions=True)
        torch.testing.assert_close(explorer.maps[name], output.attentions[block - 1][0, 1])
        torch.testing.assert_close(explorer.answers[name], (output.logits[0] / 4).softmax(dim=0))
    explorer.close()


def test_a_typed_definition_is_read_by_both(explorer):
    before = {name: row.clone() for name, row in explorer.answers.items()}
    explorer.text.value = "an act of kindness"
    for name, row in explorer.answers.items():
        assert not torch.equal(row, before[name])
        assert explorer.maps[name].shape == (7, 7)
    explorer.close()


@pytest.mark.parametrize("text", ["", "word " * 100, "猫"])
def test_any_text_can_be_typed(explorer, text):
    explorer.text.value = text
    assert 2 <= explorer.maps["teacher"].shape[0] <= LONGEST
    explorer.close()


def test_the_mode_of_the_models_is_restored(models, tokenizer):
    models[1].train()
    HeadsExplorer(*models, tokenizer, KINDS, text="a cat")
    assert models[1].training


def test_heads_that_only_one_of_them_has_are_not_offered(tokenizer):
    explorer = HeadsExplorer(small(4, heads=4), small(2, heads=2), tokenizer, KINDS, text="a cat")
    assert explorer.head.max == 2


def test_a_deeper_student_other_kinds_and_missing_attention_are_refused(models, tokenizer):
    with pytest.raises(ValueError, match="the student has 4 blocks"):
        HeadsExplorer(models[1], models[0], tokenizer, KINDS, text="a cat")
    with pytest.raises(ValueError, match="knows 24 kinds, 23 have a name"):
        HeadsExplorer(*models, tokenizer, KINDS[:-1], text="a cat")
    models[0].set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="the teacher gives no attention"):
        HeadsExplorer(*models, tokenizer, KINDS, text="a cat")
