"""Checks of exercise 01, teacher and student: softening, entropy, measuring right, a picture, an ensemble."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from .. import losses, models
from .cases import Case, new_generator, random_labels, random_sizes, random_tensor
from .comparing import check_edge, check_values
from .documented import takes_answers, takes_function, takes_verdicts
from .failures import check_callable, fail, named_like, passed
from .questions import Question, check_answers
from .slips.measuring import ACCURACY, SIZE
from .slips.teacher_and_student import ENSEMBLE, ENTROPY, LARGE_LOGITS, SOFTEN, ZERO_PROBABILITY
from .verdicts import check_verdicts

_soften, _count_parameters, _size_in_bytes = losses.soften, models.count_parameters, models.size_in_bytes
BASELINES = ("one clinic", "the vote", "label_smoothing")
NO_LOGIT = (
    "For members that are sure a logit is not finite or wrong: a mean probability was rounded to 0, and its logarithm "
    "taken. The student's loss would be NaN (trap 4)."
)
WRONG_SHARE = (
    "This is not the share of right answers among all 19 images, in evaluation mode. An answer is right if the class "
    "with the largest logit is the label; each image counts once."
)
WRONG_SIZE = (
    "One of the two numbers is wrong. The first counts all weights and biases, of every layer, frozen or not; the "
    "second adds up numel() · element_size() of all parameters and buffers."
)
ZERO_AMONG_OTHERS = (
    "A row in which one probability is exactly 0 and others are not has a wrong entropy. The zero adds nothing; the "
    "other classes still count. Was a NaN replaced after the sum, so that the whole row was lost?"
)


@takes_function
def check_soften(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(logits, *, temperature)`` of exercise 01, task 1.

    Parameters
    ----------
    function : callable
        Takes logits (B, K); returns the softened probabilities (B, K).
    """
    generator = new_generator(seed)
    cases = []
    for temperature in (0.5, 3.0, 12.0):
        shape = random_sizes(generator, (3, 9), (4, 12))
        cases.append(Case((random_tensor(generator, *shape, scale=3),), {"temperature": temperature}))
    check_values(function, _soften, cases, slips=SOFTEN)
    large = Case((100 * cases[0].args[0],), {"temperature": 1.0})
    low = Case((-1000 + cases[1].args[0],), {"temperature": 1.0})
    message = (
        "Large logits, or large negative ones, give wrong probabilities: their exponentials leave what a float holds."
    )
    for case in (large, low):
        check_edge(function, _soften, [case], message, slips=LARGE_LOGITS, edge="large logits")
    one = Case((cases[0].args[0][:1],), {"temperature": 2.0})
    check_edge(function, _soften, [one], "A batch of one image gets wrong probabilities.", edge="a batch of one image")
    passed("At T = 0.5, 3 and 12 every row is the softmax of logits / T, for large logits too.")


