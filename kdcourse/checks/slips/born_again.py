"""Wrong answers to exercise 15, born-again networks."""

import copy
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import kd_loss
from ...recipes import make_adam
from ...training import fit
from . import Slip
from .soft_targets import KD, no_t2


def _generations(
    make_model: Callable[[], nn.Module], images: Tensor, labels: Tensor, *, temperatures: list[float], alpha: float,
    seed: int, epochs: int, teacher: str = "previous", weights: str = "own", order: str = "own", which: str = "own",
    swapped: bool = False, copied: str = "no", longer: bool = False, kd: Callable = kd_loss, hard: bool = True,
    lr: float = 7e-3, weighted: bool = True, late_seed: bool = False,
) -> list[nn.Module]:  # fmt: skip
    generations: list[nn.Module] = []
    for number in range(len(temperatures) + 1):
        torch.manual_seed(seed if weights == "same" else seed + number + late_seed)
        model = copy.deepcopy(generations[-1]) if generations and copied == "object" else make_model()
        if generations and copied == "weights":
            model.load_state_dict(generations[-1].state_dict())
        data: tuple[Tensor, ...] = (images, labels)
        temperature = None
        if generations and teacher != "none":
            with torch.no_grad():
                data = (images, labels, _taught_by(generations, images, teacher))
            place = {"own": number - 1, "first": 0, "last": -1, "next": min(number, len(temperatures) - 1),
                     "reversed": -number}[which]  # fmt: skip
            temperature = temperatures[place]
        share = 1 - alpha if swapped else alpha
        objective = partial(_objective, temperature=temperature, alpha=share, kd=kd, hard=hard, weighted=weighted)
        fit(
            model, data, objective, make_adam(list(model.parameters()), lr=lr), batch_size=100, progress=False,
            epochs=epochs * (2 if longer else 1), seed=seed if order == "same" else seed + number + late_seed,
        )  # fmt: skip
        generations.append(model)
    return generations


def _taught_by(generations: list[nn.Module], images: Tensor, teacher: str) -> Tensor:
    if teacher == "all":
        return torch.stack([model.eval()(images) for model in generations]).mean(dim=0)
    return (generations[0] if teacher == "first" else generations[-1]).eval()(images)


def _objective(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor | None = None, *,
    temperature: float | None, alpha: float, kd: Callable, hard: bool, weighted: bool,
) -> dict[str, Tensor]:  # fmt: skip
    logits = student(images)
    ce = F.cross_entropy(logits, labels)
    if temperature is None or teacher_logits is None:
        return {"ce": ce}
    soft = kd(logits, teacher_logits, temperature=temperature)
    if not weighted:
        return {"kd": soft, "ce": ce}
    return {"kd": alpha * soft, **({"ce": (1 - alpha) * ce} if hard else {})}


def _with(**changes: Any) -> Callable:
    return partial(_generations, **changes)


_TAUGHT_BY_FIRST = "Every generation is taught by the first one. Each is the student of the one before it."
_WRONG_TEMPERATURE = "The T of another generation was used: generation g + 1 has the g-th of the temperatures."
_SWAPPED = "α is on the wrong term: it is the share of the teacher, 1 - α that of the labels."
GENERATIONS = {
    "first teaches": Slip(
        _TAUGHT_BY_FIRST,
        _with(teacher="first"),
        _with(teacher="first", which="first"),
        _with(teacher="first", swapped=True),
    ),
    "all teach": Slip("All generations so far teach together. Each is the student of the one before it.",
                      _with(teacher="all")),
    "nobody teaches": Slip("No generation learns from another: all see the labels alone.", _with(teacher="none")),
    "one seed": Slip(
        "All generations have one seed: the same weights and the same order of samples each time. Generation g has "
        "seed + g for both.",
        _with(weights="same", order="same"),
    ),
    "same weights": Slip(
        "All generations start from the same weights: the seed of the weights is seed + g, so that the generations "
        "differ by more than their teacher.",
        _with(weights="same"),
    ),
    "same order": Slip(
        "All generations see the samples in the same order: the order's seed is seed + g.", _with(order="same")
    ),
    "seed from 1": Slip("The generations are counted from 1 for their seeds: the first one has the seed itself.",
                        _with(late_seed=True)),
    "wrong T": Slip(
        _WRONG_TEMPERATURE,
        *(_with(which=which) for which in ("first", "last", "next", "reversed")),
        _with(which="first", swapped=True),
    ),
    "α swapped": Slip(_SWAPPED, _with(swapped=True)),
    "no weights": Slip("The terms are added without α and 1 - α.", _with(weighted=False)),
    "no labels": Slip("The labels are missing in the later generations: they see their teacher alone.",
                      _with(hard=False)),
    "copied": Slip(
        "A generation starts from its teacher's weights. A born-again network starts anew.",
        _with(copied="weights"),
        _with(copied="object"),
    ),
    "longer": Slip("The generations are trained twice as long as asked: another budget, another comparison.",
                   _with(longer=True)),
    "learning rate": Slip("The learning rate is another one: train_one of the notebook has 7e-3.",
                          _with(lr=1e-3), _with(lr=1e-2)),
    "no T²": Slip("The factor T² is missing: the teacher fades as T grows.", _with(kd=no_t2)),
    "mean over classes": Slip(
        "The teacher's term is K times too small: a mean over classes as well as images (trap 2).",
        *(_with(kd=wrong) for wrong in KD["mean over classes"].wrong),
    ),
    "reverse": Slip("This is KL(student‖teacher): the teacher's probabilities must weight (trap 1).",
                    *(_with(kd=wrong) for wrong in KD["reverse"].wrong)),
    "hard labels": Slip(
        "The teacher's most probable class came in place of its probabilities: how sure it is gets lost.",
        _with(kd=lambda s, t, *, temperature: F.cross_entropy(s, t.argmax(dim=-1))),
    ),
}  # fmt: skip


