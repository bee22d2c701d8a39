# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 09: the term of attention, the map of places, the term of words. Padding is in none."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cases import Case, new_generator, random_tensor, seeded_cases
from ..comparing import check_edge, check_values
from ..failures import fail
from ..slips import Slip, Slips
from ..slips.attention_rows import ATTENTION, ATTENTION_EDGES, ATTENTION_GRADIENTS
from ..slips.language import LAYER_MAP
from ..slips.word_terms import VOCABULARY, WORD_EDGES, WORD_GRADIENTS, WORDS
from . import Turn, compared

LENGTHS = ((5, 3, 4), (6, 2), (3, 4, 6, 2))
WITH_AN_EMPTY_TEXT, NOTHING_REAL = (4, 0, 2), (0, 0)


def attention_term(student_attention, teacher_attention, real):
    """Return the divergence of the rows of real tokens."""
    p = teacher_attention.detach().clamp(min=1e-30)  # (B, heads, L, L): 0 has no logarithm
    q = student_attention.clamp(min=1e-30)
    divergence = (p * (p.log() - q.log())).sum(dim=-1)  # (B, heads, L)
    rows = divergence.transpose(1, 2)[real.bool()]  # (real tokens, heads)
    return rows.mean()


def places(student_blocks, teacher_blocks):
    """Return the teacher's place that each place of the student learns from."""
    if teacher_blocks % student_blocks:
        raise ValueError(f"{teacher_blocks} blocks are no multiple of {student_blocks}")
    k = teacher_blocks // student_blocks
    return {place: place * k for place in range(student_blocks + 1)}  # place 0 holds the embeddings


def word_term(student_logits, teacher_logits, real, temperature):
    """Return the divergence of the words of real tokens."""
    log_q = F.log_softmax(student_logits / temperature, dim=-1)  # (B, L, V)
    log_p = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)  # (B, L, V)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (B, L)
    return temperature**2 * (divergence * real).sum() / real.sum().clamp(min=1)


def _term(
    right: Callable, cases: Callable[..., list[Case]], outcome: Callable, *, slips: Slips, edges: Slips,
    edge_cases: Mapping[str, Any], gradients: Slips, otherwise: str, verified: str, note: str,
) -> Turn:  # fmt: skip
    """Return a turn that looks at the loss first, then at its edges, and at its gradients when the loss is right."""

    def verify(function: Callable) -> str:
        settings: dict[str, Any] = {"probing": False}
        check_values(function, right, cases(), slips=slips, otherwise=otherwise, diagnosing=False, **settings)
        for edge, knobs in edge_cases.items():
            check_edge(function, right, cases(**knobs), edges[edge].message, edge=edge, **settings)
        check_values(
            function, right, seeded_cases(None, 2), slips=gradients, through=outcome, diagnosing=False, **settings,
            otherwise="The loss is right, but its gradient is not. Is a part of the student's side detached, or "
            "computed without torch?",
        )  # fmt: skip
        return verified

    return Turn(right, verify, note, {**slips, **edges, **gradients})


def _gradients(loss: object, student: Tensor, teacher: Tensor) -> list:
    """Return the student's gradient, whether the loss belongs to a graph, and whether a gradient reaches the teacher.

    A gradient with a NaN is NaN everywhere, so that it matters only whether there is one.
    """
    if type(loss) is not Tensor or loss.dim() or not loss.requires_grad:
        return [torch.zeros_like(student), 0.0, 0.0]
    mine, theirs = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    mine = torch.zeros_like(student) if mine is None else mine
    mine = mine if bool(mine.isfinite().all()) else torch.full_like(mine, torch.nan)
    return [mine, 1.0, float(theirs is not None and bool((theirs != 0).any()))]


def _mask(lengths: tuple[int, ...]) -> Tensor:
    """Return the tokenizer's mask of texts of these lengths, padded one place further than the longest."""
    return (torch.arange(max(lengths) + 1) < torch.tensor(lengths)[:, None]).long()


# The term of attention


