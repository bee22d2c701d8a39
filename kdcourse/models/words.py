"""The smallest model that reads: the mean of its words' vectors, and one layer that sorts it into kinds. Chapter 11."""

from torch import Tensor, nn


class BagOfWords(nn.Module):
    """A classifier of texts that knows which words there are, and not their order.

    Parameters
    ----------
    width : int
        Numbers in a word's vector. All logits of a text lie on so many dimensions: a small width is a narrow student.
    kinds, vocabulary : int
        Classes, and word pieces. Piece 0 is padding and counts nothing.

    Raises
    ------
    ValueError
        If a number is not positive.

    References
    ----------
    Joulin, Grave, Bojanowski, Mikolov (2017), arXiv:1607.01759, without its word pairs.

    Examples
    --------
    >>> import torch
    >>> model = BagOfWords(4)
    >>> model(torch.tensor([[2, 9, 3, 0], [2, 9, 8, 3]])).shape
    torch.Size([2, 24])
    >>> bool(model(torch.tensor([[9, 8]])).allclose(model(torch.tensor([[8, 9, 0, 0]]))))
    True
    """

    def __init__(self, width: int, *, kinds: int = 24, vocabulary: int = 6000) -> None:
        super().__init__()
        if min(width, kinds, vocabulary) < 1:
            raise ValueError(f"width, kinds and vocabulary must be positive, got {width}, {kinds} and {vocabulary}.")
        self.vectors = nn.Embedding(vocabulary, width)
        self.classifier = nn.Linear(width, kinds)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return logits (B, kinds) of texts (B, L), padded with 0."""
        real = (input_ids != 0).unsqueeze(-1).to(self.vectors.weight.dtype)  # (B, L, 1)
        mean = (self.vectors(input_ids) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)  # (B, D)
        return self.classifier(mean)
