"""The environment with Colab's packages: made once, its kernel found by name, nothing of today's stack inside it."""

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
