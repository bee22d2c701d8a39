"""Students of experiment ``modern`` that say the next token: from kept targets, and from their own texts."""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments._modern_plan import Rows
from experiments._modern_students import Size
from experiments._rows import measured
from experiments.measures import calibration_error
from kdcourse import zoo
from kdcourse.data.definitions import load_definitions
from kdcourse.data.tokens import LengthBatches, encode, load_tokenizer
from kdcourse.losses import kd_loss, sampled_kd_loss, sampled_targets, top_kd_loss, top_targets
from kdcourse.models.language import predict_kinds
from kdcourse.models.modes import evaluating
from kdcourse.models.writer import Texts, make_writer, next_tokens, start_with_kind, text_loss, write
from kdcourse.recipes.judging import as_words, judge_texts
from kdcourse.recipes.writing import WrittenTexts, make_writer_objective, text_objective
from kdcourse.training import fit, train

KEPT = 8
LONGEST = 24
CACHED_ARMS = ("labels", "all logits", "top-8 renormalised", "top-8 with a bucket", "8 sampled")
WRITER_ARMS: dict[str, dict[str, Any]] = {
    "teacher's texts": {"by": "teacher"},
    "teacher's texts, KL": {"by": "teacher", "beta": 0.0},
    "on-policy, β = 0": {"by": "student", "beta": 0.0},
    "on-policy, β = 1": {"by": "student", "beta": 1.0},
}


class Lengths(NamedTuple):
    """Steps and texts of the two blocks."""

    cached_texts: int = 2000
    cached_epochs: int = 4
    start_steps: int = 64
    steps: int = 25
    batch_size: int = 32
    judged: int = 192
    page: int = 24
    tested: int = 300


TINY = Lengths(40, 1, 2, 2, 4, 24, 24, 40)


class Ground(NamedTuple):
    """Teacher, classifier, and definitions that begin with their kind."""

    teacher: nn.Module
    classifier: Callable[[Tensor, Tensor], Tensor]
    train: Texts
    test: Texts
    kinds: Tensor
    tokenizer: Any


def lengths_of(size: Size) -> Lengths:
    """Sizes of a run."""
    return TINY if size.tiny else Lengths()


@lru_cache
def ground(teachers: str | None, tested: int) -> Ground:
    """Load the teacher and a classifier, and texts of at most 24 tokens."""
    definitions, tokenizer = load_definitions(), load_tokenizer()
    train_split, test_split = definitions.train, definitions.test.take(tested)
    texts = []
    for split in (train_split, test_split):
        ids, mask = encode(tokenizer, split.texts, max_length=LONGEST)
        texts.append(Texts(start_with_kind(ids, split.labels), mask))
    teacher, classifier = zoo.load("writing_teacher", folder=teachers), zoo.load("definitions_teacher")
    return Ground(teacher, partial(predict_kinds, classifier), *texts, train_split.labels, tokenizer)


def logits_of_tokens(writer: nn.Module, texts: Texts) -> tuple[Tensor, Tensor]:
    """Logits (real tokens, V) at every place of many texts, and the token that follows."""
    logits, follows = [], []
    with evaluating(writer):
        for ids, mask in zip(texts.input_ids.split(100), texts.attention_mask.split(100), strict=True):
            tokens, real = next_tokens(ids, mask)
            logits.append(writer(ids[:, :-1], attention_mask=mask[:, :-1]).logits[real])
            follows.append(tokens[real])
    return torch.cat(logits), torch.cat(follows)


# --- targets that were kept -------------------------------------------------------------------------------------


@lru_cache
def kept_answers(teachers: str | None, lengths: Lengths) -> tuple[Texts, Tensor, Tensor]:
    """Texts, the teacher's logits for every token in half precision, and where each text's tokens begin among them."""
    there = ground(teachers, lengths.tested)
    texts = Texts(*(each[: lengths.cached_texts] for each in there.train))
    counts = texts.attention_mask.sum(dim=1) - 1
    return texts, logits_of_tokens(there.teacher, texts)[0].half(), counts.cumsum(dim=0) - counts