def _stacked(models: Sequence[nn.Module], images: Tensor) -> Tensor:
    return torch.stack([model.eval()(images) for model in models])  # (M, N, K)


def _probabilities(models: Sequence[nn.Module], images: Tensor) -> Tensor:
    return _stacked(models, images).softmax(dim=2)


def _of_probabilities(combine: Callable[[Tensor], Tensor]) -> Callable:
    return lambda models, images: combine(_probabilities(models, images))


def _of_logits(combine: Callable[[Tensor], Tensor]) -> Callable:
    return lambda models, images: combine(_stacked(models, images))


def _divided(probabilities: Tensor, count: int) -> Tensor:
    return probabilities.sum(dim=0) / count


def _votes(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(dim=2), logits.shape[2]).float().mean(dim=0)


ENSEMBLE = {
    "classes averaged": Slip(
        "The models' classes were averaged. A mean of class numbers is no class: half-way between 3 and 9 is not 6. "
        "Average probabilities.",
        _of_logits(lambda z: z.argmax(dim=2).float().mean(dim=0)),
        _of_logits(lambda z: z.argmax(dim=2).float().mean(dim=0).round()),
    ),
    "votes": Slip(
        "Each model votes with its class only; how sure it is gets lost. Average probabilities.",
        _of_logits(_votes),
        _of_logits(lambda z: z.argmax(dim=2).mode(dim=0).values),
    ),
    "logits averaged": Slip(
        "Logits were averaged, and then softened: a geometric mean, in which the surest model outvotes the others.",
        _of_logits(lambda z: z.mean(dim=0).softmax(dim=1)),
        _of_logits(lambda z: z.log_softmax(dim=2).mean(dim=0).softmax(dim=1)),
    ),
    "logits added": Slip(
        "Logits were added, and then softened: that multiplies the models' probabilities.",
        _of_logits(lambda z: z.sum(dim=0).softmax(dim=1)),
    ),
    "mean logits": Slip("These are averaged logits. Asked for are probabilities.",
                        _of_logits(lambda z: z.mean(dim=0)), _of_logits(lambda z: z.sum(dim=0))),
    "geometric": Slip("This is the geometric mean of the probabilities. Asked for is their ordinary mean.",
                      _of_logits(lambda z: z.log_softmax(dim=2).mean(dim=0).exp())),
    "sum": Slip("The probabilities are added and not divided by the number of models.",
                _of_probabilities(lambda p: p.sum(dim=0))),
    "fixed count": Slip(
        "The sum is divided by a fixed number, or by one model too many or too few. Divide by the number of models.",
        *(_of_probabilities(partial(_divided, count=count)) for count in (2, 3, 4, 5, 10)),
        _of_probabilities(lambda p: p.sum(dim=0) / (len(p) - 1)),
        _of_probabilities(lambda p: p.sum(dim=0) / (len(p) + 1)),
    ),
    "one model": Slip(
        "Only one model answers: does a return stand inside the loop? All of them belong to the ensemble.",
        _of_probabilities(lambda p: p[-1]),
        _of_probabilities(lambda p: p[0]),
    ),
    "one left out": Slip("One of the models is left out.", _of_probabilities(lambda p: p[:-1].mean(dim=0)),
                         _of_probabilities(lambda p: p[1:].mean(dim=0))),
    "halving": Slip(
        "The mean is taken step by step, (old + new) / 2: the last models count much more than the first.",
        _of_probabilities(lambda p: reduce(lambda a, b: (a + b) / 2, p)),
    ),
    "largest": Slip("The largest probability over the models was taken. Asked for is their mean.",
                    _of_probabilities(lambda p: p.amax(dim=0))),
    "median": Slip("The median over the models was taken. Asked for is their mean.",
                   _of_probabilities(lambda p: p.median(dim=0).values)),
    "softmax twice": Slip("A softmax is taken twice: the mean probabilities went through another one.",
                          _of_probabilities(lambda p: p.mean(dim=0).softmax(dim=1)),
                          _of_probabilities(lambda p: p.softmax(dim=2).mean(dim=0))),
    "wrong axis": Slip(
        "The softmax runs over models or images instead of classes.",
        _of_logits(lambda z: z.softmax(dim=1).mean(dim=0)),
        _of_logits(lambda z: z.softmax(dim=0).mean(dim=0)),
    ),
    "over images": Slip("The mean runs over the images. Asked for is the mean over the models.",
                        _of_probabilities(lambda p: p.mean(dim=1)), _of_probabilities(lambda p: p.mean(dim=(0, 1)))),
    "logarithms": Slip("These are logarithms of the mean probabilities. Asked for are the probabilities.",
                       _of_probabilities(lambda p: p.mean(dim=0).log())),
    "classes": Slip(
        "The classes came back. Asked for are the mean probabilities, (N, K); their largest gives the class.",
        _of_probabilities(lambda p: p.mean(dim=0).argmax(dim=1)),
    ),
    "each model": Slip("The probabilities of every model came back, (M, N, K). Their mean is asked for.",
                       _of_probabilities(lambda p: p)),
}  # fmt: skip


