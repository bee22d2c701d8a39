"""Wrong answers to exercise 03, feature distillation."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import attention_map, attention_transfer_loss
from . import Slip, Slips, mapped


def _energy(features: Tensor) -> Tensor:
    return features.square().mean(dim=1)  # (B, H, W)


MAP = {
    "not normalised": Slip(
        "The maps are not normalised: a student whose features are twice as large would have another map.",
        lambda f: _energy(f).flatten(1),
        lambda f: f.square().sum(dim=1).flatten(1),
    ),
    "mean before square": Slip(
        "Channels are averaged first and squared afterwards: activations of opposite sign cancel. Square first.",
        lambda f: F.normalize(f.mean(dim=1).square().flatten(1), dim=1),
    ),
    "no square": Slip(
        "Channels are averaged and nothing is squared: activations of opposite sign cancel, and a map can be negative.",
        lambda f: F.normalize(f.mean(dim=1).flatten(1), dim=1),
    ),
    "absolute": Slip(
        "This is the map of absolute values, p = 1. The one asked for squares, which favours the strongest positions.",
        lambda f: F.normalize(f.abs().mean(dim=1).flatten(1), dim=1),
    ),
    "norm": Slip(
        "The root of the sum of squares was taken over channels: the length of a position, not its square.",
        lambda f: F.normalize(f.norm(dim=1).flatten(1), dim=1),
    ),
    "fourth powers": Slip(
        "The activations are squared twice: fourth powers favour the strongest positions even more.",
        lambda f: F.normalize(f.square().square().sum(dim=1).flatten(1), dim=1),
        lambda f: F.normalize(_energy(f).square().flatten(1), dim=1),
    ),
    "strongest channel": Slip(
        "The strongest channel alone makes this map. All channels count.",
        lambda f: F.normalize(f.square().amax(dim=1).flatten(1), dim=1),
    ),
    "one channel": Slip(
        "A single channel makes this map. All channels count.",
        lambda f: F.normalize(f[:, 0].square().flatten(1), dim=1),
        lambda f: F.normalize(f[:, -1].square().flatten(1), dim=1),
    ),
    "positions averaged": Slip(
        "Positions were averaged and channels kept. An attention map says where, so its entries are positions.",
        lambda f: F.normalize(f.square().mean(dim=(2, 3)), dim=1),
    ),
    "across the batch": Slip(
        "Each position is compared across the batch (dim=0). The vector to normalise belongs to one image.",
        lambda f: F.normalize(_energy(f).flatten(1), dim=0),
    ),
    "whole batch": Slip(
        "The whole batch was scaled by one number. Each image's map gets length 1 by itself.",
        lambda f: _energy(f).flatten(1) / _energy(f).norm(),
    ),
    "before flattening": Slip(
        "Each row or column of positions was normalised by itself. The whole map is one vector: flatten first.",
        lambda f: F.normalize(_energy(f), dim=1).flatten(1),
        lambda f: F.normalize(_energy(f), dim=2).flatten(1),
    ),
    "sum 1": Slip(
        "The entries sum to 1; asked for is a vector of length 1, the Euclidean norm.",
        lambda f: F.normalize(_energy(f).flatten(1), p=1, dim=1),
    ),
    "largest 1": Slip(
        "The largest entry is 1; asked for is a vector of length 1, the Euclidean norm.",
        lambda f: _energy(f).flatten(1) / _energy(f).flatten(1).amax(dim=1, keepdim=True),
        lambda f: (lambda m: (m - m.amin(1, keepdim=True)) / (m.amax(1, keepdim=True) - m.amin(1, keepdim=True)))(
            _energy(f).flatten(1)),
    ),
    "softmax": Slip(
        "A softmax over positions is another map: it depends on the scale of the features.",
        lambda f: _energy(f).flatten(1).softmax(dim=1),
        lambda f: f.square().sum(dim=1).flatten(1).softmax(dim=1),
    ),
    "normalised before": Slip(
        "The features were normalised over channels before: every position then has the same energy.",
        lambda f: F.normalize(_energy(F.normalize(f, dim=1)).flatten(1), dim=1),
    ),
    "squared length": Slip(
        "The map was divided by its squared length: the root is missing.",
        lambda f: _energy(f).flatten(1) / _energy(f).flatten(1).square().sum(dim=1, keepdim=True),
        lambda f: (lambda m: m / m.square().sum(dim=1, keepdim=True))(f.square().sum(dim=1).flatten(1)),
    ),
    "a picture": Slip(
        "The map is still a picture, (B, H, W). As one vector per image, (B, H·W), layers of any size look alike.",
        lambda f: attention_map(f).unflatten(1, f.shape[2:]),
    ),
    "transposed": Slip(
        "The positions are in another order, columns before rows: were height and width exchanged?",
        lambda f: F.normalize(_energy(f).transpose(1, 2).flatten(1), dim=1),
    ),
}  # fmt: skip


def pooled_map(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the attention map of each image, brought to a smaller size before it is scaled: (B, h·w)."""
    return F.normalize(F.adaptive_avg_pool2d(_energy(features), size).flatten(1), dim=1)


