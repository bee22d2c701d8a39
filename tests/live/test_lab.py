"""The command that opens the course: JupyterLab on chapter 00, with the exercises in reach of its file browser."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"jupyter lab ([^`\n]*)notebooks/00_start_here\.ipynb")


@pytest.mark.parametrize("name", ["Makefile", "README.md", "environment.yml"])
def test_wherever_it_stands_it_shows_the_whole_course(name):
    found = COMMAND.findall((ROOT / name).read_text(encoding="utf-8"))
    assert found
    assert all("--notebook-dir=. " in options for options in found)  # else its root is the chapter's own folder


def test_the_server_of_make_lab_serves_chapters_and_exercises(tmp_path):
    (options,) = COMMAND.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
    options = options.replace("$(LAB_ARGS)", "--no-browser --allow-root --port=0 --IdentityProvider.token=t").split()
    command = [sys.executable, "-m", "jupyterlab", *options, "notebooks/00_start_here.ipynb"]
    log = tmp_path / "log"
    with log.open("w") as file, subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file) as server:
        try:
            address = _address(log)
            for path in ("notebooks/00_start_here.ipynb", "exercises/ex02_soft_targets/ex02_soft_targets.ipynb"):
                with urllib.request.urlopen(f"{address}/api/contents/{path}?content=0&token=t", timeout=30) as answer:
                    assert json.load(answer)["type"] == "notebook"
        finally:
            server.terminate()


def _address(log: Path) -> str:
    """Wait until the server says where it listens."""
    end = time.monotonic() + 180  # for a machine that does other things as well
    while time.monotonic() < end:
        if found := re.search(r"(http://(?:localhost|127\.0\.0\.1):[1-9]\d*)/lab", log.read_text()):
            return found[1]
        time.sleep(0.2)
    raise AssertionError(f"no server within 180 s:\n{log.read_text()}")
