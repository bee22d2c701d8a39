"""``make lab`` after tries that failed: what is half made is made anew, what is missing is told before it starts."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import environment
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with a project, and what pip was asked to install into its environment."""
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    asked = []
    monkeypatch.setattr(environment, "_install", lambda what, venv, root: asked.append(what))
    monkeypatch.setattr(environment, "_make", made_quickly)
    return tmp_path, asked


def made_quickly(python, venv):
    """An environment whose pip is an empty module: unpacking a real one takes many times as long."""
    (packages,) = half_made(venv).glob("lib/python*/site-packages")
    (packages / "pip.py").touch()
    return 0


REAL_MAKE = environment._make


def a_python(folder, *, version="3.12.4", modules=True, makes=True):
    """A program that answers as a Python would: its version, whether venv is there; and makes half an environment."""
    path = folder / "python-of-a-test"
    real = f'exec {sys.executable} "$@"' if makes else 'mkdir -p "$3/bin"; echo "ensurepip failed" >&2; exit 1'
    path.write_text(f'#!/bin/sh\ncase "$1" in -c) echo {version}; exit {int(not modules)};; *) {real};; esac\n')
    path.chmod(0o755)
    return str(path)


def half_made(venv):
    """What Debian leaves without python3-venv: a Python, and no pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    return venv


def has_pip(venv):
    return subprocess.run([venv / "bin" / "python", "-c", "import pip"], check=False).returncode == 0


def test_a_half_made_environment_is_made_anew(checkout, monkeypatch):
    root, asked = checkout
    monkeypatch.setattr(environment, "_make", REAL_MAKE)
    assert not has_pip(half_made(root / ".venv"))
    assert environment.ensure("lab", root) == ""
    assert has_pip(root / ".venv")
    assert asked == ["lab"]


def test_what_is_in_order_is_left_alone(checkout):
    root, asked = checkout
    environment.ensure("lab", root)
    mine = root / ".venv" / "mine"
    mine.touch()
    assert environment.ensure("lab", root) == ""
    assert mine.exists()
    assert asked == ["lab"]


def test_the_authors_environment_holds_the_learners(checkout):
    root, asked = checkout
    environment.ensure("dev", root)
    environment.ensure("lab", root)
    environment.ensure("dev", root)
    assert asked == ["dev"]


def test_another_list_of_packages_is_installed_without_a_new_environment(checkout):
    root, asked = checkout
    environment.ensure("lab", root)
    mine = root / ".venv" / "mine"
    mine.touch()
    (root / "pyproject.toml").write_text("[project]\ndependencies = ['one-more']\n", encoding="utf-8")
    environment.ensure("lab", root)
    assert mine.exists()
    assert asked == ["lab", "lab"]


def test_an_installation_that_was_cut_off_is_tried_again(checkout, monkeypatch):
    root, asked = checkout
    monkeypatch.setattr(environment, "_install", lambda what, venv, root: 1)
    assert "online" in environment.ensure("lab", root)
    monkeypatch.setattr(environment, "_install", lambda what, venv, root: asked.append(what))
    assert environment.ensure("lab", root) == ""
    assert asked == ["lab"]


def test_a_checkout_that_was_moved_gets_a_new_environment(checkout):
    """Scripts such as jupyter begin with the path of the Python for which they were installed."""
    root, asked = checkout
    environment.ensure("lab", root)
    moved = root / "moved"
    moved.mkdir()
    shutil.move(root / ".venv", moved / ".venv")
    shutil.copy(root / "pyproject.toml", moved)
    assert environment.ensure("lab", moved) == ""
    assert asked == ["lab", "lab"]
    assert json.loads((moved / ".venv" / environment.STAMP).read_text())["place"] == str(moved / ".venv")


def test_an_environment_whose_python_went_away_is_made_anew(checkout):
    root, _ = checkout
    environment.ensure("lab", root)
    for name in ("python", "python3"):
        (root / ".venv" / "bin" / name).unlink()
    (root / ".venv" / "bin" / "python").symlink_to(root / "gone")
    assert environment.ensure("lab", root) == ""
    assert has_pip(root / ".venv")


def test_a_linked_environment_loses_its_link_and_not_what_it_links_to(checkout, tmp_path):
    root, _ = checkout
    elsewhere = half_made(tmp_path / "elsewhere")
    (root / ".venv").symlink_to(elsewhere)
    assert environment.ensure("lab", root) == ""
    assert elsewhere.exists()
    assert not (root / ".venv").is_symlink()


def test_an_old_python_is_told_which_is_needed_and_nothing_is_made(checkout):
    root, asked = checkout
    told = environment.ensure("lab", root, a_python(root, version="3.10.13"))
    assert "needs Python 3.11 or newer" in told
    assert "3.10.13" in told
    assert "make lab PYTHON=python3." in told
    assert not (root / ".venv").exists()
    assert asked == []


def test_an_old_python_leaves_an_environment_in_order_alone(checkout):
    root, _ = checkout
    environment.ensure("lab", root)
    assert environment.ensure("lab", root, a_python(root, version="3.10.13")) == ""


def test_without_a_newer_python_on_the_machine_it_says_how_to_get_one(tmp_path, monkeypatch):
    python = a_python(tmp_path, version="3.9.2")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt install python3.12 python3.12-venv" in environment.problem_of(python, tmp_path)


def test_a_python_without_venv_is_told_the_name_of_debians_package(checkout):
    root, _ = checkout
    told = environment.ensure("lab", root, a_python(root, version="3.12.4", modules=False))
    assert "sudo apt install python3.12-venv" in told
    assert not (root / ".venv").exists()


def test_what_cannot_be_made_leaves_nothing_half_made(checkout, monkeypatch):
    root, _ = checkout
    monkeypatch.setattr(environment, "_make", REAL_MAKE)
    assert "could not make" in environment.ensure("lab", root, a_python(root, makes=False))
    assert not (root / ".venv").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_told_before_anything_is_made(checkout):
    root, _ = checkout
    root.chmod(0o555)
    assert "cannot be written" in environment.ensure("lab", root)


def test_any_python_of_today_can_read_it():
    """It must run on the Python that is too old, or it could not say so."""
    ast.parse((ROOT / "tools" / "environment.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_make_says_what_to_do_without_a_python(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(
        ["make", "lab", "PYTHON=no-such-python"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "install Python 3.11 or newer" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_make_stops_where_the_environment_cannot_be_made(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "environment.py").write_text(
        "print('what to install'); raise SystemExit(1)", encoding="utf-8"
    )
    done = subprocess.run(
        ["make", "lab", f"PYTHON={sys.executable}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "what to install" in done.stdout
    assert "jupyter" not in done.stdout


def requirements_of_conda():
    """The packages of environment.yml with what stands behind their names."""
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    return dict(re.match(r"  - ([\w-]+)([<>=]*[\d.]*)", line).groups() for line in lines if line.startswith("  - "))


def test_binder_understands_the_python_of_conda():
    """Its repo2docker looks for python=3.N and ignores every other form, which then gives its own default."""
    assert re.fullmatch(r"=3\.(1[1-9])", requirements_of_conda()["python"])


def test_conda_and_pip_ask_for_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["lab"], *extras["detection"], *extras["language"]]
    wanted = dict(re.match(r"([\w-]+)(.*)", text).groups() for text in needed if not text.startswith("kdcourse"))
    conda = requirements_of_conda()
    assert {name: conda.get(names.get(name, name)) for name in wanted} == wanted


def test_learners_get_what_the_chapters_import_however_they_install():
    """``make lab`` and both pip lines of README install this one extra; conda is compared with it above."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert "kdcourse[detection,language]" in extras["lab"]
    assert environment.EXTRAS["lab"] == "lab"
    commands = re.findall(r"`pip install [^`]*", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(commands) == 2
    assert all("[lab]" in command for command in commands)


def test_the_kernel_has_the_name_that_notebooks_and_docs_give_it():
    metadata = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))["metadata"]
    assert metadata["kernelspec"] == {"display_name": environment.KERNEL_NAME, "language": "python", "name": "python3"}
    assert environment.KERNEL_NAME in (ROOT / "docs" / "learners.md").read_text(encoding="utf-8")
