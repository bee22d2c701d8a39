"""Checks of exercise 11, modern distillation: KL from drawn words, a mean over tokens, a step on own texts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .cases import Case, new_generator, seeded_cases
from .comparing import check_edge, check_values
from .documented import takes_answers, takes_function
from .failures import fail, passed
from .questions import Question, check_answers
from .slips.modern import DRAWN, END, PAD, STEP, TOKENS, drawn_kl, token_mean, writing_step
from .verdicts import check_verdict

WORDS = 11
EMPTY = "A piece without any real token must add nothing: the mean of no numbers is NaN, and NaN stays."


@takes_function
def check_drawn_kl(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_logits, teacher_logits, tokens, real)`` of exercise 11, task 1.

    Parameters
    ----------
    function : callable
        Takes logits (B, L, V) of student and teacher, the drawn words (B, L) and a mask (B, L); returns the mean over
        the real places of exp(d) - 1 - d with d the teacher's log-probability of the word minus the student's.
    """
    check_values(
        function, drawn_kl, seeded_cases(seed, 3), slips=DRAWN, through=_drawn, probing=False, diagnosing=False,
        otherwise="This is not the mean over the real places of exp(d) - 1 - d, with d = log p - log q of the drawn "
        "word, or its gradient is another. Try two words and one place by hand.",
    )  # fmt: skip
    passed("The estimate of each drawn word, as a mean over the real places, and only the student gets a gradient.")


