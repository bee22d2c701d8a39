"""axe-core, a checker of accessibility: fetched by npm once, and kept in pytest's cache."""

import shutil
import subprocess
import tarfile

import pytest

CHECKER = "axe-core@4.14.1"


def fetch_checker(cache) -> str:
    """Return the checker's script; without npm, or without a network, skip the test and say so."""
    folder = cache.mkdir(CHECKER.replace("@", "-"))
    script = folder / "package" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core cannot be had: npm is not installed")
        command = [npm, "pack", CHECKER, "--silent", "--cache", folder / "npm", "--fetch-retries", "1"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        archives = list(folder.glob("*.tgz"))
        if done.returncode != 0 or not archives:
            pytest.skip(f"axe-core cannot be had, npm reaches no registry: {done.stderr.strip()[-200:]}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(folder, filter="data")
    return script.read_text(encoding="utf-8")