def _lowest(score: Callable[[list[float], list[float]], float]) -> Callable:
    return lambda held_out, test: min(held_out, key=lambda schedule: score(held_out[schedule], test[schedule]))


CHOICE = {
    "test": Slip(
        "The test images chose. What is then reported on them is the best of several tries, and flattered.",
        _lowest(lambda held_out, test: sum(test)),
    ),
    "test too": Slip(
        "Held-out and test errors were added up. The test images must have no say at all.",
        _lowest(lambda held_out, test: sum(held_out) + sum(test)),
    ),
    "most": Slip(
        "This has the most errors on held-out images. These are errors, not accuracies.",
        _lowest(lambda held_out, test: -sum(held_out)),
    ),
    "luckiest": Slip(
        "One lucky run decided. Compare means over all seeds.", _lowest(lambda held_out, test: min(held_out))
    ),
    "unluckiest": Slip(
        "The worst run decided. Compare means over all seeds.", _lowest(lambda held_out, test: max(held_out))
    ),
    "first seed": Slip(
        "Only the first seed was looked at. Compare means over all seeds.", _lowest(lambda held_out, test: held_out[0])
    ),
    "last seed": Slip(
        "Only the last seed was looked at. Compare means over all seeds.", _lowest(lambda held_out, test: held_out[-1])
    ),
    "median": Slip(
        "The median over seeds decided. Compare means.", _lowest(lambda held_out, test: float(np.median(held_out)))
    ),
    "spread": Slip(
        "The smallest spread decided. Steady errors are not few errors: compare means.",
        _lowest(lambda held_out, test: float(np.std(held_out))),
    ),
    "first pair": Slip("The first pair came back: does a return stand inside the loop?",
                       lambda held_out, test: next(iter(held_out))),
    "last pair": Slip("The last pair came back: is the best one overwritten in the loop?",
                      lambda held_out, test: list(held_out)[-1]),
    "an error": Slip(
        "The smallest error came back instead of the temperatures that gave it.",
        lambda held_out, test: min(sum(errors) / len(errors) for errors in held_out.values()),
        lambda held_out, test: min(map(sum, held_out.values())),
    ),
}  # fmt: skip