def _resized(
    energy: Callable[[Tensor], Tensor] = _energy,
    pool: Callable[[Tensor, tuple[int, int]], Tensor] = F.adaptive_avg_pool2d,
    scale: Callable[[Tensor], Tensor] = lambda maps: F.normalize(maps, dim=1),
) -> Callable:
    return lambda features, size: scale(pool(energy(features), tuple(size)).flatten(1))


def _interpolated(mode: str, **knobs: Any) -> Callable:
    return lambda maps, size: F.interpolate(maps[:, None], size=tuple(size), mode=mode, **knobs)[:, 0]


def _of_map(*names: str, **parts: Callable) -> dict[str, Slip]:
    """Carry mistakes of the map over to the resized one, each made by other parts of it."""
    return {name: Slip(MAP[name].message, _resized(**{part: make})) for name in names for part, make in parts.items()}


POOLED = {
    "size ignored": Slip(
        "`size` is not used: the map has as many positions as the layer. Bring it to (h, w) first.",
        lambda f, size: attention_map(f),
    ),
    "features pooled": Slip(
        "The features are averaged over positions before they are squared, so activations of opposite sign cancel. "
        "Bring the map of squares to its size, not the features.",
        lambda f, size: attention_map(F.adaptive_avg_pool2d(f, tuple(size))),
    ),
    "scaled before": Slip(
        "The map is scaled to length 1 first and made smaller afterwards, so its length is no longer 1. Scale it at "
        "the end.",
        lambda f, size: F.adaptive_avg_pool2d(
            attention_map(f).unflatten(1, f.shape[2:]), tuple(size)).flatten(1),
    ),
    "strongest position": Slip(
        "Of each block of positions the strongest one was kept. Asked for is the mean of the block.",
        _resized(pool=F.adaptive_max_pool2d),
    ),
    "positions left out": Slip(
        "One position of each block was kept and the others were left out. Asked for is the mean of the block.",
        _resized(pool=_interpolated("nearest")),
        _resized(pool=_interpolated("nearest-exact")),
        _resized(pool=lambda maps, size: maps[:, : size[0], : size[1]]),
    ),
    "interpolated": Slip(
        "The map was interpolated between positions, so some count more than others. Asked for is the mean of each "
        "block.",
        _resized(pool=_interpolated("bilinear")),
        _resized(pool=_interpolated("bilinear", align_corners=True)),
        _resized(pool=_interpolated("bicubic")),
    ),
    "size swapped": Slip(
        "Height and width are exchanged: `size` is (h, w).",
        _resized(pool=lambda maps, size: F.adaptive_avg_pool2d(maps, (size[1], size[0]))),
    ),
    "square": Slip(
        "A single number of `size` was used for both sides. It is (h, w).",
        _resized(pool=lambda maps, size: F.adaptive_avg_pool2d(maps, size[0])),
        _resized(pool=lambda maps, size: F.adaptive_avg_pool2d(maps, size[1])),
    ),
    **_of_map("not normalised", scale=lambda maps: maps),
    "not normalised, summed": Slip(MAP["not normalised"].message, _resized(lambda f: f.square().sum(dim=1),
                                                                           scale=lambda maps: maps)),
    **_of_map("mean before square", energy=lambda f: f.mean(dim=1).square()),
    **_of_map("no square", energy=lambda f: f.mean(dim=1)),
    **_of_map("absolute", energy=lambda f: f.abs().mean(dim=1)),
    **_of_map("norm", energy=lambda f: f.norm(dim=1)),
    **_of_map("fourth powers", energy=lambda f: f.square().square().sum(dim=1)),
    **_of_map("strongest channel", energy=lambda f: f.square().amax(dim=1)),
    **_of_map("one channel", energy=lambda f: f[:, 0].square()),
    **_of_map("across the batch", scale=lambda maps: F.normalize(maps, dim=0)),
    **_of_map("whole batch", scale=lambda maps: maps / maps.norm()),
    **_of_map("sum 1", scale=lambda maps: F.normalize(maps, p=1, dim=1)),
    **_of_map("largest 1", scale=lambda maps: maps / maps.amax(dim=1, keepdim=True)),
    **_of_map("softmax", scale=lambda maps: maps.softmax(dim=1)),
    **_of_map("squared length", scale=lambda maps: maps / maps.square().sum(dim=1, keepdim=True)),
    "a picture": Slip(MAP["a picture"].message, lambda f, size: pooled_map(f, size).unflatten(1, tuple(size))),
    "transposed": Slip(MAP["transposed"].message, lambda f, size: pooled_map(f.transpose(2, 3), (size[1], size[0]))),
    "before flattening": Slip(MAP["before flattening"].message, *(
        lambda f, size, dim=dim: F.normalize(F.adaptive_avg_pool2d(_energy(f), tuple(size)), dim=dim).flatten(1)
        for dim in (1, 2))),
}  # fmt: skip


