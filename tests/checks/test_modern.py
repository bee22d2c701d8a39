"""Exercise 11: right answers in several styles pass, and each typical mistake gets its own message."""

import re

import pytest
import torch
import torch.nn.functional as F

from kdcourse.checks import (
    CheckFailed,
    check_drawn_kl,
    check_kept_verdict,
    check_modern_questions,
    check_token_mean,
    check_writing_step,
)
from kdcourse.checks.slips.modern import DRAWN, STEP, TOKENS, drawn_kl
from kdcourse.losses import generalized_jsd_loss

CATALOGUES = {
    "drawn": (check_drawn_kl, DRAWN),
    "tokens": (check_token_mean, TOKENS),
    "step": (check_writing_step, STEP),
}
SLIPS = [
    pytest.param(check, slip.message, wrong, id=f"{task}-{name}-{number}")
    for task, (check, slips) in CATALOGUES.items()
    for name, slip in slips.items()
    for number, wrong in enumerate(slip.wrong)
]


def by_cross_entropy(student_logits, teacher_logits, tokens, real):
    ours = F.cross_entropy(student_logits[real], tokens[real], reduction="none")
    with torch.no_grad():
        theirs = F.cross_entropy(teacher_logits[real], tokens[real], reduction="none")
    d = ours - theirs
    return (torch.expm1(d) - d).mean()


def by_loops(parts):
    total = count = 0
    for losses, real in parts:
        for loss, counts in zip(losses.flatten().tolist(), real.flatten().tolist(), strict=True):
            total += loss if counts else 0.0
            count += counts
    return total / count


def by_indexing(parts):
    return torch.cat([losses[real] for losses, real in parts]).mean()


def by_the_package(student, teacher, ids, optimizer):
    real = ids[:, 1:].ne(0)
    optimizer.zero_grad()
    loss = generalized_jsd_loss(student(ids[:, :-1])[real], teacher(ids[:, :-1])[real], beta=1)
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize(
    ("check", "right"),
    [(check_drawn_kl, by_cross_entropy), (check_token_mean, by_loops), (check_token_mean, by_indexing),
     (check_writing_step, by_the_package)],
)  # fmt: skip
def test_right_answers_in_other_styles_pass(check, right):
    for seed in range(4):
        check(right, seed=seed)


def test_the_estimate_has_reverse_kl_as_its_mean():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 1, 5, generator=generator) for _ in range(2))
    tokens = torch.multinomial(student.softmax(-1)[0, 0], 200_000, replacement=True, generator=generator)[:, None]
    logits = [side.expand(len(tokens), 1, 5) for side in (student, teacher)]
    estimate = drawn_kl(*logits, tokens, torch.ones_like(tokens, dtype=torch.bool))
    torch.testing.assert_close(estimate, generalized_jsd_loss(student, teacher, beta=1), rtol=0.02, atol=0)


@pytest.mark.parametrize(("check", "message", "wrong"), SLIPS)
def test_each_slip_gets_its_own_message(check, message, wrong):
    for seed in (0, 3):
        with pytest.raises(CheckFailed, match=re.escape(message)):
            check(wrong, seed=seed)


def test_a_piece_of_padding_alone_is_an_edge_of_its_own():
    def weighted_means(parts):
        counts = [real.sum() for _, real in parts]
        means = [losses[real].mean() for losses, real in parts]
        return sum(mean * count for mean, count in zip(means, counts, strict=True)) / sum(counts)

    with pytest.raises(CheckFailed, match="must add nothing"):
        check_token_mean(weighted_means, seed=0)


def test_stubs_are_told_apart_from_mistakes():
    def stub(*args, **kwargs):
        raise NotImplementedError("not yet")

    for check in (check_drawn_kl, check_token_mean, check_writing_step):
        with pytest.raises(NotImplementedError):
            check(stub)
    with pytest.raises(NotImplementedError):
        check_modern_questions([None] * 4)
    with pytest.raises(NotImplementedError):
        check_kept_verdict(None, [1, 2, 3], [4, 5, 6])


def test_the_questions_know_their_letters():
    check_modern_questions(["b", "c", "a", "c"])
    for place, right in enumerate("bcac"):
        for letter in set("abc") - {right}:
            answers = list("bcac")
            answers[place] = letter
            with pytest.raises(CheckFailed, match=rf"\({letter}\) is not it"):
                check_modern_questions(answers)


def test_the_verdict_is_that_of_the_interval():
    renormalised, bucket = [930, 941, 929, 932, 940], [120, 135, 110, 148, 122]
    check_kept_verdict("better", renormalised, bucket)
    for wrong in ("worse", "unclear"):
        with pytest.raises(CheckFailed, match="interval"):
            check_kept_verdict(wrong, renormalised, bucket)
