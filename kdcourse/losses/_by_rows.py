"""Losses of large logits, a few rows at a time: between the passes one number a row is kept. From chapter 09 on.

With a vocabulary of 128,000 entries one tensor of logits takes gigabytes, and the plain formula keeps several more of
that size for its gradient. Here each few rows are computed again when their gradient is due.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._high_temperature import is_high, scaled_kl
from ._numerics import in_one_precision, log_soften

LARGE = 2**22  # numbers of logits, 16 MB in float32: below, the plain formula is as fast, and fits
_AT_ONCE = {"cpu": 2**18}  # numbers that stay in a CPU's cache; a GPU wants more work at once
_AT_ONCE_ELSEWHERE = 2**26


def goes_by_rows(student: Tensor, *knobs: Any) -> bool:
    """Whether logits are so large that their loss goes by rows.

    Not under ``torch.func`` and ``torch.compile``, which see into the plain formula only, and not if a knob is learned.
    """
    return (
        type(student) in (Tensor, nn.Parameter)
        and student.numel() >= LARGE
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(student)
        and not any(isinstance(knob, Tensor) and _has_history(knob) for knob in knobs)
    )


def _has_history(knob: Tensor) -> bool:
    return knob.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(knob)


def by_rows(function: Callable[..., Tensor], student: Tensor, *others: Tensor, real: Tensor | None = None) -> Tensor:
    """Return ``function(student, *others)``, a few rows at a time; the gradient goes to the student.

    Parameters
    ----------
    function : callable
        Takes rows of all tensors, (n, K) and (n, ...), to (n, ...). A row's result must not depend on another row.
    student : Tensor, shape (..., K)
    others : Tensor, shape (..., ...)
        Their first dimensions are the student's.
    real : Tensor of int, shape (n,), optional
        Places of the rows that count, once the first dimensions are flattened. By default all count.

    Returns
    -------
    Tensor, shape (n, ...)
    """
    return _ByRows.apply(function, student, real, *others)


def row_divergences(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T² times the divergence of each row: (n, K) -> (n,)."""
    if is_high(temperature):
        return scaled_kl(student, teacher, temperature)
    log_q = log_soften(student, temperature)  # (n, K)
    log_p = log_soften(teacher, temperature)  # (n, K)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def divergences_and_surprises(
    student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float | Tensor
) -> Tensor:
    """Both terms of each row: T² times its divergence, and its cross-entropy or 0 where the label is -100: (n, 2)."""
    student, teacher = in_one_precision(student, teacher)
    labelled = (labels != -100).nonzero().squeeze(1)  # (words,)
    surprises = F.cross_entropy(
        student.index_select(0, labelled), labels.index_select(0, labelled).long(), reduction="none"
    )  # (words,)
    every = student.new_zeros(len(student)).index_copy(0, labelled, surprises)  # (n,)
    return torch.stack([row_divergences(student, teacher, temperature), every], dim=1)


class _ByRows(torch.autograd.Function):
    """Rows' results without their history; the history of a few rows is made again when their gradient is due."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Tensor], student: Tensor, real: Tensor | None, *others: Tensor
    ) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(student, real, *others)
        leading = student.dim() - 1
        results, start = student.new_empty(0), 0
        for part in _parts(student, real):
            found = function(*(_rows(tensor, part, leading) for tensor in (student, *others)))  # (n, ...)
            if start == 0:  # one tensor for all: small ones that stay between large ones would split the heap
                count = student.shape[:-1].numel() if real is None else len(real)
                results = found.new_empty(count, *found.shape[1:])
            results[start : start + len(found)] = found
            start += len(found)
        return results

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        student, real, *others = ctx.saved_tensors
        leading = student.dim() - 1
        if torch.is_grad_enabled():  # for a second derivative: all rows at once, with their history
            everything = slice(None) if real is None else real
            results = ctx.function(*(_rows(tensor, everything, leading) for tensor in (student, *others)))
            (gradient,) = torch.autograd.grad(results, student, upstream, create_graph=True)
            return None, gradient, None, *[None for _ in others]
        make = torch.empty if real is None else torch.zeros
        gradient = make(student.shape, dtype=student.dtype, device=student.device)
        rows_of_gradient = gradient.view(-1, student.shape[-1])
        start = 0
        for part in _parts(student, real):
            rows = _rows(student, part, leading).detach().requires_grad_()  # (n, K)
            with torch.enable_grad():
                results = ctx.function(rows, *(_rows(tensor, part, leading) for tensor in others))  # (n, ...)
            (rows_of_gradient[part],) = torch.autograd.grad(results, rows, upstream[start : start + len(results)])
            start += len(results)
        return None, gradient, None, *[None for _ in others]


def _parts(student: Tensor, real: Tensor | None) -> list[slice] | list[Tensor]:
    """Split the rows so that what is computed at once is a small share of the logits."""
    limit = min(_AT_ONCE.get(student.device.type, _AT_ONCE_ELSEWHERE), student.numel() // 16)
    rows = max(1, limit // student.shape[-1])
    if real is not None:
        return list(real.split(rows))
    count = student.shape[:-1].numel()
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def _rows(tensor: Tensor, part: slice | Tensor, leading: int) -> Tensor:
    """Pick rows by their place in the flattened leading dimensions; nothing but these rows is copied."""
    try:
        return tensor.view(-1, *tensor.shape[leading:])[part]
    except RuntimeError:  # no view, as of logits without their last token
        if isinstance(part, slice):
            part = torch.arange(*part.indices(tensor.shape[:leading].numel()), device=tensor.device)
        return tensor[torch.unravel_index(part, tensor.shape[:leading])]
