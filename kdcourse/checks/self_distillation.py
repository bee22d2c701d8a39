"""Checks of exercise 06, self-distillation: deep supervision, a forward pass repaired, early exit, an experiment."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import losses
from .cases import Case, new_generator, random_labels, random_sizes, random_tensor, seeded_cases
from .comparing import check_edge, check_values
from .documented import takes_answers, takes_function
from .failures import fail, passed
from .gradients import check_gradients
from .questions import Question, check_answers, check_choice
from .slips.early_exits import BUDGET, EARLY
from .slips.self_distillation import DEEP, DEEP_GRADIENT, FORWARD
from .verdicts import check_verdict

_deep_supervision_loss = losses.deep_supervision_loss
_grad = torch.autograd.grad
TERMS = ("the soft targets' term", "the labels' term of the shallower exits")
WRONG_EXITS = (
    "The logits of an exit are wrong. Follow one image: through stage 0, from there to head 0 and to stage 1, and so "
    "on, with the mean over positions in front of each head and of the classifier."
)
NO_GRADIENT = (
    "No gradient reaches one of the exits, so that it learns nothing: is the loss a plain number, or is something "
    "detached too much?"
)


@takes_function
def check_deep_supervision_loss(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(exit_logits, labels, *, temperature, alpha)`` of exercise 06, task 1.

    Parameters
    ----------
    function : callable
        Takes a list of logits (B, K), deepest exit last, and labels (B,); returns
        ``kdcourse.losses.deep_supervision_loss`` of them.
    """
    generator = new_generator(seed)
    cases = []
    for exits, temperature, alpha in ((3, 3.0, 0.3), (2, 0.7, 0.8), (4, 6.0, 0.6)):
        batch, classes = random_sizes(generator, (5, 9), (5, 12))
        logits = [random_tensor(generator, batch, classes, scale=2) for _ in range(exits)]
        knobs = {"temperature": temperature, "alpha": alpha}
        cases.append(Case((logits, random_labels(generator, batch, classes)), knobs))
    check_values(function, _deep_loss, cases, slips=DEEP, terms=TERMS)
    case = Case(cases[0].args, {"temperature": 3.0, "alpha": 0.0})
    message = "For α = 0 all exits learn from the labels alone, with the weight 1, and the loss is another one."
    check_edge(function, _deep_loss, [case], message, edge="α = 0")
    check_gradients(function, _deep_loss, cases[0], messages={"exit_logits": (NO_GRADIENT, "")}, slips=DEEP_GRADIENT)
    passed("Labels for every exit, α T² KL to the deepest for the shallower ones, summed; the deepest is detached.")


@takes_function
def check_exit_forward(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(stages, auxiliary_heads, classifier, images)`` of exercise 06, task 2.

    Parameters
    ----------
    function : callable
        Runs all stages and returns the logits of every exit, deepest last; features are averaged over positions first.
    """
    cases = seeded_cases(seed, 2)
    check_values(function, _exit_forward, cases, slips=FORWARD, through=_outputs, probing=False, otherwise=WRONG_EXITS)
    stages, heads, classifier, images = _small_network(cases[0].kwargs["seed"])
    function(stages, heads, classifier, images)
    if (len(stages), len(heads)) != (3, 2):
        fail("The list of stages or heads was changed: the next call finds another network. Make a new list.")
    _check_exits_learn(function, cases[0].kwargs["seed"])
    passed("Every stage runs, each exit sees the mean over positions, and the classifier stands after the last stage.")


@takes_function
def check_early_exit(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(exit_logits, *, confidence)``, the rule of early exit, as chapter 06 has it.

    Parameters
    ----------
    function : callable
        Takes a list of logits (N, K), deepest exit last; returns the predicted classes (N,) and the exits taken (N,).
    """
    generator = new_generator(seed)
    cases = []
    for confidence in (0.5, 0.8, 0.95):
        logits = [random_tensor(generator, 200, 4, scale=2.5) for _ in range(3)]
        cases.append(Case((logits,), {"confidence": confidence}))
    check_values(function, _early_exit, cases, slips=EARLY)
    for confidence, exit_taken in ((0.0, "first"), (1.1, "deepest")):
        case = Case(cases[0].args, {"confidence": confidence})
        message = f"At a confidence of {confidence} every image takes the {exit_taken} exit."
        check_edge(function, _early_exit, [case], message, edge=f"a confidence of {confidence}")
    level = Case(
        ([torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 9.0], [9.0, 0.0]])],), {"confidence": 0.5}
    )
    message = (
        "An exit whose largest probability is exactly the confidence is sure enough: 'at least' is >=, and the image "
        "leaves there."
    )
    check_edge(function, _early_exit, [level], message, edge="a probability of exactly the confidence")
    for edge, logits in {
        "one image": [part[:1] for part in cases[0].args[0]],
        "one exit": cases[1].args[0][:1],
    }.items():
        case = Case((logits,), {"confidence": 0.8})
        check_edge(function, _early_exit, [case], f"With {edge} the result is wrong.", edge=edge)
    passed("Each image takes the first exit that is sure enough, and the deepest if none is.")


