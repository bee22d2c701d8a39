"""Where gradients flow and where not: part of a loss can be detached and its value stay right. All exercises."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .cases import Case, argument_names
from .evidence import float_inputs, replaced
from .failures import fail, name_of
from .slips import Slips

MOST_RESULTS = 8
Gradients = dict[tuple[int, str], Tensor]
_Tensor, _autograd, _zeros_like = torch.Tensor, torch.autograd.grad, torch.zeros_like


def check_gradients(
    function: Callable,
    right: Callable,
    case: Case,
    *,
    messages: Mapping[str, tuple[str, str]] | None = None,
    slips: Slips | None = None,
    skip: tuple[str, ...] = (),
    terms: tuple[str, str] | None = None,
) -> None:
    """Compare the gradients of a learner's function in all its arguments with the right ones.

    Parameters
    ----------
    function, right : callable
        The learner's function and the right one.
    case : Case
        Inputs. Every tensor of real numbers, also inside a list, is looked at.
    messages : mapping from str to (str, str), optional
        For the name of an argument the message if its gradient is missing, and if one flows that must not.
    slips : mapping from str to Slip, optional
        Functions with a right value and a typical wrong gradient.
    skip : tuple of str
        Names of arguments whose gradient does not matter.
    terms : (str, str), optional
        Names of the terms that have the weights α and 1 - α.

    Raises
    ------
    CheckFailed
        With where a gradient is missing, flows that must not, or is wrong.
    """
    name, names = name_of(function), argument_names(right, case)
    missing_first = next(iter((messages or {}).values()), ("", ""))[0]
    found = gradients_of(function, case, names, name, otherwise=missing_first)
    needed = gradients_of(right, case, names, "the right function")
    if found.keys() != needed.keys():
        fail(f"{name} returns {len({k[0] for k in found})} results, {len({k[0] for k in needed})} are needed.")
    if all(_close(found[key], needed[key]) for key in needed if _argument(key[1]) not in skip):
        return
    for slip in (slips or {}).values():
        for wrong in slip.wrong:
            values = gradients_of(wrong, case, names, "it")
            if values.keys() == found.keys() and all(_close(found[key], values[key]) for key in found):
                fail(slip.message)
    silent = _silent_term(right, case, names, found)
    if silent is not None:
        term = (terms or ("the term that α weights", "the term that 1 − α weights"))[silent]
        fail(
            f"{name} has the right value, but {term} trains nothing: what should learn from it is detached there, or "
            "computed without gradients."
        )
    for key, gradient in needed.items():
        argument = _argument(key[1])
        if argument in skip or _close(found[key], gradient):
            continue
        missing, leaking = (messages or {}).get(argument, ("", ""))
        if not found[key].abs().max() > 0:
            fail(missing or f"No gradient reaches `{key[1]}`, so it does not learn: is something detached too much?")
        if not gradient.abs().max() > 0:
            fail(leaking or f"A gradient reaches `{key[1]}`. It is a fixed target here: detach it.")
        fail(_wrong(name, key[1], found[key], gradient))


def _silent_term(right: Callable, case: Case, names: list[str], found: Gradients) -> int | None:
    """Return which of two terms, weighted by α and 1 - α, is missing in the gradients, or None."""
    alpha = case.kwargs.get("alpha")
    if type(alpha) is not float:
        return None
    for place, (share, weight) in enumerate(((0.0, 1 - alpha), (1.0, alpha))):
        only = gradients_of(right, replaced(case, {"alpha": share}), names, "the right function")
        if all(_close(found[key], weight * gradient) for key, gradient in only.items()):
            return place
    return None


def check_finite_gradient(function: Callable, case: Case, *, message: str, missing: str = "") -> None:
    """Fail with a message if a gradient is not finite, or with another one if there is none."""
    names = argument_names(function, case)
    gradients = gradients_of(function, case, names, name_of(function), otherwise=missing)
    if any(not bool(gradient.isfinite().all()) for gradient in gradients.values()):
        fail(message)


def gradients_of(function: Callable, case: Case, names: list[str], what: str, *, otherwise: str = "") -> Gradients:
    """Return the gradient of each result in each tensor of the arguments, by number of the result and name."""
    copies = case.copied()
    leaves = dict(_leaves(copies, names))
    for leaf in leaves.values():
        leaf.requires_grad_()
    with torch.enable_grad():
        results = list(_tensors(function(*copies.args, **copies.kwargs)))
    gradients = {}
    for number, result in enumerate(results):
        if type(result) is not _Tensor:
            plain = f"{what} returns a plain number: without .item() or float() it stays a tensor, and gradients flow."
            fail(f"{otherwise} {plain}".strip())
        if not result.requires_grad:
            detached = "Everything was detached, or computed under torch.no_grad() or in NumPy."
            fail(f"{otherwise or f'No gradient flows from what {what} returns.'} {detached}")
        parts = _autograd(result.sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
        for (name, leaf), part in zip(leaves.items(), parts, strict=True):
            gradients[number, name] = _zeros_like(leaf) if part is None else part
    return gradients


def _leaves(case: Case, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    for key, value in float_inputs(case).items():
        name = names[key] if isinstance(key, int) else key
        if type(value) is _Tensor:
            yield name, value
        else:
            yield from ((f"{name}[{place}]", part) for place, part in enumerate(value))


def _argument(name: str) -> str:
    return name.split("[")[0]


def _tensors(value: Any) -> Iterator[Any]:
    if type(value) in (list, tuple):
        for part in value:
            yield from _tensors(part)
    elif type(value) is dict:
        for key in sorted(value):
            yield from _tensors(value[key])
    elif type(value) is _Tensor and value.dim() == 1 and len(value) <= MOST_RESULTS:
        yield from value  # a stacked list of losses is a list of losses
    else:
        yield value


def _close(one: Tensor, other: Tensor) -> bool:
    size = float(other.abs().max())
    return bool(((one - other).abs() <= 1e-2 * other.abs() + 1e-3 * size + 1e-9).all())


def _wrong(name: str, leaf: str, found: Tensor, needed: Tensor) -> str:
    start = f"{name} has the right value and a wrong gradient in `{leaf}`"
    ratio = float((found * needed).sum() / needed.square().sum())
    if _close(found, ratio * needed):
        turned = "has the wrong sign" if ratio < 0 else f"is {ratio:.3g} times what it should be"
        return f"{start}: it {turned}. Part of the way was detached, or computed without gradients."
    if found.dim() > 1:
        silent = (found.flatten(1).abs().amax(dim=1) == 0) & (needed.flatten(1).abs().amax(dim=1) > 0)
        if silent.any():
            rows = ", ".join(map(str, silent.nonzero().flatten().tolist()[:5]))
            return f"{start}: none reaches row {rows}. Part of it was detached."
    return (
        f"{start}: somewhere on the way a tensor was detached, made into a number or computed without gradients, or "
        "it flows on a way where it must not."
    )
