"""Your data."""

import torch
from torch.utils.data import DataLoader

from kdcourse.recipes import distill
from kdcourse.training import accuracy, predict_logits


def loader_of_tuples(student, teacher, dataset):
    """A DataLoader of (image, label) tuples"""
    loader = DataLoader(dataset, batch_size=32, shuffle=True)
    return distill(student, teacher, loader, epochs=2)


def loader_of_dicts(student, teacher, dataset):
    """A DataLoader of dicts: every key but the labels is an argument of the model"""
    loader = DataLoader(dataset, batch_size=32, shuffle=True)  # {"pixels": …, "labels": …}
    return distill(student, teacher, loader, epochs=2)


def dicts_with_other_names(student, teacher, loader):
    """Batches of any other shape: say what is what"""
    return distill(student, teacher, loader, epochs=2, unpack=lambda batch: (batch["scan"], batch["finding"]))


def dataset_alone(student, teacher, dataset):
    """A Dataset: it is shuffled and batched for you"""
    return distill(student, teacher, dataset, epochs=2, batch_size=32, seed=1)


def numpy_arrays(student, teacher, images, labels):
    """NumPy arrays, or tensors: the teacher is asked once"""
    return distill(student, teacher, (images, labels), epochs=2, batch_size=32)


def any_iterable(student, teacher, batches):
    """Any iterable of batches, such as a list or a class with `__iter__`"""
    return distill(student, teacher, batches, epochs=2)


def drop_last(student, teacher, dataset):
    """A last batch of one sample is left out"""
    loader = DataLoader(dataset, batch_size=32, shuffle=True, drop_last=True)
    return distill(student, teacher, loader, epochs=2)


def evaluate_on_a_loader(student, teacher, loader, validation):
    """History, and an evaluation after each epoch"""
    evaluate = lambda model: {"accuracy": accuracy(model, validation)}
    history = distill(student, teacher, loader, epochs=2, evaluate=evaluate)
    return history.terms["kd"], history.evaluations[-1]["accuracy"]


def resume_a_loader(student, teacher, loader, path):
    """A checkpoint: run it again after a crash, and it ends in the same bits"""
    return distill(student, teacher, loader, epochs=3, seed=4, checkpoint=path)


def augmentation_with_a_loader(student, teacher, dataset_with_random_transforms):
    """Random augmentation in the data set: the teacher sees the view that the student sees"""
    loader = DataLoader(dataset_with_random_transforms, batch_size=32, shuffle=True)
    return distill(student, teacher, loader, epochs=2)


def augmentation_of_tensors(student, teacher, images, labels, augment):
    """Augmentation of tensors, for a whole batch at once: `augment(images, generator)`"""
    return distill(student, teacher, (images, labels), epochs=2, augment=augment)


def cached_views(student, teacher, images, labels, augment):
    """A cache of answers for views, each with its own key"""
    views = torch.cat([augment(images, torch.Generator().manual_seed(key)) for key in range(4)])
    answers = predict_logits(teacher, views)  # once; row i belongs to view i
    return distill(student, answers, (views, labels.repeat(4)), epochs=2)
