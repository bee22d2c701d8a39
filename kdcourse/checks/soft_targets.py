"""Checks of exercise 02, soft targets: the loss of sequences, a repair, two questions, a paired interval.

``check_kd_loss`` checks the loss of chapter 02, which is a turn there.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from .. import losses
from ..results import mean_interval
from .cases import Case, new_generator, random_labels, random_sizes, random_tensor
from .comparing import check_edge, check_values
from .documented import takes_answers, takes_function, takes_verdicts
from .failures import passed
from .gradients import check_gradients
from .questions import Question, check_answers
from .slips.intervals import INTERVAL
from .slips.padding import PADDED_KD, padded_kd_loss
from .slips.soft_targets import DISTILLATION, KD, SURE_TEACHER
from .verdicts import check_verdicts

_kd_loss, _distillation_loss = losses.kd_loss, losses.distillation_loss
BASELINES = ("no_teacher", "label_smoothing")
TERMS = ("the teacher's term", "the labels' term")
NO_GRADIENT = "No gradient reaches the student's logits, so it learns nothing: is something detached too much?"
NOT_DETACHED = (
    "A gradient reaches the teacher's logits. The teacher is a fixed target: training would change it to be imitated "
    "more easily."
)
GRADIENTS = {"student_logits": (NO_GRADIENT, ""), "teacher_logits": ("", NOT_DETACHED)}
NOT_LOG_SPACE = (
    "For a {} that is very sure the loss is wrong: a probability was rounded to 0 (or lifted to a small number) before "
    "its logarithm was taken. Stay in log space (trap 4)."
)


@takes_function
def check_kd_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_logits, teacher_logits, *, temperature)``, the loss of chapter 02.

    Parameters
    ----------
    function : callable
        Takes two tensors of shape (B, K) and a temperature; returns the loss of ``kdcourse.losses.kd_loss``.
    """
    passed(verify_kd_loss(function, seed=seed))


def verify_kd_loss(function: Callable, *, seed: int | None = None) -> str:
    """Verify a loss as `check_kd_loss` does, and return what was verified instead of printing it."""
    cases = logit_cases(new_generator(seed))
    check_values(function, _kd_loss, cases, slips=KD)
    _check_extremes(function, _kd_loss, cases[0], {"temperature": 1.0})
    check_gradients(function, _kd_loss, cases[0], messages=GRADIENTS)
    return (
        f"The value agrees with T² KL(teacher‖student) on {len(cases)} random batches with T from 0.5 to 20, it stays "
        "finite for a teacher that is sure, and no gradient reaches the teacher."
    )


@takes_function
def check_padded_kd_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_logits, teacher_logits, mask, *, temperature)`` of exercise 02, task 1.

    Parameters
    ----------
    function : callable
        Takes two tensors of shape (B, L, K), a mask of truth values of shape (B, L) and a temperature; returns the mean
        of the loss over the positions at which the mask is True.
    """
    generator = new_generator(seed)
    cases = [sentences(generator, temperature) for temperature in (0.5, 3.0, 8.0, 20.0)]
    check_values(function, padded_kd_loss, cases, slips=PADDED_KD)
    student, teacher, mask = cases[1].args
    knobs = cases[1].kwargs
    noise = 1e4 * random_tensor(generator, *student.shape) * ~mask[..., None]
    one = torch.zeros_like(mask)
    one[0, 0] = True
    edges = {
        "a batch without padding": (student, teacher, torch.ones_like(mask)),
        "a sentence of padding only": (student, teacher, mask & (torch.arange(len(mask)) > 0)[:, None]),
        "a single position that counts": (student, teacher, one),
        "padding that holds large numbers": (student + noise, teacher - noise, mask),
    }
    for edge, args in edges.items():
        message = f"Ordinary batches are right, but not {edge}: only positions with a True in the mask count."
        check_edge(function, padded_kd_loss, [Case(args, knobs)], message, edge=edge)
    for who, args in {"teacher": (student, 1e4 * teacher, mask), "student": (40 * student, teacher, mask)}.items():
        edge, message = f"a {who} that is very sure", NOT_LOG_SPACE.format(who)
        check_edge(function, padded_kd_loss, [Case(args, {"temperature": 1.0})], message, edge=edge)
    check_gradients(function, padded_kd_loss, cases[1], messages=GRADIENTS)
    passed(
        f"On {len(cases)} random batches of sentences the mean runs over the positions that count. Padding has no "
        "effect, whatever stands in it; the loss stays finite for a sure teacher, and no gradient reaches the teacher."
    )


@takes_function
def check_repaired_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(student_logits, teacher_logits, labels, *, temperature, alpha)`` of exercise 02, task 2.

    Parameters
    ----------
    function : callable
        Takes logits of shape (B, K) twice and labels (B,); returns α T² KL + (1 - α) cross-entropy.
    """
    generator = new_generator(seed)
    cases = [labelled(case, generator, alpha=float(generator.uniform(0.1, 0.4))) for case in logit_cases(generator)]
    cases[1:] = [Case(case.args, {**case.kwargs, "alpha": 1 - case.kwargs["alpha"]}) for case in cases[1:]]
    check_values(function, _distillation_loss, cases, slips=DISTILLATION, terms=TERMS)
    for alpha in (0.0, 1.0):
        case = Case(cases[0].args, {**cases[0].kwargs, "alpha": alpha})
        check_edge(function, _distillation_loss, [case], f"For α = {alpha:g} the loss is wrong.", edge=f"α = {alpha:g}")
    check_gradients(function, _distillation_loss, cases[0], messages=GRADIENTS, terms=TERMS)
    passed(
        f"On {len(cases)} random batches: sum over classes, mean over images, T² in front of the teacher's term only, "
        "α on the teacher, labels at T = 1, and the teacher gets no gradient."
    )


