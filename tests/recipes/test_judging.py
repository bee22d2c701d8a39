"""Texts that a model wrote, measured: likelihood, recognised kinds, different pairs, and ends."""

import math

import pytest
import torch
from torch import nn

from kdcourse.data.tokens import load_tokenizer
from kdcourse.models.writer import VOCABULARY, Texts
from kdcourse.recipes.judging import as_read, as_words, distinct_pairs, judge_texts

IDS = torch.tensor([[6001, 9, 8, 3, 0], [6002, 9, 8, 9, 8], [6000, 7, 3, 0, 0]])
TEXTS = Texts(IDS, (IDS != 0).long())


class Output:
    def __init__(self, logits):
        self.logits = logits


class Uniform(nn.Module):
    def forward(self, input_ids, attention_mask):
        return Output(torch.zeros(*input_ids.shape, VOCABULARY + 24))


def by_first_word(input_ids, attention_mask):
    """Take a text for the kind of the number that its first word has."""
    return nn.functional.one_hot(input_ids[:, 1], 24).float()


def test_a_uniform_teacher_needs_the_logarithm_of_the_vocabulary():
    judged = judge_texts(TEXTS, torch.tensor([9, 9, 7]), teacher=Uniform(), classifier=by_first_word)
    assert judged.teacher_loss == pytest.approx(math.log(VOCABULARY + 24), rel=1e-5)


def test_recognised_is_the_share_of_texts_taken_for_the_kind_that_was_asked():
    for kinds, share in (([9, 9, 7], 1.0), ([9, 1, 1], 1 / 3), ([0, 0, 0], 0.0)):
        judged = judge_texts(TEXTS, torch.tensor(kinds), teacher=Uniform(), classifier=by_first_word)
        assert judged.recognised == pytest.approx(share)


def test_only_a_closing_token_ends_a_text():
    judged = judge_texts(TEXTS, torch.tensor([0, 0, 0]), teacher=Uniform(), classifier=by_first_word)
    assert judged.ended == pytest.approx(2 / 3)


def test_pairs_are_counted_across_texts_and_without_the_kind():
    # 9 8, 8 3 | 9 8, 8 9, 9 8 | 7 3: six pairs, of which four are different
    assert distinct_pairs(TEXTS) == pytest.approx(4 / 6)


def test_texts_without_a_pair_have_no_different_ones():
    assert distinct_pairs(Texts(torch.tensor([[6001, 3]]), torch.ones(1, 2, dtype=torch.long))) == 0


def test_the_classifier_reads_an_opening_and_a_closing_token_and_no_kind():
    read = as_read(TEXTS)
    assert read.input_ids.tolist() == [[2, 9, 8, 3, 0, 0], [2, 9, 8, 9, 8, 3], [2, 7, 3, 0, 0, 0]]
    assert read.attention_mask.sum(dim=1).tolist() == [4, 6, 3]


def test_a_kind_inside_a_text_is_an_unknown_word():
    ids = torch.tensor([[6001, 9, 6003, 3]])
    assert as_read(Texts(ids, torch.ones_like(ids))).input_ids.tolist() == [[2, 9, 1, 3, 0]]


def test_texts_are_readable_and_one_that_was_cut_off_says_so():
    tokenizer = load_tokenizer()
    words = tokenizer("a large cat", add_special_tokens=False).input_ids
    ids = torch.tensor([[6000, *words, 3], [6000, *words, words[0]]])
    assert as_words(Texts(ids, torch.ones_like(ids)), tokenizer) == ["a large cat", "a large cat a …"]


def test_one_kind_for_each_text_is_needed():
    with pytest.raises(ValueError, match="one number per text"):
        judge_texts(TEXTS, torch.tensor([1, 2]), teacher=Uniform(), classifier=by_first_word)
