"""Checkpoints of ``fit``: written atomically, refused by a run with other settings. Chapter 01, behind the scenes."""

from pathlib import Path
from typing import Any

import torch

from .._files import write_atomically


def save_checkpoint(path: Path, parts: dict[str, Any], settings: dict, history: dict) -> None:
    """Write the state of every part, the settings, the history, and torch's global generators."""
    state = {
        "settings": settings,
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "history": history,
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path, parts: dict[str, Any], settings: dict) -> dict:
    """Put every part and torch's global generators into the saved state; return the history.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or belongs to a run with other settings or parts. Nothing is changed then.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["settings"]
    except Exception as error:
        # Not the error's own words: torch's advise to load the file in a way that runs whatever code is in it.
        raise ValueError(
            f"{path} is not a checkpoint that fit wrote ({type(error).__name__}). Delete it to start anew."
        ) from None
    found, here = found | {"parts": sorted(state["parts"])}, settings | {"parts": sorted(parts)}
    differing = [name for name in {**here, **found} if here.get(name) != found.get(name)]
    if differing:
        what = ", ".join(f"{name}: {found.get(name)} there, {here.get(name)} here" for name in differing)
        raise ValueError(
            f"checkpoint {path} belongs to a run with other settings ({what[:300]}). Continue that run with its own "
            "settings, or choose another file."
        )
    for name, part in parts.items():
        part.load_state_dict(state["parts"][name])
    torch.set_rng_state(state["random"])
    if state["random_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return state["history"]
