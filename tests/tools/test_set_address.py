"""A fork gets its address by one command: everywhere, nothing executed, and the drift gate agrees afterwards."""

import shutil
from pathlib import Path

import build_exercises
import build_notebooks
import notebook_parts
import pytest
import set_address
from build_package import copy_checkout

from kdcourse.grading.release import release_folder

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = notebook_parts.project()[0], "https://github.com/somebody/distilled.course"
PARTS = (
    "notebooks",
    "exercises",
    "solutions",
    "kdcourse/keys",
    "docs",
    "README.md",
    "pyproject.toml",
    "environment.yml",
)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of all that is built, brought to what the sources give; from then on nothing may be executed."""
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(notebook_parts, "execute", number_cells)  # an author's change that nobody has built yet
    for builder, sources in everything(tmp_path):
        for source in sources:
            builder.build(source, tmp_path)
    monkeypatch.setattr(notebook_parts, "execute", refuse)
    return tmp_path


def number_cells(notebook, folder, *, timeout=300):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        cell["execution_count"] = count
    return 0.0


def refuse(notebook, folder, *, timeout=300):
    raise AssertionError("executed")


def everything(root):
    """Each builder with its sources."""
    return [
        (build_notebooks, sorted((root / "notebooks" / "source").glob("*.py"))),
        (build_exercises, sorted((root / "solutions").glob("ex*.py"))),
    ]


def holding(root, text):
    """The files that hold a text, from the root on."""
    files = (path for path in root.rglob("*") if path.suffix in (".ipynb", ".py", ".md", ".toml", ".yml", ".cff"))
    return sorted(str(path.relative_to(root)) for path in files if text in path.read_text(encoding="utf-8"))


def test_a_fork_has_its_own_address_everywhere_and_the_drift_gates_agree(checkout):
    owner_and_name = OLD.removeprefix("https://github.com/")
    before = sorted({*holding(checkout, OLD), *holding(checkout, f"/github/{owner_and_name}/")})
    assert "pyproject.toml" in before
    assert len([name for name in before if name.endswith(".ipynb")]) > 3
    set_address.set_address(NEW + "/", checkout)
    assert holding(checkout, OLD) == []
    assert holding(checkout, f"/github/{owner_and_name}/") == []
    assert holding(checkout, "somebody/distilled.course") == before
    for builder, sources in everything(checkout):
        assert sources
        assert [problem for source in sources for problem in builder.problems(source, checkout)] == []
    assert release_folder(checkout, check=True) == []


def test_there_and_back_is_the_same_bytes(checkout):
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    set_address.set_address(NEW, checkout)
    assert before != {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    set_address.set_address(OLD, checkout)
    assert before == {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}


def test_where_a_build_is_due_nothing_is_written(checkout):
    source = sorted((checkout / "notebooks" / "source").glob("*.py"))[-1]
    source.write_text(source.read_text(encoding="utf-8") + "\n# %%\nprint(1)\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=f"{source.stem}.ipynb is not what {source.name} gives"):
        set_address.set_address(NEW, checkout)
    assert before == {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "address",
    [
        "",
        "somebody/course",
        "http://github.com/a/b",
        "https://gitlab.com/a/b",
        "https://github.com/a",
        NEW + "/tree/main",
    ],
)
def test_an_address_that_colab_cannot_open_is_refused_in_one_line(address, capsys):
    before = (ROOT / "pyproject.toml").read_bytes()
    assert set_address.main([address]) == 2
    told = capsys.readouterr().err
    assert "https://github.com/OWNER/REPOSITORY" in told
    assert len(told.splitlines()) == 1
    assert (ROOT / "pyproject.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("https://github.com/kdcourse/kdcourse/tree/main/docs", "https://github.com/a/b/tree/main/docs"),
        ("git+https://github.com/kdcourse/kdcourse.git@v1", "git+https://github.com/a/b.git@v1"),
        ("https://github.com/kdcourse/kdcourse.", "https://github.com/a/b."),
        (
            "https://colab.research.google.com/github/kdcourse/kdcourse/blob/v1/x.ipynb",
            "https://colab.research.google.com/github/a/b/blob/v1/x.ipynb",
        ),
        ("https://mybinder.org/v2/gh/kdcourse/kdcourse/v1", "https://mybinder.org/v2/gh/a/b/v1"),
        (
            "https://raw.githubusercontent.com/kdcourse/kdcourse/v1/x.png",
            "https://raw.githubusercontent.com/a/b/v1/x.png",
        ),
        ("https://github.com/kdcourse/kdcourse-data", "https://github.com/kdcourse/kdcourse-data"),
        ("https://github.com/kdcourse/kdcourse.data", "https://github.com/kdcourse/kdcourse.data"),
        ("/home/me/kdcourse/kdcourse/keys", "/home/me/kdcourse/kdcourse/keys"),
    ],
)
def test_only_addresses_of_the_repository_change(old, new):
    before, after = "https://github.com/kdcourse/kdcourse", "https://github.com/a/b"
    assert set_address.readdressed(f"see {old}", before, after) == f"see {new}"


def test_no_document_outside_the_list_holds_the_address(tmp_path):
    """Otherwise a fork would lead its readers to somebody else's repository."""
    copy_checkout(ROOT, tmp_path / "copy")
    holders = set(holding(tmp_path / "copy", OLD.removeprefix("https://")))
    listed = {str(path.relative_to(ROOT)) for pattern in set_address.DOCUMENTS for path in ROOT.glob(pattern)}
    assert "pyproject.toml" in holders & listed
    tests = {name for name in holders if name.startswith("tests/tools/")}  # their addresses are examples
    assert {name for name in holders if not name.endswith(".ipynb")} - listed - tests == set()
