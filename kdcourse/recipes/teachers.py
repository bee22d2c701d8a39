"""Anything that answers can teach: a module, a function, a scikit-learn classifier, an ONNX session. Chapter 13."""

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..hashing import content_hash
from ..models import evaluating
from ..models.outputs import Outputs, logits_of, select_logits

Teacher = Callable[[Any], Tensor]


def as_teacher(model: Any, *, outputs: Outputs | None = None, probabilities: bool = False) -> Teacher:
    """Return a function from the inputs of a batch to a teacher's logits, without gradients.

    Parameters
    ----------
    model : nn.Module, callable, scikit-learn classifier, or ONNX session
        A module is asked in evaluation mode and not changed. A function gets the inputs as they are in the batch. Of a
        classifier ``predict_proba`` is asked, with NumPy arrays and one row for each sample. Of a session of
        ``onnxruntime`` the first output is taken.
    outputs : str, int or callable, optional
        Where the logits are in what a module or function returns, as in :func:`kdcourse.models.logits_of`.
    probabilities : bool
        Whether a module, function or session returns probabilities. Then their log is the teacher's logits. A
        probability of 0 becomes the smallest positive number of float32.

    Returns
    -------
    callable
        ``teacher(inputs) -> Tensor (B, K)``, on the device of the inputs.

    Raises
    ------
    ValueError
        If the model cannot be asked, or the classes of a classifier are not 0, 1, 2, …: its columns would not be the
        student's.

    Examples
    --------
    >>> teacher = as_teacher(lambda inputs: inputs / inputs.sum(dim=1, keepdim=True), probabilities=True)
    >>> teacher(torch.tensor([[1.0, 3.0]])).softmax(dim=1)
    tensor([[0.2500, 0.7500]])
    """
    if isinstance(model, nn.Module):
        return partial(_ask_module, model, outputs, probabilities)
    if hasattr(model, "predict_proba"):
        classes = getattr(model, "classes_", [])
        classes = classes.tolist() if hasattr(classes, "tolist") else list(classes)
        if classes != list(range(len(classes))):
            raise ValueError(
                f"the classes of {type(model).__name__} are {classes[:10]}, and a student's labels are 0, 1, 2, …: "
                "column i would not be class i. Train it on labels that count from 0."
            )
        return partial(_ask_classifier, model)
    if hasattr(model, "run") and hasattr(model, "get_inputs"):
        return partial(_ask_session, model, probabilities)
    if callable(model):
        return partial(_ask_function, model, outputs, probabilities)
    raise ValueError(
        f"a teacher is a module, a function of the inputs, a classifier with predict_proba, or an ONNX session, got "
        f"{type(model).__name__}."
    )


def teacher_hash(model: Any) -> str:
    """Return a hash of a teacher, by which a checkpoint knows it again.

    A module counts by its weights, what can be pickled by its content, and anything else as ``content_hash`` reads it.

    Examples
    --------
    >>> model = nn.Linear(2, 2)
    >>> teacher_hash(model) == teacher_hash(nn.Linear(2, 2))
    False
    """
    if isinstance(model, nn.Module):
        return content_hash(model.state_dict())
    if hasattr(model, "predict_proba"):
        return content_hash(pickle.dumps(model))
    return content_hash(model, addresses=False)


def _ask_module(model: nn.Module, outputs: Outputs | None, probabilities: bool, inputs: Any) -> Tensor:
    with evaluating(model):
        return _as_logits(logits_of(model, inputs, outputs=outputs), probabilities)


def _ask_function(model: Callable[..., Any], outputs: Outputs | None, probabilities: bool, inputs: Any) -> Tensor:
    with torch.no_grad():
        logits = select_logits(model(inputs), outputs)
    return _as_logits(logits.to(_device_of(inputs)), probabilities)


def _ask_classifier(model: Any, inputs: Any) -> Tensor:
    if not isinstance(inputs, Tensor):
        raise ValueError(
            f"{type(model).__name__} takes one row of numbers for each sample, got inputs of type "
            f"{type(inputs).__name__}. Choose them: as_teacher(lambda inputs: model.predict_proba(...), "
            "probabilities=True)."
        )
    answers = model.predict_proba(inputs.detach().cpu().flatten(1).numpy())  # (B, K)
    if isinstance(answers, list):
        raise ValueError(
            f"{type(model).__name__} answers {len(answers)} questions at once. Turn them into logits yourself: "
            "as_teacher(lambda inputs: ...), with objective=sigmoid_objective."
        )
    return _as_logits(torch.as_tensor(answers).to(inputs.device), True)


def _ask_session(session: Any, probabilities: bool, inputs: Any) -> Tensor:
    named = inputs if isinstance(inputs, Mapping) else {session.get_inputs()[0].name: inputs}
    wanted = {entry.name for entry in session.get_inputs()}
    feed = {name: value.detach().cpu().numpy() for name, value in named.items() if name in wanted}
    return _as_logits(torch.as_tensor(session.run(None, feed)[0]).to(_device_of(inputs)), probabilities)


def _as_logits(answers: Tensor, probabilities: bool) -> Tensor:
    """Logits; of probabilities the log, which the softmax turns into probabilities again."""
    answers = answers.detach()
    return answers.clamp_min(torch.finfo(torch.float32).tiny).log() if probabilities else answers


def _device_of(inputs: Any) -> torch.device:
    tensors = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    return next((one.device for one in tensors if isinstance(one, Tensor)), torch.device("cpu"))