def answers_as(arm: str, logits: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return what is kept on disk of logits (N, V): classes, and numbers in half precision."""
    if arm == "8 sampled":
        return tuple(sampled_targets(logits.float(), KEPT, generator=generator))
    return tuple(top_targets(logits.float(), KEPT))


def renormalised(indices: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What much public code makes of kept logits: the kept classes sum to 1, and nothing is left for the others."""
    return indices, log_probs.log_softmax(dim=-1), torch.full(log_probs.shape[:-1], -torch.inf)


def bytes_of(arm: str, tokens: int, vocabulary: int) -> int:
    """Bytes on disk: 2 for a class, 2 for a number in half precision; sampled at exponent 1 all weights are equal."""
    each = {"labels": 2, "all logits": 2 * vocabulary, "8 sampled": 2 * KEPT, "top-8 with a bucket": 4 * KEPT + 2}
    return tokens * each.get(arm, 4 * KEPT)


def run_cached(teachers: str | None, lengths: Lengths, *, arm: str, seed: int, **_: Any) -> Mapping[str, float]:
    """Train one student on texts and kept answers, each token's found by the text's number."""
    start = time.process_time()
    texts, logits, begins = kept_answers(teachers, lengths)
    kept: tuple[Tensor, ...] = ()
    if arm not in ("labels", "all logits"):
        generator = torch.Generator().manual_seed(seed)
        kept = tuple(
            torch.cat(column)
            for column in zip(*(answers_as(arm, p, generator) for p in logits.split(2000)), strict=True)
        )
    if arm == "top-8 renormalised":
        kept = renormalised(*kept[:2])

    def objective(student: nn.Module, ids: Tensor, mask: Tensor, begin: Tensor) -> dict[str, Tensor]:
        if arm == "labels":
            return text_objective(student, ids, mask)
        _, real = next_tokens(ids, mask)
        places = (begin[:, None] + torch.arange(real.shape[1]))[real]  # (real tokens,)
        mine = student(ids[:, :-1], attention_mask=mask[:, :-1]).logits[real]
        if arm == "all logits":
            return {"kd": kd_loss(mine, logits[places].float(), temperature=1.0)}
        loss = sampled_kd_loss if arm == "8 sampled" else top_kd_loss
        return {"kd": loss(mine, *(each[places] for each in kept))}

    torch.manual_seed(seed)
    student = make_writer(layers=2, width=64)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
    fit(
        student, (*texts, begins), objective, optimizer, epochs=lengths.cached_epochs, batch_size=lengths.batch_size,
        seed=seed, progress=False, make_batches=LengthBatches,
    )  # fmt: skip
    seconds = time.process_time() - start
    there = ground(teachers, lengths.tested)
    says, follows = logits_of_tokens(student, there.test)
    log_q = says.log_softmax(dim=-1)
    confidence, answer = log_q.max(dim=-1)
    right = (answer == follows).float()
    return {
        "test_loss": round(float(-log_q.gather(-1, follows[:, None]).mean()), 4),
        "overconfidence": round(100 * float((confidence.exp() - right).mean()), 3),
        "calibration_error": round(calibration_error(says, follows), 3),
        "right": round(100 * float(right.mean()), 2),
        "entropy": round(float(-(log_q.exp() * log_q).sum(dim=-1).mean()), 3),
        "bytes": bytes_of(arm, len(logits), logits.shape[1]),
        "tokens": len(logits),
        "seconds": round(seconds, 1),
    }


def cached(size: Size, teachers: str | None) -> Rows:
    """A vocabulary of 6,024: all logits of 2,000 definitions, and what can be kept of them."""
    lengths = lengths_of(size)
    jobs = [
        {"block": "cached", "arm": arm, "texts": lengths.cached_texts, "epochs": lengths.cached_epochs, "seed": seed}
        for seed in range(min(size.seeds, 5))
        for arm in CACHED_ARMS
    ]
    return measured("cached", jobs, partial(run_cached, teachers, lengths))


# --- who writes the texts ---------------------------------------------------------------------------------------


def one_block_of(teacher: nn.Module) -> nn.Module:
    """A student of one block, that starts from the teacher's embeddings and first block, as DistilBERT does."""
    student = make_writer(layers=1, width=192)
    student.load_state_dict(teacher.state_dict(), strict=False)
    return student


@lru_cache(maxsize=1)
def start_of(seed: int, teachers: str | None, lengths: Lengths) -> dict[str, Tensor]:
    """Weights of a student that has read definitions from the dictionary, as every arm of a seed begins."""
    there = ground(teachers, lengths.tested)
    torch.manual_seed(seed)
    student = one_block_of(there.teacher)
    count = lengths.batch_size * lengths.start_steps
    rows = torch.randperm(len(there.kinds), generator=torch.Generator().manual_seed(seed))[:count]
    texts = Texts(*(each[rows] for each in there.train))
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4, weight_decay=0.01, fused=True)
    fit(
        student, texts, text_objective, optimizer, epochs=1, batch_size=lengths.batch_size, seed=seed, progress=False,
        make_batches=LengthBatches,
        make_scheduler=lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    )  # fmt: skip
    return {name: tensor.clone() for name, tensor in student.state_dict().items()}


