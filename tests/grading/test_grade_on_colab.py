"""A single file is graded on Colab: its package list is enough, and no sandbox is needed."""

import json
import re
import subprocess
from pathlib import Path

import colab_env
import pytest
from grading_fixture import KEY, NAME, as_bytes, handed_in

from kdcourse.grading.notebooks import write_notebook

pytestmark = pytest.mark.colab
FREEZE = Path(__file__).resolve().parents[1] / "data" / "colab-pip-freeze.txt"
# Which distributions did a process import something of?
LOADED = """
import sys
from importlib.metadata import packages_distributions
of = packages_distributions()
loaded = sorted({name.lower() for module in list(sys.modules) for name in of.get(module.split('.')[0], [])})
"""


def test_a_single_file_is_graded_with_what_colab_has(tmp_path):
    python = colab_env.ensure()
    write_notebook(tmp_path / "key.ipynb", KEY)
    submission = tmp_path / f"{NAME}.ipynb"
    submission.write_bytes(as_bytes(handed_in(task2=f"{LOADED}\nraise ValueError(' '.join(loaded))")))
    command = ["grade", str(submission), "--key", str(tmp_path / "key.ipynb"), "--no-sandbox", "--json"]
    program = f"from kdcourse.__main__ import main\nassert main({command!r}) == 0\n{LOADED}\nprint(loaded)"
    done = subprocess.run(
        [python, "-c", program], capture_output=True, text=True, timeout=300, check=True, cwd=tmp_path,
        env=colab_env.clean_environment(),
    )  # fmt: skip
    text, _, outer = done.stdout.strip().rpartition("\n")
    result = json.loads(text)
    assert (result["total"], result["max"], result["status"]) == (12, 16, "graded")
    error = next(cell["error"] for cell in result["cells"] if cell["name"] == "task2_double")
    inner = error.removeprefix("ValueError: ").split("\n")[0].split()
    assert "torch" in inner
    has = re.findall(r"(?m)^([\w.-]+)==", FREEZE.read_text(encoding="utf-8"))
    imported = {*inner, *re.findall(r"'([^']+)'", outer)} - {"kdcourse"}
    assert {_plain(name) for name in imported} <= {_plain(name) for name in has}


def _plain(name):
    return name.lower().replace("_", "-")
