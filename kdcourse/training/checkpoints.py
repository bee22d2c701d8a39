"""Checkpoints of ``fit``: written atomically, refused by a run with other settings. Chapter 01, behind the scenes.

A checkpoint knows what it belongs to: the objective with its code and knobs, the optimizer and its settings, the data.
"""

import copy
import functools
import io
import math
import zipfile
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from .._files import check_writable, write_atomically
from ..data.batches import Minibatches
from ..data.loaders import LoaderBatches
from ..hashing import content_hash


def settings_of(
    objective: Any, optimizer: Optimizer, batches: Minibatches | LoaderBatches, *, others: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe a run by what decides its result, so that a checkpoint of another run is not taken for its own.

    Parameters
    ----------
    objective : callable
        Described by its name and by a hash of its code, its knobs and all that it refers to, such as a teacher.
    optimizer : torch.optim.Optimizer
        Described by its type and by the settings that it has before the first step.
    batches : Minibatches or LoaderBatches
        Tensors are described by their number of samples and a hash of their content, a loader by the kind of its data
        set, the samples and the batch size.
    others : mapping from str to number, str, or list of them
        Further settings.

    Examples
    --------
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> settings = settings_of(print, optimizer, Minibatches(torch.zeros(3, 2)), others={"epochs": 2})
    >>> settings["epochs"], settings["objective"].split(" ")[0], settings["optimizer"]
    (2, 'print', 'SGD(lr=0.1)')
    """
    samples, data = _describe_data(batches)
    return {
        **{name: _plain(value) for name, value in others.items()},
        "samples": samples,
        "data": data,
        "objective": f"{_name_of(objective)} {content_hash(objective, addresses=False)[:12]}",
        "optimizer": _describe(optimizer),
    }


def check_can_be_saved(path: Path, parts: Mapping[str, Any]) -> None:
    """Raise unless a checkpoint can be written there and read again. Asked before the work, so that none is lost.

    Raises
    ------
    OSError
        If the file cannot be written; the error names it.
    ValueError
        If the state of a part holds what a checkpoint cannot, such as a NumPy number or an object; it names the part.

    Examples
    --------
    >>> import tempfile
    >>> check_can_be_saved(Path(tempfile.mkdtemp()) / "run.pt", {"student": torch.nn.Linear(2, 2)})
    """
    size = 0
    for name, part in parts.items():
        buffer = io.BytesIO()
        torch.save(part.state_dict(), buffer)
        size += buffer.tell()
        buffer.seek(0)
        try:
            torch.load(buffer, map_location="cpu", weights_only=True)
        except Exception:
            raise ValueError(
                f"the state of {name!r} cannot be kept in a checkpoint: its state_dict must hold tensors, numbers, "
                "text, and lists and dicts of them. Turn NumPy numbers into Python's with float() or int()."
            ) from None
    check_writable(path, size=size)


def save_checkpoint(path: Path, parts: dict[str, Any], settings: dict, history: dict) -> None:
    """Write the state of every part, the settings, the history, and torch's global generators.

    Examples
    --------
    >>> import tempfile
    >>> path, student = Path(tempfile.mkdtemp()) / "run.pt", torch.nn.Linear(2, 2)
    >>> save_checkpoint(path, {"student": student}, {"epochs": 5}, {"evaluations": []})
    >>> load_checkpoint(path, {"student": student}, {"epochs": 5})
    {'evaluations': []}
    """
    state = {
        "settings": settings,
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "history": history,
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path, parts: dict[str, Any], settings: dict, *, more_epochs: bool = False) -> dict:
    """Put every part and torch's global generators into the saved state; return the history.

    With ``more_epochs``, a checkpoint of the same run with fewer epochs is continued too.

    Raises
    ------
    ValueError
        If the file is no checkpoint, is damaged, or belongs to a run with other settings or parts. Nothing is changed
        then.

    Examples
    --------
    >>> import tempfile
    >>> path, student = Path(tempfile.mkdtemp()) / "run.pt", torch.nn.Linear(2, 2)
    >>> save_checkpoint(path, {"student": student}, {"epochs": 5}, {"evaluations": []})
    >>> load_checkpoint(path, {"student": student}, {"epochs": 6})
    Traceback (most recent call last):
    ...
    ValueError: checkpoint ...run.pt belongs to a run with other settings (epochs: 5 there, 6 here). ...
    """
    try:
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved, history = state["settings"], state["history"]
        saved = saved | {"parts": sorted(state["parts"])}
    except Exception as error:
        # Not the error's own words: torch's advise to load the file in a way that runs whatever code is in it.
        raise ValueError(
            f"{path} is not a checkpoint that fit wrote ({type(error).__name__}). Delete it to start anew."
        ) from None
    here = settings | {"parts": sorted(parts)}
    if more_epochs and saved.get("epochs", math.inf) < here.get("epochs", 0):
        saved["epochs"] = here["epochs"]
    differing = [name for name in {**here, **saved} if here.get(name) != saved.get(name)]
    if differing:
        what = ", ".join(f"{name}: {saved.get(name)} there, {here.get(name)} here" for name in differing)
        raise ValueError(
            f"checkpoint {path} belongs to a run with other settings ({what[:500]}). Continue that run with its own "
            f"settings, or choose another file.{_MORE if differing == ['epochs'] else ''}"
        )
    before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    random = torch.get_rng_state()
    try:
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])
    except Exception as error:
        for name, part in parts.items():
            part.load_state_dict(before[name])
        torch.set_rng_state(random)
        raise ValueError(
            f"checkpoint {path} is damaged or altered ({' '.join(str(error).split())[:200]}). Delete it to start anew."
        ) from None
    return history


_MORE = " For more epochs of the same run: more_epochs=True."


def _describe_data(batches: Minibatches | LoaderBatches) -> tuple[int | None, str]:
    """How many samples there are, and what is known of their content."""
    if isinstance(batches, Minibatches):
        return len(batches.tensors[0]), content_hash(*batches.tensors)[:12]
    dataset = getattr(batches.loader, "dataset", batches.loader)
    return batches.samples, f"{type(dataset).__name__}, batches of {getattr(batches.loader, 'batch_size', None)}"


def _check_sums(path: Path) -> None:
    """Raise unless all that the file holds has the checksum that torch wrote beside it, which torch does not read."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")


def _describe(optimizer: Optimizer) -> str:
    """An optimizer's type and the settings of its parameter groups that are not 0 or off, each different group once."""
    groups: dict[str, None] = {}
    for group in optimizer.param_groups:
        settings = {name: _plain(value) for name, value in group.items() if name != "params" and value}
        groups[", ".join(f"{name}={value}" for name, value in settings.items())] = None
    return f"{type(optimizer).__name__}({'; '.join(groups)})"


def _plain(value: Any) -> Any:
    """A setting as a checkpoint can hold it; a NumPy number, for example, becomes Python's."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def _name_of(objective: Any) -> str:
    while isinstance(objective, functools.partial):
        objective = next((one for one in objective.args if callable(one)), objective.func)
    return str(getattr(objective, "__name__", type(objective).__name__))
