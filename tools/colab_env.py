"""A second, smaller environment in which a kernel is like Colab's: its Python and its versions where they can be had.

``python tools/colab_env.py``            makes ``.venv-colab`` if it is missing or out of date, prints its Python
``python tools/colab_env.py --kernels``  prints a folder for JUPYTER_PATH with the kernel ``kdcourse-colab`` instead

The kernel alone is Colab's; whoever talks to it (nbclient, nbval, a test) stays in this environment:
``JUPYTER_PATH=$(python tools/colab_env.py --kernels) jupyter execute --kernel_name=kdcourse-colab NOTEBOOK.ipynb``

Versions come from Colab's own list, ``tests/data/colab-pip-freeze.txt``. With a Python 3.13 on the machine, torch and
all the course needs are those of the list. Without one, or where pip has no such torch, Colab's ipywidgets, ipykernel
and IPython run on the torch and NumPy that are installed here. ``describe`` says which it is.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-colab"
FREEZE = ROOT / "tests" / "data" / "colab-pip-freeze.txt"
KERNEL = "kdcourse-colab"
PYTHON = (3, 13)
# The course's own folder is left out under this variable: for tests of an installed wheel.
WITHOUT_CHECKOUT = "KDCOURSE_WITHOUT_CHECKOUT"
# Installed without dependencies: ipywidgets 7 would bring the classic notebook server, and a kernel needs none of it.
JUPYTER = ("ipywidgets", "ipykernel", "ipython", "jupyter_client", "traitlets")
OF_JUPYTER = (
    "backcall", "debugpy", "decorator", "entrypoints", "ipython-genutils", "jedi", "jupyter_core", "matplotlib-inline",
    "nest-asyncio", "packaging", "parso", "pexpect", "pickleshare", "platformdirs", "prompt_toolkit", "psutil",
    "ptyprocess", "Pygments", "python-dateutil", "pyzmq", "setuptools", "six", "tornado", "typing_extensions",
    "wcwidth",
)  # fmt: skip
COURSE = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "joblib", "safetensors", "tqdm")
OF_COURSE = (
    "filelock", "sympy", "mpmath", "networkx", "Jinja2", "MarkupSafe", "fsspec", "pillow", "pytz", "tzdata",
    "contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing",
)  # fmt: skip


# What transformers needs; chapters of language import it, and Colab has it.
OF_LANGUAGE = (
    "transformers", "tokenizers", "huggingface_hub", "hf-xet", "PyYAML", "regex", "typer", "click", "shellingham",
    "rich", "markdown-it-py", "mdurl", "annotated-doc", "httpx", "httpcore", "h11", "anyio", "idna", "certifi",
    "sniffio",
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
    stamp = folder / "made_for.json"
    with _alone(folder):
        if not (stamp.exists() and python_of(folder).exists() and _read(stamp).get("wanted") == _wanted()):
            versions = _make_whole(folder) or _make_shared(folder)
            stamp.write_text(
                json.dumps({"wanted": _wanted(), "versions": versions}), encoding="utf-8"
            )  # last: it is whole
    return python_of(folder)


def describe(folder: Path = FOLDER) -> dict[str, str]:
    """Return the versions in the environment, Python's among them, and make it if need be."""
    ensure(folder)
    return _read(folder / "made_for.json")["versions"]


def python_of(folder: Path = FOLDER) -> Path:
    """Return where the environment's Python is or will be."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def kernels(folder: Path = FOLDER) -> Path:
    """Return a folder for the environment variable JUPYTER_PATH, in which the kernel ``kdcourse-colab`` is found."""
    ensure(folder)
    return folder / "share" / "jupyter"


def pinned(names: Iterable[str]) -> list[str]:
    """Return what pip is to install: each package in Colab's version, or in any if Colab does not have it."""
    has = {
        _plain(name): version.partition("+")[0]  # +cu128 is a build that only PyTorch's own index has
        for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)", FREEZE.read_text(encoding="utf-8"))
    }
    return [f"{name}=={has[_plain(name)]}" if _plain(name) in has else name for name in names]


@cache
def find_python() -> Path | None:
    """Return a Python of Colab's version on this machine, or None."""
    name = f"python{PYTHON[0]}.{PYTHON[1]}"
    pyenv = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(
            f"versions/{PYTHON[0]}.{PYTHON[1]}.*/bin/python"
        )
    )
    for candidate in [sys.executable, *pyenv, shutil.which(name)]:
        if candidate is None:
            continue
        ask = "import sys, venv; print(sys.version_info[:2])"
        done = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)
        if done.stdout.strip() == str(PYTHON):
            return Path(candidate)
    return None


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
    packages = pinned([*JUPYTER, *OF_JUPYTER, *COURSE, *OF_COURSE, *OF_LANGUAGE])
    return {"python": [sys.version, str(find_python())], "packages": packages, "paths": _paths(), "recipe": 2}