@takes_function
def check_token_mean(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(parts)`` of exercise 11, task 2.

    Parameters
    ----------
    function : callable
        Takes a list of pairs (losses, real), each of shape (B, L), in which B and L differ from pair to pair; returns
        the mean loss over all real places of all pairs.
    """
    generator = new_generator(seed)
    otherwise = "This is not the sum over all real places of all pieces, divided by how many such places there are."
    cases = [Case((_parts(generator, count),)) for count in (3, 2, 4)]
    check_values(function, token_mean, cases, slips=TOKENS, probing=False, diagnosing=False, otherwise=otherwise)
    empty = _parts(generator, 2)
    empty[1][1][:] = False
    check_edge(function, token_mean, [Case((empty,))], EMPTY, edge="a piece of padding alone")
    passed("Every real token counts the same, however the batch was cut into pieces.")


@takes_function
def check_writing_step(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student, teacher, ids, optimizer)`` of exercise 11, task 3.

    Parameters
    ----------
    function : callable
        Takes two models from token ids (B, L) to logits (B, L, V), the student's texts (B, L), padded, and an
        optimizer; takes one step by reverse KL over places whose next token is real, and returns the loss.
    """
    check_values(
        function, writing_step, seeded_cases(seed, 3), slips=STEP, through=_steps, probing=False, diagnosing=False,
        otherwise="Losses or trained weights are not those of the right step. Compare, in this order: which places "
        "count, which divergence it is, what the sum is divided by, and who gets a gradient.",
    )  # fmt: skip
    passed("Losses and trained weights of three steps agree with the right one, and the teacher stays as it is.")


@takes_answers
def check_modern_questions(answers: Any) -> None:
    """Check the four answers of exercise 11, task 4."""
    check_answers(answers, QUESTIONS)


def check_kept_verdict(verdict: Any, renormalised: Sequence[float], bucket: Sequence[float]) -> None:
    """Check ``"better"``, ``"worse"`` or ``"unclear"`` against the paired 95 % interval; exercise 11, task 5.

    Parameters
    ----------
    verdict : str
        Word that the learner chose for the bucket.
    renormalised, bucket : sequence of float
        Images with a wrong rest, by seed, in the same order; fewer are better.

    Raises
    ------
    CheckFailed
        With what the interval says.
    """
    check_verdict(verdict, bucket, renormalised)


QUESTIONS = (
    Question(
        right="b",
        wrong={
            "a": "forward KL is weighted by the teacher: what the teacher likes and the student lacks costs most.",
            "c": "β = ½ compares both with their mixture and lies in between.",
        },
        because="reverse KL is weighted by the student's own probabilities, so a mode that it never visits is free",
    ),
    Question(
        right="c",
        wrong={
            "a": "more steps bring the student nearer to its target, and the target itself is too sure.",
            "b": "a temperature cannot bring back what was left out before it.",
        },
        because="the target says 0 for everything that was cut off: a bucket, or sampled words, say what is left",
    ),
    Question(
        right="a",
        wrong={
            "b": "likelihood by the teacher went up in the printed table, and that is what it measures.",
            "c": "look at the last column: the same two words come again and again.",
        },
        because="a text that repeats what the teacher likes is likely, and has few different pairs",
    ),
    Question(
        right="c",
        wrong={
            "a": "the ids are in range, so no error is raised: that is what makes it dangerous.",
            "b": "the teacher does read something: other words than the student wrote.",
        },
        because="equal numbers mean other pieces there; decode the text and encode it anew (trap 88)",
    ),
)


def _drawn(function: Callable) -> Callable:
    """Return the loss and both gradients, for texts of different lengths."""

    def outcome(*, seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        student, teacher = (1.5 * torch.randn(4, 6, WORDS, generator=generator) for _ in range(2))
        tokens = torch.randint(WORDS, (4, 6), generator=generator)
        real = torch.arange(6) < torch.tensor([6, 2, 4, 3])[:, None]
        student.requires_grad_()
        teacher.requires_grad_()
        with torch.enable_grad():
            loss = function(student, teacher, tokens, real)
            if type(loss) is not Tensor or loss.dim() or not loss.requires_grad:
                return [loss, torch.zeros_like(student), torch.zeros_like(teacher)]
            gradients = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
        return [loss.detach(), *(torch.zeros_like(student) if part is None else part for part in gradients)]

    return outcome


def _parts(generator: np.random.Generator, count: int) -> list[tuple[Tensor, Tensor]]:
    """Return pieces of a batch, whose texts and lengths differ, with numbers at padded places too."""
    parts = []
    for place in range(count):
        rows, longest = 2 + (place + 1) % 3, 4 + 2 * place
        losses = torch.from_numpy(generator.uniform(0.5, 6.0, size=(rows, longest)).astype(np.float32))
        lengths = torch.from_numpy(generator.integers(1, longest, size=rows))
        parts.append((losses, torch.arange(longest) < lengths[:, None]))
    return parts


class _Writer(nn.Module):
    """Logits for the next token from the token itself and the mean of those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8)
        self.output = nn.Linear(8, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        words = self.words(ids)  # (B, L, D)
        before = words.cumsum(dim=1) / torch.arange(1, ids.shape[1] + 1)[:, None]
        return self.output((words + before).tanh())


def _steps(function: Callable) -> Callable:
    """Return the losses of three steps, the student's weights, and the teacher's gradients."""

    def outcome(*, seed: int) -> list:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            student, teacher = _Writer(), _Writer()
            optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
            losses = []
            for lengths in ((6, 3, 4), (2, 6, 5), (4, 6, 3)):
                ids = torch.randint(4, WORDS, (3, 6))
                for row, length in zip(ids, lengths, strict=True):
                    row[length:] = PAD
                    if length < 6:  # a text of six tokens was cut off
                        row[length - 1] = END
                losses.append(function(student, teacher, ids, optimizer))
        if any(type(loss) not in (float, int, Tensor, np.float32, np.float64) for loss in losses):
            fail(f"the loss of the step is needed, a number, got {type(losses[0]).__name__}.")
        gradients = [0.0 if part.grad is None else float(part.grad.abs().sum()) for part in teacher.parameters()]
        numbers = [float(loss.detach()) if type(loss) is Tensor else float(loss) for loss in losses]
        return [numbers, *(weight.detach() for weight in student.state_dict().values()), gradients]

    return outcome
