"""Wrong answers to exercise 14, features and logits together."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import hint_loss, kd_loss
from ...recipes import make_adam
from ...training import count_errors, fit
from . import Slip, mapped
from .soft_targets import KD


def _mean_hint(regressor: nn.Module, features: Tensor, teacher_features: Tensor) -> Tensor:
    return hint_loss(regressor(features), teacher_features)


def _objective(
    student: nn.Sequential, images: Tensor, labels: Tensor, teacher_logits: Tensor, teacher_features: Tensor, *,
    regressor: nn.Module, temperature: float, alpha: float, feature_weight: float, hint: Callable = _mean_hint,
    share: Callable[[float], float] = lambda alpha: alpha, weight: Callable[[float], float] = lambda weight: weight,
    kd: Callable = kd_loss, on_all: bool = False, rest: bool = False, unweighted: bool = False, cut: bool = False,
    drop: Sequence[str] = (),
) -> dict[str, Tensor]:  # fmt: skip
    features = student[:-1](images)
    logits = student[-1](features)
    soft, ce = kd(logits, teacher_logits.detach(), temperature=temperature), F.cross_entropy(logits, labels)
    feature = hint(regressor, features.detach() if cut else features, teacher_features.detach())
    a, w = (1.0 if unweighted else share(alpha)), weight(feature_weight)
    b = 1.0 if unweighted else 1 - a
    if on_all or rest:
        a, b = (w * a, w * b) if on_all else ((1 - w) * a, (1 - w) * b)
    terms = {"kd": a * soft, "ce": b * ce, "feature": w * feature}
    return {name: 0 * term if name in drop else term for name, term in terms.items()}


def _with(**changes: Any) -> Callable:
    return partial(_objective, **changes)


def _compared(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    return _with(hint=lambda regressor, features, teacher: measure(regressor(features), teacher))


def _frozen(regressor: nn.Module, features: Tensor) -> Tensor:
    fixed = {name: parameter.detach() for name, parameter in regressor.named_parameters()}
    return torch.func.functional_call(regressor, fixed, (features,))


def _logits_cut(student: nn.Sequential, images: Tensor, *args: Any, **knobs: Any) -> dict[str, Tensor]:
    """Take the logits of detached features: only the last layer learns from labels and soft targets."""
    terms = _objective(student, images, *args, **knobs)
    features = student[:-1](images).detach()
    logits, labels, teacher_logits = student[-1](features), args[0], args[1]
    kd = kd_loss(logits, teacher_logits, temperature=knobs["temperature"])
    ce = F.cross_entropy(logits, labels)
    return {"kd": knobs["alpha"] * kd, "ce": (1 - knobs["alpha"]) * ce, "feature": terms["feature"]}


OBJECTIVE = {
    "no weight": Slip(
        "The feature term is not scaled: its weight is missing. A term counts by its gradient, and at weight 1 it "
        "counts as much as the layer happens to be large.",
        _with(weight=lambda weight: 1.0),
    ),
    "weight of α": Slip("The feature term has α, or 1 - α, for its weight. It has a weight of its own.", *(
        lambda *args, which=which, **knobs: _objective(*args, **{**knobs, "feature_weight": which(knobs["alpha"])})
        for which in (lambda alpha: alpha, lambda alpha: 1 - alpha))),
    "α swapped": Slip("α is on the wrong term: it is the share of the soft targets.", _with(share=lambda a: 1 - a)),
    "on all": Slip("The feature weight multiplies the other terms as well.", _with(on_all=True)),
    "rest": Slip(
        "The other terms are multiplied by 1 - weight. The feature term comes on top; its weight is no share.",
        _with(rest=True),
    ),
    "unweighted": Slip("Soft targets and labels are added without α and 1 - α.", _with(unweighted=True)),
    "no regressor": Slip(
        "The regressor was left out: the student's features are compared as they are, which only works by chance of "
        "equal widths.",
        _with(hint=lambda regressor, features, teacher: hint_loss(features, teacher)),
    ),
    "regressor on the teacher": Slip(
        "The regressor is given the teacher's features. It carries the student's to the teacher's.",
        _with(hint=lambda regressor, features, teacher: hint_loss(regressor(teacher), features)),
        _with(hint=lambda regressor, features, teacher: F.mse_loss(regressor(teacher), features)),
    ),
    "normalised": Slip(
        "The features are normalised first. That is another loss, blind to magnitudes (trap 18).",
        _compared(lambda s, t: hint_loss(F.normalize(s, dim=1), F.normalize(t, dim=1))),
        _compared(lambda s, t: 1 - F.cosine_similarity(s, t).mean()),
    ),
    "sum over features": Slip(
        "The squared errors are summed over the features: the weight then depends on the layer's width.",
        _compared(lambda s, t: t.shape[1] * hint_loss(s, t)),
    ),
    "sum over all": Slip(
        "The squared errors are summed over batch and features: twice the images would mean twice the step.",
        _compared(lambda s, t: t.numel() * hint_loss(s, t)),
    ),
    "absolute": Slip("Absolute errors of the features were taken. The hint loss is a mean of squares.",
                     _compared(F.l1_loss), _compared(F.smooth_l1_loss)),
    "half": Slip("The hint loss is halved. Its weight is there for that.",
                 _compared(lambda s, t: hint_loss(s, t) / 2)),
    "no T²": Slip("T² is missing in the soft targets' term.", *(_with(kd=wrong) for wrong in KD["no T²"].wrong)),
    "cut": Slip(
        "No gradient of the feature term reaches the student: its features are detached, the regressor learns alone.",
        _with(cut=True),
    ),
    "logits cut": Slip(
        "Labels and soft targets train only the student's last layer: its features are detached in front of it.",
        _logits_cut,
    ),
    "regressor cut": Slip(
        "The regressor does not learn: what it returns carries no gradient to its own parameters (trap 21).",
        _with(hint=lambda regressor, features, teacher: hint_loss(_frozen(regressor, features), teacher)),
    ),
    "feature detached": Slip(
        "The feature term carries no gradient at all: it counts in the value and trains nothing.",
        _with(hint=lambda regressor, features, teacher: hint_loss(regressor(features), teacher).detach()),
    ),
    "teacher detached student": Slip(
        "The soft targets' term carries no gradient: the student's own logits are detached in it.",
        _with(kd=lambda s, t, *, temperature: kd_loss(s.detach(), t, temperature=temperature)),
    ),
    **{f"no {name}": Slip(f"The term {name!r} is missing.", _with(drop=[name])) for name in ("kd", "ce", "feature")},
    **mapped(KD, lambda kd: _with(kd=kd), "one T", "mean over classes", "sum over images", "reverse", "cross-entropy",
             "only teacher softened", "only student softened"),
}  # fmt: skip


def _run(
    make_student: Callable[[], nn.Module], make_regressor: Callable[[], nn.Module], objective: Callable,
    data: tuple[Tensor, ...], *, seed: int, epochs: int, regressor_first: bool = False, frozen: bool = False,
    only_regressor: bool = False, order: int | None = None, seeded: bool = True, lr: float = 1e-2,
    batch_size: int = 100, again: bool = False, optimizer: Callable = make_adam,
) -> nn.Module:  # fmt: skip
    if seeded:
        torch.manual_seed(seed)
    regressor = make_regressor() if regressor_first else None
    student = make_student()
    regressor = regressor or make_regressor()
    if again:
        torch.manual_seed(seed)
        regressor = make_regressor()
    regressor.requires_grad_(not frozen)
    student.requires_grad_(not only_regressor)
    learned = [*student.parameters(), *regressor.parameters()]
    bound = partial(objective, regressor=regressor)
    order = seed if order is None else order
    fit(student, data, bound, optimizer(learned, lr=lr), epochs=epochs, batch_size=batch_size, seed=order,
        progress=False)  # fmt: skip
    return student


def _trained(**changes: Any) -> Callable:
    return partial(_run, **changes)


def _sgd(parameters: list, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr)


RUN = {
    "regressor frozen": Slip(
        "The regressor is not trained: it is frozen, or its parameters are not the optimizer's, and the student "
        "follows a random projection (trap 21).",
        _trained(frozen=True),
    ),
    "regressor first": Slip(
        "The regressor is drawn before the student: the student's start then depends on whether there is a regressor, "
        "and runs of one seed are no pair any more.",
        _trained(regressor_first=True),
    ),
    "regressor seeded again": Slip(
        "The seed is set again between student and regressor. It is set once, before the student.", _trained(again=True)
    ),
    "only regressor": Slip(
        "Only the regressor is trained; the student stays as it was drawn.", _trained(only_regressor=True)
    ),
    "order 0": Slip(
        "The order of the samples has seed 0 in every run; it should have the run's own.", _trained(order=0)
    ),
    "not seeded": Slip(
        "torch.manual_seed(seed) is missing: the start is left to whatever was drawn before.", _trained(seeded=False)
    ),
    "neither": Slip("Neither the start nor the order of samples has the run's seed.", _trained(seeded=False, order=0)),
    "learning rate": Slip(
        "The learning rate is another one: 1e-2 was asked for, Adam's default is 1e-3.",
        _trained(lr=1e-3),
        _trained(lr=3e-3),
        _trained(lr=0.1),
    ),
    "optimizer": Slip("Another optimizer came: make_adam was asked for.", _trained(optimizer=_sgd)),
    "batch size": Slip(
        "The batches have another size: 100 samples were asked for, fit's default is 128.", _trained(batch_size=128)
    ),
}


def _search(
    candidates: list[dict[str, float]], run: Callable[..., nn.Module], data: dict[str, tuple], *, seeds: list[int],
    splits: Sequence[str] = ("held_out",), reduce: Callable[[Sequence[int]], float] = np.mean, worst: bool = False,
) -> dict[str, float]:  # fmt: skip
    def score(candidate: dict[str, float]) -> float:
        students = [run(seed=seed, **candidate) for seed in seeds]
        found = reduce([sum(count_errors(student, *data[split]) for split in splits) for student in students])
        return float(-found if worst else found)

    return min(candidates, key=score)


def _searched(**changes: Any) -> Callable:
    return partial(_search, **changes)


SEARCH = {
    "test": Slip(
        "The weights are chosen by test errors. What is then reported on the test images is the best of several tries, "
        "and flattered.",
        _searched(splits=["test"]),
    ),
    "test too": Slip(
        "Test errors had a say beside the held-out ones. They must have none at all.",
        _searched(splits=["held_out", "test"]),
    ),
    "train": Slip(
        "The weights are chosen by errors on the training images, which the students know by heart.",
        _searched(splits=["train"]),
        _searched(splits=["train", "held_out"]),
    ),
    "luckiest": Slip("One lucky run decided. Compare means over all seeds.", _searched(reduce=min)),
    "unluckiest": Slip("The worst run decided. Compare means over all seeds.", _searched(reduce=max)),
    "one seed": Slip(
        "Only one of the seeds counts, the first or the last. Compare means over all of them.",
        _searched(reduce=lambda found: found[0]),
        _searched(reduce=lambda found: found[-1]),
    ),
    "median": Slip("The median over seeds decided. The mean is asked for.", _searched(reduce=np.median)),
    "most errors": Slip("This candidate has the most held-out errors, not the fewest.", _searched(worst=True)),
    "first": Slip("The first candidate came back: does a return stand inside the loop?",
                  lambda candidates, *args, **knobs: candidates[0]),
    "last": Slip("The last candidate came back: is the best one overwritten in the loop?",
                 lambda candidates, *args, **knobs: candidates[-1]),
}  # fmt: skip
