# mypy: disable-error-code="no-untyped-def"
"""What is written in chapter 08: a class term, a box term with the teacher as its bound, one level of a pyramid."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cases import seeded_cases
from ..slips import Slip
from ..slips.detection import bernoulli_kl, scene_weights, soft_cross_entropy, softmax_kl
from . import compared


def class_term(student_logits, teacher_logits, foreground):
    """Return the class term."""
    target = teacher_logits.detach().sigmoid()  # (B, A, K)
    cross_entropy = F.binary_cross_entropy_with_logits(student_logits, target, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher_logits.detach(), target, reduction="none")
    divergence = (cross_entropy - entropy).sum(dim=-1)  # (B, A)
    return divergence[foreground].sum() / foreground.sum().clamp(min=1)


def _loss_and_gradients(loss: object, *inputs: Tensor) -> list:
    """Return a loss, whether it belongs to a graph, and its gradients; zeros where none arrives."""
    if type(loss) is not Tensor or loss.dim() or not loss.requires_grad:
        return [loss, 0.0, *(torch.zeros_like(part) for part in inputs)]
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    found = [torch.zeros_like(part) if g is None else g for g, part in zip(gradients, inputs, strict=True)]
    return [loss.detach(), 1.0, *found]


def _class_outcome(function: Callable) -> Callable:
    """Call with many anchors, with sure ones and without any foreground, and look at losses and gradients."""

    def outcome(*, seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        found = []
        for scale, share in ((2.0, 0.4), (60.0, 0.4), (2.0, 0.0)):
            student, teacher = (scale * torch.randn(2, 9, 3, generator=generator) for _ in range(2))
            foreground = torch.rand(2, 9, generator=generator) < share
            if share:
                foreground[0, :2] = True
            with torch.enable_grad():
                inputs = student.requires_grad_(), teacher.requires_grad_()
                found += _loss_and_gradients(function(*inputs, foreground), *inputs)
        return found

    return outcome


def _divided(anchors: Tensor, foreground: Tensor) -> Tensor:
    return anchors[foreground].sum() / foreground.sum().clamp(min=1)


def _classes(divergence: Callable = bernoulli_kl, mean: Callable = _divided, *, detach: bool = True) -> Callable:
    def term(student, teacher, foreground):
        teacher = teacher.detach() if detach else teacher
        return mean(divergence(student, teacher).sum(dim=-1), foreground)

    return term


def _after_the_sigmoid(student: Tensor, teacher: Tensor) -> Tensor:
    return F.binary_cross_entropy(student.sigmoid(), teacher.sigmoid(), reduction="none")


def _reversed(student: Tensor, teacher: Tensor) -> Tensor:
    q, bce = student.sigmoid(), F.binary_cross_entropy_with_logits
    return bce(teacher, q, reduction="none") - bce(student, q, reduction="none")


CLASS_SLIPS = {
    "entropy": Slip(
        "The teacher's entropy is still in it: a perfect student would not pay 0 (trap 58). Subtract the same "
        "cross-entropy with the teacher's logits in the student's place.",
        _classes(soft_cross_entropy),
    ),
    "sigmoid first": Slip(
        "The sigmoid is taken first and then the logarithm: for a sure student the loss is cut off and its gradient is "
        "0 (trap 57). F.binary_cross_entropy_with_logits takes the logits.",
        _classes(_after_the_sigmoid),
        _classes(lambda s, t: _after_the_sigmoid(s, t) - _after_the_sigmoid(t, t)),
    ),
    "all anchors": Slip(
        "The mean runs over all anchors, and nearly all of them are background (trap 59). Take the foreground.",
        _classes(mean=lambda anchors, foreground: anchors.mean()),
        _classes(soft_cross_entropy, mean=lambda anchors, foreground: anchors.mean()),
    ),
    "masked mean": Slip(
        "The background is set to 0 and then everything is averaged: the mask changed the sum and not the divisor "
        "(trap 60). Divide by the number of foreground anchors.",
        _classes(mean=lambda anchors, foreground: (anchors * foreground).mean()),
        _classes(soft_cross_entropy, mean=lambda anchors, foreground: (anchors * foreground).mean()),
    ),
    "no foreground": Slip(
        "Without any foreground this is 0 divided by 0, and one such batch makes every weight NaN. Divide by at "
        "least 1.",
        _classes(mean=lambda anchors, foreground: anchors[foreground].mean()),
        _classes(mean=lambda anchors, foreground: (anchors * foreground).sum() / foreground.sum()),
        _classes(soft_cross_entropy, mean=lambda anchors, foreground: anchors[foreground].mean()),
    ),
    "sum": Slip(
        "The foreground is added up and not divided: a scene with more digits would have a larger loss.",
        _classes(mean=lambda anchors, foreground: anchors[foreground].sum()),
    ),
    "mean over classes": Slip(
        "K times too small: the classes are averaged. Each class is a question of its own, so add them up.",
        lambda s, t, foreground: _divided(bernoulli_kl(s, t.detach()).mean(dim=-1), foreground),
    ),
    "softmax": Slip(
        "A softmax makes the classes of an anchor compete. Here each class has a sigmoid of its own, because an anchor "
        "may show nothing.",
        _classes(softmax_kl),
    ),
    "reversed": Slip(
        "The two sides are exchanged: this is the divergence of the teacher from the student.", _classes(_reversed)
    ),
    "hard answers": Slip(
        "The teacher's answers were rounded to yes and no. What it is unsure of is what it has to tell.",
        _classes(lambda s, t: F.binary_cross_entropy_with_logits(s, (t > 0).float(), reduction="none")),
    ),
    "teacher learns": Slip(
        "A gradient reaches the teacher's logits. They are a fixed target: detach them.", _classes(detach=False)
    ),
    "student detached": Slip(
        "The student's logits are detached, so it learns nothing.",
        lambda s, t, foreground: _classes()(s.detach(), t, foreground),
    ),
}


def box_term(student_boxes, teacher_boxes, targets):
    """Return the box term."""
    student_error = (student_boxes - targets).square().sum(dim=-1)  # (N,)
    teacher_error = (teacher_boxes.detach() - targets).square().sum(dim=-1)  # (N,)
    worse = student_error > teacher_error
    return (worse * student_error).mean()


def _box_outcome(function: Callable) -> Callable:
    def outcome(*, seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        student, teacher, targets = (torch.randn(11, 4, generator=generator) for _ in range(3))
        with torch.enable_grad():
            inputs = student.requires_grad_(), teacher.requires_grad_()
            return _loss_and_gradients(function(*inputs, targets), *inputs)

    return outcome


def _errors(student: Tensor, teacher: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return (student - targets).square().sum(dim=-1), (teacher.detach() - targets).square().sum(dim=-1)


def _bounded(change: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    return lambda student, teacher, targets: change(*_errors(student, teacher, targets))


def _one_by_one(student, teacher, targets):
    mine, theirs = (student - targets).square(), (teacher.detach() - targets).square()
    return (mine * (mine > theirs)).sum(dim=-1).mean()


def _in_absolute_values(student, teacher, targets):
    mine, theirs = ((x - targets).abs().sum(dim=-1) for x in (student, teacher.detach()))
    return (mine * (mine > theirs)).mean()


BOX_SLIPS = {
    "no bound": Slip(
        "Every box pays, those too that are better than the teacher's. The teacher is a bound: only worse ones pay.",
        _bounded(lambda mine, theirs: mine.mean()),
    ),
    "imitates": Slip(
        "This draws the student to the teacher's boxes, wherever they are. Measure both against the true boxes, and "
        "use the teacher's error as a bound.",
        lambda s, t, y: (s - t.detach()).square().sum(dim=-1).mean(),
        lambda s, t, y: F.mse_loss(s, t.detach()),
        lambda s, t, y: F.smooth_l1_loss(s, t.detach()),
    ),
    "the other way": Slip(
        "The condition is the other way round: the boxes that beat the teacher pay.",
        _bounded(lambda mine, theirs: (mine * (mine < theirs)).mean()),
        _bounded(lambda mine, theirs: (mine * (mine <= theirs)).mean()),
    ),
    "difference": Slip(
        "A box pays by how much it is worse than the teacher's. In the formula it pays its whole error.",
        _bounded(lambda mine, theirs: (mine - theirs).clamp(min=0).mean()),
        _bounded(lambda mine, theirs: (mine - theirs).relu().mean()),
        _bounded(lambda mine, theirs: (mine - theirs).mean()),
    ),
    "mean over the worse": Slip(
        "The mean runs over the boxes that pay. Divide by all N boxes, or the loss of one last bad box "
        "would never fall.",
        _bounded(lambda mine, theirs: mine[mine > theirs].mean()),
    ),
    "mean over four": Slip(
        "Four times too small: the four numbers of a box are averaged. Add their squares up.",
        _bounded(lambda mine, theirs: (mine * (mine > theirs)).mean() / 4),
    ),
    "sum": Slip(
        "The boxes are added up: twice the boxes would mean twice the loss. Divide by their number.",
        _bounded(lambda mine, theirs: (mine * (mine > theirs)).sum()),
    ),
    "one by one": Slip(
        "Each of the four numbers is compared by itself. A box is one thing: compare the sums of its four squares.",
        _one_by_one,
    ),
    "count": Slip(
        "This is the share of boxes that pay: a number of yes and no, which has no gradient. Multiply by the error.",
        _bounded(lambda mine, theirs: (mine > theirs).float().mean()),
    ),
    "absolute": Slip("Absolute differences were taken. Square them.", _in_absolute_values),
    "teacher pays": Slip(
        "The teacher's error is what is paid. It is the bound; the student pays its own.",
        _bounded(lambda mine, theirs: (theirs * (mine > theirs)).mean()),
    ),
    "student detached": Slip(
        "The student's boxes are detached, so it learns nothing.",
        _bounded(lambda mine, theirs: (mine.detach() * (mine > theirs)).mean()),
    ),
}


def level_term(student_map, teacher_map):
    """Return the term of one level."""
    teacher_map = teacher_map.detach()
    importance = teacher_map.abs().mean(dim=1)  # (B, H, W)
    importance = importance / importance.sum(dim=(1, 2), keepdim=True)
    error = (student_map - teacher_map).square().mean(dim=1)  # (B, H, W)
    return (importance * error).sum(dim=(1, 2)).mean()


def _level_outcome(function: Callable) -> Callable:
    def outcome(*, seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        student, teacher = (torch.randn(3, 4, 5, 2, generator=generator) for _ in range(2))
        teacher[1] *= 6  # one bright scene
        with torch.enable_grad():
            inputs = student.requires_grad_(), teacher.requires_grad_()
            return _loss_and_gradients(function(*inputs), *inputs)

    return outcome


def _level(
    importance: Callable[[Tensor], Tensor] = scene_weights,
    error: Callable[[Tensor, Tensor], Tensor] = lambda s, t: (s - t).square().mean(dim=1),
    mean: Callable[[Tensor], Tensor] = lambda weighted: weighted.sum(dim=(1, 2)).mean(),
) -> Callable:
    return lambda s, t: mean(importance(t.detach()) * error(s, t.detach()))


LEVEL_SLIPS = {
    "largest of the batch": Slip(
        "The importance is divided by the largest value of the whole batch: one bright scene mutes all others "
        "(trap 62). Divide each scene's by its own sum.",
        _level(lambda t: t.abs().mean(dim=1) / t.abs().mean(dim=1).max()),
        _level(lambda t: t.abs().mean(dim=1) / t.abs().mean(dim=1).max(), mean=lambda weighted: weighted.mean()),
    ),
    "sum of the batch": Slip(
        "The importance is divided by its sum over the whole batch, so a bright scene outweighs the others. Divide "
        "each scene's by its own sum.",
        _level(lambda t: t.abs().mean(dim=1) / t.abs().mean(dim=1).sum()),
        _level(lambda t: t.abs().mean(dim=1) / t.abs().mean(dim=1).sum(), mean=lambda weighted: weighted.sum()),
    ),
    "squared": Slip(
        "Both maps are multiplied by the importance before they are squared, so it enters twice (trap 62). Multiply "
        "the error.",
        _level(lambda t: scene_weights(t).square()),
        lambda s, t: F.mse_loss(
            s * (w := t.detach().abs().mean(dim=1, keepdim=True) / t.detach().abs().mean(dim=1).max()), t.detach() * w
        ),
    ),
    "not normalised": Slip(
        "The importance is used as it is: a bright scene outweighs the others, and the loss grows with the map. Its "
        "sum over a scene's positions must be 1.",
        _level(lambda t: t.abs().mean(dim=1)),
        _level(lambda t: t.abs().mean(dim=1), mean=lambda weighted: weighted.mean()),
    ),
    "no importance": Slip(
        "Every position counts alike, and most of them show the background. Weight by the teacher's activation.",
        _level(lambda t: torch.ones_like(t[:, 0]), mean=lambda weighted: weighted.mean()),
        lambda s, t: F.mse_loss(s, t.detach()),
    ),
    "mean over positions": Slip(
        "H·W times too small: the weights of a scene sum to 1 already, so add the weighted errors of its positions up.",
        _level(mean=lambda weighted: weighted.mean()),
    ),
    "sum over scenes": Slip(
        "The scenes are added up: twice the batch would mean twice the loss. Take their mean.",
        _level(mean=lambda weighted: weighted.sum()),
    ),
    "sum over channels": Slip(
        "C times too large: the squares are added up over the channels. Take their mean.",
        _level(error=lambda s, t: (s - t).square().sum(dim=1)),
    ),
    "student's importance": Slip(
        "The student's own activation is the weight: it could silence a position by not looking there. Take the "
        "teacher's.",
        lambda s, t: (scene_weights(s) * (s - t.detach()).square().mean(dim=1)).sum(dim=(1, 2)).mean(),
        lambda s, t: (scene_weights(s.detach()) * (s - t.detach()).square().mean(dim=1)).sum(dim=(1, 2)).mean(),
    ),
    "no absolute value": Slip(
        "Positive and negative activations cancel. Take the absolute value before the mean over channels.",
        _level(lambda t: t.mean(dim=1) / t.mean(dim=1).sum(dim=(1, 2), keepdim=True)),
    ),
    "absolute error": Slip(
        "Absolute differences were taken. Square them.", _level(error=lambda s, t: (s - t).abs().mean(dim=1))
    ),
    "teacher learns": Slip(
        "A gradient reaches the teacher's map. It is a fixed target: detach it.",
        lambda s, t: (scene_weights(t) * (s - t).square().mean(dim=1)).sum(dim=(1, 2)).mean(),
        lambda s, t: (scene_weights(t.detach()) * (s - t).square().mean(dim=1)).sum(dim=(1, 2)).mean(),
        lambda s, t: (scene_weights(t) * (s - t.detach()).square().mean(dim=1)).sum(dim=(1, 2)).mean(),
    ),
    "student detached": Slip(
        "The student's map is detached, so it learns nothing.",
        lambda s, t: _level()(s.detach(), t),
    ),
}  # fmt: skip


TURNS = {
    "08.class": compared(
        class_term,
        lambda: seeded_cases(None, 3),
        slips=CLASS_SLIPS,
        through=_class_outcome,
        probing=False,
        diagnosing=False,
        otherwise="This is not the sum over the classes of the divergences between teacher and student, averaged over "
        "the foreground anchors, or its gradients are others.",
        verified="Losses and gradients agree, for very sure anchors too, and without foreground it is 0.",
        note="Without the entropy the loss would be 0 for no student (trap 58). `clamp(min=1)` is for a batch without "
        "any foreground: 0 / 0 is NaN.",
    ),
    "08.box": compared(
        box_term,
        lambda: seeded_cases(None, 3),
        slips=BOX_SLIPS,
        through=_box_outcome,
        probing=False,
        diagnosing=False,
        otherwise="This is not the mean over all boxes of the student's squared error, 0 where the teacher's is as "
        "large or larger, or its gradients are others.",
        verified="Only boxes that are worse than the teacher's pay, each its whole error, and no gradient reaches the "
        "teacher.",
        note="The condition has no gradient, so nothing reaches the teacher. `.mean()` divides by all boxes, those "
        "too that pay nothing.",
    ),
    "08.level": compared(
        level_term,
        lambda: seeded_cases(None, 3),
        slips=LEVEL_SLIPS,
        through=_level_outcome,
        probing=False,
        diagnosing=False,
        otherwise="This is not the mean over the scenes of the squared errors, weighted by importances that sum to 1 "
        "in each scene, or its gradients are others.",
        verified="Each scene has weights of its own that sum to 1, and a bright scene does not mute the others.",
        note="The importance enters once. Both maps times the importance, and then the square, would weight by its "
        "square (trap 62).",
    ),
}
