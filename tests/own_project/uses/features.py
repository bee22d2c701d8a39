"""Features inside your models."""

from kdcourse.losses import HintRegressor, hint_loss
from kdcourse.models import capture, evaluating
from kdcourse.objectives import soft_target_objective
from kdcourse.recipes import distill, fitnets


def read_a_layer(model, images, layer):
    """Read any layer, as `model.named_modules()` names it"""
    with capture(model, layer) as features:
        model(images)
    return features[layer]


def fitnets_in_two_stages(student, teacher, loader):
    """FitNets on networks of torchvision"""
    layers = {"student_layer": "layer2", "teacher_layer": "layer2"}
    return fitnets(student, teacher, loader, **layers, hint_epochs=1, epochs=1)


def fitnets_of_transformers(student, teacher, loader, student_layer, teacher_layer):
    """FitNets on vision transformers: tokens are matched"""
    layers = {"student_layer": student_layer, "teacher_layer": teacher_layer}
    return fitnets(student, teacher, loader, **layers, hint_epochs=1, epochs=1)


def your_own_objective(student, teacher, loader, channels):
    """Your own objective: soft targets and a hint in one stage"""

    def objective(student, images, labels, teacher_logits, *, regressor, **knobs):
        with evaluating(teacher), capture(teacher, "layer1") as taught:
            teacher(images)
        with capture(student, "layer1") as learned:
            terms = soft_target_objective(student, images, labels, teacher_logits, **knobs)
        return terms | {"hint": 0.1 * hint_loss(regressor(learned["layer1"]), taught["layer1"])}

    return distill(student, teacher, loader, objective=objective, parts={"regressor": HintRegressor(*channels)})
