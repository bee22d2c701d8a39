"""Dictionary definitions: 79,795 nouns of WordNet 3.0 in 24 kinds, inside the package; a checksum is verified.

Chapter 09. Licence: Princeton University's, see ``LICENSE-WORDNET.txt`` beside the file.
"""

import hashlib
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor

from .unpacking import unpack

CHECKSUM = "a9629bf4a84d5bd83cd6c131f2c5677cafd7beba123351795ddce1edace8af87"  # SHA-256 of the unpacked file


class TextSplit(NamedTuple):
    """Definitions and their kinds; unpack it as ``texts, labels, lemmas = split``.

    Attributes
    ----------
    texts : tuple of str
        A definition each, such as ``"a kind act"``.
    labels : Tensor of int64, shape (N,)
        The kind, a place in ``Definitions.kinds``.
    lemmas : tuple of str
        The noun that is defined. No model sees it: it tells the kind too easily.

    Examples
    --------
    >>> split = TextSplit(("a kind act", "a large cat"), torch.tensor([0, 1]), ("kindness", "lion"))
    >>> split.take(1).texts
    ('a kind act',)
    """

    texts: tuple[str, ...]
    labels: Tensor
    lemmas: tuple[str, ...]

    def take(self, count: int) -> "TextSplit":
        """Return the first ``count`` samples. The order is mixed, so a prefix is a fair small data set."""
        size = len(self.texts)
        if not 1 <= count <= size:
            raise ValueError(f"count must be from 1 to {size}, the size of this split, got {count}.")
        return TextSplit(self.texts[:count], self.labels[:count], self.lemmas[:count])


class Definitions(NamedTuple):
    """The three splits, apart by noun: train to learn from, held_out to choose by, test to report.

    Attributes
    ----------
    train, held_out, test : TextSplit
        By default about 67,700, 4,000 and 8,061 definitions. Two nouns may have definitions in one split only.
    kinds : tuple of str
        Names of the 24 kinds, in the order of the labels.

    Examples
    --------
    >>> part = TextSplit(("a kind act",), torch.tensor([0]), ("kindness",))
    >>> Definitions(part, part, part, ("act",)).kinds
    ('act',)
    """

    train: TextSplit
    held_out: TextSplit
    test: TextSplit
    kinds: tuple[str, ...]


def load_definitions(*, held_out: int = 4000) -> Definitions:
    """Load the dictionary definitions from inside the package.

    Parameters
    ----------
    held_out : int
        How many of the 71,734 training definitions, at least, are kept apart for choosing knobs; all definitions of a
        noun go together. 0 trains on all.

    Returns
    -------
    Definitions
        Splits ``train``, ``held_out``, ``test`` and the names of the ``kinds``. The largest kind, artifact, has 14 %
        of the test definitions.

    Raises
    ------
    ValueError
        If ``held_out`` is not in [0, 60000], or the file is missing, damaged or altered; the message names it.

    Examples
    --------
    >>> definitions = load_definitions()
    >>> len(definitions.kinds), len(definitions.test.texts), definitions.kinds[0]
    (24, 8061, 'act')
    """
    if not 0 <= held_out <= 60_000:
        raise ValueError(
            f"held_out must be from 0 to 60000, got {held_out}: some definitions must be left to train on."
        )
    rows = _rows()
    kinds = tuple(sorted({kind for _, kind, _, _ in rows}))
    training = sorted((row for row in rows if row[0] == "train"), key=_mixed)
    # The rows of a noun stand together in this order, so a cut between two nouns keeps them apart.
    cut = held_out
    while 0 < cut < len(training) and training[cut][2] == training[cut - 1][2]:
        cut += 1
    test = sorted((row for row in rows if row[0] == "test"), key=_mixed)
    first, second, third = (_split(_spread(part), kinds) for part in (training[cut:], training[:cut], test))
    return Definitions(first, second, third, kinds)


def _mixed(row: tuple[str, ...]) -> tuple[bytes, str]:
    """Sort key: nouns in an order that has nothing to do with the alphabet, the same on every machine."""
    return hashlib.sha256(row[2].encode()).digest(), row[3]


def _spread(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Mix once more, definition by definition, so that a prefix does not hold all meanings of a few nouns."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{row[2]}\t{row[3]}".encode()).digest())


def _split(rows: list[tuple[str, ...]], kinds: tuple[str, ...]) -> TextSplit:
    places = {kind: place for place, kind in enumerate(kinds)}
    labels = torch.tensor([places[kind] for _, kind, _, _ in rows], dtype=torch.int64)
    return TextSplit(tuple(row[3] for row in rows), labels, tuple(row[2] for row in rows))


@lru_cache(maxsize=1)
def _rows() -> tuple[tuple[str, ...], ...]:
    """The table's rows: split, kind, noun, definition."""
    path = resources.files(__package__) / "wordnet" / "noun-definitions.tsv.gz"
    raw = unpack(path, sha256=CHECKSUM, what="the file of definitions")
    _, *lines = raw.decode("utf-8").splitlines()
    return tuple(tuple(line.split("\t")) for line in lines)
