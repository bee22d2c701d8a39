"""Recorded results: the full-size runs whose tables the chapters show, and how a record is written.

The files beside this one are copies, made by ``tools/update_docs.py``, of records in ``experiments/results/`` and
``benchmarks/results/``: the chapters read them from the package, so that they are there on Colab too.
"""

import json
import os
import platform
import re
import time
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from .._files import write_atomically


def read_record(name: str) -> dict[str, Any]:
    """Read a record that ships with the package.

    Parameters
    ----------
    name : str
        The file's name without ``.json``, such as ``"chapter03"``.

    Returns
    -------
    dict
        Among its keys are ``command``, which makes the record again, and ``environment``, where it was made.

    Raises
    ------
    ValueError
        If the package has no record of that name.

    Examples
    --------
    >>> sorted(read_record("chapter03")["comparisons"])
    ['against no teacher', 'against soft targets']
    """
    folder = resources.files(__package__)
    if name not in (names := [path.name.removesuffix(".json") for path in folder.iterdir() if ".json" in path.name]):
        raise ValueError(f"there is no record {name!r}. The package has {', '.join(sorted(names))}.")
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def write_record(folder: Path, name: str, record: Mapping[str, Any], *, lines: Collection[str] = ()) -> Path:
    """Write ``NAME.json`` atomically, with the machine's description at its end, and return its path.

    ``lines`` names lists of the record whose items are written on one line each, so that a thousand runs stay readable.

    Examples
    --------
    >>> import tempfile
    >>> path = write_record(Path(tempfile.mkdtemp()), "trial", {"runs": [{"seed": 0, "errors": 9}]}, lines=["runs"])
    >>> path.read_text(encoding="utf-8").splitlines()[1:3]
    ['  "runs": [', '    {"seed": 0, "errors": 9}']
    """
    path = folder / f"{name}.json"
    full = {**record, "environment": environment()}
    items = {f"item {place} of {key}": item for key in lines for place, item in enumerate(full[key])}
    full |= {key: [f"item {place} of {key}" for place in range(len(full[key]))] for key in lines}
    text = json.dumps(full, indent=2, ensure_ascii=False) + "\n"
    if items:
        text = re.sub(r'"(item \d+ of \w+)"', lambda match: json.dumps(items[match[1]], ensure_ascii=False), text)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def environment() -> dict[str, Any]:
    """Describe the machine and its load; a timing says little without them."""
    import torch  # here: reading a record needs none of it

    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
