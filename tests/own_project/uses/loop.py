"""Your loop."""

from functools import partial

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, DistributedSampler

from kdcourse.losses import kd_loss
from kdcourse.objectives import soft_target_objective
from kdcourse.recipes import distill
from kdcourse.training import KeepBest, accuracy, learning_rate
from kdcourse.training.schedules import piecewise


def warm_up(student, teacher, loader):
    """A learning rate that warms up and falls"""
    schedule = piecewise([(0, 0.1), (0.25, 1), (1, 0)])  # progress from 0 to 1 -> factor
    return distill(student, teacher, loader, epochs=2, make_scheduler=learning_rate(schedule))


def scheduler_of_torch(student, teacher, loader):
    """Any scheduler of torch, one step after each batch"""
    make_scheduler = lambda optimizer, steps: OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    return distill(student, teacher, loader, epochs=2, make_scheduler=make_scheduler)


def other_optimizer(student, teacher, loader):
    """Your optimizer"""
    make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    return distill(student, teacher, loader, epochs=2, make_optimizer=make_optimizer)


def accumulation(student, teacher, loader):
    """Large batches in little memory: the same step, in four pieces"""
    return distill(student, teacher, loader, epochs=2, accumulate=4)


def clipping(student, teacher, loader):
    """A limit to the gradient, over all learned parts together"""
    return distill(student, teacher, loader, epochs=2, clip_norm=1.0)


def mixed_precision(student, teacher, loader):
    """Mixed precision; the recorded losses are not scaled"""
    scaler = torch.amp.GradScaler(next(student.parameters()).device.type)  # for float16; bfloat16 needs none
    return distill(student, teacher, loader, epochs=2, autocast=torch.bfloat16, scaler=scaler)


def early_stopping(student, teacher, loader, validation):
    """Early stopping with the best weights"""
    best = KeepBest("accuracy", patience=3)
    evaluate = lambda model: {"accuracy": accuracy(model, validation)}
    history = distill(student, teacher, loader, epochs=50, evaluate=evaluate, keep_best=best)
    return history, best


def more_epochs(student, teacher, loader, path):
    """More epochs from a finished checkpoint"""
    return distill(student, teacher, loader, epochs=5, checkpoint=path, more_epochs=True)


def compiled(student, teacher, loader):
    """torch.compile of student and loss"""
    fast = torch.compile(student)  # the weights are the student's own
    objective = partial(soft_target_objective, loss=torch.compile(kd_loss))
    return distill(fast, teacher, loader, epochs=2, objective=objective)


def several_processes(student, teacher, dataset):
    """Several GPUs or processes, started by torchrun"""
    loader = DataLoader(dataset, batch_size=16, sampler=DistributedSampler(dataset))
    return distill(DistributedDataParallel(student), teacher, loader, epochs=2)
