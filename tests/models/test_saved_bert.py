"""A BERT that was saved to disk, as one of a hub would come: halved, watched and compared, as chapter 09 does it."""

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, DistilBertConfig, DistilBertModel

from kdcourse.data.tokens import load_tokenizer
from kdcourse.losses import attention_loss
from kdcourse.models.self_attention import watch_attention
from kdcourse.recipes.student_layers import init_student_from_teacher

# As wide a spread of weights as makes attention uneven, as training does. With the usual 0.02 and 32 units it is
# almost uniform: two models are then 1e-9 nats apart, less than rounding.
UNEVEN = {"vocab_size": 6000, "initializer_range": 0.2}
CONFIGS = [
    (BertModel, BertConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=4, **UNEVEN)),
    (DistilBertModel, DistilBertConfig(dim=32, hidden_dim=64, n_layers=4, n_heads=4, **UNEVEN)),
]


@pytest.mark.parametrize(("family", "config"), CONFIGS, ids=["bert", "distilbert"])
def test_a_model_from_a_folder_is_halved_and_its_attention_compared(family, config, tmp_path):
    family(config).save_pretrained(tmp_path)
    load_tokenizer().save_pretrained(tmp_path)

    large, reader = AutoModel.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    halved = type(large.config).from_dict(large.config.to_dict())
    halved.num_hidden_layers = 2
    small = type(large)(halved).eval()
    assert init_student_from_teacher(small, large) == {1: 2, 2: 4}
    inputs = reader("a student learns from its teacher", return_tensors="pt")
    ids, real = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad(), watch_attention(small) as mine, watch_attention(large) as theirs:
        small(ids, real)
        large(ids, real)
    for block, place in {1: 2, 2: 4}.items():
        loss = attention_loss(mine.probabilities(block, real), theirs.probabilities(place, real), attention_mask=real)
        assert torch.isfinite(loss)
        assert loss > 0.01
