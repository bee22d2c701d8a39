"""A learner's function beside the right one: the same results, or what is probably wrong. All exercises."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .cases import Case, argument_names, describe, what_changed
from .converting import ATOL, RTOL, as_numbers, is_close, is_whole
from .diagnoses import explain, not_finite
from .evidence import Evidence
from .examples import smallest_example
from .failures import CheckFailed, check_callable, fail, line_of, name_of, named_like, shown_alone
from .slips import Slips


def check_values(
    function: Callable,
    right: Callable,
    cases: Sequence[Case],
    *,
    slips: Slips | None = None,
    through: Callable[[Callable], Callable] | None = None,
    edge: str = "",
    otherwise: str = "",
    terms: tuple[str, str] | None = None,
    diagnosing: bool = True,
    probing: bool = True,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> None:
    """Compare a learner's function with the right one on every case, and say what is probably wrong.

    Parameters
    ----------
    function : callable
        The learner's.
    right : callable
        The right one, with the same arguments. It and the slips return a tensor, a number, or a list, tuple or dict
        of them.
    cases : sequence of Case
        Inputs; several, with shapes that tell mistakes apart.
    slips : mapping from str to Slip, optional
        The first whose results agree with the learner's in every case gives the message.
    through : callable, optional
        Adapter for all functions alike, such as one that builds a small network from a seed and calls the function.
    edge : str
        What is special about these cases, such as ``"a row that is sure"``: named in messages.
    otherwise : str
        Message where neither a slip nor a diagnosis explains what came.
    terms : (str, str), optional
        Names of the terms that have the weights α and 1 - α.
    diagnosing : bool
        Whether a mistake without a slip is looked for in the numbers.
    probing : bool
        Whether the functions may be called again to find out what is wrong. Not where a call trains something.
    rtol, atol : float
        Relative and absolute tolerance.

    Raises
    ------
    CheckFailed
        If a result is wrong, is not made of numbers, or the function raises an error or changes its input.
    NotImplementedError
        If the function is still the stub.
    """
    check_callable(function)
    name, names = name_of(function), argument_names(function if through is None else right, cases[0])
    adapted, oracle = (
        (function, right) if through is None else (named_like(function, through(function)), through(right))
    )
    values = [_run(adapted, function, case, names, edge) for case in cases]
    needed = [case.call(oracle) for case in cases]
    if type(values[0]) is dict and type(needed[0]) is not dict:
        fail(f"{name} returned a dict; asked for is {_kind_of(needed[0])}, without names.")
    found = [as_numbers(value, name) for value in values]
    expected = [as_numbers(value, "the right result") for value in needed]
    evidence = Evidence(name, adapted, oracle, cases, found, expected, names, rtol, atol)
    if all(is_close(*pair, rtol=rtol, atol=atol) for pair in zip(found, expected, strict=True)):
        _check_whole(values, needed, name)
        return
    for slip in (slips or {}).values():
        if any(_agrees(wrong, evidence, through) for wrong in slip.wrong):
            fail(slip.message)
    where = f"Ordinary inputs are right. What is wrong is the edge: {edge}. " if edge else ""
    explained = explain(evidence, terms=terms, probing=probing) if diagnosing else ""
    if not diagnosing and not edge:
        explained = not_finite(evidence)
    if explained or otherwise:
        fail(where + explained if explained else otherwise)
    fail(where + _what_differs(evidence, probing=probing))


def check_edge(
    function: Callable, right: Callable, cases: Sequence[Case], message: str, *, edge: str = "", **settings: Any
) -> None:
    """Compare the functions at an edge, once ordinary inputs are right: one message for whatever goes wrong there.

    Parameters
    ----------
    function, right, cases
        As in `check_values`.
    message : str
        Message where no slip explains what came.
    edge : str
        What is special about these cases; named if the function raises an error.
    **settings
        Other arguments of `check_values`.
    """
    check_values(function, right, cases, otherwise=message, edge=edge, diagnosing=False, **settings)


def check_refusal(
    function: Callable, case: Case, *, accepted: str, other: str, error: type[Exception] = ValueError
) -> None:
    """Check that the function raises an error for what it must refuse.

    Parameters
    ----------
    function : callable
        The learner's.
    case : Case
        What is to be refused.
    accepted : str
        Message if a result comes back.
    other : str
        Message if another error is raised, with ``{}`` for it.
    error : type
        The error that is asked for.
    """
    try:
        case.call(function)
    except error:
        return
    except Exception as raised:
        fail(other.format(f"{type(raised).__name__}: {raised}"))
    fail(accepted)


def _run(adapted: Callable, function: Callable, case: Case, names: list[str], edge: str) -> Any:
    name, copies = name_of(function), case.copied()
    try:
        value = adapted(*copies.args, **copies.kwargs)
    except CheckFailed:
        raise
    except NotImplementedError as error:
        raise shown_alone(error) from None
    except Exception as error:
        at = f" at the edge: {edge}" if edge else ""
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".:")
        inputs = describe(case, names)
        raise CheckFailed(f"{name} raised {what}{line_of(error, function)}{at}. Inputs: {inputs}.") from error
    if inspect.isgenerator(value):
        fail(f"{name} must return its result, it yields.")
    labels = [*names, *case.kwargs]
    before_after = zip(
        labels, [*case.args, *case.kwargs.values()], [*copies.args, *copies.kwargs.values()], strict=True
    )
    for label, before, after in before_after:
        change = what_changed(before, after, label)
        if change:
            fail(f"{name} {change}. Whoever called it still needs what was handed over: work on a copy.")
    return value


def _kind_of(value: Any) -> str:
    if type(value) in (list, tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "a tensor" if isinstance(value, torch.Tensor) else "a number"


def _check_whole(values: Sequence[Any], needed: Sequence[Any], name: str) -> None:
    """Fail if whole numbers are needed and the right ones came as floats, which cannot be an index."""
    for value, right in zip(values, needed, strict=True):
        pairs = (
            zip(value, right, strict=True) if type(right) is tuple and len(value) == len(right) else [(value, right)]
        )
        for place, (one, other) in enumerate(pairs):
            if is_whole(other) and not is_whole(one) and type(other) is not bool:
                which = f"part {place} of what {name} returns" if type(right) is tuple else f"what {name} returns"
                fail(f"The numbers are right, but {which} must be whole (int64): 2.0 is no index and no count.")


def _agrees(wrong: Callable, evidence: Evidence, through: Callable | None) -> bool:
    """Whether a wrong function returns what the learner's did; the first case rules most of them out."""
    function, results = wrong if through is None else through(wrong), []
    for case, found in zip(evidence.cases, evidence.found, strict=True):
        values = evidence.results_of(function, [case])
        if values is None or values[0].shape != found.shape:
            return False
        # What is not finite explains what is not finite, so that a NaN has its message too.
        same_holes = (np.isfinite(found) == np.isfinite(values[0])).all()
        if not same_holes or not evidence.close([np.nan_to_num(found)], [np.nan_to_num(values[0])]):
            return False
        results.append(values[0])
    return not evidence.close(results, evidence.expected)


def _what_differs(evidence: Evidence, *, probing: bool) -> str:
    place = evidence.first_wrong()
    found, expected, case = evidence.found[place], evidence.expected[place], evidence.cases[place]
    inputs = describe(case, evidence.names)
    for_inputs = f", for inputs {inputs}" if set(case.kwargs) - {"seed"} or case.args else ""
    example = smallest_example(evidence) if probing else ""
    if example:
        return f"{evidence.name} is wrong. {example}"
    if found.size == 1:
        side = "large" if abs(float(found.reshape(-1)[0])) > abs(float(expected.reshape(-1)[0])) else "small"
        return f"{evidence.name} returns a number that is too {side}{for_inputs}."
    pairs = zip(found.reshape(-1), expected.reshape(-1), strict=True)
    wrong = [i for i, (a, b) in enumerate(pairs) if not is_close(a, b, rtol=evidence.rtol, atol=evidence.atol)]
    which = f"{len(wrong)} of {found.size} numbers are wrong, the first of them at place {wrong[0]}"
    return f"{evidence.name} returns {found.size} numbers; {which}{for_inputs}."