def smaller_size(student: Tensor, teacher: Tensor) -> tuple[int, int]:
    """Return height and width of the smaller of two layers."""
    small = student if student.shape[2] <= teacher.shape[2] else teacher
    return small.shape[2], small.shape[3]


def _per_layer(distance: Callable[[Tensor, Tensor], Tensor], *, image: Callable = attention_map) -> Callable:
    def wrong(students: list[Tensor], teachers: list[Tensor]) -> Tensor:
        return torch.stack([distance(image(s), image(t)) for s, t in zip(students, teachers, strict=True)]).sum()

    return wrong


def _per_resized_layer(
    distance: Callable[[Tensor, Tensor], Tensor], *, image: Callable = pooled_map, size: Callable = smaller_size
) -> Callable:
    def wrong(students: list[Tensor], teachers: list[Tensor]) -> Tensor:
        pairs = [(s, t, size(s, t)) for s, t in zip(students, teachers, strict=True)]
        return torch.stack([distance(image(s, to), image(t, to)) for s, t, to in pairs]).sum()

    return wrong


def _mean_square(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().mean()


def pooled_transfer_loss(student_layers: list[Tensor], teacher_layers: list[Tensor]) -> Tensor:
    """Return attention transfer where the larger map of a pair is brought to the size of the smaller one."""
    return _per_resized_layer(_mean_square)(student_layers, [teacher.detach() for teacher in teacher_layers])


def _transfer(per_layer: Callable, right: Callable, maps: Slips) -> dict[str, Slip]:
    """Return the mistakes of the loss, with maps of the layers' sizes or with resized ones."""
    return {
        "mean over layers": Slip(
            "The loss is a mean over layers. Asked for is their sum, so that the weight of a layer does not depend on "
            "how many others there are.",
            lambda s, t: right(s, t) / len(s),
        ),
        "sum over positions": Slip(
            "The squares are summed over positions: H·W times too large, and the usual weight of 1000 no longer fits. "
            "Take their mean.",
            per_layer(lambda s, t: (s - t).square().sum(dim=1).mean()),
        ),
        "sum over all": Slip("Everything is summed, images too: twice the batch would mean twice the step.",
                             per_layer(lambda s, t: (s - t).square().sum())),
        "sum over images": Slip("The loss is summed over the batch: twice the images would mean twice the step.",
                                per_layer(lambda s, t: (s - t).square().mean(dim=1).sum())),
        "norm": Slip(
            "This is the norm of the difference, not its square, as the paper prints it. Asked for is the squared "
            "form.",
            per_layer(lambda s, t: (s - t).norm(dim=1).mean()),
            per_layer(lambda s, t: (s - t).norm()),
        ),
        "absolute": Slip("Absolute differences were taken. Asked for are squared ones.",
                         per_layer(lambda s, t: (s - t).abs().mean())),
        "first layer": Slip("Only the first layer counts: does the return stand inside the loop?",
                            lambda s, t: right(s[:1], t[:1])),
        "last layer": Slip("Only the last layer counts: the terms of the others were overwritten.",
                           lambda s, t: right(s[-1:], t[-1:])),
        "half": Slip("The squares are halved. Asked for is their plain mean.",
                     per_layer(lambda s, t: _mean_square(s, t) / 2)),
        "Huber": Slip("This is the Huber loss. Asked for is the mean of squared differences.",
                      per_layer(F.smooth_l1_loss)),
        "cosine": Slip("The maps are compared by their cosine. Asked for is the mean of squared differences.",
                       per_layer(lambda s, t: (1 - (s * t).sum(dim=1)).mean())),
        "not normalised": Slip(
            "The maps are not normalised: features of another scale would cost, though they look at the same places.",
            *(per_layer(_mean_square, image=image) for name in maps if name.startswith("not normalised")
              for image in maps[name].wrong),
        ),
        **mapped(maps, lambda image: per_layer(_mean_square, image=image), "mean before square", "absolute", "softmax",
                 "sum 1", "norm", "no square", prefix="map: "),
    }  # fmt: skip


TRANSFER = _transfer(_per_layer, attention_transfer_loss, MAP)
POOLED_TRANSFER = {
    **_transfer(_per_resized_layer, pooled_transfer_loss, POOLED),
    **mapped(POOLED, lambda image: _per_resized_layer(_mean_square, image=image), "features pooled", "scaled before",
             "strongest position", "interpolated", "positions left out", prefix="map: "),
    "teacher's size": Slip(
        "Every map was brought to the teacher's size. Where the teacher's is the larger one, the student's positions "
        "were repeated: bring the larger map to the size of the smaller one.",
        _per_resized_layer(_mean_square, size=lambda s, t: t.shape[2:]),
    ),
    "student's size": Slip(
        "Every map was brought to the student's size. Where the student's is the larger one, the teacher's positions "
        "were repeated: bring the larger map to the size of the smaller one.",
        _per_resized_layer(_mean_square, size=lambda s, t: s.shape[2:]),
    ),
    "one position": Slip(
        "The maps were brought to a single position, where every map is 1: nothing is left to compare.",
        _per_resized_layer(_mean_square, size=lambda s, t: (1, 1)),
    ),
}  # fmt: skip


def _hint_stage(
    student: nn.Module, regressor: nn.Module, teacher: nn.Module, batches: Sequence[Tensor], *, lr: float,
    forgotten: bool = False, normalised: bool = False, teacher_trains: bool = False, only_regressor: bool = False,
    student_evaluates: bool = False, accumulates: bool = False, factor: float = 1.0, optimizer: Callable | None = None,
    raw: bool = True, distance: Callable[[Tensor, Tensor], Tensor] = _mean_square, first_batch: bool = False,
    clears_late: bool = False,
) -> list[Tensor]:  # fmt: skip
    learned = [*([] if only_regressor else student.parameters()), *([] if forgotten else regressor.parameters())]
    steps = (optimizer or torch.optim.SGD)(learned, lr=lr)
    teacher.train(teacher_trains)
    student.train(not student_evaluates)
    found = []
    for images in batches:
        with torch.no_grad():
            hint = teacher(images)
        guided = regressor(student(images))
        if normalised:
            hint, guided = F.normalize(hint, dim=1), F.normalize(guided, dim=1)
        loss = factor * distance(guided, hint)
        if not accumulates and not clears_late:
            steps.zero_grad()
        loss.backward()
        if clears_late:
            steps.zero_grad()
        steps.step()
        found.append(loss.detach())
    return found


def _with(**changes: Any) -> Callable:
    return lambda *networks, lr: _hint_stage(*networks, lr=lr, **changes)


_STAGE_MISTAKES = {
    "teacher_trains": "The teacher runs in training mode: its batch normalisation follows each batch, so the target "
    "moves (trap 13).",
    "normalised": "The features are scaled to length 1 at each position and then averaged. That is another loss, blind "
    "to magnitudes and C times smaller (trap 18).",
    "forgotten": "The regressor does not learn: its parameters never reach the optimizer, and the student is pulled "
    "towards a random projection (trap 21).",
}
HINT_STAGE = {
    **{
        " and ".join(left): Slip(_STAGE_MISTAKES[left[0]], _with(**dict.fromkeys(left, True)))
        for count in (1, 2, 3)
        for left in itertools.combinations(_STAGE_MISTAKES, count)
    },
    "only regressor": Slip(
        "Only the regressor learns; the student's parameters never reach the optimizer, or its features are detached.",
        _with(only_regressor=True),
    ),
    "student evaluates": Slip(
        "The student runs in evaluation mode while it trains: its batch normalisation learns no statistics.",
        _with(student_evaluates=True),
    ),
    "accumulates": Slip("Gradients of earlier steps are never cleared, and add up.", _with(accumulates=True)),
    "clears late": Slip(
        "Gradients are cleared between backward() and step(): nothing is learned.", _with(clears_late=True)
    ),
    "half": Slip("The loss is half the mean squared error.", _with(factor=0.5)),
    "sum": Slip("The squared errors are summed. Asked for is their mean.", _with(
        distance=lambda s, t: (s - t).square().sum())),
    "mean of sums": Slip("The squared errors are summed within each image. A mean over all is asked for.", _with(
        distance=lambda s, t: (s - t).square().sum(dim=(1, 2, 3)).mean())),
    "sum over channels": Slip("The squared errors are summed over channels. A mean over all is asked for.", _with(
        distance=lambda s, t: (s - t).square().sum(dim=1).mean())),
    "absolute": Slip("Absolute errors were taken. Asked for are squared ones.", _with(distance=F.l1_loss)),
    "Huber": Slip("This is the Huber loss. Asked for is the mean squared error.", _with(distance=F.smooth_l1_loss)),
    "Adam": Slip("Another optimizer came: plain SGD was asked for.", _with(optimizer=torch.optim.Adam),
                 _with(optimizer=lambda learned, lr: torch.optim.SGD(learned, lr=lr, momentum=0.9)),
                 _with(optimizer=torch.optim.AdamW)),
    "learning rate": Slip("The learning rate `lr` is not used: another one stands in its place.", *(
        _with(optimizer=lambda learned, lr, fixed=fixed: torch.optim.SGD(learned, lr=fixed))
        for fixed in (1e-3, 1e-2, 0.1, 1.0))),
}  # fmt: skip


def _gradients(loss: Tensor, parameters: list) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [gradient.flatten() for gradient in found if gradient is not None]


def _accumulated(loss: Tensor, parameters: list) -> float:
    loss.backward(retain_graph=True)
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm().item()


def _of_all(measure: Callable[[Tensor], Tensor]) -> Callable:
    return lambda loss, parameters: float(measure(torch.cat(_gradients(loss, parameters))))


def _of_parts(combine: Callable[[list[float]], Any]) -> Callable:
    return lambda loss, parameters: float(combine([float(part.norm()) for part in _gradients(loss, parameters)]))


GRADIENT_LENGTH = {
    "accumulated": Slip("The second push contains the first: backward adds to what is in .grad already.", _accumulated),
    "lengths added": Slip(
        "The lengths of the parts were added. All gradients together are one long vector, and it has one length.",
        _of_parts(sum),
    ),
    "squared": Slip("The length was squared: its root is missing.", _of_all(lambda g: g.square().sum())),
    "first": Slip("Only the first parameter counts.", _of_parts(lambda lengths: lengths[0])),
    "last": Slip("Only the last parameter counts.", _of_parts(lambda lengths: lengths[-1])),
    "longest": Slip("Only the parameter with the longest gradient counts.", _of_parts(max)),
    "mean of lengths": Slip(
        "The mean of the parts' lengths was taken: a layer more would make the same push look smaller.",
        _of_parts(np.mean),
    ),
    "absolute": Slip("Absolute values were added up. Asked for is the Euclidean length.",
                     _of_all(lambda g: g.abs().sum())),
    "mean absolute": Slip("The mean of absolute values was taken. Asked for is the Euclidean length.",
                          _of_all(lambda g: g.abs().mean())),
    "root mean square": Slip("The squares were averaged, not added up: a network with more parameters would look less "
                             "pushed.", _of_all(lambda g: g.square().mean().sqrt())),
    "largest": Slip("The largest entry came. Asked for is the Euclidean length.", _of_all(lambda g: g.abs().max())),
    "sum": Slip("The entries were added up, signs and all. Asked for is the Euclidean length.", _of_all(torch.sum)),
    "the loss": Slip("This is the value of the loss. Asked for is the length of its gradient.",
                     lambda loss, parameters: float(loss)),
    "the weights": Slip("This is the length of the parameters. Asked for is that of the gradient.",
                        lambda loss, parameters: float(torch.cat([p.flatten() for p in parameters]).norm())),
}  # fmt: skip
