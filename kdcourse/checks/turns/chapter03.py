# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 03: a hook that keeps what it saw, the hint loss, an attention map."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cases import Case, new_generator, random_tensor, seeded_cases
from ..slips import Slip
from ..slips.features import MAP
from . import compared


def keep(features, name, output):
    """Keep a layer's output under its name."""
    features[name] = output.clone()


def _seen(function: Callable) -> Callable:
    """Hook two layers with the learner's function, run two batches, and return what is to be seen afterwards."""

    def outcome(*, seed: int) -> list:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3))
            features: dict[str, Tensor] = {}
            returned: list[bool] = []

            def hook_of(name: str) -> Callable:
                def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
                    value = function(features, name, output)
                    returned.append(value is not None)
                    return value

                return hook

            for place in (0, 2):
                net[place].register_forward_hook(hook_of(f"layer {place}"))
            for images in torch.randn(2, 5, 1, 7, 7):  # the second batch is the one that must be kept
                net(images)
        found: list = [float(any(returned)), float(len(features))]
        for place, shape in ((0, (5, 3, 5, 5)), (2, (5, 2, 3, 3))):
            kept = features.get(f"layer {place}")
            if type(kept) is not Tensor or kept.shape != shape:
                lacking = np.nan if kept is None else float(torch.as_tensor(kept).detach().double().sum())
                found += [torch.full(shape, lacking), 0.0]
                continue
            parts = [*net.parameters()]
            reaches = kept.requires_grad and any(
                part is not None and part.abs().max() > 0
                for part in torch.autograd.grad(kept.square().sum(), parts, allow_unused=True, retain_graph=True)
            )
            found += [kept.detach(), float(reaches)]
        return found

    return outcome


def _and(change: Callable[..., object]) -> Callable:
    """Turn an expression into a hook that returns nothing."""

    def hook(features, name, output):
        change(features, name, output)

    return hook


def _and_returned(features, name, output):
    features[name] = output.clone()
    return features[name]


def _output_returned(features, name, output):
    features[name] = output.clone()
    return output


def _emptied(features, name, output):
    features.clear()
    features[name] = output.clone()


KEEP_SLIPS = {
    "itself": Slip(
        "The tensor itself was kept: the next layer, a ReLU that works in place, has overwritten it. Keep a copy.",
        _and(lambda features, name, output: features.update({name: output})),
    ),
    "detached": Slip(
        "The copy is detached, so a loss on it trains nothing: no gradient reaches the layer. .clone() alone keeps "
        "the graph.",
        _and(lambda features, name, output: features.update({name: output.detach().clone()})),
        _and(lambda features, name, output: features.update({name: torch.tensor(output.tolist())})),
    ),
    "itself, detached": Slip(
        ".detach() makes no copy: the numbers are shared, and the ReLU behind the layer overwrites them. It also cuts "
        "the gradient. Take .clone().",
        _and(lambda features, name, output: features.update({name: output.detach()})),
        _and(lambda features, name, output: features.update({name: output.data})),
    ),
    "returned": Slip(
        "Your function returns a tensor. What a hook returns replaces the output of its layer, so the network goes on "
        "with it. Return nothing.",
        _and_returned,
        _output_returned,
    ),
    "one key": Slip(
        "Every layer writes to one and the same key, so only the last one is left. The key is `name`.",
        _and(lambda features, name, output: features.update({"name": output.clone()})),
        _and(lambda features, name, output: features.update({"output": output.clone()})),
    ),
    "emptied": Slip(
        "The dictionary is emptied at each layer, so only the last layer is left in it.",
        _emptied,
    ),
    "first batch": Slip(
        "The features of an earlier batch stayed: setdefault never overwrites what is there.",
        _and(lambda features, name, output: features.setdefault(name, output.clone())),
    ),
    "new dictionary": Slip(
        "Nothing arrived in `features`. `features = …` gives the name to a new dictionary; write into the one that "
        "came: features[name] = …",
        _and(lambda features, name, output: {**features, name: output.clone()}),
    ),
    "first image": Slip(
        "Only one image of the batch was kept, or the images were averaged. Keep the whole output.",
        _and(lambda features, name, output: features.update({name: output[0].clone()})),
        _and(lambda features, name, output: features.update({name: output.mean(dim=0)})),
    ),
}


def hint(student_features, teacher_features, regressor):
    """Return the hint loss of one layer."""
    guided = regressor(student_features)  # (B, C, H, W), as many channels as the teacher
    return (guided - teacher_features.detach()).square().mean()


