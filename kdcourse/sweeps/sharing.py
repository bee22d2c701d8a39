"""How the work of a sweep is shared among workers: groups cut into pieces, pieces dealt out, rows put in order again.

Chapters 02 to 07. Letters: S seeds, A arms; a group trains S · A students.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch

WORTH_A_PROCESS = 2000  # steps: about the time that another process takes to start


class Piece(NamedTuple):
    """Some seeds and arms of a group.

    Attributes
    ----------
    group : int
    seeds, arms : range

    Examples
    --------
    >>> Piece(0, range(0, 2), range(0, 5)).size
    10
    """

    group: int
    seeds: range
    arms: range

    @property
    def size(self) -> int:
        """Count of its students."""
        return len(self.seeds) * len(self.arms)


def cut(shapes: Mapping[int, tuple[int, int]], steps: Mapping[int, int], *, workers: int) -> list[Piece]:
    """Cut groups into pieces that keep the workers equally busy; a group that needs no cutting is one piece.

    Parameters
    ----------
    shapes : mapping from int to (int, int)
        Counts (S, A) of each group's seeds and arms.
    steps : mapping from int to int
        Steps of each group, all its students together.
    workers : int

    Returns
    -------
    list of Piece
        The longest first.

    Examples
    --------
    >>> [piece.size for piece in cut({0: (5, 5)}, {0: 50_000}, workers=2)]
    [10, 10, 3, 2]
    >>> len(cut({0: (5, 5)}, {0: 500}, workers=2))  # not worth a process
    1
    """
    whole = [Piece(group, range(0, seeds), range(0, arms)) for group, (seeds, arms) in shapes.items()]

    def length(piece: Piece) -> float:
        seeds, arms = shapes[piece.group]
        return steps[piece.group] * piece.size / (seeds * arms)

    longest_first = sorted(whole, key=length, reverse=True)
    share = sum(steps.values()) / workers
    if max(loads(map(length, longest_first), workers), default=0) <= 1.1 * share or share < WORTH_A_PROCESS:
        return longest_first
    pieces = []
    for piece in whole:
        if steps[piece.group] < WORTH_A_PROCESS * workers:
            pieces.append(piece)
        else:
            pieces.extend(_rectangles(piece.group, *shapes[piece.group], workers))
    return sorted(pieces, key=length, reverse=True)


def _rectangles(group: int, seeds: int, arms: int, workers: int) -> list[Piece]:
    """Cut S · A students, seed by seed, into equal runs; a run is a few whole seeds, and parts of one at either end."""
    bounds = [round(seeds * arms * worker / workers) for worker in range(workers + 1)]
    pieces = []
    for start, end in pairwise(bounds):
        first, last = -(-start // arms), end // arms  # the whole seeds between
        if last < first:  # both ends in one seed
            pieces.append(Piece(group, range(last, first), range(start - last * arms, end - last * arms)))
            continue
        if start < first * arms:
            pieces.append(Piece(group, range(first - 1, first), range(start - (first - 1) * arms, arms)))
        if first < last:
            pieces.append(Piece(group, range(first, last), range(0, arms)))
        if end > last * arms:
            pieces.append(Piece(group, range(last, last + 1), range(0, end - last * arms)))
    return [piece for piece in pieces if piece.size]


def loads(lengths: Iterable[float], workers: int) -> list[float]:
    """Return how long each worker is busy if the next piece always goes to the one that is free first.

    Examples
    --------
    >>> loads([10, 10, 3, 2], 2)
    [13.0, 12.0]
    """
    busy = [0.0] * workers
    for length in lengths:
        busy[busy.index(min(busy))] += length
    return busy


def put_in_order(shape: tuple[int, int], done: Mapping[Piece, list[dict[str, Any]]]) -> list[dict[str, Any]] | None:
    """Join a group's pieces: all seeds of the first arm first, as one program returns them; None if one is missing.

    Examples
    --------
    >>> left, right = Piece(0, range(0, 1), range(0, 2)), Piece(0, range(1, 2), range(0, 2))
    >>> rows = {left: [{"arm": "a"}, {"arm": "b"}], right: [{"arm": "a, too"}, {"arm": "b, too"}]}
    >>> [row["arm"] for row in put_in_order((2, 2), rows)]
    ['a', 'a, too', 'b', 'b, too']
    """
    seeds, arms = shape
    places = {
        (arm, seed): row
        for piece, rows in done.items()
        for (arm, seed), row in zip([(arm, seed) for arm in piece.arms for seed in piece.seeds], rows, strict=True)
    }
    if len(places) < seeds * arms:
        return None
    return [places[arm, seed] for arm in range(arms) for seed in range(seeds)]


def gpus_seen() -> list[torch.device]:
    """Return all GPUs that torch sees; ``CUDA_VISIBLE_DEVICES`` hides some.

    Examples
    --------
    >>> len(gpus_seen()) == torch.cuda.device_count()
    True
    """
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
