"""Your teacher."""

import onnxruntime

from kdcourse.recipes import Ensemble, as_teacher, distill


def module(student, teacher, loader):
    """A module: torchvision, timm, your own"""
    return distill(student, teacher, loader, epochs=2)  # not changed, and asked in evaluation mode


def transformers_classifier(student, teacher, loader):
    """A classifier of transformers, with its attention mask"""
    return distill(student, teacher, loader, epochs=2, temperature=2)  # batches of input_ids, attention_mask, labels


def ensemble(student, teachers, loader):
    """An ensemble: the mean of its members' probabilities"""
    return distill(student, Ensemble(teachers), loader, epochs=2)


def scikit_learn(student, forest, X, y):
    """A forest, gradient boosting, or any classifier with `predict_proba`"""
    forest.fit(X, y)
    return distill(student, forest, (X, y), epochs=5, temperature=1, alpha=0.9)


def onnx_session(student, path, loader):
    """An ONNX file"""
    session = onnxruntime.InferenceSession(path)
    return distill(student, session, loader, epochs=2)


def function(student, ask_a_service, loader):
    """A function of the inputs, that returns probabilities"""
    teacher = as_teacher(ask_a_service, probabilities=True)
    return distill(student, teacher, loader, epochs=2)


def outputs_that_are_no_tensor(student, teacher, loader):
    """Logits inside a dict, an object or a tuple: say where"""
    return distill(student, teacher, loader, epochs=2, outputs="scores")


def outputs_that_differ(student, teacher, loader):
    """Student and teacher return different things"""
    return distill(student, as_teacher(teacher, outputs=0), loader, epochs=2, outputs="scores")
