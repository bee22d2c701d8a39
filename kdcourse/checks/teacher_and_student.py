"""Checks of exercise 01, teacher and student: softening, entropy, measuring right, a picture, an ensemble."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from .. import losses, models
from ._core import (
    Case,
    Question,
    Slip,
    check_answers,
    check_values,
    fail,
    name_of,
    new_generator,
    passed,
    random_labels,
    random_tensor,
)
from ._verdicts import check_verdicts

_soften, _count_parameters, _size_in_bytes = losses.soften, models.count_parameters, models.size_in_bytes


def check_soften(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(logits, *, temperature)`` of exercise 01, task 1.

    Parameters
    ----------
    function : callable
        Takes logits (B, K); returns the softened probabilities (B, K).
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for temperature in (0.5, 3.0, 12.0):
        shape = generator.integers((3, 4), (9, 12))
        cases.append(Case((random_tensor(generator, *shape, scale=3),), {"temperature": temperature}))
    check_values(function, _soften, cases, slips=SOFTEN_SLIPS)
    large = Case((100 * cases[0].args[0],), {"temperature": 1.0})
    check_values(function, _soften, [large], slips=[Slip(OVERFLOW, _exponentials)])
    passed("At T = 0.5, 3 and 12 every row is the softmax of logits / T, for large logits too.")


def check_entropy(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(probabilities)`` of exercise 01, task 1.

    Parameters
    ----------
    function : callable
        Takes rows of probabilities (B, K); returns their entropies (B,), in nats.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    shapes = [generator.integers((3, 4), (9, 12)) for _ in range(3)]
    cases = [Case((random_tensor(generator, *shape, scale=2).softmax(dim=-1),)) for shape in shapes]
    check_values(function, _entropy, cases, slips=ENTROPY_SLIPS)
    sure = Case((torch.eye(4)[:3],))
    check_values(function, _entropy, [sure], slips=[Slip(ZERO_TIMES_LOG, _entropy_naive)])
    passed("One number per row, in nats: 0 for a sure row, log K for a level one.")


def check_measured_accuracy(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(model, images, labels, *, batch_size)`` of exercise 01, task 2.

    Parameters
    ----------
    function : callable
        Returns the share of images that the model gets right in evaluation mode, and leaves the model as it was.
    seed : int, optional
        Of model, images and labels; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of a mistake that is still there.
    """
    generator = new_generator(seed)
    cases = [_accuracy_case(generator, training=training) for training in (True, True, False)]
    check_values(_on_a_model(function), _on_a_model(_accuracy), cases, slips=ACCURACY_SLIPS)
    for case in cases:
        _check_left_alone(function, case)
    passed("Evaluation mode, every image counts once, no gradients, and the model is left as it came.")


