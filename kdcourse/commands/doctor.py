"""What works on this machine: device, threads, widgets, sandbox, Colab or not.

Chapter 00. ``check_env`` is the first cell's short table; ``kdcourse doctor`` prints all of it.
"""

import argparse
import importlib.util
import os
import platform
import sys
from importlib import metadata

from ..grading.sandbox import sandbox_in_words
from .console import say

REQUIRED = {"torch": (2, 6), "torchvision": (0, 21), "numpy": (1, 26), "matplotlib": (3, 8), "ipywidgets": (7, 7)}


def run(options: argparse.Namespace) -> int:
    """Print what works on this machine."""
    say("\n".join(f"{name:<9} {value}" for name, value in report().items()))
    return 0


def check_env() -> None:
    """Choose the number of threads and print a short table of what works here."""
    for name, value in _short_report().items():
        print(f"{name:<9} {value}")


def report() -> dict[str, str]:
    """Return what works on this machine, as name and sentence, in the order it is printed."""
    lines = _short_report()
    lines["memory"] = _memory()
    lines["packages"] = ", ".join(f"{name} {_version(name) or 'missing'}" for name in REQUIRED)
    lines["jupyter"] = ", ".join(
        f"{name} {_version(name) or 'missing'}" for name in ("jupyterlab", "ipykernel", "ipython", "nbval")
    )
    optional = {
        "transformers": "chapters 09 and 11",
        "torchmetrics": "chapter 08",
        "pycocotools": "chapter 08",
        "nbgrader": "teachers' tools",
        "playwright": "browser tests",
    }
    lines["optional"] = ", ".join(f"{name} {_version(name) or f'missing ({use})'}" for name, use in optional.items())
    lines["sandbox"] = sandbox_in_words()
    lines["problems"] = "; ".join(problems()) or "none found"
    return lines


def problems() -> list[str]:
    """Return what is missing or too old, with the command that mends it."""
    lines = []
    for name, least in REQUIRED.items():
        version = _version(name)
        needed = ".".join(map(str, least))
        if version is None:
            lines.append(f"{name} is missing: pip install '{name}>={needed}'")
        elif tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit()) < least:
            lines.append(f"{name} {version} is older than {needed}: pip install -U '{name}>={needed}'")
    return lines


def in_colab() -> bool:
    """Whether this runs on Google Colab."""
    return "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ


def _short_report() -> dict[str, str]:
    from .. import __version__

    lines = {
        "kdcourse": f"{__version__} on Python {platform.python_version()}" + (", Google Colab" if in_colab() else "")
    }
    if _version("torch"):  # where it is missing, this table must still say so
        lines |= _device_and_threads()
    lines["widgets"] = f"ipywidgets {_version('ipywidgets') or 'missing: the sliders need it'}"
    return lines


def _device_and_threads() -> dict[str, str]:
    import torch

    from ..training import choose_threads, pick_device

    device = pick_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else {"mps": "Apple GPU"}.get(device.type, "no GPU")
    threads, cores = choose_threads(), os.cpu_count() or 1
    return {
        "device": f"{device} ({name})",
        "threads": f"{threads} of {cores} cores" + (": one is faster here for small models" if threads < cores else ""),
    }


def _version(name: str) -> str | None:
    if importlib.util.find_spec({"ipython": "IPython"}.get(name, name)) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "unknown"
    return f"{total / 2**30:.0f} GiB"