def _scores(seed: int | None, lengths: tuple[int, ...], heads: int) -> tuple[Tensor, Tensor, Tensor]:
    generator, real = new_generator(seed), _mask(lengths)
    size = (3 - 2 * real)[:, None, :, None]  # padded rows differ most
    shape = (len(lengths), heads, real.shape[1], real.shape[1])
    student, teacher = (size * random_tensor(generator, *shape) for _ in range(2))
    return student, teacher, real


def _softmax(scores: Tensor, real: Tensor) -> Tensor:
    """Return attention: that of real tokens is exactly 0 at padding, that of padding is anything."""
    closed = real.bool()[:, None, :, None] & ~real.bool()[:, None, None, :]
    return scores.masked_fill(closed, -torch.inf).softmax(dim=-1)


def _attentions(batches: tuple = LENGTHS) -> list[Case]:
    cases = []
    for place, lengths in enumerate(batches):
        student, teacher, real = _scores(None, lengths, heads=2 + place % 2)
        cases.append(Case((_softmax(student, real), _softmax(teacher, real), real)))
    return cases


def _attention_outcome(function: Callable) -> Callable:
    """Differentiate with respect to scores, as in training, and once with a text of padding only."""

    def outcome(*, seed: int) -> list:
        found = []
        for lengths in (LENGTHS[0], WITH_AN_EMPTY_TEXT):
            student, teacher, real = _scores(seed, lengths, heads=2)
            with torch.enable_grad():
                inputs = student.requires_grad_(), teacher.requires_grad_()
                found += _gradients(function(*(_softmax(scores, real) for scores in inputs), real), *inputs)
        return found

    return outcome


# The map of places


def _as_pairs(function: Callable) -> Callable:
    """Return a number for what came, and the pairs of a dict in the order of its keys."""
    a_dict, a_list, refused, asserted, accepted = range(5)

    def outcome(student_blocks: int, teacher_blocks: int) -> Any:
        try:
            found = function(student_blocks, teacher_blocks)
        except ValueError:
            return [refused]
        except AssertionError:
            return [asserted]
        if teacher_blocks % student_blocks:
            return [accepted]  # whatever came
        if type(found) in (list, tuple, set):
            return [a_list]
        if not isinstance(found, dict):
            given = "None: is a return missing?" if found is None else f"{type(found).__name__}."
            fail(f"Asked for is a dict, such as {{0: 0, 1: 2, 2: 4}}. Got {given}")
        numbers = [number for pair in found.items() for number in pair]
        if not all(isinstance(number, int | float) for number in numbers):
            fail("A place is a whole number, as in {0: 0, 1: 2, 2: 4}, on both sides of the colon.")
        return [a_dict, *(number for pair in sorted(found.items()) for number in pair)]

    return outcome


def _depths() -> list[Case]:
    """Return numbers of blocks: five pairs that divide, three drawn ones, and four that do not."""
    drawn = new_generator(None).integers(2, 6, size=(3, 2)).tolist()
    divides = [(2, 4), (3, 6), (1, 4), (4, 12), (3, 3), *((low, low * k) for low, k in drawn)]
    return [Case(sizes) for sizes in (*divides, (2, 5), (4, 6), (4, 2), (3, 7))]


def _refusing(wrong: Callable) -> Callable:
    """Return the same map, with the right refusal."""
    return lambda s, t: places(s, t) and wrong(s, t)


def _either(*wrong: Callable) -> list[Callable]:
    """Return maps as they are, and with the right refusal: whoever has two mistakes hears of the map first."""
    return [changed for one in wrong for changed in (one, _refusing(one))]


def _to(place: Callable[[int, int, int], int], start: int = 0) -> Callable:
    """Return a map of the student's places from ``start`` on."""
    return lambda s, t: {i: place(i, s, t) for i in range(start, s + 1)}


def _known(name: str, message: str = "") -> Slip:
    """Return a mistake of exercise 09, without the embeddings and with them."""
    wrong = LAYER_MAP[name].wrong
    with_embeddings = [lambda s, t, of_blocks=of_blocks: {0: 0, **of_blocks(s, t)} for of_blocks in wrong]
    return Slip(message or LAYER_MAP[name].message, *_either(*wrong, *with_embeddings))


