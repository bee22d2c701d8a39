"""Every chapter runs on Colab's Python and packages, alone in an empty folder, with nothing but the installed wheel."""

import shutil
from pathlib import Path

import colab_env
import nbformat
import pytest
from nbclient import NotebookClient

CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
WHERE = "import kdcourse, os, sys\nprint(kdcourse.__file__, *sys.path, *os.listdir(), sep='\\n')"


def test_there_are_chapters():
    assert [path.name[:2] for path in CHAPTERS[:3]] == ["00", "01", "02"]


@pytest.mark.colab
@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_on_colab_from_the_wheel_alone(path, package, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(colab_env.kernels()))
    monkeypatch.setenv("PYTHONPATH", str(package.installed))
    monkeypatch.setenv(colab_env.WITHOUT_CHECKOUT, "1")
    monkeypatch.setenv("KDCOURSE_THREADS", "1")  # two tests run at a time: two threads each would wait for one another
    shutil.copy(path, tmp_path)
    notebook = nbformat.read(tmp_path / path.name, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(WHERE))
    client = NotebookClient(
        notebook, kernel_name=colab_env.KERNEL, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises at the first cell that fails
    here, *places = notebook.cells[-1].outputs[0].text.splitlines()
    assert Path(here).is_relative_to(package.installed)
    assert str(colab_env.ROOT) not in places
    assert path.name in places
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any(WIDGET in output.get("data", {}) for output in outputs), "every chapter so far shows a widget"
    silent = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "read_record(" in cell.source and not cell.outputs
    ]
    assert silent == [], "a cell that reads a record shows it"
