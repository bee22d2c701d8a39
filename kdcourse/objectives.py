"""Objectives that several chapters use, all of one shape: student and batch in, weighted terms of the loss out.

Chapters 02, 03, 07, 09 and 13. ``objective(student, *batch, **knobs) -> dict[str, Tensor]``; ``with_knobs`` feeds the
knobs from sliders, numbers or schedules.
"""

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ._arguments import check_alpha, check_temperature
from .heads import check_class_indices, label_term, rows_of
from .heads import sigmoid_objective as sigmoid_objective
from .losses import distilbert_terms, hint_loss, kd_loss, mutual_learning_loss
from .models import capture, evaluating, logits_of
from .models.outputs import Outputs, call

Terms = dict[str, Tensor]


def label_objective(
    student: Callable[..., Any],
    images: Any,
    labels: Tensor,
    *rest: Tensor,
    label_smoothing: float | Tensor = 0.0,
    label_loss: Callable[..., Tensor] | None = None,
    outputs: Outputs | None = None,
) -> Terms:
    """Learn from the labels alone: cross-entropy, optionally with smoothed labels.

    Parameters
    ----------
    student : nn.Module
    images, labels : Tensor
        Shapes (B, ...) and (B,). Images may be a mapping from argument to tensor; logits and labels may also be tokens
        or class maps, as in :func:`kdcourse.heads.rows_of`.
    *rest : Tensor
        Further tensors of the batch, such as teacher logits; they are ignored.
    label_smoothing : float
        Share of the target that is spread evenly over the classes, in [0, 1). It is the second baseline of every
        comparison: it softens the targets too, but it knows nothing of the sample.
    label_loss, outputs
        As in ``soft_target_objective``.

    Returns
    -------
    dict
        With the term ``ce``.

    Examples
    --------
    >>> import torch
    >>> student = nn.Linear(3, 10)
    >>> list(label_objective(student, torch.rand(4, 3), torch.arange(4), label_smoothing=0.1))
    ['ce']
    """
    logits = logits_of(student, images, outputs=outputs)  # (B, K)
    logits, _, labels = rows_of(logits, logits, labels)
    if label_loss is not None:
        return {"ce": label_loss(logits, labels)}
    return {"ce": _cross_entropy(logits, labels, label_smoothing)}


def soft_target_objective(
    student: Callable[..., Any],
    images: Any,
    labels: Tensor,
    teacher_logits: Tensor,
    *rest: Any,
    temperature: float | Tensor = 4.0,
    alpha: float | Tensor = 0.7,
    loss: Callable[..., Tensor] = kd_loss,
    label_loss: Callable[..., Tensor] | None = None,
    outputs: Outputs | None = None,
) -> Terms:
    r"""Learn from a teacher's soft targets and from the labels (Hinton's objective).

    .. math:: \alpha \cdot \mathrm{loss}(z_s, z_t; T) + (1 - \alpha) \cdot \mathrm{CE}(z_s, y)

    Parameters
    ----------
    student : nn.Module
    images, labels : Tensor
        Shapes (B, ...) and (B,). Images may be a mapping from argument to tensor. Labels of tokens (B, L) and of class
        maps (B, H, W) go with logits (B, L, K) and (B, K, H, W); a position with the label -100 is left out of both
        terms.
    teacher_logits : Tensor, shape (B, K)
        The teacher's logits for these images, usually computed once for the whole data set.
    *rest : Tensor
        Further parts of the batch; they are ignored.
    temperature : float
        T > 0.
    alpha : float
        The share of the teacher's term, in [0, 1].
    loss : callable
        ``loss(student_logits, teacher_logits, *, temperature)``.
    label_loss : callable, optional
        ``label_loss(logits, labels)`` instead of the cross-entropy: ``nn.CrossEntropyLoss(weight=class_weights,
        label_smoothing=0.1)``, or ``F.cross_entropy`` for soft labels (B, K), such as those of mixup.
    outputs : str, int or callable, optional
        Where the student's logits are if it returns no tensor, as in :func:`kdcourse.models.logits_of`.

    Returns
    -------
    dict
        With the terms ``kd`` and ``ce``, already weighted. Both are 0 for a batch in which no position counts.

    Examples
    --------
    >>> import torch
    >>> student, teacher_logits = nn.Linear(3, 10), torch.randn(4, 10)
    >>> terms = soft_target_objective(student, torch.rand(4, 3), torch.arange(4), teacher_logits, temperature=2.0)
    >>> list(terms)
    ['kd', 'ce']
    """
    check_temperature(temperature)
    check_alpha(alpha)
    logits = logits_of(student, images, outputs=outputs)  # (B, K)
    if label_loss is None:
        check_class_indices(labels)
    logits, teacher_logits, labels = rows_of(logits, teacher_logits, labels)
    if len(logits) == 0:  # every position is ignored
        return {"kd": logits.sum(), "ce": logits.sum()}
    kd = loss(logits, teacher_logits, temperature=temperature)
    return {"kd": alpha * kd, "ce": (1 - alpha) * label_term(logits, labels, label_loss)}