def _asserting(student_blocks, teacher_blocks):
    assert teacher_blocks % student_blocks == 0
    return places(student_blocks, teacher_blocks)


PLACES_SLIPS = {
    "no embeddings": Slip(
        "Place 0 is missing: the student's embeddings learn from the teacher's.",
        *_either(_to(lambda i, s, t: i * t // s, start=1)),
    ),
    "lengths divided": Slip(
        "The lengths of the two tuples were divided, and the embeddings are in both: 5 // 3 = 1, and the teacher's "
        "upper half teaches nobody (trap 66). Divide the numbers of blocks.",
        *_either(_to(lambda i, s, t: i * ((t + 1) // (s + 1))), _to(lambda i, s, t: i * ((t + 1) // (s + 1)), start=1)),
        *_either(_to(lambda i, s, t: round(i * (t + 1) / (s + 1)))),
        *_either(_to(lambda i, s, t: i * (t + 1) // (s + 1))),
    ),
    "counted from 0": Slip(
        "The blocks are counted from 0, as in a list without embeddings, so the last one is missing or every place is "
        "moved. Place 0 holds the embeddings; the blocks have the places from 1 on.",
        *_either(
            lambda s, t: {i: i * t // s for i in range(s)},
            lambda s, t: {i: (i + 1) * t // s - 1 for i in range(s)},
            lambda s, t: {i: (i + 1) * t // s for i in range(s)},
            lambda s, t: {0: 0, **{i + 1: i * t // s for i in range(s)}},
            lambda s, t: {0: 0, **{i + 1: (i + 1) * t // s - 1 for i in range(s)}},
        ),
    ),
    "one too far": Slip(
        "The student's embeddings learn from a block, and every block from one too late: place i learns from i · k.",
        *_either(_to(lambda i, s, t: i * t // s + 1)),
    ),
    "first blocks": _known(
        "first blocks",
        "These are the teacher's first blocks: its upper half teaches nobody. Block i learns from i · k.",
    ),
    "last blocks": Slip(
        LAYER_MAP["last blocks"].message, *_known("last blocks").wrong, *_either(_to(lambda i, s, t: t - s + i))
    ),
    "all last": _known("all last"),
    "only last": Slip(
        "Only the last block learns. Asked for are all places of the student.",
        *_either(lambda s, t: {s: t}, lambda s, t: {0: 0, s: t}),
    ),
    "turned round": Slip(
        "Keys and values are exchanged: the key is the student's place, the value the teacher's.",
        *_either(
            lambda s, t: {i * t // s: i for i in range(s + 1)},
            lambda s, t: {i * t // s: i for i in range(1, s + 1)},
        ),
    ),
    "teacher's places": Slip(
        "The keys run over the teacher's places. They are the student's: 0 to student_blocks.",
        *_either(
            lambda s, t: {i: i * (t // s) for i in range(t + 1)},
            lambda s, t: {i: i // max(1, t // s) for i in range(t + 1)},
        ),
    ),
    "a list": Slip(
        "A list came. Asked for is a dict from the student's place to the teacher's.",
        *_either(lambda s, t: [i * t // s for i in range(s + 1)]),
    ),
    "no refusal": Slip(
        "places(2, 5) raised no ValueError. 5 is no multiple of 2, so there is no whole k, and the last blocks would "
        "not meet. Refuse such depths; exercise 09 finds a map for them.",
        _to(lambda i, s, t: i * (t // s)),
        lambda s, t: None if t % s else places(s, t),
    ),
    "refuses the wrong ones": Slip(
        "A teacher of 4 blocks and a student of 2 raised a ValueError. 4 is a multiple of 2: refuse only if "
        "teacher_blocks % student_blocks is not 0.",
        lambda s, t: places(t, s) and places(s, t),
        lambda s, t: places(t, s) and {i: i * t // s for i in range(s + 1)},
        lambda s, t: places(s + 1, t + 1) and places(s, t),
        lambda s, t: places(s + 1, t + 1) and {i: i * t // s for i in range(s + 1)},
    ),
    "assert": Slip(
        "The refusal is an assert, which Python leaves out under -O, and which raises an AssertionError. Raise a "
        "ValueError.",
        _asserting,
    ),
}


# The term of words


def _texts(batches: tuple = LENGTHS, scale: float = 2.0) -> list[Case]:
    generator, cases = new_generator(None), []
    for lengths, temperature in zip(batches, (2.0, 3.0, 0.7), strict=False):
        cases.append(Case((*_logits(generator, lengths, scale), temperature)))
    return cases


def _logits(generator: np.random.Generator, lengths: tuple[int, ...], scale: float) -> tuple[Tensor, Tensor, Tensor]:
    real = _mask(lengths)
    size = scale * (3 - 2 * real)[..., None]  # padding differs most
    student, teacher = (size * random_tensor(generator, *real.shape, VOCABULARY) for _ in range(2))
    return student, teacher, real


def _word_outcome(function: Callable) -> Callable:
    """Look at the gradients of a batch with a text of padding only, and of one without a real token."""

    def outcome(*, seed: int) -> list:
        generator, found = new_generator(seed), []
        for lengths in (WITH_AN_EMPTY_TEXT, NOTHING_REAL):
            student, teacher, real = _logits(generator, lengths, 2.0)
            with torch.enable_grad():
                inputs = student.requires_grad_(), teacher.requires_grad_()
                found += _gradients(function(*inputs, real, 2.5), *inputs)
        return found

    return outcome


TURNS = {
    "09.attention": _term(
        attention_term,
        _attentions,
        _attention_outcome,
        slips=ATTENTION,
        edges=ATTENTION_EDGES,
        edge_cases={"a text of padding only": {"batches": (WITH_AN_EMPTY_TEXT,)}},
        gradients=ATTENTION_GRADIENTS,
        otherwise="This is not KL(teacher‖student) of each row, averaged over heads and over the rows of real tokens. "
        "A row is dim=-1, and `real` says which rows count.",
        verified="Losses and gradients agree. Padding has no effect, and a text of padding only changes nothing.",
        note="Columns of padding are exactly 0 on both sides, so the sum over a row ignores them; 0 · log 0 needs the "
        "clamp. Rows of padding are noise, and a mean over all cells counts them (trap 64).",
    ),
    "09.places": compared(
        places,
        _depths,
        slips=PLACES_SLIPS,
        through=_as_pairs,
        probing=False,
        diagnosing=False,
        otherwise="This is not the map asked for: embeddings learn from embeddings, place 0, and block i from block "
        "i · k, with k = teacher_blocks / student_blocks. places(2, 4) is {0: 0, 1: 2, 2: 4}, and depths that do not "
        "divide are a ValueError.",
        verified="Embeddings learn from embeddings, block i from block i · k, the last from the last; other depths are "
        "refused.",
        note="Divide the numbers of blocks. The two tuples are one longer than that, so their lengths would give "
        "5 // 3 = 1, and the teacher's upper half would teach nobody (trap 66).",
    ),
    "09.words": _term(
        word_term,
        _texts,
        _word_outcome,
        slips=WORDS,
        edges=WORD_EDGES,
        edge_cases={
            "a text of padding only": {"batches": (WITH_AN_EMPTY_TEXT,)},
            "very sure logits": {"scale": 100.0},
            "a batch without a real token": {"batches": (NOTHING_REAL,)},
        },
        gradients=WORD_GRADIENTS,
        otherwise="This is not T² · KL(teacher‖student) of each token's softened words, averaged over the real tokens "
        "of the batch.",
        verified="Losses and gradients agree, for very sure logits too. Padding has no effect, and without a real "
        "token it is 0.",
        note="The divisor is the number of real tokens. With `batchmean` it would be the number of texts, and the loss "
        "would grow with their length (trap 85). `clamp(min=1)` is for a batch without a real token.",
    ),
}
