"""Every chapter runs on Colab's Python and packages, alone in an empty folder, with nothing but the installed wheel.

``make notebooks-test`` runs every cell here. On Colab other things are shown, and a wheel may lack a file. So only the
cells with a widget or a record run there, and those they need; or all, with KDCOURSE_WHOLE_CHAPTERS=1, some minutes
longer. Widgets that show what a long comparison has trained are left out; ``live/test_kernel.py`` has these.
"""

import os
import re
import shutil
from pathlib import Path

import colab_env
import nbformat
import pytest
from chapter_slices import slice_for, widget_cells
from nbclient import NotebookClient

CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
WHERE = "import kdcourse, os, sys\nprint(kdcourse.__file__, *sys.path, *os.listdir(), sep='\\n')"
RECORDS = "from kdcourse.records import read_record\nassert all(map(read_record, {}))"


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
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sources = [cell.source for cell in code]
    widgets = slice_for(widget_cells(sources), sources, without="sweep(")
    records = [number for number, source in enumerate(sources) if "read_record(" in source]
    if not os.environ.get("KDCOURSE_WHOLE_CHAPTERS"):
        kept = {0, *widgets, *slice_for(records, sources, without="sweep(")}
        notebook.cells = [code[number] for number in sorted(kept)]
    for cell in code:
        cell.outputs = []  # what is found below was made now
    names = re.findall(r"""read_record\(["'](.+?)["']""", "\n".join(sources))
    assert len(names) >= len(records)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in (RECORDS.format(names), WHERE)]
    client = NotebookClient(
        notebook, kernel_name=colab_env.KERNEL, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises at the first cell that fails
    here, *places = notebook.cells[-1].outputs[0].text.splitlines()
    assert Path(here).is_relative_to(package.installed)
    assert str(colab_env.ROOT) not in places
    assert path.name in places
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    if widgets:
        assert any(WIDGET in output.get("data", {}) for output in outputs), "a cell with a widget shows it"
    ran = [cell for cell in code if cell in notebook.cells]
    in_sight = [cell for cell in ran if not {"claims", "plumbing"} & set(cell.metadata.get("tags", []))]
    silent = [cell.source for cell in in_sight if "read_record(" in cell.source and not cell.outputs]
    assert silent == [], "a cell in sight that reads a record shows it"
