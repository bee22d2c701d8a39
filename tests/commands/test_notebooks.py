"""``kdcourse notebooks``: what is changed is never overwritten, and what was cut off goes on."""

import os

import pytest

from kdcourse.__main__ import main
from kdcourse.commands import notebooks

NAMES = ("notebooks/00_start_here.ipynb", "notebooks/01_one.ipynb", "exercises/ex01_one/ex01_one.ipynb")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of three small notebooks, as the package carries it."""
    folder = tmp_path / "package" / "course"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{{{name}}}", encoding="utf-8")
    monkeypatch.setattr(notebooks, "PACKAGE", tmp_path / "package")
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_all_are_written_as_they_are(course, tmp_path, capsys):
    assert main(["notebooks", str(tmp_path / "mine")]) == 0
    assert contents(tmp_path / "mine") == contents(course)
    assert "3 notebooks written" in capsys.readouterr().out


def test_a_second_call_writes_what_is_missing_and_leaves_the_rest(course, tmp_path, capsys):
    mine = tmp_path / "mine"
    main(["notebooks", str(mine)])
    (mine / NAMES[1]).unlink()
    times = {path: path.stat().st_mtime_ns for path in mine.rglob("*.ipynb")}
    assert main(["notebooks", str(mine)]) == 0
    assert "1 notebook written" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert contents(mine) == contents(course)


def test_a_changed_notebook_is_named_and_nothing_at_all_is_written(course, tmp_path, capsys):
    mine = tmp_path / "mine"
    main(["notebooks", str(mine)])
    (mine / NAMES[2]).write_text("my answer", encoding="utf-8")
    (mine / NAMES[0]).unlink()
    before = contents(mine)
    assert main(["notebooks", str(mine)]) == 2
    assert contents(mine) == before
    told = capsys.readouterr().err
    assert NAMES[2] in told
    assert len(told.splitlines()) == 1


def test_a_stop_in_the_middle_leaves_whole_notebooks_and_no_temporary_file(course, tmp_path, monkeypatch):
    mine, real, calls = tmp_path / "mine", os.replace, []

    def stop_at_the_second(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*paths)

    monkeypatch.setattr(os, "replace", stop_at_the_second)
    assert main(["notebooks", str(mine)]) == 130
    monkeypatch.setattr(os, "replace", real)
    whole = contents(course)
    assert contents(mine)
    assert all(whole[name] == text for name, text in contents(mine).items())
    assert main(["notebooks", str(mine)]) == 0
    assert contents(mine) == whole


def test_a_file_where_the_folder_should_be_is_named(course, tmp_path, capsys):
    (tmp_path / "mine").write_text("a file", encoding="utf-8")
    assert main(["notebooks", str(tmp_path / "mine")]) == 2
    told = capsys.readouterr().err
    assert str(tmp_path / "mine") in told
    assert len(told.splitlines()) == 1
    assert (tmp_path / "mine").read_text() == "a file"


def test_an_installation_without_notebooks_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "PACKAGE", tmp_path / "package")
    assert main(["notebooks", str(tmp_path / "mine")]) == 2
    assert "no notebooks" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
