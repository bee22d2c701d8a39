"""What the builder executes and what it keeps: a chapter of three cells, a real kernel only where one is needed."""

import build_notebooks
import nbformat
import notebook_parts
import pytest

SOURCE = """\
# %% [markdown]
# # A chapter
#
# One sentence.

# %%
import math

# %%
print(math.factorial(5))
"""
PROJECT = """\
[project]
version = "1.0"
[project.urls]
Repository = "https://github.com/owner/course"
"""


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A source, built once: its outputs say 120."""
    monkeypatch.setattr(notebook_parts, "setup_cell", lambda root: "pass")  # the first cell has tests of its own
    source = tmp_path / "42_chapter.py"
    source.write_text(SOURCE, encoding="utf-8")
    assert build(source).startswith("executed")
    return source


@pytest.fixture
def nothing_runs(monkeypatch):
    """Executing is an error from here on."""

    def refuse(notebook, folder, *, timeout=300):
        raise AssertionError("executed")

    monkeypatch.setattr(notebook_parts, "execute", refuse)


@pytest.fixture(autouse=True)
def root(tmp_path):
    """A checkout with what a builder reads and writes."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    return tmp_path


def build(source, **settings):
    return build_notebooks.build(source, source.parent, **settings)


def problems(source):
    return build_notebooks.problems(source, source.parent)


def path_of(source):
    return source.parent / "notebooks" / f"{source.stem}.ipynb"


def built(source):
    return nbformat.read(path_of(source), as_version=4)


def change(source, old, new):
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")


def test_a_change_of_text_keeps_the_outputs_and_executes_nothing(chapter, nothing_runs):
    change(chapter, "# One sentence.\n", "# Another sentence.\n#\n# And one more.\n")
    assert build(chapter).startswith("same code, outputs kept")
    assert problems(chapter) == []
    assert "Another sentence." in built(chapter).cells[0].source
    assert built(chapter).cells[-2].outputs[0].text == "120\n"


def test_a_cell_of_text_may_come_or_go(chapter, nothing_runs):
    change(chapter, "# %%\nprint", "# %% [markdown]\n# Between two cells of code.\n\n# %%\nprint")
    build(chapter)
    assert problems(chapter) == []
    kinds = [cell.cell_type for cell in built(chapter).cells]
    assert kinds == ["markdown", "code", "code", "markdown", "code", "markdown"]


def test_another_first_cell_keeps_the_outputs_too(chapter, nothing_runs, monkeypatch):
    monkeypatch.setattr(notebook_parts, "setup_cell", lambda root: "pass  # of another address")
    build(chapter)
    assert problems(chapter) == []
    assert built(chapter).cells[1].source == "pass  # of another address"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("factorial(5)", "factorial(6)"),
        ("# %%\nprint", "# %%\nlimit = 5\n\n# %%\nprint"),
        ("# %%\nimport math\n", "# %%\nfrom math import *\nimport math\n"),
    ],
)
def test_a_change_of_code_executes(chapter, nothing_runs, old, new):
    change(chapter, old, new)
    with pytest.raises(AssertionError, match="executed"):
        build(chapter)


def test_where_nothing_may_run_changed_code_is_refused_and_unchanged_is_built(chapter, nothing_runs):
    build(chapter, execution="never")
    change(chapter, "factorial(5)", "factorial(6)")
    with pytest.raises(ValueError, match=r"42_chapter\.ipynb .*build it first"):
        build(chapter, execution="never")


def test_a_changed_cell_gets_its_new_output(chapter):
    change(chapter, "factorial(5)", "factorial(6)")
    assert build(chapter).startswith("executed")
    assert built(chapter).cells[-2].outputs[0].text == "720\n"


def test_the_same_code_is_executed_on_request(chapter, nothing_runs):
    with pytest.raises(AssertionError, match="executed"):
        build(chapter, execution="always")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cells: cells[-2].update(execution_count=7),
        lambda cells: cells[-2].update(execution_count=None, outputs=[]),
        lambda cells: cells[-2].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])),
    ],
)
def test_outputs_that_are_not_those_of_one_whole_run_are_not_kept(chapter, nothing_runs, spoil):
    path = path_of(chapter)
    notebook = nbformat.read(path, as_version=4)
    spoil(notebook.cells)
    nbformat.write(notebook, path)
    with pytest.raises(AssertionError, match="executed"):
        build(chapter)


def test_building_twice_gives_the_same_bytes(chapter, nothing_runs):
    path = path_of(chapter)
    before = path.read_bytes()
    build(chapter)
    assert path.read_bytes() == before
