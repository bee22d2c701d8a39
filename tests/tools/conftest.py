"""What tests of the package share: a source distribution and a wheel, built once."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import build_package
import pytest


class Package(NamedTuple):
    source: Path  # .tar.gz
    wheel: Path
    installed: Path  # a folder for PYTHONPATH, with what the wheel holds


@pytest.fixture(scope="session")
def package(tmp_path_factory) -> Package:
    """The package as it would be published, and as somebody has it who installed it."""
    out, installed = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("installed")
    source, wheel = build_package.build_package(out)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--target",
        installed,
        wheel,
    ]
    subprocess.run(command, check=True)
    return Package(source, wheel, installed)
