"""Your head and your labels."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms import v2

from kdcourse.objectives import sigmoid_objective, soft_target_objective
from kdcourse.recipes import distill
from kdcourse.training import accuracy


def segmentation(student, teacher, loader):
    """Segmentation: logits (B, K, H, W), labels (B, H, W), -100 for pixels that do not count"""
    history = distill(student, teacher, loader, epochs=2)
    return history, accuracy(student, loader)


def tokens(student, teacher, loader):
    """A label for each token; tokens with the label -100 do not count"""
    history = distill(student, teacher, loader, epochs=2, temperature=2)
    return history, accuracy(student, loader)


def several_labels(student, teacher, loader):
    """Several labels at once: a sigmoid for each"""
    return distill(student, teacher, loader, epochs=2, objective=sigmoid_objective)


def one_logit(student, teacher, loader):
    """Yes or no: one logit with a sigmoid"""
    weigh = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    objective = partial(sigmoid_objective, label_loss=weigh)
    return distill(student, teacher, loader, epochs=2, objective=objective)


def class_weights(student, teacher, loader, weights):
    """Class weights and label smoothing in the label term"""
    label_loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)
    objective = partial(soft_target_objective, label_loss=label_loss)
    return distill(student, teacher, loader, epochs=2, objective=objective)


def mixup(student, teacher, dataset, classes):
    """Mixup: soft labels, and the teacher sees the mixed images"""
    mix = v2.MixUp(num_classes=classes)
    collate = lambda samples: mix(*default_collate(samples))
    loader = DataLoader(dataset, batch_size=32, shuffle=True, collate_fn=collate)
    objective = partial(soft_target_objective, label_loss=F.cross_entropy)
    return distill(student, teacher, loader, epochs=2, objective=objective)
