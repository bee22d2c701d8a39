"""What ``make notebooks-test`` tells of a notebook that fails: its first error, and how the others went."""

import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write(path, *sources):
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, path)


def test_after_a_failure_the_rest_of_the_notebook_is_skipped_and_the_next_one_is_run(tmp_path):
    write(tmp_path / "bad.ipynb", "a = 1", "b = 1 / 0", "c = b", "d = c")
    write(tmp_path / "good.ipynb", "a = 1", "assert a == 1")
    command = [sys.executable, "-m", "pytest", "-v", "-n", "0", "-p", "tools.cells_in_a_row", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-current-env", "-p", "no:python", "--rootdir", tmp_path]
    done = subprocess.run([*command, *sorted(tmp_path.glob("*.ipynb"))], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "ZeroDivisionError" in done.stdout
    assert "NameError" not in done.stdout
    assert "1 failed, 3 passed, 2 skipped" in done.stdout
