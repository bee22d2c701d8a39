"""BERT classifiers of definitions: padding counts nothing, heads share weights, the mode is restored."""

import pytest
import torch

pytest.importorskip("transformers")

from kdcourse.models.language import (
    body_and_embedding_parameters,
    count_kind_errors,
    make_bert,
    predict_kinds,
)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    real = (torch.arange(9) < torch.tensor([[9], [4], [6]])).long()
    return torch.randint(5, 6000, (3, 9), generator=generator) * real, real


def test_padding_changes_no_logit(batch):
    ids, real = batch
    model = make_bert(layers=2, width=32).eval()
    alone = model(ids[1:2, :4], real[1:2, :4]).logits
    torch.testing.assert_close(model(ids, real).logits[1:2], alone, rtol=1e-4, atol=1e-5)


def test_a_row_of_padding_only_stays_finite(batch):
    ids, real = batch
    real[1] = 0
    assert make_bert(layers=2, width=32).eval()(ids, real).logits.isfinite().all()


def test_word_logits_use_the_table_of_word_embeddings():
    model = make_bert(layers=1, width=32)
    assert model.words.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.word_logits(torch.rand(5, 32)).shape == (5, 6000)


def test_hidden_states_and_attentions_come_when_they_are_asked_for(batch):
    model = make_bert(layers=3, width=32).eval()
    model.config._attn_implementation = "eager"
    output = model(*batch, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 4
    assert [tuple(layer.shape) for layer in output.attentions] == [(3, 2, 9, 9)] * 3
    torch.testing.assert_close(output["last_hidden_state"], output.hidden_states[-1])


def test_many_texts_are_answered_in_their_own_order(batch):
    ids, real = batch
    model = make_bert(layers=2, width=32).eval()
    torch.testing.assert_close(
        predict_kinds(model, ids, real, batch_size=1), model(ids, real).logits, rtol=1e-4, atol=1e-5
    )


def test_predicting_restores_the_mode_of_each_module(batch):
    model = make_bert(layers=1, width=32).train()
    model.dropout.eval()
    predict_kinds(model, *batch)
    assert model.training
    assert not model.dropout.training


def test_errors_are_counted_against_the_largest_logit(batch):
    model = make_bert(layers=1, width=32)
    answers = predict_kinds(model, *batch).argmax(dim=1)
    assert count_kind_errors(model, *batch, answers) == 0
    assert count_kind_errors(model, *batch, (answers + 1) % 24) == 3


def test_a_small_student_is_mostly_vocabulary():
    body, embeddings = body_and_embedding_parameters(make_bert(layers=2, width=64))
    assert embeddings > 3 * body


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width must be a multiple of heads, got 100 and 3"):
        make_bert(layers=1, width=100, heads=3)