def hint_objective(
    student: nn.Module,
    images: Tensor,
    *rest: Tensor,
    teacher: nn.Module,
    regressor: nn.Module,
    student_layer: str,
    teacher_layer: str,
) -> Terms:
    """Learn the teacher's features at one layer, the first stage of FitNets; no labels are needed.

    The teacher runs on every batch, in evaluation mode: its feature maps of a whole data set would fill the memory.

    Parameters
    ----------
    student : nn.Module
    images : Tensor, shape (B, ...)
    *rest : Tensor
        Further tensors of the batch; they are ignored.
    teacher : nn.Module
        Not changed.
    regressor : nn.Module
        Carries the guided layer's features to the hint's shape, and learns with the student.
    student_layer, teacher_layer : str
        Names of the guided layer and of the hint layer, as in ``model.named_modules()``.

    Returns
    -------
    dict
        With the term ``hint``.

    Examples
    --------
    >>> import torch
    >>> from kdcourse.losses import HintRegressor
    >>> from kdcourse.models import make_cnn
    >>> layers = {"student_layer": "stage1", "teacher_layer": "stage1", "regressor": HintRegressor(2, 4)}
    >>> list(hint_objective(make_cnn(2), torch.rand(3, 1, 28, 28), teacher=make_cnn(4), **layers))
    ['hint']
    """
    with evaluating(teacher), capture(teacher, teacher_layer) as teacher_features:
        call(teacher, images)
    with capture(student, student_layer) as student_features:
        call(student, images)
    return {"hint": hint_loss(regressor(student_features[student_layer]), teacher_features[teacher_layer])}


def mutual_objective(
    cohort: Callable[..., list[Tensor]],
    images: Tensor,
    labels: Tensor,
    *rest: Tensor,
    temperature: float = 1.0,
    loss: Callable[..., list[Tensor]] = mutual_learning_loss,
) -> Terms:
    """Learn from the labels and from one's peers: one term per student of a cohort.

    Parameters
    ----------
    cohort : Cohort
        Returns a list of logits, one (B, K) tensor per student.
    images, labels : Tensor
        Shapes (B, ...) and (B,).
    *rest : Tensor
        Further tensors of the batch; they are ignored.
    temperature : float
        T > 0; 1 in the paper.
    loss : callable
        ``mutual_learning_loss`` (pairwise), or ``mutual_ensemble_loss`` (average of the peers' logits).

    Returns
    -------
    dict
        With the terms ``student 0``, ``student 1``, …

    Examples
    --------
    >>> import torch
    >>> one, other = nn.Linear(3, 10), nn.Linear(3, 10)
    >>> list(mutual_objective(lambda x: [one(x), other(x)], torch.rand(4, 3), torch.arange(4)))
    ['student 0', 'student 1']
    """
    losses = loss(cohort(images), labels, temperature=temperature)
    # Peers are detached in each loss, so their sum gives every student the gradient of its own.
    return {f"student {number}": term for number, term in enumerate(losses)}


def distilbert_objective(
    student: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    *,
    teacher: nn.Module,
    temperature: float = 2.0,
    kd_weight: float = 5.0,
    mlm_weight: float = 2.0,
    cosine_weight: float = 1.0,
) -> Terms:
    """Learn as DistilBERT did: soft targets, masked words, and the direction of the last hidden states.

    Parameters
    ----------
    student : nn.Module
        A masked language model of ``transformers``.
    input_ids, attention_mask : Tensor, shape (B, L)
        The tokenizer's, with some words hidden.
    labels : Tensor, shape (B, L)
        The hidden words, -100 everywhere else; see :func:`kdcourse.data.mask_words`.
    teacher : nn.Module
        A masked language model of ``transformers``. It runs in evaluation mode and without gradients; its own mode
        and ``requires_grad`` stay as they are.
    temperature, kd_weight, mlm_weight, cosine_weight : float
        As in :func:`kdcourse.losses.distilbert_terms`.

    Returns
    -------
    dict
        With the terms ``kd``, ``mlm`` and ``cosine``, already weighted.

    Examples
    --------
    >>> import torch
    >>> from types import SimpleNamespace
    >>> class Model(nn.Embedding):
    ...     def forward(self, input_ids, **ignored):
    ...         hidden = super().forward(input_ids)  # (B, L, D)
    ...         return SimpleNamespace(logits=hidden @ self.weight.T, hidden_states=[hidden])
    >>> words = torch.tensor([[3, 1, 2]])
    >>> terms = distilbert_objective(Model(5, 4), words, torch.ones_like(words), words, teacher=Model(5, 4))
    >>> list(terms)
    ['kd', 'mlm', 'cosine']
    """
    tokens = {"input_ids": input_ids, "attention_mask": attention_mask}
    with evaluating(teacher):
        taught = teacher(**tokens, output_hidden_states=True)
    learned = student(**tokens, output_hidden_states=True)
    return distilbert_terms(
        learned.logits,  # (B, L, K)
        taught.logits,
        labels,
        learned.hidden_states[-1],  # (B, L, D)
        taught.hidden_states[-1],
        attention_mask=attention_mask,
        temperature=temperature,
        kd_weight=kd_weight,
        mlm_weight=mlm_weight,
        cosine_weight=cosine_weight,
    )