@lru_cache(maxsize=2)
def texts_of_teacher(seed: int, teachers: str | None, lengths: Lengths) -> tuple[Texts, ...]:
    """The teacher's texts, batch by batch, the same for all arms of a seed."""
    there = ground(teachers, lengths.tested)
    settings = {"steps": lengths.steps, "batch_size": lengths.batch_size, "max_length": LONGEST, "seed": seed}
    return tuple(WrittenTexts(there.teacher, there.kinds, **settings))


def run_writer(
    teachers: str | None, lengths: Lengths, *, arm: str, seed: int, by: str | None, beta: float | None, **_: Any
) -> Mapping[str, Any]:
    """Train one student on from its start, and judge what it writes."""
    there, start = ground(teachers, lengths.tested), time.process_time()
    student = one_block_of(there.teacher)
    student.load_state_dict(start_of(seed, teachers, lengths))
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4, weight_decay=0.01, fused=True)
    objective = text_objective if beta is None else make_writer_objective(there.teacher, beta=beta)
    settings = {"steps": lengths.steps, "batch_size": lengths.batch_size, "max_length": LONGEST, "seed": seed}
    batches = WrittenTexts(student, there.kinds, **settings)
    if by:  # without anybody to write, the start itself is judged
        for _ in train(
            student, texts_of_teacher(seed, teachers, lengths) if by == "teacher" else batches, objective, optimizer
        ):
            pass
    return judged(student, there, lengths) | {"seconds": round(time.process_time() - start, 1)}


def judged(writer: nn.Module, there: Ground, lengths: Lengths) -> dict[str, Any]:
    """Judge texts about every kind, and keep the first of each for the page that shows them."""
    kinds = torch.arange(24).repeat(lengths.judged // 24)
    texts = write(writer, kinds, max_length=LONGEST, generator=torch.Generator().manual_seed(0))
    marks = judge_texts(texts, kinds, teacher=there.teacher, classifier=there.classifier)
    page = Texts(*(each[: lengths.page] for each in texts))
    return {
        "teacher_loss": round(marks.teacher_loss, 4),
        "recognised": round(100 * marks.recognised, 2),
        "distinct": round(100 * marks.distinct, 2),
        "ended": round(100 * marks.ended, 2),
        "tokens": round(float(texts.attention_mask.sum(dim=1).float().mean()) - 1, 2),
        "dictionary_loss": round(text_loss(writer, *there.test), 4),
        "texts": as_words(page, there.tokenizer),
        "token_ids": texts.input_ids.tolist(),  # for another judge; the record leaves them out
    }


def writers(size: Size, teachers: str | None) -> Rows:
    """Five students, each trained on from one start in every arm; the start itself; and the teacher, once."""
    lengths = lengths_of(size)
    run = partial(run_writer, teachers, lengths)
    arms = {"start": {"by": None}, **WRITER_ARMS}
    jobs = [
        {
            "block": "writers",
            "arm": arm,
            "by": None,
            "beta": None,
            **knobs,
            "start": lengths.start_steps,
            "steps": lengths.steps,
            "seed": seed,
        }
        for seed in range(min(size.seeds, 5))
        for arm, knobs in arms.items()
    ]
    return measured("writers", jobs, run)


def references(size: Size, teachers: str | None, folder: Path) -> dict[str, Any]:
    """Judge the teacher's texts and the dictionary's, once: what could be reached."""
    lengths = lengths_of(size)
    there = ground(teachers, lengths.tested)
    of_teacher = judged(there.teacher, there, lengths)
    labels = load_definitions().test.labels[: lengths.judged]
    some = Texts(*(each[: lengths.judged] for each in there.test))
    some, labels = Texts(*(each[: len(labels)] for each in some)), labels[: len(some.input_ids)]
    marks = judge_texts(some, labels, teacher=there.teacher, classifier=there.classifier)
    dictionary = {
        "teacher_loss": round(marks.teacher_loss, 4),
        **{name: round(100 * getattr(marks, name), 2) for name in ("recognised", "distinct", "ended")},
    }
    return {"teacher": of_teacher, "dictionary": dictionary}
