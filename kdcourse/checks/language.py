"""Checks of exercise 09, language: relations of values, a triple loss, a map of blocks, padding, a control."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .cases import Case, new_generator, random_tensor
from .comparing import check_edge, check_refusal, check_values
from .documented import takes_answers, takes_function
from .failures import passed
from .gradients import check_finite_gradient, check_gradients
from .questions import Question, check_answers
from .slips.language import LAYER_MAP, RELATIONS, layer_map, relation_loss
from .slips.triple_loss import TRIPLE, triple_loss
from .verdicts import check_verdict

NO_GRADIENT = "No gradient reaches the student's side, so it learns nothing: is something detached?"
TEACHER_GRADIENT = (
    "A gradient reaches the teacher. It is a fixed target: training would change it to be imitated easily."
)
NOTHING_HIDDEN = (
    "In a batch without a hidden word the loss of hidden words must be 0: a mean over nothing is not a number, and it "
    "spoils every weight (trap 69)."
)
PADDED_TEXT = "A text of padding only must not change the loss of the others."
NOISY_PADDING = "What stands in padding has an effect. It must have none, however large it is."


@takes_function
def check_relation_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_values, teacher_values, real, heads)`` of exercise 09, task 1.

    Parameters
    ----------
    function : callable
        Takes values of shape (B, L, D_s) and (B, L, D_t), the tokenizer's mask (B, L) and a number of heads that
        divides both widths; returns the mean divergence of the relations over heads and real rows.
    """
    generator = new_generator(seed)
    sizes = [((6, 4, 3), 6, 12, 3), ((5, 2), 8, 4, 2), ((3, 7, 4, 6), 4, 12, 4)]  # lengths, D_s, D_t, heads
    cases = []
    for lengths, student_width, teacher_width, heads in sizes:
        real = _mask_of(lengths)
        shape = tuple(real.shape)
        values = (random_tensor(generator, *shape, width) for width in (student_width, teacher_width))
        cases.append(Case((*values, real, heads)))
    check_values(function, relation_loss, cases, slips=RELATIONS)
    student, teacher, real, heads = cases[0].args
    noise = 50 * random_tensor(generator, *real.shape, 1) * (1 - real)[..., None]
    emptied = real * (torch.arange(len(real)) > 0)[:, None]
    edges = {
        "padding that holds large numbers": ((student + noise, teacher - noise, real, heads), NOISY_PADDING),
        "a text of padding only": ((student, teacher, emptied, heads), PADDED_TEXT),
        "a single head": ((student, teacher, real, 1), "With one head the loss is wrong."),
    }
    for edge, (args, message) in edges.items():
        check_edge(function, relation_loss, [Case(args)], message, edge=edge)
    messages = {"student_values": (NO_GRADIENT, ""), "teacher_values": ("", TEACHER_GRADIENT)}
    check_gradients(function, relation_loss, cases[0], messages=messages)
    check_finite_gradient(
        function,
        Case((student, teacher, emptied, heads)),
        message="With a text of padding only a gradient is not finite: its rows have a softmax over nothing. Fill with "
        "a very small number instead of -inf.",
    )
    passed("Widths may differ, both sides have the same heads, and padding is in no row, in no column and in no count.")