def _paths() -> list[str]:
    """Return where this environment's packages lie."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys([paths["purelib"], paths["platlib"]]))


def _make_whole(folder: Path) -> dict[str, str] | None:
    """Make it on Colab's Python with all of Colab's versions, or return None if that Python or its torch is missing."""
    python = find_python()
    if python is None:
        return None
    site = _make_empty(folder, python)
    try:
        _install(folder, pinned([*JUPYTER, *OF_JUPYTER, *COURSE, *OF_COURSE, *OF_LANGUAGE]))
    except subprocess.CalledProcessError:
        print("pip cannot have Colab's versions here: the installed torch is taken instead", file=sys.stderr)
        return None
    _share_cuda(site)
    return _finish(folder, site, [])


def _make_shared(folder: Path) -> dict[str, str]:
    """Make it on this Python, with the torch and NumPy that are installed here."""
    site = _make_empty(folder, Path(sys.executable))
    _install(folder, [name.replace("setuptools==", "setuptools<81,>=") for name in pinned([*JUPYTER, *OF_JUPYTER])])
    # Only now, or pip would have counted this environment's packages as installed. Lines of a .pth file go to the
    # end of sys.path: what both environments hold is imported from Colab's side.
    return _finish(folder, site, _paths())


def _make_empty(folder: Path, python: Path) -> Path:
    """Make an environment without packages; return the folder for them."""
    shutil.rmtree(folder, ignore_errors=True)
    # Without pip: this environment's pip installs into it, which saves seconds and a download.
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return Path(subprocess.check_output([python_of(folder), "-c", ask], text=True).strip())


def _install(folder: Path, packages: list[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python_of(folder),
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*command, "--no-deps", *packages], check=True, stdout=sys.stderr)


def _share_cuda(site: Path) -> None:
    """Link the CUDA libraries of this environment, two gigabytes that are no Python and serve any version of it."""
    for path in _paths():
        if Path(path, "nvidia").is_dir() and not (site / "nvidia").exists():
            (site / "nvidia").symlink_to(Path(path, "nvidia"), target_is_directory=True)


def _finish(folder: Path, site: Path, paths: list[str]) -> dict[str, str]:
    """Add the checkout and other paths to what the environment imports from, check it, and describe its kernel."""
    checkout = f'import os, sys; "{WITHOUT_CHECKOUT}" in os.environ or sys.path.append({str(ROOT)!r})'
    (site / "zz_kdcourse_shared.pth").write_text("\n".join([checkout, *paths]) + "\n", encoding="utf-8")
    versions = _check(python_of(folder))
    spec = folder / "share" / "jupyter" / "kernels" / KERNEL
    spec.mkdir(parents=True)
    argv = [str(python_of(folder)), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": argv, "display_name": "Colab's packages", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
    return versions


def _check(python: Path) -> dict[str, str]:
    """Return the versions; raise if the kernel would import one of Jupyter's packages from this environment."""
    code = f"""
import importlib.metadata, json, platform
import ipykernel, IPython, ipywidgets, jupyter_client, traitlets, torch, kdcourse
versions = {{name: importlib.metadata.version(name) for name in {[*JUPYTER, *COURSE]}}}
modules = ipykernel, IPython, ipywidgets, jupyter_client, traitlets
print(json.dumps([{{"python": platform.python_version(), **versions}}, [module.__file__ for module in modules]]))
"""
    report = subprocess.check_output([python, "-c", code], text=True, cwd=python.parent, env=clean_environment())
    versions, files = json.loads(report)
    strangers = [file for file in files if not file.startswith(str(python.parent.parent))]
    expected = dict(pin.split("==") for pin in pinned(JUPYTER))
    if strangers or {name: versions[name] for name in JUPYTER} != expected:
        raise RuntimeError(f"the environment is not Colab's: versions {versions}, imported from elsewhere {strangers}")
    return versions


def clean_environment() -> dict[str, str]:
    """Return the environment variables without those that would point Python elsewhere."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _read(stamp: Path) -> dict:
    return json.loads(stamp.read_text(encoding="utf-8"))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: list[str] | None = None) -> int:
    """Make the environment if need be and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", action="store_true", help="print the folder for JUPYTER_PATH")
    parser.add_argument("--again", action="store_true", help="make it anew")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    if options.again:
        shutil.rmtree(FOLDER, ignore_errors=True)
    versions = describe()
    print(
        f"ready in {time.perf_counter() - start:.1f} s: {', '.join(map(' '.join, versions.items()))}", file=sys.stderr
    )
    print(kernels() if options.kernels else python_of())
    return 0


if __name__ == "__main__":
    sys.exit(main())
