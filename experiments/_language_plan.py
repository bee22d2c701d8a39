"""Which students experiment ``language`` trains: sizes, arms, and stages, of which later ones read earlier ones."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

RANDOM, COPIED = "random start", "teacher's layers"
CHOICE_SEED = 100

# Weights to choose from, for each term; the first counts where a choice is missing.
GRID = {
    "logits": {"kd": (0.5, 0.9)},
    "embedding": {"embedding": (1.0, 10.0)},
    "attention scores": {"scores": (0.1, 1.0)},
    "attention probabilities": {"probabilities": (1.0, 10.0)},
    "hidden states": {"hidden": (1.0, 10.0)},
    "MiniLM": {"minilm": (1.0, 10.0)},
    "triple loss": {"triple": (1.0, 4.0)},
}
RATES = {
    (256, RANDOM): (1e-3, 2e-3),
    (256, COPIED): (3e-4, 1e-3),
    (128, RANDOM): (1e-3, 2e-3),
    (64, RANDOM): (2e-3, 5e-3),
}
ALL = ("no_teacher", "label_smoothing", *GRID, "all together")
FEW = ("no_teacher", "label_smoothing", "logits", "attention probabilities")
NARROW = ("no_teacher", "label_smoothing", "logits", "attention probabilities", "hidden states", "MiniLM")


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiment.

    Attributes
    ----------
    labelled, copies, unlabelled : int
        Definitions with a label, how often each comes, and definitions without one.
    batch_size : int
    test, test_words, held_out : int
        Definitions that are evaluated.
    max_length : int
        Tokens; longer definitions are cut.
    seeds : int
    """

    labelled: int = 1000
    copies: int = 4
    unlabelled: int = 5600
    batch_size: int = 32
    test: int = 3000
    test_words: int = 1000
    held_out: int = 2000
    max_length: int = 32
    seeds: int = 5

    @property
    def rows(self) -> int:
        """Texts that a student reads."""
        return self.labelled * self.copies + self.unlabelled

    @property
    def steps(self) -> int:
        """Steps of a student."""
        return math.ceil(self.rows / self.batch_size)


@dataclass(frozen=True)
class Task:
    """One student to train."""

    block: str
    width: int
    start: str
    arm: str
    seed: int
    lr: float
    weights: tuple[tuple[str, float], ...] = ()

    @property
    def key(self) -> str:
        """What tells this run from others, its settings included."""
        return json.dumps(asdict(self), sort_keys=True)


def weights_of(arm: str, chosen: dict[str, float]) -> tuple[tuple[str, float], ...]:
    """Return the weights of an arm's terms, from those that were chosen."""
    if arm == "all together":
        return tuple((term, chosen[term]) for name in GRID for term in GRID[name] if term != "scores")
    return tuple((term, chosen[term]) for term in GRID.get(arm, ()))


def stages(settings: Settings, done: dict[str, dict]) -> Iterator[list[Task]]:
    """Yield the tasks of each stage; a stage may read in ``done`` what an earlier one found."""
    rates = [
        Task("choice", width, start, "no_teacher", CHOICE_SEED, lr)
        for (width, start), candidates in RATES.items()
        for lr in candidates
    ]
    yield rates
    lr = {kind: _best(done, [task for task in rates if (task.width, task.start) == kind]).lr for kind in RATES}
    choices = [
        Task("choice", 256, RANDOM, arm, CHOICE_SEED, lr[256, RANDOM], ((term, weight),))
        for arm, terms in GRID.items()
        for term, candidates in terms.items()
        for weight in candidates
    ]
    yield choices
    chosen = dict(
        _best(done, [task for task in choices if task.weights[0][0] == term]).weights[0]
        for terms in GRID.values()
        for term in terms
    )
    plan = [
        ("1,000 labels", 256, (RANDOM, COPIED), ALL),
        ("student of width 128", 128, (RANDOM,), NARROW),
        ("narrow student", 64, (RANDOM,), NARROW),
        ("all labels", 256, (RANDOM, COPIED), FEW),
    ]
    for block, width, starts, arms in plan:
        yield [
            Task(block, width, start, arm, seed, lr[width, start], weights_of(arm, chosen))
            for seed in range(settings.seeds)
            for start in starts
            for arm in arms
        ]


def _best(done: dict[str, dict], tasks: list[Task]) -> Task:
    return min(tasks, key=lambda task: done[task.key]["held_out_errors"])