def with_knobs(objective: Callable[..., Terms], knobs: Any) -> Callable[..., Terms]:
    """Return an objective whose knobs are read anew at each step.

    Parameters
    ----------
    objective : callable
        ``objective(student, *batch, **knobs) -> dict[str, Tensor]``.
    knobs : object or mapping
        An object, such as ``kdcourse.training.Knobs``, whose attributes sliders may change: the objective gets those
        that it has keywords for (all of them if it takes any keyword). Or a mapping from keyword to value: the
        objective gets all of them. A value that is a function is a schedule: it is called with the progress of
        training, from 0 to 1. (Bind any other function, such as a loss, with ``functools.partial``.)

    Returns
    -------
    callable
        An objective with the further keyword ``progress``, which ``kdcourse.training.fit`` and ``sweep`` fill in.

    Raises
    ------
    ValueError
        If a key of the mapping is no keyword of the objective.

    Examples
    --------
    >>> import torch
    >>> objective = with_knobs(label_objective, {"label_smoothing": lambda progress: 0.2 * (1 - progress)})
    >>> batch = nn.Linear(3, 10), torch.rand(4, 3), torch.arange(4)
    >>> bool(objective(*batch, progress=1.0)["ce"] == label_objective(*batch)["ce"])
    True
    """
    if isinstance(knobs, Mapping):
        check_keywords(objective, knobs)
        names = tuple(knobs)
    else:
        names = tuple(name for name in vars(knobs) if takes_keyword(objective, name))
    return partial(_with_knobs, objective, knobs, names, "progress" in keywords_of(objective))


def keywords_of(objective: Callable[..., Terms]) -> list[str]:
    """Return the names of an objective's keyword-only arguments, its knobs and parts.

    Examples
    --------
    >>> keywords_of(soft_target_objective)
    ['temperature', 'alpha', 'loss', 'label_loss', 'outputs']
    """
    parameters = inspect.signature(objective).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def takes_keyword(objective: Callable[..., Terms], name: str) -> bool:
    """Whether an objective has a keyword of this name, or takes any.

    Examples
    --------
    >>> takes_keyword(soft_target_objective, "alpha"), takes_keyword(hint_objective, "alpha")
    (True, False)
    """
    return _takes_any(objective) or name in keywords_of(objective)


def check_keywords(objective: Any, names: Collection[str]) -> None:
    """Raise unless an objective is a function that takes all of the names as keywords.

    Examples
    --------
    >>> check_keywords(soft_target_objective, ["temprature"])
    Traceback (most recent call last):
    ...
    ValueError: the objective soft_target_objective has no keyword 'temprature'. Did you mean 'temperature'? ...
    """
    if not callable(objective):
        raise ValueError(f"an objective is a function of student and batch, got {type(objective).__name__}.")
    if _takes_any(objective):
        return
    keywords = keywords_of(objective)
    unknown = [name for name in names if name not in keywords]
    if unknown:
        near = difflib.get_close_matches(unknown[0], keywords, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else f"It has {keywords}. "
        raise ValueError(
            f"the objective {_name_of(objective)} has no keyword {unknown[0]!r}. {hint}A knob that reaches nothing "
            "would be turned in vain. Knobs are keyword-only: def objective(student, images, labels, *, …)."
        )


def _with_knobs(
    objective: Callable[..., Terms],
    knobs: Any,
    names: tuple[str, ...],
    wants_progress: bool,
    student: Any,
    *batch: Tensor,
    progress: float = 0.0,
    **more: Any,
) -> Terms:
    """Read the knobs and call the objective; a function of this module, so that other processes can import it."""
    if wants_progress:
        more["progress"] = progress
    for name in names:
        value = knobs[name] if isinstance(knobs, Mapping) else getattr(knobs, name)
        more[name] = value(progress) if callable(value) else value
    return objective(student, *batch, **more)


def _takes_any(objective: Callable[..., Terms]) -> bool:
    return any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(objective).parameters.values()
    )


def _cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float | Tensor = 0.0) -> Tensor:
    check_class_indices(labels)
    if not isinstance(label_smoothing, Tensor):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}: at 1 the labels say nothing.")
        return F.cross_entropy(logits, labels.long(), label_smoothing=label_smoothing)
    # F.cross_entropy takes no tensor for the share, which differs from student to student in a sweep.
    log_q = F.log_softmax(logits, dim=-1)  # (B, K)
    return (1 - label_smoothing) * F.nll_loss(log_q, labels.long()) - label_smoothing * log_q.mean()


def _name_of(objective: Any) -> str:
    while isinstance(objective, partial):
        objective = objective.func
    return str(getattr(objective, "__name__", type(objective).__name__))
