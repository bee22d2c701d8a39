"""The environment with Colab's packages: made once, its kernel found by name, nothing of today's stack inside it."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import colab_env

pytestmark = pytest.mark.colab


def test_it_is_made_once_and_found_at_once_afterwards(monkeypatch):
    python = colab_env.ensure()
    monkeypatch.setattr(colab_env.subprocess, "run", lambda *args, **kwargs: pytest.fail("it is made again"))
    assert colab_env.ensure() == python


def test_a_notebook_runs_on_its_kernel_by_name(monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(colab_env.kernels()))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    notebook = nbformat.v4.new_notebook()
    source = """
import sys, IPython, ipykernel, ipywidgets, kdcourse, torch
print(*(module.__version__ for module in (ipywidgets, ipykernel, IPython)))
print(sorted({"comm", "jupyterlab", "nbclient"} & set(sys.modules)))
kdcourse.check_env()
"""
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    NotebookClient(notebook, kernel_name=colab_env.KERNEL, timeout=120).execute()
    (output,) = notebook.cells[0].outputs
    versions, strangers = output.text.splitlines()[:2]
    assert versions == "7.7.1 6.17.1 7.34.0"
    assert strangers == "[]"


def test_it_has_colabs_versions_and_its_python_where_they_can_be_had():
    versions = colab_env.describe()
    expected = dict(pin.split("==") for pin in colab_env.pinned([*colab_env.JUPYTER, *colab_env.COURSE]))
    jupyter = {name: expected[name] for name in colab_env.JUPYTER}
    assert {name: versions[name] for name in jupyter} == jupyter
    if not versions["python"].startswith("3.13."):
        pytest.skip(f"no Python 3.13, or no torch of Colab's, can be had here: torch {versions['torch']} is taken")
    assert {name: versions[name].partition("+")[0] for name in expected} == expected


def test_versions_come_from_colabs_list_without_the_name_of_a_build():
    assert colab_env.pinned(["torch", "Jupyter_Client", "jedi"]) == ["torch==2.11.0", "Jupyter_Client==7.4.9", "jedi"]


def test_without_colabs_python_the_installed_torch_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(colab_env, "find_python", lambda: None)
    made = []
    monkeypatch.setattr(
        colab_env, "_make_shared", lambda folder: made.append(folder) or folder.mkdir() or {"torch": "x"}
    )
    assert colab_env.describe(tmp_path / "env") == {"torch": "x"}
    assert made == [tmp_path / "env"]


def test_where_pip_has_no_such_torch_the_installed_one_is_taken(tmp_path, monkeypatch, capsys):
    def refuse(folder, packages):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(colab_env, "find_python", lambda: Path(sys.executable))
    monkeypatch.setattr(colab_env, "_install", refuse)
    assert colab_env._make_whole(tmp_path / "env") is None
    assert "the installed torch" in capsys.readouterr().err