@takes_function
def check_triple_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_logits, teacher_logits, words, student_hidden, teacher_hidden, real, *, temperature)``.

    Of exercise 09, task 2.

    Parameters
    ----------
    function : callable
        Takes logits of shape (B, L, K) twice, hidden words (B, L), hidden states (B, L, D) twice and the tokenizer's
        mask (B, L); returns 5 · kd + 2 · mlm + 1 · cosine over real tokens.
    """
    generator = new_generator(seed)
    cases = [
        _texts(generator, lengths, temperature=temperature)
        for lengths, temperature in (((5, 3, 4), 2.0), ((6, 2), 3.0), ((3, 4, 6, 2), 0.7))
    ]
    check_values(function, triple_loss, cases, slips=TRIPLE)
    student, teacher, words, ours, theirs, real = cases[0].args
    knobs = cases[0].kwargs
    nothing = torch.full_like(words, -100)
    check_edge(
        function, triple_loss, [Case((student, teacher, nothing, ours, theirs, real), knobs)], NOTHING_HIDDEN,
        edge="a batch without a hidden word",
    )  # fmt: skip
    noise = [50 * random_tensor(generator, *part.shape) * (1 - real)[..., None] for part in (student, ours)]
    args = (student + noise[0], teacher - noise[0], words, ours + noise[1], theirs - noise[1], real)
    check_edge(function, triple_loss, [Case(args, knobs)], NOISY_PADDING, edge="padding that holds large numbers")
    emptied = real * (torch.arange(len(real)) > 0)[:, None]
    args = (student, teacher, torch.where(emptied.bool(), words, -100), ours, theirs, emptied)
    check_edge(function, triple_loss, [Case(args, knobs)], PADDED_TEXT, edge="a text of padding only")
    transposed = student.mT.contiguous().mT  # the same numbers in another memory layout
    args = (transposed, teacher, words, ours, theirs, real)
    check_edge(
        function, triple_loss, [Case(args, knobs)], "The loss depends on how the logits lie in memory.",
        edge="logits that are not contiguous",
    )  # fmt: skip
    messages = {
        "student_logits": (NO_GRADIENT, ""), "teacher_logits": ("", TEACHER_GRADIENT),
        "student_hidden": (NO_GRADIENT, ""), "teacher_hidden": ("", TEACHER_GRADIENT),
    }  # fmt: skip
    check_gradients(function, triple_loss, cases[0], messages=messages)
    passed("Three terms with three weights over real tokens; hidden words alone are judged, and none is allowed.")


@takes_function
def check_layer_map(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_blocks, teacher_blocks)`` of exercise 09, task 3.

    Parameters
    ----------
    function : callable
        Takes two numbers of blocks; returns ``kdcourse.losses.map_layers`` of them, a dict. A student that is deeper
        is refused.
    """
    fixed = [(2, 4), (4, 6), (3, 4), (4, 10), (5, 12)]
    drawn = new_generator(seed).integers(2, 8, size=(3, 2)).tolist()
    cases = [Case((low, low + more)) for low, more in drawn] + [Case(sizes) for sizes in fixed]
    check_values(
        function, layer_map, cases, slips=LAYER_MAP, through=_as_pairs, probing=False, diagnosing=False,
        otherwise="This is not the map asked for: block i, counted from 1, learns from the teacher block nearest to "
        "i · teacher / student, halves upwards.",
    )  # fmt: skip
    for sizes, edge in (((3, 3), "equal depths"), ((1, 5), "a student of one block")):
        check_edge(
            function, layer_map, [Case(sizes)], f"The map is wrong for {edge}.", edge=edge, through=_as_pairs,
            probing=False,
        )  # fmt: skip
    check_refusal(
        function, Case((6, 4)),
        accepted="A student of 6 blocks got a map to a teacher of 4: several student blocks would copy one teacher "
        "block. Raise a ValueError.",
        other="A student that is deeper than its teacher gave {}. Asked for is a ValueError.",
    )  # fmt: skip
    passed("The nearest block, halves upwards, for any two depths; the last learns from the last, deeper is refused.")


@takes_answers
def check_padding_table(answers: Any) -> None:
    """Check the three answers of exercise 09, task 4."""
    check_answers(answers, QUESTIONS)


def check_control_verdict(verdict: Any, errors: Sequence[float], baseline_errors: Sequence[float]) -> None:
    """Check ``"better"``, ``"worse"`` or ``"unclear"`` for the attention of a random teacher; exercise 09, task 5.

    Parameters
    ----------
    verdict : str
        Word that the learner chose.
    errors, baseline_errors : sequence of float
        Held-out errors by seed, with the random teacher's attention and with labels only.

    Raises
    ------
    CheckFailed
        With what the interval says.
    """
    check_verdict(verdict, errors, baseline_errors)


QUESTIONS = (
    Question(
        right="b",
        wrong={
            "a": "follow its row from left to right: the same two texts get another loss.",
            "c": "it masks columns, and then it divides by a count in which padding is.",
        },
        because="only the mean over real rows is the same whatever stands beside the texts (trap 64)",
    ),
    Question(
        right="a",
        wrong={
            "b": "the two texts are the same in all columns of the table.",
            "c": "no softmax is taken twice in any of the three formulas.",
        },
        because="the sum stays what it is, and the number of cells grows with the square of the length",
    ),
    Question(
        right="c",
        wrong={
            "a": "the table of the vocabulary shrinks with the width only, and a block with its square: look at the "
            "column of the blocks.",
            "b": "compare both columns for the smallest model.",
        },
        because="a block has about 12 · D² parameters, the table 6,000 · D: the narrower, the more of it is table",
    ),
)


def _mask_of(lengths: Sequence[int]) -> torch.Tensor:
    """Return the tokenizer's mask of texts of these lengths, padded one place further than the longest."""
    return (torch.arange(max(lengths) + 1) < torch.tensor(lengths)[:, None]).long()


def _texts(generator: np.random.Generator, lengths: Sequence[int], *, temperature: float) -> Case:
    real = _mask_of(lengths)
    shape = tuple(real.shape)
    logits = [random_tensor(generator, *shape, 7, scale=2) for _ in range(2)]
    hidden = [random_tensor(generator, *shape, 5) for _ in range(2)]
    words = torch.from_numpy(generator.integers(0, 7, size=shape))
    kept = (torch.from_numpy(generator.random(shape)) < 0.3) & real.bool()
    kept[0, :2] = True  # unequal numbers of hidden words
    kept[1, 0] = True
    return Case((*logits, words.masked_fill(~kept, -100), *hidden, real), {"temperature": temperature})


def _as_pairs(function: Callable) -> Callable:
    """Return keys and values of a dict in the order of the keys; anything else as it is."""

    def outcome(student_blocks: int, teacher_blocks: int) -> Any:
        found = function(student_blocks, teacher_blocks)
        return [number for pair in sorted(found.items()) for number in pair] if type(found) is dict else found

    return outcome
