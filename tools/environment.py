"""Make the environment of ``make lab`` and ``make test``, whatever an earlier try has left behind.

``python3 tools/environment.py lab``   makes ``.venv`` with what learners need
``python3 tools/environment.py dev``   with what authors need as well

This file runs on any Python 3 with nothing installed, so that an old one can be told which is needed. What is in order
is left alone; an environment that is half made, too old, or was made in another place is made anew.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
EXTRAS = {"lab": "lab", "dev": "dev,peers"}
KERNEL_NAME = "kdcourse (.venv)"  # as JupyterLab and VS Code list it; the notebooks' metadata names it too
STAMP = "made_for.json"


def ensure(what, root=ROOT, python=sys.executable):
    """Make the environment unless it is there and up to date.

    Parameters
    ----------
    what : str
        A name in ``EXTRAS``.
    root : Path
        The checkout in which ``.venv`` is made.
    python : str
        The Python that makes it if need be.

    Returns
    -------
    str
        What is wrong and what to do about it; empty if the environment is in order.
    """
    venv = root / ".venv"
    if not _is_whole(venv):
        problem = problem_of(python, root)
        if problem:
            return problem
        _remove(venv)
        if _make(python, venv):
            _remove(venv)
            return f"{python} could not make {venv}. What stands above says why."
    enough = [_wanted(extras, venv, root) for extras in EXTRAS if extras in (what, "dev")]
    if _stamp(venv) not in enough:
        print("Installing into .venv. The first time this takes minutes, because PyTorch is large.", flush=True)
        _forget(venv)
        if _install(what, venv, root):
            return "Not everything was installed. Is this machine online? The same command goes on from here."
        (venv / STAMP).write_text(json.dumps(_wanted(what, venv, root)), encoding="utf-8")  # last: all is there
    return ""


def problem_of(python, root=ROOT):
    """Return why a Python cannot make the environment and what to install, or an empty text if it can.

    Parameters
    ----------
    python : str
        The Python that would make it.
    root : Path
        The checkout.
    """
    ask = "import sys; print(*sys.version_info[:3], sep='.'); import venv, ensurepip"
    done = subprocess.run([python, "-c", ask], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    version = done.stdout.decode().strip() or "unknown"
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        newer = [f"python3.{minor}" for minor in range(14, OLDEST[1] - 1, -1)]
        present = [name for name in newer if shutil.which(name)]
        way = f"This machine has a newer one: make lab PYTHON={present[0]}" if present else HOW_TO_GET_PYTHON
        return f"The course needs Python 3.11 or newer, and {python} is Python {version}.\n{way}"
    if done.returncode:
        return (
            "Python {0} is here without its module venv, which makes environments.\n"
            "Debian, Ubuntu: sudo apt install python{0}-venv. Then run the command again.".format(
                version.rpartition(".")[0]
            )
        )
    if not os.access(str(root), os.W_OK):
        return f"{root} cannot be written to, and .venv is made there: copy the course into a folder of yours."
    return ""


HOW_TO_GET_PYTHON = """\
Install a newer one, then run for example: make lab PYTHON=python3.12
  Debian, Ubuntu   sudo apt install python3.12 python3.12-venv
  Fedora           sudo dnf install python3.12
  macOS            brew install python@3.12
  any system       conda env create -f environment.yml, see README"""


def _is_whole(venv):
    """Whether the environment has a Python that is new enough and a pip, and was made where it stands."""
    place = _stamp(venv).get("place")
    if place not in (None, str(venv.resolve())):
        return False  # its scripts begin with the path at which they were installed
    python = _python_of(venv)
    ask = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    return python.exists() and not subprocess.call(
        [str(python), "-c", ask], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _make(python, venv):
    """Make an empty environment with pip; return 0 if all went well."""
    return subprocess.call([python, "-m", "venv", str(venv)])


def _install(what, venv, root):
    """Install a set of extras, and name the kernel; return 0 if all went well."""
    python = str(_python_of(venv))
    pip = [python, "-m", "pip", "install", "--quiet"]
    kernel = [python, "-m", "ipykernel", "install", "--prefix", str(venv), "--display-name", KERNEL_NAME]
    return (
        subprocess.call([*pip, "--upgrade", "pip"])
        or subprocess.call([*pip, "-e", f"{root}[{EXTRAS[what]}]"])
        or subprocess.call(kernel, stdout=subprocess.DEVNULL)
    )


def _wanted(what, venv, root):
    """What the environment depends on; another answer than the one recorded in it means: install again."""
    project = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
    return {"place": str(venv.resolve()), "extras": EXTRAS[what], "project": project}


def _stamp(venv):
    try:
        return json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _forget(venv):
    if (venv / STAMP).exists():
        (venv / STAMP).unlink()


def _python_of(venv):
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _remove(venv):
    if venv.is_symlink():
        venv.unlink()
    elif venv.exists():
        print(f"{venv} is not whole and is made anew.", flush=True)
        shutil.rmtree(str(venv))


def main(arguments=None):
    """Return 0 if the environment is in order, 1 after a message that says what to do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=sorted(EXTRAS))
    try:
        problem = ensure(parser.parse_args(arguments).what)
    except KeyboardInterrupt:
        problem = "interrupted; run the command again: it goes on from here."
    if problem:
        print(problem, file=sys.stderr)
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(main())
