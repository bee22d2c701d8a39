"""Watching attention: equal to what transformers returns, before dropout, for BERT and DistilBERT."""

import pytest
import torch

pytest.importorskip("transformers")

import transformers

from kdcourse.models.language import make_bert
from kdcourse.models.self_attention import watch_attention


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    real = (torch.arange(9) < torch.tensor([[9], [4], [6]])).long()
    return torch.randint(5, 50, (3, 9), generator=generator) * real, real


def distilbert():
    return transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=4, hidden_dim=32)
    )


@pytest.mark.parametrize("make", [lambda: make_bert(layers=2, width=16, heads=4, vocabulary=50), distilbert])
def test_probabilities_are_those_that_the_model_itself_returns(batch, make):
    ids, real = batch
    model = make().eval()
    model.set_attn_implementation("eager")
    with torch.no_grad(), watch_attention(model) as attention:
        theirs = model(ids, attention_mask=real, output_attentions=True).attentions
        for block, expected in enumerate(theirs, start=1):
            torch.testing.assert_close(attention.probabilities(block, real), expected, rtol=1e-4, atol=1e-5)


def test_dropout_does_not_reach_the_probabilities(batch):
    ids, real = batch
    model = make_bert(layers=1, width=16, heads=4, vocabulary=50, dropout=0.5).train()
    with watch_attention(model) as attention:
        model(ids, real)
        rows = attention.probabilities(1, real)
    torch.testing.assert_close(rows.sum(dim=-1), torch.ones(3, 4, 9))


def test_a_loss_on_scores_and_values_trains_queries_keys_and_values(batch):
    ids, real = batch
    model = make_bert(layers=1, width=16, heads=4, vocabulary=50)
    with watch_attention(model) as attention:
        model(ids, real)
        (attention.scores(1).square().mean() + attention.values(1).square().mean()).backward()
    layer = model.bert.encoder.layer[0].attention.self
    assert all(getattr(layer, part).weight.grad.abs().sum() > 0 for part in ("query", "key", "value"))


def test_a_row_of_padding_only_is_uniform(batch):
    ids, real = batch
    real[1] = 0
    model = make_bert(layers=1, width=16, heads=4, vocabulary=50).eval()
    with torch.no_grad(), watch_attention(model) as attention:
        model(ids, real)
        assert attention.probabilities(1, real)[1].unique().numel() == 1


def test_blocks_that_are_not_there_are_refused():
    model = make_bert(layers=2, width=16, heads=4, vocabulary=50)
    with pytest.raises(ValueError, match="the model has no block 3; its blocks are 1 to 2"), watch_attention(model, 3):
        pass
    with watch_attention(model, 2) as attention, pytest.raises(ValueError, match="block 1 is not watched"):
        attention.scores(1)
    with pytest.raises(ValueError, match="a Linear has no blocks named"), watch_attention(torch.nn.Linear(2, 2)):
        pass