@takes_function
def check_confidence_choice(function: Callable, *, seed: int | None = None) -> None:
    """Check ``function(exit_logits, costs, *, budget)`` of exercise 06, task 3.

    Parameters
    ----------
    function : callable
        Takes a list of logits (N, K), deepest exit last, and what an image costs that leaves at each exit; returns the
        largest of 0.00, 0.01, …, 1.00 at which the mean cost is at most the budget.
    """
    generator = new_generator(seed)
    cases = []
    for costs, budget in (([1.0, 5.0, 10.0], 5.2), ([2.0, 3.0, 9.0], 4.9), ([0.1, 0.5, 1.03], 0.61)):
        logits = [random_tensor(generator, 400, 4, scale=scale) for scale in (1.5, 2.0, 2.5)]
        cases.append(Case((logits, costs), {"budget": budget}))
    check_values(function, _choose_confidence, cases, slips=BUDGET)
    sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.5, 0.0]])
    level = Case(([torch.cat([sure, sure, sure, unsure]), torch.cat([sure] * 4)], [1.0, 5.0]), {"budget": 2.0})
    message = "A mean cost of exactly the budget keeps to it: 'at most' is <=."
    check_edge(function, _choose_confidence, [level], message, edge="a cost of exactly the budget")
    rich = Case(cases[0].args, {"budget": 100.0})
    message = "With a budget for everything the confidence is the largest of all, 1."
    check_edge(function, _choose_confidence, [rich], message, edge="a budget for everything")
    passed("The largest confidence whose mean cost keeps to the budget; no label was needed for it.")


@takes_answers
def check_exit_questions(answers: Any) -> None:
    """Check the three answers of exercise 06, task 4."""
    check_answers(answers, QUESTIONS)


def check_exit_experiment(
    verdicts: Any, answer: Any, taught: Sequence[Sequence[float]], labels_only: Sequence[Sequence[float]]
) -> None:
    """Check two verdicts and the question of exercise 06, task 5.

    Parameters
    ----------
    verdicts : dict from str to str
        ``"first"`` and ``"deepest"``: ``"better"``, ``"worse"`` or ``"unclear"``.
    answer : str
        Letter of the answer.
    taught, labels_only : list by seed of the errors of each exit
        With and without the deepest exit's teaching.

    Raises
    ------
    CheckFailed
        With what the interval says, or what speaks against the letter.
    """
    if type(verdicts) is not dict or sorted(verdicts, key=str) != ["deepest", "first"]:
        fail("verdicts must be a dict with a word for 'first' and one for 'deepest'.")
    for name, place in (("first", 0), ("deepest", -1)):
        check_verdict(verdicts[name], [row[place] for row in taught], [row[place] for row in labels_only])
    check_choice(answer, WHY_IT_CHANGES)


