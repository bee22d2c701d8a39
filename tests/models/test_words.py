"""A bag of words: the mean of vectors, without order and without padding."""

import pytest
import torch

from kdcourse.models.words import BagOfWords


def test_logits_are_the_classifier_of_the_mean_vector():
    model = BagOfWords(5, kinds=4, vocabulary=20)
    ids = torch.tensor([[7, 3, 9, 0, 0]])
    mean = sum(model.vectors.weight[piece] for piece in (7, 3, 9)) / 3
    torch.testing.assert_close(model(ids)[0], model.classifier.weight @ mean + model.classifier.bias)


def test_neither_order_nor_padding_counts():
    model = BagOfWords(3)
    torch.testing.assert_close(model(torch.tensor([[5, 6, 7]])), model(torch.tensor([[7, 5, 6, 0, 0]])))


def test_all_logits_lie_in_as_many_dimensions_as_the_width():
    logits = BagOfWords(2)(torch.randint(1, 6000, (50, 8)))
    assert torch.linalg.matrix_rank(logits - logits.mean(dim=0)) == 2


def test_an_empty_text_has_finite_logits():
    assert BagOfWords(2)(torch.zeros(1, 4, dtype=torch.long)).isfinite().all()


@pytest.mark.parametrize("sizes", [{"width": 0}, {"width": 2, "kinds": 0}, {"width": 2, "vocabulary": -1}])
def test_sizes_must_be_positive(sizes):
    with pytest.raises(ValueError, match="must be positive"):
        BagOfWords(**sizes)
