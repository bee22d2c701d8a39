"""Build source distribution and wheel from a clean copy, as whoever publishes them would.

``python tools/build_package.py dist``   writes both into the folder ``dist``

Setuptools leaves folders in the checkout, and puts what lies in them into the next wheel. So it works in a copy of the
files that git knows, and the wheel is built from the unpacked source distribution: what that lacks, nobody has.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IGNORED = shutil.ignore_patterns(
    ".venv*", "__pycache__", "*.egg-info", "build", "dist", ".*_cache", ".hypothesis", ".git"
)


def build_package(out: Path, root: Path = ROOT) -> tuple[Path, Path]:
    """Build both.

    Parameters
    ----------
    out : Path
        Folder for the two files; made if needed.
    root : Path
        A checkout, or an unpacked source distribution.

    Returns
    -------
    tuple of Path
        The source distribution and the wheel.

    Raises
    ------
    subprocess.CalledProcessError
        If setuptools cannot build them.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "copy")
        copy_checkout(root, copy)
        source = out / _build("sdist", copy, out)
        with tarfile.open(source) as archive:
            archive.extractall(scratch, filter="data")
        wheel = out / _build("wheel", Path(scratch, source.name.removesuffix(".tar.gz")), out)
    return source, wheel


def copy_checkout(root: Path, target: Path) -> None:
    """Copy the files of a checkout that git tracks or would add; without git, all but what builds and tools leave."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode or not (root / ".git").exists():
        shutil.copytree(root, target, ignore=IGNORED)
        return
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def _build(what: str, folder: Path, out: Path) -> str:
    """Build one in a process of its own, as setuptools changes what is imported; return the file's name."""
    code = f"from setuptools.build_meta import build_{what} as build; print('\\n' + build({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def main(arguments: list[str] | None = None) -> int:
    """Build both and print where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for source distribution and wheel")
    for path in build_package(parser.parse_args(arguments).out):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