@takes_function
def check_paired_interval(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(errors, baseline_errors)`` of exercise 02, task 4: a paired difference with its interval.

    Parameters
    ----------
    function : callable
        Takes two lists of numbers, a pair per seed; returns ``(difference, low, high)``.
    """
    generator = new_generator(seed)
    cases = []
    for count in (3, 5, 8):
        luck = generator.normal(300, 40, count)  # what both runs of a seed share
        errors = [(luck + shift + generator.normal(0, 6, count)).round(1).tolist() for shift in (-15, 0)]
        cases.append(Case(tuple(errors)))
    # Quantiles in tables are rounded: an end near 0 is right to a few thousandths.
    check_values(function, paired_interval, cases, slips=INTERVAL, atol=0.01)
    same = Case(([310.0, 290.0, 305.0], [320.0, 300.0, 315.0]))
    message = "If all seeds have the same difference, both ends are this difference."
    check_edge(function, paired_interval, [same], message, edge="the same difference in every seed", atol=0.01)
    passed("The difference is paired, method minus baseline, and its interval is Student's for 3, 5 and 8 seeds.")


@takes_answers
def check_gradient_picture(answers: Any) -> None:
    """Check the two answers of exercise 02, task 3, about the gradient against T."""
    check_answers(answers, QUESTIONS)


@takes_verdicts
def check_soft_target_verdicts(verdicts: Any, errors: Mapping[str, Any]) -> None:
    """Check both verdicts of exercise 02, task 4: the distilled students against each baseline."""
    check_verdicts(verdicts, errors, {baseline: ("distilled", baseline) for baseline in BASELINES})


QUESTIONS = (
    Question(
        right="b",
        wrong={
            "a": "read the lower curve at T = 8 and at T = 16 on its logarithmic axis.",
            "c": "that would be one factor 1/T. A second one hides in q - p: both rows move towards 1/K.",
        },
        because="without T² the gradient falls like 1/T²: one 1/T from the chain rule, one from q - p",
    ),
    Question(
        right="c",
        wrong={
            "a": "look at the upper curve from T = 0.5 to T = 4: it is not level.",
            "b": "a factor can always be multiplied; ask where the softmax is nearly linear.",
        },
        because="q - p is proportional to 1/T only where the logits are small against T; below, T² promises too much",
    ),
)


def logit_cases(generator: np.random.Generator, temperatures: tuple = (0.5, 3.0, 8.0, 20.0)) -> list[Case]:
    """Return student's and teacher's logits with a temperature, in random shapes."""
    cases = []
    for temperature in temperatures:
        batch, classes = random_sizes(generator, (3, 9), (4, 12))
        logits = [random_tensor(generator, batch, classes, scale=3) for _ in range(2)]
        cases.append(Case(tuple(logits), {"temperature": temperature}))
    return cases


def sentences(generator: np.random.Generator, temperature: float) -> Case:
    """Return logits of sentences, and a mask that is True for the first positions of each; no two lengths are equal."""
    batch, length, classes = random_sizes(generator, (3, 5), (6, 9), (4, 12))
    logits = [random_tensor(generator, batch, length, classes, scale=3) for _ in range(2)]
    lengths = torch.from_numpy(generator.permutation(np.arange(2, length))[:batch])  # (B,), all shorter than L
    mask = torch.arange(length) < lengths[:, None]  # (B, L)
    return Case((*logits, mask), {"temperature": temperature})


def labelled(case: Case, generator: np.random.Generator, **knobs: Any) -> Case:
    """Return a case of logits with random labels behind them and further knobs."""
    return Case((*case.args, random_labels(generator, *case.args[0].shape)), {**case.kwargs, **knobs})


def paired_interval(errors: list[float], baseline_errors: list[float]) -> tuple[float, float, float]:
    """Return the mean difference by seed and both ends of its interval."""
    return mean_interval([a - b for a, b in zip(errors, baseline_errors, strict=True)])


def _check_extremes(function: Callable, right: Callable, case: Case, knobs: dict[str, Any]) -> None:
    student, teacher = case.args
    for who, logits in {"teacher": (student, 1e4 * teacher), "student": (4 * student, teacher)}.items():
        edge, message = f"a {who} that is very sure", NOT_LOG_SPACE.format(who)
        check_edge(function, right, [Case(logits, knobs)], message, edge=edge, slips=SURE_TEACHER)
    one = Case((student[:1], teacher[:1]), case.kwargs)
    check_edge(function, right, [one], "A batch of one image gets a wrong loss.", edge="a batch of one image")