QUESTIONS = (
    Question(
        right="c",
        wrong={
            "a": "leaving early changes no weight; the network is the same in every row.",
            "b": "the deepest exit sees 14 times 14 pixels of each image that reaches it, in every row.",
        },
        because="the sure images are the easy ones; whoever stays is harder than the average",
    ),
    Question(
        right="a",
        wrong={
            "b": "compare the accuracies of the two rows: the difference is a few images of 1,000.",
            "c": "look at the shares: some images do leave.",
        },
        because="exits that are rarely wrong when they are sure cost nothing and save the later stages",
    ),
    Question(
        right="b",
        wrong={
            "a": "then the reported accuracy is the best of many tries on the very images it is reported on.",
            "c": "training images are known by heart: an exit is surer and more often right there than it will be.",
        },
        because="the confidence is a knob like T and α: held-out images choose, test images report",
    ),
)
WHY_IT_CHANGES = Question(
    right="b",
    wrong={
        "a": "task 1 has checked it: no gradient of the soft targets reaches the deepest exit's logits.",
        "c": "its weight is 1 in both arms, whatever α is.",
    },
    because="the first stage serves all exits, and follows whatever reaches any of them",
)


def _deep_loss(exit_logits: list[Tensor], labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return _deep_supervision_loss(exit_logits, labels, temperature=temperature, alpha=alpha)


def _exit_forward(
    stages: Iterable[nn.Module], auxiliary_heads: Iterable[nn.Module], classifier: nn.Module, images: Tensor
) -> list[Tensor]:
    features, outputs = images, []
    for stage, head in zip(stages, [*auxiliary_heads, classifier], strict=True):
        features = stage(features)
        outputs.append(head(features.mean(dim=(2, 3))))
    return outputs


def _small_network(seed: int) -> tuple[nn.ModuleList, nn.ModuleList, nn.Module, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # As wide as the images, so that a stage which is left out, or fed with the images, raises no error.
        stages = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(3))
        heads, classifier = nn.ModuleList(nn.Linear(4, 5) for _ in range(2)), nn.Linear(4, 5)
        return stages, heads, classifier, torch.randn(6, 4, 5, 5)


def _outputs(function: Callable) -> Callable:
    return lambda *, seed: function(*_small_network(seed))


def _check_exits_learn(function: Callable, seed: int) -> None:
    """Every exit trains its own head and all stages up to its own, as the right one does."""
    gradients = []
    for forward in (function, _exit_forward):
        stages, heads, classifier, images = _small_network(seed)
        with torch.enable_grad():
            outputs = list(forward(stages, heads, classifier, images))
        weights = [p for part in (stages, heads, classifier) for p in part.parameters()]
        if any(type(logits) is not Tensor or not logits.requires_grad for logits in outputs):
            fail(
                "The logits of an exit carry no gradient: was the forward pass run under torch.no_grad(), or a result "
                "detached? Training needs it."
            )
        gradients.append([_grad(z.sum(), weights, retain_graph=True, allow_unused=True) for z in outputs])
    for number, (found, needed) in enumerate(zip(*gradients, strict=True)):
        for one, other in zip(found, needed, strict=True):
            same = one is other if one is None or other is None else torch.allclose(one, other, rtol=1e-3, atol=1e-5)
            if not same:
                fail(
                    f"The logits are right, but exit {number} does not train all stages below it: are the features "
                    "detached between two stages, or in front of a head?"
                )


def _choose_confidence(exit_logits: list[Tensor], costs: list[float], *, budget: float) -> float:
    best = 0.0
    for step in range(101):
        _, exits = _early_exit(exit_logits, confidence=step / 100)
        if float(torch.as_tensor(costs, dtype=torch.float64)[exits].mean()) <= budget:
            best = step / 100
    return best


def _early_exit(exit_logits: list[Tensor], *, confidence: float) -> tuple[Tensor, Tensor]:
    logits = torch.stack(exit_logits)  # (E, N, K)
    sure = logits.softmax(dim=2).amax(dim=2) >= confidence  # (E, N)
    exits = torch.where(sure.any(dim=0), sure.int().argmax(dim=0), len(exit_logits) - 1)
    return logits[exits, torch.arange(logits.shape[1])].argmax(dim=1), exits
