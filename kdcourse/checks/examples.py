"""Small inputs on which a wrong answer shows, with all their numbers, so that a learner can try them. All exercises."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from .cases import Case, copy_of, written_out
from .converting import few
from .evidence import Evidence, arguments_of, float_inputs, on_each, replaced

MOST_NUMBERS = 20
_Tensor = torch.Tensor


def smallest_example(evidence: Evidence) -> str:
    """Return a sentence with inputs that can be copied, what comes and what is needed; nothing if none are small."""
    for case in _smaller(evidence.cases[evidence.first_wrong()]):
        if _size(case) > MOST_NUMBERS:
            continue
        found, needed = evidence.results_of(evidence.function, [case]), evidence.results_of(evidence.right, [case])
        if found is None or needed is None or not np.isfinite(needed[0]).all() or needed[0].size > MOST_NUMBERS:
            continue
        if not evidence.close(found, needed):
            inputs = written_out(case, evidence.names)
            return f"For {inputs} it returns {few(found[0])}; {few(needed[0])} is right."
    return ""


def _smaller(case: Case) -> Iterator[Case]:
    """Yield smaller and smaller versions of a case with rounded numbers; only plain arguments can be written out."""
    named = arguments_of(case)
    if not all(map(_is_plain, named.values())):
        return
    if not float_inputs(case):
        yield case
        return
    for rows, columns in ((2, 2), (2, 3), (3, 3), (3, 4), (4, 4), (5, 4), (None, None)):
        changes = {key: _cut(value, rows, columns) for key, value in named.items()}
        yield replaced(Case(copy_of(case.args), dict(case.kwargs)), changes)


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in (_Tensor, int, float, bool, str)


def _cut(value: Any, rows: int | None, columns: int | None) -> Any:
    if type(value) in (list, tuple) and all(type(part) is _Tensor for part in value):
        return on_each(value, lambda part: _cut(part, rows, columns))
    if type(value) is float:
        return round(value, 1) or value
    if type(value) is not _Tensor:
        return value
    cut = value[:rows] if value.dim() else value
    if value.dim() > 1:
        cut = cut[..., :columns]
    for dim in range(1, value.dim() - 1):
        cut = cut.narrow(dim, 0, min(rows or cut.shape[dim], cut.shape[dim]))
    if value.is_floating_point() and value.dim() == 2 and torch.allclose(value.sum(dim=1), torch.ones(len(value))):
        cut = (10 * cut / cut.sum(dim=1, keepdim=True)).round() / 10  # rows of probabilities stay some
        cut[:, -1] = 1 - cut[:, :-1].sum(dim=1)
        return cut
    if value.is_floating_point():
        return (10 * cut).round() / 10
    return cut.clamp(max=(columns or 1_000_000) - 1)


def _size(case: Case) -> int:
    values = [part for v in (*case.args, *case.kwargs.values()) for part in (v if type(v) in (list, tuple) else [v])]
    return sum(value.numel() if type(value) is _Tensor else 1 for value in values)
