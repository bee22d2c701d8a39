"""A second, small environment with Colab's ipywidgets, ipykernel and IPython, on the torch that is installed here.

``python tools/colab_env.py``            makes ``.venv-colab`` if it is missing or out of date, prints its Python
``python tools/colab_env.py --kernels``  prints a folder for JUPYTER_PATH with the kernel ``kdcourse-colab`` instead

The kernel alone is Colab's; whoever talks to it (nbclient, nbval, a test) stays in this environment:
``JUPYTER_PATH=$(python tools/colab_env.py --kernels) jupyter execute --kernel_name=kdcourse-colab NOTEBOOK.ipynb``
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-colab"
KERNEL = "kdcourse-colab"
# Colab's newest known versions; the others are what these accept. Without dependencies, as ipywidgets 7 would bring
# the classic notebook server, and a kernel needs none of it.
PINNED = {
    "ipywidgets": "7.7.1",
    "ipykernel": "6.17.1",
    "ipython": "7.34.0",
    "jupyter_client": "7.4.9",
    "traitlets": "5.7.1",
}
NEEDED = (
    "backcall", "debugpy", "decorator", "entrypoints", "ipython-genutils", "jedi", "jupyter_core", "matplotlib-inline",
    "nest-asyncio", "packaging", "parso", "pexpect", "pickleshare", "platformdirs", "prompt_toolkit", "psutil",
    "ptyprocess", "Pygments", "python-dateutil", "pyzmq", "setuptools<81", "six", "tornado", "typing_extensions",
    "wcwidth",
)  # fmt: skip


def ensure(folder: Path = FOLDER) -> Path:
    """Make the environment unless it is there and up to date.

    Parameters
    ----------
    folder : Path
        Where it lies. A build that was cut off is made anew.

    Returns
    -------
    Path
        Its Python.

    Raises
    ------
    RuntimeError
        If a package of this environment, rather than Colab's, would be imported by the kernel.
    subprocess.CalledProcessError
        If pip cannot install.
    """
    python, stamp = python_of(folder), folder / "made_for.json"
    with _alone(folder):
        if not (stamp.exists() and python.exists() and json.loads(stamp.read_text(encoding="utf-8")) == _wanted()):
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            stamp.write_text(json.dumps(_wanted()), encoding="utf-8")  # last: without it the next call starts anew
    return python


def python_of(folder: Path = FOLDER) -> Path:
    """Return where the environment's Python is or will be."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def kernels(folder: Path = FOLDER) -> Path:
    """Return a folder for the environment variable JUPYTER_PATH, in which the kernel ``kdcourse-colab`` is found."""
    ensure(folder)
    return folder / "share" / "jupyter"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let parallel test workers wait for the one that builds, where the system has file locks."""
    if os.name == "nt":
        yield
        return
    import fcntl

    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    with open(Path(tempfile.gettempdir(), f"kdcourse-{name}.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wanted() -> dict:
    """What the environment depends on; another answer than the one recorded in it means: make it again."""
    return {"python": sys.version, "pinned": PINNED, "needed": list(NEEDED), "paths": _paths(), "recipe": 1}


def _paths() -> list[str]:
    """Return where torch and the rest come from: the course first, then this environment's packages."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys([str(ROOT), paths["purelib"], paths["platlib"]]))


def _make(folder: Path) -> None:
    # Linked and without pip: this environment's pip installs into it, which saves seconds and a download.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = python_of(folder)
    packages = [f"{name}=={version}" for name, version in PINNED.items()]
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--no-deps", *packages, *NEEDED], check=True, stdout=sys.stderr)
    # Only now, or pip would have counted this environment's packages as installed. Lines of a .pth file go to the
    # end of sys.path: what both environments hold is imported from Colab's side.
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True
    )
    Path(site.strip(), "zz_kdcourse_shared.pth").write_text("\n".join(_paths()) + "\n", encoding="utf-8")
    _check(python)
    spec = folder / "share" / "jupyter" / "kernels" / KERNEL
    spec.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": argv, "display_name": "Colab's packages", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")


def _check(python: Path) -> None:
    """Raise if the kernel would import a package of this environment where it should be Colab's."""
    code = f"""
import importlib.metadata, json
import ipykernel, IPython, ipywidgets, jupyter_client, traitlets, torch, kdcourse
found = {{name: importlib.metadata.version(name) for name in {list(PINNED)}}}
modules = ipykernel, IPython, ipywidgets, jupyter_client, traitlets
print(json.dumps({{**found, "files": [module.__file__ for module in modules]}}))
"""
    report = subprocess.check_output([python, "-c", code], text=True, cwd=python.parent, env=clean_environment())
    found = json.loads(report)
    files = found.pop("files")
    strangers = [file for file in files if not file.startswith(str(python.parent.parent))]
    if found != PINNED or strangers:
        raise RuntimeError(f"the environment is not Colab's: versions {found}, imported from elsewhere {strangers}")


def clean_environment() -> dict[str, str]:
    """Return the environment variables without those that would point Python elsewhere."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def main(arguments: list[str] | None = None) -> int:
    """Make the environment if need be and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", action="store_true", help="print the folder for JUPYTER_PATH")
    parser.add_argument("--again", action="store_true", help="make it anew")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    if options.again:
        shutil.rmtree(FOLDER, ignore_errors=True)
    python = ensure()
    print(f"ready in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(kernels() if options.kernels else python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