@takes_function
def check_entropy(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(probabilities)`` of exercise 01, task 1.

    Parameters
    ----------
    function : callable
        Takes rows of probabilities (B, K); returns their entropies (B,), in nats.
    """
    generator = new_generator(seed)
    shapes = [random_sizes(generator, (3, 9), (4, 12)) for _ in range(3)]
    cases = [Case((random_tensor(generator, *shape, scale=2).softmax(dim=-1),)) for shape in shapes]
    check_values(function, _entropy, cases, slips=ENTROPY)
    sure = Case((torch.eye(4)[:3],))
    message = "A row that is sure, with the probabilities 1, 0, 0, 0, has the entropy 0, and got another number."
    check_edge(function, _entropy, [sure], message, slips=ZERO_PROBABILITY, edge="a probability of exactly 0")
    mixed = Case((torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.25, 0.0, 0.5, 0.25], [0.1, 0.2, 0.3, 0.4]]),))
    check_edge(function, _entropy, [mixed], ZERO_AMONG_OTHERS, slips=ZERO_PROBABILITY, edge="one probability of 0")
    one = Case((cases[0].args[0][:1],))
    check_edge(function, _entropy, [one], "A batch of one row must give one entropy, shape (1,).", edge="one row")
    passed("One number per row, in nats: 0 for a sure row, log K for a level one.")


@takes_function
def check_measured_accuracy(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(model, images, labels, *, batch_size)`` of exercise 01, task 2.

    Parameters
    ----------
    function : callable
        Returns the share of images that the model gets right in evaluation mode, and leaves the model as it was.
    """
    generator = new_generator(seed)
    cases = [_accuracy_case(generator, training=training) for training in (True, True, False)]
    check_values(function, _accuracy, cases, slips=ACCURACY, through=_on_a_model, diagnosing=False, probing=False,
                 otherwise=WRONG_SHARE)  # fmt: skip
    for batch_size, edge in {19: "one batch holds all images", 50: "a batch size above the number of images"}.items():
        case = Case(cases[2].args, {"batch_size": batch_size, "training": False})
        message = f"The accuracy is wrong where {edge}."
        check_edge(function, _accuracy, [case], message, through=_on_a_model, edge=edge)
    for case in cases:
        _check_left_alone(function, case)
    passed("Evaluation mode, every image counts once, no gradients, and the model is left as it came.")


@takes_function
def check_measured_size(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(model)`` of exercise 01, task 2: ``(parameters, bytes)``.

    Parameters
    ----------
    function : callable
        Returns the count of weights and biases, and the bytes of parameters and buffers as stored.
    """
    generator = new_generator(seed)
    cases = []
    for half in (False, True, False):
        widths = [int(width) for width in generator.integers(3, 9, size=3)]
        layers = [skip_init(nn.Linear, *pair) for pair in itertools.pairwise(widths)]
        layers[0].requires_grad_(False)
        model = nn.Sequential(layers[0], nn.BatchNorm1d(widths[1]), layers[1])
        cases.append(Case((model.half() if half else model,)))
    before = [_state(case.args[0]) for case in cases]
    check_values(function, _size, cases, slips=SIZE, probing=False, rtol=1e-6, otherwise=WRONG_SIZE)
    if before != [_state(case.args[0]) for case in cases]:
        fail("The model was changed: measuring its size must leave its types and its frozen layers as they were.")
    passed("Frozen layers count, half precision takes half the bytes, and running statistics are stored as well.")


@takes_function
def check_ensemble_logits(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(all_logits)`` of exercise 01, task 4: one teacher from many.

    Parameters
    ----------
    function : callable
        Takes logits (M, B, K) of M members; returns logits (B, K) whose softmax is the members' mean probabilities.
    """
    generator = new_generator(seed)
    shapes = [random_sizes(generator, (2, 5), (5, 8), (8, 12)) for _ in range(3)]
    cases = [Case((random_tensor(generator, *shape, scale=3),)) for shape in shapes]
    check_values(function, _ensemble, cases, slips=ENSEMBLE, through=_as_probabilities)
    sure = Case((100 * cases[0].args[0],))
    check_edge(function, _ensemble, [sure], NO_LOGIT, through=_as_logarithms, edge="members that are very sure")
    one = Case((cases[1].args[0][:1],))
    message = "An ensemble of one member must give this member's own probabilities."
    check_edge(function, _ensemble, [one], message, through=_as_probabilities, edge="an ensemble of one member")
    passed("The softmax of these logits is the mean of the members' probabilities, finite for sure members too.")


@takes_answers
def check_dark_knowledge(answers: Any) -> None:
    """Check the three answers of exercise 01, task 3."""
    check_answers(answers, QUESTIONS)


@takes_verdicts
def check_ensemble_verdicts(verdicts: Any, errors: Mapping[str, Any]) -> None:
    """Check the verdicts of exercise 01, task 4: the distilled student against each baseline."""
    check_verdicts(verdicts, errors, {other: ("distilled", other) for other in BASELINES})


QUESTIONS = (
    Question(
        right="c",
        wrong={
            "a": "a target made from the label alone would have to know that an 8 looks like a 3.",
            "b": "smoothed labels do give the wrong digits something, and every colour here stands for that something.",
        },
        because="smoothing gives every wrong digit the same share on every image: a matrix of one colour",
    ),
    Question(
        right="a",
        wrong={
            "b": "each row is a mean over its own images; how many there were does not show.",
            "c": "that would be a bright column: other digits' images with some 8 in the answer.",
        },
        because="a row's colours are what the teacher takes from the right digit, and here it takes most",
    ),
    Question(
        right="b",
        wrong={
            "a": "look at the two labels again: the numbers come from different images.",
            "c": "a row is a mean over its images, so that a rarer digit is not paler.",
        },
        because="a row speaks of images with that label; an odd 5 may come near a 3 without a 3 coming near a 5",
    ),
)


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


def _size(model: nn.Module) -> tuple[int, int]:
    return _count_parameters(model), _size_in_bytes(model)


def _state(model: nn.Module) -> list:
    return [model.training, *((p.dtype, p.requires_grad, tuple(p.shape)) for p in model.parameters())]


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int) -> Tensor:
    with torch.no_grad():
        answers = torch.cat([model.eval()(some).argmax(dim=1) for some in images.split(batch_size)])
    return (answers == labels).double().mean()


def _ensemble(all_logits: Tensor) -> Tensor:
    return F.log_softmax(all_logits, dim=-1).logsumexp(dim=0)


def _on_a_model(function: Callable) -> Callable:
    """Give a function of a model plain arguments, so that every call has a fresh model."""

    def measure(weight: Tensor, images: Tensor, labels: Tensor, *, batch_size: int, training: bool) -> Any:
        return function(_make_probe(weight, training=training), images, labels, batch_size=batch_size)

    return measure


def _make_probe(weight: Tensor, *, training: bool) -> nn.Module:
    """A model whose answers depend on the mode: it centres on the batch in training mode, on fixed numbers outside."""
    classes, width = weight.shape
    linear, norm = skip_init(nn.Linear, width, classes, bias=False), nn.BatchNorm1d(classes, affine=False)
    linear.weight = nn.Parameter(weight.clone())
    norm.running_mean = weight.sum(dim=1)
    return nn.Sequential(nn.Flatten(), linear, norm).train(training)


def _accuracy_case(generator: np.random.Generator, *, training: bool) -> Case:
    weight, images = random_tensor(generator, 6, 9), random_tensor(generator, 19, 1, 3, 3)
    with torch.no_grad():
        answers = _make_probe(weight, training=False)(images).argmax(dim=1)  # (19,)
    labels = torch.where(random_labels(generator, 19, 3) > 0, answers, (answers + 1) % 6)
    # The small last batch has one right answer of three, the others more: leaving it out always shows.
    labels[:4], labels[16:18], labels[18] = answers[:4], (answers[16:18] + 1) % 6, answers[18]
    labels[4] = (answers[4] + 1) % 6
    return Case((weight, images, labels), {"batch_size": 8, "training": training})


def _check_left_alone(function: Callable, case: Case) -> None:
    weight, images, labels = case.args
    came_in = case.kwargs["training"]
    model = _make_probe(weight, training=came_in)
    recorded = []
    model.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    before = [tensor.clone() for tensor in model.state_dict().values()]
    function(model, images, labels, batch_size=case.kwargs["batch_size"])
    if any(recorded):
        fail(
            "The model's answers keep what a gradient would need. Nobody asks for one here, and on many images it "
            "costs the memory of all of them."
        )
    if not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
        fail("Gradients are switched off for good: whoever trains after this measurement learns nothing.")
    if any(module.training != came_in for module in model.modules()):
        fail(
            "The model came in training mode and is left in evaluation mode: the training that goes on has no dropout "
            "any more (trap 16)."
            if came_in
            else "The model came in evaluation mode and is left in training mode: its next user gets dropout."
        )
    if not all(parameter.requires_grad for parameter in model.parameters()):
        fail("The model came trainable and is left frozen: whoever trains it on learns nothing (trap 14).")
    if not all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True)):
        fail("Weights or running statistics of the model have changed: measuring must not train.")


def _as_probabilities(function: Callable) -> Callable:
    return _through(function, lambda logits: logits.softmax(dim=-1))


def _as_logarithms(function: Callable) -> Callable:
    """Hand the logarithms of the probabilities on, as far as a small number in place of 0 may bend them."""
    return _through(function, lambda logits: torch.where(logits.isfinite(), logits.log_softmax(dim=-1), 1.0).clamp(-18))


def _through(function: Callable, then: Callable[[Tensor], Tensor]) -> Callable:
    """Pass a function's tensor on; whatever else it returns goes to the check as it is."""
    check_callable(function)

    def call(all_logits: Tensor) -> Any:
        value = function(all_logits)
        return then(value.detach()) if type(value) is Tensor and value.dim() > 0 else value

    return named_like(function, call)