def check_measured_size(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(model)`` of exercise 01, task 2: ``(parameters, bytes)``.

    Parameters
    ----------
    function : callable
        Returns the count of weights and biases, and the bytes of parameters and buffers as stored.
    seed : int, optional
        Of the models' widths; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    cases = []
    for half in (False, True, False):
        widths = [int(width) for width in generator.integers(3, 9, size=3)]
        layers = [skip_init(nn.Linear, *pair) for pair in itertools.pairwise(widths)]
        layers[0].requires_grad_(False)
        model = nn.Sequential(layers[0], nn.BatchNorm1d(widths[1]), layers[1])
        cases.append(Case((model.half() if half else model,)))
    check_values(function, _size, cases, slips=SIZE_SLIPS, rtol=1e-6)
    passed("Frozen layers count, half precision takes half the bytes, and running statistics are stored as well.")


def check_ensemble_logits(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(all_logits)`` of exercise 01, task 4: one teacher from many.

    Parameters
    ----------
    function : callable
        Takes logits (M, B, K) of M members; returns logits (B, K) whose softmax is the members' mean probabilities.
    seed : int, optional
        Of shapes and numbers; fresh ones without it.

    Raises
    ------
    CheckFailed
        With the name of the probable mistake.
    """
    generator = new_generator(seed)
    shapes = [generator.integers((2, 5, 8), (5, 8, 12)) for _ in range(3)]
    cases = [Case((random_tensor(generator, *shape, scale=3),)) for shape in shapes]
    as_probabilities = functools.partial(_through, then=functools.partial(F.softmax, dim=-1))
    check_values(as_probabilities(function), as_probabilities(_ensemble), cases, slips=ENSEMBLE_SLIPS)
    sure = Case((100 * cases[0].args[0],))
    smallest = functools.partial(_through, then=lambda logits: logits.isfinite().all())
    check_values(smallest(function), smallest(_ensemble), [sure], slips=[Slip(NO_LOGIT, lambda _: False)])
    passed("The softmax of these logits is the mean of the members' probabilities, finite for sure members too.")


def check_dark_knowledge(answers: Any) -> None:
    """Check the three answers of exercise 01, task 3.

    Parameters
    ----------
    answers : sequence of three str
        Letters.

    Raises
    ------
    CheckFailed
        With what speaks against the first wrong letter.
    """
    check_answers(
        answers,
        Question(
            right="c",
            wrong={
                "a": "a target made from the label alone would have to know that an 8 looks like a 3.",
                "b": "smoothed labels do give the wrong digits something, and every colour here stands for that "
                "something.",
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


def check_ensemble_verdicts(verdicts: Any, errors: Mapping[str, Any]) -> None:
    """Check the verdicts of exercise 01, task 4, against paired 95 % intervals.

    Parameters
    ----------
    verdicts : dict from str to str
        For each baseline ``"better"``, ``"worse"`` or ``"unclear"``: the distilled student against it.
    errors : mapping from str to list of float
        Test errors by seed: ``distilled``, and each baseline.

    Raises
    ------
    CheckFailed
        With what the interval of the first wrong verdict says.
    """
    check_verdicts(verdicts, errors, {other: ("distilled", other) for other in ENSEMBLE_BASELINES})


ENSEMBLE_BASELINES = ("one clinic", "the vote", "label_smoothing")
OVERFLOW = (
    "For large logits the result is not finite: their exponentials overflow. Subtract each row's largest logit first, "
    "or leave it to PyTorch's softmax."
)
ZERO_TIMES_LOG = (
    "A probability of exactly 0 makes the entropy NaN: 0 · log 0 counts as 0, and the computer has to be told."
)
NO_LOGIT = (
    "For members that are sure a logit is not finite: a mean probability was rounded to 0, and its logarithm taken. "
    "The student's loss would be NaN (trap 4)."
)


def _exponentials(logits: Tensor, *, temperature: float) -> Tensor:
    powers = (logits / temperature).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


SOFTEN_SLIPS = (
    Slip(
        "The logits are multiplied by T where they must be divided: a larger T then sharpens the row.",
        lambda logits, *, temperature: (logits * temperature).softmax(dim=-1),
    ),
    Slip(
        "T divides the probabilities: the rows no longer sum to 1. It has to divide the logits, before the softmax.",
        lambda logits, *, temperature: logits.softmax(dim=-1) / temperature,
    ),
    Slip(
        "T has no effect: dividing probabilities and making them sum to 1 again gives the old ones.",
        lambda logits, *, temperature: logits.softmax(dim=-1),
    ),
    Slip(
        "The softmax runs over the batch, dim=0. A row of probabilities belongs to one image.",
        lambda logits, *, temperature: (logits / temperature).softmax(dim=0),
    ),
    Slip(
        "These are logarithms of probabilities; the probabilities themselves are asked for.",
        lambda logits, *, temperature: (logits / temperature).log_softmax(dim=-1),
    ),
    Slip(
        "The logits are divided by their row's sum. Probabilities are their exponentials, divided by that sum.",
        lambda logits, *, temperature: logits / logits.sum(dim=-1, keepdim=True),
    ),
)


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


def _entropy_naive(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.log()).sum(dim=-1)


ENTROPY_SLIPS = (
    Slip("The sign is turned round: log p is negative, an entropy is not.", lambda p: -_entropy(p)),
    Slip(
        "This is in bits (logarithm to base 2). Nats are asked for: the natural one.",
        lambda p: _entropy(p) / math.log(2),
    ),
    Slip(
        "This is K times too small: a mean over the classes, where their sum is one entropy.",
        lambda p: _entropy(p) / p.shape[-1],
    ),
    Slip(
        "The sum runs over the images, dim=0. Each image has an entropy of its own.",
        lambda p: torch.special.entr(p).sum(dim=0),
    ),
    Slip(
        "One number came for all rows. Each row has an entropy; their mean comes later.", lambda p: _entropy(p).mean()
    ),
    Slip("One number came for all rows, a sum over everything. Each row has an entropy.", lambda p: _entropy(p).sum()),
    Slip(
        "This is e to the entropy, a number of classes. The entropy itself is asked for.", lambda p: _entropy(p).exp()
    ),
    Slip(
        "The logarithms are not weighted by the probabilities: rare answers then count as much as frequent ones.",
        lambda p: -p.log().sum(dim=-1),
    ),
)


def _on_a_model(function: Callable) -> Callable:
    """Give a function of a model plain arguments, so that every call has a fresh model."""
    if not callable(function):
        fail(f"a function is needed, got {type(function).__name__}.")

    def measure(weight: Tensor, images: Tensor, labels: Tensor, *, batch_size: int, training: bool) -> Any:
        return function(_make_probe(weight, training=training), images, labels, batch_size=batch_size)

    measure.__name__ = name_of(function)
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
    labels[0], labels[16:] = answers[0], (answers[16:] + 1) % 6  # the small last batch is all wrong
    return Case((weight, images, labels), {"batch_size": 8, "training": training})


def _accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int,
    mode: bool | None = False, of_batches: bool = False, drop_last: bool = False,
) -> Tensor:  # fmt: skip
    model.train(model.training if mode is None else mode)
    with torch.no_grad():
        pairs = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        right = [(model(some).argmax(dim=1) == their_labels).double() for some, their_labels in pairs]
    right = [batch for batch in right if len(batch) == batch_size or not drop_last]
    return torch.stack([batch.mean() for batch in right]).mean() if of_batches else torch.cat(right).mean()


def _accuracy_with(transform: Callable = lambda share, labels: share, **changes: Any) -> Callable:
    return _on_a_model(
        lambda model, images, labels, *, batch_size: transform(
            _accuracy(model, images, labels, batch_size=batch_size, **changes), labels
        )
    )


IN_TRAINING_MODE = (
    "The model answers in training mode: dropout and batch statistics are on, so that this is not what it does in use "
    "(trap 11)."
)
OF_BATCHES = (
    "This is the mean of the batches' means: the images of the small last batch count more than the others (trap 10)."
)
BOTH = "The model answers in training mode, and the batches' means are averaged (traps 10 and 11)."
ACCURACY_SLIPS = (
    Slip(BOTH, _accuracy_with(mode=True, of_batches=True)),
    Slip(BOTH, _accuracy_with(mode=None, of_batches=True)),
    Slip(OF_BATCHES, _accuracy_with(of_batches=True)),
    Slip(IN_TRAINING_MODE, _accuracy_with(mode=True)),
    Slip(IN_TRAINING_MODE, _accuracy_with(mode=None)),
    Slip("The small last batch is left out. Its images count as well.", _accuracy_with(drop_last=True)),
    Slip("This is the share of wrong answers, not of right ones.", _accuracy_with(lambda share, _: 1 - share)),
    Slip("This is in percent. A share between 0 and 1 is asked for.", _accuracy_with(lambda share, _: 100 * share)),
    Slip(
        "This counts the right answers; their share of all images is asked for.",
        _accuracy_with(lambda share, labels: share * len(labels)),
    ),
    Slip(
        "The count of right answers is divided by the number of batches, not of images.",
        _accuracy_with(lambda share, labels: share * len(labels) / math.ceil(len(labels) / 8)),
    ),
)  # fmt: skip


def _check_left_alone(function: Callable, case: Case) -> None:
    weight, images, labels = case.args
    came_in = case.kwargs["training"]
    model = _make_probe(weight, training=came_in)
    recorded = []
    model.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    function(model, images, labels, batch_size=case.kwargs["batch_size"])
    if any(recorded):
        fail(
            "The model's answers keep what a gradient would need. Nobody asks for one here, and on many images it "
            "costs the memory of all of them."
        )
    if any(module.training != came_in for module in model.modules()):
        fail(
            "The model came in training mode and is left in evaluation mode: the training that goes on has no dropout "
            "any more (trap 16)."
            if came_in
            else "The model came in evaluation mode and is left in training mode: its next user gets dropout."
        )


def _size(model: nn.Module) -> tuple[int, int]:
    return _count_parameters(model), _size_in_bytes(model)


def _numbers(tensors: Any) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


NO_BUFFERS = (
    "The bytes leave out the buffers: the running mean and variance of a batch normalisation are not learned, but "
    "stored."
)
FOUR_BYTES = "Every number is taken to have 4 bytes; in half precision it has 2, and the counter of batches has 8."
SIZE_SLIPS = (
    Slip(
        "Only what is trained is counted: a frozen layer is as large as any other.",
        lambda model: (_numbers(p for p in model.parameters() if p.requires_grad), _size(model)[1]),
    ),
    Slip(
        "Only what is trained is counted, in bytes too: a frozen layer is as large as any other.",
        lambda model: 2 * (sum(p.numel() for p in model.parameters() if p.requires_grad),),
    ),
    Slip(
        "These are numbers of tensors. A tensor holds many parameters.",
        lambda model: (len(list(model.parameters())), _size(model)[1]),
    ),
    Slip(
        "Buffers are counted as parameters. They are stored, but nothing learns them.",
        lambda model: (_numbers([*model.parameters(), *model.buffers()]), _size(model)[1]),
    ),
    Slip(NO_BUFFERS, lambda model: (_count_parameters(model), _bytes(model.parameters()))),
    Slip(FOUR_BYTES, lambda model: (_count_parameters(model), 4 * _numbers([*model.parameters(), *model.buffers()]))),
    Slip(f"{NO_BUFFERS} {FOUR_BYTES}", lambda model: (_count_parameters(model), 4 * _count_parameters(model))),
    Slip("The size is in kilobytes; bytes are asked for.", lambda model: (_size(model)[0], _size(model)[1] / 1000)),
    Slip("The size is in kilobytes; bytes are asked for.", lambda model: (_size(model)[0], _size(model)[1] / 1024)),
    Slip("The two numbers are swapped: parameters first, then bytes.", lambda model: _size(model)[::-1]),
)


def _through(function: Callable, *, then: Callable[[Tensor], Tensor]) -> Callable:
    """Pass a function's tensor on; whatever else it returns goes to the check as it is."""
    if not callable(function):
        fail(f"a function is needed, got {type(function).__name__}.")

    def call(all_logits: Tensor) -> Any:
        value = function(all_logits)
        return then(value.detach()) if type(value) is Tensor and value.dim() > 0 else value

    call.__name__ = name_of(function)
    return call


def _ensemble(all_logits: Tensor) -> Tensor:
    return F.log_softmax(all_logits, dim=-1).logsumexp(dim=0)


def _ensemble_slip(combine: Callable[[Tensor], Tensor]) -> Callable:
    return lambda all_logits: combine(all_logits).softmax(dim=-1)


ENSEMBLE_SLIPS = (
    Slip(
        "The members' logits are averaged. That is a geometric mean of their probabilities, in which the surest member "
        "outvotes the others.",
        _ensemble_slip(lambda z: z.mean(dim=0)),
    ),
    Slip(
        "The members' logits are added: that multiplies their probabilities, and the result is much too sure.",
        _ensemble_slip(lambda z: z.sum(dim=0)),
    ),
    Slip(
        "These are the mean probabilities, not logits: a softmax on top makes them almost level.",
        _ensemble_slip(lambda z: z.softmax(dim=-1).mean(dim=0)),
    ),
    Slip(
        "The softmax runs over the members or the images. Each row of ten belongs to one image of one member.",
        _ensemble_slip(lambda z: z.softmax(dim=0).mean(dim=0).log()),
    ),
    Slip(
        "The softmax runs over the members or the images. Each row of ten belongs to one image of one member.",
        _ensemble_slip(lambda z: z.softmax(dim=1).mean(dim=0).log()),
    ),
    Slip(
        "Each class has the logit of the member that is surest of it; an ensemble takes a mean.",
        _ensemble_slip(lambda z: z.amax(dim=0)),
    ),
)