def _losses_and_gradients(function: Callable) -> Callable:
    """Return the loss of a small problem and its gradients in the student, the regressor and the teacher."""

    def outcome(*, seed: int) -> list:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            batch, high, wide = 3 + seed % 3, 4, 6 + seed % 2
            regressor = nn.Conv2d(2, 5, 1)
            student = torch.randn(batch, 2, high, wide, requires_grad=True)
            teacher = (2 * torch.randn(batch, 5, high, wide)).requires_grad_()
            loss = function(student, teacher, regressor)
            reached = [student, teacher, *regressor.parameters()]
            if type(loss) is not Tensor or loss.dim() or not loss.requires_grad:
                return [loss, *(torch.zeros_like(part) for part in reached)]
            gradients = torch.autograd.grad(loss, reached, allow_unused=True)
        return [
            loss.detach(),
            *(torch.zeros_like(p) if g is None else g for g, p in zip(gradients, reached, strict=True)),
        ]

    return outcome


def _distance(distance: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    return lambda student, teacher, regressor: distance(regressor(student), teacher.detach())


HINT_SLIPS = {
    "teacher learns": Slip(
        "A gradient reaches the teacher's features. They are a fixed target: detach them.",
        lambda student, teacher, regressor: F.mse_loss(regressor(student), teacher),
    ),
    "student detached": Slip(
        "The student's features are detached, so the student learns nothing: the regressor does all the work.",
        lambda student, teacher, regressor: F.mse_loss(regressor(student.detach()), teacher.detach()),
    ),
    "regression detached": Slip(
        "The regressed features are detached: no gradient reaches the regressor or the student.",
        lambda student, teacher, regressor: F.mse_loss(regressor(student).detach(), teacher.detach()),
    ),
    "sum": Slip(
        "The squares are added up. Take their mean, or twice the images would mean twice the loss.",
        _distance(lambda s, t: (s - t).square().sum()),
    ),
    "mean over images": Slip(
        "The mean runs over the images only: C·H·W times too large, so the usual weights no longer fit.",
        _distance(lambda s, t: (s - t).square().sum(dim=(1, 2, 3)).mean()),
    ),
    "sum over channels": Slip(
        "C times too large: the squares are added up over the channels. The mean runs over them too.",
        _distance(lambda s, t: (s - t).square().sum(dim=1).mean()),
    ),
    "half": Slip(
        "Half of it. The factor ½ stands in the paper, and not in the formula above.",
        _distance(lambda s, t: F.mse_loss(s, t) / 2),
    ),
    "normalised": Slip(
        "The features are scaled to length 1 first. That is another loss: it does not see how strong a feature is "
        "(trap 18).",
        _distance(lambda s, t: F.mse_loss(F.normalize(s, dim=1), F.normalize(t, dim=1))),
        _distance(lambda s, t: F.mse_loss(F.normalize(s.flatten(1), dim=1), F.normalize(t.flatten(1), dim=1))),
    ),
    "absolute": Slip("Absolute differences were taken. Square them.", _distance(F.l1_loss)),
    "root": Slip(
        "The root was taken at the end. The mean of the squares is the loss.",
        _distance(lambda s, t: F.mse_loss(s, t).sqrt()),
        _distance(lambda s, t: (s - t).norm()),
    ),
    "an image each": Slip(
        "One number for each image came. A loss is one number: take the mean over the images too.",
        _distance(lambda s, t: (s - t).square().mean(dim=(1, 2, 3))),
    ),
}


def attention(features):
    """Return the attention map of each image."""
    energy = features.square().sum(dim=1).flatten(1)  # (B, C, H, W) -> (B, H·W)
    return energy / energy.norm(dim=1, keepdim=True)


def _features() -> list[Case]:
    generator = new_generator(None)
    return [Case((random_tensor(generator, 6, 3, *size),)) for size in ((4, 3), (2, 5))]


TURNS = {
    "03.keep": compared(
        keep,
        lambda: seeded_cases(None, 2),
        slips=KEEP_SLIPS,
        through=_seen,
        probing=False,
        diagnosing=False,
        otherwise="What is in `features` after two batches is not what the two layers put out for the second one.",
        verified="Both layers are there under their names, as they left the layer, and a loss on them trains it.",
        note="Without `.clone()` you keep the tensor that the next layer may overwrite. With `.detach()` no loss on it "
        "could train the student.",
    ),
    "03.hint": compared(
        hint,
        lambda: seeded_cases(None, 3),
        slips=HINT_SLIPS,
        through=_losses_and_gradients,
        probing=False,
        diagnosing=False,
        otherwise="This is not the mean of the squared differences between regressor(student_features) and the "
        "teacher's features, or its gradients are others.",
        verified="Loss and gradients agree; they reach the student and the regressor, and not the teacher.",
        note="`F.mse_loss(guided, teacher_features.detach())` is the same. Its default takes the mean over everything, "
        "but it only warns where the shapes differ and then broadcasts, as you see below.",
    ),
    "03.attention": compared(
        attention,
        _features,
        slips=MAP,
        verified="One vector of length 1 for each image: where the layer is active, in any of its channels.",
        note="Square first, then add up: added up first, a +1 in one channel and a -1 in another would cancel. And the "
        "whole map is one vector, so flatten before you take its length.",
    ),
}
