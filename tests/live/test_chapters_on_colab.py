"""Every chapter runs from top to bottom on Colab's ipywidgets, ipykernel and IPython."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import colab_env

CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_chapters():
    assert [path.name[:2] for path in CHAPTERS[:3]] == ["00", "01", "02"]


@pytest.mark.colab
@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_on_the_stack_of_colab(path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(colab_env.kernels()))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("KDCOURSE_THREADS", "1")  # two tests run at a time: two threads each would wait for one another
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, kernel_name=colab_env.KERNEL, timeout=300, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()  # raises at the first cell that fails
    views = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    ]
    assert views, "every chapter so far shows a widget"
